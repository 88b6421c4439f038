// Models on kernels that they never saw: how their rankings do, and how far
// their times are off.
#include "dlc/Tuner/Evaluate.h"

#include "Samples.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <set>

using namespace dlc;
using namespace dlc::tuner;
using llvm::ArrayRef;
using llvm::Expected;
using llvm::StringRef;

/// Samples by score; higher is thought faster.
static std::vector<unsigned> rankingOf(ArrayRef<double> scores) {
  std::vector<unsigned> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](unsigned a, unsigned b) {
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
  });
  return order;
}

namespace {
/// Sums of logarithms over workloads.
struct Sums {
  double top1 = 0, top5 = 0, top10 = 0, pairs = 0;

  /// `scores`: higher is thought faster.
  void add(const Group &group, ArrayRef<double> scores) {
    std::vector<unsigned> order = rankingOf(scores);
    double best = -1e9;
    for (unsigned i = 0; i < order.size(); ++i) {
      best = std::max<double>(best, group.samples[order[i]].label);
      bool isLast = i + 1 == order.size();
      if (i == 0)
        top1 += best;
      if (i == 4 || (isLast && i < 4))
        top5 += best;
      if (i == 9 || (isLast && i < 9))
        top10 += best;
    }
    double right = 0, count = 0;
    for (unsigned i = 0; i < scores.size(); ++i)
      for (unsigned j = 0; j < i; ++j) {
        double a = group.samples[i].label, b = group.samples[j].label;
        if (a == b)
          continue;
        count += 1;
        right +=
            scores[i] == scores[j] ? 0.5 : (scores[i] > scores[j]) == (a > b);
      }
    pairs += count ? right / count : 1;
  }
  void add(const Sums &other, double share) {
    top1 += other.top1 * share;
    top5 += other.top5 * share;
    top10 += other.top10 * share;
    pairs += other.pairs * share;
  }
  Ranking mean(double n) const {
    return {std::exp(top1 / n), std::exp(top5 / n), std::exp(top10 / n),
            pairs / n};
  }
};

/// What is added up over held-out workloads.
struct Totals {
  unsigned workloads = 0, trials = 0;
  Sums model, analytic, random;
  double defaults = 0, choice = 0, quick = 0;
  double timeError = 0, analyticError = 0, times = 0;

  Evaluation finish(unsigned folds) const;
};
} // namespace

Evaluation Totals::finish(unsigned folds) const {
  Evaluation e;
  e.workloads = workloads;
  e.trials = trials;
  e.folds = folds;
  double n = std::max(1u, workloads);
  e.model = model.mean(n);
  e.analytic = analytic.mean(n);
  e.random = random.mean(n);
  e.defaults = std::exp(defaults / n);
  e.choice = std::exp(choice / n);
  e.quick = std::exp(quick / n);
  e.timeFactor = std::exp(timeError / std::max(1.0, times));
  e.analyticFactor = std::exp(analyticError / std::max(1.0, times));
  return e;
}

//===----------------------------------------------------------------------===//
// Held-out kernels
//===----------------------------------------------------------------------===//

static void addHeldOut(Totals &totals, const Group &group, const Forest &forest,
                       const Forest &time, double shift,
                       std::mt19937_64 &random) {
  std::vector<double> scores, hand;
  std::vector<std::vector<float>> opinions; // of the model's members
  double modelError = 0, handError = 0;
  for (auto [i, sample] : llvm::enumerate(group.samples)) {
    std::vector<float> features = featuresOf(group, i);
    scores.push_back(forest.predict(features));
    opinions.push_back(forest.predictEach(features));
    hand.push_back(-group.analytic[i]);
    double truth = std::log(group.seconds[i] / group.analytic[i]);
    modelError += std::abs(truth - time.predict(sample.features));
    handError += std::abs(truth - shift);
  }
  double n = double(group.samples.size());
  totals.timeError += modelError / n;
  totals.analyticError += handError / n;
  totals.times += 1;
  totals.model.add(group, scores);
  totals.analytic.add(group, hand);
  constexpr unsigned repeats = 20;
  for (unsigned r = 0; r < repeats; ++r) {
    std::vector<double> dice;
    for (size_t i = 0; i < scores.size(); ++i)
      dice.push_back(double(random() >> 11));
    Sums one;
    one.add(group, dice);
    totals.random.add(one, 1.0 / repeats);
  }
  totals.defaults += group.defaultLabel;
  std::vector<unsigned> order = rankingOf(scores);
  double best = group.defaultLabel;
  std::vector<float> known;
  if (group.defaultSample)
    known = opinions[*group.defaultSample];
  for (unsigned i : chooseUnlike(opinions, known, 4))
    best = std::max<double>(best, group.samples[i].label);
  totals.quick += best;
  // Labels of the model are relative to the default, whose own is about 0.
  double promise = scores[order[0]] -
                   (group.defaultSample ? scores[*group.defaultSample] : 0);
  totals.choice += promise > kLeastPromise ? group.samples[order[0]].label
                                           : group.defaultLabel;
  ++totals.workloads;
  totals.trials += group.samples.size();
}

