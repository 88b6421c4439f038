// Writing bundles of candidates (tools/dlc-cuda-measure/Manifest.c reads them).
#include "dlc/Driver/CudaBundle.h"

#include "Compilation.h"
#include "CudaPeers.h"

#include "dlc/Emulator/EmulatedImage.h"
#include "dlc/Interpreter/Interpreter.h"
#include "dlc/Schedule/Schedule.h"
#include "dlc/Tuner/BundleNumbers.h"
#include "dlc/Tuner/CudaTask.h"
#include "dlc/Tuner/Record.h"

#include "llvm/Bitcode/BitcodeWriter.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

#include <set>

using namespace mlir;
using namespace dlc;
using interp::Tensor;
using llvm::Error;
using llvm::Expected;
namespace fs = llvm::sys::fs;

/// Of a result, at most; the rest is compared with the default's.
static constexpr int64_t kMostSamples = 16384;

namespace {
class Writer {
public:
  Writer(const CudaBundleOptions &options) : options(options) {}
  Error add(Compilation &c);
  Expected<CudaBundle> finish();

private:
  Error addKernel(Compilation &c, graph::KernelOp kernel,
                  const tuner::KernelKey &key,
                  const CudaCodegenOptions &codegen);
  Error addCandidate(Compilation &c, graph::KernelOp kernel,
                     const tuner::KernelKey &key, const KnobValues &knobs,
                     CudaCodegenOptions codegen, std::string &text);
  Expected<std::string> describeData(graph::KernelOp kernel);
  Error write(const Twine &name, StringRef bytes);
  void note(graph::KernelOp kernel, const Twine &why) {
    result.notes.push_back(
        ("kernel '" + kernel.getSymName() + "' is left out: " + why).str());
  }

  const CudaBundleOptions &options;
  CudaBundle result;
  std::string header, body, target;
  CudaDesc device;
  bool isMachineCode = false;
  std::vector<double> oracle;
  std::set<std::string> seen; ///< workloads
};
} // namespace

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

Error Writer::write(const Twine &name, StringRef bytes) {
  SmallString<256> path(options.folder);
  llvm::sys::path::append(path, name);
  if (std::error_code code =
          fs::create_directories(llvm::sys::path::parent_path(path)))
    return makeError(ExitCode::Io, code.message(), options.folder);
  std::error_code code;
  llvm::raw_fd_ostream os(path, code);
  os << bytes;
  os.close();
  if (code || os.error())
    return makeError(ExitCode::Io, (code ? code : os.error()).message(),
                     std::string(path));
  result.bytes += bytes.size();
  if (result.bytes > options.mostBytes)
    return makeError(ExitCode::Rejected,
                     "the bundle has more than " +
                         Twine(options.mostBytes >> 20) +
                         " MiB: choose fewer kernels or candidates");
  return Error::success();
}

/// Operands and results; runs the interpreter. Empty, with a note: there is
/// nothing to compare with.
Expected<std::string> Writer::describeData(graph::KernelOp kernel) {
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
    if (!kind) {
      note(kernel, "an operand has a type that no random numbers are made of");
      return std::string();
    }
    Tensor tensor(element, shape);
    uint64_t seed = options.seed * 1000 + i;
    dlc_bundle_fill(*kind, factors[i], seed, tensor.getNumElements(),
                    tensor.getMutableBytes());
    os << "operand " << *kind << " " << tensor.getNumElements() << " " << seed
       << " " << int(factors[i]) << "\n";
    operands.push_back(std::move(tensor));
  }
  auto results = interp::Interpreter().runKernel(kernel, operands, {});
  if (failed(results)) {
    note(kernel, "the interpreter fails on it");
    return std::string();
  }
  for (const Tensor &tensor : *results) {
    Type type = tensor.getElementType();
    auto kind = kindOf(type);
    if (!kind) {
      note(kernel, "a result has a type that is not compared");
      return std::string();
    }
    int64_t total = tensor.getNumElements(),
            samples = std::min(total, kMostSamples);
    os << "result " << *kind << " " << total << " "
       << llvm::format("%g", interp::getTolerance(type)) << " " << oracle.size()
       << " " << samples << "\n";
    for (int64_t i = 0; i < samples; ++i) {
      double value = dlc_bundle_read(*kind, tensor.getBytes(),
                                     dlc_bundle_place(i, samples, total));
      // A candidate that leaves it out would not be found.
      if (std::isnan(value)) {
        note(kernel, "random operands give results that are no numbers");
        return std::string();
      }
      oracle.push_back(value);
    }
  }
  return text;
}

