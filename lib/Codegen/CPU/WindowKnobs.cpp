// What there is to choose where neighbouring results read elements in common
// (pooling, depthwise convolutions, sums with a factor that stands still): a
// register tile along another axis than the lanes' loads them once.
#include "dlc/Codegen/CPU/LoopKnobs.h"

#include "dlc/Schedule/IndexPoly.h"
#include "dlc/Schedule/StageAxes.h"

using namespace mlir;
using namespace dlc;

/// Whether results that differ along domain axis `d` read some of the elements
/// of `load` in common.
static bool isShared(graph::LoadOp load, graph::StageOp stage, unsigned d) {
  auto axes = axesOf(load);
  if (!axes)
    return false; // a gather
  unsigned rank = stage.getDomainRank();
  bool isRead = false;
  for (AffineExpr e : load.getMap().getResults()) {
    IndexPoly at = IndexPoly::get(e.replaceDims(*axes));
    if (!at.dependsOnDim(d))
      continue;
    isRead = true;
    auto mine = at.coefficient(d);
    auto step = mine ? mine->constant() : std::nullopt;
    for (auto [i, extent] : llvm::enumerate(stage.getReduceDims())) {
      auto other = at.coefficient(rank + i);
      auto tap = other ? other->constant() : std::nullopt;
      auto taps = graph::constantValue(extent);
      // A step that is shorter than the window: the windows overlap.
      if (step && tap && taps && *tap != 0 &&
          std::abs(*step) < std::abs(*tap) * *taps)
        return true;
    }
  }
  return !isRead;
}

LoopKind dlc::loopKindOf(graph::KernelOp kernel) {
  LoopKind kind = LoopKind::Map;
  for (graph::StageOp stage : kernel.getStages()) {
    if (stage.getFoldKind() == graph::FoldKind::none)
      continue;
    if (kind == LoopKind::Map)
      kind = LoopKind::Row;
    stage.getBlock()->walk([&](graph::LoadOp load) {
      for (auto [d, extent] : llvm::enumerate(stage.getDomainDims()))
        if (graph::constantValue(extent) != 1 && isShared(load, stage, d))
          kind = LoopKind::Window;
    });
  }
  return kind;
}

std::vector<ScheduleSpace::Knob>
dlc::windowKnobs(graph::KernelOp kernel, const std::vector<int64_t> &widths,
                 const std::vector<int64_t> &grains) {
  std::vector<ScheduleSpace::Knob> knobs = rowKnobs(kernel, widths, grains);
  knobs.push_back({"across", {0, 1, 2, 3, 4, 6, 7, 8, 10, 14}});
  return knobs;
}
