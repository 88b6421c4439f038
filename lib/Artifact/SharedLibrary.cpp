// Links a shared object with lld as a library. lld reads files, so the objects
// in memory, the stubs of the system libraries and the version script are put
// into a temporary folder for the length of the link.
#include "dlc/Artifact/Link.h"

#include "ElfFile.h"
#include "SystemLibraries.h"
#include "dlc/runtime.h"

#include "lld/Common/Driver.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <mutex>

LLD_HAS_DRIVER(elf)

using namespace llvm;
using namespace dlc;

namespace {

/// A folder that goes away with everything in it.
class TemporaryFolder {
public:
  ~TemporaryFolder() {
    if (!path.empty())
      sys::fs::remove_directories(path);
  }
  Error create() {
    if (std::error_code code = sys::fs::createUniqueDirectory("dlc-link", path))
      return fileError("temporary folder", "cannot create", code);
    return Error::success();
  }
  /// Writes a file and returns its full name.
  Expected<std::string> add(StringRef name, StringRef bytes) {
    SmallString<256> file(path);
    sys::path::append(file, name);
    std::error_code code;
    raw_fd_ostream stream(file, code);
    if (!code) {
      stream << bytes;
      stream.close();
      code = stream.error();
      stream.clear_error();
    }
    if (code)
      return fileError(file, "cannot write", code);
    return std::string(file);
  }

private:
  SmallString<128> path;
};

} // namespace

static Expected<StringRef> emulationOf(const Triple &triple) {
  switch (triple.getArch()) {
  case Triple::x86_64:
    return StringRef("elf_x86_64");
  case Triple::aarch64:
    return StringRef("aarch64linux");
  case Triple::riscv64:
    return StringRef("elf64lriscv");
  default:
    return createStringError(inconvertibleErrorCode(),
                             "cannot link for '" + triple.str() +
                                 "': not one of x86_64, aarch64, riscv64");
  }
}

/// What the shared object shows: entry points, the table for dlc_load, and the
/// pool's state, which the dynamic linker must see to merge it.
static std::string versionScript(const LinkInputs &inputs) {
  StringRef name = inputs.name;
  std::string text = "{\n  global:\n";
  for (const std::string &symbol : inputs.exports)
    text += "    " + symbol + ";\n";
  if (!inputs.exports.empty())
    return text + "    dlc_pool_abi1;\n  local: *;\n};\n";
  SmallVector<StringRef> suffixes = {"get_info",  "create", "output_shapes",
                                     "workspace", "run",    "destroy"};
  if (inputs.hasState)
    suffixes.append(
        {"state_length", "state_bytes", "state_truncate", "state_reserve"});
  for (StringRef suffix : suffixes)
    text += ("    " + name + "_" + suffix + ";\n").str();
  text += "    " DLC_MODULE_SYMBOL ";\n    dlc_pool_abi1;\n  local: *;\n};\n";
  return text;
}

static Error runLinker(ArrayRef<std::string> arguments) {
  // lld keeps its state in globals: one link at a time.
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  std::vector<const char *> argv;
  for (const std::string &argument : arguments)
    argv.push_back(argument.c_str());
  std::string out, err;
  raw_string_ostream outStream(out), errStream(err);
  lld::Result result =
      lld::lldMain(argv, outStream, errStream, {{lld::Gnu, &lld::elf::link}});
  if (result.retCode == 0)
    return Error::success();
  return createStringError(inconvertibleErrorCode(),
                           "linking failed: " + StringRef(err).rtrim());
}

Error dlc::writeSharedLibrary(OutputSet &outputs, const LinkInputs &inputs,
                              StringRef path) {
  Expected<StringRef> emulation = emulationOf(inputs.triple);
  if (!emulation)
    return emulation.takeError();
  TemporaryFolder folder;
  if (Error error = folder.create())
    return error;

  std::vector<std::string> arguments = {"ld.lld",
                                        "-m",
                                        emulation->str(),
                                        "-shared",
                                        "-soname",
                                        sys::path::filename(path).str(),
                                        "--gc-sections",
                                        "--hash-style=gnu",
                                        "--build-id=fast",
                                        "--eh-frame-hdr",
                                        "-z",
                                        "defs",
                                        "-z",
                                        "now",
                                        "-z",
                                        "relro",
                                        "-z",
                                        "noexecstack",
                                        "--as-needed"};
  if (inputs.exports.empty())
    arguments.push_back("--defsym=" DLC_MODULE_SYMBOL "=" + inputs.name +
                        "_model_table");
  auto addFile = [&](const Twine &name, StringRef bytes) -> Error {
    Expected<std::string> file = folder.add(name.str(), bytes);
    if (!file)
      return file.takeError();
    arguments.push_back(*file);
    return Error::success();
  };
  for (auto [index, object] : enumerate(inputs.objects))
    if (Error error = addFile(Twine(index) + ".o", object.getBuffer()))
      return error;
  arguments.insert(arguments.end(), inputs.objectFiles.begin(),
                   inputs.objectFiles.end());
  arguments.push_back(inputs.runtimeArchive);
  for (const SystemLibrary &library : systemLibraries(inputs.opensDriver))
    if (Error error = addFile(
            library.soname,
            makeStubLibrary(inputs.triple, library.soname, library.functions)))
      return error;
  Expected<std::string> script = folder.add("exports", versionScript(inputs));
  if (!script)
    return script.takeError();
  arguments.push_back("--version-script=" + *script);

  Expected<std::string> temporary = outputs.stage(path, /*executable=*/true);
  if (!temporary)
    return temporary.takeError();
  arguments.push_back("-o");
  arguments.push_back(*temporary);
  if (Error error = runLinker(arguments))
    return createStringError(inconvertibleErrorCode(),
                             path + ": " + toString(std::move(error)));
  return Error::success();
}
