// The elementary functions. Coefficients come from utils/fit-vector-math.py.
//
// Two habits keep edge cases cheap: clamping by compare-and-select, which lets
// NaN through, and rounding to an integer by adding 1.5 * 2^p, whose bits hold
// the integer, so that no float-to-integer conversion of a wild value occurs.
#include "dlc/Codegen/Common/VectorMath.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/BuiltinOps.h"

using namespace mlir;
using namespace dlc;
using Predicate = arith::CmpFPredicate;

//===----------------------------------------------------------------------===//
// Words
//===----------------------------------------------------------------------===//

static Value splat(OpBuilder &b, Location loc, Type type, TypedAttr element) {
  if (auto vector = dyn_cast<VectorType>(type))
    return arith::ConstantOp::create(b, loc,
                                     DenseElementsAttr::get(vector, element));
  return arith::ConstantOp::create(b, loc, element);
}

Value VectorMath::num(double value, Value like) {
  return splat(b, loc, like.getType(),
               b.getFloatAttr(getElementTypeOrSelf(like), value));
}

Value VectorMath::integer(int64_t value, Value like) {
  return splat(b, loc, like.getType(),
               b.getIntegerAttr(getElementTypeOrSelf(like), value));
}

Value VectorMath::add(Value x, Value y) {
  return arith::AddFOp::create(b, loc, x, y);
}
Value VectorMath::sub(Value x, Value y) {
  return arith::SubFOp::create(b, loc, x, y);
}
Value VectorMath::mul(Value x, Value y) {
  return arith::MulFOp::create(b, loc, x, y);
}
Value VectorMath::div(Value x, Value y) {
  return arith::DivFOp::create(b, loc, x, y);
}
Value VectorMath::fma(Value x, Value y, Value z) {
  if (hasFma)
    return math::FmaOp::create(b, loc, x, y, z);
  return add(mul(x, y), z);
}
Value VectorMath::abs(Value x) { return math::AbsFOp::create(b, loc, x); }
Value VectorMath::compare(Predicate predicate, Value x, Value y) {
  return arith::CmpFOp::create(b, loc, predicate, x, y);
}
Value VectorMath::select(Value c, Value x, Value y) {
  return arith::SelectOp::create(b, loc, c, x, y);
}
bool VectorMath::isDouble(Value x) { return getElementTypeOrSelf(x).isF64(); }

Type VectorMath::withElement(Value like, Type element) {
  if (auto vector = dyn_cast<VectorType>(like.getType()))
    return VectorType::get(vector.getShape(), element);
  return element;
}

Value VectorMath::toBits(Value x) {
  Type element = isDouble(x) ? b.getI64Type() : b.getI32Type();
  return arith::BitcastOp::create(b, loc, withElement(x, element), x);
}
Value VectorMath::fromBits(Value bits, Value like) {
  return arith::BitcastOp::create(b, loc, like.getType(), bits);
}
Value VectorMath::copySign(Value magnitude, Value sign) {
  return math::CopySignOp::create(b, loc, magnitude, sign);
}
Value VectorMath::toDouble(Value x) {
  if (isDouble(x))
    return x;
  return arith::ExtFOp::create(b, loc, withElement(x, b.getF64Type()), x);
}
Value VectorMath::toSingle(Value x) {
  return arith::TruncFOp::create(b, loc, withElement(x, b.getF32Type()), x);
}

Value VectorMath::polynomial(ArrayRef<double> coefficients, Value x) {
  Value result = num(coefficients.back(), x);
  for (double c : llvm::reverse(coefficients.drop_back()))
    result = fma(result, x, num(c, x));
  return result;
}

