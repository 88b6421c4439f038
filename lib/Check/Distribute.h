// The law distribute(add): a factor that neighbouring terms of a sum share.
#ifndef DLC_LIB_CHECK_DISTRIBUTE_H
#define DLC_LIB_CHECK_DISTRIBUTE_H

#include "dlc/Check/Laws.h"

namespace dlc::check {

/// Shows that some sum of float32 or float64 has terms with a factor that is
/// the same for b neighbouring steps of its last axis, from each multiple of b
/// on, b > 1. Refused in `strict`: the products are rounded otherwise.
Admission admitDistributeAdd(graph::KernelOp kernel, graph::NumericsMode mode);

} // namespace dlc::check

#endif // DLC_LIB_CHECK_DISTRIBUTE_H
