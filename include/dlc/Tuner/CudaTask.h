// Kernels for CUDA as the database sees them, and which schedules of one are
// worth measuring. Nothing is measured here: that happens where a GPU is.
#ifndef DLC_TUNER_CUDATASK_H
#define DLC_TUNER_CUDATASK_H

#include "dlc/Codegen/CUDA/CudaKnobs.h"
#include "dlc/Tuner/CudaFeatures.h"
#include "dlc/Tuner/KernelTask.h"

namespace dlc::tuner {

/// The key of `kernel` on `target`. Fails, with `reason` in words, for kernels
/// that cannot be tuned: symbolic sizes, opaque operators, indices from data,
/// nothing to choose.
mlir::FailureOr<KernelKey> makeCudaKey(graph::KernelOp kernel,
                                       const CudaTarget &target,
                                       const CudaCodegenOptions &options,
                                       std::string &reason);

/// Up to `count` schedules in the order in which they are worth a trial: first
/// the rules' (no knobs), then, of `samples` legal points of the space, the
/// fastest by `scorer`'s analytic time, every eighth one by chance.
std::vector<KnobValues> draftSchedules(const ScheduleSpace &space,
                                       const Scorer &scorer, unsigned count,
                                       uint64_t seed, unsigned samples = 1024);

} // namespace dlc::tuner

#endif // DLC_TUNER_CUDATASK_H
