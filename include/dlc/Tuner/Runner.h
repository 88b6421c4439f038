// Runs candidates where they can do no harm: in another process, under limits,
// on guarded buffers full of a pattern. A candidate's results are compared
// before its time counts, and its time is taken in turns with that of a
// reference kernel.
#ifndef DLC_TUNER_RUNNER_H
#define DLC_TUNER_RUNNER_H

#include "dlc/Tuner/Record.h"

#include "llvm/ADT/STLFunctionalExtras.h"

#include <map>
#include <string>
#include <vector>

namespace dlc::tuner {

/// How code is run at the sizes of one problem.
struct Launch {
  std::vector<int64_t> tasks; ///< of each phase
  int64_t scratchBytes = 0;   ///< of one worker
};

/// The code of one scheduled kernel, freed of the compiler.
struct BuiltKernel {
  std::string object; ///< ELF; a GPU's cubin or PTX
  /// Of a GPU's: the rest of its entry in a bundle's manifest
  /// (tools/dlc-cuda-measure/Manifest.c), from the schedule on.
  std::string manifest;
  std::vector<std::string> phases; ///< functions to call in order
  std::vector<Launch> launches;    ///< of the problem and of its `others`
  double staticSeconds = 0; ///< of a run, estimated (Timing::Static); else 0
  /// Operands in the layout that this code reads, where it is not the model's.
  std::map<unsigned, std::string> packed;
};

/// How results are compared: each element within `tolerance` of the largest
/// magnitude among those expected; 0: equal bytes.
enum class ElementKind { F32, F64, F16, BF16, Bytes };
struct ExpectedResult {
  std::string bytes;
  ElementKind kind = ElementKind::F32;
  double tolerance = 1e-4;
};

/// What a kernel is run on.
struct Problem {
  std::vector<std::string> operands; ///< row-major bytes
  std::vector<ExpectedResult> results;
  unsigned threads = 1;
  std::vector<int64_t> symbols; ///< values of the kernel's
  /// Of a kernel of symbolic sizes: other sizes, which have no `others`. Those
  /// that are scored are timed as this one, and their geometric mean counts;
  /// the rest only has to be right, and no slower than the reference.
  std::vector<Problem> others;
  bool isScored = true;
};

struct RunLimits {
  unsigned samples = 9;
  double sampleSeconds = 200e-6; ///< of one sample; short kernels are repeated
  double seconds = 10;           ///< of a CPU, for the whole process
  int64_t memory = int64_t(8) << 30;
  /// A candidate that is so many times slower than the reference after three
  /// samples has no more of them; 0: all have as many.
  double hopeless = 0;
};

struct Measurement {
  Status status = Status::Crash;
  std::string reason;
  std::vector<double> samples, reference; ///< ns a run
  std::string clock;
  double drift = 0;
  /// The candidate's time over the reference's at each size that is not scored.
  std::vector<double> elsewhere;
};

/// Runs `candidate` on `problem` beside `reference`. Never fails: what happens
/// to the other process is the result.
Measurement measure(const BuiltKernel &candidate, const BuiltKernel &reference,
                    const Problem &problem, const RunLimits &limits);

/// How a candidate is measured: again, at most `retries` times, while the
/// reference's samples drift more than `mostDrift`.
struct MeasureOptions {
  RunLimits limits;
  double mostDrift = 0.05;
  unsigned retries = 1;
};
/// The measurement of those taken that drifts least; the first that fails.
Measurement measureSteady(const BuiltKernel &candidate,
                          const BuiltKernel &reference, const Problem &problem,
                          const MeasureOptions &options);

/// A kernel through a pipe, and back (only what kernelToBytes wrote).
std::string kernelToBytes(const BuiltKernel &kernel);
BuiltKernel kernelFromBytes(llvm::StringRef bytes);

/// Calls `body` for each i below `count` in a process of its own, `jobs` at a
/// time. Returns what each wrote to its stream, or nothing for one that died,
/// failed (returned false) or took more than `seconds` of a CPU; `reasons` says
/// why. Time in which others had the machine does not count, only that a
/// process that waits for nothing ends too, at 10 * seconds + 20 of the clock.
std::vector<std::optional<std::string>>
runInProcesses(unsigned count, unsigned jobs, double seconds,
               llvm::function_ref<bool(unsigned, std::string &)> body,
               std::vector<std::string> &reasons);

/// One measurement at a time on this machine: held while it lives.
class MeasureLock {
public:
  MeasureLock();
  ~MeasureLock();
  MeasureLock(const MeasureLock &) = delete;

private:
  int file;
};

} // namespace dlc::tuner

#endif // DLC_TUNER_RUNNER_H
