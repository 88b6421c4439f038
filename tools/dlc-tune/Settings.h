// What the command line of dlc-tune asks for.
#ifndef DLC_TOOLS_DLC_TUNE_SETTINGS_H
#define DLC_TOOLS_DLC_TUNE_SETTINGS_H

#include "llvm/Support/Error.h"

#include <string>
#include <vector>

namespace dlc {

struct TuneSettings {
  std::string command;
  std::vector<std::string> inputs; ///< after the command
  std::string store, output, target, model;
  std::vector<int64_t> matmul; ///< [batch,] M, N, K
  std::string constant;
  std::string workers;       ///< where tune measures; empty: here
  std::string runner;        ///< tune for a GPU: words before dlc-cuda-measure
  std::string family;        ///< of nests; empty: all, or contractions (train)
  bool predictsTime = false; ///< train: times, not orders
  bool leavesIsaOut = false; ///< eval
  unsigned budget = 32;
  double seconds = 0;
  uint64_t seed = 1;
  std::string search = "model"; ///< or evolution, random
  unsigned samples = 9, jobs = 0, keep = 50, folds = 5;
  double maxDrift = 1e9;
  bool isStatic = false;         ///< tune, replay: times are estimated
  unsigned candidates = 8;       ///< bundle for a GPU
  std::vector<std::string> dims; ///< of its models
  std::string precision;
  bool quiet = false;
  /// survey: the kernels, by name (empty: all), trials of each search; only to
  /// list what there is.
  std::vector<std::string> kernels;
  unsigned fewest = 16; ///< schedules of a kernel that is judged
  std::string held;     ///< eval: records of the kernels that are judged
  unsigned worst = 0;   ///< eval: so many that lose most are named
  unsigned random = 300, evolution = 64, guided = 32;
  bool lists = false;
  bool libraries = false; ///< tune: measure oneDNN, too
  bool onlyGaps = false;  ///< eval
};

/// The commands that measure: tune and replay.
llvm::Error runTune(const TuneSettings &settings);
llvm::Error runReplay(const TuneSettings &settings);
/// Measures what is best known of a model's kernels.
llvm::Error runSurvey(const TuneSettings &settings);
/// Describes the kernels of records anew, from models that have them.
llvm::Error runRenew(const TuneSettings &settings);
/// What a worker of a fleet runs: measures a job's file, prints JSON.
llvm::Error runMeasure(const TuneSettings &settings);
/// `bundle` of candidates for a GPU.
llvm::Error runCudaBundle(const TuneSettings &settings);
/// The text of -matmul= as graph operators.
std::string matmulText(const std::vector<int64_t> &sizes);
/// The commands on records alone.
llvm::Error runRecords(const TuneSettings &settings);

} // namespace dlc

#endif // DLC_TOOLS_DLC_TUNE_SETTINGS_H
