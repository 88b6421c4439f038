// Scans: folds of which each result is the one before it and one step more
// (LoopExpr::Scan). One pass over the axis carries what has been folded so far;
// at each coordinate the folds have their values and the root is evaluated.
//
// With the lanes elsewhere a step is one coordinate. With them along the axis
// it is a vector of coordinates, whose prefixes are folded in the register:
//
//   x          a    b    c    d       lanes up to 1 away
//            + 0    a    b    c
//              a    ab   bc   cd      up to 3
//            + 0    0    a    ab
//              a    ab   abc  abcd    and what was carried is added to all
//
// Only the last addition waits for the vector before it.
#include "dlc/Codegen/CPU/LoopEmitter.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;
using graph::FoldKind;

void LoopEmitter::holdPrefixes() {
  for (unsigned fold : expr.scan->folds)
    for (unsigned id : expr.reachable(expr.nodes[fold].args[0]))
      for (auto [i, guard] : llvm::enumerate(expr.nodes[id].guards))
        if (guard.expr.dependsOnDim(expr.scan->dim))
          holds.insert({id, unsigned(i)});
}

//===----------------------------------------------------------------------===//
// Lanes elsewhere
//===----------------------------------------------------------------------===//

void LoopEmitter::scanAcross() {
  const LoopExpr::Scan &scan = *expr.scan;
  FoldParts parts;
  Values state;
  for (unsigned fold : scan.folds) {
    const LoopNode &body = expr.nodes[expr.nodes[fold].args[0]];
    addPart(parts, state, fold, alongGroups(body) ? groups.count : 1,
            alongLanes(body) ? lanes.width : 0, 0);
  }
  Value extent = index.emit(expr.extents[scan.dim]);
  Value last = index.sub(extent, index.constant(1));
  carry(index.constant(0), extent, 1, state, [&](Value step, Values carried) {
    Scope scope(*this);
    Value at = scan.isReversed ? index.sub(last, step) : step;
    Values next = carried;
    dims[scan.dim] = at;
    for (const FoldPart &part : parts) {
      const LoopNode &fold = expr.nodes[part.fold];
      auto begin = next.begin() + part.first;
      dims[fold.axes[0]] = at;
      Values before(begin, begin + part.count), after = foldStep(fold, before);
      llvm::copy(after, begin);
      memo.back()[part.fold] = fold.prefix->isExclusive ? before : after;
    }
    evaluate(expr.root);
    for (const FoldPart &part : parts)
      dims[expr.nodes[part.fold].axes[0]] = Value();
    dims[scan.dim] = Value();
    return next;
  });
}

//===----------------------------------------------------------------------===//
// Lanes along the axis
//===----------------------------------------------------------------------===//

/// The fold's values at the lanes of `x`, its steps there; `carried` is what
/// lies before them and becomes what lies before the next ones.
Scalar LoopEmitter::foldPrefixes(const LoopNode &fold, Scalar x,
                                 Scalar &carried) {
  bool isReversed = expr.scan->isReversed,
       isExclusive = fold.prefix->isExclusive;
  if (!x.isVector()) {
    Scalar before = carried;
    carried = scalar.combine(fold.fold, carried, x);
    return isExclusive ? before : carried;
  }
  auto type = cast<VectorType>(x.value.getType());
  int64_t width = type.getNumElements();
  // Of a sum -0: no constant that LLVM knows to be cleared bits, for which it
  // would expand the lanes by a mask, four times as slow as a permutation.
  Scalar one = fold.fold == FoldKind::add && isa<FloatType>(x.type)
                   ? scalar.literal(b.getFloatAttr(x.type, -0.0))
                   : scalar.identity(fold.fold, fold.type);
  Scalar identity = scalar.broadcast(one, unsigned(width));
  // Lanes that do not exist are folded before others only in the last lanes.
  if (isReversed && lanes.mask)
    x = scalar.select(lanes.mask, x, identity);
  // What lies `by` steps before each lane.
  auto shift = [&](Scalar from, int64_t by) -> Scalar {
    SmallVector<int64_t> order;
    for (int64_t lane = 0; lane < width; ++lane)
      order.push_back(isReversed ? lane + by : width + lane - by);
    Value low = isReversed ? from.value : identity.value,
          high = isReversed ? identity.value : from.value;
    return {vector::ShuffleOp::create(b, loc, type, low, high, order), x.type};
  };
  int64_t end = isReversed ? 0 : width - 1;
  bool isOrdered = options.scalar.strict && isa<FloatType>(fold.type);
  if (isOrdered) { // one step after the other
    auto first = [&](Scalar v, int64_t lane) -> Scalar {
      return {vector::ExtractOp::create(b, loc, v.value, lane), v.type};
    };
    Scalar sum = first(carried, 0);
    SmallVector<Value> values(width);
    for (int64_t i = 0; i < width; ++i) {
      int64_t lane = isReversed ? width - 1 - i : i;
      Scalar next = scalar.combine(fold.fold, sum, first(x, lane));
      values[lane] = (isExclusive ? sum : next).value;
      sum = next;
    }
    carried = scalar.broadcast(sum, unsigned(width));
    return {vector::FromElementsOp::create(b, loc, type, values), x.type};
  }
  for (int64_t by = 1; by < width; by *= 2)
    x = scalar.combine(fold.fold, shift(x, by), x);
  Scalar result =
      scalar.combine(fold.fold, carried, isExclusive ? shift(x, 1) : x);
  Scalar all = {vector::ShuffleOp::create(b, loc, type, x.value, x.value,
                                          SmallVector<int64_t>(width, end)),
                x.type};
  carried = scalar.combine(fold.fold, carried, all);
  return result;
}

