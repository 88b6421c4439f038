// The account of a loop kernel, and its analytic time.
#include "LoopAccount.h"

#include <algorithm>
#include <cmath>

using namespace dlc;
using namespace dlc::tuner;

// As LoopOutline::Lanes.
static constexpr int64_t kFolded = 2, kTiled = 3, kInterleaved = 4;

static double knobOf(const KnobValues &knobs, const char *name) {
  auto it = knobs.find(name);
  return it == knobs.end() ? 0 : double(it->second);
}

/// Records from before there was an outline: what it would be about.
static LoopFacts completed(const LoopFacts &facts, const TargetFacts &t) {
  LoopFacts f = facts;
  if (f.lanes >= 0)
    return f;
  f.lanes = f.folds && f.innermost < 4 ? kFolded : 1;
  f.laneExtent = f.lanes == kFolded ? f.innerFold : f.innermost;
  f.ownWidth = std::max<int64_t>(2, t.vectorBytes / f.widestBytes);
  f.ownGroups = f.weight <= 6 ? 4 : f.weight <= 16 ? 2 : 1;
  f.ownAcross = 1;
  f.pieceExtent = std::max<int64_t>(1, f.innermost);
  f.taskRows = std::max<int64_t>(1, f.points / f.pieceExtent);
  f.pieceCost = std::max<int64_t>(1, f.folded * f.weight);
  f.rowCost = 1 + f.pieceExtent * f.pieceCost;
  return f;
}

void LoopAccount::placeLanes(const LoopFacts &f, const KnobValues &knobs,
                             const TargetFacts &t) {
  lanes = std::max(2.0, double(t.vectorBytes) / double(f.widestBytes));
  isFolded = f.lanes == kFolded;
  isTiled = f.lanes == kTiled;
  extent = std::max(1.0, double(f.laneExtent));
  double chosen = askedWidth = knobOf(knobs, "width");
  askedGroups = knobOf(knobs, "groups");
  askedAcross = knobOf(knobs, "across");
  width = chosen ? chosen : double(f.ownWidth);
  if (f.lanes == 0)
    width = 1;
  across = 1;
  groups = double(f.ownGroups);
  if (isFolded) {
    if (chosen)
      groups = extent >= 4 * width ? 4 : extent >= 2 * width ? 2 : 1;
  } else if (isTiled) {
    width = groups = std::min(width, 16.0);
  } else if (f.lanes == kInterleaved) {
    groups = std::max(1.0, double(f.tileExtent));
  } else {
    if (askedGroups)
      groups = askedGroups;
    while (groups > 1 && extent < groups * width)
      groups /= 2;
    double most = askedAcross ? askedAcross : double(f.ownAcross);
    double n = double(f.tileExtent);
    if (n > 1 && most > 1) {
      double count = std::ceil(n / std::ceil(n / std::min(most, 16.0)));
      double outside = 0;
      for (double at = 0; at < n; at += count)
        outside += at < double(f.tileBegin) || at + count > double(f.tileEnd);
      if (outside <= 4) {
        across = count;
        tiles = std::ceil(n / count);
        missing = (tiles * count - n) / n;
        ends = outside;
        copies = std::min(tiles, outside + (missing > 0) + 1);
        groups = 1;
      }
    }
  }
  // The rest is one vector a time, under a mask.
  double block = width * groups, whole = std::floor(extent / block);
  double vectors = whole * groups + std::ceil((extent - whole * block) / width);
  padding = vectors * width / extent;
}

/// The nest's own grain.
static double balancedGrain(double work, double threads) {
  constexpr double grain = 1 << 17, fewest = 3, many = 8;
  if (work < fewest * grain)
    return std::max(work, 1.0);
  double tasks = std::ceil(work / grain);
  if (tasks > many * threads)
    return grain;
  return std::ceil(work / (std::ceil(tasks / threads) * threads));
}

