// One task of a contraction: take the task's block of rows and columns, fill
// panels where the schedule says so, then run the micro-kernel over the block,
// panel by panel of rhs, and the epilogue over each finished tile while it lies
// in the first-level cache.
#include "dlc/Codegen/CPU/ContractionNest.h"

#include "ContractionPanels.h"
#include "dlc/Codegen/CPU/ContractionPacking.h"
#include "dlc/Codegen/CPU/ContractionTile.h"
#include "dlc/Codegen/Common/CpuLowering.h"
#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

namespace {

class NestEmitter {
public:
  NestEmitter(const ContractionSpec &spec, const ContractionSchedule &schedule,
              const CpuTarget &target, const CpuCodegenOptions &options)
      : spec(spec), s(schedule), options(options),
        scalarOptions(ScalarOptions::get(target, options.strict)),
        kernel(const_cast<graph::KernelOp &>(spec.kernel)) {}

  FailureOr<CpuKernel> emit(std::string &reason);

private:
  void layOutScratch(CpuKernel &result);
  LogicalResult packConstants(CpuKernel &result, std::string &reason);
  LogicalResult emitTask(std::string &reason);
  void locateLhs();
  void locateRhs();
  void emitTiles();
  /// A tile's height: `inPanel` rows into the panel that starts at `panelRow`.
  struct RowTile {
    unsigned rows;
    Value panelRow, inPanel;
  };
  /// A tile's width; `validColumns` is a constant where it is static.
  struct ColumnTile {
    Value column;
    unsigned vectors, tailLanes;
    Value validColumns;
  };
  void forEachColumnTile(function_ref<void(ColumnTile)> body);
  void forEachRowTile(function_ref<void(RowTile)> body);
  void ifHolds(Value condition, function_ref<void()> body);
  void emitTile(RowTile rowTile, ColumnTile columnTile);
  LogicalResult emitEpilogue(std::string &reason);

  Value symbolic(AffineExpr expr) { return index->expr(expr, axes, symbols); }
  /// The offset of `operand` at the outer coordinates.
  Value outerOffset(AffineExpr base, ArrayRef<AffineExpr> strides) {
    AffineExpr offset = base;
    for (unsigned axis : spec.outer)
      offset = offset + getAffineDimExpr(axis, spec.context()) * strides[axis];
    return symbolic(offset);
  }
  Value scratchAt(AffineExpr offset) {
    return function->scratchView(accumulator(), symbolic(offset));
  }
  Value packedBatch(const ContractionOperand &operand,
                    const PackedLayout &layout);
  AffineExpr constantExpr(int64_t value) {
    return getAffineConstantExpr(value, spec.context());
  }
  Type accumulator() { return ScalarEmitter::computeType(spec.accumulator); }
  unsigned resultBuffer() { return kernel.getArgumentTypes().size(); }
  /// The tile can be accumulated right in the result.
  bool storesDirectly() {
    return getStorageType(spec.resultElement()) == accumulator();
  }

  const ContractionSpec &spec;
  const ContractionSchedule &s;
  const CpuCodegenOptions &options;
  ScalarOptions scalarOptions;
  graph::KernelOp kernel;
  OwningOpRef<ModuleOp> module;
  SmallVector<Type> bufferTypes;
  PackedLayout lhsLayout, rhsLayout;
  AffineExpr rowTasks, columnTasks; // tasks along rows and columns
  AffineExpr rowsOfTask, columnsOfTask, pitch;
  AffineExpr lhsScratch, rhsScratch, tileScratch; // byte offsets

  // The task function.
  std::optional<KernelFunctionBuilder> function;
  std::optional<IndexBuilder> index;
  SmallVector<Value> symbols, axes;
  Value depth, paddedDepth, firstRow, rowCount, firstColumn, columnCount;
  std::optional<TileEmitter> tiles;
  Value lhs, lhsBase, rhs, rhsBase, lhsRow, lhsBlock, rhsStep, rhsPanel,
      rhsColumn;
  Value out, outBase, outRow, resultBase, resultRow;
  unsigned rhsPanelVectors = 1;
  func::FuncOp epilogue;
};

} // namespace

