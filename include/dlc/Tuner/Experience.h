// What is known of kernels that are like one.
#ifndef DLC_TUNER_EXPERIENCE_H
#define DLC_TUNER_EXPERIENCE_H

#include "dlc/Tuner/Features.h"
#include "dlc/Tuner/Record.h"

#include "llvm/ADT/ArrayRef.h"

namespace dlc::tuner {

/// The fastest schedules of the workloads in `records` that are nearest to
/// `workload` on `target` by the features that no knob decides (sizes, strides,
/// machine), best neighbours first, without repetition. A function of the set:
/// a search that begins with them is the same when it is run again on equal
/// records, so these are those that are shipped, not those being made.
std::vector<KnobValues> findExperience(llvm::ArrayRef<Record> records,
                                       llvm::StringRef workload,
                                       llvm::StringRef target,
                                       unsigned neighbours = 3,
                                       unsigned schedules = 2);

} // namespace dlc::tuner

#endif // DLC_TUNER_EXPERIENCE_H
