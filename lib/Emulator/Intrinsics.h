// Replacement of one call of an NVPTX intrinsic by host code.
#ifndef DLC_LIB_EMULATOR_INTRINSICS_H
#define DLC_LIB_EMULATOR_INTRINSICS_H

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/Instructions.h"
#include "llvm/Support/Error.h"

namespace dlc::emu {

/// Gives an instruction a number whose text appears in reports.
using SiteOf = llvm::function_ref<uint32_t(const llvm::Instruction &)>;

/// Calls a host operation by name, declaring it on first use.
llvm::CallInst *callHost(llvm::IRBuilder<> &builder, llvm::StringRef name,
                         llvm::Type *result,
                         llvm::ArrayRef<llvm::Value *> arguments);

/// Replaces `call`, a call of an `llvm.nvvm.*` intrinsic, and erases it. Fails
/// by name when the intrinsic is not emulated.
llvm::Error lowerIntrinsic(llvm::CallInst &call, SiteOf siteOf);

} // namespace dlc::emu

#endif // DLC_LIB_EMULATOR_INTRINSICS_H
