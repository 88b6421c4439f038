//===- ONNXDialect.h - the imported model -----------------------*- C++ -*-===//
//
// The onnx dialect: an ONNX model, one operation a node (see ONNXDialect.td),
// and the names other folders need to read such a module.
//
//===----------------------------------------------------------------------===//

#ifndef DLC_DIALECT_ONNX_IR_ONNXDIALECT_H
#define DLC_DIALECT_ONNX_IR_ONNXDIALECT_H

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h.inc"

#define GET_TYPEDEF_CLASSES
#include "dlc/Dialect/ONNX/IR/ONNXTypes.h.inc"

namespace onnx {
class OpSchema;
}

namespace dlc::onnxd {

/// The opset of the default domain every imported model is converted to.
constexpr int64_t kOpset = 28;

/// Module attribute: domain -> version of the operations inside.
constexpr llvm::StringLiteral kOpsetsAttr = "onnx.opsets";
/// Module attribute: the default domain's version in the file.
constexpr llvm::StringLiteral kSourceOpsetAttr = "onnx.source_opset";
/// Operation attribute: the names of the graph attributes, one a region.
constexpr llvm::StringLiteral kGraphsAttr = "onnx.graphs";
/// Argument and result attribute of a function or region: the value's name.
constexpr llvm::StringLiteral kNameAttr = "onnx.name";
/// The operation that makes a value of type none, and regions' terminator.
constexpr llvm::StringLiteral kNoneOp = "onnx.none";
constexpr llvm::StringLiteral kReturnOp = "onnx.Return";

/// Domain ("" for ai.onnx) and type of an operation of this dialect.
struct OpName {
  llvm::StringRef domain, type;
};
OpName getOpName(mlir::Operation *op);

/// The full name of the operation for a node.
std::string makeOpName(llvm::StringRef domain, llvm::StringRef type);

/// The node's name from its location; empty when the model gave none.
llvm::StringRef getNodeName(mlir::Operation *op);

/// The schema of an operation, by the opsets of the module around it (kOpset
/// where there is none); null when onnx knows no such operator.
const onnx::OpSchema *getSchema(mlir::Operation *op);

/// How ONNX spells a type, e.g. "tensor(float)"; empty for a type it has not.
std::string getTypeText(mlir::Type type);

/// MLIR's element type for an onnx TensorProto::DataType; null for UNDEFINED
/// and unknown numbers. Signed integers are signless, bool is i1.
mlir::Type getElementType(mlir::MLIRContext *context, int dataType);

/// The inverse of getElementType; 0 for a type ONNX has not.
int getDataType(mlir::Type elementType);

/// Checks one operation against its schema: operand and result counts, operand
/// types and type variables, attribute names, types and presence.
llvm::LogicalResult verifyOp(mlir::Operation *op);

} // namespace dlc::onnxd

#endif // DLC_DIALECT_ONNX_IR_ONNXDIALECT_H
