// Composition: the stages of two groups as one list, with producers computed
// where they are read. Maps are composed, guards conjoined; element types and
// casts stay, so that every value is rounded as it was (C-ROUND).
#ifndef DLC_FUSION_COMPOSE_H
#define DLC_FUSION_COMPOSE_H

#include "dlc/Fusion/Legality.h"

namespace dlc::fusion {

/// `consumer` with every load of `producer`'s result replaced by its
/// expression at the point loaded. Under a load's guard the expression's own
/// loads are guarded too and `select(inside, expression, else)` chooses.
/// checkCompose must hold.
StageRef inlineProducer(const Stage &producer, const Stage &consumer);

/// `stage` with loads of reshapes of `base` replaced by loads of `base`.
StageRef readThroughViews(StageRef stage, TensorId base,
                          const TensorTable &tensors);

/// Decides whether `producer` is computed where `consumers` read it, or kept as
/// a row buffer (or output). `readsFold`: the producer loads a fold that is no
/// output.
using InlineDecision =
    llvm::function_ref<bool(const Stage &producer, llvm::ArrayRef<StageRef>,
                            bool isOutput, bool readsFold)>;

/// The stages of `first` and then `second`, which may read what `first`
/// computes. Stages that are neither outputs nor read any more are dropped.
std::optional<Refusal> compose(const Body &first, const Body &second,
                               llvm::function_ref<bool(TensorId)> isOutput,
                               InlineDecision decide,
                               const TensorTable &tensors, Body &result);

} // namespace dlc::fusion

#endif // DLC_FUSION_COMPOSE_H
