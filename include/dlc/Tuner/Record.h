// One measured candidate: a kernel (workload), a schedule, a machine (target),
// and what the clock said. The one schema of the tuning database; docs/tuner.md
// describes its two encodings, rows of SQLite and lines of JSON.
#ifndef DLC_TUNER_RECORD_H
#define DLC_TUNER_RECORD_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <algorithm>
#include <string>
#include <vector>

namespace dlc::tuner {

/// Of records and stores. Raise it when a field changes its meaning.
constexpr int kSchemaVersion = 1;

/// Times hold for the code that was measured, and ratios for the default beside
/// it: raise a nest's number (Record.cpp) when it makes other code from the
/// same schedule or its rules choose another one. Lookup ignores records of
/// other versions; those of the other nests stay.
int codegenVersionOf(llvm::StringRef workload, llvm::StringRef target);
/// Of all nests of GPUs.
constexpr int kCudaCodegenVersion = 4;

enum class Status {
  Ok,
  Compile, ///< the compiler declined the schedule or died of it
  Wrong,   ///< the results differ from the interpreter's: a bug of dlc
  Timeout,
  Crash,
};
llvm::StringRef toString(Status status);
std::optional<Status> parseStatus(llvm::StringRef text);

/// The clock of times that were estimated: nothing ran.
constexpr llvm::StringLiteral kStaticClock = "static";

struct Record {
  /// JSON in canonical form: objects, keys sorted, no spaces.
  std::string target, workload, schedule;
  Status status = Status::Ok;
  std::string reason; ///< in words, unless Ok
  /// Nanoseconds a run: the candidate's, and those of the default schedule in
  /// the same process, in turns. Empty unless Ok.
  std::vector<double> samples, reference;
  std::string clock; ///< "thread_cpu", "wall" or kStaticClock
  /// How far the reference's samples spread: median / fastest - 1.
  double drift = 0;
  /// Of a kernel of symbolic sizes: the same ratio at other sizes than those of
  /// `samples`.
  std::vector<double> elsewhere;
  /// The search that asked for it; trials of equal keys are one trial.
  std::string run;
  unsigned round = 0;
  bool isDefault = false; ///< the schedule that rules choose
  unsigned attempt = 0;   ///< 1: the winner, measured again with more samples
  uint64_t seed = 0;
  int codegen = 0;      ///< codegenVersionOf of the dlc that measured
  std::string compiler; ///< dlc's version
  int64_t utc = 0;      ///< seconds since 1970

  /// Measured of the code that this dlc makes.
  bool isCurrent() const {
    return codegen == codegenVersionOf(workload, target);
  }
  /// Its schedule calls a library (nest `library`): nothing to learn of for
  /// searches of our nests.
  bool usesLibrary() const;
  /// What identifies the trial: SHA-256 of target, workload, schedule, run and
  /// attempt.
  std::string key() const;
  /// Fastest of the samples over fastest of the reference's: below 1 it beats
  /// the default schedule. Needs samples.
  double ratio() const;
  /// The same of the medians.
  double medianRatio() const;
  /// `ratio`, or that of other sizes where it is slower there beyond noise:
  /// what searches and lookup go by.
  double worstRatio() const { return std::max(ratio(), lossElsewhere()); }
  /// The worst ratio of other sizes; 0 where none is slower beyond noise.
  double lossElsewhere() const;

  std::string toJson() const; ///< one line, without its end
  /// Refuses, in words, another schema version, fields that are missing or of
  /// another type, times that are no times.
  static llvm::Expected<Record> parseJson(llvm::StringRef line);
};

/// Lower-case hexadecimal SHA-256.
std::string sha256(llvm::StringRef text);

/// `text` parsed and printed in canonical form. Errors unless it is an object.
llvm::Expected<std::string> canonicalJson(llvm::StringRef text);

/// A file of records, a line each; blank lines are skipped. Errors name the
/// file and the line.
llvm::Expected<std::vector<Record>> readJsonLines(llvm::StringRef path);
/// Writes a file beside `path` and renames it: whoever reads sees all or none.
/// Records are sorted by key and equal keys written once: equal sets are equal
/// files.
llvm::Error writeJsonLines(std::vector<Record> records, llvm::StringRef path);

/// Without those whose reference took far longer than the median of the same
/// run, kernel and machine: somebody else had the machine, and the ratio says
/// nothing. Failed ones stay.
std::vector<const Record *> withoutDisturbed(llvm::ArrayRef<Record> records);

struct BestOptions {
  double margin = 0.03; ///< by which the default has to be beaten
  /// Estimates count, where nothing was measured, and have to promise 10 %.
  bool takesEstimates = false;
  bool takesLibraries = false; ///< schedules that call one count
};

/// The best schedule (JSON) of one target and workload among `records`, or
/// nothing where none beats the default by more than the margin, by the fastest
/// and by the median samples. Trials that were measured again count before
/// those measured once. A function of the set.
std::optional<Record> findBest(llvm::ArrayRef<Record> records,
                               const BestOptions &options = {});

} // namespace dlc::tuner

#endif // DLC_TUNER_RECORD_H
