// Tensors and their conversion from and to attributes.
#include "dlc/Interpreter/Tensor.h"
#include "LaneType.h"

#include "mlir/IR/DialectResourceBlobManager.h"
#include "llvm/Support/raw_ostream.h"

#include <cstring>

using namespace mlir;
using namespace dlc;
using namespace dlc::interp;

int64_t interp::countElements(ArrayRef<int64_t> shape) {
  int64_t n = 1;
  for (int64_t d : shape)
    n *= d;
  return n;
}

Tensor::Tensor(Type elementType, ArrayRef<int64_t> shape)
    : elementType(elementType), shape(shape), isOwned(true) {
  constexpr std::align_val_t alignment{64};
  size_t size = std::max<int64_t>(getNumBytes(), 1);
  char *storage = static_cast<char *>(::operator new(size, alignment));
  std::memset(storage, 0, size);
  bytes = storage;
  owner = std::shared_ptr<const void>(storage, [](const void *p) {
    ::operator delete(const_cast<void *>(p), alignment);
  });
}

Tensor Tensor::borrow(Type elementType, ArrayRef<int64_t> shape,
                      const void *bytes,
                      std::shared_ptr<const void> keepAlive) {
  Tensor tensor;
  tensor.elementType = elementType;
  tensor.shape.assign(shape.begin(), shape.end());
  tensor.bytes = static_cast<const char *>(bytes);
  tensor.owner = std::move(keepAlive);
  return tensor;
}

Tensor Tensor::copy(Type elementType, ArrayRef<int64_t> shape,
                    const void *bytes) {
  Tensor tensor(elementType, shape);
  if (tensor.getNumBytes())
    std::memcpy(tensor.getMutableBytes(), bytes, tensor.getNumBytes());
  return tensor;
}

int64_t Tensor::getNumElements() const { return countElements(shape); }
int64_t Tensor::getNumBytes() const {
  return getNumElements() * storedBytes(*getLaneType(elementType));
}

char *Tensor::getMutableBytes() {
  assert(isOwned && owner.use_count() == 1 && "the bytes are shared");
  return const_cast<char *>(bytes);
}

Tensor Tensor::reshaped(ArrayRef<int64_t> newShape) const {
  assert(countElements(newShape) == getNumElements() && "element count");
  Tensor result = *this;
  result.shape.assign(newShape.begin(), newShape.end());
  return result;
}

FailureOr<Tensor> Tensor::fromAttr(ElementsAttr attr) {
  auto type = dyn_cast_or_null<RankedTensorType>(attr ? attr.getShapedType()
                                                      : ShapedType());
  if (!type || !type.hasStaticShape() || !getLaneType(type.getElementType()))
    return failure();
  Type element = type.getElementType();
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(attr)) {
    AsmResourceBlob *blob = resource.getRawHandle().getBlob();
    int64_t needed = type.getNumElements() * storedBytes(*getLaneType(element));
    if (!blob || static_cast<int64_t>(blob->getData().size()) < needed)
      return failure();
    return borrow(element, type.getShape(), blob->getData().data());
  }
  auto dense = dyn_cast<DenseElementsAttr>(attr);
  if (!dense)
    return failure();
  // Attributes may pack bits; going through values does not depend on it.
  if (element.isInteger(1)) {
    Tensor tensor(element, type.getShape());
    if (type.getNumElements())
      llvm::copy(dense.getValues<bool>(),
                 reinterpret_cast<bool *>(tensor.getMutableBytes()));
    return tensor;
  }
  ArrayRef<char> raw = dense.getRawData();
  if (!dense.isSplat() || type.getNumElements() <= 1)
    return borrow(element, type.getShape(), raw.data());
  Tensor tensor(element, type.getShape());
  char *to = tensor.getMutableBytes();
  for (int64_t i = 0, n = type.getNumElements(); i < n; ++i)
    std::memcpy(to + i * raw.size(), raw.data(), raw.size());
  return tensor;
}

DenseElementsAttr Tensor::toAttr() const {
  auto type = RankedTensorType::get(shape, elementType);
  if (elementType.isInteger(1))
    return DenseElementsAttr::get(type, getData<bool>());
  return DenseElementsAttr::getFromRawBuffer(
      type, {bytes, static_cast<size_t>(getNumBytes())});
}

double dlc::interp::getTolerance(Type elementType) {
  return elementType.isBF16()          ? 4e-2
         : elementType.isF16()         ? 5e-3
         : isa<FloatType>(elementType) ? 1e-4
                                       : 0;
}

std::string interp::describe(const Tensor &tensor) {
  std::string text;
  llvm::raw_string_ostream os(text);
  for (int64_t d : tensor.getShape())
    os << d << "x";
  os << tensor.getElementType();
  return text;
}
