// exp by the hardware's 2^x, and what to do where the CPU would call libm.
#include "CudaScalars.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include "llvm/ADT/StringSwitch.h"

#include <limits>
#include <numbers>

using namespace mlir;
using namespace dlc;
using graph::ScalarFn;

// Every GPU since sm_80 has these instructions.
ScalarOptions CudaScalars::options(bool strict) {
  ScalarOptions options;
  options.fma = true;
  options.halfConvert = true;
  options.bf16Convert = true;
  options.nanMaximum = true;
  options.strict = strict;
  return options;
}

// exp(x) = 2^r * 2^n with n = round(x / ln 2), which is kept within -126 and
// 126: beyond, r is large instead, and the hardware's 2^r, which is good to 2
// ulp, overflows or makes the product subnormal as it must. n is what a sum
// with 1.5 * 2^23 leaves in the last bits: conversions and roundings would be
// for the few units that 2^r needs, too.
Value CudaScalars::exp(Value x) {
  Type f32 = b.getF32Type(), word = b.getI32Type();
  auto number = [&](double value) -> Value {
    return arith::ConstantOp::create(b, loc, b.getFloatAttr(f32, value));
  };
  const float high = static_cast<float>(std::numbers::log2e);
  const double low = std::numbers::log2e - static_cast<double>(high);
  constexpr double shift = 0x1.8p23;
  constexpr int bias = 127, most = 126;
  Value share = math::FmaOp::create(
      b, loc, x, number(std::numbers::log2e / (2 * most)), number(0.5));
  share = arith::MaxNumFOp::create(b, loc, share, number(0));
  share = arith::MinNumFOp::create(b, loc, share, number(1));
  Value sum = math::FmaOp::create(b, loc, share, number(2 * most),
                                  number(shift + bias - most));
  Value n = arith::SubFOp::create(b, loc, sum, number(shift + bias));
  Value r = math::FmaOp::create(b, loc, x, number(high),
                                arith::NegFOp::create(b, loc, n));
  r = math::FmaOp::create(b, loc, x, number(low), r);
  Value power =
      LLVM::CallIntrinsicOp::create(
          b, loc, f32, b.getStringAttr("llvm.nvvm.ex2.approx.ftz.f32"),
          ValueRange{r})
          .getResult(0);
  Value bits = arith::ShLIOp::create(
      b, loc, arith::BitcastOp::create(b, loc, word, sum),
      arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(23)));
  return arith::MulFOp::create(b, loc, power,
                               arith::BitcastOp::create(b, loc, f32, bits));
}

// 1/y is a number and a rest, below and of its sign, so that an infinite x
// makes no NaN of their sum. Where y is far from 1 it is scaled, as x/y is
// then.
Scalar CudaScalars::divideByShared(Scalar x, Scalar y) {
  if (!y.value.getType().isF32() || strict)
    return ScalarEmitter::apply(ScalarFn::div, {x, y});
  using arith::CmpFPredicate;
  Type f32 = b.getF32Type(), word = b.getI32Type();
  auto number = [&](double value) -> Value {
    return arith::ConstantOp::create(b, loc, b.getFloatAttr(f32, value));
  };
  auto choose = [&](Value magnitude, CmpFPredicate is, double limit, Value then,
                    Value otherwise) -> Value {
    Value holds = arith::CmpFOp::create(b, loc, is, magnitude, number(limit));
    return arith::SelectOp::create(b, loc, holds, then, otherwise);
  };
  Value magnitude = math::AbsFOp::create(b, loc, y.value);
  Value scale = choose(magnitude, CmpFPredicate::OGT, 0x1p60, number(0x1p-64),
                       choose(magnitude, CmpFPredicate::OLT, 0x1p-60,
                              number(0x1p64), number(1)));
  Value divisor = arith::MulFOp::create(b, loc, y.value, scale);
  Value nearest = arith::DivFOp::create(b, loc, number(1), divisor);
  Value one = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(1));
  Value below = arith::BitcastOp::create(
      b, loc, f32,
      arith::SubIOp::create(
          b, loc, arith::BitcastOp::create(b, loc, word, nearest), one));
  Value rest = arith::MulFOp::create(
      b, loc,
      math::FmaOp::create(b, loc, arith::NegFOp::create(b, loc, divisor), below,
                          number(1)),
      nearest);
  // 1/infinity has nothing below.
  const double infinity = std::numeric_limits<double>::infinity();
  below = choose(magnitude, CmpFPredicate::OEQ, infinity, nearest, below);
  rest = choose(magnitude, CmpFPredicate::OEQ, infinity, nearest, rest);
  Value quotient = math::FmaOp::create(
      b, loc, x.value, below, arith::MulFOp::create(b, loc, x.value, rest));
  return cast({arith::MulFOp::create(b, loc, quotient, scale), f32}, x.type);
}

