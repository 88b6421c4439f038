// Recognizing folds over prefixes.
#include "dlc/Schedule/PrefixFold.h"

#include "dlc/Schedule/IndexPoly.h"

#include "mlir/IR/IntegerSet.h"

using namespace mlir;
using namespace dlc;
using graph::FoldKind;
using graph::StageOp;

bool dlc::isNeutral(FoldKind fold, TypedAttr attr) {
  if (auto f = dyn_cast<FloatAttr>(attr)) {
    APFloat value = f.getValue();
    return fold == FoldKind::add   ? value.isZero()
           : fold == FoldKind::mul ? value.isExactlyValue(1.0)
           : fold == FoldKind::max ? value.isInfinity() && value.isNegative()
           : fold == FoldKind::min ? value.isInfinity() && !value.isNegative()
                                   : false;
  }
  APInt value = cast<IntegerAttr>(attr).getValue();
  bool isUnsigned = graph::isUnsigned(attr.getType());
  switch (fold) {
  case FoldKind::add:
  case FoldKind::bit_or:
    return value.isZero();
  case FoldKind::mul:
    return value.isOne();
  case FoldKind::max:
    return isUnsigned ? value.isMinValue() : value.isMinSignedValue();
  case FoldKind::min:
    return isUnsigned ? value.isMaxValue() : value.isMaxSignedValue();
  default:
    return false;
  }
}

/// The load without which a step of `stage` changes nothing: the body itself,
/// through conversions that keep 0 and 1, or a factor of a summed product.
static graph::LoadOp skippableLoad(StageOp stage, bool strict) {
  FoldKind kind = stage.getFoldKind();
  bool keepsNeutral = kind == FoldKind::add || kind == FoldKind::mul;
  auto find = [&](Value value) -> graph::LoadOp {
    auto cast = value.getDefiningOp<graph::CastOp>();
    for (; cast && keepsNeutral; cast = value.getDefiningOp<graph::CastOp>())
      value = cast.getValue();
    auto load = value.getDefiningOp<graph::LoadOp>();
    auto other = load && load.getGuard()
                     ? load.getOther().getDefiningOp<graph::LiteralOp>()
                     : graph::LiteralOp();
    return other && isNeutral(kind, other.getValueAttr()) ? load
                                                          : graph::LoadOp();
  };
  if (auto load = find(stage.getYielded()))
    return load;
  auto apply = stage.getYielded().getDefiningOp<graph::ApplyOp>();
  bool isExact = !strict || isa<IntegerType>(stage.getElementType());
  if (kind == FoldKind::add && isExact && apply &&
      apply.getFn() == graph::ScalarFn::mul)
    for (Value arg : apply.getArgs())
      if (auto load = find(arg))
        return load;
  return {};
}

/// The axes (numbers of block arguments) that an operation's coordinates are;
/// coordinates that the data tell come after all axes.
static SmallVector<AffineExpr> axesOf(ValueRange coords, StageOp stage) {
  SmallVector<AffineExpr> axes;
  unsigned next = stage.getDomainRank() + stage.getReduceRank();
  for (Value coord : coords) {
    auto arg = dyn_cast<BlockArgument>(coord);
    axes.push_back(getAffineDimExpr(arg ? arg.getArgNumber() : next++,
                                    stage.getContext()));
  }
  return axes;
}

/// The guard's constraints over the stage's axes; equalities are not asked for.
static SmallVector<std::pair<IndexPoly, bool>>
constraintsOf(IntegerSet set, ArrayRef<AffineExpr> axes) {
  SmallVector<std::pair<IndexPoly, bool>> constraints;
  for (auto [e, isEquality] : llvm::zip(set.getConstraints(), set.getEqFlags()))
    constraints.push_back({IndexPoly::get(e.replaceDims(axes)), isEquality});
  return constraints;
}

/// The form that one constraint states, of the axes whose extent is the fold's.
static std::optional<PrefixFold> formOf(const IndexPoly &guard, StageOp stage) {
  unsigned step = stage.getDomainRank();
  AffineExpr extent = stage.getReduceDims()[0];
  auto ofStep = guard.coefficient(step);
  if (!ofStep || ofStep->constant() != -1)
    return std::nullopt;
  for (unsigned axis = 0; axis < step; ++axis) {
    auto own = guard.coefficient(axis);
    auto sign = own ? own->constant() : std::nullopt;
    if (!sign || std::abs(*sign) != 1 ||
        graph::simplify(stage.getDomainDims()[axis] - extent) != 0)
      continue;
    IndexPoly rest = guard.without(axis).without(step);
    if (*sign < 0) // from the last coordinate down
      rest = rest - IndexPoly::get(extent) + IndexPoly(1);
    if (auto distance = rest.constant();
        distance && (*distance == 0 || *distance == -1))
      return PrefixFold{axis, *distance < 0, *sign < 0};
  }
  return std::nullopt;
}

/// Whether the body depends on `axis` through loads' guards `guard` alone.
static bool isOnlyGuarded(StageOp stage, unsigned axis,
                          const IndexPoly &guard) {
  auto result = stage.getBlock()->walk([&](Operation *op) {
    bool fits = true;
    if (auto load = dyn_cast<graph::LoadOp>(op)) {
      SmallVector<AffineExpr> axes = axesOf(load.getCoords(), stage);
      for (AffineExpr e : load.getMap().getResults())
        fits &= !e.replaceDims(axes).isFunctionOfDim(axis);
      if (auto set = load.getGuard())
        for (auto &[poly, isEquality] : constraintsOf(*set, axes))
          fits &= !poly.dependsOnDim(axis) || (!isEquality && poly == guard);
    } else {
      fits = !llvm::is_contained(op->getOperands(),
                                 Value(stage.getBlock()->getArgument(axis)));
    }
    return fits ? WalkResult::advance() : WalkResult::interrupt();
  });
  return !result.wasInterrupted();
}

std::optional<PrefixFold> dlc::findPrefixFold(StageOp stage, bool strict) {
  FoldKind kind = stage.getFoldKind();
  if (kind == FoldKind::none || kind >= FoldKind::argmax ||
      stage.getReduceRank() != 1)
    return std::nullopt;
  graph::LoadOp load = skippableLoad(stage, strict);
  if (!load)
    return std::nullopt;
  for (auto &[guard, isEquality] :
       constraintsOf(*load.getGuard(), axesOf(load.getCoords(), stage)))
    if (auto form = isEquality ? std::nullopt : formOf(guard, stage);
        form && isOnlyGuarded(stage, form->axis, guard))
      return form;
  return std::nullopt;
}
