// Kernels of opaque operators (sorting, scattering, ...).
#ifndef DLC_LIB_CODEGEN_CUDA_OPAQUEKERNEL_H
#define DLC_LIB_CODEGEN_CUDA_OPAQUEKERNEL_H

#include "dlc/Codegen/CUDA/CudaKernel.h"

namespace dlc {

/// Emits `kernel`, whose getOpaque() is not null. Fails with a diagnostic where
/// the operator has no builder of loops.
llvm::FailureOr<CudaKernel> emitOpaqueKernel(graph::KernelOp kernel,
                                             const CudaCodegenOptions &options);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_OPAQUEKERNEL_H
