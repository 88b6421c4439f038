// The contraction nest takes what it can; a loop nest the rest.
#include "dlc/Schedule/NestChoice.h"

#include "dlc/Schedule/ContractionSpec.h"
#include "dlc/Schedule/IndexPoly.h"

using namespace mlir;
using namespace dlc;
using graph::StageOp;

/// Whether a load moves by other than 0 or 1 elements along the innermost axis
/// of its stage: the last domain axis, or a fold's last one when the domain
/// does not reach it.
static bool isStrided(graph::LoadOp load, StageOp stage) {
  unsigned domainRank = stage.getDomainRank();
  IndexPoly address;
  SmallVector<AffineExpr> extents(stage.getDomainDims());
  llvm::append_range(extents, stage.getReduceDims());
  SmallVector<AffineExpr> dims;
  for (Value coord : load.getCoords()) {
    auto arg = dyn_cast<BlockArgument>(coord);
    if (!arg)
      return true; // a gather
    dims.push_back(getAffineDimExpr(arg.getArgNumber(), load.getContext()));
  }
  for (auto [e, size] : llvm::zip(load.getMap().getResults(),
                                  graph::getDims(load.getTensor().getType())))
    address = address * IndexPoly::get(size) +
              IndexPoly::get(e.replaceDims(dims), extents);
  address = IndexPoly::get(address.toExpr(load.getContext()), extents);
  auto isDense = [&](unsigned axis) {
    auto step = address.coefficient(axis);
    auto c = step ? step->constant() : std::nullopt;
    return c && std::abs(*c) <= 1;
  };
  auto last = [&](unsigned begin, unsigned end) -> std::optional<unsigned> {
    while (end-- > begin)
      if (graph::constantValue(extents[end]) != 1)
        return end;
    return std::nullopt;
  };
  auto across = last(0, domainRank), along = last(domainRank, extents.size());
  return !(across && isDense(*across)) && !(along && isDense(*along)) &&
         (across || along);
}

NestChoice dlc::bestNest(graph::KernelOp kernel) {
  NestChoice choice;
  if (kernel.getOpaque()) {
    choice.nest = "opaque";
    choice.reason = "an operator without expression";
    return choice;
  }
  if (succeeded(classifyContraction(kernel, choice.reason))) {
    choice.nest = "contraction";
    return choice;
  }
  choice.nest = "map";
  for (StageOp stage : kernel.getStages()) {
    if (stage.getFoldKind() != graph::FoldKind::none)
      choice.nest = "row";
    choice.losesContraction |= isContraction(stage);
    stage.getBlock()->walk([&](graph::LoadOp load) {
      choice.stridedLoads += isStrided(load, stage);
    });
  }
  choice.plan = planRows(kernel);
  return choice;
}
