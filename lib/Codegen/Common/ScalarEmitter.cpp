// Scalar functions and folds. No operation emitted here is undefined for any
// input: integers wrap, divisors are replaced before a division could trap, and
// large shifts are selected away.
#include "dlc/Codegen/Common/ScalarEmitter.h"

#include "dlc/Dialect/Graph/IR/Folds.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;
using graph::FoldKind;
using graph::ScalarFn;
using CmpF = arith::CmpFPredicate;
using CmpI = arith::CmpIPredicate;

ScalarOptions ScalarOptions::get(const CpuTarget &target, bool strict) {
  ScalarOptions options;
  bool isArm = target.desc().arch == "arm";
  options.fma = isArm || target.hasFeature("fma");
  options.halfConvert = isArm || target.hasFeature("f16c");
  options.nanMaximum = isArm;
  options.slowDivide = !isArm && target.hasFeature("avx512f");
  options.scaleExponent = !isArm && target.hasFeature("avx512vl");
  options.tables = options.fma && !isArm && target.desc().vectorBytes == 64 &&
                   target.hasFeature("avx512f");
  options.maskedMemory =
      !isArm && target.hasFeature("avx512vl") && target.hasFeature("avx512bw");
  options.strict = strict;
  return options;
}

//===----------------------------------------------------------------------===//
// Types and constants
//===----------------------------------------------------------------------===//

static bool isHalf(Type type) { return isa<Float16Type, BFloat16Type>(type); }
static bool isUnsigned(Type type) {
  return type.isUnsignedInteger() || type.isInteger(1);
}

Type ScalarEmitter::computeType(Type type, unsigned lanes) {
  MLIRContext *context = type.getContext();
  if (isHalf(type))
    type = Float32Type::get(context);
  else if (auto integer = dyn_cast<IntegerType>(type))
    type = IntegerType::get(context, integer.getWidth());
  return lanes ? VectorType::get({static_cast<int64_t>(lanes)}, type) : type;
}

Type ScalarEmitter::storageType(Type type) {
  MLIRContext *context = type.getContext();
  if (isHalf(type))
    return IntegerType::get(context, 16);
  return type.isInteger(1) ? IntegerType::get(context, 8) : computeType(type);
}

Type ScalarEmitter::withElement(Type like, Type element) {
  if (auto vector = dyn_cast<VectorType>(like))
    return VectorType::get(vector.getShape(), element);
  return element;
}

Value ScalarEmitter::constant(Type type, Attribute value) {
  if (auto vector = dyn_cast<VectorType>(type))
    return arith::ConstantOp::create(b, loc,
                                     DenseElementsAttr::get(vector, value));
  return arith::ConstantOp::create(b, loc, llvm::cast<TypedAttr>(value));
}

Value ScalarEmitter::integer(Type type, int64_t value) {
  auto element = llvm::cast<IntegerType>(getElementTypeOrSelf(type));
  APInt bits(element.getWidth(), value, /*isSigned=*/true,
             /*implicitTrunc=*/true);
  return constant(type, IntegerAttr::get(element, bits));
}

Value ScalarEmitter::number(Type type, double value) {
  return constant(type, b.getFloatAttr(getElementTypeOrSelf(type), value));
}

Scalar ScalarEmitter::literal(TypedAttr attr) {
  Type type = attr.getType(), compute = computeType(type);
  if (auto f = dyn_cast<FloatAttr>(attr)) {
    APFloat value = f.getValue();
    bool lost;
    value.convert(llvm::cast<FloatType>(compute).getFloatSemantics(),
                  APFloat::rmNearestTiesToEven, &lost);
    return {constant(compute, FloatAttr::get(compute, value)), type};
  }
  APInt value = llvm::cast<IntegerAttr>(attr).getValue();
  return {constant(compute, IntegerAttr::get(compute, value)), type};
}

Scalar ScalarEmitter::broadcast(Scalar x, unsigned lanes) {
  if (x.isVector() || lanes == 0)
    return x;
  auto type = VectorType::get({static_cast<int64_t>(lanes)}, x.value.getType());
  return {vector::BroadcastOp::create(b, loc, type, x.value), x.type};
}

static unsigned lanesOf(Scalar x) {
  auto vector = dyn_cast<VectorType>(x.value.getType());
  return vector ? vector.getNumElements() : 0;
}

Scalar ScalarEmitter::fromStorage(Value stored, Type type) {
  if (type.isInteger(1)) {
    Value isSet = arith::CmpIOp::create(b, loc, CmpI::ne, stored,
                                        integer(stored.getType(), 0));
    return {isSet, type};
  }
  if (isHalf(type))
    return {widen(stored, type), type};
  return {stored, type};
}

