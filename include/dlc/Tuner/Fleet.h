// Measuring on other machines. The tuner builds candidates and alone writes the
// store; workers get a job (candidate, reference, problem), run `dlc-tune
// measure` on it and give back what the clock said. Who hands jobs out, retries
// them and restarts workers is Ray, behind the Python module dlc.fleet, which
// this starts and speaks to in lines of JSON.
#ifndef DLC_TUNER_FLEET_H
#define DLC_TUNER_FLEET_H

#include "dlc/Tuner/Runner.h"

#include "llvm/ADT/ArrayRef.h"

#include <memory>

namespace dlc::tuner {

/// A job as bytes: what a worker needs, and nothing else.
struct Job {
  std::string cpu; ///< that the code is for; workers of another CPU decline
  BuiltKernel candidate, reference;
  Problem problem;
  MeasureOptions options;

  std::string toBytes() const;
  /// Errors on bytes that are no job of this version.
  static llvm::Expected<Job> parse(llvm::StringRef bytes);
};

std::string toJson(const Measurement &measurement);
llvm::Expected<Measurement> parseMeasurement(llvm::StringRef json);

/// What a worker does with a job's bytes: measures, one at a time on its
/// machine. Errors (which are no measurement) when the machine is another.
llvm::Expected<Measurement> runJob(llvm::StringRef bytes);

class Fleet {
public:
  /// `address` as dlc.fleet has it: ray://host:port, ray://local,
  /// processes://<n>. `program` is dlc-tune. Errors, in words, when Python,
  /// the module or the cluster is missing.
  static llvm::Expected<std::unique_ptr<Fleet>> start(llvm::StringRef address,
                                                      llvm::StringRef program);
  ~Fleet();
  Fleet(const Fleet &) = delete;

  using Done = llvm::function_ref<llvm::Error(unsigned, const Measurement &)>;
  /// Calls `done` with each candidate's measurement when it comes, in any
  /// order. Errors when one could not be measured at all; those that could
  /// have been given to `done` by then.
  llvm::Error measureAll(llvm::ArrayRef<const BuiltKernel *> candidates,
                         const BuiltKernel &reference, const Problem &problem,
                         const MeasureOptions &options, Done done);

private:
  Fleet() = default;
  llvm::Expected<std::string> readLine();

  int process = -1, toHelper = -1, fromHelper = -1;
  std::string buffer, folder;
  unsigned next = 0; ///< number of the next job
};

} // namespace dlc::tuner

#endif // DLC_TUNER_FLEET_H
