// Equality of expressions.
#include "Compare.h"

#include "Substitute.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

// Pairs looked at for one result; no legal fusion comes near.
static constexpr unsigned kMaxSteps = 200000;

bool Comparer::differ(Condition condition, std::string reason,
                      const Witness &witness) {
  // The first difference met is the one to be told.
  if (!refusal)
    refusal = Refusal{condition, std::move(reason), prover.str(witness)};
  return false;
}

static std::string describeDifference(StringRef what, const std::string &a,
                                      const std::string &b) {
  return what.str() + ": the members have " + a + ", the kernel " + b;
}

//===----------------------------------------------------------------------===//
// Indices and guards
//===----------------------------------------------------------------------===//

// b's coordinates from data written as those of a that are equal, as the data
// are.
void Comparer::unifyData(ArrayRef<PolyId> a, MutableArrayRef<PolyId> b,
                         ContextId context) {
  std::vector<AtomId> inA, inB;
  for (PolyId poly : a)
    index.collectAtoms(poly, inA);
  for (PolyId poly : b)
    index.collectAtoms(poly, inB);
  for (AtomId y : inB) {
    const Atom ofB = index.getAtom(y);
    if (ofB.kind != Atom::Data || llvm::is_contained(inA, y))
      continue;
    for (AtomId x : inA) {
      const Atom ofA = index.getAtom(x);
      if (ofA.kind != Atom::Data || ofA.size != ofB.size)
        continue;
      std::optional<Refusal> before = refusal;
      if (equal(ofA.a, ofB.a, context)) {
        for (PolyId &poly : b)
          poly =
              index.substitute(poly, y, index.data(ofA.a, ofA.size), context);
        break;
      }
      if (!before)
        refusal.reset(); // another coordinate may be the equal one
    }
  }
}

bool Comparer::equalIndex(PolyId a, PolyId b, ContextId context,
                          Witness &witness) {
  if (a == b)
    return true;
  unifyData(a, b, context);
  if (prover.proveEqual(a, b, context, witness) == Answer::Proved)
    return true;
  // Floors that were made where less was known.
  PolyId x = index.rebuild(a, context), y = index.rebuild(b, context);
  return (x != a || y != b) &&
         prover.proveEqual(x, y, context, witness) == Answer::Proved;
}

bool Comparer::equalGuards(const Guard &a, const Guard &b, ContextId context,
                           Witness &witness) {
  if (a == b)
    return true;
  auto polys = [](const Guard &guard) {
    return llvm::map_to_vector(guard,
                               [](const Constraint &c) { return c.poly; });
  };
  SmallVector<PolyId> own = polys(a), other = polys(b);
  unifyData(own, other, context);
  Guard unified = b;
  for (auto [constraint, poly] : llvm::zip(unified, other))
    constraint.poly = poly;
  return prover.prove({a, unified, context}, witness) == Answer::Proved;
}

bool Comparer::isInfeasible(ContextId context) {
  Witness ignored;
  PolyId never = index.constant(-1);
  return prover.prove({{{never, /*isEquality=*/false}}, {}, context},
                      ignored) == Answer::Proved;
}

// Takes the side of choices that the context has settled.
NodeId Comparer::resolve(NodeId node, ContextId context) {
  while (exprs.get(node).kind == Node::Choose) {
    const Node &choice = exprs.get(node);
    std::optional<Guard> guard =
        index.simplify(exprs.getGuard(choice.args[0]), context);
    if (!guard)
      node = choice.args[2];
    else if (guard->empty())
      node = choice.args[1];
    else
      break;
  }
  return node;
}

//===----------------------------------------------------------------------===//
// Expressions
//===----------------------------------------------------------------------===//

bool Comparer::equal(NodeId a, NodeId b, ContextId context) {
  if (a == b)
    return true;
  if (++steps > kMaxSteps || exprs.overflowed())
    return differ(Condition::Compose,
                  "the expressions are too large to be compared");
  a = resolve(a, context);
  b = resolve(b, context);
  if (a == b)
    return true;
  std::pair<uint64_t, uint32_t> key{uint64_t(a) << 32 | b, context};
  if (auto it = known.find(key); it != known.end())
    return it->second;
  bool result = equalHeads(a, b, context);
  known[key] = result;
  return result;
}

