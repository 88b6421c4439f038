// Few queries (decode): lanes run over the inner axis, then over keys, then
// over columns, so that keys and values are read once, as they lie, for a tile
// of rows (the heads of a group and their positions). What reading costs
// decides then. With too few heads for the cores, tasks take parts of the keys,
// and a second phase puts the parts of each row together.
#include "AttentionTask.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

/// Of f32 in scratch: a row's maximum and sum stand alone on a line.
static constexpr int64_t stateWidth = 16;

void AttentionTask::layOutFew(CpuKernel &result) {
  auto padded = [&](ArrayRef<unsigned> axes) {
    int64_t extent = *graph::constantValue(spec.extentOf(axes));
    return (extent + s.lanes - 1) / s.lanes * s.lanes;
  };
  innerPitch = padded(spec.inner);
  columnPitch = padded(spec.columns);
  AffineExpr keys = spec.extentOf(spec.keys), one = constantExpr(1);
  keysOfBlock = s.keysPerBlock ? constantExpr(s.keysPerBlock) : keys;
  if (s.keysPerTask && !s.keysPerBlock)
    keysOfBlock = constantExpr(s.keysPerTask);
  parts = s.keysPerTask ? graph::simplify(keys.ceilDiv(s.keysPerTask)) : one;
  AffineExpr rows = spec.extentOf(otherRowAxes());
  if (auto lane = laneAxis())
    rows = rows * spec.space.extents[*lane];
  rows = rows.ceilDiv(s.rowTile) * s.rowTile;
  AffineExpr sizes[numAreas] = {};
  sizes[Queries] = constantExpr(s.rowTile * innerPitch);
  sizes[Sums] = rows * columnPitch;
  sizes[State] = rows * stateWidth;
  sizes[Scores] = keysOfBlock.ceilDiv(s.lanes) * (s.lanes * s.rowTile);
  for (Area area : {Keys, Values, Rows, Weights, Configuration})
    sizes[area] = constantExpr(0);
  AffineExpr offset = constantExpr(0);
  for (AffineExpr size : sizes) {
    areaOffsets.push_back(graph::simplify(offset));
    offset = offset + size.ceilDiv(16) * 16;
  }
  taskElements = graph::simplify(offset);
  AffineExpr outer = spec.extentOf(spec.outer);
  AffineExpr tasks = graph::simplify(outer * parts);
  result.scratchBytes =
      graph::simplify(s.keysPerTask ? tasks * taskElements * 4 : offset * 4);
  result.phases.push_back({options.symbol, tasks});
  if (s.keysPerTask)
    result.phases.push_back({options.symbol + ".merge", outer});
}

/// A function for one phase, standing at the outer point of task / `divisor`.
AttentionTask::Scope AttentionTask::beginFew(StringRef symbol,
                                             AffineExpr divisor, Value &part) {
  function.emplace(*module, symbol, bufferTypes, kernel.getNumSymbols(),
                   /*noalias=*/true, /*sharedScratch=*/s.keysPerTask != 0);
  OpBuilder &b = function->builder();
  Location loc = function->loc();
  Scope scope{
      IndexBuilder(b, loc),
      {},
      function->symbols(),
      {},
      function->scratchView(b.getF32Type(), IndexBuilder(b, loc).constant(0))};
  IndexBuilder &index = scope.index;
  scope.status = function->status();
  for (unsigned i = 0; i < bufferTypes.size(); ++i)
    scope.buffers.push_back(function->buffer(i));
  scope.axes.assign(spec.space.extents.size(), index.constant(0));
  SmallVector<Value> split = index.delinearize(
      function->task(), {index.constant(0), sizeOf(scope, divisor)});
  part = split[1];
  SmallVector<Value> extents;
  for (unsigned axis : spec.outer)
    extents.push_back(sizeOf(scope, spec.space.extents[axis]));
  for (auto [axis, value] :
       llvm::zip_equal(spec.outer, index.delinearize(split[0], extents)))
    scope.axes[axis] = value;
  findAreas(scope);
  scope.firstRow = index.constant(0);
  scope.rowCount = sizeOf(scope, spec.extentOf(otherRowAxes()));
  if (auto lane = laneAxis())
    scope.rowCount =
        index.mul(scope.rowCount, sizeOf(scope, spec.space.extents[*lane]));
  return scope;
}

