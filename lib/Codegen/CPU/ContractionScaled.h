// Scales of weights outside of the sums of what shares them.
#ifndef DLC_LIB_CODEGEN_CPU_CONTRACTIONSCALED_H
#define DLC_LIB_CODEGEN_CPU_CONTRACTIONSCALED_H

#include "dlc/Codegen/CPU/ContractionSchedule.h"

namespace dlc {

/// Whether the schedule's tiles can have them: rhs is computed in tiles from
/// numbers of four bits, the kernel's schedule has the law distribute(add), and
/// registers are left.
bool canScaleSums(const ContractionSpec &spec,
                  const ContractionSchedule &schedule, const CpuTarget &target);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CPU_CONTRACTIONSCALED_H
