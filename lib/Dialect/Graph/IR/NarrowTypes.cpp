// Codes of narrow types to values and back, as scalar functions that every
// target has: no bits of floats are looked at, only exact arithmetic is done
// (scaling by powers of two, comparisons, one rounding to an integer). What a
// format is comes from LLVM's description of it; there is no table to keep.
#include "dlc/Dialect/Graph/IR/NarrowTypes.h"

#include "dlc/Dialect/Graph/IR/KernelBuilder.h"

#include "llvm/ADT/APFloat.h"

#include <cmath>

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;
using llvm::APFloat;

bool graph::isNarrow(Type element) {
  if (auto integer = dyn_cast<IntegerType>(element))
    return integer.getWidth() == 2 || integer.getWidth() == 4;
  return isa<FloatType>(element) && element.getIntOrFloatBitWidth() <= 8;
}

Type graph::getDecodedType(Type narrow) {
  auto integer = dyn_cast<IntegerType>(narrow);
  if (!integer)
    return Float32Type::get(narrow.getContext());
  return IntegerType::get(narrow.getContext(), 8, integer.getSignedness());
}

namespace {
/// A float format of at most 8 bits, by its codes.
struct Format {
  explicit Format(FloatType type)
      : semantics(type.getFloatSemantics()), bits(type.getWidth()),
        mantissa(APFloat::semanticsPrecision(semantics) - 1),
        minExponent(APFloat::semanticsMinExponent(semantics)),
        hasSign(APFloat::semanticsHasSignedRepr(semantics)),
        hasNaN(APFloat::semanticsHasNaN(semantics)),
        hasInf(APFloat::semanticsHasInf(semantics)),
        largest(APFloat::getLargest(semantics)) {}

  static int64_t codeOf(const APFloat &value) {
    return static_cast<int64_t>(value.bitcastToAPInt().getZExtValue());
  }
  int64_t largestCode() const { return codeOf(largest); }
  double largestValue() const { return largest.convertToDouble(); }
  int64_t signCode() const { return hasSign ? int64_t(1) << (bits - 1) : 0; }
  int64_t nanCode() const { return codeOf(APFloat::getNaN(semantics)); }
  /// The code of NaN is that of -0 in the formats that have no -0.
  bool hasNegativeZero() const { return hasSign && !nanIsNegativeZero(); }
  bool nanIsNegativeZero() const { return hasNaN && nanCode() == signCode(); }
  bool isPowerOfTwo() const { return mantissa == 0; }
  /// Bits of the exponent field.
  unsigned exponentBits() const { return bits - mantissa - hasSign; }

  const llvm::fltSemantics &semantics;
  unsigned bits, mantissa;
  int minExponent;
  bool hasSign, hasNaN, hasInf;
  APFloat largest;
};

/// Scalar expressions of one type.
struct Terms {
  ExprBuilder &b;
  Type type;

  Value lit(double value) { return b.lit(value, type); }
  Value compare(ScalarFn fn, Value x, double y) {
    return b.apply(fn, {x, lit(y)});
  }
  Value scale(Value x, int exponent) {
    return b.mul(x, lit(std::ldexp(1.0, exponent)));
  }
  Value choose(Value condition, double x, Value y) {
    return b.select(condition, lit(x), y);
  }
};
} // namespace

//===----------------------------------------------------------------------===//
// Decoding
//===----------------------------------------------------------------------===//

/// 2^e for an i32 in [0, 2^numBits), in the terms' type.
static Value buildPower(Terms t, Value e, unsigned numBits) {
  ExprBuilder &b = t.b;
  Value power = t.lit(1);
  for (unsigned i = 0; i < numBits; ++i) {
    Value bit = b.bitAnd(e, b.lit(1 << i, b.i32()));
    Value isSet = b.apply(ScalarFn::ne, {bit, b.lit(0, b.i32())});
    power = b.select(isSet, t.scale(power, 1 << i), power);
  }
  return power;
}