void AttentionTask::setRow(Scope &scope, Value row) {
  SmallVector<unsigned> axes = otherRowAxes();
  if (auto lane = laneAxis())
    axes.push_back(*lane);
  SmallVector<Value> extents;
  for (unsigned axis : axes)
    extents.push_back(sizeOf(scope, spec.space.extents[axis]));
  for (auto [axis, value] :
       llvm::zip_equal(axes, scope.index.delinearize(row, extents)))
    scope.axes[axis] = value;
}

/// `factor` at the scope's point, lanes along `axes` from linear position `at`
/// on; lanes from `length` on are zero.
FailureOr<Value> AttentionTask::emitLanes(Scope &scope, Value factor,
                                          ArrayRef<unsigned> axes, Value at,
                                          int64_t length, std::string &reason) {
  IndexBuilder &index = scope.index;
  SmallVector<Value> before = scope.axes, extents;
  for (unsigned axis : axes)
    extents.push_back(sizeOf(scope, spec.space.extents[axis]));
  for (auto [axis, value] :
       llvm::zip_equal(axes, index.delinearize(at, extents)))
    scope.axes[axis] = value;
  ExprPoint point = pointOf(scope);
  scope.axes = before;
  point.lanes = s.lanes;
  point.laneAxes.assign(axes.begin(), axes.end());
  auto first = IndexBuilder::constantOf(at);
  if (first && *first + int64_t(s.lanes) > length)
    point.mask = firstLanes(scope, index.constant(length - *first));
  ExprEmitter expressions = expressionsOf(scope);
  auto value = expressions.emit(factor, point, reason);
  if (failed(value))
    return failure();
  Value vector = expressions.scalars.broadcast(*value, s.lanes).value;
  if (point.mask)
    vector = arith::SelectOp::create(scope.b(), scope.loc(), point.mask, vector,
                                     splat(scope, 0));
  return vector;
}

SmallVector<Value> AttentionTask::carry(
    Scope &scope, Value from, Value to, int64_t by, SmallVector<Value> values,
    function_ref<SmallVector<Value>(Value, SmallVector<Value>)> body) {
  auto first = IndexBuilder::constantOf(from),
       last = IndexBuilder::constantOf(to);
  if (first && last && *first >= *last)
    return values;
  if (first && last && *first + by >= *last)
    return body(from, values);
  auto loop = scf::ForOp::create(scope.b(), scope.loc(), from, to,
                                 scope.index.constant(by), values);
  OpBuilder::InsertionGuard guard(scope.b());
  scope.b().setInsertionPointToStart(loop.getBody());
  SmallVector<Value> next = body(loop.getInductionVar(),
                                 SmallVector<Value>(loop.getRegionIterArgs()));
  scf::YieldOp::create(scope.b(), scope.loc(), next);
  return SmallVector<Value>(loop.getResults());
}

//===----------------------------------------------------------------------===//
// A tile of rows against a block of keys
//===----------------------------------------------------------------------===//

/// The first multiple of `count` from `from` on, at most `to`.
static Value firstWhole(IndexBuilder &index, Value from, Value to,
                        int64_t count) {
  return index.min(index.mul(index.ceilDiv(from, index.constant(count)), count),
                   to);
}

/// Where the last `count` at once end, of those from `begin` on.
static Value endOfWhole(IndexBuilder &index, Value begin, Value to,
                        int64_t count) {
  return index.add(
      begin,
      index.mul(index.div(index.sub(to, begin), index.constant(count)), count));
}

