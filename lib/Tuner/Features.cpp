// The analytic model and the features, from one account of what a scheduled
// contraction does.
#include "dlc/Tuner/Features.h"

#include "FeatureNames.h"
#include "FeatureTable.h"

#include <algorithm>
#include <cmath>

using namespace dlc;
using namespace dlc::tuner;

namespace {
constexpr double Memory = 0, Indirect = 1, Filled = 2,
                 Packed = 3; // knobs lhs, rhs

/// What happens while a scheduled contraction runs; work is of all tasks
/// together, in cycles of one core.
struct Account {
  double lanes, tileRows, tileVectors, step, unroll, prefetch, passes;
  double lhs, rhs, dot, rowsOutside;
  double taskRows, taskColumns, blockColumns, passDepth, tasks, rounds, busy;
  double registers, accumulators, tileCount, rowWaste, columnWaste;
  double lhsBytes, rhsBytes, panelBytes, tileLhsBytes, scratchBytes;
  double aliasing = 0; ///< rows of a tile that share sets of the L1
  double fma, loads, latency, overhead, copyLhs, copyRhs, epilogue;
  double lhsTraffic, rhsTraffic, resultTraffic, trafficCycles;
  double cycles; ///< of the busiest thread

  Account(const ContractionFacts &f, const KnobValues &knobs,
          const TargetFacts &t);
};
} // namespace

static double ceilDiv(double a, double b) { return std::ceil(a / b); }

/// Cycles to move `bytes` that are read again and again from where `footprint`
/// bytes stay.
static double moveCycles(double bytes, double footprint, const TargetFacts &t) {
  if (footprint <= double(t.l1) * 0.75)
    return bytes / 128;
  if (footprint <= double(t.l2) * 0.75)
    return bytes / 48;
  if (footprint <= double(t.l3) * 0.5)
    return bytes / 16;
  return bytes * t.ghz / t.readGBs;
}

