// Run-time packing loops.
#include "ContractionPanels.h"

#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

void dlc::forEachPanel(
    IndexBuilder &index, Value count, int64_t width,
    llvm::function_ref<void(Value start, Value valid)> body) {
  Value whole = index.mul(index.div(count, index.constant(width)), width);
  index.forEach(index.constant(0), whole, width,
                [&](Value start) { body(start, Value()); });
  index.forEach(whole, count, width,
                [&](Value start) { body(start, index.sub(count, start)); });
}

ColumnRows::ColumnRows(PanelContext &c, ArrayRef<unsigned> group, Value first,
                       Value count, unsigned rowRank)
    : c(c), before(group.drop_back(rowRank)), first(first) {
  IndexBuilder &index = c.index;
  width = index.expr(c.spec.extentOf(group.take_back(rowRank)), {}, c.symbols);
  end = index.add(first, count);
  firstRow = index.div(first, width);
  lastRow = index.ceilDiv(end, width);
}

void ColumnRows::forEach(
    llvm::function_ref<void(Value from, Value to, Value origin)> body) {
  IndexBuilder &index = c.index;
  index.forEach(firstRow, lastRow, 1, [&](Value row) {
    Value start = index.mul(row, width);
    setCoordinates(c, c.axes, before, row);
    Value from = index.max(index.sub(first, start), index.constant(0));
    Value to = index.min(index.sub(end, start), width);
    body(from, to, index.sub(start, first));
  });
  for (unsigned axis : before)
    c.axes[axis] = index.constant(0);
}

void dlc::setCoordinates(PanelContext &c, SmallVectorImpl<Value> &axes,
                         ArrayRef<unsigned> group, Value linear) {
  IndexBuilder &index = c.index;
  SmallVector<Value> extents;
  for (unsigned axis : group)
    extents.push_back(index.expr(c.spec.space.extents[axis], {}, c.symbols));
  for (auto [axis, value] :
       llvm::zip_equal(group, index.delinearize(linear, extents)))
    axes[axis] = value;
}

namespace {

/// Loops over all points of a group of axes, row-major; the body gets the
/// number of the point and finds its coordinates in `axes`.
void forEachPoint(IndexBuilder &index, PanelContext &c,
                  ArrayRef<unsigned> group, Value number,
                  function_ref<void(Value)> body) {
  if (group.empty())
    return body(number);
  unsigned axis = group.front();
  Value extent = index.expr(c.spec.space.extents[axis], {}, c.symbols);
  index.forEach(index.constant(0), extent, 1, [&](Value i) {
    c.axes[axis] = i;
    forEachPoint(index, c, group.drop_front(),
                 index.add(index.mul(number, extent), i), body);
    c.axes[axis] = index.constant(0);
  });
}

/// Stores a vector of `scalar`, at `point`, into `panels`.
LogicalResult storeLanes(PanelContext &c, Value scalar, const ExprPoint &point,
                         Value panels, Value at, std::string &reason) {
  auto value = c.expressions.emit(scalar, point, reason);
  if (failed(value))
    return failure();
  vector::StoreOp::create(
      c.index.builder(), c.index.loc(),
      c.expressions.scalars.broadcast(*value, point.lanes).value, panels, at);
  return success();
}

class LhsFiller {
public:
  LhsFiller(PanelContext &c, Value panels, Value first, Value count)
      : c(c), index(c.index), b(index.builder()), loc(index.loc()),
        panels(panels), first(first), count(count), rows(c.schedule.panelRows),
        block(c.schedule.kBlock) {}

  LogicalResult fill(std::string &reason);

private:
  void copyAlongDepth();
  void copyAlongRows();
  LogicalResult copyElements(std::string &reason);
  LogicalResult copyBlocks(std::string &reason);
  LogicalResult copyRuns(std::string &reason);
  /// Start of row `row`'s part of the panels.
  Value rowOffset(Value row) {
    Value panel = index.div(row, index.constant(rows));
    Value inside = index.rem(row, index.constant(rows));
    return index.add(index.mul(index.mul(panel, c.paddedDepth), rows),
                     index.mul(inside, block));
  }
  /// Offset of step k from the start of a row.
  Value depthOffset(Value k) {
    Value whole = index.div(k, index.constant(block));
    return index.add(index.mul(whole, rows * block),
                     index.rem(k, index.constant(block)));
  }
  Value convert(Value value) {
    return toAccumulator(c.expressions.scalars, value, c.spec.lhs.element,
                         c.spec.accumulator);
  }

