// Requirements: sizes of a model that must be equal, or not negative, when it
// runs.
//
// Sizes can be equal for every input that a model is meant for without being
// equal as expressions: `(h - 1) floordiv 2 * 2` and `h`. The function then
// carries them in `graph.requires`, operators may take one for the other
// through a graph.reshape marked `graph.same_sizes`, and whoever runs the
// function compares them before anything else. Sizes that could be negative, as
// those of a window larger than its image are, are on the list too.
#ifndef DLC_DIALECT_GRAPH_IR_REQUIREMENTS_H
#define DLC_DIALECT_GRAPH_IR_REQUIREMENTS_H

#include "dlc/Dialect/Graph/IR/Graph.h"

namespace dlc::graph {

/// A reshape with this unit attribute keeps every size, required to be equal.
inline constexpr llvm::StringLiteral kSameSizesAttr = "graph.same_sizes";

struct Requirement {
  mlir::AffineExpr left, right; ///< over the function's dim symbols
  std::string site;             ///< which sizes these are, in words
  bool atLeast = false;         ///< left >= right, else left == right
};

llvm::SmallVector<Requirement> getRequirements(mlir::Operation *function);
/// Leaves out repeated pairs; none removes the attribute.
void setRequirements(mlir::Operation *function,
                     llvm::ArrayRef<Requirement> requirements);

} // namespace dlc::graph

#endif // DLC_DIALECT_GRAPH_IR_REQUIREMENTS_H
