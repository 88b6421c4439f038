// Commands that search: tune and replay, of one product.
#include "Knowledge.h"

#include "dlc/Driver/CommandLine.h"
#include "dlc/Driver/Compiler.h"
#include "dlc/Driver/CudaSearch.h"
#include "dlc/Driver/ModelSource.h"
#include "dlc/Target/Targets.h"
#include "dlc/Tuner/Fleet.h"
#include "dlc/Tuner/KernelTask.h"
#include "dlc/Tuner/Libraries.h"

#include "mlir/Parser/Parser.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Process.h"

using namespace dlc;
using namespace dlc::tuner;
using llvm::Error;
using llvm::Expected;

/// C[b, m, n] = sum over k of A[b, m, k] * B[b, k, n] as graph operators.
std::string dlc::matmulText(const std::vector<int64_t> &sizes) {
  bool isBatch = sizes.size() == 4;
  auto size = [&](size_t i) { return std::to_string(sizes[i + isBatch]); };
  std::string b = isBatch ? std::to_string(sizes[0]) + "x" : "",
              d = isBatch ? "b, " : "";
  std::string lhs = "tensor<" + b + size(0) + "x" + size(2) + "xf32>",
              rhs = "tensor<" + b + size(2) + "x" + size(1) + "xf32>",
              out = "tensor<" + b + size(0) + "x" + size(1) + "xf32>";
  std::string dims = "affine_map<(" + d + "m, n, k) -> (" + d;
  return "func.func @main(%a: " + lhs + ", %b: " + rhs + ") -> " + out +
         " {\n%0 = graph.contract %a, %b {lhs_map = " + dims +
         "m, k)>, rhs_map = " + dims + "k, n)>, result_map = " + dims +
         "m, n)>} : (" + lhs + ", " + rhs + ") -> " + out +
         "\nreturn %0 : " + out + "\n}";
}

namespace {
/// The kernel that the command line names, with what a search needs.
struct Session {
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::shared_ptr<const Task> task;
  Knowledge known;

  Session() : context(mlir::MLIRContext::Threading::DISABLED) {}
  Error open(const TuneSettings &s);

private:
  Expected<graph::KernelOp> makeKernel(const TuneSettings &s);
  Expected<std::string> openCpu(const TuneSettings &s);
  Expected<std::string> openCuda(const TuneSettings &s);
};
} // namespace

static Error asUsage(Error error) {
  return llvm::make_error<CompileError>(
      toCompileError(std::move(error), ExitCode::Usage));
}

static bool isForCuda(const TuneSettings &s) {
  return llvm::StringRef(s.target).starts_with("cuda");
}

Error Session::open(const TuneSettings &s) {
  if (s.matmul.empty())
    return usage(s.command + ": -matmul=<MxNxK> is missing");
  if (!s.inputs.empty())
    return usage(s.command + ": '" + s.inputs[0] +
                 "' is not expected; a model is tuned by dlc model.onnx -tune");
  Expected<std::string> arch = isForCuda(s) ? openCuda(s) : openCpu(s);
  if (!arch)
    return arch.takeError();
  auto loaded = loadKnowledge(s, *arch, *task);
  if (!loaded)
    return loaded.takeError();
  known = std::move(*loaded);
  return Error::success();
}

Expected<graph::KernelOp> Session::makeKernel(const TuneSettings &s) {
  mlir::DialectRegistry registry;
  registerDialects(registry);
  context.appendDialectRegistry(registry);
  context.loadAllAvailableDialects();
  module =
      mlir::parseSourceString<mlir::ModuleOp>(matmulText(s.matmul), &context);
  if (!module)
    return makeError(ExitCode::Internal, "the product cannot be parsed");
  graph::GraphOp op;
  module->walk([&](graph::GraphOp found) { op = found; });
  llvm::SmallVector<mlir::AffineExpr> symbols;
  auto kernel = graph::buildKernelFor(op, *module, "matmul", symbols);
  if (mlir::failed(kernel))
    return makeError(ExitCode::Internal, "the product has no kernel");
  return *kernel;
}

/// Makes the task; returns the architecture that dlc's records and models are
/// kept by.
Expected<std::string> Session::openCpu(const TuneSettings &s) {
  Expected<CpuTarget> target = parseCpuTarget(s.target);
  if (!target)
    return asUsage(target.takeError());
  if (!s.runner.empty())
    return usage("-tune-runner= is for -target=cuda");
  auto kernel = makeKernel(s);
  if (!kernel)
    return kernel.takeError();
  CpuCodegenOptions options;
  options.constantOperands = {s.constant == "lhs", s.constant == "rhs"};
  auto made = KernelTask::create(
      *kernel, *target, options, /*seed=*/1, /*mostWork=*/6e10,
      s.isStatic ? Timing::Static : Timing::Measured);
  if (!made)
    return made.takeError();
  std::shared_ptr<KernelTask> owner = std::move(*made);
  task = {owner, &owner->get()};
  if (s.libraries) {
    std::string reason;
    int64_t version = isForLibraries(*target, reason) ? findLibrary(reason) : 0;
    if (!version)
      return makeError(ExitCode::Unavailable, "-libraries=on: " + reason);
    if (!owner->addLibrary(version, reason))
      return llvm::createStringError("-libraries=on: " + reason);
  }
  return target->desc().arch;
}

