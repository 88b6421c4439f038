// Writes the ONNX model of an operation: a graph of a few nodes over named
// values.
#ifndef DLC_LIB_LIBRARY_MODELWRITER_H
#define DLC_LIB_LIBRARY_MODELWRITER_H

#include "dlc/Library/Library.h"

#include "onnx/onnx_pb.h"

#include <variant>

namespace dlc::library {

/// An attribute of a node.
struct NodeAttribute {
  const char *name;
  std::variant<int64_t, float, std::string, std::vector<int64_t>> value;
};

class ModelWriter {
public:
  explicit ModelWriter(llvm::StringRef name);

  /// Declares `tensor` as an input or output. An extent that depends on an open
  /// size is the size's name, or unknown where it is more than that.
  void declare(const Tensor &tensor, llvm::ArrayRef<Dim> dims,
               llvm::ArrayRef<Range> ranges);

  /// Declares `tensor` as a constant in the file kPackedFile.
  void declareConstant(const Tensor &tensor, llvm::ArrayRef<Range> ranges);

  /// Adds a node and returns the name of its result. An empty name among
  /// `inputs` is an optional input that is not there.
  std::string add(llvm::StringRef op, llvm::ArrayRef<std::string> inputs,
                  llvm::ArrayRef<NodeAttribute> attributes = {},
                  llvm::StringRef domain = "");
  /// A constant of rank 0.
  std::string scalar(double value, const ElementType &type);
  std::string integer(int64_t value);
  /// An u8.
  std::string byte(uint8_t value);
  /// A constant of rank 1.
  std::string integers(llvm::ArrayRef<int64_t> values);

  std::string cast(const std::string &value, const ElementType &type) {
    return add("Cast", {value}, {{"to", int64_t(type.onnx)}});
  }

  /// Gives `value` the name of an output.
  void finish(const std::string &value, llvm::StringRef output);

  std::string str() const;

private:
  onnx::ModelProto model;
  onnx::GraphProto *graph;
  unsigned numValues = 0;
};

} // namespace dlc::library

#endif // DLC_LIB_LIBRARY_MODELWRITER_H
