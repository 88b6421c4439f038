// The loops over a task's tiles: whole ones, then what is left of columns and
// rows.
#include "ContractionEpilogue.h"
#include "ContractionTask.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

void ContractionTask::emitTiles() {
  locateResult();
  TileParams params;
  params.accumulator = spec.accumulator;
  params.lhsType =
      s.lhs == FactorSource::Filled ? spec.accumulator : spec.lhs.element;
  params.rhsType =
      s.rhs == FactorSource::Filled ? spec.accumulator : spec.rhs.element;
  params.kBlock = hasWholeRows() ? 1 : s.kBlock;
  if (s.lhs == FactorSource::Indirect) {
    params.indirect = &spec;
    if (graph::constantValue(spec.extentOf(spec.rows)))
      params.rowStep = s.tileRows;
    params.surroundings.push_back(zeros);
    llvm::append_range(params.surroundings, symbols);
    for (unsigned axis : spec.outer)
      params.surroundings.push_back(axes[axis]);
  }
  if (ComputedFactor::isInTiles(spec, s)) {
    params.computed = &computed;
    params.scalesSums = s.scalesSums;
    for (const ContractionOperand &load : spec.rhsLoads)
      params.surroundings.push_back(function->buffer(load.operand));
    llvm::append_range(params.surroundings, symbols);
    for (unsigned axis : spec.outer)
      params.surroundings.push_back(axes[axis]);
  }
  params.lhsRow = lhsRow;
  params.lhsBlock = lhsBlock;
  params.panelVectors = rhsPanelVectors;
  params.rhsStep = rhsStep;
  params.rhsPanel = rhsPanel;
  if (s.widensRhs) {
    params.rhsType = spec.accumulator;
    params.panelVectors = s.tileVectors;
    params.rhsStep = index->constant(int64_t(s.tileVectors) * s.lanes);
    params.rhsPanel = index->constant(0);
  }
  params.dot = s.dot;
  params.pairsTail = s.pairsTail;
  params.registers = registers;
  params.rhsColumn = rhsColumn;
  params.maskRhs = s.rhs == FactorSource::Memory;
  params.maskOut = directResult().has_value();
  params.outRow = outRow;
  params.lanes = s.lanes;
  params.unroll = s.unroll;
  params.prefetch = s.widensRhs ? 0 : s.prefetch; // widening reads ahead
  params.prefetchAcross = s.rhs == FactorSource::Memory && s.depthPerPass;
  params.fma = s.fma;
  params.accumulates = s.depthPerPass != 0;
  if (s.epilogueInTiles) {
    params.epilogue = &spec;
    params.problem = &problem;
    for (unsigned buffer : epilogueBuffers(spec))
      params.epilogueValues.push_back(function->buffer(buffer));
    llvm::append_range(params.epilogueValues, symbols);
    for (unsigned axis : spec.outer)
      params.epilogueValues.push_back(axes[axis]);
  }
  params.scalar = scalarOptions;
  params.form = s.form;
  params.group = s.group();
  params.lhsUnsigned = isBytes() && isLhsUnsigned(spec);
  if (needsColumnSums()) {
    params.rowZero = rowsDiffer() ? rowZero : Value();
    params.columnTerm = columnTerm;
  }
  if (needsRowSums()) {
    params.rowSum = rowSum;
    params.columnZero = columnsDiffer() ? columnZero : Value();
  }
  planAhead(params);
  tiles.emplace(*module, options.symbol, params);
  if (copiesLastRows()) {
    params.kBlock = s.kBlock;
    params.lhsRow = index->constant(s.kBlock);
    params.lhsBlock = index->constant(int64_t(s.panelRows) * s.kBlock);
    lastTiles.emplace(*module, options.symbol + ".last", params);
  }

  emitPasses();
}

/// What tiles fetch for those after them, and how they share it.
void ContractionTask::planAhead(TileParams &params) {
  int64_t rows = graph::constantValue(spec.extentOf(spec.rows)).value_or(128);
  if (s.rowsPerTask)
    rows = std::min(rows, s.rowsPerTask);
  if (!s.fetchesAhead)
    return;
  aheadTiles = std::max<int64_t>((rows + s.tileRows - 1) / s.tileRows, 1);
  int64_t columns =
      std::min<int64_t>(int64_t(s.tileVectors) * s.lanes, s.panelColumns());
  params.aheadPanels = std::max(1u, s.tileVectors / s.panelVectors);
  params.aheadStep = aheadStep = (columns + aheadTiles - 1) / aheadTiles;
}

