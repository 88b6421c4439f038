// Cutting phases into tasks.
#include "LoopTasks.h"

using namespace mlir;
using namespace dlc;

// Scalar operations of one task: some microseconds. Phases of fewer than three
// such tasks gain nothing from another thread: its part is in the wrong cache.
static constexpr int64_t defaultGrain = 1 << 17, fewestTasks = 3;

/// ceil(grain / cost), at least 1 for any cost including 0.
static AffineExpr perTask(int64_t grain, AffineExpr cost) {
  if (auto c = graph::constantValue(cost))
    return getAffineConstantExpr(
        llvm::divideCeil(grain, std::max<int64_t>(1, *c)), cost.getContext());
  return (cost + grain).floorDiv(cost + 1);
}

/// `part`, or all of `whole` where that is known to be less: schedules that
/// differ in what there is not are the same code.
static AffineExpr atMost(AffineExpr part, AffineExpr whole) {
  auto p = graph::constantValue(part), w = graph::constantValue(whole);
  return p && w && *w < *p ? getAffineConstantExpr(std::max<int64_t>(1, *w),
                                                   part.getContext())
                           : part;
}

/// The grain for a phase of known work: all of it when that is little, else so
/// that few tasks are the same number for every thread.
static int64_t balancedGrain(int64_t work, const CpuTarget &target) {
  if (work < fewestTasks * defaultGrain)
    return std::max<int64_t>(work, 1);
  int64_t threads = target.threads() ? target.threads() : target.desc().cores;
  threads = std::max<int64_t>(threads, 1);
  int64_t tasks = (work + defaultGrain - 1) / defaultGrain;
  if (tasks > 8 * threads)
    return defaultGrain;
  tasks = (tasks + threads - 1) / threads * threads;
  return (work + tasks - 1) / tasks;
}

LoopTasks LoopTasks::get(ArrayRef<LoopUnit> units, const RowPlan &rowPlan,
                         const CpuTarget &target, const LoopSchedule &schedule,
                         MLIRContext *context) {
  LoopTasks t;
  const LoopUnit &main = units.back();
  unsigned rows = rowPlan.rowRank;
  t.isSingle = units.size() == 1 && (rows == 0 || rowPlan.kept.empty());
  // Which axes the tasks run over, and what one of their points costs.
  for (unsigned d : main.expr.domain)
    if (t.isSingle ? !main.plan.isInner(d) : d < rows)
      t.outer.push_back(d);
  for (unsigned d : t.outer)
    t.outerExtents.push_back(main.expr.extents[d]);
  AffineExpr one = getAffineConstantExpr(1, context);
  t.numRows = graph::product(context, t.outerExtents);
  t.rowCost = one;
  for (const LoopUnit &stage : units) {
    AffineExpr points = one;
    for (unsigned d : stage.expr.domain)
      if (!llvm::is_contained(t.outer, d))
        points = points * stage.expr.extents[d];
    t.rowCost = t.rowCost + points * stage.plan.elementCost;
  }
  int64_t grain = schedule.grain ? schedule.grain : defaultGrain;
  if (!schedule.grain)
    if (auto work =
            graph::constantValue(graph::simplify(t.numRows * t.rowCost)))
      grain = balancedGrain(*work, target);
  t.rowsPerTask = atMost(perTask(grain, graph::simplify(t.rowCost)), t.numRows);
  t.rowTasks = graph::simplify(t.numRows.ceilDiv(t.rowsPerTask));
  t.pieceTasks = t.piece = one;
  t.hasPieces = t.isSingle && main.plan.laneDim >= 0;
  t.pieceDim = main.plan.laneDim;
  auto cutIntoPieces = [&](int64_t unit) {
    AffineExpr cost = main.plan.elementCost;
    for (unsigned d : main.expr.domain)
      if (main.plan.isInner(d) && int(d) != t.pieceDim)
        cost = graph::simplify(cost * main.expr.extents[d]);
    t.piece = atMost(graph::simplify(perTask(grain, cost).ceilDiv(unit) * unit),
                     main.expr.extents[t.pieceDim]);
    t.pieceTasks =
        graph::simplify(main.expr.extents[t.pieceDim].ceilDiv(t.piece));
  };
  // A piece is a whole number of vectors, or of tiles along their other axis.
  if (t.hasPieces)
    cutIntoPieces(256);
  if (t.hasPieces && main.plan.tileDim >= 0 &&
      graph::constantValue(t.pieceTasks) == 1) {
    t.pieceDim = main.plan.tileDim;
    cutIntoPieces(64);
  }
  return t;
}

LoopPhases LoopPhases::get(const LoopBuffers &buffers, RowPlan &rows,
                           const CpuTarget &target, bool strict,
                           const LoopSchedule &schedule) {
  // What one loop computes needs no rows: its axes may merge and take lanes.
  RowPlan planned = rows;
  if (rows.kept.empty()) {
    rows.mode = RowPlan::Independent;
    rows.rowRank = 0;
  }
  LoopPhases phases;
  phases.units = formUnits(buffers, target, strict, schedule);
  if (phases.units.size() > 1 && rows.mode != planned.mode) {
    rows = planned;
    phases.units = formUnits(buffers, target, strict, schedule);
  }
  phases.isByRows = rows.mode == RowPlan::Rows && phases.units.size() > 1;
  return phases;
}
