// Emission of index arithmetic. Constants are folded here and not left to later
// passes: a loop of known length or an address of known distance is then seen
// where loops and loads are built.
#include "dlc/Codegen/Common/IndexEmitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace dlc;

std::optional<int64_t> dlc::constantIndex(Value value) {
  if (auto c = value.getDefiningOp<arith::ConstantIndexOp>())
    return c.value();
  return std::nullopt;
}

Value IndexEmitter::constant(int64_t value) {
  return arith::ConstantIndexOp::create(b, loc, value);
}

Value IndexEmitter::add(Value x, Value y) {
  auto cx = constantIndex(x), cy = constantIndex(y);
  if (cx && cy)
    return constant(*cx + *cy);
  if (cx == 0)
    return y;
  if (cy == 0)
    return x;
  return arith::AddIOp::create(b, loc, x, y);
}

Value IndexEmitter::sub(Value x, Value y) {
  auto cx = constantIndex(x), cy = constantIndex(y);
  if (cx && cy)
    return constant(*cx - *cy);
  return cy == 0 ? x : Value(arith::SubIOp::create(b, loc, x, y));
}

Value IndexEmitter::mul(Value x, Value y) {
  auto cx = constantIndex(x), cy = constantIndex(y);
  if (cx && cy)
    return constant(*cx * *cy);
  if (cx == 0 || cy == 1)
    return x;
  if (cy == 0 || cx == 1)
    return y;
  return arith::MulIOp::create(b, loc, x, y);
}

Value IndexEmitter::min(Value x, Value y) {
  auto cx = constantIndex(x), cy = constantIndex(y);
  if (cx && cy)
    return constant(std::min(*cx, *cy));
  return x == y ? x : Value(arith::MinSIOp::create(b, loc, x, y));
}

Value IndexEmitter::max(Value x, Value y) {
  auto cx = constantIndex(x), cy = constantIndex(y);
  if (cx && cy)
    return constant(std::max(*cx, *cy));
  return x == y ? x : Value(arith::MaxSIOp::create(b, loc, x, y));
}

Value IndexEmitter::divUnsigned(Value x, Value y) {
  auto cx = constantIndex(x), cy = constantIndex(y);
  if (cx && cy && *cy > 0)
    return constant(*cx / *cy);
  return cy == 1 ? x : Value(arith::DivUIOp::create(b, loc, x, y));
}

Value IndexEmitter::remUnsigned(Value x, Value y) {
  auto cx = constantIndex(x), cy = constantIndex(y);
  if (cx && cy && *cy > 0)
    return constant(*cx % *cy);
  return cy == 1 ? constant(0) : Value(arith::RemUIOp::create(b, loc, x, y));
}

Value IndexEmitter::ceilDivUnsigned(Value x, Value y) {
  return divUnsigned(sub(add(x, y), constant(1)), y);
}

Value IndexEmitter::floorDiv(Value x, Value y) {
  auto cx = constantIndex(x), cy = constantIndex(y);
  if (cx && cy && *cy > 0)
    return constant(*cx >= 0 ? *cx / *cy : -((-*cx + *cy - 1) / *cy));
  return cy == 1 ? x : Value(arith::FloorDivSIOp::create(b, loc, x, y));
}

Value IndexEmitter::emit(AffineExpr expr, ArrayRef<Value> dims) {
  return emit(IndexPoly::get(expr), dims);
}

Value IndexEmitter::emit(const IndexPoly &poly, ArrayRef<Value> dims,
                         ArrayRef<unsigned> order) {
  // An atom's value.
  auto emitAtom = [&](AffineExpr atom) -> Value {
    if (auto d = dyn_cast<AffineDimExpr>(atom))
      return dims[d.getPosition()];
    if (auto s = dyn_cast<AffineSymbolExpr>(atom))
      return symbols[s.getPosition()];
    auto binary = cast<AffineBinaryOpExpr>(atom);
    IndexPoly lhs = IndexPoly::get(binary.getLHS());
    Value x = emit(lhs, dims, order), y = emit(binary.getRHS(), dims);
    bool isMod = atom.getKind() == AffineExprKind::Mod;
    if (lhs.isNonNegative())
      return isMod ? remUnsigned(x, y) : divUnsigned(x, y);
    Value quotient = floorDiv(x, y);
    return isMod ? sub(x, mul(quotient, y)) : quotient;
  };
  auto depth = [&](const IndexPoly::Monomial &monomial) {
    unsigned result = 0;
    for (AffineExpr atom : monomial)
      atom.walk([&](AffineExpr e) {
        if (auto d = dyn_cast<AffineDimExpr>(e))
          result = std::max(result, d.getPosition() < order.size()
                                        ? order[d.getPosition()] + 1
                                        : d.getPosition() + 1);
      });
    return result;
  };
  // Equal depths keep their order.
  std::multimap<unsigned, const std::pair<const IndexPoly::Monomial, int64_t> *>
      sorted;
  for (auto &term : poly.terms)
    if (!term.first.empty())
      sorted.emplace(depth(term.first), &term);
  Value sum;
  for (auto &[d, term] : sorted) {
    Value product;
    for (AffineExpr atom : term->first) {
      Value v = emitAtom(atom);
      product = product ? mul(product, v) : v;
    }
    bool negate = term->second < 0 && sum;
    product = mul(product, constant(negate ? -term->second : term->second));
    sum = !sum ? product : negate ? sub(sum, product) : add(sum, product);
  }
  auto constantTerm = poly.terms.find({});
  int64_t c = constantTerm == poly.terms.end() ? 0 : constantTerm->second;
  if (!sum)
    return constant(c);
  return add(sum, constant(c));
}
