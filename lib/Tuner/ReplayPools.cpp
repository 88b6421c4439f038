// Searches in the recorded trials of kernels: how many trials they need, by
// what is known when they begin. The search is the one that measures.
#include "dlc/Tuner/Evaluate.h"

#include "Samples.h"
#include "dlc/Tuner/Experience.h"
#include "dlc/Tuner/Search.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>

using namespace dlc;
using namespace dlc::tuner;
using llvm::ArrayRef;
using llvm::Expected;

// Of the searches that are mostly chance, so many are counted of each kernel.
static constexpr unsigned kRepeats = 3;

namespace {
struct Method {
  const char *name;
  enum { Kernels, Isas, Nothing } known;
  Guide guide = Guide::Model;
  bool usePrior = true;
};

/// Trials of one method, of each kernel.
struct Counts {
  std::vector<double> all, hidden;
};
} // namespace

static constexpr Method kMethods[] = {
    {"other kernels known", Method::Kernels},
    {"of other ISAs alone", Method::Isas},
    {"cold", Method::Nothing},
    {"cold, XGBoost alone", Method::Nothing, Guide::Model, false},
    {"evolution alone", Method::Nothing, Guide::Evolution},
    {"random", Method::Nothing, Guide::Random},
};

static TrialCount countOf(std::vector<double> counts) {
  if (counts.empty())
    return {};
  llvm::sort(counts);
  return {counts[counts.size() / 2],
          counts[std::min(counts.size() * 9 / 10, counts.size() - 1)]};
}

static bool isHidden(const Group &group) {
  return group.defaultLabel < std::log(0.95);
}

/// The features of recorded points are at hand.
static Expected<Scorer> makeScorer(const Group &group) {
  Expected<Scorer> scorer = Scorer::create(group.workload, group.target);
  if (!scorer)
    return scorer;
  std::map<KnobValues, std::vector<float>> known;
  for (auto [point, sample] : llvm::zip_equal(group.points, group.samples))
    known[point] = sample.features;
  scorer->features = [known = std::move(known),
                      compute = scorer->features](const KnobValues &knobs) {
    auto it = known.find(knobs);
    return it == known.end() ? compute(knobs) : it->second;
  };
  return scorer;
}

/// Trials until 95 % of the best. The default schedule, which a search measures
/// first, is a point without knobs where no record says which it is.
static double countTrials(const Group &group, const Scorer &scorer,
                          const Forest *base, const SearchOptions &options) {
  ScheduleSpace space;
  if (group.defaultSample)
    space.defaults = group.points[*group.defaultSample];
  Search search(space, scorer, base, options);
  std::map<KnobValues, double> labels;
  for (auto [point, sample] : llvm::zip_equal(group.points, group.samples))
    labels[point] = sample.label;
  labels[space.defaults] = group.defaultLabel;
  for (unsigned trials = 0;;) {
    std::vector<KnobValues> points = search.propose(options.batch);
    if (points.empty())
      return trials;
    for (const KnobValues &point : points) {
      ++trials;
      if (labels[point] >= std::log(0.95))
        return trials;
      search.addResult(point, std::exp(group.defaultLabel - labels[point]));
    }
    search.endRound();
  }
}

static void addCounts(Counts &counts, const Group &group, const Scorer &scorer,
                      const Method &method, const Forest *base,
                      std::vector<KnobValues> first, unsigned seed) {
  SearchOptions options;
  options.guide = method.guide;
  options.usePrior = method.usePrior;
  options.among = group.points;
  options.first = std::move(first);
  bool isChance = method.guide != Guide::Model || !method.usePrior;
  for (unsigned i = 0; i < (isChance ? kRepeats : 1); ++i) {
    options.seed = seed + i;
    double trials = countTrials(group, scorer, base, options);
    counts.all.push_back(trials);
    if (isHidden(group))
      counts.hidden.push_back(trials);
  }
}

