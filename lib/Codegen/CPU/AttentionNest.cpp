// One task of attention: some queries of one outer point, and all queries of
// its group, against the keys block by block. Keys and values that must be
// copied are copied once a block of keys, for all queries of the task.
#include "AttentionTask.h"

#include "dlc/Codegen/CPU/ContractionTile.h"
#include "dlc/Codegen/CPU/KernelVariants.h"
#include "dlc/Codegen/Common/CpuLowering.h"
#include "dlc/Schedule/NestChoice.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

//===----------------------------------------------------------------------===//
// Words
//===----------------------------------------------------------------------===//

Value AttentionTask::splat(Scope &scope, double value) const {
  VectorType type = vectorType();
  return arith::ConstantOp::create(
      scope.b(), scope.loc(),
      DenseElementsAttr::get(
          type, FloatAttr::get(type.getElementType(), value).getValue()));
}

Value AttentionTask::loadVector(Scope &scope, Value at) const {
  return vector::LoadOp::create(scope.b(), scope.loc(), vectorType(),
                                scope.work, at);
}

void AttentionTask::storeVector(Scope &scope, Value value, Value at) const {
  vector::StoreOp::create(scope.b(), scope.loc(), value, scope.work, at);
}

Value AttentionTask::firstLanes(Scope &scope, Value count) const {
  auto type = VectorType::get({int64_t(s.lanes)}, scope.b().getI1Type());
  return vector::CreateMaskOp::create(scope.b(), scope.loc(), type, count);
}

Value AttentionTask::offsetOf(Scope &scope,
                              const ContractionOperand &operand) const {
  Value offset = sizeOf(scope, operand.base);
  for (auto [axis, stride] : llvm::enumerate(operand.strides))
    if (stride != 0)
      offset = scope.index.add(
          offset, scope.index.mul(scope.axes[axis], sizeOf(scope, stride)));
  return offset;
}

//===----------------------------------------------------------------------===//
// Tasks and scratch
//===----------------------------------------------------------------------===//

void AttentionTask::layOut(CpuKernel &result) {
  AffineExpr rows = spec.extentOf(spec.rows), one = constantExpr(1);
  if (auto lane = laneAxis())
    rows = spec.space.extents[*lane];
  rowsOfTask = s.rowsPerTask ? constantExpr(s.rowsPerTask) : rows;
  rowTasks = s.rowsPerTask ? rows.ceilDiv(s.rowsPerTask) : one;
  AffineExpr keys = spec.extentOf(spec.keys);
  keysOfBlock = s.keysPerBlock ? constantExpr(s.keysPerBlock) : keys;
  result.phases.push_back(
      {options.symbol, graph::simplify(spec.extentOf(spec.outer) * rowTasks)});

  auto padded = [&](ArrayRef<unsigned> axes) {
    int64_t extent = *graph::constantValue(spec.extentOf(axes));
    return (extent + s.lanes - 1) / s.lanes * s.lanes;
  };
  int64_t inner = padded(spec.inner), columns = padded(spec.columns);
  if (s.packsPairs()) // a step of theirs along the inner axis is two vectors
    inner = (inner + 2 * s.lanes - 1) / (2 * s.lanes) * (2 * s.lanes);
  // One vector more: rows a power of two apart would meet in the same sets of
  // the first-level cache.
  innerPitch = inner + s.lanes;
  columnPitch = columns + s.lanes;
  int64_t width = s.blockRows();
  AffineExpr blocks = spec.extentOf(otherRowAxes()) * rowsOfTask.ceilDiv(width);
  AffineExpr sizes[numAreas] = {};
  sizes[Queries] = blocks * (inner * width);
  sizes[Sums] = blocks * (columns * width);
  sizes[State] = blocks * (3 * width);
  sizes[Scores] = keysOfBlock * width;
  sizes[Keys] = s.copiesKeys ? keysOfBlock * innerPitch : constantExpr(0);
  sizes[Values] = s.copiesValues ? keysOfBlock * columnPitch : constantExpr(0);
  sizes[Rows] = constantExpr(width * std::max(innerPitch, columnPitch));
  sizes[Weights] = sizes[Configuration] = constantExpr(0);
  if (s.packsPairs())
    layOutTiles(sizes, blocks);
  AffineExpr offset = constantExpr(0);
  for (AffineExpr size : sizes) {
    areaOffsets.push_back(graph::simplify(offset));
    offset = offset + size.ceilDiv(16) * 16;
  }
  result.scratchBytes = graph::simplify(offset * 4);
}

