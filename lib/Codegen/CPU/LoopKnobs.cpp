// Loop schedules as points of a space.
#include "dlc/Codegen/CPU/LoopKnobs.h"

#include "dlc/Schedule/RowPlan.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace dlc;

std::pair<int64_t, int64_t> dlc::elementWidths(graph::KernelOp kernel) {
  int64_t widest = 1, narrowest = 8;
  auto add = [&](Type element) {
    int64_t bytes = graph::elementBytes(element);
    widest = std::max(widest, bytes);
    narrowest = std::min(narrowest, bytes);
  };
  for (Type type : kernel.getArgumentTypes())
    add(cast<RankedTensorType>(type).getElementType());
  for (graph::StageOp stage : kernel.getStages())
    add(stage.getElementType());
  return {widest, narrowest};
}

std::vector<int64_t> dlc::grainsFor(graph::KernelOp kernel) {
  double work = 0;
  for (graph::StageOp stage : kernel.getStages()) {
    double points = 1;
    for (ArrayRef<AffineExpr> dims :
         {ArrayRef<AffineExpr>(stage.getDomainDims()),
          ArrayRef<AffineExpr>(stage.getReduceDims())})
      for (AffineExpr dim : dims)
        points *= double(graph::constantValue(dim).value_or(1));
    stage.getBlock()->walk([&](graph::ApplyOp apply) {
      work += points * double(scalarWeight(apply.getFn()));
    });
    work += points;
  }
  // A grain beyond the whole is the whole: one of them.
  std::vector<int64_t> grains{0};
  for (int64_t grain = 1 << 13; grain <= 1 << 23; grain *= 2) {
    grains.push_back(grain);
    if (double(grain) > work)
      break;
  }
  return grains;
}

ScheduleSpace dlc::loopSpace(graph::KernelOp kernel, const CpuTarget &target) {
  int64_t vector = target.desc().vectorBytes;
  auto [widest, narrowest] = elementWidths(kernel);
  ScheduleSpace space;
  space.nest = chooseNest(kernel).str();
  space.defaults = {{"width", 0}, {"groups", 0}, {"across", 0}, {"grain", 0}};
  // From half a vector of the widest elements to a vector of the narrowest or
  // two of the widest.
  std::vector<int64_t> widths{0};
  int64_t least = std::max<int64_t>(2, vector / widest / 2),
          most = std::max(vector / widest * 2, vector / narrowest);
  for (int64_t lanes = least; lanes <= most; lanes *= 2)
    widths.push_back(lanes);
  switch (loopKindOf(kernel)) {
  case LoopKind::Map:
    space.knobs = mapKnobs(kernel, widths);
    break;
  case LoopKind::Row:
    space.knobs = rowKnobs(kernel, widths);
    break;
  case LoopKind::Window:
    space.knobs = windowKnobs(kernel, widths);
    break;
  }
  space.isLegal = [most](const KnobValues &knobs, std::string &reason) {
    auto get = [&](const char *name) {
      auto it = knobs.find(name);
      return it == knobs.end() ? 0 : it->second;
    };
    auto isIn = [](int64_t value, int64_t least, int64_t most) {
      return value == 0 ||
             (value >= least && value <= most && llvm::isPowerOf2_64(value));
    };
    if (!isIn(get("width"), 2, most))
      reason = "such a vector has no use";
    else if (!isIn(get("groups"), 1, 8))
      reason = "groups are 1, 2, 4 or 8 vectors";
    else if (get("across") < 0 || get("across") > kMostAcross)
      reason = "so many points have no registers";
    else if (get("grain") < 0)
      reason = "a task has at least one operation";
    else
      return true;
    return false;
  };
  return space;
}
