// Output files that appear all at once or not at all. Each product is written
// beside its final place under a temporary name; commit() flushes all of them
// to disk and renames them. Whatever was not committed is deleted, so that a
// failed compilation leaves no file behind and never damages an older one.
#ifndef DLC_ARTIFACT_OUTPUT_H
#define DLC_ARTIFACT_OUTPUT_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <string>
#include <vector>

namespace dlc {

class OutputSet {
public:
  OutputSet() = default;
  OutputSet(const OutputSet &) = delete;
  OutputSet &operator=(const OutputSet &) = delete;
  /// Deletes everything that was not committed.
  ~OutputSet();

  /// Makes an empty temporary file in the folder of `path` and returns its
  /// name, to be filled by the caller. Errors name `path`. `executable` asks
  /// for the permissions of a program.
  llvm::Expected<std::string> stage(llvm::StringRef path,
                                    bool executable = false);

  /// Stages `path` with these bytes.
  llvm::Error write(llvm::StringRef path, llvm::StringRef bytes);
  llvm::Error writeBytes(llvm::StringRef path, llvm::ArrayRef<char> bytes) {
    return write(path, llvm::StringRef(bytes.data(), bytes.size()));
  }

  /// Moves every staged file to its place. On an error all files, moved ones
  /// included, are deleted.
  llvm::Error commit();

private:
  struct File {
    std::string temporary;
    std::string path;
    bool moved = false;
  };
  void discard();

  std::vector<File> files;
};

/// An error whose text is "<path>: <what>: <the system's words>".
llvm::Error fileError(llvm::StringRef path, llvm::StringRef what,
                      std::error_code code);

} // namespace dlc

#endif // DLC_ARTIFACT_OUTPUT_H