Scalar CudaScalars::apply(ScalarFn fn, llvm::ArrayRef<Scalar> args) {
  Scalar x = args.front();
  if (fn == ScalarFn::exp && x.value.getType().isF32() && !strict)
    return cast({exp(x.value), b.getF32Type()}, x.type);
  return ScalarEmitter::apply(fn, args);
}

//===----------------------------------------------------------------------===//
// Calls of libm
//===----------------------------------------------------------------------===//

/// The op that stands for libm's `name` on f32 (or, for the remainder, any
/// float); empty: there is none.
static StringRef expansionOf(StringRef name) {
  return llvm::StringSwitch<StringRef>(name)
      .Case("sinf", "math.sin")
      .Case("cosf", "math.cos")
      .Case("tanf", "math.tan")
      .Case("asinf", "math.asin")
      .Case("acosf", "math.acos")
      .Case("atanf", "math.atan")
      .Case("sinhf", "math.sinh")
      .Case("coshf", "math.cosh")
      .Case("asinhf", "math.asinh")
      .Case("acoshf", "math.acosh")
      .Case("atanhf", "math.atanh")
      .Cases({"fmodf", "fmod"}, "arith.remf")
      .Default("");
}

/// |x|^y for whole y up to kMostMultiplied by multiplications: what is exact in
/// libm is exact here, which truncation to integers tells apart.
static constexpr int32_t kMostMultiplied = 64;
static Value powByProducts(OpBuilder &b, Location loc, Value magnitude,
                           Value y) {
  auto number = [&](double value) -> Value {
    return arith::ConstantOp::create(b, loc, b.getF64FloatAttr(value));
  };
  Type word = b.getI32Type();
  Value count = arith::FPToSIOp::create(
      b, loc, word,
      arith::MinNumFOp::create(b, loc, math::AbsFOp::create(b, loc, y),
                               number(kMostMultiplied)));
  Value result = number(1), factor = magnitude;
  for (int32_t bit = 1; bit <= kMostMultiplied; bit *= 2) {
    Value mask = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(bit));
    Value zero = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(0));
    Value isSet =
        arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne,
                              arith::AndIOp::create(b, loc, count, mask), zero);
    result = arith::SelectOp::create(
        b, loc, isSet, arith::MulFOp::create(b, loc, result, factor), result);
    factor = arith::MulFOp::create(b, loc, factor, factor);
  }
  Value isNegative =
      arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, y, number(0));
  return arith::SelectOp::create(
      b, loc, isNegative, arith::DivFOp::create(b, loc, number(1), result),
      result);
}