Value VectorMath::libm(StringRef name, ValueRange args) {
  Type element = getElementTypeOrSelf(args.front());
  std::string symbol = (element.isF64() ? name : (name + "f").str()).str();
  auto module =
      b.getInsertionBlock()->getParentOp()->getParentOfType<ModuleOp>();
  auto callee = module.lookupSymbol<func::FuncOp>(symbol);
  if (!callee) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(module.getBody());
    SmallVector<Type> inputs(args.size(), element);
    callee = func::FuncOp::create(b, loc, symbol,
                                  b.getFunctionType(inputs, element));
    callee.setPrivate();
  }
  auto vector = dyn_cast<VectorType>(args.front().getType());
  if (!vector)
    return func::CallOp::create(b, loc, callee, args).getResult(0);
  // A loop over lanes: unrolled calls would be sixteen times the code.
  Value zero = arith::ConstantIndexOp::create(b, loc, 0);
  Value one = arith::ConstantIndexOp::create(b, loc, 1);
  Value lanes = arith::ConstantIndexOp::create(b, loc, vector.getNumElements());
  auto loop = scf::ForOp::create(
      b, loc, zero, lanes, one, ValueRange{args.front()},
      [&](OpBuilder &nested, Location, Value lane, ValueRange carried) {
        SmallVector<Value> scalars;
        for (Value v : args)
          scalars.push_back(
              vector::ExtractOp::create(nested, loc, v, OpFoldResult(lane)));
        Value result =
            func::CallOp::create(nested, loc, callee, scalars).getResult(0);
        Value inserted = vector::InsertOp::create(
            nested, loc, result, carried.front(), OpFoldResult(lane));
        scf::YieldOp::create(nested, loc, inserted);
      });
  return loop.getResult(0);
}

//===----------------------------------------------------------------------===//
// exp, expm1
//===----------------------------------------------------------------------===//

VectorMath::Reduced VectorMath::reduceExp(Value x) {
  bool wide = isDouble(x);
  // ln 2 in two parts; the first has enough trailing zeros for n * high to be
  // exact without a fused multiply-add.
  double high = wide ? 6.93147180369123816490e-01 : 0.693359375;
  double low = wide ? 1.90821492927058770002e-10 : -2.12194440054690583e-4;
  double magic = wide ? 6755399441055744.0 : 12582912.0; // 1.5 * 2^(p - 1)
  Value shifted = fma(x, num(1.44269504088896340736, x), num(magic, x));
  Value n = sub(shifted, num(magic, x));
  Value bits = toBits(shifted);
  Value nBits = arith::SubIOp::create(b, loc, bits, toBits(num(magic, x)));
  Value r = fma(n, num(-low, x), fma(n, num(-high, x), x));
  return {r, n, nBits};
}

/// 2^n for an integer n in the exponent's normal range.
Value VectorMath::exp2Integer(Value n, Value like) {
  bool wide = isDouble(like);
  Value biased =
      arith::AddIOp::create(b, loc, n, integer(wide ? 1023 : 127, n));
  Value bits =
      arith::ShLIOp::create(b, loc, biased, integer(wide ? 52 : 23, n));
  return fromBits(bits, like);
}

Value VectorMath::scaleExponent(Value x, Reduced reduced) {
  Value n = reduced.nBits;
  // The instruction takes n as a float, which is at hand.
  auto type = dyn_cast<VectorType>(x.getType());
  if (hasScaleExponent && type && type.getNumElements() == 16 &&
      type.getElementType().isF32()) {
    Value all = arith::ConstantIntOp::create(b, loc, -1, 16);
    Value nearest = arith::ConstantIntOp::create(b, loc, 4, 32);
    return LLVM::CallIntrinsicOp::create(
               b, loc, type,
               b.getStringAttr("llvm.x86.avx512.mask.scalef.ps.512"),
               ValueRange{x, reduced.n, x, all, nearest})
        .getResult(0);
  }
  if (hasScaleExponent)
    return LLVM::CallIntrinsicOp::create(b, loc, x.getType(),
                                         b.getStringAttr("llvm.ldexp"),
                                         ValueRange{x, n})
        .getResult(0);
  // In two steps, so that subnormal results and overflow come out right.
  Value half = arith::ShRSIOp::create(b, loc, n, integer(1, n));
  Value rest = arith::SubIOp::create(b, loc, n, half);
  return mul(mul(x, exp2Integer(half, x)), exp2Integer(rest, x));
}

Value VectorMath::expTail(Value r) {
  if (isDouble(r))
    return polynomial({0.500000000000000103, 0.166666666666666675,
                       0.0416666666666238205, 0.0083333333333300382,
                       0.00138888889173670806, 0.00019841269863171556,
                       0.0000248015210578682052, 2.75572682769056962e-6,
                       2.76202015910315488e-7, 2.5100472505694996e-8},
                      r);
  return polynomial({0.5, 0.1666666668, 0.0416664642, 0.008333310845,
                     0.001393373072, 0.0001989108046},
                    r);
}

Value VectorMath::exp64(Value x) {
  // Beyond these the result is infinite or zero; NaN passes both selects.
  Value limit = num(1000.0, x), negative = num(-1000.0, x);
  x = select(compare(Predicate::OGT, x, limit), limit, x);
  x = select(compare(Predicate::OLT, x, negative), negative, x);
  Reduced reduced = reduceExp(x);
  Value r = reduced.r;
  Value p = add(num(1.0, x), fma(mul(r, r), expTail(r), r));
  return scaleExponent(p, reduced);
}

