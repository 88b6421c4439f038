// Rounds of a search, each built in parallel and measured one by one.
#include "dlc/Tuner/Tune.h"

#include "dlc/Tuner/Fleet.h"

#include "llvm/ADT/STLExtras.h"

#include <chrono>
#include <ctime>
#include <thread>

using namespace dlc;
using namespace dlc::tuner;
using llvm::Error;
using llvm::Expected;

// Of a CPU. A build that takes longer is a candidate that does not compile.
static constexpr double kBuildSeconds = 60;

std::vector<Expected<BuiltKernel>>
Tuner::buildAll(llvm::ArrayRef<Candidate> candidates) {
  unsigned jobs = options.jobs
                      ? options.jobs
                      : std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::string> reasons;
  auto texts = runInProcesses(
      candidates.size(), jobs, kBuildSeconds,
      [&](unsigned i, std::string &out) {
        const Candidate &c = candidates[i];
        Expected<BuiltKernel> kernel =
            c.other ? task.buildAlternative(*c.other) : task.build(c.point);
        out = kernel ? kernelToBytes(*kernel)
                     : llvm::toString(kernel.takeError());
        return bool(kernel);
      },
      reasons);
  std::vector<Expected<BuiltKernel>> kernels;
  for (auto [text, reason] : llvm::zip_equal(texts, reasons)) {
    if (text)
      kernels.push_back(kernelFromBytes(*text));
    else
      kernels.push_back(llvm::createStringError("the compiler " + reason));
  }
  return kernels;
}

//===----------------------------------------------------------------------===//
// Trials
//===----------------------------------------------------------------------===//

/// Runs keep their names: 1 was a model and 0 chance before there was more.
static double guideNumber(Guide guide) {
  return guide == Guide::Model ? 1 : guide == Guide::Random ? 0 : 2;
}

static const Forest *forestOf(const CostModel *model) {
  return model ? &model->getForest() : nullptr;
}

/// What an estimate says, as a measurement.
static Measurement estimated(const BuiltKernel &candidate,
                             const BuiltKernel &reference) {
  Measurement result;
  result.status = Status::Ok;
  result.samples = {candidate.staticSeconds * 1e9};
  result.reference = {reference.staticSeconds * 1e9};
  result.clock = kStaticClock.str();
  return result;
}

static std::string makeRunId(const Task &task, const CostModel *base,
                             const SearchOptions &o) {
  std::string text =
      task.target + task.workload +
      (base && o.guide == Guide::Model ? base->getHash().str()
                                       : std::string("analytic")) +
      featureSchema(task.scorer.family);
  for (double number :
       {double(o.batch), o.epsilon, double(o.pool), double(o.population),
        double(o.generations), double(o.seed), guideNumber(o.guide),
        double(codegenVersionOf(task.workload, task.target))})
    text += " " + std::to_string(number);
  if (task.timing == Timing::Static)
    text += " static";
  if (o.guide == Guide::Model)
    for (const KnobValues &point : o.first)
      text += scheduleJson(task.space.nest, point);
  return sha256(text).substr(0, 16);
}

Tuner::Tuner(const Task &task, const CostModel *base, Store *store,
             const TuneOptions &options)
    : task(task), store(store), options(options),
      search(task.space, task.scorer, forestOf(base), options.search) {
  result.run = makeRunId(task, base, options.search);
}

Expected<std::unique_ptr<Tuner>> Tuner::create(const Task &task,
                                               const CostModel *base,
                                               Store *store,
                                               const TuneOptions &options) {
  std::unique_ptr<Tuner> tuner(new Tuner(task, base, store, options));
  if (store) {
    RecordFilter filter;
    filter.run = tuner->result.run;
    auto known = store->select(filter);
    if (!known)
      return known.takeError();
    for (Record &record : *known)
      tuner->cache.emplace(record.key(), std::move(record));
  }
  auto built = tuner->buildAll(candidatesOf(task.space.defaults));
  auto fail = [&](const llvm::Twine &why) {
    return llvm::createStringError(task.name +
                                   ": the default schedule: " + why);
  };
  if (!built[0])
    return fail(llvm::toString(built[0].takeError()));
  tuner->reference = std::move(*built[0]);
  if (task.timing == Timing::Static)
    return tuner;
  RunLimits limits = options.limits;
  limits.samples = 1;
  Measurement first;
  if (task.measure) {
    if (Error error = task.measure({&tuner->reference}, tuner->reference,
                                   limits, [&](unsigned, const Measurement &m) {
                                     first = m;
                                     return Error::success();
                                   }))
      return std::move(error);
  } else {
    first = measure(tuner->reference, tuner->reference, task.problem, limits);
  }
  if (first.status != Status::Ok)
    return fail(toString(first.status) + ": " + first.reason);
  // A hanging candidate is stopped when it is that much slower.
  double runs = 4.0 * options.limits.samples * 8;
  tuner->options.limits.seconds =
      std::min(options.limits.seconds,
               3 + runs * std::max(first.samples[0] * 1e-9, 1e-3));
  return tuner;
}