Error Writer::addCandidate(Compilation &c, graph::KernelOp kernel,
                           const tuner::KernelKey &key, const KnobValues &knobs,
                           CudaCodegenOptions codegen, std::string &text) {
  std::string name = "code/" + std::to_string(result.kernels) + "_" +
                     std::to_string(result.candidates) + ".bin";
  codegen.symbol = "k" + std::to_string(result.candidates);
  DictionaryAttr before = kernel.getScheduleAttr();
  Schedule schedule;
  if (before) {
    auto had = Schedule::fromAttr(before);
    if (!had)
      return had.takeError();
    schedule = std::move(*had);
  }
  schedule.knobs.clear();
  schedule.knobs.insert(knobs.begin(), knobs.end());
  kernel.setScheduleAttr(schedule.toAttr(kernel.getContext()));
  DiagnosticCollector diagnostics(kernel.getContext(), "");
  SmallVector<CudaKernel> kernels;
  auto emitted = emitCudaKernel(kernel, *c.cuda, codegen);
  if (before)
    kernel.setScheduleAttr(before);
  else
    kernel.removeScheduleAttr();
  if (failed(emitted))
    return diagnostics.take(ExitCode::Internal, "code generation failed");
  kernels.push_back(std::move(*emitted));
  llvm::LLVMContext context;
  auto module = buildCudaModule(kernels, *c.cuda, context);
  if (!module)
    return module.takeError();
  std::string bitcode;
  if (c.cuda->emulate) {
    llvm::raw_string_ostream os(bitcode);
    llvm::WriteBitcodeToFile(**module, os);
  }
  auto ptx = c.cuda->emitPtx(**module);
  if (!ptx)
    return ptx.takeError();
  std::string image = *ptx;
  if (auto assembled = runPtxas(*ptx, c.cuda->desc().sm)) {
    image = std::move(assembled->cubin);
    isMachineCode = true;
  } else if (Error error = assembled.takeError();
             error.isA<ToolUnavailableError>()) {
    llvm::consumeError(std::move(error)); // the driver compiles PTX
  } else {
    return error;
  }
  if (c.cuda->emulate)
    image = emu::addBitcode(std::move(image), bitcode);
  if (Error error = write(name, image))
    return error;
  llvm::raw_string_ostream os(text);
  os << "candidate " << name << " " << tuner::scheduleJson(key.nest, knobs)
     << "\n";
  CudaKernelInstance instance = instantiate(kernels[0], {});
  for (uint64_t bytes : instance.scratchBytes)
    os << "scratch " << bytes << "\n";
  for (const auto &launch : instance.launches)
    os << "launch " << launch.symbol << " " << launch.gridBlocks << " "
       << launch.blockThreads << " " << launch.sharedBytes << "\n";
  ++result.candidates;
  return Error::success();
}

Error Writer::addKernel(Compilation &c, graph::KernelOp kernel,
                        const tuner::KernelKey &key,
                        const CudaCodegenOptions &codegen) {
  auto scorer = tuner::Scorer::create(key.workload, key.target);
  if (!scorer)
    return scorer.takeError();
  size_t oracleBefore = oracle.size();
  Expected<std::string> data = describeData(kernel);
  if (!data)
    return data.takeError();
  if (data->empty()) {
    oracle.resize(oracleBefore);
    return Error::success();
  }
  std::string text;
  llvm::raw_string_ostream(text)
      << "kernel " << scorer->name << "\nworkload " << key.workload << "\n"
      << *data;
  if (std::string peer = describePeer(kernel, codegen.tf32); !peer.empty())
    text += peer + "\n";
  ScheduleSpace space = cudaScheduleSpace(kernel, codegen);
  for (const KnobValues &knobs :
       tuner::draftSchedules(space, *scorer, options.candidates, options.seed))
    if (Error error = addCandidate(c, kernel, key, knobs, codegen, text))
      return error;
  body += text;
  ++result.kernels;
  return Error::success();
}