Value VectorMath::exp(Value x) {
  if (isDouble(x))
    return exp64(x);
  Value limit = num(130.0, x), negative = num(-130.0, x);
  x = select(compare(Predicate::OGT, x, limit), limit, x);
  x = select(compare(Predicate::OLT, x, negative), negative, x);
  Reduced reduced = reduceExp(x);
  Value r = reduced.r;
  Value p = add(num(1.0, x), fma(mul(r, r), expTail(r), r));
  return scaleExponent(p, reduced);
}

Value VectorMath::expOfNonPositive(Value x) {
  // As reduceExp; the constant's low bits are the exponent's bias, so that the
  // bits of `shifted` only have to be moved to their place. -inf makes NaN of
  // the polynomial, which the last select drops; NaN stays one in the product.
  Value magic = num(12582912.0 + 127, x);
  Value shifted = fma(x, num(1.44269504088896340736, x), magic);
  Value n = sub(shifted, magic);
  Value r =
      fma(n, num(2.12194440054690583e-4, x), fma(n, num(-0.693359375, x), x));
  Value p = polynomial({1.0, 1.0, 0.5, 0.1666666668, 0.0416664642,
                        0.008333310845, 0.001393373072, 0.0001989108046},
                       r);
  Value bits = toBits(shifted);
  Value scale =
      fromBits(arith::ShLIOp::create(b, loc, bits, integer(23, bits)), x);
  Value isTiny = compare(Predicate::OLT, x, num(-87.3, x));
  return select(isTiny, num(0.0, x), mul(p, scale));
}

// With u = e^r - 1: e^x - 1 = 2^n u + (2^n - 1); halved, so that n = 128 fits.
Value VectorMath::expm1(Value x) {
  if (isDouble(x))
    return libm("expm1", x);
  Value limit = num(89.5, x), negative = num(-18.0, x);
  Value clamped = select(compare(Predicate::OGT, x, limit), limit, x);
  clamped =
      select(compare(Predicate::OLT, clamped, negative), negative, clamped);
  Reduced reduced = reduceExp(clamped);
  Value r = reduced.r;
  Value u = fma(mul(r, r), expTail(r), r);
  Value n =
      arith::SubIOp::create(b, loc, reduced.nBits, integer(1, reduced.nBits));
  Value scale = exp2Integer(n, x);
  Value result = mul(num(2.0, x), fma(scale, u, sub(scale, num(0.5, x))));
  // n = 0 must give u exactly, minus zero included.
  return select(compare(Predicate::OEQ, x, num(0.0, x)), x, result);
}

//===----------------------------------------------------------------------===//
// log, log1p
//===----------------------------------------------------------------------===//

VectorMath::Split VectorMath::splitExponent(Value x) {
  bool wide = isDouble(x);
  int64_t shift = wide ? 52 : 23;
  // Subtracting the bits of sqrt(1/2) moves the exponent's step there.
  int64_t root = wide ? 0x3fe6a09e667f3bcd : 0x3f3504f3;
  Value bits = toBits(x);
  Value moved = arith::SubIOp::create(b, loc, bits, integer(root, bits));
  Value k = arith::ShRSIOp::create(b, loc, moved, integer(shift, bits));
  Value mBits = arith::SubIOp::create(
      b, loc, bits, arith::ShLIOp::create(b, loc, k, integer(shift, bits)));
  return {fromBits(mBits, x), arith::SIToFPOp::create(b, loc, x.getType(), k)};
}

/// log(1 + f) - f + f^2 / 2
Value VectorMath::logTail(Value f) {
  Value p = polynomial({0.3333333118, -0.2499999696, 0.2000071575,
                        -0.1666780232, 0.1424905765, -0.1242568733,
                        0.1168541992, -0.1147973385, 0.06971611471},
                       f);
  return mul(mul(f, mul(f, f)), p);
}

/// log of zero, of negative numbers, of infinity and of NaN.
Value VectorMath::logEdges(Value x, Value result) {
  Value infinity = num(INFINITY, x), zero = num(0.0, x);
  result = select(compare(Predicate::OLT, x, infinity), result, x);
  result = select(compare(Predicate::OEQ, x, zero), num(-INFINITY, x), result);
  return select(compare(Predicate::OLT, x, zero), num(NAN, x), result);
}

