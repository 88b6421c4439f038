// The one entry to CPU code for a kernel: tries the contraction nest, then the
// loop nests.
#ifndef DLC_CODEGEN_CPU_NESTS_H
#define DLC_CODEGEN_CPU_NESTS_H

#include "dlc/Codegen/CPU/CpuKernel.h"
#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Target/Common/CpuTarget.h"

namespace dlc {

/// Emits `kernel` with the nest that its schedule names, else with the best one
/// that takes it. Every kernel has one; failure is an internal error, with a
/// diagnostic at the kernel.
mlir::FailureOr<CpuKernel> emitCpuKernel(graph::KernelOp kernel,
                                         const CpuTarget &target,
                                         const CpuCodegenOptions &options);

} // namespace dlc

#endif // DLC_CODEGEN_CPU_NESTS_H
