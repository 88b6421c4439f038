// Contraction schedules as points of a space.
#include "dlc/Codegen/CPU/ContractionKnobs.h"

#include "ContractionFactors.h"
#include "ContractionPairs.h"
#include "ContractionPanels.h"
#include "ContractionScaled.h"
#include "dlc/Codegen/CPU/KernelVariants.h"

using namespace mlir;
using namespace dlc;

ProductForm dlc::chooseForm(const ContractionSpec &spec,
                            const CpuTarget &target,
                            const CpuCodegenOptions &options,
                            std::optional<SizeRange> rows,
                            const KnobValues &knobs) {
  auto it = knobs.find("tiles");
  if (it == knobs.end() || !spec.narrow)
    return chooseForm(spec, target, options, rows);
  if (it->second == 0)
    return chooseVectorForm(spec, target, options);
  return spec.narrow->isBytes() ? ProductForm::ByteTiles
                                : ProductForm::Bf16Tiles;
}

KnobValues dlc::toKnobs(const ContractionSchedule &s) {
  int64_t step = s.columnStep();
  return {{"tile_rows", s.tileRows},
          {"tile_vectors", s.tileVectors},
          {"unroll", s.unroll},
          {"prefetch", s.prefetch},
          {"lhs", int64_t(s.lhs)},
          {"rhs", int64_t(s.rhs)},
          {"task_row_tiles", s.rowsPerTask / s.tileRows},
          {"task_column_steps", s.columnsPerTask / step},
          {"block_column_steps", s.columnsPerBlock / step},
          {"depth_per_pass", s.depthPerPass},
          {"rows_outside", s.rowsOutside},
          {"widens_rhs", s.widensRhs},
          {"dot", s.dot},
          {"epilogue_in_tiles", s.epilogueInTiles}};
}

ContractionSchedule dlc::withKnobs(ContractionSchedule s,
                                   const KnobValues &knobs,
                                   const ContractionSpec &wide,
                                   const CpuTarget &target) {
  ContractionSpec spec = factorsOf(wide, s.form);
  auto get = [&](const char *name, int64_t otherwise) {
    auto it = knobs.find(name);
    return it == knobs.end() ? otherwise : it->second;
  };
  bool any = llvm::any_of(
      toKnobs(s), [&](auto &knob) { return knobs.count(knob.first) != 0; });
  if (!any)
    return s;
  KnobValues old = toKnobs(s);
  // Sizes that no register file has are refused by isLegal.
  auto size = [&](const char *name) {
    return unsigned(std::clamp<int64_t>(get(name, old[name]), 0, 1 << 16));
  };
  auto source = [&](const char *name) {
    return FactorSource(std::clamp<int64_t>(get(name, old[name]), 0,
                                            int64_t(FactorSource::Packed)));
  };
  s.tileRows = size("tile_rows");
  s.tileVectors = size("tile_vectors");
  s.unroll = size("unroll");
  s.prefetch = size("prefetch");
  FactorSource lhs = source("lhs");
  if (lhs != s.lhs) {
    s.lhs = lhs;
    // As the default: rows are copied in blocks of k, unless k is not what lies
    // contiguous or its runs are short.
    bool isFilled = lhs == FactorSource::Filled;
    s.kBlock = baseSchedule(target.desc(), spec.accumulator, s.form).kBlock;
    chooseRuns(s, spec, target);
    if (isFilled && spec.lhs.plain && !s.usesTiles()) {
      auto row = spec.strideOf(spec.lhs, spec.rows);
      auto inner = spec.strideOf(spec.lhs, spec.inner);
      if (row && *row == 1 && !(inner && *inner == 1))
        s.kBlock = s.group();
    }
  }
  s.rhs = source("rhs");
  if (s.lhs != FactorSource::Packed)
    s.panelRows = s.tileRows;
  s.dot = get("dot", s.dot) != 0;
  int64_t step = s.columnStep();
  constexpr int64_t most = 1 << 30;
  auto tiles = [&](const char *name, int64_t unit) {
    return std::clamp<int64_t>(get(name, old[name]), 0, most) * unit;
  };
  s.rowsPerTask = tiles("task_row_tiles", s.tileRows);
  s.columnsPerTask = tiles("task_column_steps", step);
  s.columnsPerBlock = tiles("block_column_steps", step);
  s.depthPerPass = tiles("depth_per_pass", 1);
  s.rowsOutside = get("rows_outside", s.rowsOutside) != 0;
  s.widensRhs = get("widens_rhs", s.widensRhs) != 0;
  s.passesInside &= s.widensRhs;
  s.scalesSums &= canScaleSums(spec, s, target);
  s.pairsTail &= canPairTail(spec, s);
  s.epilogueInTiles =
      get("epilogue_in_tiles", s.epilogueInTiles && !s.dot) != 0;
  return s;
}

