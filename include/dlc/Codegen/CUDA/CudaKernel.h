// CUDA code of one graph kernel, and the way from there to PTX.
//
// A kernel becomes one or more launches, run one after the other. All launches
// of a kernel take the same parameters:
//
//   operands..., results..., scratch buffers..., status   pointers
//   symbols                                               i64
//
// Buffers are contiguous row-major; bool is one byte. `status` points to one
// i32, set to nonzero by a run-time data error (an index out of range).
#ifndef DLC_CODEGEN_CUDA_CUDAKERNEL_H
#define DLC_CODEGEN_CUDA_CUDAKERNEL_H

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Target/CUDA/CudaTarget.h"
#include "dlc/runtime.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <memory>
#include <string>
#include <vector>

namespace llvm {
class LLVMContext;
class Module;
} // namespace llvm

namespace dlc {

struct CudaCodegenOptions {
  /// Name of the kernel in the module; launches are called after it.
  std::string symbol;
  /// Folds in the order the kernel states, no fused multiply-add.
  bool strict = false;
  /// Factors of f32 products may be rounded to the nearest tf32, for tensor
  /// cores.
  bool tf32 = false;
  /// The device has wgmma (sm_90a).
  bool warpGroups = false;
  /// With warpGroups: the same grids and blocks, by what every device since
  /// sm_80 has, without dynamic shared memory.
  bool portable = false;
};

/// One launch: a one-dimensional grid of one-dimensional blocks. Shared memory
/// is static, but for `sharedBytes`. A grid of zero blocks is not launched.
struct CudaLaunch {
  std::string symbol;
  mlir::AffineExpr gridBlocks; ///< over the kernel's symbols
  unsigned blockThreads = 0;
  unsigned sharedBytes = 0; ///< dynamic, of a block
  /// In place of a kernel: what a library of the device computes.
  std::optional<dlc_device_call> call = {};
};

struct CudaKernel {
  std::string symbol;
  /// The nest that made it: "map", "row", "contraction", "attention",
  /// "generic" or "opaque".
  std::string nest;
  llvm::SmallVector<CudaLaunch> launches;
  /// Bytes of each scratch buffer, over the kernel's symbols.
  llvm::SmallVector<mlir::AffineExpr> scratchBytes;
  /// The launches' code, before lowering.
  mlir::OwningOpRef<mlir::ModuleOp> module;
};

/// The launches and buffer sizes of a kernel for given symbol values.
struct CudaKernelInstance {
  struct Launch {
    std::string symbol;
    uint64_t gridBlocks;
    unsigned blockThreads;
    unsigned sharedBytes;
    std::optional<dlc_device_call> call;
  };
  std::vector<Launch> launches;
  std::vector<uint64_t> scratchBytes;
};

/// Loads the dialects that kernels are built with into `context`.
void loadCudaDialects(mlir::MLIRContext &context);

/// Generates the code of `kernel`. Emits a diagnostic and fails where the
/// kernel holds something CUDA code cannot do yet.
llvm::FailureOr<CudaKernel> emitCudaKernel(graph::KernelOp kernel,
                                           const CudaTarget &target,
                                           const CudaCodegenOptions &options);

/// Grids, blocks and scratch sizes for these symbol values.
CudaKernelInstance instantiate(const CudaKernel &kernel,
                               llvm::ArrayRef<int64_t> symbols);

/// Moves the code of `kernels` into one LLVM module, lowered, optimised and
/// prepared for `target`: what CudaTarget::emitPtx and the emulator take. The
/// kernels' symbols must differ; their MLIR modules are consumed.
llvm::Expected<std::unique_ptr<llvm::Module>>
buildCudaModule(llvm::MutableArrayRef<CudaKernel> kernels,
                const CudaTarget &target, llvm::LLVMContext &context);

} // namespace dlc

#endif // DLC_CODEGEN_CUDA_CUDAKERNEL_H