/// Cuts rows and columns into tasks and gives every scratch area its place.
void NestEmitter::layOutScratch(CpuKernel &result) {
  AffineExpr rows = spec.extentOf(spec.rows),
             columns = spec.extentOf(spec.columns),
             depthExpr = spec.extentOf(spec.inner);
  rowsOfTask = s.rowsPerTask ? constantExpr(s.rowsPerTask) : rows;
  columnsOfTask = s.columnsPerTask ? constantExpr(s.columnsPerTask) : columns;
  rowTasks = s.rowsPerTask ? rows.ceilDiv(s.rowsPerTask) : constantExpr(1);
  columnTasks =
      s.columnsPerTask ? columns.ceilDiv(s.columnsPerTask) : constantExpr(1);
  result.phases.push_back(
      {options.symbol,
       graph::simplify(spec.extentOf(spec.outer) * rowTasks * columnTasks)});

  int64_t bytes = accumulator().getIntOrFloatBitWidth() / 8;
  auto area = [&](AffineExpr elements) {
    return (elements * bytes).ceilDiv(64) * 64;
  };
  AffineExpr offset = constantExpr(0);
  lhsScratch = offset;
  if (s.lhs == FactorSource::Filled) {
    // One vector of room: copies may run over the last panel's end.
    AffineExpr panels = rowsOfTask.ceilDiv(s.panelRows) * s.panelRows;
    offset = offset +
             area(panels * depthExpr.ceilDiv(s.kBlock) * s.kBlock + s.lanes);
  }
  rhsScratch = offset;
  int64_t width = std::max(s.panelColumns(), s.tileVectors * s.lanes);
  // One line more than whole panels: k steps a power of two apart would meet in
  // the same cache sets.
  AffineExpr filled =
      s.columnsPerFill ? constantExpr(s.columnsPerFill) : columnsOfTask;
  pitch = filled.ceilDiv(width) * width + 64 / bytes;
  if (s.rhs == FactorSource::Filled)
    offset = offset + area(pitch * depthExpr + 2 * width);
  tileScratch = offset;
  if (!storesDirectly())
    offset = offset +
             area(constantExpr(int64_t(s.tileRows) * s.tileVectors * s.lanes));
  result.scratchBytes = graph::simplify(offset);
}

LogicalResult NestEmitter::packConstants(CpuKernel &result,
                                         std::string &reason) {
  auto add = [&](const ContractionOperand &operand, ArrayRef<unsigned> major,
                 int64_t panel, int64_t block,
                 PackedLayout &layout) -> LogicalResult {
    auto made = makePackedLayout(spec, operand, major, panel, block);
    if (failed(made)) {
      reason = "a packed factor has no static layout";
      return failure();
    }
    layout = std::move(*made);
    OperandPacking packing;
    packing.operand = operand.operand;
    packing.layout = layout.str();
    packing.bytes = layout.bytes();
    packing.pack = [layout](ArrayRef<char> constant,
                            MutableArrayRef<char> packed) {
      layout.pack(constant, packed);
    };
    result.packings.push_back(std::move(packing));
    return success();
  };
  if (s.lhs == FactorSource::Packed &&
      failed(add(spec.lhs, spec.rows, s.panelRows, s.kBlock, lhsLayout)))
    return failure();
  if (s.rhs == FactorSource::Packed &&
      failed(add(spec.rhs, spec.columns, s.panelColumns(), 1, rhsLayout)))
    return failure();
  if (result.packings.size() == 2 &&
      result.packings[0].operand == result.packings[1].operand) {
    reason = "one constant is both factors";
    return failure();
  }
  return success();
}

Value NestEmitter::packedBatch(const ContractionOperand &operand,
                               const PackedLayout &layout) {
  Value batch = index->constant(0);
  for (unsigned axis : packedBatchAxes(spec, operand))
    batch = index->add(index->mul(batch, symbolic(spec.space.extents[axis])),
                       axes[axis]);
  return index->mul(batch, layout.batchElements());
}

