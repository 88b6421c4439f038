// bundle -target=cuda...: candidates for a machine with a GPU.
#include "Settings.h"

#include "dlc/Driver/CommandLine.h"
#include "dlc/Driver/CudaBundle.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

using namespace dlc;
using llvm::Error;
using llvm::Expected;

/// As `dlc` would be asked to make kernels of a model.
static Expected<CompileOptions> optionsFor(const TuneSettings &s,
                                           const std::string &model) {
  std::vector<std::string> words{
      model, "-target=" + s.target, "-emit=kernels", "-o", "-", "-q"};
  for (const std::string &dim : s.dims)
    words.push_back("-dim=" + dim);
  if (!s.precision.empty())
    words.push_back("-precision=" + s.precision);
  std::vector<const char *> arguments;
  for (const std::string &word : words)
    arguments.push_back(word.c_str());
  Expected<CommandLine> line = parseCommandLine(arguments);
  if (!line)
    return line.takeError();
  return line->options;
}

Error dlc::runCudaBundle(const TuneSettings &s) {
  if (s.output.empty())
    return usage("bundle: -o <folder> is missing");
  std::vector<std::string> inputs = s.inputs;
  llvm::SmallString<128> product;
  if (!s.matmul.empty()) {
    int handle;
    if (std::error_code code = llvm::sys::fs::createTemporaryFile(
            "matmul", "mlir", handle, product))
      return makeError(ExitCode::Io, code.message(), "a temporary file");
    llvm::raw_fd_ostream os(handle, /*shouldClose=*/true);
    os << matmulText(s.matmul);
    inputs.push_back(product.str().str());
  }
  if (inputs.empty())
    return usage("bundle: no models (or -matmul=MxNxK) for -target=" +
                 s.target);
  std::vector<CompileOptions> models;
  for (const std::string &input : inputs) {
    Expected<CompileOptions> options = optionsFor(s, input);
    if (!options)
      return options.takeError();
    models.push_back(std::move(*options));
  }
  CudaBundleOptions options;
  options.folder = s.output;
  options.candidates = s.candidates;
  options.seed = s.seed;
  Expected<CudaBundle> bundle = writeCudaBundle(models, options);
  if (!product.empty())
    llvm::sys::fs::remove(product);
  if (!bundle)
    return bundle.takeError();
  if (!s.quiet)
    for (const std::string &text : bundle->notes)
      llvm::errs() << text << "\n";
  llvm::outs() << s.output << ": " << bundle->kernels << " kernels, "
               << bundle->candidates << " candidates, "
               << llvm::format("%.1f MiB", double(bundle->bytes) / (1 << 20))
               << "\n";
  return Error::success();
}
