// Arithmetic on index maps with symbolic sizes: the normal form that composed
// maps are kept in. An expression is a polynomial over atoms (coordinates,
// sizes, and what a division left); divisions by monomials are carried out
// where the coordinates' ranges decide them:
//
//   (d0 * (64 * s0) + d1 * 64 + d2) floordiv (64 * s0)  with d1 < s0, d2 < 64
//     = d0
#ifndef DLC_FUSION_INDEXMATH_H
#define DLC_FUSION_INDEXMATH_H

#include "mlir/IR/AffineExpr.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"

#include <map>
#include <optional>

namespace dlc::fusion {

/// Structural order of expressions: the same from run to run.
struct ExprLess {
  bool operator()(mlir::AffineExpr a, mlir::AffineExpr b) const;
  bool operator()(const llvm::SmallVector<mlir::AffineExpr, 2> &a,
                  const llvm::SmallVector<mlir::AffineExpr, 2> &b) const;
};

class Poly {
public:
  using Monomial = llvm::SmallVector<mlir::AffineExpr, 2>; // sorted atoms
  std::map<Monomial, int64_t, ExprLess> terms;

  Poly() = default;
  explicit Poly(int64_t constant);
  static Poly atom(mlir::AffineExpr expr);

  Poly operator+(const Poly &other) const;
  Poly operator-(const Poly &other) const;
  Poly operator*(const Poly &other) const;
  bool operator==(const Poly &other) const;
  void addTerm(const Monomial &monomial, int64_t factor);

  std::optional<int64_t> constant() const;
  /// Never below 0, sizes being at least 0.
  bool isNonNegative() const;
  /// The quotient, if `divisor` (one monomial) divides every term.
  std::optional<Poly> exactQuotient(const Poly &divisor) const;
  mlir::AffineExpr toExpr(mlir::MLIRContext *context) const;
};

/// Simplification in a box: dim i lies in [0, extents[i]). Dims past the box
/// have no known range.
class IndexMath {
public:
  IndexMath(mlir::MLIRContext *context,
            llvm::ArrayRef<mlir::AffineExpr> extents)
      : context(context), extents(extents.begin(), extents.end()) {}

  mlir::AffineExpr simplify(mlir::AffineExpr expr) const;
  Poly toPoly(mlir::AffineExpr expr) const;

  /// Row-major address of `index` in a tensor with sizes `dims`.
  Poly flatten(llvm::ArrayRef<mlir::AffineExpr> index,
               llvm::ArrayRef<mlir::AffineExpr> dims) const;

  /// The step of `poly` along a dim; none where it is not linear in it.
  static std::optional<Poly> coefficient(const Poly &poly, unsigned dim);

  /// Where the element `index` of a tensor of sizes `to` lies in the tensor of
  /// sizes `from` of which it is a reshape. Runs of dims with equal products
  /// are treated apart, so that maps stay as linear as they can.
  llvm::SmallVector<mlir::AffineExpr>
  throughReshape(llvm::ArrayRef<mlir::AffineExpr> index,
                 llvm::ArrayRef<mlir::AffineExpr> to,
                 llvm::ArrayRef<mlir::AffineExpr> from) const;

private:
  Poly divide(const Poly &number, const Poly &divisor, bool wantsRest) const;
  /// The largest value; none when it is not known or the least is below 0.
  std::optional<Poly> upperBound(const Poly &poly) const;
  std::optional<Poly> upperBoundOfAtom(mlir::AffineExpr atom) const;
  void joinDigits(Poly &poly) const;

  mlir::MLIRContext *context;
  llvm::SmallVector<mlir::AffineExpr> extents;
};

} // namespace dlc::fusion

#endif // DLC_FUSION_INDEXMATH_H