static Value decodeInteger(ExprBuilder &b, Value code, IntegerType narrow) {
  Type type = getDecodedType(narrow);
  Value x = b.cast(code, type), gap = b.lit(8 - narrow.getWidth(), type);
  // Shifted out and back in: the sign is extended, high bits do not matter.
  return b.apply(ScalarFn::shr, {b.apply(ScalarFn::shl, {x, gap}), gap});
}

/// Powers of two without sign, through f64: 2^-127 is no normal f32.
static Value decodePower(ExprBuilder &b, Value code, const Format &format) {
  Terms t{b, Float64Type::get(code.getContext())};
  Value e = b.cast(code, b.i32());
  Value value = t.scale(buildPower(t, e, format.bits), format.minExponent);
  Value isNaN = b.apply(ScalarFn::eq, {e, b.lit(format.nanCode(), b.i32())});
  return b.cast(t.choose(isNaN, NAN, value), b.f32());
}

Value graph::detail::buildDecode(ExprBuilder &b, Value code, Type narrow) {
  if (auto integer = dyn_cast<IntegerType>(narrow))
    return decodeInteger(b, code, integer);
  Format format(cast<FloatType>(narrow));
  if (format.isPowerOfTwo())
    return decodePower(b, code, format);
  Terms t{b, b.f32()};
  Type i32 = b.i32();
  auto number = [&](int64_t n) { return b.lit(n, i32); };
  Value all = b.bitAnd(b.cast(code, i32), number((1 << format.bits) - 1));
  Value isNegative = b.apply(ScalarFn::ge, {all, number(format.signCode())});
  Value magnitude =
      b.select(isNegative, b.sub(all, number(format.signCode())), all);
  Value field = b.apply(ScalarFn::shr, {magnitude, number(format.mantissa)});
  Value fraction = b.bitAnd(magnitude, number((1 << format.mantissa) - 1));
  // Exponent field 0 has the exponent of field 1 and no leading one.
  Value isNormal = b.apply(ScalarFn::gt, {field, number(0)});
  Value significand = b.select(
      isNormal, b.add(fraction, number(1 << format.mantissa)), fraction);
  Value exponent = b.max(b.sub(field, number(1)), number(0));
  Value value = b.mul(b.cast(significand, t.type),
                      buildPower(t, exponent, format.exponentBits()));
  value =
      t.scale(value, format.minExponent - static_cast<int>(format.mantissa));
  if (format.hasNaN && !format.nanIsNegativeZero()) {
    Value isSpecial =
        b.apply(ScalarFn::gt, {magnitude, number(format.largestCode())});
    value = t.choose(isSpecial, NAN, value);
  }
  if (format.hasInf) {
    int64_t infinity = Format::codeOf(APFloat::getInf(format.semantics));
    Value isInf = b.apply(ScalarFn::eq, {magnitude, number(infinity)});
    value = t.choose(isInf, INFINITY, value);
  }
  value = b.select(isNegative, b.neg(value), value);
  if (format.nanIsNegativeZero())
    value = t.choose(b.apply(ScalarFn::eq, {all, number(format.signCode())}),
                     NAN, value);
  return value;
}

//===----------------------------------------------------------------------===//
// Encoding
//===----------------------------------------------------------------------===//

/// Splits y >= 0 into y = m * 2^e with m in [1, 2), or e = 0 for y < 1;
/// y < 2^(2^numBits).
static std::pair<Value, Value> buildSplit(Terms t, Value y, unsigned numBits) {
  Value e = t.lit(0);
  for (unsigned i = numBits; i-- > 0;) {
    Value isLarge = t.compare(ScalarFn::ge, y, std::ldexp(1.0, 1 << i));
    e = t.b.select(isLarge, t.b.add(e, t.lit(1 << i)), e);
    y = t.b.select(isLarge, t.scale(y, -(1 << i)), y);
  }
  return {y, e};
}

static Value encodeInteger(ExprBuilder &b, Value x, IntegerType narrow) {
  Type ui8 = IntegerType::get(narrow.getContext(), 8, IntegerType::Unsigned);
  return b.bitAnd(b.cast(x, ui8), b.lit((1 << narrow.getWidth()) - 1, ui8));
}

