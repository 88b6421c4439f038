// Rows of attention.
#include "AttentionRows.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

#include <cmath>
#include <numbers>

using namespace mlir;
using namespace dlc;
using P = arith::CmpFPredicate;

//===----------------------------------------------------------------------===//
// Numbers
//===----------------------------------------------------------------------===//

Value AttentionRows::number(double value) {
  return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(float(value)));
}

Value AttentionRows::compare(P predicate, Value x, double y) {
  return arith::CmpFOp::create(b, loc, predicate, x, number(y));
}

Value AttentionRows::larger(Value x, Value y) {
  return arith::MaxNumFOp::create(b, loc, x, y);
}

Value AttentionRows::finite(Value maximum) {
  return arith::SelectOp::create(b, loc, compare(P::OEQ, maximum, -INFINITY),
                                 number(0), maximum);
}

static Value powerOfTwo(OpBuilder &b, Location loc, Value exponent,
                        const char *name) {
  return LLVM::CallIntrinsicOp::create(b, loc, b.getF32Type(),
                                       b.getStringAttr(name),
                                       ValueRange{exponent})
      .getResult(0);
}

// 2^n * 2^r with n whole and |r| <= 1/2; the hardware's 2^n is exact, and zero
// or subnormal where it has to be.
Value AttentionRows::expOfNonPositive(Value x) {
  const float high = static_cast<float>(std::numbers::log2e);
  const double low = std::numbers::log2e - static_cast<double>(high);
  Value n = math::RoundEvenOp::create(
      b, loc, arith::MulFOp::create(b, loc, x, number(high)));
  n = arith::MaxNumFOp::create(b, loc, n, number(-200));
  Value r = math::FmaOp::create(b, loc, x, number(high),
                                arith::NegFOp::create(b, loc, n));
  r = math::FmaOp::create(b, loc, x, number(low), r);
  auto power = [&](Value exponent) {
    return powerOfTwo(b, loc, exponent, "llvm.nvvm.ex2.approx.f32");
  };
  return arith::MulFOp::create(b, loc, power(r), power(n));
}

Value AttentionRows::expOfDifference(Value x, Value y, double scale) {
  if (!isQuick)
    return expOfNonPositive(arith::SubFOp::create(b, loc, x, y));
  Value subtracted = arith::NegFOp::create(
      b, loc, arith::MulFOp::create(b, loc, y, number(std::numbers::log2e)));
  Value exponent = math::FmaOp::create(
      b, loc, x, number(scale * std::numbers::log2e), subtracted);
  return powerOfTwo(b, loc, exponent, "llvm.nvvm.ex2.approx.ftz.f32");
}

/// What `value` is, behind stages that only pass it on.
static graph::ApplyOp applyBehind(Value value) {
  return throughStages(value).getDefiningOp<graph::ApplyOp>();
}

static std::optional<double> literalBehind(Value value) {
  auto literal = throughStages(value).getDefiningOp<graph::LiteralOp>();
  auto number = literal ? dyn_cast<FloatAttr>(literal.getValue()) : FloatAttr();
  return number && number.getType().isF32()
             ? std::optional(number.getValueAsDouble())
             : std::nullopt;
}

bool AttentionRows::AddedMask::addsZero(
    ArrayRef<std::pair<Value, bool>> known) const {
  graph::ApplyOp choice = this->choice;
  Value condition = throughStages(choice.getArgs()[0]);
  for (auto [value, holds] : known)
    if (throughStages(value) == condition)
      return literalBehind(choice.getArgs()[holds ? 1 : 2]) == 0.0;
  return false;
}

/// A choice between -inf and 0.
static graph::ApplyOp maskBehind(Value value) {
  graph::ApplyOp choice = applyBehind(value);
  if (!choice || choice.getFn() != graph::ScalarFn::select)
    return {};
  auto first = literalBehind(choice.getArgs()[1]),
       second = literalBehind(choice.getArgs()[2]);
  bool isMask = (first == -INFINITY && second == 0.0) ||
                (first == 0.0 && second == -INFINITY);
  return isMask ? choice : graph::ApplyOp();
}

