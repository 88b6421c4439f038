// What is known at a place of an expression, and signs of index expressions
// under it: each axis is put at the end of its range that makes the expression
// least, floors by their defining inequalities.
#include "Index.h"

#include "llvm/ADT/STLExtras.h"

#include <numeric>

using namespace mlir;
using namespace dlc;
using namespace dlc::check;

// Steps of one query; what takes more is not shown here.
static constexpr int kFuel = 400;
static constexpr unsigned kMaxDepth = 24;

//===----------------------------------------------------------------------===//
// Contexts and guards
//===----------------------------------------------------------------------===//

ContextId IndexArena::internContext(Context context) {
  std::vector<uint64_t> key;
  for (const Constraint &c : context.facts)
    key.push_back(uint64_t(c.poly) << 1 | c.isEquality);
  key.push_back(~uint64_t(0));
  while (!context.lows.empty() && context.lows.back() == 0)
    context.lows.pop_back();
  key.insert(key.end(), context.lows.begin(), context.lows.end());
  auto [it, isNew] = contextIds.try_emplace(std::move(key), contexts.size());
  if (isNew)
    contexts.push_back(std::move(context));
  return it->second;
}

// extent >= 1 as least values of symbols, where that is what it says.
static void learnLow(const IndexArena &arena, PolyId extent,
                     SmallVectorImpl<int64_t> &lows) {
  int64_t offset = 0;
  const Term *product = nullptr;
  for (const Term &term : arena.get(extent)) {
    if (term.atoms.empty())
      offset = term.coefficient;
    else if (product || term.coefficient <= 0)
      return;
    else
      product = &term;
  }
  if (!product || (offset != 0 && product->atoms.size() != 1))
    return;
  for (AtomId x : product->atoms) {
    const Atom &atom = arena.getAtom(x);
    if (atom.kind != Atom::Symbol)
      return;
    // c s + o >= 1
    int64_t c = product->coefficient, need = 1 - offset;
    int64_t low = need <= 0 ? 0 : (need + c - 1) / c;
    if (lows.size() <= atom.a)
      lows.resize(atom.a + 1, 0);
    lows[atom.a] = std::max(lows[atom.a], low);
  }
}

ContextId IndexArena::withExtents(ContextId id, ArrayRef<PolyId> extents) {
  Context context = contexts[id];
  for (PolyId extent : extents) {
    learnLow(*this, extent, context.lows);
    // c X + ... >= 1 for other forms is kept as a fact.
    std::vector<AtomId> found;
    collectAtoms(extent, found);
    if (found.size() > 1 || (found.size() == 1 && get(extent).size() > 2))
      context.facts.push_back(
          normalize({sub(extent, constant(1)), /*isEquality=*/false}));
  }
  llvm::sort(context.facts);
  context.facts.erase(llvm::unique(context.facts), context.facts.end());
  return internContext(std::move(context));
}

ContextId IndexArena::assume(ContextId id, const Guard &guard) {
  Context context = contexts[id];
  context.facts.insert(context.facts.end(), guard.begin(), guard.end());
  for (const Constraint &c : guard)
    if (!c.isEquality)
      learnLow(*this, add(c.poly, constant(1)), context.lows);
  llvm::sort(context.facts);
  context.facts.erase(llvm::unique(context.facts), context.facts.end());
  return internContext(std::move(context));
}

ContextId IndexArena::assumeNot(ContextId id, const Constraint &constraint) {
  if (constraint.isEquality)
    return id;
  return assume(id, {normalize({sub(scale(constraint.poly, -1), constant(1)),
                                /*isEquality=*/false})});
}

Constraint IndexArena::normalize(Constraint constraint) {
  const Poly &poly = get(constraint.poly);
  int64_t common = 0, offset = 0;
  for (const Term &term : poly)
    if (term.atoms.empty())
      offset = term.coefficient;
    else
      common = std::gcd(common, term.coefficient);
  if (common == 0)
    return constraint;
  if (constraint.isEquality) {
    common = std::gcd(common, offset);
    // Of e and -e, the one whose first coefficient is positive.
    if (poly[0].atoms.empty() ? poly[1].coefficient < 0
                              : poly[0].coefficient < 0)
      common = -common;
    if (common == 1)
      return constraint;
  } else if (common == 1) {
    return constraint;
  }
  Poly divided;
  for (const Term &term : poly) {
    int64_t c = term.coefficient / common;
    if (term.atoms.empty() && term.coefficient % common != 0 &&
        (term.coefficient < 0) != (common < 0))
      --c; // rounds down
    if (c != 0)
      divided.push_back({term.atoms, c});
  }
  return {intern(std::move(divided)), constraint.isEquality};
}

