#include "Predicate.h"

#include "dlc/Driver/Diagnostics.h"
#include "onnx/onnx_pb.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/SHA1.h"
#include "llvm/Support/raw_ostream.h"

using namespace dlc;
using llvm::StringRef;

// What ExecuteAndWait returns for a process that a signal ended or that took
// too long.
static constexpr int kSignalOrTimeout = -2;

static std::string readFile(const std::string &path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  return buffer ? (*buffer)->getBuffer().str() : std::string();
}

// In a form that does not depend on the order of protobuf's maps (onnx has
// none).
static std::string serialize(const onnx::ModelProto &model) {
  std::string bytes;
  model.SerializeToString(&bytes);
  return bytes;
}

bool Predicate::holds(const onnx::ModelProto &model) {
  std::string bytes = serialize(model);
  std::string key =
      llvm::toHex(llvm::SHA1::hash(llvm::arrayRefFromStringRef(bytes)));
  if (seen.contains(key))
    return false;
  ++numTests;
  std::string path = folder + "/candidate.onnx", log = folder + "/log";
  {
    std::error_code code;
    llvm::raw_fd_ostream os(path, code);
    os << bytes;
  }
  std::vector<std::string> command;
  if (kind == Kind::Command) {
    command = {"/bin/sh", "-c", text + " \"$0\"", path};
  } else {
    command = {dlc, path, "-q", "-o", folder + "/candidate.so"};
    command.insert(command.end(), options.begin(), options.end());
    if (kind != Kind::Error)
      command.push_back("-verify");
  }
  llvm::SmallVector<StringRef> arguments(command.begin(), command.end());
  std::optional<StringRef> redirects[] = {StringRef(""), StringRef(log),
                                          StringRef(log)};
  std::string message;
  int code = llvm::sys::ExecuteAndWait(command.front(), arguments, std::nullopt,
                                       redirects, timeout, /*MemoryLimit=*/0,
                                       &message);
  output = readFile(log);
  bool timedOut = code == kSignalOrTimeout &&
                  StringRef(message).contains_insensitive("timed out");
  bool result = false;
  switch (kind) {
  case Kind::Command:
    result = code == 0;
    break;
  case Kind::Mismatch:
    result = code == static_cast<int>(ExitCode::Verify);
    break;
  case Kind::Crash:
    result =
        !timedOut && (code < 0 || code == static_cast<int>(ExitCode::Internal));
    break;
  case Kind::Error:
    result = code != 0 && !timedOut && StringRef(output).contains(text);
    break;
  }
  if (!result)
    seen.insert(key);
  return result;
}
