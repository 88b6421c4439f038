// Loop nests over any kernel: "map" (lanes along the result's last axis), "row"
// (lanes along a fold) and "generic" (one point at a time: the plainest code).
#ifndef DLC_CODEGEN_CPU_LOOPNEST_H
#define DLC_CODEGEN_CPU_LOOPNEST_H

#include "dlc/Codegen/CPU/CpuKernel.h"
#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Target/Common/CpuTarget.h"

namespace dlc {

/// What a schedule may say; zero means the default.
struct LoopSchedule {
  std::string nest;    ///< "map", "row", "generic"; empty: chosen
  unsigned width = 0;  ///< lanes of a vector
  unsigned groups = 0; ///< vectors computed at a time
  /// Points of a register tile along another axis than the lanes'; 1: none.
  unsigned across = 0;
  int64_t grain = 0; ///< scalar operations a task should have
  /// A sum and the sum of squares about its mean are one pass: the schedule
  /// has the law hom(welford), which Check has admitted. Not in strict mode.
  bool mergesMoments = false;

  /// Reads a kernel's `schedule` dictionary; keys it does not know are others'.
  static LoopSchedule get(graph::KernelOp kernel);
};

/// The name of the nest that emitLoopNest would take: "row" for kernels that
/// fold, else "map".
llvm::StringRef chooseNest(graph::KernelOp kernel);

/// Emits any kernel. Results are computed by one phase each, unless the kernel
/// has intermediate stages that it keeps a row at a time.
mlir::FailureOr<CpuKernel> emitLoopNest(graph::KernelOp kernel,
                                        const CpuTarget &target,
                                        const CpuCodegenOptions &options,
                                        const LoopSchedule &schedule = {});

} // namespace dlc

#endif // DLC_CODEGEN_CPU_LOOPNEST_H