/// x^y in f64 as e^(y log |x|), to about 1e-12 relative for results that are
/// not huge or tiny, with C's rules for signs and for 0, 1 and infinity.
static Value powDouble(OpBuilder &b, Location loc, Value x, Value y) {
  VectorMath math(b, loc, /*fma=*/true);
  auto number = [&](double value) -> Value {
    return arith::ConstantOp::create(b, loc, b.getF64FloatAttr(value));
  };
  auto compare = [&](arith::CmpFPredicate predicate, Value l,
                     Value r) -> Value {
    return arith::CmpFOp::create(b, loc, predicate, l, r);
  };
  auto select = [&](Value condition, Value yes, Value no) -> Value {
    return arith::SelectOp::create(b, loc, condition, yes, no);
  };
  using P = arith::CmpFPredicate;
  Value one = number(1), zero = number(0);
  Value magnitude = math::AbsFOp::create(b, loc, x);
  Value result =
      math.exp(arith::MulFOp::create(b, loc, y, math.log(magnitude)));
  // Roots of powers are whole numbers.
  Value nearest = math::RoundEvenOp::create(b, loc, result);
  Value distance = math::AbsFOp::create(
      b, loc, arith::SubFOp::create(b, loc, result, nearest));
  Value bound = arith::MulFOp::create(b, loc, number(1e-12), nearest);
  result = select(compare(P::OLE, distance, bound), nearest, result);
  // (-1)^infinity and 1^NaN are 1; so is everything to the power 0.
  Value isInfinite = compare(P::OEQ, math::AbsFOp::create(b, loc, y),
                             number(std::numeric_limits<double>::infinity()));
  Value isUnit = arith::AndIOp::create(b, loc, isInfinite,
                                       compare(P::OEQ, magnitude, one));
  result = select(isUnit, one, result);
  Value half = arith::MulFOp::create(b, loc, y, number(0.5));
  Value isWhole = compare(P::OEQ, math::FloorOp::create(b, loc, y), y);
  Value isShort =
      compare(P::OLE, math::AbsFOp::create(b, loc, y), number(kMostMultiplied));
  result = select(arith::AndIOp::create(b, loc, isWhole, isShort),
                  powByProducts(b, loc, magnitude, y), result);
  Value isOdd = arith::AndIOp::create(
      b, loc, isWhole,
      compare(P::ONE, math::FloorOp::create(b, loc, half), half));
  Value signedResult =
      select(isOdd, math::CopySignOp::create(b, loc, result, x), result);
  Value isNegative = compare(P::OLT, x, zero);
  Value isBad = arith::AndIOp::create(
      b, loc,
      arith::AndIOp::create(
          b, loc, isNegative,
          compare(P::UNE, magnitude,
                  number(std::numeric_limits<double>::infinity()))),
      compare(P::UNE, math::FloorOp::create(b, loc, y), y));
  result = select(isBad, number(std::numeric_limits<double>::quiet_NaN()),
                  signedResult);
  Value isOne = arith::OrIOp::create(b, loc, compare(P::OEQ, x, one),
                                     compare(P::OEQ, y, zero));
  return select(isOne, one, result);
}

LogicalResult dlc::replaceMathCalls(ModuleOp module) {
  WalkResult walk = module.walk([&](func::CallOp call) {
    auto callee = module.lookupSymbol<func::FuncOp>(call.getCallee());
    if (!callee || !callee.isExternal())
      return WalkResult::advance();
    if (call.getCallee() == "pow") {
      OpBuilder builder(call);
      call.replaceAllUsesWith(ValueRange{powDouble(
          builder, call.getLoc(), call.getOperand(0), call.getOperand(1))});
      call.erase();
      return WalkResult::advance();
    }
    StringRef op = expansionOf(call.getCallee());
    if (op.empty()) {
      call.emitError() << "function '" << call.getCallee()
                       << "' of the C math library is not supported on CUDA";
      return WalkResult::interrupt();
    }
    OpBuilder builder(call);
    OperationState state(call.getLoc(), op);
    state.addOperands(call.getOperands());
    state.addTypes(call.getResultTypes());
    call.replaceAllUsesWith(builder.create(state)->getResults());
    call.erase();
    return WalkResult::advance();
  });
  if (walk.wasInterrupted())
    return failure();
  for (auto function :
       llvm::make_early_inc_range(module.getOps<func::FuncOp>()))
    if (function.isExternal())
      function.erase();
  return success();
}