  PanelContext &c;
  IndexBuilder &index;
  OpBuilder &b;
  Location loc;
  Value panels, first, count;
  int64_t rows, block;
};

} // namespace

Value dlc::outerOffset(PanelContext &c, const ContractionOperand &operand) {
  AffineExpr offset = operand.base;
  for (unsigned axis : c.spec.outer)
    offset = offset +
             getAffineDimExpr(axis, c.spec.context()) * operand.strides[axis];
  return c.index.expr(offset, c.axes, c.symbols);
}

void LhsFiller::copyAlongDepth() {
  Value memory = c.buffer(c.spec.lhs.operand);
  Type storage = cast<MemRefType>(memory.getType()).getElementType();
  Value stride =
      index.expr(*c.spec.strideOf(c.spec.lhs, c.spec.rows), {}, c.symbols);
  Value base = outerOffset(c, c.spec.lhs);
  auto type = VectorType::get({block}, storage);
  Value begin = c.firstStep ? c.firstStep : index.constant(0),
        end = c.endStep ? c.endStep : c.depth;
  Value blocks = index.div(index.sub(end, begin), index.constant(block));
  Value whole = index.mul(blocks, block);
  base = index.add(base, begin);
  index.forEach(index.constant(0), count, 1, [&](Value row) {
    Value from = index.add(base, index.mul(index.add(first, row), stride));
    Value to = rowOffset(row);
    index.forEach(index.constant(0), blocks, 1, [&](Value q) {
      Value value = vector::LoadOp::create(
          b, loc, type, memory, index.add(from, index.mul(q, block)));
      vector::StoreOp::create(b, loc, convert(value), panels,
                              index.add(to, index.mul(q, rows * block)));
    });
    index.forEach(whole, index.sub(end, begin), 1, [&](Value k) {
      Value value = memref::LoadOp::create(b, loc, memory, index.add(from, k));
      memref::StoreOp::create(b, loc, convert(value), panels,
                              index.add(to, depthOffset(k)));
    });
  });
}

void LhsFiller::copyAlongRows() {
  Value memory = c.buffer(c.spec.lhs.operand);
  Type storage = cast<MemRefType>(memory.getType()).getElementType();
  Value stride =
      index.expr(*c.spec.strideOf(c.spec.lhs, c.spec.inner), {}, c.symbols);
  Value base = index.add(outerOffset(c, c.spec.lhs), first);
  int64_t lanes = c.schedule.lanes;
  auto type = VectorType::get({lanes}, storage);
  auto maskType = VectorType::get({lanes}, b.getI1Type());
  Value zeros = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
  // A panel's row of one k is `rows` elements: whole vectors and a masked rest.
  auto copy = [&](Value row, Value k, Value valid) {
    Value from = index.add(index.add(base, row), index.mul(k, stride));
    Value to = index.add(index.mul(row, c.paddedDepth), index.mul(k, rows));
    for (int64_t at = 0; at < rows; at += lanes) {
      Value mask;
      if (valid || at + lanes > rows) {
        Value left = index.constant(rows - at);
        if (valid)
          left = index.sub(valid, index.constant(at));
        mask = vector::CreateMaskOp::create(b, loc, maskType, left);
      }
      Value source = index.add(from, at), target = index.add(to, at);
      if (mask)
        vector::MaskedStoreOp::create(
            b, loc, panels, target, mask,
            convert(vector::MaskedLoadOp::create(b, loc, type, memory, source,
                                                 mask, zeros)));
      else
        vector::StoreOp::create(
            b, loc,
            convert(vector::LoadOp::create(b, loc, type, memory, source)),
            panels, target);
    }
  };
  Value whole = index.mul(index.div(count, index.constant(rows)), rows);
  index.forEach(index.constant(0), whole, rows, [&](Value row) {
    index.forEach(index.constant(0), c.depth, 1,
                  [&](Value k) { copy(row, k, Value()); });
  });
  index.forEach(whole, count, rows, [&](Value row) {
    index.forEach(index.constant(0), c.depth, 1,
                  [&](Value k) { copy(row, k, index.sub(count, row)); });
  });
}

