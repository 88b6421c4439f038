// survey: what is best known of the kernels of a model.
#include "Knowledge.h"

#include "dlc/Driver/CommandLine.h"
#include "dlc/Driver/Compiler.h"
#include "dlc/Driver/FormedKernels.h"
#include "dlc/Tuner/KernelTask.h"
#include "dlc/Tuner/Survey.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

#include <set>

using namespace dlc;
using namespace dlc::tuner;
using llvm::Error;
using llvm::Expected;

static SurveyOptions optionsOf(const TuneSettings &s, const Knowledge &known) {
  SurveyOptions options;
  options.random = s.random;
  options.evolution = s.evolution;
  options.guided = s.guided;
  options.tune.search.seed = s.seed;
  options.tune.search.first = known.experience;
  options.tune.jobs = s.jobs;
  options.tune.limits.samples = s.samples;
  // Most random schedules are slow; by how much hardly matters.
  options.tune.limits.hopeless = 1.5;
  options.tune.compiler = getVersion().str();
  return options;
}

Error dlc::runSurvey(const TuneSettings &s) {
  if (s.inputs.size() != 1)
    return usage("survey: expected one model");
  CompileOptions compile;
  compile.input = s.inputs[0];
  compile.target = s.target;
  compile.quiet = true;
  Expected<FormedKernels> formed = formModelKernels(compile);
  if (!formed)
    return formed.takeError();
  std::unique_ptr<Store> store;
  if (!s.lists) {
    auto opened = Store::open(s.store, /*create=*/true);
    if (!opened)
      return opened.takeError();
    store = std::move(*opened);
  }
  std::set<std::string> done, wanted(s.kernels.begin(), s.kernels.end());
  for (FormedKernel &kernel : formed->kernels) {
    std::string name = kernel.op.getSymName().str();
    bool isNamed = wanted.erase(name) > 0;
    if (!s.kernels.empty() && !isNamed)
      continue;
    std::string reason;
    auto key =
        makeKernelKey(kernel.op, *formed->target, kernel.options, reason);
    if (mlir::failed(key)) {
      llvm::outs() << name << ": not tuned: " << reason << "\n";
      continue;
    }
    if (!done.insert(key->target + key->workload).second)
      continue; // another one like it
    Expected<Scorer> scorer = Scorer::create(key->workload, key->target);
    if (!scorer)
      return scorer.takeError();
    llvm::outs() << name << ": " << scorer->name;
    if (s.lists) {
      llvm::outs() << "; " << kernel.calls << " calls\n";
      continue;
    }
    auto task = KernelTask::create(kernel.op, *formed->target, kernel.options);
    if (!task) {
      llvm::outs() << "; " << llvm::toString(task.takeError()) << "\n";
      continue;
    }
    auto known = loadKnowledge(s, formed->target->desc().arch, (*task)->get());
    if (!known)
      return known.takeError();
    Expected<SurveyResult> result =
        survey((*task)->get(), known->get(), store.get(), optionsOf(s, *known));
    if (!result)
      return result.takeError();
    llvm::outs() << "; " << result->trials << " trials of " << result->schedules
                 << " schedules, " << result->failed << " failed, best "
                 << llvm::format("%.3fx the default's speed\n",
                                 1 / result->best);
    llvm::outs().flush();
  }
  if (!wanted.empty())
    return usage("survey: " + s.inputs[0] + " has no kernel '" +
                 *wanted.begin() + "'");
  return Error::success();
}
