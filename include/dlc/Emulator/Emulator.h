// Runs CUDA kernels on the host: the public face of the emulator.
//
// The input is the LLVM module that is also handed to the NVPTX back end, so
// what is emulated is what is compiled, up to LLVM's own PTX selection. Every
// GPU thread becomes a fiber; a block runs on one OS thread. The emulator
// checks what a GPU leaves undefined (deadlocks, divergent barriers
// and collectives, accesses outside of buffers) and says so in words.
#ifndef DLC_EMULATOR_EMULATOR_H
#define DLC_EMULATOR_EMULATOR_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace dlc {

/// An extent or a position in a grid or a block.
struct Dim3 {
  uint32_t x = 1;
  uint32_t y = 1;
  uint32_t z = 1;

  uint64_t product() const { return uint64_t(x) * y * z; }
};

/// How much the emulator looks at. Each level contains the ones before it.
enum class EmulatorCheck {
  /// Numbers, deadlocks, divergent barriers and collectives, launch limits.
  Execution = 0,
  /// Bounds, alignment and write permission of every load and store.
  Memory = 1,
  /// Races: accesses of one byte, one of them a write, that no barrier or warp
  /// collective orders, in shared memory and in writable buffers.
  Races = 2,
};

/// What one instruction's accesses cost, of all warps of all launches.
struct AccessCount {
  std::string kernel, instruction;
  bool isShared = false;
  uint64_t accesses = 0; ///< of warps
  /// Cycles of shared memory, or sectors (32 bytes) of global memory, and the
  /// fewest that these accesses could have had: without bank conflicts, or with
  /// their bytes side by side.
  uint64_t cost = 0, least = 0;
};

struct EmulatorOptions {
  EmulatorCheck check = EmulatorCheck::Memory;
  /// 0 runs ready threads in order; any other value shuffles them, so that a
  /// result that depends on the order of threads shows.
  uint64_t scheduleSeed = 0;
  /// Static plus dynamic shared memory one block may use, in bytes
  /// (sm_90: 232448, sm_80: 166912).
  size_t maxSharedBytes = 232448;
  /// Stack of one thread, in bytes.
  size_t stackBytes = 64 * 1024;
  /// OS threads that run blocks; 0: as many as the host has. From level 1 on it
  /// is one.
  unsigned workers = 0;
  /// Not null: from level 1 on launches add up here what their accesses cost,
  /// the worst first. Of one instruction the first 65,536 of a warp count.
  std::vector<AccessCount> *accessCounts = nullptr;
};

/// Memory a kernel may touch during a launch.
struct EmulatedBuffer {
  void *data = nullptr;
  size_t bytes = 0;
  /// Used in reports only.
  std::string name;
  bool writable = true;
};

/// The shape of a launch; `sharedBytes` is dynamic shared memory.
struct LaunchShape {
  Dim3 grid;
  Dim3 block;
  size_t sharedBytes = 0;
};

/// A kernel of dlc's CUDA code: launches that run one after the other and share
/// their parameters: buffers, scratch buffers, a status word, symbols.
struct EmulatedKernel {
  struct Launch {
    std::string name;
    LaunchShape shape;
  };
  std::vector<Launch> launches;
  std::vector<size_t> scratchBytes;
};

/// The kernels of one LLVM module, compiled for the host and ready to launch.
///
/// Launches of one object must not overlap in time; different objects are
/// independent.
class EmulatedModule {
public:
  /// Takes over `module` (and `context`, which must own it), rewrites it to
  /// host IR and compiles it. Fails, naming the offender, when the module holds
  /// an intrinsic, an inline assembly or an external function that the emulator
  /// does not know.
  static llvm::Expected<std::unique_ptr<EmulatedModule>>
  create(std::unique_ptr<llvm::Module> module,
         std::unique_ptr<llvm::LLVMContext> context,
         EmulatorOptions options = {});

  /// The same from a bitcode or IR text held by the caller's module: the module
  /// is copied, the original stays as it is.
  static llvm::Expected<std::unique_ptr<EmulatedModule>>
  createFromCopy(const llvm::Module &module, EmulatorOptions options = {});

  /// Runs `kernel`, whose parameters are one pointer per buffer followed by one
  /// i64 per symbol. On an error the buffers hold what was written before it.
  llvm::Error launch(llvm::StringRef kernel, const LaunchShape &shape,
                     llvm::ArrayRef<EmulatedBuffer> buffers,
                     llvm::ArrayRef<int64_t> symbols = {});

  /// Runs `kernel` with arguments as the CUDA driver takes them: one pointer to
  /// each argument's value. `memory` lists what the kernel may touch.
  llvm::Error launchRaw(llvm::StringRef kernel, const LaunchShape &shape,
                        llvm::ArrayRef<const void *> arguments,
                        llvm::ArrayRef<EmulatedBuffer> memory);

  /// Runs a kernel of several launches on `buffers`, with scratch memory of its
  /// own. Launches of zero blocks are left out, as a driver would have to.
  /// Returns the status word: nonzero after an error in the data.
  llvm::Expected<int32_t> runKernel(const EmulatedKernel &kernel,
                                    llvm::ArrayRef<EmulatedBuffer> buffers,
                                    llvm::ArrayRef<int64_t> symbols = {});

  /// The names of the module's kernels, sorted.
  std::vector<std::string> kernelNames() const;

  /// How many parameters a kernel has; 0 for an unknown one.
  size_t numParameters(llvm::StringRef kernel) const;

  ~EmulatedModule();

private:
  struct Impl;
  explicit EmulatedModule(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl;
};

} // namespace dlc

#endif // DLC_EMULATOR_EMULATOR_H
