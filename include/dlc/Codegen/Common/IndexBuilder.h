// Index arithmetic in generated code. Constants fold while they are emitted, so
// one code path serves static and symbolic sizes, and a loop over a static
// extent looks as if it had been written for it.
#ifndef DLC_CODEGEN_COMMON_INDEXBUILDER_H
#define DLC_CODEGEN_COMMON_INDEXBUILDER_H

#include "mlir/IR/AffineExpr.h"
#include "mlir/IR/Builders.h"

#include "llvm/ADT/STLFunctionalExtras.h"

#include <optional>

namespace dlc {

/// Emits `index` arithmetic at the builder's insertion point.
class IndexBuilder {
public:
  IndexBuilder(mlir::OpBuilder &builder, mlir::Location loc)
      : b(builder), l(loc) {}

  mlir::Value constant(int64_t value);
  mlir::Value add(mlir::Value x, mlir::Value y);
  mlir::Value add(mlir::Value x, int64_t y);
  mlir::Value sub(mlir::Value x, mlir::Value y);
  mlir::Value mul(mlir::Value x, mlir::Value y);
  mlir::Value mul(mlir::Value x, int64_t y);
  /// Quotient and remainder of values that are not negative.
  mlir::Value div(mlir::Value x, mlir::Value y);
  mlir::Value rem(mlir::Value x, mlir::Value y);
  mlir::Value ceilDiv(mlir::Value x, mlir::Value y);
  /// Rounds towards minus infinity; y is positive.
  mlir::Value floorDiv(mlir::Value x, mlir::Value y);
  mlir::Value min(mlir::Value x, mlir::Value y);
  mlir::Value max(mlir::Value x, mlir::Value y);
  /// x < y and x >= y, signed; i1.
  mlir::Value less(mlir::Value x, mlir::Value y);
  mlir::Value atLeast(mlir::Value x, mlir::Value y);

  /// A semi-affine expression of dims and symbols, rounding towards -infinity.
  mlir::Value expr(mlir::AffineExpr expr, mlir::ValueRange dims,
                   mlir::ValueRange symbols);

  /// Splits `linear` into coordinates of the given extents, row-major; the
  /// first coordinate is not reduced.
  llvm::SmallVector<mlir::Value>
  delinearize(mlir::Value linear, llvm::ArrayRef<mlir::Value> extents);

  /// A loop over [from, to) by `by`; `body` is emitted inside. No loop when at
  /// most one step is known to run.
  void forEach(mlir::Value from, mlir::Value to, int64_t by,
               llvm::function_ref<void(mlir::Value)> body);

  /// The compile-time value of `value`, if it has one.
  static std::optional<int64_t> constantOf(mlir::Value value);

  mlir::OpBuilder &builder() { return b; }
  mlir::Location loc() const { return l; }

private:
  mlir::OpBuilder &b;
  mlir::Location l;
};

} // namespace dlc

#endif // DLC_CODEGEN_COMMON_INDEXBUILDER_H
