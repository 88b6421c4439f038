// Last columns that fill half a vector: two steps of k at once.
#ifndef DLC_LIB_CODEGEN_CPU_CONTRACTIONPAIRS_H
#define DLC_LIB_CODEGEN_CPU_CONTRACTIONPAIRS_H

#include "dlc/Codegen/CPU/ContractionPacking.h"

namespace dlc {

/// Whether the schedule's tiles can have them.
bool canPairTail(const ContractionSpec &spec,
                 const ContractionSchedule &schedule);

/// Puts the steps of k of a packed factor's last half vector in turns.
void pairTail(const PackedLayout &layout, llvm::MutableArrayRef<float> packed);

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CPU_CONTRACTIONPAIRS_H
