// What is computed from the sums of a tile: every stage after the sum, each
// result stored where it belongs. Where that is short, it is the end of the
// tile's function, which has the sums in registers. Else the tile is stored,
// and while it lies in the first-level cache one function a kernel passes over
// it: a loop over rows and vectors, which costs less code.
#include "ContractionEpilogue.h"

#include "ContractionTask.h"
#include "ContractionTileBody.h"

#include "dlc/Schedule/OperandForm.h"
#include "dlc/Schedule/RowPlan.h"

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

/// The stages after the sum, each after those that read it.
static llvm::SmallSetVector<Operation *, 4>
stagesAfterSum(const ContractionSpec &spec) {
  llvm::SmallSetVector<Operation *, 4> stages;
  for (graph::StageOp stage : spec.results)
    if (stage != spec.stage)
      stages.insert(stage);
  for (size_t i = 0; i < stages.size(); ++i)
    stages[i]->walk([&](graph::LoadOp load) {
      auto stage = load.getTensor().getDefiningOp<graph::StageOp>();
      if (stage && stage != spec.stage)
        stages.insert(stage);
    });
  return stages;
}

/// Whether a load's address follows the rows, and the columns, as if each were
/// one axis, and elements of a row lie side by side or are one.
static bool isLinear(graph::LoadOp load, const ContractionSpec &spec) {
  ContractionOperand operand;
  operand.value = load.getResult();
  describeOperand(operand, spec.space);
  if (!operand.plain || !spec.strideOf(operand, spec.rows))
    return false;
  auto column = spec.strideOf(operand, spec.columns);
  return column && (*column == 0 || *column == 1);
}

/// A 16-bit float that was computed is held in f32, rounded.
static bool isWidened(graph::CastOp cast) {
  Type from = cast.getValue().getType();
  return (from.isF16() || from.isBF16()) && cast.getType().isF32() &&
         !cast.getValue().getDefiningOp<graph::LoadOp>();
}

bool dlc::isShortEpilogue(const ContractionSpec &spec) {
  constexpr int64_t mostWeight = 4; // in additions: bias, residual, clamp
  int64_t weight = 0;
  bool isSimple = true;
  for (Operation *stage : stagesAfterSum(spec))
    stage->walk([&](Operation *op) {
      if (auto apply = dyn_cast<graph::ApplyOp>(op))
        weight += scalarWeight(apply.getFn());
      else if (auto cast = dyn_cast<graph::CastOp>(op))
        weight += isWidened(cast) ? 0 : 1;
      else if (isa<graph::CoordOp, graph::InsideOp, graph::ToIndexOp>(op))
        isSimple = false;
      else if (auto load = dyn_cast<graph::LoadOp>(op))
        isSimple &=
            !isa<BlockArgument>(load.getTensor()) || isLinear(load, spec);
    });
  return spec.hasEpilogue() && isSimple && weight <= mostWeight;
}

SmallVector<unsigned> dlc::epilogueBuffers(const ContractionSpec &spec) {
  graph::KernelOp kernel = spec.kernel;
  llvm::SmallSetVector<unsigned, 4> buffers;
  for (Operation *stage : stagesAfterSum(spec))
    stage->walk([&](graph::LoadOp load) {
      if (auto argument = dyn_cast<BlockArgument>(load.getTensor()))
        buffers.insert(argument.getArgNumber());
    });
  unsigned operands = kernel.getArgumentTypes().size();
  for (unsigned i = 0; i < spec.results.size(); ++i)
    buffers.insert(operands + i);
  return llvm::to_vector(buffers);
}

VectorEpilogue::VectorEpilogue(IndexBuilder &index, const ContractionSpec &spec,
                               unsigned lanes, const ScalarOptions &options,
                               ValueRange symbols, ValueRange outer,
                               std::function<Value(unsigned)> buffer)
    : index(index), spec(spec), symbols(symbols), buffer(buffer),
      expressions(index, spec.space, symbols, options, std::move(buffer)) {
  point.axes.assign(spec.space.extents.size(), index.constant(0));
  for (auto [axis, value] : llvm::zip_equal(spec.outer, outer))
    point.axes[axis] = value;
  point.lanes = lanes;
  point.laneAxes = spec.columns;
}

void VectorEpilogue::setCoordinates(ArrayRef<unsigned> group, Value linear) {
  SmallVector<Value> extents;
  for (unsigned axis : group)
    extents.push_back(index.expr(spec.space.extents[axis], {}, symbols));
  for (auto [axis, value] :
       llvm::zip_equal(group, index.delinearize(linear, extents)))
    point.axes[axis] = value;
}

void VectorEpilogue::setLinear(Value row, Value column) {
  if (!spec.rows.empty())
    point.axes[spec.rows.back()] = row;
  if (!spec.columns.empty())
    point.axes[spec.columns.back()] = column;
}

Value VectorEpilogue::rowStride() {
  if (spec.rows.empty())
    return index.constant(0);
  return index.expr(spec.resultStrides[spec.rows.back()], {}, symbols);
}

