// Zero points of quantised products. The micro-kernel multiplies bytes as they
// lie; what the zero points p of lhs and q of rhs would have changed,
//
//   sum (a - p)(b - q) - sum a b = p (K q - sum b) - q sum a,
//
// is where its sums start. All of it is modulo 2^32, as the sums are. Rows that
// differ in p, columns that differ in q, and bytes whose sign was turned over
// (q moves by 128 then) are the same thing.
#include "ContractionTask.h"

#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

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

/// The sum of a row's bytes, from where the micro-kernel reads them.
Value ContractionTask::sumOfRow(Value row) {
  OpBuilder &b = function->builder();
  Location loc = function->loc();
  bool isUnsigned = isLhsUnsigned(spec);
  Type i8 = b.getI8Type(), i32 = b.getI32Type();
  auto widen = [&](Value bytes, Type type) -> Value {
    return isUnsigned ? Value(arith::ExtUIOp::create(b, loc, type, bytes))
                      : Value(arith::ExtSIOp::create(b, loc, type, bytes));
  };
  bool inPlace = s.lhs == FactorSource::Memory;
  int64_t whole = int64_t(s.lanes) * s.group(),
          chunk = inPlace ? whole : s.kBlock;
  Value zero = index->constant(0), start;
  if (inPlace) {
    start = lhsRowOffset(row, zero);
  } else {
    Value height = index->constant(s.panelRows);
    Value inside = index->rem(row, height);
    start = lhsRowOffset(index->sub(row, inside), inside);
  }
  start = index->add(lhsBase, start);
  int64_t distance = inPlace ? chunk : int64_t(s.panelRows) * s.kBlock;
  Value end = inPlace ? depth : paddedDepth;
  Value chunks = index->div(end, index->constant(chunk));

  auto bytes = VectorType::get({chunk}, i8);
  auto sums = VectorType::get({int64_t(s.lanes)}, i32);
  Value ones = arith::ConstantOp::create(
      b, loc, DenseElementsAttr::get(bytes, b.getI8IntegerAttr(1)));
  bool byDots = chunk == whole;
  Value init = byDots ? constant32(b, loc, 0, sums) : constant32(b, loc, 0);
  auto loop =
      scf::ForOp::create(b, loc, zero, chunks, index->constant(1), init);
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    Value sum = loop.getRegionIterArg(0);
    Value value = vector::LoadOp::create(
        b, loc, bytes, lhs,
        index->add(start, index->mul(loop.getInductionVar(), distance)));
    if (byDots)
      sum = emitGroupedProduct(b, loc, s.form, isUnsigned, value, ones, sum);
    else
      sum = arith::AddIOp::create(
          b, loc, sum,
          vector::ReductionOp::create(
              b, loc, vector::CombiningKind::ADD,
              widen(value, VectorType::get({chunk}, i32))));
    scf::YieldOp::create(b, loc, sum);
  }
  Value sum = loop.getResult(0);
  if (byDots)
    sum = vector::ReductionOp::create(b, loc, vector::CombiningKind::ADD, sum);
  if (!inPlace)
    return sum;
  auto rest = scf::ForOp::create(b, loc, index->mul(chunks, chunk), end,
                                 index->constant(1), sum);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(rest.getBody());
  Value byte = memref::LoadOp::create(
      b, loc, lhs, index->add(start, rest.getInductionVar()));
  scf::YieldOp::create(
      b, loc,
      Value(arith::AddIOp::create(b, loc, rest.getRegionIterArg(0),
                                  widen(byte, i32))));
  return rest.getResult(0);
}

LogicalResult ContractionTask::emitRowTerms(std::string &reason) {
  OpBuilder &b = function->builder();
  Location loc = function->loc();
  Type i32 = b.getI32Type();
  rowZero = scratchAt(rowTermScratch, i32);
  rowSum = scratchAt(rowTermScratch + termRows * 4, i32);
  LogicalResult result = success();
  index->forEach(index->constant(0), rowCount, 1, [&](Value row) {
    if (needsColumnSums()) {
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
    if (needsRowSums())
      memref::StoreOp::create(b, loc, sumOfRow(row), rowSum, row);
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
  auto bytes = VectorType::get({int64_t(s.lanes) * s.group()}, b.getI8Type());
  Value ones = arith::ConstantOp::create(
      b, loc, DenseElementsAttr::get(bytes, b.getI8IntegerAttr(1)));
  Value inside = hasColumnPanels(spec)
                     ? index->rem(column, index->constant(s.panelColumns()))
                     : index->constant(0);
  Value start = index->add(
      rhsBase, hasColumnPanels(spec)
                   ? index->add(index->mul(index->sub(column, inside), depth),
                                index->mul(inside, int64_t(s.group())))
                   : index->mul(column, int64_t(s.group())));
  auto loop = scf::ForOp::create(b, loc, index->constant(0), depth,
                                 index->constant(s.group()),
                                 constant32(b, loc, 0, type));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(loop.getBody());
  Value value = vector::LoadOp::create(
      b, loc, bytes, rhs,
      index->add(start, index->mul(loop.getInductionVar(), rhsStep)));
  // Bytes of rhs are signed where those of lhs are not.
  scf::YieldOp::create(b, loc,
                       emitGroupedProduct(b, loc, s.form, !isLhsUnsigned(spec),
                                          value, ones,
                                          loop.getRegionIterArg(0)));
  return loop.getResult(0);
}

LogicalResult ContractionTask::emitColumnTerms(std::string &reason) {
  OpBuilder &b = function->builder();
  Location loc = function->loc();
  Type i32 = b.getI32Type();
  columnTerm = scratchAt(columnTermScratch, i32);
  columnZero = scratchAt(columnTermScratch + termColumns * 4, i32);
  auto type = VectorType::get({int64_t(s.lanes)}, i32);
  // What lies in the panels is b + shift.
  int64_t shift = !flipsRhs(spec, s.form) ? 0
                  : isLhsUnsigned(spec)   ? -128
                                          : 128;
  Value steps = arith::IndexCastOp::create(b, loc, i32,
                                           symbolic(spec.extentOf(spec.inner)));
  steps = vector::BroadcastOp::create(b, loc, type, steps);
  LogicalResult result = success();
  index->forEach(index->constant(0), columnCount, s.lanes, [&](Value column) {
    Value zero = constant32(b, loc, shift, type);
    if (spec.narrow->rhsZero) {
      ExprPoint point;
      point.axes = axes;
      point.lanes = s.lanes;
      point.laneAxes = spec.columns;
      setCoordinates(*panels, point.axes, spec.columns,
                     index->add(firstColumn, column));
      point.mask = vector::CreateMaskOp::create(
          b, loc, VectorType::get({int64_t(s.lanes)}, b.getI1Type()),
          index->sub(columnCount, column));
      auto given = expressions->emit(spec.narrow->rhsZero, point, reason);
      if (failed(given)) {
        result = failure();
        return;
      }
      zero = arith::AddIOp::create(
          b, loc, zero, expressions->scalars.broadcast(*given, s.lanes).value);
    }
    if (needsRowSums())
      vector::StoreOp::create(b, loc, zero, columnZero, column);
    if (!needsColumnSums())
      return;
    Value term = arith::SubIOp::create(
        b, loc, arith::MulIOp::create(b, loc, steps, zero),
        sumsOfColumns(column));
    vector::StoreOp::create(b, loc, term, columnTerm, column);
  });
  return result;
}