void AttentionTask::findAreas(Scope &scope) {
  for (AffineExpr offset : areaOffsets)
    scope.areas.push_back(sizeOf(scope, offset));
}

void AttentionTask::forEachBlock(Scope &scope, function_ref<void(Value)> body) {
  IndexBuilder &index = scope.index;
  SmallVector<unsigned> others = otherRowAxes();
  int64_t width = s.blockRows();
  Value blocks = index.ceilDiv(scope.rowCount, index.constant(width));
  SmallVector<Value> before = scope.axes;
  index.forEach(index.constant(0), sizeOf(scope, others), 1, [&](Value other) {
    SmallVector<Value> extents;
    for (unsigned axis : others)
      extents.push_back(sizeOf(scope, spec.space.extents[axis]));
    for (auto [axis, value] :
         llvm::zip_equal(others, index.delinearize(other, extents)))
      scope.axes[axis] = value;
    index.forEach(index.constant(0), blocks, 1, [&](Value i) {
      scope.axes[*laneAxis()] = index.add(scope.firstRow, index.mul(i, width));
      body(index.add(index.mul(other, blocks), i));
    });
  });
  scope.axes = before;
}

LogicalResult AttentionTask::emitKeys(Scope &scope, Value from, Value to,
                                      bool outside, std::string &reason) {
  if (copiesFactors() && failed(fillKeys(scope, from, to, reason)))
    return failure();
  IndexBuilder &index = scope.index;
  auto callWithin = [&](Value number, Value begin, Value end) {
    if (begin == from && end == to)
      return callBlock(scope, number, from, to, from);
    auto branch =
        scf::IfOp::create(scope.b(), scope.loc(), index.less(begin, end));
    OpBuilder::InsertionGuard guard(scope.b());
    scope.b().setInsertionPointToStart(branch.thenBlock());
    callBlock(scope, number, begin, end, from);
  };
  forEachBlock(scope, [&](Value number) {
    Value row = scope.axes[*laneAxis()];
    Value rows =
        index.min(index.constant(s.blockRows()),
                  index.sub(index.add(scope.firstRow, scope.rowCount), row));
    if (!llvm::any_of(spec.cuts,
                      [&](const KeyCut &cut) { return boundsKeys(cut); }))
      return callWithin(number, from, to);
    KeyRange range = keysOf(scope, row, rows);
    if (s.pairs) { // whole pairs of keys
      Value two = index.constant(2);
      auto before = [&](Value key) {
        Value past = index.max(index.sub(key, from), index.constant(0));
        return index.add(from, index.mul(index.div(past, two), two));
      };
      range.begin = before(range.begin);
      range.end = before(index.add(range.end, 1));
    }
    if (!outside)
      return callWithin(number, index.max(from, range.begin),
                        index.min(to, range.end));
    auto branch = scf::IfOp::create(scope.b(), scope.loc(),
                                    mayNeedMore(scope, number, rows));
    OpBuilder::InsertionGuard guard(scope.b());
    scope.b().setInsertionPointToStart(branch.thenBlock());
    if (weighsElements()) { // `from` and `to` are all keys
      clearBlock(scope, number);
      return callBlock(scope, number, from, to, from);
    }
    callWithin(number, from, index.min(to, range.begin));
    callWithin(number, index.max(from, index.max(range.begin, range.end)), to);
  });
  return success();
}

