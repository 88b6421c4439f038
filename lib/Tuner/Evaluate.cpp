// Models on kernels that they never saw: how their rankings do, how far their
// times are off, and how many trials searches need that begin with them.
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

// A pool of fewer tells nothing of a search.
static constexpr unsigned kSmallestPool = 16;

namespace {
/// Sums of logarithms over workloads.
struct Sums {
  double top1 = 0, top5 = 0, top10 = 0, pairs = 0;

  /// `scores`: higher is thought faster.
  void add(const Group &group, ArrayRef<double> scores) {
    std::vector<unsigned> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](unsigned a, unsigned b) {
      return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
    });
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
  double defaults = 0;
  double timeError = 0, analyticError = 0, times = 0;
  std::vector<double> warm, cold, analyticOnly, chance;

  Evaluation finish(unsigned folds) const;
};
} // namespace

static Trials trialsOf(std::vector<double> counts) {
  if (counts.empty())
    return {};
  llvm::sort(counts);
  return {counts[counts.size() / 2],
          counts[std::min<size_t>(counts.size() * 9 / 10, counts.size() - 1)]};
}

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
  e.timeFactor = std::exp(timeError / std::max(1.0, times));
  e.analyticFactor = std::exp(analyticError / std::max(1.0, times));
  e.searched = warm.size();
  e.warm = trialsOf(warm);
  e.cold = trialsOf(cold);
  e.analyticOnly = trialsOf(analyticOnly);
  e.chance = trialsOf(chance);
  return e;
}

//===----------------------------------------------------------------------===//
// Searches in recorded trials
//===----------------------------------------------------------------------===//

namespace {
enum class Method { Warm, Cold, Analytic, Chance };
} // namespace

/// Trials until 95 % of the best, batches of 8 as Search has them: seven by
/// rank and one at random. The default schedule is the first.
static double countTrials(const Group &group, ArrayRef<double> prior,
                          Method method, std::mt19937_64 &random) {
  constexpr unsigned batch = 8, fewest = 8;
  double enough = std::log(0.95);
  unsigned pool = group.samples.size(), trials = 1;
  std::vector<bool> known(pool);
  std::vector<unsigned> results;
  Forest residual;
  auto priorOf = [&](unsigned i) {
    if (method == Method::Warm)
      return prior[i];
    double weight = method == Method::Cold
                        ? 8.0 / (16.0 + 2.0 * double(results.size()))
                        : 1.0;
    return -weight * std::log(group.analytic[i]);
  };
  while (trials <= pool) {
    std::vector<std::pair<double, unsigned>> order;
    if ((method == Method::Warm || method == Method::Cold) &&
        results.size() >= fewest) {
      std::vector<Sample> samples;
      for (unsigned i : results)
        samples.push_back({group.samples[i].features,
                           float(group.samples[i].label - priorOf(i))});
      if (auto forest = Forest::train(samples, TrainOptions::residual()))
        residual = std::move(*forest);
      else
        llvm::consumeError(forest.takeError());
    }
    for (unsigned i = 0; i < pool; ++i)
      if (!known[i]) {
        double score =
            method == Method::Chance ? double(random() >> 11) : priorOf(i);
        if (!residual.empty())
          score += residual.predict(group.samples[i].features);
        order.push_back({-score, i});
      }
    if (order.empty())
      break;
    llvm::sort(order);
    unsigned count = std::min<unsigned>(batch, order.size());
    if (method == Method::Warm || method == Method::Cold)
      std::swap(order[count - 1],
                order[count - 1 + random() % (order.size() - count + 1)]);
    for (auto [score, i] : ArrayRef(order).take_front(count)) {
      ++trials;
      if (group.samples[i].label >= enough)
        return trials;
      known[i] = true;
      results.push_back(i);
    }
  }
  return trials;
}

//===----------------------------------------------------------------------===//
// Held-out kernels
//===----------------------------------------------------------------------===//

