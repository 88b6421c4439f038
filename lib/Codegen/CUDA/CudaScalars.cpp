// exp by the hardware's 2^x, and the rare functions as math ops, which the
// lowering expands to polynomials of arithmetic.
#include "CudaScalars.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include <numbers>

using namespace mlir;
using namespace dlc;
using graph::ScalarFn;

// Every GPU since sm_80 has these instructions.
ScalarOptions CudaScalars::options(bool strict) {
  ScalarOptions options;
  options.fma = true;
  options.halfConvert = true;
  options.nanMaximum = true;
  options.strict = strict;
  return options;
}

// exp(x) = 2^n * 2^r with n = round(x / ln 2): the hardware's 2^r is good to 2
// ulp for |r| <= 1/2, and 2^n is put together from bits in two halves, so that
// neither half overflows where the product does not.
Value CudaScalars::exp(Value x) {
  Type f32 = b.getF32Type(), word = b.getI32Type();
  auto number = [&](double value) -> Value {
    return arith::ConstantOp::create(b, loc, b.getFloatAttr(f32, value));
  };
  auto integer = [&](int32_t value) -> Value {
    return arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(value));
  };
  const float high = static_cast<float>(std::numbers::log2e);
  const double low = std::numbers::log2e - static_cast<double>(high);
  Value n = math::RoundEvenOp::create(
      b, loc, arith::MulFOp::create(b, loc, x, number(high)));
  // Not-a-number in x becomes a number here and stays in r.
  n = arith::MinNumFOp::create(b, loc, n, number(128));
  n = arith::MaxNumFOp::create(b, loc, n, number(-150));
  Value r = math::FmaOp::create(b, loc, x, number(high),
                                arith::NegFOp::create(b, loc, n));
  r = math::FmaOp::create(b, loc, x, number(low), r);
  Value power = LLVM::CallIntrinsicOp::create(
                    b, loc, f32, b.getStringAttr("llvm.nvvm.ex2.approx.f32"),
                    ValueRange{r})
                    .getResult(0);
  Value whole = arith::FPToSIOp::create(b, loc, word, n);
  Value half = arith::ShRSIOp::create(b, loc, whole, integer(1));
  Value rest = arith::SubIOp::create(b, loc, whole, half);
  for (Value part : {half, rest}) {
    Value biased = arith::AddIOp::create(b, loc, part, integer(127));
    Value bits = arith::ShLIOp::create(b, loc, biased, integer(23));
    Value scale = arith::BitcastOp::create(b, loc, f32, bits);
    power = arith::MulFOp::create(b, loc, power, scale);
  }
  return power;
}

/// The math op of a function that Common leaves to libm; null: another function.
static Value expandedFn(OpBuilder &b, Location loc, ScalarFn fn, Value x) {
  switch (fn) {
  case ScalarFn::tan:
    return math::TanOp::create(b, loc, x);
  case ScalarFn::asin:
    return math::AsinOp::create(b, loc, x);
  case ScalarFn::acos:
    return math::AcosOp::create(b, loc, x);
  case ScalarFn::atan:
    return math::AtanOp::create(b, loc, x);
  case ScalarFn::sinh:
    return math::SinhOp::create(b, loc, x);
  case ScalarFn::cosh:
    return math::CoshOp::create(b, loc, x);
  case ScalarFn::asinh:
    return math::AsinhOp::create(b, loc, x);
  case ScalarFn::acosh:
    return math::AcoshOp::create(b, loc, x);
  case ScalarFn::atanh:
    return math::AtanhOp::create(b, loc, x);
  default:
    return {};
  }
}

static bool leftToLibm(ScalarFn fn) {
  switch (fn) {
  case ScalarFn::tan:
  case ScalarFn::asin:
  case ScalarFn::acos:
  case ScalarFn::atan:
  case ScalarFn::sinh:
  case ScalarFn::cosh:
  case ScalarFn::asinh:
  case ScalarFn::acosh:
  case ScalarFn::atanh:
    return true;
  default:
    return false;
  }
}

Scalar CudaScalars::apply(ScalarFn fn, llvm::ArrayRef<Scalar> args) {
  Scalar x = args.front();
  if (leftToLibm(fn)) {
    if (!x.value.getType().isF32())
      return {};
    Scalar wide{expandedFn(b, loc, fn, x.value), b.getF32Type()};
    return cast(wide, x.type);
  }
  if (fn == ScalarFn::exp && x.value.getType().isF32() && !strict)
    return cast({exp(x.value), b.getF32Type()}, x.type);
  return ScalarEmitter::apply(fn, args);
}
