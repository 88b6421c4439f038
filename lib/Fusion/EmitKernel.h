// A body as a kernel: what a group becomes, and what a nest is asked about.
#ifndef DLC_LIB_FUSION_EMITKERNEL_H
#define DLC_LIB_FUSION_EMITKERNEL_H

#include "dlc/Fusion/Body.h"

#include "mlir/IR/Builders.h"

namespace dlc::fusion {

/// A kernel of the body's stages with these operands and results, over the
/// function's symbols. It is put where the builder stands; a builder that
/// stands nowhere makes one that is in no module.
graph::KernelOp emitKernel(mlir::OpBuilder &builder, mlir::Location loc,
                           const Body &body, llvm::ArrayRef<TensorId> operands,
                           llvm::ArrayRef<TensorId> outputs,
                           const TensorTable &tensors);

} // namespace dlc::fusion

#endif // DLC_LIB_FUSION_EMITKERNEL_H
