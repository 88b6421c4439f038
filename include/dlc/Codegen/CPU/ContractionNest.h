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

/// Whether `kernel` multiplies bytes and puts those of an image into groups of
/// k first, wherever its channels lie: no instruction of `target` takes them
/// from there, or matrix tiles, which want panels, are faster.
bool copiesBytes(graph::KernelOp kernel, const CpuTarget &target);

/// Emits a kernel that carries a claim of Winograd's filtering
/// (dlc/Schedule/Winograd.h), which Check has admitted: its matrices are what
/// is emitted. Fails when the kernel is no such convolution or its weights are
/// no constant.
mlir::FailureOr<CpuKernel> emitWinograd(graph::KernelOp kernel,
                                        const CpuTarget &target,
                                        const CpuCodegenOptions &options,
                                        std::string &reason);

} // namespace dlc

#endif // DLC_CODEGEN_CPU_CONTRACTIONNEST_H
