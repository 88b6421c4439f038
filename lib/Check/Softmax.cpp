// hom(softmax): found in the kernel's folds by their inlined expressions, in
// which every fold is a tensor of its own. Shares nothing with what classifies
// kernels for code generation.
#include "Softmax.h"

#include "Compare.h"
#include "Values.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

namespace {
class SoftmaxForm {
public:
  explicit SoftmaxForm(KernelOp kernel)
      : kernel(kernel), inliner(index, exprs), prover(index, budget) {}

  Admission check() {
    if (!kernel.getOpaque() && readFolds() && checkSums())
      if (auto why = inliner.failure())
        refuse(*why);
    return reason.empty() ? Admission{}
                          : Admission{false, "hom(softmax): kernel '" +
                                                 kernel.getSymName().str() +
                                                 "': " + reason};
  }

private:
  bool refuse(const Twine &why) {
    if (reason.empty())
      reason = why.str();
    return false;
  }
  bool readFolds();
  bool checkSums();
  bool checkSum(unsigned fold);
  bool checkExponential(NodeId exponential, ArrayRef<PolyId> keys,
                        ContextId context);
  NodeId bodyAt(unsigned fold, ArrayRef<PolyId> at, ArrayRef<PolyId> keys,
                ContextId context);
  /// Calls `visit` for every node below.
  void walk(NodeId node, llvm::function_ref<void(const Node &)> visit);
  bool varies(NodeId node);
  bool loads(NodeId node, unsigned fold);
  bool isRowFunction(NodeId node, unsigned own);
  std::optional<NodeId> argument(NodeId node, ScalarFn fn, unsigned i) {
    const Node &n = exprs.get(node);
    if (n.kind != Node::Apply || n.fn() != fn)
      return std::nullopt;
    return n.args[i];
  }
  bool areEqual(NodeId a, NodeId b, ContextId context) {
    return a == b || Comparer(index, exprs, prover).equal(a, b, context);
  }

  KernelOp kernel;
  IndexArena index;
  ExprArena exprs{index};
  Inliner inliner;
  ProofBudget budget;
  Prover prover;
  SmallVector<PolyId> symbols;
  uint32_t environment = 0;
  unsigned numOperands = 0;
  SmallVector<StageOp> folds; ///< fold i is the leaf numOperands + i
  SmallVector<SmallVector<PolyId>> extents;
  std::optional<unsigned> maximum;
  SmallVector<unsigned> sums; ///< that read the maximum
  std::string reason;
};
} // namespace

bool SoftmaxForm::readFolds() {
  symbols = ownSymbols(index, kernel.getNumSymbols());
  SmallVector<TensorId> operands;
  for (Value arg : kernel.getBody().getArguments())
    operands.push_back(inliner.leaf(numOperands++, arg.getType(), symbols));
  inliner.call(kernel, operands, symbols, &environment);
  for (StageOp stage : kernel.getStages()) {
    if (stage.getFoldKind() == FoldKind::none)
      continue;
    unsigned number = folds.size();
    if (stage.getFoldKind() == FoldKind::max) {
      if (maximum)
        return refuse("two maxima");
      if (stage.getInit())
        return refuse("the maximum starts from a number of its own");
      maximum = number;
    }
    folds.push_back(stage);
    extents.push_back(inliner.sizes(stage.getReduceDims(), symbols));
    inliner.getEnvironment(environment).tensors[stage.getResult()] =
        inliner.leaf(numOperands + number, stage.getType(), symbols);
  }
  return maximum ? true : refuse("no maximum");
}

// The body of a fold at a row and at keys.
NodeId SoftmaxForm::bodyAt(unsigned fold, ArrayRef<PolyId> at,
                           ArrayRef<PolyId> keys, ContextId context) {
  SmallVector<PolyId> dims(at);
  llvm::append_range(dims, keys);
  return inliner.evaluate(folds[fold].getYielded(),
                          inliner.frame(environment, folds[fold], dims, 1),
                          context);
}

