// One instance of a kernel library: a compilation of its own, whose objects are
// all that is kept.
#ifndef DLC_LIB_DRIVER_LIBRARYINSTANCE_H
#define DLC_LIB_DRIVER_LIBRARYINSTANCE_H

#include "dlc/Driver/Compiler.h"
#include "dlc/Library/Emit.h"

namespace dlc {

/// An instance on a CPU or device: what to compile, and what came of it.
struct InstanceJob {
  unsigned op, instance, cpu;
  std::string prefix;
  library::CompiledInstance compiled;
  std::vector<llvm::SmallVector<char, 0>> objects;
  double rooflineSeconds = 0;
  unsigned kernels = 0, tuned = 0; ///< with -tune: that can be, that are
  std::optional<CompileError> error;
};

/// Compiles the job's instance for `target`; several threads may, each its own
/// job. Failures are left in the job.
void compileInstance(const CompileOptions &options, const library::Build &build,
                     llvm::StringRef target, InstanceJob &job);

} // namespace dlc

#endif // DLC_LIB_DRIVER_LIBRARYINSTANCE_H
