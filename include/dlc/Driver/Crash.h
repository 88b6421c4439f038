// What happens when the compiler itself is at fault.
#ifndef DLC_DRIVER_CRASH_H
#define DLC_DRIVER_CRASH_H

#include "llvm/ADT/StringRef.h"

namespace dlc {

/// From now on a crash (a signal, an abort, a fatal error inside LLVM) prints
/// "internal error", the stage, and the command that replays it on standard
/// error, and ends the process with code 70.
void installCrashHandler(int argc, const char *const *argv);

/// The stage to name; `name` must outlive it (a literal).
void setCrashStage(const char *name);

} // namespace dlc

#endif // DLC_DRIVER_CRASH_H
