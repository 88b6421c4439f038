// The attention nest: softmax between two products, one block of keys at a
// time, so that scores never reach memory.
#ifndef DLC_CODEGEN_CPU_ATTENTIONNEST_H
#define DLC_CODEGEN_CPU_ATTENTIONNEST_H

#include "dlc/Codegen/CPU/AttentionSchedule.h"

namespace dlc {

/// Emits `spec` under `schedule`. Declines, in words, what has no code.
mlir::FailureOr<CpuKernel> emitAttention(const AttentionSpec &spec,
                                         const AttentionSchedule &schedule,
                                         const CpuTarget &target,
                                         const CpuCodegenOptions &options,
                                         std::string &reason);

/// Classifies `kernel`, and emits it under the default schedule with the knobs
/// of its dictionary. Declines in strict mode: sums are reordered.
mlir::FailureOr<CpuKernel> emitAttention(graph::KernelOp kernel,
                                         const CpuTarget &target,
                                         const CpuCodegenOptions &options,
                                         std::string &reason);

} // namespace dlc

#endif // DLC_CODEGEN_CPU_ATTENTIONNEST_H
