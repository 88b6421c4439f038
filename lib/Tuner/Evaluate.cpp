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
  double timeError = 0, analyticError = 0;

  void add(const Totals &other);
  Evaluation finish(unsigned folds) const;
};

/// What models learned of the kernels that are not held out.
struct Teachers {
  Forest order, time;
  double shift = 0; ///< analytic times are right in order, not in size
};
} // namespace

void Totals::add(const Totals &other) {
  workloads += other.workloads;
  trials += other.trials;
  model.add(other.model, 1);
  analytic.add(other.analytic, 1);
  random.add(other.random, 1);
  defaults += other.defaults;
  choice += other.choice;
  quick += other.quick;
  timeError += other.timeError;
  analyticError += other.analyticError;
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
  e.choice = std::exp(choice / n);
  e.quick = std::exp(quick / n);
  e.timeFactor = std::exp(timeError / n);
  e.analyticFactor = std::exp(analyticError / n);
  return e;
}

//===----------------------------------------------------------------------===//
// Held-out kernels
//===----------------------------------------------------------------------===//

/// Nothing where `train` tells nothing of order.
static Expected<std::optional<Teachers>> learn(ArrayRef<const Group *> train) {
  std::vector<Sample> orders = samplesOf(train, CostModel::Label::Order);
  if (orders.empty())
    return std::nullopt;
  Teachers teachers;
  std::vector<Sample> times = samplesOf(train, CostModel::Label::Time);
  for (auto [samples, forest, label] :
       {std::tuple(&orders, &teachers.order, CostModel::Label::Order),
        std::tuple(&times, &teachers.time, CostModel::Label::Time)}) {
    Expected<Forest> trained = Forest::train(*samples, optionsOf(label));
    if (!trained)
      return trained.takeError();
    *forest = std::move(*trained);
  }
  for (const Sample &sample : times)
    teachers.shift += sample.label / double(times.size());
  return teachers;
}

/// The four that a search measures beside the default schedule.
static std::vector<unsigned> chooseFour(const Group &group, float spread,
                                        ArrayRef<Outlook> outlooks) {
  std::vector<unsigned> others;
  std::vector<Outlook> theirs, known;
  for (unsigned i = 0; i < outlooks.size(); ++i) {
    bool isDefault = group.defaultSample == i;
    (isDefault ? known : theirs).push_back(outlooks[i]);
    if (!isDefault)
      others.push_back(i);
  }
  std::vector<unsigned> chosen;
  for (unsigned i : chooseUnlike(theirs, known, spread, 4))
    chosen.push_back(others[i]);
  return chosen;
}

