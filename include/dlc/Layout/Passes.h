// The layout passes, as dlc-opt runs them.
#ifndef DLC_LAYOUT_PASSES_H
#define DLC_LAYOUT_PASSES_H

#include "mlir/Pass/Pass.h"

namespace dlc::layout {
#define GEN_PASS_DECL
#include "dlc/Layout/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "dlc/Layout/Passes.h.inc"
} // namespace dlc::layout

#endif // DLC_LAYOUT_PASSES_H
