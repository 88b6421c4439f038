// CostQuery served by the learned models of times, where there is one for a
// kernel's family of nests. Their prior is the analytic time of the kernel's
// default schedule; kernels without a model, and work that belongs to no one
// kernel, are answered by the roofline.
#ifndef DLC_TUNER_KERNELCOST_H
#define DLC_TUNER_KERNELCOST_H

#include "dlc/Schedule/CostQuery.h"
#include "dlc/Target/Common/CpuTarget.h"
#include "dlc/Tuner/Model.h"

namespace dlc::tuner {

class KernelCost final : public CostQuery {
public:
  /// With the models that dlc comes with for the target's architecture. Errors,
  /// in words, on a model that does not fit this dlc.
  static llvm::Expected<KernelCost> create(const CpuTarget &target);
  /// With these models.
  KernelCost(const CpuTarget &target, std::vector<CostModel> models);

  /// Of the target it was made for; another `target` is answered by the
  /// roofline.
  double getSeconds(graph::KernelOp kernel, llvm::ArrayRef<int64_t> symbols,
                    const TargetDesc &target) const override;
  double getSeconds(const KernelWork &work,
                    const TargetDesc &target) const override;

  /// Of a record's workload and target (canonical JSON) under its default
  /// schedule; nothing without a model for it.
  std::optional<double> getSeconds(llvm::StringRef workload,
                                   llvm::StringRef target) const;

private:
  CpuTarget target;
  std::vector<CostModel> models;
  RooflineCost roofline;
};

} // namespace dlc::tuner

#endif // DLC_TUNER_KERNELCOST_H
