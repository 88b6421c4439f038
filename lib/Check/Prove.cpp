// Evaluation of claims at points.
#include "Prove.h"

#include "llvm/ADT/STLExtras.h"

#include <map>
#include <random>
#include <tuple>

using namespace mlir;
using namespace dlc;
using namespace dlc::check;

static constexpr int64_t kMaxPoints = int64_t(1) << 24;
static constexpr int kSamples = 200;

namespace dlc::check {
// Polynomials compiled to a list of floors in order, over registers.
class Evaluator {
public:
  explicit Evaluator(const IndexArena &index) : index(index) {}

  unsigned registerOf(AtomId id) {
    auto [it, isNew] = registers.try_emplace(id, 0);
    if (!isNew)
      return it->second;
    const Atom &atom = index.getAtom(id);
    if (atom.kind == Atom::Floor) {
      Compiled n = compile(atom.a), d = compile(atom.b);
      unsigned r = numRegisters++;
      floors.push_back({std::move(n), std::move(d), r});
      return registers[id] = r;
    }
    base.push_back(id);
    return registers[id] = numRegisters++;
  }

  struct Compiled {
    struct Product {
      int64_t coefficient;
      llvm::SmallVector<unsigned, 2> factors;
    };
    std::vector<Product> terms;
  };
  Compiled compile(PolyId poly) {
    Compiled result;
    for (const Term &term : index.get(poly)) {
      Compiled::Product product{term.coefficient, {}};
      for (AtomId x : term.atoms)
        product.factors.push_back(registerOf(x));
      result.terms.push_back(std::move(product));
    }
    return result;
  }
  void add(const Guard &guard,
           std::vector<std::pair<Compiled, bool>> &compiled) {
    for (const Constraint &c : guard)
      compiled.push_back({compile(c.poly), c.isEquality});
  }

  void prepare() { values.assign(numRegisters, 0); }
  void set(unsigned r, int64_t value) { values[r] = value; }
  void runFloors() {
    for (const auto &f : floors) {
      int64_t n = run(f.numerator), d = run(f.denominator);
      values[f.target] =
          d == 0 ? 0 : n / d - ((n % d != 0) && ((n < 0) != (d < 0)));
    }
  }
  int64_t run(const Compiled &compiled) const {
    int64_t sum = 0;
    for (const auto &term : compiled.terms) {
      int64_t product = term.coefficient;
      for (unsigned r : term.factors)
        product *= values[r];
      sum += product;
    }
    return sum;
  }
  bool holds(const std::vector<std::pair<Compiled, bool>> &guard) const {
    for (const auto &[poly, isEquality] : guard) {
      int64_t value = run(poly);
      if (isEquality ? value != 0 : value < 0)
        return false;
    }
    return true;
  }
  std::vector<AtomId> base; // axes, symbols, data

private:
  struct FloorStep {
    Compiled numerator, denominator;
    unsigned target;
  };
  const IndexArena &index;
  llvm::DenseMap<AtomId, unsigned> registers;
  std::vector<FloorStep> floors;
  unsigned numRegisters = 0;
  std::vector<int64_t> values;
};

// A claim with the facts that speak of its atoms.
struct Problem {
  Evaluator evaluator;
  std::vector<std::pair<Evaluator::Compiled, bool>> a, b, facts;
  Guard factList;
  std::vector<AtomId> atoms;
  std::vector<unsigned> registers;
  bool hasOtherFacts = false; ///< some of the context's were left out