Value ScalarEmitter::toStorage(Scalar x) {
  if (x.type.isInteger(1))
    return arith::ExtUIOp::create(
        b, loc, withElement(x.value.getType(), b.getI8Type()), x.value);
  if (isHalf(x.type))
    return narrow(x.value, x.type);
  return x.value;
}

//===----------------------------------------------------------------------===//
// Functions
//===----------------------------------------------------------------------===//

Scalar ScalarEmitter::select(Value c, Scalar x, Scalar y) {
  unsigned lanes = std::max(lanesOf(x), lanesOf(y));
  if (auto vector = dyn_cast<VectorType>(c.getType()))
    lanes = vector.getNumElements();
  x = broadcast(x, lanes), y = broadcast(y, lanes);
  return {arith::SelectOp::create(b, loc, c, x.value, y.value), x.type};
}

Scalar ScalarEmitter::apply(ScalarFn fn, ArrayRef<Scalar> args) {
  unsigned lanes = 0;
  for (Scalar x : args)
    lanes = std::max(lanes, lanesOf(x));
  if (fn == ScalarFn::select)
    return select(args[0].value, args[1], args[2]);
  if (fn == ScalarFn::div && !options.strict && options.slowDivide &&
      args[0].isVector() && args[1].value.getType().isF32()) {
    Value quotient = divideByOne(args[0].value, args[1].value);
    return {roundTo(quotient, args[0].type), args[0].type};
  }
  SmallVector<Scalar, 3> in;
  for (Scalar x : args)
    in.push_back(broadcast(x, lanes));
  bool isFloat = isa<FloatType>(in[0].type);
  graph::ScalarFnInfo info = graph::getScalarFnInfo(fn);
  if (fn == ScalarFn::pow)
    return power(in[0], in[1]);
  if (info.arity == 1) {
    if (!isFloat)
      return unaryInteger(fn, in[0]);
    Scalar result = unaryFloat(fn, in[0]);
    return {roundTo(result.value, result.type), result.type};
  }
  if (info.result == graph::ScalarFnInfo::Bool)
    return compare(fn, in[0], in[1]);
  if (!isFloat)
    return binaryInteger(fn, in[0], in[1]);
  Scalar result = binaryFloat(fn, in[0], in[1]);
  if (fn != ScalarFn::max && fn != ScalarFn::min)
    result.value = roundTo(result.value, result.type);
  return result;
}

Scalar ScalarEmitter::unaryFloat(ScalarFn fn, Scalar x) {
  Value v = x.value;
  Type type = v.getType();
  Type i1 = b.getI1Type();
  auto is = [&](CmpF predicate, double y) -> Value {
    return arith::CmpFOp::create(b, loc, predicate, v, number(type, y));
  };
  auto choose = [&](Value c, Value yes, Value no) -> Value {
    return arith::SelectOp::create(b, loc, c, yes, no);
  };
  switch (fn) {
  case ScalarFn::ceil:
    return {math::CeilOp::create(b, loc, v), x.type};
  case ScalarFn::floor:
    return {math::FloorOp::create(b, loc, v), x.type};
  case ScalarFn::round_even:
    return {math::RoundEvenOp::create(b, loc, v), x.type};
  case ScalarFn::trunc:
    return {math::TruncOp::create(b, loc, v), x.type};
  case ScalarFn::sqrt:
    return {math::SqrtOp::create(b, loc, v), x.type};
  case ScalarFn::rsqrt:
    return {arith::DivFOp::create(b, loc, number(type, 1.0),
                                  math::SqrtOp::create(b, loc, v)),
            x.type};
  case ScalarFn::exp:
    return {math.exp(v), x.type};
  case ScalarFn::log:
    return {math.log(v), x.type};
  case ScalarFn::sin:
    return {math.sin(v), x.type};
  case ScalarFn::cos:
    return {math.cos(v), x.type};
  case ScalarFn::tanh:
    return {math.tanh(v), x.type};
  case ScalarFn::erf:
    return {math.erf(v), x.type};
  case ScalarFn::log1p:
    return {math.log1p(v), x.type};
  case ScalarFn::expm1:
    return {math.expm1(v), x.type};
  case ScalarFn::isnan:
    return {arith::CmpFOp::create(b, loc, CmpF::UNO, v, v), i1};
  case ScalarFn::isinf: {
    Value magnitude = math::AbsFOp::create(b, loc, v);
    return {arith::CmpFOp::create(b, loc, CmpF::OEQ, magnitude,
                                  number(type, INFINITY)),
            i1};
  }
  case ScalarFn::abs:
    return {math::AbsFOp::create(b, loc, v), x.type};
  case ScalarFn::neg:
    return {arith::NegFOp::create(b, loc, v), x.type};
  case ScalarFn::sign: // keeps NaN and the sign of zero
    return {choose(is(CmpF::OGT, 0.0), number(type, 1.0),
                   choose(is(CmpF::OLT, 0.0), number(type, -1.0), v)),
            x.type};
  default: // tan, asin, ...: C's functions of the same name
    return {math.libm(stringifyScalarFn(fn), v), x.type};
  }
}