/// Where the part starts that a tile fetches.
Value ContractionTask::aheadOf(const RowTile &rowTile,
                               const ColumnTile &columnTile, const Pass &pass) {
  auto startOf = [&](Value column, Value step) {
    return index->add(index->add(rhsBase, rhsColumnOffset(column)),
                      index->mul(step, rhsStep));
  };
  Value part =
      index->min(index->div(rowTile.panelRow, index->constant(s.tileRows)),
                 index->constant(aheadTiles - 1));
  int64_t distance =
      s.columnsPerBlock ? s.columnsPerBlock : int64_t(s.tileVectors) * s.lanes;
  Value next = index->add(columnTile.column, distance), start;
  if (!s.columnsPerBlock) {
    start = startOf(next, pass.first);
  } else {
    // The block's next pass, after the last one the next block's first.
    start = startOf(next, index->constant(0));
    if (pass.isLast)
      start = arith::SelectOp::create(
          function->builder(), function->loc(), pass.isLast, start,
          startOf(columnTile.column, index->add(pass.first, s.depthPerPass)));
  }
  return index->add(start,
                    index->mul(index->mul(part, pass.steps.depth), aheadStep));
}

/// Passes over k: all of it, or parts whose panel of rhs stays near while the
/// rows pass.
void ContractionTask::emitPasses() {
  auto rowsOutside = [&](const Pass &pass) {
    forEachRowTile([&](RowTile row) {
      if (fillsRowsOfTiles())
        fillRowsOfTile(row);
      forEachColumnTile(
          [&](ColumnTile column) { emitTile(row, column, pass); });
    });
  };
  auto columnsOutside = [&](const Pass &pass) {
    forEachColumnTile([&](ColumnTile column) {
      if (s.widensRhs)
        widenPanel(column, pass);
      forEachRowTile([&](RowTile row) { emitTile(row, column, pass); });
    });
  };
  auto tilesOf = [&](const Pass &pass) {
    if (!s.rowsOutsideFrom)
      return s.rowsOutside ? rowsOutside(pass) : columnsOutside(pass);
    Value from = index->constant(s.rowsOutsideFrom);
    ifHolds(index->atLeast(rowCount, from), [&] { rowsOutside(pass); });
    ifHolds(index->less(rowCount, from), [&] { columnsOutside(pass); });
  };
  if (!s.depthPerPass) {
    tilesOf({index->constant(0), {depth, Value()}, Value()});
    return;
  }
  if (s.passesInside) {
    forEachColumnTile([&](ColumnTile column) {
      forEachPass([&](const Pass &pass) {
        widenPanel(column, pass);
        forEachRowTile([&](RowTile row) { emitTile(row, column, pass); });
      });
    });
    return;
  }
  forEachPass([&](const Pass &pass) {
    if (fillsPasses() || fillsRowsOfTiles())
      setPart(pass);
    if (fillsPasses())
      fillPass();
    tilesOf(pass);
  });
}

/// The passes over k, one after the other.
void ContractionTask::forEachPass(function_ref<void(const Pass &)> body) {
  auto all = IndexBuilder::constantOf(depth);
  Value whole = index->constant(s.depthPerPass);
  // A sum of no terms still is a result.
  Value end = index->max(depth, index->constant(1));
  index->forEach(index->constant(0), end, s.depthPerPass, [&](Value k) {
    Value steps = all && *all % s.depthPerPass == 0
                      ? whole
                      : index->min(whole, index->sub(depth, k));
    Value isLast = index->atLeast(index->add(k, s.depthPerPass), depth);
    body({k, {steps, index->less(index->constant(0), k), k}, isLast});
  });
}

/// What is filled from here on is a part of k.
void ContractionTask::setPart(const Pass &pass) {
  panels->depth = panels->paddedDepth = panelDepth;
  panels->firstStep = pass.first;
  panels->endStep = index->add(pass.first, pass.steps.depth);
}

