// Machine code that carries the bitcode it was made from, so that a driver
// which has no GPU can run it on the emulator. A real driver does not look at
// what follows the end of an ELF file or of a text.
#ifndef DLC_EMULATOR_EMULATEDIMAGE_H
#define DLC_EMULATOR_EMULATEDIMAGE_H

#include "llvm/ADT/StringRef.h"

#include <string>

namespace dlc::emu {

/// `code`, a cubin or PTX text, with `bitcode` behind it.
std::string addBitcode(std::string code, llvm::StringRef bitcode);

/// What addBitcode put behind `code`, whose length only its own format tells;
/// empty: it carries none.
llvm::StringRef findBitcode(const char *code);

/// The architecture code is for, from its own header: capability times ten, and
/// whether no other runs it.
struct CodeTarget {
  bool isPtx = false;
  unsigned arch = 0;
  bool exact = false;
};
CodeTarget readTarget(const char *code);

} // namespace dlc::emu

#endif // DLC_EMULATOR_EMULATEDIMAGE_H
