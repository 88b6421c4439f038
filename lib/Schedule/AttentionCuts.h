// Which keys the score of an attention masks by their position; private to
// Schedule.
#ifndef DLC_LIB_SCHEDULE_ATTENTIONCUTS_H
#define DLC_LIB_SCHEDULE_ATTENTIONCUTS_H

#include "dlc/Schedule/AttentionSpec.h"

namespace dlc {

/// `value`, or what the stage without fold that it loads yields.
mlir::Value resolve(mlir::Value value);
/// The application of `fn` that `value` resolves to, or null.
graph::ApplyOp asApply(mlir::Value value, graph::ScalarFn fn);

/// The conditions, linear in coordinates, under which `score` is masked.
/// `readsScores`: whether a scalar depends on the sum of products; `isOuter`:
/// whether an integer from data is one of outer axes alone.
llvm::SmallVector<KeyCut>
findKeyCuts(mlir::Value score, const IterationSpace &space,
            llvm::ArrayRef<unsigned> keys,
            llvm::function_ref<bool(mlir::Value)> readsScores,
            llvm::function_ref<bool(mlir::Value)> isOuter);

/// Writes " causal", " causal+3", " window 8", ...; nothing without cuts.
void describeKeyCuts(llvm::ArrayRef<KeyCut> cuts, llvm::ArrayRef<unsigned> rows,
                     llvm::ArrayRef<unsigned> keys, const IterationSpace &space,
                     llvm::raw_ostream &os);

} // namespace dlc

#endif // DLC_LIB_SCHEDULE_ATTENTIONCUTS_H
