// The database of a compilation.
#include "TuneDatabase.h"

#include "dlc/Codegen/CPU/KernelVariants.h"
#include "dlc/Tuner/Shipped.h"
#include "dlc/Tuner/Store.h"

#include "llvm/Support/FileSystem.h"

using namespace mlir;
using namespace dlc;
using llvm::Expected;

Expected<TuneDatabase> TuneDatabase::open(const CompileOptions &options,
                                          StringRef arch) {
  TuneDatabase database;
  bool searches = options.tune == CompileOptions::Tune::Search;
  std::string path = options.tuningDb.empty() ? tuner::getDefaultStorePath()
                                              : options.tuningDb;
  if (searches || !options.tuningDb.empty() || llvm::sys::fs::exists(path)) {
    auto opened = tuner::Store::open(path, searches);
    if (!opened)
      return opened.takeError();
    database.store = std::move(*opened);
  }
  std::string folder = tuner::findShippedFolder(arch);
  if (folder.empty())
    return database;
  auto records = tuner::readFolder(folder);
  if (!records)
    return records.takeError();
  database.shipped = std::move(*records);
  for (auto [i, record] : llvm::enumerate(database.shipped))
    database.places[{record.target, record.workload}].push_back(i);
  return database;
}

Expected<std::vector<tuner::Record>>
TuneDatabase::select(const tuner::KernelKey &key) const {
  std::vector<tuner::Record> records;
  if (auto it = places.find({key.target, key.workload}); it != places.end())
    for (size_t i : it->second)
      records.push_back(shipped[i]);
  if (!store)
    return records;
  tuner::RecordFilter filter;
  filter.target = key.target;
  filter.workload = key.workload;
  auto own = store->select(filter);
  if (!own)
    return own.takeError();
  records.insert(records.end(), own->begin(), own->end());
  return records;
}

void dlc::noteUntuned(Compilation &c, graph::KernelOp kernel,
                      const Twine &reason) {
  c.tuning.notes.push_back(
      ("kernel '" + kernel.getSymName() + "' is not tuned: " + reason).str());
}

void dlc::takeSchedule(Compilation &c, graph::KernelOp kernel,
                       const Schedule &schedule, const tuner::Record &best) {
  std::optional<SizeRange> range = getVariantRange(kernel);
  kernel.setScheduleAttr(schedule.toAttr(kernel.getContext()));
  if (range)
    setVariantRange(kernel, *range);
  ++c.tuning.tuned;
  c.tuning.items.push_back(
      {kernel.getSymName().str(), std::max(best.ratio(), best.medianRatio())});
}

void dlc::reportTuning(const Compilation &c, const Twine &more) {
  if (c.options.verbose)
    for (const std::string &text : c.tuning.notes)
      llvm::errs() << "  " << text << "\n";
  if (!c.options.quiet)
    llvm::errs() << "tuning: " << c.tuning.tuned << " of " << c.tuning.kernels
                 << " kernels have a schedule of the database" << more << "\n";
}
