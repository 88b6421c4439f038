// The fusion passes, as dlc-opt runs them.
#ifndef DLC_FUSION_PASSES_H
#define DLC_FUSION_PASSES_H

#include "mlir/Pass/Pass.h"

namespace dlc::fusion {
#define GEN_PASS_DECL
#include "dlc/Fusion/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "dlc/Fusion/Passes.h.inc"
} // namespace dlc::fusion

#endif // DLC_FUSION_PASSES_H
