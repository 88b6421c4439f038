//===- Scores.h - rows in, scores and labels out ----------------*- C++ -*-===//
//
// What the models of ai.onnx.ml share.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_FRONTEND_ONNX_SCORES_H
#define LIB_FRONTEND_ONNX_SCORES_H

#include "Converter.h"

namespace dlc {

/// The first operand as a matrix of f32; a vector is one row.
mlir::Value readRows(NodeContext &node);

/// The node's post_transform of scores (rows, classes).
mlir::Value transformScores(NodeContext &node, mlir::Value scores);

/// Labels and scores of a classifier, its results; of a single score the
/// second class is the one above `threshold`.
void finishClassifier(NodeContext &node, mlir::Value scores,
                      llvm::ArrayRef<int64_t> labels, double threshold);

} // namespace dlc

#endif // LIB_FRONTEND_ONNX_SCORES_H
