// Run-time packing into panels of groups of k: two 16-bit numbers or four bytes
// side by side, as dot-product instructions read them.
#include "ContractionPanels.h"

#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace dlc;

namespace {

class GroupFiller {
public:
  GroupFiller(PanelContext &c, const ContractionOperand &operand, bool flips,
              std::string &reason)
      : c(c), operand(operand), index(c.index), b(index.builder()),
        loc(index.loc()), reason(reason), group(c.schedule.group()),
        lanes(c.schedule.lanes), flips(flips),
        element(panelElement(c.spec, c.schedule.form)),
        steps(index.expr(c.spec.extentOf(c.spec.inner), {}, c.symbols)),
        begin(c.firstStep ? c.firstStep : index.constant(0)),
        end(c.endStep ? c.endStep : c.depth) {}

  /// Rows of lhs, a block of k at a time.
  LogicalResult fillBlocks(Value panels, Value first, Value count);
  /// Vectors along `axes`, `group` steps of k together: panels of `width`
  /// vector lanes that follow each other, from point `first` on.
  LogicalResult fillAcross(Value panels, ArrayRef<unsigned> axes, Value first,
                           Value count, int64_t width);
  /// Columns whose k lie contiguous: square blocks of groups are transposed.
  LogicalResult fillTransposed(Value panels, Value first, Value count);
  /// [k / group][pixel][group] of the pixels that `axes` number, image row by
  /// image row.
  LogicalResult fillImageRows(Value panels, ArrayRef<unsigned> axes,
                              Value pitch, Value first, Value count);

private:
  /// The stored elements at a point; what the masks leave out is zero.
  FailureOr<Value> elements(const ExprPoint &point);
  /// The pixels of an image's row, numbered by the axis `pixel`, that exist at
  /// the steps [k, k + group): [first, second). None: that is not known.
  std::optional<std::pair<Value, Value>> pixelsInside(unsigned pixel, Value k);
  /// A group of vectors at `k`, interleaved. `isWhole`: all its steps exist.
  FailureOr<Value> interleaved(ExprPoint point, Value k, bool isWhole);
  Value interleave(ArrayRef<Value> vectors);
  Value zeros(int64_t count) {
    return arith::ConstantOp::create(
        b, loc, b.getZeroAttr(VectorType::get({count}, element)));
  }
  /// Groups of k, whole ones and the last; those from `from` on and, with a
  /// `to`, before it.
  LogicalResult forEachGroup(function_ref<LogicalResult(Value, bool)> body,
                             Value from, Value to = {});

  PanelContext &c;
  const ContractionOperand &operand;
  IndexBuilder &index;
  OpBuilder &b;
  Location loc;
  std::string &reason;
  int64_t group, lanes;
  bool flips;
  Type element;
  Value steps;      ///< of k, without padding
  Value begin, end; ///< what panels hold of k, whole groups
};

} // namespace

FailureOr<Value> GroupFiller::elements(const ExprPoint &point) {
  FailureOr<Value> stored = failure();
  if (c.schedule.form == ProductForm::I16Pairs) {
    auto value = c.expressions.emit(operand.value, point, reason);
    if (failed(value))
      return failure();
    Value wide = c.expressions.scalars.broadcast(*value, point.lanes).value;
    stored = Value(arith::TruncIOp::create(
        b, loc, VectorType::get({point.lanes}, element), wide));
  } else {
    stored = c.expressions.emitStored(operand.value, point, reason);
    if (failed(stored))
      return failure();
  }
  if (flips) {
    Value sign = arith::ConstantOp::create(
        b, loc,
        DenseElementsAttr::get(cast<ShapedType>(stored->getType()),
                               b.getI8IntegerAttr(-128)));
    stored = Value(arith::XOrIOp::create(b, loc, *stored, sign));
  }
  if (point.mask)
    stored = Value(arith::SelectOp::create(b, loc, point.mask, *stored,
                                           zeros(point.lanes)));
  return stored;
}

