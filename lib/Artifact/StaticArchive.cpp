// Static archives, and where the runtime's own archive lies.
#include "dlc/Artifact/Link.h"

#include "llvm/Object/Archive.h"
#include "llvm/Object/ArchiveWriter.h"
#include "llvm/Object/ObjectFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

#include <dlfcn.h>

using namespace llvm;
using namespace llvm::object;
using namespace dlc;

static StringRef archName(const Triple &triple) {
  return triple.getArchTypeName(triple.getArch());
}

Expected<std::string> dlc::findRuntimeArchive(const Triple &triple) {
  std::vector<std::string> starts;
  static int here;
  starts.push_back(sys::fs::getMainExecutable("dlc", &here));
  Dl_info self;
  if (dladdr(&here, &self) && self.dli_fname)
    starts.push_back(self.dli_fname);
  for (StringRef start : starts) {
    // A program lies in bin/, a Python extension a few folders deeper.
    StringRef folder = start;
    for (int level = 0; level < 5; ++level) {
      folder = sys::path::parent_path(folder);
      if (folder.empty())
        break;
      SmallString<256> file(folder);
      sys::path::append(file, "lib", "dlc", archName(triple),
                        "libdlc_runtime.a");
      if (sys::fs::exists(file))
        return std::string(file);
    }
  }
  return createStringError(
      inconvertibleErrorCode(),
      "this dlc was built without its runtime for '" + archName(triple) +
          "': lib/dlc/" + archName(triple) +
          "/libdlc_runtime.a is missing; install the C headers of that "
          "architecture (Debian: libc6-dev-arm64-cross) and build dlc again");
}

/// Errors when the object defines a visible global that could clash with one of
/// another model.
static Error checkNames(const LinkInputs &inputs, MemoryBufferRef buffer) {
  Expected<std::unique_ptr<ObjectFile>> object =
      ObjectFile::createObjectFile(buffer);
  if (!object)
    return object.takeError();
  for (const SymbolRef &symbol : (*object)->symbols()) {
    Expected<uint32_t> flags = symbol.getFlags();
    if (!flags)
      return flags.takeError();
    if (!(*flags & SymbolRef::SF_Global) || (*flags & SymbolRef::SF_Undefined))
      continue;
    Expected<StringRef> name = symbol.getName();
    if (!name)
      return name.takeError();
    if (!name->starts_with(inputs.name + "_"))
      return createStringError(inconvertibleErrorCode(),
                               "generated object defines global symbol '" +
                                   *name + "' without the prefix '" +
                                   inputs.name + "_'");
  }
  return Error::success();
}

Error dlc::writeStaticArchive(OutputSet &outputs, const LinkInputs &inputs,
                              StringRef path) {
  std::vector<NewArchiveMember> members;
  std::vector<std::unique_ptr<MemoryBuffer>> buffers;
  std::vector<std::string> names;
  names.reserve(inputs.objects.size() + inputs.objectFiles.size());
  auto addObject = [&](MemoryBufferRef buffer, StringRef suffix) -> Error {
    if (Error error = checkNames(inputs, buffer))
      return error;
    names.push_back(inputs.name + suffix.str());
    members.emplace_back(MemoryBufferRef(buffer.getBuffer(), names.back()));
    return Error::success();
  };
  for (auto [index, object] : enumerate(inputs.objects))
    if (Error error = addObject(
            object, index ? "." + std::to_string(index) + ".o" : ".o"))
      return error;
  for (auto [index, file] : enumerate(inputs.objectFiles)) {
    ErrorOr<std::unique_ptr<MemoryBuffer>> buffer = MemoryBuffer::getFile(
        file, /*IsText=*/false, /*RequiresNullTerminator=*/false);
    if (!buffer)
      return fileError(file, "cannot read", buffer.getError());
    if (Error error =
            addObject(**buffer, ".weights" + std::to_string(index) + ".o"))
      return error;
    buffers.push_back(std::move(*buffer));
  }

  ErrorOr<std::unique_ptr<MemoryBuffer>> runtime =
      MemoryBuffer::getFile(inputs.runtimeArchive, /*IsText=*/false,
                            /*RequiresNullTerminator=*/false);
  if (!runtime)
    return fileError(inputs.runtimeArchive, "cannot read", runtime.getError());
  Expected<std::unique_ptr<Archive>> archive = Archive::create(**runtime);
  if (!archive)
    return archive.takeError();
  Error walk = Error::success();
  for (const Archive::Child &child : (*archive)->children(walk)) {
    Expected<NewArchiveMember> member =
        NewArchiveMember::getOldMember(child, /*Deterministic=*/true);
    if (!member)
      return joinErrors(member.takeError(), std::move(walk));
    members.push_back(std::move(*member));
  }
  if (walk)
    return walk;

  Expected<std::string> temporary = outputs.stage(path);
  if (!temporary)
    return temporary.takeError();
  if (Error error =
          writeArchive(*temporary, members, SymtabWritingMode::NormalSymtab,
                       Archive::K_GNU, /*Deterministic=*/true,
                       /*Thin=*/false))
    return createStringError(
        inconvertibleErrorCode(),
        path + ": cannot write: " + toString(std::move(error)));
  return Error::success();
}