Error Writer::add(Compilation &c) {
  if (!c.cuda)
    return makeError(ExitCode::Usage,
                     "a bundle of candidates is for a GPU, not "
                     "for -target=" +
                         c.options.target);
  loadCudaDialects(*c.source.context);
  CudaCodegenOptions codegen;
  codegen.strict = c.options.strict;
  codegen.tf32 = c.options.precision == CompileOptions::Precision::Tf32;
  codegen.warpGroups = c.cuda->hasWarpGroups();
  for (auto kernel : c.getModule().getOps<graph::KernelOp>()) {
    std::string reason;
    auto key = tuner::makeCudaKey(kernel, *c.cuda, codegen, reason);
    if (failed(key)) {
      note(kernel, reason);
      continue;
    }
    if (!seen.insert(key->workload).second)
      continue;
    if (key->work > options.mostWork) {
      note(kernel, "the interpreter would take too long to check it");
      continue;
    }
    if (!target.empty() && target != key->target)
      return makeError(ExitCode::Usage, "a bundle is for one GPU");
    if (target.empty()) {
      target = key->target;
      device = c.cuda->desc();
    }
    if (Error error = addKernel(c, kernel, *key, codegen))
      return error;
  }
  return Error::success();
}

Expected<CudaBundle> Writer::finish() {
  if (!result.kernels) {
    std::string why = "no kernel can be tuned";
    for (const std::string &text : result.notes)
      why += "; " + text;
    return makeError(ExitCode::Rejected, why);
  }
  StringRef sm = device.sm;
  sm.consume_front("sm_");
  bool isExact = sm.consume_back("a");
  // Machine code runs on its generation, PTX on all that follow. Named by what
  // is in it: importing it twice adds nothing.
  llvm::raw_string_ostream(header)
      << "dlc-candidates 1\ndevice " << device.name << " " << sm << " "
      << (isExact         ? "exact"
          : isMachineCode ? "generation"
                          : "newer")
      << "\nrun bundle-" << tuner::sha256(body).substr(0, 16) << " "
      << tuner::kCudaCodegenVersion << " " << tuner::kSchemaVersion << " "
      << getVersion() << "\ntarget " << target << "\n";
  if (Error error = write("candidates.txt", header + body))
    return std::move(error);
  if (Error error = write(
          "oracle.bin", StringRef(reinterpret_cast<const char *>(oracle.data()),
                                  oracle.size() * sizeof(double))))
    return std::move(error);
  auto program = llvm::MemoryBuffer::getFile(options.measureProgram);
  if (!program)
    return makeError(ExitCode::Io, program.getError().message(),
                     options.measureProgram);
  if (Error error = write("dlc-cuda-measure", (*program)->getBuffer()))
    return std::move(error);
  SmallString<256> path(options.folder);
  llvm::sys::path::append(path, "dlc-cuda-measure");
  if (std::error_code code = fs::setPermissions(
          path,
          fs::perms::all_read | fs::perms::owner_write | fs::perms::all_exe))
    return makeError(ExitCode::Io, code.message(), std::string(path));
  return std::move(result);
}

Expected<CudaBundle>
dlc::writeCudaBundle(const std::vector<CompileOptions> &models,
                     const CudaBundleOptions &options) {
  Writer writer(options);
  for (const CompileOptions &model : models) {
    Progress progress(/*quiet=*/true, /*redraw=*/false);
    Compilation c(model, progress);
    if (Error error = compileToProgram(c))
      return std::move(error);
    if (Error error = writer.add(c))
      return std::move(error);
  }
  return writer.finish();
}
