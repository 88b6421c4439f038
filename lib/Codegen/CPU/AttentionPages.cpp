// Keys and values in pages: where they are is looked up once for keys that are
// in one page, and rows of the next page are asked for early: no hardware sees
// where they lie.
#include "AttentionTask.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace dlc;

/// Keys in pages are asked for so many before they are read.
static constexpr int64_t keysAhead = 8;

LogicalResult AttentionTask::findPages(Scope &scope, Value factor,
                                       std::string &reason) {
  scope.pages.clear();
  if (!hasPages)
    return success();
  ExprEmitter expressions = expressionsOf(scope);
  if (failed(expressions.findPages(factor, pointOf(scope), reason)))
    return failure();
  scope.pages = std::move(expressions.pages);
  return success();
}

/// Whether `expr` is the same for keys [count * i, count * (i + 1)).
static bool isOfBlocks(AffineExpr expr, unsigned axis, int64_t count) {
  if (!expr.isFunctionOfDim(axis))
    return true;
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  if (!binary)
    return false;
  if (expr.getKind() == AffineExprKind::FloorDiv) {
    auto by = dyn_cast<AffineConstantExpr>(binary.getRHS());
    auto dim = dyn_cast<AffineDimExpr>(binary.getLHS());
    if (by && dim && dim.getPosition() == axis)
      return by.getValue() > 0 && by.getValue() % count == 0;
  }
  return isOfBlocks(binary.getLHS(), axis, count) &&
         isOfBlocks(binary.getRHS(), axis, count);
}

bool AttentionTask::sharesPages(Value factor, int64_t count) {
  bool shares = true;
  unsigned axis = spec.keys.front();
  auto check = [&](AffineMap map, ValueRange coords) {
    for (AffineExpr result : map.getResults()) {
      auto expr = spec.space.toAxes(result, coords);
      shares &= succeeded(expr) && isOfBlocks(*expr, axis, count);
    }
  };
  llvm::SmallDenseSet<Value> seen, seenOfPages;
  auto ofPage = [&](Value scalar) {
    if (auto load = scalar.getDefiningOp<graph::LoadOp>())
      check(load.getMap(), load.getCoords());
    else if (auto coord = scalar.getDefiningOp<graph::CoordOp>())
      check(coord.getMap(), coord.getCoords());
    else if (scalar.getDefiningOp<graph::InsideOp>())
      shares = false;
  };
  walkScalars(factor, seen, [&](Value scalar) {
    auto load = scalar.getDefiningOp<graph::LoadOp>();
    if (!load)
      return;
    for (Value coord : load.getCoords())
      if (auto page = coord.getDefiningOp<graph::ToIndexOp>())
        walkScalars(page.getValue(), seenOfPages, ofPage);
  });
  return shares;
}

LogicalResult AttentionTask::findPagesOf(Scope &scope, Value factor, Value key,
                                         int64_t count, bool shares, Value last,
                                         PagedKeys &found,
                                         std::string &reason) {
  IndexBuilder &index = scope.index;
  auto find = [&](Value first, auto &pages) -> LogicalResult {
    for (int64_t k = 0; k < count; ++k) {
      scope.axes[spec.keys.front()] = index.add(first, k);
      if ((k == 0 || !shares) && failed(findPages(scope, factor, reason)))
        return failure();
      pages.push_back(scope.pages);
    }
    return success();
  };
  if (failed(find(key, found.pages)))
    return failure();
  if (!last)
    return success();
  found.ahead = index.min(index.add(key, keysAhead),
                          index.sub(last, index.constant(count)));
  return find(found.ahead, found.pagesAhead);
}

LogicalResult AttentionTask::prefetchLanes(Scope &scope, Value factor,
                                           ArrayRef<unsigned> axes, Value at,
                                           int64_t length,
                                           std::string &reason) {
  prefetches = true;
  auto none = emitLanes(scope, factor, axes, at, length, reason);
  prefetches = false;
  return success(succeeded(none));
}
