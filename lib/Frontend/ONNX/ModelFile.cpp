//===- ModelFile.cpp - a model's protobuf and its weights -----------------===//
//
// Parsing, detaching of weights, mapping of external data and the attributes
// over all of that. onnx opens external files (it refuses `..`, absolute paths,
// symbolic and hard links, and files swapped while it looks); they are mapped.
//
//===----------------------------------------------------------------------===//

#include "ModelFile.h"
#include "TensorData.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

#include "mlir/IR/AsmState.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "onnx/checker.h"
#include "llvm/Support/FileSystem.h"

#include <google/protobuf/io/coded_stream.h>

#include <unistd.h>

using namespace dlc;
using namespace mlir;
using onnx::TensorProto;

std::shared_ptr<ModelFile>
ModelFile::parse(google::protobuf::io::ZeroCopyInputStream &input,
                 uint64_t size, llvm::StringRef folder, std::string &reason) {
  if (size == 0) {
    reason = "is empty";
    return nullptr;
  }
  if (size >= uint64_t(1) << 31) {
    reason = "is " + std::to_string(size) +
             " bytes long; protobuf messages end at 2 GiB, store the weights "
             "as external data";
    return nullptr;
  }
  auto file = std::make_shared<ModelFile>();
  file->folder = folder.str();
  google::protobuf::io::CodedInputStream stream(&input);
  if (!file->proto.ParseFromCodedStream(&stream) ||
      !stream.ConsumedEntireMessage()) {
    reason = "is not an ONNX model: the protobuf message does not parse";
    return nullptr;
  }
  return file;
}

llvm::ArrayRef<char> ModelFile::mapExternal(const TensorProto &tensor,
                                            std::string &reason) {
  std::string location;
  uint64_t offset = 0;
  for (const auto &entry : tensor.external_data()) {
    if (entry.key() == "location")
      location = entry.value();
    else if (entry.key() == "offset")
      (void)llvm::StringRef(entry.value())
          .getAsInteger(10, offset); // checkTensor saw that it parses
  }
  if (folder.empty()) {
    reason = "external data '" + location +
             "': a model that is not in a file cannot have any";
    return {};
  }
  std::unique_ptr<llvm::MemoryBuffer> &buffer = externalFiles[location];
  if (!buffer) {
    int64_t descriptor;
    try {
      descriptor = onnx::checker::open_external_data(
          folder, location, tensor.name(), /*read_only=*/true);
    } catch (const std::exception &error) {
      reason = "external data '" + location + "' refused: " + error.what();
      return {};
    }
    int fd = static_cast<int>(descriptor);
    llvm::sys::fs::file_status status;
    std::error_code code = llvm::sys::fs::status(fd, status);
    if (!code) {
      auto opened = llvm::MemoryBuffer::getOpenFile(
          fd, location, status.getSize(), /*RequiresNullTerminator=*/false);
      code = opened.getError();
      if (!code)
        buffer = std::move(*opened);
    }
    ::close(fd);
    if (code) {
      reason =
          "external data '" + location + "' cannot be read: " + code.message();
      return {};
    }
  }
  uint64_t bytes = *getPackedBytes(tensor);
  if (offset > buffer->getBufferSize() ||
      bytes > buffer->getBufferSize() - offset) {
    reason = "external data '" + location + "' has " +
             std::to_string(buffer->getBufferSize()) +
             " bytes, the tensor wants " + std::to_string(bytes) + " at " +
             std::to_string(offset);
    return {};
  }
  return {buffer->getBufferStart() + offset, bytes};
}

bool ModelFile::readExternal(TensorProto &tensor, const std::string &where,
                             Problems &problems) {
  if (tensor.data_location() != TensorProto::EXTERNAL)
    return true;
  std::string reason;
  llvm::ArrayRef<char> bytes = mapExternal(tensor, reason);
  if (!reason.empty()) {
    problems.push_back({where, "", 0, "", reason});
    return false;
  }
  tensor.set_raw_data(bytes.data(), bytes.size());
  tensor.clear_external_data();
  tensor.clear_data_location();
  return true;
}

void ModelFile::readExternalInside(onnx::NodeProto &node, Problems &problems) {
  for (auto &attribute : *node.mutable_attribute()) {
    if (attribute.has_t())
      readExternal(*attribute.mutable_t(), "node '" + node.name() + "'",
                   problems);
    for (auto &tensor : *attribute.mutable_tensors())
      readExternal(tensor, "node '" + node.name() + "'", problems);
    if (attribute.has_g())
      readExternalInside(*attribute.mutable_g(), problems);
    for (auto &graph : *attribute.mutable_graphs())
      readExternalInside(graph, problems);
  }
}

void ModelFile::readExternalInside(onnx::GraphProto &graph,
                                   Problems &problems) {
  for (auto &tensor : *graph.mutable_initializer())
    readExternal(tensor, "initializer '" + tensor.name() + "'", problems);
  for (auto &node : *graph.mutable_node())
    readExternalInside(node, problems);
}

/// The tensor of a Constant node that makes one; null for every other node.
static TensorProto *getConstantTensor(onnx::NodeProto &node) {
  if (node.op_type() != "Constant" || !node.domain().empty() ||
      node.output_size() != 1)
    return nullptr;
  for (auto &attribute : *node.mutable_attribute())
    if (attribute.name() == "value" && attribute.has_t())
      return attribute.mutable_t();
  return nullptr;
}

