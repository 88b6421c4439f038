// Products of matrices and convolutions in the words of a library of the
// device.
#ifndef DLC_CODEGEN_CUDA_CUDALIBRARYCALL_H
#define DLC_CODEGEN_CUDA_CUDALIBRARYCALL_H

#include "dlc/Codegen/CUDA/CudaKernel.h"

namespace dlc {

/// What a library computes of a kernel: a product (cuBLAS) or a convolution
/// (cuDNN) of the kernel's operands.
struct CudaLibraryCall {
  /// The stage that is the sum.
  graph::StageOp sum;
  /// Whether the kernel is nothing else: its one result is the sum, perhaps
  /// converted, in its own order. Else the call's result is the stage.
  bool isAlone = false;
  /// Operands by their numbers; the caller says where result and workspace are.
  dlc_device_call call = {};

  /// Elements of the result, and its type.
  int64_t getResultElements() const;
  dlc_device_type getResultType() const;
  /// The caller's numbers of parameters; `workspace` of convolutions alone.
  void setPlaces(int64_t result, int64_t workspace);
  bool needsWorkspace() const { return call.kind == DLC_DEVICE_CONVOLUTION; }
};

/// Of the device's memory, what a convolution may use besides its tensors.
inline constexpr int64_t kLibraryWorkspaceBytes = 32 << 20;

/// Fails, with `reason`, where a library has nothing of the kernel: symbolic
/// sizes, types, strides or padding that it has not, no sum of products, or
/// more than one.
mlir::FailureOr<CudaLibraryCall>
findLibraryCall(graph::KernelOp kernel, const CudaCodegenOptions &options,
                std::string &reason);

/// The knob of the nest `library` that names the library of such calls; its
/// value is the version that was measured (for people).
llvm::StringRef getLibraryKnob(int64_t callKind);

} // namespace dlc

#endif // DLC_CODEGEN_CUDA_CUDALIBRARYCALL_H
