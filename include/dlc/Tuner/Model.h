// The learned cost models: gradient-boosted trees over the features, trained by
// XGBoost on log(throughput / the default's), which orders the schedules of a
// kernel, or on log(time / analytic time), which tells kernels apart.
// Prediction walks the trees here, with the same bits, so that only training
// needs the library.
#ifndef DLC_TUNER_MODEL_H
#define DLC_TUNER_MODEL_H

#include "dlc/Tuner/Features.h"
#include "dlc/Tuner/Record.h"

#include "llvm/ADT/ArrayRef.h"

namespace dlc::tuner {

/// One row to learn from: features of one scheduled kernel, and how it did.
struct Sample {
  std::vector<float> features;
  float label = 0;
  float weight = 1;
  unsigned bag = 0; ///< its kernel: samples of a bag are not told apart
};

struct TrainOptions {
  unsigned rounds = 200, depth = 6;
  double eta = 0.1, lambda = 1, subsample = 0.9, columns = 0.8;
  unsigned seed = 1;

  double leaf = 1; ///< samples of a leaf, at least
  /// Forests, each of `share` of the bags: where they differ, nobody knows.
  unsigned members = 1;
  double share = 1;

  /// Of one task's own trials.
  static TrainOptions residual() { return {30, 4, 0.2, 3, 1, 1, 1, 1, 1, 1}; }
  /// Of the order of schedules: records are few and noisy, so that trees are
  /// kept small and unlike.
  static TrainOptions order() {
    return {40, 8, 0.15, 1, 0.7, 0.4, 1, 3, 6, 0.7};
  }
};

/// What a model says of one candidate.
struct Outlook {
  std::vector<float> opinions; ///< of its members; higher is faster
  std::vector<int32_t> leaves; ///< into which it falls, one of each tree

  float mean() const; ///< of the opinions
};

/// Binary trees: one forest, or several whose mean is predicted. Features are
/// never missing.
class Forest {
public:
  /// The same samples and options give the same trees.
  static llvm::Expected<Forest> train(llvm::ArrayRef<Sample> samples,
                                      const TrainOptions &options);
  float predict(llvm::ArrayRef<float> features) const;
  Outlook look(llvm::ArrayRef<float> features) const;
  /// By how much predictions of promising schedules of kernels that were not
  /// learned are off (standard deviation, by their mean size); 0: not known.
  float getSpread() const { return spread; }
  unsigned getNumMembers() const { return members; }
  bool empty() const { return roots.empty(); }

private:
  friend class CostModel;
  struct Node {
    int32_t feature = -1; ///< -1: a leaf
    float value = 0;      ///< left when the feature is below; or the leaf's
    int32_t left = 0, right = 0;
  };
  llvm::Error addMember(llvm::ArrayRef<Sample> samples,
                        const TrainOptions &options, unsigned member);
  llvm::Error read(llvm::StringRef xgboost);
  void measureSpread(llvm::ArrayRef<Sample> samples,
                     const TrainOptions &options);
  int32_t leafOf(size_t tree, llvm::ArrayRef<float> features) const;
  std::vector<Node> nodes;
  std::vector<int32_t> roots; ///< of the members, equally many of each
  unsigned members = 1;
  float base = 0, spread = 0;
};

/// Which of some candidates to measure, in order, at most `count`: the first by
/// the mean of its opinions, then always the one by which the best of the
/// chosen and of `known` is expected to gain most, the model being off by
/// `spread`, and equally so where candidates fall into the same leaves
/// (Choice.cpp). `known`: what is measured already.
std::vector<unsigned> chooseUnlike(llvm::ArrayRef<Outlook> candidates,
                                   llvm::ArrayRef<Outlook> known, float spread,
                                   unsigned count);

/// The model of a target family and of a family of nests.
class CostModel {
public:
  /// What is predicted: which of a kernel's schedules are fast, or how long a
  /// scheduled kernel takes.
  enum class Label { Order, Time };

  /// Of all records of the family that are ok: workloads of fewer than 4 trials
  /// teach nothing of order.
  static llvm::Expected<CostModel> train(llvm::ArrayRef<Record> records,
                                         llvm::StringRef family,
                                         Label label = Label::Order);
  /// Refuses, in words, a model of other features.
  static llvm::Expected<CostModel> load(llvm::StringRef path);
  llvm::Error save(llvm::StringRef path) const;

  /// Higher is faster.
  float predict(llvm::ArrayRef<float> features) const {
    return forest.predict(features);
  }
  const Forest &getForest() const { return forest; }
  unsigned getNumSamples() const { return samples; }
  unsigned getNumWorkloads() const { return workloads; }
  llvm::StringRef getFamily() const { return family; }
  Label getLabel() const { return label; }
  /// Of a model of times: seconds of one run, the analytic time being the
  /// prior.
  double getSeconds(const Scorer &scorer, const KnobValues &knobs) const;
  /// SHA-256 of the model.
  llvm::StringRef getHash() const { return hash; }

private:
  Forest forest;
  Label label = Label::Order;
  std::string json, hash, family;
  unsigned samples = 0, workloads = 0;
};

/// Samples of the records that are ok, by workload (and target).
struct Group {
  std::string name;               ///< sizes, for people
  std::string kind, kernel;       ///< of its Scorer
  std::string isa;                ///< "512-bit x86"
  std::string workload, target;   ///< canonical JSON
  std::vector<KnobValues> points; ///< of each sample
  /// Features of one schedule each, and log(throughput / best), at most 0.
  std::vector<Sample> samples;
  std::vector<float> plainFeatures;    ///< of a schedule without knobs
  std::vector<double> analytic;        ///< seconds, for comparison
  std::vector<double> seconds;         ///< measured
  double defaultLabel = 0;             ///< of the default schedule, and
  std::optional<size_t> defaultSample; ///< which it is; few records do not say

  unsigned threads = 1;
};
/// Groups of fewer than `fewest` trials are left out.
llvm::Expected<std::vector<Group>> groupRecords(llvm::ArrayRef<Record> records,
                                                llvm::StringRef family,
                                                unsigned fewest = 4);

} // namespace dlc::tuner

#endif // DLC_TUNER_MODEL_H
