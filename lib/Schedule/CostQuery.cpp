// Counting a kernel's work, and the roofline over it.
#include "dlc/Schedule/CostQuery.h"

#include "dlc/Dialect/Graph/IR/Laws.h"
#include "dlc/Schedule/PrefixFold.h"

#include <algorithm>

using namespace mlir;
using namespace dlc;

// The number of points of a box; negative sizes (of symbols out of range) are
// empty.
static double countPoints(ArrayRef<AffineExpr> dims,
                          ArrayRef<int64_t> symbols) {
  double points = 1;
  for (AffineExpr dim : dims)
    points *= static_cast<double>(
        std::max<int64_t>(0, graph::evaluate(dim, symbols)));
  return points;
}

static double countBytes(Type type, ArrayRef<int64_t> symbols) {
  return countPoints(graph::getDims(type), symbols) *
         graph::elementBytes(cast<RankedTensorType>(type).getElementType());
}

KernelWork dlc::countWork(graph::KernelOp kernel, ArrayRef<int64_t> symbols) {
  KernelWork work;
  for (graph::StageOp stage : kernel.getStages()) {
    double points = countPoints(stage.getDomainDims(), symbols);
    if (!findPrefixFold(stage, /*strict=*/false)) // a running sum is one pass
      points *= countPoints(stage.getReduceDims(), symbols);
    double perPoint = stage.getFoldKind() == graph::FoldKind::none ? 0 : 1;
    for (Operation &op : *stage.getBlock())
      if (isa<graph::ApplyOp, graph::CastOp>(op))
        ++perPoint;
    work.scalarOps += points * perPoint;
    if (graph::sumsBf16Products(stage)) {
      work.bf16Ops += points * perPoint;
      work.bf16Flops += 2 * points;
    }
  }
  for (ArrayRef<Type> types :
       {kernel.getArgumentTypes(), kernel.getResultTypes()})
    for (Type type : types)
      work.bytes += countBytes(type, symbols);
  return work;
}

double RooflineCost::getSeconds(graph::KernelOp kernel,
                                ArrayRef<int64_t> symbols,
                                const TargetDesc &target) const {
  return getSeconds(countWork(kernel, symbols), target);
}

double RooflineCost::getSeconds(const KernelWork &work,
                                const TargetDesc &target) const {
  double cycles = work.scalarOps / target.f32FlopsPerCycle;
  if (target.bf16TileFlopsPerCycle > 0)
    cycles = (work.scalarOps - work.bf16Ops) / target.f32FlopsPerCycle +
             work.bf16Flops / target.bf16TileFlopsPerCycle;
  double arithmetic = cycles / (target.ghz * 1e9);
  double memory = work.bytes / (target.readGBs * 1e9);
  return std::max(arithmetic, memory);
}
