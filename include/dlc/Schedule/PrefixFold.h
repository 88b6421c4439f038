// Folds over prefixes (running sums and products): the result at coordinate d
// of one axis folds the steps up to d, so that it is the result before it and
// one step more. One pass over the axis computes all of them.
#ifndef DLC_SCHEDULE_PREFIXFOLD_H
#define DLC_SCHEDULE_PREFIXFOLD_H

#include "dlc/Dialect/Graph/IR/Graph.h"

#include <optional>

namespace dlc {

struct PrefixFold {
  unsigned axis;    ///< of the domain
  bool isExclusive; ///< the steps before d only
  bool isReversed;  ///< step r stands at coordinate n - 1 - r
};

/// Reads the form from the guard of what `stage` folds: `d - r >= 0` (reversed:
/// `n - 1 - d - r >= 0`), one less if exclusive. Nothing else of the body may
/// depend on d, and a step outside changes nothing; with `strict`, whatever the
/// numbers are. The order of the steps stays that of the fold.
std::optional<PrefixFold> findPrefixFold(graph::StageOp stage, bool strict);

/// Whether combining `attr` with anything of `fold` gives the other.
bool isNeutral(graph::FoldKind fold, mlir::TypedAttr attr);

} // namespace dlc

#endif // DLC_SCHEDULE_PREFIXFOLD_H
