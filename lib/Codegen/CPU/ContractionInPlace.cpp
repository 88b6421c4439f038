// Operands that only the epilogue reads (a residual), so that a result may be
// stored over them, tile by tile.
#include "ContractionTask.h"

#include "dlc/Dialect/Graph/IR/Placement.h"

using namespace mlir;
using namespace dlc;

/// The operands that `stage` is computed from; `stop` is not looked into.
static llvm::SmallDenseSet<unsigned> operandsOf(graph::StageOp stage,
                                                graph::StageOp stop = {}) {
  llvm::SmallDenseSet<unsigned> operands;
  llvm::SmallDenseSet<Operation *> seen{stop};
  SmallVector<graph::StageOp> work{stage};
  while (!work.empty()) {
    graph::StageOp next = work.pop_back_val();
    if (!seen.insert(next).second)
      continue;
    next.getBlock()->walk([&](graph::LoadOp load) {
      if (auto argument = dyn_cast<BlockArgument>(load.getTensor()))
        operands.insert(argument.getArgNumber());
      else
        work.push_back(load.getTensor().getDefiningOp<graph::StageOp>());
    });
  }
  return operands;
}

static AffineExpr bytesOf(RankedTensorType type) {
  return graph::product(type.getContext(), graph::getDims(type)) *
         graph::elementBytes(type.getElementType());
}

/// A tile's points are computed once, and the epilogue reads, vector by vector,
/// what it needs before it stores; but only where the sums do not lie in the
/// result meanwhile. They do where passes add to them.
void ContractionTask::findInPlace(CpuKernel &kernelCode) {
  llvm::SmallDenseSet<unsigned> factors = operandsOf(spec.stage);
  std::optional<unsigned> direct = directResult();
  for (auto [j, stage] : llvm::enumerate(spec.results)) {
    if (stage == spec.stage || (direct == j && s.depthPerPass) ||
        graph::hasPitches(kernel))
      continue;
    llvm::SmallDenseSet<unsigned> operands = operandsOf(stage, spec.stage);
    for (unsigned i = 0; i < kernel.getArgumentTypes().size(); ++i) {
      auto operand = cast<RankedTensorType>(kernel.getArgumentTypes()[i]),
           result = cast<RankedTensorType>(kernel.getResultTypes()[j]);
      if (!options.isReusable(i) || !operands.contains(i) ||
          factors.contains(i) ||
          graph::simplify(bytesOf(operand) - bytesOf(result)) != 0)
        continue;
      kernelCode.inPlace.push_back({i, unsigned(j)});
      if (direct == j)
        sumsInScratch = true;
    }
  }
  graph::ComputeStep &step = kernelCode.order.steps.emplace_back();
  std::vector<graph::StageOp> stages = kernel.getStages();
  for (graph::StageOp stage : spec.results)
    if (unsigned number = llvm::find(stages, stage) - stages.begin();
        !llvm::is_contained(step.stages, number))
      step.stages.push_back(number);
  step.isPointwise = true;
}
