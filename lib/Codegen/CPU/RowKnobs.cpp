// What there is to choose where rows are folded. Groups are of rows side by
// side where lanes lie along the results, which a fold along the lanes ignores;
// a task takes whole rows, so that small grains are all the same.
#include "dlc/Codegen/CPU/LoopKnobs.h"

using namespace dlc;

std::vector<ScheduleSpace::Knob>
dlc::rowKnobs(graph::KernelOp kernel, const std::vector<int64_t> &widths,
              const std::vector<int64_t> &grains) {
  std::vector<ScheduleSpace::Knob> knobs{{"width", widths}, {"grain", grains}};
  // Results along the last axis of the domain can have the lanes.
  bool hasLanes = false;
  for (graph::StageOp stage : kernel.getStages()) {
    auto dims = stage.getDomainDims();
    hasLanes |= !dims.empty() && graph::constantValue(dims.back()) != 1;
  }
  if (hasLanes)
    knobs.push_back({"groups", {0, 1, 2, 4, 8}});
  return knobs;
}
