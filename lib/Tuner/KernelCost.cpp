// Learned times behind the face of CostQuery.
#include "dlc/Tuner/KernelCost.h"

#include "dlc/Tuner/KernelTask.h"
#include "dlc/Tuner/Shipped.h"

#include "llvm/ADT/STLExtras.h"

using namespace dlc;
using namespace dlc::tuner;
using llvm::Expected;

KernelCost::KernelCost(const CpuTarget &target, std::vector<CostModel> models)
    : target(target.desc(), /*threads=*/1), models(std::move(models)) {}

Expected<KernelCost> KernelCost::create(const CpuTarget &target) {
  std::vector<CostModel> models;
  for (const char *family : kFamilies) {
    auto model =
        loadShippedModel(target.desc().arch, family, CostModel::Label::Time);
    if (!model)
      return model.takeError();
    if (*model)
      models.push_back(std::move(**model));
  }
  return KernelCost(target, std::move(models));
}

std::optional<double> KernelCost::getSeconds(llvm::StringRef workload,
                                             llvm::StringRef machine) const {
  Expected<Scorer> scorer = Scorer::create(workload, machine);
  if (!scorer) {
    llvm::consumeError(scorer.takeError());
    return std::nullopt;
  }
  auto model = llvm::find_if(models, [&](const CostModel &m) {
    return m.getFamily() == scorer->family &&
           m.getLabel() == CostModel::Label::Time;
  });
  if (model == models.end())
    return std::nullopt;
  return model->getSeconds(*scorer, {});
}

double KernelCost::getSeconds(graph::KernelOp kernel,
                              llvm::ArrayRef<int64_t> symbols,
                              const TargetDesc &asked) const {
  KernelWork work = countWork(kernel, symbols);
  double least = roofline.getSeconds(work, asked);
  if (asked.arch != target.desc().arch || asked.cpu != target.desc().cpu ||
      kernel.getNumSymbols())
    return least;
  std::string reason;
  auto key = makeKernelKey(kernel, target, {}, reason);
  if (mlir::failed(key))
    return least;
  return getSeconds(key->workload, key->target).value_or(least);
}

double KernelCost::getSeconds(const KernelWork &work,
                              const TargetDesc &asked) const {
  return roofline.getSeconds(work, asked);
}
