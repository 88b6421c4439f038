// Running the assembler over temporary files and reading its report.
#include "dlc/Target/CUDA/Ptxas.h"

#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/Regex.h"
#include "llvm/Support/raw_ostream.h"

using namespace dlc;
using llvm::SmallString;
using llvm::StringRef;

char ToolUnavailableError::ID;

void ToolUnavailableError::log(llvm::raw_ostream &os) const {
  os << "target tool unavailable: '" << tool
     << "' of the CUDA toolkit is not installed (it is looked for in "
        "$CUDA_HOME/bin or, without CUDA_HOME, in PATH and "
        "/usr/local/cuda/bin)";
}

std::error_code ToolUnavailableError::convertToErrorCode() const {
  return std::make_error_code(std::errc::no_such_file_or_directory);
}

static llvm::Error fail(const llvm::Twine &message) {
  return llvm::createStringError(llvm::inconvertibleErrorCode(), message);
}

llvm::Expected<std::string> dlc::findPtxas() {
  if (auto home = llvm::sys::Process::GetEnv("CUDA_HOME")) {
    SmallString<128> folder(*home);
    llvm::sys::path::append(folder, "bin");
    if (auto program = llvm::sys::findProgramByName("ptxas", {folder.str()}))
      return *program;
    return llvm::make_error<ToolUnavailableError>((folder + "/ptxas").str());
  }
  if (auto program = llvm::sys::findProgramByName("ptxas"))
    return *program;
  if (auto program =
          llvm::sys::findProgramByName("ptxas", {"/usr/local/cuda/bin"}))
    return *program;
  return llvm::make_error<ToolUnavailableError>("ptxas");
}

// The number before `unit` in `line`, as in "32 bytes spill stores".
static int64_t numberBefore(StringRef line, StringRef unit) {
  llvm::Regex pattern(("([0-9]+) " + unit).str());
  llvm::SmallVector<StringRef> matches;
  int64_t value = 0;
  if (pattern.match(line, &matches))
    matches[1].getAsInteger(10, value);
  return value;
}

void dlc::parsePtxasLog(StringRef log, PtxasResult &result) {
  llvm::Regex compiling("Compiling entry function '([^']+)'");
  llvm::Regex resources("Used [0-9]+ registers|bytes stack frame|bytes gmem|"
                        "Function properties for|Compile time|^ *$");
  for (StringRef line : llvm::split(log, '\n')) {
    llvm::SmallVector<StringRef> matches;
    if (compiling.match(line, &matches)) {
      result.kernels.emplace_back();
      result.kernels.back().kernel = matches[1].str();
      continue;
    }
    if (!resources.match(line)) {
      result.remarks.push_back(line.str());
      continue;
    }
    if (result.kernels.empty())
      continue;
    KernelResources &kernel = result.kernels.back();
    if (line.contains("stack frame")) {
      kernel.stackBytes = numberBefore(line, "bytes stack frame");
      kernel.spillStoreBytes = numberBefore(line, "bytes spill stores");
      kernel.spillLoadBytes = numberBefore(line, "bytes spill loads");
    } else if (line.contains("Used ")) {
      kernel.registers = numberBefore(line, "registers");
      kernel.sharedBytes = numberBefore(line, "bytes smem");
      kernel.barriers = numberBefore(line, "barriers");
    }
  }
}

// Registers are given to warps in units of 256; a block has a kilobyte of
// shared memory of the system's, and at most 32 blocks share a multiprocessor
// (CUDA C++ Programming Guide, technical specifications of 8.0 and 9.0).
double dlc::getOccupancy(const KernelResources &kernel, int64_t threads,
                         const CudaDesc &desc) {
  constexpr int64_t warpThreads = 32, unit = 256, mostBlocks = 32,
                    systemBytes = 1024;
  if (threads <= 0)
    return 0;
  int64_t warps = llvm::divideCeil(threads, warpThreads);
  int64_t warpRegisters =
      llvm::alignTo(std::max<int64_t>(kernel.registers, 1) * warpThreads, unit);
  int64_t blocks =
      std::min(mostBlocks, desc.maxThreads / (warps * warpThreads));
  blocks = std::min(blocks, desc.registers / (warps * warpRegisters));
  blocks = std::min(blocks, (desc.maxSharedBytes + systemBytes) /
                                (kernel.sharedBytes + systemBytes));
  return static_cast<double>(blocks * warps * warpThreads) / desc.maxThreads;
}

static llvm::Expected<std::string> readFile(StringRef path) {
  auto file = llvm::MemoryBuffer::getFile(path);
  if (!file)
    return fail("cannot read '" + path + "': " + file.getError().message());
  return (*file)->getBuffer().str();
}

llvm::Expected<PtxasResult> dlc::runPtxas(StringRef ptx, StringRef sm,
                                          StringRef program) {
  std::string tool = program.str();
  if (tool.empty()) {
    auto found = findPtxas();
    if (!found)
      return found.takeError();
    tool = *found;
  } else if (!llvm::sys::fs::can_execute(tool)) {
    return llvm::make_error<ToolUnavailableError>(tool);
  }

  SmallString<128> source, cubin, log;
  auto removeFiles = llvm::scope_exit([&] {
    for (const auto &path : {source, cubin, log})
      if (!path.empty())
        llvm::sys::fs::remove(path);
  });
  auto make = [](StringRef suffix, SmallString<128> &path) -> llvm::Error {
    if (auto code = llvm::sys::fs::createTemporaryFile("dlc", suffix, path))
      return fail("cannot create a temporary file: " + code.message());
    return llvm::Error::success();
  };
  for (auto [suffix, path] :
       {std::pair<StringRef, SmallString<128> *>("ptx", &source),
        {"cubin", &cubin},
        {"log", &log}})
    if (llvm::Error error = make(suffix, *path))
      return std::move(error);
  {
    std::error_code code;
    llvm::raw_fd_ostream stream(source, code);
    stream << ptx;
    stream.close();
    if (code || stream.has_error())
      return fail("cannot write '" + source + "'");
  }

  std::string architecture = ("-arch=" + sm).str();
  StringRef arguments[] = {tool, "-v", architecture, "-o", cubin, source};
  std::optional<StringRef> redirects[] = {StringRef(""), StringRef(log),
                                          StringRef(log)};
  std::string problem;
  constexpr unsigned timeLimitSeconds = 600;
  int status = llvm::sys::ExecuteAndWait(tool, arguments, std::nullopt,
                                         redirects, timeLimitSeconds,
                                         /*MemoryLimit=*/0, &problem);
  auto messages = readFile(log);
  if (!messages)
    return messages.takeError();
  if (status != 0)
    return fail("ptxas refused the code for '" + sm +
                "': " + (problem.empty() ? *messages : problem));
  PtxasResult result;
  auto bytes = readFile(cubin);
  if (!bytes)
    return bytes.takeError();
  result.cubin = std::move(*bytes);
  parsePtxasLog(*messages, result);
  return result;
}
