// A model for CUDA: the code of all its kernels, and its run on the emulator.
// (The host program that launches on a device is not part of dlc yet.)
#ifndef DLC_DRIVER_CUDAMODEL_H
#define DLC_DRIVER_CUDAMODEL_H

#include "dlc/Codegen/CUDA/CudaKernel.h"
#include "dlc/Driver/ModelSource.h"
#include "dlc/Emulator/Emulator.h"
#include "dlc/Interpreter/Tensor.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"

namespace dlc {

/// Graph operators to kernels and calls. Operators without a kernel are errors.
llvm::Error formCudaKernels(ModelSource &source);

/// The kernels of a model in one LLVM module. `module` refers to `context`.
struct CudaModel {
  std::unique_ptr<llvm::LLVMContext> context;
  std::unique_ptr<llvm::Module> module;
  llvm::StringMap<CudaKernel> kernels; ///< by name of the graph.kernel
};

/// Generates code for every graph.kernel of `source`, whose operators must have
/// become kernels and calls. `prefix` begins the functions' names; `tf32`:
/// products of f32 may round their factors; `portable`: as
/// CudaCodegenOptions::portable. Fails with a CompileError that lists all
/// kernels that cannot be generated.
llvm::Expected<CudaModel> compileCuda(ModelSource &source,
                                      const CudaTarget &target,
                                      llvm::StringRef prefix, bool strict,
                                      bool tf32 = false, bool portable = false);

/// PTX text of the model.
llvm::Expected<std::string> emitPtx(CudaModel &model, const CudaTarget &target);

/// Runs @main on the emulator. Fails with a CompileError: the emulator's
/// findings, or an error in the data.
llvm::Expected<llvm::SmallVector<interp::Tensor>>
emulate(ModelSource &source, CudaModel &model,
        llvm::ArrayRef<interp::Tensor> inputs, EmulatorOptions options);

} // namespace dlc

#endif // DLC_DRIVER_CUDAMODEL_H
