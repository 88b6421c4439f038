// Sums and sums of squares about their means: what one pass over a row computes
// together, block by block, under the law hom(welford).
#ifndef DLC_SCHEDULE_MOMENTS_H
#define DLC_SCHEDULE_MOMENTS_H

#include "dlc/Schedule/RowPlan.h"

namespace dlc {

struct MomentsPair {
  graph::StageOp sum;     ///< of x; stored
  graph::StageOp squares; ///< the sum of (x - sum / n)^2, n being any value
  graph::StageOp stored;  ///< the squares, or the stage that they are read into
};

/// The pairs of folds whose loops may be one: of float32 or float64 over the
/// same points and axes, the elements less the mean being stored nowhere on the
/// way. Only how they read each other is looked at: that they are a pair in
/// the sense of the law is for Check to say.
llvm::SmallVector<MomentsPair> findMoments(graph::KernelOp kernel,
                                           const RowPlan &plan);

/// Whether a row of what the sum reads does not stay in the cache until the
/// squares read it again: then one pass reads memory once instead of twice.
bool isFarRow(const MomentsPair &pair);

} // namespace dlc

#endif // DLC_SCHEDULE_MOMENTS_H
