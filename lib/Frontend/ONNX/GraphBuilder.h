//===- GraphBuilder.h - graph operators, checked and folded -----*- C++ -*-===//
//
// What converters build with. Every operation is inferred and verified as it is
// made, and folded when its operands are constants. A model can ask for
// anything, so a refusal is ordinary control flow: it is thrown as a Refusal,
// which the driver of the conversion catches at the node.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_FRONTEND_ONNX_GRAPHBUILDER_H
#define LIB_FRONTEND_ONNX_GRAPHBUILDER_H

#include "dlc/Dialect/Graph/IR/Requirements.h"
#include "dlc/Frontend/ONNX/ConvertToGraph.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/DenseSet.h"

namespace dlc {

/// Why a node cannot be lowered; thrown by converters and builders.
struct Refusal {
  std::string reason;
  bool malformed = false; ///< the model is wrong, as against not supported
};

[[noreturn]] void refuse(std::string reason);
[[noreturn]] void refuseMalformed(std::string reason);

using Dims = llvm::SmallVector<mlir::AffineExpr>;

/// "f32[1,3,s0]" for messages; `element`, if given, instead of the type's own.
std::string describeType(mlir::Type type, mlir::Type element = {});
/// "f32".
std::string describeElement(mlir::Type element);

class GraphBuilder {
public:
  GraphBuilder(mlir::MLIRContext *context, const ConvertOptions &options)
      : builder(context), options(options) {}

  mlir::OpBuilder builder;
  mlir::Location loc = builder.getUnknownLoc();

  mlir::MLIRContext *context() const { return builder.getContext(); }
  mlir::AffineExpr c(int64_t value) {
    return builder.getAffineConstantExpr(value);
  }

  // Types
  static mlir::RankedTensorType type(mlir::Value value) {
    return llvm::cast<mlir::RankedTensorType>(value.getType());
  }
  static mlir::Type element(mlir::Value value) {
    return type(value).getElementType();
  }
  static int64_t rank(mlir::Value value) { return type(value).getRank(); }
  static Dims dims(mlir::Value value) {
    return graph::getDims(value.getType());
  }
  mlir::AffineExpr dim(mlir::Value value, int64_t axis) {
    return dims(value)[axis];
  }
  /// Static sizes of all dims; refuses `what` when one is symbolic.
  llvm::SmallVector<int64_t> staticDims(mlir::Value value,
                                        llvm::StringRef what);

  /// Any graph operation by name. Without `result` its type is inferred.
  mlir::Value emit(llvm::StringRef name, mlir::ValueRange operands,
                   llvm::ArrayRef<mlir::NamedAttribute> attributes = {},
                   mlir::Type result = {});

  // Sizes that are equal for the inputs a model is meant for, though not as
  // expressions: the run compares them.
  /// One of two sizes for both; null when they are known to differ, or when the
  /// data tell one of them.
  mlir::AffineExpr unify(mlir::AffineExpr a, mlir::AffineExpr b) const;
  /// x under these dims, which are x's when the model runs.
  mlir::Value ensureDims(mlir::Value x, llvm::ArrayRef<mlir::AffineExpr> dims);
  mlir::Value ensureDim(mlir::Value x, int64_t axis, mlir::AffineExpr size);
  /// Makes these operands broadcast; false when nothing was to be done, or when
  /// they cannot.
  bool alignForBroadcast(llvm::MutableArrayRef<mlir::Value> operands);

  // Constants
  mlir::Value constant(mlir::ElementsAttr value);
  /// A tensor with every element `value` (exact for i64 through the overload).
  mlir::Value splat(double value, mlir::Type element,
                    llvm::ArrayRef<int64_t> dims = {});
  mlir::Value splatInt(int64_t value, mlir::Type element,
                       llvm::ArrayRef<int64_t> dims = {});
  mlir::Value constantInts(llvm::ArrayRef<int64_t> values,
                           llvm::ArrayRef<int64_t> dims, mlir::Type element);
  mlir::Value constantFloats(llvm::ArrayRef<double> values,
                             llvm::ArrayRef<int64_t> dims, mlir::Type element);
  /// The elements when the value is a small constant.
  static mlir::DenseElementsAttr asConstant(mlir::Value value);

  // Elementwise; operands broadcast
  mlir::Value unary(llvm::StringRef name, mlir::Value x) {
    return emit(name, {x});
  }
  mlir::Value add(mlir::Value x, mlir::Value y) {
    return emit("graph.add", {x, y});
  }
  mlir::Value sub(mlir::Value x, mlir::Value y) {
    return emit("graph.sub", {x, y});
  }
  mlir::Value mul(mlir::Value x, mlir::Value y) {
    return emit("graph.mul", {x, y});
  }
  mlir::Value div(mlir::Value x, mlir::Value y) {
    return emit("graph.div", {x, y});
  }
  mlir::Value mod(mlir::Value x, mlir::Value y) {
    return emit("graph.mod", {x, y});
  }
  mlir::Value max(mlir::Value x, mlir::Value y) {
    return emit("graph.max", {x, y});
  }
  mlir::Value min(mlir::Value x, mlir::Value y) {
    return emit("graph.min", {x, y});
  }
  mlir::Value select(mlir::Value c, mlir::Value x, mlir::Value y) {
    return emit("graph.select", {c, x, y});
  }
  mlir::Value convert(mlir::Value x, mlir::Type element, bool saturate = false);
  /// x op a constant of x's element type.
  mlir::Value addScalar(mlir::Value x, double value) {
    return add(x, splat(value, element(x)));
  }
  mlir::Value mulScalar(mlir::Value x, double value) {
    return mul(x, splat(value, element(x)));
  }

