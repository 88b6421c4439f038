// Which nest code generation takes for a kernel, and what it gives up by it. A
// pure function of the kernel: fusion's profitability asks it before a group is
// formed, code generation before it emits.
#ifndef DLC_SCHEDULE_NESTCHOICE_H
#define DLC_SCHEDULE_NESTCHOICE_H

#include "dlc/Schedule/AttentionSpec.h"
#include "dlc/Schedule/RowPlan.h"

#include <string>

namespace dlc {

struct NestChoice {
  /// "attention", "contraction", "row" (a kernel that folds), "map" or
  /// "opaque".
  std::string nest;
  /// "attention": keys are passed over once, which is the law hom(softmax).
  /// Else, where weights are rounded, maximum and sum of a row come first.
  bool isOnePass = false;
  /// "attention" of a 16-bit float type throughout but for what is added up:
  /// matrix units take weights that are rounded as they are multiplied, which
  /// is the law round(softmax), and keys are passed over once.
  bool mayRoundWeights = false;
  /// "row": rows are too long to stay in the cache between a sum and the sum of
  /// squares about its mean, so that they are passed over once, which is the
  /// law hom(welford). Else the folds are computed one after the other.
  bool mergesMoments = false;
  /// "contraction": weights have scales that runs of steps share, which may
  /// stand outside of their sums by the law distribute(add).
  bool sharesScales = false;
  /// A stage would be a contraction on its own, but the kernel as a whole is
  /// none: its sums run in a loop nest, at about a quarter of the peak or less.
  /// Such a kernel is slower than its parts.
  bool losesContraction = false;
  /// Why the contraction nest does not take the kernel.
  std::string reason;
  /// For "row" and "map".
  RowPlan plan;
  /// Loads that do not move by nothing or one element along the innermost axis
  /// of the result they are read for: each costs about a load a lane, unless a
  /// tile is transposed in registers. Fusion compares with the parts'
  /// (C-LAYOUT).
  unsigned stridedLoads = 0;
};

NestChoice bestNest(graph::KernelOp kernel);

/// Whether the attention nest has code for `spec`, whatever the machine;
/// `reason` says why not. Not with strict numerics: sums are reordered.
bool hasAttentionNest(const AttentionSpec &spec, std::string &reason);

/// The 16-bit float that `value`, of f32, is widened from; null: from none.
mlir::Value widenedFrom(mlir::Value value);

} // namespace dlc

#endif // DLC_SCHEDULE_NESTCHOICE_H