LogicalResult LhsFiller::copyElements(std::string &reason) {
  LogicalResult result = success();
  index.forEach(index.constant(0), count, 1, [&](Value row) {
    setCoordinates(c, c.axes, c.spec.rows, index.add(first, row));
    Value to = rowOffset(row);
    forEachPoint(index, c, c.spec.inner, index.constant(0), [&](Value k) {
      ExprPoint point;
      point.axes = c.axes;
      auto value = c.expressions.emit(c.spec.lhs.value, point, reason);
      if (failed(value)) {
        result = failure();
        return;
      }
      memref::StoreOp::create(b, loc, value->value, panels,
                              index.add(to, depthOffset(k)));
    });
  });
  for (unsigned axis : c.spec.rows)
    c.axes[axis] = index.constant(0);
  return result;
}

/// Any expression, a block of k at a time. Lanes after the last k are padding.
LogicalResult LhsFiller::copyBlocks(std::string &reason) {
  LogicalResult result = success();
  auto known = IndexBuilder::constantOf(c.depth);
  bool isWhole = known && *known % block == 0;
  index.forEach(index.constant(0), count, 1, [&](Value row) {
    setCoordinates(c, c.axes, c.spec.rows, index.add(first, row));
    Value to = rowOffset(row);
    index.forEach(index.constant(0), c.depth, block, [&](Value k) {
      ExprPoint point;
      point.axes = c.axes;
      point.lanes = block;
      point.laneAxes = c.spec.inner;
      setCoordinates(c, point.axes, c.spec.inner, k);
      if (!isWhole)
        point.mask = vector::CreateMaskOp::create(
            b, loc, VectorType::get({block}, b.getI1Type()),
            index.sub(c.depth, k));
      if (failed(storeLanes(c, c.spec.lhs.value, point, panels,
                            index.add(to, index.mul(k, rows)), reason)))
        result = failure();
    });
  });
  for (unsigned axis : c.spec.rows)
    c.axes[axis] = index.constant(0);
  return result;
}

/// Whole rows, from runs of k that lie contiguous, a vector at a time. What a
/// vector stores behind its run the next one overwrites.
LogicalResult LhsFiller::copyRuns(std::string &reason) {
  LogicalResult result = success();
  SmallVector<unsigned> run = c.spec.lhsGuardedRun();
  ArrayRef<unsigned> before = ArrayRef(c.spec.inner).drop_back(run.size());
  int64_t lanes = c.schedule.lanes;
  auto maskType = VectorType::get({lanes}, b.getI1Type());
  Value length = index.expr(c.spec.extentOf(run), {}, c.symbols);
  index.forEach(index.constant(0), count, 1, [&](Value row) {
    setCoordinates(c, c.axes, c.spec.rows, index.add(first, row));
    Value to = index.mul(row, c.paddedDepth);
    forEachPoint(index, c, before, index.constant(0), [&](Value number) {
      Value start = index.add(to, index.mul(number, length));
      index.forEach(index.constant(0), length, lanes, [&](Value k) {
        ExprPoint point;
        point.axes = c.axes;
        point.lanes = lanes;
        point.laneAxes = run;
        setCoordinates(c, point.axes, run, k);
        point.mask = vector::CreateMaskOp::create(b, loc, maskType,
                                                  index.sub(length, k));
        if (failed(storeLanes(c, c.spec.lhs.value, point, panels,
                              index.add(start, k), reason)))
          result = failure();
      });
    });
  });
  for (unsigned axis : c.spec.rows)
    c.axes[axis] = index.constant(0);
  return result;
}