Value VectorMath::log64(Value x) {
  Value tiny = compare(Predicate::OLT, x, num(0x1p-1022, x));
  Value normal = select(tiny, mul(x, num(0x1p54, x)), x);
  Split split = splitExponent(normal);
  Value k = sub(split.k, select(tiny, num(54.0, x), num(0.0, x)));
  Value f = sub(split.m, num(1.0, x));
  Value s = div(f, add(num(2.0, x), f));
  Value z = mul(s, s);
  Value p = polynomial({0.666666666666666664, 0.400000000000009413,
                        0.285714285707644501, 0.222222224005477573,
                        0.181817947008977996, 0.15386290534658992,
                        0.132674185964748834, 0.131007213835034914},
                       z);
  // log(1 + f) = 2 s + s z p, written as f - s (f - z p) to keep the head
  // exact.
  Value tail = sub(mul(k, num(1.90821492927058770002e-10, x)),
                   mul(s, sub(f, mul(z, p))));
  Value result = add(mul(k, num(6.93147180369123816490e-01, x)), add(f, tail));
  return logEdges(x, result);
}

Value VectorMath::log(Value x) {
  if (isDouble(x))
    return log64(x);
  Value tiny = compare(Predicate::OLT, x, num(0x1p-126, x));
  Value normal = select(tiny, mul(x, num(0x1p23, x)), x);
  Split split = splitExponent(normal);
  Value k = sub(split.k, select(tiny, num(23.0, x), num(0.0, x)));
  Value f = sub(split.m, num(1.0, x));
  Value tail = fma(k, num(-2.12194440054690583e-4, x), logTail(f));
  tail = fma(mul(f, f), num(-0.5, x), tail);
  Value result = fma(k, num(0.693359375, x), add(f, tail));
  return logEdges(x, result);
}

// log(1 + x) = log(u) + c with u = 1 + x rounded and c the rounding error / u.
Value VectorMath::log1p(Value x) {
  if (isDouble(x))
    return libm("log1p", x);
  Value one = num(1.0, x);
  Value u = add(one, x);
  Value lost = select(compare(Predicate::OGE, x, one), sub(one, sub(u, x)),
                      sub(x, sub(u, one)));
  Value c = div(lost, u);
  Split split = splitExponent(u);
  Value f = sub(split.m, one);
  Value tail = fma(split.k, num(-2.12194440054690583e-4, x), c);
  tail = add(tail, logTail(f));
  tail = fma(mul(f, f), num(-0.5, x), tail);
  Value result = fma(split.k, num(0.693359375, x), add(f, tail));
  result = logEdges(u, result);
  // x so small that u is 1 (and minus zero): the result is x.
  Value small = compare(Predicate::OLT, abs(x), num(0x1p-25, x));
  return select(small, x, result);
}

//===----------------------------------------------------------------------===//
// tanh, erf
//===----------------------------------------------------------------------===//

// A scalar and a vector of any length have the same bits; only the 16 floats of
// one register are fast.
Value VectorMath::lookUp(const Row &row, Value index, Value like) {
  auto vector = dyn_cast<VectorType>(like.getType());
  Type f32 = b.getF32Type();
  if (!vector) {
    auto all = VectorType::get({32}, f32);
    Value values = arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(all, ArrayRef<float>(row)));
    Value inside = arith::AndIOp::create(b, loc, index, integer(31, index));
    Value position =
        arith::IndexCastUIOp::create(b, loc, b.getIndexType(), inside);
    return vector::ExtractOp::create(b, loc, values, OpFoldResult(position));
  }
  constexpr int64_t lanes = 16;
  auto type = VectorType::get({lanes}, f32);
  auto half = [&](int64_t from) -> Value {
    return arith::ConstantOp::create(
        b, loc,
        DenseElementsAttr::get(type, ArrayRef<float>(row).slice(from, lanes)));
  };
  auto lookUpAll = [&](Value at) {
    return LLVM::CallIntrinsicOp::create(
               b, loc, type,
               b.getStringAttr("llvm.x86.avx512.vpermi2var.ps.512"),
               ValueRange{half(0), at, half(lanes)})
        .getResult(0);
  };
  int64_t count = vector.getNumElements();
  if (count == lanes)
    return lookUpAll(index);
  // Sixteen at a time; lanes that do not exist repeat the first. Each part is
  // appended to those before.
  Value result;
  for (int64_t first = 0; first < count; first += lanes) {
    int64_t size = std::min(lanes, count - first);
    SmallVector<int64_t> from;
    for (int64_t i = 0; i < lanes; ++i)
      from.push_back(i < size ? first + i : first);
    Value found =
        lookUpAll(vector::ShuffleOp::create(b, loc, index, index, from));
    auto all = llvm::to_vector(llvm::seq<int64_t>(0, first + size));
    result =
        vector::ShuffleOp::create(b, loc, result ? result : found, found, all);
  }
  return result;
}

