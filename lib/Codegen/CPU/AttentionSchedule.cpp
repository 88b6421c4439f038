// Which schedule attention gets, and which schedules can be emitted.
#include "dlc/Codegen/CPU/AttentionSchedule.h"

#include "ContractionFactors.h"
#include "dlc/Codegen/Common/ScalarEmitter.h"

#include <algorithm>

using namespace mlir;
using namespace dlc;

//===----------------------------------------------------------------------===//
// As data
//===----------------------------------------------------------------------===//

namespace {
/// The knobs by name.
template <typename S, typename F>
void forEachKnob(S &s, F f) {
  f("vectors", s.vectors);
  f("key_tile", s.keyTile);
  f("column_tile", s.columnTile);
  f("unroll", s.unroll);
  f("rows_per_task", s.rowsPerTask);
  f("block_n", s.keysPerBlock);
  f("copy_keys", s.copiesKeys);
  f("copy_values", s.copiesValues);
  f("prefetch_values", s.prefetchesValues);
  f("few", s.few);
  f("row_tile", s.rowTile);
  f("split_kv", s.keysPerTask);
  f("tiles", s.tiles);
  f("pairs", s.pairs);
}
} // namespace

Schedule AttentionSchedule::toSchedule() const {
  Schedule schedule;
  schedule.nest = "attention";
  forEachKnob(*this, [&](const char *name, auto value) {
    schedule.knobs[name] = value;
  });
  return schedule;
}

std::string AttentionSchedule::str() const { return toSchedule().toJson(); }

FailureOr<AttentionSchedule> dlc::withKnobs(AttentionSchedule schedule,
                                            graph::KernelOp kernel,
                                            std::string &reason) {
  DictionaryAttr attr = kernel.getScheduleAttr();
  if (!attr)
    return schedule;
  bool isValid = true;
  forEachKnob(schedule, [&](const char *name, auto &value) {
    auto entry = attr.get(name);
    if (!entry)
      return;
    auto number = dyn_cast<IntegerAttr>(entry);
    if (!number || number.getInt() < 0 ||
        number.getInt() > (int64_t(1) << 31)) {
      reason = std::string("schedule: '") + name + "' has no such value";
      isValid = false;
      return;
    }
    value = number.getInt();
  });
  if (!isValid)
    return failure();
  return schedule;
}

//===----------------------------------------------------------------------===//
// What can be emitted
//===----------------------------------------------------------------------===//

/// Whether a factor is read by strides where it lies, as f32.
static bool isStridedFactor(const AttentionSpec &spec,
                            const ContractionOperand &operand,
                            ArrayRef<unsigned> along) {
  return operand.plain && operand.element.isF32() &&
         spec.strideOf(operand, along);
}

/// Whether a factor is a bf16 number, in f32.
static bool isWidenedBf16(Value value) {
  auto cast = throughStages(value).getDefiningOp<graph::CastOp>();
  return cast && cast.getType().isF32() && cast.getValue().getType().isBF16();
}

/// Whether both products can be of bf16 numbers: queries and keys are, values
/// too.
static bool hasBf16Factors(const AttentionSpec &spec) {
  graph::StageOp scores = spec.scores;
  return graph::sumsBf16Products(scores) && isWidenedBf16(spec.value.value);
}

/// A weight is a bf16 number, or the sum of three.
static bool canUseTiles(const AttentionSpec &spec, const CpuTarget &target) {
  return hasInstruction(target, ProductForm::Bf16Tiles) && hasBf16Factors(spec);
}

/// Weights are bf16 numbers, too.
static bool canUsePairs(const AttentionSpec &spec, const CpuTarget &target) {
  graph::StageOp output = spec.output;
  return hasInstruction(target, ProductForm::Bf16Pairs) &&
         hasBf16Factors(spec) && graph::sumsBf16Products(output) &&
         spec.weightRounding;
}

