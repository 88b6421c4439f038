// The end of a row: sums are divided as the kernel's body says, turned back so
// that columns lie across lanes, and go through the stages that follow.
#include "AttentionTask.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

/// A constant like `value`, a scalar or a vector of f32.
static Value constantLike(OpBuilder &b, Location loc, Value value, double x) {
  auto number = b.getF32FloatAttr(x);
  if (auto type = dyn_cast<VectorType>(value.getType()))
    return arith::ConstantOp::create(b, loc,
                                     DenseElementsAttr::get(type, number));
  return arith::ConstantOp::create(b, loc, number);
}

FailureOr<AttentionTask::RowState>
AttentionTask::rowState(Scope &scope, const ExprPoint &point, Value maximum,
                        Value sum, std::string &reason) {
  OpBuilder &b = scope.b();
  Location loc = scope.loc();
  auto compare = [&](arith::CmpFPredicate predicate, Value x,
                     double y) -> Value {
    return arith::CmpFOp::create(b, loc, predicate, x,
                                 constantLike(b, loc, x, y));
  };
  // The body's maximum is NaN where a score is; +inf makes a NaN of the sum
  // too.
  Value isNaN = arith::AndIOp::create(
      b, loc, compare(arith::CmpFPredicate::UNO, sum, 0),
      compare(arith::CmpFPredicate::ONE, maximum, INFINITY));
  RowState state;
  state.maximum = arith::SelectOp::create(
      b, loc, isNaN, constantLike(b, loc, sum, NAN), maximum);
  if (spec.isPlainReference) {
    // exp(-inf - -inf)
    state.sum = arith::SelectOp::create(
        b, loc, compare(arith::CmpFPredicate::OEQ, maximum, -INFINITY),
        constantLike(b, loc, sum, NAN), sum);
    return state;
  }
  // What the body subtracts instead.
  ExprEmitter expressions = expressionsOf(scope);
  expressions.setStageValue(spec.maximum,
                            {state.maximum, spec.maximum.getElementType()});
  auto reference = expressions.emitNext(spec.reference, point, reason);
  if (failed(reference))
    return failure();
  Value subtracted =
      expressions.scalars.broadcast(*reference, point.lanes).value;
  VectorMath math(b, loc, scalarOptions.fma);
  state.scale = math.exp(
      arith::SubFOp::create(b, loc, finite(scope, maximum), subtracted));
  state.sum = arith::MulFOp::create(b, loc, sum, state.scale);
  return state;
}

FailureOr<Value> AttentionTask::weightOf(Scope &scope, const ExprPoint &point,
                                         Value e, const RowState &state,
                                         const WeightChain &chain,
                                         std::string &reason) {
  ExprEmitter expressions = expressionsOf(scope);
  expressions.setStageValue(spec.maximum,
                            {state.maximum, spec.maximum.getElementType()});
  expressions.setStageValue(spec.sum, {state.sum, spec.sum.getElementType()});
  if (state.scale)
    e = arith::MulFOp::create(scope.b(), scope.loc(), e, state.scale);
  expressions.setValue(spec.exponential, {e, spec.exponential.getType()});
  if (chain.quotient)
    expressions.setValue(chain.quotient,
                         {chain.divided, chain.quotient.getType()});
  auto weight = expressions.emitNext(chain.last, point, reason);
  if (failed(weight))
    return failure();
  return expressions.scalars.broadcast(*weight, point.lanes).value;
}

FailureOr<Value> AttentionTask::rowFactor(Scope &scope, const ExprPoint &point,
                                          const RowState &state,
                                          std::string &reason) {
  // p is linear in e. A sum of 0 is one of zeros: 0 / 0 is NaN, 1 / 0 is not.
  OpBuilder &b = scope.b();
  Location loc = scope.loc();
  Value zero = constantLike(b, loc, state.sum, 0);
  Value isZero =
      arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, state.sum, zero);
  Value e = zero;
  if (!weighsElements())
    e = arith::SelectOp::create(b, loc, isZero, zero,
                                constantLike(b, loc, state.sum, 1));
  return weightOf(scope, point, e, state, reason);
}

