// How a phase of the loop nests is cut into tasks: runs of rows, and pieces of
// a long innermost axis.
#ifndef DLC_LIB_CODEGEN_CPU_LOOPTASKS_H
#define DLC_LIB_CODEGEN_CPU_LOOPTASKS_H

#include "LoopUnits.h"

namespace dlc {

/// The tasks of one phase; numbers are over the kernel's symbols.
struct LoopTasks {
  bool isSingle = false; ///< one unit without rows
  /// The axes that tasks run over, outermost first: the rows.
  llvm::SmallVector<unsigned> outer;
  llvm::SmallVector<mlir::AffineExpr> outerExtents;
  mlir::AffineExpr numRows, rowCost, rowsPerTask, rowTasks;
  /// Pieces are of the axis `pieceDim`, if there are any.
  bool hasPieces = false;
  int pieceDim = -1;
  mlir::AffineExpr piece, pieceTasks;
  /// Lanes of a row that are computed for all rows of a task before the next
  /// ones are; 0: a row at a time.
  int64_t lanesAtOnce = 0;

  mlir::AffineExpr numTasks() const {
    return graph::simplify(rowTasks * pieceTasks);
  }

  static LoopTasks get(llvm::ArrayRef<LoopUnit> units, const RowPlan &rows,
                       const CpuTarget &target, const LoopSchedule &schedule,
                       mlir::MLIRContext *context);
};

/// The phases of a kernel: its units, and whether they are one phase that
/// computes row by row.
struct LoopPhases {
  std::vector<LoopUnit> units;
  bool isByRows = false;

  /// `rows` becomes the plan that the units are of; `buffers` refers to it.
  static LoopPhases get(const LoopBuffers &buffers, RowPlan &rows,
                        const CpuTarget &target, bool strict,
                        const LoopSchedule &schedule);
};

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CPU_LOOPTASKS_H