void LoopAccount::cutTasks(const LoopFacts &f, const KnobValues &knobs) {
  double rows = double(f.taskRows), cost = double(f.rowCost),
         pieceCost = double(f.pieceCost);
  // What a tile lies along is a task's own.
  double n = std::max(1.0, double(f.tileExtent));
  bool isOwn = f.ownAcross > 1;
  if (across > 1 && !isOwn) {
    rows = std::max(1.0, std::round(rows / n));
    cost = 1 + (cost - 1) * n;
    pieceCost *= n;
  } else if (across == 1 && isOwn) {
    rows *= n;
    cost = 1 + (cost - 1) / n;
    pieceCost /= n;
  }
  double threads = std::max(1.0, double(f.threads));
  double grain = knobOf(knobs, "grain");
  if (grain == 0)
    grain = balancedGrain(rows * cost, threads);
  double perTask = std::clamp(std::ceil(grain / cost), 1.0, rows);
  double piece = double(f.pieceExtent), unit = isTiled ? 64 : 256;
  if (f.pieceExtent > 1 && pieceCost > 0)
    piece =
        std::min(piece, std::ceil(std::ceil(grain / pieceCost) / unit) * unit);
  double pieces = std::ceil(double(f.pieceExtent) / piece);
  tasks = std::ceil(rows / perTask) * pieces;
  rounds = std::ceil(tasks / threads);
  taskWork = perTask * cost * piece / double(f.pieceExtent);
  // The last task may be a short one.
  double all = rows * cost;
  balance = std::min(1.0, all / (threads * std::min(all, rounds * taskWork)));
}

void LoopAccount::addTimes(const LoopFacts &f, const TargetFacts &t) {
  steps = double(f.points) * double(f.folded);
  work = steps * double(f.weight);
  bytes = double(f.readBytes + f.writtenBytes);
  taskBytes = bytes / std::max(tasks, 1.0);
  double perVector = std::ceil(width / lanes);
  registers =
      groups * perVector *
      (across > 1 ? across + 3 : 2 + double(std::min<int64_t>(f.loads, 4)));
  double written = std::min(double(f.folded), 72.0);
  codeSize = groups * perVector * across * copies * double(f.weight) *
             (across > 1 ? written : 1);
  // A tile along another axis loads once what its points have in common: a
  // weight for all of them, an element for all windows that it is in.
  double taps = std::max(1.0, double(f.folded) / double(f.innerFold));
  loadsPerPoint =
      double(f.loads) *
      (f.window ? (1 + (across - 1 + taps) / taps) / (2 * across) : 1.0);
  // What a vector that is shorter than the machine's leaves idle.
  double share = padding / width * perVector; // vectors an element
  double reads = loadsPerPoint * steps * share / 2;
  compute = std::max(work * share / 2, reads) +
            double(f.stridedLoads) * steps * (isTiled ? 0.1 : 0.5) +
            double(f.guards) * steps * 0.05;
  latency = f.folds
                ? work * share * 4 / std::max(1.0, groups * across * perVector)
                : 0;
  traffic = bytes / (bytes < double(t.l2) ? 32 : 8);
  double spill = registers > double(t.vectorRegisters) ? 1.5 : 1;
  double threads = std::max(1.0, double(f.threads));
  double perThread =
      std::max({compute * spill, latency, traffic}) / (threads * balance);
  cycles = perThread + rounds * 200;
}

LoopAccount::LoopAccount(const LoopFacts &facts, const KnobValues &knobs,
                         const TargetFacts &target) {
  LoopFacts f = completed(facts, target);
  placeLanes(f, knobs, target);
  cutTasks(f, knobs);
  addTimes(f, target);
}

double dlc::tuner::analyticSeconds(const LoopFacts &facts,
                                   const KnobValues &knobs,
                                   const TargetFacts &target) {
  return LoopAccount(facts, knobs, target).cycles / (target.ghz * 1e9);
}

double dlc::tuner::trafficSeconds(const LoopFacts &facts,
                                  const KnobValues &knobs,
                                  const TargetFacts &target) {
  LoopAccount account(facts, knobs, target);
  return account.traffic /
         (std::min(std::max<double>(1, double(facts.threads)), account.tasks) *
          target.ghz * 1e9);
}