std::vector<Tuner::Candidate>
Tuner::candidatesOf(llvm::ArrayRef<KnobValues> points) {
  std::vector<Candidate> candidates;
  for (const KnobValues &point : points)
    candidates.push_back({point});
  return candidates;
}

Record Tuner::makeRecord(const Candidate &c, unsigned attempt) const {
  Record record;
  record.target = task.target;
  record.workload = task.workload;
  record.codegen = codegenVersionOf(record.workload, record.target);
  record.schedule = c.other ? scheduleJson(c.other->nest, c.other->knobs)
                            : scheduleJson(task.space.nest, c.point);
  record.run = result.run;
  record.isDefault = !c.other && c.point == task.space.defaults;
  record.round = search.getRound();
  record.attempt = attempt;
  record.seed = options.search.seed;
  record.compiler = options.compiler;
  return record;
}

/// Again, where the reference took far longer than it can: others had the
/// machine.
Measurement Tuner::measureHere(const BuiltKernel &candidate,
                               const MeasureOptions &how) {
  for (unsigned tries = 0;; ++tries) {
    Measurement m = measureSteady(candidate, reference, task.problem, how);
    if (m.status != Status::Ok)
      return m;
    double now = *llvm::min_element(m.reference);
    constexpr double noise = 1.2;
    if (now <= noise * fastestReference || tries >= how.retries) {
      fastestReference = std::min(fastestReference, now);
      return m;
    }
  }
}

Error Tuner::measureAll(llvm::ArrayRef<Candidate> candidates,
                        unsigned attempt) {
  std::vector<Candidate> fresh;
  for (const Candidate &candidate : candidates)
    if (!cache.count(makeRecord(candidate, attempt).key()))
      fresh.push_back(candidate);
  auto built = buildAll(fresh);
  MeasureOptions how{options.limits, options.mostDrift, options.retries};
  if (attempt) {
    how.limits.samples = options.again;
    how.limits.seconds *= 4;
  }
  // Stored before the next one runs: a kill loses at most what is under way.
  auto finish = [&](unsigned i, const Measurement &m) -> Error {
    Record record = makeRecord(fresh[i], attempt);
    record.utc = std::time(nullptr);
    record.status = m.status;
    record.reason = m.reason;
    record.samples = m.samples;
    record.reference = m.reference;
    record.drift = m.drift;
    record.elsewhere = m.elsewhere;
    record.clock = m.clock;
    if (store)
      if (auto added = store->add(record); !added)
        return added.takeError();
    ++result.trials;
    if (options.progress)
      options.progress(record, result.trials);
    cache.emplace(record.key(), std::move(record));
    return Error::success();
  };
  std::vector<unsigned> ready;
  for (unsigned i = 0; i < built.size(); ++i) {
    if (built[i]) {
      ready.push_back(i);
      continue;
    }
    Measurement declined;
    declined.status = Status::Compile;
    declined.reason = llvm::toString(built[i].takeError());
    if (Error error = finish(i, declined))
      return error;
  }
  if (task.timing == Timing::Static) {
    for (unsigned i : ready)
      if (Error error = finish(i, estimated(*built[i], reference)))
        return error;
  } else if (task.measure || options.fleet) {
    std::vector<const BuiltKernel *> kernels;
    for (unsigned i : ready)
      kernels.push_back(&*built[i]);
    auto done = [&](unsigned n, const Measurement &m) {
      return finish(ready[n], m);
    };
    if (Error error = task.measure
                          ? task.measure(kernels, reference, how.limits, done)
                          : options.fleet->measureAll(kernels, reference,
                                                      task.problem, how, done))
      return error;
  } else {
    for (unsigned i : ready) {
      MeasureLock lock;
      if (Error error = finish(i, measureHere(*built[i], how)))
        return error;
    }
  }
  result.reused += candidates.size() - fresh.size();
  for (const Candidate &candidate : candidates) {
    const Record &record = cache.at(makeRecord(candidate, attempt).key());
    records.push_back(record);
    bool isGood = record.status == Status::Ok;
    result.failed += !isGood;
    if (!attempt && !candidate.other)
      search.addResult(candidate.point, isGood
                                            ? std::optional(record.worstRatio())
                                            : std::nullopt);
  }
  return Error::success();
}