void ModelFile::detachWeights(uint64_t maxInlineBytes, Problems &problems) {
  onnx::GraphProto &graph = *proto.mutable_graph();
  llvm::StringMap<char> inputs;
  for (const auto &input : graph.input())
    inputs[input.name()];

  auto isLarge = [&](const TensorProto &tensor) {
    return tensor.data_location() == TensorProto::EXTERNAL ||
           (tensor.data_type() != TensorProto::STRING &&
            *getPackedBytes(tensor) > maxInlineBytes);
  };
  auto detach = [&](TensorProto &tensor, const std::string &name) {
    std::string reason;
    if (tensor.data_location() == TensorProto::EXTERNAL)
      (void)mapExternal(tensor, reason);
    if (!reason.empty())
      problems.push_back({"initializer '" + name + "'", "", 0, "", reason});
    if (!inputs.contains(name)) {
      auto &input = *graph.add_input();
      input.set_name(name);
      auto &type = *input.mutable_type()->mutable_tensor_type();
      type.set_elem_type(tensor.data_type());
      type.mutable_shape();
      for (int64_t dim : tensor.dims())
        type.mutable_shape()->add_dim()->set_dim_value(dim);
    }
    auto moved = std::make_unique<TensorProto>();
    moved->Swap(&tensor);
    weights[name] = std::move(moved);
  };

  // Kept entries move to the front, so that each list is rewritten once.
  int kept = 0;
  auto &initializers = *graph.mutable_initializer();
  for (int i = 0; i < initializers.size(); ++i) {
    if (isLarge(initializers[i]))
      detach(initializers[i], std::string(initializers[i].name()));
    else
      initializers.SwapElements(kept++, i);
  }
  initializers.DeleteSubrange(kept, initializers.size() - kept);

  kept = 0;
  auto &nodes = *graph.mutable_node();
  for (int i = 0; i < nodes.size(); ++i) {
    TensorProto *tensor = getConstantTensor(nodes[i]);
    if (tensor && isLarge(*tensor)) {
      detach(*tensor, std::string(nodes[i].output(0)));
    } else {
      readExternalInside(nodes[i], problems);
      nodes.SwapElements(kept++, i);
    }
  }
  nodes.DeleteSubrange(kept, nodes.size() - kept);
  for (auto &function : *proto.mutable_functions())
    for (auto &node : *function.mutable_node())
      readExternalInside(node, problems);
}

const TensorProto *ModelFile::getWeight(llvm::StringRef name) const {
  auto found = weights.find(name);
  return found == weights.end() ? nullptr : found->second.get();
}

/// A dense attribute of bytes in plain form.
static ElementsAttr makeDense(RankedTensorType type,
                              llvm::ArrayRef<char> bytes) {
  if (type.getElementType().isInteger(1)) {
    llvm::SmallVector<bool> values(
        llvm::map_range(bytes, [](char byte) { return byte != 0; }));
    return DenseElementsAttr::get(type, values);
  }
  if (type.getNumElements() == 0)
    return DenseElementsAttr::get(type, llvm::ArrayRef<Attribute>());
  return DenseElementsAttr::getFromRawBuffer(type, bytes);
}

ElementsAttr ModelFile::makeAttribute(const std::shared_ptr<ModelFile> &self,
                                      const TensorProto &tensor,
                                      llvm::StringRef key,
                                      uint64_t maxInlineBytes,
                                      MLIRContext *context) {
  llvm::ArrayRef<int64_t> dims(tensor.dims().data(), tensor.dims_size());
  auto type = RankedTensorType::get(
      dims, onnxd::getElementType(context, tensor.data_type()));
  if (tensor.data_type() == TensorProto::STRING) {
    llvm::SmallVector<llvm::StringRef> values(tensor.string_data().begin(),
                                              tensor.string_data().end());
    return DenseStringElementsAttr::get(type, values);
  }
  std::optional<llvm::ArrayRef<char>> plain;
  llvm::ArrayRef<char> packed;
  if (tensor.data_location() == TensorProto::EXTERNAL) {
    std::string reason;
    packed = self->mapExternal(tensor, reason);
    if (getElementBits(tensor.data_type()) >= 8)
      plain = packed;
  } else {
    plain = getPlainBytes(tensor);
    if (tensor.has_raw_data())
      packed = {tensor.raw_data().data(), tensor.raw_data().size()};
  }
  uint64_t elementBytes = std::max(1u, getElementBits(tensor.data_type()) / 8);
  uint64_t bytes = type.getNumElements() * elementBytes;
  if (bytes <= maxInlineBytes) {
    std::vector<char> copy = copyPlainBytes(tensor, packed);
    return makeDense(type, copy);
  }
  // An external file may hold a tensor at any offset; readers want alignment.
  if (plain && reinterpret_cast<uintptr_t>(plain->data()) % elementBytes == 0)
    return DenseResourceElementsAttr::get(
        type, key,
        AsmResourceBlob(
            *plain, elementBytes, [keep = self](void *, size_t, size_t) {},
            /*dataIsMutable=*/false));
  std::vector<char> copy = copyPlainBytes(tensor, packed);
  return DenseResourceElementsAttr::get(
      type, key,
      HeapAsmResourceBlob::allocateAndCopyWithAlign(copy, 64,
                                                    /*dataIsMutable=*/false));
}
