// What models learn from.
#ifndef DLC_LIB_TUNER_SAMPLES_H
#define DLC_LIB_TUNER_SAMPLES_H

#include "dlc/Tuner/Model.h"

#include <map>
#include <set>

namespace dlc::tuner {

/// What a model of orders sees of a sample of a group.
std::vector<float> featuresOf(const Group &group, size_t i);

/// How a model is trained.
TrainOptions optionsOf(CostModel::Label label);

/// Of all groups, with labels and features of one kind. Groups whose default
/// schedule is not recorded tell nothing of order.
std::vector<Sample> samplesOf(llvm::ArrayRef<const Group *> groups,
                              CostModel::Label label);

/// The part of each kernel (its text's SHA-256: on all machines and threads),
/// when kernels are cut into parts at random.
std::map<std::string, unsigned> cutIntoParts(llvm::ArrayRef<Group> groups,
                                             unsigned &parts, unsigned seed);

/// The instruction sets that groups are of.
std::set<std::string> isasOf(llvm::ArrayRef<Group> groups);

} // namespace dlc::tuner

#endif // DLC_LIB_TUNER_SAMPLES_H
