// Laws: the named algebraic licences a schedule may use.
//
// A schedule that computes something other than the kernel's left folds in
// their written order says by which law; Check admits or refuses the triple
// (kernel, laws, numerics mode). The text form is `name(argument)`, as stored
// in tuning records: `split(add)`, `reorder(max)`.
#ifndef DLC_DIALECT_GRAPH_IR_LAWS_H
#define DLC_DIALECT_GRAPH_IR_LAWS_H

#include "dlc/Dialect/Graph/IR/Graph.h"

namespace dlc::graph {

/// split: chunks of a fold are folded apart and combined in order (C-SPLIT).
/// reorder: the combination is in any order too: lanes, threads (C-REORDER).
/// hom: the folds' state is another one that represents it (C-HOM, C-FINITE).
/// hom(softmax): a maximum and sums of exponentials less this maximum, in one
/// pass. hom(welford): a sum and the sum of squares about its mean, in one pass
/// over blocks whose counts, sums and squares about their own means are merged.
/// flush: in a sum of products of two bf16 numbers, factors, products and sums
/// that are subnormal (below 2^-126) count as zero, as dot-product instructions
/// have it (C-FLUSH).
/// round(softmax): where the form of hom(softmax) weighs values of a 16-bit
/// float type, weights are rounded to it once, as they are multiplied, in place
/// of where the kernel rounds them (C-ROUND). The division may follow the sum.
/// excess: a rounding to a 16-bit float type of a value in f32 that stays
/// inside the kernel is left out, and what is computed between is computed in
/// f32 (C-ROUND); of certificates only. excess(sums): factors of sums of
/// products stay as rounded as they are. excess(all): they do not.
/// distribute: products are distributed over sums (C-DISTRIBUTE).
/// distribute(winograd): a convolution by Winograd's minimal filtering, with
/// the matrices that the kernel's claim `graph.winograd` holds.
/// distribute(add): a factor that neighbouring terms of a sum share multiplies
/// their sum.
/// distribute(scale): numbers that the factors of a sum of products in f32 are
/// multiplied by multiply the sum; of certificates only.
enum class LawKind { split, reorder, hom, flush, round, distribute, excess };

/// The state that a law hom(..) speaks of.
enum class HomState { softmax, welford };

struct Law {
  LawKind kind;
  // What is folded; none for hom, round, distribute(winograd).
  FoldKind fold = FoldKind::none;
  HomState state = HomState::softmax; // for hom
  /// distribute: scale, else winograd. excess: all, else sums.
  bool second = false;

  static Law homSoftmax() { return {LawKind::hom, FoldKind::none}; }
  static Law homWelford() {
    return {LawKind::hom, FoldKind::none, HomState::welford};
  }
  static Law roundSoftmax() { return {LawKind::round, FoldKind::none}; }
  static Law winograd() { return {LawKind::distribute, FoldKind::none}; }
  static Law distributeAdd() { return {LawKind::distribute, FoldKind::add}; }
  static Law scale() {
    return {LawKind::distribute, FoldKind::none, HomState::softmax, true};
  }
  /// `all`: roundings of factors, too.
  static Law excess(bool all) {
    return {LawKind::excess, FoldKind::none, HomState::softmax, all};
  }

  std::string str() const;
  /// Fails on text that names no law or no fold.
  static llvm::FailureOr<Law> parse(llvm::StringRef text);
  bool operator==(const Law &other) const {
    return kind == other.kind && fold == other.fold && state == other.state &&
           second == other.second;
  }
};

/// Whether `stage` sums products of two bf16 numbers in f32: what `flush(add)`
/// is about.
bool sumsBf16Products(StageOp stage);

/// strict: left folds of floats keep their order. reassoc (the default): the
/// order inside a declared reduction is free. fastConv ("fast-conv"): besides,
/// convolutions may be computed by distribute(winograd).
enum class NumericsMode { strict, reassoc, fastConv };
llvm::StringRef stringifyNumericsMode(NumericsMode mode);
std::optional<NumericsMode> symbolizeNumericsMode(llvm::StringRef text);

} // namespace dlc::graph

#endif // DLC_DIALECT_GRAPH_IR_LAWS_H