/// Scores of keys [from, to): [row][key - from], rows of whole vectors.
LogicalResult AttentionTask::emitFewScores(Scope &scope, Value from, Value to,
                                           Value pitch, std::string &reason) {
  IndexBuilder &index = scope.index;
  OpBuilder &b = scope.b();
  Location loc = scope.loc();
  int64_t inner = *graph::constantValue(spec.extentOf(spec.inner));
  int64_t whole = inner / s.lanes * s.lanes;
  LogicalResult outcome = success();
  // `last`: before which keys are asked for; null: none are.
  auto several = [&](Value key, int64_t count, bool shares, Value last) {
    SmallVector<Value> sums(count * s.rowTile, splat(scope, 0));
    PagedKeys paged;
    if (failed(findPagesOf(scope, spec.key.value, key, count, shares, last,
                           paged, reason)))
      outcome = failure();
    if (failed(outcome))
      return;
    auto step = [&](Value at, SmallVector<Value> in) {
      for (int64_t k = 0; paged.ahead && k < count; ++k) {
        scope.axes[spec.keys.front()] = index.add(paged.ahead, k);
        scope.pages = paged.pagesAhead[k];
        if (failed(prefetchLanes(scope, spec.key.value, spec.inner, at, inner,
                                 reason)))
          outcome = failure();
      }
      SmallVector<Value> keys;
      for (int64_t k = 0; k < count; ++k) {
        scope.axes[spec.keys.front()] = index.add(key, k);
        scope.pages = paged.pages[k];
        auto value =
            emitLanes(scope, spec.key.value, spec.inner, at, inner, reason);
        if (failed(value)) {
          outcome = failure();
          return in;
        }
        keys.push_back(*value);
      }
      for (unsigned r = 0; r < s.rowTile; ++r) {
        Value query =
            loadVector(scope, index.add(index.add(scope.areas[Queries], at),
                                        int64_t(r) * innerPitch));
        for (int64_t k = 0; k < count; ++k) {
          Value &sum = in[r * count + k];
          sum = vector::FMAOp::create(b, loc, query, keys[k], sum);
        }
      }
      return in;
    };
    sums = carry(scope, index.constant(0), index.constant(whole), s.lanes, sums,
                 step);
    if (whole < inner)
      sums = step(index.constant(whole), sums);
    for (unsigned r = 0; r < s.rowTile; ++r)
      for (int64_t k = 0; k < count; ++k) {
        Value sum = vector::ReductionOp::create(
            b, loc, vector::CombiningKind::ADD, sums[r * count + k],
            arith::FastMathFlags::reassoc);
        Value at = index.add(
            index.add(index.add(scope.areas[Scores], index.sub(key, from)), k),
            index.mul(pitch, int64_t(r)));
        memref::StoreOp::create(b, loc, sum, scope.work, at);
      }
  };
  int64_t count = s.rowTile <= 4 ? 4 : 2;
  bool shares = hasPages && sharesPages(spec.key.value, count);
  Value begin = from;
  if (shares) { // from a multiple on
    begin = firstWhole(index, from, to, count);
    index.forEach(from, begin, 1,
                  [&](Value key) { several(key, 1, false, Value()); });
  }
  Value end = endOfWhole(index, begin, to, count);
  index.forEach(begin, end, count, [&](Value key) {
    several(key, count, shares, hasPages ? end : Value());
  });
  index.forEach(end, to, 1,
                [&](Value key) { several(key, 1, false, Value()); });
  scope.axes[spec.keys.front()] = index.constant(0);
  scope.pages.clear();
  return outcome;
}

