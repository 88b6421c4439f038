// Tensors that a model keeps between runs: caches that every run appends rows
// to, and such in which it replaces rows. Apart from Graph.h: few files know
// them.
//
// Such an argument of @main has the room of the cache as its size along one
// axis, a symbol of its own (the capacity). How many of its rows are used is
// another symbol (the length), which no dim of an argument binds: whoever runs
// the model keeps it. Where rows are replaced, all are in use, and the capacity
// is a size that no other argument binds, or none.
#ifndef DLC_DIALECT_GRAPH_IR_STATE_H
#define DLC_DIALECT_GRAPH_IR_STATE_H

#include "dlc/Dialect/Graph/IR/Graph.h"

#define GET_OP_CLASSES
#include "dlc/Dialect/Graph/IR/StateOps.h.inc"

namespace dlc::graph {

/// The attribute of such an argument: see StateInfo.
inline constexpr llvm::StringLiteral kStateAttr = "graph.state";

struct StateInfo {
  std::string output;    ///< the model's output that it stands for
  int64_t axis = 0;      ///< of the rows; -1: all sizes are known from others
  int64_t length = -1;   ///< symbol: rows in use before the run; -1: replaced
  int64_t capacity = -1; ///< symbol: rows there is room for; -1: no symbol
  mlir::AffineExpr rows; ///< that a run appends: a constant or a symbol

  bool isPlaced() const { return length < 0; } ///< rows are replaced
};

mlir::Attribute makeStateAttr(const StateInfo &info,
                              mlir::MLIRContext *context);
/// Of an attribute that makeStateAttr made; none for null.
std::optional<StateInfo> readStateAttr(mlir::Attribute attr);

} // namespace dlc::graph

#endif // DLC_DIALECT_GRAPH_IR_STATE_H