Scalar ScalarEmitter::unaryInteger(ScalarFn fn, Scalar x) {
  Value v = x.value;
  Value zero = integer(v.getType(), 0);
  auto negated = [&]() -> Value {
    return arith::SubIOp::create(b, loc, zero, v);
  };
  switch (fn) {
  case ScalarFn::abs: {
    if (isUnsigned(x.type))
      return x;
    Value isNegative = arith::CmpIOp::create(b, loc, CmpI::slt, v, zero);
    return {arith::SelectOp::create(b, loc, isNegative, negated(), v), x.type};
  }
  case ScalarFn::neg:
    return {negated(), x.type};
  case ScalarFn::sign: {
    Value one = integer(v.getType(), 1);
    Value isZero = arith::CmpIOp::create(b, loc, CmpI::eq, v, zero);
    Value result = arith::SelectOp::create(b, loc, isZero, zero, one);
    if (isUnsigned(x.type))
      return {result, x.type};
    Value isNegative = arith::CmpIOp::create(b, loc, CmpI::slt, v, zero);
    return {arith::SelectOp::create(b, loc, isNegative,
                                    integer(v.getType(), -1), result),
            x.type};
  }
  case ScalarFn::bit_not:
    return {arith::XOrIOp::create(b, loc, v, integer(v.getType(), -1)), x.type};
  default: // rounding an integer changes nothing
    return x;
  }
}

// A vector by one number y. 1 / y is found once, in two parts of one sign: the
// float below it and what is left, to 2^-46 of it. Then x / y takes two
// instructions and is right to 0.5 + 2^-22 of a unit in the last place; where
// the quotient is subnormal or nearly, to one unit. The sign keeps an infinite
// x from making NaN of the sum.
Value ScalarEmitter::divideByOne(Value x, Value y) {
  Type type = x.getType(), element = y.getType();
  auto splat = [&](Value v) -> Value {
    return vector::BroadcastOp::create(b, loc, type, v);
  };
  Value magnitude = math::AbsFOp::create(b, loc, y);
  auto bound = [&](CmpF predicate, double limit) -> Value {
    return arith::CmpFOp::create(b, loc, predicate, magnitude,
                                 number(element, limit));
  };
  Value isUsual = arith::AndIOp::create(b, loc, bound(CmpF::OGE, 0x1p-60),
                                        bound(CmpF::OLE, 0x1p60));
  Value one = number(element, 1.0);
  Value nearest = arith::DivFOp::create(b, loc, one, y);
  Type bitsType = b.getIntegerType(element.getIntOrFloatBitWidth());
  Value bits = arith::SubIOp::create(
      b, loc, arith::BitcastOp::create(b, loc, bitsType, nearest),
      integer(bitsType, 1));
  Value below = arith::BitcastOp::create(b, loc, element, bits);
  Value negated = arith::NegFOp::create(b, loc, y);
  Value rest = arith::MulFOp::create(
      b, loc, math::FmaOp::create(b, loc, negated, below, one), nearest);
  Value high = splat(below), low = splat(rest);
  auto choice =
      scf::IfOp::create(b, loc, TypeRange{type}, isUsual, /*withElse=*/true);
  OpBuilder::InsertionGuard inside(b);
  b.setInsertionPointToEnd(choice.thenBlock());
  Value small = arith::MulFOp::create(b, loc, x, low);
  scf::YieldOp::create(b, loc,
                       Value(math::FmaOp::create(b, loc, x, high, small)));
  b.setInsertionPointToEnd(choice.elseBlock());
  scf::YieldOp::create(b, loc,
                       Value(arith::DivFOp::create(b, loc, x, splat(y))));
  return choice.getResult(0);
}

Value ScalarEmitter::maximum(Value x, Value y, bool isMax) {
  if (options.strict || options.nanMaximum)
    return isMax ? Value(arith::MaximumFOp::create(b, loc, x, y))
                 : Value(arith::MinimumFOp::create(b, loc, x, y));
  // Signs of zeros are not kept. That takes one instruction where y is a known
  // number; else two more look whether y is NaN: in a fold y is what is new, so
  // that they stay out of the chain from step to step.
  auto flags = arith::FastMathFlags::nsz;
  return isMax ? Value(arith::MaximumFOp::create(b, loc, y, x, flags))
               : Value(arith::MinimumFOp::create(b, loc, y, x, flags));
}