/// What is made of row `r`'s scores: weights in their place, and the row's
/// maximum, sum and factor. Lanes run over keys.
LogicalResult AttentionTask::emitFewSoftmax(Scope &scope, Value row, Value from,
                                            Value to, Value scores,
                                            Value &factor,
                                            std::string &reason) {
  IndexBuilder &index = scope.index;
  OpBuilder &b = scope.b();
  Location loc = scope.loc();
  unsigned keyAxis = spec.keys.front();
  LogicalResult outcome = success();
  Value count = index.sub(to, from), lowest = splat(scope, -INFINITY);
  auto load = spec.score.getDefiningOp<graph::LoadOp>();
  bool isScore = load && load.getTensor() == spec.scores.getResult();
  Value maxima =
      carry(scope, index.constant(0), count, s.lanes, {lowest},
            [&](Value at, SmallVector<Value> best) -> SmallVector<Value> {
              Value place = index.add(scores, at);
              Value score = loadVector(scope, place);
              Value mask = firstLanes(scope, index.sub(count, at));
              if (!isScore) {
                scope.axes[keyAxis] = index.add(from, at);
                ExprPoint point = pointOf(scope);
                scope.axes[keyAxis] = index.constant(0);
                point.lanes = s.lanes;
                point.laneAxes = {keyAxis};
                point.mask = mask;
                ExprEmitter expressions = expressionsOf(scope);
                expressions.setStageValue(
                    spec.scores, {score, spec.scores.getElementType()});
                auto value = expressions.emitNext(spec.score, point, reason);
                if (failed(value)) {
                  outcome = failure();
                  return best;
                }
                score = expressions.scalars.broadcast(*value, s.lanes).value;
              }
              score = arith::SelectOp::create(b, loc, mask, score, lowest);
              storeVector(scope, score, place);
              Value less = arith::CmpFOp::create(
                  b, loc, arith::CmpFPredicate::OLT, best[0], score);
              return {arith::SelectOp::create(b, loc, less, score, best[0])};
            })[0];
  if (failed(outcome))
    return failure();
  VectorMath math(b, loc, scalarOptions.fma);
  Value state = index.add(scope.areas[State], index.mul(row, stateWidth));
  Value old = memref::LoadOp::create(b, loc, scope.work, state);
  Value sumAt = index.add(state, 1);
  Value oldSum = memref::LoadOp::create(b, loc, scope.work, sumAt);
  Value here = vector::ReductionOp::create(
      b, loc, vector::CombiningKind::MAXNUMF, maxima);
  Value grows =
      arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, old, here);
  Value maximum = arith::SelectOp::create(b, loc, grows, here, old);
  memref::StoreOp::create(b, loc, maximum, scope.work, state);
  Value subtrahend = finite(scope, maximum);
  factor =
      math.expOfNonPositive(arith::SubFOp::create(b, loc, old, subtrahend));
  Value subtrahends =
      vector::BroadcastOp::create(b, loc, vectorType(), subtrahend);
  Value sums =
      carry(scope, index.constant(0), count, s.lanes, {splat(scope, 0)},
            [&](Value at, SmallVector<Value> sum) -> SmallVector<Value> {
              Value place = index.add(scores, at);
              Value e = math.expOfNonPositive(arith::SubFOp::create(
                  b, loc, loadVector(scope, place), subtrahends));
              storeVector(scope, e, place);
              return {arith::AddFOp::create(b, loc, sum[0], e)};
            })[0];
  Value sum = vector::ReductionOp::create(b, loc, vector::CombiningKind::ADD,
                                          sums, arith::FastMathFlags::reassoc);
  sum = arith::AddFOp::create(
      b, loc, arith::MulFOp::create(b, loc, oldSum, factor), sum);
  memref::StoreOp::create(b, loc, sum, scope.work, sumAt);
  if (!weighsElements())
    return success();
  auto rowNow = rowState(scope, pointOf(scope), maximum, sum, reason);
  if (failed(rowNow))
    return failure();
  RowState wide = *rowNow;
  for (Value *value : {&wide.maximum, &wide.sum, &wide.scale})
    if (*value)
      *value = vector::BroadcastOp::create(b, loc, vectorType(), *value);
  index.forEach(index.constant(0), count, s.lanes, [&](Value at) {
    Value place = index.add(scores, at);
    ExprPoint point = pointOf(scope);
    point.lanes = s.lanes;
    point.laneAxes = {keyAxis};
    point.mask = firstLanes(scope, index.sub(count, at));
    auto weight =
        weightOf(scope, point, loadVector(scope, place), wide, reason);
    if (failed(weight))
      outcome = failure();
    else
      storeVector(scope, *weight, place);
  });
  return outcome;
}

