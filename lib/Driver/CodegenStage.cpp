// Code for each kernel, several at a time. An MLIRContext belongs to one thread
// here: a kernel travels to a worker as bytecode, and what comes back are bytes
// and affine expressions, which are rebuilt in the main context.
#include "Compilation.h"

#include "dlc/Check/InPlace.h"
#include "dlc/Codegen/CPU/KernelVariants.h"
#include "dlc/Codegen/CPU/Nests.h"
#include "dlc/Codegen/Common/CpuLowering.h"
#include "dlc/Dialect/Graph/IR/Placement.h"
#include "dlc/Program/Passes.h"
#include "dlc/Schedule/Winograd.h"
#include "mlir/Bytecode/BytecodeReader.h"
#include "mlir/Bytecode/BytecodeWriter.h"
#include "llvm/Bitcode/BitcodeWriter.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Threading.h"
#include "llvm/Target/TargetMachine.h"

#include <atomic>
#include <thread>

using namespace mlir;
using namespace dlc;
using llvm::Error;

namespace {
// What a worker needs to know of a kernel, and what it makes of it.
struct Job {
  graph::KernelOp kernel; // in the main context; read by its own thread only
  std::string bytecode;
  CpuCodegenOptions options;
  // results
  CompiledKernel compiled;
  std::optional<CpuKernel> code; // in the worker's context
  std::vector<dlc::Diagnostic> errors;
};

// What a thread compiles with.
struct Worker {
  MLIRContext &context;
  std::unique_ptr<llvm::TargetMachine> machine; // null when no object is wanted
};
} // namespace

// The same expression in another context.
static AffineExpr rebuild(AffineExpr expr, MLIRContext *context) {
  if (!expr)
    return {};
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return getAffineConstantExpr(constant.getValue(), context);
  if (auto dim = dyn_cast<AffineDimExpr>(expr))
    return getAffineDimExpr(dim.getPosition(), context);
  if (auto symbol = dyn_cast<AffineSymbolExpr>(expr))
    return getAffineSymbolExpr(symbol.getPosition(), context);
  auto binary = cast<AffineBinaryOpExpr>(expr);
  return getAffineBinaryOpExpr(expr.getKind(),
                               rebuild(binary.getLHS(), context),
                               rebuild(binary.getRHS(), context));
}

static void reportFailure(Job &job, Error error) {
  CompileError problems = toCompileError(std::move(error), ExitCode::Internal);
  for (dlc::Diagnostic diagnostic : problems.getDiagnostics()) {
    diagnostic.reason =
        "kernel '" + job.compiled.name + "': " + diagnostic.reason;
    job.errors.push_back(std::move(diagnostic));
  }
}

// Generates, lowers and compiles one kernel in its context.
static void compileKernel(Job &job, graph::KernelOp kernel,
                          const Worker &worker, Compilation &c) {
  auto start = std::chrono::steady_clock::now();
  DiagnosticCollector diagnostics(kernel.getContext(), c.options.input);
  FailureOr<CpuKernel> code = emitCpuKernel(kernel, *c.target, job.options);
  if (failed(code))
    return reportFailure(
        job, diagnostics.take(ExitCode::Internal,
                              "code generation failed without saying why"));
  llvm::erase_if(code->inPlace, [&](graph::InPlacePair pair) {
    return !check::admitInPlace(kernel, code->order, pair);
  });
  if (failed(lowerToLLVM(*code->module)))
    return reportFailure(
        job, diagnostics.take(ExitCode::Internal,
                              "lowering failed without saying why"));
  llvm::LLVMContext llvmContext;
  std::unique_ptr<llvm::Module> module =
      translateToLLVM(*code->module, llvmContext);
  if (!module)
    return reportFailure(
        job, diagnostics.take(ExitCode::Internal,
                              "translation to LLVM failed without saying why"));
  if (c.wantsOneModule()) {
    llvm::raw_svector_ostream os(job.compiled.bitcode);
    llvm::WriteBitcodeToFile(*module, os);
  }
  if (c.wantsObjects()) {
    auto object = c.target->emitObject(*module, *worker.machine);
    if (!object)
      return reportFailure(job, object.takeError());
    job.compiled.object = std::move(*object);
  }
  code->module = {};
  job.compiled.nest = code->nest;
  job.compiled.usesTiles = module->getFunction("llvm.x86.ldtilecfg") != nullptr;
  job.code = std::move(*code);
  job.compiled.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
}

// Reads the job's kernel into the worker's context and compiles it.
static void compileFromBytecode(Job &job, const Worker &worker,
                                Compilation &c) {
  Block block;
  ParserConfig config(&worker.context);
  if (failed(readBytecodeFile(
          llvm::MemoryBufferRef(job.bytecode, job.compiled.name), &block,
          config)))
    return reportFailure(job,
                         makeError(ExitCode::Internal, "cannot be read back"));
  auto kernel = cast<graph::KernelOp>(block.front());
  if (!c.options.plantFault.empty())
    plantFault(kernel, c.options.plantFault);
  compileKernel(job, kernel, worker, c);
}