std::optional<Guard> IndexArena::simplify(Guard guard, ContextId context) {
  Guard kept;
  for (Constraint c : guard) {
    c = normalize(c);
    PolyId negated = scale(c.poly, -1);
    if (llvm::is_contained(contexts[context].facts, c))
      continue;
    if (!c.isEquality) {
      if (isNonNegative(c.poly, context))
        continue;
      if (isNonNegative(sub(negated, constant(1)), context))
        return std::nullopt;
    } else {
      if (isNonNegative(c.poly, context) && isNonNegative(negated, context))
        continue;
      if (isNonNegative(sub(c.poly, constant(1)), context) ||
          isNonNegative(sub(negated, constant(1)), context))
        return std::nullopt;
    }
    kept.push_back(c);
  }
  llvm::sort(kept);
  kept.erase(llvm::unique(kept), kept.end());
  return kept;
}

//===----------------------------------------------------------------------===//
// Signs
//===----------------------------------------------------------------------===//

bool IndexArena::isNonNegative(PolyId poly, ContextId context) {
  if (broken)
    return false;
  if (auto c = constantValue(poly))
    return *c >= 0;
  auto [it, isNew] = proved.try_emplace({poly, context}, false);
  if (!isNew)
    return it->second;
  // A fact itself is not left to the search, which may end before it is met.
  if (llvm::is_contained(contexts[context].facts,
                         normalize({poly, /*isEquality=*/false})))
    return proved[{poly, context}] = true;
  int fuel = kFuel;
  bool result = prove(poly, context, 0, fuel) && !broken;
  proved[{poly, context}] = result;
  return result;
}

std::optional<PolyId> IndexArena::atLeastPoint(PolyId poly, ContextId context) {
  for (unsigned step = 0; step < 16; ++step) {
    std::optional<AtomId> chosen;
    for (const Term &term : get(poly))
      for (AtomId x : term.atoms) {
        if (atoms[x].kind == Atom::Floor || atoms[x].kind == Atom::Data)
          return std::nullopt;
        if (atoms[x].kind == Atom::Axis)
          chosen = x;
      }
    if (!chosen)
      return poly;
    auto [factor, rest] = split(poly, *chosen);
    if (llvm::any_of(get(factor), [&](const Term &t) {
          return llvm::is_contained(t.atoms, *chosen);
        }))
      return std::nullopt;
    if (isNonNegative(factor, context))
      poly = rest;
    else if (isNonNegative(scale(factor, -1), context))
      poly = add(rest, mul(factor, sub(atoms[*chosen].size, constant(1))));
    else
      return std::nullopt;
  }
  return std::nullopt;
}

// poly = factor * atom + rest, where rest has no atom outside floors; a power
// leaves the atom in the factor.
std::pair<PolyId, PolyId> IndexArena::split(PolyId poly, AtomId atom) {
  Poly factor, rest;
  for (const Term &term : get(poly)) {
    auto it = llvm::find(term.atoms, atom);
    if (it == term.atoms.end()) {
      rest.push_back(term);
      continue;
    }
    Term divided = term;
    divided.atoms.erase(divided.atoms.begin() + (it - term.atoms.begin()));
    factor.push_back(std::move(divided));
  }
  llvm::sort(factor,
             [](const Term &s, const Term &t) { return s.atoms < t.atoms; });
  PolyId f = intern(std::move(factor));
  return {f, intern(std::move(rest))};
}

bool IndexArena::isAtomNonNegative(AtomId id, ContextId context, unsigned depth,
                                   int &fuel) {
  const Atom atom = atoms[id];
  if (atom.kind != Atom::Floor)
    return true;
  return prove(atom.a, context, depth + 1, fuel) &&
         prove(sub(atom.b, constant(1)), context, depth + 1, fuel);
}

// Only symbols are left: each is its least value plus something.
bool IndexArena::proveFromSymbols(PolyId poly, ContextId id) {
  const Context &context = contexts[id];
  PolyId shifted = 0;
  for (const Term &term : Poly(get(poly))) {
    PolyId product = constant(term.coefficient);
    for (AtomId x : term.atoms) {
      unsigned number = atoms[x].a;
      int64_t low = number < context.lows.size() ? context.lows[number] : 0;
      product = mul(product, add(ofAtom(x), constant(low)));
    }
    shifted = add(shifted, product);
  }
  return llvm::all_of(get(shifted),
                      [](const Term &t) { return t.coefficient >= 0; });
}

