// What there is to choose where nothing is folded: the vector, how many of them
// at a time, and how much a task takes. Tiles along another axis share nothing.
#include "dlc/Codegen/CPU/LoopKnobs.h"

using namespace dlc;

std::vector<ScheduleSpace::Knob>
dlc::mapKnobs(const std::vector<int64_t> &widths,
              const std::vector<int64_t> &grains) {
  return {{"width", widths}, {"groups", {0, 1, 2, 4, 8}}, {"grain", grains}};
}
