// pow on every pair of dtypes: integers by squaring, floats by VectorMath.
#include "dlc/Codegen/Common/ScalarEmitter.h"

#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace dlc;
using CmpI = arith::CmpIPredicate;

static bool isUnsigned(Type type) {
  return type.isUnsignedInteger() || type.isInteger(1);
}

// Square and multiply over the exponent's bits; all lanes take every step.
Value ScalarEmitter::integerPower(Scalar x, Scalar y) {
  Type type = x.value.getType(), exponentType = y.value.getType();
  unsigned bits = getElementTypeOrSelf(exponentType).getIntOrFloatBitWidth();
  Value zero = arith::ConstantIndexOp::create(b, loc, 0);
  Value one = arith::ConstantIndexOp::create(b, loc, 1);
  Value count = arith::ConstantIndexOp::create(b, loc, bits);
  Value initial = integer(type, 1);
  auto loop = scf::ForOp::create(
      b, loc, zero, count, one, ValueRange{initial, x.value, y.value},
      [&](OpBuilder &, Location, Value, ValueRange carried) {
        Value result = carried[0], base = carried[1], rest = carried[2];
        Value low =
            arith::AndIOp::create(b, loc, rest, integer(exponentType, 1));
        Value isSet = arith::CmpIOp::create(b, loc, CmpI::ne, low,
                                            integer(exponentType, 0));
        Value product = arith::MulIOp::create(b, loc, result, base);
        result = arith::SelectOp::create(b, loc, isSet, product, result);
        base = arith::MulIOp::create(b, loc, base, base);
        rest = arith::ShRUIOp::create(b, loc, rest, integer(exponentType, 1));
        scf::YieldOp::create(b, loc, ValueRange{result, base, rest});
      });
  Value result = loop.getResult(0);
  if (isUnsigned(y.type))
    return result;
  // A negative exponent gives the truncated reciprocal.
  auto equals = [&](Value v, int64_t c) -> Value {
    return arith::CmpIOp::create(b, loc, CmpI::eq, v, integer(v.getType(), c));
  };
  Value reciprocal = arith::SelectOp::create(
      b, loc, equals(x.value, 1), integer(type, 1), integer(type, 0));
  if (!isUnsigned(x.type)) {
    Value low =
        arith::AndIOp::create(b, loc, y.value, integer(exponentType, 1));
    Value sign = arith::SelectOp::create(b, loc, equals(low, 1),
                                         integer(type, -1), integer(type, 1));
    reciprocal =
        arith::SelectOp::create(b, loc, equals(x.value, -1), sign, reciprocal);
  }
  Value isNegative = arith::CmpIOp::create(b, loc, CmpI::slt, y.value,
                                           integer(exponentType, 0));
  return arith::SelectOp::create(b, loc, isNegative, reciprocal, result);
}

Scalar ScalarEmitter::power(Scalar x, Scalar y) {
  bool floatX = isa<FloatType>(x.type), floatY = isa<FloatType>(y.type);
  Type f32 = b.getF32Type(), f64 = b.getF64Type();
  if (!floatX && !floatY)
    return {integerPower(x, y), x.type};
  auto isSingle = [](Type type) {
    return isa<FloatType>(type) && !type.isF64();
  };
  if (isSingle(x.type) && isSingle(y.type))
    return {roundTo(math.pow(x.value, y.value), x.type), x.type};
  // Small integer exponents are exact in f32 too.
  if (isSingle(x.type) && !floatY && !options.strict) {
    Value exponent = cast(y, f32).value;
    return {roundTo(math.pow(x.value, exponent), x.type), x.type};
  }
  Value result = math.pow(cast(x, f64).value, cast(y, f64).value);
  return cast({result, f64}, x.type);
}
