// Polynomials over coordinates and sizes, and division by monomials in them.
#include "dlc/Fusion/IndexMath.h"

#include "dlc/Dialect/Graph/IR/Graph.h"

#include <algorithm>

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;

//===----------------------------------------------------------------------===//
// Order
//===----------------------------------------------------------------------===//

static int compare(AffineExpr a, AffineExpr b) {
  if (a == b)
    return 0;
  if (a.getKind() != b.getKind())
    return a.getKind() < b.getKind() ? -1 : 1;
  auto order = [](auto x, auto y) { return x == y ? 0 : x < y ? -1 : 1; };
  if (auto x = dyn_cast<AffineDimExpr>(a))
    return order(x.getPosition(), cast<AffineDimExpr>(b).getPosition());
  if (auto x = dyn_cast<AffineSymbolExpr>(a))
    return order(x.getPosition(), cast<AffineSymbolExpr>(b).getPosition());
  if (auto x = dyn_cast<AffineConstantExpr>(a))
    return order(x.getValue(), cast<AffineConstantExpr>(b).getValue());
  auto x = cast<AffineBinaryOpExpr>(a), y = cast<AffineBinaryOpExpr>(b);
  int left = compare(x.getLHS(), y.getLHS());
  return left ? left : compare(x.getRHS(), y.getRHS());
}

bool ExprLess::operator()(AffineExpr a, AffineExpr b) const {
  return compare(a, b) < 0;
}
bool ExprLess::operator()(const Poly::Monomial &a,
                          const Poly::Monomial &b) const {
  if (a.size() != b.size())
    return a.size() < b.size();
  for (auto [x, y] : llvm::zip(a, b))
    if (int order = compare(x, y))
      return order < 0;
  return false;
}

//===----------------------------------------------------------------------===//
// Poly
//===----------------------------------------------------------------------===//

Poly::Poly(int64_t constant) {
  if (constant)
    terms[{}] = constant;
}
Poly Poly::atom(AffineExpr expr) {
  Poly poly;
  poly.terms[{expr}] = 1;
  return poly;
}
void Poly::addTerm(const Monomial &monomial, int64_t factor) {
  if (!factor)
    return;
  auto [it, isNew] = terms.try_emplace(monomial, factor);
  if (!isNew && (it->second += factor) == 0)
    terms.erase(it);
}
Poly Poly::operator+(const Poly &other) const {
  Poly sum = *this;
  for (auto &[monomial, factor] : other.terms)
    sum.addTerm(monomial, factor);
  return sum;
}
Poly Poly::operator-(const Poly &other) const {
  Poly sum = *this;
  for (auto &[monomial, factor] : other.terms)
    sum.addTerm(monomial, -factor);
  return sum;
}
Poly Poly::operator*(const Poly &other) const {
  Poly result;
  for (auto &[m1, f1] : terms)
    for (auto &[m2, f2] : other.terms) {
      Monomial joined = m1;
      joined.append(m2.begin(), m2.end());
      llvm::sort(joined, ExprLess());
      result.addTerm(joined, f1 * f2);
    }
  return result;
}
bool Poly::operator==(const Poly &other) const { return terms == other.terms; }

std::optional<int64_t> Poly::constant() const {
  if (terms.empty())
    return 0;
  if (terms.size() == 1 && terms.begin()->first.empty())
    return terms.begin()->second;
  return std::nullopt;
}
bool Poly::isNonNegative() const {
  return llvm::all_of(terms, [](auto &term) {
    return term.second >= 0 && llvm::all_of(term.first, [](AffineExpr atom) {
             return isa<AffineSymbolExpr>(atom);
           });
  });
}

// The monomial without the divisor's atoms.
static std::optional<Poly::Monomial> without(const Poly::Monomial &monomial,
                                             const Poly::Monomial &divisor) {
  Poly::Monomial rest = monomial;
  for (AffineExpr atom : divisor) {
    auto it = llvm::find(rest, atom);
    if (it == rest.end())
      return std::nullopt;
    rest.erase(it);
  }
  return rest;
}

std::optional<Poly> Poly::exactQuotient(const Poly &divisor) const {
  if (divisor.terms.size() != 1)
    return std::nullopt;
  auto &[monomial, factor] = *divisor.terms.begin();
  Poly quotient;
  for (auto &[m, f] : terms) {
    auto rest = without(m, monomial);
    if (!rest || f % factor != 0)
      return std::nullopt;
    quotient.addTerm(*rest, f / factor);
  }
  return quotient;
}

AffineExpr Poly::toExpr(MLIRContext *context) const {
  AffineExpr sum;
  for (auto &[monomial, factor] : llvm::reverse(terms)) {
    AffineExpr term;
    for (AffineExpr atom : monomial) // coordinates first, then their strides
      if (!term)
        term = atom;
      else
        term = isa<AffineSymbolExpr>(term) ? atom * term : term * atom;
    term = term ? term * factor : getAffineConstantExpr(factor, context);
    sum = sum ? sum + term : term;
  }
  return sum ? sum : getAffineConstantExpr(0, context);
}