/// ONNX's table for f8E8M0FNU; the sign, which it leaves open, is dropped.
static Value encodePower(ExprBuilder &b, Value x, const Format &format,
                         bool saturate, PowerRounding rounding) {
  Terms t{b, Float64Type::get(x.getContext())};
  Value value = b.cast(b.cast(x, b.f32()), t.type);
  Value magnitude = b.apply(ScalarFn::abs, {value});
  auto [m, e] = buildSplit(
      t, t.scale(b.min(magnitude, t.lit(0x1p128)), -format.minExponent),
      format.bits);
  Value code = e;
  if (rounding != PowerRounding::Down) {
    bool up = rounding == PowerRounding::Up;
    Value rounds = t.compare(up ? ScalarFn::gt : ScalarFn::ge, m, up ? 1 : 1.5);
    code = b.select(rounds, b.add(e, t.lit(1)), e);
  }
  int64_t largest = format.largestCode(), nan = format.nanCode();
  Value over = t.compare(ScalarFn::gt, code, largest);
  code = t.choose(over, saturate ? largest : nan, code);
  if (!saturate) {
    Value under =
        t.compare(ScalarFn::lt, magnitude, std::ldexp(1.0, format.minExponent));
    code = t.choose(under, nan, code);
  }
  return t.choose(b.apply(ScalarFn::isnan, {value}), nan, code);
}

/// The type that a number is rounded from: one that holds it exactly (i64, and
/// ui64 beyond 2^53, where every format is saturated).
static Type getSourceType(Type element) {
  bool isWide = isa<IntegerType>(element) ? element.getIntOrFloatBitWidth() > 16
                                          : element.isF64();
  return isWide ? Type(Float64Type::get(element.getContext()))
                : Type(Float32Type::get(element.getContext()));
}

static Value encodeFloat(ExprBuilder &b, Value source, const Format &format,
                         bool saturate) {
  Terms t{b, getSourceType(source.getType())};
  Value x = b.cast(source, t.type);
  Value magnitude = b.apply(ScalarFn::abs, {x});
  Value bounded = b.min(magnitude, t.lit(2 * format.largestValue()));
  auto [m, e] = buildSplit(t, t.scale(bounded, -format.minExponent),
                           format.exponentBits());
  // The leading one of a normal number is the 1 of its exponent field.
  int steps = 1 << format.mantissa;
  Value code = b.add(b.apply(ScalarFn::round_even, {b.mul(m, t.lit(steps))}),
                     b.mul(e, t.lit(steps)));
  Value over = t.compare(ScalarFn::gt, code, format.largestCode());
  // -0 is seen by its reciprocal.
  Value isZero = t.compare(ScalarFn::eq, x, 0);
  Value probe = b.select(isZero, b.div(t.lit(1), x), x);
  Value isNegative = t.compare(ScalarFn::lt, probe, 0);
  Value sign = t.choose(isNegative, format.signCode(), t.lit(0));
  if (!format.hasNegativeZero())
    sign = t.choose(t.compare(ScalarFn::eq, code, 0), 0, sign);
  int64_t beyond = saturate || !format.hasNaN ? format.largestCode()
                   : format.hasInf
                       ? Format::codeOf(APFloat::getInf(format.semantics))
                       : format.nanCode();
  if (beyond == format.signCode())
    sign = t.choose(over, 0, sign);
  code = b.add(t.choose(over, beyond, code), sign);
  // Formats without NaN: -0, as ml_dtypes has it; ONNX leaves it open.
  int64_t nan = format.hasNaN ? format.nanCode() : format.signCode();
  return t.choose(b.apply(ScalarFn::isnan, {x}), nan, code);
}

Value graph::detail::buildEncode(ExprBuilder &b, Value x, Type narrow,
                                 bool saturate, PowerRounding rounding) {
  if (auto integer = dyn_cast<IntegerType>(narrow))
    return encodeInteger(b, x, integer);
  Format format(cast<FloatType>(narrow));
  Value code = format.isPowerOfTwo()
                   ? encodePower(b, x, format, saturate, rounding)
                   : encodeFloat(b, x, format, saturate);
  Type ui8 = IntegerType::get(narrow.getContext(), 8, IntegerType::Unsigned);
  return b.cast(code, ui8);
}
