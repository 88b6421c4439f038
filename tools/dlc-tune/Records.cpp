// Commands on records: list, export, import, merge, prune, train, eval, replay,
// bundle.
#include "Settings.h"

#include "dlc/Driver/CommandLine.h"
#include "dlc/Tuner/CudaFeatures.h"
#include "dlc/Tuner/Evaluate.h"
#include "dlc/Tuner/Libraries.h"
#include "dlc/Tuner/Shipped.h"
#include "dlc/Tuner/Store.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>
#include <map>

using namespace dlc;
using namespace dlc::tuner;
using llvm::Error;
using llvm::Expected;

/// A folder is a bundle, or an architecture's part of one.
static Expected<std::vector<Record>> readFrom(const std::string &path) {
  return llvm::sys::fs::is_directory(path) ? readFolder(path)
                                           : readJsonLines(path);
}

/// Of the default beside itself no time is asked.
static void dropDrifted(std::vector<Record> &records, const TuneSettings &s) {
  std::erase_if(records, [&](const Record &record) {
    return record.drift > s.maxDrift && !record.isDefault;
  });
}

/// Of the files that are given, else of the store.
static Expected<std::vector<Record>> readRecords(const TuneSettings &s) {
  std::vector<Record> records;
  if (s.inputs.empty()) {
    auto store = Store::open(s.store, /*create=*/false);
    if (!store)
      return store.takeError();
    auto all = (*store)->select();
    if (!all)
      return all.takeError();
    records = std::move(*all);
  }
  for (const std::string &path : s.inputs) {
    auto some = readFrom(path);
    if (!some)
      return some.takeError();
    records.insert(records.end(), some->begin(), some->end());
  }
  dropDrifted(records, s);
  return records;
}

static Error list(const TuneSettings &s) {
  Expected<std::vector<Record>> records = readRecords(s);
  if (!records)
    return records.takeError();
  std::map<std::pair<std::string, std::string>, std::vector<Record>> groups;
  for (const Record &record : *records)
    groups[{record.target, record.workload}].push_back(record);
  llvm::outs() << "  trials  failed   best  kernel (outer x rows x columns x "
                  "depth of a product), threads; machine\n";
  for (auto &[key, trials] : groups) {
    Expected<MachineLabel> machine = labelOf(key.first);
    if (!machine)
      return machine.takeError();
    Expected<Scorer> scorer = Scorer::create(key.second, key.first);
    if (!scorer)
      return scorer.takeError();
    unsigned failed = 0;
    for (const Record &record : trials)
      failed += record.status != Status::Ok;
    auto best = findBest(trials);
    llvm::outs() << llvm::format("%8zu %7u ", trials.size(), failed)
                 << llvm::format("%5.2fx", best ? 1 / best->ratio() : 1.0)
                 << "  " << scorer->name << "; " << machine->name << "\n";
  }
  llvm::outs() << records->size() << " trials of " << groups.size()
               << " kernels\n";
  return Error::success();
}

static Error nothing(const char *what) {
  return llvm::createStringError(llvm::Twine(what) +
                                 ": no family of nests has enough records");
}

/// The families that -family= names; without it all.
static std::vector<std::string> familiesOf(const TuneSettings &s) {
  if (!s.family.empty())
    return {s.family};
  return {std::begin(kFamilies), std::end(kFamilies)};
}

static void printRanking(const char *name, const Ranking &r) {
  llvm::outs() << llvm::format("  %-18s %6.3f %6.3f %6.3f %6.3f\n", name,
                               r.top1, r.top5, r.top10, r.pairs);
}

static void printUse(const char *name, const Evaluation &e) {
  llvm::outs() << llvm::format("    %-16s %6.3f %6.3f\n", name, e.choice,
                               e.quick);
}

