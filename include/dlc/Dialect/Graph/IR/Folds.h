// The scalar function that a fold applies.
#ifndef DLC_DIALECT_GRAPH_IR_FOLDS_H
#define DLC_DIALECT_GRAPH_IR_FOLDS_H

#include "dlc/Dialect/Graph/IR/Graph.h"

#include <optional>

namespace dlc::graph {

/// What combines two values of a fold; none for folds that give positions
/// (argmax, argmin) and for `none`.
std::optional<ScalarFn> combinerOf(FoldKind kind);

/// Whether a value combined with itself is that value, so that how often it
/// occurs does not matter.
bool isIdempotent(FoldKind kind);

} // namespace dlc::graph

#endif // DLC_DIALECT_GRAPH_IR_FOLDS_H
