// Addresses that are the same for a few neighbours, and side by side beyond
// them: the channels of a convolution of small groups.
#ifndef DLC_SCHEDULE_SHORTRUNS_H
#define DLC_SCHEDULE_SHORTRUNS_H

#include "dlc/Schedule/IndexPoly.h"

namespace dlc {

/// Whether runs of so many elements are parts of a vector, whole ones of which
/// come from one load.
inline bool isShortRun(int64_t length) {
  return length == 2 || length == 4 || length == 8;
}

/// A short run s in `s * (dim floordiv s) + rest`, where rest does not depend
/// on `dim`.
std::optional<int64_t> findShortRun(const IndexPoly &address, unsigned dim);

} // namespace dlc

#endif // DLC_SCHEDULE_SHORTRUNS_H
