// Bundles of prebuilt candidates: what a machine with a GPU needs to measure
// schedules of a model's kernels without compiler and network. Made by
// `dlc-tune bundle -target=cuda`, run by dlc-cuda-measure, read back by
// `dlc-tune import`.
#ifndef DLC_DRIVER_CUDABUNDLE_H
#define DLC_DRIVER_CUDABUNDLE_H

#include "dlc/Driver/Options.h"

namespace dlc {

struct CudaBundleOptions {
  std::string folder;
  unsigned candidates = 8; ///< of a kernel, the rules' schedule among them
  uint64_t seed = 1;
  /// Scalar operations of a kernel that the interpreter checks.
  double mostWork = 4e11;
  uint64_t mostBytes = 48 << 20; ///< of the folder
};

struct CudaBundle {
  unsigned kernels = 0, candidates = 0;
  uint64_t bytes = 0;
  std::vector<std::string> notes; ///< what is left out, and why
};

/// Writes the candidates of all kernels of the models (each compiled as
/// `models[i]` says, whose target is a GPU) to `options.folder`. Fails with a
/// CompileError.
llvm::Expected<CudaBundle>
writeCudaBundle(const std::vector<CompileOptions> &models,
                const CudaBundleOptions &options);

} // namespace dlc

#endif // DLC_DRIVER_CUDABUNDLE_H