Value VectorMath::byTable(Value x, const OddTable &table) {
  Value magnitude = abs(x), limit = num(table.limit, x);
  Value t = select(compare(Predicate::OGT, magnitude, limit), limit, magnitude);
  // The nearest multiple's number stands in the last bits of `shifted`.
  Value magic = num(8388608.0, x);
  Value shifted = fma(t, num(1.0 / table.width, x), magic);
  Value index = toBits(shifted);
  Value d = fma(sub(shifted, magic), num(-table.width, x), t);
  Value rest = lookUp(table.rows.back(), index, x);
  for (const Row &row : llvm::reverse(table.rows.drop_front().drop_back()))
    rest = fma(rest, d, lookUp(row, index, x));
  // The largest term comes last, so that it alone decides the rounding.
  Value result =
      fma(t, lookUp(table.rows.front(), index, x), mul(mul(t, d), rest));
  Value one = num(1.0, x);
  result = select(compare(Predicate::OGT, result, one), one, result);
  return copySign(result, x);
}

Value VectorMath::tanh(Value x) {
  if (isDouble(x))
    return libm("tanh", x);
  if (hasTables)
    return byTable(x, tanhTable);
  Value z = mul(x, x), magnitude = abs(x);
  Value p = polynomial({-0.3333333317, 0.1333330356, -0.05395925958,
                        0.02176891865, -0.008343945516, 0.002292744816},
                       z);
  Value small = fma(mul(x, z), p, x);
  // 1 - 2 / (e^2x + 1)
  Value e = exp(add(magnitude, magnitude));
  Value one = num(1.0, x);
  Value large = sub(one, div(num(2.0, x), add(e, one)));
  return select(compare(Predicate::OLT, magnitude, num(0.625, x)), small,
                copySign(large, x));
}

Value VectorMath::erf(Value x) {
  if (isDouble(x))
    return libm("erf", x);
  if (hasTables)
    return byTable(x, erfTable);
  Value z = mul(x, x), magnitude = abs(x);
  Value p = polynomial({0.1283791671, -0.3761263847, 0.112837825,
                        -0.02686543073, 0.005221031808, -0.0008484080406,
                        0.0001126595903, -9.667044571e-6},
                       z);
  Value small = fma(x, p, x);
  // 1 - erfc(x) with -log(erfc) as a polynomial; from 4 on erf is 1.
  Value limit = num(4.0, x);
  Value t = select(compare(Predicate::OGT, magnitude, limit), limit, magnitude);
  Value q = polynomial({-0.000320914383, 1.130236723, 0.6318202468,
                        0.1100856803, -0.02642437093, 0.004760747711,
                        -0.0005970529461, 4.608744729e-5, -1.638637325e-6},
                       t);
  Value one = num(1.0, x);
  Value large = sub(one, exp(sub(num(0.0, x), q)));
  return select(compare(Predicate::OLT, magnitude, one), small,
                copySign(large, x));
}

//===----------------------------------------------------------------------===//
// sin, cos, pow: the argument is reduced, or the power taken, in f64
//===----------------------------------------------------------------------===//

