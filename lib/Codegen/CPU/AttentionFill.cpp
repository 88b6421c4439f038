// Copies into scratch: queries, which are turned so that they lie across lanes,
// and keys and values that are not read where they lie.
#include "AttentionTask.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

void AttentionTask::transpose(Scope &scope, MutableArrayRef<Value> rows) {
  int64_t width = rows.size();
  for (int64_t size = width / 2; size >= 1; size /= 2)
    for (int64_t l = 0; l < width; ++l) {
      if (l & size)
        continue;
      SmallVector<int64_t> low, high;
      for (int64_t i = 0; i < width; ++i) {
        low.push_back(i & size ? width + i - size : i);
        high.push_back(i & size ? width + i : i + size);
      }
      Value x = rows[l], y = rows[l + size];
      rows[l] = vector::ShuffleOp::create(scope.b(), scope.loc(), x, y, low);
      rows[l + size] =
          vector::ShuffleOp::create(scope.b(), scope.loc(), x, y, high);
    }
}

LogicalResult AttentionTask::copyRows(Scope &scope, Value factor,
                                      std::optional<unsigned> axis, Value first,
                                      Value count, ArrayRef<unsigned> along,
                                      Value to, int64_t pitch,
                                      std::string &reason) {
  IndexBuilder &index = scope.index;
  int64_t length = *graph::constantValue(spec.extentOf(along));
  LogicalResult outcome = success();
  SmallVector<Value> before = scope.axes, extents;
  for (unsigned a : along)
    extents.push_back(sizeOf(scope, spec.space.extents[a]));
  auto emitVector = [&](Value row, Value at, int64_t lanes) {
    for (auto [a, value] :
         llvm::zip_equal(along, index.delinearize(at, extents)))
      scope.axes[a] = value;
    ExprEmitter expressions = expressionsOf(scope);
    ExprPoint point = pointOf(scope);
    point.lanes = s.lanes;
    point.laneAxes.assign(along.begin(), along.end());
    if (lanes < s.lanes)
      point.mask = firstLanes(scope, index.constant(lanes));
    auto value = expressions.emit(factor, point, reason);
    if (failed(value)) {
      outcome = failure();
      return;
    }
    Value vector = expressions.scalars.broadcast(*value, s.lanes).value;
    // What stands behind a row is multiplied, too.
    if (s.packsPairs() && point.mask)
      vector = arith::SelectOp::create(scope.b(), scope.loc(), point.mask,
                                       vector, splat(scope, 0));
    storeVector(scope, vector,
                index.add(index.add(to, index.mul(row, pitch)), at));
  };
  index.forEach(index.constant(0), count, 1, [&](Value row) {
    if (axis)
      scope.axes[*axis] = index.add(first, row);
    if (failed(findPages(scope, factor, reason)))
      outcome = failure();
    int64_t whole = length / s.lanes * s.lanes;
    // Written out, what is computed differently in parts of a row (the halves
    // of a rotation) is known where it is computed.
    if (factor == spec.query.value && !spec.query.plain && whole <= 256)
      for (int64_t at = 0; at < whole; at += s.lanes)
        emitVector(row, index.constant(at), s.lanes);
    else
      index.forEach(index.constant(0), index.constant(whole), s.lanes,
                    [&](Value at) { emitVector(row, at, s.lanes); });
    if (whole < length)
      emitVector(row, index.constant(whole), length - whole);
    // Up to the one vector behind the padded row.
    int64_t end = (length + s.lanes - 1) / s.lanes * s.lanes;
    if (s.packsPairs() && end + int64_t(s.lanes) < pitch)
      storeVector(scope, splat(scope, 0),
                  index.add(index.add(to, index.mul(row, pitch)), end));
  });
  scope.axes = before;
  scope.pages.clear();
  return outcome;
}

LogicalResult AttentionTask::fillKeys(Scope &scope, Value from, Value to,
                                      std::string &reason) {
  Value count = scope.index.sub(to, from);
  if (s.packsPairs()) {
    count = scope.index.max(count, scope.index.constant(0));
    return failed(packKeys(scope, from, count, reason))
               ? failure()
               : packValues(scope, from, count, reason);
  }
  unsigned axis = spec.keys.front();
  if (s.copiesKeys &&
      failed(copyRows(scope, spec.key.value, axis, from, count, spec.inner,
                      scope.areas[Keys], innerPitch, reason)))
    return failure();
  if (s.copiesValues)
    return copyRows(scope, spec.value.value, axis, from, count, spec.columns,
                    scope.areas[Values], columnPitch, reason);
  return success();
}

LogicalResult AttentionTask::fillQueries(Scope &scope, Value number,
                                         std::string &reason) {
  IndexBuilder &index = scope.index;
  int64_t width = s.blockRows();
  int64_t inner = innerPitch - s.lanes;
  Value row = scope.axes[*laneAxis()], staged = scope.areas[Rows];
  Value count =
      index.min(index.constant(width),
                index.sub(index.add(scope.firstRow, scope.rowCount), row));
  if (failed(copyRows(scope, spec.query.value, *laneAxis(), row, count,
                      spec.inner, staged, innerPitch, reason)))
    return failure();
  Value zero = splat(scope, 0);
  index.forEach(count, index.constant(width), 1, [&](Value beyond) {
    index.forEach(
        index.constant(0), index.constant(inner), s.lanes, [&](Value at) {
          storeVector(
              scope, zero,
              index.add(index.add(staged, index.mul(beyond, innerPitch)), at));
        });
  });
  if (s.packsPairs())
    packQueries(scope, number);
  Value to = index.add(scope.areas[Queries], index.mul(number, inner * width));
  index.forEach(
      index.constant(0), index.constant(s.packsPairs() ? 0 : inner), s.lanes,
      [&](Value at) {
        for (unsigned v = 0; v < s.vectors; ++v) {
          SmallVector<Value> rows;
          for (unsigned l = 0; l < s.lanes; ++l)
            rows.push_back(loadVector(
                scope, index.add(index.add(staged, at),
                                 int64_t(v * s.lanes + l) * innerPitch)));
          transpose(scope, rows);
          Value place = index.add(index.add(to, index.mul(at, width)),
                                  int64_t(v) * s.lanes);
          for (unsigned l = 0; l < s.lanes; ++l)
            storeVector(scope, rows[l], index.add(place, int64_t(l) * width));
        }
      });
  clearBlock(scope, number);
  return success();
}

void AttentionTask::clearBlock(Scope &scope, Value number) {
  IndexBuilder &index = scope.index;
  int64_t width = s.blockRows(), columns = columnPitch - s.lanes;
  Value zero = splat(scope, 0);
  Value sums = index.add(scope.areas[Sums], index.mul(number, columns * width));
  index.forEach(
      index.constant(0), index.constant(columns * width), s.lanes,
      [&](Value at) { storeVector(scope, zero, index.add(sums, at)); });
  Value state = index.add(scope.areas[State], index.mul(number, 3 * width));
  Value lowest = splat(scope, -INFINITY);
  for (unsigned v = 0; v < s.vectors; ++v) {
    Value at = index.add(state, int64_t(v) * s.lanes);
    storeVector(scope, lowest, at);
    storeVector(scope, zero, index.add(at, width));
  }
}