/// Adds the weighted values of keys [from, to) to the rows' sums.
LogicalResult AttentionTask::emitFewSums(Scope &scope, Value firstRow,
                                         Value from, Value to, Value pitch,
                                         ArrayRef<Value> factors,
                                         std::string &reason) {
  IndexBuilder &index = scope.index;
  OpBuilder &b = scope.b();
  Location loc = scope.loc();
  int64_t columns = *graph::constantValue(spec.extentOf(spec.columns));
  int64_t vectors = columnPitch / s.lanes;
  int64_t width = std::clamp<int64_t>(24 / s.rowTile, 1, 8);
  // Vectors that take part, evenly many at a time.
  int64_t passes = (vectors + width - 1) / width;
  LogicalResult outcome = success();
  int64_t done = 0;
  for (int64_t pass = 0; pass < passes; ++pass) {
    int64_t here = vectors / passes + (pass < vectors % passes);
    auto placeOf = [&](unsigned r, int64_t v) {
      Value row = index.add(firstRow, int64_t(r));
      return index.add(
          index.add(scope.areas[Sums], index.mul(row, columnPitch)),
          (done + v) * s.lanes);
    };
    SmallVector<Value> sums;
    for (unsigned r = 0; r < s.rowTile; ++r)
      for (int64_t v = 0; v < here; ++v)
        sums.push_back(arith::MulFOp::create(
            b, loc, loadVector(scope, placeOf(r, v)), factors[r]));
    // The key at the scope's place, in its page.
    auto addKey = [&](Value key, SmallVector<Value> &in) {
      SmallVector<Value> values;
      for (int64_t v = 0; v < here; ++v) {
        auto value =
            emitLanes(scope, spec.value.value, spec.columns,
                      index.constant((done + v) * s.lanes), columns, reason);
        if (failed(value)) {
          outcome = failure();
          return;
        }
        values.push_back(*value);
      }
      Value at = index.add(scope.areas[Scores], index.sub(key, from));
      for (unsigned r = 0; r < s.rowTile; ++r) {
        Value weight = memref::LoadOp::create(
            b, loc, scope.work, index.add(at, index.mul(pitch, int64_t(r))));
        weight = vector::BroadcastOp::create(b, loc, vectorType(), weight);
        for (int64_t v = 0; v < here; ++v) {
          Value &sum = in[r * here + v];
          sum = vector::FMAOp::create(b, loc, weight, values[v], sum);
        }
      }
    };
    auto several = [&](int64_t count, bool shares, Value last) {
      return [&, count, shares,
              last](Value key, SmallVector<Value> in) -> SmallVector<Value> {
        PagedKeys paged;
        if (failed(findPagesOf(scope, spec.value.value, key, count, shares,
                               last, paged, reason)))
          outcome = failure();
        for (int64_t k = 0; succeeded(outcome) && k < count; ++k) {
          for (int64_t v = 0; paged.ahead && v < here; ++v) {
            scope.axes[spec.keys.front()] = index.add(paged.ahead, k);
            scope.pages = paged.pagesAhead[k];
            if (failed(prefetchLanes(scope, spec.value.value, spec.columns,
                                     index.constant((done + v) * s.lanes),
                                     columns, reason)))
              outcome = failure();
          }
          scope.axes[spec.keys.front()] = index.add(key, k);
          scope.pages = paged.pages[k];
          addKey(index.add(key, k), in);
        }
        scope.axes[spec.keys.front()] = index.constant(0);
        scope.pages.clear();
        return in;
      };
    };
    constexpr int64_t count = 4;
    if (hasPages && sharesPages(spec.value.value, count)) {
      Value begin = firstWhole(index, from, to, count),
            end = endOfWhole(index, begin, to, count);
      sums = carry(scope, from, begin, 1, sums, several(1, false, Value()));
      sums = carry(scope, begin, end, count, sums, several(count, true, end));
      sums = carry(scope, end, to, 1, sums, several(1, false, Value()));
    } else {
      sums = carry(scope, from, to, 1, sums, several(1, false, Value()));
    }
    for (unsigned r = 0; r < s.rowTile; ++r)
      for (int64_t v = 0; v < here; ++v)
        storeVector(scope, sums[r * here + v], placeOf(r, v));
    done += here;
  }
  return outcome;
}

//===----------------------------------------------------------------------===//
// Phases
//===----------------------------------------------------------------------===//

