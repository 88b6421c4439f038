// See the header.
#include "CudaPeers.h"

#include "dlc/Codegen/CUDA/CudaProduct.h"
#include "dlc/Schedule/OperandForm.h"

#include "llvm/Support/raw_ostream.h"

#include <array>

using namespace mlir;
using namespace dlc;

static std::optional<int64_t> constantOf(std::optional<AffineExpr> expr) {
  return expr ? graph::constantValue(*expr) : std::nullopt;
}

/// Whether a library has products of these factors with this result.
static bool hasTypes(Type lhs, Type rhs, Type result) {
  if (lhs != rhs)
    return false;
  if (lhs.isF32())
    return result.isF32();
  if (lhs.isF16() || lhs.isBF16())
    return result == lhs || result.isF32();
  return lhs.isSignlessInteger(8) && result.isSignlessInteger(32);
}

namespace {
class Describer {
public:
  Describer(const ContractionSpec &spec, bool tf32) : spec(spec), tf32(tf32) {}
  std::string product();
  std::string convolution();

private:
  std::optional<int64_t> extentOf(ArrayRef<unsigned> axes) {
    return graph::constantValue(spec.extentOf(axes));
  }
  std::optional<int64_t> strideOf(const ContractionOperand &factor,
                                  ArrayRef<unsigned> axes) {
    return axes.empty() ? std::optional<int64_t>(0)
                        : constantOf(spec.strideOf(factor, axes));
  }
  Type resultType() { return spec.resultElement(0); }
  std::string head(StringRef kind, int64_t left, int64_t right) {
    return (kind + (yieldsSum(spec) ? " 1" : " 0") + (tf32 ? " 1 " : " 0 ") +
            Twine(left) + " " + Twine(right))
        .str();
  }

  const ContractionSpec &spec;
  bool tf32;
};
} // namespace

std::string Describer::product() {
  std::string reason, text;
  auto p = describeProduct(spec, tf32, reason);
  if (failed(p))
    return {};
  llvm::raw_string_ostream os(text);
  os << head("product", p->left, p->right);
  for (int64_t number : {p->batch, p->rows, p->columns, p->depth})
    os << " " << number;
  for (ArrayRef<int64_t> strides :
       {ArrayRef(p->left_strides), ArrayRef(p->right_strides)})
    for (int64_t number : strides)
      os << " " << number;
  return text;
}

// What an axis of the sum means to an image of [batch, channels, rows, columns]
// is told by its stride there.
std::string Describer::convolution() {
  const ContractionOperand &filter = spec.lhs;
  // Of what it may be converted from: padding with zeros is the same there.
  ContractionOperand image;
  image.value = spec.rhs.value;
  if (auto cast = image.value.getDefiningOp<graph::CastOp>())
    image.value = cast.getValue();
  describeOperand(image, spec.space);
  if (!filter.plain || !(image.plain || image.guarded) ||
      !hasTypes(filter.element, image.element, resultType()) ||
      !isa<FloatType>(resultType()) || resultType() != image.element ||
      graph::constantValue(filter.base) != 0)
    return {};
  graph::KernelOp kernel = spec.kernel;
  auto type = cast<RankedTensorType>(kernel.getArgumentTypes()[image.operand]);
  if (type.getRank() != 4)
    return {};
  std::array<int64_t, 4> size;
  for (auto [i, dim] : llvm::enumerate(graph::getDims(type))) {
    auto value = graph::constantValue(dim);
    if (!value)
      return {};
    size[i] = *value;
  }
  auto [batch, channels, height, width] = size;
  auto base = graph::constantValue(image.base);
  auto filters = extentOf(spec.rows), depth = extentOf(spec.inner);
  if (!base || *base > 0 || !filters || !depth ||
      strideOf(filter, spec.rows) != *depth ||
      strideOf(filter, spec.inner) != 1)
    return {};
  // By [rows, columns].
  std::array<int64_t, 2> pads{-*base / width, -*base % width}, taps{1, 1},
      dilations{1, 1}, places{1, 1}, steps{1, 1};
  std::array<bool, 6> seen{};
  int64_t seenChannels = 1, seenBatch = 1;
  auto take = [&](unsigned axis, bool isInner) {
    auto stride = graph::constantValue(image.strides[axis]),
         extent = graph::constantValue(spec.space.extents[axis]);
    if (!stride || !extent || *stride <= 0)
      return false;
    auto once = [&](unsigned slot) { return !std::exchange(seen[slot], true); };
    int64_t rest = *stride;
    if (rest == channels * height * width && !isInner) {
      seenBatch = *extent;
      return once(4);
    }
    if (rest == height * width && isInner) {
      seenChannels = *extent;
      return once(5);
    }
    bool alongRows = rest % width == 0;
    unsigned side = alongRows ? 0 : 1;
    if (alongRows)
      rest /= width;
    (isInner ? taps : places)[side] = *extent;
    (isInner ? dilations : steps)[side] = rest;
    return once(2 * isInner + side);
  };
  for (ArrayRef<unsigned> axes :
       {ArrayRef<unsigned>(spec.outer), ArrayRef<unsigned>(spec.columns)})
    for (unsigned axis : axes)
      if (!take(axis, false))
        return {};
  for (unsigned axis : spec.inner)
    if (!take(axis, true))
      return {};
  if (seenBatch != batch || seenChannels != channels ||
      channels * taps[0] * taps[1] != *depth)
    return {};
  for (unsigned side : {0u, 1u}) {
    int64_t covered = size[2 + side] + 2 * pads[side] -
                      dilations[side] * (taps[side] - 1) - 1;
    if (covered < 0 || covered / steps[side] + 1 != places[side])
      return {};
  }
  std::string text;
  llvm::raw_string_ostream os(text);
  os << head("convolution", filter.operand, image.operand);
  for (int64_t number : {batch, channels, height, width, *filters, taps[0],
                         taps[1], places[0], places[1], pads[0], pads[1],
                         steps[0], steps[1], dilations[0], dilations[1]})
    os << " " << number;
  return text;
}

std::string dlc::describePeer(graph::KernelOp kernel, bool tf32) {
  std::string reason;
  auto spec = classifyContraction(kernel, reason);
  if (failed(spec))
    return {};
  Describer describer(*spec, tf32);
  std::string product = describer.product();
  return product.empty() ? describer.convolution() : product;
}
