// Draft by a model, evolve, measure a few, learn from them.
#include "dlc/Tuner/Search.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <cmath>

using namespace dlc;
using namespace dlc::tuner;

// The residual model needs some trials before it says more than it forgets.
static constexpr unsigned kFewestToLearn = 8;

Search::Search(const ScheduleSpace &space, const Scorer &scorer,
               const Forest *base, SearchOptions options)
    : space(space), scorer(scorer), base(base), options(std::move(options)),
      best(space.defaults, 1.0),
      defaultFeatures(base ? scorer.features(space.defaults)
                           : std::vector<float>()) {}

/// Higher is faster; in logarithms of speed.
double Search::score(const KnobValues &point) {
  double prior = 0;
  std::vector<float> features = scorer.features(point);
  if (base)
    prior = base->predict(relativeFeatures(features, defaultFeatures));
  else if (options.usePrior) // the hand-made times count less the more true
                             // ones there are
    prior = -8.0 / (16.0 + 2.0 * double(results.size())) *
            std::log(scorer.seconds(point));
  return residual.empty() ? prior : prior + residual.predict(features);
}

/// What the prior misses, from this search's own trials. A failed one is slow.
void Search::learn() {
  if (results.size() < kFewestToLearn)
    return;
  residual = Forest();
  std::vector<Sample> samples;
  for (auto &[point, ratio] : results) {
    double label = -std::log(ratio.value_or(4 * best.second));
    samples.push_back({scorer.features(point), float(label - score(point))});
  }
  TrainOptions train = TrainOptions::residual();
  if (auto forest = Forest::train(samples, train))
    residual = std::move(*forest);
  else
    llvm::consumeError(forest.takeError());
}

/// What like kernels had, as points of this space.
std::vector<KnobValues> Search::adapted() const {
  std::vector<KnobValues> points;
  std::string reason;
  for (const KnobValues &other : options.first) {
    KnobValues point = options.among.empty() ? space.defaults : other;
    for (auto &[name, value] : point)
      if (auto it = other.find(name); it != other.end())
        value = it->second;
    if (options.among.empty())
      point = space.represent(point);
    bool isLegal = options.among.empty()
                       ? space.isLegal(point, reason)
                       : llvm::is_contained(options.among, point);
    if (isLegal && !llvm::is_contained(points, point))
      points.push_back(std::move(point));
  }
  return points;
}

//===----------------------------------------------------------------------===//
// Points
//===----------------------------------------------------------------------===//

std::optional<KnobValues> Search::draw(Random &random) const {
  if (options.among.empty())
    return space.sample(random);
  return options.among[random() % options.among.size()];
}

/// A point unlike few knobs of this one. Of recorded ones the nearest that was
/// not measured.
KnobValues Search::change(const KnobValues &point, Random &random) const {
  if (options.among.empty())
    return space.mutate(point, random);
  std::pair<uint64_t, const KnobValues *> nearest(~uint64_t(0), &point);
  for (const KnobValues &other : options.among) {
    if (measured.count(other))
      continue;
    uint64_t unlike = 0;
    for (auto &[name, value] : other) {
      auto it = point.find(name);
      unlike += it == point.end() || it->second != value;
    }
    // Ties are drawn.
    uint64_t distance = unlike << 32 | random() >> 32;
    if (distance < nearest.first)
      nearest = {distance, &other};
  }
  return *nearest.second;
}

/// A child of the fastest so far: better ones have more.
KnobValues Search::descend(Random &random) const {
  std::vector<KnobValues> parents = getFastest(options.batch);
  if (parents.empty())
    return change(space.defaults, random);
  size_t n = parents.size(), a = std::min(random() % n, random() % n),
         b = random() % n;
  KnobValues child = parents[a];
  if (options.among.empty() && random() % 4 == 0)
    child = space.cross(child, parents[b], random);
  return change(child, random);
}

