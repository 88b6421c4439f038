// The analytic model and the features of the loop nests.
#include "FeatureNames.h"
#include "FeatureTable.h"

#include <algorithm>
#include <cmath>

using namespace dlc;
using namespace dlc::tuner;

namespace {
/// What happens while a loop kernel runs; knobs that are 0 are the nest's
/// choice.
struct Account {
  double lanes, width, groups, across, grain, work, bytes, steps;
  bool leavesWidth, leavesGroups, leavesAcross, leavesGrain;
  double registers, tasks, busy, compute, latency, traffic, cycles;

  Account(const LoopFacts &f, const KnobValues &knobs, const TargetFacts &t);
};
} // namespace

/// The nest's own grain (CPU/LoopNest.cpp): little work is one task, more is as
/// many tasks for every thread.
static double balancedGrain(double work, double threads) {
  constexpr double grain = 1 << 17, fewest = 3, many = 8;
  if (work < fewest * grain)
    return std::max(work, 1.0);
  double tasks = std::ceil(work / grain);
  threads = std::max(threads, 1.0);
  if (tasks > many * threads)
    return grain;
  return work / (std::ceil(tasks / threads) * threads);
}

/// Whether the nest chooses this knob: it sees more of the kernel than there
/// are facts of.
static bool isLeft(const KnobValues &knobs, const char *name) {
  auto it = knobs.find(name);
  return it == knobs.end() || it->second == 0;
}

Account::Account(const LoopFacts &f, const KnobValues &knobs,
                 const TargetFacts &t) {
  auto get = [&](const char *name, double otherwise) {
    auto it = knobs.find(name);
    return it == knobs.end() || it->second == 0 ? otherwise
                                                : double(it->second);
  };
  lanes = std::max(2.0, double(t.vectorBytes) / double(f.widestBytes));
  width = get("width", lanes);
  groups = get("groups", f.weight <= 6 ? 4 : f.weight <= 16 ? 2 : 1);
  // What the nest does by itself where neighbours share what they read.
  across = get("across", f.window ? (t.vectorRegisters >= 32 ? 14 : 6) : 1);
  if (across > 1)
    groups = 1;
  steps = double(f.points) * double(f.folded);
  work = steps * double(f.weight);
  grain = get("grain", balancedGrain(work, double(f.threads)));
  bytes = double(f.readBytes + f.writtenBytes);
  leavesWidth = isLeft(knobs, "width");
  leavesGroups = isLeft(knobs, "groups");
  leavesAcross = isLeft(knobs, "across");
  leavesGrain = isLeft(knobs, "grain");
  registers =
      groups * std::max(1.0, width / lanes) *
      (across > 1 ? across + 3 : 2 + double(std::min<int64_t>(f.loads, 4)));
  tasks = std::clamp(work / grain, 1.0, double(std::max<int64_t>(f.points, 1)));
  double threads = std::max<double>(1, double(f.threads));
  double rounds = std::ceil(tasks / threads);
  busy = std::min(1.0, work / (rounds * threads * std::max(grain, 1.0)) + 0.1);
  double perVector = std::ceil(width / lanes);
  double inner =
      double(f.folds ? std::max(f.innerFold, f.innermost) : f.innermost);
  double vectors = std::ceil(inner / width) * perVector / inner;
  // A tile along another axis loads once what its points have in common.
  double reads = double(f.loads) * steps * vectors / 2 *
                 (f.window ? 0.5 + 0.5 / across : 1.0);
  compute = std::max(work * vectors / 2, reads) +
            double(f.stridedLoads) * steps * 0.5 +
            double(f.guards) * steps * 0.05;
  latency =
      f.folds ? work * vectors * 4 / std::max(1.0, groups * across * perVector)
              : 0;
  traffic = bytes / (bytes < double(t.l2) ? 32 : 8);
  double spill = registers > double(t.vectorRegisters) ? 1.5 : 1;
  cycles = (std::max({compute * spill, latency, traffic}) + tasks * 200) /
           std::min(threads, tasks);
}

double dlc::tuner::analyticSeconds(const LoopFacts &facts,
                                   const KnobValues &knobs,
                                   const TargetFacts &target) {
  return Account(facts, knobs, target).cycles / (target.ghz * 1e9);
}

double dlc::tuner::trafficSeconds(const LoopFacts &facts,
                                  const KnobValues &knobs,
                                  const TargetFacts &target) {
  Account account(facts, knobs, target);
  return account.traffic /
         (std::min(std::max<double>(1, double(facts.threads)), account.tasks) *
          target.ghz * 1e9);
}

using View = FeatureView<LoopFacts, Account>;

