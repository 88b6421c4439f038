// The contraction nest: matrix products of all kinds, and convolution as an
// implicit one, near the machine's peak.
#ifndef DLC_CODEGEN_CPU_CONTRACTIONNEST_H
#define DLC_CODEGEN_CPU_CONTRACTIONNEST_H

#include "dlc/Codegen/CPU/ContractionSchedule.h"

namespace dlc {

/// Emits `kernel` with the default schedule. On failure `reason` says why the
/// nest declines the kernel; the generic nest takes it then.
mlir::FailureOr<CpuKernel> emitContraction(graph::KernelOp kernel,
                                           const CpuTarget &target,
                                           const CpuCodegenOptions &options,
                                           std::string &reason);

/// Emits a classified kernel with a given schedule.
mlir::FailureOr<CpuKernel> emitContraction(const ContractionSpec &spec,
                                           const ContractionSchedule &schedule,
                                           const CpuTarget &target,
                                           const CpuCodegenOptions &options,
                                           std::string &reason);

} // namespace dlc

#endif // DLC_CODEGEN_CPU_CONTRACTIONNEST_H
