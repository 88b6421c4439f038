// The schedule of a contraction as the knobs of a `schedule` attribute or of a
// database, and the space of those that can be emitted.
//
// Knobs: tile_rows, tile_vectors, unroll, prefetch; lhs, rhs (0 memory, 1
// indirect, 2 filled, 3 packed); task_row_tiles, task_column_steps,
// block_column_steps (0: all; a tile's rows and the wider of tile and panel are
// the units); depth_per_pass, rows_outside, dot. What fixes the layout of
// packed constants is no knob: tuning never repacks a model's weights. `tiles`
// (0 or 1), which chooses the form of a product of narrow numbers, is not
// searched.
#ifndef DLC_CODEGEN_CPU_CONTRACTIONKNOBS_H
#define DLC_CODEGEN_CPU_CONTRACTIONKNOBS_H

#include "dlc/Codegen/CPU/ContractionSchedule.h"
#include "dlc/Schedule/ScheduleSpace.h"

namespace dlc {

/// The form of the product: that of the default schedule, unless the knob
/// `tiles` says that narrow numbers are multiplied by matrix tiles (1) or in
/// vectors (0).
ProductForm chooseForm(const ContractionSpec &spec, const CpuTarget &target,
                       const CpuCodegenOptions &options,
                       std::optional<SizeRange> rows, const KnobValues &knobs);

KnobValues toKnobs(const ContractionSchedule &schedule);

/// `schedule`, the default one of `spec`, with the knobs that are given. Names
/// that are no knobs of a contraction are left to others. What the result
/// cannot be emitted for, isLegal says.
ContractionSchedule withKnobs(ContractionSchedule schedule,
                              const KnobValues &knobs,
                              const ContractionSpec &spec,
                              const CpuTarget &target);

/// The space of a contraction. `spec` must outlive it. `symbols` are the sizes
/// that it is made for, where some are symbolic, and `range` the rows that the
/// code is for (a variant's).
ScheduleSpace contractionSpace(const ContractionSpec &spec,
                               const CpuTarget &target,
                               const CpuCodegenOptions &options,
                               llvm::ArrayRef<int64_t> symbols = {},
                               std::optional<SizeRange> range = {});

} // namespace dlc

#endif // DLC_CODEGEN_CPU_CONTRACTIONKNOBS_H
