// A block of queries against a block of keys: scores, what is made of them,
// weights, and the sums of weighted values. One function a kernel, called for
// every pair of blocks.
//
// The maximum of a row may grow from block to block: what was summed before is
// then multiplied by exp(old maximum - new one), when the next sums are added.
#include "AttentionTask.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

//===----------------------------------------------------------------------===//
// The function
//===----------------------------------------------------------------------===//

void AttentionTask::callBlock(Scope &scope, Value number, Value from, Value to,
                              Value copiedFrom) {
  SmallVector<Value> arguments(scope.buffers);
  llvm::append_range(arguments, scope.symbols);
  for (unsigned axis : spec.outer)
    arguments.push_back(scope.axes[axis]);
  for (unsigned axis : otherRowAxes())
    arguments.push_back(scope.axes[axis]);
  arguments.append(
      {scope.work, number, scope.axes[*laneAxis()], from, to, copiedFrom});
  func::CallOp::create(scope.b(), scope.loc(), block, arguments);
}

LogicalResult AttentionTask::emitBlockFunction(std::string &reason) {
  OpBuilder b(spec.context());
  Location loc = module->getLoc();
  Type i = b.getIndexType();
  SmallVector<Type> inputs;
  for (Type type : bufferTypes)
    inputs.push_back(getFlatMemRef(getStorageType(type)));
  SmallVector<unsigned> others = otherRowAxes();
  inputs.append(kernel.getNumSymbols() + spec.outer.size() + others.size(), i);
  inputs.push_back(getFlatMemRef(b.getF32Type()));
  inputs.append(5, i);
  b.setInsertionPointToEnd(module->getBody());
  block = func::FuncOp::create(b, loc, options.symbol + ".block",
                               b.getFunctionType(inputs, {}));
  block.setPrivate();
  b.setInsertionPointToStart(block.addEntryBlock());
  Scope scope{IndexBuilder(b, loc), {}, {}, {}, Value()};
  unsigned next = 0;
  auto take = [&] { return block.getArgument(next++); };
  for (size_t k = 0; k < bufferTypes.size(); ++k)
    scope.buffers.push_back(take());
  for (unsigned k = 0; k < kernel.getNumSymbols(); ++k)
    scope.symbols.push_back(take());
  scope.axes.assign(spec.space.extents.size(), scope.index.constant(0));
  for (unsigned axis : spec.outer)
    scope.axes[axis] = take();
  for (unsigned axis : others)
    scope.axes[axis] = take();
  scope.work = take();
  BlockArguments arguments;
  for (Value *value : {&arguments.block, &arguments.firstRow, &arguments.from,
                       &arguments.to, &arguments.copiedFrom})
    *value = take();
  scope.axes[*laneAxis()] = arguments.firstRow;
  findAreas(scope);
  if (!s.tiles)
    emitScores(scope, arguments);
  if (failed(emitSoftmax(scope, arguments, reason)))
    return failure();
  if (s.tiles)
    emitTileSums(scope, arguments);
  else
    emitSums(scope, arguments);
  func::ReturnOp::create(b, loc);
  return success();
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

void AttentionTask::emitScores(Scope &scope, const BlockArguments &a) {
  IndexBuilder &index = scope.index;
  AttentionTiles::Factor keys;
  int64_t inner = innerPitch - s.lanes, width = s.blockRows();
  Value depth = sizeOf(scope, spec.inner);
  int64_t pitch = innerPitch;
  if (s.pairs) {
    pitch = inner /= 2;
    depth = index.ceilDiv(depth, index.constant(2));
  }
  if (s.copiesKeys) { // pairs are copies
    Value row = index.sub(a.from, a.copiedFrom);
    keys = {scope.work, index.add(scope.areas[Keys], index.mul(row, pitch)),
            index.constant(pitch), index.constant(1)};
  } else {
    scope.axes[spec.keys.front()] = a.from;
    keys = {scope.buffers[spec.key.operand], offsetOf(scope, spec.key),
            sizeOf(scope, spec.key.strides[spec.keys.front()]),
            sizeOf(scope, *spec.strideOf(spec.key, spec.inner))};
    scope.axes[spec.keys.front()] = index.constant(0);
  }
  AttentionTiles tiles(*module, options.symbol + ".scores", s.lanes, s.vectors,
                       s.unroll, s.pairs, /*accumulates=*/false);
  tiles.emit(index, s.keyTile, index.sub(a.to, a.from), depth, keys,
             {scope.work, index.add(scope.areas[Queries],
                                    index.mul(a.block, inner * width))},
             {scope.work, scope.areas[Scores]},
             {scope.work, scope.areas[Scores]});
}

void AttentionTask::emitSums(Scope &scope, const BlockArguments &a) {
  IndexBuilder &index = scope.index;
  AttentionTiles::Factor values;
  Value depth = index.sub(a.to, a.from);
  if (s.pairs) {
    // A block's keys begin at an even one (emitKeys).
    Value pair = index.div(index.sub(a.from, a.copiedFrom), index.constant(2));
    values = {scope.work, index.add(scope.areas[Values], pair),
              sizeOf(scope, valuePitch), index.constant(1)};
    depth = index.ceilDiv(depth, index.constant(2));
  } else if (s.copiesValues) {
    Value row = index.sub(a.from, a.copiedFrom);
    values = {scope.work,
              index.add(scope.areas[Values], index.mul(row, columnPitch)),
              index.constant(1), index.constant(columnPitch)};
  } else {
    scope.axes[spec.keys.front()] = a.from;
    values = {scope.buffers[spec.value.operand], offsetOf(scope, spec.value),
              sizeOf(scope, *spec.strideOf(spec.value, spec.columns)),
              sizeOf(scope, spec.value.strides[spec.keys.front()])};
    scope.axes[spec.keys.front()] = index.constant(0);
  }
  int64_t columns = columnPitch - s.lanes, width = s.blockRows();
  AttentionTiles tiles(*module, options.symbol + ".values", s.lanes, s.vectors,
                       s.unroll, s.pairs, /*accumulates=*/!s.pairs);
  Value factor = index.add(
      index.add(scope.areas[State], index.mul(a.block, 3 * width)), 2 * width);
  tiles.emit(index, s.columnTile, sizeOf(scope, spec.columns), depth, values,
             {scope.work, scope.areas[Scores]},
             {scope.work, index.add(scope.areas[Sums],
                                    index.mul(a.block, columns * width))},
             {scope.work, factor});
}

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

Value AttentionTask::finite(Scope &scope, Value maximum) {
  VectorMath math(scope.b(), scope.loc(), scalarOptions.fma);
  bool isVector = isa<VectorType>(maximum.getType());
  Value lowest = splat(scope, -INFINITY), zero = splat(scope, 0);
  if (!isVector) {
    lowest =
        vector::ExtractOp::create(scope.b(), scope.loc(), lowest, int64_t(0));
    zero = vector::ExtractOp::create(scope.b(), scope.loc(), zero, int64_t(0));
  }
  Value none = arith::CmpFOp::create(
      scope.b(), scope.loc(), arith::CmpFPredicate::OEQ, maximum, lowest);
  return arith::SelectOp::create(scope.b(), scope.loc(), none, zero, maximum);
}

/// max(x, y), x where y is NaN: one instruction. Rows with a NaN have a NaN for
/// a sum, whatever their maximum is.
static Value larger(OpBuilder &b, Location loc, Value x, Value y) {
  Value less = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, x, y);
  return arith::SelectOp::create(b, loc, less, y, x);
}

