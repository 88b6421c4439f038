//===- SizeComparison.h - which of two sizes is larger ----------*- C++ -*-===//
//
// Sizes are compared for all inputs that a model is meant for: those whose dims
// are within the bounds of -dim, which each run checks.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_FRONTEND_ONNX_SIZECOMPARISON_H
#define LIB_FRONTEND_ONNX_SIZECOMPARISON_H

#include "Converter.h"

namespace dlc {

/// x `op` y where it has one answer for all sizes: Less, LessOrEqual, Greater,
/// GreaterOrEqual or Equal.
std::optional<bool> compareSizes(NodeContext &node, llvm::StringRef op,
                                 mlir::AffineExpr x, mlir::AffineExpr y);

/// Makes sure that small <= large: by the bounds, else when the model runs.
/// `otherwise` says in words what is wrong if not: "the end is past the dim".
void requireAtMost(NodeContext &node, mlir::AffineExpr small,
                   mlir::AffineExpr large, llvm::StringRef otherwise);

/// Whether a size is no smaller than `least` for all inputs whose dims are 64
/// and more.
bool isAtLeastInUse(NodeContext &node, mlir::AffineExpr size, int64_t least);

/// Whether a size that is computed is 0 or more: for all sizes, or for all
/// inputs whose dims are at least 64, as (n - 1) / 2 + 1 and (n / 2 - 1) / 16
/// have it; the run makes sure then.
bool requireNonNegative(NodeContext &node, mlir::AffineExpr size);

} // namespace dlc

#endif // LIB_FRONTEND_ONNX_SIZECOMPARISON_H
