// Expressions with other coordinates in the place of axes.
#ifndef DLC_LIB_CHECK_SUBSTITUTE_H
#define DLC_LIB_CHECK_SUBSTITUTE_H

#include "Expr.h"

namespace dlc::check {

class Substitution {
public:
  /// `context`: what holds where the result stands.
  Substitution(IndexArena &index, ExprArena &exprs, ContextId context)
      : index(index), exprs(exprs), context(context) {}

  /// The axis that `axis` is alone (or a constant, which is left) becomes
  /// `replacement`.
  void replace(PolyId axis, PolyId replacement);
  NodeId run(NodeId node);

private:
  PolyId runIndex(PolyId poly);
  Guard runGuard(const Guard &guard);

  IndexArena &index;
  ExprArena &exprs;
  ContextId context;
  llvm::DenseMap<AtomId, PolyId> replacements;
  llvm::DenseMap<NodeId, NodeId> nodes;
  llvm::DenseMap<PolyId, PolyId> polys;
};

} // namespace dlc::check

#endif // DLC_LIB_CHECK_SUBSTITUTE_H