  /// With `wantsAll` also the facts about coordinates that only facts name:
  /// `d0 + d1 >= 8` says more about d0 where `d1 <= 1` is known.
  Problem(const IndexArena &index, const Claim &claim, bool wantsAll)
      : evaluator(index) {
    evaluator.add(claim.a, a);
    evaluator.add(claim.b, b);
    addSizes(index);
    // A claim about no coordinate is one about the facts.
    bool isAboutNothing = evaluator.base.empty();
    ArrayRef<Constraint> all = index.getContext(claim.context).facts;
    std::vector<bool> taken(all.size());
    for (bool changed = true; changed; changed &= wantsAll) {
      changed = false;
      const std::vector<AtomId> base = evaluator.base;
      for (auto [i, fact] : llvm::enumerate(all)) {
        std::vector<AtomId> used;
        index.collectAtoms(fact.poly, used);
        if (taken[i] || !(isAboutNothing || llvm::any_of(used, [&](AtomId x) {
                            return llvm::is_contained(base, x);
                          })))
          continue;
        taken[i] = changed = true;
        for (AtomId x : used)
          evaluator.registerOf(x);
      }
    }
    for (auto [i, fact] : llvm::enumerate(all)) {
      if (taken[i])
        factList.push_back(fact);
      else
        hasOtherFacts = true;
    }
    evaluator.add(factList, facts);
    addSizes(index);
    atoms = evaluator.base;
    for (AtomId x : atoms)
      registers.push_back(evaluator.registerOf(x));
    evaluator.prepare();
  }
  // Sizes of axes: a sample needs them.
  void addSizes(const IndexArena &index) {
    for (size_t i = 0; i < evaluator.base.size(); ++i) {
      const Atom atom = index.getAtom(evaluator.base[i]);
      if (atom.kind == Atom::Axis || atom.kind == Atom::Data)
        evaluator.compile(atom.size);
    }
  }
  bool failsHere() {
    evaluator.runFloors();
    return evaluator.holds(facts) && evaluator.holds(a) != evaluator.holds(b);
  }
};
} // namespace dlc::check

static Answer tryEveryPoint(const IndexArena &index, Problem &problem,
                            int64_t &pointsLeft, bool &isComplete,
                            Witness &witness) {
  isComplete = false;
  std::vector<int64_t> sizes;
  int64_t points = 1;
  for (AtomId x : problem.atoms) {
    const Atom &atom = index.getAtom(x);
    if (atom.kind == Atom::Symbol)
      return Answer::Unknown;
    std::optional<int64_t> size = index.constantValue(atom.size);
    if (!size || *size > kMaxPoints)
      return Answer::Unknown;
    sizes.push_back(*size);
    points *= *size;
    if (points > kMaxPoints || points > pointsLeft)
      return Answer::Unknown;
  }
  pointsLeft -= points;
  isComplete = true;
  std::vector<int64_t> at(sizes.size(), 0);
  for (int64_t point = 0; point < points; ++point) {
    for (size_t i = 0; i < at.size(); ++i)
      problem.evaluator.set(problem.registers[i], at[i]);
    if (problem.failsHere()) {
      for (size_t i = 0; i < at.size(); ++i)
        witness.push_back({problem.atoms[i], at[i]});
      return Answer::Refuted;
    }
    for (size_t i = at.size(); i-- > 0;) {
      if (++at[i] < sizes[i])
        break;
      at[i] = 0;
    }
  }
  return Answer::Proved;
}

// Points at random, corners more often than their share: finds most wrong
// claims at once.
static bool findCounterexample(const IndexArena &index, Problem &problem,
                               ContextId context, Witness &witness) {
  std::mt19937_64 random(1);
  const auto &lows = index.getContext(context).lows;
  Evaluator &evaluator = problem.evaluator;
  // Symbols before the axes whose sizes they are.
  std::vector<size_t> order;
  for (bool symbols : {true, false})
    for (size_t i = 0; i < problem.atoms.size(); ++i)
      if ((index.getAtom(problem.atoms[i]).kind == Atom::Symbol) == symbols)
        order.push_back(i);
  std::vector<int64_t> at(order.size());
  for (int sample = 0; sample < kSamples; ++sample) {
    bool isPoint = true;
    for (size_t i : order) {
      const Atom &atom = index.getAtom(problem.atoms[i]);
      if (atom.kind == Atom::Symbol) {
        int64_t low = atom.a < lows.size() ? lows[atom.a] : 0;
        at[i] = low + static_cast<int64_t>(random() % 9);
      } else {
        evaluator.runFloors();
        int64_t size = evaluator.run(evaluator.compile(atom.size));
        isPoint &= size > 0;
        size = std::max<int64_t>(size, 1);
        switch (random() % 4) {
        case 0:
          at[i] = size - 1;
          break;
        case 1:
          at[i] = sample % std::min<int64_t>(size, 4);
          break;
        default:
          at[i] = static_cast<int64_t>(random() % size);
        }
      }
      evaluator.set(problem.registers[i], at[i]);
    }
    if (!isPoint || !problem.failsHere())
      continue;
    for (size_t i = 0; i < at.size(); ++i)
      witness.push_back({problem.atoms[i], at[i]});
    return true;
  }
  return false;
}