Scalar ScalarEmitter::binaryFloat(ScalarFn fn, Scalar x, Scalar y) {
  Value l = x.value, r = y.value;
  switch (fn) {
  case ScalarFn::add:
    return {arith::AddFOp::create(b, loc, l, r), x.type};
  case ScalarFn::sub:
    return {arith::SubFOp::create(b, loc, l, r), x.type};
  case ScalarFn::mul:
    return {arith::MulFOp::create(b, loc, l, r), x.type};
  case ScalarFn::div:
    return {arith::DivFOp::create(b, loc, l, r), x.type};
  case ScalarFn::max:
  case ScalarFn::min:
    return {maximum(l, r, fn == ScalarFn::max), x.type};
  case ScalarFn::rem:
    return {math.libm("fmod", {l, r}), x.type};
  case ScalarFn::mod: {
    // fmod has the dividend's sign: move a nonzero one to the divisor's.
    Value rem = math.libm("fmod", {l, r});
    Value zero = number(l.getType(), 0.0);
    auto negative = [&](Value v) -> Value {
      return arith::CmpFOp::create(b, loc, CmpF::OLT, v, zero);
    };
    Value differ = arith::XOrIOp::create(b, loc, negative(rem), negative(r));
    Value moved = arith::SelectOp::create(
        b, loc, differ, arith::AddFOp::create(b, loc, rem, r), rem);
    Value isZero = arith::CmpFOp::create(b, loc, CmpF::OEQ, rem, zero);
    Value signedZero = math::CopySignOp::create(b, loc, zero, r);
    return {arith::SelectOp::create(b, loc, isZero, signedZero, moved), x.type};
  }
  default:
    llvm_unreachable("not a function of floats");
  }
}

Scalar ScalarEmitter::divideInteger(ScalarFn fn, Scalar x, Scalar y) {
  Value l = x.value, r = y.value;
  Type type = l.getType();
  Value zero = integer(type, 0), one = integer(type, 1);
  Value byZero = arith::CmpIOp::create(b, loc, CmpI::eq, r, zero);
  auto choose = [&](Value c, Value yes, Value no) -> Value {
    return arith::SelectOp::create(b, loc, c, yes, no);
  };
  Value divisor = choose(byZero, one, r);
  if (isUnsigned(x.type)) {
    Value result = fn == ScalarFn::div
                       ? Value(arith::DivUIOp::create(b, loc, l, divisor))
                       : Value(arith::RemUIOp::create(b, loc, l, divisor));
    return {choose(byZero, zero, result), x.type};
  }
  // The smallest number divided by -1 overflows: negate instead.
  Value byMinusOne =
      arith::CmpIOp::create(b, loc, CmpI::eq, r, integer(type, -1));
  divisor = choose(byMinusOne, one, divisor);
  if (fn == ScalarFn::div) {
    Value result = arith::DivSIOp::create(b, loc, l, divisor);
    result = choose(byMinusOne, arith::SubIOp::create(b, loc, zero, l), result);
    return {choose(byZero, zero, result), x.type};
  }
  // l % 1 = 0 is also the remainder by -1.
  Value rem = arith::RemSIOp::create(b, loc, l, divisor);
  rem = choose(byZero, zero, rem);
  if (fn == ScalarFn::rem)
    return {rem, x.type};
  auto negative = [&](Value v) -> Value {
    return arith::CmpIOp::create(b, loc, CmpI::slt, v, zero);
  };
  Value differ = arith::XOrIOp::create(b, loc, negative(rem), negative(r));
  Value nonzero = arith::CmpIOp::create(b, loc, CmpI::ne, rem, zero);
  Value moves = arith::AndIOp::create(b, loc, differ, nonzero);
  return {choose(moves, arith::AddIOp::create(b, loc, rem, r), rem), x.type};
}

