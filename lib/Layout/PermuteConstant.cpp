// The elements of a constant in another order.
#include "Regions.h"

#include "mlir/IR/DialectResourceBlobManager.h"

#include <cstring>

using namespace mlir;
using namespace dlc;

// Weights lie in the mapped file and are not copied; small ones may be.
static constexpr int64_t kMostBytes = int64_t(1) << 22;

static ArrayRef<char> rawBytes(ElementsAttr value) {
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(value)) {
    AsmResourceBlob *blob = resource.getRawHandle().getBlob();
    return blob ? blob->getData() : ArrayRef<char>();
  }
  auto dense = dyn_cast<DenseElementsAttr>(value);
  return dense && !dense.isSplat() ? dense.getRawData() : ArrayRef<char>();
}

ElementsAttr layout::permuteConstant(ElementsAttr value,
                                     ArrayRef<int64_t> permutation) {
  auto type = cast<RankedTensorType>(value.getType());
  Type element = type.getElementType();
  ArrayRef<char> bytes = rawBytes(value);
  int64_t count = type.getNumElements();
  if (!element.isIntOrFloat() || element.getIntOrFloatBitWidth() % 8 != 0)
    return {};
  int64_t size = element.getIntOrFloatBitWidth() / 8;
  if (count * size > kMostBytes || int64_t(bytes.size()) != count * size)
    return {};
  ArrayRef<int64_t> shape = type.getShape();
  SmallVector<int64_t> strides(shape.size(), size), place(shape.size(), 0);
  for (size_t i = shape.size(); i-- > 1;)
    strides[i - 1] = strides[i] * shape[i];
  std::vector<char> moved(bytes.size());
  for (int64_t n = 0; n < count; ++n) { // in the new order
    int64_t from = 0;
    for (auto [i, axis] : llvm::enumerate(permutation))
      from += place[i] * strides[axis];
    std::memcpy(moved.data() + n * size, bytes.data() + from, size);
    for (size_t i = place.size(); i-- > 0;) {
      if (++place[i] < shape[permutation[i]])
        break;
      place[i] = 0;
    }
  }
  return cast<ElementsAttr>(DenseElementsAttr::getFromRawBuffer(
      permuteType(type, permutation), moved));
}
