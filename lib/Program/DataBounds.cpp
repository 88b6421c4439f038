// Interval arithmetic over size expressions.
#include "DataBounds.h"

#include "dlc/Dialect/Graph/IR/Graph.h"

using namespace mlir;
using namespace dlc;

void DataBounds::addAll(program::ModelOp model) {
  // In order of execution: a bound names symbols that came before.
  model.getBody().walk<WalkOrder::PreOrder>([&](Operation *op) {
    if (auto bind = dyn_cast<program::BindOp>(op))
      add(bind.getSymbol(), program::getSize(bind.getBound()));
    else if (auto set = dyn_cast<program::SetOp>(op))
      for (auto [symbol, bound] :
           llvm::zip_equal(set.getSymbols(), set.getBounds().getResults()))
        add(symbol, bound);
    else if (auto loop = dyn_cast<program::LoopOp>(op); loop && loop.getCount())
      add(*loop.getCount(), program::getSize(*loop.getCountBound()));
  });
}

bool DataBounds::dependsOnData(AffineExpr expr) const {
  bool found = false;
  expr.walk([&](AffineExpr part) {
    if (auto symbol = dyn_cast<AffineSymbolExpr>(part))
      found |= bounds.contains(symbol.getPosition());
  });
  return found;
}

bool DataBounds::dependsOnData(Type tensor) const {
  return llvm::any_of(graph::getDims(tensor),
                      [&](AffineExpr dim) { return dependsOnData(dim); });
}

std::pair<AffineExpr, AffineExpr> DataBounds::getRange(AffineExpr expr) const {
  if (!dependsOnData(expr))
    return {expr, expr};
  MLIRContext *context = expr.getContext();
  AffineExpr zero = getAffineConstantExpr(0, context);
  if (auto symbol = dyn_cast<AffineSymbolExpr>(expr))
    return {zero, bounds.lookup(symbol.getPosition())};
  auto binary = cast<AffineBinaryOpExpr>(expr);
  auto [low, high] = getRange(binary.getLHS());
  auto [otherLow, otherHigh] = getRange(binary.getRHS());
  std::optional<int64_t> factor = graph::constantValue(binary.getRHS());
  bool divisorDepends = dependsOnData(binary.getRHS());
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return {low + otherLow, high + otherHigh};
  case AffineExprKind::Mul:
    if (factor && *factor < 0)
      return {high * otherLow, low * otherLow};
    return {low * otherLow, high * otherHigh};
  case AffineExprKind::FloorDiv:
    // A divisor of the data's is at least 1: division by zero gives 0.
    if (divisorDepends)
      return {zero, high};
    return {low.floorDiv(otherLow), high.floorDiv(otherLow)};
  case AffineExprKind::CeilDiv:
    if (divisorDepends)
      return {zero, high};
    return {low.ceilDiv(otherLow), high.ceilDiv(otherLow)};
  default:
    return {zero, otherHigh - 1};
  }
}
