// Reading runs from an address.
#include "dlc/Schedule/ShortRuns.h"

using namespace mlir;
using namespace dlc;

std::optional<int64_t> dlc::findShortRun(const IndexPoly &address,
                                         unsigned dim) {
  std::optional<int64_t> length;
  for (auto &[monomial, factor] : address.terms) {
    if (llvm::none_of(monomial,
                      [&](AffineExpr e) { return e.isFunctionOfDim(dim); }))
      continue;
    if (length || monomial.size() != 1 || !isShortRun(factor))
      return std::nullopt;
    AffineExpr own = getAffineDimExpr(dim, monomial[0].getContext());
    if (monomial[0] != own.floorDiv(static_cast<uint64_t>(factor)))
      return std::nullopt;
    length = factor;
  }
  return length;
}
