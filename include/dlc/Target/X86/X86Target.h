// The x86-64 family: which description a target string means, and what the
// machine we run on offers.
#ifndef DLC_TARGET_X86_X86TARGET_H
#define DLC_TARGET_X86_X86TARGET_H

#include "dlc/Target/Common/TargetDesc.h"

namespace dlc {

/// The built-in x86 descriptions.
llvm::Expected<std::vector<TargetDesc>> x86Descriptions();

/// Resolves `x86[:cpu=][:features=][:threads=][:device=]`. Bare x86 means the
/// machine we run on when it is x86-64, else the portable x86-64-v3.
llvm::Expected<TargetDesc> resolveX86(const TargetSpec &spec);

} // namespace dlc

#endif // DLC_TARGET_X86_X86TARGET_H
