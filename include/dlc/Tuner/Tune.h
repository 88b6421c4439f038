// Tuning one kernel: search, build, measure, store.
#ifndef DLC_TUNER_TUNE_H
#define DLC_TUNER_TUNE_H

#include "dlc/Tuner/Runner.h"
#include "dlc/Tuner/Search.h"
#include "dlc/Tuner/Store.h"

namespace dlc::tuner {

class Fleet;

/// Where times come from: clocks of this machine, or estimateCycles
/// (StaticCycles.h) and the analytic traffic, for targets that this machine
/// does not run.
enum class Timing { Measured, Static };
/// A schedule of another nest than the space's: what a library computes.
struct Alternative {
  std::string nest;
  KnobValues knobs;
};

/// What is to be tuned, freed of the compiler. KernelTask makes it of a kernel.
struct Task {
  std::string name;             ///< for people
  std::string workload, target; ///< canonical JSON
  Scorer scorer;                ///< of both
  ScheduleSpace space;
  Problem problem; ///< nothing where times are static
  Timing timing = Timing::Measured;
  /// The code of one schedule, or an error that says why there is none. Called
  /// in processes of its own.
  std::function<llvm::Expected<BuiltKernel>(const KnobValues &)> build;
  /// Measures candidates that are no code of this machine, and calls `done`
  /// with the number of each as it comes. Null: they run here.
  using Done = llvm::function_ref<llvm::Error(unsigned, const Measurement &)>;
  std::function<llvm::Error(llvm::ArrayRef<const BuiltKernel *> candidates,
                            const BuiltKernel &reference,
                            const RunLimits &limits, Done done)>
      measure;
  /// Measured before the search begins, as any candidate; it learns nothing of
  /// them.
  std::vector<Alternative> alternatives;
  std::function<llvm::Expected<BuiltKernel>(const Alternative &)>
      buildAlternative;
};

struct TuneOptions {
  SearchOptions search;
  unsigned budget = 32;    ///< trials
  double seconds = 0;      ///< 0: no limit of time
  unsigned jobs = 0;       ///< builds at a time; 0: one a CPU
  unsigned winners = 3;    ///< so many at least are measured again, a quarter
                           ///< of the trials, at most 10,
  unsigned again = 20;     ///< with so many samples
  double mostDrift = 0.05; ///< a measurement whose reference drifts more is
  unsigned retries = 1;    ///< repeated so often; then its drift is recorded
  RunLimits limits;
  std::string compiler;   ///< dlc's version
  Fleet *fleet = nullptr; ///< where candidates are measured; null: here
  /// Called after each measurement, with their number.
  std::function<void(const Record &, unsigned trials)> progress;
};

struct TuneResult {
  std::string run;
  unsigned trials = 0; ///< measured now
  unsigned reused = 0; ///< of this run, found in the store
  unsigned failed = 0; ///< of all
  double best = 1;     ///< time over the default's, of our nests
  /// The same of the fastest alternative; 0: none was measured and right.
  double bestAlternative = 0;
  double expectedGain = 1;
  bool isConverged = false;
};

/// Tunes one task round by round, so that several can share a budget. All
/// trials of a run that the store already holds are taken from it: a search
/// that was killed goes on.
class Tuner {
public:
  /// Errors when the default schedule cannot be built or is wrong: that is a
  /// bug of dlc and no trial.
  static llvm::Expected<std::unique_ptr<Tuner>>
  create(const Task &task, const CostModel *base, Store *store,
         const TuneOptions &options);

  /// One round of at most `most` candidates. False: there is nothing left to
  /// do.
  llvm::Expected<bool> step(unsigned most);
  /// Measures the winners again, with more samples.
  llvm::Error finish();
  /// Measures these again, with more samples.
  llvm::Error measureAgain(llvm::ArrayRef<KnobValues> points) {
    return measureAll(candidatesOf(points), 1);
  }
  const TuneResult &getResult() const { return result; }
  /// What was found in the store or measured, in order.
  llvm::ArrayRef<Record> getRecords() const { return records; }

private:
  Tuner(const Task &task, const CostModel *base, Store *store,
        const TuneOptions &options);
  Measurement measureHere(const BuiltKernel &candidate,
                          const MeasureOptions &how);
  /// A point of the space, or an alternative.
  struct Candidate {
    KnobValues point;
    const Alternative *other = nullptr;
  };
  static std::vector<Candidate> candidatesOf(llvm::ArrayRef<KnobValues> points);
  llvm::Error measureAll(llvm::ArrayRef<Candidate> candidates,
                         unsigned attempt);
  std::vector<llvm::Expected<BuiltKernel>>
  buildAll(llvm::ArrayRef<Candidate> candidates);
  Record makeRecord(const Candidate &candidate, unsigned attempt) const;
  const Alternative *bestAlternative(unsigned attempt, double &ratio) const;

  const Task &task;
  Store *store;
  TuneOptions options;
  Search search;
  BuiltKernel reference;
  double fastestReference = 1e300; ///< ns
  bool triedAlternatives = false;
  std::map<std::string, Record> cache; ///< by key, of this run
  std::vector<Record> records;
  TuneResult result;
};

/// Tunes `task` until the budget is spent or nothing is expected any more.
llvm::Expected<TuneResult> tune(const Task &task, const CostModel *base,
                                Store *store, const TuneOptions &options);

/// Repeats the decisions of a run from the records alone. Errors name the first
/// round that asks for another candidate than the one recorded.
llvm::Expected<TuneResult> replay(const Task &task, const CostModel *base,
                                  llvm::ArrayRef<Record> records,
                                  const SearchOptions &options);

} // namespace dlc::tuner

#endif // DLC_TUNER_TUNE_H
