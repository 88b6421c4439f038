// Zero points of quantised products. The micro-kernel multiplies bytes as they
// lie; what the zero points p of lhs and q of rhs would have changed,
//
//   sum (a - p)(b - q) - sum a b = p (K q - sum b) - q sum a,
//
// is where its sums start. All of it is modulo 2^32, as the sums are. Rows that
// differ in p, columns that differ in q, and bytes whose sign was turned over
// (q moves by 128 then) are the same thing.
#include "ContractionFactors.h"
#include "ContractionTask.h"

#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <numeric>

using namespace mlir;
using namespace dlc;

/// An i32 constant or vector of it.
static Value constant32(OpBuilder &b, Location loc, int64_t value,
                        Type like = Type()) {
  if (auto type = dyn_cast_or_null<VectorType>(like))
    return arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(type, b.getI32IntegerAttr(value)));
  return arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(value));
}

static Value onesLike(OpBuilder &b, Location loc, VectorType bytes) {
  return arith::ConstantOp::create(
      b, loc, DenseElementsAttr::get(bytes, b.getI8IntegerAttr(1)));
}

Value ContractionTask::addBytes(Value memory, Value at, Value length,
                                Value sums) {
  OpBuilder &b = function->builder();
  Location loc = function->loc();
  int64_t whole = int64_t(s.lanes) * s.group();
  auto bytes = VectorType::get({whole}, b.getI8Type());
  Value ones = onesLike(b, loc, bytes), from = index->constant(0);
  // Whole vectors, then parts of one whose other bytes are zeros.
  for (int64_t part : {whole, int64_t(16), int64_t(s.group())}) {
    Value to = index->mul(index->div(length, index->constant(part)), part);
    auto begin = IndexBuilder::constantOf(from),
         end = IndexBuilder::constantOf(to);
    if (begin && end && *begin >= *end)
      continue;
    auto loop =
        scf::ForOp::create(b, loc, from, to, index->constant(part), sums);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    auto type = VectorType::get({part}, b.getI8Type());
    Value value = vector::LoadOp::create(
        b, loc, type, memory, index->add(at, loop.getInductionVar()));
    if (part < whole) {
      SmallVector<int64_t> places(whole, part);
      std::iota(places.begin(), places.begin() + part, 0);
      Value zeros = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
      value = vector::ShuffleOp::create(b, loc, value, zeros, places);
    }
    scf::YieldOp::create(b, loc,
                         emitGroupedProduct(b, loc, s.form, isLhsUnsigned(spec),
                                            value, ones,
                                            loop.getRegionIterArg(0)));
    sums = loop.getResult(0);
    from = to;
  }
  return sums;
}

Value ContractionTask::sumsOfPixel(Value row, Value sums) {
  OpBuilder &b = function->builder();
  Location loc = function->loc();
  SmallVector<unsigned> run = spec.lhsRun();
  ArrayRef<unsigned> taps = ArrayRef(spec.inner).drop_back(run.size());
  SmallVector<Value> point = axes, extents;
  setCoordinates(*panels, point, spec.rows, index->add(firstRow, row));
  for (unsigned axis : taps)
    extents.push_back(symbolic(spec.space.extents[axis]));
  Value zero = index->constant(0);
  auto loop = scf::ForOp::create(b, loc, zero, symbolic(spec.extentOf(taps)),
                                 index->constant(1), sums);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(loop.getBody());
  for (auto [axis, value] : llvm::zip_equal(
           taps, index->delinearize(loop.getInductionVar(), extents)))
    point[axis] = value;
  Value memory = lhs, at = index->expr(addressOf(spec.lhs), point, symbols),
        inside;
  for (auto &[isEquality, guard] : spec.lhs.guards)
    inside = alsoHolds(*index, inside, index->expr(guard, point, symbols),
                       isEquality);
  if (inside) {
    memory = arith::SelectOp::create(b, loc, inside, memory, zeros);
    at = arith::SelectOp::create(b, loc, inside, at, zero);
  }
  Value added = addBytes(memory, at, symbolic(spec.extentOf(run)),
                         loop.getRegionIterArg(0));
  scf::YieldOp::create(b, loc, added);
  return loop.getResult(0);
}

