// The loops over a task's tiles: whole ones, then what is left of columns and
// rows.
#include "ContractionTask.h"

#include "mlir/Dialect/SCF/IR/SCF.h"

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
    params.surroundings.push_back(zeros);
    llvm::append_range(params.surroundings, symbols);
    for (unsigned axis : spec.outer)
      params.surroundings.push_back(axes[axis]);
  }
  params.lhsRow = lhsRow;
  params.lhsBlock = lhsBlock;
  params.panelVectors = rhsPanelVectors;
  params.rhsStep = rhsStep;
  params.rhsPanel = rhsPanel;
  params.dot = s.dot;
  params.rhsColumn = rhsColumn;
  params.maskRhs = s.rhs == FactorSource::Memory;
  params.maskOut = directResult().has_value();
  params.outRow = outRow;
  params.lanes = s.lanes;
  params.unroll = s.unroll;
  params.prefetch = s.prefetch;
  params.fma = s.fma;
  params.accumulates = s.depthPerPass != 0;
  params.scalar = scalarOptions;
  tiles.emplace(*module, options.symbol, params);

  emitPasses();
}

/// Passes over k: all of it, or parts whose panel of rhs stays near while the
/// rows pass.
void ContractionTask::emitPasses() {
  auto rowsOutside = [&](const Pass &pass) {
    forEachRowTile([&](RowTile row) {
      forEachColumnTile(
          [&](ColumnTile column) { emitTile(row, column, pass); });
    });
  };
  auto columnsOutside = [&](const Pass &pass) {
    forEachColumnTile([&](ColumnTile column) {
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
  auto all = IndexBuilder::constantOf(depth);
  Value whole = index->constant(s.depthPerPass);
  // A sum of no terms still is a result.
  Value end = index->max(depth, index->constant(1));
  index->forEach(index->constant(0), end, s.depthPerPass, [&](Value k) {
    Value steps = all && *all % s.depthPerPass == 0
                      ? whole
                      : index->min(whole, index->sub(depth, k));
    Value isLast = index->atLeast(index->add(k, s.depthPerPass), depth);
    tilesOf({k, {steps, index->less(index->constant(0), k)}, isLast});
  });
}

/// Whole tiles' widths of columns, then what is left of them.
void ContractionTask::forEachColumnTile(function_ref<void(ColumnTile)> body) {
  int64_t step = int64_t(s.tileVectors) * s.lanes;
  Value whole =
      index->mul(index->div(columnCount, index->constant(step)), step);
  index->forEach(index->constant(0), whole, step, [&](Value column) {
    body({column, s.tileVectors, 0, index->constant(step)});
  });
  // The number of columns after the last whole tile is known when the extent
  // is, since tasks and fills start at whole tiles.
  auto extent = graph::constantValue(spec.extentOf(spec.columns));
  if (extent && *extent % step == 0)
    return;
  Value rest = index->sub(columnCount, whole);
  if (IndexBuilder::constantOf(rest) == 0)
    return;
  ifHolds(index->less(index->constant(0), rest), [&] {
    unsigned left = extent ? *extent % step : 0;
    if (extent)
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

void ContractionTask::emitTile(RowTile rowTile, ColumnTile columnTile,
                               const Pass &pass) {
  auto [rows, panelRow, inPanel] = rowTile;
  auto [column, vectors, tailLanes, validColumns] = columnTile;
  Value row = index->add(panelRow, inPanel);
  Value lhsOffset;
  switch (s.lhs) {
  case FactorSource::Memory:
    lhsOffset = index->mul(index->add(firstRow, row), lhsRow);
    break;
  case FactorSource::Indirect:
    lhsOffset = index->add(firstRow, row);
    break;
  case FactorSource::Filled:
    lhsOffset = index->add(
        index->mul(panelRow, paddedDepth),
        index->mul(inPanel,
                   s.wholeRows ? paddedDepth : index->constant(s.kBlock)));
    break;
  case FactorSource::Packed:
    lhsOffset =
        index->add(index->mul(index->add(firstRow, panelRow), paddedDepth),
                   index->mul(inPanel, s.kBlock));
    break;
  }
  Value rhsOffset = index->mul(column, rhsColumn);
  bool panels = s.rhs == FactorSource::Packed ||
                (s.rhs == FactorSource::Filled && hasColumnPanels(spec));
  if (panels) {
    Value width = index->constant(s.panelColumns());
    if (s.tileVectors % s.panelVectors == 0) {
      rhsOffset = index->mul(column, depth);
    } else {
      Value inside = index->rem(column, width);
      rhsOffset =
          index->add(index->mul(index->sub(column, inside), depth), inside);
    }
  }
  // Whole kBlocks come before the pass.
  unsigned block = hasWholeRows() ? 1 : s.kBlock;
  lhsOffset = index->add(
      lhsOffset,
      index->mul(index->div(pass.first, index->constant(block)), lhsBlock));
  rhsOffset = index->add(rhsOffset, index->mul(pass.first, rhsStep));
  Value resultOffset =
      index->add(resultBase, index->add(index->mul(row, resultRow), column));
  Value outOffset = directResult() ? resultOffset : index->constant(0);
  TileShape shape;
  shape.rows = rows;
  shape.vectors = vectors;
  shape.tailLanes = tailLanes;
  shape.dynamicTail = !IndexBuilder::constantOf(validColumns);
  tiles->call(*index, shape, pass.steps, lhs, index->add(lhsBase, lhsOffset),
              rhs, index->add(rhsBase, rhsOffset), out, outOffset,
              validColumns);
  if (!epilogue)
    return;
  Value always = arith::ConstantIntOp::create(function->builder(),
                                              function->loc(), 1, /*width=*/1);
  ifHolds(pass.isLast ? pass.isLast : always, [&] {
    callEpilogue(outOffset, resultOffset, index->add(firstRow, row),
                 index->add(firstColumn, column), rows, validColumns);
  });
}