bool dlc::copiesAlongDepth(const ContractionSpec &spec,
                           const ContractionSchedule &schedule) {
  if (!spec.lhs.plain || schedule.wholeRows || schedule.kBlock == 1)
    return false;
  auto row = spec.strideOf(spec.lhs, spec.rows);
  auto inner = spec.strideOf(spec.lhs, spec.inner);
  return row && inner && *inner == 1;
}

LogicalResult LhsFiller::fill(std::string &reason) {
  const ContractionOperand &lhs = c.spec.lhs;
  if (c.schedule.wholeRows)
    return copyRuns(reason);
  if (copiesAlongDepth(c.spec, c.schedule)) {
    copyAlongDepth();
    return success();
  }
  if (lhs.plain) {
    auto row = c.spec.strideOf(lhs, c.spec.rows);
    auto inner = c.spec.strideOf(lhs, c.spec.inner);
    if (row && inner && *row == 1 && block == 1) {
      copyAlongRows();
      return success();
    }
  }
  return block > 1 ? copyBlocks(reason) : copyElements(reason);
}

LogicalResult dlc::fillLhs(PanelContext &context, Value panels, Value first,
                           Value count, std::string &reason) {
  return LhsFiller(context, panels, first, count).fill(reason);
}

bool dlc::hasColumnPanels(const ContractionSpec &spec) {
  return spec.columns.size() <= 1 ||
         (spec.rhs.plain && spec.strideOf(spec.rhs, spec.columns));
}

void dlc::transposeVectors(OpBuilder &b, Location loc,
                           MutableArrayRef<Value> rows) {
  int64_t lanes = rows.size();
  for (int64_t s = 1; s < lanes; s *= 2)
    for (int64_t i = 0; i < lanes; ++i) {
      if (i & s)
        continue;
      // Swaps the off-diagonal blocks of s lanes of rows i and i + s.
      SmallVector<int64_t> low, high;
      for (int64_t j = 0; j < lanes; ++j) {
        low.push_back(j & s ? lanes + j - s : j);
        high.push_back(j & s ? lanes + j : j + s);
      }
      Value x = rows[i], y = rows[i + s];
      rows[i] = vector::ShuffleOp::create(b, loc, x, y, low);
      rows[i + s] = vector::ShuffleOp::create(b, loc, x, y, high);
    }
}

/// The k from `first` to `whole` (whole vectors of them) of a panel whose
/// operand has contiguous k: square blocks are transposed in registers. Columns
/// after the last one repeat it, so that nothing is read behind the operand.
static void fillTransposed(PanelContext &c, Value panels, Value firstOfPanel,
                           Value lastColumn, Value base, Value first,
                           Value whole) {
  IndexBuilder &index = c.index;
  OpBuilder &b = index.builder();
  Location loc = index.loc();
  int64_t lanes = c.schedule.lanes, width = c.schedule.panelColumns();
  const ContractionOperand &rhs = c.spec.rhs;
  Value memory = c.buffer(rhs.operand);
  auto type = VectorType::get(
      {lanes}, cast<MemRefType>(memory.getType()).getElementType());
  Value stride =
      index.expr(*c.spec.strideOf(rhs, c.spec.columns), {}, c.symbols);
  Value origin = outerOffset(c, rhs);
  // A vector of columns at a time, all their k: as few streams as a
  // transposition allows, which the hardware fetches ahead of each.
  index.forEach(index.constant(0), index.constant(width), lanes, [&](Value at) {
    SmallVector<Value> columns;
    for (int64_t i = 0; i < lanes; ++i) {
      Value column = index.add(index.add(firstOfPanel, at), i);
      if (lastColumn)
        column = index.min(column, lastColumn);
      columns.push_back(index.add(origin, index.mul(column, stride)));
    }
    index.forEach(first, whole, lanes, [&](Value k) {
      SmallVector<Value> rows;
      for (Value column : columns) {
        Value value =
            vector::LoadOp::create(b, loc, type, memory, index.add(column, k));
        rows.push_back(toAccumulator(c.expressions.scalars, value, rhs.element,
                                     c.spec.accumulator));
      }
      transposeVectors(b, loc, rows);
      Value to =
          index.add(index.add(base, at), index.mul(index.sub(k, first), width));
      for (int64_t i = 0; i < lanes; ++i)
        vector::StoreOp::create(b, loc, rows[i], panels,
                                index.add(to, i * width));
    });
  });
}

