// Passes over the graph dialect.
#ifndef DLC_DIALECT_GRAPH_TRANSFORMS_PASSES_H
#define DLC_DIALECT_GRAPH_TRANSFORMS_PASSES_H

#include "mlir/Pass/Pass.h"

namespace dlc::graph {
#define GEN_PASS_DECL
#include "dlc/Dialect/Graph/Transforms/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "dlc/Dialect/Graph/Transforms/Passes.h.inc"
} // namespace dlc::graph

#endif // DLC_DIALECT_GRAPH_TRANSFORMS_PASSES_H