LogicalResult AttentionTask::emitMaximum(Scope &scope, const BlockArguments &a,
                                         Value from, Value to, bool kept,
                                         SmallVectorImpl<Value> &maxima,
                                         std::string &reason) {
  IndexBuilder &index = scope.index;
  OpBuilder &b = scope.b();
  Location loc = scope.loc();
  int64_t width = s.blockRows();
  auto load = spec.score.getDefiningOp<graph::LoadOp>();
  bool isScore = load && load.getTensor() == spec.scores.getResult();
  Value narrow = roundsByInstruction ? roundedScore() : Value();
  LogicalResult outcome = success();
  auto lanes = graph::constantValue(spec.space.extents[*laneAxis()]);
  bool masks = !lanes || *lanes % width;
  Value rows = sizeOf(scope, spec.space.extents[*laneAxis()]);
  // The score of a key for one vector of queries, stored if it is new.
  auto scoreAt = [&](Value key, unsigned v) -> Value {
    Value at = index.add(index.add(scope.areas[Scores],
                                   index.mul(index.sub(key, a.from), width)),
                         int64_t(v) * s.lanes);
    Value score = loadVector(scope, at);
    if (isScore)
      return score;
    SmallVector<Value> before = scope.axes;
    scope.axes[spec.keys.front()] = key;
    Value row = index.add(a.firstRow, int64_t(v) * s.lanes);
    scope.axes[*laneAxis()] = row;
    ExprPoint point = pointOf(scope);
    scope.axes = before;
    point.lanes = s.lanes;
    point.laneAxes = {*laneAxis()};
    if (masks)
      point.mask = firstLanes(scope, index.sub(rows, row));
    ExprEmitter expressions = expressionsOf(scope);
    expressions.setStageValue(spec.scores,
                              {score, spec.scores.getElementType()});
    if (narrow)
      expressions.setValue(narrow, {rounded(scope, score), narrow.getType()});
    if (kept)
      assumeKept(expressions);
    auto value = expressions.emitNext(spec.score, point, reason);
    if (failed(value)) {
      outcome = failure();
      return score;
    }
    score = expressions.scalars.broadcast(*value, s.lanes).value;
    storeVector(scope, score, at);
    return score;
  };
  // A few keys at a time: the maxima of a row wait for each other.
  constexpr int64_t several = 4;
  auto step = [&](Value key, int64_t count, SmallVector<Value> best) {
    for (unsigned v = 0; v < s.vectors; ++v) {
      SmallVector<Value> scores;
      for (int64_t k = 0; k < count; ++k)
        scores.push_back(scoreAt(index.add(key, k), v));
      for (size_t half = scores.size() / 2; half >= 1; half /= 2)
        for (size_t k = 0; k < half; ++k)
          scores[k] = larger(b, loc, scores[k], scores[k + half]);
      best[v] = larger(b, loc, best[v], scores[0]);
    }
    return best;
  };
  auto loop = [&](Value begin, Value end, int64_t by) {
    auto loop =
        scf::ForOp::create(b, loc, begin, end, index.constant(by),
                           SmallVector<Value>(maxima.begin(), maxima.end()));
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    SmallVector<Value> next =
        step(loop.getInductionVar(), by,
             SmallVector<Value>(loop.getRegionIterArgs()));
    scf::YieldOp::create(b, loc, next);
    maxima.assign(loop.getResults().begin(), loop.getResults().end());
  };
  Value count = index.max(index.sub(to, from), index.constant(0));
  Value whole = index.add(
      from, index.mul(index.div(count, index.constant(several)), several));
  loop(from, whole, several);
  loop(whole, to, 1);
  return outcome;
}

