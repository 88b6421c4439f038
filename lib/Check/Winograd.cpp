// distribute(winograd): the form of the sum is read from the kernel's body, the
// identity is computed in integers. Shares nothing with what makes claims.
#include "Winograd.h"

#include "mlir/IR/IntegerSet.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

static constexpr StringLiteral kAttr = "graph.winograd";

namespace {
struct Claim {
  int64_t tile = 0, denominator = 0;
  ArrayRef<int64_t> pixels, taps, offset, input, filter, output;
};

class WinogradForm {
public:
  explicit WinogradForm(KernelOp kernel) : kernel(kernel) {}

  Admission check() {
    if (readClaim() && checkIdentity())
      checkStages();
    if (reason.empty())
      return {};
    return {false, Law::winograd().str() + ": kernel '" +
                       kernel.getSymName().str() + "': " + reason};
  }

private:
  bool refuse(const Twine &why) {
    if (reason.empty())
      reason = why.str();
    return false;
  }
  bool readClaim();
  bool checkIdentity();
  bool checkStages();
  bool checkSum(StageOp sum);
  /// `load` reads an image at pixel + tap + offset.
  bool checkImage(LoadOp load, StageOp sum);
  bool checkWeights(LoadOp load, StageOp sum);
  /// An affine expression of a load as a sum: coefficients by block argument of
  /// the stage, and what is constant. Nothing when it is not linear.
  struct Linear {
    llvm::SmallDenseMap<unsigned, int64_t> coefficients;
    int64_t constant = 0;
    int64_t of(unsigned argument) const {
      auto it = coefficients.find(argument);
      return it == coefficients.end() ? 0 : it->second;
    }
  };
  std::optional<Linear> linear(AffineExpr expr, ValueRange coords);

  KernelOp kernel;
  Claim claim;
  unsigned pixel[2] = {0, 0}, tap[2] = {0, 0}; ///< as block arguments
  std::string reason;
};
} // namespace

bool WinogradForm::readClaim() {
  auto attr = kernel->getAttrOfType<DictionaryAttr>(kAttr);
  if (!attr)
    return refuse("there is no claim");
  auto number = [&](StringRef name, int64_t &to) {
    auto value = attr.getAs<IntegerAttr>(name);
    if (value)
      to = value.getInt();
    return value || refuse("the claim has no '" + name + "'");
  };
  auto list = [&](StringRef name, ArrayRef<int64_t> &to, int64_t size) {
    auto value = attr.getAs<DenseI64ArrayAttr>(name);
    if (!value || int64_t(value.size()) != size)
      return refuse("the claim's '" + name + "' is not " + Twine(size) +
                    " numbers");
    to = value.asArrayRef();
    return true;
  };
  if (!number("tile", claim.tile) || !number("denominator", claim.denominator))
    return false;
  if (claim.tile < 1 || claim.tile > 8 || claim.denominator < 1)
    return refuse("tiles of this size have no matrices");
  int64_t n = claim.tile + 2;
  return list("pixels", claim.pixels, 2) && list("taps", claim.taps, 2) &&
         list("offset", claim.offset, 2) && list("input", claim.input, n * n) &&
         list("filter", claim.filter, n * 3) &&
         list("output", claim.output, claim.tile * n);
}

bool WinogradForm::checkIdentity() {
  constexpr int64_t large = 1 << 15; // products of three do not overflow
  for (ArrayRef<int64_t> matrix : {claim.input, claim.filter, claim.output})
    for (int64_t entry : matrix)
      if (std::abs(entry) > large)
        return refuse("an entry of a matrix is too large");
  int64_t n = claim.tile + 2;
  for (int64_t i = 0; i < claim.tile; ++i)
    for (int64_t k = 0; k < 3; ++k)
      for (int64_t j = 0; j < n; ++j) {
        int64_t sum = 0;
        for (int64_t xi = 0; xi < n; ++xi)
          sum += claim.output[i * n + xi] * claim.filter[xi * 3 + k] *
                 claim.input[xi * n + j];
        if (sum != (j == i + k ? claim.denominator : 0))
          return refuse("the matrices give output " + Twine(i) +
                        " the factor " + Twine(sum) + "/" +
                        Twine(claim.denominator) + " of pixel " + Twine(j) +
                        " at tap " + Twine(k));
      }
  return true;
}

std::optional<WinogradForm::Linear> WinogradForm::linear(AffineExpr expr,
                                                         ValueRange coords) {
  Linear result;
  bool isLinear = true;
  auto add = [&](auto &&self, AffineExpr e, int64_t factor) -> void {
    if (auto constant = dyn_cast<AffineConstantExpr>(e)) {
      result.constant += factor * constant.getValue();
      return;
    }
    if (auto dim = dyn_cast<AffineDimExpr>(e)) {
      auto argument = dyn_cast<BlockArgument>(coords[dim.getPosition()]);
      if (argument)
        result.coefficients[argument.getArgNumber()] += factor;
      isLinear &= bool(argument);
      return;
    }
    auto binary = dyn_cast<AffineBinaryOpExpr>(e);
    if (binary && e.getKind() == AffineExprKind::Add) {
      self(self, binary.getLHS(), factor);
      return self(self, binary.getRHS(), factor);
    }
    auto by = binary && e.getKind() == AffineExprKind::Mul
                  ? dyn_cast<AffineConstantExpr>(binary.getRHS())
                  : AffineConstantExpr();
    if (by)
      return self(self, binary.getLHS(), factor * by.getValue());
    isLinear = false; // a quotient or a symbol
  };
  add(add, expr, 1);
  if (!isLinear)
    return std::nullopt;
  return result;
}

