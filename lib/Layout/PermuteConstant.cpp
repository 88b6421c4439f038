// The elements of a constant in another order.
#include "Regions.h"

#include "dlc/Dialect/Graph/IR/ConstantBytes.h"

using namespace mlir;
using namespace dlc;

// Weights lie in the mapped file and are not copied; small ones may be.
static constexpr int64_t kMostBytes = int64_t(1) << 22;

ElementsAttr layout::permuteConstant(ElementsAttr value,
                                     ArrayRef<int64_t> permutation) {
  auto type = cast<RankedTensorType>(value.getType());
  Type element = type.getElementType();
  ArrayRef<char> bytes = graph::rawBytesOf(value);
  int64_t count = type.getNumElements();
  if (!element.isIntOrFloat() || element.getIntOrFloatBitWidth() % 8 != 0)
    return {};
  int64_t size = element.getIntOrFloatBitWidth() / 8;
  if (count * size > kMostBytes || int64_t(bytes.size()) != count * size)
    return {};
  auto permuted = permuteType(type, permutation);
  graph::ByteStrides all = graph::ByteStrides::rowMajor(type.getShape(), size),
                     from;
  for (int64_t axis : permutation)
    from.steps.push_back(all.steps[axis]);
  std::vector<char> moved(bytes.size());
  graph::copyElements(permuted.getShape(), size, bytes.data(), from,
                      moved.data(),
                      graph::ByteStrides::rowMajor(permuted.getShape(), size));
  return cast<ElementsAttr>(
      DenseElementsAttr::getFromRawBuffer(permuted, moved));
}
