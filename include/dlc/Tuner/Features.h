// What the cost model sees of a scheduled kernel. Features are computed from
// what a record holds (workload, schedule, target), never stored, so that old
// records serve new features.
#ifndef DLC_TUNER_FEATURES_H
#define DLC_TUNER_FEATURES_H

#include "dlc/Schedule/ScheduleSpace.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"

#include <string>
#include <vector>

namespace dlc::tuner {

/// A contraction of static sizes, without names; the workload of a record.
/// Strides are in elements: 0 where a factor does not move, -1 where it has no
/// one stride.
struct ContractionFacts {
  int64_t outer = 1, rows = 1, columns = 1, depth = 1;
  int64_t accBytes = 4, lhsBytes = 4, rhsBytes = 4, resultBytes = 4;
  int64_t lhsRow = 0, lhsDepth = 1, rhsColumn = 1, rhsDepth = 0;
  /// Constants of the model; factors that are read as they lie.
  bool lhsConstant = false, rhsConstant = false, lhsPlain = true,
       rhsPlain = true;
  int64_t lhsRun = 0;      ///< contiguous k of an image's row; 0: no runs
  int64_t epilogueOps = 0; ///< scalar functions an element of the result
  int64_t epilogueLoads = 0;
  int64_t results = 1;
  int64_t panelColumns = 32; ///< of packed constants, and
  int64_t kBlock = 16;       ///< their blocks of k
  bool strict = false;
  int64_t threads = 1;
  std::string kernel; ///< SHA-256 of the kernel's canonical text

  double flops() const {
    return 2.0 * double(outer) * double(rows) * double(columns) * double(depth);
  }
  /// {"nest":"contraction",...} in canonical form.
  std::string toJson() const;
  static llvm::Expected<ContractionFacts> parseJson(llvm::StringRef text);
};

/// A kernel of the loop nests ("map", "row") of static sizes.
struct LoopFacts {
  std::string nest = "map";
  int64_t points = 1;    ///< of the largest stage's domain
  int64_t folded = 1;    ///< steps of the longest fold
  int64_t innermost = 1; ///< extent of the results' last axis
  int64_t innerFold = 1; ///< extent of the folds' last axis
  int64_t weight = 1;    ///< of a point, in additions
  int64_t heavy = 0;     ///< functions that cost more than a few additions
  int64_t loads = 1, stridedLoads = 0, guards = 0, conversions = 0;
  int64_t stages = 1, folds = 0, kept = 0, results = 1;
  int64_t rows = 1, rowBytes = 0, mode = 0; ///< of the RowPlan
  int64_t readBytes = 4, writtenBytes = 4;
  int64_t widestBytes = 4, narrowestBytes = 4; ///< of elements
  /// Neighbouring results read elements in common (LoopKind::Window). Records
  /// made before there was the field say nothing of it: no.
  bool window = false;
  /// What the nest does by itself (LoopOutline) in the loop with most of the
  /// work; -1 in records made before there was the field, and the fields that
  /// follow say nothing then.
  int64_t lanes = -1;
  int64_t loops = 1, laneExtent = 1;
  int64_t ownWidth = 1, ownGroups = 1, ownAcross = 1;
  /// Of the axis along which a register tile may lie; extent 0: there is none.
  int64_t tileExtent = 0, tileBegin = 0, tileEnd = 0, tileSteps = 0;
  int64_t taskRows = 1, rowCost = 1, pieceExtent = 1, pieceCost = 1;
  bool strict = false;
  int64_t threads = 1;
  std::string kernel; ///< SHA-256 of the kernel's canonical text

  std::string toJson() const;
  static llvm::Expected<LoopFacts> parseJson(llvm::StringRef text);
};

/// An attention of static sizes: the template's axes, walked as one each.
struct AttentionFacts {
  int64_t outer = 1, group = 1, rows = 1, keys = 1, inner = 1, columns = 1;
  int64_t queryBytes = 4, keyBytes = 4, valueBytes = 4, resultBytes = 4;
  /// Strides in elements along the keys; -1: none.
  int64_t keyStride = -1, valueStride = -1;
  bool keyContiguous = true, valueContiguous = true; ///< along the last axis
  int64_t cuts = 0;     ///< masks by position: keys that are left out
  int64_t scoreOps = 0; ///< scalar functions a score
  bool onePass = true;  ///< law hom(softmax)
  bool few = false;     ///< lanes along elements, not along queries
  bool strict = false;
  int64_t threads = 1;
  std::string kernel; ///< SHA-256 of the kernel's canonical text

