// Commands on records: list, export, import, merge, prune, train, eval.
#include "Settings.h"

#include "dlc/Driver/CommandLine.h"
#include "dlc/Tuner/Features.h"
#include "dlc/Tuner/Model.h"
#include "dlc/Tuner/Store.h"

#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

#include <map>

using namespace dlc;
using namespace dlc::tuner;
using llvm::Error;
using llvm::Expected;

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
    auto some = readJsonLines(path);
    if (!some)
      return some.takeError();
    records.insert(records.end(), some->begin(), some->end());
  }
  std::erase_if(
      records, [&](const Record &record) { return record.drift > s.maxDrift; });
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
    Expected<TargetFacts> target = TargetFacts::parseJson(key.first);
    if (!target)
      return target.takeError();
    Expected<Scorer> scorer = Scorer::create(key.second, key.first);
    if (!scorer)
      return scorer.takeError();
    unsigned failed = 0;
    for (const Record &record : trials)
      failed += record.status != Status::Ok;
    auto best = findBest(trials);
    llvm::outs() << llvm::format("%8zu %7u ", trials.size(), failed)
                 << llvm::format("%5.2fx", best ? 1 / best->ratio() : 1.0)
                 << "  " << scorer->name << "; " << target->cpu << "\n";
  }
  llvm::outs() << records->size() << " trials of " << groups.size()
               << " kernels\n";
  return Error::success();
}

static void printRanking(const char *name, const Ranking &r) {
  llvm::outs() << llvm::format("  %-10s %6.3f %6.3f %6.3f %6.3f\n", name,
                               r.top1, r.top5, r.top10, r.pairs);
}

static Error evaluateRecords(const TuneSettings &s) {
  Expected<std::vector<Record>> records = readRecords(s);
  if (!records)
    return records.takeError();
  Expected<Evaluation> e =
      evaluate(*records, s.family, s.folds, unsigned(s.seed));
  if (!e)
    return e.takeError();
  llvm::outs() << e->workloads << " kernels held out in " << e->folds
               << " parts, " << e->trials
               << " trials; best of the first k of a ranking over the best "
                  "measured (geomean),\nand the share of pairs ordered "
                  "right\n               top-1  top-5 top-10  pairs\n";
  printRanking("model", e->model);
  printRanking("analytic", e->analytic);
  printRanking("random", e->random);
  llvm::outs() << llvm::format("  default    %6.3f\n", e->defaults);
  return Error::success();
}

static Error train(const TuneSettings &s) {
  if (s.output.empty())
    return usage("train: -o <model.json> is missing");
  Expected<std::vector<Record>> records = readRecords(s);
  if (!records)
    return records.takeError();
  Expected<CostModel> model = CostModel::train(*records, s.family);
  if (!model)
    return model.takeError();
  if (Error error = model->save(s.output))
    return error;
  llvm::outs() << s.output << ": of " << model->getNumSamples() << " trials of "
               << model->getNumWorkloads() << " kernels, "
               << model->getHash().take_front(12) << "\n";
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
         : s.command == "train"  ? train(s)
         : s.command == "import" ? importRecords(s)
         : s.command == "prune"  ? prune(s)
                                 : exportRecords(s);
}
