// What models learn from.
#ifndef DLC_LIB_TUNER_SAMPLES_H
#define DLC_LIB_TUNER_SAMPLES_H

#include "dlc/Tuner/Model.h"

namespace dlc::tuner {

/// Of all groups, with labels of one kind.
std::vector<Sample> samplesOf(llvm::ArrayRef<const Group *> groups,
                              CostModel::Label label);

} // namespace dlc::tuner

#endif // DLC_LIB_TUNER_SAMPLES_H