//===----------------------------------------------------------------------===//
// IndexMath
//===----------------------------------------------------------------------===//

std::optional<Poly> IndexMath::upperBoundOfAtom(AffineExpr atom) const {
  if (auto dim = dyn_cast<AffineDimExpr>(atom)) {
    if (dim.getPosition() >= extents.size())
      return std::nullopt;
    return toPoly(extents[dim.getPosition()]) - Poly(1);
  }
  if (isa<AffineSymbolExpr>(atom))
    return Poly::atom(atom);
  auto binary = dyn_cast<AffineBinaryOpExpr>(atom);
  if (!binary)
    return std::nullopt;
  if (atom.getKind() == AffineExprKind::Mod)
    return toPoly(binary.getRHS()) - Poly(1);
  if (atom.getKind() != AffineExprKind::FloorDiv)
    return std::nullopt;
  auto number = upperBound(toPoly(binary.getLHS()));
  if (!number)
    return std::nullopt;
  auto most = number->constant(), by = graph::constantValue(binary.getRHS());
  if (most && by && *by > 0)
    return Poly(*most / *by);
  // n <= k * c - 1 gives n / c <= k - 1.
  auto quotient = (*number + Poly(1)).exactQuotient(toPoly(binary.getRHS()));
  return quotient ? std::optional(*quotient - Poly(1)) : std::nullopt;
}

std::optional<Poly> IndexMath::upperBound(const Poly &poly) const {
  Poly bound;
  for (auto &[monomial, factor] : poly.terms) {
    if (factor < 0)
      return std::nullopt;
    Poly most(factor);
    for (AffineExpr atom : monomial) {
      auto upper = upperBoundOfAtom(atom);
      if (!upper)
        return std::nullopt;
      most = most * *upper;
    }
    bound = bound + most;
  }
  return bound;
}

Poly IndexMath::divide(const Poly &number, const Poly &divisor,
                       bool wantsRest) const {
  Poly quotient, rest;
  bool isMonomial =
      divisor.terms.size() == 1 && divisor.terms.begin()->second > 0;
  if (isMonomial) {
    for (auto &[monomial, factor] : number.terms) {
      Poly term;
      term.addTerm(monomial, factor);
      if (auto exact = term.exactQuotient(divisor))
        quotient = quotient + *exact;
      else
        rest = rest + term;
    }
  } else {
    rest = number;
  }
  bool isSmall = rest.terms.empty();
  if (!isSmall && isMonomial)
    if (auto most = upperBound(rest))
      isSmall = (divisor - Poly(1) - *most).isNonNegative();
  if (isSmall)
    return wantsRest ? rest : quotient;
  AffineExpr n = rest.toExpr(context), c = divisor.toExpr(context);
  // (a floordiv b) floordiv c is a floordiv (b * c).
  if (!wantsRest)
    if (auto inner = dyn_cast<AffineBinaryOpExpr>(n);
        inner && n.getKind() == AffineExprKind::FloorDiv && isMonomial)
      return quotient + divide(toPoly(inner.getLHS()),
                               toPoly(inner.getRHS()) * divisor, false);
  AffineExpr left = wantsRest ? n % c : n.floorDiv(c);
  if (auto value = graph::constantValue(left))
    return wantsRest ? Poly(*value) : quotient + Poly(*value);
  if (!isa<AffineBinaryOpExpr>(left) ||
      (left.getKind() != AffineExprKind::Mod &&
       left.getKind() != AffineExprKind::FloorDiv))
    return wantsRest ? toPoly(left) : quotient + toPoly(left);
  return wantsRest ? Poly::atom(left) : quotient + Poly::atom(left);
}

/// c * (x floordiv c) + x mod c is x.
void IndexMath::joinDigits(Poly &poly) const {
  for (bool changed = true; changed;) {
    changed = false;
    for (auto &[monomial, factor] : poly.terms) {
      for (auto [i, atom] : llvm::enumerate(monomial)) {
        auto rest = dyn_cast<AffineBinaryOpExpr>(atom);
        if (!rest || atom.getKind() != AffineExprKind::Mod)
          continue;
        Poly others(factor);
        for (auto [j, other] : llvm::enumerate(monomial))
          if (j != i)
            others = others * Poly::atom(other);
        AffineExpr high = getAffineBinaryOpExpr(AffineExprKind::FloorDiv,
                                                rest.getLHS(), rest.getRHS());
        Poly place = others * toPoly(rest.getRHS()) * Poly::atom(high);
        if (place.terms.size() != 1)
          continue;
        auto it = poly.terms.find(place.terms.begin()->first);
        if (it == poly.terms.end() || it->second != place.terms.begin()->second)
          continue;
        poly = poly - place - others * Poly::atom(atom) +
               others * toPoly(rest.getLHS());
        changed = true;
        break;
      }
      if (changed)
        break;
    }
  }
}

