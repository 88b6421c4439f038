// What a record holds of a kernel, by its nest.
#ifndef DLC_LIB_TUNER_KERNELFACTS_H
#define DLC_LIB_TUNER_KERNELFACTS_H

#include "dlc/Codegen/CPU/CpuKernel.h"
#include "dlc/Schedule/AttentionSpec.h"
#include "dlc/Schedule/ContractionSpec.h"
#include "dlc/Target/Common/CpuTarget.h"
#include "dlc/Tuner/KernelTask.h"

namespace dlc::tuner {

/// The kernel's text without names: what it computes.
std::string canonicalText(graph::KernelOp kernel);
/// Why `kernel` cannot be tuned; empty: it can.
std::string whyNotTuned(graph::KernelOp kernel, const KernelSizes &sizes = {});
/// `workload` of a kernel of symbolic sizes says so, at which it is measured,
/// and of a variant the range that its default schedule is for.
std::string withSizes(const std::string &workload, graph::KernelOp kernel,
                      const KernelSizes &sizes);

/// Sizes are those at `symbols`.
TargetFacts factsOf(const TargetDesc &desc);
ContractionFacts factsOf(const ContractionSpec &spec, const CpuTarget &target,
                         const CpuCodegenOptions &options,
                         llvm::ArrayRef<int64_t> symbols);
AttentionFacts factsOf(const AttentionSpec &spec, const CpuTarget &target,
                       const CpuCodegenOptions &options,
                       llvm::ArrayRef<int64_t> symbols);
LoopFacts loopFactsOf(graph::KernelOp kernel, const CpuTarget &target,
                      const CpuCodegenOptions &options,
                      llvm::ArrayRef<int64_t> symbols);

} // namespace dlc::tuner

#endif // DLC_LIB_TUNER_KERNELFACTS_H
