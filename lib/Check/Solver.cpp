// Claims about index expressions for Z3.
#include "Prove.h"

#include "llvm/ADT/STLExtras.h"

#include <z3++.h>

#include <bit>

using namespace dlc;
using namespace dlc::check;

// About a second of work on this family of queries; the time limit only stops a
// query that the resource limit does not.
static constexpr unsigned kResources = 3000000, kMilliseconds = 2000;

namespace {
class Encoder {
public:
  /// width 0: integers.
  Encoder(const IndexArena &index, z3::context &context, unsigned width)
      : index(index), context(context), width(width) {}

  z3::expr number(int64_t value) {
    return width ? context.bv_val(value, width) : context.int_val(value);
  }
  z3::expr poly(PolyId id) {
    z3::expr sum = number(0);
    for (const Term &term : index.get(id)) {
      z3::expr product = number(term.coefficient);
      for (AtomId x : term.atoms)
        product = product * atom(x);
      sum = sum + product;
    }
    return sum;
  }
  z3::expr guard(llvm::ArrayRef<Constraint> constraints) {
    z3::expr all = context.bool_val(true);
    for (const Constraint &c : constraints)
      all = all && (c.isEquality ? poly(c.poly) == number(0)
                                 : poly(c.poly) >= number(0));
    return all;
  }
  z3::expr atom(AtomId id) {
    if (auto it = made.find(id); it != made.end())
      return it->second;
    const Atom &info = index.getAtom(id);
    if (info.kind == Atom::Floor) {
      z3::expr n = poly(info.a), d = poly(info.b), zero = number(0),
               one = number(1);
      // Denominators are positive (asserted); integer division of Z3 rounds
      // down for those, that of bit-vectors towards zero.
      ranges.push_back(d >= one);
      z3::expr quotient =
          width ? z3::ite(n >= zero, n / d, -((d - n - one) / d)) : n / d;
      made.emplace(id, quotient);
      floorDenominators.push_back(info.b);
      return quotient;
    }
    std::string name = "x" + std::to_string(id);
    z3::expr x = width ? context.bv_const(name.c_str(), width)
                       : context.int_const(name.c_str());
    made.emplace(id, x);
    variables.push_back(id);
    ranges.push_back(x >= number(0));
    if (info.kind != Atom::Symbol)
      ranges.push_back(x < poly(info.size));
    return x;
  }

  std::vector<z3::expr> ranges;
  std::vector<AtomId> variables;
  std::vector<PolyId> floorDenominators;

private:
  const IndexArena &index;
  z3::context &context;
  unsigned width;
  std::map<AtomId, z3::expr> made;
};

// Bounds on magnitudes, so that bit-vectors do not wrap; nullopt where a size
// is not known.
class Magnitude {
public:
  explicit Magnitude(const IndexArena &index) : index(index) {}
  std::optional<__int128> of(PolyId id) {
    __int128 sum = 0;
    for (const Term &term : index.get(id)) {
      __int128 product = std::abs(term.coefficient);
      for (AtomId x : term.atoms) {
        std::optional<__int128> m = ofAtom(x);
        if (!m)
          return std::nullopt;
        product *= std::max<__int128>(*m, 1);
        if (product > kLimit)
          return std::nullopt;
      }
      sum += product;
    }
    if (sum > kLimit)
      return std::nullopt;
    largest = std::max(largest, sum);
    return sum;
  }
  __int128 largest = 1;

private:
  static constexpr __int128 kLimit = __int128(1) << 60;
  std::optional<__int128> ofAtom(AtomId id) {
    const Atom &atom = index.getAtom(id);
    if (atom.kind == Atom::Symbol)
      return std::nullopt;
    if (atom.kind != Atom::Floor)
      return of(atom.size);
    std::optional<__int128> n = of(atom.a), d = of(atom.b);
    if (!n || !d)
      return std::nullopt;
    largest = std::max(largest, *n + *d + 1);
    return *n + 1;
  }
  const IndexArena &index;
};
} // namespace

std::optional<uint64_t>
check::largestMagnitude(const IndexArena &index, const Claim &claim,
                        llvm::ArrayRef<Constraint> facts) {
  Magnitude magnitude(index);
  for (llvm::ArrayRef<Constraint> guard :
       {llvm::ArrayRef<Constraint>(claim.a),
        llvm::ArrayRef<Constraint>(claim.b), facts})
    for (const Constraint &c : guard)
      if (!magnitude.of(c.poly))
        return std::nullopt;
  return static_cast<uint64_t>(magnitude.largest);
}

Answer check::askSolver(const IndexArena &index, const Claim &claim,
                        llvm::ArrayRef<Constraint> facts, Witness &witness) {
  std::optional<uint64_t> largest = largestMagnitude(index, claim, facts);
  bool isStatic = largest.has_value();
  unsigned width = isStatic ? std::bit_width(*largest) + 3 : 0;
  try {
    z3::context context;
    z3::solver solver =
        isStatic ? z3::solver(context, "QF_BV") : z3::solver(context);
    z3::params limits(context);
    limits.set("timeout", kMilliseconds);
    limits.set("rlimit", kResources);
    solver.set(limits);
    Encoder encoder(index, context, width);
    z3::expr a = encoder.guard(claim.a), b = encoder.guard(claim.b);
    solver.add(encoder.guard(facts));
    const auto &lows = index.getContext(claim.context).lows;
    // Symbols of sizes only become known while ranges are written.
    for (size_t i = 0; i < encoder.variables.size(); ++i) {
      const Atom &atom = index.getAtom(encoder.variables[i]);
      if (atom.kind == Atom::Symbol && atom.a < lows.size())
        solver.add(encoder.atom(encoder.variables[i]) >=
                   encoder.number(lows[atom.a]));
    }
    // A floor means what its encoding says only over a positive denominator.
    for (PolyId d : encoder.floorDenominators)
      if (!const_cast<IndexArena &>(index).isNonNegative(
              const_cast<IndexArena &>(index).sub(
                  d, const_cast<IndexArena &>(index).constant(1)),
              claim.context))
        return Answer::Unknown;
    for (const z3::expr &range : encoder.ranges)
      solver.add(range);
    solver.add(a != b);
    switch (solver.check()) {
    case z3::unsat:
      return Answer::Proved;
    case z3::unknown:
      return Answer::Unknown;
    case z3::sat:
      break;
    }
    z3::model model = solver.get_model();
    for (AtomId x : encoder.variables) {
      z3::expr value = model.eval(encoder.atom(x), true);
      int64_t number = 0;
      uint64_t bits = 0;
      if (isStatic ? value.is_numeral_u64(bits) : value.is_numeral_i64(number))
        witness.push_back({x, isStatic ? static_cast<int64_t>(bits) : number});
    }
    return Answer::Refuted;
  } catch (const z3::exception &) {
    return Answer::Unknown;
  }
}
