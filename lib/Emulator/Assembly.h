// Inline assembly that the emulator knows: wgmma, whose products LLVM has no
// intrinsic for, and its waits with the sums tied to them.
#ifndef DLC_LIB_EMULATOR_ASSEMBLY_H
#define DLC_LIB_EMULATOR_ASSEMBLY_H

#include "Intrinsics.h"

#include "llvm/IR/Function.h"

namespace dlc::emu {

/// Marks an instruction whose accesses are the emulator's own.
void markOwn(llvm::Instruction &instruction);
bool isOwn(const llvm::Instruction &instruction);

/// Replaces `call`, a call of inline assembly, and erases it. Fails with the
/// assembly's text when it is not known.
llvm::Error lowerAssembly(llvm::CallInst &call, SiteOf siteOf);

/// Fails where the sums of a wgmma are used with no wait between, in a function
/// whose waits take the sums and give them back.
llvm::Error checkSums(const llvm::Function &function);

} // namespace dlc::emu

#endif // DLC_LIB_EMULATOR_ASSEMBLY_H
