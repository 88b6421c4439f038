// The graph dialect: operators, kernels, and the helpers for symbolic sizes.
#ifndef DLC_DIALECT_GRAPH_IR_GRAPH_H
#define DLC_DIALECT_GRAPH_IR_GRAPH_H

#include "mlir/IR/AffineExpr.h"
#include "mlir/IR/AffineMap.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace dlc::graph {
class KernelBuilder;
class ExprBuilder;
class StageOp;
} // namespace dlc::graph

#include "dlc/Dialect/Graph/IR/GraphDialect.h.inc"
#include "dlc/Dialect/Graph/IR/GraphEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "dlc/Dialect/Graph/IR/GraphAttrs.h.inc"
#include "dlc/Dialect/Graph/IR/GraphInterfaces.h.inc"
#define GET_OP_CLASSES
#include "dlc/Dialect/Graph/IR/GraphOps.h.inc"

namespace dlc::graph {

/// The sizes of a tensor's dims: constants, or semi-affine expressions of dim
/// symbols from the `#graph.dims` encoding. A dynamic dim without encoding is
/// not a graph type and asserts.
llvm::SmallVector<mlir::AffineExpr> getDims(mlir::Type tensor);

/// The tensor type with these sizes: `?` and an encoding where one is symbolic.
mlir::RankedTensorType makeTensorType(llvm::ArrayRef<mlir::AffineExpr> dims,
                                      mlir::Type elementType);

/// Constant expressions for static sizes.
llvm::SmallVector<mlir::AffineExpr> constantDims(mlir::MLIRContext *context,
                                                 llvm::ArrayRef<int64_t> sizes);

/// Folds constants and cancels equal terms, so that equal sizes compare equal.
mlir::AffineExpr simplify(mlir::AffineExpr expr);

/// The product of sizes (1 for none).
mlir::AffineExpr product(mlir::MLIRContext *context,
                         llvm::ArrayRef<mlir::AffineExpr> dims);

/// The constant value of an expression, if it has one.
std::optional<int64_t> constantValue(mlir::AffineExpr expr);

/// Evaluates with values for symbols and dims.
int64_t evaluate(mlir::AffineExpr expr, llvm::ArrayRef<int64_t> symbols,
                 llvm::ArrayRef<int64_t> dims = {});

/// Numpy broadcasting of shapes. Unequal symbolic sizes are assumed equal only
/// if one is the constant 1; otherwise this fails.
llvm::FailureOr<llvm::SmallVector<mlir::AffineExpr>>
broadcastDims(llvm::ArrayRef<mlir::AffineExpr> a,
              llvm::ArrayRef<mlir::AffineExpr> b);

/// What is fixed about a scalar function whatever its operand types are.
struct ScalarFnInfo {
  unsigned arity;
  enum Result { SameAsFirst, SameAsSecond, Bool } result;
};
ScalarFnInfo getScalarFnInfo(ScalarFn fn);

/// The bytes of one element in memory (i1: 1; sub-byte types are not stored
/// packed).
int64_t elementBytes(mlir::Type elementType);

/// True for `ui*` types.
bool isUnsigned(mlir::Type type);

/// The tensor whose memory `value` is: looks through reshape, prefix and
/// bitcast.
mlir::Value getViewed(mlir::Value value);

/// Runs `op`'s buildKernel into a new `graph.kernel` named `name` at the end of
/// `module`; symbols are renumbered s0.. in order of first use, and `symbolMap`
/// receives what each one is in the function's numbering.
llvm::FailureOr<KernelOp>
buildKernelFor(GraphOp op, mlir::ModuleOp module, llvm::StringRef name,
               llvm::SmallVectorImpl<mlir::AffineExpr> &symbolMap);

namespace detail {
llvm::LogicalResult inferBroadcast(std::optional<mlir::Location> loc,
                                   mlir::ValueRange operands,
                                   mlir::Type element,
                                   llvm::SmallVectorImpl<mlir::Type> &results);
using ScalarBody = llvm::function_ref<mlir::Value(
    ExprBuilder &, mlir::ValueRange, mlir::Type)>;
llvm::LogicalResult buildElementwiseKernel(mlir::Operation *op,
                                           KernelBuilder &kernel,
                                           ScalarBody body);
} // namespace detail

} // namespace dlc::graph

#endif // DLC_DIALECT_GRAPH_IR_GRAPH_H