std::map<std::string, unsigned> dlc::tuner::cutIntoParts(ArrayRef<Group> groups,
                                                         unsigned &parts,
                                                         unsigned seed) {
  std::set<std::string> names;
  for (const Group &group : groups)
    names.insert(group.kernel);
  parts = std::max(
      1u, std::min<unsigned>(std::max(parts, 2u), unsigned(names.size())));
  std::mt19937_64 random(seed);
  std::vector<std::string> order(names.begin(), names.end());
  for (size_t i = order.size(); i-- > 1;)
    std::swap(order[i], order[random() % (i + 1)]);
  std::map<std::string, unsigned> partOf;
  for (auto [i, name] : llvm::enumerate(order))
    partOf[name] = i % parts;
  return partOf;
}

std::set<std::string> dlc::tuner::isasOf(ArrayRef<Group> groups) {
  std::set<std::string> isas;
  for (const Group &group : groups)
    isas.insert(group.isa);
  return isas;
}

Expected<FamilyEvaluation> dlc::tuner::evaluate(ArrayRef<Record> records,
                                                StringRef family,
                                                const EvalOptions &options) {
  Expected<std::vector<Group>> groups = groupRecords(records, family);
  if (!groups)
    return groups.takeError();
  unsigned folds = options.folds;
  std::map<std::string, unsigned> foldOf =
      cutIntoParts(*groups, folds, options.seed);
  std::set<std::string> isas = isasOf(*groups);
  if (foldOf.size() < 2)
    return llvm::createStringError(
        "eval: needs at least 2 kernels of at least 4 trials, there are " +
        llvm::Twine(foldOf.size()));
  if (options.leavesIsaOut && isas.size() < 2)
    return llvm::createStringError(
        "eval: needs records of at least 2 instruction sets");
  std::mt19937_64 random(options.seed);
  Totals all;
  std::map<std::string, Totals> byKind;
  std::map<unsigned, Totals> byThreads;
  std::vector<std::string> rounds{""};
  if (options.leavesIsaOut)
    rounds.assign(isas.begin(), isas.end());
  for (const std::string &isa : rounds)
    for (unsigned fold = 0; fold < folds; ++fold) {
      std::vector<const Group *> train, held;
      for (const Group &group : *groups) {
        bool isFold = foldOf[group.kernel] == fold;
        if (isFold && (isa.empty() || group.isa == isa)) {
          if (group.samples.size() >= options.fewest)
            held.push_back(&group);
        }
        if (!isFold && group.isa != isa)
          train.push_back(&group);
      }
      std::vector<Sample> orders = samplesOf(train, CostModel::Label::Order);
      if (held.empty() || orders.empty())
        continue;
      Expected<Forest> forest =
          Forest::train(orders, optionsOf(CostModel::Label::Order));
      if (!forest)
        return forest.takeError();
      std::vector<Sample> times = samplesOf(train, CostModel::Label::Time);
      Expected<Forest> time =
          Forest::train(times, optionsOf(CostModel::Label::Time));
      if (!time)
        return time.takeError();
      double shift = 0; // analytic times are right in order, not in size
      for (const Sample &sample : times)
        shift += sample.label / double(times.size());
      for (const Group *group : held) {
        addHeldOut(all, *group, *forest, *time, shift, random);
        std::string kind =
            isa.empty() ? group->kind : group->isa + " " + group->kind;
        addHeldOut(byKind[kind], *group, *forest, *time, shift, random);
        addHeldOut(byThreads[group->threads], *group, *forest, *time, shift,
                   random);
      }
    }
  FamilyEvaluation result;
  result.all = all.finish(folds);
  for (auto &[kind, totals] : byKind)
    result.byKind[kind] = totals.finish(folds);
  for (auto &[threads, totals] : byThreads)
    result.byThreads[threads] = totals.finish(folds);
  return result;
}
