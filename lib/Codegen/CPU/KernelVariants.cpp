// Which sizes deserve a schedule of their own. So far one does: the rows of a
// contraction, the queries of an attention. One row reads the weights (or keys)
// once and waits for memory; many rows wait for the multipliers and pay for
// copies.
#include "dlc/Codegen/CPU/KernelVariants.h"

#include "dlc/Schedule/NestChoice.h"

#include <algorithm>

using namespace mlir;
using namespace dlc;

static constexpr StringLiteral kRows = "rows", kRowsMin = "rows_min",
                               kRowsMax = "rows_max";

static NamedAttrList withoutRange(graph::KernelOp kernel) {
  NamedAttrList entries(kernel.getScheduleAttr());
  for (StringRef knob : {kRows, kRowsMin, kRowsMax})
    entries.erase(knob);
  return entries;
}

/// Null clears them.
static void setKnobs(graph::KernelOp kernel, const SizeRange *range) {
  Builder builder(kernel.getContext());
  NamedAttrList entries = withoutRange(kernel);
  if (range) {
    entries.set(kRows, builder.getI64IntegerAttr(range->typical));
    if (range->low > 0)
      entries.set(kRowsMin, builder.getI64IntegerAttr(range->low));
    if (range->high != SizeRange().high)
      entries.set(kRowsMax, builder.getI64IntegerAttr(range->high));
  }
  if (entries.empty())
    kernel.removeScheduleAttr();
  else
    kernel.setScheduleAttr(entries.getDictionary(kernel.getContext()));
}

void dlc::setVariantRange(graph::KernelOp kernel, const SizeRange &range) {
  setKnobs(kernel, &range);
}

void dlc::clearVariantRange(graph::KernelOp kernel) {
  if (getVariantRange(kernel))
    setKnobs(kernel, nullptr);
}

bool dlc::hasOnlyVariantRange(graph::KernelOp kernel) {
  return getVariantRange(kernel) && withoutRange(kernel).empty();
}

std::optional<SizeRange> dlc::getVariantRange(graph::KernelOp kernel) {
  DictionaryAttr schedule = kernel.getScheduleAttr();
  auto rows = schedule ? schedule.getAs<IntegerAttr>(kRows) : IntegerAttr();
  if (!rows)
    return std::nullopt;
  SizeRange range;
  range.typical = rows.getInt();
  if (auto low = schedule.getAs<IntegerAttr>(kRowsMin))
    range.low = low.getInt();
  if (auto high = schedule.getAs<IntegerAttr>(kRowsMax))
    range.high = high.getInt();
  return range;
}

namespace {
struct Choice {
  SizeRange range;
  ContractionSchedule schedule;
};
} // namespace

/// Whether `wide`, made for more rows, serves the rows of `narrow` about as
/// well.
static bool servesBoth(const Choice &narrow, const Choice &wide,
                       const ContractionSpec &spec) {
  const ContractionSchedule &a = narrow.schedule, &b = wide.schedule;
  if (a.lhs != b.lhs || a.rhs != b.rhs || a.dot != b.dot ||
      a.widensRhs != b.widensRhs || a.prefetch != b.prefetch ||
      a.usesTiles() != b.usesTiles())
    return false;
  if (a.usesTiles()) // the rest of rows has its own
    return a.depthPerPass == b.depthPerPass;
  int64_t rows = narrow.range.typical;
  return 10 * symbolicRowsCost(b, spec, rows) <=
         11 * symbolicRowsCost(a, spec, rows);
}

/// Whether a second tile of rows, the tail, finds the columns that it reads by
/// strides still in the caches: not where all lines of a column share a set.
static bool keepsColumns(const ContractionSchedule &s,
                         const ContractionSpec &spec) {
  if (s.rhs != FactorSource::Memory || s.dot || s.depthPerPass)
    return true;
  auto stride = graph::constantValue(*spec.strideOf(spec.rhs, spec.inner));
  constexpr int64_t way = 4096; // bytes, of the first-level cache
  int64_t bits = spec.rhs.element.getIntOrFloatBitWidth();
  return stride && *stride * bits / 8 % way != 0;
}

bool dlc::packsAlike(const ContractionSchedule &a,
                     const ContractionSchedule &b) {
  auto isPacked = [](FactorSource source) {
    return source == FactorSource::Packed;
  };
  if (isPacked(a.lhs) != isPacked(b.lhs) || isPacked(a.rhs) != isPacked(b.rhs))
    return false;
  // Two forms may read one layout.
  if ((isPacked(a.lhs) || isPacked(a.rhs)) &&
      (a.group() != b.group() || a.depthStep != b.depthStep ||
       a.pairsTail != b.pairsTail || isByteForm(a.form) != isByteForm(b.form)))
    return false;
  return a.panelColumns() == b.panelColumns() &&
         (!isPacked(a.lhs) ||
          (a.panelRows == b.panelRows && a.kBlock == b.kBlock));
}