/// One workload that `teachers` never saw.
static Totals judge(const Group &group, const Teachers &teachers,
                    std::mt19937_64 &random, KernelLoss &loss) {
  Totals t;
  t.workloads = 1;
  t.trials = unsigned(group.samples.size());
  std::vector<double> scores, hand;
  std::vector<Outlook> outlooks;
  double n = double(group.samples.size());
  for (auto [i, sample] : llvm::enumerate(group.samples)) {
    outlooks.push_back(teachers.order.look(featuresOf(group, i)));
    scores.push_back(outlooks.back().mean());
    hand.push_back(-group.analytic[i]);
    double truth = std::log(group.seconds[i] / group.analytic[i]);
    t.timeError += std::abs(truth - teachers.time.predict(sample.features)) / n;
    t.analyticError += std::abs(truth - teachers.shift) / n;
  }
  t.model.add(group, scores);
  t.analytic.add(group, hand);
  constexpr unsigned repeats = 20;
  for (unsigned r = 0; r < repeats; ++r) {
    std::vector<double> dice;
    for (size_t i = 0; i < scores.size(); ++i)
      dice.push_back(double(random() >> 11));
    Sums one;
    one.add(group, dice);
    t.random.add(one, 1.0 / repeats);
  }
  t.defaults = group.defaultLabel;
  unsigned first = rankingOf(scores)[0];
  // Labels of the model are relative to the default, whose own is about 0.
  double promise =
      scores[first] - (group.defaultSample ? scores[*group.defaultSample] : 0);
  t.choice =
      promise > kLeastPromise ? group.samples[first].label : group.defaultLabel;
  t.quick = group.defaultLabel;
  loss.name = group.kind + ": " + group.name;
  auto describe = [&](unsigned i) {
    std::string knobs;
    for (auto &[name, value] : group.points[i])
      if (value)
        knobs +=
            (knobs.empty() ? "" : " ") + name + "=" + std::to_string(value);
    return std::pair("[" + knobs + "]",
                     std::exp(double(group.samples[i].label)));
  };
  unsigned best = 0;
  for (unsigned i = 0; i < group.samples.size(); ++i)
    if (group.samples[i].label > group.samples[best].label)
      best = i;
  loss.best = describe(best);
  for (unsigned i : chooseFour(group, teachers.order.getSpread(), outlooks)) {
    t.quick = std::max<double>(t.quick, group.samples[i].label);
    loss.chosen.push_back(describe(i));
  }
  loss.defaults = std::exp(t.defaults);
  loss.quick = std::exp(t.quick);
  return t;
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

namespace {
/// Groups that models learn from, and those that they are judged by.
struct Split {
  std::string isa; ///< which the models did not see; empty: that is not asked
  std::vector<const Group *> train, held;
};
} // namespace

/// Parts of the kernels in turns, each on every instruction set that is left
/// out.
static std::vector<Split> splitIntoParts(ArrayRef<Group> groups,
                                         const std::set<std::string> &isas,
                                         unsigned &folds,
                                         const EvalOptions &options) {
  std::map<std::string, unsigned> foldOf =
      cutIntoParts(groups, folds, options.seed);
  std::vector<std::string> rounds{""};
  if (options.leavesIsaOut)
    rounds.assign(isas.begin(), isas.end());
  std::vector<Split> splits;
  for (const std::string &isa : rounds)
    for (unsigned fold = 0; fold < folds; ++fold) {
      Split &split = splits.emplace_back();
      split.isa = isa;
      for (const Group &group : groups) {
        bool isFold = foldOf[group.kernel] == fold;
        if (isFold && (isa.empty() || group.isa == isa) &&
            group.samples.size() >= options.fewest)
          split.held.push_back(&group);
        if (!isFold && group.isa != isa)
          split.train.push_back(&group);
      }
    }
  return splits;
}

/// All of `groups` but the kernels of `judged`, which are held out.
static Split splitFromJudged(ArrayRef<Group> groups, ArrayRef<Group> judged,
                             const EvalOptions &options) {
  Split split;
  std::set<std::string> kernels;
  for (const Group &group : judged) {
    kernels.insert(group.kernel);
    if (group.samples.size() >= options.fewest)
      split.held.push_back(&group);
  }
  for (const Group &group : groups)
    if (!kernels.count(group.kernel))
      split.train.push_back(&group);
  return split;
}

Expected<FamilyEvaluation> dlc::tuner::evaluate(ArrayRef<Record> records,
                                                StringRef family,
                                                const EvalOptions &options) {
  Expected<std::vector<Group>> groups = groupRecords(records, family);
  if (!groups)
    return groups.takeError();
  Expected<std::vector<Group>> judged = groupRecords(options.judged, family);
  if (!judged)
    return judged.takeError();
  std::set<std::string> isas = isasOf(*groups), names;
  for (const Group &group : *groups)
    names.insert(group.kernel);
  if (options.judged.empty() && names.size() < 2)
    return llvm::createStringError(
        "eval: needs at least 2 kernels of at least 4 trials, there are " +
        llvm::Twine(names.size()));
  if (options.leavesIsaOut && isas.size() < 2)
    return llvm::createStringError(
        "eval: needs records of at least 2 instruction sets");
  unsigned folds = options.judged.empty() ? options.folds : 1;
  std::vector<Split> splits;
  if (options.judged.empty())
    splits = splitIntoParts(*groups, isas, folds, options);
  else
    splits.push_back(splitFromJudged(*groups, *judged, options));
  std::mt19937_64 random(options.seed);
  Totals all;
  std::map<std::string, Totals> byKind;
  std::map<unsigned, Totals> byThreads;
  FamilyEvaluation result;
  for (const Split &split : splits) {
    if (split.held.empty())
      continue;
    Expected<std::optional<Teachers>> teachers = learn(split.train);
    if (!teachers)
      return teachers.takeError();
    if (!*teachers)
      continue;
    for (const Group *group : split.held) {
      Totals one =
          judge(*group, **teachers, random, result.losses.emplace_back());
      all.add(one);
      byKind[split.isa.empty() ? group->kind : split.isa + " " + group->kind]
          .add(one);
      byThreads[group->threads].add(one);
    }
  }
  llvm::sort(result.losses, [](const KernelLoss &a, const KernelLoss &b) {
    return std::tie(a.quick, a.name) < std::tie(b.quick, b.name);
  });
  result.all = all.finish(folds);
  for (auto &[kind, totals] : byKind)
    result.byKind[kind] = totals.finish(folds);
  for (auto &[threads, totals] : byThreads)
    result.byThreads[threads] = totals.finish(folds);
  return result;
}