// What the sizes of @main's symbols are taken to be: -dim's typical ones, else
// what fusion takes.
static SmallVector<int64_t> typicalSizes(Compilation &c, func::FuncOp main) {
  constexpr int64_t unknown = 128;
  SmallVector<int64_t> sizes;
  if (auto names = main->getAttrOfType<ArrayAttr>("graph.symbols"))
    for (auto name : names.getAsRange<StringAttr>()) {
      auto it = c.options.dims.find(name.getValue().str());
      sizes.push_back(it == c.options.dims.end() ? unknown
                                                 : it->second.typical);
    }
  return sizes;
}

static void addWork(const TargetDesc &target, CompiledKernel &compiled,
                    graph::KernelOp kernel, graph::CallOp call,
                    ArrayRef<int64_t> sizes) {
  if (kernel.getOpaque())
    return;
  SmallVector<int64_t> symbols;
  if (call.getSymbols())
    for (AffineExpr e : call.getSymbols()->getDims())
      symbols.push_back(graph::evaluate(e, sizes));
  KernelWork work = countWork(kernel, symbols);
  compiled.work.scalarOps += work.scalarOps;
  compiled.work.bytes += work.bytes;
  compiled.rooflineSeconds += RooflineCost().getSeconds(work, target);
}

// Whether `call` is the last to read what a kernel put into `value`, as far as
// @main tells; what the program makes of it is decided when memory is planned.
static bool diesAt(Value value, graph::CallOp call) {
  Value root = graph::getViewed(value);
  auto result = dyn_cast<OpResult>(root);
  if (!result || !isa<graph::CallOp>(result.getOwner()) ||
      result.getOwner()->getBlock() != call->getBlock())
    return false;
  SmallVector<Value> names{root};
  for (size_t i = 0; i < names.size(); ++i)
    for (Operation *user : names[i].getUsers()) {
      if (user->hasTrait<OpTrait::IsTerminator>())
        return false;
      Operation *step = call->getBlock()->findAncestorOpInBlock(*user);
      if (!step || (step != call && call->isBeforeInBlock(step)))
        return false;
      for (Value name : user->getResults())
        if (graph::getViewed(name) == root)
          names.push_back(name);
    }
  return true;
}

// Whether a call's result is an output that no step reads, under any name.
static bool leavesModel(Value result) {
  bool isOutput = false;
  SmallVector<Value> names{result};
  for (size_t i = 0; i < names.size(); ++i)
    for (Operation *user : names[i].getUsers())
      if (isa<func::ReturnOp>(user))
        isOutput = true;
      else if (user->getNumResults() == 1 &&
               graph::getViewed(user->getResult(0)) == result)
        names.push_back(user->getResult(0));
      else
        return false;
  return isOutput;
}

static std::vector<Job> collectJobs(Compilation &c) {
  std::vector<Job> jobs;
  llvm::StringMap<unsigned> numbers;
  llvm::DenseSet<StringAttr> placed = graph::getPlacedKernels(c.getModule());
  for (auto kernel : c.getModule().getOps<graph::KernelOp>()) {
    if (placed.contains(kernel.getSymNameAttr()))
      continue;
    numbers[kernel.getSymName()] = jobs.size();
    Job &job = jobs.emplace_back();
    job.kernel = kernel;
    job.compiled.name = kernel.getSymName().str();
    job.options.symbol = c.name + "_" + job.compiled.name;
    job.options.strict = c.options.strict;
    job.compiled.range = getVariantRange(kernel);
    std::string reason;
    if (auto attr = kernel->getAttrOfType<DictionaryAttr>(WinogradClaim::kAttr))
      if (auto claim = WinogradClaim::fromAttr(attr); succeeded(claim))
        if (auto form = classifyWinograd(kernel, reason); succeeded(form))
          job.compiled.errorFactor = claim->errorFactor(form->channels);
  }
  for (auto function : c.getModule().getOps<func::FuncOp>()) {
    SmallVector<int64_t> sizes = typicalSizes(c, function);
    function.walk([&](graph::CallOp call) {
      if (call->hasAttr(graph::kPlacedAttr))
        return;
      Job &job = jobs[numbers.lookup(call.getCallee())];
      ++job.compiled.calls;
      addWork(c.target->desc(), job.compiled, job.kernel, call, sizes);
      job.options.constantOperands.clear();
      for (Value arg : call.getArgs())
        job.options.constantOperands.push_back(
            graph::getViewed(arg).getDefiningOp<graph::ConstantOp>() !=
            nullptr);
      job.options.reusableOperands.resize(call.getArgs().size());
      for (auto [i, arg] : llvm::enumerate(call.getArgs()))
        if (diesAt(arg, call))
          job.options.reusableOperands[i] = true;
      SmallVector<bool> leaving;
      for (Value result : call.getResults())
        leaving.push_back(leavesModel(result));
      if (job.compiled.calls > 1)
        for (auto [i, before] : llvm::enumerate(job.options.leavingResults))
          leaving[i] = leaving[i] && before;
      job.options.leavingResults = leaving;
    });
  }
  // A variant is called where its kernel is.
  for (Job &job : jobs)
    if (auto dispatch =
            job.kernel->getAttrOfType<DictionaryAttr>(kDispatchAttr))
      for (auto name : dispatch.getAs<ArrayAttr>("kernels")
                           .getAsRange<FlatSymbolRefAttr>()) {
        Job &variant = jobs[numbers.lookup(name.getValue())];
        variant.compiled.variantOf = job.compiled.name;
        variant.compiled.calls = job.compiled.calls;
        variant.compiled.work = job.compiled.work;
        variant.compiled.rooflineSeconds = job.compiled.rooflineSeconds;
        variant.options.constantOperands = job.options.constantOperands;
        variant.options.reusableOperands = job.options.reusableOperands;
        variant.options.leavingResults = job.options.leavingResults;
      }
  return jobs;
}

