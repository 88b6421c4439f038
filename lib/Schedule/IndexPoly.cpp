// The normal form is a polynomial with integer coefficients over atoms. What
// makes it worth having is the treatment of quotients: a term that the divisor
// divides is taken out, a remainder that is provably small vanishes, and the
// digits of a number multiplied by their place values become the number again.
#include "dlc/Schedule/IndexPoly.h"

using namespace mlir;
using namespace dlc;

//===----------------------------------------------------------------------===//
// Order
//===----------------------------------------------------------------------===//

static int compare(AffineExpr a, AffineExpr b) {
  if (a == b)
    return 0;
  if (a.getKind() != b.getKind())
    return a.getKind() < b.getKind() ? -1 : 1;
  auto order = [](int64_t x, int64_t y) { return x < y ? -1 : x > y ? 1 : 0; };
  switch (a.getKind()) {
  case AffineExprKind::Constant:
    return order(cast<AffineConstantExpr>(a).getValue(),
                 cast<AffineConstantExpr>(b).getValue());
  case AffineExprKind::DimId:
    return order(cast<AffineDimExpr>(a).getPosition(),
                 cast<AffineDimExpr>(b).getPosition());
  case AffineExprKind::SymbolId:
    return order(cast<AffineSymbolExpr>(a).getPosition(),
                 cast<AffineSymbolExpr>(b).getPosition());
  default: {
    auto x = cast<AffineBinaryOpExpr>(a), y = cast<AffineBinaryOpExpr>(b);
    int left = compare(x.getLHS(), y.getLHS());
    return left ? left : compare(x.getRHS(), y.getRHS());
  }
  }
}

bool AffineExprLess::operator()(AffineExpr a, AffineExpr b) const {
  return compare(a, b) < 0;
}

bool IndexPoly::MonomialLess::operator()(const Monomial &a,
                                         const Monomial &b) const {
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(),
                                      AffineExprLess());
}

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

IndexPoly::IndexPoly(int64_t constant) { add({}, constant); }

IndexPoly IndexPoly::atom(AffineExpr expr) {
  IndexPoly result;
  result.add({expr}, 1);
  return result;
}

void IndexPoly::add(const Monomial &monomial, int64_t factor) {
  if (factor == 0)
    return;
  auto [it, isNew] = terms.try_emplace(monomial, factor);
  if (isNew)
    return;
  it->second += factor;
  if (it->second == 0)
    terms.erase(it);
}

IndexPoly IndexPoly::operator+(const IndexPoly &other) const {
  IndexPoly result = *this;
  for (auto &[monomial, factor] : other.terms)
    result.add(monomial, factor);
  return result;
}

IndexPoly IndexPoly::operator-(const IndexPoly &other) const {
  return *this + other * -1;
}

IndexPoly IndexPoly::operator*(int64_t factor) const {
  IndexPoly result;
  for (auto &[monomial, f] : terms)
    result.add(monomial, f * factor);
  return result;
}

IndexPoly IndexPoly::operator*(const IndexPoly &other) const {
  IndexPoly result;
  for (auto &[m1, f1] : terms)
    for (auto &[m2, f2] : other.terms) {
      Monomial product = m1;
      product.insert(product.end(), m2.begin(), m2.end());
      llvm::sort(product, AffineExprLess());
      result.add(product, f1 * f2);
    }
  return result;
}

std::optional<int64_t> IndexPoly::constant() const {
  if (terms.empty())
    return 0;
  if (terms.size() == 1 && terms.begin()->first.empty())
    return terms.begin()->second;
  return std::nullopt;
}

AffineExpr IndexPoly::toExpr(MLIRContext *context) const {
  AffineExpr sum = getAffineConstantExpr(0, context);
  for (auto &[monomial, factor] : terms) {
    AffineExpr product = getAffineConstantExpr(factor, context);
    // Symbols first: MLIR multiplies a dim by a symbolic factor, not the
    // reverse.
    AffineExpr symbolic = getAffineConstantExpr(1, context);
    for (AffineExpr atom : monomial)
      if (atom.isSymbolicOrConstant())
        symbolic = symbolic * atom;
    for (AffineExpr atom : monomial)
      if (!atom.isSymbolicOrConstant())
        symbolic = atom * symbolic;
    product = symbolic * product;
    sum = sum + product;
  }
  return sum;
}

//===----------------------------------------------------------------------===//
// Questions
//===----------------------------------------------------------------------===//

static bool atomIs(AffineExpr atom, unsigned dim) {
  auto d = dyn_cast<AffineDimExpr>(atom);
  return d && d.getPosition() == dim;
}

bool IndexPoly::dependsOnDim(unsigned dim) const {
  for (auto &[monomial, factor] : terms)
    for (AffineExpr atom : monomial)
      if (atom.isFunctionOfDim(dim))
        return true;
  return false;
}