Account::Account(const ContractionFacts &f, const KnobValues &knobs,
                 const TargetFacts &t) {
  auto get = [&](const char *name, double otherwise) {
    auto it = knobs.find(name);
    return it == knobs.end() ? otherwise : double(it->second);
  };
  double bytes = double(f.accBytes), rows = double(f.rows),
         columns = double(f.columns), depth = double(f.depth),
         outer = double(f.outer);
  lanes = std::max(1.0, double(t.vectorBytes) / bytes);
  tileRows = std::max(1.0, get("tile_rows", 8));
  tileVectors = std::max(1.0, get("tile_vectors", 2));
  unroll = std::max(1.0, get("unroll", 4));
  prefetch = get("prefetch", 0);
  lhs = get("lhs", Memory);
  rhs = get("rhs", Memory);
  dot = get("dot", 0);
  rowsOutside = get("rows_outside", 0);
  step = std::max(tileVectors * lanes, double(f.panelColumns));

  auto part = [](double tiles, double unit, double whole) {
    return tiles > 0 ? std::min(tiles * unit, whole) : whole;
  };
  taskRows = part(get("task_row_tiles", 0), tileRows, rows);
  taskColumns = part(get("task_column_steps", 0), step, columns);
  blockColumns = part(get("block_column_steps", 0), step, taskColumns);
  passDepth = part(get("depth_per_pass", 0), 1, depth);
  passes = ceilDiv(depth, passDepth);
  double rowTasks = ceilDiv(rows, taskRows),
         columnTasks = ceilDiv(columns, taskColumns),
         blocks = ceilDiv(taskColumns, blockColumns);
  tasks = outer * rowTasks * columnTasks;
  double threads = std::max<double>(1, double(f.threads));
  rounds = ceilDiv(tasks, threads);
  busy = tasks / (rounds * threads);

  accumulators = tileRows * tileVectors;
  registers = accumulators + tileVectors + 1;
  double rowTiles = ceilDiv(rows, tileRows),
         columnTiles = ceilDiv(columns, tileVectors * lanes);
  tileCount = outer * rowTiles * columnTiles;
  rowWaste = rowTiles * tileRows / rows;
  // The last vectors of a column tile are masked, whole ones are left out.
  double vectors = ceilDiv(columns, lanes);
  columnWaste = vectors * lanes / columns;

  double elements = outer * rows * vectors; // vectors of the result
  double perCycle = std::max(0.5, t.flopsPerCycle / (2 * lanes) * 4 / bytes);
  fma = elements * depth / perCycle;
  double tileLoads = outer * depth * (rowTiles * vectors + columnTiles * rows);
  loads = tileLoads / 2;
  if (dot)
    loads = 2 * outer * rows * columns * ceilDiv(depth, lanes) / 2;
  if (dot)
    fma = outer * rows * columns * ceilDiv(depth, lanes) / perCycle;
  double inFlight = std::max(1.0, std::min(accumulators, rows * tileVectors));
  latency = inFlight < 8 ? fma * 8 / inFlight : 0;
  overhead = tileCount * passes * (12 + accumulators) +
             tileCount * ceilDiv(depth, unroll) * 0.5;

  double elementsLhs = outer * rows * depth,
         elementsRhs = outer * columns * depth;
  copyLhs = lhs == Filled ? elementsLhs * columnTasks *
                                (f.lhsPlain && f.lhsDepth == 1 ? 0.25 : 1.0)
                          : 0;
  copyRhs = rhs == Filled ? elementsRhs * rowTasks *
                                (f.rhsPlain && f.rhsColumn == 1 ? 0.15 : 0.6)
                          : 0;
  epilogue = outer * rows * vectors *
             (double(f.epilogueOps) + 2 * double(f.epilogueLoads));

  double lhsWidth = lhs == Filled ? bytes : double(f.lhsBytes);
  double rhsWidth = rhs == Filled ? bytes : double(f.rhsBytes);
  tileLhsBytes = std::min(tileRows, rows) * passDepth * lhsWidth;
  panelBytes = std::min(tileVectors * lanes, columns) * passDepth * rhsWidth;
  lhsBytes = taskRows * passDepth * lhsWidth;
  rhsBytes = blockColumns * passDepth * rhsWidth;
  scratchBytes = (lhs == Filled ? taskRows * depth * bytes : 0) +
                 (rhs == Filled ? blockColumns * depth * bytes : 0);
  // Panel by panel of columns all rows pass, or the other way round.
  double panelsOfTask = ceilDiv(blockColumns, tileVectors * lanes);
  double tilesOfTask = ceilDiv(taskRows, tileRows);
  double perBlock = tasks * blocks * passes;
  double lhsMoved, rhsMoved;
  if (rowsOutside) {
    lhsMoved = perBlock * lhsBytes;
    rhsMoved = perBlock * tilesOfTask * rhsBytes;
    lhsTraffic = moveCycles(lhsMoved, lhsBytes * blocks * 4, t);
    rhsTraffic = moveCycles(rhsMoved, rhsBytes + tileLhsBytes, t);
  } else {
    lhsMoved = perBlock * panelsOfTask * lhsBytes;
    rhsMoved = perBlock * rhsBytes;
    lhsTraffic = moveCycles(lhsMoved, lhsBytes + panelBytes, t);
    rhsTraffic = moveCycles(rhsMoved, rhsBytes * rowTasks * 4, t);
  }
  resultTraffic =
      outer * rows * columns * double(f.resultBytes) * (2 * passes - 1) / 32;
  if (lhs == Memory && f.lhsRow > 0) {
    // Rows at a distance of a power of two meet in few sets of the L1.
    int64_t distance = f.lhsRow * f.lhsBytes, way = 4096, a = way, b = distance;
    while (b)
      std::swap(a %= b, b);
    double period = double(way / std::max<int64_t>(a, 1));
    aliasing = std::max(0.0, ceilDiv(tileRows, period) - 6);
  }
  trafficCycles = lhsTraffic + rhsTraffic + resultTraffic;
  double spill = registers > double(t.vectorRegisters) + 1 ? 3 : 1;
  double compute = std::max({fma, loads, latency}) * spill;
  double total = std::max(compute, 0.7 * trafficCycles) +
                 0.3 * std::min(compute, trafficCycles) + overhead + copyLhs +
                 copyRhs + epilogue + aliasing * elementsLhs * 0.3 +
                 tasks * 200;
  cycles = total / (threads * busy);
}

