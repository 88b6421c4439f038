// Cutting phases into tasks.
#include "LoopTasks.h"

#include "dlc/Schedule/ShortRuns.h"

using namespace mlir;
using namespace dlc;

// Scalar operations of one task: some microseconds. Phases of less gain nothing
// from another thread, and one thread gains nothing from few tasks.
static constexpr int64_t defaultGrain = 1 << 17, fewTasks = 3;
// A thread's tasks of a long phase, which are few as long as they are short
// enough for one thread to be kept from its part: about 20 us.
static constexpr int64_t tasksOfThread = 8, largestGrain = 1 << 21;

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
  int64_t threads = target.plannedThreads();
  if (work < (threads > 1 ? 1 : fewTasks) * defaultGrain)
    return std::max<int64_t>(work, 1);
  int64_t tasks = llvm::divideCeil(work, defaultGrain);
  if (tasks > tasksOfThread * threads)
    return std::clamp<int64_t>(work / (tasksOfThread * threads), defaultGrain,
                               largestGrain);
  return llvm::divideCeil(work, llvm::alignTo(tasks, threads));
}

/// Different elements that one lane of a load reads while `dims` run, -1 when
/// that is not known. Axes are added from the densest on: one whose steps lie
/// within what the others reach makes that longer, another one repeats it.
static int64_t elementsOfLane(const LoopExpr &expr, const LoopNode &load,
                              ArrayRef<unsigned> dims) {
  SmallVector<std::pair<int64_t, int64_t>> axes; // step, extent
  for (unsigned d : dims) {
    if (!load.index.dependsOnDim(d))
      continue;
    auto coefficient = load.index.coefficient(d);
    auto step = coefficient ? coefficient->constant() : std::nullopt;
    auto extent = graph::constantValue(expr.extents[d]);
    if (!step || !extent || *step == 0)
      return -1;
    axes.push_back({std::abs(*step), *extent});
  }
  if (axes.empty())
    return 1;
  llvm::sort(axes);
  int64_t unit = axes.front().first, reach = unit, repeats = 1;
  for (auto [step, extent] : axes) {
    if (step <= reach)
      reach += (extent - 1) * step;
    else
      repeats *= extent;
  }
  return reach / unit * repeats;
}

/// How many lanes' windows fit half the first-level cache, where those of a
/// whole row do not and the rows of a task read them again: overlapping
/// windows, weights that are the same for all rows. The tensors have to fit the
/// second level: farther memory wants long rows. 0: whole rows.
static int64_t lanesThatFit(const LoopUnit &unit, ArrayRef<unsigned> outer,
                            const CpuTarget &target) {
  const LoopExpr &expr = unit.expr;
  const LoopPlan &plan = unit.plan;
  auto lanes = plan.laneDim >= 0
                   ? graph::constantValue(expr.extents[plan.laneDim])
                   : std::nullopt;
  if (!lanes || plan.acrossDim < 0 || plan.width < 2)
    return 0;
  int64_t rowBytes = 0, bytes = 0; // of one lane
  bool isShared = false;
  for (const LoopNode &fold : expr.nodes) {
    if (fold.kind != LoopNode::Fold)
      continue;
    SmallVector<unsigned> inner(fold.axes.begin(), fold.axes.end());
    for (unsigned d : expr.domain)
      if (int(d) != plan.laneDim && !llvm::is_contained(outer, d))
        inner.push_back(d);
    SmallVector<unsigned> all(inner);
    llvm::append_range(all, outer);
    for (unsigned id : expr.reachable(fold.args[0])) {
      const LoopNode &load = expr.nodes[id];
      if (load.kind != LoopNode::Load || !load.index.dependsOnDim(plan.laneDim))
        continue;
      auto along = load.index.coefficient(plan.laneDim);
      int64_t ofRow = elementsOfLane(expr, load, inner);
      int64_t ofAll = elementsOfLane(expr, load, all);
      bool isDense = (along && along->constant() == 1) ||
                     findShortRun(load.index, plan.laneDim);
      if (!load.data.empty() || !isDense || ofRow < 0 || ofAll < 0)
        return 0;
      int64_t size = graph::elementBytes(load.type);
      rowBytes += ofRow * size;
      bytes += ofAll * size;
      int64_t rows = 1;
      for (unsigned d : outer)
        rows *= graph::constantValue(expr.extents[d]).value_or(1);
      isShared |= 2 * ofAll <= ofRow * rows;
    }
  }
  const TargetDesc &desc = target.desc();
  int64_t room = desc.l1Bytes / 2;
  if (!isShared || rowBytes * *lanes <= room || bytes * *lanes > desc.l2Bytes)
    return 0;
  int64_t most = room / rowBytes / plan.width;
  int64_t vectors = llvm::divideCeil(*lanes, plan.width);
  if (most < 1 || most >= vectors)
    return 0;
  // As many for each thread.
  int64_t blocks = llvm::divideCeil(vectors, most);
  blocks = std::min(vectors,
                    int64_t(llvm::alignTo(blocks, target.plannedThreads())));
  return llvm::divideCeil(vectors, blocks) * plan.width;
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
  auto cutIntoPieces = [&](int64_t unit, AffineExpr rows) {
    AffineExpr cost = main.plan.elementCost * rows;
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
    t.lanesAtOnce = lanesThatFit(main, t.outer, target);
  if (t.lanesAtOnce) {
    // All rows of some lanes, if that leaves as many tasks; else a thread's
    // part of the rows, as what comes before and after is cut.
    AffineExpr tasks =
        graph::simplify(main.expr.extents[t.pieceDim].ceilDiv(t.lanesAtOnce));
    auto most = graph::constantValue(tasks),
         rows = graph::constantValue(t.rowTasks);
    if (most && rows && *most >= *rows)
      t.rowsPerTask = t.numRows;
    else if (rows && !schedule.grain && *rows > target.plannedThreads())
      t.rowsPerTask =
          graph::simplify(t.numRows.ceilDiv(target.plannedThreads()));
    t.rowTasks = graph::simplify(t.numRows.ceilDiv(t.rowsPerTask));
    cutIntoPieces(t.lanesAtOnce, t.rowsPerTask);
  } else if (t.hasPieces) {
    cutIntoPieces(256, one);
  }
  if (t.hasPieces && main.plan.tileDim >= 0 &&
      graph::constantValue(t.pieceTasks) == 1) {
    t.pieceDim = main.plan.tileDim;
    cutIntoPieces(64, one);
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