/// Rows [firstRow, firstRow + rowTile), of which those beyond the last one
/// repeat it, against keys [begin, end).
LogicalResult AttentionTask::emitFewRows(Scope &scope, Value firstRow,
                                         Value begin, Value end,
                                         std::string &reason) {
  IndexBuilder &index = scope.index;
  Value last = index.sub(scope.rowCount, index.constant(1));
  auto rowOf = [&](unsigned r) {
    return index.min(index.add(firstRow, int64_t(r)), last);
  };
  int64_t inner = *graph::constantValue(spec.extentOf(spec.inner));
  Value zero = splat(scope, 0);
  for (unsigned r = 0; r < s.rowTile; ++r) {
    setRow(scope, rowOf(r));
    for (int64_t at = 0; at < innerPitch; at += s.lanes) {
      auto query = emitLanes(scope, spec.query.value, spec.inner,
                             index.constant(at), inner, reason);
      if (failed(query))
        return failure();
      storeVector(scope, *query,
                  index.add(scope.areas[Queries], r * innerPitch + at));
    }
    Value row = index.add(firstRow, int64_t(r));
    for (int64_t at = 0; at < columnPitch; at += s.lanes)
      storeVector(
          scope, zero,
          index.add(index.add(scope.areas[Sums], index.mul(row, columnPitch)),
                    at));
    Value state = index.add(scope.areas[State], index.mul(row, stateWidth));
    auto number = [&](double x) -> Value {
      return arith::ConstantOp::create(scope.b(), scope.loc(),
                                       scope.b().getF32FloatAttr(x));
    };
    memref::StoreOp::create(scope.b(), scope.loc(), number(-INFINITY),
                            scope.work, state);
    memref::StoreOp::create(scope.b(), scope.loc(), number(0), scope.work,
                            index.add(state, 1));
  }
  LogicalResult outcome = success();
  Value pitch = index.mul(
      index.ceilDiv(sizeOf(scope, keysOfBlock), index.constant(s.lanes)),
      s.lanes);
  auto overKeys = [&](Value from, Value to) {
    if (failed(emitFewScores(scope, from, to, pitch, reason))) {
      outcome = failure();
      return;
    }
    SmallVector<Value> factors;
    for (unsigned r = 0; r < s.rowTile; ++r) {
      setRow(scope, rowOf(r));
      Value scores =
          index.add(scope.areas[Scores], index.mul(pitch, int64_t(r)));
      Value factor;
      if (failed(emitFewSoftmax(scope, index.add(firstRow, int64_t(r)), from,
                                to, scores, factor, reason))) {
        outcome = failure();
        return;
      }
      factors.push_back(vector::BroadcastOp::create(scope.b(), scope.loc(),
                                                    vectorType(), factor));
    }
    if (failed(emitFewSums(scope, firstRow, from, to, pitch, factors, reason)))
      outcome = failure();
  };
  if (!s.keysPerBlock) {
    overKeys(begin, end);
    return outcome;
  }
  index.forEach(begin, end, s.keysPerBlock, [&](Value from) {
    overKeys(from, index.min(index.add(from, s.keysPerBlock), end));
  });
  return outcome;
}

/// The results of `row` from what the scope's areas hold of it.
LogicalResult AttentionTask::finishFewRow(Scope &scope, Value row,
                                          std::string &reason) {
  IndexBuilder &index = scope.index;
  OpBuilder &b = scope.b();
  Location loc = scope.loc();
  setRow(scope, row);
  Value state = index.add(scope.areas[State], index.mul(row, stateWidth)),
        sumAt = index.add(state, 1);
  auto now = rowState(
      scope, pointOf(scope), memref::LoadOp::create(b, loc, scope.work, state),
      memref::LoadOp::create(b, loc, scope.work, sumAt), reason);
  if (failed(now))
    return failure();
  auto factor = rowFactor(scope, pointOf(scope), *now, reason);
  if (failed(factor))
    return failure();
  Value factors = vector::BroadcastOp::create(b, loc, vectorType(), *factor);
  Value sums = index.add(scope.areas[Sums], index.mul(row, columnPitch));
  for (int64_t at = 0; at < columnPitch; at += s.lanes) {
    Value place = index.add(sums, at);
    storeVector(scope, scaled(scope, loadVector(scope, place), factors), place);
  }
  return storeRow(scope, sums, state, sumAt, reason);
}

