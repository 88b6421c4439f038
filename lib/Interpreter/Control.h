// Runs blocks of operators: the function's, and those of graph.if and
// graph.loop inside it.
#ifndef DLC_LIB_INTERPRETER_CONTROL_H
#define DLC_LIB_INTERPRETER_CONTROL_H

#include "dlc/Dialect/Graph/IR/Control.h"
#include "dlc/Interpreter/Interpreter.h"

#include "llvm/ADT/DenseMap.h"

namespace dlc::interp {

/// Have the results the types of the operator, now that the sizes are known?
llvm::LogicalResult checkResults(mlir::Operation *op,
                                 llvm::ArrayRef<Tensor> results,
                                 llvm::ArrayRef<int64_t> symbols);

class BlockRunner {
public:
  using Observer = decltype(Options::observer);
  using Tensors = llvm::FailureOr<llvm::SmallVector<Tensor>>;

  /// `symbols` are the function's; those the data tell are set on the way.
  BlockRunner(Interpreter &interpreter, const Observer &observer,
              llvm::SmallVectorImpl<int64_t> &symbols)
      : interpreter(interpreter), observer(observer), symbols(symbols) {}

  /// The operands of the block's terminator.
  Tensors run(mlir::Block &block, llvm::ArrayRef<Tensor> arguments);

private:
  Tensors runOp(mlir::Operation *op, llvm::ArrayRef<Tensor> operands);
  Tensors runIf(graph::IfOp op, bool condition);
  Tensors runLoop(graph::LoopOp op, llvm::ArrayRef<Tensor> operands);
  llvm::LogicalResult bindCount(graph::PrefixOp op,
                                llvm::ArrayRef<Tensor> operands);
  llvm::LogicalResult bind(mlir::Operation *op, mlir::TypeRange from,
                           mlir::TypeRange to, llvm::ArrayRef<int64_t> binds,
                           llvm::ArrayRef<mlir::AffineExpr> bounds);

  Interpreter &interpreter;
  const Observer &observer;
  llvm::SmallVectorImpl<int64_t> &symbols;
  llvm::DenseMap<mlir::Value, Tensor> values;
};

} // namespace dlc::interp

#endif // DLC_LIB_INTERPRETER_CONTROL_H