bool Comparer::equalHeads(NodeId a, NodeId b, ContextId context) {
  const Node &x = exprs.get(a), &y = exprs.get(b);
  if (x.type != y.type) {
    std::string ta, tb;
    llvm::raw_string_ostream(ta) << x.type;
    llvm::raw_string_ostream(tb) << y.type;
    return differ(Condition::Round,
                  describeDifference("a type differs", ta, tb));
  }
  Witness guardWitness;
  bool guardsDiffer = false;
  if (x.kind == Node::Choose && y.kind == Node::Choose) {
    const Guard &ga = exprs.getGuard(x.args[0]),
                &gb = exprs.getGuard(y.args[0]);
    guardsDiffer = !equalGuards(ga, gb, context, guardWitness);
    if (!guardsDiffer) {
      ContextId outside =
          ga.size() == 1 ? index.assumeNot(context, ga.front()) : context;
      return equal(x.args[1], y.args[1], index.assume(context, ga)) &&
             equal(x.args[2], y.args[2], outside);
    }
  }
  // One side chooses where the other does not, or by another guard.
  if (x.kind == Node::Choose || y.kind == Node::Choose) {
    std::optional<Refusal> before = refusal;
    const Node &choice = x.kind == Node::Choose ? x : y;
    if (equalCases(a, b, exprs.getGuard(choice.args[0]), context))
      return true;
    // Of two guards it is they that differ, whatever that leads to.
    if (guardsDiffer && !before) {
      refusal.reset();
      differ(Condition::Compose,
             describeDifference("a guard differs", exprs.str(a), exprs.str(b)),
             guardWitness);
    }
    return false;
  }

  bool isIndexA = x.kind == Node::Coord, isIndexB = y.kind == Node::Coord;
  if (isIndexA && isIndexB) {
    Witness witness;
    return equalIndex(x.args[0], y.args[0], context, witness) ||
           differ(Condition::Compose,
                  describeDifference("a coordinate as a number differs",
                                     exprs.str(a), exprs.str(b)),
                  witness);
  }
  if (x.kind != y.kind) {
    auto either = [&](Node::Kind kind) {
      return x.kind == kind || y.kind == kind;
    };
    Condition condition = either(Node::Cast) ? Condition::Round
                          : either(Node::Load) && either(Node::Literal)
                              ? Condition::Compose
                              : Condition::SameNodes;
    // Any point of this case is one.
    Witness witness;
    if (!index.getContext(context).facts.empty())
      prover.prove({{{index.constant(-1), false}}, {}, context}, witness);
    return differ(
        condition,
        describeDifference("the bodies differ", exprs.str(a), exprs.str(b)),
        witness);
  }
  switch (x.kind) {
  case Node::Load:
    return equalLoads(a, b, context);
  case Node::Apply:
    return equalApplications(a, b, context);
  case Node::Fold:
    return equalFolds(a, b, context);
  case Node::Cast:
    if (x.payload != y.payload ||
        exprs.get(x.args[0]).type != exprs.get(y.args[0]).type)
      return differ(
          Condition::Round,
          describeDifference("a cast differs", exprs.str(a), exprs.str(b)));
    return equal(x.args[0], y.args[0], context);
  case Node::Inside: {
    Witness witness;
    return equalGuards(exprs.getGuard(x.args[0]), exprs.getGuard(y.args[0]),
                       context, witness) ||
           differ(Condition::Compose,
                  describeDifference("a guard differs", exprs.str(a),
                                     exprs.str(b)),
                  witness);
  }
  default:
    return differ(
        Condition::SameNodes,
        describeDifference("the bodies differ", exprs.str(a), exprs.str(b)));
  }
}

// a and b agree where the guard holds, and in each of the ways it can fail: its
// first constraint, or its second and not its first, ...
bool Comparer::equalCases(NodeId a, NodeId b, const Guard &guard,
                          ContextId context) {
  auto agree = [&](const Guard &assumed) {
    std::optional<Guard> left = index.simplify(assumed, context);
    if (!left)
      return true; // not a case
    ContextId within = index.assume(context, *left);
    if (within == context)
      return differ(Condition::Compose, "a guard could not be compared");
    std::optional<Refusal> before = refusal;
    if (equal(a, b, within))
      return true;
    if (!isInfeasible(within)) {
      if (refusal && !before)
        refusal->reason =
            "where " + index.str(assumed) + ", " + refusal->reason;
      return false;
    }
    refusal = before;
    return true;
  };
  if (!agree(guard))
    return false;
  Guard held;
  for (const Constraint &c : guard) {
    PolyId negated = index.scale(c.poly, -1), one = index.constant(1);
    Guard failing = held;
    failing.push_back(
        index.normalize({index.sub(negated, one), /*isEquality=*/false}));
    if (!agree(failing))
      return false;
    if (c.isEquality) {
      failing.back() =
          index.normalize({index.sub(c.poly, one), /*isEquality=*/false});
      if (!agree(failing))
        return false;
    }
    held.push_back(c);
  }
  return true;
}

