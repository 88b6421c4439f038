// Fusion: groups of calls become calls of one kernel each, with a certificate
// of what it computes. What comes out is not trusted: Check re-proves it.
#ifndef DLC_FUSION_FUSION_H
#define DLC_FUSION_FUSION_H

#include "dlc/Fusion/Profitability.h"

#include <map>
#include <string>

namespace dlc::fusion {

/// The size that each dim symbol of `main` is taken to have where nothing is
/// known: the given ones by name; else the first axis of an input 1, others
/// 128.
llvm::SmallVector<int64_t>
typicalSizesOf(mlir::func::FuncOp main,
               const std::map<std::string, int64_t> &given);

struct FusionOptions {
  /// Typical sizes of dim symbols by name, for predicted times only
  /// (typicalSizesOf).
  std::map<std::string, int64_t> typicalSizes;
  /// Collect a remark for each pair of groups that stayed apart.
  bool explains = false;
  /// Count the edges that could be fused, each tried on its own.
  bool countsEdges = false;
  /// Why no attention is to be formed; empty: they are.
  std::string noAttention;
};

/// A softmax that stands between two sums of products, or nearly so.
struct AttentionRemark {
  /// It has the form (Schedule/AttentionSpec.h): `text` says of which sizes.
  /// Else `text` is the first condition that fails, "name: words".
  bool isFound = false;
  /// It became one kernel; where it is found and did not, `reason` says why.
  bool isFormed = false;
  std::string text, reason;
  std::vector<std::string> members; ///< model nodes, or kernels without origin
  unsigned first = 0;               ///< node of the graph, while it is formed
};

struct FusedGroup {
  std::string kernel;               ///< the fused kernel
  std::vector<std::string> members; ///< model nodes, or kernels without origin
  bool isAttention = false;
  std::vector<std::string> copies; ///< of operators that others compute too
};

/// Two neighbouring groups that stayed apart.
struct RefusedPair {
  std::string producer, consumer;
  Refusal refusal;
};

struct FusionReport {
  unsigned calls = 0;   ///< before
  unsigned kernels = 0; ///< calls after
  std::vector<FusedGroup> groups;
  std::vector<RefusedPair> refused; ///< with explains
  std::vector<AttentionRemark> attentions;
  /// With countsEdges: reads of one call's result by another that legality and
  /// policy let be one kernel, the two by themselves; and those inside groups.
  unsigned fusibleEdges = 0, fusedEdges = 0;
  /// Calls that are gone because every reader computes them itself.
  unsigned dropped = 0;
  /// The fusible edges between two groups, and why those stayed apart.
  std::vector<RefusedPair> missed;
  double groupingSeconds = 0; ///< CPU time of forming the groups
  void countKernels() { kernels = calls - dropped - members() + groups.size(); }
  unsigned numAttentions() const {
    return llvm::count_if(
        groups, [](const FusedGroup &group) { return group.isAttention; });
  }
  unsigned members() const {
    unsigned count = 0;
    for (const FusedGroup &group : groups)
      count += group.members.size();
    return count;
  }
};

/// Fuses the calls of `main` and of the branches and loops in it, block by
/// block, in place: fused kernels and certificates are added to the module, the
/// kernels of members stay in it.
FusionReport fuseKernels(mlir::ModuleOp module, const Policy &policy,
                         const FusionOptions &options);

/// A line for each group and each refused pair, as -explain=fusion prints them.
void printReport(const FusionReport &report, llvm::raw_ostream &os);

/// A line for each attention and near miss, as -explain=attention prints them.
void printAttentions(const FusionReport &report, llvm::raw_ostream &os);

/// Puts the members of a certificate back in the place of the calls of its
/// kernel, and erases both.
void splitGroup(graph::CertificateOp certificate);

/// Erases all certificates and the kernels that no call in `main` needs.
void dropCertificates(mlir::ModuleOp module);

} // namespace dlc::fusion

#endif // DLC_FUSION_FUSION_H
