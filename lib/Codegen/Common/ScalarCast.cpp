// Conversions between element types (graph.scalar_cast). A float is never given
// to a conversion instruction that could not represent it: such an instruction
// has no defined result.
#include "dlc/Codegen/Common/ScalarEmitter.h"

using namespace mlir;
using namespace dlc;
using CmpF = arith::CmpFPredicate;
using CmpI = arith::CmpIPredicate;

static bool isHalf(Type type) { return isa<Float16Type, BFloat16Type>(type); }
static bool isUnsigned(Type type) {
  return type.isUnsignedInteger() || type.isInteger(1);
}

Scalar ScalarEmitter::cast(Scalar x, Type to, bool saturate) {
  if (x.type == to)
    return x;
  return isa<FloatType>(x.type) ? fromFloat(x, to, saturate)
                                : fromInteger(x, to, saturate);
}

/// C's conversion through i64; what does not fit is i64's smallest value.
Value ScalarEmitter::truncateToI64(Value x, Type to) {
  Type i64 = withElement(x.getType(), b.getI64Type());
  auto in = [&](double low, double high) -> Value {
    Value above =
        arith::CmpFOp::create(b, loc, CmpF::OGE, x, number(x.getType(), low));
    Value below =
        arith::CmpFOp::create(b, loc, CmpF::OLT, x, number(x.getType(), high));
    return arith::AndIOp::create(b, loc, above, below);
  };
  Value zero = number(x.getType(), 0.0);
  Value fits = in(-0x1p63, 0x1p63);
  Value safe = arith::SelectOp::create(b, loc, fits, x, zero);
  Value converted = arith::FPToSIOp::create(b, loc, i64, safe);
  Value lowest = integer(i64, std::numeric_limits<int64_t>::min());
  Value result = arith::SelectOp::create(b, loc, fits, converted, lowest);
  // From 2^63 to 2^64 the low 11 bits of an f64, and 40 of an f32, are zero.
  unsigned zeros = getElementTypeOrSelf(x.getType()).isF64() ? 11 : 40;
  if (to.getIntOrFloatBitWidth() <= zeros)
    return result;
  Value fitsUnsigned = in(0x1p63, 0x1p64);
  Value safeUnsigned = arith::SelectOp::create(b, loc, fitsUnsigned, x, zero);
  Value convertedUnsigned = arith::FPToUIOp::create(b, loc, i64, safeUnsigned);
  return arith::SelectOp::create(b, loc, fitsUnsigned, convertedUnsigned,
                                 result);
}

