#include "Substitute.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;

void Substitution::replace(PolyId axis, PolyId replacement) {
  const Poly &poly = index.get(axis);
  if (poly.size() == 1 && poly[0].atoms.size() == 1)
    replacements[poly[0].atoms[0]] = replacement;
}

PolyId Substitution::runIndex(PolyId poly) {
  if (auto it = polys.find(poly); it != polys.end())
    return it->second;
  PolyId sum = 0;
  for (const Term &term : Poly(index.get(poly))) {
    PolyId product = index.constant(term.coefficient);
    for (AtomId x : term.atoms) {
      const Atom atom = index.getAtom(x);
      PolyId factor = 0;
      if (auto it = replacements.find(x); it != replacements.end())
        factor = it->second;
      else if (atom.kind == Atom::Axis)
        factor = index.axis(atom.a, atom.b, atom.size);
      else if (atom.kind == Atom::Symbol)
        factor = index.symbol(atom.a);
      else if (atom.kind == Atom::Data)
        factor = index.data(run(atom.a), atom.size);
      else
        factor = index.floorDiv(runIndex(atom.a), runIndex(atom.b), context);
      product = index.mul(product, factor);
    }
    sum = index.add(sum, product);
  }
  return polys[poly] = sum;
}

Guard Substitution::runGuard(const Guard &guard) {
  Guard result;
  for (const Constraint &c : guard)
    result.push_back(index.normalize({runIndex(c.poly), c.isEquality}));
  llvm::sort(result);
  result.erase(llvm::unique(result), result.end());
  return result;
}

NodeId Substitution::run(NodeId id) {
  if (auto it = nodes.find(id); it != nodes.end())
    return it->second;
  Node node = exprs.get(id);
  NodeId result = id;
  switch (node.kind) {
  case Node::Literal:
    break;
  case Node::Load:
    for (uint32_t &p : node.args)
      p = runIndex(p);
    result = exprs.intern(std::move(node));
    break;
  case Node::Coord:
    result = exprs.coord(runIndex(node.args[0]), node.type.getContext());
    break;
  case Node::Inside:
    result = exprs.inside(runGuard(exprs.getGuard(node.args[0])),
                          node.type.getContext());
    break;
  case Node::Choose: {
    Guard guard = runGuard(exprs.getGuard(node.args[0]));
    NodeId a = run(node.args[1]), b = run(node.args[2]);
    result = exprs.choose(guard, a, b);
    break;
  }
  case Node::Apply: {
    SmallVector<NodeId> args =
        llvm::map_to_vector(node.args, [&](uint32_t arg) { return run(arg); });
    result = exprs.apply(node.fn(), args, node.type);
    break;
  }
  case Node::Cast:
  case Node::Fold:
    node.args[0] = run(node.args[0]);
    result = exprs.intern(std::move(node));
    break;
  }
  return nodes[id] = result;
}
