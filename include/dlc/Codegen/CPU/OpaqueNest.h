// Code for kernels that hold an opaque operator: one builder of loops each.
#ifndef DLC_CODEGEN_CPU_OPAQUENEST_H
#define DLC_CODEGEN_CPU_OPAQUENEST_H

#include "dlc/Codegen/CPU/CpuKernel.h"
#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Target/Common/CpuTarget.h"

namespace dlc {

/// Emits `kernel`, whose getOpaque() is not null. Fails, with a diagnostic at
/// the operator, when it has no builder.
mlir::FailureOr<CpuKernel> emitOpaque(graph::KernelOp kernel,
                                      const CpuTarget &target,
                                      const CpuCodegenOptions &options);

} // namespace dlc

#endif // DLC_CODEGEN_CPU_OPAQUENEST_H