Expected<std::string> Session::openCuda(const TuneSettings &s) {
  Expected<CudaTarget> target = parseCudaTarget(s.target);
  if (!target)
    return asUsage(target.takeError());
  if (s.isStatic || !s.workers.empty())
    return usage("-static and -workers= are for CPUs, not for "
                 "-target=" +
                 s.target);
  if (!s.precision.empty() && s.precision != "f32" && s.precision != "tf32")
    return usage("-precision=" + s.precision + ": expected f32 or tf32");
  std::shared_ptr<CudaRunner> runner;
  if (s.command == "tune") { // a replay measures nothing
    auto started = CudaRunner::start(*target, s.runner, s.libraries);
    if (!started)
      return started.takeError();
    runner = std::move(*started);
  }
  auto kernel = makeKernel(s);
  if (!kernel)
    return kernel.takeError();
  CudaCodegenOptions options;
  options.tf32 = s.precision == "tf32";
  options.warpGroups = target->hasWarpGroups();
  auto made = CudaKernelTask::create(*kernel, *target, options, runner);
  if (!made)
    return made.takeError();
  std::shared_ptr<CudaKernelTask> owner = std::move(*made);
  if (std::string reason; runner && s.libraries && !owner->addLibrary(reason))
    return llvm::createStringError("-libraries=on: " + reason);
  task = {owner, &owner->get()};
  return "cuda";
}

static SearchOptions searchOf(const TuneSettings &s, const Session &session) {
  SearchOptions options;
  options.first = session.known.experience;
  options.seed = s.seed;
  options.guide = s.search == "model"       ? Guide::Model
                  : s.search == "evolution" ? Guide::Evolution
                                            : Guide::Random;
  if (options.guide != Guide::Model) // to the end of the budget
    options.quietRounds = ~0u;
  return options;
}

static void printResult(const TuneResult &result, const Task &task) {
  llvm::outs() << "run " << result.run << ": " << result.trials + result.reused
               << " measurements, " << result.reused
               << " of them from the store, " << result.failed
               << " failed; best "
               << llvm::format("%.2fx the default's speed", 1 / result.best)
               << (result.bestAlternative > 0
                       ? llvm::formatv(", the library {0:f2}x",
                                       1 / result.bestAlternative)
                             .str()
                       : "")
               << (result.isConverged ? ", converged" : "") << "\n";
}

Error dlc::runTune(const TuneSettings &s) {
  Session session;
  if (Error error = session.open(s))
    return error;
  auto store = Store::open(s.store, /*create=*/true);
  if (!store)
    return store.takeError();
  const Task &task = *session.task;
  TuneOptions options;
  options.search = searchOf(s, session);
  options.budget = s.budget;
  options.seconds = s.seconds;
  options.jobs = s.jobs;
  options.limits.samples = s.samples;
  options.compiler = getVersion().str();
  std::unique_ptr<Fleet> fleet;
  if (!s.workers.empty()) {
    static int anchor;
    auto started = Fleet::start(
        s.workers, llvm::sys::fs::getMainExecutable("dlc-tune", &anchor));
    if (!started)
      return llvm::make_error<CompileError>(
          toCompileError(started.takeError(), ExitCode::Unavailable));
    fleet = std::move(*started);
    options.fleet = fleet.get();
  }
  double best = 1;
  bool redraw = llvm::sys::Process::StandardErrIsDisplayed();
  options.progress = [&](const Record &record, unsigned trials) {
    bool isGood = record.status == Status::Ok;
    if (isGood && !record.attempt)
      best = std::min(best, record.ratio());
    if (s.quiet)
      return;
    llvm::errs() << (redraw ? "\r\x1b[K" : "") << "trial " << trials << ": ";
    if (isGood)
      llvm::errs() << llvm::format("%.3f ms, %.2fx",
                                   *llvm::min_element(record.samples) * 1e-6,
                                   1 / record.ratio());
    else
      llvm::errs() << toString(record.status) << " (" << record.reason << ")";
    llvm::errs() << llvm::format(", best %.2fx", 1 / best)
                 << (redraw ? "" : "\n");
  };
  auto result = tune(task, session.known.get(), store->get(), options);
  if (redraw && !s.quiet)
    llvm::errs() << "\r\x1b[K";
  if (!result)
    return result.takeError();
  printResult(*result, task);
  return Error::success();
}

Error dlc::runMeasure(const TuneSettings &s) {
  if (s.inputs.size() != 1)
    return usage("measure: expected the file of one job");
  auto bytes = llvm::MemoryBuffer::getFile(s.inputs[0]);
  if (!bytes)
    return makeError(ExitCode::Io, bytes.getError().message(), s.inputs[0]);
  auto measured = runJob((*bytes)->getBuffer());
  if (!measured)
    return measured.takeError();
  llvm::outs() << toJson(*measured) << "\n";
  return Error::success();
}

Error dlc::runReplay(const TuneSettings &s) {
  Session session;
  if (Error error = session.open(s))
    return error;
  auto store = Store::open(s.store, /*create=*/false);
  if (!store)
    return store.takeError();
  auto records = (*store)->select();
  if (!records)
    return records.takeError();
  const Task &task = *session.task;
  auto result =
      replay(task, session.known.get(), *records, searchOf(s, session));
  if (!result)
    return result.takeError();
  printResult(*result, task);
  return Error::success();
}
