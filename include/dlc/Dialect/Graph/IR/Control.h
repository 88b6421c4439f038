// The operators of the graph dialect that hold regions. Apart from Graph.h: few
// files know them.
#ifndef DLC_DIALECT_GRAPH_IR_CONTROL_H
#define DLC_DIALECT_GRAPH_IR_CONTROL_H

#include "dlc/Dialect/Graph/IR/Graph.h"

#define GET_OP_CLASSES
#include "dlc/Dialect/Graph/IR/ControlOps.h.inc"

namespace dlc::graph {

/// Calls `add(symbol, largest value)` for every symbol that the data bind in
/// `op` and its regions: outer ones first, so that a bound names symbols that
/// came before.
void forEachDataSymbol(
    mlir::Operation *op,
    llvm::function_ref<void(unsigned symbol, mlir::AffineExpr largest)> add);

/// The symbols that a step from tensors of types `from` to the ones of types
/// `to` binds, with the dims they get: to = ?x4xf32 of symbol s3, from =
/// 7x4xf32 gives (3, 7). The types have the same ranks.
llvm::SmallVector<std::pair<unsigned, mlir::AffineExpr>>
matchSymbols(mlir::TypeRange from, mlir::TypeRange to,
             llvm::ArrayRef<int64_t> binds);

} // namespace dlc::graph

#endif // DLC_DIALECT_GRAPH_IR_CONTROL_H
