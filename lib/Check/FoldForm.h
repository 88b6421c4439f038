// A kernel's folds by their inlined expressions, in which every fold is a
// tensor of its own: what the laws hom(..) are looked for in. Shares nothing
// with what classifies kernels for code generation.
#ifndef DLC_LIB_CHECK_FOLDFORM_H
#define DLC_LIB_CHECK_FOLDFORM_H

#include "Compare.h"
#include "Values.h"
#include "dlc/Check/Laws.h"

namespace dlc::check {

class FoldForm {
protected:
  FoldForm(graph::KernelOp kernel, llvm::StringRef law)
      : kernel(kernel), law(law), inliner(index, exprs), prover(index, budget) {
  }

  /// The answer of `find`, which has refused something where it is false.
  Admission conclude(llvm::function_ref<bool()> find);
  bool isRefused() const { return !reason.empty(); }
  bool refuse(const llvm::Twine &why) {
    if (reason.empty())
      reason = why.str();
    return false;
  }

  /// Makes a tensor of every fold that `isTensor`; others stay expressions.
  void readFolds(llvm::function_ref<bool(graph::StageOp)> isTensor);
  /// Any point of a fold, any step of it, and what holds there.
  struct Place {
    llvm::SmallVector<PolyId> at, keys;
    ContextId context;
  };
  Place placeOf(unsigned fold);
  /// The body of a fold at a row and at keys.
  NodeId bodyAt(unsigned fold, llvm::ArrayRef<PolyId> at,
                llvm::ArrayRef<PolyId> keys, ContextId context);

  /// Calls `visit` for every node below.
  void walk(NodeId node, llvm::function_ref<void(const Node &)> visit);
  /// Whether a value depends on the coordinates of the fold (axes of `level`,
  /// 1, or above), or may.
  bool varies(NodeId node, unsigned level = 1);
  bool loads(NodeId node, unsigned fold);
  /// The fold that a node loads an element of, if it does.
  std::optional<unsigned> loadedFold(const Node &node) const {
    return node.kind == Node::Load && node.payload >= numOperands
               ? std::optional<unsigned>(node.payload - numOperands)
               : std::nullopt;
  }
  /// Argument `i` of fn(..), if that is what the node is.
  std::optional<NodeId> argument(NodeId node, graph::ScalarFn fn, unsigned i) {
    const Node &n = exprs.get(node);
    if (n.kind != Node::Apply || n.fn() != fn)
      return std::nullopt;
    return n.args[i];
  }
  /// A literal of floats.
  std::optional<llvm::APFloat> number(NodeId node) const;
  bool areEqual(NodeId a, NodeId b, ContextId context) {
    return a == b || Comparer(index, exprs, prover).equal(a, b, context);
  }

  graph::KernelOp kernel;
  llvm::StringRef law;
  IndexArena index;
  ExprArena exprs{index};
  Inliner inliner;
  ProofBudget budget;
  Prover prover;
  llvm::SmallVector<PolyId> symbols;
  unsigned numOperands = 0;
  llvm::SmallVector<graph::StageOp> folds; ///< fold i: leaf numOperands + i
  llvm::SmallVector<llvm::SmallVector<PolyId>> extents;

private:
  uint32_t environment = 0;
  std::string reason;
};

} // namespace dlc::check

#endif // DLC_LIB_CHECK_FOLDFORM_H
