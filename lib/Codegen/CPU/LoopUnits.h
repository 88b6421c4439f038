// Which stages run in one loop. Stages over the same domain that read the same
// operands do, and a stage whose elements a fold visits once each is stored by
// that fold's loop: what is loaded is loaded once.
#ifndef DLC_LIB_CODEGEN_CPU_LOOPUNITS_H
#define DLC_LIB_CODEGEN_CPU_LOOPUNITS_H

#include "dlc/Codegen/CPU/LoopPlan.h"
#include "dlc/Schedule/RowPlan.h"

namespace dlc {

/// Stages that one loop nest computes.
struct LoopUnit {
  LoopSource source;
  LoopExpr expr;
  LoopPlan plan;
};

/// Where the stored values of a kernel lie: operands, then results, then kept
/// stages.
struct LoopBuffers {
  LoopBuffers(graph::KernelOp kernel, const RowPlan &plan);
  std::optional<unsigned> find(mlir::Value value) const;
  /// Every buffer that a stage is stored to; none: it is inlined.
  llvm::SmallVector<LoopOutput, 1> outputsOf(graph::StageOp stage) const;

  graph::KernelOp kernel;
  const RowPlan &plan;
  unsigned firstResult, firstKept;
};

/// The units of a kernel, in an order in which they can run.
std::vector<LoopUnit> formUnits(const LoopBuffers &buffers,
                                const CpuTarget &target, bool strict,
                                const LoopSchedule &schedule);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CPU_LOOPUNITS_H
