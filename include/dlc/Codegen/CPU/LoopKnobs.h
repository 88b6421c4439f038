// The space of a kernel's loop schedules. Knobs: width (lanes), groups (vectors
// at a time), across (points of a register tile along another axis), grain
// (scalar operations of a task); 0 leaves each to the nest. Which knobs and
// values there are is a rule a kind of kernel: MapKnobs, RowKnobs, WindowKnobs.
#ifndef DLC_CODEGEN_CPU_LOOPKNOBS_H
#define DLC_CODEGEN_CPU_LOOPKNOBS_H

#include "dlc/Codegen/CPU/LoopNest.h"
#include "dlc/Schedule/ScheduleSpace.h"

namespace dlc {

/// Most points of a register tile along one axis.
inline constexpr unsigned kMostAcross = 16;

/// Bytes of the widest and of the narrowest element that `kernel` touches.
std::pair<int64_t, int64_t> elementWidths(graph::KernelOp kernel);

/// What the loop nests are given, by what there is to choose.
enum class LoopKind {
  Map,    ///< nothing is folded
  Row,    ///< folds of rows: each element belongs to one result
  Window, ///< folds whose neighbouring results read elements in common
};
LoopKind loopKindOf(graph::KernelOp kernel);

/// The space of a kernel that has stages; it refers to the kernel. `symbols`
/// are the sizes that it is made for: points that do the same there are one.
ScheduleSpace loopSpace(graph::KernelOp kernel, const CpuTarget &target,
                        bool strict = false,
                        llvm::ArrayRef<int64_t> symbols = {});

/// The knobs of each kind; `widths` are the vectors worth a thought, `grains`
/// the tasks (grainsFor).
std::vector<ScheduleSpace::Knob> mapKnobs(const std::vector<int64_t> &widths,
                                          const std::vector<int64_t> &grains);
std::vector<ScheduleSpace::Knob> rowKnobs(graph::KernelOp kernel,
                                          const std::vector<int64_t> &widths,
                                          const std::vector<int64_t> &grains);
std::vector<ScheduleSpace::Knob>
windowKnobs(graph::KernelOp kernel, const std::vector<int64_t> &widths,
            const std::vector<int64_t> &grains);
/// Elements of a task for `grain`, up to what the kernel has: 0 leaves it.
std::vector<int64_t> grainsFor(graph::KernelOp kernel,
                               llvm::ArrayRef<int64_t> symbols);

} // namespace dlc

#endif // DLC_CODEGEN_CPU_LOOPKNOBS_H
