// Which schedules to measure first, of those that a model thinks fast.
//
// A model is wrong about schedules that it does not tell apart by the same
// amount: they fall into the same leaves of its trees. So each of 64 scenarios
// takes every leaf to be a little too high or too low, by coins that the leaf's
// number decides. What two schedules share of leaves they then share of errors,
//
//   speed(x, s) = opinion of member s + spread / sqrt(trees) * sum over trees
//                 of coin(leaf of x, s)
//
// and of a few that are chosen, the best is what counts in each scenario.
#include "dlc/Tuner/Model.h"

#include <array>
#include <cmath>

using namespace dlc::tuner;
using llvm::ArrayRef;

static constexpr unsigned kScenarios = 64; // a coin each of 64 bits
using Speeds = std::array<float, kScenarios>;

/// SplitMix64's last step: bits that nothing about `number` tells.
static uint64_t mix(uint64_t number) {
  number += 0x9e3779b97f4a7c15;
  number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9;
  number = (number ^ number >> 27) * 0x94d049bb133111eb;
  return number ^ number >> 31;
}

static Speeds imagine(const Outlook &outlook, float spread) {
  std::array<int, kScenarios> ups{};
  for (int32_t leaf : outlook.leaves) {
    uint64_t coins = mix(uint64_t(leaf));
    for (unsigned s = 0; s < kScenarios; ++s)
      ups[s] += int(coins >> s & 1) * 2 - 1;
  }
  size_t trees = std::max<size_t>(1, outlook.leaves.size());
  float scale = spread / std::sqrt(float(trees));
  Speeds speeds;
  for (unsigned s = 0; s < kScenarios; ++s)
    speeds[s] =
        outlook.opinions[s % outlook.opinions.size()] + scale * float(ups[s]);
  return speeds;
}

std::vector<unsigned> dlc::tuner::chooseUnlike(ArrayRef<Outlook> candidates,
                                               ArrayRef<Outlook> known,
                                               float spread, unsigned count) {
  std::vector<Speeds> speeds;
  std::vector<float> means;
  for (const Outlook &candidate : candidates) {
    speeds.push_back(imagine(candidate, spread));
    means.push_back(candidate.mean());
  }
  Speeds best;
  best.fill(-1e30f);
  auto raise = [&](const Speeds &other) {
    for (unsigned s = 0; s < kScenarios; ++s)
      best[s] = std::max(best[s], other[s]);
  };
  for (const Outlook &one : known)
    raise(imagine(one, spread));
  std::vector<unsigned> chosen;
  std::vector<bool> isTaken(candidates.size());
  while (chosen.size() < std::min<size_t>(count, candidates.size())) {
    double most = -1e300;
    unsigned next = 0;
    for (unsigned i = 0; i < candidates.size(); ++i) {
      if (isTaken[i])
        continue;
      // The first is the best by all opinions. Later, where nothing is to be
      // gained by any, the means decide; of equals the first.
      double gain = (chosen.empty() ? 1 : 1e-6) * double(means[i]);
      if (!chosen.empty())
        for (unsigned s = 0; s < kScenarios; ++s)
          gain += std::max(0.0f, speeds[i][s] - best[s]) / kScenarios;
      if (gain > most) {
        most = gain;
        next = i;
      }
    }
    isTaken[next] = true;
    chosen.push_back(next);
    raise(speeds[next]);
  }
  return chosen;
}
