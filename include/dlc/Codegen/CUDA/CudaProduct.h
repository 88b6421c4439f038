// Products of matrices in the words of a library of the device.
#ifndef DLC_CODEGEN_CUDA_CUDAPRODUCT_H
#define DLC_CODEGEN_CUDA_CUDAPRODUCT_H

#include "dlc/Codegen/CUDA/CudaKernel.h"
#include "dlc/Schedule/ContractionSpec.h"

namespace dlc {

/// The product that a kernel sums up, of operands by their numbers; the result
/// is the kernel's first. Fails, with `reason`, where the library has none.
mlir::FailureOr<dlc_device_product>
describeProduct(const ContractionSpec &spec, bool tf32, std::string &reason);

/// Whether the kernel's only result is the sum, perhaps converted, in its own
/// order.
bool yieldsSum(const ContractionSpec &spec);

/// Whether the library can compute all of the kernel; else `reason` says why
/// not.
bool isLibraryProduct(graph::KernelOp kernel, const CudaCodegenOptions &options,
                      std::string &reason);

} // namespace dlc

#endif // DLC_CODEGEN_CUDA_CUDAPRODUCT_H