/// The part of rhs that a pass needs, of all the block's columns.
void ContractionTask::fillPass() {
  bool isGrouped = s.group() > 1;
  if (failed(isGrouped
                 ? fillRhsGroups(*panels, rhs, symbolic(pitch), firstColumn,
                                 columnCount, flipsRhs(spec, s.form), problem)
                 : fillRhs(*panels, rhs, symbolic(pitch), firstColumn,
                           columnCount, problem)) &&
      problem.empty())
    problem = "a pass cannot be filled";
}

/// The part of lhs that a tile's rows need in a pass.
void ContractionTask::fillRowsOfTile(const RowTile &row) {
  Value count = row.valid ? row.valid : index->constant(row.rows);
  Value first = index->add(firstRow, index->add(row.panelRow, row.inPanel));
  if (failed(s.group() > 1 ? fillLhsGroups(*panels, lhs, first, count, problem)
                           : fillLhs(*panels, lhs, first, count, problem)) &&
      problem.empty())
    problem = "a tile's rows cannot be filled";
}

/// Whole tiles' widths of columns, then what is left of them.
void ContractionTask::forEachColumnTile(function_ref<void(ColumnTile)> body) {
  int64_t step = s.tileColumns();
  Value whole =
      index->mul(index->div(columnCount, index->constant(step)), step);
  index->forEach(index->constant(0), whole, step, [&](Value column) {
    body({column, s.tileVectors, 0, index->constant(step)});
  });
  // The number of columns after the last whole tile is known when the extent
  // is, since tasks and fills start at whole tiles.
  auto extent = graph::constantValue(spec.extentOf(spec.columns));
  if (extent && *extent % step == 0 && s.columnStep() % step == 0)
    return;
  Value rest = index->sub(columnCount, whole);
  if (IndexBuilder::constantOf(rest) == 0)
    return;
  ifHolds(index->less(index->constant(0), rest), [&] {
    unsigned left = extent ? *extent % step : 0;
    if (extent && !s.dot)
      body({whole, (left + s.lanes - 1) / s.lanes, left % s.lanes,
            index->constant(left)});
    else
      body({whole, s.tileVectors, 0, rest});
  });
}

/// Whole tiles' heights of rows, then what is left of them.
void ContractionTask::forEachRowTile(function_ref<void(RowTile)> body) {
  Value zero = index->constant(0);
  Value whole =
      index->mul(index->div(rowCount, index->constant(s.tileRows)), s.tileRows);
  index->forEach(zero, whole, s.tileRows,
                 [&](Value row) { body({s.tileRows, row, zero}); });
  auto extent = graph::constantValue(spec.extentOf(spec.rows));
  if (extent && *extent % s.tileRows == 0)
    return;
  Value rest = index->sub(rowCount, whole);
  if (s.usesTiles())
    return forEachRestOfRows(whole, rest, body);
  if (extent) {
    ifHolds(index->less(zero, rest),
            [&] { body({unsigned(*extent % s.tileRows), whole, zero}); });
    return;
  }
  // Symbolic rows: tails of powers of two, each at most once.
  unsigned size = 1;
  while (size * 2 < s.tileRows)
    size *= 2;
  Value done = zero;
  for (; size; size /= 2) {
    Value fits = index->atLeast(index->sub(rest, done), index->constant(size));
    ifHolds(fits, [&] { body({size, whole, done}); });
    done = index->add(
        done, arith::SelectOp::create(function->builder(), function->loc(),
                                      fits, index->constant(size), zero));
  }
}

/// Fewer rows than a tile has: one or two matrix tiles.
void ContractionTask::forEachRestOfRows(Value whole, Value rest,
                                        function_ref<void(RowTile)> body) {
  Value zero = index->constant(0);
  auto extent = graph::constantValue(spec.extentOf(spec.rows));
  if (extent) {
    unsigned left = *extent % s.tileRows;
    unsigned rows = (left + kTileRows - 1) / kTileRows * kTileRows;
    ifHolds(index->less(zero, rest), [&] {
      body({rows, whole, zero, left == rows ? Value() : index->constant(left)});
    });
    return;
  }
  for (unsigned rows = kTileRows; rows <= s.tileRows; rows += kTileRows) {
    Value few = index->constant(rows - kTileRows), many = index->constant(rows);
    ifHolds(index->less(few, rest), [&] {
      ifHolds(index->atLeast(many, rest),
              [&] { body({rows, whole, zero, rest}); });
    });
  }
}