Poly IndexMath::toPoly(AffineExpr expr) const {
  switch (expr.getKind()) {
  case AffineExprKind::Constant:
    return Poly(cast<AffineConstantExpr>(expr).getValue());
  case AffineExprKind::DimId: {
    unsigned position = cast<AffineDimExpr>(expr).getPosition();
    if (position < extents.size() &&
        graph::constantValue(extents[position]) == 1)
      return Poly(0);
    return Poly::atom(expr);
  }
  case AffineExprKind::SymbolId:
    return Poly::atom(expr);
  default:
    break;
  }
  auto binary = cast<AffineBinaryOpExpr>(expr);
  Poly left = toPoly(binary.getLHS()), right = toPoly(binary.getRHS());
  switch (expr.getKind()) {
  case AffineExprKind::Add: {
    Poly sum = left + right;
    joinDigits(sum);
    return sum;
  }
  case AffineExprKind::Mul: {
    Poly result = left * right;
    joinDigits(result);
    return result;
  }
  case AffineExprKind::FloorDiv:
    return divide(left, right, /*wantsRest=*/false);
  case AffineExprKind::Mod:
    return divide(left, right, /*wantsRest=*/true);
  default: // ceildiv stays what it is
    return Poly::atom(getAffineBinaryOpExpr(
        expr.getKind(), left.toExpr(context), right.toExpr(context)));
  }
}

AffineExpr IndexMath::simplify(AffineExpr expr) const {
  if (isa<AffineConstantExpr>(expr))
    return expr;
  // The common case: a coordinate of an axis that is none of one element.
  if (auto dim = dyn_cast<AffineDimExpr>(expr))
    if (dim.getPosition() >= extents.size() ||
        graph::constantValue(extents[dim.getPosition()]) != 1)
      return expr;
  return toPoly(expr).toExpr(context);
}

Poly IndexMath::flatten(ArrayRef<AffineExpr> index,
                        ArrayRef<AffineExpr> dims) const {
  Poly address;
  for (auto [at, size] : llvm::zip(index, dims))
    address = address * toPoly(size) + toPoly(at);
  joinDigits(address);
  return address;
}

std::optional<Poly> IndexMath::coefficient(const Poly &poly, unsigned dim) {
  Poly result;
  for (auto &[monomial, factor] : poly.terms) {
    unsigned count = 0;
    Poly::Monomial rest;
    for (AffineExpr atom : monomial) {
      if (auto d = dyn_cast<AffineDimExpr>(atom); d && d.getPosition() == dim) {
        ++count;
        continue;
      }
      if (atom.isFunctionOfDim(dim))
        return std::nullopt;
      rest.push_back(atom);
    }
    if (count > 1)
      return std::nullopt;
    if (count)
      result.addTerm(rest, factor);
  }
  return result;
}

SmallVector<AffineExpr>
IndexMath::throughReshape(ArrayRef<AffineExpr> index, ArrayRef<AffineExpr> to,
                          ArrayRef<AffineExpr> from) const {
  SmallVector<AffineExpr> result(from.size(),
                                 getAffineConstantExpr(0, context));
  auto isOne = [](AffineExpr e) { return graph::constantValue(e) == 1; };
  size_t i = 0, j = 0; // next dim of from, of to
  while (true) {
    while (i < from.size() && isOne(from[i]))
      ++i;
    while (j < to.size() && isOne(to[j]))
      ++j;
    if (i == from.size() || j == to.size())
      break;
    // The shortest runs of dims with one product.
    size_t endI = i + 1, endJ = j + 1;
    Poly left = toPoly(from[i]), right = toPoly(to[j]);
    while (!(left == right)) {
      bool extendFrom = right.exactQuotient(left).has_value();
      bool extendTo = !extendFrom && left.exactQuotient(right).has_value();
      if (extendFrom && endI < from.size()) {
        left = left * toPoly(from[endI++]);
      } else if (extendTo && endJ < to.size()) {
        right = right * toPoly(to[endJ++]);
      } else { // radices that do not nest: all the rest is one run
        endI = from.size(), endJ = to.size();
        break;
      }
    }
    AffineExpr flat = getAffineConstantExpr(0, context);
    for (size_t k = j; k < endJ; ++k)
      flat = flat * to[k] + index[k];
    Poly stride(1);
    for (size_t k = endI; k-- > i;) {
      if (!isOne(from[k])) {
        AffineExpr digit = flat.floorDiv(stride.toExpr(context));
        // The first digit needs no remainder.
        bool isFirst = true;
        for (size_t l = i; l < k; ++l)
          isFirst &= isOne(from[l]);
        result[k] = simplify(isFirst ? digit : digit % from[k]);
      }
      stride = stride * toPoly(from[k]);
    }
    i = endI, j = endJ;
  }
  return result;
}
