// A normal form for semi-affine expressions, in which strides can be read off
// and the digits of a reshape cancel. Pure arithmetic on AffineExpr: what plans
// kernels and what emits them read addresses the same way.
#ifndef DLC_SCHEDULE_INDEXPOLY_H
#define DLC_SCHEDULE_INDEXPOLY_H

#include "mlir/IR/AffineExpr.h"

#include <map>
#include <optional>
#include <vector>

namespace dlc {

/// Orders expressions by structure, so that the normal form does not depend on
/// where expressions lie in memory.
struct AffineExprLess {
  bool operator()(mlir::AffineExpr a, mlir::AffineExpr b) const;
};

/// A sum of integer multiples of products of atoms. An atom is a dim, a symbol,
/// or a floordiv or mod that does not simplify. Sizes (symbols) are taken to be
/// non-negative, and dims to lie in [0, extent).
class IndexPoly {
public:
  using Monomial = std::vector<mlir::AffineExpr>; // sorted atoms; empty: 1
  struct MonomialLess {
    bool operator()(const Monomial &a, const Monomial &b) const;
  };
  /// The extent of each dim, where one is known: lets `(d0 * 4 + d1) floordiv
  /// 4` with d1 < 4 become d0. A null entry is an unknown extent.
  using Extents = llvm::ArrayRef<mlir::AffineExpr>;

  IndexPoly() = default;
  explicit IndexPoly(int64_t constant);
  static IndexPoly get(mlir::AffineExpr expr, Extents extents = {});
  static IndexPoly atom(mlir::AffineExpr expr);

  IndexPoly operator+(const IndexPoly &other) const;
  IndexPoly operator-(const IndexPoly &other) const;
  IndexPoly operator*(const IndexPoly &other) const;
  IndexPoly operator*(int64_t factor) const;
  bool operator==(const IndexPoly &other) const { return terms == other.terms; }
  bool isZero() const { return terms.empty(); }

  std::optional<int64_t> constant() const;
  /// The equal expression; symbols and dims keep their positions.
  mlir::AffineExpr toExpr(mlir::MLIRContext *context) const;

  bool dependsOnDim(unsigned dim) const;
  /// c in `c * dim + rest` with neither c nor rest depending on dim; nothing
  /// when the dim stands inside a floordiv or mod or in a product with itself.
  std::optional<IndexPoly> coefficient(unsigned dim) const;
  /// The terms without `dim` (which must be linear).
  IndexPoly without(unsigned dim) const;
  /// Replaces dims; an entry that is null stays. Quotients are normalized anew.
  IndexPoly substitute(llvm::ArrayRef<mlir::AffineExpr> dims,
                       mlir::MLIRContext *context, Extents extents) const;
  /// No term can be negative.
  bool isNonNegative() const;
  /// The value is at most `bound` for all dims inside their extents (false: not
  /// known).
  bool isBelow(const IndexPoly &bound, Extents extents) const;

  std::map<Monomial, int64_t, MonomialLess> terms;

private:
  void add(const Monomial &monomial, int64_t factor);
  void mergeDigits(Extents extents);
};

} // namespace dlc

#endif // DLC_SCHEDULE_INDEXPOLY_H
