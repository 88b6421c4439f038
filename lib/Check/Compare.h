// Equality of two expressions at every point.
#ifndef DLC_LIB_CHECK_COMPARE_H
#define DLC_LIB_CHECK_COMPARE_H

#include "Inline.h"
#include "Prove.h"
#include "dlc/Check/Fusion.h"

namespace dlc::check {

/// Walks both expressions together. What differs in form is settled by the
/// prover; guards that are nested differently by looking at each case.
class Comparer {
public:
  Comparer(IndexArena &index, ExprArena &exprs, Prover &prover)
      : index(index), exprs(exprs), prover(prover) {}

  /// True when `a` (what the members say) and `b` (the fused kernel) are equal
  /// wherever `context` holds; else getRefusal() says what differs.
  bool equal(NodeId a, NodeId b, ContextId context);
  const Refusal &getRefusal() const { return *refusal; }

private:
  bool equalHeads(NodeId a, NodeId b, ContextId context);
  bool equalCases(NodeId a, NodeId b, const Guard &guard, ContextId context);
  bool equalLoads(NodeId a, NodeId b, ContextId context);
  bool equalApplications(NodeId a, NodeId b, ContextId context);
  bool equalFolds(NodeId a, NodeId b, ContextId context);
  struct FlatFolds {
    NodeId a, b; // bodies over one axis
    PolyId extent;
  };
  std::optional<FlatFolds> flattenFolds(const Node &x, const Node &y,
                                        ContextId context);
  void unifyData(llvm::ArrayRef<PolyId> a, llvm::MutableArrayRef<PolyId> b,
                 ContextId context);
  bool equalIndex(PolyId a, PolyId b, ContextId context, Witness &witness);
  bool equalGuards(const Guard &a, const Guard &b, ContextId context,
                   Witness &witness);
  NodeId resolve(NodeId node, ContextId context);
  bool isInfeasible(ContextId context);
  bool differ(Condition condition, std::string reason,
              const Witness &witness = {});

  IndexArena &index;
  ExprArena &exprs;
  Prover &prover;
  llvm::DenseMap<std::pair<uint64_t, uint32_t>, bool> known;
  std::optional<Refusal> refusal;
  unsigned steps = 0;
};

} // namespace dlc::check

#endif // DLC_LIB_CHECK_COMPARE_H
