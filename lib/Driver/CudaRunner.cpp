// Folders of candidates for dlc-cuda-measure, and what it found.
#include "CudaCandidate.h"

#include "dlc/Codegen/CUDA/CudaLibraryCall.h"
#include "dlc/Driver/CudaSearch.h"
#include "dlc/Driver/Diagnostics.h"

#include "llvm/Support/Allocator.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/StringSaver.h"

#include <cmath>

using namespace dlc;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
using llvm::Twine;
namespace fs = llvm::sys::fs;

static std::string joined(StringRef folder, StringRef name) {
  llvm::SmallString<256> path(folder);
  llvm::sys::path::append(path, name);
  return path.str().str();
}

static constexpr llvm::StringLiteral kLog = "log.txt",
                                     kManifest = "candidates.txt";

/// Without the program's name before it.
static std::string readLog(StringRef path) {
  auto log = llvm::MemoryBuffer::getFile(path, /*IsText=*/true);
  if (!log)
    return "";
  StringRef text = (*log)->getBuffer().trim();
  text.consume_front("dlc-cuda-measure: ");
  return text.str();
}

Expected<std::shared_ptr<CudaRunner>>
CudaRunner::start(const CudaTarget &target, StringRef command, bool libraries) {
  std::shared_ptr<CudaRunner> runner(new CudaRunner(target));
  llvm::SmallString<128> folder;
  if (std::error_code code = fs::createUniqueDirectory("dlc-search", folder))
    return makeError(ExitCode::Io, code.message(), "a temporary folder");
  runner->folder = folder.str().str();
  llvm::BumpPtrAllocator allocator;
  llvm::StringSaver saver(allocator);
  llvm::SmallVector<const char *> words;
  llvm::cl::TokenizeGNUCommandLine(command, saver, words);
  runner->words.assign(words.begin(), words.end());
  if (runner->words.empty()) {
    runner->program = findMeasureProgram();
  } else {
    uint64_t bytes = 0;
    if (Error error = writeMeasureProgram(folder, bytes))
      return std::move(error);
    runner->program = joined(folder, "dlc-cuda-measure");
  }
  if (Error error = writeBundleFile(
          folder, kManifest, makeBundleHeader(target.desc(), "search", "{}")))
    return std::move(error);
  if (Error error = writeOracle(folder, {}))
    return std::move(error);
  std::vector<std::string> options{"-device-only"};
  if (libraries)
    options.push_back("-libraries");
  if (Error error = runner->run(options))
    return std::move(error);
  if (libraries) {
    std::string log = readLog(joined(folder, kLog));
    for (auto [kind, version] : llvm::enumerate(runner->libraries)) {
      // "cublas 130102", a line of the log.
      std::string name = (getLibraryKnob(int64_t(kind)) + " ").str();
      for (StringRef line : llvm::split(log, '\n'))
        if (line.consume_front(name) && line.getAsInteger(10, version))
          version = 0;
    }
    if (!runner->hasLibraries())
      return makeError(ExitCode::Unavailable,
                       "-libraries=on: no version of a library is told");
  }
  return runner;
}

CudaRunner::~CudaRunner() {
  if (!folder.empty())
    fs::remove_directories(folder);
}

Error CudaRunner::run(llvm::ArrayRef<std::string> options) {
  std::vector<std::string> all = words;
  all.push_back(program);
  all.push_back(folder);
  all.insert(all.end(), options.begin(), options.end());
  auto first = llvm::sys::findProgramByName(all[0]);
  if (!first)
    return makeError(ExitCode::Unavailable,
                     "-tune: '" + all[0] +
                         "' cannot be run: " + first.getError().message());
  std::vector<StringRef> arguments(all.begin(), all.end());
  std::string log = joined(folder, kLog), why;
  std::optional<StringRef> redirects[] = {StringRef(), StringRef(log),
                                          StringRef(log)};
  int code = llvm::sys::ExecuteAndWait(*first, arguments, std::nullopt,
                                       redirects, 0, 0, &why);
  // 1: a candidate is wrong, which is a result.
  if (code == 0 || code == 1)
    return Error::success();
  std::string said = readLog(log);
  if (said.empty())
    said = why.empty() ? "it ended with " + std::to_string(code) : why;
  return makeError(
      ExitCode::Unavailable,
      "-tune measures on the GPU: " + said +
          "; -tune-runner=<command> measures on another machine, dlc-tune "
          "bundle and import carry candidates there and times back, "
          "-tune=lookup takes what is known");
}

static tuner::Measurement toMeasurement(const tuner::Record &record) {
  tuner::Measurement m;
  m.status = record.status;
  m.reason = record.reason;
  m.samples = record.samples;
  m.reference = record.reference;
  m.clock = record.clock;
  m.drift = record.drift;
  return m;
}

Error CudaRunner::measure(const Kernel &kernel,
                          llvm::ArrayRef<const tuner::BuiltKernel *> candidates,
                          const tuner::BuiltKernel &reference,
                          const tuner::RunLimits &limits,
                          tuner::Task::Done done) {
  // The first of a manifest is the reference, which may be a candidate, too.
  std::vector<const tuner::BuiltKernel *> all{&reference};
  std::vector<unsigned> places;
  for (const tuner::BuiltKernel *candidate : candidates) {
    bool isReference = candidate->manifest == reference.manifest;
    places.push_back(isReference ? 0 : unsigned(all.size()));
    if (!isReference)
      all.push_back(candidate);
  }
  std::string text = makeBundleHeader(target.desc(), "search", kernel.target) +
                     "kernel " + kernel.name + "\nworkload " + kernel.workload +
                     "\n" + kernel.data;
  fs::remove_directories(joined(folder, "code"));
  for (auto [i, candidate] : llvm::enumerate(all)) {
    std::string name = "code/" + std::to_string(i) + ".bin";
    if (Error error = writeBundleFile(folder, name, candidate->object))
      return error;
    text += "candidate " + name + " " + candidate->manifest;
  }
  if (Error error = writeBundleFile(folder, kManifest, text))
    return error;
  if (Error error = writeOracle(folder, kernel.oracle))
    return error;
  // What a process takes until its first kernel runs is not the candidate's.
  constexpr double toBegin = 20;
  std::string results = joined(folder, "results.jsonl");
  fs::remove(results);
  {
    std::optional<tuner::MeasureLock> lock;
    if (words.empty())
      lock.emplace();
    unsigned seconds = unsigned(std::ceil(toBegin + limits.seconds));
    std::vector<std::string> options{"-samples=" +
                                         std::to_string(limits.samples),
                                     "-timeout=" + std::to_string(seconds),
                                     "-again=0", "-no-peers", "-with-parent"};
    if (Error error = run(options))
      return error;
  }
  auto records = tuner::readJsonLines(results);
  if (!records)
    return makeError(ExitCode::Unavailable,
                     "-tune: no results came back: " +
                         llvm::toString(records.takeError()));
  if (records->size() != all.size())
    return makeError(ExitCode::Unavailable,
                     "-tune: of " + Twine(all.size()) + " candidates " +
                         Twine(records->size()) + " came back measured");
  for (auto [i, place] : llvm::enumerate(places))
    if (Error error = done(unsigned(i), toMeasurement((*records)[place])))
      return error;
  return Error::success();
}
