// What the command lines of dlc's programs share.
#ifndef DLC_DRIVER_COMMANDLINE_H
#define DLC_DRIVER_COMMANDLINE_H

#include "dlc/Driver/Diagnostics.h"

namespace llvm::opt {
class InputArgList;
class OptTable;
} // namespace llvm::opt

namespace dlc {

/// A mistake in the command line (exit code 2).
llvm::Error usage(const llvm::Twine &text);

/// The first argument that `table` parsed as `unknown` (its OPT_UNKNOWN) is an
/// error; the message names the nearest flag when one is near.
llvm::Error checkSpelling(const llvm::opt::OptTable &table,
                          const llvm::opt::InputArgList &args,
                          unsigned unknown);

} // namespace dlc

#endif // DLC_DRIVER_COMMANDLINE_H
