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
  /// Searches in the recorded trials: how many until 95 % of the best.
  bool simulates = false;
};

/// How well a ranking finds the fast schedules of workloads that it never saw:
/// the best of its first k over the best of all, geometric means.
struct Ranking {
  double top1 = 0, top5 = 0, top10 = 0;
  double pairs = 0; ///< share of pairs ordered right
};

/// Trials until 95 % of the best recorded is measured, the default schedule
/// being the first.
struct Trials {
  double median = 0, p90 = 0;
};

struct Evaluation {
  unsigned workloads = 0, trials = 0, folds = 0;
  Ranking model, analytic, random;
  double defaults = 0; ///< the default schedule over the best
  /// How far predicted times are off, as a factor (exp of the mean |log|): the
  /// model's, and the analytic ones times one factor for all.
  double timeFactor = 1, analyticFactor = 1;
  /// With `simulates`, of kernels whose default is below 95 % of the best: how
  /// many they are, and trials of searches that begin with a model of other
  /// kernels, with analytic times, those alone, and at random.
  unsigned searched = 0;
  Trials warm, cold, analyticOnly, chance;
};

struct FamilyEvaluation {
  Evaluation all;
  std::map<std::string, Evaluation> byKind; ///< kinds of kernels
};

/// Of the records of a family. Errors when there are fewer than 2 kernels (or,
/// to leave one out, instruction sets).
llvm::Expected<FamilyEvaluation> evaluate(llvm::ArrayRef<Record> records,
                                          llvm::StringRef family,
                                          const EvalOptions &options);

} // namespace dlc::tuner

#endif // DLC_TUNER_EVALUATE_H
