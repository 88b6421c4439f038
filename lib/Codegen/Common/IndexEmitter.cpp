// Emission of index polynomials: the terms that change in outer loops first.
#include "dlc/Codegen/Common/IndexEmitter.h"

using namespace mlir;
using namespace dlc;

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