bool Comparer::equalLoads(NodeId a, NodeId b, ContextId context) {
  const Node &x = exprs.get(a), &y = exprs.get(b);
  if (x.payload != y.payload || x.args.size() != y.args.size())
    return differ(Condition::Compose,
                  describeDifference("another tensor is read", exprs.str(a),
                                     exprs.str(b)));
  for (auto [p, q] : llvm::zip(x.args, y.args)) {
    Witness witness;
    if (!equalIndex(p, q, context, witness))
      return differ(Condition::Compose,
                    describeDifference("an index map differs", exprs.str(a),
                                       exprs.str(b)),
                    witness);
  }
  return true;
}

bool Comparer::equalApplications(NodeId a, NodeId b, ContextId context) {
  const Node &x = exprs.get(a), &y = exprs.get(b);
  if (x.payload != y.payload || x.args.size() != y.args.size())
    return differ(
        Condition::SameNodes,
        describeDifference("a function differs", exprs.str(a), exprs.str(b)));
  auto equalArguments = [&](ArrayRef<uint32_t> left, ArrayRef<uint32_t> right) {
    return llvm::all_of(llvm::zip(left, right), [&](auto pair) {
      return equal(std::get<0>(pair), std::get<1>(pair), context);
    });
  };
  if (!ExprArena::isCommutative(x.fn()))
    return equalArguments(x.args, y.args);
  // The order in which more heads agree first: its difference is the one told.
  auto headsAgree = [&](NodeId p, NodeId q) {
    const Node &m = exprs.get(p), &n = exprs.get(q);
    return m.kind == n.kind && (m.payload == n.payload || p == q);
  };
  SmallVector<uint32_t> straight(y.args.begin(), y.args.end()),
      swapped{y.args[1], y.args[0]};
  if (headsAgree(x.args[0], y.args[1]) + headsAgree(x.args[1], y.args[0]) >
      headsAgree(x.args[0], y.args[0]) + headsAgree(x.args[1], y.args[1]))
    std::swap(straight, swapped);
  std::optional<Refusal> before = refusal;
  if (equalArguments(x.args, straight))
    return true;
  std::optional<Refusal> first = refusal;
  refusal = before;
  if (equalArguments(x.args, swapped))
    return true;
  refusal = first;
  return false;
}

// A fold over several axes is row-major: over their product it is the same one.
std::optional<Comparer::FlatFolds>
Comparer::flattenFolds(const Node &x, const Node &y, ContextId context) {
  auto product = [&](ArrayRef<PolyId> extents) {
    PolyId n = index.constant(1);
    for (PolyId extent : extents)
      n = index.mul(n, extent);
    return n;
  };
  PolyId count = product(x.extents);
  if (count != product(y.extents) || index.isZero(count))
    return std::nullopt;
  ContextId inner = index.withExtents(context, count);
  // A position of its own: no axis of either side has this name.
  PolyId at = index.axis(x.level, 1000, count);
  auto flatten = [&](const Node &fold) {
    Substitution substitution(index, exprs, inner);
    PolyId stride = index.constant(1);
    for (size_t j = fold.extents.size(); j-- > 0;) {
      PolyId extent = fold.extents[j],
             digit = index.floorDiv(at, stride, inner);
      substitution.replace(index.axis(fold.level, j, extent),
                           j == 0 ? digit : index.mod(digit, extent, inner));
      stride = index.mul(stride, extent);
    }
    return substitution.run(fold.args[0]);
  };
  NodeId a = flatten(x), b = flatten(y);
  if (exprs.overflowed())
    return std::nullopt;
  return FlatFolds{a, b, count};
}

bool Comparer::equalFolds(NodeId a, NodeId b, ContextId context) {
  const Node &x = exprs.get(a), &y = exprs.get(b);
  if (x.payload != y.payload)
    return differ(
        Condition::Order,
        describeDifference("a fold differs", exprs.str(a), exprs.str(b)));
  if (x.init != y.init)
    return differ(Condition::Order,
                  describeDifference("a fold starts from another value",
                                     exprs.str(a), exprs.str(b)));
  if (x.extents != y.extents && x.level == y.level)
    if (auto flat = flattenFolds(x, y, context))
      return equal(flat->a, flat->b, index.withExtents(context, flat->extent));
  if (x.extents != y.extents || x.level != y.level)
    return differ(Condition::Order,
                  describeDifference("a fold goes over another domain",
                                     exprs.str(a), exprs.str(b)));
  return equal(x.args[0], y.args[0], index.withExtents(context, x.extents));
}
