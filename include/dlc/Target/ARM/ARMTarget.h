// The AArch64 family: which description a target string means.
#ifndef DLC_TARGET_ARM_ARMTARGET_H
#define DLC_TARGET_ARM_ARMTARGET_H

#include "dlc/Target/Common/TargetDesc.h"

namespace dlc {

/// The built-in AArch64 descriptions.
llvm::Expected<std::vector<TargetDesc>> armDescriptions();

/// Resolves `arm[:cpu=][:features=][:threads=][:device=]`. Bare arm means the
/// machine we run on when it is AArch64, else generic armv8-a with NEON.
llvm::Expected<TargetDesc> resolveArm(const TargetSpec &spec);

} // namespace dlc

#endif // DLC_TARGET_ARM_ARMTARGET_H