Value AttentionTask::scaled(Scope &scope, Value sum, Value factor) {
  OpBuilder &b = scope.b();
  // The weights are in the sum, except for a key that was left out: 0, or NaN
  // where a row has no keys.
  if (weighsElements())
    return arith::AddFOp::create(b, scope.loc(), sum, factor);
  Value product = arith::MulFOp::create(b, scope.loc(), sum, factor);
  if (!spec.zeroesNaN)
    return product;
  // A row of NaN that the body takes for zeros.
  Value zero = constantLike(b, scope.loc(), sum, 0);
  Value isZero = arith::CmpFOp::create(b, scope.loc(),
                                       arith::CmpFPredicate::OEQ, factor, zero);
  return arith::SelectOp::create(b, scope.loc(), isZero, zero, product);
}

bool AttentionTask::resultsReadState() {
  bool found = false;
  for (graph::StageOp stage : spec.results) {
    if (stage == spec.output)
      continue;
    llvm::SmallDenseSet<Value> seen;
    walkScalars(stage.getYielded(), seen, [&](Value scalar) {
      auto load = scalar.getDefiningOp<graph::LoadOp>();
      found |= load && (load.getTensor() == spec.maximum.getResult() ||
                        load.getTensor() == spec.sum.getResult());
    });
  }
  return found;
}

LogicalResult AttentionTask::finishBlock(Scope &scope, Value number,
                                         std::string &reason) {
  IndexBuilder &index = scope.index;
  int64_t width = s.blockRows(), columns = columnPitch - s.lanes;
  unsigned lane = *laneAxis();
  Value firstRow = scope.axes[lane], staged = scope.areas[Rows];
  Value end = index.add(scope.firstRow, scope.rowCount);
  Value count = index.min(index.constant(width), index.sub(end, firstRow));
  Value state = index.add(scope.areas[State], index.mul(number, 3 * width));
  Value sums = index.add(scope.areas[Sums], index.mul(number, columns * width));
  SmallVector<Value> factors;
  for (unsigned v = 0; v < s.vectors; ++v) {
    ExprPoint point = pointOf(scope);
    point.axes[lane] = index.add(firstRow, int64_t(v) * s.lanes);
    point.lanes = s.lanes;
    point.laneAxes = {lane};
    point.mask = firstLanes(scope, index.sub(end, point.axes[lane]));
    Value at = index.add(state, int64_t(v) * s.lanes);
    auto row = rowState(scope, point, loadVector(scope, at),
                        loadVector(scope, index.add(at, width)), reason);
    if (failed(row))
      return failure();
    auto factor = rowFactor(scope, point, *row, reason);
    if (failed(factor))
      return failure();
    factors.push_back(*factor);
  }
  index.forEach(
      index.constant(0), index.constant(columns), s.lanes, [&](Value column) {
        for (unsigned v = 0; v < s.vectors; ++v) {
          SmallVector<Value> rows;
          Value from = index.add(index.add(sums, index.mul(column, width)),
                                 int64_t(v) * s.lanes);
          for (unsigned l = 0; l < s.lanes; ++l) {
            Value sum = loadVector(scope, index.add(from, int64_t(l) * width));
            sum = scaled(scope, sum, factors[v]);
            rows.push_back(sum);
          }
          transpose(scope, rows);
          for (unsigned l = 0; l < s.lanes; ++l)
            storeVector(scope, rows[l],
                        index.add(index.add(staged, column),
                                  int64_t(v * s.lanes + l) * columnPitch));
        }
      });
  LogicalResult outcome = success();
  index.forEach(index.constant(0), count, 1, [&](Value row) {
    scope.axes[lane] = index.add(firstRow, row);
    if (failed(storeRow(scope, index.add(staged, index.mul(row, columnPitch)),
                        index.add(state, row),
                        index.add(index.add(state, row), width), reason)))
      outcome = failure();
  });
  scope.axes[lane] = firstRow;
  return outcome;
}

