// One task of a contraction: take the task's block of rows and columns, fill
// panels where the schedule says so, then run the micro-kernel over the block,
// panel by panel of rhs, and the epilogue over each finished tile while it lies
// in the first-level cache.
#include "dlc/Codegen/CPU/ContractionNest.h"

#include "ContractionFactors.h"
#include "ContractionTask.h"
#include "dlc/Codegen/CPU/ContractionKnobs.h"
#include "dlc/Codegen/CPU/KernelVariants.h"
#include "dlc/Codegen/Common/CpuLowering.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

AffineExpr ContractionTask::depthExpr() {
  AffineExpr depth = spec.extentOf(spec.inner);
  if (s.dot) // from memory, where no zeros follow
    return depth;
  return depth.ceilDiv(s.depthStep) * s.depthStep;
}

/// The steps of k that a row of filled lhs has room for: runs that are copied
/// by whole vectors end behind the last one.
AffineExpr ContractionTask::paddedDepthExpr() {
  AffineExpr depth = depthExpr();
  return depth.ceilDiv(s.kBlock) * s.kBlock + (s.wholeRows ? s.lanes : 0);
}

/// Cuts rows and columns into tasks and gives every scratch area its place.
void ContractionTask::layOutScratch(CpuKernel &result) {
  AffineExpr rows = spec.extentOf(spec.rows),
             columns = spec.extentOf(spec.columns);
  rowsOfTask = s.rowsPerTask ? constantExpr(s.rowsPerTask) : rows;
  columnsOfTask = s.columnsPerTask ? constantExpr(s.columnsPerTask) : columns;
  rowTasks = s.rowsPerTask ? rows.ceilDiv(s.rowsPerTask) : constantExpr(1);
  columnTasks =
      s.columnsPerTask ? columns.ceilDiv(s.columnsPerTask) : constantExpr(1);
  result.phases.push_back(
      {options.symbol,
       graph::simplify(spec.extentOf(spec.outer) * rowTasks * columnTasks)});

  auto bytesOf = [](Type type) -> int64_t {
    return type.getIntOrFloatBitWidth() / 8;
  };
  int64_t bytes = bytesOf(panelType());
  auto area = [](AffineExpr elements, int64_t size) {
    return (elements * size).ceilDiv(64) * 64;
  };
  AffineExpr offset = constantExpr(0);
  lhsScratch = offset;
  if (fillsRowsOfTiles()) {
    offset = offset + area(constantExpr(int64_t(s.panelRows) * s.depthPerPass +
                                        s.lanes * s.group()),
                           bytes);
  } else if (s.lhs == FactorSource::Filled) {
    // One vector of room: copies may run over the last panel's end.
    AffineExpr panels = rowsOfTask.ceilDiv(s.panelRows) * s.panelRows;
    // Steps a power of two apart would meet in the same cache sets.
    stepPitch = panels + s.lanes;
    if (auto known = graph::constantValue(stepPitch);
        known && *known * bytes % 2048 == 0)
      stepPitch = stepPitch + s.lanes;
    AffineExpr elements =
        s.wholeSteps ? stepPitch * depthExpr() : panels * paddedDepthExpr();
    offset = offset + area(elements + s.lanes * s.group(), bytes);
  }
  rhsScratch = offset;
  int64_t width = std::max(s.panelColumns(), s.tileVectors * s.lanes);
  // One line more than whole panels: k steps a power of two apart would meet in
  // the same cache sets.
  AffineExpr filled =
      s.columnsPerBlock ? constantExpr(s.columnsPerBlock) : columnsOfTask;
  pitch = filled.ceilDiv(width) * width + 64 / (bytes * s.group());
  if (s.rhs == FactorSource::Filled)
    offset =
        offset + area(pitch * panelDepthExpr() + 2 * width * s.group(), bytes);
  tileScratch = offset;
  // Sums between passes are those of all the block's tiles.
  AffineExpr sums = constantExpr(int64_t(s.tileRows) * s.tileVectors * s.lanes);
  sumsPitch = filled.ceilDiv(width) * width;
  if (keepsSums())
    sums = rowsOfTask.ceilDiv(s.tileRows) * s.tileRows * sumsPitch;
  if (storesSums() && !directResult())
    offset = offset + area(sums, bytesOf(accumulator()));
  zeroScratch = offset;
  if (s.lhs == FactorSource::Indirect && spec.lhs.guarded)
    offset = offset + area(outsideExpr() + s.lanes, bytes);
  widenScratch = offset;
  if (s.widensRhs)
    offset = offset + area((s.depthPerPass ? constantExpr(s.depthPerPass)
                                           : depthExpr()) *
                               (int64_t(s.tileVectors) * s.lanes),
                           bytes);
  // Terms of rows and columns are read by whole tiles.
  termRows = rowsOfTask + int64_t(std::max(s.tileRows, s.lanes));
  termColumns = filled.ceilDiv(width) * width + width;
  rowTermScratch = offset;
  if (hasTerms())
    offset = offset + area(2 * termRows, 4);
  columnTermScratch = offset;
  if (hasTerms())
    offset = offset + area(2 * termColumns, 4);
  lastRowScratch = offset;
  if (copiesLastRows())
    offset = offset + area(paddedDepthExpr() * int64_t(s.panelRows), bytes);
  configurationScratch = offset;
  if (s.usesTiles())
    offset = offset + 64;
  result.scratchBytes = graph::simplify(offset);
}

