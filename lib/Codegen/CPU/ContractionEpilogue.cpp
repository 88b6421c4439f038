// What is computed from the sums of a finished tile, while the tile lies in the
// first-level cache: every stage after the sum, each result stored where it
// belongs. One function a kernel, called for each tile: a loop over rows and
// vectors costs less code than the micro-kernels' registers would, and no time.
#include "ContractionTask.h"

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

void ContractionTask::callEpilogue(Value outOffset, Value resultOffset,
                                   Value row, Value column, Value rows,
                                   Value validColumns) {
  SmallVector<Value> arguments;
  for (unsigned i = 0; i < bufferTypes.size(); ++i)
    arguments.push_back(function->buffer(i));
  arguments.append(symbols);
  for (unsigned axis : spec.outer)
    arguments.push_back(axes[axis]);
  arguments.append(
      {out, outOffset, outRow, resultOffset, row, column, rows, validColumns});
  func::CallOp::create(function->builder(), function->loc(), epilogue,
                       arguments);
}

namespace {
/// The body of the epilogue function.
struct EpilogueBody {
  const ContractionSpec &spec;
  const ContractionSchedule &s;
  func::FuncOp function;
  unsigned firstResult;
  std::optional<unsigned> direct; ///< the result in which the sums lie
  OpBuilder &b;
  Location loc;
  IndexBuilder at;
  ScalarOptions options;
  SmallVector<Value> symbols{};
  ExprPoint point{};
  Value tile{}, tileOffset{}, tileRow{}, resultOffset{}, firstRow{},
      firstColumn{}, rows{}, columns{}, rowStride{};

  void setCoordinates(ArrayRef<unsigned> group, Value linear) {
    SmallVector<Value> extents;
    for (unsigned axis : group)
      extents.push_back(at.expr(spec.space.extents[axis], {}, symbols));
    for (auto [axis, value] :
         llvm::zip_equal(group, at.delinearize(linear, extents)))
      point.axes[axis] = value;
  }
  LogicalResult emitVector(Value row, Value column, Value mask,
                           std::string &reason);
  LogicalResult emit(std::string &reason);
};
} // namespace

/// A vector of sums, and all results from it.
LogicalResult EpilogueBody::emitVector(Value row, Value column, Value mask,
                                       std::string &reason) {
  setCoordinates(spec.columns, at.add(firstColumn, column));
  point.mask = mask;
  auto type = VectorType::get(
      {s.lanes}, cast<MemRefType>(tile.getType()).getElementType());
  Value from = at.add(at.add(tileOffset, at.mul(row, tileRow)), column), sum;
  if (mask && direct)
    sum = vector::MaskedLoadOp::create(
        b, loc, type, tile, from, mask,
        Value(arith::ConstantOp::create(b, loc, b.getZeroAttr(type))));
  else
    sum = vector::LoadOp::create(b, loc, type, tile, from);
  ExprEmitter expressions(
      at, spec.space, symbols, options,
      [&](unsigned operand) { return function.getArgument(operand); });
  expressions.setStageValue(spec.stage, {sum, spec.accumulator});
  Value to = at.add(at.add(resultOffset, at.mul(row, rowStride)), column);
  for (auto [i, stage] : llvm::enumerate(spec.results)) {
    Scalar value{sum, spec.accumulator};
    if (stage == spec.stage) {
      if (direct == i)
        continue; // it lies there
    } else {
      auto emitted = expressions.emitNext(graph::StageOp(stage).getYielded(),
                                          point, reason);
      if (failed(emitted))
        return failure();
      value = *emitted;
    }
    Value stored = expressions.scalars.toStorage(
        expressions.scalars.broadcast(value, s.lanes));
    Value result = function.getArgument(firstResult + i);
    if (mask)
      vector::MaskedStoreOp::create(b, loc, result, to, mask, stored);
    else
      vector::StoreOp::create(b, loc, stored, result, to);
  }
  return success();
}

LogicalResult EpilogueBody::emit(std::string &reason) {
  Value zero = at.constant(0);
  auto maskType = VectorType::get({s.lanes}, b.getI1Type());
  auto rowLoop = scf::ForOp::create(b, loc, zero, rows, at.constant(1));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(rowLoop.getBody());
  Value row = rowLoop.getInductionVar();
  setCoordinates(spec.rows, at.add(firstRow, row));
  Value whole = at.mul(at.div(columns, at.constant(s.lanes)), s.lanes);
  auto loop = scf::ForOp::create(b, loc, zero, whole, at.constant(s.lanes));
  {
    OpBuilder::InsertionGuard inner(b);
    b.setInsertionPointToStart(loop.getBody());
    if (failed(emitVector(row, loop.getInductionVar(), Value(), reason)))
      return failure();
  }
  auto branch = scf::IfOp::create(b, loc, at.less(whole, columns));
  OpBuilder::InsertionGuard inner(b);
  b.setInsertionPointToStart(branch.thenBlock());
  return emitVector(
      row, whole,
      vector::CreateMaskOp::create(b, loc, maskType, at.sub(columns, whole)),
      reason);
}

/// The function that turns a tile of sums into results:
///   (buffers, symbols, outer axes, tile, tile offset, tile row distance,
///    result offset, first row, first column, rows, columns)
LogicalResult ContractionTask::emitEpilogue(std::string &reason) {
  OpBuilder b(spec.context());
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
  IndexBuilder at(b, loc);
  EpilogueBody body{spec, s,   epilogue, resultBuffer(0), directResult(),
                    b,    loc, at,       scalarOptions};
  unsigned next = bufferTypes.size();
  auto take = [&] { return epilogue.getArgument(next++); };
  for (unsigned k = 0; k < kernel.getNumSymbols(); ++k)
    body.symbols.push_back(take());
  body.point.axes.assign(spec.space.extents.size(), at.constant(0));
  for (unsigned axis : spec.outer)
    body.point.axes[axis] = take();
  for (Value *value :
       {&body.tile, &body.tileOffset, &body.tileRow, &body.resultOffset,
        &body.firstRow, &body.firstColumn, &body.rows, &body.columns})
    *value = take();
  body.rowStride =
      spec.rows.empty()
          ? at.constant(0)
          : at.expr(spec.resultStrides[spec.rows.back()], {}, body.symbols);
  body.point.lanes = s.lanes;
  body.point.laneAxes = spec.columns;
  LogicalResult outcome = body.emit(reason);
  b.setInsertionPointToEnd(&epilogue.getBody().front());
  func::ReturnOp::create(b, loc);
  return outcome;
}