std::optional<IndexPoly> IndexPoly::coefficient(unsigned dim) const {
  IndexPoly result;
  for (auto &[monomial, factor] : terms) {
    Monomial rest;
    unsigned count = 0;
    for (AffineExpr atom : monomial) {
      if (atomIs(atom, dim)) {
        ++count;
        continue;
      }
      if (atom.isFunctionOfDim(dim))
        return std::nullopt;
      rest.push_back(atom);
    }
    if (count > 1)
      return std::nullopt;
    if (count == 1)
      result.add(rest, factor);
  }
  return result;
}

IndexPoly IndexPoly::without(unsigned dim) const {
  IndexPoly result;
  for (auto &[monomial, factor] : terms)
    if (llvm::none_of(monomial, [&](AffineExpr a) { return atomIs(a, dim); }))
      result.add(monomial, factor);
  return result;
}

IndexPoly IndexPoly::substitute(ArrayRef<AffineExpr> dims, MLIRContext *context,
                                Extents extents) const {
  SmallVector<AffineExpr> full(dims);
  for (auto [i, e] : llvm::enumerate(full))
    if (!e)
      e = getAffineDimExpr(i, context);
  return get(toExpr(context).replaceDims(full), extents);
}

// A quotient or remainder of something non-negative is non-negative.
static bool atomIsNonNegative(AffineExpr atom) {
  if (isa<AffineDimExpr, AffineSymbolExpr>(atom) ||
      atom.getKind() == AffineExprKind::Mod)
    return true;
  auto binary = dyn_cast<AffineBinaryOpExpr>(atom);
  return binary && IndexPoly::get(binary.getLHS()).isNonNegative();
}

bool IndexPoly::isNonNegative() const {
  return llvm::all_of(terms, [](auto &term) {
    return term.second >= 0 && llvm::all_of(term.first, atomIsNonNegative);
  });
}

bool IndexPoly::isBelow(const IndexPoly &bound, Extents extents) const {
  // The largest value: each dim at its last coordinate.
  IndexPoly largest;
  for (auto &[monomial, factor] : terms) {
    IndexPoly product(factor);
    for (AffineExpr atom : monomial) {
      auto dim = dyn_cast<AffineDimExpr>(atom);
      if (!dim) {
        if (!atom.isSymbolicOrConstant())
          return false;
        product = product * IndexPoly::atom(atom);
        continue;
      }
      if (factor < 0)
        continue;
      if (dim.getPosition() >= extents.size() || !extents[dim.getPosition()])
        return false;
      product = product * (get(extents[dim.getPosition()]) - IndexPoly(1));
    }
    bool hasDim = llvm::any_of(
        monomial, [](AffineExpr a) { return isa<AffineDimExpr>(a); });
    if (factor < 0 && hasDim)
      continue; // its largest value is 0
    largest = largest + product;
  }
  return (bound - largest).isNonNegative();
}

//===----------------------------------------------------------------------===//
// Quotients
//===----------------------------------------------------------------------===//

/// `monomial / by` when every atom of `by` is there.
static std::optional<IndexPoly::Monomial>
divide(const IndexPoly::Monomial &m, const IndexPoly::Monomial &by) {
  IndexPoly::Monomial rest = m;
  for (AffineExpr atom : by) {
    auto it = llvm::find(rest, atom);
    if (it == rest.end())
      return std::nullopt;
    rest.erase(it);
  }
  return rest;
}

namespace {
/// value = quotient * divisor + remainder, as far as it divides term by term.
struct Division {
  IndexPoly quotient, remainder;
  bool isExact = false; ///< the remainder lies in [0, divisor)
};
} // namespace

static Division divideTerms(const IndexPoly &value, const IndexPoly &divisor,
                            IndexPoly::Extents extents) {
  Division result;
  result.remainder = value;
  if (divisor.terms.size() == 1) {
    auto &[by, factor] = *divisor.terms.begin();
    result.remainder = IndexPoly();
    for (auto &[monomial, f] : value.terms) {
      auto rest = divide(monomial, by);
      IndexPoly whole, part;
      if (rest && factor > 0) {
        int64_t q = f >= 0 ? f / factor : -((-f + factor - 1) / factor);
        if (f % factor != 0 && !monomial.empty())
          q = 0; // 5 * x / 4: keep 5 * x together
        whole.terms[*rest] = q;
        if (q == 0)
          whole.terms.clear();
        if (f != q * factor)
          part.terms[monomial] = f - q * factor;
      } else {
        part.terms[monomial] = f;
      }
      result.quotient = result.quotient + whole;
      result.remainder = result.remainder + part;
    }
  }
  result.isExact = result.remainder.isZero() ||
                   (result.remainder.isNonNegative() &&
                    result.remainder.isBelow(divisor - IndexPoly(1), extents));
  return result;
}

