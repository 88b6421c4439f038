// hom(welford): found in the kernel's folds by their inlined expressions.
#include "Moments.h"

#include "FoldForm.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

namespace {
class MomentsForm : FoldForm {
public:
  explicit MomentsForm(KernelOp kernel) : FoldForm(kernel, "hom(welford)") {}

  Admission check() {
    return conclude([&] { return checkFolds(); });
  }

private:
  bool checkFolds();
  bool checkSquares(unsigned fold, NodeId body, const Place &place);
  bool checkMean(NodeId mean, NodeId x, unsigned fold, const Place &place);
  bool checkSum(unsigned sum, unsigned squares);
  bool isCount(NodeId divisor, unsigned fold);
  bool readsFolds(NodeId node);
  PolyId product(ArrayRef<PolyId> sizes) {
    PolyId result = index.constant(1);
    for (PolyId size : sizes)
      result = index.mul(result, size);
    return result;
  }
};
} // namespace

// Folds of a constant are expressions: they count.
static bool isOfConstant(StageOp stage) {
  return stage.getYielded().getDefiningOp<LiteralOp>() != nullptr;
}

static bool isSumOfFloats(StageOp stage) {
  return stage.getFoldKind() == FoldKind::add && !stage.getInit() &&
         isa<Float32Type, Float64Type>(stage.getElementType());
}

bool MomentsForm::readsFolds(NodeId node) {
  bool found = false;
  walk(node, [&](const Node &n) { found |= loadedFold(n).has_value(); });
  return found;
}

bool MomentsForm::checkFolds() {
  readFolds([](StageOp stage) { return !isOfConstant(stage); });
  bool isFound = false;
  for (unsigned i = 0; i < folds.size(); ++i) {
    Place place = placeOf(i);
    NodeId body = bodyAt(i, place.at, place.keys, place.context);
    if (!readsFolds(body))
      continue;
    isFound = true;
    if (!checkSquares(i, body, place))
      return false;
  }
  return isFound ? true : refuse("no fold reads another");
}

bool MomentsForm::checkSquares(unsigned fold, NodeId body, const Place &place) {
  if (!isSumOfFloats(folds[fold]))
    return refuse("a fold that reads another is no sum of float32 or float64");
  if (exprs.get(body).kind == Node::Cast)
    return refuse("the squares are rounded before they are summed (C-ROUND)");
  std::optional<NodeId> deviation;
  if (auto a = argument(body, ScalarFn::mul, 0);
      a && *a == *argument(body, ScalarFn::mul, 1))
    deviation = a;
  if (auto a = argument(body, ScalarFn::pow, 0)) {
    auto exponent = number(*argument(body, ScalarFn::pow, 1));
    if (exponent && exponent->isExactlyValue(2.0))
      deviation = a;
  }
  if (!deviation)
    return refuse("a fold that reads another is not of squares");
  if (exprs.get(*deviation).kind == Node::Cast)
    return refuse("x - mean is rounded before it is squared (C-ROUND)");
  auto x = argument(*deviation, ScalarFn::sub, 0);
  if (!x)
    return refuse("what is squared is not x - mean");
  if (readsFolds(*x))
    return refuse("what the mean is subtracted from reads a fold");
  return checkMean(*argument(*deviation, ScalarFn::sub, 1), *x, fold, place);
}

// S / n: the mean of x at the row where it is read.
bool MomentsForm::checkMean(NodeId mean, NodeId x, unsigned fold,
                            const Place &place) {
  if (exprs.get(mean).kind == Node::Cast)
    return refuse("the mean is rounded before it is subtracted (C-ROUND)");
  auto sum = argument(mean, ScalarFn::div, 0);
  if (!sum)
    return refuse("what is subtracted is not a sum divided by a count");
  if (exprs.get(*sum).kind == Node::Cast)
    return refuse("the sum is rounded before it is divided (C-ROUND)");
  auto number = loadedFold(exprs.get(*sum));
  if (!number)
    return refuse("what is divided is not a sum of this kernel");
  if (!checkSum(*number, fold))
    return false;
  if (!isCount(*argument(mean, ScalarFn::div, 1), fold))
    return refuse("the divisor is not the number of elements that are summed");
  if (varies(*sum))
    return refuse("the mean varies along the folded axes");
  const Node &load = exprs.get(*sum);
  SmallVector<PolyId> row(load.args.begin(), load.args.end());
  if (!areEqual(x, bodyAt(*number, row, place.keys, place.context),
                place.context))
    return refuse("the sum is of another tensor, or of other places");
  return true;
}

bool MomentsForm::checkSum(unsigned sum, unsigned squares) {
  if (!isSumOfFloats(folds[sum]) ||
      folds[sum].getElementType() != folds[squares].getElementType())
    return refuse("what is divided is no sum of the squares' type");
  if (extents[sum] != extents[squares])
    return refuse("the folds run over other axes");
  return true;
}

// The number of the fold's steps: a literal, a sum of ones, or a size.
bool MomentsForm::isCount(NodeId divisor, unsigned fold) {
  PolyId steps = product(extents[fold]);
  const Node &n = exprs.get(divisor);
  if (auto value = number(divisor)) {
    auto count = index.constantValue(steps);
    if (!count)
      return false;
    APFloat exact(value->getSemantics());
    return exact.convertFromAPInt(APInt(64, *count), /*IsSigned=*/true,
                                  APFloat::rmNearestTiesToEven) ==
               APFloat::opOK &&
           exact.bitwiseIsEqual(*value);
  }
  if (n.kind == Node::Fold) {
    auto one = number(n.args[0]);
    return n.foldKind() == FoldKind::add && !n.init && one &&
           one->isExactlyValue(1.0) && product(n.extents) == steps;
  }
  if (n.kind == Node::Cast && isa<FloatType>(n.type)) {
    const Node &size = exprs.get(n.args[0]);
    return size.kind == Node::Coord && size.args[0] == steps;
  }
  return false;
}

Admission check::admitMoments(KernelOp kernel, NumericsMode mode) {
  if (mode == NumericsMode::strict)
    return {false, "hom(welford): -fp=strict keeps the order of folds"};
  return MomentsForm(kernel).check();
}
