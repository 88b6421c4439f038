// Which schedules to measure next. A search is a function of its seed, the
// space, the model it began with and what was measured: run again on the same
// records it asks for the same candidates, so a search that was killed goes on
// where it stopped, and one that ended can be replayed.
#ifndef DLC_TUNER_SEARCH_H
#define DLC_TUNER_SEARCH_H

#include "dlc/Tuner/Features.h"
#include "dlc/Tuner/Model.h"

#include <set>

namespace dlc::tuner {

/// What proposes candidates.
enum class Guide {
  Model,     ///< what a model ranks highest among points drawn and evolved
  Evolution, ///< mutations of the fastest so far; for comparison
  Random     ///< for comparison
};

struct SearchOptions {
  unsigned batch = 8;     ///< candidates a round
  double epsilon = 0.125; ///< share of a round that is random
  unsigned pool = 1024;   ///< legal points that are drawn
  unsigned population = 256;
  unsigned generations = 4;
  double minGain = 0.01; ///< a round that gains less is quiet
  /// So many in a row end the search; one in which the model expects no gain
  /// either counts twice.
  unsigned quietRounds = 3;
  uint64_t seed = 1;
  Guide guide = Guide::Model;
  /// Without a base model, analytic times rank until trials are there; false:
  /// chance does, for comparison.
  bool usePrior = true;
  /// Schedules of kernels that are like this one: the legal ones among them are
  /// in the first round: the first half of it without a model, else behind what
  /// the model chooses. Knobs that this space has not are
  /// left out.
  std::vector<KnobValues> first;
  /// If any: the only points there are. A search in recorded trials.
  std::vector<KnobValues> among;
};

class Search {
public:
  /// `base` may be null; then the analytic model ranks until trials are there.
  /// `base` takes relativeFeatures. All must outlive the search.
  Search(const ScheduleSpace &space, const Scorer &scorer, const Forest *base,
         SearchOptions options);

  /// The candidates of the next round, at most `most`; distinct, never measured
  /// before. Empty: the space is exhausted. The first of the first round is the
  /// default schedule: what its time differs by from the reference's is noise.
  std::vector<KnobValues> propose(unsigned most);
  /// What came of a candidate: its time over the reference's; nothing when it
  /// failed.
  void addResult(const KnobValues &point, std::optional<double> ratio);
  /// Ends a round.
  void endRound();

  bool isConverged() const { return quiet >= options.quietRounds; }
  unsigned getRound() const { return round; }
  unsigned getNumTrials() const { return results.size(); }
  /// Fastest so far, by ratio; the default schedule's ratio is 1.
  const std::pair<KnobValues, double> &getBest() const { return best; }
  /// The `count` fastest.
  std::vector<KnobValues> getFastest(unsigned count) const;
  /// By how much the best may still be beaten, as the model sees it: the best
  /// predicted speed of a point that was not measured over the best measured.
  double getExpectedGain() const { return expectedGain; }

private:
  using Random = ScheduleSpace::Random;

  double score(const KnobValues &point);
  void learn();
  Outlook lookAt(const KnobValues &point);
  std::vector<KnobValues>
  chooseAmong(const std::vector<std::pair<double, KnobValues>> &population,
              unsigned count);
  std::vector<KnobValues> adapted() const;
  std::optional<KnobValues> draw(Random &random) const;
  KnobValues change(const KnobValues &point, Random &random) const;
  KnobValues descend(Random &random) const;
  std::vector<std::pair<double, KnobValues>>
  rank(const std::vector<KnobValues> &known, Random &random);

  const ScheduleSpace &space;
  const Scorer &scorer;
  const Forest *base;
  SearchOptions options;
  unsigned round = 0, quiet = 0;
  std::pair<KnobValues, double> best;
  double bestBefore = 1;
  double expectedGain = 1;
  std::vector<std::pair<KnobValues, std::optional<double>>> results;
  std::set<KnobValues> measured;
  std::vector<float> defaultFeatures;
  Forest residual;
};

} // namespace dlc::tuner

#endif // DLC_TUNER_SEARCH_H