namespace {
/// What a search knows of kernels outside one part.
struct Experience {
  std::optional<Forest> forest;
  std::vector<Record> records;
};
} // namespace

/// Of the groups that `has` takes. Nothing where there are none.
static Expected<Experience>
gather(ArrayRef<Group> groups,
       const std::map<std::pair<llvm::StringRef, llvm::StringRef>,
                      std::vector<const Record *>> &byWorkload,
       llvm::function_ref<bool(const Group &)> has) {
  Experience experience;
  std::vector<const Group *> train;
  for (const Group &group : groups) {
    if (!has(group))
      continue;
    train.push_back(&group);
    for (const Record *record : byWorkload.at({group.target, group.workload}))
      experience.records.push_back(*record);
  }
  if (train.empty())
    return experience;
  std::vector<Sample> samples = samplesOf(train, CostModel::Label::Order);
  if (samples.empty())
    return experience;
  Expected<Forest> forest =
      Forest::train(samples, optionsOf(CostModel::Label::Order));
  if (!forest)
    return forest.takeError();
  experience.forest = std::move(*forest);
  return experience;
}

Expected<std::vector<ReplayRow>>
dlc::tuner::replayPools(ArrayRef<Record> records, llvm::StringRef family,
                        const EvalOptions &options) {
  Expected<std::vector<Group>> groups = groupRecords(records, family);
  if (!groups)
    return groups.takeError();
  unsigned parts = options.folds;
  auto partOf = cutIntoParts(*groups, parts, options.seed);
  if (partOf.size() < 2)
    return llvm::createStringError(
        "replay: needs at least 2 kernels of at least 4 trials, there are " +
        llvm::Twine(partOf.size()));
  std::set<std::string> isas = isasOf(*groups);
  std::map<std::pair<llvm::StringRef, llvm::StringRef>,
           std::vector<const Record *>>
      byWorkload;
  for (const Record &record : records)
    byWorkload[{record.target, record.workload}].push_back(&record);

  Counts counts[std::size(kMethods)];
  unsigned kernels = 0, below = 0;
  for (unsigned part = 0; part < parts; ++part) {
    auto isOther = [&](const Group &group) {
      return partOf[group.kernel] != part;
    };
    Expected<Experience> others = gather(*groups, byWorkload, isOther);
    if (!others)
      return others.takeError();
    std::map<std::string, Experience> ofOtherIsas;
    for (const std::string &isa : isas) {
      if (isas.size() < 2)
        break;
      auto some = gather(*groups, byWorkload, [&](const Group &group) {
        return isOther(group) && group.isa != isa;
      });
      if (!some)
        return some.takeError();
      ofOtherIsas[isa] = std::move(*some);
    }
    for (const Group &group : *groups) {
      if (isOther(group) || group.samples.size() < options.fewest)
        continue;
      Expected<Scorer> scorer = makeScorer(group);
      if (!scorer)
        return scorer.takeError();
      ++kernels;
      below += isHidden(group);
      for (auto [method, count] : llvm::zip_equal(kMethods, counts)) {
        const Experience *known =
            method.known == Method::Kernels ? &*others
            : method.known == Method::Isas && ofOtherIsas.count(group.isa)
                ? &ofOtherIsas[group.isa]
                : nullptr;
        bool isKnown = known && known->forest;
        if (method.known != Method::Nothing && !isKnown)
          continue;
        std::vector<KnobValues> first;
        if (isKnown)
          first = findExperience(known->records, group.workload, group.target);
        addCounts(count, group, *scorer, method,
                  isKnown ? &*known->forest : nullptr, std::move(first),
                  options.seed);
      }
    }
  }
  std::vector<ReplayRow> rows;
  for (auto [method, count] : llvm::zip_equal(kMethods, counts))
    if (!count.all.empty())
      rows.push_back({method.name, kernels, below, countOf(count.all),
                      countOf(count.hidden)});
  return rows;
}
