//===- FunctionBody.h - operators by their ONNX definition ------*- C++ -*-===//
//
// A quarter of ONNX's operators are defined by a graph of others. This builds
// that graph for one operation, with its attributes and operand types.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_FRONTEND_ONNX_FUNCTIONBODY_H
#define LIB_FRONTEND_ONNX_FUNCTIONBODY_H

#include "mlir/IR/Operation.h"

namespace dlc {

/// Appends onnx operations that compute `op` to `block` (they read `op`'s own
/// operands) and gives the value of each result, null for an omitted one.
/// `operandTypes` are graph types, null for omitted operands. False when the
/// operator has no function body for these operands.
bool buildFunctionBody(mlir::Operation *op,
                       llvm::ArrayRef<mlir::Type> operandTypes,
                       mlir::Block *block,
                       llvm::SmallVectorImpl<mlir::Value> &outputs);

} // namespace dlc

#endif // LIB_FRONTEND_ONNX_FUNCTIONBODY_H
