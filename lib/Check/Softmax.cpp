// hom(softmax) and round(softmax): found in the kernel's folds by their inlined
// expressions.
#include "Softmax.h"

#include "FoldForm.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

namespace {
class SoftmaxForm : FoldForm {
public:
  explicit SoftmaxForm(KernelOp kernel, bool mayRound = false)
      : FoldForm(kernel, mayRound ? "round(softmax)" : "hom(softmax)"),
        mayRound(mayRound) {}

  Admission check() {
    return conclude([&] {
      return findMaximum() && checkSums() && (!mayRound || checkRounding());
    });
  }

private:
  bool findMaximum();
  bool checkSums();
  bool checkSum(unsigned fold);
  bool checkExponential(NodeId exponential, ArrayRef<PolyId> keys,
                        ContextId context);
  bool isRowFunction(NodeId node, unsigned own);
  bool checkRounding();

  bool mayRound;
  Type valueType;         ///< 16 bits, of what is weighted; null: nothing is
  bool isRounded = false; ///< a weight is, to that type
  std::optional<unsigned> maximum;
  SmallVector<unsigned> sums; ///< that read the maximum
};
} // namespace

bool SoftmaxForm::findMaximum() {
  readFolds([](StageOp) { return true; });
  for (auto [number, stage] : llvm::enumerate(folds)) {
    if (stage.getFoldKind() != FoldKind::max)
      continue;
    if (maximum)
      return refuse("two maxima");
    if (stage.getInit())
      return refuse("the maximum starts from a number of its own");
    maximum = number;
  }
  return maximum ? true : refuse("no maximum");
}

bool SoftmaxForm::checkSums() {
  for (unsigned i = 0; i < folds.size(); ++i) {
    if (i == *maximum)
      continue;
    Place place = placeOf(i);
    if (loads(bodyAt(i, place.at, place.keys, index.emptyContext()), *maximum))
      sums.push_back(i);
  }
  if (sums.empty())
    return refuse("no sum reads the maximum");
  return llvm::all_of(sums, [&](unsigned fold) { return checkSum(fold); });
}

// Of the row only, made of the maximum, of this kernel's sums of exponentials
// (but not of `own`) and of operands.
bool SoftmaxForm::isRowFunction(NodeId node, unsigned own) {
  if (varies(node))
    return false;
  bool isClean = true;
  walk(node, [&](const Node &n) {
    if (n.kind != Node::Load || n.payload < numOperands)
      return;
    unsigned fold = n.payload - numOperands;
    isClean &=
        fold == *maximum || (fold != own && llvm::is_contained(sums, fold));
  });
  return isClean;
}

// exp(t - r): t is what the maximum is of, at the row where r reads it.
bool SoftmaxForm::checkExponential(NodeId exponential, ArrayRef<PolyId> keys,
                                   ContextId context) {
  auto power = argument(exponential, ScalarFn::exp, 0);
  auto score = power ? argument(*power, ScalarFn::sub, 0) : std::nullopt;
  if (!score)
    return refuse("a sum that reads the maximum is not of exp(t - maximum)");
  NodeId reference = *argument(*power, ScalarFn::sub, 1);
  if (varies(reference))
    return refuse("what is subtracted varies along the folded axes");
  std::optional<SmallVector<PolyId>> row;
  bool isOne = true;
  walk(reference, [&](const Node &n) {
    if (n.kind != Node::Load || n.payload < numOperands)
      return;
    SmallVector<PolyId> at(n.args.begin(), n.args.end());
    isOne &= n.payload == numOperands + *maximum && (!row || *row == at);
    row = at;
  });
  if (!row || !isOne)
    return refuse("what is subtracted is not one row's maximum");
  NodeId maximised = bodyAt(*maximum, *row, keys, context);
  if (!areEqual(*score, maximised, context))
    return refuse("the maximum is of another tensor, or of other places");
  return true;
}

