// Staged output files; see the header for why.
#include "dlc/Artifact/Output.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Signals.h"
#include "llvm/Support/raw_ostream.h"

#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

using namespace llvm;
using namespace dlc;

Error dlc::fileError(StringRef path, StringRef what, std::error_code code) {
  return createStringError(code, path + ": " + what + ": " + code.message());
}

OutputSet::~OutputSet() { discard(); }

void OutputSet::discard() {
  for (const File &file : files) {
    sys::fs::remove(file.moved ? file.path : file.temporary);
    sys::DontRemoveFileOnSignal(file.temporary);
  }
  files.clear();
}

Expected<std::string> OutputSet::stage(StringRef path, bool executable) {
  SmallString<256> temporary;
  auto mode = executable
                  ? sys::fs::all_all
                  : sys::fs::perms(sys::fs::all_read | sys::fs::all_write);
  int fd = -1;
  if (std::error_code code = sys::fs::createUniqueFile(
          path + ".tmp-%%%%%%%%", fd, temporary, sys::fs::OF_None, mode))
    return fileError(path, "cannot create", code);
  ::close(fd);
  sys::RemoveFileOnSignal(temporary);
  files.push_back({std::string(temporary), path.str()});
  return std::string(temporary);
}

Error OutputSet::write(StringRef path, StringRef bytes) {
  Expected<std::string> temporary = stage(path);
  if (!temporary)
    return temporary.takeError();
  std::error_code code;
  raw_fd_ostream stream(*temporary, code);
  if (!code) {
    stream << bytes;
    stream.close();
    code = stream.error();
    stream.clear_error();
  }
  return code ? fileError(path, "cannot write", code) : Error::success();
}

/// Makes sure that the bytes are on disk before the name is.
static std::error_code flushToDisk(StringRef path) {
  int fd = -1;
  if (std::error_code code = sys::fs::openFileForRead(path, fd))
    return code;
  int result = ::fsync(fd);
  std::error_code code(errno, std::generic_category());
  ::close(fd);
  // Pipes and some network folders cannot be flushed; that is not a failure.
  if (result == 0 || code == std::errc::invalid_argument)
    return {};
  return code;
}

Error OutputSet::commit() {
  for (const File &file : files) {
    if (std::error_code code = flushToDisk(file.temporary)) {
      Error error = fileError(file.path, "cannot write", code);
      discard();
      return error;
    }
  }
  for (File &file : files) {
    if (std::error_code code = sys::fs::rename(file.temporary, file.path)) {
      Error error = fileError(file.path, "cannot rename into place", code);
      discard();
      return error;
    }
    file.moved = true;
    sys::DontRemoveFileOnSignal(file.temporary);
  }
  files.clear();
  return Error::success();
}
