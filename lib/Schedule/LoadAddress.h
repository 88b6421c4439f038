// How loads move through memory along the axes of their stage; private to
// Schedule.
#ifndef DLC_LIB_SCHEDULE_LOADADDRESS_H
#define DLC_LIB_SCHEDULE_LOADADDRESS_H

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Schedule/IndexPoly.h"

namespace dlc {

/// The extents of a stage's axes: those of its domain, then those it folds.
llvm::SmallVector<mlir::AffineExpr> axisExtents(graph::StageOp stage);

/// The last axis in [begin, end) that is longer than one element.
std::optional<unsigned> lastWideAxis(llvm::ArrayRef<mlir::AffineExpr> extents,
                                     unsigned begin, unsigned end);

/// The element a load reads, counted in its tensor, over the axes of its stage.
/// Nothing for a gather.
std::optional<IndexPoly> loadAddress(graph::LoadOp load);

/// Whether a load moves by 0 or 1 elements along an axis of its stage.
bool isDenseAlong(const std::optional<IndexPoly> &address, unsigned axis);

} // namespace dlc

#endif // DLC_LIB_SCHEDULE_LOADADDRESS_H
