// Schedules of CUDA kernels from the tuning database.
#ifndef DLC_LIB_DRIVER_CUDATUNESTAGE_H
#define DLC_LIB_DRIVER_CUDATUNESTAGE_H

#include "llvm/Support/Error.h"

namespace dlc {

struct Compilation;

/// -tune=lookup of a GPU: gives kernels the best schedules of what was measured
/// elsewhere. A search is refused in words.
llvm::Error lookUpCudaSchedules(Compilation &c);

} // namespace dlc

#endif // DLC_LIB_DRIVER_CUDATUNESTAGE_H
