// The functions that rewritten kernel code calls, and their names for the JIT.
#ifndef DLC_LIB_EMULATOR_HOSTOPS_H
#define DLC_LIB_EMULATOR_HOSTOPS_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <cstdint>

namespace dlc::emu {

/// The special registers of a thread, as dlc_emu_special takes them.
enum class SpecialRegister : uint32_t {
  TidX,
  TidY,
  TidZ,
  NTidX,
  NTidY,
  NTidZ,
  CtaIdX,
  CtaIdY,
  CtaIdZ,
  NCtaIdX,
  NCtaIdY,
  NCtaIdZ,
  WarpSize,
  LaneId,
  WarpId,
  LaneMaskEq,
  LaneMaskLe,
  LaneMaskLt,
  LaneMaskGe,
  LaneMaskGt,
  DynamicSharedBytes,
  ActiveMask,
  Zero,
  One,
};

struct HostOp {
  llvm::StringRef name;
  void *address;
};

/// Every function kernel code may call by name.
llvm::ArrayRef<HostOp> hostOps();

} // namespace dlc::emu

#endif // DLC_LIB_EMULATOR_HOSTOPS_H
