// Kernels of a CPU in the tuning stage, and a library beside our nests.
#include "MeasuredSizes.h"
#include "TuneDatabase.h"
#include "TuneMachine.h"

#include "dlc/Check/Laws.h"
#include "dlc/Codegen/CPU/KernelVariants.h"
#include "dlc/Codegen/CPU/LibraryNest.h"
#include "dlc/Schedule/NestChoice.h"
#include "dlc/Tuner/KernelCost.h"
#include "dlc/Tuner/Libraries.h"

#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

using namespace mlir;
using namespace dlc;
using llvm::Error;
using llvm::Expected;

namespace {
class CpuTuneMachine final : public TuneMachine {
public:
  explicit CpuTuneMachine(Compilation &c) : c(c) {}

  StringRef getArch() const override { return c.target->desc().arch; }
  Error prepare() override;
  Error prepareSearch() override;
  bool hasOwnSchedule(graph::KernelOp kernel) const override {
    return kernel.getScheduleAttr() && !hasOnlyVariantRange(kernel);
  }
  FailureOr<tuner::KernelKey> makeKey(graph::KernelOp kernel,
                                      const KernelCalls &calls,
                                      std::string &reason) const override;
  std::optional<double> getSeconds(const tuner::KernelKey &key) const override {
    return cost->getSeconds(key.workload, key.target);
  }
  Expected<std::shared_ptr<const tuner::Task>>
  makeTask(graph::KernelOp kernel, const KernelCalls &calls) override;
  bool callsLibrary(const tuner::Record &) const override { return true; }
  std::optional<Schedule>
  makeSchedule(graph::KernelOp kernel, const KernelCalls &calls,
               const tuner::KernelKey &key, const tuner::Record &record,
               const KnobValues &knobs, std::string &reason) const override;

private:
  Error findLibrary();
  CpuCodegenOptions optionsOf(const KernelCalls &calls) const {
    CpuCodegenOptions options;
    options.strict = c.options.strict;
    options.constantOperands = calls.constantOperands;
    return options;
  }

  Compilation &c;
  std::optional<MeasuredSizes> sizes;
  std::optional<tuner::KernelCost> cost;
  int64_t library = 0; ///< the version that is measured, too; 0: none
};
} // namespace

Error CpuTuneMachine::prepare() {
  Expected<MeasuredSizes> made = MeasuredSizes::create(c);
  if (!made)
    return made.takeError();
  sizes = std::move(*made);
  return Error::success();
}

FailureOr<tuner::KernelKey> CpuTuneMachine::makeKey(graph::KernelOp kernel,
                                                    const KernelCalls &calls,
                                                    std::string &reason) const {
  auto at = sizes->of(kernel, reason);
  if (failed(at))
    return failure();
  return tuner::makeKernelKey(kernel, *c.target, optionsOf(calls), reason, *at);
}

Error CpuTuneMachine::prepareSearch() {
  llvm::Triple here(llvm::sys::getProcessTriple()),
      wanted(c.target->desc().triple);
  if (!c.options.tuneStatic && here.getArch() != wanted.getArch())
    return makeError(ExitCode::Usage,
                     "-tune measures on this machine, which is " +
                         here.getArchName() + ", not " + wanted.getArchName() +
                         "; -tune=static estimates times, -tune=lookup "
                         "works for every target");
  if (!c.options.tuneRunner.empty())
    return makeError(ExitCode::Usage,
                     "-tune-runner= is for GPUs; candidates for a CPU are "
                     "measured by -tune on its machine");
  if (Error error = findLibrary())
    return error;
  auto times = tuner::KernelCost::create(*c.target);
  if (!times)
    return times.takeError();
  cost = std::move(*times);
  return Error::success();
}

/// Measured beside nothing, a library would never be found missing.
Error CpuTuneMachine::findLibrary() {
  if (c.options.libraries == CompileOptions::Libraries::Off)
    return Error::success();
  if (c.options.tuneStatic)
    return makeError(ExitCode::Usage,
                     "-libraries=on: the time of a library is measured, "
                     "-tune=static measures nothing");
  std::string reason;
  if (!tuner::isForLibraries(*c.target, reason))
    return makeError(ExitCode::Usage, "-libraries=on: " + reason);
  library = tuner::findLibrary(reason);
  if (!library)
    return makeError(ExitCode::Unavailable, "-libraries=on: " + reason);
  return Error::success();
}

Expected<std::shared_ptr<const tuner::Task>>
CpuTuneMachine::makeTask(graph::KernelOp kernel, const KernelCalls &calls) {
  std::string unsized;
  auto at = sizes->of(kernel, unsized);
  if (failed(at))
    return llvm::createStringError(unsized);
  auto made = tuner::KernelTask::create(
      kernel, *c.target, optionsOf(calls), /*seed=*/1, /*mostWork=*/6e10,
      c.options.tuneStatic ? tuner::Timing::Static : tuner::Timing::Measured,
      *at);
  if (!made)
    return made.takeError();
  std::shared_ptr<tuner::KernelTask> owner = std::move(*made);
  if (std::string reason; library && !owner->addLibrary(library, reason))
    c.tuning.notes.push_back(("kernel '" + kernel.getSymName() +
                              "': oneDNN is no candidate: " + reason)
                                 .str());
  return std::shared_ptr<const tuner::Task>(owner, &owner->get());
}

std::optional<Schedule> CpuTuneMachine::makeSchedule(
    graph::KernelOp kernel, const KernelCalls &calls,
    const tuner::KernelKey &key, const tuner::Record &record,
    const KnobValues &knobs, std::string &reason) const {
  // One pass over the keys is the compiler's choice only where Check finds the
  // law; a schedule that names the nest would insist.
  if (graph::Law law = graph::Law::homSoftmax();
      key.nest == "attention" && bestNest(kernel).isOnePass)
    if (check::Admission admission =
            check::admitLaws(kernel, {law}, c.getMode());
        !admission) {
      reason = admission.reason;
      return std::nullopt;
    }
  auto at = sizes->of(kernel, reason);
  if (failed(at))
    return std::nullopt;
  CpuCodegenOptions options = optionsOf(calls);
  bool fits =
      record.usesLibrary()
          ? tuner::isLibraryLegalFor(kernel, knobs, options, reason)
          : tuner::isLegalFor(kernel, knobs, *c.target, options, reason, *at);
  if (!fits) {
    reason = "the schedule of the database does not fit: " + reason;
    return std::nullopt;
  }
  Schedule schedule;
  schedule.nest = record.usesLibrary() ? kLibraryNest.str() : key.nest;
  schedule.knobs.insert(knobs.begin(), knobs.end());
  return schedule;
}

std::unique_ptr<TuneMachine> dlc::makeCpuTuneMachine(Compilation &c) {
  return std::make_unique<CpuTuneMachine>(c);
}
