// Ranges of sizes, from those of the symbols.
#include "dlc/Schedule/SizeRange.h"

#include "dlc/Dialect/Graph/IR/SizeBounds.h"

#include <algorithm>

using namespace mlir;
using namespace dlc;

SizeRange dlc::rangeOf(AffineExpr expr, ArrayRef<SizeRange> symbols) {
  SmallVector<graph::SizeBounds> all, typical;
  for (const SizeRange &symbol : symbols) {
    all.push_back({symbol.low, symbol.high});
    typical.push_back({symbol.typical, symbol.typical});
  }
  graph::SizeBounds bounds = graph::boundsOf(expr, all);
  SizeRange range;
  range.low = std::max<int64_t>(bounds.low, 0);
  range.high = std::max(bounds.high, range.low);
  range.typical =
      std::clamp(graph::boundsOf(expr, typical).low, range.low, range.high);
  return range;
}