void SoftmaxForm::walk(NodeId node,
                       llvm::function_ref<void(const Node &)> visit) {
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

// Whether a value depends on the coordinates of the fold (axes of level 1), or
// may.
bool SoftmaxForm::varies(NodeId node) {
  bool found = false;
  auto scan = [&](PolyId poly) {
    std::vector<AtomId> atoms;
    index.collectAtoms(poly, atoms);
    for (AtomId atom : atoms) {
      const Atom &a = index.getAtom(atom);
      found |= a.kind == Atom::Data || (a.kind == Atom::Axis && a.a > 0);
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

bool SoftmaxForm::loads(NodeId node, unsigned fold) {
  bool found = false;
  walk(node, [&](const Node &n) {
    found |= n.kind == Node::Load && n.payload == numOperands + fold;
  });
  return found;
}

bool SoftmaxForm::checkSums() {
  for (unsigned i = 0; i < folds.size(); ++i) {
    if (i == *maximum)
      continue;
    SmallVector<PolyId> at;
    for (auto [axis, size] :
         llvm::enumerate(inliner.sizes(folds[i].getDomainDims(), symbols)))
      at.push_back(index.axis(0, axis, size));
    SmallVector<PolyId> keys;
    for (auto [axis, size] : llvm::enumerate(extents[i]))
      keys.push_back(index.axis(1, axis, size));
    if (loads(bodyAt(i, at, keys, index.emptyContext()), *maximum))
      sums.push_back(i);
  }
  if (sums.empty())
    return refuse("no sum reads the maximum");
  return llvm::all_of(sums, [&](unsigned fold) { return checkSum(fold); });
}

// Of the row only, made of the maximum, of this kernel's sums of exponentials
// (but not of `own`) and of operands.
bool SoftmaxForm::isRowFunction(NodeId node, unsigned own) {
  if (varies(node))
    return false;
  bool isClean = true;
  walk(node, [&](const Node &n) {
    if (n.kind != Node::Load || n.payload < numOperands)
      return;
    unsigned fold = n.payload - numOperands;
    isClean &=
        fold == *maximum || (fold != own && llvm::is_contained(sums, fold));
  });
  return isClean;
}

// exp(t - r): t is what the maximum is of, at the row where r reads it.
bool SoftmaxForm::checkExponential(NodeId exponential, ArrayRef<PolyId> keys,
                                   ContextId context) {
  auto power = argument(exponential, ScalarFn::exp, 0);
  auto score = power ? argument(*power, ScalarFn::sub, 0) : std::nullopt;
  if (!score)
    return refuse("a sum that reads the maximum is not of exp(t - maximum)");
  NodeId reference = *argument(*power, ScalarFn::sub, 1);
  if (varies(reference))
    return refuse("what is subtracted varies along the folded axes");
  std::optional<SmallVector<PolyId>> row;
  bool isOne = true;
  walk(reference, [&](const Node &n) {
    if (n.kind != Node::Load || n.payload < numOperands)
      return;
    SmallVector<PolyId> at(n.args.begin(), n.args.end());
    isOne &= n.payload == numOperands + *maximum && (!row || *row == at);
    row = at;
  });
  if (!row || !isOne)
    return refuse("what is subtracted is not one row's maximum");
  NodeId maximised = bodyAt(*maximum, *row, keys, context);
  if (!areEqual(*score, maximised, context))
    return refuse("the maximum is of another tensor, or of other places");
  return true;
}

bool SoftmaxForm::checkSum(unsigned fold) {
  StageOp stage = folds[fold];
  if (stage.getFoldKind() != FoldKind::add || stage.getInit() ||
      !isa<FloatType>(stage.getElementType()))
    return refuse("a fold that reads the maximum is no sum of floats");
  if (extents[fold] != extents[*maximum])
    return refuse("the folds run over other axes");
  SmallVector<PolyId> at, keys,
      sizes = inliner.sizes(stage.getDomainDims(), symbols);
  for (auto [axis, size] : llvm::enumerate(sizes))
    at.push_back(index.axis(0, axis, size));
  for (auto [axis, size] : llvm::enumerate(extents[fold]))
    keys.push_back(index.axis(1, axis, size));
  ContextId context = index.withExtents(
      index.withExtents(index.emptyContext(), sizes), extents[fold]);
  NodeId weight = bodyAt(fold, at, keys, context);
  // Off with the factor that is summed with it.
  if (auto a = argument(weight, ScalarFn::mul, 0)) {
    NodeId b = *argument(weight, ScalarFn::mul, 1);
    bool inA = loads(*a, *maximum), inB = loads(b, *maximum);
    if (inA != inB) {
      weight = inA ? *a : b;
      walk(inA ? b : *a, [&](const Node &n) {
        if (n.kind == Node::Load && n.payload >= numOperands)
          refuse("what is weighted is a fold of this kernel");
      });
      if (!reason.empty())
        return false;
    }
  }
  // And with what is the row's: it may stand behind the sum as well.
  SmallVector<NodeId> rows;
  while (true) {
    const Node &n = exprs.get(weight);
    if (n.kind == Node::Cast) {
      Type from = exprs.get(n.args[0]).type;
      if (!isa<FloatType>(n.type) || !isa<FloatType>(from) ||
          n.type.getIntOrFloatBitWidth() < from.getIntOrFloatBitWidth())
        return refuse("the weights are rounded before they are summed "
                      "(C-ROUND)");
      weight = n.args[0];
    } else if (n.kind == Node::Apply && n.fn() == ScalarFn::div) {
      rows.push_back(n.args[1]);
      weight = n.args[0];
    } else if (n.kind == Node::Apply && n.fn() == ScalarFn::mul) {
      bool first = isRowFunction(n.args[0], fold);
      rows.push_back(n.args[first ? 0 : 1]);
      weight = n.args[first ? 1 : 0];
    } else if (n.kind == Node::Apply && n.fn() == ScalarFn::select) {
      // A row is kept or is 0; isnan of a weight tells of its row.
      auto isZero = [&](NodeId id) {
        const Node &zero = exprs.get(id);
        auto number = zero.kind == Node::Literal
                          ? dyn_cast<FloatAttr>(Attribute::getFromOpaquePointer(
                                reinterpret_cast<void *>(zero.payload)))
                          : FloatAttr();
        return number && number.getValue().isPosZero();
      };
      unsigned zero = isZero(n.args[1]) ? 1 : 2;
      if (!isZero(n.args[zero]))
        return refuse("weights are replaced by other than 0");
      NodeId kept = n.args[3 - zero];
      auto tested = argument(n.args[0], ScalarFn::isnan, 0);
      if (!(zero == 1 && tested && *tested == kept))
        rows.push_back(n.args[0]);
      weight = kept;
    } else {
      break;
    }
  }
  if (!checkExponential(weight, keys, context))
    return false;
  for (NodeId row : rows) {
    if (!isRowFunction(row, fold))
      return refuse("the weights are changed along the folded axes");
    // A divisor is the sum of this row's exponentials.
    bool isOwn = true;
    walk(row, [&](const Node &n) {
      if (n.kind != Node::Load || n.payload < numOperands + 0u)
        return;
      unsigned other = n.payload - numOperands;
      if (other == *maximum)
        return;
      SmallVector<PolyId> place(n.args.begin(), n.args.end());
      isOwn &= areEqual(bodyAt(other, place, keys, context), weight, context);
    });
    if (!isOwn)
      return refuse("the divisor is the sum of other exponentials");
  }
  return true;
}

Admission check::admitSoftmax(KernelOp kernel, NumericsMode mode) {
  if (mode == NumericsMode::strict)
    return {false, "hom(softmax): -fp=strict keeps the order of folds"};
  return SoftmaxForm(kernel).check();
}