Scalar ScalarEmitter::binaryInteger(ScalarFn fn, Scalar x, Scalar y) {
  Value l = x.value, r = y.value;
  bool isU = isUnsigned(x.type);
  switch (fn) {
  case ScalarFn::add:
    return {arith::AddIOp::create(b, loc, l, r), x.type};
  case ScalarFn::sub:
    return {arith::SubIOp::create(b, loc, l, r), x.type};
  case ScalarFn::mul:
    return {arith::MulIOp::create(b, loc, l, r), x.type};
  case ScalarFn::div:
  case ScalarFn::rem:
  case ScalarFn::mod:
    return divideInteger(fn, x, y);
  case ScalarFn::max:
    return {isU ? Value(arith::MaxUIOp::create(b, loc, l, r))
                : Value(arith::MaxSIOp::create(b, loc, l, r)),
            x.type};
  case ScalarFn::min:
    return {isU ? Value(arith::MinUIOp::create(b, loc, l, r))
                : Value(arith::MinSIOp::create(b, loc, l, r)),
            x.type};
  case ScalarFn::bit_and:
    return {arith::AndIOp::create(b, loc, l, r), x.type};
  case ScalarFn::bit_or:
    return {arith::OrIOp::create(b, loc, l, r), x.type};
  case ScalarFn::bit_xor:
    return {arith::XOrIOp::create(b, loc, l, r), x.type};
  case ScalarFn::shl:
  case ScalarFn::shr: {
    unsigned width = getElementTypeOrSelf(l.getType()).getIntOrFloatBitWidth();
    Value zero = integer(l.getType(), 0);
    Value fits = arith::CmpIOp::create(b, loc, CmpI::ult, r,
                                       integer(l.getType(), width));
    Value amount = arith::SelectOp::create(b, loc, fits, r, zero);
    Value shifted = fn == ScalarFn::shl
                        ? Value(arith::ShLIOp::create(b, loc, l, amount))
                    : isU ? Value(arith::ShRUIOp::create(b, loc, l, amount))
                          : Value(arith::ShRSIOp::create(b, loc, l, amount));
    return {arith::SelectOp::create(b, loc, fits, shifted, zero), x.type};
  }
  default:
    llvm_unreachable("not a function of integers");
  }
}

Scalar ScalarEmitter::compare(ScalarFn fn, Scalar x, Scalar y) {
  Type i1 = b.getI1Type();
  if (isa<FloatType>(x.type)) {
    CmpF predicate = fn == ScalarFn::eq   ? CmpF::OEQ
                     : fn == ScalarFn::ne ? CmpF::UNE
                     : fn == ScalarFn::lt ? CmpF::OLT
                     : fn == ScalarFn::le ? CmpF::OLE
                     : fn == ScalarFn::gt ? CmpF::OGT
                                          : CmpF::OGE;
    return {arith::CmpFOp::create(b, loc, predicate, x.value, y.value), i1};
  }
  bool isU = isUnsigned(x.type);
  CmpI predicate = fn == ScalarFn::eq   ? CmpI::eq
                   : fn == ScalarFn::ne ? CmpI::ne
                   : fn == ScalarFn::lt ? (isU ? CmpI::ult : CmpI::slt)
                   : fn == ScalarFn::le ? (isU ? CmpI::ule : CmpI::sle)
                   : fn == ScalarFn::gt ? (isU ? CmpI::ugt : CmpI::sgt)
                                        : (isU ? CmpI::uge : CmpI::sge);
  return {arith::CmpIOp::create(b, loc, predicate, x.value, y.value), i1};
}

//===----------------------------------------------------------------------===//
// Folds
//===----------------------------------------------------------------------===//

Scalar ScalarEmitter::identity(FoldKind kind, Type type) {
  Type compute = computeType(type);
  auto f = dyn_cast<FloatType>(compute);
  unsigned width = compute.getIntOrFloatBitWidth();
  auto extreme = [&](bool highest) -> Value {
    if (f)
      return number(compute, highest ? INFINITY : -INFINITY);
    APInt value =
        isUnsigned(type)
            ? (highest ? APInt::getMaxValue(width) : APInt::getMinValue(width))
            : (highest ? APInt::getSignedMaxValue(width)
                       : APInt::getSignedMinValue(width));
    return constant(compute, IntegerAttr::get(compute, value));
  };
  auto plain = [&](int64_t value) {
    return f ? number(compute, value) : integer(compute, value);
  };
  switch (kind) {
  case FoldKind::mul:
    return {plain(1), type};
  case FoldKind::max:
  case FoldKind::argmax:
  case FoldKind::argmax_last:
    return {extreme(false), type};
  case FoldKind::min:
  case FoldKind::argmin:
  case FoldKind::argmin_last:
    return {extreme(true), type};
  case FoldKind::bit_and:
    return {plain(-1), type};
  default:
    return {plain(0), type};
  }
}

Scalar ScalarEmitter::combine(FoldKind kind, Scalar accumulator, Scalar x) {
  auto combiner = graph::combinerOf(kind);
  assert(combiner && "not a fold of values");
  return apply(*combiner, {accumulator, x});
}
