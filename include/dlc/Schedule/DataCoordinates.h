// Coordinates from data within an iteration space: a cache that lies in pages
// is read where a table of them says.
#ifndef DLC_SCHEDULE_DATACOORDINATES_H
#define DLC_SCHEDULE_DATACOORDINATES_H

#include "dlc/Schedule/AttentionSpec.h"

namespace dlc {

/// `expr` over the dims that `coords` name -> over the axes of `space`, in
/// normal form, where coordinate data[i] is dim extents.size() + i. `data`
/// grows by those that it does not have yet.
mlir::FailureOr<mlir::AffineExpr>
toAxes(const IterationSpace &space, mlir::AffineExpr expr,
       mlir::ValueRange coords, llvm::SmallVectorImpl<graph::ToIndexOp> &data);

/// Whether keys or values lie where data say. They are read at coordinates from
/// data then, which are the same for all of a key's inner axes and all of a
/// value's columns.
bool readsPages(const AttentionSpec &spec);

} // namespace dlc

#endif // DLC_SCHEDULE_DATACOORDINATES_H
