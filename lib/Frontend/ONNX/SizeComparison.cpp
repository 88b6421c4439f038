//===- SizeComparison.cpp - which of two sizes is larger ------------------===//
//
// By the bounds of their difference, else when the model runs: before anything
// else where the inputs' shapes tell the sizes, in place where the data do.
//
//===----------------------------------------------------------------------===//

#include "SizeComparison.h"

#include "dlc/Dialect/Graph/IR/Control.h"
#include "dlc/Dialect/Graph/IR/SizeBounds.h"
#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"
#include "dlc/Frontend/ONNX/DimBounds.h"

using namespace dlc;
using namespace mlir;

/// What -dim says of the symbols; of those that the data tell, nothing.
static SmallVector<graph::SizeBounds> getSymbolBounds(NodeContext &node) {
  auto module = node.op->getParentOfType<ModuleOp>();
  auto given = module ? module->getAttrOfType<DictionaryAttr>(kDimBoundsAttr)
                      : DictionaryAttr();
  SmallVector<graph::SizeBounds> bounds(node.b.symbolNames.size());
  if (!given)
    return bounds;
  for (auto [i, name] : llvm::enumerate(node.b.symbolNames))
    if (auto range = given.getAs<DenseI64ArrayAttr>(name);
        range && !node.b.dataSymbols.contains(i))
      bounds[i] = {range[0], range[1]};
  return bounds;
}

std::optional<bool> dlc::compareSizes(NodeContext &node, StringRef op,
                                      AffineExpr x, AffineExpr y) {
  auto [low, high] =
      graph::boundsOf(graph::simplify(x - y), getSymbolBounds(node));
  auto decide = [](bool always, bool never) {
    return always  ? std::optional(true)
           : never ? std::optional(false)
                   : std::nullopt;
  };
  if (op == "Less")
    return decide(high < 0, low >= 0);
  if (op == "LessOrEqual")
    return decide(high <= 0, low > 0);
  if (op == "Greater")
    return decide(low > 0, high <= 0);
  if (op == "GreaterOrEqual")
    return decide(low >= 0, high < 0);
  return decide(low == 0 && high == 0, low > 0 || high < 0); // Equal
}

bool dlc::isAtLeastInUse(NodeContext &node, AffineExpr size, int64_t least) {
  SmallVector<graph::SizeBounds> bounds(node.b.symbolNames.size());
  // No network halves its input more often; of the data's sizes less is known.
  for (auto [i, each] : llvm::enumerate(bounds))
    each.low = node.b.dataSymbols.contains(i) ? 1 : 64;
  return graph::boundsOf(graph::simplify(size), bounds).low >= least;
}

bool dlc::requireNonNegative(NodeContext &node, AffineExpr size) {
  AffineExpr zero = node.b.c(0);
  if (isNonNegative(size) ||
      compareSizes(node, "GreaterOrEqual", size, zero) == true)
    return true;
  if (!isAtLeastInUse(node, size, 0))
    return false;
  requireAtMost(node, zero, size, "a size that is divided is negative");
  return true;
}

void dlc::requireAtMost(NodeContext &node, AffineExpr small, AffineExpr large,
                        StringRef otherwise) {
  std::optional<bool> holds = compareSizes(node, "LessOrEqual", small, large);
  if (holds == true)
    return;
  if (holds == false)
    refuse((otherwise + ", for all sizes").str());
  GraphBuilder &b = node.b;
  bool byData = false;
  for (AffineExpr size : {small, large})
    size.walk([&](AffineExpr part) {
      if (auto symbol = dyn_cast<AffineSymbolExpr>(part))
        byData |= b.dataSymbols.contains(symbol.getPosition());
    });
  if (!byData &&
      isa_and_nonnull<func::FuncOp>(b.builder.getBlock()->getParentOp())) {
    b.requirements.push_back(
        {large, small, (onnxd::getNodeName(node.op) + ": " + otherwise).str(),
         /*atLeast=*/true});
    return;
  }
  auto tensor = [&](AffineExpr size) {
    Entry entry = Entry::known({{}, b.builder.getI64Type(), {size}});
    return node.converter.materialize(entry);
  };
  graph::ExpectOp::create(b.builder, b.loc,
                          b.emit("graph.le", {tensor(small), tensor(large)}));
}
