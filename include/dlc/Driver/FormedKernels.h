// The kernels of a model as the compiler forms them, for tools that look at
// kernels one by one.
#ifndef DLC_DRIVER_FORMEDKERNELS_H
#define DLC_DRIVER_FORMEDKERNELS_H

#include "dlc/Codegen/CPU/CpuKernel.h"
#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Driver/ModelSource.h"
#include "dlc/Target/Targets.h"

#include <vector>

namespace dlc {

/// A kernel that a model calls, and how it would be compiled.
struct FormedKernel {
  graph::KernelOp op;        ///< without a schedule
  CpuCodegenOptions options; ///< which operands are constants
  unsigned calls = 0;
};

/// The IR of `kernels` lives as long as this.
struct FormedKernels {
  ModelSource source;
  std::optional<CpuTarget> target;
  std::vector<FormedKernel> kernels; ///< in the module's order
};

/// Which operands each kernel of `module` is called with that are constants of
/// the model, by the kernel's name, and how often it is called.
struct KernelCalls {
  llvm::SmallVector<bool> constantOperands;
  unsigned count = 0;
};
llvm::StringMap<KernelCalls> findKernelCalls(mlir::ModuleOp module);

/// Sets kConstantBits of the kernels of `module` that have such constants in
/// all calls.
void markConstantBits(mlir::ModuleOp module);

/// Imports `options.input`, fuses and relays it for `options.target`, a CPU.
/// Fails with a CompileError.
llvm::Expected<FormedKernels> formModelKernels(const CompileOptions &options);

} // namespace dlc

#endif // DLC_DRIVER_FORMEDKERNELS_H