static void addHeldOut(Totals &totals, const Group &group, const Forest &forest,
                       const Forest &time, double shift,
                       const EvalOptions &options, std::mt19937_64 &random) {
  std::vector<double> scores, hand;
  double modelError = 0, handError = 0;
  for (auto [i, sample] : llvm::enumerate(group.samples)) {
    scores.push_back(forest.predict(sample.features));
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
  ++totals.workloads;
  totals.trials += group.samples.size();
  // Where the default is good enough there is nothing to count.
  if (!options.simulates || group.samples.size() < kSmallestPool ||
      group.defaultLabel >= std::log(0.95))
    return;
  auto count = [&](Method method) {
    return countTrials(group, scores, method, random);
  };
  totals.warm.push_back(count(Method::Warm));
  totals.cold.push_back(count(Method::Cold));
  totals.analyticOnly.push_back(count(Method::Analytic));
  for (unsigned r = 0; r < 5; ++r)
    totals.chance.push_back(count(Method::Chance));
}

Expected<FamilyEvaluation> dlc::tuner::evaluate(ArrayRef<Record> records,
                                                StringRef family,
                                                const EvalOptions &options) {
  Expected<std::vector<Group>> groups = groupRecords(records, family);
  if (!groups)
    return groups.takeError();
  // Kernels, not workloads: one that other threads ran is no new one.
  std::set<std::string> names, isas;
  for (const Group &group : *groups) {
    names.insert(group.kernel);
    isas.insert(group.isa);
  }
  if (names.size() < 2)
    return llvm::createStringError(
        "eval: needs at least 2 kernels of at least 4 trials, there are " +
        llvm::Twine(names.size()));
  if (options.leavesIsaOut && isas.size() < 2)
    return llvm::createStringError(
        "eval: needs records of at least 2 instruction sets");
  auto folds =
      std::min<unsigned>(std::max(options.folds, 2u), unsigned(names.size()));
  std::mt19937_64 random(options.seed);
  std::vector<std::string> order(names.begin(), names.end());
  for (size_t i = order.size(); i-- > 1;)
    std::swap(order[i], order[random() % (i + 1)]);
  std::map<std::string, unsigned> foldOf;
  for (auto [i, name] : llvm::enumerate(order))
    foldOf[name] = i % folds;

  Totals all;
  std::map<std::string, Totals> byKind;
  std::vector<std::string> rounds{""};
  if (options.leavesIsaOut)
    rounds.assign(isas.begin(), isas.end());
  for (const std::string &isa : rounds)
    for (unsigned fold = 0; fold < folds; ++fold) {
      std::vector<const Group *> train, held;
      for (const Group &group : *groups) {
        bool isFold = foldOf[group.kernel] == fold;
        if (isFold && (isa.empty() || group.isa == isa))
          held.push_back(&group);
        else if (!isFold && group.isa != isa)
          train.push_back(&group);
      }
      if (held.empty() || train.empty())
        continue;
      Expected<Forest> forest =
          Forest::train(samplesOf(train, CostModel::Label::Order), {});
      if (!forest)
        return forest.takeError();
      std::vector<Sample> times = samplesOf(train, CostModel::Label::Time);
      Expected<Forest> time = Forest::train(times, {});
      if (!time)
        return time.takeError();
      double shift = 0; // analytic times are right in order, not in size
      for (const Sample &sample : times)
        shift += sample.label / double(times.size());
      for (const Group *group : held) {
        addHeldOut(all, *group, *forest, *time, shift, options, random);
        std::string kind =
            isa.empty() ? group->kind : group->isa + " " + group->kind;
        EvalOptions ranksOnly = options;
        ranksOnly.simulates = false;
        addHeldOut(byKind[kind], *group, *forest, *time, shift, ranksOnly,
                   random);
      }
    }
  FamilyEvaluation result;
  result.all = all.finish(folds);
  for (auto &[kind, totals] : byKind)
    result.byKind[kind] = totals.finish(folds);
  return result;
}