/// The fastest among those measured in this attempt and right; null: none.
const Alternative *Tuner::bestAlternative(unsigned attempt,
                                          double &ratio) const {
  const Alternative *best = nullptr;
  for (const Alternative &other : task.alternatives) {
    auto it = cache.find(makeRecord({{}, &other}, attempt).key());
    if (it == cache.end() || it->second.status != Status::Ok ||
        (best && it->second.ratio() >= ratio))
      continue;
    best = &other;
    ratio = it->second.ratio();
  }
  return best;
}

Expected<bool> Tuner::step(unsigned most) {
  if (!triedAlternatives) {
    triedAlternatives = true;
    std::vector<Candidate> others;
    for (const Alternative &other : task.alternatives)
      if (others.size() < most)
        others.push_back({{}, &other});
    if (Error error = measureAll(others, 0))
      return std::move(error);
    bestAlternative(0, result.bestAlternative);
    most -= others.size();
    if (!most)
      return true;
  }
  // What this run holds already is free.
  std::vector<KnobValues> points = search.propose(options.search.batch);
  if (points.size() > most)
    points.resize(most);
  if (points.empty())
    return false;
  if (Error error = measureAll(candidatesOf(points), 0))
    return std::move(error);
  search.endRound();
  result.best = search.getBest().second;
  result.expectedGain = search.getExpectedGain();
  result.isConverged = search.isConverged();
  return !result.isConverged;
}

Error Tuner::finish() {
  if (task.timing == Timing::Static) // the same again
    return Error::success();
  // The more trials, the more of the fastest are so by luck.
  unsigned count =
      std::max(options.winners, std::min(search.getNumTrials() / 4, 10u));
  std::vector<KnobValues> winners;
  for (const KnobValues &point : search.getFastest(count + 1))
    if (point != task.space.defaults && winners.size() < count)
      winners.push_back(point);
  std::vector<Candidate> again = candidatesOf(winners);
  double ratio = 0;
  if (const Alternative *other = bestAlternative(0, ratio))
    again.push_back({{}, other});
  if (Error error = measureAll(again, 1))
    return error;
  if (bestAlternative(1, ratio))
    result.bestAlternative = ratio;
  auto best = findBest(records, {.margin = 0});
  result.best = best ? best->ratio() : 1;
  return Error::success();
}

Expected<TuneResult> dlc::tuner::tune(const Task &task, const CostModel *base,
                                      Store *store,
                                      const TuneOptions &options) {
  auto start = std::chrono::steady_clock::now();
  auto tuner = Tuner::create(task, base, store, options);
  if (!tuner)
    return tuner.takeError();
  for (unsigned spent = 0; spent < options.budget;) {
    double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
            .count();
    if (options.seconds > 0 && seconds > options.seconds)
      break;
    Expected<bool> more = (*tuner)->step(options.budget - spent);
    if (!more)
      return more.takeError();
    spent = (*tuner)->getRecords().size();
    if (!*more)
      break;
  }
  if (Error error = (*tuner)->finish())
    return std::move(error);
  return (*tuner)->getResult();
}

Expected<TuneResult> dlc::tuner::replay(const Task &task, const CostModel *base,
                                        llvm::ArrayRef<Record> records,
                                        const SearchOptions &options) {
  Search search(task.space, task.scorer, forestOf(base), options);
  TuneResult result;
  result.run = makeRunId(task, base, options);
  std::map<unsigned, std::vector<const Record *>> rounds;
  for (const Record &record : records)
    if (record.run == result.run && record.attempt == 0 &&
        !record.usesLibrary())
      rounds[record.round].push_back(&record);
  if (rounds.empty())
    return llvm::createStringError("replay: the run " + result.run +
                                   " is not among the records: it belongs to "
                                   "another kernel, model or seed");
  for (auto &[round, trials] : rounds) {
    auto fail = [&](const llvm::Twine &why) {
      return llvm::createStringError("replay: round " + llvm::Twine(round) +
                                     why);
    };
    if (round != search.getRound())
      return fail(" follows none");
    std::vector<KnobValues> points = search.propose(options.batch);
    if (points.size() < trials.size())
      return fail(" asks for fewer candidates than were measured");
    // A round may have been cut by the budget.
    points.resize(trials.size());
    for (const KnobValues &point : points) {
      std::string text = scheduleJson(task.space.nest, point);
      auto it = llvm::find_if(
          trials, [&](const Record *r) { return r->schedule == text; });
      if (it == trials.end())
        return fail(" asks for " + text + ", which was not measured");
      bool isGood = (*it)->status == Status::Ok;
      result.failed += !isGood;
      search.addResult(point, isGood ? std::optional((*it)->worstRatio())
                                     : std::nullopt);
      ++result.reused;
    }
    search.endRound();
  }
  result.best = search.getBest().second;
  result.isConverged = search.isConverged();
  return result;
}