static const Feature<View> kFeatures[] = {
    // the kernel
    FEATURE("is_row", v.f.nest == "row"),
    FEATURE("log_points", log2p(double(v.f.points))),
    FEATURE("log_folded", log2p(double(v.f.folded))),
    FEATURE("log_innermost", log2p(double(v.f.innermost))),
    FEATURE("log_inner_fold", log2p(double(v.f.innerFold))),
    FEATURE("weight", double(v.f.weight)),
    FEATURE("heavy", double(v.f.heavy)),
    FEATURE("loads", double(v.f.loads)),
    FEATURE("strided_loads", double(v.f.stridedLoads)),
    FEATURE("guards", double(v.f.guards)),
    FEATURE("conversions", double(v.f.conversions)),
    FEATURE("stages", double(v.f.stages)),
    FEATURE("folds", double(v.f.folds)),
    FEATURE("kept", double(v.f.kept)),
    FEATURE("results", double(v.f.results)),
    FEATURE("log_rows", log2p(double(v.f.rows))),
    FEATURE("log_row_bytes", log2p(double(v.f.rowBytes))),
    FEATURE("mode", double(v.f.mode)),
    FEATURE("widest_bytes", double(v.f.widestBytes)),
    FEATURE("narrowest_bytes", double(v.f.narrowestBytes)),
    FEATURE("window", v.f.window),
    FEATURE("strict", v.f.strict),
    FEATURE("threads", double(v.f.threads)),
    FEATURE("ops_per_byte", log2p(v.a.work / std::max(v.a.bytes, 1.0))),
    // the machine
    FEATURE("lanes", v.a.lanes),
    FEATURE("vector_registers", double(v.t.vectorRegisters)),
    FEATURE("bytes_l1", log2p(64 * v.a.bytes / double(v.t.l1))),
    FEATURE("bytes_l2", log2p(64 * v.a.bytes / double(v.t.l2))),
    FEATURE("bytes_l3", log2p(64 * v.a.bytes / double(v.t.l3))),
    FEATURE("row_l1", log2p(64 * double(v.f.rowBytes) / double(v.t.l1))),
    FEATURE("bytes_per_cycle", v.t.readGBs / v.t.ghz),
    // the schedule
    FEATURE("width", v.a.width),
    FEATURE("width_share", v.a.width / v.a.lanes),
    FEATURE("groups", v.a.groups),
    FEATURE("across", v.a.across),
    FEATURE("log_grain", log2p(v.a.grain)),
    FEATURE("leaves_width", v.a.leavesWidth),
    FEATURE("leaves_groups", v.a.leavesGroups),
    FEATURE("leaves_across", v.a.leavesAcross),
    FEATURE("leaves_grain", v.a.leavesGrain),
    // what follows from them
    FEATURE("register_share", v.a.registers / double(v.t.vectorRegisters)),
    FEATURE("vectors_innermost", log2p(double(v.f.innermost) / v.a.width)),
    FEATURE("vectors_inner_fold", log2p(double(v.f.innerFold) / v.a.width)),
    FEATURE("groups_innermost",
            log2p(double(v.f.innermost) / (v.a.width * v.a.groups))),
    FEATURE("tail", std::fmod(double(v.f.innermost), v.a.width *v.a.groups) /
                        (v.a.width * v.a.groups)),
    FEATURE("fold_tail",
            std::fmod(double(v.f.innerFold), v.a.width *v.a.groups) /
                (v.a.width * v.a.groups)),
    FEATURE("body_size", v.a.groups *v.a.across *double(v.f.weight)),
    FEATURE("log_tasks", log2p(v.a.tasks)),
    FEATURE("tasks_per_thread", log2p(v.a.tasks / double(v.f.threads))),
    FEATURE("busy", v.a.busy),
    FEATURE("uneven", std::ceil(std::ceil(v.a.tasks) / double(v.f.threads)) *
                          double(v.f.threads) / v.a.tasks),
    FEATURE("latency_share", v.a.latency / std::max(v.a.compute, 1.0)),
    FEATURE("traffic_share", v.a.traffic / std::max(v.a.compute, 1.0)),
    FEATURE("log_cycles", std::log2(std::max(v.a.cycles, 1.0))),
};

llvm::ArrayRef<const char *> dlc::tuner::loopFeatureNames() {
  static const std::vector<const char *> names = namesOf(kFeatures);
  return names;
}

std::vector<float> dlc::tuner::computeFeatures(const LoopFacts &facts,
                                               const KnobValues &knobs,
                                               const TargetFacts &target) {
  Account account(facts, knobs, target);
  return valuesOf(kFeatures, View{facts, target, account});
}
