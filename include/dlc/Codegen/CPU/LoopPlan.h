// How one stage is run: along which axis the vector lanes lie, how many vectors
// are computed at a time, and what an element costs.
#ifndef DLC_CODEGEN_CPU_LOOPPLAN_H
#define DLC_CODEGEN_CPU_LOOPPLAN_H

#include "dlc/Codegen/CPU/LoopExpr.h"
#include "dlc/Codegen/CPU/LoopNest.h"

namespace dlc {

struct LoopPlan {
  /// The innermost loop: the last domain axis; -1 when there is none, or when
  /// lanes lie along a fold (then it is a loop like the others).
  int laneDim = -1;
  int rowAxis = -1; ///< the fold axis with the lanes
  /// The axis of a scan (LoopExpr::Scan), which is one pass; without laneDim it
  /// has the lanes. -1: none.
  int scanDim = -1;
  /// The axis along which some operand is dense that is not along laneDim: the
  /// two are run in square tiles.
  int tileDim = -1;
  /// The remainder of a split innermost axis: its elements are computed side by
  /// side and interleaved when they are stored. -1: none.
  int interleaveDim = -1;
  /// The other remainders: loops that are written out.
  llvm::SmallVector<unsigned, 2> unrolled;
  unsigned width = 1;  ///< lanes
  unsigned groups = 1; ///< vectors at a time along laneDim
  unsigned rowGroups = 1;
  /// A register tile of a fold: `acrossCount` points along the axis `acrossDim`
  /// are computed at once, with lanes along laneDim. Weights are loaded once
  /// for them, and so is what their windows share. -1: none.
  int acrossDim = -1;
  unsigned acrossCount = 1;
  /// Where all guards that depend on acrossDim hold.
  int64_t insideBegin = 0, insideEnd = 0;
  /// Steps of the fold that are written out, where guards ask for more of them.
  unsigned unrollLimit = 16;
  /// Scalar operations for one element of the result, over the kernel's
  /// symbols.
  mlir::AffineExpr elementCost;

  /// Axes that no task is cut along in the middle of a tile or vector.
  bool isInner(unsigned dim) const {
    return int(dim) == laneDim || int(dim) == tileDim || int(dim) == scanDim ||
           int(dim) == acrossDim || int(dim) == interleaveDim ||
           llvm::is_contained(unrolled, dim);
  }

  static LoopPlan get(const LoopExpr &expr, const CpuTarget &target,
                      bool strict, const LoopSchedule &schedule);

private:
  /// Chooses acrossDim and acrossCount, where `width` lanes are so many
  /// registers; LoopAcross.cpp.
  void planAcross(const LoopExpr &expr, const CpuTarget &target,
                  const LoopSchedule &schedule, int64_t registers);
};

} // namespace dlc

#endif // DLC_CODEGEN_CPU_LOOPPLAN_H
