// Evaluation of the operators that no stage can express.
#ifndef DLC_LIB_INTERPRETER_OPAQUE_H
#define DLC_LIB_INTERPRETER_OPAQUE_H

#include "dlc/Interpreter/MathMode.h"
#include "dlc/Interpreter/Tensor.h"

namespace dlc::interp {

/// The result of an opaque operator; `shape` is its result's. Fails, with a
/// diagnostic at the operator, on invalid data.
llvm::FailureOr<Tensor> evaluateOpaque(graph::GraphOp op,
                                       llvm::ArrayRef<Tensor> operands,
                                       llvm::ArrayRef<int64_t> shape,
                                       const MathTable &math);

/// The first k row numbers of x (b, n, m) in order; `result` is i64 (b, k).
void argsort(const Tensor &x, bool descending, Tensor &result);

/// Selected boxes; `result` is i64 (b, c, k). Operands as graph.nms.
void selectBoxes(llvm::ArrayRef<Tensor> operands, bool center, Tensor &result);

} // namespace dlc::interp

#endif // DLC_LIB_INTERPRETER_OPAQUE_H
