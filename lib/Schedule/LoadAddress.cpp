// Addresses of loads as polynomials.
#include "LoadAddress.h"

#include "dlc/Dialect/Graph/IR/Placement.h"
#include "dlc/Schedule/StageAxes.h"

using namespace mlir;
using namespace dlc;

SmallVector<AffineExpr> dlc::axisExtents(graph::StageOp stage) {
  SmallVector<AffineExpr> extents(stage.getDomainDims());
  llvm::append_range(extents, stage.getReduceDims());
  return extents;
}

std::optional<unsigned> dlc::lastWideAxis(ArrayRef<AffineExpr> extents,
                                          unsigned begin, unsigned end) {
  while (end-- > begin)
    if (graph::constantValue(extents[end]) != 1)
      return end;
  return std::nullopt;
}

std::optional<SmallVector<AffineExpr>> dlc::axesOf(graph::LoadOp load) {
  SmallVector<AffineExpr> axes;
  for (Value coord : load.getCoords()) {
    auto arg = dyn_cast<BlockArgument>(coord);
    if (!arg)
      return std::nullopt;
    axes.push_back(getAffineDimExpr(arg.getArgNumber(), load.getContext()));
  }
  return axes;
}

std::optional<IndexPoly> dlc::loadAddress(graph::LoadOp load) {
  auto dims = axesOf(load);
  if (!dims)
    return std::nullopt;
  SmallVector<AffineExpr> extents =
      axisExtents(load->getParentOfType<graph::StageOp>());
  IndexPoly address;
  for (auto [e, size] : llvm::zip(load.getMap().getResults(),
                                  graph::getMemoryDims(load.getTensor())))
    address = address * IndexPoly::get(size) +
              IndexPoly::get(e.replaceDims(*dims), extents);
  return IndexPoly::get(address.toExpr(load.getContext()), extents);
}

bool dlc::isDenseAlong(const std::optional<IndexPoly> &address, unsigned axis) {
  auto step = address ? address->coefficient(axis) : std::nullopt;
  auto c = step ? step->constant() : std::nullopt;
  return c && std::abs(*c) <= 1;
}