/// 0 (all), and powers of two below `most`.
static std::vector<int64_t> cuts(int64_t most) {
  std::vector<int64_t> values{0};
  for (int64_t value = 1; value < most; value *= 2)
    values.push_back(value);
  return values;
}

ScheduleSpace dlc::contractionSpace(const ContractionSpec &spec,
                                    const CpuTarget &target,
                                    const CpuCodegenOptions &options,
                                    ArrayRef<int64_t> symbols,
                                    std::optional<SizeRange> range) {
  const TargetDesc &desc = target.desc();
  ContractionSchedule base = defaultSchedule(spec, target, options, range);
  auto sizeOf = [&](ArrayRef<unsigned> group) {
    return std::max<int64_t>(1, graph::evaluate(spec.extentOf(group), symbols));
  };
  int64_t rows = sizeOf(spec.rows), columns = sizeOf(spec.columns),
          depth = sizeOf(spec.inner);
  ScheduleSpace space;
  space.nest = "contraction";
  space.defaults = toKnobs(base);
  auto add = [&](const char *name, std::vector<int64_t> values) {
    // One value is a knob where the default is another (tiles of more rows than
    // there are).
    if (values.size() > 1 ||
        (values.size() == 1 && values[0] != space.defaults[name]))
      space.knobs.push_back({name, std::move(values)});
  };
  std::vector<int64_t> tileRows, tileVectors;
  bool isPacked = base.lhs == FactorSource::Packed;
  bool isTiled = base.usesTiles();
  if (isTiled && !isPacked)
    tileRows = {kTileRows, 2 * kTileRows};
  for (int64_t r = 1; r <= std::min<int64_t>(rows, desc.vectorRegisters); ++r)
    if (!isPacked && !isTiled)
      tileRows.push_back(r);
  for (int64_t v = 1; v <= (isTiled ? 2 : 8); ++v)
    if (v % base.panelVectors == 0 || base.panelVectors % v == 0)
      tileVectors.push_back(v);
  add("tile_rows", tileRows);
  add("tile_vectors", tileVectors);
  if (!isTiled)
    add("unroll", {1, 2, 4, 8});
  if (isTiled)
    add("prefetch", {0, 16, 32, 64, 128});
  else
    add("prefetch", {0, 4, 8, 16, 32});
  // Where the factors can be read from, alone; the tile does not matter here.
  auto works = [&](KnobValues knobs) {
    for (const char *name : {"depth_per_pass", "dot", "epilogue_in_tiles"})
      knobs.emplace(name, 0);
    std::string reason;
    return isLegal(withKnobs(base, knobs, spec, target), spec, target, reason);
  };
  auto addSources = [&](const char *name, FactorSource source) {
    std::vector<int64_t> values;
    for (FactorSource other :
         {FactorSource::Memory, FactorSource::Indirect, FactorSource::Filled})
      if (works({{name, int64_t(other)}}))
        values.push_back(int64_t(other));
    if (source != FactorSource::Packed)
      add(name, values);
  };
  addSources("lhs", base.lhs);
  addSources("rhs", base.rhs);
  int64_t step = int64_t(base.panelVectors) * base.lanes;
  add("task_row_tiles", cuts(rows));
  add("task_column_steps", cuts((columns + step - 1) / step));
  add("block_column_steps", cuts((columns + step - 1) / step));
  std::vector<int64_t> passes{0};
  for (int64_t pass = 4 * base.kBlock; !isTiled && pass < depth; pass *= 2)
    passes.push_back(pass);
  add("depth_per_pass", passes);
  add("rows_outside", {0, 1});
  if (works({{"widens_rhs", 1}, {"rows_outside", 0}}) &&
      works({{"widens_rhs", 0}}))
    add("widens_rhs", {0, 1});
  if (works({{"lhs", 0}, {"rhs", 0}, {"dot", 1}}))
    add("dot", {0, 1});
  if (works({{"epilogue_in_tiles", 1}}) && works({{"epilogue_in_tiles", 0}}))
    add("epilogue_in_tiles", {0, 1});

  int64_t bytes = std::max(1u, spec.accumulator.getIntOrFloatBitWidth() / 8);
  // Copies that a worker makes room for grow with a symbolic size, beyond what
  // is measured: only where the rules' do.
  auto grows = [&spec](const ContractionSchedule &s) {
    auto isOpen = [&](ArrayRef<unsigned> group) {
      return !graph::constantValue(spec.extentOf(group));
    };
    bool isDeep = isOpen(spec.inner);
    return (s.lhs == FactorSource::Filled &&
            (isDeep || (!s.rowsPerTask && isOpen(spec.rows)))) ||
           (s.rhs == FactorSource::Filled &&
            (isDeep || (!s.columnsPerBlock && !s.columnsPerTask &&
                        isOpen(spec.columns))));
  };
  bool mayGrow = grows(base);
  space.isLegal = [&spec, base, target, rows, columns, depth, bytes, grows,
                   mayGrow, isVariant = range.has_value()](
                      const KnobValues &knobs, std::string &reason) {
    ContractionSchedule s = withKnobs(base, knobs, spec, target);
    if (!isLegal(s, spec, target, reason))
      return false;
    auto refuse = [&](const char *why) {
      reason = why;
      return false;
    };
    // Two points that mean one schedule are one point.
    bool isFixed = s.lhs == FactorSource::Packed;
    int64_t step = s.usesTiles() ? kTileRows : 1;
    if ((s.tileRows >= rows + step && !isFixed) ||
        s.rowsPerTask >= std::max<int64_t>(rows, 2) ||
        s.columnsPerTask >= std::max<int64_t>(columns, 2) ||
        s.columnsPerBlock >= (s.columnsPerTask ? s.columnsPerTask
                                               : std::max<int64_t>(columns, 2)))
      return refuse("a part is larger than the whole");
    if (s.dot && (s.depthPerPass || s.columnsPerBlock || s.rowsOutside))
      return refuse("sums along k are not blocked");
    if (isVariant && !packsAlike(s, base))
      return refuse("variants read a constant in one form");
    if (!mayGrow && grows(s))
      return refuse("a task's copies grow with a symbolic size");
    // What a worker copies into must stay of a reasonable size.
    double scratch = 0, taskRows = s.rowsPerTask ? s.rowsPerTask : rows;
    if (s.lhs == FactorSource::Filled)
      scratch += taskRows * double(depth) * double(bytes);
    int64_t filled = s.columnsPerBlock  ? s.columnsPerBlock
                     : s.columnsPerTask ? s.columnsPerTask
                                        : columns;
    if (s.rhs == FactorSource::Filled)
      scratch += double(filled) * double(depth) * double(bytes);
    if (scratch > double(64 << 20))
      return refuse("a task's copies take more than 64 MiB");
    return true;
  };
  return space;
}
