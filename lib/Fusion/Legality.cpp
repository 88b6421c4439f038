// The predicates, each for the hypothesis of one theorem (docs/proofs).
#include "dlc/Fusion/Legality.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;

StringRef fusion::getName(Condition condition) {
  static constexpr StringLiteral names[] = {
#define DLC_CONDITION(identifier, name, theorem) name,
#define DLC_COST_CONDITION(identifier, name, theorem) name,
#include "dlc/Dialect/Graph/IR/Conditions.def"
  };
  return names[static_cast<unsigned>(condition)];
}

StringRef fusion::getTheorem(Condition condition) {
  static constexpr StringLiteral theorems[] = {
#define DLC_CONDITION(identifier, name, theorem) theorem,
#define DLC_COST_CONDITION(identifier, name, theorem) theorem,
#include "dlc/Dialect/Graph/IR/Conditions.def"
  };
  return theorems[static_cast<unsigned>(condition)];
}

std::optional<Refusal> fusion::checkPure(graph::KernelOp kernel) {
  if (kernel.getOpaque())
    return Refusal{Condition::Pure,
                   "'" + kernel.getSymName().str() +
                       "' is an opaque operator: it has no expression"};
  return std::nullopt;
}

std::optional<Refusal> fusion::checkOrder(const Stage &producer) {
  if (producer.isFold())
    return Refusal{Condition::Order, "a fold keeps its place"};
  return std::nullopt;
}

std::optional<Refusal> fusion::checkCompose(const Stage &producer,
                                            const Stage &consumer) {
  if (auto refusal = checkOrder(producer))
    return refusal;
  bool gathers = llvm::any_of(producer.nodes, [](const Node &node) {
    return node.kind == Node::ToIndex;
  });
  bool isGuarded = llvm::any_of(consumer.nodes, [&](const Node &node) {
    return node.kind == Node::Load && node.tensor == producer.result &&
           !node.guard.empty();
  });
  if (gathers && isGuarded)
    return Refusal{Condition::Compose,
                   "a gather's index is unknown where the guard is false"};
  return std::nullopt;
}

namespace {
// The stages of a body by what they compute.
class StageMap {
public:
  explicit StageMap(const Body &body) {
    for (const StageRef &stage : body.stages)
      stages[stage->result] = stage.get();
  }
  // The stage that a node loads, if it is one of the body's.
  const Stage *loadedBy(const Node &node) const {
    return node.kind == Node::Load ? stages.lookup(node.tensor) : nullptr;
  }

private:
  llvm::SmallDenseMap<TensorId, const Stage *, 32> stages;
};
} // namespace

std::optional<Refusal> fusion::checkRow(const Body &body, unsigned &rows) {
  rows = 0;
  if (body.stages.empty())
    return std::nullopt;
  const Stage &first = *body.stages.front();
  rows = first.domain.size();
  for (const StageRef &stage : body.stages) {
    unsigned shared = 0;
    while (shared < std::min<size_t>(rows, stage->domain.size()) &&
           graph::simplify(first.domain[shared] - stage->domain[shared]) == 0)
      ++shared;
    rows = shared;
  }
  StageMap known(body);
  for (const StageRef &stage : body.stages)
    for (const Node &node : stage->nodes) {
      if (!known.loadedBy(node))
        continue;
      bool gathers = false;
      node.forEachData([&](unsigned) { gathers = true; });
      if (gathers)
        return Refusal{Condition::Row,
                       "a gather reads a tensor that is computed in the same "
                       "kernel, outside of its row"};
      unsigned same = 0;
      while (same < std::min(node.index.size(), stage->domain.size())) {
        AffineExpr at = node.index[same];
        auto dim = dyn_cast<AffineDimExpr>(at);
        bool isOnly = graph::constantValue(stage->domain[same]) == 1 &&
                      graph::constantValue(at) == 0;
        if (!isOnly && (!dim || dim.getPosition() != same))
          break;
        ++same;
      }
      rows = std::min(rows, same);
    }
  return std::nullopt;
}

std::optional<Refusal> fusion::checkBounds(const Body &body) {
  StageMap known(body);
  for (const StageRef &stage : body.stages) {
    IndexMath math(stage->type.getContext(), stage->extents());
    for (const Node &node : stage->nodes) {
      const Stage *source = known.loadedBy(node);
      if (!source || !node.guard.empty())
        continue;
      for (auto [at, size] : llvm::zip(node.index, source->domain)) {
        // A coordinate of the same extent, or what constants decide.
        auto dim = dyn_cast<AffineDimExpr>(at);
        if (dim && dim.getPosition() < stage->numAxes() &&
            graph::simplify(stage->extents()[dim.getPosition()] - size) == 0)
          continue;
        // The last of a symbolic number of rows: the member that reads it
        // needs it to be there (Check takes its reads as facts).
        if (!graph::constantValue(at) && at.isSymbolicOrConstant())
          continue;
        // at mod size is at exactly where 0 <= at < size.
        if (math.simplify(at % size) != math.simplify(at))
          return Refusal{Condition::Bounds,
                         "a read of another stage is not known to stay in it"};
      }
    }
  }
  return std::nullopt;
}