// The variants of a kernel read the same constants, in one layout.
static Error checkLayouts(Compilation &c) {
  auto layouts = [](const KernelCode &code) {
    std::map<unsigned, std::string> byOperand;
    for (const OperandPacking &packing : code.packings)
      byOperand[packing.operand] = packing.layout;
    return byOperand;
  };
  for (const CompiledKernel &kernel : c.kernels)
    if (!kernel.variantOf.empty() &&
        layouts(c.code[kernel.name]) != layouts(c.code[kernel.variantOf]))
      return makeError(ExitCode::Internal,
                       "kernel '" + kernel.name + "' and '" + kernel.variantOf +
                           "' want a constant in different layouts");
  return Error::success();
}

static Error runJobs(std::vector<Job> &jobs, unsigned count, Compilation &c) {
  DialectRegistry registry;
  registerDialects(registry);
  registerCpuDialects(registry);
  std::vector<Worker> workers;
  for (unsigned i = 0; i < count; ++i) {
    c.contexts.push_back(std::make_unique<MLIRContext>(
        registry, MLIRContext::Threading::DISABLED));
    Worker &worker = workers.emplace_back(Worker{*c.contexts.back(), nullptr});
    if (!c.wantsObjects())
      continue;
    auto machine = c.target->createMachine();
    if (!machine)
      return machine.takeError();
    worker.machine = std::move(*machine);
  }
  std::atomic<unsigned> next = 0;
  auto work = [&](const Worker &worker) {
    worker.context.loadDialect<graph::GraphDialect>();
    loadCpuDialects(worker.context);
    for (unsigned i = next++; i < jobs.size(); i = next++)
      compileFromBytecode(jobs[i], worker, c);
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < count; ++i)
    threads.emplace_back([&, i] { work(workers[i]); });
  work(workers[0]);
  for (std::thread &thread : threads)
    thread.join();
  return Error::success();
}

Error dlc::compileKernels(Compilation &c) {
  initializeCpuBackends();
  std::vector<Job> jobs = collectJobs(c);
  unsigned workers = c.options.jobs
                         ? c.options.jobs
                         : llvm::hardware_concurrency().compute_thread_count();
  workers = std::max<size_t>(1, std::min<size_t>(workers, jobs.size()));
  for (Job &job : jobs) {
    llvm::raw_string_ostream os(job.bytecode);
    if (failed(writeBytecodeToFile(job.kernel, os)))
      return makeError(ExitCode::Internal, "kernel '" + job.compiled.name +
                                               "' has no bytecode form");
  }
  if (!jobs.empty())
    if (Error error = runJobs(jobs, workers, c))
      return error;

  std::vector<dlc::Diagnostic> errors;
  MLIRContext *context = c.source.context.get();
  for (Job &job : jobs) {
    llvm::append_range(errors, job.errors);
    if (!job.code)
      continue;
    KernelCode &code = c.code[job.compiled.name];
    code.nest = job.code->nest;
    for (CpuPhase &phase : job.code->phases)
      code.phases.push_back({phase.symbol, rebuild(phase.numTasks, context)});
    code.scratchBytes = rebuild(job.code->scratchBytes, context);
    code.packings = std::move(job.code->packings);
    code.inPlace = job.code->inPlace;
    c.kernels.push_back(std::move(job.compiled));
  }
  if (!errors.empty())
    return llvm::make_error<CompileError>(ExitCode::Internal,
                                          std::move(errors));
  return checkLayouts(c);
}