Scalar ScalarEmitter::fromFloat(Scalar x, Type to, bool saturate) {
  Value v = x.value;
  Type type = withElement(v.getType(), computeType(to));
  if (to.isInteger(1))
    return {
        arith::CmpFOp::create(b, loc, CmpF::UNE, v, number(v.getType(), 0.0)),
        to};
  if (isHalf(to)) {
    if (x.type.isF64())
      v = roundToOdd(v);
    return {roundTo(v, to), to};
  }
  if (to.isF64() && !x.type.isF64())
    return {arith::ExtFOp::create(b, loc, type, v), to};
  if (to.isF32())
    return {x.type.isF64() ? Value(arith::TruncFOp::create(b, loc, type, v))
                           : v,
            to};
  unsigned width = to.getIntOrFloatBitWidth();
  if (!saturate) {
    Value wide = truncateToI64(v, to);
    return {width == 64 ? wide
                        : Value(arith::TruncIOp::create(b, loc, type, wide)),
            to};
  }
  bool isU = isUnsigned(to);
  double low = isU ? 0.0 : -std::ldexp(1.0, width - 1);
  double high =
      std::ldexp(1.0, isU ? width : width - 1); // one above the largest
  Value zero = number(v.getType(), 0.0);
  // NaN becomes zero; of narrow unsigned numbers the lowest one, one maximum.
  bool isClamped = width <= 16;
  if (!isU || !isClamped) {
    Value isNaN = arith::CmpFOp::create(b, loc, CmpF::UNO, v, v);
    v = arith::SelectOp::create(b, loc, isNaN, zero, v);
  }
  if (isClamped) {
    // Both limits are exact: clamp, then convert through i32.
    Value lowest = number(v.getType(), low),
          highest = number(v.getType(), high - 1);
    Value isMore = arith::CmpFOp::create(b, loc, CmpF::OGT, v, lowest);
    v = arith::SelectOp::create(b, loc, isMore, v, lowest);
    Value above = arith::CmpFOp::create(b, loc, CmpF::OGT, v, highest);
    v = arith::SelectOp::create(b, loc, above, highest, v);
    Value wide = arith::FPToSIOp::create(
        b, loc, withElement(v.getType(), b.getI32Type()), v);
    return {arith::TruncIOp::create(b, loc, type, wide), to};
  }
  Value below =
      arith::CmpFOp::create(b, loc, CmpF::OLT, v, number(v.getType(), low));
  Value above =
      arith::CmpFOp::create(b, loc, CmpF::OGE, v, number(v.getType(), high));
  Value outside = arith::OrIOp::create(b, loc, below, above);
  Value safe = arith::SelectOp::create(b, loc, outside, zero, v);
  Value result = isU ? Value(arith::FPToUIOp::create(b, loc, type, safe))
                     : Value(arith::FPToSIOp::create(b, loc, type, safe));
  Value lowest = integer(
      type, isU ? 0 : std::numeric_limits<int64_t>::min() >> (64 - width));
  Value highest = integer(
      type, isU ? -1 : std::numeric_limits<int64_t>::max() >> (64 - width));
  result = arith::SelectOp::create(b, loc, below, lowest, result);
  return {arith::SelectOp::create(b, loc, above, highest, result), to};
}

Scalar ScalarEmitter::fromInteger(Scalar x, Type to, bool saturate) {
  Value v = x.value;
  Type type = withElement(v.getType(), computeType(to));
  unsigned from = getElementTypeOrSelf(v.getType()).getIntOrFloatBitWidth();
  bool isU = isUnsigned(x.type);
  if (to.isInteger(1))
    return {arith::CmpIOp::create(b, loc, CmpI::ne, v, integer(v.getType(), 0)),
            to};
  auto toFloat = [&](Type floatType) -> Value {
    return isU ? Value(arith::UIToFPOp::create(b, loc, floatType, v))
               : Value(arith::SIToFPOp::create(b, loc, floatType, v));
  };
  if (isHalf(to)) {
    // Sixteen bits are exact in f32; more go through f64 and odd rounding.
    if (from <= 16)
      return {roundTo(toFloat(type), to), to};
    Value wide = toFloat(withElement(v.getType(), b.getF64Type()));
    return {roundTo(roundToOdd(wide), to), to};
  }
  if (isa<FloatType>(to))
    return {toFloat(type), to};
  unsigned width = to.getIntOrFloatBitWidth();
  bool toU = isUnsigned(to);
  if (saturate && !x.type.isInteger(1)) {
    // Clamp in the source type to the part of the target's range it can hold.
    Type source = v.getType();
    bool cutsHigh = isU ? (toU ? width < from : width <= from)
                        : (toU ? width + 1 < from : width < from);
    bool cutsLow = !isU && (toU || width < from);
    if (cutsLow) {
      Value low = integer(source, toU ? 0 : -(int64_t(1) << (width - 1)));
      v = arith::MaxSIOp::create(b, loc, v, low);
    }
    if (cutsHigh) {
      uint64_t highest =
          toU ? (~uint64_t(0) >> (64 - width)) : (~uint64_t(0) >> (65 - width));
      Value high = integer(source, static_cast<int64_t>(highest));
      v = isU ? Value(arith::MinUIOp::create(b, loc, v, high))
              : Value(arith::MinSIOp::create(b, loc, v, high));
    }
  }
  if (width < from)
    return {arith::TruncIOp::create(b, loc, type, v), to};
  if (width == from)
    return {v, to};
  return {isU ? Value(arith::ExtUIOp::create(b, loc, type, v))
              : Value(arith::ExtSIOp::create(b, loc, type, v)),
          to};
}
