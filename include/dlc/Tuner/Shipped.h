// The records and models that dlc comes with: tuning_db/<arch>/*.jsonl and
// <family>.{model,time}.json, found as lib/dlc/tuning_db above the running
// program.
#ifndef DLC_TUNER_SHIPPED_H
#define DLC_TUNER_SHIPPED_H

#include "dlc/Tuner/Model.h"

namespace dlc::tuner {

/// tuning_db/<arch>, or empty when there is none.
std::string findShippedFolder(llvm::StringRef arch);

/// All records of the *.jsonl in and below a folder, in the order of their
/// names.
llvm::Expected<std::vector<Record>> readFolder(llvm::StringRef folder);

/// The model that is shipped for an architecture; nothing when there is none.
/// Errors when it does not fit this dlc.
llvm::Expected<std::optional<CostModel>>
loadShippedModel(llvm::StringRef arch, llvm::StringRef family,
                 CostModel::Label label = CostModel::Label::Order);
/// "contraction.model.json", "contraction.time.json".
std::string modelFileName(llvm::StringRef family, CostModel::Label label);

} // namespace dlc::tuner

#endif // DLC_TUNER_SHIPPED_H