void AttentionTask::storeEach(Scope &scope, Value stored, Value buffer,
                              Value to, Value column, int64_t count,
                              ArrayRef<Value> extents) {
  IndexBuilder &index = scope.index;
  for (int64_t l = 0; l < count; ++l) {
    Value at = to;
    for (auto [axis, value] : llvm::zip_equal(
             spec.columns, index.delinearize(index.add(column, l), extents)))
      at = index.add(at,
                     index.mul(value, sizeOf(scope, spec.resultStrides[axis])));
    Value element =
        vector::ExtractOp::create(scope.b(), scope.loc(), stored, l);
    memref::StoreOp::create(scope.b(), scope.loc(), element, buffer, at);
  }
}

LogicalResult AttentionTask::storeRow(Scope &scope, Value sums, Value maximumAt,
                                      Value sumAt, std::string &reason) {
  IndexBuilder &index = scope.index;
  OpBuilder &b = scope.b();
  Location loc = scope.loc();
  int64_t columns = *graph::constantValue(spec.extentOf(spec.columns));
  SmallVector<Value> before = scope.axes, extents;
  for (unsigned axis : spec.columns)
    extents.push_back(sizeOf(scope, spec.space.extents[axis]));
  Value to = index.constant(0);
  for (auto [axis, stride] : llvm::enumerate(spec.resultStrides))
    if (stride != 0)
      to = index.add(to, index.mul(scope.axes[axis], sizeOf(scope, stride)));
  unsigned firstResult = kernel.getArgumentTypes().size();
  auto stride = collapsedStride(
      spec.columns,
      [&](unsigned axis) -> std::optional<AffineExpr> {
        return spec.resultStrides[axis];
      },
      spec.space.extents, spec.context());
  bool isDense = stride && *stride == 1;
  LogicalResult outcome = success();
  std::optional<RowState> state;
  if (resultsReadState()) {
    auto row =
        rowState(scope, pointOf(scope),
                 memref::LoadOp::create(b, loc, scope.work, maximumAt),
                 memref::LoadOp::create(b, loc, scope.work, sumAt), reason);
    if (failed(row))
      return failure();
    state = *row;
  }
  auto emitVector = [&](Value column, int64_t lanes) {
    for (auto [axis, value] :
         llvm::zip_equal(spec.columns, index.delinearize(column, extents)))
      scope.axes[axis] = value;
    ExprPoint point = pointOf(scope);
    point.lanes = s.lanes;
    point.laneAxes.assign(spec.columns.begin(), spec.columns.end());
    if (lanes < s.lanes)
      point.mask = firstLanes(scope, index.constant(lanes));
    ExprEmitter expressions = expressionsOf(scope);
    Scalar sum{loadVector(scope, index.add(sums, column)),
               spec.output.getElementType()};
    expressions.setStageValue(spec.output, sum);
    if (state) {
      expressions.setStageValue(
          spec.maximum, {state->maximum, spec.maximum.getElementType()});
      expressions.setStageValue(spec.sum,
                                {state->sum, spec.sum.getElementType()});
    }
    for (auto [i, stage] : llvm::enumerate(spec.results)) {
      FailureOr<Scalar> value = sum;
      if (stage != spec.output)
        value = expressions.emitNext(graph::StageOp(stage).getYielded(), point,
                                     reason);
      if (failed(value)) {
        outcome = failure();
        return;
      }
      Value stored = expressions.scalars.toStorage(
          expressions.scalars.broadcast(*value, s.lanes));
      Value buffer = scope.buffers[firstResult + i], at = index.add(to, column);
      if (!isDense)
        storeEach(scope, stored, buffer, to, column, lanes, extents);
      else if (point.mask)
        vector::MaskedStoreOp::create(b, loc, buffer, at, point.mask, stored);
      else
        vector::StoreOp::create(b, loc, stored, buffer, at);
    }
  };
  int64_t whole = columns / s.lanes * s.lanes;
  index.forEach(index.constant(0), index.constant(whole), s.lanes,
                [&](Value column) { emitVector(column, s.lanes); });
  if (whole < columns)
    emitVector(index.constant(whole), columns - whole);
  scope.axes = before;
  return outcome;
}