/// The sum of a row's bytes, from where the micro-kernel reads them.
Value ContractionTask::sumOfRow(Value row) {
  OpBuilder &b = function->builder();
  Location loc = function->loc();
  bool isUnsigned = isLhsUnsigned(spec);
  Type i8 = b.getI8Type(), i32 = b.getI32Type();
  auto sums = VectorType::get({int64_t(s.lanes)}, i32);
  auto addUp = [&](Value sums) -> Value {
    return vector::ReductionOp::create(b, loc, vector::CombiningKind::ADD,
                                       sums);
  };
  Value none = constant32(b, loc, 0, sums), zero = index->constant(0);
  if (s.lhs == FactorSource::Indirect)
    return addUp(sumsOfPixel(row, none));
  if (s.lhs == FactorSource::Memory)
    return addUp(addBytes(lhs, index->add(lhsBase, lhsRowOffset(row, zero)),
                          depth, none));
  int64_t whole = int64_t(s.lanes) * s.group(), chunk = s.kBlock;
  Value height = index->constant(s.panelRows);
  Value inside = index->rem(row, height);
  Value start =
      index->add(lhsBase, lhsRowOffset(index->sub(row, inside), inside));
  int64_t distance = int64_t(s.panelRows) * s.kBlock;
  Value chunks = index->div(paddedDepth, index->constant(chunk));

  auto bytes = VectorType::get({chunk}, i8);
  bool byDots = chunk == whole;
  Value init = byDots ? none : constant32(b, loc, 0);
  auto loop =
      scf::ForOp::create(b, loc, zero, chunks, index->constant(1), init);
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    Value sum = loop.getRegionIterArg(0);
    Value value = vector::LoadOp::create(
        b, loc, bytes, lhs,
        index->add(start, index->mul(loop.getInductionVar(), distance)));
    auto wide = VectorType::get({chunk}, i32);
    if (byDots)
      sum = emitGroupedProduct(b, loc, s.form, isUnsigned, value,
                               onesLike(b, loc, bytes), sum);
    else
      sum = arith::AddIOp::create(
          b, loc, sum,
          addUp(isUnsigned
                    ? Value(arith::ExtUIOp::create(b, loc, wide, value))
                    : Value(arith::ExtSIOp::create(b, loc, wide, value))));
    scf::YieldOp::create(b, loc, sum);
  }
  return byDots ? addUp(loop.getResult(0)) : loop.getResult(0);
}

/// Sums of groups of k, in each lane of vectors that `step` elements a step of
/// k lie apart.
Value ContractionTask::sumOfGroups(Value memory, Value start, Value step,
                                   bool isUnsigned) {
  OpBuilder &b = function->builder();
  Location loc = function->loc();
  auto bytes = VectorType::get({int64_t(s.lanes) * s.group()}, b.getI8Type());
  auto type = VectorType::get({int64_t(s.lanes)}, b.getI32Type());
  auto loop = scf::ForOp::create(b, loc, index->constant(0), depth,
                                 index->constant(s.group()),
                                 constant32(b, loc, 0, type));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(loop.getBody());
  Value value = vector::LoadOp::create(
      b, loc, bytes, memory,
      index->add(start, index->mul(loop.getInductionVar(), step)));
  scf::YieldOp::create(b, loc,
                       emitGroupedProduct(b, loc, s.form, isUnsigned, value,
                                          onesLike(b, loc, bytes),
                                          loop.getRegionIterArg(0)));
  return loop.getResult(0);
}

/// The sums of a vector of rows' bytes, in an lhs that lies step by step.
Value ContractionTask::sumsOfRows(Value row) {
  Value start = index->add(lhsBase, index->mul(row, lhsRow));
  return sumOfGroups(lhs, start, lhsBlock, isLhsUnsigned(spec));
}

LogicalResult ContractionTask::emitRowTerms(std::string &reason) {
  OpBuilder &b = function->builder();
  Location loc = function->loc();
  Type i32 = b.getI32Type();
  rowZero = scratchAt(rowTermScratch, i32);
  rowSum = scratchAt(rowTermScratch + termRows * 4, i32);
  LogicalResult result = success();
  Value subtracted;
  if (needsRowSums() && !columnsDiffer()) {
    auto zero = columnZeros({}, reason);
    if (failed(zero))
      return failure();
    subtracted = *zero;
  }
  auto multiply = [&](Value sum) -> Value {
    if (!subtracted)
      return sum;
    Value factor = subtracted;
    if (isa<VectorType>(sum.getType()))
      factor = vector::BroadcastOp::create(b, loc, sum.getType(), factor);
    return arith::MulIOp::create(b, loc, sum, factor);
  };
  if (needsRowSums() && s.wholeSteps)
    index->forEach(index->constant(0), rowCount, s.lanes, [&](Value row) {
      vector::StoreOp::create(b, loc, multiply(sumsOfRows(row)), rowSum, row);
    });
  index->forEach(index->constant(0), rowCount, 1, [&](Value row) {
    if (needsColumnSums() && rowsDiffer()) {
      ExprPoint point;
      point.axes = axes;
      setCoordinates(*panels, point.axes, spec.rows, index->add(firstRow, row));
      auto zero = expressions->emit(spec.narrow->lhsZero, point, reason);
      if (failed(zero)) {
        result = failure();
        return;
      }
      memref::StoreOp::create(b, loc, zero->value, rowZero, row);
    }
    if (needsRowSums() && !s.wholeSteps)
      memref::StoreOp::create(b, loc, multiply(sumOfRow(row)), rowSum, row);
  });
  return result;
}