static IndexPoly floorDivPoly(const IndexPoly &value, const IndexPoly &divisor,
                              IndexPoly::Extents extents,
                              MLIRContext *context) {
  if (divisor.constant() == 1)
    return value;
  Division division = divideTerms(value, divisor, extents);
  if (division.isExact)
    return division.quotient;
  // (x floordiv a) floordiv b = x floordiv (a * b)
  const IndexPoly &rest = division.remainder;
  if (rest.terms.size() == 1 && rest.terms.begin()->second == 1 &&
      rest.terms.begin()->first.size() == 1)
    if (auto inner =
            dyn_cast<AffineBinaryOpExpr>(rest.terms.begin()->first.front());
        inner && inner.getKind() == AffineExprKind::FloorDiv)
      return division.quotient +
             floorDivPoly(IndexPoly::get(inner.getLHS(), extents),
                          IndexPoly::get(inner.getRHS(), extents) * divisor,
                          extents, context);
  // The raw node: AffineExpr's own simplification would undo the normal form.
  AffineExpr atom = getAffineBinaryOpExpr(
      AffineExprKind::FloorDiv, rest.toExpr(context), divisor.toExpr(context));
  if (auto binary = dyn_cast<AffineBinaryOpExpr>(atom);
      binary && binary.getKind() == AffineExprKind::FloorDiv)
    return division.quotient + IndexPoly::atom(atom);
  return division.quotient + IndexPoly::get(atom, extents);
}

static IndexPoly modPoly(const IndexPoly &value, const IndexPoly &divisor,
                         IndexPoly::Extents extents, MLIRContext *context) {
  if (divisor.constant() == 1)
    return IndexPoly();
  Division division = divideTerms(value, divisor, extents);
  if (division.isExact)
    return division.remainder;
  AffineExpr atom = getAffineBinaryOpExpr(AffineExprKind::Mod,
                                          division.remainder.toExpr(context),
                                          divisor.toExpr(context));
  if (atom.getKind() == AffineExprKind::Mod)
    return IndexPoly::atom(atom);
  return IndexPoly::get(atom, extents);
}

// c * (x mod n) + c * n * (x floordiv n) = c * x
void IndexPoly::mergeDigits(Extents extents) {
  for (bool changed = true; changed;) {
    changed = false;
    for (auto &[monomial, factor] : terms) {
      auto mod = llvm::find_if(monomial, [](AffineExpr a) {
        return a.getKind() == AffineExprKind::Mod;
      });
      if (mod == monomial.end())
        continue;
      auto binary = cast<AffineBinaryOpExpr>(*mod);
      Monomial others = monomial;
      others.erase(others.begin() + (mod - monomial.begin()));
      IndexPoly scale;
      scale.add(others, factor);
      IndexPoly x = get(binary.getLHS(), extents),
                n = get(binary.getRHS(), extents);
      IndexPoly high =
          scale * n * floorDivPoly(x, n, extents, binary.getContext());
      bool present = llvm::all_of(high.terms, [&](auto &term) {
        auto it = terms.find(term.first);
        return it != terms.end() && it->second == term.second;
      });
      if (high.isZero() || !present)
        continue;
      IndexPoly low;
      low.add(monomial, factor);
      *this = *this - low - high + scale * x;
      changed = true;
      break;
    }
  }
}

IndexPoly IndexPoly::get(AffineExpr expr, Extents extents) {
  switch (expr.getKind()) {
  case AffineExprKind::Constant:
    return IndexPoly(cast<AffineConstantExpr>(expr).getValue());
  case AffineExprKind::DimId:
    // An axis of one element has one coordinate.
    if (unsigned i = cast<AffineDimExpr>(expr).getPosition();
        i < extents.size() && extents[i])
      if (auto n = dyn_cast<AffineConstantExpr>(extents[i]);
          n && n.getValue() == 1)
        return IndexPoly();
    return atom(expr);
  case AffineExprKind::SymbolId:
    return atom(expr);
  default:
    break;
  }
  auto binary = cast<AffineBinaryOpExpr>(expr);
  IndexPoly a = get(binary.getLHS(), extents),
            b = get(binary.getRHS(), extents);
  MLIRContext *context = expr.getContext();
  IndexPoly result;
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    result = a + b;
    break;
  case AffineExprKind::Mul:
    result = a * b;
    break;
  case AffineExprKind::FloorDiv:
    result = floorDivPoly(a, b, extents, context);
    break;
  case AffineExprKind::CeilDiv:
    result = floorDivPoly(a + b - IndexPoly(1), b, extents, context);
    break;
  default:
    result = modPoly(a, b, extents, context);
    break;
  }
  result.mergeDigits(extents);
  return result;
}