bool WinogradForm::checkImage(LoadOp load, StageOp sum) {
  if (load.getTensor().getDefiningOp() == sum.getOperation())
    return refuse("the image is the sum itself");
  bool found[2] = {false, false};
  // pixel + tap + c, and nothing else of the four.
  auto alongAxis = [&](const Linear &e) -> std::optional<int> {
    for (int i : {0, 1})
      if (int64_t c = e.of(pixel[i]))
        if (c == e.of(tap[i]) && !e.of(pixel[1 - i]) && !e.of(tap[1 - i]))
          return i;
    return std::nullopt;
  };
  auto isFree = [&](const Linear &e) {
    return !e.of(pixel[0]) && !e.of(pixel[1]) && !e.of(tap[0]) && !e.of(tap[1]);
  };
  for (AffineExpr index : load.getMap().getResults()) {
    auto e = linear(index, load.getCoords());
    if (!e)
      return refuse("the image is read at places that are not linear");
    if (isFree(*e))
      continue;
    auto axis = alongAxis(*e);
    if (!axis || e->of(pixel[*axis]) != 1 || e->coefficients.size() != 2)
      return refuse("the image is not read at pixel + tap");
    if (found[*axis])
      return refuse("the image is read along a diagonal");
    found[*axis] = true;
    if (e->constant != claim.offset[*axis])
      return refuse("tiles begin at offset " + Twine(claim.offset[*axis]) +
                    ", the image is read at pixel + tap + (" +
                    Twine(e->constant) + ")");
  }
  if (!found[0] || !found[1])
    return refuse("the image is not read at pixel + tap");
  if (auto guard = load.getGuard()) {
    for (AffineExpr constraint : guard->getConstraints()) {
      auto e = linear(constraint, load.getCoords());
      if (!e ||
          (!isFree(*e) && (!alongAxis(*e) || e->coefficients.size() != 2)))
        return refuse("a guard tells taps of one pixel apart");
    }
    auto literal = load.getOther().getDefiningOp<LiteralOp>();
    auto value =
        literal ? dyn_cast<FloatAttr>(literal.getValueAttr()) : nullptr;
    if (!value || !value.getValue().isZero())
      return refuse("outside of the image there are other numbers than zero");
  }
  return true;
}

bool WinogradForm::checkWeights(LoadOp load, StageOp sum) {
  if (load.getGuard())
    return refuse("weights have a guard");
  if (load.getTensor().getDefiningOp() == sum.getOperation())
    return refuse("the weights are the sum itself");
  for (AffineExpr index : load.getMap().getResults()) {
    auto e = linear(index, load.getCoords());
    if (!e)
      return refuse("weights are read at places that are not linear");
    if (e->of(pixel[0]) || e->of(pixel[1]))
      return refuse("weights differ from pixel to pixel");
  }
  return true;
}

bool WinogradForm::checkSum(StageOp sum) {
  unsigned rank = sum.getDomainRank(), folded = sum.getReduceDims().size();
  for (int i : {0, 1}) {
    if (claim.pixels[i] < 0 || claim.pixels[i] >= int64_t(rank) ||
        claim.taps[i] < 0 || claim.taps[i] >= int64_t(folded))
      return refuse("the sum has no such coordinates");
    pixel[i] = claim.pixels[i];
    tap[i] = rank + claim.taps[i];
    if (graph::constantValue(sum.getReduceDims()[claim.taps[i]]) != 3)
      return refuse("there are not three taps along an axis");
  }
  if (pixel[0] == pixel[1] || tap[0] == tap[1])
    return refuse("the claim names one axis twice");
  if (!sum.getElementType().isF32() || sum.getInitAttr())
    return refuse("it is no sum of float32 numbers from zero");
  auto product = sum.getYielded().getDefiningOp<ApplyOp>();
  if (!product || product.getFn() != ScalarFn::mul)
    return refuse("it is no sum of products");
  LoadOp loads[2];
  for (int i : {0, 1}) {
    loads[i] = product.getArgs()[i].getDefiningOp<LoadOp>();
    if (!loads[i])
      return refuse("a factor is computed");
  }
  // The weights are what does not depend on the pixel.
  bool isSecond = checkWeights(loads[1], sum);
  if (!isSecond) {
    reason.clear();
    return checkWeights(loads[0], sum) && checkImage(loads[1], sum);
  }
  return checkImage(loads[0], sum);
}

bool WinogradForm::checkStages() {
  StageOp sum;
  for (StageOp stage : kernel.getStages()) {
    if (stage.getFoldKind() == FoldKind::none)
      continue;
    if (sum || stage.getFoldKind() != FoldKind::add)
      return refuse("it folds more than one sum");
    sum = stage;
  }
  return sum ? checkSum(sum) : refuse("it has no sum");
}

Admission check::admitWinograd(KernelOp kernel, NumericsMode mode) {
  if (mode != NumericsMode::fastConv)
    return {false, Law::winograd().str() +
                       ": -fp=" + stringifyNumericsMode(mode).str() +
                       " keeps the products of a convolution"};
  return WinogradForm(kernel).check();
}
