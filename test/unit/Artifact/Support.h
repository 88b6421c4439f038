// Shared by the artifact tests: a scratch folder, the hand-written model's
// objects, small checks over files and commands.
#ifndef DLC_TEST_UNIT_ARTIFACT_SUPPORT_H
#define DLC_TEST_UNIT_ARTIFACT_SUPPORT_H

#include "dlc/Artifact/Link.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

namespace dlctest {

inline std::string text(llvm::Error error) {
  return llvm::toString(std::move(error));
}

/// A folder for one test, removed at its end.
class Scratch : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_FALSE(llvm::sys::fs::createUniqueDirectory("dlc-artifact", folder));
  }
  void TearDown() override { llvm::sys::fs::remove_directories(folder); }

  std::string in(llvm::StringRef name) { return (folder + "/" + name).str(); }
  /// Names of all files in the folder.
  std::vector<std::string> files() {
    std::vector<std::string> names;
    std::error_code code;
    for (llvm::sys::fs::directory_iterator it(folder, code), end;
         it != end && !code; it.increment(code))
      names.push_back(llvm::sys::path::filename(it->path()).str());
    llvm::sort(names);
    return names;
  }
  /// Links the hand-written model `name` for `arch` to a shared object.
  std::string linkAdd(llvm::StringRef name, llvm::StringRef arch = "x86_64") {
    std::string path = in((name + "-" + arch + ".so").str());
    dlc::OutputSet outputs;
    dlc::LinkInputs inputs = addInputs(name, arch);
    if (llvm::Error error = dlc::writeSharedLibrary(outputs, inputs, path))
      ADD_FAILURE() << text(std::move(error));
    else if (llvm::Error error = outputs.commit())
      ADD_FAILURE() << text(std::move(error));
    return path;
  }
  dlc::LinkInputs addInputs(llvm::StringRef name,
                            llvm::StringRef arch = "x86_64") {
    dlc::LinkInputs inputs;
    inputs.triple = llvm::Triple(arch + "-unknown-linux-gnu");
    inputs.name = name.str();
    std::string path =
        (llvm::Twine(DLC_TEST_OBJECTS "/") + arch + "/" + name + ".o").str();
    auto buffer = llvm::MemoryBuffer::getFile(path);
    if (!buffer) {
      ADD_FAILURE() << path << ": " << buffer.getError().message();
      return inputs;
    }
    inputs.objects.push_back((*buffer)->getMemBufferRef());
    buffers.push_back(std::move(*buffer));
    llvm::Expected<std::string> archive =
        dlc::findRuntimeArchive(inputs.triple);
    if (archive)
      inputs.runtimeArchive = *archive;
    else
      ADD_FAILURE() << text(archive.takeError());
    return inputs;
  }

  llvm::SmallString<128> folder;
  std::vector<std::unique_ptr<llvm::MemoryBuffer>> buffers;
};

/// Runs a shell command; returns its exit status and what it printed.
inline std::pair<int, std::string> shell(const std::string &command) {
  std::string output;
  FILE *pipe = popen((command + " 2>&1").c_str(), "r");
  if (!pipe)
    return {-1, "popen failed"};
  char part[4096];
  while (size_t n = fread(part, 1, sizeof part, pipe))
    output.append(part, n);
  int status = pclose(pipe);
  return {status == -1 ? -1 : WEXITSTATUS(status), output};
}

} // namespace dlctest

#endif
