// The iteration space of kernels around sums of products.
#ifndef DLC_LIB_SCHEDULE_CONTRACTIONSPACE_H
#define DLC_LIB_SCHEDULE_CONTRACTIONSPACE_H

#include "dlc/Schedule/OperandForm.h"

#include "llvm/ADT/SetVector.h"

namespace dlc {

/// A fold, and which group of reduce axes it runs over: folds of one group run
/// over the same axes.
struct FoldPlace {
  graph::StageOp stage;
  unsigned group;
};

/// The space of `results`, which have this domain, around `folds`: the axes of
/// the domain, then those of each group. A coordinate that occurs divided
/// becomes two axes, with `splitsOften` as many as its divisors (which must
/// divide each other) ask for. Fails, in words, when a stage is read at two
/// places, under a guard or at an index from data, or another stage folds.
mlir::FailureOr<IterationSpace>
makeIterationSpace(llvm::ArrayRef<FoldPlace> folds,
                   llvm::ArrayRef<graph::StageOp> results,
                   llvm::ArrayRef<mlir::AffineExpr> domain, bool splitsOften,
                   std::string &reason);

/// Adds the axes that `value` depends on, through stages without fold and
/// coordinates from data; fails, unless `throughFolds`, on folds. A fold is
/// read at axes of its own place; its reduce axes are not added.
mlir::LogicalResult collectAxes(mlir::Value value, const IterationSpace &space,
                                llvm::SmallSetVector<unsigned, 8> &axes,
                                bool throughFolds = false);

/// Whether a stage of the space reads at an index from data.
bool usesData(const IterationSpace &space);

/// By axis, the stride of the row-major tensor over the domain axes.
llvm::SmallVector<mlir::AffineExpr> domainStrides(const IterationSpace &space);

} // namespace dlc

#endif // DLC_LIB_SCHEDULE_CONTRACTIONSPACE_H
