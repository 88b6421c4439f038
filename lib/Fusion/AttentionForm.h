// One attention: composing its members and asking what the kernel is.
#ifndef DLC_LIB_FUSION_ATTENTIONFORM_H
#define DLC_LIB_FUSION_ATTENTIONFORM_H

#include "FusionGraph.h"

namespace dlc::fusion {

/// Members whose composed kernel is an attention.
struct AttentionForm {
  Group group;
  std::string text; ///< AttentionSpec::str
  /// What the factors and the masks are read from, before views.
  std::vector<TensorId> query, key, value, others;
  unsigned cuts = 0;
  /// The policy takes it; else `reason`. Of one that is taken: why not with the
  /// pages of its keys and values.
  bool isTaken = false;
  std::string reason;
};

class AttentionFormer {
public:
  AttentionFormer(FusionGraph &graph, const Policy &policy);

  /// Composes `members` and `clones` (sorted). On failure `reason` names the
  /// condition.
  std::optional<AttentionForm> tryForm(std::vector<unsigned> members,
                                       std::vector<unsigned> clones,
                                       std::string &reason);
  /// Adds what the factors and masks are computed from where that pays.
  void grow(AttentionForm &form);

  /// Expressions alone, at indices that the data do not tell.
  static bool isFoldFree(const GraphNode &node);
  /// The one node that reads what `node` computes, if nothing else does.
  std::optional<unsigned> singleReader(unsigned node) const;

private:
  std::optional<Body> composeAll(llvm::ArrayRef<unsigned> members,
                                 llvm::ArrayRef<TensorId> outputs,
                                 std::string &reason);
  /// Nodes back from `tensors`, that only the group (or each other) read or,
  /// with `clones`, any.
  std::vector<unsigned> findPrologue(const AttentionForm &form,
                                     llvm::ArrayRef<TensorId> tensors,
                                     bool (*accepts)(const GraphNode &),
                                     bool clones = false) const;
  /// Nodes that compute `tensor` from integers of clearly fewer bytes (codes,
  /// and their scales), if that is what it is computed from.
  std::vector<unsigned> findUnpacking(const AttentionForm &form,
                                      TensorId tensor) const;
  /// Nodes that gather `tensor` by indices, and what shapes it afterwards.
  std::vector<unsigned> findPages(const AttentionForm &form,
                                  TensorId tensor) const;
  bool isReadOutside(unsigned node, const AttentionForm &form,
                     llvm::ArrayRef<unsigned> more) const;
  double pointsOf(TensorId tensor) const;
  bool isEpilogue(unsigned node, unsigned depth = 0) const;
  bool belongsBefore(unsigned node, TensorId result, double points) const;
  void tryGrow(AttentionForm &form, llvm::ArrayRef<unsigned> more,
               bool wantsCuts, std::string *refused = nullptr);

  FusionGraph &graph;
  const Policy &policy;
  llvm::DenseMap<TensorId, unsigned> producers;
};

} // namespace dlc::fusion

#endif // DLC_LIB_FUSION_ATTENTIONFORM_H