Value GroupFiller::interleave(ArrayRef<Value> vectors) {
  if (vectors.size() == 1)
    return vectors[0];
  SmallVector<Value> even, odd;
  for (auto [i, vector] : llvm::enumerate(vectors))
    (i % 2 ? odd : even).push_back(vector);
  Value x = interleave(even), y = interleave(odd);
  int64_t size = cast<VectorType>(x.getType()).getNumElements();
  SmallVector<int64_t> order;
  for (int64_t i = 0; i < size; ++i)
    order.append({i, size + i});
  return vector::ShuffleOp::create(b, loc, x, y, order);
}

LogicalResult
GroupFiller::forEachGroup(function_ref<LogicalResult(Value, bool)> body,
                          Value from, Value to) {
  LogicalResult result = success();
  Value whole = index.mul(index.div(steps, index.constant(group)), group);
  index.forEach(from, to ? index.min(to, whole) : whole, group, [&](Value k) {
    if (failed(body(k, true)))
      result = failure();
  });
  // A task's first group beyond the whole ones is the last one.
  auto known = IndexBuilder::constantOf(steps);
  bool hasRest = !to || !known || *known % c.schedule.depthStep;
  Value rest = to ? index.max(from, whole) : whole;
  if (hasRest)
    index.forEach(rest, to ? index.min(to, end) : end, group, [&](Value k) {
      if (failed(body(k, false)))
        result = failure();
    });
  for (unsigned axis : c.spec.inner)
    c.axes[axis] = index.constant(0);
  return result;
}

FailureOr<Value> GroupFiller::interleaved(ExprPoint point, Value k,
                                          bool isWhole) {
  SmallVector<Value> vectors;
  for (int64_t j = 0; j < group; ++j) {
    Value step = index.add(k, j), exists;
    if (!isWhole) {
      auto at = IndexBuilder::constantOf(step),
           all = IndexBuilder::constantOf(steps);
      if (at && all && *at >= *all) {
        vectors.push_back(zeros(lanes));
        continue;
      }
      if (!at || !all) {
        exists = index.less(step, steps);
        step = index.min(step, index.sub(steps, index.constant(1)));
      }
    }
    setCoordinates(c, point.axes, c.spec.inner, step);
    auto stored = elements(point);
    if (failed(stored))
      return failure();
    if (exists)
      stored =
          Value(arith::SelectOp::create(b, loc, exists, *stored, zeros(lanes)));
    vectors.push_back(*stored);
  }
  return interleave(vectors);
}

LogicalResult GroupFiller::fillBlocks(Value panels, Value first, Value count) {
  LogicalResult result = success();
  int64_t rows = c.schedule.panelRows, block = c.schedule.kBlock;
  Value whole = index.mul(index.div(steps, index.constant(block)), block);
  Value allSteps = steps;
  if (c.endStep) {
    whole = index.min(whole, end);
    allSteps = index.min(steps, end);
  }
  index.forEach(index.constant(0), count, 1, [&](Value row) {
    setCoordinates(c, c.axes, c.spec.rows, index.add(first, row));
    Value panel = index.div(row, index.constant(rows)),
          inside = index.rem(row, index.constant(rows));
    Value to = index.add(index.mul(index.mul(panel, c.paddedDepth), rows),
                         index.mul(inside, block));
    auto copy = [&](Value k, bool isWhole) {
      ExprPoint point;
      point.axes = c.axes;
      point.lanes = block;
      point.laneAxes = c.spec.inner;
      setCoordinates(c, point.axes, c.spec.inner, k);
      if (!isWhole)
        point.mask = vector::CreateMaskOp::create(
            b, loc, VectorType::get({block}, b.getI1Type()),
            index.sub(steps, k));
      auto stored = elements(point);
      if (failed(stored)) {
        result = failure();
        return;
      }
      vector::StoreOp::create(
          b, loc, *stored, panels,
          index.add(to, index.mul(index.sub(k, begin), rows)));
    };
    index.forEach(begin, whole, block, [&](Value k) { copy(k, true); });
    index.forEach(c.firstStep ? index.max(begin, whole) : whole, allSteps,
                  block, [&](Value k) { copy(k, false); });
  });
  for (unsigned axis : c.spec.rows)
    c.axes[axis] = index.constant(0);
  return result;
}

