// Sizes as code: an affine expression of symbols becomes LLVM instructions.
#ifndef DLC_LIB_PROGRAM_SIZECODE_H
#define DLC_LIB_PROGRAM_SIZECODE_H

#include "mlir/IR/AffineExpr.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/IR/IRBuilder.h"

#include <functional>
#include <vector>

namespace dlc {

/// Sizes that are computed once for a set of symbols and read from a table.
class SizeTable {
public:
  struct Entry {
    mlir::AffineExpr expr;
    bool aligned; ///< as SizeCode::emitAligned
    bool operator==(const Entry &) const = default;
  };
  /// The entry's number; new ones come last.
  unsigned add(mlir::AffineExpr expr, bool aligned) {
    auto [it, isNew] =
        numbers.try_emplace({expr, unsigned(aligned)}, entries.size());
    if (isNew)
      entries.push_back({expr, aligned});
    return it->second;
  }
  llvm::ArrayRef<Entry> getEntries() const { return entries; }

private:
  std::vector<Entry> entries;
  llvm::DenseMap<std::pair<mlir::AffineExpr, unsigned>, unsigned> numbers;
};

/// Emits expressions over the values of one function's symbols. Subexpressions
/// are emitted once; requests must come from one straight line of code, or see
/// to what is known in each part.
class SizeCode {
public:
  /// `symbols` points to the values, an i64 each.
  SizeCode(llvm::IRBuilder<> &builder, llvm::Value *symbols)
      : builder(&builder), symbols(symbols) {}
  /// Reads the expressions for which `isFixed` holds from `values`, where
  /// `table`'s entries lie; they are added to it. A value is read where it is
  /// used: kept ones would live through the whole function.
  SizeCode(llvm::IRBuilder<> &builder, llvm::Value *symbols, SizeTable &table,
           llvm::Value *values, std::function<bool(mlir::AffineExpr)> isFixed)
      : builder(&builder), symbols(symbols), table(&table), values(values),
        isFixed(std::move(isFixed)) {}

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
  llvm::Value *read(llvm::Value *numbers, unsigned index);

  llvm::IRBuilder<> *builder;
  llvm::Value *symbols;
  SizeTable *table = nullptr; ///< null: all is computed here
  llvm::Value *values = nullptr;
  std::function<bool(mlir::AffineExpr)> isFixed;
  Known known;
};

} // namespace dlc

#endif // DLC_LIB_PROGRAM_SIZECODE_H