static void printFamily(const std::string &family, const FamilyEvaluation &f,
                        const TuneSettings &s) {
  const Evaluation &e = f.all;
  llvm::outs() << family << ": " << e.workloads
               << " kernels held out (each on its machine and threads)"
               << (s.held.empty() ? " in " + std::to_string(e.folds) + " parts"
                                  : std::string())
               << (s.leavesIsaOut ? ", learned from other instruction sets"
                                  : "")
               << ", " << e.trials
               << " trials\n                      top-1  top-5 top-10  pairs\n";
  printRanking("model", e.model);
  printRanking("analytic", e.analytic);
  printRanking("random", e.random);
  llvm::outs() << llvm::format("  %-18s %6.3f\n", "default", e.defaults);
  llvm::outs() << llvm::format("  %-18s %6.3f %6.3f\n", "as it is used",
                               e.choice, e.quick);
  auto printPart = [](const std::string &name, const Evaluation &part) {
    printRanking((name + " (" + std::to_string(part.workloads) + ")").c_str(),
                 part.model);
    printUse("as it is used", part);
  };
  for (auto &[kind, part] : f.byKind)
    printPart(kind, part);
  for (auto &[threads, part] : f.byThreads)
    printPart(std::to_string(threads) + (threads == 1 ? " thread" : " threads"),
              part);
  llvm::outs() << llvm::format("  times are off by a factor of %.2f (model), "
                               "%.2f (analytic)\n",
                               e.timeFactor, e.analyticFactor);
}

/// Where -tune=quick loses most.
static void printLosses(llvm::ArrayRef<KernelLoss> losses, unsigned most) {
  for (const KernelLoss &loss :
       losses.take_front(std::min<size_t>(most, losses.size()))) {
    llvm::outs() << llvm::format("  %.3f ", loss.quick) << loss.name
                 << llvm::format(": default %.3f, best ", loss.defaults)
                 << loss.best.first << "; chosen";
    for (auto &[knobs, speed] : loss.chosen)
      llvm::outs() << " " << knobs << llvm::format(" %.3f", speed);
    llvm::outs() << "\n";
  }
}

static EvalOptions optionsOf(const TuneSettings &s) {
  EvalOptions options;
  options.folds = s.folds;
  options.seed = unsigned(s.seed);
  options.leavesIsaOut = s.leavesIsaOut;
  options.fewest = s.fewest;
  return options;
}

/// Where a library beats our nests; `compared` is left out of it where none was
/// measured.
static Error printGaps(llvm::ArrayRef<Record> records, unsigned &compared) {
  Expected<Gaps> found = findGaps(records);
  if (!found)
    return found.takeError();
  compared = found->compared;
  if (!compared)
    return Error::success();
  llvm::outs() << llvm::format(
      "libraries: measured on %u kernels; our best known time over theirs is "
      "%.2f (geomean)\nopen gaps of our nests: %zu\n",
      compared, found->mean, found->gaps.size());
  for (const Gap &gap : found->gaps)
    llvm::outs() << llvm::format("  %5.2fx %9.3f ms  ", gap.ours,
                                 gap.seconds * 1e3)
                 << gap.kernel << "; " << gap.machine << "; " << gap.library
                 << "\n";
  return Error::success();
}

static Error evaluateRecords(const TuneSettings &s) {
  Expected<std::vector<Record>> records = readRecords(s);
  if (!records)
    return records.takeError();
  unsigned compared = 0;
  if (Error error = printGaps(*records, compared))
    return error;
  if (s.onlyGaps)
    return compared ? Error::success()
                    : llvm::createStringError(
                          "eval -gaps: no library was measured (tune "
                          "-libraries=on)");
  EvalOptions options = optionsOf(s);
  std::vector<Record> judged;
  if (!s.held.empty()) {
    Expected<std::vector<Record>> held = readFrom(s.held);
    if (!held)
      return held.takeError();
    judged = std::move(*held);
    dropDrifted(judged, s);
    options.judged = judged;
  }
  unsigned evaluated = 0, workloads = 0;
  // Sums of logarithms: the model's best of one, five and ten; the default; as
  // it is used.
  double sums[6] = {};
  for (const std::string &family : familiesOf(s)) {
    Expected<FamilyEvaluation> e = evaluate(*records, family, options);
    if (!e) {
      if (!s.family.empty())
        return e.takeError();
      llvm::consumeError(e.takeError()); // a family without records
      continue;
    }
    if (evaluated++ == 0)
      llvm::outs() << "best of the first k of a ranking over the best measured "
                      "(geomean), and the share of pairs ordered right\n";
    printFamily(family, *e, s);
    printLosses(e->losses, s.worst);
    double n = e->all.workloads;
    workloads += e->all.workloads;
    const Ranking &model = e->all.model;
    double shares[] = {model.top1,      model.top5,    model.top10,
                       e->all.defaults, e->all.choice, e->all.quick};
    for (auto [sum, share] : llvm::zip_equal(sums, shares))
      sum += n * std::log(share);
  }
  if (!evaluated)
    return compared ? Error::success() : nothing("eval");
  for (double &sum : sums)
    sum = std::exp(sum / std::max(1u, workloads));
  if (evaluated > 1)
    llvm::outs() << llvm::format("all families: %u kernels, top-1 %.3f, top-5 "
                                 "%.3f, top-10 %.3f; default %.3f; as it is "
                                 "used %.3f, %.3f\n",
                                 workloads, sums[0], sums[1], sums[2], sums[3],
                                 sums[4], sums[5]);
  return Error::success();
}