/// The sums of a vector of columns' bytes, as they lie in the panels.
Value ContractionTask::sumsOfColumns(Value column) {
  OpBuilder &b = function->builder();
  Location loc = function->loc();
  auto type = VectorType::get({int64_t(s.lanes)}, b.getI32Type());
  if (s.rhs == FactorSource::Packed) {
    Value sums = memref::ViewOp::create(
        b, loc, getFlatMemRef(b.getI32Type()), rhs,
        index->constant(rhsLayout.sumsOffset()), ValueRange{});
    // A batch of the panels is batchElements() long.
    Value batch = index->div(
        packedBatch(spec.rhs, rhsLayout),
        index->constant(std::max<int64_t>(1, rhsLayout.batchElements())));
    Value at =
        index->add(index->mul(batch, rhsLayout.panels() * rhsLayout.panel),
                   index->add(firstColumn, column));
    return vector::LoadOp::create(b, loc, type, sums, at);
  }
  Value inside = hasColumnPanels(spec)
                     ? index->rem(column, index->constant(s.panelColumns()))
                     : index->constant(0);
  Value start = index->add(
      rhsBase, hasColumnPanels(spec)
                   ? index->add(index->mul(index->sub(column, inside), depth),
                                index->mul(inside, int64_t(s.group())))
                   : index->mul(column, int64_t(s.group())));
  // Bytes of rhs are signed where those of lhs are not.
  return sumOfGroups(rhs, start, rhsStep, !isLhsUnsigned(spec));
}

FailureOr<Value> ContractionTask::columnZeros(Value column,
                                              std::string &reason) {
  OpBuilder &b = function->builder();
  Location loc = function->loc();
  Type type = b.getI32Type();
  if (column)
    type = VectorType::get({int64_t(s.lanes)}, type);
  // What lies in the panels is b + shift.
  int64_t shift = !flipsRhs(spec, s.form) ? 0
                  : isLhsUnsigned(spec)   ? -128
                                          : 128;
  Value zero = constant32(b, loc, shift, type);
  if (!spec.narrow->rhsZero)
    return zero;
  ExprPoint point;
  point.axes = axes;
  if (column) {
    point.lanes = s.lanes;
    point.laneAxes = spec.columns;
    setCoordinates(*panels, point.axes, spec.columns,
                   index->add(firstColumn, column));
    point.mask = vector::CreateMaskOp::create(
        b, loc, VectorType::get({int64_t(s.lanes)}, b.getI1Type()),
        index->sub(columnCount, column));
  }
  auto given = expressions->emit(spec.narrow->rhsZero, point, reason);
  if (failed(given))
    return failure();
  Value more = given->value;
  if (column)
    more = expressions->scalars.broadcast(*given, s.lanes).value;
  return Value(arith::AddIOp::create(b, loc, zero, more));
}

LogicalResult ContractionTask::emitColumnTerms(std::string &reason) {
  OpBuilder &b = function->builder();
  Location loc = function->loc();
  Type i32 = b.getI32Type();
  columnTerm = scratchAt(columnTermScratch, i32);
  columnZero = scratchAt(columnTermScratch + termColumns * 4, i32);
  auto type = VectorType::get({int64_t(s.lanes)}, i32);
  Value steps = arith::IndexCastOp::create(b, loc, i32,
                                           symbolic(spec.extentOf(spec.inner)));
  steps = vector::BroadcastOp::create(b, loc, type, steps);
  Value factor; // p, where it is one for all rows
  if (needsColumnSums() && !rowsDiffer()) {
    ExprPoint point;
    point.axes = axes;
    auto zero = expressions->emit(spec.narrow->lhsZero, point, reason);
    if (failed(zero))
      return failure();
    factor = vector::BroadcastOp::create(b, loc, type, zero->value);
  }
  if (!needsColumnSums() && !columnsDiffer())
    return success();
  LogicalResult result = success();
  index->forEach(index->constant(0), columnCount, s.lanes, [&](Value column) {
    auto zero = columnZeros(column, reason);
    if (failed(zero)) {
      result = failure();
      return;
    }
    if (needsRowSums() && columnsDiffer())
      vector::StoreOp::create(b, loc, *zero, columnZero, column);
    if (!needsColumnSums())
      return;
    Value term = arith::SubIOp::create(
        b, loc, arith::MulIOp::create(b, loc, steps, *zero),
        sumsOfColumns(column));
    if (factor)
      term = arith::MulIOp::create(b, loc, term, factor);
    vector::StoreOp::create(b, loc, term, columnTerm, column);
  });
  return result;
}
