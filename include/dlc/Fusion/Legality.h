// Legality: what may be one kernel at all. A predicate for each condition of
// Conditions.def that a pair of groups can break; none knows a flag or a
// target. A predicate returns nothing where its condition holds.
#ifndef DLC_FUSION_LEGALITY_H
#define DLC_FUSION_LEGALITY_H

#include "dlc/Fusion/Body.h"

#include <string>

namespace dlc::fusion {

enum class Condition {
#define DLC_CONDITION(identifier, name, theorem) identifier,
#define DLC_COST_CONDITION(identifier, name, theorem) identifier,
#include "dlc/Dialect/Graph/IR/Conditions.def"
};
llvm::StringRef getName(Condition condition);
llvm::StringRef getTheorem(Condition condition);

/// Why two groups stay apart.
struct Refusal {
  Condition condition;
  std::string reason;
};

/// C-PURE: an operation whose kernel has no stages stays alone.
std::optional<Refusal> checkPure(graph::KernelOp kernel);

/// C-COMPOSE: `producer` can be computed at the points where `consumer` loads
/// it: a gather may not be moved under a guard, where its index is unknown.
std::optional<Refusal> checkCompose(const Stage &producer,
                                    const Stage &consumer);

/// C-ORDER: folds are not inlined into expressions, which would repeat or
/// reorder them.
std::optional<Refusal> checkOrder(const Stage &producer);

/// C-ROW: how many leading axes all stages share, so that each reads other
/// stages in its own row only; 0 is always legal, except for gathers, which
/// read other rows than they are computed for.
std::optional<Refusal> checkRow(const Body &body, unsigned &rows);

/// C-BOUNDS: reads of other stages stay inside them.
std::optional<Refusal> checkBounds(const Body &body);

} // namespace dlc::fusion

#endif // DLC_FUSION_LEGALITY_H
