// How folds read each other's results.
#include "dlc/Schedule/Moments.h"

using namespace mlir;
using namespace dlc;
using graph::ScalarFn;
using graph::StageOp;

namespace {
class PairFinder {
public:
  PairFinder(graph::KernelOp kernel, const RowPlan &plan)
      : plan(plan), results(kernel.getResultValues().begin(),
                            kernel.getResultValues().end()) {}

  std::optional<MomentsPair> find(StageOp squares);

private:
  bool isStored(StageOp stage) {
    return results.contains(stage.getResult()) || plan.isKept(stage);
  }
  bool findSum(StageOp reader, StageOp &sum);
  StageOp whereStored(StageOp stage);

  const RowPlan &plan;
  llvm::SmallDenseSet<Value> results;
};
} // namespace

static bool isSumOfFloats(StageOp stage) {
  return stage.getFoldKind() == graph::FoldKind::add && !stage.getInit() &&
         isa<Float32Type, Float64Type>(stage.getElementType());
}

/// Of a constant: a count.
static bool readsNothing(StageOp stage) {
  return stage.getYielded().getDefiningOp<graph::LiteralOp>() != nullptr;
}

// The one fold that `reader` divides, itself or in stages that are read into
// it; false where folds are read otherwise.
bool PairFinder::findSum(StageOp reader, StageOp &sum) {
  bool isPair = true;
  reader.getBlock()->walk([&](graph::LoadOp load) {
    auto source = load.getTensor().getDefiningOp<StageOp>();
    if (!source)
      return;
    if (source.getFoldKind() == graph::FoldKind::none) {
      isPair &= !isStored(source) && findSum(source, sum);
      return;
    }
    if (readsNothing(source))
      return;
    isPair &= isStored(source) && (!sum || sum == source) &&
              llvm::all_of(load->getUsers(), [&](Operation *user) {
                auto apply = dyn_cast<graph::ApplyOp>(user);
                return apply && apply.getFn() == ScalarFn::div &&
                       apply.getArgs()[0] == load.getResult() &&
                       apply.getArgs()[1] != load.getResult();
              });
    sum = source;
  });
  return isPair;
}

// The stage, or the one that reads it in place.
StageOp PairFinder::whereStored(StageOp stage) {
  while (!isStored(stage)) {
    if (!stage.getResult().hasOneUse())
      return {};
    stage = (*stage.getResult().getUsers().begin())->getParentOfType<StageOp>();
    if (!stage || stage.getFoldKind() != graph::FoldKind::none)
      return {};
  }
  return stage;
}

static bool areEqual(ArrayRef<AffineExpr> x, ArrayRef<AffineExpr> y) {
  return x.size() == y.size() && llvm::all_of(llvm::zip(x, y), [](auto pair) {
           return graph::simplify(std::get<0>(pair) - std::get<1>(pair)) == 0;
         });
}

std::optional<MomentsPair> PairFinder::find(StageOp squares) {
  MomentsPair pair;
  pair.squares = squares;
  if (!isSumOfFloats(squares) || !findSum(squares, pair.sum) || !pair.sum)
    return std::nullopt;
  pair.stored = whereStored(squares);
  bool isPair = pair.stored && isSumOfFloats(pair.sum) &&
                pair.sum.getElementType() == squares.getElementType() &&
                areEqual(pair.sum.getReduceDims(), squares.getReduceDims()) &&
                areEqual(pair.sum.getDomainDims(), pair.stored.getDomainDims());
  return isPair ? std::optional(pair) : std::nullopt;
}

SmallVector<MomentsPair> dlc::findMoments(graph::KernelOp kernel,
                                          const RowPlan &plan) {
  SmallVector<MomentsPair> pairs;
  PairFinder finder(kernel, plan);
  for (StageOp stage : kernel.getStages())
    if (auto pair = finder.find(stage))
      pairs.push_back(*pair);
  return pairs;
}

bool dlc::isFarRow(const MomentsPair &pair) {
  int64_t bytes = 0;
  StageOp(pair.sum).getBlock()->walk([&](graph::LoadOp load) {
    bytes += graph::elementBytes(load.getType());
  });
  for (AffineExpr n : StageOp(pair.sum).getReduceDims())
    bytes = std::min<int64_t>(
        bytes * std::min<int64_t>(
                    graph::constantValue(n).value_or(kTypicalSize), 1 << 30),
        int64_t(1) << 32);
  return bytes > kNearBytes;
}
