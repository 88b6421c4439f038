// The form that the law hom(welford) speaks of.
#ifndef DLC_LIB_CHECK_MOMENTS_H
#define DLC_LIB_CHECK_MOMENTS_H

#include "dlc/Check/Laws.h"

namespace dlc::check {

/// Whether the kernel's sums of squares about a mean may be folded together
/// with the sums that the means are of, in one pass with a state (n, S, M2)
/// that stands for both (C-HOM; `welford_hom`, `welford_fold`): every fold that
/// reads another is a sum over (x - S / n)^2 in f32 or f64, S being the sum of
/// x itself over the same axes at one row and n exactly the number of its
/// steps, a literal or an expression of sizes; nothing rounds between.
///
/// The state is right in the reals: whoever uses the law computes a row as the
/// folds say where the state is not finite.
Admission admitMoments(graph::KernelOp kernel, graph::NumericsMode mode);

} // namespace dlc::check

#endif // DLC_LIB_CHECK_MOMENTS_H
