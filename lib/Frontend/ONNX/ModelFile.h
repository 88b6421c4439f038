//===- ModelFile.h - a model's protobuf and its weights ---------*- C++ -*-===//
//
// Owns what the imported module points into. Weights are taken out of the
// protobuf before onnx's tools see it: these copy models freely, and a copy of
// a graph without weights is small. The graph keeps each weight as an input.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_FRONTEND_ONNX_MODELFILE_H
#define LIB_FRONTEND_ONNX_MODELFILE_H

#include "dlc/Frontend/ONNX/Import.h"

#include "mlir/IR/BuiltinAttributeInterfaces.h"
#include "onnx/onnx_pb.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/MemoryBuffer.h"

#include <google/protobuf/io/zero_copy_stream.h>

namespace dlc {

class ModelFile {
public:
  using Problems = std::vector<ModelProblem>;

  /// Parses a serialized model of `size` bytes, external data in `folder`;
  /// null with a reason when it is none.
  static std::shared_ptr<ModelFile>
  parse(google::protobuf::io::ZeroCopyInputStream &input, uint64_t size,
        llvm::StringRef folder, std::string &reason);

  onnx::ModelProto &model() { return proto; }

  /// Moves the main graph's large and external initializers and Constant
  /// tensors out of the protobuf (each becomes a graph input of its name), and
  /// reads other external tensors in. External data is checked and mapped here.
  void detachWeights(uint64_t maxInlineBytes, Problems &problems);

  /// The detached weight of this name, or null.
  const onnx::TensorProto *getWeight(llvm::StringRef name) const;
  bool isWeight(llvm::StringRef name) const { return weights.contains(name); }

  /// The tensor as an attribute: dense up to `maxInlineBytes`, else a resource
  /// named `key` over this file's memory. The tensor was checked before.
  static mlir::ElementsAttr
  makeAttribute(const std::shared_ptr<ModelFile> &self,
                const onnx::TensorProto &tensor, llvm::StringRef key,
                uint64_t maxInlineBytes, mlir::MLIRContext *context);

private:
  /// Bytes of an external tensor in its mapped file; empty with a reason.
  llvm::ArrayRef<char> mapExternal(const onnx::TensorProto &tensor,
                                   std::string &reason);
  void readExternalInside(onnx::GraphProto &graph, Problems &problems);
  void readExternalInside(onnx::NodeProto &node, Problems &problems);
  bool readExternal(onnx::TensorProto &tensor, const std::string &where,
                    Problems &problems);

  onnx::ModelProto proto;
  std::string folder;
  llvm::StringMap<std::unique_ptr<onnx::TensorProto>> weights;
  llvm::StringMap<std::unique_ptr<llvm::MemoryBuffer>> externalFiles;
};

} // namespace dlc

#endif // LIB_FRONTEND_ONNX_MODELFILE_H
