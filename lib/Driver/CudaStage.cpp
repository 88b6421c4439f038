// PTX and cubin of a model's kernels, and what an artifact needs of them.
#include "Compilation.h"

#include "dlc/Driver/CudaModel.h"
#include "dlc/Emulator/EmulatedImage.h"

#include "llvm/Bitcode/BitcodeWriter.h"

using namespace mlir;
using namespace dlc;
using llvm::Error;
using llvm::Expected;

// What every device since Ampere runs.
static constexpr StringLiteral kFallbackTarget = "cuda:sm=80";

// "sm_90a" -> 90, and that nothing else runs it.
static std::pair<int64_t, bool> parseSm(StringRef sm) {
  sm.consume_front("sm_");
  bool exact = sm.consume_back("a");
  int64_t arch = 0;
  sm.getAsInteger(10, arch);
  return {arch, exact};
}

static Error assemble(Compilation &c, bool isNeeded) {
  Expected<PtxasResult> assembled = runPtxas(c.ptx, c.cuda->desc().sm);
  if (assembled) {
    c.cubin = std::move(assembled->cubin);
    c.assemblerRemarks = std::move(assembled->remarks);
    for (KernelResources &used : assembled->kernels)
      c.resources[used.kernel] = used;
    return Error::success();
  }
  Error error = assembled.takeError();
  if (!error.isA<ToolUnavailableError>())
    return makeError(ExitCode::Internal, llvm::toString(std::move(error)));
  if (isNeeded)
    return makeError(ExitCode::Unavailable, llvm::toString(std::move(error)));
  llvm::consumeError(std::move(error));
  c.codegenNote = "no ptxas: PTX only, which the driver compiles at load";
  return Error::success();
}

static void addModule(Compilation &c, dlc_device_code kind, StringRef sm,
                      std::string bytes, StringRef bitcode) {
  auto [arch, exact] = parseSm(sm);
  if (c.cuda->emulate)
    bytes = emu::addBitcode(std::move(bytes), bitcode);
  c.deviceModules.push_back({kind, arch, exact, std::move(bytes)});
}

static Expected<CudaModel> compileForm(Compilation &c, bool portable) {
  return compileCuda(c.source, *c.cuda, c.name, c.options.strict,
                     c.options.precision == CompileOptions::Precision::Tf32,
                     portable);
}

/// Else all is a library's, and no device would take the module.
static bool hasKernels(const CudaModel &model) {
  for (const auto &entry : model.kernels)
    for (const CudaLaunch &launch : entry.second.launches)
      if (!launch.call)
        return true;
  return false;
}

static bool usesDynamicShared(const CudaModel &model) {
  for (const auto &entry : model.kernels)
    for (const CudaLaunch &launch : entry.second.launches)
      if (launch.sharedBytes)
        return true;
  return false;
}

/// What the emulator runs; empty where it is not to.
static std::string bitcodeOf(const Compilation &c, const CudaModel &model) {
  std::string bitcode;
  if (c.cuda->emulate) {
    llvm::raw_string_ostream os(bitcode);
    llvm::WriteBitcodeToFile(*model.module, os);
  }
  return bitcode;
}

// Machine code first; the driver takes the first that its device runs.
static Error addModules(Compilation &c, CudaModel &model) {
  if (!hasKernels(model))
    return Error::success();
  std::string bitcode = bitcodeOf(c, model);
  const std::string &sm = c.cuda->desc().sm;
  if (!c.cubin.empty())
    addModule(c, DLC_DEVICE_CUBIN, sm, c.cubin, bitcode);
  Expected<CudaTarget> fallback = parseCudaTarget(kFallbackTarget);
  if (!fallback)
    return fallback.takeError();
  if (c.cubin.empty() && sm != fallback->desc().sm)
    addModule(c, DLC_DEVICE_PTX, sm, c.ptx, bitcode);
  if (!c.options.fallback)
    return Error::success();
  // What other devices lack is done by other instructions, in the same grids.
  CudaModel *form = &model;
  Expected<CudaModel> portable = CudaModel();
  if (c.cuda->hasWarpGroups() && usesDynamicShared(model)) {
    portable = compileForm(c, /*portable=*/true);
    if (!portable)
      return portable.takeError();
    form = &*portable;
    bitcode = bitcodeOf(c, *form);
  }
  Expected<std::string> ptx = emitPtx(*form, *fallback);
  if (!ptx)
    return ptx.takeError();
  addModule(c, DLC_DEVICE_PTX, fallback->desc().sm, std::move(*ptx), bitcode);
  return Error::success();
}

// The launches of each kernel, for the program.
static void describeKernels(Compilation &c, const CudaModel &model) {
  for (auto op : c.getModule().getOps<graph::KernelOp>()) {
    const CudaKernel &kernel = model.kernels.find(op.getSymName())->second;
    KernelCode &code = c.code[op.getSymName()];
    code.nest = kernel.nest;
    for (const CudaLaunch &launch : kernel.launches) {
      code.phases.push_back({launch.symbol, launch.gridBlocks});
      code.threads.push_back(launch.blockThreads);
      code.shared.push_back(launch.sharedBytes);
      if (launch.call)
        c.deviceCalls[launch.symbol] = *launch.call;
      // ptxas counts what is static.
      if (auto it = c.resources.find(launch.symbol); it != c.resources.end())
        it->second.sharedBytes += launch.sharedBytes;
    }
    code.buffers = kernel.scratchBytes;
    CompiledKernel &compiled = c.kernels.emplace_back();
    compiled.name = op.getSymName().str();
    compiled.nest = kernel.nest;
  }
  llvm::StringMap<CompiledKernel *> byName;
  for (CompiledKernel &kernel : c.kernels)
    byName[kernel.name] = &kernel;
  c.getModule().walk(
      [&](graph::CallOp call) { ++byName.lookup(call.getCallee())->calls; });
}

Error dlc::compileCudaKernels(Compilation &c) {
  Expected<CudaModel> model = compileForm(c, /*portable=*/false);
  if (!model)
    return model.takeError();
  Expected<std::string> ptx = emitPtx(*model, *c.cuda);
  if (!ptx)
    return ptx.takeError();
  c.ptx = std::move(*ptx);
  if (Error error = dumpText(c, "03-kernels.ptx", c.ptx))
    return error;
  bool makesImage = c.wantsObjects() || c.wantsOneModule();
  bool isNeeded = c.options.wants(EmitKind::Cubin) || !c.options.fallback;
  if (isNeeded || makesImage || c.options.wants(EmitKind::Report))
    if (Error error = assemble(c, isNeeded))
      return error;
  if (!c.wantsCode())
    return Error::success();
  if (makesImage)
    if (Error error = addModules(c, *model))
      return error;
  describeKernels(c, *model);
  return Error::success();
}
