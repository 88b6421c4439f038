// f16 and bf16: 16 bits in memory, f32 while they are computed with. Rounding
// is to nearest even; machines without conversions do it with integers.
#include "dlc/Codegen/Common/ScalarEmitter.h"

#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace dlc;
using CmpF = arith::CmpFPredicate;
using CmpI = arith::CmpIPredicate;

static bool isHalf(Type type) { return isa<Float16Type, BFloat16Type>(type); }

/// The 16 bits of an f32 value rounded to nearest even.
Value ScalarEmitter::narrow(Value x, Type type) {
  Type i16 = withElement(x.getType(), b.getI16Type());
  Type i32 = withElement(x.getType(), b.getI32Type());
  auto op = [&]<typename Op>(Value l, Value r) -> Value {
    return Op::create(b, loc, l, r);
  };
  auto number32 = [&](int64_t v) { return integer(i32, v); };
  if (type.isF16() ? options.halfConvert : options.bf16Convert) {
    Value half =
        arith::TruncFOp::create(b, loc, withElement(x.getType(), type), x);
    return arith::BitcastOp::create(b, loc, i16, half);
  }
  Value bits = arith::BitcastOp::create(b, loc, i32, x);
  Value isNaN = arith::CmpFOp::create(b, loc, CmpF::UNO, x, x);
  if (type.isBF16()) {
    // Adding just under half an ulp, or half when the kept part is odd.
    Value odd = op.operator()<arith::AndIOp>(
        op.operator()<arith::ShRUIOp>(bits, number32(16)), number32(1));
    Value rounded = op.operator()<arith::AddIOp>(
        bits, op.operator()<arith::AddIOp>(odd, number32(0x7fff)));
    Value quiet = op.operator()<arith::OrIOp>(bits, number32(0x400000));
    Value chosen = arith::SelectOp::create(b, loc, isNaN, quiet, rounded);
    return arith::TruncIOp::create(
        b, loc, i16, op.operator()<arith::ShRUIOp>(chosen, number32(16)));
  }
  // f16 without instructions. Scaling by 2^112 and back makes overflow
  // infinite; subnormal results come from adding 0.5, whose ulp is that of
  // their last bit.
  Value sign = op.operator()<arith::AndIOp>(bits, number32(0x80000000));
  Value magnitude = op.operator()<arith::XOrIOp>(bits, sign);
  Value odd = op.operator()<arith::AndIOp>(
      op.operator()<arith::ShRUIOp>(magnitude, number32(13)), number32(1));
  // Rebias the exponent from 127 to 15 while rounding at bit 13.
  Value normal = op.operator()<arith::ShRUIOp>(
      op.operator()<arith::AddIOp>(
          op.operator()<arith::AddIOp>(magnitude,
                                       number32(0xfff - (int64_t(112) << 23))),
          odd),
      number32(13));
  Value asFloat = arith::BitcastOp::create(b, loc, x.getType(), magnitude);
  Value shifted =
      arith::AddFOp::create(b, loc, asFloat, number(x.getType(), 0.5));
  Value small = op.operator()<arith::SubIOp>(
      arith::BitcastOp::create(b, loc, i32, shifted), number32(0x3f000000));
  auto less = [&](Value l, int64_t r) -> Value {
    return arith::CmpIOp::create(b, loc, CmpI::ult, l, number32(r));
  };
  Value result = arith::SelectOp::create(b, loc, less(magnitude, 0x38800000),
                                         small, normal);
  result = arith::SelectOp::create(b, loc, less(magnitude, 0x477ff000), result,
                                   number32(0x7c00));
  result = arith::SelectOp::create(b, loc, isNaN, number32(0x7e00), result);
  result = op.operator()<arith::OrIOp>(
      result, op.operator()<arith::ShRUIOp>(sign, number32(16)));
  return arith::TruncIOp::create(b, loc, i16, result);
}

/// The f32 value of 16 bits.
Value ScalarEmitter::widen(Value bits, Type type) {
  Type f32 = withElement(bits.getType(), b.getF32Type());
  Type i32 = withElement(bits.getType(), b.getI32Type());
  if (type.isF16() && options.halfConvert) {
    Value half = arith::BitcastOp::create(b, loc, withElement(f32, type), bits);
    return arith::ExtFOp::create(b, loc, f32, half);
  }
  Value wide = arith::ExtUIOp::create(b, loc, i32, bits);
  if (type.isBF16()) {
    Value shifted = arith::ShLIOp::create(b, loc, wide, integer(i32, 16));
    return arith::BitcastOp::create(b, loc, f32, shifted);
  }
  // Exponent and mantissa in f32's place, times 2^112: exact, subnormals too.
  Value sign = arith::ShLIOp::create(
      b, loc, arith::AndIOp::create(b, loc, wide, integer(i32, 0x8000)),
      integer(i32, 16));
  Value magnitude = arith::ShLIOp::create(
      b, loc, arith::AndIOp::create(b, loc, wide, integer(i32, 0x7fff)),
      integer(i32, 13));
  Value isFinite = arith::CmpIOp::create(b, loc, CmpI::ult, magnitude,
                                         integer(i32, 0x7c00 << 13));
  Value scaled = arith::MulFOp::create(
      b, loc, arith::BitcastOp::create(b, loc, f32, magnitude),
      number(f32, 0x1p112));
  Value special =
      arith::OrIOp::create(b, loc, magnitude, integer(i32, 0x7f800000));
  Value chosen = arith::SelectOp::create(
      b, loc, isFinite, arith::BitcastOp::create(b, loc, i32, scaled), special);
  return arith::BitcastOp::create(b, loc, f32,
                                  arith::OrIOp::create(b, loc, chosen, sign));
}

Value ScalarEmitter::roundTo(Value x, Type type) {
  return isHalf(type) ? widen(narrow(x, type), type) : x;
}

// A second rounding of the result cannot then round the wrong way.
Value ScalarEmitter::roundToOdd(Value x) {
  Type f32 = withElement(x.getType(), b.getF32Type());
  Type i32 = withElement(x.getType(), b.getI32Type());
  Value nearest = arith::TruncFOp::create(b, loc, f32, x);
  Value back = arith::ExtFOp::create(b, loc, x.getType(), nearest);
  Value isExact = arith::CmpFOp::create(b, loc, CmpF::UEQ, back, x);
  Value isLarger = arith::CmpFOp::create(b, loc, CmpF::OGT,
                                         math::AbsFOp::create(b, loc, back),
                                         math::AbsFOp::create(b, loc, x));
  Value bits = arith::BitcastOp::create(b, loc, i32, nearest);
  Value towardsZero = arith::SelectOp::create(
      b, loc, isLarger, arith::SubIOp::create(b, loc, bits, integer(i32, 1)),
      bits);
  Value odd = arith::OrIOp::create(b, loc, towardsZero, integer(i32, 1));
  Value chosen = arith::SelectOp::create(b, loc, isExact, bits, odd);
  return arith::BitcastOp::create(b, loc, f32, chosen);
}
