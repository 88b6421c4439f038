// The calls of a function as a graph, for grouping.
#ifndef DLC_LIB_FUSION_FUSIONGRAPH_H
#define DLC_LIB_FUSION_FUSIONGRAPH_H

#include "dlc/Fusion/Fusion.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/StringMap.h"

namespace dlc::fusion {

/// An operation of main that is no view and no constant.
struct GraphNode {
  mlir::Operation *op;
  graph::KernelOp kernel;   ///< of a call
  std::optional<Body> body; ///< of a call that may be fused
  std::vector<unsigned> successors, predecessors; ///< without repetition
};

/// What an operation of main reads: its operands, and what its regions read of
/// main.
llvm::SmallVector<mlir::Value> getReadValues(mlir::Operation *op);

/// Who reads a tensor, through reshapes.
struct TensorUse {
  std::vector<unsigned> readers; ///< nodes
  bool escapes = false;          ///< also read by what no group absorbs
};

/// The operators of one block: @main's, or that of a branch or a loop in it,
/// which reads what is defined outside as it reads its arguments.
class FusionGraph {
public:
  FusionGraph(mlir::func::FuncOp main, mlir::Block &block,
              const FusionOptions &options);

  mlir::func::FuncOp main;
  mlir::Block &block;
  TensorTable tensors;
  std::vector<GraphNode> nodes;            ///< in the block's order
  llvm::SmallVector<int64_t> typicalSizes; ///< by symbol
  /// Node -> groups that compute it too, and so read what it reads.
  llvm::DenseMap<unsigned, llvm::SmallVector<unsigned, 2>> clonedIn;

  /// Uses of a node's result.
  const TensorUse &usesOf(TensorId tensor) const {
    return uses.find(tensor)->second;
  }
  /// "conv1 + relu1", from the origins of calls.
  std::string describe(llvm::ArrayRef<unsigned> members) const;
  std::vector<std::string> namesOf(llvm::ArrayRef<unsigned> members) const;

private:
  void connect();
  void collectUses(mlir::Value value, TensorUse &use);

  llvm::DenseMap<mlir::Operation *, unsigned> numbers;
  llvm::DenseMap<TensorId, TensorUse> uses;
};

/// A set of nodes that is to be one kernel.
struct Group {
  std::vector<unsigned> members; ///< sorted
  /// Nodes that are computed here and elsewhere too; sorted.
  std::vector<unsigned> clones;
  std::optional<Body> body;
  std::vector<TensorId> outputs; ///< in the members' order
  /// By which the body differs from the members'.
  std::vector<graph::Law> laws;
  double seconds = 0;
  unsigned version = 0;
  unsigned slot = 0; ///< place in the topological order
  bool alive = true;
  bool isAttention = false; ///< formed at once; takes no more members
  bool isUnread = false;    ///< every reader computes it itself
};

/// Groups in an order in which they can run.
struct Grouping {
  std::vector<AttentionRemark> attentions;
  unsigned fusibleEdges = 0, fusedEdges = 0; ///< with countsEdges
  double seconds = 0; ///< of CPU time, of forming the groups
  std::vector<Group> groups;
  std::vector<unsigned> order; ///< alive groups
  std::vector<RefusedPair> refused;
  std::vector<RefusedPair> missed; ///< with countsEdges
};

Grouping formGroups(FusionGraph &graph, const Policy &policy,
                    const FusionOptions &options);

/// Computes cheap operators in the groups that read them, where that pays; the
/// last step of grouping.
void cloneProducers(FusionGraph &graph, const Policy &policy,
                    std::vector<Group> &groups,
                    llvm::ArrayRef<unsigned> groupOf);

/// Leaves out roundings to 16 bits inside kernels that sum products, by the
/// laws of the policy; a kernel keeps its nest, or its roundings.
void leaveOutRoundings(FusionGraph &graph, const Policy &policy,
                       Grouping &grouping);

/// The attentions of the function: groups that are to be formed before others,
/// and a remark for each, for near misses too.
struct AttentionSearch {
  std::vector<Group> groups;
  std::vector<AttentionRemark> remarks;
};
AttentionSearch findAttentions(FusionGraph &graph, const Policy &policy);

/// Members and clones, sorted.
std::vector<unsigned> getNodes(const Group &group);

/// What the group's kernel is called with.
std::vector<TensorId> getOperands(FusionGraph &graph, const Group &group);

/// The group's kernel, over the function's symbols, at the module's end.
graph::KernelOp emitKernel(FusionGraph &graph, const Group &group,
                           mlir::Location loc);

/// Tensors of `body` that others than `members` read.
std::vector<TensorId> getOutputs(const FusionGraph &graph, const Body &body,
                                 llvm::ArrayRef<unsigned> members);

/// Fused kernels by the text of kernel and certificate.
using KnownKernels = llvm::StringMap<graph::KernelOp>;

/// Rewrites the block: a kernel, a certificate and a call for each group of
/// several members.
void emitGroups(FusionGraph &graph, const Grouping &grouping,
                KnownKernels &known, FusionReport &report);

} // namespace dlc::fusion

#endif // DLC_LIB_FUSION_FUSIONGRAPH_H
