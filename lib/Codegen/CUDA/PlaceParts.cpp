// See the header.
#include "PlaceParts.h"
#include "MmaSync.h"

#include "dlc/Schedule/ContractionSpec.h"

#include "mlir/IR/IntegerSet.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

static constexpr int64_t kWordBytes = 4;

namespace {
/// Which block arguments are the element's and which the step's.
struct Sides {
  unsigned numElement, numAll;

  bool has(AffineExpr expr, bool ofStep) const {
    for (unsigned i = ofStep ? numElement : 0,
                  end = ofStep ? numAll : numElement;
         i < end; ++i)
      if (expr.isFunctionOfDim(i))
        return true;
    return false;
  }
};
} // namespace

/// `expr` = first + second, which depend on the element and on the step alone;
/// what depends on neither is the first's.
static std::optional<std::pair<AffineExpr, AffineExpr>>
splitSum(AffineExpr expr, const Sides &sides) {
  AffineExpr zero = getAffineConstantExpr(0, expr.getContext());
  if (!sides.has(expr, /*ofStep=*/true))
    return std::pair(expr, zero);
  if (!sides.has(expr, /*ofStep=*/false) &&
      expr.getKind() != AffineExprKind::Add)
    return std::pair(zero, expr);
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  if (!binary)
    return std::nullopt;
  if (expr.getKind() == AffineExprKind::Add) {
    auto x = splitSum(binary.getLHS(), sides),
         y = splitSum(binary.getRHS(), sides);
    if (!x || !y)
      return std::nullopt;
    return std::pair(x->first + y->first, x->second + y->second);
  }
  if (expr.getKind() != AffineExprKind::Mul)
    return std::nullopt;
  AffineExpr sum = binary.getLHS(), factor = binary.getRHS();
  if (sides.has(factor, true) || sides.has(factor, false))
    return std::nullopt;
  auto parts = splitSum(sum, sides);
  if (!parts)
    return std::nullopt;
  return std::pair(parts->first * factor, parts->second * factor);
}

static std::optional<PlaceParts> splitPlace(StageOp stage, LoadOp load) {
  MLIRContext *context = stage.getContext();
  Sides sides{static_cast<unsigned>(stage.getDomainRank()),
              stage.getBlock()->getNumArguments()};
  // From the load's coordinates to the block's arguments.
  SmallVector<AffineExpr> arguments;
  for (Value coordinate : load.getCoords())
    arguments.push_back(getAffineDimExpr(
        cast<BlockArgument>(coordinate).getArgNumber(), context));
  auto split = [&](AffineExpr expr) {
    return splitSum(simplify(expr.replaceDims(arguments)), sides);
  };
  PlaceParts parts;
  parts.load = load;
  for (AffineExpr expr : load.getMap().getResults()) {
    auto sum = split(expr);
    if (!sum)
      return std::nullopt;
    parts.element.push_back(sum->first);
    parts.step.push_back(sum->second);
  }
  if (!load.getGuard())
    return parts;
  IntegerSet set = *load.getGuard();
  for (unsigned i = 0; i < set.getNumConstraints(); ++i) {
    auto sum = split(set.getConstraint(i));
    if (!sum)
      return std::nullopt;
    parts.guards.push_back({sum->first, sum->second, set.isEq(i)});
  }
  unsigned nextBit = 0;
  for (unsigned axis = sides.numElement; axis < sides.numAll; ++axis) {
    auto dependsOn = [&](const PlaceParts::Guard &guard) {
      return guard.step.isFunctionOfDim(axis);
    };
    if (llvm::none_of(parts.guards, dependsOn))
      continue;
    auto extent = constantValue(stage.getReduceDims()[axis - sides.numElement]);
    if (!extent || *extent < 1 || *extent > kAnyTap - nextBit)
      return std::nullopt;
    parts.taps.push_back({axis, *extent, nextBit});
    nextBit += static_cast<unsigned>(*extent);
  }
  for (const PlaceParts::Guard &guard : parts.guards)
    if (llvm::count_if(parts.taps, [&](const PlaceParts::Taps &taps) {
          return guard.step.isFunctionOfDim(taps.axis);
        }) > 1)
      return std::nullopt;
  return parts;
}

