#include "dlc/Dialect/Graph/IR/ConstantBytes.h"

#include "mlir/IR/DialectResourceBlobManager.h"

#include <cstring>

using namespace mlir;
using namespace dlc::graph;

ArrayRef<char> dlc::graph::rawBytesOf(ElementsAttr value) {
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(value)) {
    AsmResourceBlob *blob = resource.getRawHandle().getBlob();
    return blob ? blob->getData() : ArrayRef<char>();
  }
  auto dense = dyn_cast<DenseElementsAttr>(value);
  return dense && !dense.isSplat() ? dense.getRawData() : ArrayRef<char>();
}

ByteStrides ByteStrides::rowMajor(ArrayRef<int64_t> shape, int64_t size) {
  ByteStrides strides{0, SmallVector<int64_t>(shape.size(), size)};
  for (size_t i = shape.size(); i-- > 1;)
    strides.steps[i - 1] = strides.steps[i] * shape[i];
  return strides;
}

void dlc::graph::copyElements(ArrayRef<int64_t> shape, int64_t size,
                              const char *source, const ByteStrides &from,
                              char *target, const ByteStrides &to) {
  if (llvm::is_contained(shape, 0))
    return;
  source += from.offset;
  target += to.offset;
  SmallVector<int64_t> at(shape.size(), 0);
  for (;;) {
    std::memcpy(target, source, static_cast<size_t>(size));
    size_t axis = shape.size();
    for (; axis-- > 0;) {
      source += from.steps[axis];
      target += to.steps[axis];
      if (++at[axis] < shape[axis])
        break;
      source -= from.steps[axis] * shape[axis];
      target -= to.steps[axis] * shape[axis];
      at[axis] = 0;
    }
    if (axis == size_t(-1))
      return;
  }
}
