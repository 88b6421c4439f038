// What a library would be asked to compute in a kernel's place.
#ifndef DLC_LIB_DRIVER_CUDAPEERS_H
#define DLC_LIB_DRIVER_CUDAPEERS_H

#include "dlc/Dialect/Graph/IR/Graph.h"

#include <string>

namespace dlc {

/// The kernel's matrix product, or its convolution, as a line of a bundle's
/// manifest (tools/dlc-cuda-measure/Manifest.c): what cuBLAS, or cuDNN, is
/// measured with. Empty where it has none, or one that these do not take.
std::string describePeer(graph::KernelOp kernel, bool tf32);

} // namespace dlc

#endif // DLC_LIB_DRIVER_CUDAPEERS_H
