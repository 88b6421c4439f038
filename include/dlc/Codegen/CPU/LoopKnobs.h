// The space of a kernel's loop schedules. Knobs: width (lanes), groups (vectors
// at a time), across (points of a register tile along another axis), grain
// (scalar operations of a task); 0 leaves each to the nest.
#ifndef DLC_CODEGEN_CPU_LOOPKNOBS_H
#define DLC_CODEGEN_CPU_LOOPKNOBS_H

#include "dlc/Codegen/CPU/LoopNest.h"
#include "dlc/Schedule/ScheduleSpace.h"

namespace dlc {

/// Most points of a register tile along one axis.
inline constexpr unsigned kMostAcross = 16;

/// Bytes of the widest and of the narrowest element that `kernel` touches.
std::pair<int64_t, int64_t> elementWidths(graph::KernelOp kernel);

/// The space of a kernel that has stages.
ScheduleSpace loopSpace(graph::KernelOp kernel, const CpuTarget &target);

} // namespace dlc

#endif // DLC_CODEGEN_CPU_LOOPKNOBS_H