Value AttentionTask::mayNeedMore(Scope &scope, Value number, Value rows) {
  IndexBuilder &index = scope.index;
  Value state = index.add(scope.areas[State],
                          index.mul(number, 3 * int64_t(s.blockRows())));
  Value bound = splat(scope, *leastMaximum()), isLow;
  for (unsigned v = 0; v < s.vectors; ++v) {
    Value maximum = loadVector(scope, index.add(state, int64_t(v) * s.lanes));
    Value low = arith::CmpFOp::create(
        scope.b(), scope.loc(), arith::CmpFPredicate::ULE, maximum, bound);
    Value exist = firstLanes(
        scope, index.sub(rows, index.constant(int64_t(v) * s.lanes)));
    low = arith::AndIOp::create(scope.b(), scope.loc(), low, exist);
    Value any = vector::ReductionOp::create(scope.b(), scope.loc(),
                                            vector::CombiningKind::OR, low);
    isLow =
        isLow ? Value(arith::OrIOp::create(scope.b(), scope.loc(), isLow, any))
              : any;
  }
  return isLow;
}

LogicalResult AttentionTask::emitOutside(Scope &scope, Value keys,
                                         std::string &reason) {
  IndexBuilder &index = scope.index;
  OpBuilder &b = scope.b();
  // Keys and values are copied only if somebody asks for them.
  int64_t width = s.blockRows();
  Value perGroup = index.ceilDiv(scope.rowCount, index.constant(width));
  Value blocks = index.mul(perGroup, sizeOf(scope, otherRowAxes()));
  Value never = arith::ConstantOp::create(b, scope.loc(), b.getBoolAttr(false));
  auto loop = scf::ForOp::create(b, scope.loc(), index.constant(0), blocks,
                                 index.constant(1), never);
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    Value number = loop.getInductionVar();
    Value first = index.mul(index.rem(number, perGroup), width);
    Value rows =
        index.min(index.constant(width), index.sub(scope.rowCount, first));
    Value any = arith::OrIOp::create(b, scope.loc(), loop.getRegionIterArg(0),
                                     mayNeedMore(scope, number, rows));
    scf::YieldOp::create(b, scope.loc(), any);
  }
  auto branch = scf::IfOp::create(b, scope.loc(), loop.getResult(0));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(branch.thenBlock());
  return passOver(scope, index.constant(0), keys, /*outside=*/true, reason);
}

LogicalResult AttentionTask::passOver(Scope &scope, Value from, Value to,
                                      bool outside, std::string &reason) {
  if (!s.keysPerBlock)
    return emitKeys(scope, from, to, outside, reason);
  // Blocks begin at the same keys whatever the bounds are, so that sums are
  // split in the same places.
  IndexBuilder &index = scope.index;
  LogicalResult outcome = success();
  Value first = index.mul(index.div(from, index.constant(s.keysPerBlock)),
                          s.keysPerBlock);
  index.forEach(first, to, s.keysPerBlock, [&](Value key) {
    Value next = index.min(index.add(key, s.keysPerBlock), to);
    if (failed(emitKeys(scope, key, next, outside, reason)))
      outcome = failure();
  });
  return outcome;
}

LogicalResult AttentionTask::emitBlocks(Scope &scope, std::string &reason) {
  IndexBuilder &index = scope.index;
  LogicalResult outcome = success();
  forEachBlock(scope, [&](Value number) {
    if (failed(fillQueries(scope, number, reason)))
      outcome = failure();
  });
  if (failed(outcome))
    return failure();
  Value keys = sizeOf(scope, spec.keys), begin = index.constant(0), end = keys;
  bool bounds = llvm::any_of(
      spec.cuts, [&](const KeyCut &cut) { return boundsKeys(cut); });
  bool dependsOnOthers = llvm::any_of(spec.cuts, [&](const KeyCut &cut) {
    return llvm::any_of(otherRowAxes(), [&](unsigned axis) {
      return cut.kept.isFunctionOfDim(axis);
    });
  });
  if (bounds && !dependsOnOthers) {
    KeyRange range = keysOf(scope, scope.firstRow, scope.rowCount);
    begin = range.begin;
    end = range.end;
  }
  if (failed(passOver(scope, begin, end, false, reason)))
    return failure();
  // Where a row turns out to have no score above the masked ones', those count.
  if (bounds && leastMaximum() &&
      failed(copiesFactors()
                 ? emitOutside(scope, keys, reason)
                 : passOver(scope, index.constant(0), keys, true, reason)))
    return failure();
  forEachBlock(scope, [&](Value number) {
    if (failed(finishBlock(scope, number, reason)))
      outcome = failure();
  });
  return outcome;
}

