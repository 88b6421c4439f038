// Writes weights piece by piece, so that a model of any size passes through the
// compiler without being in memory at once, and counts their checksum on the
// way. They become either a `.weights` file, which the runtime maps, or an
// object file with one symbol, which is linked into the artifact.
#ifndef DLC_ARTIFACT_WEIGHTS_H
#define DLC_ARTIFACT_WEIGHTS_H

#include "dlc/Artifact/Output.h"

#include "llvm/Support/raw_ostream.h"
#include "llvm/TargetParser/Triple.h"

#include <memory>

namespace dlc {

class WeightsWriter {
public:
  struct Summary {
    int64_t size;
    uint64_t checksum;
  };

  /// A `.weights` file staged in `outputs`.
  static llvm::Expected<std::unique_ptr<WeightsWriter>>
  createFile(OutputSet &outputs, llvm::StringRef path);

  /// A relocatable ELF object at `path` that defines `symbol` (hidden, in
  /// read-only data). `path` is overwritten in place: a temporary file of the
  /// caller, or a name staged in an OutputSet.
  static llvm::Expected<std::unique_ptr<WeightsWriter>>
  createObject(const llvm::Triple &triple, llvm::StringRef path,
               llvm::StringRef symbol);

  virtual ~WeightsWriter() = default;

  /// Bytes written so far; the offset of what comes next.
  uint64_t offset() const { return size; }

  void append(llvm::ArrayRef<char> bytes);

  /// Zeros up to a multiple of `alignment` (a power of two).
  void alignTo(uint64_t alignment);

  /// Completes the file. An error of any write before comes out here.
  llvm::Expected<Summary> finish();

protected:
  WeightsWriter(std::string path, int fd)
      : path(std::move(path)), stream(fd, /*shouldClose=*/true) {}

  /// Writes what follows the data and fills in the head of the file.
  virtual void complete(uint64_t checksum) = 0;

  std::string path;
  llvm::raw_fd_ostream stream;
  uint64_t size = 0;

private:
  void hashPending();

  std::vector<char> pending; // less than one piece of the checksum
  uint64_t checksum = 0;
};

} // namespace dlc

#endif // DLC_ARTIFACT_WEIGHTS_H
