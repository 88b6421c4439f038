// Passes that make and improve the host program.
#ifndef DLC_PROGRAM_PASSES_H
#define DLC_PROGRAM_PASSES_H

#include "dlc/Dialect/Program/IR/Program.h"

#include "mlir/Pass/Pass.h"

namespace dlc::program {
#define GEN_PASS_DECL
#include "dlc/Program/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "dlc/Program/Passes.h.inc"
} // namespace dlc::program

#endif // DLC_PROGRAM_PASSES_H