bool dlc::isLegal(const AttentionSchedule &s, const AttentionSpec &spec,
                  const CpuTarget &target, std::string &reason) {
  auto refuse = [&](const char *why) {
    reason = std::string("schedule: ") + why;
    return false;
  };
  if (!s.lanes || !s.vectors || !s.keyTile || !s.columnTile || !s.unroll)
    return refuse("a size of the tile is zero");
  if (s.lanes & (s.lanes - 1))
    return refuse("lanes are no power of two");
  if (s.few) {
    if (!s.rowTile || s.rowTile > 16)
      return refuse("a tile of rows is empty or too large");
    if (s.keysPerBlock % s.lanes || s.keysPerTask % s.lanes)
      return refuse("blocks of keys are not whole vectors");
    if (s.keysPerTask && spec.weightRounding)
      return refuse("rounded weights need all keys of a row at once");
    if (s.tiles)
      return refuse("matrix tiles are for blocks of queries");
    if (s.pairs)
      return refuse("products of pairs are for blocks of queries");
  } else if (s.tiles) {
    if (s.pairs)
      return refuse("matrix tiles and products of pairs exclude each other");
    if (!canUseTiles(spec, target))
      return refuse("no products of bf16 numbers, or no matrix tiles for them");
    if (s.lanes != kTileRows || s.vectors > 2)
      return refuse("a matrix tile has 16 columns, and one or two are summed");
    if (s.keysPerBlock % (2 * kTileRows))
      return refuse("blocks of keys are not whole matrix tiles");
    if (spec.rows.empty())
      return refuse("one query has no lanes of its own");
    if (s.rowsPerTask % s.blockRows())
      return refuse("a task's rows are not whole blocks");
    if (s.keysPerTask)
      return refuse("keys are split over tasks for few queries only");
  } else {
    unsigned registers = target.desc().vectorRegisters + 1;
    if (std::max(s.keyTile, s.columnTile) * s.vectors + s.vectors + 1 >
        registers)
      return refuse("the tile does not fit the vector registers");
    if (s.unroll > 16)
      return refuse("the loop is unrolled too far");
    if (spec.rows.empty())
      return refuse("one query has no lanes of its own");
    if (s.rowsPerTask % s.blockRows())
      return refuse("a task's rows are not whole blocks");
    if (s.pairs && (s.lanes != kTileRows || !canUsePairs(spec, target)))
      return refuse("no products of pairs of bf16 numbers, or no instruction "
                    "for them");
    if (s.pairs && !(s.copiesKeys && s.copiesValues))
      return refuse("pairs are made from copies");
    if (!s.copiesKeys && !isStridedFactor(spec, spec.key, spec.inner))
      return refuse("keys have no strides to be read by");
    if (!s.copiesValues && !isStridedFactor(spec, spec.value, spec.columns))
      return refuse("values have no strides to be read by");
    if (s.keysPerTask)
      return refuse("keys are split over tasks for few queries only");
  }
  if (spec.weightRounding && s.keysPerBlock)
    return refuse("rounded weights need all keys of a row at once");
  return true;
}

//===----------------------------------------------------------------------===//
// The rule
//===----------------------------------------------------------------------===//

/// Whether rows of `tile` elements of `axis` share too few sets of the
/// first-level cache (whose ways span 4 KiB, a page, on all x86) to stay there
/// while the other axis is walked.
static bool collides(const AttentionSpec &spec,
                     const ContractionOperand &operand, unsigned axis,
                     unsigned tile) {
  auto stride = graph::constantValue(operand.strides[axis]);
  if (!stride || *stride <= 0)
    return true;
  constexpr int64_t way = 4096, ways = 8;
  int64_t period = way / std::gcd(way, *stride * 4);
  return (tile + period - 1) / period > ways - 2;
}

/// Whether two vectors of queries at a time leave so many lanes empty at the
/// end that one is faster.
static bool wastesLanes(int64_t queries, int64_t lanes) {
  int64_t two = llvm::alignTo(queries, 2 * lanes),
          one = llvm::alignTo(queries, lanes);
  return two * 8 > one * 9;
}

/// A tile of at most `most` of `count` of which the last one is as large as the
/// others, or nearly.
static unsigned evenTile(int64_t count, int64_t most) {
  int64_t tiles = llvm::divideCeil(std::max<int64_t>(count, 1), most);
  return llvm::divideCeil(std::max<int64_t>(count, 1), tiles);
}