LogicalResult VectorEpilogue::emit(Value sum, Value to, Value mask,
                                   std::optional<unsigned> direct,
                                   std::string &reason) {
  OpBuilder &b = index.builder();
  graph::KernelOp kernel = spec.kernel;
  unsigned firstResult = kernel.getArgumentTypes().size();
  point.mask = mask;
  expressions.forget();
  expressions.setStageValue(spec.stage, {sum, spec.accumulator});
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
        expressions.scalars.broadcast(value, point.lanes));
    Value result = buffer(firstResult + i);
    if (mask)
      vector::MaskedStoreOp::create(b, index.loc(), result, to, mask, stored);
    else
      vector::StoreOp::create(b, index.loc(), stored, result, to);
  }
  return success();
}

void TileBody::finish(const Accumulators &sums) {
  const ContractionSpec &spec = *p.epilogue;
  graph::KernelOp kernel = spec.kernel;
  SmallVector<unsigned> numbers = epilogueBuffers(spec);
  ValueRange values = p.epilogueValues;
  ValueRange symbols = values.slice(numbers.size(), kernel.getNumSymbols());
  ValueRange outer = values.drop_front(numbers.size() + symbols.size());
  VectorEpilogue epilogue(
      index, spec, p.lanes, p.scalar, symbols, outer, [&](unsigned buffer) {
        return values[llvm::find(numbers, buffer) - numbers.begin()];
      });
  Value stride = epilogue.rowStride();
  for (unsigned r = 0; r < shape.rows; ++r) {
    Value row = index.add(result.offset, index.mul(stride, int64_t(r)));
    for (unsigned v = 0; v < shape.vectors; ++v) {
      epilogue.setLinear(index.add(result.row, r),
                         index.add(result.column, int64_t(v) * p.lanes));
      // What fails is said in words.
      (void)epilogue.emit(sums[r * shape.vectors + v],
                          index.add(row, int64_t(v) * p.lanes), maskOf(v),
                          std::nullopt, *p.problem);
    }
  }
}

namespace {
/// The body of the epilogue function: a loop over a stored tile.
struct TileLoop {
  IndexBuilder &at;
  VectorEpilogue epilogue;
  unsigned lanes;
  std::optional<unsigned> direct; ///< the result in which the sums lie
  Value tile{}, tileOffset{}, tileRow{}, resultOffset{}, firstRow{},
      firstColumn{}, rows{}, columns{};

  LogicalResult emitVector(Value row, Value column, Value mask,
                           std::string &reason);
  LogicalResult emit(std::string &reason);
};
} // namespace

/// A vector of sums, and all results from it.
LogicalResult TileLoop::emitVector(Value row, Value column, Value mask,
                                   std::string &reason) {
  OpBuilder &b = at.builder();
  epilogue.setColumn(at.add(firstColumn, column));
  auto type = VectorType::get(
      {lanes}, cast<MemRefType>(tile.getType()).getElementType());
  Value from = at.add(at.add(tileOffset, at.mul(row, tileRow)), column), sum;
  if (mask && direct)
    sum = vector::MaskedLoadOp::create(
        b, at.loc(), type, tile, from, mask,
        Value(arith::ConstantOp::create(b, at.loc(), b.getZeroAttr(type))));
  else
    sum = vector::LoadOp::create(b, at.loc(), type, tile, from);
  Value to =
      at.add(at.add(resultOffset, at.mul(row, epilogue.rowStride())), column);
  return epilogue.emit(sum, to, mask, direct, reason);
}

LogicalResult TileLoop::emit(std::string &reason) {
  OpBuilder &b = at.builder();
  Location loc = at.loc();
  Value zero = at.constant(0);
  auto maskType = VectorType::get({lanes}, b.getI1Type());
  auto rowLoop = scf::ForOp::create(b, loc, zero, rows, at.constant(1));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(rowLoop.getBody());
  Value row = rowLoop.getInductionVar();
  epilogue.setRow(at.add(firstRow, row));
  Value whole = at.mul(at.div(columns, at.constant(lanes)), lanes);
  auto loop = scf::ForOp::create(b, loc, zero, whole, at.constant(lanes));
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
  ValueRange arguments = epilogue.getArguments(),
             rest = arguments.drop_front(bufferTypes.size()),
             kernelSymbols = rest.take_front(kernel.getNumSymbols());
  rest = rest.drop_front(kernelSymbols.size());
  ValueRange outer = rest.take_front(spec.outer.size());
  TileLoop body{at,
                VectorEpilogue(at, spec, s.lanes, scalarOptions, kernelSymbols,
                               outer, [&](unsigned i) { return arguments[i]; }),
                s.lanes, directResult()};
  Value *places[] = {&body.tile,         &body.tileOffset, &body.tileRow,
                     &body.resultOffset, &body.firstRow,   &body.firstColumn,
                     &body.rows,         &body.columns};
  for (auto [value, argument] :
       llvm::zip_equal(places, rest.drop_front(outer.size())))
    *value = argument;
  LogicalResult outcome = body.emit(reason);
  b.setInsertionPointToEnd(&epilogue.getBody().front());
  func::ReturnOp::create(b, loc);
  return outcome;
}
