// What is known of a size before the run: its bounds and a typical value, which
// schedules are chosen for. Nothing but speed may depend on it.
#ifndef DLC_SCHEDULE_SIZERANGE_H
#define DLC_SCHEDULE_SIZERANGE_H

#include "mlir/IR/AffineExpr.h"
#include "llvm/ADT/ArrayRef.h"

#include <cstdint>
#include <limits>

namespace dlc {

struct SizeRange {
  int64_t low = 0;
  int64_t high = std::numeric_limits<int64_t>::max(); ///< the most: unbounded
  int64_t typical = 1;

  bool operator==(const SizeRange &) const = default;
  bool contains(int64_t size) const { return low <= size && size <= high; }
};

/// The sizes that `expr` takes, from those of its symbols (a symbol beyond the
/// list may be anything). The bounds may be wider than needed, never narrower;
/// sums beyond 64 bits stop at the ends. `typical` is the value at the symbols'
/// typical ones.
SizeRange rangeOf(mlir::AffineExpr expr, llvm::ArrayRef<SizeRange> symbols);

} // namespace dlc

#endif // DLC_SCHEDULE_SIZERANGE_H
