// The two kinds of small ELF files that the artifact writer makes itself: an
// object that holds weights, and an empty shared object that stands for a
// system library at link time. Private to lib/Artifact.
#ifndef DLC_LIB_ARTIFACT_ELFFILE_H
#define DLC_LIB_ARTIFACT_ELFFILE_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/BinaryFormat/ELF.h"
#include "llvm/TargetParser/Triple.h"

#include <string>

namespace dlc {

/// An ELF string table under construction.
class ElfStrings {
public:
  ElfStrings() : text(1, '\0') {}
  uint32_t add(llvm::StringRef name);
  const std::string &bytes() const { return text; }

private:
  std::string text;
};

/// A file header for 64-bit little-endian `triple` without segments.
llvm::ELF::Elf64_Ehdr makeElfHeader(const llvm::Triple &triple, uint16_t type,
                                    uint64_t sectionHeaders,
                                    uint16_t numSections,
                                    uint16_t stringSection);

/// A shared object with this name that defines these functions, good only to
/// link against.
std::string makeStubLibrary(const llvm::Triple &triple, llvm::StringRef soname,
                            llvm::ArrayRef<llvm::StringRef> functions);

} // namespace dlc

#endif // DLC_LIB_ARTIFACT_ELFFILE_H
