// A group's body without the roundings that the laws excess(..) leave out, and
// with the numbers of distribute(scale) behind its sums.
#ifndef DLC_LIB_FUSION_PRECISION_H
#define DLC_LIB_FUSION_PRECISION_H

#include "dlc/Dialect/Graph/IR/Laws.h"
#include "dlc/Fusion/Body.h"

namespace dlc::fusion {

/// The 16-bit float type that numbers are rounded to, results too; null: none.
mlir::Type narrowTypeOf(const Body &body, llvm::ArrayRef<TensorId> outputs,
                        const TensorTable &tensors);

/// The body that the laws (include/dlc/Dialect/Graph/IR/Laws.h) make of `body`,
/// whose results are `outputs`. None where it is the same, or where a result is
/// read inside, too.
std::optional<Body> applyPrecision(const Body &body,
                                   llvm::ArrayRef<TensorId> outputs,
                                   llvm::ArrayRef<graph::Law> laws,
                                   TensorTable &tensors);

} // namespace dlc::fusion

#endif // DLC_LIB_FUSION_PRECISION_H
