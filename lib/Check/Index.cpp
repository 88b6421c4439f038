// Arithmetic of index expressions, and floors in normal form.
#include "Index.h"

#include "llvm/ADT/Hashing.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <numeric>

using namespace mlir;
using namespace dlc;
using namespace dlc::check;

// More than any kernel needs; a checker never runs out of memory.
static constexpr size_t kMaxPolys = size_t(1) << 21;
static constexpr size_t kMaxTerms = 4096;

size_t SequenceHash::operator()(const std::vector<uint64_t> &key) const {
  return llvm::hash_combine_range(key.begin(), key.end());
}

IndexArena::IndexArena() {
  intern({});        // 0 is the number of the polynomial 0
  internContext({}); // 0 is the empty context
}

//===----------------------------------------------------------------------===//
// Hash-consing
//===----------------------------------------------------------------------===//

int64_t IndexArena::checked(__int128 value) {
  if (value > INT64_MAX / 4 || value < INT64_MIN / 4) {
    broken = true;
    return 0;
  }
  return static_cast<int64_t>(value);
}

PolyId IndexArena::intern(Poly poly) {
  if (polys.size() > kMaxPolys || poly.size() > kMaxTerms) {
    broken = true;
    return 0;
  }
  std::vector<uint64_t> key;
  for (const Term &term : poly) {
    key.push_back(term.atoms.size());
    key.insert(key.end(), term.atoms.begin(), term.atoms.end());
    key.push_back(static_cast<uint64_t>(term.coefficient));
  }
  auto [it, isNew] = polyIds.try_emplace(std::move(key), polys.size());
  if (isNew)
    polys.push_back(std::move(poly));
  return it->second;
}

AtomId IndexArena::internAtom(Atom atom) {
  auto [it, isNew] = atomIds.try_emplace(
      {static_cast<uint64_t>(atom.kind), atom.a, atom.b, atom.size},
      atoms.size());
  if (isNew)
    atoms.push_back(atom);
  return it->second;
}

PolyId IndexArena::ofAtom(AtomId atom) {
  Poly poly;
  poly.push_back({{atom}, 1});
  return intern(std::move(poly));
}

PolyId IndexArena::constant(int64_t value) {
  Poly poly;
  if (value != 0)
    poly.push_back({{}, checked(value)});
  return intern(std::move(poly));
}

PolyId IndexArena::axis(uint32_t level, uint32_t position, PolyId size) {
  if (constantValue(size) == 1)
    return constant(0);
  return ofAtom(internAtom({Atom::Axis, level, position, size}));
}
PolyId IndexArena::symbol(uint32_t number) {
  return ofAtom(internAtom({Atom::Symbol, number}));
}
PolyId IndexArena::data(uint32_t node, PolyId size) {
  return ofAtom(internAtom({Atom::Data, node, 0, size}));
}