/// [panel][k][column]: the k of one panel before the next panel, so that a
/// transposed operand's cache lines are used up while they are near.
static LogicalResult fillColumnPanels(PanelContext &c, Value panels,
                                      Value first, Value count,
                                      std::string &reason) {
  IndexBuilder &index = c.index;
  OpBuilder &b = index.builder();
  Location loc = index.loc();
  int64_t lanes = c.schedule.lanes, width = c.schedule.panelColumns();
  auto maskType = VectorType::get({lanes}, b.getI1Type());
  LogicalResult result = success();
  const ContractionOperand &rhs = c.spec.rhs;
  auto columnStep =
      rhs.plain ? c.spec.strideOf(rhs, c.spec.columns) : std::nullopt;
  auto innerStep =
      rhs.plain ? c.spec.strideOf(rhs, c.spec.inner) : std::nullopt;
  bool transposes = columnStep && innerStep && *innerStep == 1 &&
                    *columnStep != 1 && !c.spec.columns.empty();
  Value firstStep = c.firstStep ? c.firstStep : index.constant(0),
        endStep = c.endStep ? c.endStep : c.depth;
  auto fillPanel = [&](Value column, Value valid, Value from, Value to) {
    Value base = index.mul(column, c.depth);
    Value begin = from;
    if (transposes) {
      Value whole = index.div(index.sub(to, from), index.constant(lanes));
      begin = index.add(from, index.mul(whole, lanes));
      Value last = index.add(first, index.sub(count, index.constant(1)));
      fillTransposed(c, panels, index.add(first, column),
                     valid ? last : Value(), base, from, begin);
    }
    auto steps = [&](llvm::function_ref<void(Value)> body) {
      if (!transposes && !c.firstStep)
        return forEachPoint(index, c, c.spec.inner, index.constant(0), body);
      index.forEach(begin, to, 1, [&](Value k) {
        setCoordinates(c, c.axes, c.spec.inner, k);
        body(k);
      });
      for (unsigned axis : c.spec.inner)
        c.axes[axis] = index.constant(0);
    };
    steps([&](Value k) {
      for (int64_t at = 0; at < width; at += lanes) {
        ExprPoint point;
        point.axes = c.axes;
        point.lanes = lanes;
        point.laneAxes = c.spec.columns;
        setCoordinates(c, point.axes, c.spec.columns,
                       index.add(index.add(first, column), at));
        if (valid)
          point.mask = vector::CreateMaskOp::create(
              b, loc, maskType, index.sub(valid, index.constant(at)));
        if (failed(storeLanes(
                c, c.spec.rhs.value, point, panels,
                index.add(
                    index.add(base, index.mul(index.sub(k, firstStep), width)),
                    at),
                reason)))
          result = failure();
      }
    });
  };
  auto fillPanels = [&](Value from, Value to) {
    forEachPanel(index, count, width, [&](Value start, Value valid) {
      fillPanel(start, valid, from, to);
    });
  };
  // A part of k is wide: its rows are read as they lie, some at a time.
  constexpr int64_t few = 16;
  if (c.firstStep && !transposes)
    index.forEach(firstStep, endStep, few, [&](Value k) {
      fillPanels(k, index.min(index.add(k, few), endStep));
    });
  else
    fillPanels(firstStep, endStep);
  return result;
}

/// Whether the last axis of the columns numbers the elements of short groups
/// (the phases of a transposed convolution) that divide a vector. Vectors run
/// over it and the axis before it then; parts of a task's columns begin with
/// whole vectors, hence with whole groups.
static bool hasShortGroups(const ContractionSpec &spec, int64_t lanes) {
  if (spec.columns.size() < 2)
    return false;
  auto size = graph::constantValue(spec.space.extents[spec.columns.back()]);
  return size && *size > 1 && *size < lanes && lanes % *size == 0;
}

