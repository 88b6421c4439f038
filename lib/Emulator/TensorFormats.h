// The element types of tensor core operands, as registers and rows of shared
// memory hold them.
#ifndef DLC_LIB_EMULATOR_TENSORFORMATS_H
#define DLC_LIB_EMULATOR_TENSORFORMATS_H

#include "Block.h"

namespace dlc::emu {

/// How registers hold elements.
struct ElementFormat {
  unsigned perRegister; ///< elements of a register
  unsigned depth;       ///< of the product: 32 bytes, of mma.sync and of wgmma
  bool isInteger = false;
};

ElementFormat formatOf(MmaType type);

/// Element `i` of a register, counted from its low bits up.
float floatElement(uint32_t bits, unsigned i, MmaType type);
float integerElement(uint32_t bits, unsigned i, bool isSigned);

} // namespace dlc::emu

#endif // DLC_LIB_EMULATOR_TENSORFORMATS_H
