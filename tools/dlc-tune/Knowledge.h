// What a search of a kernel begins with.
#ifndef DLC_TOOLS_DLC_TUNE_KNOWLEDGE_H
#define DLC_TOOLS_DLC_TUNE_KNOWLEDGE_H

#include "Settings.h"

#include "dlc/Tuner/Tune.h"

namespace dlc {

/// The cost model of -model= or the shipped one, and the best schedules of
/// kernels like `task` among the shipped records. Nothing with -model=none.
struct Knowledge {
  std::optional<tuner::CostModel> model;
  std::vector<KnobValues> experience;

  const tuner::CostModel *get() const { return model ? &*model : nullptr; }
};
llvm::Expected<Knowledge> loadKnowledge(const TuneSettings &s,
                                        llvm::StringRef arch,
                                        const tuner::Task &task);

} // namespace dlc

#endif // DLC_TOOLS_DLC_TUNE_KNOWLEDGE_H
