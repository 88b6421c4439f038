// Code and manifest lines of candidates for a GPU.
#include "CudaCandidate.h"

#include "Compilation.h"

#include "dlc/Codegen/CPU/LibraryNest.h"
#include "dlc/Codegen/CUDA/CudaLibraryCall.h"
#include "dlc/Emulator/EmulatedImage.h"
#include "dlc/Interpreter/Interpreter.h"
#include "dlc/Schedule/Schedule.h"
#include "dlc/Tuner/BundleNumbers.h"
#include "dlc/Tuner/Record.h"

#include "llvm/Bitcode/BitcodeWriter.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace dlc;
using interp::Tensor;
using llvm::Error;
using llvm::Expected;
namespace fs = llvm::sys::fs;

/// Of a result, at most; the rest is compared with the default's.
static constexpr int64_t kMostSamples = 16384;

CudaCodegenOptions dlc::getCudaCodegen(const CompileOptions &options,
                                       const CudaTarget &target) {
  CudaCodegenOptions codegen;
  codegen.strict = options.strict;
  codegen.tf32 = options.precision == CompileOptions::Precision::Tf32;
  codegen.warpGroups = target.hasWarpGroups();
  return codegen;
}

//===----------------------------------------------------------------------===//
// Operands and results
//===----------------------------------------------------------------------===//

static std::optional<dlc_bundle_kind> kindOf(Type type) {
  if (type.isF32())
    return DLC_BUNDLE_F32;
  if (type.isF64())
    return DLC_BUNDLE_F64;
  if (type.isF16())
    return DLC_BUNDLE_F16;
  if (type.isBF16())
    return DLC_BUNDLE_BF16;
  if (!type.isInteger())
    return std::nullopt;
  switch (type.getIntOrFloatBitWidth()) {
  case 1:
    return DLC_BUNDLE_BOOL;
  case 8:
    return type.isUnsignedInteger() ? DLC_BUNDLE_U8 : DLC_BUNDLE_I8;
  case 16:
    return DLC_BUNDLE_I16;
  case 32:
    return DLC_BUNDLE_I32;
  case 64:
    return DLC_BUNDLE_I64;
  }
  return std::nullopt;
}

Expected<std::string> dlc::describeCudaData(graph::KernelOp kernel,
                                            uint64_t seed,
                                            std::vector<double> &oracle) {
  auto fail = [](const char *why) { return llvm::createStringError(why); };
  std::string text;
  llvm::raw_string_ostream os(text);
  SmallVector<Tensor> operands;
  std::vector<bool> factors = tuner::findFactors(kernel);
  for (auto [i, type] : llvm::enumerate(kernel.getArgumentTypes())) {
    SmallVector<int64_t> shape;
    for (AffineExpr dim : graph::getDims(type))
      shape.push_back(graph::evaluate(dim, {}));
    Type element = cast<RankedTensorType>(type).getElementType();
    auto kind = kindOf(element);
    if (!kind)
      return fail("an operand has a type that no random numbers are made of");
    Tensor tensor(element, shape);
    uint64_t ownSeed = seed * 1000 + i;
    dlc_bundle_fill(*kind, factors[i], ownSeed, tensor.getNumElements(),
                    tensor.getMutableBytes());
    os << "operand " << *kind << " " << tensor.getNumElements() << " "
       << ownSeed << " " << int(factors[i]) << "\n";
    operands.push_back(std::move(tensor));
  }
  auto results = interp::Interpreter().runKernel(kernel, operands, {});
  if (failed(results))
    return fail("the interpreter fails on it");
  std::vector<double> numbers;
  for (const Tensor &tensor : *results) {
    Type type = tensor.getElementType();
    auto kind = kindOf(type);
    if (!kind)
      return fail("a result has a type that is not compared");
    int64_t total = tensor.getNumElements(),
            samples = std::min(total, kMostSamples);
    os << "result " << *kind << " " << total << " "
       << llvm::format("%g", interp::getTolerance(type)) << " "
       << oracle.size() + numbers.size() << " " << samples << "\n";
    for (int64_t i = 0; i < samples; ++i) {
      double value = dlc_bundle_read(*kind, tensor.getBytes(),
                                     dlc_bundle_place(i, samples, total));
      // A candidate that leaves it out would not be found.
      if (std::isnan(value))
        return fail("random operands give results that are no numbers");
      numbers.push_back(value);
    }
  }
  oracle.insert(oracle.end(), numbers.begin(), numbers.end());
  return text;
}

//===----------------------------------------------------------------------===//
// Code
//===----------------------------------------------------------------------===//

/// Sets a kernel's schedule, and gives it back its own at the end.
namespace {
class ScheduleScope {
public:
  ScheduleScope(graph::KernelOp kernel, const Schedule &schedule)
      : kernel(kernel), before(kernel.getScheduleAttr()) {
    kernel.setScheduleAttr(schedule.toAttr(kernel.getContext()));
  }
  ~ScheduleScope() {
    if (before)
      kernel.setScheduleAttr(before);
    else
      kernel.removeScheduleAttr();
  }

private:
  graph::KernelOp kernel;
  DictionaryAttr before;
};
} // namespace

/// Word by word, as it lies in memory.
static std::string describeCall(const dlc_device_call &call) {
  std::array<int64_t, sizeof call / sizeof(int64_t)> words;
  std::memcpy(words.data(), &call, sizeof call);
  std::string text;
  llvm::raw_string_ostream os(text);
  os << "call";
  for (int64_t word : words)
    os << " " << word;
  return text;
}