void ContractionTask::ifHolds(Value condition, function_ref<void()> body) {
  if (auto known = IndexBuilder::constantOf(condition)) {
    if (*known)
      body();
    return;
  }
  OpBuilder &b = function->builder();
  auto branch = scf::IfOp::create(b, function->loc(), condition);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(branch.thenBlock());
  body();
}

/// Where a tile's first row starts, from lhsBase on.
Value ContractionTask::lhsRowOffset(Value panelRow, Value inPanel) {
  switch (s.lhs) {
  case FactorSource::Memory:
    return index->mul(index->add(firstRow, index->add(panelRow, inPanel)),
                      lhsRow);
  case FactorSource::Indirect:
    return index->add(firstRow, index->add(panelRow, inPanel));
  case FactorSource::Filled:
    if (s.wholeSteps)
      return index->mul(index->add(panelRow, inPanel), lhsRow);
    return index->add(index->mul(panelRow, paddedDepth),
                      index->mul(inPanel, s.wholeRows
                                              ? paddedDepth
                                              : index->constant(s.kBlock)));
  case FactorSource::Packed:
    return index->add(index->mul(index->add(firstRow, panelRow), paddedDepth),
                      index->mul(inPanel, s.kBlock));
  }
  llvm_unreachable("no such source");
}

/// Where a column of a tile's panel starts, from rhsBase on.
Value ContractionTask::rhsColumnOffset(Value column) {
  bool panels = s.rhs == FactorSource::Packed ||
                (s.rhs == FactorSource::Filled && hasColumnPanels(spec));
  if (!panels)
    return index->mul(column,
                      index->mul(rhsColumn, s.dot ? 1 : int64_t(s.group())));
  if (s.tileVectors % s.panelVectors == 0)
    return index->mul(column, panelDepth);
  Value inside = index->rem(column, index->constant(s.panelColumns()));
  return index->add(index->mul(index->sub(column, inside), panelDepth),
                    index->mul(inside, int64_t(s.group())));
}

void ContractionTask::widenPanel(const ColumnTile &columnTile,
                                 const Pass &pass) {
  OpBuilder &b = function->builder();
  Location loc = function->loc();
  int64_t width = int64_t(s.tileVectors) * s.lanes;
  auto columnOf = [&](unsigned v) {
    return index->add(columnTile.column, int64_t(v) * s.lanes);
  };
  // Of a plain rhs: the widened elements at step k.
  auto widen = [&](unsigned v, Value k) -> Value {
    auto type = VectorType::get(
        {int64_t(s.lanes)}, cast<MemRefType>(rhs.getType()).getElementType());
    Value inside = index->rem(columnOf(v), index->constant(s.panelColumns()));
    Value start =
        index->add(index->mul(index->sub(columnOf(v), inside), depth), inside);
    Value at = index->add(index->add(rhsBase, start), index->mul(k, rhsStep));
    Value stored = vector::LoadOp::create(b, loc, type, rhs, at);
    if (s.prefetch)
      memref::PrefetchOp::create(
          b, loc, rhs, index->add(at, int64_t(s.prefetch) * s.panelColumns()),
          /*isWrite=*/false, /*localityHint=*/3, /*isDataCache=*/true);
    return toAccumulator(expressions->scalars, stored, spec.rhs.element,
                         spec.accumulator);
  };
  ComputedEmitter emitter(*index, computed, *expressions, symbols, axes,
                          [&](unsigned i) { return function->buffer(i); });
  // The steps that share words of numbers are written out.
  unsigned many =
      llvm::any_of(rhsLayouts,
                   [](const PackedLayout &layout) { return layout.isHalved; })
          ? ComputedFactor::kHalvedBlock
          : 1;
  auto compute = [&](unsigned v, Value k, unsigned plus, unsigned of) {
    ComputedPoint point;
    Value column = columnOf(v);
    point.inside = index->rem(column, index->constant(s.panelColumns()));
    point.panel = index->add(firstColumn, index->sub(column, point.inside));
    point.first = k;
    point.plus = plus;
    point.stepsAlign = of;
    return emitter.emit(point, spec.rhs.value);
  };
  auto fillStep = [&](Value k, unsigned plus, unsigned of) {
    for (unsigned v = 0; v < columnTile.vectors; ++v) {
      Value step = index->add(pass.first, k);
      Value value =
          spec.rhs.plain ? widen(v, step) : compute(v, step, plus, of);
      if (value)
        vector::StoreOp::create(
            b, loc, value, widened,
            index->add(index->mul(index->add(k, plus), width),
                       int64_t(v) * s.lanes));
    }
  };
  Value steps = pass.steps.depth,
        whole = index->mul(index->div(steps, index->constant(many)), many);
  index->forEach(index->constant(0), whole, many, [&](Value k) {
    for (unsigned plus = 0; plus < many; ++plus)
      fillStep(k, plus, many);
  });
  index->forEach(whole, steps, 1, [&](Value k) { fillStep(k, 0, 1); });
}