/// Vectors of columns for all taps of each step before the last inner axis.
static void fillTapRows(PanelContext &c, const ColumnTaps &taps,
                        ColumnRows &columnRows, Value panels, Value pitch) {
  IndexBuilder &index = c.index;
  ArrayRef<unsigned> inner = ArrayRef(c.spec.inner).drop_back();
  forEachPoint(index, c, inner, index.constant(0), [&](Value k) {
    Value target = index.mul(index.mul(k, taps.count), pitch);
    columnRows.forEach([&](Value from, Value to, Value origin) {
      Value start = index.add(target, origin);
      index.forEach(from, to, c.schedule.lanes, [&](Value column) {
        c.axes[taps.column] = column;
        fillTaps(c, taps, index.sub(to, column), panels,
                 index.add(start, column), pitch);
        c.axes[taps.column] = index.constant(0);
      });
    });
  });
}

/// [k][column]: for each k, the runs of columns that lie within one row of the
/// last column axis. Vectors run over a row's end into the next row's place;
/// rows are written in order, so the next row repairs it.
static LogicalResult fillColumnRows(PanelContext &c, Value panels, Value pitch,
                                    Value first, Value count,
                                    std::string &reason) {
  IndexBuilder &index = c.index;
  OpBuilder &b = index.builder();
  Location loc = index.loc();
  int64_t lanes = c.schedule.lanes;
  unsigned lastAxis = c.spec.columns.back();
  auto maskType = VectorType::get({lanes}, b.getI1Type());
  LogicalResult result = success();
  std::optional<ColumnTaps> taps;
  if (c.expressions.hasMaskedMemory())
    taps = columnTaps(c.spec, c.spec.rhs, c.spec.columns, lanes);
  unsigned rowRank = !taps && hasShortGroups(c.spec, lanes) ? 2 : 1;
  ColumnRows columnRows(c, c.spec.columns, first, count, rowRank);
  auto fillVector = [&](Value column, Value count, Value place) {
    ExprPoint point;
    point.axes = c.axes;
    point.axes[lastAxis] = column;
    if (rowRank == 2) {
      unsigned groups = *std::prev(c.spec.columns.end(), 2);
      Value size = index.expr(c.spec.space.extents[lastAxis], {}, c.symbols);
      point.axes[groups] = index.div(column, size);
      point.axes[lastAxis] = index.constant(0);
      point.laneAxes.push_back(groups);
    }
    point.lanes = lanes;
    point.laneAxes.push_back(lastAxis);
    point.mask = vector::CreateMaskOp::create(b, loc, maskType, count);
    if (failed(storeLanes(c, c.spec.rhs.value, point, panels, place, reason)))
      result = failure();
  };
  if (taps) {
    fillTapRows(c, *taps, columnRows, panels, pitch);
    return success();
  }
  forEachPoint(index, c, c.spec.inner, index.constant(0), [&](Value k) {
    Value target = index.mul(k, pitch);
    columnRows.forEach([&](Value from, Value to, Value origin) {
      Value start = index.add(target, origin);
      index.forEach(from, to, lanes, [&](Value column) {
        fillVector(column, index.sub(to, column), index.add(start, column));
      });
    });
  });
  return result;
}

LogicalResult dlc::fillLhsSteps(PanelContext &c, Value panels, Value pitch,
                                Value first, Value count, std::string &reason) {
  auto taps = columnTaps(c.spec, c.spec.lhs, c.spec.rows, c.schedule.lanes);
  if (!taps) {
    reason = "lhs has no taps that share their loads";
    return failure();
  }
  ColumnRows rows(c, c.spec.rows, first, count);
  fillTapRows(c, *taps, rows, panels, pitch);
  return success();
}

LogicalResult dlc::fillRhs(PanelContext &context, Value panels, Value pitch,
                           Value first, Value count, std::string &reason) {
  if (hasColumnPanels(context.spec))
    return fillColumnPanels(context, panels, first, count, reason);
  return fillColumnRows(context, panels, pitch, first, count, reason);
}
