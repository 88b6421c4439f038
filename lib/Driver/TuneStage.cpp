// -tune: schedules from the tuning database. A search measures candidates of
// each kernel by itself and stores every trial; then, as with -tune=lookup,
// each kernel takes the best schedule that is known for it on this target. What
// is taken is a kernel's `schedule` attribute as any other: Check admits its
// laws, code generation refuses what it cannot emit.
#include "TuneDatabase.h"
#include "TuneMachine.h"

#include "dlc/Tuner/Experience.h"
#include "dlc/Tuner/Shipped.h"

#include "llvm/Support/FormatVariadic.h"

#include <map>

using namespace mlir;
using namespace dlc;
using llvm::Error;
using llvm::Expected;

namespace {
/// Kernels of one key: equal but for their names.
struct Item {
  SmallVector<graph::KernelOp> kernels;
  KernelCalls calls;
  tuner::KernelKey key;
  tuner::Scorer scorer;
  std::shared_ptr<const tuner::Task> task;
  std::unique_ptr<tuner::Tuner> tuner;
  bool isDone = false;
  double predicted = 0; ///< seconds of one run under the default schedule

  double seconds() const { return calls.count * predicted; }
  /// What another round may save, in seconds of a run of the model.
  double expected() const {
    if (!tuner)
      return seconds();
    const tuner::TuneResult &r = tuner->getResult();
    return seconds() * r.best * (1 - 1 / std::max(r.expectedGain, 1.001));
  }
};

class Stage {
public:
  explicit Stage(Compilation &c)
      : c(c), machine(c.cuda ? makeCudaTuneMachine(c) : makeCpuTuneMachine(c)) {
  }
  Error run();

private:
  Error collect();
  Error openDatabase();
  Error search();
  Error step(Item &item, unsigned most);
  void showProgress(const Item &item, unsigned spent, double passed);
  double expectedGain() const;
  Error choose();

  Compilation &c;
  std::unique_ptr<TuneMachine> machine;
  std::map<std::string, std::unique_ptr<Item>> items; // by key
  TuneDatabase database;
  std::map<std::string, std::optional<tuner::CostModel>> models; // by family
};
} // namespace

static std::string keyText(StringRef target, StringRef workload) {
  return (target + "\n" + workload).str();
}

Error Stage::collect() {
  if (Error error = machine->prepare())
    return error;
  llvm::StringMap<KernelCalls> calls = findKernelCalls(c.getModule());
  for (auto kernel : c.getModule().getOps<graph::KernelOp>()) {
    // A schedule of the file's own stays.
    if (machine->hasOwnSchedule(kernel))
      continue;
    const KernelCalls &called = calls[kernel.getSymName()];
    std::string reason;
    auto key = machine->makeKey(kernel, called, reason);
    if (failed(key)) {
      noteUntuned(c, kernel, reason);
      continue;
    }
    ++c.tuning.kernels;
    auto &item = items[keyText(key->target, key->workload)];
    if (!item) {
      item = std::make_unique<Item>();
      item->key = *key;
      item->calls.constantOperands = called.constantOperands;
    }
    item->kernels.push_back(kernel);
    item->calls.count += called.count;
  }
  return Error::success();
}

Error Stage::openDatabase() {
  StringRef arch = machine->getArch();
  Expected<TuneDatabase> opened = TuneDatabase::open(c.options, arch);
  if (!opened)
    return opened.takeError();
  database = std::move(*opened);
  if (c.options.tune != CompileOptions::Tune::Search)
    return Error::success();
  for (const char *family : tuner::kFamilies) {
    auto loaded = tuner::loadShippedModel(arch, family);
    if (!loaded)
      return loaded.takeError();
    models[family] = std::move(*loaded);
  }
  return Error::success();
}

Error Stage::step(Item &item, unsigned most) {
  if (!item.tuner) {
    // The interpreter's run on it counts: it is made when it is needed.
    auto task = machine->makeTask(item.kernels[0], item.calls);
    if (!task) {
      c.tuning.notes.push_back(llvm::toString(task.takeError()));
      item.isDone = true;
      return Error::success();
    }
    item.task = std::move(*task);
    tuner::TuneOptions options;
    options.search.seed = c.options.tuneSeed;
    options.search.first = tuner::findExperience(
        database.getShipped(), item.task->workload, item.task->target);
    options.jobs = c.options.jobs;
    options.compiler = getVersion().str();
    auto &model = models[item.scorer.family];
    auto made = tuner::Tuner::create(*item.task, model ? &*model : nullptr,
                                     database.getStore(), options);
    if (!made)
      return made.takeError();
    item.tuner = std::move(*made);
  }
  Expected<bool> more = item.tuner->step(most);
  if (!more)
    return more.takeError();
  item.isDone = !*more;
  return Error::success();
}

