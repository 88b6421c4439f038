// Compiling a model beside its own compilation, and where its time goes.
#include "BuiltModel.h"

#include "dlc/Driver/Compiler.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"

#include <cmath>
#include <map>

using namespace dlc;
using llvm::ArrayRef;
using llvm::Expected;
using llvm::StringRef;

/// Samples are one a millisecond: for how long a profile runs.
static constexpr double kProfileSeconds = 1.5;

Expected<Built> Built::create(const CompileOptions &options,
                              CompileOptions::Precision precision,
                              ArrayRef<unsigned> rounded) {
  Built built;
  auto folder = TemporaryFolder::create();
  if (!folder)
    return folder.takeError();
  built.folder = std::move(*folder);
  CompileOptions o = options;
  o.precision = precision;
  o.roundedProducts.assign(rounded.begin(), rounded.end());
  o.output = built.folder->getPath("model.so");
  o.emit = {EmitKind::Shared, EmitKind::Kernels};
  o.quiet = true;
  o.verbose = o.verify = o.timePasses = false;
  o.explainFusion = o.explainAttention = false;
  o.dumpDir.clear();
  o.printAfter.clear();
  if (o.tune == CompileOptions::Tune::Search)
    o.tune = CompileOptions::Tune::Lookup;
  if (precision == CompileOptions::Precision::Probe)
    o.tune = CompileOptions::Tune::Off;
  auto compiled = compileModel(o);
  if (!compiled)
    return compiled.takeError();
  Expected<Artifact> artifact = Artifact::open(o.output);
  if (!artifact)
    return artifact.takeError();
  built.artifact = std::move(*artifact);
  return built;
}

Expected<Built> Built::copy() const {
  Built built;
  auto made = TemporaryFolder::create();
  if (!made)
    return made.takeError();
  built.folder = std::move(*made);
  for (StringRef name : {"model.so", "model.weights"}) {
    std::string from = folder->getPath(name);
    if (!llvm::sys::fs::exists(from))
      continue; // a model without weights
    if (std::error_code code =
            llvm::sys::fs::copy_file(from, built.folder->getPath(name)))
      return makeError(ExitCode::Io, code.message(), from);
  }
  Expected<Artifact> artifact =
      Artifact::open(built.folder->getPath("model.so"));
  if (!artifact)
    return artifact.takeError();
  built.artifact = std::move(*artifact);
  return built;
}

Expected<llvm::StringMap<Built::Sampled>>
Built::profile(ArrayRef<std::string> inputs) const {
  // A first run says how many fill the time.
  Artifact::RunOptions options;
  options.bench = 1;
  double ns = 0;
  std::map<std::string, double, std::less<>> samples; // by kernel
  double all = 0;
  for (bool isProfile : {false, true}) {
    if (isProfile)
      options.bench = unsigned(
          std::clamp(kProfileSeconds * 1e9 / std::max(ns, 1.0), 2.0, 1e5));
    options.profile = isProfile;
    Expected<std::string> text = artifact->run(inputs, options);
    if (!text)
      return text.takeError();
    llvm::SmallVector<StringRef> lines;
    StringRef(*text).split(lines, '\n', -1, /*KeepEmpty=*/false);
    if (lines.empty() || lines[0].split(' ').second.getAsDouble(ns))
      return makeError(ExitCode::Internal, "no time in '" + *text + "'");
    for (StringRef line : ArrayRef(lines).drop_front()) {
      auto [count, name] = line.split(' ');
      double number = 0;
      if (!count.getAsDouble(number))
        samples[name.str()] += number, all += number;
    }
  }
  auto text = llvm::MemoryBuffer::getFile(folder->getPath("model.mlir"));
  if (!text)
    return makeError(ExitCode::Io, text.getError().message());
  // "// kernel of operator, operator", a line for each call.
  std::map<StringRef, std::vector<StringRef>> calls;
  llvm::SmallVector<StringRef> lines;
  (*text)->getBuffer().split(lines, '\n');
  for (StringRef line : lines)
    if (line.consume_front("// ") && line.contains(" of "))
      calls[line.split(" of ").first].push_back(line.split(" of ").second);
  llvm::StringMap<Sampled> result;
  for (auto &[kernel, origins] : calls)
    for (StringRef origin : origins) {
      llvm::SmallVector<StringRef> names;
      origin.split(names, ", ");
      double count = samples[kernel.str()];
      double each = ns * 1e-9 / std::max(all, 1.0) / double(origins.size());
      for (StringRef name : names)
        result[name] = {count * each, std::sqrt(std::max(count, 1.0)) * each};
    }
  result[""].seconds = ns * 1e-9;
  return result;
}
