// Convolutions of images with two axes, channels first.
#include "LibraryForms.h"

#include "dlc/Schedule/OperandForm.h"

#include <array>
#include <climits>

using namespace mlir;
using namespace dlc;

namespace {
/// Tells from the strides of the sum's axes in the image what they are.
class AxisReader {
public:
  AxisReader(const ContractionSpec &spec, const ContractionOperand &image,
             std::array<int64_t, 4> size)
      : spec(spec), image(image), size(size) {}

  bool read();
  int64_t batch = 1, channels = 1;
  /// By [rows, columns].
  std::array<int64_t, 2> taps{1, 1}, dilations{1, 1}, places{1, 1}, steps{1, 1};

private:
  bool take(unsigned axis, bool isInner);
  /// Each thing is one axis at most.
  bool once(unsigned slot) { return !std::exchange(seen[slot], true); }

  const ContractionSpec &spec;
  const ContractionOperand &image;
  std::array<int64_t, 4> size;
  std::array<bool, 6> seen{};
};
} // namespace

bool AxisReader::take(unsigned axis, bool isInner) {
  auto stride = graph::constantValue(image.strides[axis]),
       extent = graph::constantValue(spec.space.extents[axis]);
  if (!stride || !extent || *stride <= 0)
    return false;
  auto [batches, depth, height, width] = size;
  int64_t rest = *stride;
  if (rest == depth * height * width && !isInner) {
    batch = *extent;
    return once(4);
  }
  if (rest == height * width && isInner) {
    channels = *extent;
    return once(5);
  }
  bool alongRows = rest % width == 0;
  unsigned side = alongRows ? 0 : 1;
  if (alongRows)
    rest /= width;
  (isInner ? taps : places)[side] = *extent;
  (isInner ? dilations : steps)[side] = rest;
  return once(2 * isInner + side);
}

bool AxisReader::read() {
  auto isKnown = [&](ArrayRef<unsigned> axes, bool isInner) {
    return llvm::all_of(axes,
                        [&](unsigned axis) { return take(axis, isInner); });
  };
  return isKnown(spec.outer, false) && isKnown(spec.columns, false) &&
         isKnown(spec.inner, true);
}

FailureOr<dlc_device_convolution>
dlc::describeConvolution(const ContractionSpec &spec, bool tf32,
                         std::string &reason) {
  auto refuse = [&](const char *why) {
    reason = why;
    return failure();
  };
  const ContractionOperand &filter = spec.lhs;
  // Of what it may be converted from: padding with zeros is the same there.
  ContractionOperand image;
  image.value = spec.rhs.value;
  if (auto cast = image.value.getDefiningOp<graph::CastOp>())
    image.value = cast.getValue();
  describeOperand(image, spec.space);
  if (!filter.plain || !(image.plain || image.guarded))
    return refuse("a factor is computed");
  Type element = spec.resultElement(0);
  auto type = libraryType(element);
  if (!type || !isa<FloatType>(element) || filter.element != element ||
      image.element != element)
    return refuse("it has no convolutions of these types");
  graph::KernelOp kernel = spec.kernel;
  auto shape = cast<RankedTensorType>(kernel.getArgumentTypes()[image.operand]);
  if (shape.getRank() != 4)
    return refuse("its image has not two axes");
  std::array<int64_t, 4> size;
  for (auto [i, dim] : llvm::enumerate(graph::getDims(shape))) {
    auto value = graph::constantValue(dim);
    if (!value || *value < 1)
      return refuse("sizes are symbolic, or nothing");
    size[i] = *value;
  }
  auto extent = [&](ArrayRef<unsigned> axes) {
    return graph::constantValue(spec.extentOf(axes));
  };
  auto stride = [&](ArrayRef<unsigned> axes) -> std::optional<int64_t> {
    auto found = spec.strideOf(filter, axes);
    return found ? graph::constantValue(*found) : std::nullopt;
  };
  auto base = graph::constantValue(image.base);
  auto filters = extent(spec.rows), depth = extent(spec.inner);
  if (!base || *base > 0 || !filters || !depth ||
      graph::constantValue(filter.base) != 0 || stride(spec.rows) != *depth ||
      stride(spec.inner) != 1)
    return refuse("its filters lie in another order");
  AxisReader axes(spec, image, size);
  auto [batch, channels, height, width] = size;
  if (!axes.read() || axes.batch != batch || axes.channels != channels ||
      channels * axes.taps[0] * axes.taps[1] != *depth)
    return refuse("its image lies in another order");
  std::array<int64_t, 2> pads{-*base / width, -*base % width};
  for (unsigned side : {0u, 1u}) {
    int64_t covered = size[2 + side] + 2 * pads[side] -
                      axes.dilations[side] * (axes.taps[side] - 1) - 1;
    if (covered < 0 || covered / axes.steps[side] + 1 != axes.places[side])
      return refuse("its padding differs at both ends");
  }
  dlc_device_convolution c = {};
  c.filter = filter.operand;
  c.image = image.operand;
  llvm::copy(size, c.size);
  c.filters = *filters;
  llvm::copy(axes.taps, c.taps);
  llvm::copy(axes.places, c.places);
  llvm::copy(pads, c.pads);
  llvm::copy(axes.steps, c.steps);
  llvm::copy(axes.dilations, c.dilations);
  c.type = *type;
  c.tf32 = tf32;
  for (int64_t number : {batch, channels, height, width, *filters})
    if (number > INT_MAX)
      return refuse("a size is no int");
  return c;
}
