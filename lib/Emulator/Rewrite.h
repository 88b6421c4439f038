// From an NVPTX LLVM module to one the host's code generator takes.
#ifndef DLC_LIB_EMULATOR_REWRITE_H
#define DLC_LIB_EMULATOR_REWRITE_H

#include "dlc/Emulator/Emulator.h"

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringMap.h"

namespace dlc::emu {

/// A statically sized variable in shared memory.
struct SharedVariable {
  std::string name;
  size_t offset = 0;
  size_t bytes = 0;
};

struct KernelParameter {
  enum Kind { Pointer, Integer64, Other };
  Kind kind = Other;
};

struct KernelInfo {
  std::vector<KernelParameter> parameters;
  /// Name of the host function `void (void **arguments)`.
  std::string entry;
  /// Shared variables the kernel reaches, indices into `shared`.
  llvm::SmallVector<unsigned> sharedVariables;
  /// Largest number of threads in a block the kernel was compiled for; 0: none
  /// stated.
  uint64_t maxThreads = 0;
  /// Its threads may wait for each other, end early or have work under way.
  bool waits = true;
  /// It has bulk copies or wgmma.
  bool usesAsyncProxy = false;
  /// Of the shared window that it reaches, without dynamic shared memory.
  size_t windowBytes = 0;
};

/// A global variable in global or constant memory, found by name in the JIT.
struct GlobalData {
  std::string name;
  size_t bytes = 0;
  bool writable = false;
};

struct RewrittenModule {
  llvm::StringMap<KernelInfo> kernels;
  std::vector<std::string> sites;
  std::vector<SharedVariable> shared;
  std::vector<GlobalData> globals;
  /// Dynamic shared memory starts here in the shared window.
  size_t dynamicSharedOffset = 0;
};

/// Bytes of unusable memory between two shared variables, so that running over
/// the end of one is seen.
inline constexpr size_t kSharedRedZone = 64;

/// Rewrites `module` in place. Target triple and data layout are the caller's
/// to set. Errors name the construct that is not emulated.
llvm::Expected<RewrittenModule> rewriteForHost(llvm::Module &module,
                                               EmulatorCheck check);

} // namespace dlc::emu

#endif // DLC_LIB_EMULATOR_REWRITE_H
