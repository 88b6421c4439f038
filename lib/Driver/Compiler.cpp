// The stages of a compilation, in order, and where its products go.
#include "dlc/Driver/Compiler.h"

#include "Compilation.h"
#include "dlc/Check/State.h"
#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Dialect/Graph/Transforms/Passes.h"
#include "dlc/Program/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

using namespace mlir;
using namespace dlc;
using llvm::Error;
using llvm::Expected;

StringRef dlc::getVersion() { return "0.1.0"; }

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

static Error chooseName(Compilation &c) {
  if (c.options.name.empty()) {
    StringRef stem = c.options.input == "-"
                         ? "model"
                         : llvm::sys::path::stem(c.options.input);
    c.name = toIdentifier(stem);
    return Error::success();
  }
  c.name = c.options.name;
  if (toIdentifier(c.name) != c.name)
    return makeError(ExitCode::Usage, "-name=" + c.name +
                                          ": is not a C identifier; '" +
                                          toIdentifier(c.name) + "' is");
  return Error::success();
}

// The product whose kind has -o's extension gets that path, the others lie
// beside it.
static Error choosePaths(Compilation &c) {
  const CompileOptions &o = c.options;
  if (o.output == "-") {
    if (o.emit.size() != 1 || !isText(o.emit.front()))
      return makeError(ExitCode::Usage,
                       "-o -: choose one kind of text with -emit=");
    c.products.push_back({o.emit.front(), "-"});
    return Error::success();
  }
  SmallString<128> base(o.output);
  if (base.empty())
    base = o.input == "-" ? StringRef("model") : llvm::sys::path::stem(o.input);
  StringRef extension = llvm::sys::path::extension(o.output);
  bool isTaken = false; // -o's own path is given away
  for (EmitKind kind : o.emit) {
    std::string path;
    if (!o.output.empty() && !isTaken &&
        (extension == getExtension(kind) || o.emit.size() == 1)) {
      path = o.output;
      isTaken = true;
    } else {
      SmallString<128> sibling(base);
      llvm::sys::path::replace_extension(sibling, getExtension(kind));
      auto isUsed = [&](auto &product) {
        return product.second == sibling.str();
      };
      if (llvm::any_of(c.products, isUsed) || sibling == o.output)
        llvm::sys::path::replace_extension(sibling,
                                           toString(kind) + getExtension(kind));
      path = sibling.str().str();
    }
    c.products.push_back({kind, path});
  }
  return Error::success();
}

static Error resolveTarget(Compilation &c) {
  if (c.options.target == "interp") {
    if (c.wantsCode())
      return makeError(ExitCode::Usage,
                       "-target=interp has no artifact; run the model with "
                       "dlc-run -target=interp, or print its "
                       "graph with -emit=graph");
    return Error::success();
  }
  if (StringRef(c.options.target).starts_with("cuda")) {
    Expected<CudaTarget> cuda = parseCudaTarget(c.options.target);
    if (!cuda)
      return llvm::make_error<CompileError>(
          toCompileError(cuda.takeError(), ExitCode::Usage));
    c.cuda = std::move(*cuda);
    if (!c.wantsCode())
      return Error::success();
    if (c.options.bisect)
      return makeError(ExitCode::Usage,
                       "-verify=bisect is for CPUs so far; -verify runs the "
                       "artifact on a device");
    // What launches the kernels: any CPU of this machine's kind, which need not
    // be the machine that has the device.
    bool isArm = llvm::Triple(llvm::sys::getProcessTriple()).isAArch64();
    StringRef here = isArm ? "arm:cpu=generic" : "x86:cpu=x86-64";
    Expected<CpuTarget> host =
        parseCpuTarget(c.cuda->host.empty() ? here : StringRef(c.cuda->host));
    if (!host)
      return llvm::make_error<CompileError>(
          toCompileError(host.takeError(), ExitCode::Usage));
    c.target = std::move(*host);
    return Error::success();
  }
  if (c.wantsCuda())
    return makeError(ExitCode::Usage,
                     "-emit=ptx and -emit=cubin need -target=cuda");
  Expected<CpuTarget> target = parseCpuTarget(c.options.target);
  if (!target)
    return llvm::make_error<CompileError>(
        toCompileError(target.takeError(), ExitCode::Usage));
  c.target = std::move(*target);
  const TargetDesc &desc = c.target->desc();
  if (c.options.verbose)
    llvm::errs() << "target " << c.options.target << ": " << desc.triple << ", "
                 << desc.cpu << ", " << desc.vectorBytes * 8
                 << "-bit vectors, features " << desc.features << "\n";
  return Error::success();
}