/// One query, few of them, many: each with lanes along something else, or more
/// of them in a tile.
static KernelVariants planQueries(const AttentionSpec &spec,
                                  ArrayRef<SizeRange> symbols, unsigned most) {
  KernelVariants result;
  if (spec.rows.empty())
    return result;
  AffineExpr queries = spec.space.extents[spec.rows.back()];
  if (graph::constantValue(queries))
    return result;
  SizeRange all = rangeOf(queries, symbols);
  constexpr int64_t unbounded = SizeRange().high;
  constexpr std::pair<int64_t, int64_t> cuts[] = {
      {1, 1}, {8, 4}, {unbounded, 128}};
  int64_t low = all.low;
  for (auto [high, otherwise] : cuts) {
    // Fewer variants: the many queries' serves all, then the few's.
    bool isKept = high == unbounded || (high == 1 && most >= 2) || most >= 3;
    if (low > high || !isKept)
      continue;
    SizeRange range{low, std::min(high, all.high), all.typical};
    if (all.high == unbounded || !range.contains(range.typical) ||
        range.typical < 1)
      range.typical =
          std::clamp<int64_t>(otherwise, std::max<int64_t>(range.low, 1),
                              std::max<int64_t>(range.high, 1));
    result.ranges.push_back(range);
    if (range.high == all.high)
      break;
    low = range.high + 1;
  }
  result.size = queries;
  return result;
}

/// Up to how many rows the columns' factor is waited for, whatever multiplies.
static int64_t countFewRows(const ContractionSpec &spec,
                            const CpuTarget &target,
                            const CpuCodegenOptions &options) {
  constexpr int64_t fewest = 4;
  if (!isTileForm(chooseForm(spec, target, options)))
    return fewest;
  // Matrix tiles know better.
  for (int64_t rows = 1; rows <= kTileRows; ++rows)
    if (isTileForm(
            chooseForm(spec, target, options, SizeRange{rows, rows, rows})))
      return rows - 1;
  return kTileRows;
}

KernelVariants dlc::planVariants(graph::KernelOp kernel,
                                 const CpuTarget &target,
                                 const CpuCodegenOptions &options,
                                 ArrayRef<SizeRange> symbols, unsigned most) {
  KernelVariants result;
  std::string reason;
  if (bestNest(kernel).nest == "attention" && !options.strict)
    return planQueries(*classifyAttention(kernel, reason), symbols, most);
  auto spec = classifyContraction(kernel, reason);
  if (failed(spec))
    return result;
  AffineExpr rows = spec->extentOf(spec->rows);
  if (graph::constantValue(rows))
    return result;
  SizeRange all = rangeOf(rows, symbols);

  // Few rows; rows of one tile, which read every column once, so that copying
  // does not pay; many. And a typical number of each.
  int64_t tile = baseSchedule(target.desc(), spec->accumulator).tileRows;
  int64_t fewest = countFewRows(*spec, target, options);
  if (isTileForm(chooseForm(*spec, target, options)))
    tile = 2 * kTileRows;
  for (int64_t few : {16, 8}) // those that are summed along k
    if (defaultSchedule(*spec, target, options, SizeRange{1, few, few}).dot) {
      tile = few;
      break;
    }
  std::pair<int64_t, int64_t> cuts[] = {
      {fewest, 1}, {tile, 8}, {std::numeric_limits<int64_t>::max(), 128}};
  SmallVector<Choice> choices;
  int64_t low = all.low;
  for (auto [high, otherwise] : cuts) {
    if (low > high || high < 1 || (most <= 1 && high != cuts[2].first))
      continue;
    SizeRange range{low, std::min(high, all.high), all.typical};
    // Without bounds there is no word of what is typical either.
    if (all.high == SizeRange().high || !range.contains(range.typical) ||
        range.typical < 1)
      range.typical =
          std::clamp<int64_t>(otherwise, std::max<int64_t>(range.low, 1),
                              std::max<int64_t>(range.high, 1));
    choices.push_back({range, defaultSchedule(*spec, target, options, range)});
    if (range.high == all.high)
      break;
    low = range.high + 1;
  }
  auto mergeIntoNext = [&](size_t i) {
    choices[i + 1].range.low = choices[i].range.low;
    choices.erase(choices.begin() + i);
  };
  for (size_t i = choices.size() - 1; i-- > 0;)
    if (!packsAlike(choices[i].schedule, choices[i + 1].schedule) ||
        servesBoth(choices[i], choices[i + 1], *spec) ||
        (choices[i].range.high > fewest &&
         !keepsColumns(choices[i].schedule, *spec)))
      mergeIntoNext(i);
  while (choices.size() > std::max(most, 1u))
    mergeIntoNext(choices.size() - 2);
  result.size = rows;
  for (const Choice &choice : choices)
    result.ranges.push_back(choice.range);
  return result;
}
