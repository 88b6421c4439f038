// The contraction nest takes what it can; a loop nest the rest.
#include "dlc/Schedule/NestChoice.h"

#include "LoadAddress.h"
#include "dlc/Schedule/ContractionSpec.h"

using namespace mlir;
using namespace dlc;
using graph::StageOp;

/// Whether a load moves by other than 0 or 1 elements along the innermost axis
/// of its stage: the last domain axis, or a fold's last one when the domain
/// does not reach it.
static bool isStrided(graph::LoadOp load, StageOp stage) {
  auto address = loadAddress(load);
  if (!address)
    return true; // a gather
  SmallVector<AffineExpr> extents = axisExtents(stage);
  unsigned domainRank = stage.getDomainRank();
  auto across = lastWideAxis(extents, 0, domainRank),
       along = lastWideAxis(extents, domainRank, extents.size());
  return !(across && isDenseAlong(address, *across)) &&
         !(along && isDenseAlong(address, *along)) && (across || along);
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
