//===- Windows.h - pads, strides and output sizes ---------------*- C++ -*-===//
//
// What convolution and pooling share: reading kernel_shape, strides, dilations,
// pads and auto_pad of a node.
//
//===----------------------------------------------------------------------===//

#ifndef LIB_FRONTEND_ONNX_WINDOWS_H
#define LIB_FRONTEND_ONNX_WINDOWS_H

#include "Converter.h"

namespace dlc {

struct Window {
  llvm::SmallVector<int64_t> kernel, strides, dilations, low, high;
  mlir::Value x; ///< the operand, in a frame if `isFramed`
  bool isFramed = false;
  size_t axes() const { return kernel.size(); }
};

/// Reads the window attributes for an operand (N, C, spatial...) with `kernel`.
/// auto_pad SAME_* with a stride pads a symbolic dim by its remainder: then x
/// gets a frame of `fill` instead (without one it is refused).
Window readWindow(NodeContext &node, mlir::Value x,
                  llvm::ArrayRef<int64_t> kernel, mlir::Value fill = {});
/// x in the frame that `window` gave its operand.
mlir::Value addFrame(NodeContext &node, mlir::Value x, const Window &window,
                     mlir::Value fill);

/// Spatial output sizes; `ceil` as in ceil_mode: a last window may start inside
/// the operand (or its low padding) and end outside.
Dims windowOutput(GraphBuilder &b, mlir::Value x, const Window &window,
                  bool ceil = false);

} // namespace dlc

#endif // LIB_FRONTEND_ONNX_WINDOWS_H
