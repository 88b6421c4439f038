// Builds `graph.kernel`s: what an operator's row uses to declare its meaning.
//
// A row adds stages; in a stage's body an ExprBuilder makes loads and scalar
// functions. Coordinates are AffineExprs: `b.d(i)` is domain axis i, `b.r(j)`
// reduce axis j, and dim symbols may appear anywhere.
#ifndef DLC_DIALECT_GRAPH_IR_KERNELBUILDER_H
#define DLC_DIALECT_GRAPH_IR_KERNELBUILDER_H

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "mlir/IR/Builders.h"

namespace dlc::graph {

class ExprBuilder {
public:
  ExprBuilder(mlir::OpBuilder &builder, mlir::Location loc, StageOp stage);

  /// Domain coordinate i and reduce coordinate j, as expressions.
  mlir::AffineExpr d(unsigned i) const;
  mlir::AffineExpr r(unsigned j) const;
  mlir::AffineExpr c(int64_t value) const;
  /// A further coordinate from data: an i64 scalar, bounds-checked against [0,
  /// size).
  mlir::AffineExpr dataCoord(mlir::Value i64Scalar, mlir::AffineExpr size);

  /// tensor[index]
  mlir::Value load(mlir::Value tensor, llvm::ArrayRef<mlir::AffineExpr> index);
  /// tensor[index] where every `nonNegative` >= 0 and every `zero` == 0, else
  /// `other`.
  mlir::Value loadGuarded(mlir::Value tensor,
                          llvm::ArrayRef<mlir::AffineExpr> index,
                          llvm::ArrayRef<mlir::AffineExpr> nonNegative,
                          mlir::Value other,
                          llvm::ArrayRef<mlir::AffineExpr> zero = {});

  mlir::Value apply(ScalarFn fn, mlir::ValueRange args);
  mlir::Value apply(ScalarFn fn, std::initializer_list<mlir::Value> args);
  mlir::Value add(mlir::Value x, mlir::Value y) {
    return apply(ScalarFn::add, {x, y});
  }
  mlir::Value sub(mlir::Value x, mlir::Value y) {
    return apply(ScalarFn::sub, {x, y});
  }
  mlir::Value mul(mlir::Value x, mlir::Value y) {
    return apply(ScalarFn::mul, {x, y});
  }
  mlir::Value div(mlir::Value x, mlir::Value y) {
    return apply(ScalarFn::div, {x, y});
  }
  mlir::Value max(mlir::Value x, mlir::Value y) {
    return apply(ScalarFn::max, {x, y});
  }
  mlir::Value min(mlir::Value x, mlir::Value y) {
    return apply(ScalarFn::min, {x, y});
  }
  mlir::Value neg(mlir::Value x) { return apply(ScalarFn::neg, {x}); }
  mlir::Value bitAnd(mlir::Value x, mlir::Value y) {
    return apply(ScalarFn::bit_and, {x, y});
  }
  mlir::Value select(mlir::Value c, mlir::Value x, mlir::Value y) {
    return apply(ScalarFn::select, {c, x, y});
  }
  /// No-op when the type is already `type`.
  mlir::Value cast(mlir::Value x, mlir::Type type, bool saturate = false);
  /// A number in any element type (rounded; integers truncated).
  mlir::Value lit(double value, mlir::Type type);
  /// A coordinate or size as an i64 scalar.
  mlir::Value coord(mlir::AffineExpr expr);
  mlir::Type i32() { return builder.getI32Type(); }
  mlir::Type f32() { return builder.getF32Type(); }

private:
  mlir::OpBuilder &builder;
  mlir::Location loc;
  unsigned domainRank;
  unsigned reduceRank;
  llvm::SmallVector<mlir::Value>
      coords; // block arguments, then data coordinates
};

class KernelBuilder {
public:
  using Body = llvm::function_ref<mlir::Value(ExprBuilder &)>;

  /// Creates the kernel at the end of `module`, with these operand and result
  /// types.
  KernelBuilder(mlir::ModuleOp module, mlir::Location loc, llvm::StringRef name,
                mlir::TypeRange operands, mlir::TypeRange results);

  mlir::Value operand(unsigned i) { return kernel.getBody().getArgument(i); }
  mlir::Type resultType(unsigned i) { return kernel.getResultTypes()[i]; }
  mlir::MLIRContext *getContext() { return kernel.getContext(); }

  /// A stage over the dims of `type` without a fold.
  mlir::Value map(mlir::Type type, Body body);
  /// A stage over the dims of `type`, folding over `reduce`; `init` null = the
  /// fold's identity.
  mlir::Value fold(mlir::Type type, llvm::ArrayRef<mlir::AffineExpr> reduce,
                   FoldKind kind, Body body, mlir::TypedAttr init = {});
  /// Ends the kernel with its results.
  void finish(mlir::ValueRange results);
  /// Ends a kernel whose body is `op` itself, an opaque operator.
  llvm::LogicalResult finishOpaque(mlir::Operation *op);

  KernelOp getKernel() { return kernel; }

private:
  mlir::OpBuilder builder;
  mlir::Location loc;
  KernelOp kernel;
};

/// Renumbers the symbols of types and attributes in order of first use: from a
/// function's symbols to a kernel's own.
class SymbolRenumbering {
public:
  explicit SymbolRenumbering(mlir::MLIRContext *context) : context(context) {}

  /// By new symbol: what it is in the old numbering.
  llvm::SmallVector<mlir::AffineExpr> actual;

  mlir::AffineExpr rewrite(mlir::AffineExpr e);
  mlir::AffineMap rewrite(mlir::AffineMap map);
  mlir::Attribute rewrite(mlir::Attribute attr);
  mlir::Type rewrite(mlir::Type type);
  /// Attributes and result types, not those of nested operations.
  void rewrite(mlir::Operation *op);
  /// The kernel's type and all its operations.
  void rewrite(KernelOp kernel);
  /// Sets the kernel's `symbols` to s0, s1, ...: as many as there are.
  void nameSymbols(KernelOp kernel) const;

private:
  mlir::MLIRContext *context;
  llvm::DenseMap<unsigned, unsigned> renumbered; // old position -> new
};

} // namespace dlc::graph

#endif // DLC_DIALECT_GRAPH_IR_KERNELBUILDER_H