LogicalResult GroupFiller::fillAcross(Value panels, ArrayRef<unsigned> axes,
                                      Value first, Value count, int64_t width) {
  LogicalResult result = success();
  auto maskType = VectorType::get({lanes}, b.getI1Type());
  auto fillPanel = [&](Value start, Value valid, Value from, Value to) {
    Value base = index.mul(start, c.depth);
    auto fillGroup = [&](Value k, bool isWhole) -> LogicalResult {
      // The last vector of a panel that is no multiple of vectors runs over
      // its end: the next group's comes after it.
      for (int64_t at = 0; at < width; at += lanes) {
        ExprPoint point;
        point.axes = c.axes;
        point.lanes = lanes;
        point.laneAxes.assign(axes.begin(), axes.end());
        setCoordinates(c, point.axes, axes,
                       index.add(index.add(first, start), at));
        if (valid || at + lanes > width)
          point.mask = vector::CreateMaskOp::create(
              b, loc, maskType,
              valid ? index.sub(valid, index.constant(at))
                    : index.constant(width - at));
        auto words = interleaved(point, k, isWhole);
        if (failed(words))
          return failure();
        vector::StoreOp::create(
            b, loc, *words, panels,
            index.add(index.add(base, index.mul(index.sub(k, begin), width)),
                      at * group));
      }
      return success();
    };
    if (failed(forEachGroup(fillGroup, from, to)))
      result = failure();
  };
  auto fillPanels = [&](Value from, Value to) {
    forEachPanel(index, count, width, [&](Value start, Value valid) {
      fillPanel(start, valid, from, to);
    });
  };
  // A panel takes a cache line of each k, which lie far from each other: a few
  // k of all panels before the next ones, so that rows are read as they lie.
  // (Not where vectors run over a panel's end, which the next panel repairs.)
  if (isBf16Form(c.schedule.form) && width % lanes == 0) {
    constexpr int64_t few = 16;
    index.forEach(begin, end, few,
                  [&](Value k) { fillPanels(k, index.add(k, few)); });
  } else {
    fillPanels(begin, c.endStep);
  }
  return result;
}

