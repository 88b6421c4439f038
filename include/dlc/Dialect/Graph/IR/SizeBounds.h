// Interval arithmetic over size expressions: what bounds of the symbols say of
// everything that is computed from them.
#ifndef DLC_DIALECT_GRAPH_IR_SIZEBOUNDS_H
#define DLC_DIALECT_GRAPH_IR_SIZEBOUNDS_H

#include "mlir/IR/AffineExpr.h"
#include "llvm/ADT/ArrayRef.h"

#include <cstdint>
#include <limits>

namespace dlc::graph {

/// All integers from `low` to `high`; the extremes of 64 bits are no bounds.
struct SizeBounds {
  int64_t low = 0;
  int64_t high = std::numeric_limits<int64_t>::max();
};

/// Bounds of `expr`, without dims, for symbols within theirs (a symbol beyond
/// the list is 0 or more). They may be wider than needed, never narrower, as
/// long as no intermediate value exceeds 64 bits.
SizeBounds boundsOf(mlir::AffineExpr expr, llvm::ArrayRef<SizeBounds> symbols);

} // namespace dlc::graph

#endif // DLC_DIALECT_GRAPH_IR_SIZEBOUNDS_H