LogicalResult AttentionTask::emitTask(std::string &reason) {
  function.emplace(*module, options.symbol, bufferTypes,
                   kernel.getNumSymbols());
  Scope scope{
      IndexBuilder(function->builder(), function->loc()),
      {},
      function->symbols(),
      {},
      function->scratchView(
          function->builder().getF32Type(),
          IndexBuilder(function->builder(), function->loc()).constant(0))};
  IndexBuilder &index = scope.index;
  scope.status = function->status();
  for (unsigned i = 0; i < bufferTypes.size(); ++i)
    scope.buffers.push_back(function->buffer(i));
  scope.axes.assign(spec.space.extents.size(), index.constant(0));
  findAreas(scope);
  SmallVector<Value> parts = index.delinearize(
      function->task(), {index.constant(0), sizeOf(scope, rowTasks)});
  SmallVector<Value> extents;
  for (unsigned axis : spec.outer)
    extents.push_back(sizeOf(scope, spec.space.extents[axis]));
  for (auto [axis, value] :
       llvm::zip_equal(spec.outer, index.delinearize(parts[0], extents)))
    scope.axes[axis] = value;
  Value rows = sizeOf(scope, spec.space.extents[*laneAxis()]);
  scope.firstRow = index.constant(0);
  scope.rowCount = rows;
  if (s.rowsPerTask) {
    scope.firstRow = index.mul(parts[1], s.rowsPerTask);
    scope.rowCount = index.min(index.constant(s.rowsPerTask),
                               index.sub(rows, scope.firstRow));
  }
  if (s.tiles)
    emitTileConfiguration(
        index, function->scratchView(scope.b().getI8Type(),
                                     index.mul(scope.areas[Configuration], 4)));
  LogicalResult outcome = emitBlocks(scope, reason);
  if (s.tiles)
    emitTileRelease(scope.b(), scope.loc());
  function->finish();
  return outcome;
}

FailureOr<CpuKernel> AttentionTask::emit(std::string &reason) {
  CpuKernel result;
  result.symbol = options.symbol;
  result.nest = "attention";
  loadCpuDialects(*spec.context());
  module = ModuleOp::create(kernel.getLoc());
  for (TypeRange types : {TypeRange(kernel.getArgumentTypes()),
                          TypeRange(kernel.getResultTypes())})
    for (Type type : types)
      bufferTypes.push_back(cast<RankedTensorType>(type).getElementType());
  if (s.few) {
    layOutFew(result);
    if (failed(emitFew(reason)))
      return failure();
  } else {
    layOut(result);
    if (failed(emitBlockFunction(reason)) || failed(emitTask(reason)))
      return failure();
  }
  if (!dataReason.empty()) {
    reason = dataReason;
    return failure();
  }
  result.module = std::move(module);
  return result;
}

FailureOr<CpuKernel> dlc::emitAttention(const AttentionSpec &spec,
                                        const AttentionSchedule &schedule,
                                        const CpuTarget &target,
                                        const CpuCodegenOptions &options,
                                        std::string &reason) {
  if (options.strict) {
    reason = "strict: sums keep their order";
    return failure();
  }
  if (!hasAttentionNest(spec, reason) ||
      !isLegal(schedule, spec, target, reason))
    return failure();
  return AttentionTask(spec, schedule, target, options).emit(reason);
}

FailureOr<CpuKernel> dlc::emitAttention(graph::KernelOp kernel,
                                        const CpuTarget &target,
                                        const CpuCodegenOptions &options,
                                        std::string &reason) {
  auto spec = classifyAttention(kernel, reason);
  if (failed(spec))
    return failure();
  auto schedule = withKnobs(
      defaultSchedule(*spec, target, getVariantRange(kernel)), kernel, reason);
  if (failed(schedule))
    return failure();
  return emitAttention(*spec, *schedule, target, options, reason);
}
