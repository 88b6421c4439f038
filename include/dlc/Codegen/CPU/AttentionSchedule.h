// How an attention kernel is carried out: register tiles, blocks of queries and
// of keys, and how the work is cut into tasks. Plain numbers that stand in the
// kernel's schedule dictionary, so that a tuner can search them.
#ifndef DLC_CODEGEN_CPU_ATTENTIONSCHEDULE_H
#define DLC_CODEGEN_CPU_ATTENTIONSCHEDULE_H

#include "dlc/Codegen/CPU/CpuKernel.h"
#include "dlc/Schedule/AttentionSpec.h"
#include "dlc/Schedule/Schedule.h"
#include "dlc/Schedule/SizeRange.h"
#include "dlc/Target/Common/CpuTarget.h"

namespace dlc {

struct AttentionSchedule {
  unsigned lanes = 16; ///< f32 elements of a vector
  unsigned vectors =
      2; ///< of queries, side by side: a block has this many rows
  unsigned keyTile = 12;     ///< keys of a register tile of scores
  unsigned columnTile = 14;  ///< columns of a register tile of the result
  unsigned unroll = 4;       ///< steps of a tile's inner loop
  int64_t rowsPerTask = 0;   ///< of the last row axis, whole blocks; 0: all
  int64_t keysPerBlock = 0;  ///< scored before they are summed; 0: all keys
  bool copiesKeys = false;   ///< a block of keys is copied into scratch first
  bool copiesValues = false; ///< the same for values
  bool prefetchesValues = false; ///< those that are not copied
  /// Few queries: lanes run over the inner axis and the columns instead of over
  /// queries, so that each key and value is read once as it lies.
  bool few = false;
  unsigned rowTile = 4; ///< `few`: rows that share what is read of a key
  /// `few`: a task takes this many keys, and a second phase puts the parts of a
  /// row together; 0: all keys.
  int64_t keysPerTask = 0;
  /// Not `few`: both products by matrix tiles of bf16 numbers (AMX). Keys and
  /// values are copied then; keyTile, columnTile and unroll do not count.
  bool tiles = false;
  /// Not `few`: both products of pairs of bf16 numbers (vdpbf16ps), which
  /// queries, keys, values and rounded weights are. Keys and values are copied.
  bool pairs = false;

  /// Factors lie in scratch as bf16 numbers, two in an f32 element.
  bool packsPairs() const { return tiles || pairs; }
  unsigned blockRows() const { return vectors * lanes; }
  /// The entries of the schedule dictionary.
  Schedule toSchedule() const;
  /// Stable text, for reports and logs.
  std::string str() const;
};

/// The rule, from sizes and the target's description. `rows` is what is known
/// of the last row axis, the queries, where it is symbolic.
AttentionSchedule defaultSchedule(const AttentionSpec &spec,
                                  const CpuTarget &target,
                                  std::optional<SizeRange> rows = std::nullopt);

/// `schedule` with the knobs of the kernel's dictionary. Fails, in words, on a
/// knob that has no such value.
mlir::FailureOr<AttentionSchedule> withKnobs(AttentionSchedule schedule,
                                             graph::KernelOp kernel,
                                             std::string &reason);

/// Whether `schedule` can be emitted for `spec`; `reason` says why not.
bool isLegal(const AttentionSchedule &schedule, const AttentionSpec &spec,
             const CpuTarget &target, std::string &reason);

} // namespace dlc

#endif // DLC_CODEGEN_CPU_ATTENTIONSCHEDULE_H