Expected<std::string> dlc::describeTargets() {
  Expected<std::vector<TargetDesc>> descriptions = cpuDescriptions();
  if (!descriptions)
    return descriptions.takeError();
  std::string text;
  llvm::raw_string_ostream os(text);
  for (const TargetDesc &desc : *descriptions)
    os << desc.arch << ":cpu=" << llvm::left_justify(desc.name, 18)
       << desc.vectorBytes * 8 << "-bit vectors, " << desc.triple << "\n";
  Expected<std::vector<CudaDesc>> gpus = cudaDescriptions();
  if (!gpus)
    return gpus.takeError();
  for (const CudaDesc &gpu : *gpus)
    os << "cuda:device=" << llvm::left_justify(gpu.name, 12) << gpu.sm << ", "
       << gpu.multiprocessors << " multiprocessors\n";
  os << "host                    this machine\ninterp                  the "
        "reference interpreter (dlc-run)\n";
  return text;
}

//===----------------------------------------------------------------------===//
// Stages
//===----------------------------------------------------------------------===//

static std::string countText(size_t count, StringRef noun) {
  return std::to_string(count) + " " + noun.str() + (count == 1 ? "" : "s");
}

static std::string bytesText(int64_t bytes) {
  std::string text;
  llvm::raw_string_ostream os(text);
  if (bytes < 10000)
    os << bytes << " bytes";
  else
    os << llvm::format("%.1f MB", bytes / 1e6);
  return text;
}

static Error importStage(Compilation &c) {
  c.progress.begin("import");
  Expected<ModelSource> source = loadModel(c.options);
  if (!source)
    return source.takeError();
  c.source = std::move(*source);
  c.source.getMain().walk([&](graph::GraphOp) { ++c.numOps; });
  c.progress.end(countText(c.numOps, "operator"));
  return dumpModule(c, "00-import.mlir");
}

// -state: what the model is given and gives back becomes what it keeps.
static Error makeState(Compilation &c) {
  if (c.options.state.empty())
    return Error::success();
  graph::MakeStateOptions options;
  options.bits = c.options.kvBits;
  options.pairs.assign(c.options.state.begin(), c.options.state.end());
  OwningOpRef<ModuleOp> original = c.getModule().clone();
  if (Error error = runPasses(c, [&](PassManager &manager) {
        manager.addPass(graph::createMakeState(options));
      }))
    return error;
  check::Admission admission =
      check::checkState(original->lookupSymbol<func::FuncOp>("main"),
                        c.source.getMain(), c.options.kvBits,
                        c.options.strict ? graph::NumericsMode::strict
                                         : graph::NumericsMode::reassoc);
  if (!admission)
    return makeError(ExitCode::Verify, "-state: " + admission.reason,
                     c.options.input);
  return Error::success();
}

static Error simplifyStage(Compilation &c) {
  c.progress.begin("simplify");
  if (Error error = runPasses(c, [](PassManager &manager) {
        manager.addPass(createCanonicalizerPass());
        manager.addPass(createCSEPass());
      }))
    return error;
  if (Error error = makeState(c))
    return error;
  unsigned before = std::exchange(c.numOps, 0);
  c.source.getMain().walk([&](graph::GraphOp) { ++c.numOps; });
  if (c.options.wants(EmitKind::Graph))
    c.graphText = printOp(c.getModule());
  c.progress.end(std::to_string(before) + " -> " +
                 countText(c.numOps, "operator"));
  return dumpModule(c, "01-graph.mlir");
}

// -v: what became of each kernel.
static void printKernelList(Compilation &c) {
  for (const CompiledKernel &kernel : c.kernels)
    llvm::errs() << "  " << kernel.name << ": " << kernel.nest << ", "
                 << countText(c.code[kernel.name].phases.size(), "phase")
                 << ", " << countText(kernel.calls, "call")
                 << llvm::format(", compiled in %.3f s\n", kernel.seconds);
}

