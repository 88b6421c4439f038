// Sizes that the data tell, bounded by sizes that the inputs' shapes tell: what
// the arena must have room for before the run has begun.
#ifndef DLC_LIB_PROGRAM_DATABOUNDS_H
#define DLC_LIB_PROGRAM_DATABOUNDS_H

#include "dlc/Dialect/Program/IR/Program.h"
#include "mlir/IR/AffineExpr.h"
#include "mlir/IR/Types.h"
#include "llvm/ADT/MapVector.h"

namespace dlc {

class DataBounds {
public:
  /// `symbol` is the data's, in [0, largest].
  void add(unsigned symbol, mlir::AffineExpr largest) {
    mlir::AffineExpr bound = getLargest(largest);
    bounds[symbol] = bound;
  }
  /// Adds what the steps of a model bind.
  void addAll(program::ModelOp model);
  bool dependsOnData(mlir::AffineExpr expr) const;
  /// A dim of the tensor type depends on the data.
  bool dependsOnData(mlir::Type tensor) const;
  /// No smaller than `expr` for any data, and free of the data's symbols. Where
  /// `expr` is a size its factors are taken to be non-negative.
  mlir::AffineExpr getLargest(mlir::AffineExpr expr) const {
    return getRange(expr).second;
  }

private:
  std::pair<mlir::AffineExpr, mlir::AffineExpr>
  getRange(mlir::AffineExpr expr) const;

  llvm::MapVector<unsigned, mlir::AffineExpr> bounds;
};

} // namespace dlc

#endif // DLC_LIB_PROGRAM_DATABOUNDS_H
