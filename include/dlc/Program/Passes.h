// Passes that make and improve the host program.
#ifndef DLC_PROGRAM_PASSES_H
#define DLC_PROGRAM_PASSES_H

#include "dlc/Dialect/Program/IR/Program.h"

#include "mlir/Pass/Pass.h"

namespace dlc {

/// On a graph.kernel: other kernels that are called in its place where a size
/// is small. A dictionary: `size`, a map of the kernel's symbols; `limits`, the
/// largest size of each other kernel, ascending; `kernels`, their names.
constexpr llvm::StringLiteral kDispatchAttr = "graph.dispatch";

} // namespace dlc

namespace dlc::program {
#define GEN_PASS_DECL
#include "dlc/Program/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "dlc/Program/Passes.h.inc"
} // namespace dlc::program

#endif // DLC_PROGRAM_PASSES_H