double AttentionRows::takeScale() {
  graph::ApplyOp apply = applyBehind(spec.score);
  while (apply && (apply.getFn() == graph::ScalarFn::select ||
                   apply.getFn() == graph::ScalarFn::add)) {
    bool adds = apply.getFn() == graph::ScalarFn::add;
    Value left = apply.getArgs()[adds ? 0 : 1],
          right = apply.getArgs()[adds ? 1 : 2];
    auto leavesOut = [&](Value value) {
      return adds ? bool(maskBehind(value)) : literalBehind(value) == -INFINITY;
    };
    bool isLeft = leavesOut(left);
    if (!isLeft && !leavesOut(right))
      return 1;
    Value score = isLeft ? right : left;
    if (adds)
      addedMasks.push_back(
          {apply.getResult(), score, maskBehind(isLeft ? left : right)});
    apply = applyBehind(score);
  }
  if (!apply || apply.getFn() != graph::ScalarFn::mul)
    return 1;
  for (int i : {0, 1}) {
    auto load = apply.getArgs()[i].getDefiningOp<graph::LoadOp>();
    auto scale = literalBehind(apply.getArgs()[1 - i]);
    if (!load || load.getTensor() != graph::StageOp(spec.scores).getResult() ||
        !scale || !(*scale > 0) || std::isinf(*scale))
      continue;
    scaledSum = apply.getResult();
    return *scale;
  }
  return 1;
}

//===----------------------------------------------------------------------===//
// Expressions
//===----------------------------------------------------------------------===//

ExprEmitter AttentionRows::expressions() {
  return ExprEmitter(index, spec.space, launch.symbols(),
                     CudaScalars::options(/*strict=*/false),
                     [this](unsigned i) { return launch.buffer(i); });
}

void AttentionRows::setAxes(Axes &all, ArrayRef<unsigned> axes, Value linear) {
  SmallVector<Value> extents;
  for (unsigned axis : axes)
    extents.push_back(launch.size(spec.space.extents[axis]));
  for (auto [axis, value] :
       llvm::zip_equal(axes, index.delinearize(linear, extents)))
    all[axis] = value;
}

static ExprPoint pointAt(const AttentionRows::Axes &axes) {
  ExprPoint point;
  point.axes = axes;
  return point;
}

FailureOr<Value> AttentionRows::score(const Axes &axes, Value sum) {
  auto load = spec.score.getDefiningOp<graph::LoadOp>();
  if (load && load.getTensor() == graph::StageOp(spec.scores).getResult())
    return sum;
  ExprEmitter expressions = this->expressions();
  expressions.setStageValue(spec.scores, {sum, b.getF32Type()});
  if (scaledSum)
    expressions.setValue(scaledSum, {sum, b.getF32Type()});
  for (auto [condition, holds] : known)
    expressions.setValue(
        condition, {arith::ConstantOp::create(b, loc, b.getBoolAttr(holds)),
                    condition.getType()});
  // Nobody sees the sign of a zero behind exponentials.
  for (const AddedMask &mask : llvm::reverse(addedMasks))
    if (mask.addsZero(known)) {
      auto kept = expressions.emitNext(mask.score, pointAt(axes), reason);
      if (failed(kept))
        return failure();
      expressions.setValue(mask.sum, *kept);
    }
  auto value = expressions.emitNext(spec.score, pointAt(axes), reason);
  return failed(value) ? FailureOr<Value>(failure()) : value->value;
}

