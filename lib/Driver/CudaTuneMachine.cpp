// Kernels of a GPU in the tuning stage. They have their laws by then, which
// decide about the instructions that attentions may use.
#include "CudaCandidate.h"
#include "TuneMachine.h"

#include "dlc/Codegen/CPU/LibraryNest.h"
#include "dlc/Codegen/CUDA/CudaLibraryCall.h"
#include "dlc/Driver/CudaSearch.h"

using namespace mlir;
using namespace dlc;
using llvm::Error;
using llvm::Expected;

namespace {
class CudaTuneMachine final : public TuneMachine {
public:
  explicit CudaTuneMachine(Compilation &c)
      : c(c), codegen(getCudaCodegen(c.options, *c.cuda)) {}

  StringRef getArch() const override { return "cuda"; }
  Error prepare() override;
  Error prepareSearch() override;
  bool hasOwnSchedule(graph::KernelOp kernel) const override;
  FailureOr<tuner::KernelKey> makeKey(graph::KernelOp kernel,
                                      const KernelCalls &,
                                      std::string &reason) const override {
    return tuner::makeCudaKey(kernel, *c.cuda, codegen, reason);
  }
  std::optional<double> getSeconds(const tuner::KernelKey &) const override {
    return std::nullopt;
  }
  Expected<std::shared_ptr<const tuner::Task>>
  makeTask(graph::KernelOp kernel, const KernelCalls &) override;
  bool callsLibrary(const tuner::Record &record) const override {
    return record.usesLibrary();
  }
  std::optional<Schedule>
  makeSchedule(graph::KernelOp kernel, const KernelCalls &,
               const tuner::KernelKey &, const tuner::Record &,
               const KnobValues &knobs, std::string &reason) const override;

private:
  Compilation &c;
  CudaCodegenOptions codegen;
  std::shared_ptr<CudaRunner> runner;
};
} // namespace

Error CudaTuneMachine::prepare() {
  if (!c.options.tuneDims.empty())
    return makeError(ExitCode::Usage,
                     "-tune-dim= is for CPUs; of a GPU kernels of static sizes "
                     "are tuned: give the sizes by -dim=<name>=<n>");
  return Error::success();
}

Error CudaTuneMachine::prepareSearch() {
  if (c.options.tuneStatic)
    return makeError(ExitCode::Usage,
                     "-tune=static estimates times of CPUs: of a GPU they are "
                     "measured (-tune), or looked up");
  auto started =
      CudaRunner::start(*c.cuda, c.options.tuneRunner,
                        c.options.libraries != CompileOptions::Libraries::Off);
  if (!started)
    return started.takeError();
  runner = std::move(*started);
  return Error::success();
}

bool CudaTuneMachine::hasOwnSchedule(graph::KernelOp kernel) const {
  auto schedule = getSchedule(kernel);
  if (schedule)
    return !schedule->knobs.empty();
  llvm::consumeError(schedule.takeError());
  return true; // code generation will say what is wrong with it
}

Expected<std::shared_ptr<const tuner::Task>>
CudaTuneMachine::makeTask(graph::KernelOp kernel, const KernelCalls &) {
  auto made = CudaKernelTask::create(kernel, *c.cuda, codegen, runner);
  if (!made)
    return made.takeError();
  std::shared_ptr<CudaKernelTask> owner = std::move(*made);
  if (std::string reason; runner->hasLibraries() && !owner->addLibrary(reason))
    c.tuning.notes.push_back(("kernel '" + kernel.getSymName() +
                              "': no library is a candidate: " + reason)
                                 .str());
  return std::shared_ptr<const tuner::Task>(owner, &owner->get());
}

/// Whether it is a call of the library that the knobs name.
static bool hasLibraryCall(graph::KernelOp kernel,
                           const CudaCodegenOptions &codegen,
                           const KnobValues &knobs, std::string &reason) {
  auto found = findLibraryCall(kernel, codegen, reason);
  if (failed(found))
    return false;
  if (knobs.count(getLibraryKnob(found->call.kind).str()))
    return true;
  reason = "its sum is one of another library";
  return false;
}

std::optional<Schedule> CudaTuneMachine::makeSchedule(
    graph::KernelOp kernel, const KernelCalls &, const tuner::KernelKey &,
    const tuner::Record &record, const KnobValues &knobs,
    std::string &reason) const {
  auto schedule = getSchedule(kernel);
  if (!schedule) {
    reason = llvm::toString(schedule.takeError());
    return std::nullopt;
  }
  bool fits = record.usesLibrary()
                  ? hasLibraryCall(kernel, codegen, knobs, reason)
                  : cudaScheduleSpace(kernel, codegen).isLegal(knobs, reason);
  if (!fits) {
    reason = "the schedule of the database does not fit: " + reason;
    return std::nullopt;
  }
  if (record.usesLibrary())
    schedule->nest = kLibraryNest.str();
  schedule->knobs.insert(knobs.begin(), knobs.end());
  return std::move(*schedule);
}

std::unique_ptr<TuneMachine> dlc::makeCudaTuneMachine(Compilation &c) {
  return std::make_unique<CudaTuneMachine>(c);
}