static Error replayRecords(const TuneSettings &s) {
  Expected<std::vector<Record>> records = readRecords(s);
  if (!records)
    return records.takeError();
  EvalOptions options = optionsOf(s);
  unsigned replayed = 0;
  for (const std::string &family : familiesOf(s)) {
    auto rows = replayPools(*records, family, options);
    if (!rows) {
      if (!s.family.empty())
        return rows.takeError();
      llvm::consumeError(rows.takeError()); // a family without records
      continue;
    }
    if (rows->empty())
      continue;
    if (replayed++ == 0)
      llvm::outs() << "trials to 95 % of the best recorded, the default "
                      "first: median, 90 of 100\n";
    llvm::outs() << llvm::format(
        "%s: %u kernels, of which the default of %u is below\n"
        "                          all kernels       those below\n",
        family.c_str(), rows->front().kernels, rows->front().below);
    for (const ReplayRow &row : *rows)
      llvm::outs() << llvm::format(
          "  %-22s %6.0f %6.0f     %6.0f %6.0f\n", row.name.c_str(),
          row.all.median, row.all.p90, row.hidden.median, row.hidden.p90);
  }
  return replayed ? Error::success() : nothing("replay");
}

static Error trainModel(const TuneSettings &s, llvm::ArrayRef<Record> records,
                        const std::string &family, CostModel::Label label,
                        const std::string &path) {
  Expected<CostModel> model = CostModel::train(records, family, label);
  if (!model)
    return model.takeError();
  if (Error error = model->save(path))
    return error;
  llvm::outs() << path << ": of " << model->getNumSamples() << " trials of "
               << model->getNumWorkloads() << " kernels, "
               << model->getHash().take_front(12) << "\n";
  return Error::success();
}

static Error train(const TuneSettings &s) {
  if (s.output.empty())
    return usage("train: -o <model.json> is missing");
  Expected<std::vector<Record>> records = readRecords(s);
  if (!records)
    return records.takeError();
  return trainModel(s, *records, s.family.empty() ? "contraction" : s.family,
                    s.predictsTime ? CostModel::Label::Time
                                   : CostModel::Label::Order,
                    s.output);
}

//===----------------------------------------------------------------------===//
// What is shipped
//===----------------------------------------------------------------------===//

/// Of every workload: the default, all that failed, and of the others the
/// fastest and as many spread over the rest, for what is slow teaches too.
static std::vector<Record> pickRecords(std::vector<Record> records,
                                       unsigned keep) {
  std::map<std::pair<std::string, std::string>, std::vector<Record>> groups;
  for (Record &record : records)
    groups[{record.target, record.workload}].push_back(std::move(record));
  std::vector<Record> picked;
  for (auto &[key, group] : groups) {
    std::vector<Record> good;
    for (Record &record : group)
      (record.status == Status::Ok && !record.isDefault ? good : picked)
          .push_back(std::move(record));
    llvm::sort(good, [](const Record &a, const Record &b) {
      return a.ratio() != b.ratio() ? a.ratio() < b.ratio() : a.key() < b.key();
    });
    size_t fastest = std::min<size_t>(keep, good.size());
    size_t rest = good.size() - fastest, spread = std::min<size_t>(keep, rest);
    for (size_t i = 0; i < fastest; ++i)
      picked.push_back(good[i]);
    for (size_t i = 0; i < spread; ++i)
      picked.push_back(good[fastest + i * rest / spread]);
  }
  return picked;
}

