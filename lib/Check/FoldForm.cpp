// Folds as tensors of their own.
#include "FoldForm.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

Admission FoldForm::conclude(llvm::function_ref<bool()> find) {
  if (!kernel.getOpaque() && find())
    if (auto why = inliner.failure())
      refuse(*why);
  if (kernel.getOpaque())
    refuse("an operator without expression");
  if (reason.empty())
    return {};
  return {false,
          (law + ": kernel '" + kernel.getSymName() + "': " + reason).str()};
}

void FoldForm::readFolds(llvm::function_ref<bool(StageOp)> isTensor) {
  symbols = ownSymbols(index, kernel.getNumSymbols());
  SmallVector<TensorId> operands;
  for (Value arg : kernel.getBody().getArguments())
    operands.push_back(inliner.leaf(numOperands++, arg.getType(), symbols));
  inliner.call(kernel, operands, symbols, &environment);
  for (StageOp stage : kernel.getStages()) {
    if (stage.getFoldKind() == FoldKind::none || !isTensor(stage))
      continue;
    unsigned number = folds.size();
    folds.push_back(stage);
    extents.push_back(inliner.sizes(stage.getReduceDims(), symbols));
    inliner.getEnvironment(environment).tensors[stage.getResult()] =
        inliner.leaf(numOperands + number, stage.getType(), symbols);
  }
}

FoldForm::Place FoldForm::placeOf(unsigned fold) {
  Place place;
  SmallVector<PolyId> sizes =
      inliner.sizes(folds[fold].getDomainDims(), symbols);
  for (auto [axis, size] : llvm::enumerate(sizes))
    place.at.push_back(index.axis(0, axis, size));
  for (auto [axis, size] : llvm::enumerate(extents[fold]))
    place.keys.push_back(index.axis(1, axis, size));
  place.context = index.withExtents(
      index.withExtents(index.emptyContext(), sizes), extents[fold]);
  return place;
}

NodeId FoldForm::bodyAt(unsigned fold, ArrayRef<PolyId> at,
                        ArrayRef<PolyId> keys, ContextId context) {
  SmallVector<PolyId> dims(at);
  llvm::append_range(dims, keys);
  return inliner.evaluate(folds[fold].getYielded(),
                          inliner.frame(environment, folds[fold], dims, 1),
                          context);
}

void FoldForm::walk(NodeId node, llvm::function_ref<void(const Node &)> visit) {
  llvm::DenseSet<NodeId> seen;
  SmallVector<NodeId> work{node};
  while (!work.empty()) {
    NodeId id = work.pop_back_val();
    if (!seen.insert(id).second)
      continue;
    const Node &n = exprs.get(id);
    visit(n);
    switch (n.kind) {
    case Node::Apply:
    case Node::Cast:
    case Node::Fold:
      work.append(n.args.begin(), n.args.end());
      break;
    case Node::Choose:
      work.append(n.args.begin() + 1, n.args.end());
      break;
    default:
      break;
    }
  }
}

bool FoldForm::varies(NodeId node, unsigned level) {
  bool found = false;
  auto scan = [&](PolyId poly) {
    std::vector<AtomId> atoms;
    index.collectAtoms(poly, atoms);
    for (AtomId atom : atoms) {
      const Atom &a = index.getAtom(atom);
      found |= a.kind == Atom::Data || (a.kind == Atom::Axis && a.a >= level);
    }
  };
  auto scanGuard = [&](GuardId guard) {
    for (const Constraint &constraint : exprs.getGuard(guard))
      scan(constraint.poly);
  };
  walk(node, [&](const Node &n) {
    if (n.kind == Node::Load || n.kind == Node::Coord)
      for (PolyId poly : n.args)
        scan(poly);
    if (n.kind == Node::Inside || n.kind == Node::Choose)
      scanGuard(n.args[0]);
    found |= n.kind == Node::Fold;
  });
  return found;
}

bool FoldForm::loads(NodeId node, unsigned fold) {
  bool found = false;
  walk(node, [&](const Node &n) {
    found |= n.kind == Node::Load && n.payload == numOperands + fold;
  });
  return found;
}

std::optional<APFloat> FoldForm::number(NodeId node) const {
  const Node &n = exprs.get(node);
  if (n.kind != Node::Literal)
    return std::nullopt;
  auto value = dyn_cast<FloatAttr>(
      Attribute::getFromOpaquePointer(reinterpret_cast<void *>(n.payload)));
  return value ? std::optional(value.getValue()) : std::nullopt;
}
