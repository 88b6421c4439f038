// A block's tile of attention.
#include "AttentionTile.h"
#include "WarpGroup.h"

#include "dlc/Schedule/KeyBounds.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

#include <cmath>

using namespace mlir;
using namespace dlc;
using Axes = AttentionRows::Axes;

static bool isMultiple(AffineExpr extent, int64_t of) {
  auto value = graph::constantValue(extent);
  return value && *value % of == 0;
}

//===----------------------------------------------------------------------===//
// The block's place
//===----------------------------------------------------------------------===//

Value AttentionTile::both(Value x, Value y) {
  if (!x || !y)
    return x ? x : y;
  return b.createOrFold<arith::AndIOp>(loc, x, y);
}

Axes AttentionTile::axesOfRow(Value row) {
  Axes axes(blockAxes);
  Value heads = launch.size(spec.extentOf(spec.group));
  rows.setAxes(axes, spec.rows, index.div(row, heads));
  rows.setAxes(axes, spec.group, index.rem(row, heads));
  return axes;
}

Axes AttentionTile::axesOfKey(Value key) {
  Axes axes(blockAxes);
  axes[spec.keys.front()] = key;
  return axes;
}

void AttentionTile::begin(AttentionStep step) {
  totalRows = launch.size(plan.allRows());
  totalKeys = launch.size(spec.extentOf(spec.keys));
  totalColumns = index.constant(plan.allColumns());
  Value tiles = launch.size(plan.rowTiles());
  int64_t columnTiles = step == AttentionStep::Stats ? 1 : plan.columnTiles();
  SmallVector<Value> place =
      index.delinearize(launch.block(), {launch.size(spec.extentOf(spec.outer)),
                                         launch.size(plan.parts()),
                                         index.constant(columnTiles), tiles});
  outer = place[0];
  part = place[1];
  firstColumn = index.mul(place[2], plan.columns);
  // The longest first, where later positions see more keys.
  Value tile = index.sub(index.sub(tiles, index.constant(1)), place[3]);
  firstRow = index.mul(tile, plan.rows);
  blockAxes.assign(spec.space.extents.size(), index.constant(0));
  rows.setAxes(blockAxes, spec.outer, outer);
  bool exact = isMultiple(plan.allRows(), plan.rows);
  Value last = index.sub(totalRows, index.constant(1));
  for (unsigned i = 0; i < numRows; ++i) {
    Row row;
    Value number = index.add(firstRow, rowOf(i));
    // Rows behind the end do what the last one does, and store nothing.
    if (!exact) {
      row.exists = index.less(number, totalRows);
      number = index.min(number, last);
    }
    row.axes = axesOfRow(number);
    row.number = index.add(index.mul(outer, totalRows), number);
    threadRows.push_back(std::move(row));
  }
}

// Keys that some row of the block keeps. Blocks of keys begin at the same keys
// whatever the bounds are, so that sums are split in the same places.
void AttentionTile::boundKeys(bool mayBeFinite) {
  SmallVector<unsigned> axes = plan.rowAxes();
  Value one = index.constant(1), zero = index.constant(0);
  firstKey = zero;
  endKey = totalKeys;
  if (plan.keysPerPart) {
    firstKey = index.mul(part, plan.keysPerPart);
    endKey = index.min(totalKeys, index.add(firstKey, plan.keysPerPart));
  }
  Value heads = launch.size(spec.extentOf(spec.group));
  Value lastRow =
      index.min(index.add(firstRow, plan.rows - 1), index.sub(totalRows, one));
  Value begin = firstKey, end = endKey;
  bool bounds = false;
  for (const KeyCut &cut : spec.cuts) {
    if (!cut.data.empty() ||
        !boundsKeys(spec, cut, axes, bool(spec.weightRounding)) ||
        (!std::isinf(cut.fill) && !mayBeFinite))
      continue;
    bounds = true;
    Axes at(blockAxes);
    for (unsigned axis : axes) {
      bool isLast = *constantCoefficient(cut.kept, axis) >= 0;
      bool isPosition = spec.rows.size() == 1 && axis == spec.rows.front();
      at[axis] = isPosition ? index.div(isLast ? lastRow : firstRow, heads)
                 : isLast
                     ? index.sub(launch.size(spec.space.extents[axis]), one)
                     : zero;
    }
    Value most = rows.at(cut.kept, at);
    if (*constantCoefficient(cut.kept, spec.keys.front()) == -1)
      end = index.min(end, index.add(most, 1)); // key <= value
    else
      begin = index.max(begin, index.sub(zero, most));
  }
  if (!bounds)
    return;
  if (mayBeFinite)
    leastBound = leastMaximum(spec, axes, bool(spec.weightRounding));
  Value step = index.constant(plan.keys);
  // No keys at all: from the end to the end.
  begin = index.min(begin, endKey);
  end = index.max(end, begin);
  Value relative = index.sub(begin, firstKey);
  begin = index.add(firstKey, index.mul(index.div(relative, step), step));
  Value steps = index.ceilDiv(index.sub(end, begin), step);
  endKey = index.min(endKey, index.add(begin, index.mul(steps, step)));
  firstKey = begin;
}