/// From a tile's sums to those that the next one goes on with; 0 after the
/// last.
Value ContractionTask::outAheadOf(Value row, Value column) {
  int64_t width = int64_t(s.tileVectors) * s.lanes;
  Value ahead = s.rowsOutside ? index->constant(width)
                              : index->mul(outRow, int64_t(s.tileRows));
  Value isLast = s.rowsOutside
                     ? index->atLeast(index->add(column, width), columnCount)
                     : index->atLeast(index->add(row, s.tileRows), rowCount);
  return arith::SelectOp::create(function->builder(), function->loc(), isLast,
                                 index->constant(0), ahead);
}

void ContractionTask::emitTile(RowTile rowTile, ColumnTile columnTile,
                               const Pass &pass) {
  auto [rows, panelRow, inPanel, validRows] = rowTile;
  auto [column, vectors, tailLanes, validColumns] = columnTile;
  Value row = index->add(panelRow, inPanel);
  // Panels that a pass fills start where it does.
  Value start = index->constant(0),
        lhsFirst = fillsRowsOfTiles() ? start : pass.first,
        rhsFirst = fillsPasses() ? start : pass.first;
  Value lhsOffset =
      fillsRowsOfTiles() ? start : lhsRowOffset(panelRow, inPanel);
  Value rhsOffset = rhsColumnOffset(column);
  // Whole kBlocks come before the pass.
  unsigned block = hasWholeRows() ? 1 : s.kBlock;
  if (s.lhs != FactorSource::Indirect) // that one counts rows
    lhsOffset = index->add(
        lhsOffset,
        index->mul(index->div(lhsFirst, index->constant(block)), lhsBlock));
  rhsOffset =
      index->add(index->add(rhsBase, rhsOffset), index->mul(rhsFirst, rhsStep));
  if (s.widensRhs)
    rhsOffset = index->constant(0);
  if (ComputedFactor::isInTiles(spec, s))
    rhsOffset = index->add(firstColumn, column);
  Value resultOffset =
      index->add(resultBase, index->add(index->mul(row, resultRow), column));
  Value outOffset = directResult() || !storesSums() ? resultOffset
                    : keepsSums()
                        ? index->add(index->mul(row, symbolic(sumsPitch)),
                                     index->mul(column, int64_t(rows)))
                        : index->constant(0);
  TileShape shape;
  shape.rows = rows;
  shape.vectors = vectors;
  shape.tailLanes = tailLanes;
  shape.dynamicTail = !IndexBuilder::constantOf(validColumns);
  bool isCopied = validRows && copiesLastRows();
  TilePass steps = pass.steps;
  if (s.depthPerPass)
    steps.outAhead = outAheadOf(row, column);
  (isCopied ? lastTiles : tiles)
      ->call(*index, shape, steps, isCopied ? lastRows : lhs,
             isCopied ? index->constant(0) : index->add(lhsBase, lhsOffset),
             s.widensRhs ? widened : rhs, rhsOffset, out, outOffset,
             validColumns, row, column,
             s.fetchesAhead ? aheadOf(rowTile, columnTile, pass) : Value(),
             {resultOffset, index->add(firstRow, row),
              index->add(firstColumn, column), pass.isLast});
  if (!epilogue)
    return;
  Value always = arith::ConstantIntOp::create(function->builder(),
                                              function->loc(), 1, /*width=*/1);
  ifHolds(pass.isLast ? pass.isLast : always, [&] {
    callEpilogue(outOffset, resultOffset, index->add(firstRow, row),
                 index->add(firstColumn, column),
                 validRows ? validRows : index->constant(rows), validColumns);
  });
}
