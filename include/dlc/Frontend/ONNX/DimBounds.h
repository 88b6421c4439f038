//===- DimBounds.h - the caller's bounds on sizes of the data ---*- C++ -*-===//
//
// What -dim=<name>=<low>..<high> says of a dim, or of a size that the run
// binds. It is left on the imported module, where the few converters that need
// it look.
//
//===----------------------------------------------------------------------===//

#ifndef DLC_FRONTEND_ONNX_DIMBOUNDS_H
#define DLC_FRONTEND_ONNX_DIMBOUNDS_H

#include "llvm/ADT/StringRef.h"

namespace dlc {

/// Module attribute: a dictionary of pairs (smallest, largest value) by dim
/// name; the name of a size that the run binds is its node's.
constexpr llvm::StringLiteral kDimBoundsAttr = "onnx.dim_bounds";

} // namespace dlc

#endif // DLC_FRONTEND_ONNX_DIMBOUNDS_H
