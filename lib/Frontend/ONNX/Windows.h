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
  size_t axes() const { return kernel.size(); }
};

/// Reads the window attributes for an operand (N, C, spatial...) with `kernel`.
Window readWindow(NodeContext &node, mlir::Value x,
                  llvm::ArrayRef<int64_t> kernel);

/// Spatial output sizes; `ceil` as in ceil_mode: a last window may start inside
/// the operand (or its low padding) and end outside.
Dims windowOutput(GraphBuilder &b, mlir::Value x, const Window &window,
                  bool ceil = false);

} // namespace dlc

#endif // LIB_FRONTEND_ONNX_WINDOWS_H
