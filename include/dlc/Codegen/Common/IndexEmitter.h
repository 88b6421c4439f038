// Index arithmetic of kernels: a normal form for semi-affine expressions in
// which strides can be read off and reshapes cancel, and its emission as index
// SSA.
#ifndef DLC_CODEGEN_COMMON_INDEXEMITTER_H
#define DLC_CODEGEN_COMMON_INDEXEMITTER_H

#include "mlir/IR/AffineExpr.h"
#include "mlir/IR/Builders.h"

#include <map>
#include <optional>

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

/// Emits polynomials and expressions as values of type index.
class IndexEmitter {
public:
  IndexEmitter(mlir::OpBuilder &builder, mlir::Location loc,
               llvm::ArrayRef<mlir::Value> symbols)
      : b(builder), loc(loc), symbols(symbols) {}

  /// `dims[i]` is the value of dim i. Terms are summed in the order of their
  /// last dim in `order` (position = nesting depth), so that what does not
  /// change in an inner loop is computed outside.
  mlir::Value emit(const IndexPoly &poly, llvm::ArrayRef<mlir::Value> dims,
                   llvm::ArrayRef<unsigned> order = {});
  mlir::Value emit(mlir::AffineExpr expr,
                   llvm::ArrayRef<mlir::Value> dims = {});

  mlir::Value constant(int64_t value);
  mlir::Value add(mlir::Value x, mlir::Value y);
  mlir::Value sub(mlir::Value x, mlir::Value y);
  mlir::Value mul(mlir::Value x, mlir::Value y);
  mlir::Value min(mlir::Value x, mlir::Value y);
  mlir::Value max(mlir::Value x, mlir::Value y);
  /// Division of a non-negative by a positive value.
  mlir::Value divUnsigned(mlir::Value x, mlir::Value y);
  mlir::Value remUnsigned(mlir::Value x, mlir::Value y);
  mlir::Value ceilDivUnsigned(mlir::Value x, mlir::Value y);
  /// Rounds towards minus infinity; y is positive.
  mlir::Value floorDiv(mlir::Value x, mlir::Value y);

private:
  mlir::OpBuilder &b;
  mlir::Location loc;
  llvm::ArrayRef<mlir::Value> symbols;
};

/// The value of a constant index, if it is one.
std::optional<int64_t> constantIndex(mlir::Value value);

} // namespace dlc

#endif // DLC_CODEGEN_COMMON_INDEXEMITTER_H
