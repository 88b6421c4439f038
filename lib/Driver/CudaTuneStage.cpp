// -tune=lookup for CUDA: what was measured elsewhere (dlc-tune bundle, import)
// gives kernels their schedules.
#include "CudaTuneStage.h"
#include "TuneDatabase.h"

#include "dlc/Tuner/CudaTask.h"

using namespace mlir;
using namespace dlc;
using llvm::Error;
using llvm::Expected;

static Error choose(Compilation &c) {
  Expected<TuneDatabase> database = TuneDatabase::open(c.options, "cuda");
  if (!database)
    return database.takeError();
  CudaCodegenOptions codegen;
  codegen.strict = c.options.strict;
  codegen.tf32 = c.options.precision == CompileOptions::Precision::Tf32;
  codegen.warpGroups = c.cuda->hasWarpGroups();
  for (auto kernel : c.getModule().getOps<graph::KernelOp>()) {
    if (kernel.getScheduleAttr())
      continue; // the file's own stays
    std::string reason;
    auto key = tuner::makeCudaKey(kernel, *c.cuda, codegen, reason);
    if (failed(key)) {
      noteUntuned(c, kernel, reason);
      continue;
    }
    ++c.tuning.kernels;
    auto records = database->select(*key);
    if (!records)
      return records.takeError();
    auto best = tuner::findBest(*records);
    if (!best)
      continue;
    Expected<KnobValues> knobs = tuner::parseKnobs(best->schedule);
    if (!knobs)
      return knobs.takeError();
    if (!cudaScheduleSpace(kernel, codegen).isLegal(*knobs, reason)) {
      noteUntuned(c, kernel,
                  "the schedule of the database does not fit: " + reason);
      continue;
    }
    Schedule schedule;
    schedule.knobs.insert(knobs->begin(), knobs->end());
    takeSchedule(c, kernel, schedule, *best);
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
  reportTuning(c);
  return Error::success();
}
