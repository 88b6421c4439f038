// The `graph.requires` attribute: a list of [map with two results, site], with
// a third entry `unit` for "at least".
#include "dlc/Dialect/Graph/IR/Requirements.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace dlc;

static constexpr llvm::StringLiteral kRequiresAttr = "graph.requires";

SmallVector<graph::Requirement> graph::getRequirements(Operation *function) {
  SmallVector<Requirement> out;
  auto list = function->getAttrOfType<ArrayAttr>(kRequiresAttr);
  for (Attribute entry : list ? list.getValue() : ArrayRef<Attribute>()) {
    auto pair = dyn_cast<ArrayAttr>(entry);
    auto map = pair && pair.size() >= 2 ? dyn_cast<AffineMapAttr>(pair[0])
                                        : AffineMapAttr();
    if (map && map.getValue().getNumResults() == 2 && isa<StringAttr>(pair[1]))
      out.push_back({map.getValue().getResult(0), map.getValue().getResult(1),
                     cast<StringAttr>(pair[1]).str(), pair.size() > 2});
  }
  return out;
}

void graph::setRequirements(Operation *function,
                            ArrayRef<Requirement> requirements) {
  Builder builder(function->getContext());
  auto names = function->getAttrOfType<ArrayAttr>("graph.symbols");
  SmallVector<Attribute> list;
  llvm::SetVector<std::tuple<AffineExpr, AffineExpr, unsigned>> seen;
  for (const Requirement &each : requirements) {
    if (!seen.insert({each.left, each.right, each.atLeast ? 1u : 0u}))
      continue;
    SmallVector<Attribute> entry{
        AffineMapAttr::get(AffineMap::get(0, names ? names.size() : 0,
                                          {each.left, each.right},
                                          builder.getContext())),
        builder.getStringAttr(each.site)};
    if (each.atLeast)
      entry.push_back(builder.getUnitAttr());
    list.push_back(builder.getArrayAttr(entry));
  }
  if (list.empty())
    function->removeAttr(kRequiresAttr);
  else
    function->setAttr(kRequiresAttr, builder.getArrayAttr(list));
}