/// Where the micro-kernel finds the rows' factor.
void NestEmitter::locateLhs() {
  lhsRow = index->constant(s.kBlock);
  lhsBlock = index->constant(int64_t(s.panelRows) * s.kBlock);
  switch (s.lhs) {
  case FactorSource::Memory:
    lhs = function->buffer(spec.lhs.operand);
    lhsBase = outerOffset(spec.lhs.base, spec.lhs.strides);
    lhsRow = symbolic(*spec.strideOf(spec.lhs, spec.rows));
    lhsBlock = symbolic(*spec.strideOf(spec.lhs, spec.inner));
    break;
  case FactorSource::Filled:
    lhs = scratchAt(lhsScratch);
    lhsBase = index->constant(0);
    break;
  case FactorSource::Packed:
    lhs = function->buffer(spec.lhs.operand);
    lhsBase = packedBatch(spec.lhs, lhsLayout);
    break;
  }
}

/// Where it finds the columns' factor, and where the result goes.
void NestEmitter::locateRhs() {
  rhsPanelVectors = s.panelVectors;
  rhsColumn = index->constant(1);
  rhsStep = index->constant(s.panelColumns());
  rhsPanel = index->mul(depth, int64_t(s.panelColumns()));
  switch (s.rhs) {
  case FactorSource::Memory:
    rhs = function->buffer(spec.rhs.operand);
    rhsColumn = symbolic(*spec.strideOf(spec.rhs, spec.columns));
    rhsBase = index->add(outerOffset(spec.rhs.base, spec.rhs.strides),
                         index->mul(firstColumn, rhsColumn));
    rhsStep = symbolic(*spec.strideOf(spec.rhs, spec.inner));
    rhsPanelVectors = s.tileVectors;
    break;
  case FactorSource::Filled:
    rhs = scratchAt(rhsScratch);
    rhsBase = index->constant(0);
    if (!hasColumnPanels(spec)) {
      rhsStep = symbolic(pitch);
      rhsPanelVectors = s.tileVectors;
    }
    break;
  case FactorSource::Packed:
    rhs = function->buffer(spec.rhs.operand);
    // The first column is a multiple of a panel.
    rhsBase = index->add(packedBatch(spec.rhs, rhsLayout),
                         index->mul(firstColumn, depth));
    break;
  }
  resultRow = spec.rows.empty()
                  ? index->constant(0)
                  : symbolic(spec.resultStrides[spec.rows.back()]);
  resultBase =
      index->add(outerOffset(constantExpr(0), spec.resultStrides),
                 index->add(index->mul(firstRow, resultRow), firstColumn));
  if (storesDirectly()) {
    out = function->buffer(resultBuffer());
    outRow = resultRow;
  } else {
    out = scratchAt(tileScratch);
    outRow = index->constant(int64_t(s.tileVectors) * s.lanes);
  }
}