Error Stage::search() {
  std::vector<Item *> open;
  for (auto &[key, item] : items) {
    auto scorer = tuner::Scorer::create(item->key.workload, item->key.target);
    if (!scorer)
      return scorer.takeError();
    item->scorer = std::move(*scorer);
    // Learned where there is a model of times, else by hand.
    item->predicted =
        machine->getSeconds(item->key).value_or(item->scorer.seconds({}));
    open.push_back(item.get());
  }
  auto start = std::chrono::steady_clock::now();
  const CompileOptions &o = c.options;
  unsigned spent = 0;
  auto left = [&](const Item &item) -> unsigned {
    constexpr unsigned round = tuner::SearchOptions().batch;
    if (o.tunePerKernel)
      return o.tunePerKernel -
             std::min<unsigned>(o.tunePerKernel,
                                item.tuner ? item.tuner->getRecords().size()
                                           : 0);
    if (o.tuneTrials)
      return o.tuneTrials - std::min(o.tuneTrials, spent);
    std::chrono::duration<double> passed =
        std::chrono::steady_clock::now() - start;
    return passed.count() < o.tuneSeconds ? round : 0;
  };
  for (;;) {
    // The round goes where most time is expected to be saved.
    Item *next = nullptr;
    for (Item *item : open)
      if (!item->isDone && left(*item) > 0 &&
          (!next || item->expected() > next->expected()))
        next = item;
    if (!next)
      break;
    unsigned before = next->tuner ? next->tuner->getRecords().size() : 0;
    if (Error error = step(*next, left(*next)))
      return error;
    if (!next->tuner)
      continue;
    spent += next->tuner->getRecords().size() - before;
    std::chrono::duration<double> passed =
        std::chrono::steady_clock::now() - start;
    showProgress(*next, spent, passed.count());
  }
  for (Item *item : open) {
    if (!item->tuner)
      continue;
    if (Error error = item->tuner->finish())
      return error;
    const tuner::TuneResult &result = item->tuner->getResult();
    c.tuning.measured += result.trials;
    c.tuning.failed += result.failed;
  }
  c.tuning.expectedGain = expectedGain();
  return Error::success();
}

/// Of the whole model: the time it is expected to take now over what the
/// searches still hope for.
double Stage::expectedGain() const {
  double before = 0, after = 0;
  for (auto &[key, item] : items) {
    double best = item->tuner ? item->tuner->getResult().best : 1;
    double gain = item->tuner ? item->tuner->getResult().expectedGain : 1;
    before += item->seconds() * best;
    after += item->seconds() * best / std::max(1.0, gain);
  }
  return after > 0 ? before / after : 1;
}

void Stage::showProgress(const Item &item, unsigned spent, double passed) {
  const CompileOptions &o = c.options;
  std::string budget =
      o.tuneTrials        ? std::to_string(spent) + " of " +
                                std::to_string(o.tuneTrials) + " trials"
      : o.tuneSeconds > 0 ? llvm::formatv("{0} trials, {1:f0} of {2:f0} s",
                                          spent, passed, o.tuneSeconds)
                                .str()
                          : std::to_string(spent) + " trials";
  graph::KernelOp kernel = item.kernels[0];
  std::string now =
      llvm::formatv("'{0}' {1:f2}x the default's speed after {2} trials",
                    kernel.getSymName(), 1 / item.tuner->getResult().best,
                    item.tuner->getRecords().size())
          .str();
  if (o.verbose && !o.quiet)
    llvm::errs() << "  " << now << "\n";
  c.progress.update(
      llvm::formatv("tuning, {0}, expected gain left {1:f2}x, {2}", budget,
                    expectedGain(), now)
          .str());
}

Error Stage::choose() {
  for (auto &[key, item] : items) {
    auto records = database.select(item->key);
    if (!records)
      return records.takeError();
    llvm::erase_if(*records, [&](const tuner::Record &record) {
      return record.usesLibrary() && !machine->callsLibrary(record);
    });
    auto best = tuner::findBest(
        *records, {.takesEstimates = c.options.tuneStatic,
                   .takesLibraries =
                       c.options.libraries != CompileOptions::Libraries::Off});
    if (!best)
      continue;
    Expected<KnobValues> knobs = tuner::parseKnobs(best->schedule);
    if (!knobs)
      return knobs.takeError();
    for (graph::KernelOp kernel : item->kernels) {
      std::string reason;
      auto schedule = machine->makeSchedule(kernel, item->calls, item->key,
                                            *best, *knobs, reason);
      if (schedule)
        takeSchedule(c, kernel, *schedule, *best);
      else
        noteUntuned(c, kernel, reason);
    }
  }
  return Error::success();
}

Error Stage::run() {
  if (Error error = collect())
    return error;
  bool searches = c.options.tune == CompileOptions::Tune::Search;
  if (searches)
    if (Error error = machine->prepareSearch())
      return error;
  if (Error error = openDatabase())
    return error;
  if (searches)
    if (Error error = search())
      return error;
  if (Error error = choose())
    return error;
  std::string more;
  if (searches)
    more = llvm::formatv(", {0} candidates {1}, {2} failed; expected gain left "
                         "{3:f2}x",
                         c.tuning.measured,
                         c.options.tuneStatic ? "estimated" : "measured",
                         c.tuning.failed, c.tuning.expectedGain)
               .str();
  reportTuning(c, more);
  return Error::success();
}

Error dlc::tuneKernels(Compilation &c) {
  if (c.options.tune == CompileOptions::Tune::Off)
    return Error::success();
  if (!c.target && !c.cuda)
    return makeError(ExitCode::Usage,
                     "-tune is for CPUs and CUDA: schedules of " +
                         c.options.target + " are chosen by rules");
  if (Error error = Stage(c).run())
    return llvm::make_error<CompileError>(
        toCompileError(std::move(error), ExitCode::Unavailable));
  return Error::success();
}
