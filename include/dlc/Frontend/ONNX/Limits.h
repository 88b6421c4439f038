//===- Limits.h - how much a model may ask for ------------------*- C++ -*-===//
//
// What bounds the compiler's time and memory whatever a file says. The defaults
// are above every model in use; the command line can move them (Options.td).
//
//===----------------------------------------------------------------------===//

#ifndef DLC_FRONTEND_ONNX_LIMITS_H
#define DLC_FRONTEND_ONNX_LIMITS_H

#include <cstdint>

namespace dlc {

struct ModelLimits {
  /// Most nodes in the file, those of subgraphs and functions included.
  uint64_t nodes = 1000000;
  /// Most nodes after the model's functions are inlined, and most graph
  /// operators after function bodies are expanded and loops unrolled.
  uint64_t expansion = 1000000;
  /// Most graphs, and most types, nested in one another.
  unsigned nesting = 16;
  /// Longest Loop or Scan that is unrolled, in iterations.
  int64_t unroll = 256;
  /// Most elements of one tensor.
  uint64_t elements = uint64_t(1) << 40;
  /// Most bytes of all weights together.
  uint64_t bytes = uint64_t(1) << 40;
};

} // namespace dlc

#endif // DLC_FRONTEND_ONNX_LIMITS_H
