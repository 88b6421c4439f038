// Shipped models and records for searches.
#include "Knowledge.h"

#include "dlc/Tuner/Experience.h"
#include "dlc/Tuner/Shipped.h"

using namespace dlc;
using namespace dlc::tuner;
using llvm::Expected;

Expected<Knowledge> dlc::loadKnowledge(const TuneSettings &s,
                                       llvm::StringRef arch, const Task &task) {
  Knowledge known;
  if (s.model == "none") // nor anything else that dlc comes with
    return known;
  if (std::string folder = findShippedFolder(arch); !folder.empty()) {
    auto records = readFolder(folder);
    if (!records)
      return records.takeError();
    known.experience = findExperience(*records, task.workload, task.target);
  }
  if (s.model.empty()) {
    auto shipped = loadShippedModel(arch, task.scorer.family);
    if (!shipped)
      return shipped.takeError();
    known.model = std::move(*shipped);
    return known;
  }
  Expected<CostModel> loaded = CostModel::load(s.model);
  if (!loaded)
    return loaded.takeError();
  if (loaded->getLabel() != CostModel::Label::Order)
    return llvm::createStringError(
        s.model + ": predicts times, a search needs a model of orders");
  known.model = std::move(*loaded);
  return known;
}