LogicalResult ContractionTask::packConstants(CpuKernel &result,
                                             std::string &reason) {
  auto add = [&](const ContractionOperand &operand, ArrayRef<unsigned> major,
                 int64_t panel, int64_t block, bool isRhs, PackedLayout &layout,
                 ArrayRef<unsigned> inner) -> LogicalResult {
    auto made = makePackedLayout(spec, operand, major, panel, block, inner);
    if (failed(made)) {
      reason = "a packed factor has no static layout";
      return failure();
    }
    if (isRhs && block == s.group())
      made->depthStep = s.depthStep;
    made->isHalved = block == ComputedFactor::kHalvedBlock && isRhs &&
                     ComputedFactor::isHalved(spec, operand);
    if (isRhs && s.pairsTail)
      made->pairedLanes = s.lanes;
    if (isRhs && isBytes()) {
      made->flips = flipsRhs(spec, s.form);
      made->hasSums = true;
      made->isUnsigned = !isLhsUnsigned(spec);
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
      failed(add(spec.lhs, spec.rows, s.panelRows, s.kBlock, /*isRhs=*/false,
                 lhsLayout, spec.inner)))
    return failure();
  bool isComputed = s.rhs == FactorSource::Packed && !spec.rhs.plain;
  if (s.rhs == FactorSource::Packed && !isComputed &&
      failed(add(spec.rhs, spec.columns, s.panelColumns(), s.group(),
                 /*isRhs=*/true, rhsLayout, spec.inner)))
    return failure();
  if (isComputed)
    for (const ContractionOperand &load : spec.rhsLoads)
      if (failed(add(load, spec.columns, s.panelColumns(),
                     ComputedFactor::isHalved(spec, load)
                         ? ComputedFactor::kHalvedBlock
                         : 1,
                     /*isRhs=*/true, rhsLayouts.emplace_back(),
                     spec.innerAxesOf(load))))
        return failure();
  llvm::SmallDenseSet<unsigned> packed;
  for (const OperandPacking &packing : result.packings)
    if (!packed.insert(packing.operand).second) {
      reason = "one constant is both factors";
      return failure();
    }
  return success();
}

Value ContractionTask::packedBatch(const ContractionOperand &operand,
                                   const PackedLayout &layout) {
  Value batch = index->constant(0);
  for (unsigned axis : packedBatchAxes(spec, operand))
    batch = index->add(index->mul(batch, symbolic(spec.space.extents[axis])),
                       axes[axis]);
  return index->mul(batch, layout.batchElements());
}

/// Where the micro-kernel finds the rows' factor.
void ContractionTask::locateLhs() {
  lhsRow = index->constant(s.kBlock);
  lhsBlock = index->constant(int64_t(s.panelRows) * s.kBlock);
  switch (s.lhs) {
  case FactorSource::Memory:
    lhs = function->buffer(spec.lhs.operand);
    lhsBase = outerOffset(spec.lhs.base, spec.lhs.strides);
    lhsRow = symbolic(*spec.strideOf(spec.lhs, spec.rows));
    lhsBlock = symbolic(*spec.strideOf(spec.lhs, spec.inner));
    break;
  case FactorSource::Indirect:
    lhs = function->buffer(spec.lhs.operand);
    lhsBase = index->constant(0);
    lhsRow = lhsBlock = index->constant(1);
    fillZeros();
    break;
  case FactorSource::Filled:
    lhs = scratchAt(lhsScratch, panelType());
    lhsBase = index->constant(0);
    if (s.wholeRows) {
      lhsRow = paddedDepth;
      lhsBlock = index->constant(1);
    } else if (s.wholeSteps) {
      lhsRow = index->constant(s.group());
      lhsBlock = symbolic(stepPitch);
    }
    break;
  case FactorSource::Packed:
    lhs = function->buffer(spec.lhs.operand);
    lhsBase = packedBatch(spec.lhs, lhsLayout);
    break;
  }
}

/// How many elements the rows of a tile read outside of the image: each a run,
/// the same one, or where one address is that of all, as many as they are
/// apart.
AffineExpr ContractionTask::outsideExpr() {
  AffineExpr run = spec.extentOf(spec.lhsRun());
  if (!outsideOf(spec.lhs) || spec.rows.empty())
    return run;
  AffineExpr distance = spec.lhs.strides[spec.rows.back()];
  return run + distance * int64_t(s.tileRows - 1);
}

void ContractionTask::fillZeros() {
  if (!spec.lhs.guarded) {
    zeros = lhs;
    return;
  }
  zeros = scratchAt(zeroScratch, panelType());
  OpBuilder &b = function->builder();
  auto type = VectorType::get({int64_t(s.lanes)}, panelType());
  Value zero =
      arith::ConstantOp::create(b, function->loc(), b.getZeroAttr(type));
  if (Value outside = outsideOf(spec.lhs)) {
    ExprPoint point;
    point.axes = axes;
    point.lanes = s.lanes;
    auto stored = expressions->emitStored(outside, point, problem);
    if (failed(stored))
      return;
    zero = *stored;
  }
  index->forEach(index->constant(0), symbolic(outsideExpr()), s.lanes,
                 [&](Value at) {
                   vector::StoreOp::create(b, function->loc(), zero, zeros, at);
                 });
}

/// Where it finds the columns' factor.
void ContractionTask::locateRhs() {
  rhsPanelVectors = s.panelVectors;
  rhsColumn = index->constant(1);
  rhsStep = index->constant(s.panelColumns());
  rhsPanel = index->mul(panelDepth, int64_t(s.panelColumns()));
  switch (s.rhs) {
  case FactorSource::Memory:
    rhs = function->buffer(spec.rhs.operand);
    rhsColumn = symbolic(*spec.strideOf(spec.rhs, spec.columns));
    rhsBase = index->add(outerOffset(spec.rhs.base, spec.rhs.strides),
                         index->mul(firstColumn, rhsColumn));
    rhsStep = symbolic(*spec.strideOf(spec.rhs, spec.inner));
    rhsPanelVectors = s.tileVectors;
    break;
  case FactorSource::Indirect:
    llvm_unreachable("isLegal refuses it");
  case FactorSource::Filled:
    rhs = scratchAt(rhsScratch, panelType());
    rhsBase = index->constant(0);
    if (!hasColumnPanels(spec)) {
      rhsStep = symbolic(pitch);
      rhsPanelVectors = s.tileVectors;
    }
    break;
  case FactorSource::Packed:
    if (!spec.rhs.plain) { // computed
      rhs = function->buffer(spec.rhsLoads.front().operand);
      rhsBase = index->constant(0);
      if (!s.widensRhs)
        rhsStep = index->constant(1);
      break;
    }
    rhs = function->buffer(spec.rhs.operand);
    // The first column is a multiple of a panel.
    rhsBase = index->add(packedBatch(spec.rhs, rhsLayout),
                         index->mul(firstColumn, depth));
    break;
  }
  if (s.widensRhs)
    widened = scratchAt(widenScratch, accumulator());
}

void ContractionTask::locateResult() {
  resultRow = spec.rows.empty()
                  ? index->constant(0)
                  : symbolic(spec.resultStrides[spec.rows.back()]);
  resultBase =
      index->add(outerOffset(constantExpr(0), spec.resultStrides),
                 index->add(index->mul(firstRow, resultRow), firstColumn));
  if (!storesSums()) {
    out = function->buffer(resultBuffer(0));
    outRow = resultRow;
  } else if (auto direct = directResult()) {
    out = function->buffer(resultBuffer(*direct));
    outRow = resultRow;
  } else {
    out = scratchAt(tileScratch, accumulator());
    outRow = index->constant(int64_t(s.tileVectors) * s.lanes);
  }
}

LogicalResult ContractionTask::emitTask(std::string &reason) {
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
  depth = symbolic(depthExpr());
  paddedDepth = symbolic(paddedDepthExpr());
  panelDepth = symbolic(panelDepthExpr());

  auto buffer = [&](unsigned i) { return function->buffer(i); };
  expressions.emplace(*index, spec.space, symbols, scalarOptions, buffer);
  panels.emplace(PanelContext{spec, s, *index, *expressions, buffer, symbols,
                              axes, depth, paddedDepth});
  if (s.usesTiles())
    emitTileConfiguration(*index,
                          scratchAt(configurationScratch, b.getI8Type()));
  locateLhs();
  if (copiesLastRows() && failed(copyLastRows(reason)))
    return failure();
  if (s.lhs == FactorSource::Filled && !fillsRowsOfTiles()) {
    bool isGrouped = s.group() > 1;
    auto fill = isGrouped ? fillLhsGroups : fillLhs;
    auto fillSteps = isGrouped ? fillLhsGroupSteps : fillLhsSteps;
    if (failed(s.wholeSteps ? fillSteps(*panels, lhs, symbolic(stepPitch),
                                        firstRow, rowCount, reason)
                            : fill(*panels, lhs, firstRow, rowCount, reason)))
      return failure();
  }
  if (hasTerms() && failed(emitRowTerms(reason)))
    return failure();
  LogicalResult outcome = success();
  if (s.columnsPerBlock)
    outcome = emitBlocks(reason);
  else
    outcome = fillAndUse(reason);
  if (s.usesTiles())
    emitTileRelease(b, function->loc());
  function->finish();
  return outcome;
}

LogicalResult ContractionTask::copyLastRows(std::string &reason) {
  lastRows = scratchAt(lastRowScratch, panelType());
  Value rest = index->rem(rowCount, index->constant(s.tileRows));
  return fillLhsGroups(*panels, lastRows,
                       index->add(firstRow, index->sub(rowCount, rest)), rest,
                       reason);
}

/// Fills the columns' panels where the schedule says so, and uses them.
LogicalResult ContractionTask::fillAndUse(std::string &reason) {
  locateRhs();
  if (s.rhs == FactorSource::Filled && !fillsPasses() &&
      failed(s.group() > 1
                 ? fillRhsGroups(*panels, rhs, symbolic(pitch), firstColumn,
                                 columnCount, flipsRhs(spec, s.form), reason)
                 : fillRhs(*panels, rhs, symbolic(pitch), firstColumn,
                           columnCount, reason)))
    return failure();
  if (hasTerms() && failed(emitColumnTerms(reason)))
    return failure();
  emitTiles();
  return success();
}

/// Some columns, used by all rows while they are near, then the next.
LogicalResult ContractionTask::emitBlocks(std::string &reason) {
  Value taskColumn = firstColumn, taskColumns = columnCount;
  LogicalResult outcome = success();
  auto all = IndexBuilder::constantOf(taskColumns);
  index->forEach(
      index->constant(0), taskColumns, s.columnsPerBlock, [&](Value column) {
        firstColumn = index->add(taskColumn, column);
        Value block = index->constant(s.columnsPerBlock);
        columnCount = all && *all % s.columnsPerBlock == 0
                          ? block
                          : index->min(block, index->sub(taskColumns, column));
        outcome = fillAndUse(reason);
      });
  return outcome;
}

FailureOr<CpuKernel> ContractionTask::emit(std::string &reason) {
  CpuKernel result;
  result.symbol = options.symbol;
  result.nest = "contraction";
  loadCpuDialects(*spec.context());
  module = ModuleOp::create(kernel.getLoc());
  for (Type type : kernel.getArgumentTypes())
    bufferTypes.push_back(cast<RankedTensorType>(type).getElementType());
  for (Type type : kernel.getResultTypes())
    bufferTypes.push_back(cast<RankedTensorType>(type).getElementType());
  findInPlace(result);
  layOutScratch(result);
  if (failed(packConstants(result, reason)))
    return failure();
  if (!s.epilogueInTiles && (spec.hasEpilogue() || copiesSums()) &&
      failed(emitEpilogue(reason)))
    return failure();
  if (failed(emitTask(reason)))
    return failure();
  for (graph::InPlacePair pair : result.inPlace)
    function->mayOverlap(pair.operand, resultBuffer(pair.result));
  if (!problem.empty()) {
    reason = problem;
    return failure();
  }
  result.module = std::move(module);
  return result;
}

bool dlc::copiesBytes(graph::KernelOp kernel, const CpuTarget &target) {
  if (hasInstruction(target, ProductForm::ByteQuads) &&
      !hasInstruction(target, ProductForm::ByteTiles))
    return false;
  std::string reason;
  auto spec = classifyContraction(kernel, reason);
  return succeeded(spec) && spec->narrow && spec->narrow->isBytes();
}

FailureOr<CpuKernel> dlc::emitContraction(const ContractionSpec &spec,
                                          const ContractionSchedule &schedule,
                                          const CpuTarget &target,
                                          const CpuCodegenOptions &options,
                                          std::string &reason) {
  if (!isLegal(schedule, spec, target, reason))
    return failure();
  return ContractionTask(spec, schedule, target, options).emit(reason);
}

FailureOr<CpuKernel> dlc::emitContraction(graph::KernelOp kernel,
                                          const CpuTarget &target,
                                          const CpuCodegenOptions &options,
                                          std::string &reason) {
  auto spec = classifyContraction(kernel, reason);
  if (failed(spec))
    return failure();
  KnobValues knobs;
  if (DictionaryAttr attr = kernel.getScheduleAttr())
    for (NamedAttribute entry : attr)
      if (auto number = dyn_cast<IntegerAttr>(entry.getValue()))
        knobs[entry.getName().str()] = number.getInt();
  auto range = getVariantRange(kernel);
  ContractionSchedule schedule =
      defaultSchedule(*spec, target, options, range,
                      chooseForm(*spec, target, options, range, knobs));
  schedule = withKnobs(schedule, knobs, *spec, target);
  // A computed matrix that one row uses is computed best where it is used.
  if (spec->rows.empty() && !spec->rhs.plain && !spec->rhsLoads.empty() &&
      schedule.form == ProductForm::Single &&
      schedule.rhs != FactorSource::Packed) {
    reason = "one row uses a matrix that is computed";
    return failure();
  }
  return emitContraction(*spec, schedule, target, options, reason);
}
