// The value the interpreter computes with: a dense row-major tensor whose bytes
// are shared, so that reshapes and weights over the mapped model file cost
// nothing.
#ifndef DLC_INTERPRETER_TENSOR_H
#define DLC_INTERPRETER_TENSOR_H

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"

#include <memory>

namespace dlc::interp {

/// Elements are stored as the host does (i1: one byte, 0 or 1; f16 and bf16:
/// their 16 bits), row-major, contiguous. Copies share the bytes.
class Tensor {
public:
  Tensor() = default;
  /// Zeros, 64-byte aligned.
  Tensor(mlir::Type elementType, llvm::ArrayRef<int64_t> shape);

  /// A tensor over bytes that someone else keeps alive: `keepAlive`, or, when
  /// that is null, the caller for as long as any copy of the tensor exists.
  static Tensor borrow(mlir::Type elementType, llvm::ArrayRef<int64_t> shape,
                       const void *bytes,
                       std::shared_ptr<const void> keepAlive = {});
  /// A tensor with its own copy of `bytes`.
  static Tensor copy(mlir::Type elementType, llvm::ArrayRef<int64_t> shape,
                     const void *bytes);
  /// Dense elements or a dense resource of static shape. Fails for other
  /// attributes, for element types the interpreter does not know, and for a
  /// resource whose blob is absent or too short.
  static llvm::FailureOr<Tensor> fromAttr(mlir::ElementsAttr attr);
  /// The tensor as dense elements of a static tensor type (copies the bytes).
  mlir::DenseElementsAttr toAttr() const;

  explicit operator bool() const { return static_cast<bool>(elementType); }
  mlir::Type getElementType() const { return elementType; }
  llvm::ArrayRef<int64_t> getShape() const { return shape; }
  int64_t getRank() const { return shape.size(); }
  int64_t getNumElements() const;
  int64_t getNumBytes() const;

  const char *getBytes() const { return bytes; }
  /// For filling a tensor made by the first constructor, before it is shared.
  char *getMutableBytes();
  /// The elements as `T`, whose size must be the element's.
  template <typename T>
  llvm::ArrayRef<T> getData() const {
    assert(getNumBytes() ==
               getNumElements() * static_cast<int64_t>(sizeof(T)) &&
           "element size");
    return llvm::ArrayRef<T>(reinterpret_cast<const T *>(bytes),
                             static_cast<size_t>(getNumElements()));
  }

  /// The same bytes under another shape with as many elements.
  Tensor reshaped(llvm::ArrayRef<int64_t> newShape) const;

private:
  mlir::Type elementType;
  llvm::SmallVector<int64_t, 4> shape;
  const char *bytes = nullptr;
  std::shared_ptr<const void> owner;     // null for borrowed bytes
  [[maybe_unused]] bool isOwned = false; // may be filled
};

/// The product of the sizes.
int64_t countElements(llvm::ArrayRef<int64_t> shape);

/// By how much computed elements of a type may differ from the interpreter's,
/// of the largest magnitude among those: the rounding of the type; 0: not.
double getTolerance(mlir::Type elementType);

/// "4x8xf32", for messages.
std::string describe(const Tensor &tensor);

} // namespace dlc::interp

#endif // DLC_INTERPRETER_TENSOR_H