/// Stores the root at the lanes from `at` on.
void LoopEmitter::scanVector(Value at, Values &carried) {
  const LoopExpr::Scan &scan = *expr.scan;
  Scope scope(*this);
  LoopLanes along = lanes;
  auto stand = [&](unsigned dim, Value value) {
    dims[dim] = value;
    lanes.dim = along.dim < 0 || !value ? -1 : int(dim);
  };
  SmallVector<Values, 2> results;
  for (auto [fold, state] : llvm::zip(scan.folds, carried)) {
    const LoopNode &node = expr.nodes[fold];
    Scope inside(*this);
    stand(node.axes[0], at);
    Scalar x = evaluate(node.args[0]).front();
    x = scalar.broadcast(x, along.dim < 0 ? 0 : along.width);
    results.push_back({foldPrefixes(node, x, state)});
    stand(node.axes[0], Value());
  }
  for (auto [fold, values] : llvm::zip(scan.folds, results))
    memo.back()[fold] = values;
  stand(scan.dim, at);
  evaluate(expr.root);
  stand(scan.dim, Value());
  lanes = along;
}

void LoopEmitter::scanAlong() {
  const LoopExpr::Scan &scan = *expr.scan;
  int64_t width = options.width;
  bool hasVectors = width > 1;
  Values state;
  for (unsigned fold : scan.folds)
    state.push_back(scalar.broadcast(initial(expr.nodes[fold]),
                                     hasVectors ? unsigned(width) : 0));
  Value extent = index.emit(expr.extents[scan.dim]), zero = index.constant(0);
  Value size = index.constant(width);
  Value whole = index.mul(index.divUnsigned(extent, size), size);
  // The steps [from, to) from the beginning, or from the end.
  auto run = [&](Value from, Value to, int64_t step, bool isMasked) {
    return carry(from, to, step, state, [&](Value first, Values carried) {
      Value at = first;
      if (scan.isReversed)
        at = isMasked
                 ? zero
                 : index.sub(index.sub(extent, index.constant(step)), first);
      if (step > 1)
        lanes = {int(scan.dim), unsigned(width), Value(), Value()};
      if (isMasked) {
        lanes.count = index.sub(extent, first);
        lanes.mask = vector::CreateMaskOp::create(
            b, loc, VectorType::get({width}, b.getI1Type()), lanes.count);
      }
      scanVector(at, carried);
      lanes = LoopLanes();
      return carried;
    });
  };
  if (hasVectors)
    state = run(zero, whole, width, false);
  if (hasVectors && options.maskedMemory) {
    run(whole, extent, width, true);
    return;
  }
  if (hasVectors)
    for (Scalar &carried : state)
      carried = {vector::ExtractOp::create(b, loc, carried.value, int64_t(0)),
                 carried.type};
  run(hasVectors ? whole : zero, extent, 1, false);
}
