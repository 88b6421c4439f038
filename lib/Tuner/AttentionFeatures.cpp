// The analytic model and the features of attention.
#include "FeatureNames.h"
#include "FeatureTable.h"

#include <algorithm>
#include <cmath>

using namespace dlc;
using namespace dlc::tuner;

namespace {
/// What happens while a scheduled attention runs; work is of all tasks
/// together, in cycles of one core.
struct Account {
  double lanes, vectors, keyTile, columnTile, unroll, blockRows, block;
  double taskRows, tasks, busy, rowTile, parts;
  bool copiesKeys, copiesValues, prefetches;
  double keyRegisters, columnRegisters, rowWaste, keyWaste, columnWaste;
  double scoreBytes, keyBytes, valueBytes, sumBytes;
  double fma, loads, latency, softmax, copies, rescales, traffic, cycles;

  Account(const AttentionFacts &f, const KnobValues &knobs,
          const TargetFacts &t);
};
} // namespace

static double ceilDiv(double a, double b) { return std::ceil(a / b); }
static double wasteOf(double size, double tile) {
  return ceilDiv(size, tile) * tile / size;
}

Account::Account(const AttentionFacts &f, const KnobValues &knobs,
                 const TargetFacts &t) {
  auto get = [&](const char *name, double otherwise) {
    auto it = knobs.find(name);
    return it == knobs.end() ? otherwise : double(it->second);
  };
  double queries = double(f.rows), keys = double(f.keys),
         inner = double(f.inner), columns = double(f.columns),
         heads = double(f.outer) * double(f.group);
  lanes = std::max(4.0, double(t.vectorBytes) / 4);
  vectors = std::max(1.0, get("vectors", 2));
  double tile = std::clamp((double(t.vectorRegisters) - 3) / 2, 1.0, 14.0);
  keyTile = std::max(1.0, get("key_tile", tile));
  columnTile = std::max(1.0, get("column_tile", tile));
  unroll = std::max(1.0, get("unroll", 4));
  rowTile = std::max(1.0, get("row_tile", 4));
  copiesKeys = get("copy_keys", 0) != 0;
  copiesValues = get("copy_values", 0) != 0;
  prefetches = get("prefetch_values", 0) != 0;
  blockRows = f.few ? 1 : vectors * lanes;
  block = get("block_n", 0) > 0 ? std::min(get("block_n", 0), keys) : keys;
  double split = get("split_kv", 0);
  parts = split > 0 ? ceilDiv(keys, split) : 1;
  taskRows = get("rows_per_task", 0) > 0
                 ? std::min(get("rows_per_task", 0), queries)
                 : queries;
  double threads = std::max<double>(1, double(f.threads));
  // Heads that share keys are walked by one task.
  tasks = f.few ? double(f.outer) * parts
                : double(f.outer) * ceilDiv(queries, taskRows);
  busy = tasks / (ceilDiv(tasks, threads) * threads);

  keyRegisters = f.few ? rowTile + 2 : keyTile * vectors + vectors + 1;
  columnRegisters = f.few ? rowTile + 2 : columnTile * vectors + vectors + 1;
  rowWaste = f.few ? 1 : wasteOf(queries, blockRows);
  keyWaste = f.few ? 1 : wasteOf(std::min(block, keys), keyTile);
  columnWaste = f.few ? wasteOf(columns, lanes) : wasteOf(columns, columnTile);

  // About half of the keys of a causal mask are left out.
  double share = f.cuts ? 0.55 : 1;
  double perCycle = std::max(0.5, t.flopsPerCycle / (2 * lanes));
  double products = heads * queries * keys * share;
  double scores = products * inner / lanes * rowWaste,
         sums = products * columns / lanes * rowWaste;
  fma = (scores + sums) / perCycle;
  if (f.few)
    loads = products * (inner + columns) / lanes * (0.5 + 0.5 / rowTile);
  else
    loads = (scores * (1 / keyTile + 1 / vectors) +
             sums * (1 / columnTile + 1 / vectors)) /
            2;
  double inFlight =
      f.few ? rowTile * 2 : std::min(keyTile, columnTile) * vectors;
  latency = inFlight < 8 ? fma * 8 / inFlight : 0;
  // An exponential is about a dozen operations a vector.
  softmax = products / (f.few ? 4 : lanes) * rowWaste *
            (14 + 2 * double(f.scoreOps)) / 2;
  double blocks = ceilDiv(keys, block);
  rescales = heads * queries / lanes * rowWaste * (blocks - 1) * columns * 0.5;
  double passes = f.few ? 1 : ceilDiv(taskRows, blockRows);
  copies = (copiesKeys ? double(f.outer) * keys * inner * passes * 0.4 : 0) +
           (copiesValues ? double(f.outer) * keys * columns * passes * 0.4 : 0);

  scoreBytes = block * blockRows * 4;
  keyBytes = block * inner * double(f.keyBytes);
  valueBytes = block * columns * double(f.valueBytes);
  sumBytes = blockRows * columns * 4;
  double walks = heads * (f.few ? 1 : ceilDiv(queries, blockRows)) * share;
  double moved = walks * keys *
                 (inner * double(f.keyBytes) + columns * double(f.valueBytes));
  double all =
      keys * (inner * double(f.keyBytes) + columns * double(f.valueBytes));
  double bytesPerCycle = all <= double(t.l1) * 0.5   ? 96
                         : all <= double(t.l2) * 0.7 ? 40
                         : all <= double(t.l3) * 0.3 ? 14
                                                     : t.readGBs / t.ghz;
  traffic =
      moved / bytesPerCycle + products * 8 /
                                  (scoreBytes <= double(t.l1) * 0.5   ? 128
                                   : scoreBytes <= double(t.l2) * 0.5 ? 40
                                                                      : 14);
  double spill =
      std::max(keyRegisters, columnRegisters) > double(t.vectorRegisters) + 1
          ? 3
          : 1;
  double compute = std::max({fma, loads, latency}) * spill *
                   (f.few ? 1 : 0.5 * (keyWaste + columnWaste));
  double total = std::max(compute + softmax, 0.7 * traffic) +
                 0.3 * std::min(compute + softmax, traffic) + copies +
                 rescales + tasks * 300 +
                 (parts > 1 ? heads * queries * parts * columns / lanes : 0);
  cycles = total / (threads * busy);
}

