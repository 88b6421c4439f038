// How often each branch of a module goes either way, without its data.
#ifndef DLC_LIB_TARGET_COMMON_BRANCHCOUNTS_H
#define DLC_LIB_TARGET_COMMON_BRANCHCOUNTS_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

namespace llvm {
class Module;
}

namespace dlc {

/// Gives the conditional branches of `module` the weights that they have when
/// `symbol`, a task (buffers, task, worker), is called for each of `tasks`:
/// the module's integer arithmetic runs on this machine, whatever the module's
/// target is. What is loaded and what is no integer counts as 0: right for
/// branches that sizes decide.
llvm::Error weighBranches(llvm::Module &module, llvm::StringRef symbol,
                          llvm::ArrayRef<int64_t> tasks);

} // namespace dlc

#endif // DLC_LIB_TARGET_COMMON_BRANCHCOUNTS_H