/// The part's number of elements from the operand's first.
static AffineExpr placeOf(StageOp stage, const PlaceParts &parts,
                          ArrayRef<AffineExpr> map) {
  AffineExpr place = getAffineConstantExpr(0, stage.getContext());
  LoadOp load = parts.load;
  for (auto [expr, size] :
       llvm::zip_equal(map, getDims(load.getTensor().getType())))
    place = simplify(place * size + expr);
  return place;
}

/// The distance of the places of neighbours along these axes, walked as one.
static std::optional<int64_t> strideAlong(StageOp stage, AffineExpr place,
                                          ArrayRef<unsigned> axes,
                                          ArrayRef<AffineExpr> extents) {
  SmallVector<unsigned> wide;
  llvm::copy_if(axes, std::back_inserter(wide), [&](unsigned axis) {
    return constantValue(extents[axis]) != 1;
  });
  auto stride = collapsedStride(
      wide, [&](unsigned axis) { return linearCoefficient(place, axis); },
      extents, stage.getContext());
  return stride ? constantValue(*stride) : std::nullopt;
}

/// Whether the part stays below 2^31.
static bool isNarrow(AffineExpr place, ArrayRef<AffineExpr> extents) {
  int64_t most = 0;
  for (auto [axis, size] : llvm::enumerate(extents)) {
    if (!place.isFunctionOfDim(axis))
      continue;
    auto coefficient = linearCoefficient(place, axis);
    auto stride = coefficient ? constantValue(*coefficient) : std::nullopt,
         extent = constantValue(size);
    if (!stride || !extent || *extent > INT32_MAX ||
        std::abs(*stride) > INT32_MAX)
      return false;
    most += std::abs(*stride) * *extent;
  }
  AffineExpr atZero = simplify(place.replaceDims(SmallVector<AffineExpr>(
      extents.size(), getAffineConstantExpr(0, place.getContext()))));
  auto base = constantValue(atZero);
  return base && most + std::abs(*base) <= INT32_MAX;
}

int64_t dlc::tableEntries(const Contraction &c, bool isLeft) {
  auto parts = partsOf(c, isLeft);
  if (!parts || parts->stride)
    return 0;
  if (!copyOf(c, isLeft).alongFold)
    return 2 * c.panelSteps;
  return isLeft ? c.tileRows : c.tileColumns;
}

/// Whether what a thread copies is so much apart that its element, or its step,
/// stays.
static bool stays(const Contraction &c, FactorCopy copy, int64_t extent) {
  if (c.usesTensorCores()) {
    int64_t perChunk = kChunkBytes / elementBytes(copy.load.getType());
    int64_t chunks = extent * c.panelSteps / perChunk;
    return !copy.alongFold && !copy.contiguous && chunks % c.threads == 0 &&
           c.threads % (copy.transposed ? extent / perChunk : extent) == 0;
  }
  int64_t atOnce = c.threads * (copy.contiguous ? kChunkBytes / kWordBytes : 1);
  return copy.isAsync() && extent * c.panelSteps % atOnce == 0 &&
         atOnce % (copy.alongFold ? c.panelSteps : extent) == 0;
}

std::optional<PlaceParts> dlc::partsOf(const Contraction &c, bool isLeft) {
  FactorCopy copy = copyOf(c, isLeft);
  if (!copy.load || !stays(c, copy, isLeft ? c.tileRows : c.tileColumns))
    return std::nullopt;
  StageOp stage = c.stage;
  auto parts = splitPlace(stage, copy.load);
  if (!parts)
    return std::nullopt;
  SmallVector<AffineExpr> extents(stage.getDomainDims());
  llvm::append_range(extents, stage.getReduceDims());
  SmallVector<unsigned> walked(isLeft ? c.rowAxes : c.columnAxes);
  if (!copy.alongFold) {
    walked.clear();
    for (unsigned axis = stage.getDomainRank(); axis < extents.size(); ++axis)
      walked.push_back(axis);
  }
  AffineExpr place =
      placeOf(stage, *parts, copy.alongFold ? parts->element : parts->step);
  if (parts->guards.empty())
    parts->stride = strideAlong(stage, place, walked, extents);
  // Tensor cores' even steps are as quick by arithmetic.
  if (parts->stride ? c.usesTensorCores() : !isNarrow(place, extents))
    return std::nullopt;
  return parts;
}
