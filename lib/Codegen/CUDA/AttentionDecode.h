// The tile of attention for few rows, as in a decoder's step: what limits it is
// reading keys and values once.
//
// All warps of a block have all of its rows, each warp with keys of its own.
// Keys and values come straight to registers, in accesses of 16 bytes, as the
// products take them: nothing is shared until the end, when the warps' sums are
// added up in order.
#ifndef DLC_LIB_CODEGEN_CUDA_ATTENTIONDECODE_H
#define DLC_LIB_CODEGEN_CUDA_ATTENTIONDECODE_H

#include "AttentionTile.h"

namespace dlc {

/// Sets the tile: so many warps, keys of a warp's step and lanes along the
/// inner axes, or (0) what the rules choose. False where rows are many, or do
/// not fit.
bool fitDecodeTile(AttentionPlan &plan, int64_t warps = 0, int64_t keys = 0,
                   int64_t lanes = 0);

std::unique_ptr<AttentionTile> makeDecodeTile(LaunchBuilder &launch,
                                              const AttentionPlan &plan);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_ATTENTIONDECODE_H