  /// Of both sums; of causal masks about half is computed.
  double flops() const {
    return 2.0 * double(outer) * double(group) * double(rows) * double(keys) *
           double(inner + columns);
  }
  std::string toJson() const;
  static llvm::Expected<AttentionFacts> parseJson(llvm::StringRef text);
};

/// The machine of a record: numbers of a TargetDesc that decide about speed.
struct TargetFacts {
  std::string arch, cpu;
  int64_t vectorBytes = 64, vectorRegisters = 32, l1 = 32 << 10, l2 = 1 << 20,
          l3 = 32 << 20;
  double ghz = 2.5, flopsPerCycle = 64, readGBs = 10;

  std::string toJson() const;
  static llvm::Expected<TargetFacts> parseJson(llvm::StringRef text);
};

/// {"nest":...,<knobs>} in canonical form, and back (numbers only).
std::string scheduleJson(llvm::StringRef nest, const KnobValues &knobs);
llvm::Expected<KnobValues> parseKnobs(llvm::StringRef schedule);

/// Seconds of one run by hand-made rules: multiply-adds, loads and latency of
/// the tiles, copies, traffic between cache levels, idle threads. Right in
/// order, not in size; the prior where there is no model.
double analyticSeconds(const ContractionFacts &facts, const KnobValues &knobs,
                       const TargetFacts &target);

double analyticSeconds(const LoopFacts &facts, const KnobValues &knobs,
                       const TargetFacts &target);
double analyticSeconds(const AttentionFacts &facts, const KnobValues &knobs,
                       const TargetFacts &target);

/// The part of analyticSeconds that caches and memory take, were nothing else.
double trafficSeconds(const ContractionFacts &facts, const KnobValues &knobs,
                      const TargetFacts &target);
double trafficSeconds(const LoopFacts &facts, const KnobValues &knobs,
                      const TargetFacts &target);
double trafficSeconds(const AttentionFacts &facts, const KnobValues &knobs,
                      const TargetFacts &target);

std::vector<float> computeFeatures(const ContractionFacts &facts,
                                   const KnobValues &knobs,
                                   const TargetFacts &target);
std::vector<float> computeFeatures(const LoopFacts &facts,
                                   const KnobValues &knobs,
                                   const TargetFacts &target);
std::vector<float> computeFeatures(const AttentionFacts &facts,
                                   const KnobValues &knobs,
                                   const TargetFacts &target);

/// The families of nests, each with a model of its own.
inline constexpr const char *kFamilies[] = {"contraction", "loop", "attention",
                                            "cuda"};
bool isFamily(llvm::StringRef name);
/// Which of them serves `nest`.
std::string modelFamily(llvm::StringRef nest);
/// Names of a family's features in order.
llvm::ArrayRef<const char *> featureNames(llvm::StringRef family);
/// SHA-256 of the names and of the version of their meaning: a model says for
/// which it was trained.
std::string featureSchema(llvm::StringRef family);

/// What orders the schedules of a kernel: their features, followed by by how
/// much each differs from the default schedule's. Whether a schedule is fast
/// for a kernel is told by the rules' choice better than by the kernel's size.
std::vector<float> relativeFeatures(llvm::ArrayRef<float> features,
                                    llvm::ArrayRef<float> defaults);

/// What ranks the schedules of one workload on one target, whatever its nest.
struct Scorer {
  std::string family;
  /// contraction, convolution, map, row, window, attention: what a table of
  /// kernels is ordered by.
  std::string kind;
  std::string name;   ///< sizes, for people
  std::string kernel; ///< SHA-256 of its text
  unsigned threads = 1;
  std::function<std::vector<float>(const KnobValues &)> features;
  std::function<double(const KnobValues &)> seconds; ///< analytic
  std::function<double(const KnobValues &)> traffic; ///< its trafficSeconds

  /// Of a record's JSON. Errors name what is missing.
  static llvm::Expected<Scorer> create(llvm::StringRef workload,
                                       llvm::StringRef target);
};

} // namespace dlc::tuner

#endif // DLC_TUNER_FEATURES_H
