// A kernel of the compiler as a task of the tuner.
#ifndef DLC_TUNER_KERNELTASK_H
#define DLC_TUNER_KERNELTASK_H

#include "dlc/Codegen/CPU/CpuKernel.h"
#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Target/Common/CpuTarget.h"
#include "dlc/Tuner/Tune.h"

namespace dlc::tuner {

/// The sizes of a kernel of symbolic sizes, by its symbols; none of a kernel of
/// static ones.
struct KernelSizes {
  using Point = std::vector<int64_t>;
  std::vector<Point> measured; ///< what decides: the geometric mean over them
  /// Where a schedule must be right, too, and no slower than the default.
  std::vector<Point> others;

  /// What features are computed at.
  llvm::ArrayRef<int64_t> getFirst() const {
    return measured.empty() ? llvm::ArrayRef<int64_t>()
                            : llvm::ArrayRef(measured.front());
  }
};

/// What identifies a kernel and its machine in the database.
struct KernelKey {
  std::string nest;
  std::string workload, target; ///< canonical JSON
  double work = 0;              ///< scalar operations of a run
};

/// The key of `kernel` on `target` with so many threads. Fails, with `reason`
/// in words, for kernels that cannot be tuned yet: symbolic sizes of which none
/// are given, opaque operators, indices from data.
mlir::FailureOr<KernelKey> makeKernelKey(graph::KernelOp kernel,
                                         const CpuTarget &target,
                                         const CpuCodegenOptions &options,
                                         std::string &reason,
                                         const KernelSizes &sizes = {});

/// Whether code generation would take these knobs for `kernel`; `reason` says
/// why not.
bool isLegalFor(graph::KernelOp kernel, const KnobValues &knobs,
                const CpuTarget &target, const CpuCodegenOptions &options,
                std::string &reason, const KernelSizes &sizes = {});

/// By operand, whether it is a factor of the kernel's products (or attention's
/// queries, keys or values): its random numbers lie around zero.
std::vector<bool> findFactors(graph::KernelOp kernel);

/// The point of the kernel's space that stands for all that are the same code
/// as `knobs`.
KnobValues representFor(graph::KernelOp kernel, const KnobValues &knobs,
                        const CpuTarget &target,
                        const CpuCodegenOptions &options,
                        const KernelSizes &sizes = {});

/// A task that owns a copy of the kernel.
class KernelTask {
public:
  /// Computes the expected results with the interpreter on random operands of
  /// `seed`. Fails in words like makeKernelKey, and where the work is more than
  /// `mostWork` scalar operations. With static times nothing is computed, and
  /// any size and any target will do.
  static llvm::Expected<std::unique_ptr<KernelTask>>
  create(graph::KernelOp kernel, const CpuTarget &target,
         const CpuCodegenOptions &options, uint64_t seed = 1,
         double mostWork = 6e10, Timing timing = Timing::Measured,
         const KernelSizes &sizes = {});
  ~KernelTask();

  const Task &get() const { return task; }

  /// Makes the schedules that call oneDNN (of this version) alternatives of the
  /// task. Returns how many; with none, `reason` says why.
  unsigned addLibrary(int64_t version, std::string &reason);

private:
  KernelTask();
  struct State;
  std::unique_ptr<State> state;
  Task task;
};

/// Whether a library on this machine is a candidate for `target`: one that has
/// fewer instructions is not compared with what has them all.
bool isForLibraries(const CpuTarget &target, std::string &reason);

/// Whether kernel and schedule (of the nest `library`) fit.
bool isLibraryLegalFor(graph::KernelOp kernel, const KnobValues &knobs,
                       const CpuCodegenOptions &options, std::string &reason);

} // namespace dlc::tuner

#endif // DLC_TUNER_KERNELTASK_H
