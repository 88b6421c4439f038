// The iteration space of a contraction kernel.
#ifndef DLC_LIB_SCHEDULE_CONTRACTIONSPACE_H
#define DLC_LIB_SCHEDULE_CONTRACTIONSPACE_H

#include "dlc/Schedule/ContractionSpec.h"

namespace dlc {

/// The space of `results`, which have this domain, around `sum`. Fails, in
/// words, when a stage is read at two places, under a guard or at an index from
/// data, or folds.
mlir::FailureOr<IterationSpace>
makeIterationSpace(graph::StageOp sum, llvm::ArrayRef<graph::StageOp> results,
                   llvm::ArrayRef<mlir::AffineExpr> domain,
                   std::string &reason);

} // namespace dlc

#endif // DLC_LIB_SCHEDULE_CONTRACTIONSPACE_H