// Variants run in the place of the kernels that are called.
static size_t countCalledKernels(Compilation &c) {
  size_t count = 0;
  for (auto kernel : c.getModule().getOps<graph::KernelOp>()) {
    ++count;
    if (auto dispatch = kernel->getAttrOfType<DictionaryAttr>(kDispatchAttr))
      count -= dispatch.getAs<ArrayAttr>("kernels").size();
  }
  return count;
}

static Error codeStages(Compilation &c) {
  if (c.options.precision != CompileOptions::Precision::F32) {
    c.progress.begin("precision");
    if (Error error = choosePrecision(c))
      return error;
    if (c.options.precision == CompileOptions::Precision::Tf32)
      c.progress.end("products of float32 in tf32");
    else
      c.progress.end(std::to_string(c.precision.numRounded()) + " of " +
                     countText(c.precision.products.size(), "product") +
                     " in bf16" +
                     (c.precision.note.empty() ? "" : ": " + c.precision.note));
  }
  c.progress.begin("kernels");
  if (Error error = formKernels(c))
    return error;
  c.progress.end(countText(c.numOps, "operator") + " -> " +
                 countText(countCalledKernels(c), "kernel") +
                 (c.layout.tensors
                      ? ", " + countText(c.layout.tensors, "tensor") +
                            " with channels last"
                      : std::string()));
  if (!c.wantsCode() && !c.wantsCuda())
    return Error::success();
  c.progress.begin("codegen");
  if (Error error = c.cuda ? compileCudaKernels(c) : compileKernels(c))
    return error;
  c.progress.end(c.codegenNote);
  if (!c.wantsCode())
    return Error::success();
  if (c.options.verbose)
    printKernelList(c);
  if (c.options.bisect)
    c.kernelModule = c.getModule().clone();
  c.progress.begin("program");
  if (Error error = buildProgram(c))
    return error;
  c.progress.end(c.arenaBytes >= 0 ? "arena " + bytesText(c.arenaBytes)
                                   : "arena of symbolic size");
  return Error::success();
}

Error dlc::compileToProgram(Compilation &c) {
  if (Error error = resolveTarget(c))
    return error;
  if (Error error = importStage(c))
    return error;
  if (Error error = simplifyStage(c))
    return error;
  if (c.wantsCode() || c.wantsCuda() || c.options.wants(EmitKind::Kernels))
    return codeStages(c);
  return Error::success();
}

static Error runStages(Compilation &c) {
  if (Error error = chooseName(c))
    return error;
  if (Error error = choosePaths(c))
    return error;
  if (Error error = compileToProgram(c))
    return error;
  c.progress.begin("artifact");
  if (Error error = writeProducts(c))
    return llvm::make_error<CompileError>(
        toCompileError(std::move(error), ExitCode::Io));
  c.progress.end();
  return Error::success();
}

// The report is written last: it holds the time of all stages.
static Error finish(Compilation &c, CompileResult &result) {
  if (c.wantsCode()) {
    result.report = makeReport(c);
    if (Error error = dumpText(c, "report.json", result.report))
      return error;
  }
  for (auto &[kind, path] : c.products) {
    if (kind == EmitKind::Report) {
      if (path == "-")
        llvm::outs() << result.report;
      else if (Error error = c.outputs.write(path, result.report))
        return error;
    }
    result.products.push_back({kind, path});
  }
  result.weightsPath = c.weightsPath;
  return c.outputs.commit();
}

static std::string makeSummary(Compilation &c) {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << "dlc: " << c.products.front().second;
  if (!c.weightsPath.empty())
    os << " + " << c.weightsPath;
  if (c.target && c.wantsCode())
    os << ": " << countText(c.countKernels(), "kernel")
       << " native, 0 interpreted, "
       << (c.wantsFusion()
               ? countText(c.fusion.groups.size(), "group") + " of " +
                     countText(c.fusion.members(), "operator") + " fused, "
               : std::string())
       << bytesText(c.weights.empty()
                        ? 0
                        : c.weights.back().offset + c.weights.back().bytes)
       << " weights, " << (c.cuda ? c.cuda->desc().sm : c.target->desc().cpu);
  os << llvm::format(", %.2f s", c.progress.getSeconds());
  return text;
}

