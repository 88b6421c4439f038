// Attention schedules as points of a space.
#include "dlc/Codegen/CPU/AttentionKnobs.h"

#include <algorithm>

using namespace mlir;
using namespace dlc;

KnobValues dlc::toKnobs(const AttentionSchedule &s) {
  Schedule schedule = s.toSchedule();
  return {schedule.knobs.begin(), schedule.knobs.end()};
}

AttentionSchedule dlc::withKnobs(AttentionSchedule s, const KnobValues &knobs) {
  auto read = [&](const char *name, auto &value) {
    // Sizes that nothing has are refused by isLegal.
    if (auto it = knobs.find(name); it != knobs.end())
      value = std::clamp<int64_t>(it->second, 0, int64_t(1) << 30);
  };
  read("vectors", s.vectors);
  read("key_tile", s.keyTile);
  read("column_tile", s.columnTile);
  read("unroll", s.unroll);
  read("rows_per_task", s.rowsPerTask);
  read("block_n", s.keysPerBlock);
  read("copy_keys", s.copiesKeys);
  read("copy_values", s.copiesValues);
  read("prefetch_values", s.prefetchesValues);
  read("few", s.few);
  read("row_tile", s.rowTile);
  read("split_kv", s.keysPerTask);
  read("tiles", s.tiles);
  read("pairs", s.pairs);
  return s;
}

/// 0 (all), and `unit` times powers of two and those times 3/2, below `most`.
static std::vector<int64_t> cuts(int64_t unit, int64_t most) {
  std::vector<int64_t> values{0};
  for (int64_t value = 1; value * unit < most; value *= 2) {
    values.push_back(value * unit);
    if (value > 1 && value / 2 * 3 * unit < most)
      values.push_back(value / 2 * 3 * unit);
  }
  return values;
}

ScheduleSpace dlc::attentionSpace(const AttentionSpec &spec,
                                  const CpuTarget &target,
                                  ArrayRef<int64_t> symbols,
                                  std::optional<SizeRange> range) {
  AttentionSchedule base = defaultSchedule(spec, target, range);
  auto sizeOf = [&](AffineExpr extent) {
    return std::max<int64_t>(1, graph::evaluate(extent, symbols));
  };
  int64_t keys = sizeOf(spec.extentOf(spec.keys)),
          columns = sizeOf(spec.extentOf(spec.columns)),
          group = sizeOf(spec.extentOf(spec.group)),
          queries = spec.rows.empty()
                        ? 1
                        : sizeOf(spec.space.extents[spec.rows.back()]);
  ScheduleSpace space;
  space.nest = "attention";
  space.defaults = toKnobs(base);
  auto add = [&](const char *name, std::vector<int64_t> values) {
    if (values.size() > 1)
      space.knobs.push_back({name, std::move(values)});
  };
  auto upTo = [](int64_t most) {
    std::vector<int64_t> values;
    for (int64_t value = 1; value <= most; ++value)
      values.push_back(value);
    return values;
  };
  // Whether lanes run along queries or along elements is the rule's choice.
  int64_t registers = target.desc().vectorRegisters;
  if (!base.few)
    add("vectors",
        upTo(std::clamp<int64_t>((queries + base.lanes - 1) / base.lanes, 1,
                                 base.tiles ? 2 : 4)));
  if (!base.few && base.tiles) // the rest is the tiles' shape
    add("rows_per_task", cuts(base.lanes, queries));
  if (!base.few && !base.tiles) {
    add("key_tile", upTo(std::min(keys, registers - 1)));
    add("column_tile", upTo(std::min(columns, registers - 1)));
    add("unroll", {1, 2, 4, 8});
    add("rows_per_task", cuts(base.lanes, queries));
    if (!base.pairs) {
      add("copy_keys", {0, 1});
      add("copy_values", {0, 1});
      add("prefetch_values", {0, 1});
    }
  }
  if (!spec.weightRounding)
    add("block_n", cuts(base.tiles ? 32 : 16, keys));
  if (base.few) {
    add("row_tile", upTo(std::min<int64_t>(queries * group, 16)));
    if (!spec.weightRounding)
      add("split_kv", cuts(std::max<int64_t>(base.lanes, 128), keys));
  }

  space.isLegal = [&spec, base, target, keys, queries](const KnobValues &knobs,
                                                       std::string &reason) {
    AttentionSchedule s = withKnobs(base, knobs);
    if (!isLegal(s, spec, target, reason))
      return false;
    auto refuse = [&](const char *why) {
      reason = why;
      return false;
    };
    if (s.few != base.few)
      return refuse("what lanes run along is no choice");
    // Two points that mean one schedule are one point; the rules' parts of
    // symbolic sizes stay.
    auto isWhole = [](int64_t part, int64_t rule, int64_t whole) {
      return part && part != rule && part >= whole;
    };
    if (isWhole(s.keysPerBlock, base.keysPerBlock,
                std::max<int64_t>(keys, 2)) ||
        isWhole(s.keysPerTask, base.keysPerTask, keys) ||
        (!s.few && isWhole(s.rowsPerTask, base.rowsPerTask, queries)))
      return refuse("a part is larger than the whole");
    if (s.few && s.keysPerTask && s.keysPerBlock &&
        s.keysPerTask % s.keysPerBlock)
      return refuse("a task's keys are not whole blocks");
    if (s.prefetchesValues && s.copiesValues)
      return refuse("copied values are not fetched ahead");
    if (base.keysPerBlock && !s.keysPerBlock &&
        !graph::constantValue(spec.extentOf(spec.keys)))
      return refuse("a block's scores grow with a symbolic size");
    // Scores of a block of queries lie in a worker's scratch.
    int64_t block = s.keysPerBlock ? s.keysPerBlock : keys;
    if (!s.few && double(block) * s.blockRows() * 4 > double(64 << 20))
      return refuse("a block's scores take more than 64 MiB");
    return true;
  };
  return space;
}
