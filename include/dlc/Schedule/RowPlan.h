// How the loop nests carry out a kernel of several stages: which stages are
// computed where they are used, which are kept in a buffer, and what a row is.
// A pure function of the kernel, so that fusion can ask what its kernels cost.
#ifndef DLC_SCHEDULE_ROWPLAN_H
#define DLC_SCHEDULE_ROWPLAN_H

#include "dlc/Dialect/Graph/IR/Graph.h"

namespace dlc {

/// Bytes of a row that stay in the cache: half of a small second level.
inline constexpr int64_t kNearBytes = 512 << 10;
/// In a longer row a stage of up to this weight is computed again where it is
/// read, from operands that are read again too, instead of being kept.
inline constexpr int64_t kFarWeight = 40;
/// A stand-in for symbolic sizes.
inline constexpr int64_t kTypicalSize = 256;

/// The cost of a scalar function on a vector, in additions.
int64_t scalarWeight(graph::ScalarFn fn);

struct RowPlan {
  enum Mode {
    /// Nothing is kept: the results are computed independently of each other.
    Independent,
    /// All stages in one phase, one row at a time: kept stages hold one row.
    Rows,
    /// Too few rows for that: a phase a stage, kept stages are whole tensors.
    Phases,
  };
  Mode mode = Independent;
  /// Intermediate stages that lie in a buffer; the others are read into their
  /// users.
  llvm::SmallVector<graph::StageOp> kept;
  /// Leading axes that all stages share, along which a stage reads only its own
  /// row of the stages before it.
  unsigned rowRank = 0;
  mlir::AffineExpr rows;     ///< how many rows
  mlir::AffineExpr rowBytes; ///< of the kept stages: one row (Phases: all)

  bool isKept(graph::StageOp stage) const {
    return llvm::is_contained(kept, stage);
  }
};

RowPlan planRows(graph::KernelOp kernel);

} // namespace dlc

#endif // DLC_SCHEDULE_ROWPLAN_H