//===----------------------------------------------------------------------===//
// Factors
//===----------------------------------------------------------------------===//

Value AttentionTile::factorAt(Value factor, const Axes &axes, Value inside) {
  Type f32 = b.getF32Type();
  auto read = [&]() -> Value {
    ExprEmitter expressions = rows.expressions();
    ExprPoint point;
    point.axes = axes;
    auto value = expressions.emitNext(factor, point, rows.reason);
    failedInside |= failed(value);
    return failed(value) ? rows.number(0) : value->value;
  };
  if (!inside)
    return read();
  auto choice = scf::IfOp::create(b, loc, TypeRange{f32}, inside,
                                  /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(choice.elseBlock());
  scf::YieldOp::create(b, loc, rows.number(0));
  b.setInsertionPointToStart(choice.thenBlock());
  scf::YieldOp::create(b, loc, read());
  return choice.getResult(0);
}

Value AttentionTile::storedAt(Value factor, const Axes &axes, Value inside) {
  Type word = b.getI16Type();
  auto zero = [&]() -> Value {
    return arith::ConstantOp::create(b, loc, b.getI16IntegerAttr(0));
  };
  auto read = [&]() -> Value {
    ExprEmitter expressions = rows.expressions();
    ExprPoint point;
    point.axes = axes;
    auto value = expressions.emitStored(factor, point, rows.reason);
    failedInside |= failed(value);
    if (failed(value))
      return zero();
    return value->getType().isInteger(16)
               ? *value
               : arith::BitcastOp::create(b, loc, word, *value).getResult();
  };
  if (!inside)
    return read();
  auto choice = scf::IfOp::create(b, loc, TypeRange{word}, inside,
                                  /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(choice.elseBlock());
  scf::YieldOp::create(b, loc, zero());
  b.setInsertionPointToStart(choice.thenBlock());
  scf::YieldOp::create(b, loc, read());
  return choice.getResult(0);
}

std::pair<Value, Value> AttentionTile::queryPair(Value row, Value exists,
                                                 Value base, int64_t offset) {
  bool exact = *graph::constantValue(spec.extentOf(spec.inner)) == plan.inner;
  Value depth = launch.size(spec.extentOf(spec.inner));
  auto element = [&](Value at) {
    Axes axes = axesOfRow(row);
    rows.setAxes(axes, spec.inner, at);
    return storedAt(plan.narrowQuery, axes,
                    both(exists, exact ? Value() : index.less(at, depth)));
  };
  Value first = element(index.add(base, offset));
  return {first, element(index.add(base, offset + 1))};
}

bool dlc::liesInChunks(const AttentionPlan &plan,
                       const ContractionOperand &operand,
                       ArrayRef<unsigned> along) {
  constexpr int64_t chunk = 8; // 16-bit elements
  const AttentionSpec &spec = plan.spec;
  if (!operand.plain || operand.element != plan.narrow ||
      !operand.base.isMultipleOf(chunk))
    return false;
  auto stride = spec.strideOf(operand, along);
  auto extent = graph::constantValue(spec.extentOf(along));
  if (!stride || *stride != 1 || *extent % chunk)
    return false;
  for (auto [axis, stride] : llvm::enumerate(operand.strides))
    if (!llvm::is_contained(along, axis) && !stride.isMultipleOf(chunk))
      return false;
  return true;
}

//===----------------------------------------------------------------------===//
// Scores
//===----------------------------------------------------------------------===//

/// Whether every row of the block keeps every key of the step at `key`; null:
/// certainly. Sets what is known then.
Value AttentionTile::keepsAll(Value key) {
  rows.known.clear();
  SmallVector<unsigned> axes = plan.rowAxes();
  Value one = index.constant(1), zero = index.constant(0), all;
  Value heads = launch.size(spec.extentOf(spec.group));
  Value lastRow =
      index.min(index.add(firstRow, plan.rows - 1), index.sub(totalRows, one));
  unsigned keyAxis = spec.keys.front();
  for (const KeyCut &cut : spec.cuts) {
    auto byKey = constantCoefficient(cut.kept, keyAxis);
    if (!cut.data.empty() || !cut.condition || !byKey ||
        !llvm::all_of(axes, [&](unsigned axis) {
          return constantCoefficient(cut.kept, axis).has_value();
        }))
      continue;
    // Where `kept` is least.
    Axes at(blockAxes);
    at[keyAxis] = *byKey < 0 ? index.add(key, plan.keys - 1) : key;
    for (unsigned axis : axes) {
      bool isFirst = *constantCoefficient(cut.kept, axis) >= 0;
      bool isPosition = spec.rows.size() == 1 && axis == spec.rows.front();
      at[axis] = isPosition ? index.div(isFirst ? firstRow : lastRow, heads)
                 : isFirst
                     ? zero
                     : index.sub(launch.size(spec.space.extents[axis]), one);
    }
    all = both(all, index.atLeast(rows.at(cut.kept, at), zero));
    rows.known.push_back({cut.condition, cut.keptWhen});
  }
  if (!isMultiple(spec.extentOf(spec.keys), plan.keys))
    all = both(all, index.atLeast(totalKeys, index.add(key, plan.keys)));
  return all;
}

AttentionTile::Values AttentionTile::scoresOf(Value key, Values products) {
  bool exact = isMultiple(spec.extentOf(spec.keys), plan.keys);
  Value last = index.sub(totalKeys, index.constant(1));
  auto compute = [&](bool whole) {
    Values scores(products);
    for (unsigned j = 0; j < numKeys; ++j) {
      Value at = index.add(key, keyOf(j)), exists;
      if (!exact && !whole) {
        exists = index.less(at, totalKeys);
        at = index.min(at, last);
      }
      for (unsigned i = 0; i < numRows; ++i) {
        Axes axes = threadRows[i].axes;
        axes[spec.keys.front()] = at;
        Value &score = scores[i * numKeys + j];
        auto value = rows.score(axes, score);
        failedInside |= failed(value);
        if (succeeded(value))
          score = *value;
        if (exists)
          score = arith::SelectOp::create(b, loc, exists, score,
                                          rows.number(-INFINITY));
      }
    }
    return scores;
  };
  Value isWhole = skipsMasks ? keepsAll(key) : Value();
  auto known = std::exchange(rows.known, {});
  if (!isWhole)
    return compute(/*whole=*/false);
  SmallVector<Type> types(products.size(), b.getF32Type());
  auto choice = scf::IfOp::create(b, loc, types, isWhole,
                                  /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  Value whole = products.front();
  b.setInsertionPointToStart(choice.elseBlock());
  // A branch, not selects that every step would pay for.
  products.front() = keepInPlace(b, loc, products.front()).front();
  scf::YieldOp::create(b, loc, compute(/*whole=*/false));
  b.setInsertionPointToStart(choice.thenBlock());
  products.front() = whole;
  rows.known = std::move(known);
  scf::YieldOp::create(b, loc, compute(/*whole=*/true));
  rows.known.clear();
  return Values(choice.getResults());
}

Value AttentionTile::largestOf(ValueRange scores) {
  Value part[] = {scores[0], scores[1]};
  for (size_t j = 2; j < scores.size(); ++j)
    part[j % 2] = rows.larger(part[j % 2], scores[j]);
  Value largest = rows.larger(part[0], part[1]);
  for (unsigned offset = lanes / 2; offset > 0; offset /= 2)
    largest = rows.larger(largest, launch.shuffleXor(largest, offset));
  return largest;
}

Value AttentionTile::sumLanes(Value value) {
  for (unsigned offset = lanes / 2; offset > 0; offset /= 2)
    value =
        arith::AddFOp::create(b, loc, value, launch.shuffleXor(value, offset));
  return value;
}

//===----------------------------------------------------------------------===//
// Passes
//===----------------------------------------------------------------------===//

// The maximum of a row may grow: what was summed before is then multiplied by
// exp(old maximum - new one).
AttentionTile::Softmax AttentionTile::weigh(Values scores, ValueRange maxima,
                                            ValueRange sums) {
  Softmax next;
  for (unsigned i = 0; i < numRows; ++i) {
    MutableArrayRef<Value> row =
        MutableArrayRef<Value>(scores).slice(i * numKeys, numKeys);
    Value old = maxima[i], largest = largestOf(row);
    if (scale != 1)
      largest = arith::MulFOp::create(b, loc, largest, rows.number(scale));
    Value maximum = rows.larger(old, largest),
          subtracted = rows.finite(maximum);
    Value factor = rows.expOfDifference(old, subtracted);
    // Two sums, so that one addition need not wait for the other.
    Value sum[] = {arith::MulFOp::create(b, loc, sums[i], factor), Value()};
    for (auto [j, score] : llvm::enumerate(row)) {
      score = rows.expOfDifference(score, subtracted, scale);
      Value &part = sum[j % 2];
      part =
          part ? arith::AddFOp::create(b, loc, part, score).getResult() : score;
    }
    next.maxima.push_back(maximum);
    next.sums.push_back(arith::AddFOp::create(b, loc, sum[0], sum[1]));
    next.factors.push_back(factor);
  }
  next.weights = std::move(scores);
  return next;
}

AttentionTile::Values AttentionTile::scaled(ValueRange output,
                                            ValueRange factors) {
  Values next(output);
  for (unsigned i = 0; i < numRows; ++i)
    for (unsigned c = 0; c < numColumns; ++c) {
      Value &sum = next[i * numColumns + c];
      sum = arith::MulFOp::create(b, loc, sum, factors[i]);
    }
  return next;
}

AttentionTile::Values AttentionTile::onePass(Value from, Value to,
                                             ValueRange carried) {
  return inSteps(
      from, to, carried, /*withValues=*/true, [&](Value key, ValueRange now) {
        Softmax softmax =
            weigh(scoresOf(key, multiplyKeys(key)), now.take_front(numRows),
                  now.slice(numRows, numRows));
        Values output =
            addValues(key, softmax.weights,
                      scaled(now.drop_front(2 * numRows), softmax.factors));
        Values next(softmax.maxima);
        llvm::append_range(next, softmax.sums);
        llvm::append_range(next, output);
        return next;
      });
}

AttentionTile::Values AttentionTile::statsPass(Value key, ValueRange carried) {
  Values scores = scoresOf(key, multiplyKeys(key)), maxima, sums;
  if (plan.keepsScores())
    keepScores(key, scores);
  for (unsigned i = 0; i < numRows; ++i) {
    ArrayRef<Value> row = ArrayRef<Value>(scores).slice(i * numKeys, numKeys);
    Value old = carried[i];
    Value maximum = rows.larger(old, largestOf(row)),
          subtracted = rows.finite(maximum);
    Value factor =
        rows.expOfNonPositive(arith::SubFOp::create(b, loc, old, subtracted));
    Value sum = arith::MulFOp::create(b, loc, carried[numRows + i], factor);
    for (Value score : row)
      sum = arith::AddFOp::create(b, loc, sum,
                                  rows.expOfNonPositive(arith::SubFOp::create(
                                      b, loc, score, subtracted)));
    maxima.push_back(maximum);
    sums.push_back(sum);
  }
  Values next(maxima);
  llvm::append_range(next, sums);
  return next;
}

AttentionTile::Values AttentionTile::weightsPass(Value key, ValueRange sums) {
  Values weights =
      plan.keepsScores() ? keptScores(key) : scoresOf(key, multiplyKeys(key));
  bool exact = isMultiple(spec.extentOf(spec.keys), plan.keys);
  for (unsigned i = 0; i < numRows; ++i)
    for (unsigned j = 0; j < numKeys; ++j) {
      Value &score = weights[i * numKeys + j];
      Value e = rows.expOfNonPositive(
          arith::SubFOp::create(b, loc, score, finiteMaxima[i]));
      auto weight = rows.weight(threadRows[i].axes, e, states[i]);
      failedInside |= failed(weight);
      if (failed(weight))
        continue;
      score = *weight;
      // A row of NaN has NaN for weights, of keys that exist.
      if (!exact)
        score = arith::SelectOp::create(
            b, loc, index.less(index.add(key, keyOf(j)), totalKeys), score,
            rows.number(0));
    }
  return addValues(key, weights, sums);
}

AttentionTile::Values AttentionTile::inSteps(Value from, Value to,
                                             ValueRange carried,
                                             bool withValues, KeyBody body) {
  startKeys(from, withValues);
  Values after = launch.loop(from, to, index.constant(plan.keys), carried,
                             [&](Value key, ValueRange values) {
                               enterKeys(key, withValues);
                               return body(key, values);
                             });
  leaveKeys();
  return after;
}

AttentionTile::Values AttentionTile::overKeys(Values initial, Pass pass) {
  if (!leastBound)
    return pass(firstKey, endKey, initial);
  // Where some row turns out to have no score above the masked ones', those
  // count: keys before the bounds, then those behind.
  Value zero = index.constant(0);
  return launch.loop(
      zero, index.constant(3), index.constant(1), initial,
      [&](Value turn, ValueRange carried) {
        Value isLow;
        for (unsigned i = 0; i < numRows; ++i) {
          Value low = both(
              rows.compare(arith::CmpFPredicate::ULE, carried[i], *leastBound),
              threadRows[i].exists);
          isLow = isLow ? Value(arith::OrIOp::create(b, loc, isLow, low)) : low;
        }
        Value any = launch.reduceBlock(
            arith::ExtUIOp::create(b, loc, b.getI32Type(), isLow),
            [&](Value x, Value y) -> Value {
              return arith::OrIOp::create(b, loc, x, y);
            });
        any = arith::TruncIOp::create(b, loc, b.getI1Type(), any);
        Value isFirst = index.less(turn, index.constant(1));
        Value isLast = index.atLeast(turn, index.constant(2));
        auto select = [&](Value condition, Value x, Value y) -> Value {
          return arith::SelectOp::create(b, loc, condition, x, y);
        };
        Value from = select(isFirst, firstKey, select(isLast, endKey, zero));
        Value outside = select(isLast, totalKeys, firstKey);
        Value to = select(isFirst, endKey, select(any, outside, from));
        return pass(from, to, carried);
      });
}

//===----------------------------------------------------------------------===//
// The end
//===----------------------------------------------------------------------===//

Value AttentionTile::storesRows() {
  return index.less(index.rem(launch.thread(), index.constant(lanes)),
                    index.constant(1));
}

// The place of a row's record in a buffer of parts.
static Value recordOf(LaunchBuilder &launch, const AttentionPlan &plan,
                      Value part, Value row) {
  IndexBuilder &index = launch.index();
  return index.add(index.mul(part, launch.size(plan.allPoints())), row);
}

void AttentionTile::storeStats(ValueRange maxima, ValueRange sums,
                               Value stats) {
  Value stores = both(storesRows(), index.less(firstColumn, index.constant(1)));
  for (unsigned i = 0; i < numRows; ++i)
    launch.onlyIf(both(stores, threadRows[i].exists), [&] {
      Value at =
          index.mul(recordOf(launch, plan, part, threadRows[i].number), 2);
      memref::StoreOp::create(b, loc, maxima[i], stats, at);
      memref::StoreOp::create(b, loc, sums[i], stats, index.add(at, 1));
    });
}

Value dlc::overParts(LaunchBuilder &launch, const AttentionPlan &plan,
                     Value initial, function_ref<Value(Value, Value)> body) {
  IndexBuilder &index = launch.index();
  Value parts = launch.size(plan.parts());
  if (auto count = IndexBuilder::constantOf(parts)) {
    for (int64_t part = 0; part < *count; ++part)
      initial = body(index.constant(part), initial);
    return initial;
  }
  return launch.loop(index.constant(0), parts, index.constant(1), {initial},
                     [&](Value part, ValueRange so) {
                       return SmallVector<Value>{body(part, so[0])};
                     })[0];
}

std::pair<Value, Value> dlc::mergeStats(LaunchBuilder &launch,
                                        AttentionRows &rows,
                                        const AttentionPlan &plan, Value stats,
                                        Value row) {
  OpBuilder &b = launch.builder();
  Location loc = launch.loc();
  IndexBuilder &index = launch.index();
  auto overRecords = [&](Value initial,
                         function_ref<Value(Value at, Value so)> body) {
    return overParts(launch, plan, initial, [&](Value part, Value so) {
      return body(index.mul(recordOf(launch, plan, part, row), 2), so);
    });
  };
  auto load = [&](Value at) -> Value {
    return memref::LoadOp::create(b, loc, stats, at);
  };
  Value maximum = overRecords(rows.number(-INFINITY), [&](Value at, Value so) {
    return rows.larger(so, load(at));
  });
  Value subtracted = rows.finite(maximum);
  Value sum = overRecords(rows.number(0), [&](Value at, Value so) -> Value {
    Value factor = rows.expOfNonPositive(
        arith::SubFOp::create(b, loc, load(at), subtracted));
    return math::FmaOp::create(b, loc, load(index.add(at, 1)), factor, so);
  });
  return {maximum, sum};
}

void AttentionTile::findStates(ValueRange maxima, ValueRange sums) {
  for (unsigned i = 0; i < numRows; ++i) {
    finiteMaxima.push_back(rows.finite(maxima[i]));
    auto state = rows.state(threadRows[i].axes, maxima[i], sums[i]);
    failedInside |= failed(state);
    states.push_back(succeeded(state) ? *state : AttentionRows::State());
  }
}

void AttentionTile::forEachRow(function_ref<void(unsigned)> body) {
  for (unsigned i = 0; i < numRows; ++i)
    if (threadRows[i].exists)
      launch.onlyIf(threadRows[i].exists, [&] { body(i); });
    else
      body(i);
}

void AttentionTile::onlyIfColumn(Value column, function_ref<void()> body) {
  if (coversColumns())
    body();
  else
    launch.onlyIf(index.less(column, totalColumns), body);
}

void AttentionTile::storeSums(ValueRange sums, Value memory) {
  forEachRow([&](unsigned i) {
    Value record = index.mul(recordOf(launch, plan, part, threadRows[i].number),
                             totalColumns);
    for (unsigned c = 0; c < numColumns; ++c) {
      Value column = index.add(firstColumn, columnOf(c));
      onlyIfColumn(column, [&] {
        memref::StoreOp::create(b, loc, sums[i * numColumns + c], memory,
                                index.add(record, column));
      });
    }
  });
}

void AttentionTile::finish(ValueRange sums) {
  forEachRow([&](unsigned i) {
    auto factor = rows.factor(threadRows[i].axes, states[i]);
    failedInside |= failed(factor);
    for (unsigned c = 0; c < numColumns && !failedInside; ++c) {
      Value column = index.add(firstColumn, columnOf(c));
      onlyIfColumn(column, [&] {
        Axes axes = threadRows[i].axes;
        rows.setAxes(axes, spec.columns, column);
        Value sum = rows.scaled(sums[i * numColumns + c], *factor);
        failedInside |= failed(rows.store(axes, sum, states[i]));
      });
    }
  });
}

LogicalResult AttentionTile::emit(AttentionStep step, AttentionScratch memory,
                                  std::string &reason) {
  scratch = memory;
  begin(step);
  boundKeys(/*mayBeFinite=*/step == AttentionStep::Whole && !plan.rounds());
  fetchQueries();
  Values maxima(numRows, rows.number(-INFINITY)), sums(numRows, rows.number(0)),
      output(numRows * numColumns, rows.number(0));
  auto split = [&](ValueRange carried) {
    maxima.assign(carried.begin(), carried.begin() + numRows);
    sums.clear();
    for (unsigned i = 0; i < numRows; ++i)
      sums.push_back(sumLanes(carried[numRows + i]));
    combineStats(maxima, sums);
  };
  Values initial(maxima);
  llvm::append_range(initial, sums);
  if (!plan.rounds()) {
    llvm::append_range(initial, output);
    Values carried = overKeys(initial, [&](Value from, Value to, ValueRange v) {
      return onePass(from, to, v);
    });
    split(carried);
    output.assign(carried.begin() + 2 * numRows, carried.end());
  } else {
    if (step == AttentionStep::Weighted) {
      for (unsigned i = 0; i < numRows; ++i)
        std::tie(maxima[i], sums[i]) =
            mergeStats(launch, rows, plan, scratch.stats, threadRows[i].number);
    } else {
      split(overKeys(initial, [&](Value from, Value to, ValueRange v) {
        return inSteps(from, to, v, /*withValues=*/false,
                       [&](Value k, ValueRange v) { return statsPass(k, v); });
      }));
    }
    if (step != AttentionStep::Stats) {
      findStates(maxima, sums);
      if (!failedInside)
        output = overKeys(output, [&](Value from, Value to, ValueRange v) {
          return inSteps(
              from, to, v, /*withValues=*/true,
              [&](Value k, ValueRange v) { return weightsPass(k, v); });
        });
    }
  }
  if (!failedInside && step != AttentionStep::Stats)
    combineSums(output);
  if (!failedInside) {
    if (step == AttentionStep::Whole) {
      if (states.empty())
        findStates(maxima, sums);
      if (!failedInside)
        finish(output);
    }
    if (step == AttentionStep::Parts || step == AttentionStep::Stats)
      storeStats(maxima, sums, scratch.stats);
    if (step == AttentionStep::Parts || step == AttentionStep::Weighted)
      storeSums(output, scratch.sums);
  }
  reason = rows.reason;
  return success(!failedInside);
}