// A product that failed verification must not be mistaken for a good one.
static void removeProducts(Compilation &c) {
  for (auto &[kind, path] : c.products)
    if (path != "-")
      llvm::sys::fs::remove(path);
  if (!c.weightsPath.empty())
    llvm::sys::fs::remove(c.weightsPath);
}

static unsigned countStages(const Compilation &c) {
  unsigned count = 3; // import, simplify, artifact
  count += c.options.precision != CompileOptions::Precision::F32 &&
           (c.wantsCode() || c.options.wants(EmitKind::Kernels));
  if (c.wantsCode() || c.wantsCuda() || c.options.wants(EmitKind::Kernels))
    ++count;
  if (c.wantsCuda() || c.wantsCode())
    ++count; // codegen
  if (c.wantsCode())
    ++count; // program
  return count + c.options.verify;
}

static Error checkPrecision(const CompileOptions &options) {
  using Precision = CompileOptions::Precision;
  auto refuse = [&](const Twine &what) {
    return makeError(ExitCode::Usage,
                     what + ", not for -target=" + options.target);
  };
  bool isCuda = StringRef(options.target).starts_with("cuda");
  if (options.target == "interp")
    return refuse("-precision is for CPU and CUDA targets");
  if (options.precision == Precision::Tf32 && !isCuda)
    return refuse("-precision=tf32 is for CUDA targets");
  if (options.precision == Precision::Auto && isCuda)
    return refuse("-precision=auto measures on this machine's CPU");
  return Error::success();
}

static Error compile(Compilation &c, CompileResult &result) {
  if (c.options.verify && !c.options.wants(EmitKind::Shared))
    return makeError(ExitCode::Usage,
                     "-verify runs a shared object: add shared to -emit=");
  if (!c.options.state.empty() && (c.options.verify || c.options.bisect))
    return makeError(ExitCode::Usage,
                     "-verify compares one run, and -state is about several: "
                     "verify the model without it");
  if (!c.options.state.empty() &&
      (StringRef(c.options.target).starts_with("cuda") ||
       c.options.target == "interp"))
    return makeError(ExitCode::Usage,
                     "-state is for CPU targets, not for -target=" +
                         c.options.target);
  bool isRounded = c.options.precision != CompileOptions::Precision::F32;
  if (isRounded)
    if (Error error = checkPrecision(c.options))
      return error;
  if (isRounded && c.options.bisect)
    return makeError(ExitCode::Usage,
                     "-verify=bisect compares kernels with those of the model: "
                     "not with -precision");
  if (c.options.precision == CompileOptions::Precision::Auto &&
      !c.options.state.empty())
    return makeError(ExitCode::Usage,
                     "-precision=auto measures single runs, and -state is "
                     "about several: choose without it");
  if (!c.options.plantFault.empty())
    if (Error error = checkFault(c.options.plantFault))
      return error;
  if (Error error = runStages(c))
    return llvm::make_error<CompileError>(
        toCompileError(std::move(error), ExitCode::Internal));
  if (Error error = finish(c, result))
    return llvm::make_error<CompileError>(
        toCompileError(std::move(error), ExitCode::Io));
  if (!c.options.verify)
    return Error::success();
  Error error = verifyProducts(c);
  if (error)
    removeProducts(c);
  return error;
}

Expected<CompileResult> dlc::compileModel(const CompileOptions &options) {
  if (options.wants(EmitKind::KernelLibrary))
    return compileLibrary(options);
  using Color = CompileOptions::Color;
  bool redraw = options.color == Color::Always ||
                (options.color == Color::Auto &&
                 llvm::sys::Process::StandardErrIsDisplayed());
  Progress progress(options.quiet, redraw);
  Compilation c(options, progress);
  progress.setNumStages(countStages(c));
  CompileResult result;
  if (Error error = compile(c, result))
    return error;
  if (options.output != "-")
    progress.summary(makeSummary(c));
  return result;
}
