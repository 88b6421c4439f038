// The reference interpreter: the oracle for everything the compiler generates.
//
// An operator's row declares its meaning as a kernel, a list of stages of
// scalar expressions. The interpreter evaluates kernels and nothing else, so
// that one evaluator serves every operator, before and after fusion.
#ifndef DLC_INTERPRETER_INTERPRETER_H
#define DLC_INTERPRETER_INTERPRETER_H

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Interpreter/MathMode.h"
#include "dlc/Interpreter/Tensor.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <functional>

namespace dlc::interp {

enum class MathMode { libm, dlc };

struct Options {
  MathMode math = MathMode::libm;
  /// Worker threads; 0 is one a core. The results do not depend on it.
  unsigned threads = 0;
  /// Called after each operation of a function with its operands and results.
  std::function<void(mlir::Operation *, llvm::ArrayRef<Tensor>,
                     llvm::ArrayRef<Tensor>)>
      observer;
  /// Runs the calls of kernels in a function, with its symbols: on an emulated
  /// device, say. Null: they are evaluated.
  std::function<llvm::FailureOr<llvm::SmallVector<Tensor>>(
      graph::CallOp, llvm::ArrayRef<Tensor>, llvm::ArrayRef<int64_t>)>
      call;
};

/// Failures are diagnostics at the operation's location: an operator without a
/// declared meaning, shapes that do not fit, an index out of range, math=dlc
/// where the compiler's functions are not available.
class Interpreter {
public:
  explicit Interpreter(Options options = {}) : options(std::move(options)) {}

  /// Runs a function of graph operators, calls and constants. `inputs` are its
  /// arguments in order; dim symbols are bound by their shapes.
  llvm::FailureOr<llvm::SmallVector<Tensor>> run(mlir::func::FuncOp main,
                                                 llvm::ArrayRef<Tensor> inputs);

  /// One operator, with the values of its function's dim symbols.
  llvm::FailureOr<llvm::SmallVector<Tensor>>
  runOp(mlir::Operation *op, llvm::ArrayRef<Tensor> operands,
        llvm::ArrayRef<int64_t> symbols);

  /// One kernel, with the values of its own symbols.
  llvm::FailureOr<llvm::SmallVector<Tensor>>
  runKernel(graph::KernelOp kernel, llvm::ArrayRef<Tensor> operands,
            llvm::ArrayRef<int64_t> symbols);

private:
  Options options;
};

/// Values for the dim symbols of a function from the shapes of its arguments.
/// Fails, with a diagnostic at `main`, when a shape or element type does not
/// fit or when a symbol stands nowhere alone.
llvm::FailureOr<llvm::SmallVector<int64_t>>
bindSymbols(mlir::func::FuncOp main, llvm::ArrayRef<Tensor> inputs);

/// Evaluates an operator with one result on constant operands (dense elements
/// or resources). Fails without a diagnostic when the operator has no declared
/// meaning, when a size is symbolic, when the result is larger than `maxBytes`,
/// or when the data is in error (which is then left to run time).
llvm::FailureOr<mlir::DenseElementsAttr>
foldGraphOp(mlir::Operation *op, llvm::ArrayRef<mlir::Attribute> operands,
            int64_t maxBytes = int64_t(1) << 24);

} // namespace dlc::interp

#endif // DLC_INTERPRETER_INTERPRETER_H
