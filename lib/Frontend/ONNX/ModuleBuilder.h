//===- ModuleBuilder.h - ONNX graphs to onnx operations ---------*- C++ -*-===//
//
// Makes operations of the onnx dialect for nodes, constants and graphs. Used
// for whole models and for the function bodies of single operators.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_FRONTEND_ONNX_MODULEBUILDER_H
#define LIB_FRONTEND_ONNX_MODULEBUILDER_H

#include "ModelFile.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/ScopedHashTable.h"

namespace dlc {

class ModuleBuilder {
public:
  ModuleBuilder(mlir::MLIRContext *context, std::shared_ptr<ModelFile> file,
                uint64_t maxInlineBytes, std::vector<ModelProblem> &problems)
      : builder(context), file(std::move(file)), maxInlineBytes(maxInlineBytes),
        problems(problems) {}

  /// The module with `func.func @main`; null when problems were found.
  mlir::OwningOpRef<mlir::ModuleOp> buildModule(int64_t sourceOpset);

  /// Appends the operations of `nodes` to `block`; `inputs` gives the values of
  /// names from outside. Returns the values of `outputs`, null for unknown
  /// ones.
  llvm::SmallVector<mlir::Value>
  buildNodes(const google::protobuf::RepeatedPtrField<onnx::NodeProto> &nodes,
             const llvm::StringMap<mlir::Value> &inputs,
             llvm::ArrayRef<std::string> outputs, mlir::Block *block,
             mlir::Location location);

  /// An ONNX type as MLIR's; null with a problem about `where` if it has none.
  mlir::Type convertType(const onnx::TypeProto &type, const std::string &where);

private:
  using Scope = llvm::StringMap<mlir::Value>;

  mlir::Value lookup(llvm::StringRef name);
  void define(llvm::StringRef name, mlir::Value value) {
    scopes.back()[name] = value;
  }
  mlir::Type typeOf(const std::string &name);
  void recordTypes(const onnx::GraphProto &graph);
  mlir::Value makeConstant(const onnx::TensorProto &tensor,
                           llvm::StringRef name);
  mlir::Value getNone();
  mlir::Attribute convertAttribute(const onnx::AttributeProto &attribute,
                                   const onnx::NodeProto &node);
  void buildNode(const onnx::NodeProto &node);
  void buildRegion(const onnx::GraphProto &graph, mlir::Region &region);
  void buildGraphBody(const onnx::GraphProto &graph);

  mlir::OpBuilder builder;
  std::shared_ptr<ModelFile> file;
  uint64_t maxInlineBytes;
  std::vector<ModelProblem> &problems;
  std::vector<Scope> scopes;
  std::vector<llvm::StringMap<mlir::Type>> types;
  mlir::Location currentLocation = builder.getUnknownLoc();
  /// Set while a function body is built: its nodes are at the caller's place.
  std::optional<mlir::Location> bodyLocation;
};

} // namespace dlc

#endif // LIB_FRONTEND_ONNX_MODULEBUILDER_H
