// Profitability: what is worth being one kernel. A policy answers for whole
// bodies, so that another one can take its place; the default asks CostQuery
// for times and knows which nests run a body well.
#ifndef DLC_FUSION_PROFITABILITY_H
#define DLC_FUSION_PROFITABILITY_H

#include "dlc/Dialect/Graph/IR/Laws.h"
#include "dlc/Fusion/Legality.h"
#include "dlc/Schedule/CostQuery.h"

namespace dlc::fusion {

/// What a policy is asked about: a body and what of it leaves the kernel.
struct Candidate {
  const Body &body;
  llvm::ArrayRef<TensorId> outputs;
  const TensorTable &tensors;
  llvm::ArrayRef<int64_t> symbols; ///< typical sizes
  unsigned members = 1;

  bool isOutput(TensorId id) const { return llvm::is_contained(outputs, id); }
};

class Policy {
public:
  virtual ~Policy() = default;
  /// Before groups are formed: may clone cheap calls.
  virtual void prepare(mlir::func::FuncOp main) const {}
  /// Whether `producer` is worth computing where it is read. `readsFold`: it
  /// loads a fold of the same kernel that is no output.
  virtual bool inlines(const Stage &producer,
                       llvm::ArrayRef<StageRef> consumers, bool isOutput,
                       bool readsFold,
                       llvm::ArrayRef<int64_t> symbols) const = 0;
  /// Why so many operators should not be one kernel: asked first, it takes no
  /// time.
  virtual std::optional<Refusal> checkMembers(size_t) const {
    return std::nullopt;
  }
  /// Seconds of one run, the cost of starting it included.
  virtual double getSeconds(const Candidate &candidate) const = 0;
  /// Why `merged` should not be one kernel although it may; `first` and
  /// `second` are what it is made of.
  virtual std::optional<Refusal> check(const Candidate &merged,
                                       const Candidate &first,
                                       const Candidate &second) const = 0;
  /// Whether a kernel that is an attention has a nest of its own; `reason` says
  /// why not.
  virtual bool takesAttention(graph::KernelOp kernel,
                              std::string &reason) const = 0;
  /// The laws by which an attention is to be computed whose numbers are of
  /// `narrow` (null: of no 16-bit float type).
  virtual std::vector<graph::Law> attentionLaws(mlir::Type narrow) const = 0;
  /// The same of other kernels that sum products.
  virtual std::vector<graph::Law> productLaws(mlir::Type narrow) const = 0;
};

/// What today's nests run well, on one target.
class NestPolicy final : public Policy {
public:
  struct Limits {
    unsigned members = 64;
    unsigned nodes = 160; ///< of one stage
    unsigned stages = 32;
    unsigned operands = 40;    ///< results included
    bool allowsInside = false; ///< code generation takes graph.inside
    /// The nests compute a stage that is loaded once where it is loaded,
    /// however often that is.
    bool nestsInlineSingleLoads = true;
    /// Products take narrow numbers as they lie, whatever the target: those of
    /// a GPU. (An x86 CPU's do.)
    bool multipliesNarrow = false;
    /// Attention reads keys and values in pages; else they are gathered before.
    bool readsPages = true;
    /// Sums may be computed otherwise than they are written, and numbers inside
    /// a kernel with more precision than the model asks for.
    bool reassociates = false;
    /// The layout pass puts the channels of images last that convolutions read.
    bool relaysImages = false;
    double startSeconds = 4e-8; ///< of a kernel, measured on one core
    /// Form attentions that no nest takes: for tests of what is found.
    bool formsEveryAttention = false;
  };
  NestPolicy(const TargetDesc &target, const CostQuery &cost, Limits limits)
      : target(target), cost(cost), limits(limits) {}

  void prepare(mlir::func::FuncOp main) const override;
  bool inlines(const Stage &producer, llvm::ArrayRef<StageRef> consumers,
               bool isOutput, bool readsFold,
               llvm::ArrayRef<int64_t> symbols) const override;
  std::optional<Refusal> checkMembers(size_t members) const override;
  double getSeconds(const Candidate &candidate) const override;
  std::optional<Refusal> check(const Candidate &merged, const Candidate &first,
                               const Candidate &second) const override;
  bool takesAttention(graph::KernelOp kernel,
                      std::string &reason) const override;
  std::vector<graph::Law> attentionLaws(mlir::Type narrow) const override;
  std::vector<graph::Law> productLaws(mlir::Type narrow) const override;

private:
  std::optional<Refusal> checkSize(const Candidate &merged) const;
  std::optional<Refusal> checkContraction(const Candidate &merged,
                                          const Candidate &first,
                                          const Candidate &second,
                                          bool &isTaken) const;
  std::optional<Refusal> checkRows(const Candidate &merged,
                                   const Candidate &first,
                                   const Candidate &second) const;
  std::optional<Refusal> checkLayout(const Candidate &merged,
                                     const Candidate &first,
                                     const Candidate &second) const;

  graph::Law excess(mlir::Type narrow) const;
  bool repeatsWork(const Candidate &candidate, const StageRef &stage) const;
  bool multipliesNarrow() const {
    return target.arch == "x86" || limits.multipliesNarrow;
  }

  const TargetDesc &target;
  const CostQuery &cost;
  Limits limits;
};

/// Clones calls that widen narrow numbers for several products: each gets its
/// own.
void splitWidenings(mlir::func::FuncOp main);

/// Whether only products, or what subtracts zero points before them, read
/// `value`.
bool belongsToProducts(mlir::Value value);

/// A sum of products of which each factor has axes of its own (or one has, when
/// the other is a vector): the nest for it takes no other form.
bool isContraction(const Stage &stage);

} // namespace dlc::fusion

#endif // DLC_FUSION_PROFITABILITY_H
