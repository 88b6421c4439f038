// Candidates for a GPU, as both bundles of them and searches have them: their
// code, and the manifest's lines (tools/dlc-cuda-measure/Manifest.c) that say
// what they run on and what has to come out.
#ifndef DLC_LIB_DRIVER_CUDACANDIDATE_H
#define DLC_LIB_DRIVER_CUDACANDIDATE_H

#include "dlc/Tuner/CudaTask.h"

namespace dlc {

struct CompileOptions;

/// What a model's kernels are compiled with.
CudaCodegenOptions getCudaCodegen(const CompileOptions &options,
                                  const CudaTarget &target);

/// The lines of a kernel's operands and results. Runs the interpreter and adds
/// its numbers to `oracle`. Errors, which leave `oracle` as it was, say why
/// there is nothing to compare with.
llvm::Expected<std::string> describeCudaData(graph::KernelOp kernel,
                                             uint64_t seed,
                                             std::vector<double> &oracle);

/// The code of a kernel under these knobs (with the nest `library`, of what the
/// library leaves), beside the laws of the schedule that it has: a cubin, or
/// PTX where there is no ptxas. Errors are CompileErrors.
llvm::Expected<tuner::BuiltKernel>
buildCudaCandidate(graph::KernelOp kernel, llvm::StringRef nest,
                   const KnobValues &knobs, const CudaTarget &target,
                   CudaCodegenOptions codegen, llvm::StringRef symbol);

/// What a library would compute in the kernel's place, or of it, as a line of
/// the manifest. Empty where none has it.
std::string describePeer(graph::KernelOp kernel,
                         const CudaCodegenOptions &codegen);

/// The manifest's head. `target` is canonical JSON.
std::string makeBundleHeader(const CudaDesc &device, llvm::StringRef run,
                             llvm::StringRef target);

/// Writes one of a bundle's files, and the folders on the way.
llvm::Error writeBundleFile(llvm::StringRef folder, const llvm::Twine &name,
                            llvm::StringRef bytes);
llvm::Error writeOracle(llvm::StringRef folder, llvm::ArrayRef<double> oracle);
/// Copies dlc-cuda-measure from beside the program that runs; returns its path
/// in the folder and adds its size.
llvm::Error writeMeasureProgram(llvm::StringRef folder, uint64_t &bytes);
/// Where that is.
std::string findMeasureProgram();

} // namespace dlc

#endif // DLC_LIB_DRIVER_CUDACANDIDATE_H
