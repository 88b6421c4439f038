// Sizes as code: an affine expression of symbols becomes LLVM instructions.
#ifndef DLC_LIB_PROGRAM_SIZECODE_H
#define DLC_LIB_PROGRAM_SIZECODE_H

#include "mlir/IR/AffineExpr.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/IR/IRBuilder.h"

namespace dlc {

/// Emits expressions over the values of one function's symbols. Subexpressions
/// are emitted once; all requests must come from one straight line of code.
class SizeCode {
public:
  /// `symbols` points to the values, an i64 each.
  SizeCode(llvm::IRBuilder<> &builder, llvm::Value *symbols)
      : builder(&builder), symbols(symbols) {}

  /// The value of `expr` (i64), with the meaning of graph::evaluate.
  llvm::Value *emit(mlir::AffineExpr expr);

  /// max(expr, 0) rounded up to the alignment of buffers.
  llvm::Value *emitAligned(mlir::AffineExpr bytes);

  /// The larger of two i64 values.
  llvm::Value *max(llvm::Value *x, llvm::Value *y);

private:
  llvm::Value *floorDiv(llvm::Value *x, llvm::Value *y);

  llvm::IRBuilder<> *builder;
  llvm::Value *symbols;
  llvm::DenseMap<mlir::AffineExpr, llvm::Value *> known;
};

} // namespace dlc

#endif // DLC_LIB_PROGRAM_SIZECODE_H