/// bundle: <folder>/<arch>/<family>.jsonl with the models learned from them, as
/// far as they are better than the analytic time: what `tuning_db/` is.
static Error bundle(const TuneSettings &s) {
  if (s.output.empty())
    return usage("bundle: -o <folder> is missing");
  Expected<std::vector<Record>> records = readRecords(s);
  if (!records)
    return records.takeError();
  std::map<std::pair<std::string, std::string>, std::vector<Record>> files;
  for (Record &record : *records) {
    if (record.usesLibrary()) // teaches nothing of our nests
      continue;
    Expected<MachineLabel> target = labelOf(record.target);
    if (!target)
      return target.takeError();
    Expected<Scorer> scorer = Scorer::create(record.workload, record.target);
    if (!scorer)
      return scorer.takeError();
    files[{target->arch, scorer->family}].push_back(std::move(record));
  }
  if (files.empty())
    return nothing("bundle");
  for (auto &[key, all] : files) {
    auto &[arch, family] = key;
    std::string folder = s.output + "/" + arch;
    if (std::error_code code = llvm::sys::fs::create_directories(folder))
      return makeError(ExitCode::Io, code.message(), folder);
    std::vector<Record> picked = pickRecords(std::move(all), s.keep);
    std::string path = folder + "/" + family + ".jsonl";
    if (Error error = writeJsonLines(picked, path))
      return error;
    // As import reads them: equal bundles give equal models.
    Expected<std::vector<Record>> written = readJsonLines(path);
    if (!written)
      return written.takeError();
    llvm::outs() << path << ": " << written->size() << " records\n";
    Expected<FamilyEvaluation> judged =
        evaluate(*written, family, EvalOptions());
    if (!judged) {
      llvm::outs() << family
                   << ": no models: " << llvm::toString(judged.takeError())
                   << "\n";
      continue;
    }
    // A model that held-out kernels do not bear out would mislead.
    const Evaluation &e = judged->all;
    for (auto label : {CostModel::Label::Order, CostModel::Label::Time}) {
      std::string model = folder + "/" + modelFileName(family, label);
      bool isOrder = label == CostModel::Label::Order;
      constexpr double noise = 0.02;
      if (isOrder ? e.model.pairs > e.analytic.pairs + noise
                  : e.timeFactor < e.analyticFactor) {
        if (Error error = trainModel(s, *written, family, label, model))
          return error;
        continue;
      }
      llvm::sys::fs::remove(model);
      llvm::outs() << model << ": none, the analytic time does as well ("
                   << (isOrder ? llvm::format("pairs %.2f, %.2f", e.model.pairs,
                                              e.analytic.pairs)
                               : llvm::format("a factor of %.2f, %.2f",
                                              e.timeFactor, e.analyticFactor))
                   << ")\n";
    }
  }
  return Error::success();
}

static Error exportRecords(const TuneSettings &s) {
  if (s.output.empty())
    return usage(s.command + ": -o <records.jsonl> is missing");
  if (s.command == "merge" && s.inputs.empty())
    return usage("merge: no files");
  Expected<std::vector<Record>> records = readRecords(s);
  if (!records)
    return records.takeError();
  if (Error error = writeJsonLines(*records, s.output))
    return error;
  Expected<std::vector<Record>> written = readJsonLines(s.output);
  if (!written)
    return written.takeError();
  llvm::outs() << s.output << ": " << written->size() << " records\n";
  return Error::success();
}

static Error importRecords(const TuneSettings &s) {
  if (s.inputs.empty())
    return usage("import: no files");
  Expected<std::vector<Record>> records = readRecords(s);
  if (!records)
    return records.takeError();
  auto store = Store::open(s.store, /*create=*/true);
  if (!store)
    return store.takeError();
  Expected<unsigned> added = (*store)->add(*records);
  if (!added)
    return added.takeError();
  llvm::outs() << s.store << ": " << *added << " records added, "
               << records->size() - *added << " were there\n";
  return Error::success();
}

static Error prune(const TuneSettings &s) {
  auto store = Store::open(s.store, /*create=*/false);
  if (!store)
    return store.takeError();
  Expected<unsigned> gone = (*store)->prune(s.keep);
  if (!gone)
    return gone.takeError();
  llvm::outs() << s.store << ": " << *gone << " records dropped\n";
  return Error::success();
}

Error dlc::runRecords(const TuneSettings &s) {
  return s.command == "list"     ? list(s)
         : s.command == "eval"   ? evaluateRecords(s)
         : s.command == "replay" ? replayRecords(s)
         : s.command == "train"  ? train(s)
         : s.command == "bundle" ? bundle(s)
         : s.command == "import" ? importRecords(s)
         : s.command == "prune"  ? prune(s)
                                 : exportRecords(s);
}