LogicalResult AttentionTask::emitFew(std::string &reason) {
  Value part;
  Scope scope = beginFew(options.symbol, parts, part);
  IndexBuilder &index = scope.index;
  Value keys = sizeOf(scope, spec.keys), begin = index.constant(0), end = keys;
  // One range for all rows: the bounds must not differ between the other row
  // axes, nor may keys be wanted after all.
  bool bounds = !leastMaximum();
  for (const KeyCut &cut : spec.cuts)
    for (unsigned axis : otherRowAxes())
      bounds &= !cut.kept.isFunctionOfDim(axis);
  if (bounds) {
    Value rows = index.constant(1);
    if (auto lane = laneAxis())
      rows = sizeOf(scope, spec.space.extents[*lane]);
    KeyRange range = keysOf(scope, index.constant(0), rows);
    begin = range.begin;
    end = range.end;
  }
  if (s.keysPerTask) {
    Value first = index.mul(part, s.keysPerTask);
    begin = index.max(begin, first);
    end = index.min(end, index.add(first, s.keysPerTask));
  }
  if (bounds || s.keysPerTask)
    end = index.max(begin, end);
  if (s.keysPerTask) {
    Value offset = index.mul(function->task(), sizeOf(scope, taskElements));
    for (Value &area : scope.areas)
      area = index.add(area, offset);
  }
  LogicalResult outcome = success();
  index.forEach(index.constant(0), scope.rowCount, s.rowTile, [&](Value row) {
    if (failed(emitFewRows(scope, row, begin, end, reason)))
      outcome = failure();
  });
  if (succeeded(outcome) && !s.keysPerTask)
    index.forEach(index.constant(0), scope.rowCount, 1, [&](Value row) {
      if (failed(finishFewRow(scope, row, reason)))
        outcome = failure();
    });
  function->finish();
  if (failed(outcome) || !s.keysPerTask)
    return outcome;
  return emitFewMerge(reason);
}

LogicalResult AttentionTask::emitFewMerge(std::string &reason) {
  Value none;
  Scope scope = beginFew(options.symbol + ".merge", constantExpr(1), none);
  IndexBuilder &index = scope.index;
  OpBuilder &b = scope.b();
  Location loc = scope.loc();
  VectorMath math(b, loc, scalarOptions.fma);
  Value count = sizeOf(scope, parts), step = sizeOf(scope, taskElements);
  Value offset = index.mul(index.mul(function->task(), count), step);
  for (Value &area : scope.areas)
    area = index.add(area, offset);
  LogicalResult outcome = success();
  index.forEach(index.constant(0), scope.rowCount, 1, [&](Value row) {
    // Everything is gathered in the first part's place.
    Value state = index.add(scope.areas[State], index.mul(row, stateWidth)),
          sums = index.add(scope.areas[Sums], index.mul(row, columnPitch));
    index.forEach(index.constant(1), count, 1, [&](Value p) {
      Value apart = index.mul(p, step);
      auto at = [&](Value place) -> Value {
        return memref::LoadOp::create(b, loc, scope.work, place);
      };
      Value x = at(state), y = at(index.add(state, apart));
      Value less =
          arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, x, y);
      Value maximum = arith::SelectOp::create(b, loc, less, y, x);
      Value subtrahend = finite(scope, maximum);
      auto factorOf = [&](Value old) {
        return math.expOfNonPositive(
            arith::SubFOp::create(b, loc, old, subtrahend));
      };
      Value fx = factorOf(x), fy = factorOf(y);
      memref::StoreOp::create(b, loc, maximum, scope.work, state);
      Value sumAt = index.add(state, 1);
      Value sum = arith::AddFOp::create(
          b, loc, arith::MulFOp::create(b, loc, at(sumAt), fx),
          arith::MulFOp::create(b, loc, at(index.add(sumAt, apart)), fy));
      memref::StoreOp::create(b, loc, sum, scope.work, sumAt);
      Value vx = vector::BroadcastOp::create(b, loc, vectorType(), fx),
            vy = vector::BroadcastOp::create(b, loc, vectorType(), fy);
      for (int64_t c = 0; c < columnPitch; c += s.lanes) {
        Value place = index.add(sums, c);
        Value other = arith::MulFOp::create(
            b, loc, loadVector(scope, index.add(place, apart)), vy);
        storeVector(
            scope,
            vector::FMAOp::create(b, loc, loadVector(scope, place), vx, other),
            place);
      }
    });
    if (failed(finishFewRow(scope, row, reason)))
      outcome = failure();
  });
  function->finish();
  return outcome;
}