AttentionSchedule dlc::defaultSchedule(const AttentionSpec &spec,
                                       const CpuTarget &target,
                                       std::optional<SizeRange> rows) {
  const TargetDesc &desc = target.desc();
  AttentionSchedule s;
  s.lanes = std::max(desc.lanes(4), 4u);
  s.vectors = 2;
  // Accumulators, a vector of queries each, and an element of the other factor.
  s.keyTile = std::clamp((desc.vectorRegisters - 3) / 2, 1u, 14u);
  s.columnTile = s.keyTile;
  constexpr int64_t unknown = 512;
  auto sizeOf = [&](AffineExpr expr) {
    return graph::constantValue(expr).value_or(unknown);
  };
  int64_t inner = sizeOf(spec.extentOf(spec.inner)),
          columns = sizeOf(spec.extentOf(spec.columns)),
          keys = sizeOf(spec.extentOf(spec.keys)),
          group = sizeOf(spec.extentOf(spec.group)),
          queries = spec.rows.empty()
                        ? 1
                        : sizeOf(spec.space.extents[spec.rows.back()]);
  bool isStatic =
      graph::constantValue(spec.extentOf(spec.group)) &&
      (spec.rows.empty() || graph::constantValue(spec.extentOf(spec.rows)));
  if (rows && !spec.rows.empty() &&
      !graph::constantValue(spec.space.extents[spec.rows.back()])) {
    queries = std::max<int64_t>(1, rows->typical);
    isStatic = rows->low == rows->high &&
               graph::constantValue(spec.extentOf(spec.group)) &&
               spec.rows.size() == 1;
  }
  int64_t total = group * queries;
  s.tiles = s.lanes == kTileRows && canUseTiles(spec, target);
  s.pairs = !s.tiles && s.lanes == kTileRows && canUsePairs(spec, target) &&
            desc.bf16FlopsPerCycle > desc.f32FlopsPerCycle;
  if (queries <= int64_t(s.lanes)) {
    s.vectors = 1;
  } else if (!s.tiles && wastesLanes(queries, s.lanes)) {
    // More registers for elements of the other factor, each used but once.
    unsigned most = std::clamp(desc.vectorRegisters - 4, 1u, 28u);
    s.vectors = 1;
    s.keyTile = evenTile(keys, most);
    s.columnTile = evenTile(columns, most);
  }
  s.copiesKeys = !isStridedFactor(spec, spec.key, spec.inner) ||
                 collides(spec, spec.key, spec.keys.front(), s.keyTile);
  s.copiesValues = !isStridedFactor(spec, spec.value, spec.columns);
  s.prefetchesValues = !s.copiesValues && desc.arch == "x86" &&
                       *spec.strideOf(spec.value, spec.columns) == 1;
  unsigned threads = target.plannedThreads();
  int64_t outer = sizeOf(spec.extentOf(spec.outer));
  // Few: with half a vector of queries or less most lanes would be empty.
  if (std::min(total, queries) <= int64_t(s.lanes) / 2 || spec.rows.empty()) {
    s.few = true;
    s.tiles = s.pairs = false;
    s.rowTile = isStatic ? std::min<int64_t>(total, 8) : 4;
    if (!spec.weightRounding) {
      s.keysPerBlock = 256;
      // A part is long enough to be worth another phase.
      constexpr int64_t least = 512;
      int64_t wanted = threads <= 1 || outer >= threads
                           ? 1
                           : (2 * threads + outer - 1) / outer;
      int64_t parts = std::min(wanted, keys / least);
      if (parts > 1)
        s.keysPerTask = ((keys + parts - 1) / parts + s.keysPerBlock - 1) /
                        s.keysPerBlock * s.keysPerBlock;
    }
    return s;
  }
  // Scores of a block are made, read three times and used within the
  // first-level cache.
  if (!spec.weightRounding) {
    int64_t most = std::max<int64_t>(desc.l1Bytes / 2 / (4 * s.blockRows()) /
                                         s.keyTile * s.keyTile,
                                     s.keyTile);
    if (s.tiles)
      most = 256; // whole tiles
    if (keys > 2 * most || !graph::constantValue(spec.extentOf(spec.keys)))
      s.keysPerBlock = most;
  }
  // Tasks: enough for the cores; and sums of all its queries in the
  // second-level cache.
  int64_t blocks = (queries + s.blockRows() - 1) / s.blockRows();
  int64_t bytesOfBlock = 4 * s.blockRows() * (inner + columns);
  int64_t fit = std::max<int64_t>(1, desc.l2Bytes / 4 / bytesOfBlock / group);
  int64_t wanted = threads <= 1 ? 1 : (4 * threads + outer - 1) / outer;
  int64_t perTask = std::clamp<int64_t>((blocks + wanted - 1) / wanted, 1, fit);
  bool isAll = perTask >= blocks &&
               graph::constantValue(spec.space.extents[spec.rows.back()]);
  s.rowsPerTask = isAll ? 0 : perTask * s.blockRows();
  return s;
}
