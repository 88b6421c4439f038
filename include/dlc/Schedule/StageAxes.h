// The coordinates of loads as axes of their stage.
#ifndef DLC_SCHEDULE_STAGEAXES_H
#define DLC_SCHEDULE_STAGEAXES_H

#include "dlc/Dialect/Graph/IR/Graph.h"

#include <optional>

namespace dlc {

/// By coordinate of `load`, the axis of its stage that it is: the domain's,
/// then those that it folds. Nothing for a gather.
std::optional<llvm::SmallVector<mlir::AffineExpr>> axesOf(graph::LoadOp load);

} // namespace dlc

#endif // DLC_SCHEDULE_STAGEAXES_H
