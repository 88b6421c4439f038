// What an element of a tensor may be, as far as literals and positions tell.
#ifndef DLC_LIB_DIALECT_GRAPH_TRANSFORMS_POSSIBLEVALUES_H
#define DLC_LIB_DIALECT_GRAPH_TRANSFORMS_POSSIBLEVALUES_H

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Dialect/Graph/IR/SizeBounds.h"

namespace dlc::graph {

/// The one number that all elements of a constant are.
mlir::TypedAttr getUniform(mlir::Value value);

/// What `fn` gives for these numbers, bit for bit as the interpreter has it;
/// null: not told here, or a NaN.
mlir::TypedAttr evaluate(ScalarFn fn, llvm::ArrayRef<mlir::TypedAttr> args,
                         mlir::Type type);

/// Abstract evaluation of operators at a place: every number that an element
/// may be (a few), or, for integers, an expression of the coordinates.
class PossibleValues {
public:
  /// The bounds of the function's dim symbols.
  explicit PossibleValues(llvm::SmallVector<SizeBounds> symbols)
      : symbols(std::move(symbols)) {}

  struct Values {
    llvm::SmallVector<mlir::TypedAttr, 2> numbers; ///< all there are
    mlir::AffineExpr position;                     ///< else, of dims d0, d1, ..
  };
  /// Coordinates of an element, as expressions of dims with bounds of their
  /// own: `extents`, each at least 1.
  struct Place {
    llvm::SmallVector<mlir::AffineExpr> at, extents;
  };

  /// Any element: d0, d1, ...
  static Place anywhere(mlir::Value value);
  /// What the element of `value` at `place` may be.
  std::optional<Values> get(mlir::Value value, const Place &place);
  SizeBounds boundsOf(mlir::AffineExpr expr,
                      llvm::ArrayRef<mlir::AffineExpr> extents) const;

private:
  std::optional<Values>
  visit(mlir::Value value, llvm::ArrayRef<mlir::AffineExpr> at, unsigned depth);
  std::optional<Values> apply(ScalarFn fn, mlir::Operation *op,
                              llvm::ArrayRef<mlir::AffineExpr> at,
                              unsigned depth);
  std::optional<Values> convert(mlir::Operation *op,
                                llvm::ArrayRef<mlir::AffineExpr> at,
                                unsigned depth);

  llvm::SmallVector<SizeBounds> symbols;
  llvm::ArrayRef<mlir::AffineExpr> extents; ///< of the query's place
  unsigned budget = 0;
};

} // namespace dlc::graph

#endif // DLC_LIB_DIALECT_GRAPH_TRANSFORMS_POSSIBLEVALUES_H