FailureOr<AttentionRows::State> AttentionRows::state(const Axes &axes,
                                                     Value maximum, Value sum) {
  // The body's maximum is NaN where a score is; +inf makes a NaN of the sum
  // too.
  Value isNaN = arith::AndIOp::create(b, loc, compare(P::UNO, sum, 0),
                                      compare(P::ONE, maximum, INFINITY));
  State state;
  state.maximum = arith::SelectOp::create(b, loc, isNaN, number(NAN), maximum);
  if (spec.isPlainReference) {
    // exp(-inf - -inf)
    state.sum = arith::SelectOp::create(
        b, loc, compare(P::OEQ, maximum, -INFINITY), number(NAN), sum);
    return state;
  }
  // What the body subtracts instead.
  ExprEmitter expressions = this->expressions();
  expressions.setStageValue(spec.maximum, {state.maximum, b.getF32Type()});
  auto reference = expressions.emitNext(spec.reference, pointAt(axes), reason);
  if (failed(reference))
    return failure();
  Value difference =
      arith::SubFOp::create(b, loc, finite(maximum), reference->value);
  CudaScalars scalars(b, loc, /*strict=*/false);
  state.scale =
      scalars.apply(graph::ScalarFn::exp, {{difference, b.getF32Type()}}).value;
  state.sum = arith::MulFOp::create(b, loc, sum, state.scale);
  return state;
}

FailureOr<Value> AttentionRows::weight(const Axes &axes, Value e,
                                       const State &state) {
  ExprEmitter expressions = this->expressions();
  expressions.setStageValue(spec.maximum, {state.maximum, b.getF32Type()});
  expressions.setStageValue(spec.sum, {state.sum, b.getF32Type()});
  if (state.scale)
    e = arith::MulFOp::create(b, loc, e, state.scale);
  Value exponential = spec.exponential;
  expressions.setValue(exponential, {e, exponential.getType()});
  // Weights that are rounded as they are multiplied are not before.
  if (!spec.weightRounding)
    for (Value rounding : llvm::reverse(spec.roundings)) {
      auto cast = rounding.getDefiningOp<graph::CastOp>();
      auto exact = expressions.emitNext(cast.getValue(), pointAt(axes), reason);
      if (failed(exact))
        return failure();
      expressions.setValue(rounding, {exact->value, cast.getType()});
    }
  auto weight = expressions.emitNext(spec.weight, pointAt(axes), reason);
  return failed(weight) ? FailureOr<Value>(failure()) : weight->value;
}

FailureOr<Value> AttentionRows::factor(const Axes &axes, const State &state) {
  // p is linear in e. A sum of 0 is one of zeros: 0 / 0 is NaN, 1 / 0 is not.
  Value e = number(0);
  if (!spec.weightRounding)
    e = arith::SelectOp::create(b, loc, compare(P::OEQ, state.sum, 0), e,
                                number(1));
  return weight(axes, e, state);
}

Value AttentionRows::scaled(Value sum, Value factor) {
  // Rounded weights are in the sum, except for a key that was left out: 0, or
  // NaN where a row has no keys.
  if (spec.weightRounding)
    return arith::AddFOp::create(b, loc, sum, factor);
  Value product = arith::MulFOp::create(b, loc, sum, factor);
  if (!spec.zeroesNaN)
    return product;
  // A row of NaN that the body takes for zeros.
  return arith::SelectOp::create(b, loc, compare(P::OEQ, factor, 0), number(0),
                                 product);
}

LogicalResult AttentionRows::store(const Axes &axes, Value sum,
                                   const State &state) {
  Value to = index.constant(0);
  for (auto [axis, stride] : llvm::enumerate(spec.resultStrides))
    if (stride != 0)
      to = index.add(to, index.mul(axes[axis], at(stride, axes)));
  ExprEmitter expressions = this->expressions();
  Type f32 = b.getF32Type();
  expressions.setStageValue(spec.output, {sum, f32});
  expressions.setStageValue(spec.maximum, {state.maximum, f32});
  expressions.setStageValue(spec.sum, {state.sum, f32});
  graph::KernelOp kernel = spec.kernel;
  unsigned firstResult = kernel.getArgumentTypes().size();
  for (auto [i, stage] : llvm::enumerate(spec.results)) {
    FailureOr<Scalar> value = Scalar{sum, f32};
    if (stage != spec.output)
      value = expressions.emitNext(graph::StageOp(stage).getYielded(),
                                   pointAt(axes), reason);
    if (failed(value))
      return failure();
    memref::StoreOp::create(b, loc, expressions.scalars.toStorage(*value),
                            launch.buffer(firstResult + i), to);
  }
  return success();
}