double dlc::tuner::analyticSeconds(const AttentionFacts &facts,
                                   const KnobValues &knobs,
                                   const TargetFacts &target) {
  return Account(facts, knobs, target).cycles / (target.ghz * 1e9);
}

double dlc::tuner::trafficSeconds(const AttentionFacts &facts,
                                  const KnobValues &knobs,
                                  const TargetFacts &target) {
  Account account(facts, knobs, target);
  return account.traffic / (std::max<double>(1, double(facts.threads)) *
                            account.busy * target.ghz * 1e9);
}

using View = FeatureView<AttentionFacts, Account>;

static const Feature<View> kFeatures[] = {
    // the kernel
    FEATURE("log_flops", log2p(v.f.flops())),
    FEATURE("log_outer", log2p(double(v.f.outer))),
    FEATURE("log_group", log2p(double(v.f.group))),
    FEATURE("log_rows", log2p(double(v.f.rows))),
    FEATURE("log_keys", log2p(double(v.f.keys))),
    FEATURE("log_inner", log2p(double(v.f.inner))),
    FEATURE("log_columns", log2p(double(v.f.columns))),
    FEATURE("key_bytes", double(v.f.keyBytes)),
    FEATURE("value_bytes", double(v.f.valueBytes)),
    FEATURE("log_key_stride", log2p(double(v.f.keyStride))),
    FEATURE("log_value_stride", log2p(double(v.f.valueStride))),
    FEATURE("key_contiguous", v.f.keyContiguous),
    FEATURE("value_contiguous", v.f.valueContiguous),
    FEATURE("cuts", double(v.f.cuts)),
    FEATURE("score_ops", double(v.f.scoreOps)),
    FEATURE("one_pass", v.f.onePass),
    FEATURE("few", v.f.few),
    FEATURE("threads", double(v.f.threads)),
    // the machine
    FEATURE("lanes", v.a.lanes),
    FEATURE("vector_registers", double(v.t.vectorRegisters)),
    FEATURE("fma_per_cycle", v.t.flopsPerCycle / (2 * v.a.lanes)),
    FEATURE("log_l1", log2p(double(v.t.l1))),
    FEATURE("log_l2", log2p(double(v.t.l2))),
    FEATURE("bytes_per_cycle", v.t.readGBs / v.t.ghz),
    // the schedule
    FEATURE("vectors", v.a.vectors),
    FEATURE("key_tile", v.a.keyTile),
    FEATURE("column_tile", v.a.columnTile),
    FEATURE("unroll", v.a.unroll),
    FEATURE("row_tile", v.a.rowTile),
    FEATURE("copies_keys", v.a.copiesKeys),
    FEATURE("copies_values", v.a.copiesValues),
    FEATURE("prefetches", v.a.prefetches),
    FEATURE("log_block", log2p(v.a.block)),
    FEATURE("log_task_rows", log2p(v.a.taskRows)),
    FEATURE("log_parts", log2p(v.a.parts)),
    // what follows from them
    FEATURE("key_register_share",
            v.a.keyRegisters / double(v.t.vectorRegisters)),
    FEATURE("column_register_share",
            v.a.columnRegisters / double(v.t.vectorRegisters)),
    FEATURE("row_waste", v.a.rowWaste),
    FEATURE("key_waste", v.a.keyWaste),
    FEATURE("column_waste", v.a.columnWaste),
    FEATURE("body_size",
            v.a.unroll *std::max(v.a.keyRegisters, v.a.columnRegisters)),
    FEATURE("loads_per_fma", v.a.loads / std::max(v.a.fma, 1.0)),
    FEATURE("latency_share", v.a.latency / std::max(v.a.fma, 1.0)),
    FEATURE("softmax_share", v.a.softmax / std::max(v.a.fma, 1.0)),
    FEATURE("copy_share", v.a.copies / std::max(v.a.fma, 1.0)),
    FEATURE("rescale_share", v.a.rescales / std::max(v.a.fma, 1.0)),
    FEATURE("traffic_share", v.a.traffic / std::max(v.a.fma, 1.0)),
    FEATURE("scores_l1", log2Ratio(v.a.scoreBytes, double(v.t.l1))),
    FEATURE("scores_l2", log2Ratio(v.a.scoreBytes, double(v.t.l2))),
    FEATURE("block_l1",
            log2Ratio(v.a.keyBytes + v.a.valueBytes + v.a.scoreBytes,
                      double(v.t.l1))),
    FEATURE("block_l2",
            log2Ratio(v.a.keyBytes + v.a.valueBytes + v.a.scoreBytes,
                      double(v.t.l2))),
    FEATURE("sums_l1", log2Ratio(v.a.sumBytes, double(v.t.l1))),
    FEATURE("log_tasks", log2p(v.a.tasks)),
    FEATURE("busy", v.a.busy),
    FEATURE("log_cycles", std::log2(std::max(v.a.cycles, 1.0))),
};

llvm::ArrayRef<const char *> dlc::tuner::attentionFeatureNames() {
  static const std::vector<const char *> names = namesOf(kFeatures);
  return names;
}

std::vector<float> dlc::tuner::computeFeatures(const AttentionFacts &facts,
                                               const KnobValues &knobs,
                                               const TargetFacts &target) {
  Account account(facts, knobs, target);
  return valuesOf(kFeatures, View{facts, target, account});
}
