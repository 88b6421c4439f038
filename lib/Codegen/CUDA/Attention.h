// Attention as one launch: a block takes some rows of one outer point against
// the keys, block of keys by block, with the running maximum and sum of each
// row, and stores no score (Schedule/AttentionSpec.h).
//
// Queries and the heads that share their keys are walked as one: row =
// position * heads + head, so that a block's positions lie next to each other
// and a decoder's single query fills a tile with its heads.
//
// Where the model rounds weights, a weight needs the row's whole sum: the keys
// are passed over twice, for maximum and sum first. Under the law
// round(softmax) weights are rounded relative to the maximum so far instead,
// and one pass does. Where rows are too few to
// fill the device, blocks take a part of the keys each, and one more launch
// adds the parts of a row, in order.
#ifndef DLC_LIB_CODEGEN_CUDA_ATTENTION_H
#define DLC_LIB_CODEGEN_CUDA_ATTENTION_H

#include "dlc/Codegen/CUDA/CudaKernel.h"
#include "dlc/Schedule/AttentionSpec.h"
#include "dlc/Schedule/ScheduleSpace.h"

#include <optional>

namespace dlc {

struct AttentionPlan {
  AttentionSpec spec;
  /// Rows, keys of a step and columns of a block, its threads, and the inner
  /// axes' extent as far as products are padded to.
  int64_t rows = 0, keys = 0, columns = 0, inner = 0;
  unsigned threads = 0;
  /// Which products: of warpgroups (wgmma) where the device has them. Then a
  /// block has dynamic shared memory.
  bool hasWarpGroups = false, usesWarpGroups = false;
  unsigned sharedBytes = 0;
  /// Sums are waited for when weights are made, not before.
  bool gatesWaits = true;
  /// f16 or bf16 where queries, keys, values and weights all are of that type:
  /// tensor cores take these scalars. Null: they do not.
  mlir::Type narrow;
  mlir::Value narrowQuery, narrowKey, narrowValue;
  /// Keys of a part; 0: a block takes all of them.
  int64_t keysPerPart = 0;
  /// Few rows (AttentionDecode.cpp): all warps have them, each its own keys.
  /// Warps; lanes along the inner axes on plain units. 0: another tile.
  int64_t keyWarps = 0, innerLanes = 0;

  /// A first pass over the keys leaves scores for the second one, where they
  /// are less to read than keys.
  bool keepsScores() const;
  /// Keys, padded to whole steps.
  mlir::AffineExpr paddedKeys() const;
  /// Weights are rounded before they are multiplied: the sum comes first.
  bool rounds() const { return static_cast<bool>(spec.weightRounding); }
  /// Axes that a block's rows may differ in.
  llvm::SmallVector<unsigned> rowAxes() const;
  mlir::AffineExpr allRows() const;   ///< of one outer point
  mlir::AffineExpr rowTiles() const;  ///< blocks along them
  mlir::AffineExpr parts() const;     ///< of the keys
  mlir::AffineExpr allPoints() const; ///< outer points times rows
  int64_t allColumns() const;
  int64_t columnTiles() const;
};

/// The kernel as an attention that fits a block's registers and shared memory;
/// nothing otherwise. A property of the kernel alone.
std::optional<AttentionPlan> planAttention(graph::KernelOp kernel,
                                           const CudaCodegenOptions &options);

/// The plan for devices without wgmma, with the same grid and blocks.
AttentionPlan portableForm(const AttentionPlan &plan);

/// The knobs of an attention: what was planned, what they may be, and the same
/// plan with other values; fails in words where these do not fit. Values of 0
/// are the rule's.
KnobValues toKnobs(const AttentionPlan &plan);
std::vector<ScheduleSpace::Knob> attentionKnobs(const AttentionPlan &plan);
bool applyKnobs(AttentionPlan &plan, const KnobValues &knobs,
                std::string &reason);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CUDA_ATTENTION_H