double dlc::tuner::analyticSeconds(const ContractionFacts &facts,
                                   const KnobValues &knobs,
                                   const TargetFacts &target) {
  return Account(facts, knobs, target).cycles / (target.ghz * 1e9);
}

double dlc::tuner::trafficSeconds(const ContractionFacts &facts,
                                  const KnobValues &knobs,
                                  const TargetFacts &target) {
  Account account(facts, knobs, target);
  return account.trafficCycles / (std::max<double>(1, double(facts.threads)) *
                                  account.busy * target.ghz * 1e9);
}

using View = FeatureView<ContractionFacts, Account>;

static const Feature<View> kFeatures[] = {
    // the kernel
    FEATURE("log_flops", log2p(v.f.flops())),
    FEATURE("log_outer", log2p(double(v.f.outer))),
    FEATURE("log_rows", log2p(double(v.f.rows))),
    FEATURE("log_columns", log2p(double(v.f.columns))),
    FEATURE("log_depth", log2p(double(v.f.depth))),
    FEATURE("acc_bytes", double(v.f.accBytes)),
    FEATURE("lhs_widens", double(v.f.accBytes) / double(v.f.lhsBytes)),
    FEATURE("rhs_widens", double(v.f.accBytes) / double(v.f.rhsBytes)),
    FEATURE("lhs_constant", v.f.lhsConstant),
    FEATURE("rhs_constant", v.f.rhsConstant),
    FEATURE("lhs_plain", v.f.lhsPlain),
    FEATURE("rhs_plain", v.f.rhsPlain),
    FEATURE("lhs_row_contiguous", v.f.lhsRow == 1),
    FEATURE("lhs_depth_contiguous", v.f.lhsDepth == 1),
    FEATURE("rhs_column_contiguous", v.f.rhsColumn == 1),
    FEATURE("rhs_depth_contiguous", v.f.rhsDepth == 1),
    FEATURE("log_lhs_run", log2p(double(v.f.lhsRun))),
    FEATURE("epilogue_ops", double(v.f.epilogueOps)),
    FEATURE("epilogue_loads", double(v.f.epilogueLoads)),
    FEATURE("threads", double(v.f.threads)),
    FEATURE("intensity",
            log2p(v.f.flops() /
                  (double(v.f.outer) * (double(v.f.rows * v.f.depth) +
                                        double(v.f.columns * v.f.depth) +
                                        double(v.f.rows * v.f.columns))))),
    // the machine
    FEATURE("lanes", v.a.lanes),
    FEATURE("vector_registers", double(v.t.vectorRegisters)),
    FEATURE("fma_per_cycle", v.t.flopsPerCycle / (2 * v.a.lanes)),
    FEATURE("log_l1", log2p(double(v.t.l1))),
    FEATURE("log_l2", log2p(double(v.t.l2))),
    FEATURE("log_l3", log2p(double(v.t.l3))),
    FEATURE("bytes_per_cycle", v.t.readGBs / v.t.ghz),
    // the schedule
    FEATURE("tile_rows", v.a.tileRows),
    FEATURE("tile_vectors", v.a.tileVectors),
    FEATURE("unroll", v.a.unroll),
    FEATURE("prefetch", v.a.prefetch),
    FEATURE("lhs_memory", v.a.lhs == Memory),
    FEATURE("lhs_indirect", v.a.lhs == Indirect),
    FEATURE("lhs_filled", v.a.lhs == Filled),
    FEATURE("lhs_packed", v.a.lhs == Packed),
    FEATURE("rhs_memory", v.a.rhs == Memory),
    FEATURE("rhs_filled", v.a.rhs == Filled),
    FEATURE("rhs_packed", v.a.rhs == Packed),
    FEATURE("dot", v.a.dot),
    FEATURE("rows_outside", v.a.rowsOutside),
    FEATURE("log_task_rows", log2p(v.a.taskRows)),
    FEATURE("log_task_columns", log2p(v.a.taskColumns)),
    FEATURE("log_block_columns", log2p(v.a.blockColumns)),
    FEATURE("log_pass_depth", log2p(v.a.passDepth)),
    FEATURE("passes", v.a.passes),
    // what follows from them
    FEATURE("accumulators", v.a.accumulators),
    FEATURE("register_share", v.a.registers / double(v.t.vectorRegisters)),
    FEATURE("body_size", v.a.unroll *(v.a.accumulators + v.a.tileVectors)),
    FEATURE("loads_per_fma", v.a.loads / std::max(v.a.fma, 1.0)),
    FEATURE("latency_share", v.a.latency / std::max(v.a.fma, 1.0)),
    FEATURE("row_tail",
            std::fmod(double(v.f.rows), v.a.tileRows) / v.a.tileRows),
    FEATURE("column_tail",
            std::fmod(double(v.f.columns), v.a.tileVectors *v.a.lanes) /
                (v.a.tileVectors * v.a.lanes)),
    FEATURE("row_waste", v.a.rowWaste),
    FEATURE("column_waste", v.a.columnWaste),
    FEATURE("log_tiles", log2p(v.a.tileCount)),
    FEATURE("overhead_share", v.a.overhead / std::max(v.a.fma, 1.0)),
    FEATURE("copy_lhs_share", v.a.copyLhs / std::max(v.a.fma, 1.0)),
    FEATURE("copy_rhs_share", v.a.copyRhs / std::max(v.a.fma, 1.0)),
    FEATURE("epilogue_share", v.a.epilogue / std::max(v.a.fma, 1.0)),
    FEATURE("tile_lhs_l1", log2Ratio(v.a.tileLhsBytes, double(v.t.l1))),
    FEATURE("panel_l1", log2Ratio(v.a.panelBytes, double(v.t.l1))),
    FEATURE("tile_and_panel_l1",
            log2Ratio(v.a.tileLhsBytes + v.a.panelBytes, double(v.t.l1))),
    FEATURE("lhs_l2", log2Ratio(v.a.lhsBytes, double(v.t.l2))),
    FEATURE("rhs_l2", log2Ratio(v.a.rhsBytes, double(v.t.l2))),
    FEATURE("both_l2", log2Ratio(v.a.lhsBytes + v.a.rhsBytes, double(v.t.l2))),
    FEATURE("scratch_l2", log2Ratio(v.a.scratchBytes, double(v.t.l2))),
    FEATURE("rhs_l3", log2Ratio(v.a.rhsBytes, double(v.t.l3))),
    FEATURE("lhs_traffic_share", v.a.lhsTraffic / std::max(v.a.fma, 1.0)),
    FEATURE("rhs_traffic_share", v.a.rhsTraffic / std::max(v.a.fma, 1.0)),
    FEATURE("result_traffic_share", v.a.resultTraffic / std::max(v.a.fma, 1.0)),
    FEATURE("aliasing", v.a.aliasing),
    FEATURE("log_tasks", log2p(v.a.tasks)),
    FEATURE("tasks_per_thread", log2p(v.a.tasks / double(v.f.threads))),
    FEATURE("busy", v.a.busy),
    FEATURE("log_cycles", std::log2(std::max(v.a.cycles, 1.0))),
    FEATURE("analytic_efficiency",
            v.a.fma / std::max(v.a.cycles * double(v.f.threads), 1.0)),
};

llvm::ArrayRef<const char *> dlc::tuner::contractionFeatureNames() {
  static const std::vector<const char *> names = namesOf(kFeatures);
  return names;
}

std::vector<float> dlc::tuner::computeFeatures(const ContractionFacts &facts,
                                               const KnobValues &knobs,
                                               const TargetFacts &target) {
  Account account(facts, knobs, target);
  return valuesOf(kFeatures, View{facts, target, account});
}
