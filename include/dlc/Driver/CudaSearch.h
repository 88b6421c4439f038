// Searches on a GPU at hand: candidates are built here, and measured by
// dlc-cuda-measure in a process of its own, on this machine or wherever a
// command runs it.
#ifndef DLC_DRIVER_CUDASEARCH_H
#define DLC_DRIVER_CUDASEARCH_H

#include "dlc/Tuner/CudaTask.h"

#include <array>
#include <memory>

namespace dlc {

/// Runs dlc-cuda-measure on folders of candidates.
class CudaRunner {
public:
  /// Asks for the device first: errors (CompileError, Unavailable) say what is
  /// missing: the driver, a device, or the target's. `command` are words to put
  /// before the program's own, such as a script that runs them on another
  /// machine; the last of its words are the program, which lies in the folder,
  /// the folder, and options. Empty: the program runs here.
  /// With `libraries` cuBLAS or cuDNN has to be there, too.
  static llvm::Expected<std::shared_ptr<CudaRunner>>
  start(const CudaTarget &target, llvm::StringRef command, bool libraries);
  /// The version of the library that has such calls (dlc_device_call_kind); 0:
  /// it is not there, or was not asked for.
  int64_t getLibrary(int64_t callKind) const { return libraries[callKind]; }
  bool hasLibraries() const {
    return llvm::any_of(libraries, [](int64_t version) { return version > 0; });
  }
  ~CudaRunner();
  CudaRunner(const CudaRunner &) = delete;

  /// What the candidates of one kernel share.
  struct Kernel {
    std::string target, workload; ///< canonical JSON
    std::string name;             ///< for people
    std::string data;             ///< the manifest's operands and results
    std::vector<double> oracle;
  };
  /// Calls `done` with each candidate's measurement, in order.
  llvm::Error measure(const Kernel &kernel,
                      llvm::ArrayRef<const tuner::BuiltKernel *> candidates,
                      const tuner::BuiltKernel &reference,
                      const tuner::RunLimits &limits, tuner::Task::Done done);

private:
  CudaRunner(const CudaTarget &target) : target(target) {}
  llvm::Error run(llvm::ArrayRef<std::string> options);

  CudaTarget target;
  std::vector<std::string> words; ///< of the command
  std::string folder, program;
  std::array<int64_t, DLC_DEVICE_NUM_LIBRARIES> libraries{};
};

/// A kernel as a task of the tuner; owns a copy of it.
class CudaKernelTask {
public:
  /// The kernel's schedule gives its laws. Fails, in words, like makeCudaKey,
  /// and where the interpreter would take too long.
  static llvm::Expected<std::unique_ptr<CudaKernelTask>>
  create(graph::KernelOp kernel, const CudaTarget &target,
         const CudaCodegenOptions &options, std::shared_ptr<CudaRunner> runner,
         uint64_t seed = 1, double mostWork = 4e11);
  ~CudaKernelTask();

  const tuner::Task &get() const { return task; }

  /// Makes the runner's library an alternative that has the kernel's sum of
  /// products; else `reason` says why not.
  bool addLibrary(std::string &reason);

private:
  CudaKernelTask();
  struct State;
  std::unique_ptr<State> state;
  tuner::Task task;
};

} // namespace dlc

#endif // DLC_DRIVER_CUDASEARCH_H
