//===- ResizeSymbolic.h - interpolation to and from unknown sizes -*- C++ -*-=//
//
// Resize along an axis of which a size is symbolic: the run computes which
// neighbours each output coordinate reads, and their weights.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_FRONTEND_ONNX_RESIZESYMBOLIC_H
#define LIB_FRONTEND_ONNX_RESIZESYMBOLIC_H

#include "Converter.h"

namespace dlc {

/// How an axis is resized of which `out` or the operand's dim is symbolic.
struct SymbolicResize {
  int64_t axis;
  mlir::AffineExpr out;
  std::optional<double> scale; ///< where the model gives it, else out / in
  double roiStart = 0, roiEnd = 1;
};

/// The size of an axis by a scale: floor(in * scale), without rounding.
mlir::AffineExpr scaleSize(NodeContext &node, mlir::AffineExpr in,
                           double scale);

/// The node's `nearest_mode` along an axis of this scale.
llvm::StringRef nearestMode(NodeContext &node, double scale);

mlir::Value resizeSymbolicAxis(NodeContext &node, mlir::Value x,
                               const SymbolicResize &plan);

} // namespace dlc

#endif // LIB_FRONTEND_ONNX_RESIZESYMBOLIC_H
