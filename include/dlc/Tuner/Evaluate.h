// How good the models are, on kernels that they never saw.
#ifndef DLC_TUNER_EVALUATE_H
#define DLC_TUNER_EVALUATE_H

#include "dlc/Tuner/Model.h"

#include <map>
#include <string>

namespace dlc::tuner {

struct EvalOptions {
  /// Parts that the kernels are cut into; each is held out once, on all
  /// machines and numbers of threads.
  unsigned folds = 5;
  unsigned seed = 1;
  /// Models learn from the other instruction sets alone.
  bool leavesIsaOut = false;
  /// Kernels of fewer schedules teach and are not judged: their best is hardly
  /// known. Those surveyed have some hundred.
  unsigned fewest = 16;
  /// Not empty: these kernels are judged, by models of all the others; nothing
  /// is cut into parts.
  llvm::ArrayRef<Record> judged = {};
};

/// In logarithms of speed: what a model must promise over the default schedule
/// for an unmeasured one to be taken for faster.
inline constexpr double kLeastPromise = 0.08;

/// How well a ranking finds the fast schedules of workloads that it never saw:
/// the best of its first k over the best of all, geometric means.
struct Ranking {
  double top1 = 0, top5 = 0, top10 = 0;
  double pairs = 0; ///< share of pairs ordered right
};

struct Evaluation {
  unsigned workloads = 0, trials = 0, folds = 0;
  Ranking model, analytic, random;
  double defaults = 0; ///< the default schedule over the best
  /// As searches use a model: the default unless the model promises more than
  /// kLeastPromise; and the best of five measured, the default and the
  /// four that the model chooses (what -tune=quick measures).
  double choice = 0, quick = 0;
  /// How far predicted times are off, as a factor (exp of the mean |log|): the
  /// model's, and the analytic ones times one factor for all.
  double timeFactor = 1, analyticFactor = 1;
};

/// What a workload loses when it is tuned as -tune=quick does.
struct KernelLoss {
  std::string name;                    ///< kind, sizes and threads, for people
  double defaults = 1, quick = 1;      ///< over the best known
  std::pair<std::string, double> best; ///< its knobs, and 1
  /// The four that are measured beside the default.
  std::vector<std::pair<std::string, double>> chosen;
};

struct FamilyEvaluation {
  Evaluation all;
  std::map<std::string, Evaluation> byKind; ///< kinds of kernels
  std::map<unsigned, Evaluation> byThreads;
  std::vector<KernelLoss> losses; ///< of all workloads, the worst first
};

/// Of the records of a family. Errors when there are fewer than 2 kernels (or,
/// to leave one out, instruction sets).
llvm::Expected<FamilyEvaluation> evaluate(llvm::ArrayRef<Record> records,
                                          llvm::StringRef family,
                                          const EvalOptions &options);

/// Trials until 95 % of the best recorded is measured, the default schedule
/// being the first.
struct TrialCount {
  double median = 0, p90 = 0;
};

/// Searches of one kind in recorded trials.
struct ReplayRow {
  std::string name;
  unsigned kernels = 0, below = 0;
  TrialCount all;    ///< of `kernels`
  TrialCount hidden; ///< of the `below` whose default is under 95 % of the best
};

/// Replays searches in the recorded trials of each kernel, as if it were not
/// known: with other kernels known, with those on other instruction sets alone
/// (where there are records of two), and with none; beside cold XGBoost,
/// evolution and chance. Errors as `evaluate`.
llvm::Expected<std::vector<ReplayRow>>
replayPools(llvm::ArrayRef<Record> records, llvm::StringRef family,
            const EvalOptions &options);

} // namespace dlc::tuner

#endif // DLC_TUNER_EVALUATE_H