std::optional<int64_t> IndexArena::constantValue(PolyId id) const {
  const Poly &poly = polys[id];
  if (poly.empty())
    return 0;
  if (poly.size() == 1 && poly[0].atoms.empty())
    return poly[0].coefficient;
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Ring arithmetic
//===----------------------------------------------------------------------===//

PolyId IndexArena::add(PolyId a, PolyId b) {
  if (isZero(a))
    return b;
  if (isZero(b))
    return a;
  const Poly &x = polys[a], &y = polys[b];
  Poly sum;
  size_t i = 0, j = 0;
  while (i < x.size() || j < y.size()) {
    if (j == y.size() || (i < x.size() && x[i].atoms < y[j].atoms)) {
      sum.push_back(x[i++]);
    } else if (i == x.size() || y[j].atoms < x[i].atoms) {
      sum.push_back(y[j++]);
    } else {
      int64_t c =
          checked(static_cast<__int128>(x[i].coefficient) + y[j].coefficient);
      if (c != 0)
        sum.push_back({x[i].atoms, c});
      ++i, ++j;
    }
  }
  return intern(std::move(sum));
}

PolyId IndexArena::scale(PolyId a, int64_t factor) {
  if (factor == 1 || isZero(a))
    return a;
  if (factor == 0)
    return 0;
  Poly scaled = polys[a];
  for (Term &term : scaled)
    term.coefficient =
        checked(static_cast<__int128>(term.coefficient) * factor);
  return broken ? 0 : intern(std::move(scaled));
}

PolyId IndexArena::mul(PolyId a, PolyId b) {
  if (auto c = constantValue(a))
    return scale(b, *c);
  if (auto c = constantValue(b))
    return scale(a, *c);
  if (polys[a].size() * polys[b].size() > kMaxTerms) {
    broken = true;
    return 0;
  }
  PolyId sum = 0;
  for (const Term &x : Poly(polys[a])) {
    Poly row;
    for (const Term &y : polys[b]) {
      Term term{{},
                checked(static_cast<__int128>(x.coefficient) * y.coefficient)};
      std::merge(x.atoms.begin(), x.atoms.end(), y.atoms.begin(), y.atoms.end(),
                 std::back_inserter(term.atoms));
      row.push_back(std::move(term));
    }
    if (broken)
      return 0;
    llvm::sort(row,
               [](const Term &s, const Term &t) { return s.atoms < t.atoms; });
    sum = add(sum, intern(std::move(row)));
  }
  return sum;
}

// a / b when the atoms of b are among those of a and the coefficients divide.
std::optional<Term> IndexArena::divideTerm(const Term &a, const Term &b) const {
  if (a.coefficient % b.coefficient != 0 ||
      !std::includes(a.atoms.begin(), a.atoms.end(), b.atoms.begin(),
                     b.atoms.end()))
    return std::nullopt;
  Term quotient{{}, a.coefficient / b.coefficient};
  std::set_difference(a.atoms.begin(), a.atoms.end(), b.atoms.begin(),
                      b.atoms.end(), std::back_inserter(quotient.atoms));
  return quotient;
}

std::optional<PolyId> IndexArena::divideExactly(PolyId a, PolyId b) {
  if (isZero(b))
    return std::nullopt;
  PolyId quotient = 0;
  for (unsigned step = 0; !isZero(a); ++step) {
    // Leading terms divide in an exact division, in any monomial order.
    std::optional<Term> term = divideTerm(polys[a].back(), polys[b].back());
    if (!term || step > 64)
      return std::nullopt;
    Poly single;
    single.push_back(*term);
    PolyId q = intern(std::move(single));
    quotient = add(quotient, q);
    a = sub(a, mul(q, b));
    if (broken)
      return std::nullopt;
  }
  return quotient;
}

//===----------------------------------------------------------------------===//
// Floors
//===----------------------------------------------------------------------===//

static int64_t floorOf(int64_t a, int64_t b) {
  return a / b - ((a % b != 0) && ((a < 0) != (b < 0)));
}

// Takes out of `a` what is a multiple of b; returns the quotient.
PolyId IndexArena::extract(PolyId &a, PolyId b) {
  const Poly divisor = polys[b];
  PolyId quotient = 0;
  if (divisor.size() == 1) {
    // c * X = b * floor(c / m) * (X / S) + (c mod m) * X, for b = m * S, m > 0.
    for (const Term &term : Poly(polys[a])) {
      Term unit{divisor[0].atoms, 1};
      int64_t whole = floorOf(term.coefficient, divisor[0].coefficient);
      std::optional<Term> q = divideTerm(term, unit);
      if (!q || whole == 0)
        continue;
      q->coefficient = whole;
      Poly single;
      single.push_back(*q);
      quotient = add(quotient, intern(std::move(single)));
    }
  } else {
    // Of a sum: multiples that are there as a whole.
    for (const Term &term : Poly(polys[a])) {
      std::optional<Term> q = divideTerm(term, divisor.back());
      if (!q)
        continue;
      Poly single;
      single.push_back(*q);
      PolyId candidate = intern(std::move(single));
      PolyId rest = sub(sub(a, mul(add(quotient, candidate), b)), 0);
      if (polys[rest].size() + divisor.size() <=
          polys[sub(a, mul(quotient, b))].size())
        quotient = add(quotient, candidate);
    }
  }
  a = sub(a, mul(quotient, b));
  return quotient;
}

// floor((g p + r) / (g b)) = floor(p / b) for 0 <= r < g.
bool IndexArena::reduce(PolyId &a, PolyId &b, ContextId context) {
  if (polys[b].size() != 1)
    return false;
  const Term divisor = polys[b][0];
  std::vector<Term> candidates;
  auto addCandidate = [&](const Term &with) {
    Term g{{}, std::gcd(divisor.coefficient, with.coefficient)};
    std::set_intersection(divisor.atoms.begin(), divisor.atoms.end(),
                          with.atoms.begin(), with.atoms.end(),
                          std::back_inserter(g.atoms));
    if ((g.coefficient != 1 || !g.atoms.empty()) &&
        llvm::none_of(candidates, [&](const Term &t) {
          return t.coefficient == g.coefficient && t.atoms == g.atoms;
        }))
      candidates.push_back(g);
  };
  for (const Term &term : polys[a])
    if (!term.atoms.empty())
      addCandidate(term);
  llvm::sort(candidates, [](const Term &s, const Term &t) {
    return s.atoms.size() != t.atoms.size() ? s.atoms.size() > t.atoms.size()
                                            : s.coefficient > t.coefficient;
  });
  for (const Term &g : candidates) {
    Poly whole, rest;
    for (const Term &term : polys[a]) {
      if (std::optional<Term> q = divideTerm(term, g)) {
        whole.push_back(*q);
      } else if (term.atoms.empty() && g.atoms.empty()) {
        int64_t k = floorOf(term.coefficient, g.coefficient),
                r = term.coefficient - k * g.coefficient;
        if (k != 0)
          whole.push_back({{}, k});
        if (r != 0)
          rest.push_back({{}, r});
      } else {
        rest.push_back(term);
      }
    }
    llvm::sort(whole,
               [](const Term &s, const Term &t) { return s.atoms < t.atoms; });
    Poly single;
    single.push_back(g);
    PolyId gp = intern(single), r = intern(rest), p = intern(whole);
    if (isZero(p))
      continue;
    if (!isNonNegative(r, context) ||
        !isNonNegative(sub(sub(gp, r), constant(1)), context) ||
        !isNonNegative(sub(gp, constant(1)), context))
      continue;
    a = p;
    Poly smaller;
    smaller.push_back(*divideTerm(divisor, g));
    b = intern(smaller);
    return true;
  }
  return false;
}

// The value of floor(a / b) when it is one number at all points; b > 0.
std::optional<int64_t> IndexArena::constantQuotient(PolyId a, PolyId b,
                                                    ContextId context) {
  for (int64_t k : {0, -1, 1}) {
    PolyId low = sub(a, scale(b, k)); // a - k b in [0, b)
    if (isNonNegative(low, context) &&
        isNonNegative(sub(sub(b, low), constant(1)), context))
      return k;
  }
  return std::nullopt;
}

PolyId IndexArena::floorDiv(PolyId a, PolyId b, ContextId context) {
  if (broken)
    return 0;
  if (constantValue(b) == 0)
    return 0;
  if (constantValue(b) == 1 || isZero(a))
    return a;
  auto &known = quotients[uint64_t(a) << 32 | b];
  if (auto it = known.find(context); it != known.end())
    return it->second;
  const PolyId originalA = a, originalB = b;
  PolyId quotient = 0;
  if (isNonNegative(sub(b, constant(1)), context)) {
    for (unsigned step = 0; step < 64; ++step) {
      quotient = add(quotient, extract(a, b));
      if (isZero(a))
        break;
      if (constantValue(b) == 1) {
        quotient = add(quotient, a);
        a = 0;
        break;
      }
      if (auto k = constantQuotient(a, b, context)) {
        quotient = add(quotient, constant(*k));
        a = 0;
        break;
      }
      if (reduce(a, b, context))
        continue;
      // floor((floor(n / d) + r) / b) = floor((n + d r) / (d b)).
      bool flattened = false;
      for (const Term &term : Poly(polys[a])) {
        if (term.coefficient != 1 || term.atoms.size() != 1)
          continue;
        const Atom atom = atoms[term.atoms[0]];
        if (atom.kind != Atom::Floor ||
            !isNonNegative(sub(atom.b, constant(1)), context))
          continue;
        PolyId rest = sub(a, ofAtom(term.atoms[0]));
        a = add(atom.a, mul(atom.b, rest));
        b = mul(atom.b, b);
        flattened = true;
        break;
      }
      if (!flattened)
        break;
    }
  }
  if (broken)
    return 0;
  if (!isZero(a))
    quotient = add(quotient, ofAtom(internAtom({Atom::Floor, a, b})));
  quotients[uint64_t(originalA) << 32 | originalB][context] = quotient;
  return quotient;
}

PolyId IndexArena::mod(PolyId a, PolyId b, ContextId context) {
  return sub(a, mul(b, floorDiv(a, b, context)));
}

//===----------------------------------------------------------------------===//
// From affine expressions
//===----------------------------------------------------------------------===//

PolyId IndexArena::fromAffine(AffineExpr expr, ArrayRef<PolyId> dims,
                              ArrayRef<PolyId> symbols, ContextId context) {
  if (broken)
    return 0;
  switch (expr.getKind()) {
  case AffineExprKind::Constant:
    return constant(cast<AffineConstantExpr>(expr).getValue());
  case AffineExprKind::DimId: {
    unsigned i = cast<AffineDimExpr>(expr).getPosition();
    broken |= i >= dims.size();
    return broken ? 0 : dims[i];
  }
  case AffineExprKind::SymbolId: {
    unsigned i = cast<AffineSymbolExpr>(expr).getPosition();
    broken |= i >= symbols.size();
    return broken ? 0 : symbols[i];
  }
  default:
    break;
  }
  auto binary = cast<AffineBinaryOpExpr>(expr);
  PolyId a = fromAffine(binary.getLHS(), dims, symbols, context),
         b = fromAffine(binary.getRHS(), dims, symbols, context);
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return add(a, b);
  case AffineExprKind::Mul:
    return mul(a, b);
  case AffineExprKind::FloorDiv:
    return floorDiv(a, b, context);
  case AffineExprKind::CeilDiv:
    return scale(floorDiv(scale(a, -1), b, context), -1);
  default:
    return mod(a, b, context);
  }
}