LogicalResult GroupFiller::fillTransposed(Value panels, Value first,
                                          Value count) {
  LogicalResult result = success();
  int64_t width = c.schedule.panelColumns(), block = lanes * group;
  Value memory = c.buffer(operand.operand);
  auto type = VectorType::get({block}, element);
  auto words = VectorType::get({lanes}, b.getI32Type());
  Value stride =
      index.expr(*c.spec.strideOf(operand, c.spec.columns), {}, c.symbols);
  Value origin = outerOffset(c, operand);
  Value last = index.add(first, index.sub(count, index.constant(1)));
  Value whole = index.mul(index.div(steps, index.constant(block)), block);
  Value allSteps = steps;
  if (c.endStep) {
    whole = index.min(whole, end);
    allSteps = index.min(steps, end);
  }
  Value sign;
  if (flips)
    sign = arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(type, b.getI8IntegerAttr(-128)));
  auto load = [&](Value column, Value k, Value mask) -> Value {
    Value at = index.add(column, k);
    Value value;
    if (mask)
      value = vector::MaskedLoadOp::create(b, loc, type, memory, at, mask,
                                           zeros(block));
    else
      value = vector::LoadOp::create(b, loc, type, memory, at);
    if (sign)
      value = arith::XOrIOp::create(b, loc, value, sign);
    if (sign && mask)
      value = arith::SelectOp::create(b, loc, mask, value, zeros(block));
    return vector::BitCastOp::create(b, loc, words, value);
  };
  // Columns after the last one repeat it: nothing is read behind.
  auto offsetOf = [&](Value start, Value at, int64_t i) {
    Value column =
        index.min(index.add(index.add(index.add(first, start), at), i), last);
    return index.add(origin, index.mul(column, stride));
  };
  auto maskAt = [&](Value k) -> Value {
    return vector::CreateMaskOp::create(
        b, loc, VectorType::get({block}, b.getI1Type()), index.sub(steps, k));
  };
  // A block of the columns whose loads `loadAt` gives.
  auto transpose = [&](Value base, Value at, Value k, bool isWhole,
                       function_ref<Value(int64_t)> loadAt) {
    SmallVector<Value> rows;
    for (int64_t i = 0; i < lanes; ++i)
      rows.push_back(loadAt(i));
    transposeVectors(b, loc, rows);
    auto store = [&](int64_t i) {
      vector::StoreOp::create(
          b, loc, vector::BitCastOp::create(b, loc, type, rows[i]), panels,
          index.add(
              index.add(base, index.mul(at, group)),
              index.mul(index.add(index.sub(k, begin), i * group), width)));
    };
    if (isWhole) {
      for (int64_t i = 0; i < lanes; ++i)
        store(i);
      return;
    }
    // Groups that do not exist have no room in the panel.
    for (int64_t i = 0; i < lanes; ++i)
      index.forEach(index.add(k, i * group),
                    index.min(end, index.add(k, i * group + 1)), 1,
                    [&](Value) { store(i); });
  };
  auto forEachBlock = [&](function_ref<void(Value, bool)> body) {
    index.forEach(begin, whole, block, [&](Value k) { body(k, true); });
    index.forEach(c.firstStep ? index.max(begin, whole) : whole, allSteps,
                  block, [&](Value k) { body(k, false); });
  };
  // A vector of columns at a time, all their k: as few streams as a
  // transposition allows, which the hardware fetches ahead of each; and offsets
  // are computed once.
  index.forEach(index.constant(0), count, width, [&](Value start) {
    Value base = index.mul(start, c.depth);
    index.forEach(
        index.constant(0), index.constant(width), lanes, [&](Value at) {
          SmallVector<Value> offsets;
          for (int64_t i = 0; i < lanes; ++i)
            offsets.push_back(offsetOf(start, at, i));
          forEachBlock([&](Value k, bool isWhole) {
            Value mask = isWhole ? Value() : maskAt(k);
            transpose(base, at, k, isWhole,
                      [&](int64_t i) { return load(offsets[i], k, mask); });
          });
        });
  });
  return result;
}

std::optional<std::pair<Value, Value>> GroupFiller::pixelsInside(unsigned pixel,
                                                                 Value k) {
  if (!operand.plain && !operand.guarded)
    return std::nullopt;
  Value zero = index.constant(0),
        width = index.expr(c.spec.space.extents[pixel], {}, c.symbols);
  Value from = zero, to = width;
  auto floorDiv = [&](Value value, int64_t size) -> Value {
    return size == 1 ? value
                     : b.createOrFold<arith::ShRSIOp>(
                           loc, value, index.constant(llvm::Log2_64(size)));
  };
  for (int64_t j = 0; j < group; ++j) {
    SmallVector<Value> axes = c.axes;
    setCoordinates(c, axes, c.spec.inner, index.add(k, j));
    axes[pixel] = zero;
    for (auto &[isEquality, guard] : operand.guards) {
      auto coefficient = linearCoefficient(guard, pixel);
      auto slope = coefficient ? graph::constantValue(*coefficient)
                               : std::optional<int64_t>();
      if (isEquality || !slope ||
          (*slope && !llvm::isPowerOf2_64(std::abs(*slope))))
        return std::nullopt;
      // value + slope * pixel >= 0
      Value value = index.expr(guard, axes, c.symbols);
      if (*slope > 0)
        from = index.max(from, index.sub(zero, floorDiv(value, *slope)));
      else if (*slope < 0)
        to = index.min(to, index.add(floorDiv(value, -*slope), 1));
      else
        to = arith::SelectOp::create(b, loc, index.atLeast(value, zero), to,
                                     zero);
    }
  }
  return std::pair(from, to);
}

