// Which cuts of an attention (Schedule/AttentionSpec.h) let a nest leave out
// blocks of keys, and what has to hold for that.
#ifndef DLC_SCHEDULE_KEYBOUNDS_H
#define DLC_SCHEDULE_KEYBOUNDS_H

#include "dlc/Schedule/AttentionSpec.h"

namespace dlc {

/// The coefficient of an axis in `expr`, if it is a number.
std::optional<int64_t> constantCoefficient(mlir::AffineExpr expr,
                                           unsigned axis);

/// Whether a block of rows, which differ in the axes `rows`, has a first or a
/// last key by `cut`, beyond which weights are exactly 0 (see leastMaximum).
/// `weighsOnce`: weights are not made again when a later key turns out larger.
bool boundsKeys(const AttentionSpec &spec, const KeyCut &cut,
                llvm::ArrayRef<unsigned> rows, bool weighsOnce);

/// What the maximum of a row must exceed for keys outside of its bounds to have
/// weights of exactly 0; nothing when that is always so.
std::optional<double> leastMaximum(const AttentionSpec &spec,
                                   llvm::ArrayRef<unsigned> rows,
                                   bool weighsOnce);

} // namespace dlc

#endif // DLC_SCHEDULE_KEYBOUNDS_H
