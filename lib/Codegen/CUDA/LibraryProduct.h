// The nest `library` on CUDA: a product of matrices that cuBLAS computes. Never
// chosen by rules: a schedule has to name it. Its knob `cublas` is the version
// that was measured (for people).
#ifndef DLC_CODEGEN_CUDA_LIBRARYPRODUCT_H
#define DLC_CODEGEN_CUDA_LIBRARYPRODUCT_H

#include "dlc/Codegen/CUDA/CudaKernel.h"
#include "dlc/Schedule/ContractionSpec.h"

namespace dlc {

/// A kernel of the nest, whose one launch is the product. On failure `reason`
/// says why not: symbolic sizes, types or strides that the library has not, a
/// kernel that does anything else.
mlir::FailureOr<CudaKernel>
emitLibraryProduct(graph::KernelOp kernel, const CudaCodegenOptions &options,
                   std::string &reason);

} // namespace dlc

#endif // DLC_CODEGEN_CUDA_LIBRARYPRODUCT_H
