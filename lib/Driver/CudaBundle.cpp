// Writing bundles of candidates (tools/dlc-cuda-measure/Manifest.c reads them).
#include "dlc/Driver/CudaBundle.h"

#include "Compilation.h"
#include "CudaCandidate.h"

#include "dlc/Tuner/Record.h"

#include <set>

using namespace mlir;
using namespace dlc;
using llvm::Error;
using llvm::Expected;
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
                     const CudaCodegenOptions &codegen, std::string &text);
  Error write(const Twine &name, StringRef bytes);
  void note(graph::KernelOp kernel, const Twine &why) {
    result.notes.push_back(
        ("kernel '" + kernel.getSymName() + "' is left out: " + why).str());
  }

  const CudaBundleOptions &options;
  CudaBundle result;
  std::string body, target;
  CudaDesc device;
  std::vector<double> oracle;
  std::set<std::string> seen; ///< workloads
};
} // namespace

Error Writer::write(const Twine &name, StringRef bytes) {
  if (Error error = writeBundleFile(options.folder, name, bytes))
    return error;
  result.bytes += bytes.size();
  if (result.bytes > options.mostBytes)
    return makeError(ExitCode::Rejected,
                     "the bundle has more than " +
                         Twine(options.mostBytes >> 20) +
                         " MiB: choose fewer kernels or candidates");
  return Error::success();
}

Error Writer::addCandidate(Compilation &c, graph::KernelOp kernel,
                           const tuner::KernelKey &key, const KnobValues &knobs,
                           const CudaCodegenOptions &codegen,
                           std::string &text) {
  std::string number = std::to_string(result.candidates);
  auto built = buildCudaCandidate(kernel, key.nest, knobs, *c.cuda, codegen,
                                  "k" + number);
  if (!built)
    return built.takeError();
  std::string name =
      "code/" + std::to_string(result.kernels) + "_" + number + ".bin";
  if (Error error = write(name, built->object))
    return error;
  text += "candidate " + name + " " + built->manifest;
  ++result.candidates;
  return Error::success();
}

Error Writer::addKernel(Compilation &c, graph::KernelOp kernel,
                        const tuner::KernelKey &key,
                        const CudaCodegenOptions &codegen) {
  auto scorer = tuner::Scorer::create(key.workload, key.target);
  if (!scorer)
    return scorer.takeError();
  Expected<std::string> data = describeCudaData(kernel, options.seed, oracle);
  if (!data) {
    note(kernel, llvm::toString(data.takeError()));
    return Error::success();
  }
  std::string text;
  llvm::raw_string_ostream(text)
      << "kernel " << scorer->name << "\nworkload " << key.workload << "\n"
      << *data;
  if (std::string peer = describePeer(kernel, codegen); !peer.empty())
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
  CudaCodegenOptions codegen = getCudaCodegen(c.options, *c.cuda);
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
  // Named by what is in it: importing it twice adds nothing.
  std::string header = makeBundleHeader(
      device, "bundle-" + tuner::sha256(body).substr(0, 16), target);
  if (Error error = write("candidates.txt", header + body))
    return std::move(error);
  if (Error error = writeOracle(options.folder, oracle))
    return std::move(error);
  result.bytes += oracle.size() * sizeof(double);
  if (Error error = writeMeasureProgram(options.folder, result.bytes))
    return std::move(error);
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
