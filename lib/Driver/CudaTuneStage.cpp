// -tune=lookup for CUDA: what was measured elsewhere (dlc-tune bundle, import)
// gives kernels their schedules.
#include "CudaTuneStage.h"
#include "Compilation.h"

#include "dlc/Schedule/Schedule.h"
#include "dlc/Tuner/CudaTask.h"
#include "dlc/Tuner/Shipped.h"
#include "dlc/Tuner/Store.h"

#include "llvm/Support/FileSystem.h"

#include <map>

using namespace mlir;
using namespace dlc;
using llvm::Error;
using llvm::Expected;

using Records = std::map<std::pair<std::string, std::string>,
                         std::vector<tuner::Record>>; // by target, workload

/// What dlc comes with.
static Expected<Records> readShipped() {
  Records shipped;
  std::string folder = tuner::findShippedFolder("cuda");
  if (folder.empty())
    return shipped;
  auto records = tuner::readFolder(folder);
  if (!records)
    return records.takeError();
  for (tuner::Record &record : *records)
    shipped[{record.target, record.workload}].push_back(std::move(record));
  return shipped;
}

static Error choose(Compilation &c) {
  std::string path = c.options.tuningDb.empty() ? tuner::getDefaultStorePath()
                                                : c.options.tuningDb;
  std::unique_ptr<tuner::Store> store;
  if (!c.options.tuningDb.empty() || llvm::sys::fs::exists(path)) {
    auto opened = tuner::Store::open(path, /*create=*/false);
    if (!opened)
      return opened.takeError();
    store = std::move(*opened);
  }
  Expected<Records> shipped = readShipped();
  if (!shipped)
    return shipped.takeError();
  CudaCodegenOptions codegen;
  codegen.strict = c.options.strict;
  codegen.tf32 = c.options.precision == CompileOptions::Precision::Tf32;
  for (auto kernel : c.getModule().getOps<graph::KernelOp>()) {
    auto note = [&](const Twine &why) {
      c.tuning.notes.push_back(
          ("kernel '" + kernel.getSymName() + "' is not tuned: " + why).str());
    };
    if (kernel.getScheduleAttr())
      continue; // the file's own stays
    std::string reason;
    auto key = tuner::makeCudaKey(kernel, *c.cuda, codegen, reason);
    if (failed(key)) {
      note(reason);
      continue;
    }
    ++c.tuning.kernels;
    std::vector<tuner::Record> records =
        (*shipped)[{key->target, key->workload}];
    if (store) {
      tuner::RecordFilter filter;
      filter.target = key->target;
      filter.workload = key->workload;
      auto own = store->select(filter);
      if (!own)
        return own.takeError();
      records.insert(records.end(), own->begin(), own->end());
    }
    auto best = tuner::findBest(records);
    if (!best)
      continue;
    Expected<KnobValues> knobs = tuner::parseKnobs(best->schedule);
    if (!knobs)
      return knobs.takeError();
    if (!cudaScheduleSpace(kernel, codegen).isLegal(*knobs, reason)) {
      note("the schedule of the database does not fit: " + reason);
      continue;
    }
    Schedule schedule;
    schedule.knobs.insert(knobs->begin(), knobs->end());
    kernel.setScheduleAttr(schedule.toAttr(kernel.getContext()));
    ++c.tuning.tuned;
    c.tuning.items.push_back({kernel.getSymName().str(),
                              std::max(best->ratio(), best->medianRatio())});
  }
  return Error::success();
}

Error dlc::lookUpCudaSchedules(Compilation &c) {
  if (c.options.tune == CompileOptions::Tune::Search)
    return makeError(ExitCode::Usage,
                     "-tune measures on this machine's CPU; candidates for a "
                     "GPU are measured where it is (dlc-tune bundle -target=" +
                         c.options.target +
                         "), then -tune=lookup takes the best");
  if (Error error = choose(c))
    return llvm::make_error<CompileError>(
        toCompileError(std::move(error), ExitCode::Unavailable));
  if (c.options.verbose)
    for (const std::string &text : c.tuning.notes)
      llvm::errs() << "  " << text << "\n";
  if (!c.options.quiet)
    llvm::errs() << "tuning: " << c.tuning.tuned << " of " << c.tuning.kernels
                 << " kernels have a schedule of the database\n";
  return Error::success();
}