bool IndexArena::prove(PolyId poly, ContextId context, unsigned depth,
                       int &fuel) {
  if (broken || --fuel < 0 || depth > kMaxDepth)
    return false;
  if (auto c = constantValue(poly))
    return *c >= 0;
  // The atom to be got rid of: floors first, the last made (outermost) before
  // the ones it may hold, then axes.
  std::optional<AtomId> chosen;
  bool allPositive = true;
  for (const Term &term : get(poly)) {
    allPositive &= term.coefficient > 0;
    for (AtomId x : term.atoms) {
      if (atoms[x].kind == Atom::Symbol)
        continue;
      bool isFloor = atoms[x].kind == Atom::Floor;
      if (!chosen || (isFloor && atoms[*chosen].kind != Atom::Floor) ||
          (isFloor == (atoms[*chosen].kind == Atom::Floor) && x > *chosen))
        chosen = x;
    }
  }
  if (!chosen && proveFromSymbols(poly, context))
    return true;
  if (chosen && allPositive) {
    Poly terms = get(poly);
    if (llvm::all_of(terms, [&](const Term &term) {
          return llvm::all_of(term.atoms, [&](AtomId x) {
            return isAtomNonNegative(x, context, depth, fuel);
          });
        }))
      return true;
  }
  // A fact that has something in common with it.
  if (depth < 3)
    for (const Constraint &fact : Guard(contexts[context].facts)) {
      int64_t factor = 0;
      for (const Term &f : get(fact.poly))
        for (const Term &t : get(poly))
          if (!f.atoms.empty() && f.atoms == t.atoms &&
              t.coefficient % f.coefficient == 0 && factor == 0)
            factor = t.coefficient / f.coefficient;
      if (factor == 0 || (factor < 0 && !fact.isEquality))
        continue;
      if (prove(sub(poly, scale(fact.poly, factor)), context, depth + 1, fuel))
        return true;
    }
  if (!chosen)
    return false;
  const Atom atom = atoms[*chosen];
  if (atom.kind == Atom::Floor)
    return proveFloor(poly, *chosen, context, depth, fuel);
  auto [factor, rest] = split(poly, *chosen);
  // (A power of the axis stays in the factor, whose sign then covers it.)
  if (prove(factor, context, depth + 1, fuel))
    return prove(rest, context, depth + 1, fuel);
  if (prove(scale(factor, -1), context, depth + 1, fuel)) {
    // At the axis' last point; a square would need the factor to be monotone.
    if (llvm::any_of(get(factor), [&](const Term &t) {
          return llvm::is_contained(t.atoms, *chosen);
        }))
      return false;
    return prove(add(rest, mul(factor, sub(atom.size, constant(1)))), context,
                 depth + 1, fuel);
  }
  return false;
}

// poly = k F + r with F = floor(n / d), d > 0: n - d + 1 <= d F <= n.
bool IndexArena::proveFloor(PolyId poly, AtomId id, ContextId context,
                            unsigned depth, int &fuel) {
  const Atom atom = atoms[id];
  PolyId n = atom.a, d = atom.b;
  auto [k, rest] = split(poly, id);
  if (llvm::any_of(get(k), [&](const Term &t) {
        return llvm::is_contained(t.atoms, id);
      }))
    return false;
  if (!prove(sub(d, constant(1)), context, depth + 1, fuel))
    return false;
  bool isUp = prove(k, context, depth + 1, fuel);
  PolyId magnitude = isUp ? k : scale(k, -1);
  if (!isUp && !prove(magnitude, context, depth + 1, fuel))
    return false;
  // |k| = q d: k F >= q (n - d + 1) or k F >= -q n.
  if (std::optional<PolyId> q = divideExactly(magnitude, d)) {
    PolyId bound =
        isUp ? mul(*q, add(sub(n, d), constant(1))) : mul(scale(*q, -1), n);
    if (prove(add(rest, bound), context, depth + 1, fuel))
      return true;
  }
  // The same against a finer floor of the same number: F = floor(G / c).
  for (const Term &term : Poly(get(rest)))
    for (AtomId x : term.atoms) {
      const Atom finer = atoms[x];
      if (finer.kind != Atom::Floor || finer.a != n || finer.b == d)
        continue;
      std::optional<PolyId> c = divideExactly(d, finer.b);
      if (!c || !prove(sub(finer.b, constant(1)), context, depth + 1, fuel))
        continue;
      std::optional<PolyId> q = divideExactly(magnitude, *c);
      if (!q)
        continue;
      PolyId g = ofAtom(x);
      PolyId bound =
          isUp ? mul(*q, add(sub(g, *c), constant(1))) : mul(scale(*q, -1), g);
      if (prove(add(rest, bound), context, depth + 1, fuel))
        return true;
    }
  // F >= 0.
  if (isUp && prove(n, context, depth + 1, fuel) &&
      prove(rest, context, depth + 1, fuel))
    return true;
  // poly is whole: poly >= 0 iff d poly + d - 1 >= 0.
  PolyId scaled = add(mul(d, rest), sub(d, constant(1)));
  PolyId bound = isUp ? mul(k, add(sub(n, d), constant(1))) : mul(k, n);
  return prove(add(scaled, bound), context, depth + 1, fuel);
}