bool SoftmaxForm::checkSum(unsigned fold) {
  StageOp stage = folds[fold];
  if (stage.getFoldKind() != FoldKind::add || stage.getInit() ||
      !isa<FloatType>(stage.getElementType()))
    return refuse("a fold that reads the maximum is no sum of floats");
  if (extents[fold] != extents[*maximum])
    return refuse("the folds run over other axes");
  Place point = placeOf(fold);
  const SmallVector<PolyId> &keys = point.keys;
  ContextId context = point.context;
  NodeId weight = bodyAt(fold, point.at, keys, context);
  bool weighs = false;
  // Off with the factor that is summed with it.
  if (auto a = argument(weight, ScalarFn::mul, 0)) {
    NodeId b = *argument(weight, ScalarFn::mul, 1);
    bool inA = loads(*a, *maximum), inB = loads(b, *maximum);
    if (inA != inB) {
      weight = inA ? *a : b;
      const Node &value = exprs.get(inA ? b : *a);
      Type from =
          value.kind == Node::Cast ? exprs.get(value.args[0]).type : Type();
      if (mayRound && (!from || !(from.isF16() || from.isBF16()) ||
                       (valueType && valueType != from)))
        return refuse("the values are not of one 16-bit float type");
      valueType = from;
      weighs = true;
      walk(inA ? b : *a, [&](const Node &n) {
        if (n.kind == Node::Load && n.payload >= numOperands)
          refuse("what is weighted is a fold of this kernel");
      });
      if (isRefused())
        return false;
    }
  }
  // And with what is the row's: it may stand behind the sum as well.
  SmallVector<NodeId> rows;
  while (true) {
    const Node &n = exprs.get(weight);
    if (n.kind == Node::Cast) {
      Type from = exprs.get(n.args[0]).type;
      bool isFloat = isa<FloatType>(n.type) && isa<FloatType>(from);
      bool rounds = isFloat && n.type.getIntOrFloatBitWidth() <
                                   from.getIntOrFloatBitWidth();
      if (!isFloat || (rounds && !(mayRound && weighs && n.type == valueType)))
        return refuse("the weights are rounded before they are summed "
                      "(C-ROUND)");
      isRounded |= rounds;
      weight = n.args[0];
    } else if (n.kind == Node::Apply && n.fn() == ScalarFn::div) {
      rows.push_back(n.args[1]);
      weight = n.args[0];
    } else if (n.kind == Node::Apply && n.fn() == ScalarFn::mul) {
      bool first = isRowFunction(n.args[0], fold);
      rows.push_back(n.args[first ? 0 : 1]);
      weight = n.args[first ? 1 : 0];
    } else if (n.kind == Node::Apply && n.fn() == ScalarFn::select) {
      // A row is kept or is 0; isnan of a weight tells of its row.
      auto isZero = [&](NodeId id) {
        auto value = number(id);
        return value && value->isPosZero();
      };
      unsigned zero = isZero(n.args[1]) ? 1 : 2;
      if (!isZero(n.args[zero]))
        return refuse("weights are replaced by other than 0");
      NodeId kept = n.args[3 - zero];
      auto tested = argument(n.args[0], ScalarFn::isnan, 0);
      if (!(zero == 1 && tested && *tested == kept))
        rows.push_back(n.args[0]);
      weight = kept;
    } else {
      break;
    }
  }
  if (!checkExponential(weight, keys, context))
    return false;
  for (NodeId row : rows) {
    if (!isRowFunction(row, fold))
      return refuse("the weights are changed along the folded axes");
    // A divisor is the sum of this row's exponentials.
    bool isOwn = true;
    walk(row, [&](const Node &n) {
      if (n.kind != Node::Load || n.payload < numOperands + 0u)
        return;
      unsigned other = n.payload - numOperands;
      if (other == *maximum)
        return;
      SmallVector<PolyId> place(n.args.begin(), n.args.end());
      isOwn &= areEqual(bodyAt(other, place, keys, context), weight, context);
    });
    if (!isOwn)
      return refuse("the divisor is the sum of other exponentials");
  }
  return true;
}

// Who sees weights that are rounded, where the kernel rounds none: nobody, if
// all that leaves is rounded as much.
bool SoftmaxForm::checkRounding() {
  if (!valueType)
    return refuse("no values are weighted");
  bool isNarrow = llvm::all_of(kernel.getResultTypes(), [&](Type type) {
    return cast<RankedTensorType>(type).getElementType() == valueType;
  });
  return isRounded || isNarrow
             ? true
             : refuse("neither weights nor results are rounded");
}

Admission check::admitRoundedSoftmax(KernelOp kernel, NumericsMode mode) {
  if (mode == NumericsMode::strict)
    return {false, "round(softmax): -fp=strict keeps every rounding"};
  return SoftmaxForm(kernel, /*mayRound=*/true).check();
}

Admission check::admitSoftmax(KernelOp kernel, NumericsMode mode) {
  if (mode == NumericsMode::strict)
    return {false, "hom(softmax): -fp=strict keeps the order of folds"};
  return SoftmaxForm(kernel).check();
}