Expected<tuner::BuiltKernel>
dlc::buildCudaCandidate(graph::KernelOp kernel, StringRef nest,
                        const KnobValues &knobs, const CudaTarget &target,
                        CudaCodegenOptions codegen, StringRef symbol) {
  codegen.symbol = symbol.str();
  auto schedule = getSchedule(kernel);
  if (!schedule)
    return schedule.takeError();
  schedule->knobs.clear();
  schedule->knobs.insert(knobs.begin(), knobs.end());
  if (nest == kLibraryNest)
    schedule->nest = nest.str();
  ScheduleScope scope(kernel, *schedule);
  DiagnosticCollector diagnostics(kernel.getContext(), "");
  auto emitted = emitCudaKernel(kernel, target, codegen);
  if (failed(emitted))
    return diagnostics.take(ExitCode::Internal, "code generation failed");
  std::vector<CudaKernel> kernels;
  kernels.push_back(std::move(*emitted));
  llvm::LLVMContext context;
  auto module = buildCudaModule(kernels, target, context);
  if (!module)
    return module.takeError();
  std::string bitcode;
  if (target.emulate) {
    llvm::raw_string_ostream os(bitcode);
    llvm::WriteBitcodeToFile(**module, os);
  }
  auto ptx = target.emitPtx(**module);
  if (!ptx)
    return ptx.takeError();
  tuner::BuiltKernel result;
  result.object = *ptx;
  if (auto assembled = runPtxas(*ptx, target.desc().sm))
    result.object = std::move(assembled->cubin);
  else if (Error error = assembled.takeError();
           error.isA<ToolUnavailableError>())
    llvm::consumeError(std::move(error)); // the driver compiles PTX
  else
    return error;
  if (target.emulate)
    result.object = emu::addBitcode(std::move(result.object), bitcode);
  llvm::raw_string_ostream os(result.manifest);
  os << tuner::scheduleJson(nest, knobs) << "\n";
  CudaKernelInstance instance = instantiate(kernels[0], {});
  for (uint64_t bytes : instance.scratchBytes)
    os << "scratch " << bytes << "\n";
  bool hasCode = false;
  for (const auto &launch : instance.launches) {
    if (launch.call) {
      os << describeCall(*launch.call) << "\n";
      continue;
    }
    hasCode = true;
    os << "launch " << launch.symbol << " " << launch.gridBlocks << " "
       << launch.blockThreads << " " << launch.sharedBytes << "\n";
  }
  if (!hasCode)
    result.object.clear();
  return result;
}

std::string dlc::describePeer(graph::KernelOp kernel,
                              const CudaCodegenOptions &codegen) {
  std::string reason, text;
  auto found = findLibraryCall(kernel, codegen, reason);
  if (failed(found))
    return text;
  int64_t operands = kernel.getArgumentTypes().size();
  found->setPlaces(operands, operands + 1);
  llvm::raw_string_ostream(text) << "peer " << int(found->isAlone) << " "
                                 << found->getResultElements() << "\n"
                                 << describeCall(found->call);
  return text;
}

//===----------------------------------------------------------------------===//
// Files
//===----------------------------------------------------------------------===//

static bool makesMachineCode() {
  auto assembler = findPtxas();
  if (assembler)
    return true;
  llvm::consumeError(assembler.takeError());
  return false;
}

// Machine code runs on its generation, PTX on all that follow.
std::string dlc::makeBundleHeader(const CudaDesc &device, StringRef run,
                                  StringRef target) {
  StringRef sm = device.sm;
  sm.consume_front("sm_");
  bool isExact = sm.consume_back("a");
  std::string text;
  llvm::raw_string_ostream(text)
      << "dlc-candidates 2\ndevice " << device.name << " " << sm << " "
      << (isExact              ? "exact"
          : makesMachineCode() ? "generation"
                               : "newer")
      << "\nrun " << run << " " << tuner::kCudaCodegenVersion << " "
      << tuner::kSchemaVersion << " " << getVersion() << "\ntarget " << target
      << "\n";
  return text;
}

Error dlc::writeBundleFile(StringRef folder, const Twine &name,
                           StringRef bytes) {
  SmallString<256> path(folder);
  llvm::sys::path::append(path, name);
  if (std::error_code code =
          fs::create_directories(llvm::sys::path::parent_path(path)))
    return makeError(ExitCode::Io, code.message(), folder);
  std::error_code code;
  llvm::raw_fd_ostream os(path, code);
  os << bytes;
  os.close();
  if (code || os.error())
    return makeError(ExitCode::Io, (code ? code : os.error()).message(),
                     std::string(path));
  return Error::success();
}

Error dlc::writeOracle(StringRef folder, ArrayRef<double> oracle) {
  return writeBundleFile(
      folder, "oracle.bin",
      StringRef(reinterpret_cast<const char *>(oracle.data()),
                oracle.size() * sizeof(double)));
}

static constexpr StringLiteral kProgram = "dlc-cuda-measure";

std::string dlc::findMeasureProgram() {
  static int here;
  SmallString<256> path(
      llvm::sys::path::parent_path(fs::getMainExecutable("dlc", &here)));
  llvm::sys::path::append(path, kProgram);
  return path.str().str();
}

Error dlc::writeMeasureProgram(StringRef folder, uint64_t &bytes) {
  std::string from = findMeasureProgram();
  auto program = llvm::MemoryBuffer::getFile(from);
  if (!program)
    return makeError(ExitCode::Io, program.getError().message(), from);
  if (Error error = writeBundleFile(folder, kProgram, (*program)->getBuffer()))
    return error;
  bytes += (*program)->getBufferSize();
  SmallString<256> path(folder);
  llvm::sys::path::append(path, kProgram);
  if (std::error_code code = fs::setPermissions(
          path,
          fs::perms::all_read | fs::perms::owner_write | fs::perms::all_exe))
    return makeError(ExitCode::Io, code.message(), std::string(path));
  return Error::success();
}