Answer Prover::tryPoints(const Claim &claim, Problem &problem,
                         Witness &witness) {
  if (findCounterexample(index, problem, claim.context, witness))
    return Answer::Refuted;
  bool isComplete = false;
  Answer answer = Answer::Unknown;
  if (largestMagnitude(index, claim, problem.factList))
    answer = tryEveryPoint(index, problem, budget.points, isComplete, witness);
  numExhaustive += isComplete;
  return answer;
}

Answer Prover::solve(const Claim &claim, const Problem &problem,
                     Witness &witness) {
  if (budget.solverCalls == 0)
    return Answer::Unknown;
  --budget.solverCalls;
  ++numSolver;
  return askSolver(index, claim, problem.factList, witness);
}

Answer Prover::prove(const Claim &claim, Witness &witness) {
  if (index.overflowed())
    return Answer::Unknown;
  auto [it, isNew] = known.try_emplace({claim.a, claim.b, claim.context},
                                       Answer::Unknown, Witness());
  if (!isNew) {
    witness = it->second.second;
    return it->second.first;
  }
  if (budget.claims == 0)
    return Answer::Unknown;
  --budget.claims;
  // Few facts leave few points to try; what they do not prove, all may.
  Problem nearby(index, claim, /*wantsAll=*/false);
  Answer answer = tryPoints(claim, nearby, witness);
  if (answer != Answer::Proved && nearby.hasOtherFacts) {
    witness.clear();
    Problem whole(index, claim, /*wantsAll=*/true);
    answer = tryPoints(claim, whole, witness);
    if (answer == Answer::Unknown)
      answer = solve(claim, whole, witness);
  } else if (answer == Answer::Unknown) {
    answer = solve(claim, nearby, witness);
  }
  it->second = {answer, witness};
  return answer;
}

Answer Prover::proveEqual(PolyId a, PolyId b, ContextId context,
                          Witness &witness) {
  if (a == b)
    return Answer::Proved;
  PolyId difference = index.sub(a, b);
  return prove({{{difference, /*isEquality=*/true}}, {}, context}, witness);
}

Answer Prover::proveNonNegative(PolyId poly, ContextId context,
                                Witness &witness) {
  if (index.isNonNegative(poly, context))
    return Answer::Proved;
  return prove({{{poly, /*isEquality=*/false}}, {}, context}, witness);
}

std::string Prover::str(const Witness &witness) const {
  std::string text;
  Witness sorted = witness;
  llvm::sort(sorted, [&](const auto &x, const auto &y) {
    const Atom &a = index.getAtom(x.first), &b = index.getAtom(y.first);
    return std::tie(a.kind, a.a, a.b) < std::tie(b.kind, b.a, b.b);
  });
  for (auto [x, value] : sorted) {
    const Atom &atom = index.getAtom(x);
    std::string name =
        atom.kind == Atom::Symbol ? "s" + std::to_string(atom.a)
        : atom.kind == Atom::Data ? "data%" + std::to_string(atom.a)
        : atom.a == 0
            ? "d" + std::to_string(atom.b)
            : "k" + std::to_string(atom.a) + "." + std::to_string(atom.b);
    text += (text.empty() ? "" : ", ") + name + " = " + std::to_string(value);
  }
  return text;
}