PolyId IndexArena::substitute(PolyId poly, AtomId atom, PolyId replacement,
                              ContextId context) {
  PolyId sum = 0;
  for (const Term &term : Poly(polys[poly])) {
    PolyId product = constant(term.coefficient);
    for (AtomId x : term.atoms) {
      PolyId factor = ofAtom(x);
      const Atom info = atoms[x];
      if (x == atom)
        factor = replacement;
      else if (info.kind == Atom::Floor)
        factor =
            floorDiv(substitute(info.a, atom, replacement, context),
                     substitute(info.b, atom, replacement, context), context);
      product = mul(product, factor);
    }
    sum = add(sum, product);
  }
  return sum;
}

void IndexArena::collectAtoms(PolyId poly, std::vector<AtomId> &found) const {
  for (const Term &term : polys[poly])
    for (AtomId x : term.atoms) {
      if (atoms[x].kind == Atom::Floor) {
        collectAtoms(atoms[x].a, found);
        collectAtoms(atoms[x].b, found);
      } else if (!llvm::is_contained(found, x)) {
        found.push_back(x);
      }
    }
}

//===----------------------------------------------------------------------===//
// Messages
//===----------------------------------------------------------------------===//

std::string IndexArena::str(PolyId id) const {
  std::string text;
  llvm::raw_string_ostream os(text);
  const Poly &poly = polys[id];
  if (poly.empty())
    return "0";
  // The constant last.
  Poly terms = poly;
  if (terms[0].atoms.empty())
    std::rotate(terms.begin(), terms.begin() + 1, terms.end());
  bool isFirst = true;
  for (const Term &term : terms) {
    int64_t c = term.coefficient;
    if (!isFirst)
      os << (c < 0 ? " - " : " + ");
    else if (c < 0)
      os << "-";
    isFirst = false;
    if (std::abs(c) != 1 || term.atoms.empty())
      os << std::abs(c) << (term.atoms.empty() ? "" : "*");
    llvm::interleave(
        term.atoms, os,
        [&](AtomId x) {
          const Atom &atom = atoms[x];
          switch (atom.kind) {
          case Atom::Axis:
            if (atom.a == 0)
              os << "d" << atom.b;
            else
              os << "k" << atom.a << "." << atom.b;
            break;
          case Atom::Symbol:
            os << "s" << atom.a;
            break;
          case Atom::Data:
            os << "data%" << atom.a;
            break;
          case Atom::Floor:
            os << "floor((" << str(atom.a) << ") / (" << str(atom.b) << "))";
            break;
          }
        },
        "*");
  }
  return text;
}

std::string IndexArena::str(const Guard &guard) const {
  std::string text;
  for (const Constraint &c : guard)
    text += (text.empty() ? "" : " and ") + str(c.poly) +
            (c.isEquality ? " == 0" : " >= 0");
  return text.empty() ? "true" : text;
}