LogicalResult NestEmitter::emitTask(std::string &reason) {
  function.emplace(*module, options.symbol, bufferTypes,
                   kernel.getNumSymbols());
  OpBuilder &b = function->builder();
  index.emplace(b, function->loc());
  symbols = function->symbols();
  axes.assign(spec.space.extents.size(), index->constant(0));

  Value task = function->task();
  SmallVector<Value> parts = index->delinearize(
      task, {index->constant(0), symbolic(rowTasks), symbolic(columnTasks)});
  SmallVector<Value> outerExtents;
  for (unsigned axis : spec.outer)
    outerExtents.push_back(symbolic(spec.space.extents[axis]));
  SmallVector<Value> outer = index->delinearize(parts[0], outerExtents);
  for (auto [axis, value] : llvm::zip_equal(spec.outer, outer))
    axes[axis] = value;

  auto block = [&](int64_t perTask, AffineExpr extent, Value part, Value &first,
                   Value &count) {
    if (!perTask) {
      first = index->constant(0);
      count = symbolic(extent);
      return;
    }
    first = index->mul(part, perTask);
    auto whole = graph::constantValue(extent);
    count = whole && *whole % perTask == 0
                ? index->constant(perTask)
                : index->min(index->constant(perTask),
                             index->sub(symbolic(extent), first));
  };
  block(s.rowsPerTask, spec.extentOf(spec.rows), parts[1], firstRow, rowCount);
  block(s.columnsPerTask, spec.extentOf(spec.columns), parts[2], firstColumn,
        columnCount);
  depth = symbolic(spec.extentOf(spec.inner));
  paddedDepth =
      index->mul(index->ceilDiv(depth, index->constant(s.kBlock)), s.kBlock);

  auto buffer = [&](unsigned i) { return function->buffer(i); };
  ExprEmitter expressions(*index, spec.space, symbols, scalarOptions, buffer);
  PanelContext context{spec,    s,    *index, expressions, buffer,
                       symbols, axes, depth,  paddedDepth};
  locateLhs();
  if (s.lhs == FactorSource::Filled &&
      failed(fillLhs(context, lhs, firstRow, rowCount, reason)))
    return failure();
  if (!s.columnsPerFill) {
    locateRhs();
    if (s.rhs == FactorSource::Filled &&
        failed(fillRhs(context, rhs, symbolic(pitch), firstColumn, columnCount,
                       reason)))
      return failure();
    emitTiles();
    function->finish();
    return success();
  }
  // Fill some columns, use them while they are near, then fill the next.
  Value taskColumn = firstColumn, taskColumns = columnCount;
  LogicalResult filled = success();
  auto all = IndexBuilder::constantOf(taskColumns);
  index->forEach(
      index->constant(0), taskColumns, s.columnsPerFill, [&](Value column) {
        firstColumn = index->add(taskColumn, column);
        Value fill = index->constant(s.columnsPerFill);
        columnCount = all && *all % s.columnsPerFill == 0
                          ? fill
                          : index->min(fill, index->sub(taskColumns, column));
        locateRhs();
        filled = fillRhs(context, rhs, symbolic(pitch), firstColumn,
                         columnCount, reason);
        if (succeeded(filled))
          emitTiles();
      });
  function->finish();
  return filled;
}

void NestEmitter::emitTiles() {
  TileParams params;
  params.accumulator = spec.accumulator;
  params.lhsType =
      s.lhs == FactorSource::Filled ? spec.accumulator : spec.lhs.element;
  params.rhsType =
      s.rhs == FactorSource::Filled ? spec.accumulator : spec.rhs.element;
  params.depth = depth;
  params.kBlock = s.lhs == FactorSource::Memory ? 1 : s.kBlock;
  params.lhsRow = lhsRow;
  params.lhsBlock = lhsBlock;
  params.panelVectors = rhsPanelVectors;
  params.rhsStep = rhsStep;
  params.rhsPanel = rhsPanel;
  params.dot = s.dot;
  params.rhsColumn = rhsColumn;
  params.maskRhs = s.rhs == FactorSource::Memory;
  params.outRow = outRow;
  params.lanes = s.lanes;
  params.unroll = s.unroll;
  params.prefetch = s.prefetch;
  params.fma = s.fma;
  params.scalar = scalarOptions;
  tiles.emplace(*module, options.symbol, params);

  if (s.rowsOutside)
    forEachRowTile([&](RowTile row) {
      forEachColumnTile([&](ColumnTile column) { emitTile(row, column); });
    });
  else
    forEachColumnTile([&](ColumnTile column) {
      forEachRowTile([&](RowTile row) { emitTile(row, column); });
    });
}