LogicalResult GroupFiller::fillImageRows(Value panels, ArrayRef<unsigned> axes,
                                         Value pitch, Value first,
                                         Value count) {
  LogicalResult result = success();
  unsigned lastAxis = axes.back();
  auto maskType = VectorType::get({lanes}, b.getI1Type());
  ColumnRows columnRows(c, axes, first, count);
  auto fillGroup = [&](Value k, bool isWhole) -> LogicalResult {
    LogicalResult inside = success();
    Value target = index.mul(k, pitch);
    columnRows.forEach([&](Value from, Value to, Value origin) {
      auto range = isWhole ? pixelsInside(lastAxis, k) : std::nullopt;
      auto fill = [&](Value column, bool isInside) {
        ExprPoint point;
        point.axes = c.axes;
        point.axes[lastAxis] = column;
        point.lanes = lanes;
        point.laneAxes = {lastAxis};
        if (!isInside)
          point.mask = vector::CreateMaskOp::create(b, loc, maskType,
                                                    index.sub(to, column));
        c.expressions.holdsGuards = isInside;
        auto words = interleaved(point, k, isWhole);
        c.expressions.holdsGuards = false;
        if (failed(words)) {
          inside = failure();
          return;
        }
        vector::StoreOp::create(
            b, loc, *words, panels,
            index.add(target, index.mul(index.add(origin, column), group)));
      };
      // Most vectors have neither padding nor an end: no masks.
      index.forEach(from, to, lanes, [&](Value column) {
        if (!range)
          return fill(column, /*isInside=*/false);
        Value last = index.min(range->second, to);
        Value isInside = arith::AndIOp::create(
            b, loc, index.atLeast(column, range->first),
            index.atLeast(last, index.add(column, lanes)));
        auto branch =
            scf::IfOp::create(b, loc, isInside, /*withElseRegion=*/true);
        OpBuilder::InsertionGuard guard(b);
        b.setInsertionPointToStart(branch.thenBlock());
        fill(column, /*isInside=*/true);
        b.setInsertionPointToStart(branch.elseBlock());
        fill(column, /*isInside=*/false);
      });
    });
    return inside;
  };
  if (failed(forEachGroup(fillGroup, index.constant(0))))
    result = failure();
  return result;
}

LogicalResult dlc::fillLhsGroups(PanelContext &context, Value panels,
                                 Value first, Value count,
                                 std::string &reason) {
  GroupFiller filler(context, context.spec.lhs, /*flips=*/false, reason);
  if (context.schedule.kBlock == context.schedule.group())
    return filler.fillAcross(panels, context.spec.rows, first, count,
                             context.schedule.panelRows);
  return filler.fillBlocks(panels, first, count);
}

LogicalResult dlc::fillLhsGroupSteps(PanelContext &context, Value panels,
                                     Value pitch, Value first, Value count,
                                     std::string &reason) {
  return GroupFiller(context, context.spec.lhs, /*flips=*/false, reason)
      .fillImageRows(panels, context.spec.rows, pitch, first, count);
}

LogicalResult dlc::fillRhsGroups(PanelContext &context, Value panels,
                                 Value pitch, Value first, Value count,
                                 bool flips, std::string &reason) {
  const ContractionSpec &spec = context.spec;
  GroupFiller filler(context, spec.rhs, flips, reason);
  if (!hasColumnPanels(spec))
    return filler.fillImageRows(panels, spec.columns, pitch, first, count);
  bool isStored = context.schedule.form != ProductForm::I16Pairs;
  auto column =
      spec.rhs.plain ? spec.strideOf(spec.rhs, spec.columns) : std::nullopt;
  auto inner =
      spec.rhs.plain ? spec.strideOf(spec.rhs, spec.inner) : std::nullopt;
  if (isStored && column && inner && *inner == 1 && *column != 1 &&
      !spec.columns.empty())
    return filler.fillTransposed(panels, first, count);
  return filler.fillAcross(panels, spec.columns, first, count,
                           context.schedule.panelColumns());
}
