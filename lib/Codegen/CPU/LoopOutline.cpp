// From the plans of a kernel's loops to numbers.
#include "dlc/Codegen/CPU/LoopOutline.h"

#include "LoopTasks.h"

using namespace mlir;
using namespace dlc;

static LoopOutline outlineOf(const LoopUnit &unit, ArrayRef<int64_t> symbols) {
  const LoopPlan &plan = unit.plan;
  const LoopExpr &expr = unit.expr;
  auto extentOf = [&](int dim) {
    return graph::evaluate(expr.extents[dim], symbols);
  };
  LoopOutline o;
  o.width = plan.width;
  o.groups = plan.groups;
  if (plan.rowAxis >= 0) {
    o.lanes = LoopOutline::Folded;
    o.laneExtent = extentOf(plan.rowAxis);
    o.groups = plan.rowGroups;
  } else if (plan.scanDim >= 0 && plan.laneDim < 0) {
    o.lanes = LoopOutline::Folded;
    o.laneExtent = extentOf(plan.scanDim);
  } else if (plan.laneDim >= 0 && plan.width > 1) {
    o.lanes = plan.tileDim >= 0         ? LoopOutline::Tiled
              : plan.interleaveDim >= 0 ? LoopOutline::Interleaved
                                        : LoopOutline::Results;
    o.laneExtent = extentOf(plan.laneDim);
  }
  if (plan.tileDim >= 0)
    o.tileExtent = o.tileEnd = extentOf(plan.tileDim);
  if (plan.interleaveDim >= 0)
    o.tileExtent = o.tileEnd = extentOf(plan.interleaveDim);
  if (plan.acrossDim >= 0) {
    o.across = plan.acrossCount;
    o.tileExtent = extentOf(plan.acrossDim);
    o.tileBegin = plan.insideBegin;
    o.tileEnd = plan.insideEnd;
    o.steps = plan.unrollLimit;
  }
  o.elementCost =
      std::max<int64_t>(1, graph::evaluate(plan.elementCost, symbols));
  o.work = double(o.elementCost);
  for (unsigned d : expr.domain)
    o.work *= double(extentOf(int(d)));
  return o;
}

static void addTasks(LoopOutline &o, const LoopTasks &tasks,
                     const LoopUnit &main, ArrayRef<int64_t> symbols) {
  auto numberOf = [&](AffineExpr expr) {
    return graph::evaluate(expr, symbols);
  };
  o.rows = std::max<int64_t>(1, numberOf(tasks.numRows));
  o.rowCost = std::max<int64_t>(1, numberOf(tasks.rowCost));
  o.rowsPerTask = std::clamp<int64_t>(numberOf(tasks.rowsPerTask), 1, o.rows);
  if (!tasks.hasPieces)
    return;
  o.pieceExtent =
      std::max<int64_t>(1, numberOf(main.expr.extents[tasks.pieceDim]));
  o.pieceCost = std::max<int64_t>(1, (o.rowCost - 1) / o.pieceExtent);
  o.piece = std::clamp<int64_t>(numberOf(tasks.piece), 1, o.pieceExtent);
}

std::vector<KernelOutline>
dlc::outlineLoops(graph::KernelOp kernel, const CpuTarget &target, bool strict,
                  const LoopSchedule &schedule, ArrayRef<int64_t> symbols,
                  ArrayRef<int64_t> grains) {
  RowPlan rows = planRows(kernel);
  LoopBuffers buffers(kernel, rows);
  LoopPhases phases = LoopPhases::get(buffers, rows, target, strict, schedule);
  ArrayRef<LoopUnit> units = phases.units;
  std::vector<KernelOutline> outlines;
  LoopSchedule changed = schedule;
  for (int64_t grain : grains) {
    changed.grain = grain;
    KernelOutline &outline = outlines.emplace_back();
    for (auto [i, unit] : llvm::enumerate(units)) {
      outline.push_back(outlineOf(unit, symbols));
      ArrayRef<LoopUnit> phase = phases.isByRows ? units : units.slice(i, 1);
      addTasks(
          outline.back(),
          LoopTasks::get(phase, rows, target, changed, kernel.getContext()),
          phase.back(), symbols);
    }
  }
  return outlines;
}

KernelOutline dlc::outlineLoops(graph::KernelOp kernel, const CpuTarget &target,
                                bool strict, const LoopSchedule &schedule,
                                ArrayRef<int64_t> symbols) {
  return std::move(outlineLoops(kernel, target, strict, schedule, symbols,
                                {schedule.grain})[0]);
}
