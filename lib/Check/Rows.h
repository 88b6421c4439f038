// Row buffers and memory: which part of a tensor each stage of a fused kernel
// reads.
#ifndef DLC_LIB_CHECK_ROWS_H
#define DLC_LIB_CHECK_ROWS_H

#include "Inline.h"
#include "Prove.h"
#include "dlc/Check/Fusion.h"

#include <set>

namespace dlc::check {

struct RowsVerdict {
  std::optional<Refusal> refusal;
  bool readsStages = false;
};

/// What the original program does and so is taken to be in bounds: it reads
/// there too.
struct KnownReads {
  /// Loads of the kernel's operands, in the coordinates of their stage.
  std::set<std::vector<uint64_t>> loads;
  /// Sizes fit: `holds` >= 0 wherever a stage with these extents has a point.
  struct Fact {
    llvm::SmallVector<PolyId> extents;
    PolyId holds;
  };
  std::vector<Fact> facts;
};
void collectReads(graph::KernelOp kernel, uint32_t environment,
                  Inliner &inliner, IndexArena &index, KnownReads &reads);

/// C-BOUNDS: every load of the kernel lies in its tensor wherever its own guard
/// holds, for a choice made afterwards does not stop it. C-ROW: with `rows`
/// leading axes, which all stages have, they read one another at the row they
/// compute.
RowsVerdict checkRows(graph::KernelOp kernel, unsigned rows,
                      uint32_t environment, Inliner &inliner, IndexArena &index,
                      Prover &prover,
                      llvm::function_ref<const KnownReads &()> knownReads);

} // namespace dlc::check

#endif // DLC_LIB_CHECK_ROWS_H
