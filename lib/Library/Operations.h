// The kinds of operations: what a manifest may say of each, and the operations
// that an entry becomes.
#ifndef DLC_LIB_LIBRARY_OPERATIONS_H
#define DLC_LIB_LIBRARY_OPERATIONS_H

#include "ModelWriter.h"
#include "Reader.h"

namespace dlc::library {

/// An entry of a manifest, for one element type.
struct Entry {
  const Reader &json;
  const ElementType &type;
};

/// A kind: its name, the keys besides the common ones, the element types it
/// has, and what makes the operations of an entry (without instances).
struct Kind {
  llvm::StringRef name;
  llvm::ArrayRef<llvm::StringRef> keys;
  llvm::ArrayRef<llvm::StringRef> types;
  std::vector<Operation> (*make)(const Entry &);
};

llvm::ArrayRef<Kind> getKinds();

/// Fills an operation: dims, tensors and model by name.
class OperationBuilder {
public:
  OperationBuilder(const Entry &entry, std::string name, llvm::StringRef kind);

  /// Dims and tensors in the order the function takes them.
  unsigned dim(std::string name, bool mustBeFixed = false,
               int64_t typical = 128);
  Extent operator[](llvm::StringRef name) const;
  static Extent constant(int64_t extent) { return {-1, 0, 1, extent}; }
  void input(std::string name, const ElementType &type,
             std::vector<Extent> extents);
  void output(std::string name, const ElementType &type,
              std::vector<Extent> extents);
  void setAttribute(llvm::StringRef key, Json value) {
    attributes[key.str()] = std::move(value);
  }

  using Body = std::function<void(ModelWriter &, llvm::ArrayRef<Range>)>;
  /// The nodes, which refer to inputs by name and finish every output.
  Operation take(std::string text, Body body);

  const Entry &entry;
  const ElementType &type;
  Operation op;
  /// Segments: the inputs that are not the model's own, see makeModel.
  std::optional<Segments> segments;
  /// The input that is packed before; take() puts its packed form in its place.
  std::string packed;

private:
  Json attributes = Json::object();
};

/// A list of steps behind a product: adds their tensors, and their nodes.
struct Epilogue {
  std::vector<std::string> steps;

  static Epilogue read(const Entry &entry);
  std::string suffix() const;
  std::string text(std::string inner) const;
  /// `rows`: the extents of the result; the last is the columns.
  void declare(OperationBuilder &b, const std::vector<Extent> &result) const;
  std::string emit(ModelWriter &w, std::string value) const;
};

/// An activation's nodes: relu, gelu, gelu_tanh, silu, sigmoid, tanh.
std::string emitActivation(ModelWriter &w, llvm::StringRef name,
                           const std::string &value);
extern const llvm::ArrayRef<llvm::StringRef> activations;

/// The keys and makers, a file a family.
std::vector<Operation> makeMatmul(const Entry &);
std::vector<Operation> makeGroupedMatmul(const Entry &);
std::vector<Operation> makeQuantizedMatmul(const Entry &);
std::vector<Operation> makeAttention(const Entry &);
std::vector<Operation> makeRope(const Entry &);
std::vector<Operation> makeSoftmax(const Entry &);
std::vector<Operation> makeLayerNorm(const Entry &);
std::vector<Operation> makeRmsNorm(const Entry &);
std::vector<Operation> makeConv(const Entry &);
std::vector<Operation> makeElementwise(const Entry &);

} // namespace dlc::library

#endif // DLC_LIB_LIBRARY_OPERATIONS_H
