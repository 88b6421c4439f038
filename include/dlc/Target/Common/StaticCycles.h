// How long machine code takes by what LLVM's scheduling models say of a CPU:
// no code runs, so it works for CPUs that this machine is not.
#ifndef DLC_TARGET_COMMON_STATICCYCLES_H
#define DLC_TARGET_COMMON_STATICCYCLES_H

#include "dlc/Target/Common/CpuTarget.h"

#include "llvm/ADT/StringRef.h"

namespace dlc {

/// Cycles of a task of the phase `symbol` (buffers, task, worker) of `module`,
/// compiled for `target` (which changes the module): the mean of up to four of
/// `tasks`. Of each block of machine code the most of three bounds counts:
/// instructions issued, the busiest unit, and, of a loop of one block, the
/// latency of what an iteration hands the next; blocks count as often as they
/// run, as far as sizes decide. Spills are seen, caches and branch predictors
/// are not: all data is in the L1.
/// Errors when the CPU has no scheduling model or `symbol` is no task.
llvm::Expected<double> estimateCycles(const CpuTarget &target,
                                      llvm::Module &module,
                                      llvm::StringRef symbol, int64_t tasks);

} // namespace dlc

#endif // DLC_TARGET_COMMON_STATICCYCLES_H