LogicalResult AttentionTask::emitSoftmax(Scope &scope, const BlockArguments &a,
                                         std::string &reason) {
  IndexBuilder &index = scope.index;
  OpBuilder &b = scope.b();
  Location loc = scope.loc();
  int64_t width = s.blockRows();
  VectorMath math(b, loc, scalarOptions.fma);
  SmallVector<Value> maxima(s.vectors, splat(scope, -INFINITY));
  bool bounds = llvm::any_of(
      spec.cuts, [&](const KeyCut &cut) { return boundsKeys(cut); });
  if (bounds) {
    Value rows = index.min(
        index.constant(width),
        index.sub(sizeOf(scope, spec.space.extents[*laneAxis()]), a.firstRow));
    KeyRange range = keysOf(scope, a.firstRow, rows);
    Value begin = index.max(a.from, index.min(range.allBegin, a.to));
    Value end = index.max(begin, index.min(range.allEnd, a.to));
    auto emitParts = [&](Value from, Value first, Value last, Value to) {
      return success(
          succeeded(
              emitMaximum(scope, a, from, first, false, maxima, reason)) &&
          succeeded(emitMaximum(scope, a, first, last, true, maxima, reason)) &&
          succeeded(emitMaximum(scope, a, last, to, false, maxima, reason)));
    };
    auto emitTile = [&](Value from, Value to) {
      Value first = index.max(from, index.min(begin, to));
      return emitParts(from, first, index.max(first, index.min(end, to)), to);
    };
    if (failed(s.tiles ? emitTileMaxima(scope, a, maxima, emitTile)
                       : emitParts(a.from, begin, end, a.to)))
      return failure();
  } else {
    auto emitTile = [&](Value from, Value to) {
      return emitMaximum(scope, a, from, to, false, maxima, reason);
    };
    if (failed(s.tiles ? emitTileMaxima(scope, a, maxima, emitTile)
                       : emitTile(a.from, a.to)))
      return failure();
  }

  Value state = index.add(scope.areas[State], index.mul(a.block, 3 * width));
  SmallVector<Value> subtrahends, factors, sums;
  for (unsigned v = 0; v < s.vectors; ++v) {
    Value at = index.add(state, int64_t(v) * s.lanes);
    Value old = loadVector(scope, at);
    Value maximum = larger(b, loc, old, maxima[v]);
    storeVector(scope, maximum, at);
    maxima[v] = maximum;
    subtrahends.push_back(finite(scope, maximum));
    factors.push_back(math.expOfNonPositive(
        arith::SubFOp::create(b, loc, old, subtrahends[v])));
    storeVector(scope, factors[v], index.add(at, 2 * width));
    sums.push_back(splat(scope, 0));
  }
  if (s.packsPairs())
    return emitTileWeights(scope, a, subtrahends, maxima, factors, reason);
  auto overKeys = [&](SmallVector<Value> state, auto body) {
    auto loop =
        scf::ForOp::create(b, loc, index.constant(0), index.sub(a.to, a.from),
                           index.constant(1), state);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    SmallVector<Value> next;
    for (unsigned v = 0; v < s.vectors; ++v) {
      Value at = index.add(index.add(scope.areas[Scores],
                                     index.mul(loop.getInductionVar(), width)),
                           int64_t(v) * s.lanes);
      body(at, loop.getInductionVar(), v,
           state.empty() ? Value() : loop.getRegionIterArg(v), next);
    }
    if (!state.empty())
      scf::YieldOp::create(b, loc, next);
    return SmallVector<Value>(loop.getResults());
  };
  // Values come from memory row by row while weights are made; their tiles go
  // down the columns, which hides no latency.
  std::function<void(Value)> fetchValues = [](Value) {};
  if (s.prefetchesValues && !s.copiesValues) {
    scope.axes[spec.keys.front()] = a.from;
    Value first = offsetOf(scope, spec.value);
    scope.axes[spec.keys.front()] = index.constant(0);
    Value step = sizeOf(scope, spec.value.strides[spec.keys.front()]);
    int64_t columns = *graph::constantValue(spec.extentOf(spec.columns));
    fetchValues = [&, first, step, columns](Value key) {
      constexpr int64_t line = 16; // f32 elements
      Value row = index.add(first, index.mul(key, step));
      for (int64_t c = 0; c < columns; c += line)
        memref::PrefetchOp::create(
            b, loc, scope.buffers[spec.value.operand], index.add(row, c),
            /*isWrite=*/false, /*localityHint=*/2, /*isDataCache=*/true);
    };
  }
  sums = overKeys(sums, [&](Value at, Value key, unsigned v, Value sum,
                            SmallVector<Value> &next) {
    if (v == 0)
      fetchValues(key);
    Value e = math.expOfNonPositive(
        arith::SubFOp::create(b, loc, loadVector(scope, at), subtrahends[v]));
    storeVector(scope, e, at);
    next.push_back(arith::AddFOp::create(b, loc, sum, e));
  });
  addToRowSums(scope, state, factors, sums);
  if (!weighsElements())
    return success();
  // The row is whole: weights as the body rounds them.
  LogicalResult outcome = success();
  overKeys({}, [&](Value at, Value, unsigned v, Value, SmallVector<Value> &) {
    ExprPoint point = pointOf(scope);
    point.axes[*laneAxis()] = index.add(a.firstRow, int64_t(v) * s.lanes);
    point.lanes = s.lanes;
    point.laneAxes = {*laneAxis()};
    point.mask = firstLanes(
        scope, index.sub(sizeOf(scope, spec.space.extents[*laneAxis()]),
                         point.axes[*laneAxis()]));
    Value maximum = loadVector(scope, index.add(state, int64_t(v) * s.lanes));
    auto row = rowState(scope, point, maximum, sums[v], reason);
    FailureOr<Value> weight = failure();
    if (succeeded(row))
      weight = weightOf(scope, point, loadVector(scope, at), *row, reason);
    if (failed(weight))
      outcome = failure();
    else
      storeVector(scope, *weight, at);
  });
  return outcome;
}