Value VectorMath::sinCos(Value x, bool cosine) {
  StringRef name = cosine ? "cos" : "sin";
  if (isDouble(x))
    return libm(name, x);
  // x = n pi/2 + r, with pi/2 in two parts; without a fused multiply-add the
  // first must be short for n * high to be exact. Beyond the limit (and for
  // infinities) libm is called.
  Value wide = toDouble(x);
  Value magic = num(6755399441055744.0, wide);
  Value shifted = fma(wide, num(0.63661977236758134308, wide), magic);
  Value n = sub(shifted, magic);
  double high = hasFma ? 1.5707963267948966192 : 1.57079632673412561417;
  double low = hasFma ? 6.123233995736766036e-17 : 6.07710050650619224932e-11;
  Value r64 = fma(n, num(-low, wide), fma(n, num(-high, wide), wide));
  Value r = toSingle(r64), z = mul(r, r);
  Value quadrant = arith::TruncIOp::create(
      b, loc, withElement(x, b.getI32Type()), toBits(shifted));
  if (cosine)
    quadrant = arith::AddIOp::create(b, loc, quadrant, integer(1, quadrant));
  Value sine = fma(
      mul(r, z),
      polynomial(
          {-0.1666666666, 0.008333331866, -0.0001984008201, 2.724931405e-6}, z),
      r);
  Value cosineValue = fma(
      mul(z, z), polynomial({0.04166666465, -0.00138883007, 2.454743721e-5}, z),
      fma(z, num(-0.5, x), num(1.0, x)));
  auto bitSet = [&](int64_t bit) -> Value {
    Value masked =
        arith::AndIOp::create(b, loc, quadrant, integer(bit, quadrant));
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, masked,
                                 integer(0, quadrant));
  };
  Value result = select(bitSet(1), cosineValue, sine);
  result = select(bitSet(2), arith::NegFOp::create(b, loc, result), result);
  Value isLarge =
      compare(Predicate::UGT, abs(x), num(hasFma ? 0x1p28 : 0x1p18, x));
  Value any = isLarge;
  if (isa<VectorType>(x.getType()))
    any =
        vector::ReductionOp::create(b, loc, vector::CombiningKind::OR, isLarge);
  // The op stands in the module before its body is built: libm() looks up and
  // adds functions there.
  auto choose = scf::IfOp::create(b, loc, TypeRange{x.getType()}, any,
                                  /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(choose.thenBlock());
  Value slow = libm(name, x);
  scf::YieldOp::create(b, loc, select(isLarge, slow, result));
  b.setInsertionPointToStart(choose.elseBlock());
  scf::YieldOp::create(b, loc, result);
  return choose.getResult(0);
}

// |x|^y = e^(y log |x|) in f64, which leaves 28 spare bits for an f32 result;
// then C's rules for the sign and for zero, one and infinite operands.
Value VectorMath::pow(Value x, Value y) {
  if (isDouble(x))
    return libm("pow", {x, y});
  Value magnitude = abs(x);
  Value power = toSingle(exp64(mul(toDouble(y), log64(toDouble(magnitude)))));
  Value zero = num(0.0, x), one = num(1.0, x);
  // An integer y that is odd: y is not an integer, or y / 2 is one, otherwise.
  Value floorY = math::FloorOp::create(b, loc, y);
  Value isInteger = compare(Predicate::OEQ, floorY, y);
  Value halfY = mul(y, num(0.5, x));
  Value isEven =
      compare(Predicate::OEQ, math::FloorOp::create(b, loc, halfY), halfY);
  Value isOdd = arith::AndIOp::create(
      b, loc, isInteger,
      arith::XOrIOp::create(b, loc, isEven, integer(1, isEven)));
  Value negated = arith::NegFOp::create(b, loc, power);
  Value signBit = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt,
                                        toBits(x), integer(0, toBits(x)));
  Value result =
      select(arith::AndIOp::create(b, loc, signBit, isOdd), negated, power);
  // A negative finite x to a power that is no integer.
  Value isInfiniteY = compare(Predicate::OEQ, abs(y), num(INFINITY, x));
  Value invalid = arith::AndIOp::create(
      b, loc, compare(Predicate::OLT, x, zero),
      arith::XOrIOp::create(
          b, loc, arith::OrIOp::create(b, loc, isInteger, isInfiniteY),
          integer(1, isInteger)));
  invalid = arith::AndIOp::create(
      b, loc, invalid, compare(Predicate::OLT, magnitude, num(INFINITY, x)));
  result = select(invalid, num(NAN, x), result);
  // 1^y, x^0 and (-1)^inf are one, whatever the other operand.
  Value isOne = arith::OrIOp::create(b, loc, compare(Predicate::OEQ, x, one),
                                     compare(Predicate::OEQ, y, zero));
  isOne = arith::OrIOp::create(
      b, loc, isOne,
      arith::AndIOp::create(b, loc, isInfiniteY,
                            compare(Predicate::OEQ, magnitude, one)));
  result = select(isOne, one, result);
  // Small integer powers are products: exact, and where y is a constant they
  // are all that is left.
  Value square = mul(x, x);
  result = select(compare(Predicate::OEQ, y, num(2.0, x)), square, result);
  return select(compare(Predicate::OEQ, y, num(3.0, x)), mul(square, x),
                result);
}
