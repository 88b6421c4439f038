// The schedule of an attention as the knobs of a database, and the space of
// those that can be emitted. The knobs are AttentionSchedule's (vectors,
// key_tile, column_tile, unroll, rows_per_task, block_n, copy_keys,
// copy_values, prefetch_values, few, row_tile, split_kv); `few`, and the knobs
// of the form that is not taken, keep their defaults.
#ifndef DLC_CODEGEN_CPU_ATTENTIONKNOBS_H
#define DLC_CODEGEN_CPU_ATTENTIONKNOBS_H

#include "dlc/Codegen/CPU/AttentionSchedule.h"
#include "dlc/Schedule/ScheduleSpace.h"

namespace dlc {

KnobValues toKnobs(const AttentionSchedule &schedule);

/// `schedule` with the knobs that are given; names that are no knobs of an
/// attention are left to others. What cannot be emitted, isLegal says.
AttentionSchedule withKnobs(AttentionSchedule schedule,
                            const KnobValues &knobs);

/// The space of an attention. `spec` must outlive it. `symbols` are the sizes
/// that it is made for, where some are symbolic, and `range` the queries that
/// the code is for (a variant's).
ScheduleSpace attentionSpace(const AttentionSpec &spec, const CpuTarget &target,
                             llvm::ArrayRef<int64_t> symbols = {},
                             std::optional<SizeRange> range = {});

} // namespace dlc

#endif // DLC_CODEGEN_CPU_ATTENTIONKNOBS_H
