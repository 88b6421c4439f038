// The interpreter's mode math=dlc: the elementary functions that code
// generation emits, compiled for this machine and called by the interpreter.
#ifndef DLC_DRIVER_DLCMATH_H
#define DLC_DRIVER_DLCMATH_H

#include "dlc/Target/Common/CpuTarget.h"

namespace dlc {

/// Compiles, once a process, the functions that code for `target` contains and
/// registers them as the interpreter's mode `dlc`. The target need not be this
/// machine: only its rounding matters (whether it has fused multiply-add).
/// Later calls for a target that rounds differently replace the registration.
llvm::Error enableDlcMath(const CpuTarget &target);

} // namespace dlc

#endif // DLC_DRIVER_DLCMATH_H