/// Whole tiles' widths of columns, then what is left of them.
void NestEmitter::forEachColumnTile(function_ref<void(ColumnTile)> body) {
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
void NestEmitter::forEachRowTile(function_ref<void(RowTile)> body) {
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

void NestEmitter::ifHolds(Value condition, function_ref<void()> body) {
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

void NestEmitter::emitTile(RowTile rowTile, ColumnTile columnTile) {
  auto [rows, panelRow, inPanel] = rowTile;
  auto [column, vectors, tailLanes, validColumns] = columnTile;
  Value row = index->add(panelRow, inPanel);
  Value lhsOffset;
  switch (s.lhs) {
  case FactorSource::Memory:
    lhsOffset = index->mul(index->add(firstRow, row), lhsRow);
    break;
  case FactorSource::Filled:
    lhsOffset = index->add(index->mul(panelRow, paddedDepth),
                           index->mul(inPanel, s.kBlock));
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
  Value resultOffset =
      index->add(resultBase, index->add(index->mul(row, resultRow), column));
  Value outOffset = storesDirectly() ? resultOffset : index->constant(0);
  TileShape shape;
  shape.rows = rows;
  shape.vectors = vectors;
  shape.tailLanes = tailLanes;
  shape.dynamicTail = !IndexBuilder::constantOf(validColumns);
  tiles->call(*index, shape, lhs, index->add(lhsBase, lhsOffset), rhs,
              index->add(rhsBase, rhsOffset), out, outOffset, validColumns);
  if (!epilogue)
    return;
  SmallVector<Value> arguments;
  for (unsigned i = 0; i < bufferTypes.size(); ++i)
    arguments.push_back(function->buffer(i));
  arguments.append(symbols);
  for (unsigned axis : spec.outer)
    arguments.push_back(axes[axis]);
  arguments.append({out, outOffset, outRow, resultOffset,
                    index->add(firstRow, row), index->add(firstColumn, column),
                    index->constant(rows), validColumns});
  func::CallOp::create(function->builder(), function->loc(), epilogue,
                       arguments);
}

/// The function that turns a tile of sums into results:
///   (buffers, symbols, outer axes, tile, tile offset, tile row distance,
///    result offset, first row, first column, rows, columns)
LogicalResult NestEmitter::emitEpilogue(std::string &reason) {
  MLIRContext *context = spec.context();
  OpBuilder b(context);
  Location loc = module->getLoc();
  Type i = b.getIndexType();
  SmallVector<Type> inputs;
  for (Type type : bufferTypes)
    inputs.push_back(getFlatMemRef(getStorageType(type)));
  inputs.append(kernel.getNumSymbols() + spec.outer.size(), i);
  inputs.push_back(getFlatMemRef(accumulator()));
  inputs.append(7, i);
  b.setInsertionPointToEnd(module->getBody());
  epilogue = func::FuncOp::create(b, loc, options.symbol + ".epilogue",
                                  b.getFunctionType(inputs, {}));
  epilogue.setPrivate();
  b.setInsertionPointToStart(epilogue.addEntryBlock());
  unsigned next = bufferTypes.size();
  auto take = [&] { return epilogue.getArgument(next++); };
  SmallVector<Value> symbolValues;
  for (unsigned k = 0; k < kernel.getNumSymbols(); ++k)
    symbolValues.push_back(take());
  IndexBuilder at(b, loc);
  ExprPoint point;
  point.axes.assign(spec.space.extents.size(), at.constant(0));
  for (unsigned axis : spec.outer)
    point.axes[axis] = take();
  Value tile = take(), tileOffset = take(), tileRow = take(),
        resultOffset = take(), firstRow = take(), firstColumn = take(),
        rows = take(), columns = take();
  auto coordinates = [&](ArrayRef<unsigned> group, Value linear) {
    SmallVector<Value> extents;
    for (unsigned axis : group)
      extents.push_back(at.expr(spec.space.extents[axis], {}, symbolValues));
    for (auto [axis, value] :
         llvm::zip_equal(group, at.delinearize(linear, extents)))
      point.axes[axis] = value;
  };
  Value rowStride =
      spec.rows.empty()
          ? at.constant(0)
          : at.expr(spec.resultStrides[spec.rows.back()], {}, symbolValues);
  point.lanes = s.lanes;
  point.laneAxes = spec.columns;
  auto type = VectorType::get({s.lanes}, accumulator());
  auto maskType = VectorType::get({s.lanes}, b.getI1Type());
  Value result = epilogue.getArgument(resultBuffer());

  LogicalResult outcome = success();
  auto emitVector = [&](Value row, Value column, Value mask) {
    coordinates(spec.columns, at.add(firstColumn, column));
    point.mask = mask;
    Value from = at.add(at.add(tileOffset, at.mul(row, tileRow)), column);
    Value zeros = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
    Value sum;
    if (mask)
      sum = vector::MaskedLoadOp::create(b, loc, type, tile, from, mask, zeros);
    else
      sum = vector::LoadOp::create(b, loc, type, tile, from);
    ExprEmitter expressions(
        at, spec.space, symbolValues, scalarOptions,
        [&](unsigned k) { return epilogue.getArgument(k); });
    expressions.setStageValue({sum, spec.accumulator});
    graph::StageOp stage = spec.epilogue;
    auto value = expressions.emit(stage.getYielded(), point, reason);
    if (failed(value)) {
      outcome = failure();
      return;
    }
    Value stored = expressions.scalars.toStorage(
        expressions.scalars.broadcast(*value, s.lanes));
    Value to = at.add(at.add(resultOffset, at.mul(row, rowStride)), column);
    if (mask)
      vector::MaskedStoreOp::create(b, loc, result, to, mask, stored);
    else
      vector::StoreOp::create(b, loc, stored, result, to);
  };
  Value zero = at.constant(0);
  auto rowLoop = scf::ForOp::create(b, loc, zero, rows, at.constant(1));
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(rowLoop.getBody());
    Value row = rowLoop.getInductionVar();
    coordinates(spec.rows, at.add(firstRow, row));
    Value whole = at.mul(at.div(columns, at.constant(s.lanes)), s.lanes);
    auto loop = scf::ForOp::create(b, loc, zero, whole, at.constant(s.lanes));
    {
      OpBuilder::InsertionGuard inner(b);
      b.setInsertionPointToStart(loop.getBody());
      emitVector(row, loop.getInductionVar(), Value());
    }
    auto branch = scf::IfOp::create(b, loc, at.less(whole, columns));
    OpBuilder::InsertionGuard inner(b);
    b.setInsertionPointToStart(branch.thenBlock());
    emitVector(
        row, whole,
        vector::CreateMaskOp::create(b, loc, maskType, at.sub(columns, whole)));
  }
  func::ReturnOp::create(b, loc);
  return outcome;
}

FailureOr<CpuKernel> NestEmitter::emit(std::string &reason) {
  CpuKernel result;
  result.symbol = options.symbol;
  result.nest = "contraction";
  loadCpuDialects(*spec.context());
  module = ModuleOp::create(kernel.getLoc());
  for (Type type : kernel.getArgumentTypes())
    bufferTypes.push_back(cast<RankedTensorType>(type).getElementType());
  for (Type type : kernel.getResultTypes())
    bufferTypes.push_back(cast<RankedTensorType>(type).getElementType());
  layOutScratch(result);
  if (failed(packConstants(result, reason)))
    return failure();
  if (spec.epilogue && failed(emitEpilogue(reason)))
    return failure();
  if (failed(emitTask(reason)))
    return failure();
  result.module = std::move(module);
  return result;
}

FailureOr<CpuKernel> dlc::emitContraction(const ContractionSpec &spec,
                                          const ContractionSchedule &schedule,
                                          const CpuTarget &target,
                                          const CpuCodegenOptions &options,
                                          std::string &reason) {
  if (!isLegal(schedule, spec, target, reason))
    return failure();
  return NestEmitter(spec, schedule, target, options).emit(reason);
}

FailureOr<CpuKernel> dlc::emitContraction(graph::KernelOp kernel,
                                          const CpuTarget &target,
                                          const CpuCodegenOptions &options,
                                          std::string &reason) {
  auto spec = classifyContraction(kernel, reason);
  if (failed(spec))
    return failure();
  return emitContraction(*spec, defaultSchedule(*spec, target, options), target,
                         options, reason);
}
