// Emission of index polynomials as values of type index. The folding arithmetic
// is IndexBuilder's; what is added here is the order of a polynomial's terms.
#ifndef DLC_CODEGEN_COMMON_INDEXEMITTER_H
#define DLC_CODEGEN_COMMON_INDEXEMITTER_H

#include "dlc/Codegen/Common/IndexBuilder.h"
#include "dlc/Schedule/IndexPoly.h"

namespace dlc {

/// Emits polynomials and expressions as values of type index.
class IndexEmitter {
public:
  IndexEmitter(mlir::OpBuilder &builder, mlir::Location loc,
               llvm::ArrayRef<mlir::Value> symbols)
      : index(builder, loc), symbols(symbols) {}

  /// `dims[i]` is the value of dim i. Terms are summed in the order of their
  /// last dim in `order` (position = nesting depth), so that what does not
  /// change in an inner loop is computed outside.
  mlir::Value emit(const IndexPoly &poly, llvm::ArrayRef<mlir::Value> dims,
                   llvm::ArrayRef<unsigned> order = {});
  mlir::Value emit(mlir::AffineExpr expr,
                   llvm::ArrayRef<mlir::Value> dims = {});

  mlir::Value constant(int64_t value) { return index.constant(value); }
  mlir::Value add(mlir::Value x, mlir::Value y) { return index.add(x, y); }
  mlir::Value sub(mlir::Value x, mlir::Value y) { return index.sub(x, y); }
  mlir::Value mul(mlir::Value x, mlir::Value y) { return index.mul(x, y); }
  mlir::Value min(mlir::Value x, mlir::Value y) { return index.min(x, y); }
  mlir::Value max(mlir::Value x, mlir::Value y) { return index.max(x, y); }
  /// Division of a non-negative by a positive value.
  mlir::Value divUnsigned(mlir::Value x, mlir::Value y) {
    return index.div(x, y);
  }
  mlir::Value remUnsigned(mlir::Value x, mlir::Value y) {
    return index.rem(x, y);
  }
  mlir::Value ceilDivUnsigned(mlir::Value x, mlir::Value y) {
    return index.ceilDiv(x, y);
  }
  /// Rounds towards minus infinity; y is positive.
  mlir::Value floorDiv(mlir::Value x, mlir::Value y) {
    return index.floorDiv(x, y);
  }

private:
  IndexBuilder index;
  llvm::ArrayRef<mlir::Value> symbols;
};

} // namespace dlc

#endif // DLC_CODEGEN_COMMON_INDEXEMITTER_H
