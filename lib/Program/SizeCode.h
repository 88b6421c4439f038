// Sizes as code: an affine expression of symbols becomes LLVM instructions.
#ifndef DLC_LIB_PROGRAM_SIZECODE_H
#define DLC_LIB_PROGRAM_SIZECODE_H

#include "mlir/IR/AffineExpr.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/IR/IRBuilder.h"

namespace dlc {

/// Emits expressions over the values of one function's symbols. Subexpressions
/// are emitted once; requests must come from one straight line of code, or see
/// to what is known in each part.
class SizeCode {
public:
  /// `symbols` points to the values, an i64 each.
  SizeCode(llvm::IRBuilder<> &builder, llvm::Value *symbols)
      : builder(&builder), symbols(symbols) {}

  /// What is known at a place; a branch begins with what was known before it.
  using Known = llvm::DenseMap<mlir::AffineExpr, llvm::Value *>;
  const Known &getKnown() const { return known; }
  void setKnown(Known values) { known = std::move(values); }
  /// Symbols have changed: forgets the values for which `isOld` holds.
  void forget(llvm::function_ref<bool(mlir::AffineExpr)> isOld) {
    Known kept;
    for (auto &[expr, value] : known)
      if (!isOld(expr))
        kept[expr] = value;
    known = std::move(kept);
  }

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
  Known known;
};

} // namespace dlc

#endif // DLC_LIB_PROGRAM_SIZECODE_H
