// What a loop schedule comes to, before any code is made: where lanes lie, how
// many vectors and points are computed at a time, how the work is cut into
// tasks. Schedules of equal outlines are the same code.
#ifndef DLC_CODEGEN_CPU_LOOPOUTLINE_H
#define DLC_CODEGEN_CPU_LOOPOUTLINE_H

#include "dlc/Codegen/CPU/LoopNest.h"

#include <tuple>
#include <vector>

namespace dlc {

/// One loop of a kernel: some stages that are computed together.
struct LoopOutline {
  enum Lanes {
    None,       ///< one element at a time
    Results,    ///< along results
    Folded,     ///< along a fold
    Tiled,      ///< square tiles of two axes of results
    Interleaved ///< along results, of which neighbours are side by side
  };
  Lanes lanes = None;
  int64_t laneExtent = 1;        ///< of the axis with the lanes
  int64_t width = 1, groups = 1; ///< lanes, vectors at a time
  /// A register tile: so many points along another axis, of that extent, where
  /// all guards hold from `tileBegin` to `tileEnd`; so many steps of the fold
  /// are written out for each.
  int64_t across = 1, tileExtent = 0, tileBegin = 0, tileEnd = 0, steps = 0;
  int64_t elementCost = 1; ///< scalar operations of an element
  double work = 0;         ///< of all
  /// Of its phase: rows, what one costs, rows of a task; the axis of which a
  /// task may take a piece, what an element of it costs, and the piece.
  int64_t rows = 1, rowCost = 1, rowsPerTask = 1;
  int64_t pieceExtent = 1, pieceCost = 1, piece = 1;

  int64_t tasks() const {
    return (rows + rowsPerTask - 1) / rowsPerTask *
           ((pieceExtent + piece - 1) / piece);
  }
  /// What decides about the code.
  auto key() const {
    return std::tuple(lanes, laneExtent, width, groups, across, tileExtent,
                      steps, rowsPerTask, piece);
  }
};

/// The loops of a kernel in the order in which they run; numbers are those at
/// `symbols`, the values of its symbols.
using KernelOutline = std::vector<LoopOutline>;
KernelOutline outlineLoops(graph::KernelOp kernel, const CpuTarget &target,
                           bool strict, const LoopSchedule &schedule,
                           llvm::ArrayRef<int64_t> symbols = {});
/// The same under each of `grains` in place of the schedule's.
std::vector<KernelOutline> outlineLoops(graph::KernelOp kernel,
                                        const CpuTarget &target, bool strict,
                                        const LoopSchedule &schedule,
                                        llvm::ArrayRef<int64_t> symbols,
                                        llvm::ArrayRef<int64_t> grains);

} // namespace dlc

#endif // DLC_CODEGEN_CPU_LOOPOUTLINE_H