/// Points by score, the best first: drawn ones and what evolves from them, or
/// all that there are.
std::vector<std::pair<double, KnobValues>>
Search::rank(const std::vector<KnobValues> &known, Random &random) {
  std::vector<std::pair<double, KnobValues>> population;
  std::set<KnobValues> seen;
  auto add = [&](const KnobValues &point) {
    if (seen.insert(point).second)
      population.push_back({score(point), point});
  };
  auto sort = [&] {
    llvm::sort(population, [](auto &a, auto &b) {
      return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
  };
  if (!options.among.empty()) {
    for (const KnobValues &point : options.among)
      add(point);
    sort();
    return population;
  }
  auto keepBest = [&] {
    sort();
    if (population.size() > options.population)
      population.resize(options.population);
  };
  add(space.defaults);
  for (unsigned i = 0; i < options.pool; ++i) {
    auto point = space.sample(random);
    if (!point)
      break;
    add(*point);
  }
  for (const KnobValues &point : getFastest(32))
    add(point);
  for (const KnobValues &point : known)
    add(point);
  keepBest();
  for (unsigned g = 0; g < options.generations; ++g) {
    size_t parents = population.size();
    for (unsigned i = 0; i < options.population; ++i) {
      // Better ones have more children.
      size_t a = std::min(random() % parents, random() % parents),
             b = random() % parents;
      KnobValues child = population[a].second;
      if (random() % 4 == 0)
        child = space.cross(child, population[b].second, random);
      add(space.mutate(child, random));
    }
    keepBest();
  }
  return population;
}

/// What the model says of a point, with what was learned from the trials.
Outlook Search::lookAt(const KnobValues &point) {
  std::vector<float> features = scorer.features(point);
  Outlook outlook = base->look(relativeFeatures(features, defaultFeatures));
  if (!residual.empty())
    for (float &opinion : outlook.opinions)
      opinion += residual.predict(features);
  return outlook;
}

/// Of the best of `population` that were not measured, `count` that are fast
/// for different reasons.
std::vector<KnobValues> Search::chooseAmong(
    const std::vector<std::pair<double, KnobValues>> &population,
    unsigned count) {
  constexpr size_t most = 128;
  std::vector<KnobValues> points;
  std::vector<Outlook> outlooks, known{lookAt(space.defaults)};
  for (auto &[score, point] : population) {
    if (points.size() == most)
      break;
    if (measured.count(point) || (round == 0 && point == space.defaults))
      continue;
    points.push_back(point);
    outlooks.push_back(lookAt(point));
  }
  for (const KnobValues &point : getFastest(most))
    known.push_back(lookAt(point));
  std::vector<KnobValues> chosen;
  for (unsigned i : chooseUnlike(outlooks, known, base->getSpread(), count))
    chosen.push_back(points[i]);
  return chosen;
}

std::vector<KnobValues> Search::propose(unsigned most) {
  // A stream of its own for each round.
  Random random(options.seed * 1000003 + round);
  std::vector<KnobValues> chosen;
  std::set<KnobValues> taken = measured;
  auto take = [&](const KnobValues &point) {
    if (chosen.size() < most && taken.insert(point).second)
      chosen.push_back(point);
  };
  unsigned count = std::min(options.batch, most);
  auto dice = unsigned(std::lround(options.epsilon * count));
  unsigned greedy = count - std::min(dice, count);
  if (round == 0)
    take(space.defaults);
  auto takeRandom = [&](unsigned until) {
    // Of a short list the last ones are found by chance late.
    unsigned most = 8 * count + 8 * unsigned(options.among.size());
    for (unsigned tries = 0; chosen.size() < until && tries < most; ++tries)
      if (auto point = draw(random))
        take(*point);
  };
  // Nothing to go by but chance, as in the first generation.
  bool isBlind = options.guide == Guide::Random ||
                 (options.guide == Guide::Evolution && round == 0);
  if (options.guide == Guide::Model) {
    learn();
    isBlind = !base && !options.usePrior && residual.empty();
  }
  if (isBlind) {
    takeRandom(count);
    return chosen;
  }
  if (options.guide == Guide::Evolution) {
    for (unsigned tries = 0; chosen.size() < greedy && tries < 8 * count;
         ++tries)
      take(descend(random));
    takeRandom(count);
    return chosen;
  }

  std::vector<KnobValues> known = adapted();
  auto takeKnown = [&](unsigned until) {
    if (round == 0)
      for (const KnobValues &point : known)
        if (chosen.size() < until)
          take(point);
  };
  // What like kernels had comes first where there is no model, else behind the
  // four that it chooses.
  unsigned half = std::max(1u, count / 2);
  if (!base)
    takeKnown(half);
  std::vector<std::pair<double, KnobValues>> population = rank(known, random);
  if (base) {
    for (const KnobValues &point :
         chooseAmong(population, std::min(half, greedy)))
      if (chosen.size() <= half)
        take(point);
    takeKnown(greedy);
  }
  double bestKnown = -1e300, bestNew = -1e300;
  for (auto &[point, ratio] : results)
    bestKnown = std::max(bestKnown, score(point));
  for (auto &[score, point] : population) {
    if (!measured.count(point))
      bestNew = std::max(bestNew, score);
    if (chosen.size() < greedy)
      take(point);
  }
  // Before anything is measured nobody knows: some.
  expectedGain = results.empty() ? 1.1 : std::exp(bestNew - bestKnown);
  takeRandom(count);
  return chosen;
}

void Search::addResult(const KnobValues &point, std::optional<double> ratio) {
  measured.insert(point);
  results.push_back({point, ratio});
  if (ratio && *ratio < best.second)
    best = {point, *ratio};
}

void Search::endRound() {
  ++round;
  // Twice as quiet where the model expects no more either.
  unsigned share =
      options.guide == Guide::Model && expectedGain < 1 + options.minGain ? 2
                                                                          : 1;
  quiet = bestBefore / best.second < 1 + options.minGain ? quiet + share : 0;
  bestBefore = best.second;
}

std::vector<KnobValues> Search::getFastest(unsigned count) const {
  std::vector<std::pair<double, KnobValues>> order;
  for (auto &[point, ratio] : results)
    if (ratio)
      order.push_back({*ratio, point});
  std::sort(order.begin(), order.end());
  std::vector<KnobValues> points;
  for (auto &[ratio, point] :
       llvm::ArrayRef(order).take_front(std::min<size_t>(count, order.size())))
    points.push_back(point);
  return points;
}
