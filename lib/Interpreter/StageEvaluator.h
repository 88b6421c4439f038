// Evaluation of one stage of a kernel into a tensor.
#ifndef DLC_LIB_INTERPRETER_STAGEEVALUATOR_H
#define DLC_LIB_INTERPRETER_STAGEEVALUATOR_H

#include "BodyProgram.h"

namespace dlc::interp {

/// A stage with everything it is evaluated with.
struct StageTask {
  graph::StageOp stage;
  llvm::ArrayRef<int64_t> symbols;
  TensorLookup tensorOf;
  const MathTable &math;
  unsigned threads;
  ErrorSink &errors;
  // Filled by prepare().
  llvm::SmallVector<int64_t, 8> extents; // domain axes, then reduce axes
  llvm::SmallVector<unsigned, 8> domainAxes, reduceAxes;
  int64_t domainPoints = 1, reducePoints = 1;

  void prepare();
};

/// The stage's tensor; after an error (reported to task.errors) its contents
/// mean nothing.
Tensor evaluateStage(StageTask &task);

/// Evaluates a sum of products of two factors of which each depends on axes
/// that the other does not, by dense blocks; false when the stage is not one.
/// `out` has the stage's type. The sum of each element is the same left fold.
bool evaluateContraction(StageTask &task, Tensor &out);

/// Calls fn(begin, end) over parts of 0..count-1, on several threads when there
/// is work for them; `grain` is the least that is worth a thread.
void parallelFor(int64_t count, int64_t grain, unsigned threads,
                 llvm::function_ref<void(int64_t, int64_t)> fn);

} // namespace dlc::interp

#endif // DLC_LIB_INTERPRETER_STAGEEVALUATOR_H
