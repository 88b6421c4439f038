// The independent checker of fusion: what graph-fuse-kernels made against the
// kernels it was made from (docs/check.md).
#ifndef DLC_CHECK_FUSION_H
#define DLC_CHECK_FUSION_H

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Dialect/Graph/IR/Laws.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"

namespace llvm::json {
class Value;
} // namespace llvm::json

namespace dlc::check {

/// The conditions of certified fusion, by the names of the theory.
enum class Condition {
#define DLC_CONDITION(identifier, name, theorem) identifier,
#include "dlc/Dialect/Graph/IR/Conditions.def"
};
/// "C-SSA", ...
llvm::StringRef stringifyCondition(Condition condition);

/// Which condition does not hold (or could not be shown), and why.
struct Refusal {
  Condition condition;
  std::string reason;
  /// A point at which the two sides differ, "d0 = 3, k1.0 = 0", where one was
  /// found: d are the result's axes, k<level>.<j> those of folds, s dim
  /// symbols.
  std::string witness;

  std::string str() const;
};

/// The verdict on one fused kernel.
struct KernelVerdict {
  std::string kernel;
  std::string certificate;
  unsigned members = 0;
  /// What was shown; all that apply when the kernel is accepted.
  std::vector<Condition> conditions;
  std::optional<Refusal> refusal;

  bool accepted() const { return !refusal; }
};

struct FusionVerdict {
  std::vector<KernelVerdict> kernels;
  /// What is wrong with the graph as a whole, whichever kernel is to blame; a
  /// group of its own is to blame when `blamed` names one.
  std::optional<Refusal> graph;
  std::string blamed;
  /// Claims that the normal form did not settle.
  unsigned exhaustive = 0, solver = 0;

  bool accepted() const;
  /// The names of kernels whose groups must be split.
  std::vector<std::string> refused() const;
  void print(llvm::raw_ostream &os) const;
  llvm::json::Value toJSON() const;
};

/// Shows that `fused` computes what `original` does. `original` has kernels of
/// one operator each, `fused` is a clone of it in which calls were replaced by
/// calls of fused kernels, with a graph.certificate for each of those. Refuses
/// what it cannot show. Both modules belong to one context.
FusionVerdict
checkFusion(mlir::ModuleOp original, mlir::ModuleOp fused,
            graph::NumericsMode mode = graph::NumericsMode::reassoc);

/// Each fused kernel against its certificate alone: that the certificates
/// describe the program is not looked at.
FusionVerdict
checkCertificates(mlir::ModuleOp fused,
                  graph::NumericsMode mode = graph::NumericsMode::reassoc);

/// The groups in the input format of the extracted Coq checker
/// (docs/proofs/README.md); "" when the certificates do not describe `fused`.
std::string dumpGroups(mlir::ModuleOp original, mlir::ModuleOp fused);

/// One output of two functions.
struct OutputVerdict {
  unsigned output;
  std::optional<Refusal> refusal;
};

/// Shows that two functions of kernels compute the same outputs, as expressions
/// of their inputs; a verdict for each output. Fails (with a diagnostic at
/// `b`) when their signatures differ.
llvm::FailureOr<std::vector<OutputVerdict>>
checkEquivalence(mlir::func::FuncOp a, mlir::func::FuncOp b);

} // namespace dlc::check

#endif // DLC_CHECK_FUSION_H