  // Structure
  mlir::Value reshape(mlir::Value x, llvm::ArrayRef<mlir::AffineExpr> dims);
  mlir::Value reshape(mlir::Value x, llvm::ArrayRef<int64_t> dims);
  mlir::Value transpose(mlir::Value x, llvm::ArrayRef<int64_t> perm);
  mlir::Value broadcast(mlir::Value x, llvm::ArrayRef<mlir::AffineExpr> dims);
  /// Inserts dims of size 1 at these places of the result.
  mlir::Value unsqueeze(mlir::Value x, llvm::ArrayRef<int64_t> axes);
  mlir::Value squeeze(mlir::Value x, llvm::ArrayRef<int64_t> axes);
  mlir::Value slice(mlir::Value x, llvm::ArrayRef<mlir::AffineExpr> starts,
                    llvm::ArrayRef<mlir::AffineExpr> sizes,
                    llvm::ArrayRef<int64_t> steps = {});
  /// [start, start + size) of one axis.
  mlir::Value sliceAxis(mlir::Value x, int64_t axis, mlir::AffineExpr start,
                        mlir::AffineExpr size, int64_t step = 1);
  mlir::Value concat(mlir::ValueRange inputs, int64_t axis);
  mlir::Value pad(mlir::Value x, mlir::Value value, llvm::ArrayRef<int64_t> low,
                  llvm::ArrayRef<int64_t> high,
                  graph::PadMode mode = graph::PadMode::constant);
  mlir::Value gather(mlir::Value x, mlir::Value indices, int64_t axis);
  mlir::Value gatherElements(mlir::Value x, mlir::Value indices, int64_t axis);
  /// A size as a tensor of rank 0.
  mlir::Value size(mlir::AffineExpr size, mlir::Type element);
  /// `x`; a constant where reshapes, transposes, slices and zero pads make it
  /// of one, of any size.
  mlir::Value moveNow(mlir::Value x);
  mlir::Value iota(mlir::AffineExpr size, mlir::Type element, double start = 0,
                   double step = 1);

  /// Folds axes (any order); their dims stay as 1.
  mlir::Value reduce(mlir::Value x, graph::FoldKind kind,
                     llvm::ArrayRef<int64_t> axes);
  /// einsum("lhs,rhs->result"), letters as axes; operands must not repeat a
  /// letter.
  mlir::Value einsum(llvm::StringRef lhs, llvm::StringRef rhs,
                     llvm::StringRef result, mlir::Value x, mlir::Value y,
                     mlir::Type element = {});

  mlir::NamedAttribute attr(llvm::StringRef name, mlir::Attribute value) {
    return builder.getNamedAttr(name, value);
  }
  mlir::NamedAttribute i64s(llvm::StringRef name,
                            llvm::ArrayRef<int64_t> values) {
    return attr(name, builder.getDenseI64ArrayAttr(values));
  }
  mlir::NamedAttribute f64(llvm::StringRef name, double value) {
    return attr(name, builder.getF64FloatAttr(value));
  }

  /// Refuses element types no kernel has, and sizes beyond the limits.
  void checkType(mlir::Type type) const;

  std::vector<graph::Requirement> requirements;
  /// Requires the sizes of all results in a block not to be negative.
  void requireSizes(mlir::Block &block);
  /// Symbols whose value the data tell.
  llvm::DenseSet<unsigned> dataSymbols;
  std::vector<std::string> symbolNames;

  /// The text of the last diagnostic; the driver's handler writes it.
  std::string lastDiagnostic;

private:
  /// Null when the operands do not fit; `lastDiagnostic` says why.
  mlir::Type inferType(mlir::RegisteredOperationName info,
                       mlir::InferTypeOpInterface::Concept &inference,
                       mlir::ValueRange operands,
                       mlir::DictionaryAttr attributes);
  std::string spell(mlir::AffineExpr size) const;
  bool dependsOnData(mlir::AffineExpr size) const;
  mlir::Value tryFold(mlir::Operation *op);

  const ConvertOptions &options;
  uint64_t numOperations = 0; ///< made so far, folded ones included
};

/// True when the expression is >= 0 for all non-negative symbols.
bool isNonNegative(mlir::AffineExpr size);

/// True for f16, bf16, f32, f64.
bool isFloat(mlir::Type element);
/// The type to compute norms of this element type in: f32 for 16-bit floats.
mlir::Type wideType(mlir::Type element);

/// An axis attribute in [0, rank); refuses others.
int64_t normalizeAxis(int64_t axis, int64_t rank);
llvm::SmallVector<int64_t> normalizeAxes(llvm::ArrayRef<int64_t> axes,
                                         int64_t rank);

} // namespace dlc

#endif // LIB_FRONTEND_ONNX_GRAPHBUILDER_H
