// Schedules of CUDA kernels as points of a space: what the rules choose for a
// kernel's launches, as numbers, and which others code generation takes. The
// emitter reads them from the kernel's `schedule` attribute; a knob that is
// absent, or 0, is the rules'.
//
// clang-format off
//   tile_rows, tile_columns        a block's elements of a product; of an
//                                  attention rows, and tile_keys keys of a step
//   thread_rows, thread_columns    sums of a thread (plain f32)
//   instruction_rows               of tensor cores: 16 (mma.sync), 64 (wgmma)
//   warps, warp_columns            of a block, and along its columns (tensor cores)
//   panel_steps, panel_bytes       of the fold between two barriers
//   stages                         panels in shared memory at a time
//   parts                          of the fold (of the keys), added up by a launch
//   key_warps, inner_lanes         of an attention with few rows: warps that
//                                  share them, lanes that share a key
//   gated_waits                    of an attention by wgmma: 1 (no), 2 (yes)
//   row_threads, block_rows        of a row; rows of a block
//   fold_threads, slice_warps      of a block that folds along, or across, what
//                                  is contiguous
//   fold_columns, fold_steps       elements and steps of a thread at a time
//   fold_lanes                     threads next to each other that fold
//                                  different elements
//   fold_parts                     blocks for one element
//   turn_side                      of a tile that is read along the other axis
//   point_threads, point_elements  of a block; elements of a thread
// clang-format on
#ifndef DLC_CODEGEN_CUDA_CUDAKNOBS_H
#define DLC_CODEGEN_CUDA_CUDAKNOBS_H

#include "dlc/Codegen/CUDA/CudaKernel.h"
#include "dlc/Schedule/ScheduleSpace.h"

namespace dlc {

/// The space of `kernel`: knobs, the rules' point, and the predicate, which
/// looks at registers, shared memory, threads and instruction shapes before
/// code is made. It refers to `kernel`, which must live as long. Opaque kernels
/// and those with nothing to choose have no knobs.
ScheduleSpace cudaScheduleSpace(graph::KernelOp kernel,
                                const CudaCodegenOptions &options);

/// What a kernel's dearest launch computes, for cost models; sizes are static.
struct CudaShape {
  std::string nest;
  /// Of a product: batch, rows, columns, steps. Of an attention: outer points,
  /// rows with the heads that share keys, columns of values, elements of a
  /// query; and keys.
  int64_t outer = 1, rows = 1, columns = 1, depth = 1, keys = 1;
  bool usesTensorCores = false;
  int64_t factorBytes = 4;
  /// Of the factors on their way to shared memory: 0 by registers, 1 by words,
  /// 2 in chunks of 16 bytes.
  int64_t leftCopy = 2, rightCopy = 2;
  bool rounds = false; ///< an attention that passes over the keys twice
  int64_t cuts = 0;    ///< masks by position
  /// Of the largest stage: elements, steps of a fold, elements of a row.
  int64_t points = 1, folded = 1, rowElements = 1;
  int64_t launches = 1; ///< without those that add up parts
};
CudaShape cudaShapeOf(graph::KernelOp kernel,
                      const CudaCodegenOptions &options);

} // namespace dlc

#endif // DLC_CODEGEN_CUDA_CUDAKNOBS_H
