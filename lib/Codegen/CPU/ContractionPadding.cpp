// Counting the products with padding of a convolution.
#include "ContractionPadding.h"

#include "dlc/Schedule/OperandForm.h"

using namespace mlir;
using namespace dlc;

/// The part of the points of a guard's axes at which it fails; 0 where that
/// cannot be counted.
static double failedPart(const ContractionSpec &spec, AffineExpr guard,
                         bool isEquality) {
  constexpr int64_t most = 1 << 12;
  SmallVector<unsigned> axes;
  SmallVector<int64_t> sizes;
  int64_t points = 1, failed = 0;
  for (unsigned axis = 0; axis < spec.space.extents.size(); ++axis) {
    if (!guard.isFunctionOfDim(axis))
      continue;
    auto extent = graph::constantValue(spec.space.extents[axis]);
    if (!extent || *extent < 1 || (points *= *extent) > most)
      return 0;
    axes.push_back(axis);
    sizes.push_back(*extent);
  }
  llvm::DenseMap<AffineExpr, AffineExpr> at;
  for (int64_t point = 0; point < points; ++point) {
    int64_t rest = point;
    for (auto [axis, size] : llvm::zip_equal(axes, sizes)) {
      at[getAffineDimExpr(axis, spec.context())] =
          getAffineConstantExpr(rest % size, spec.context());
      rest /= size;
    }
    auto value = graph::constantValue(graph::simplify(guard.replace(at)));
    if (!value)
      return 0;
    failed += isEquality ? *value != 0 : *value < 0;
  }
  return static_cast<double>(failed) / static_cast<double>(points);
}

ImagePadding::ImagePadding(const ContractionSpec &spec) {
  if (spec.rows.empty() || !graph::constantValue(spec.extentOf(spec.rows)) ||
      outsideOf(spec.lhs))
    return;
  unsigned last = spec.rows.back();
  width = *graph::constantValue(spec.space.extents[last]);
  for (auto &[isEquality, guard] : spec.lhs.guards)
    (guard.isFunctionOfDim(last) ? beside : above) +=
        failedPart(spec, guard, isEquality);
}

double ImagePadding::skippedBy(unsigned rows) const {
  if (width <= 0)
    return 0;
  bool starts = rows % width == 0,
       stays = starts ? rows == width : width % rows == 0;
  return (starts ? beside : 0) + (stays ? above : 0);
}
