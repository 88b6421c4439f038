// An index expression with the sizes filled in. Linear expressions are
// evaluated by a dot product, expressions that are linear along the innermost
// axis once a run, all others lane by lane.
#ifndef DLC_LIB_INTERPRETER_INDEXEXPR_H
#define DLC_LIB_INTERPRETER_INDEXEXPR_H

#include "mlir/IR/AffineExpr.h"
#include "llvm/ADT/SmallVector.h"

#include <functional>
#include <optional>

namespace dlc::interp {

class IndexExpr {
public:
  IndexExpr() = default;
  /// `expr` has constants in place of symbols; its dims are the iteration axes
  /// (numAxes of them), then data coordinates.
  IndexExpr(mlir::AffineExpr expr, unsigned numAxes);

  /// The change along `axis`, if it is the same everywhere. None for
  /// expressions with data coordinates.
  std::optional<int64_t> getStep(int axis) const;
  /// The value at a point, for expressions without data coordinates.
  int64_t at(llvm::ArrayRef<int64_t> coords) const;
  /// The smallest and largest value over the box [0, extents); none when not
  /// linear or when data coordinates occur. The box must not be empty.
  std::optional<std::pair<int64_t, int64_t>>
  getRange(llvm::ArrayRef<int64_t> extents) const;

  /// out[i] = value in lane i; `dim(d)` gives the lanes of axis or data
  /// coordinate d.
  void lanes(llvm::function_ref<const int64_t *(unsigned)> dim, int64_t count,
             int64_t *out) const;

  mlir::AffineExpr getExpr() const { return expr; }
  bool hasDataCoord() const { return usesData; }

private:
  mlir::AffineExpr expr;
  bool usesData = false;
  bool linear = false;
  llvm::SmallVector<int64_t, 8> coefficients;
  int64_t constant = 0;
};

} // namespace dlc::interp

#endif // DLC_LIB_INTERPRETER_INDEXEXPR_H
