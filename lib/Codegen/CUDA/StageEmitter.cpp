// Walks a stage's body and its folds.
#include "StageEmitter.h"

#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/IntegerSet.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

/// What a data error stores to the kernel's status.
static constexpr int32_t kIndexOutOfRange = 1;

static bool isArgFold(FoldKind kind) { return kind >= FoldKind::argmax; }

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

Value StageEmitter::linear(ValueRange point, ArrayRef<AffineExpr> sizes) {
  IndexBuilder &index = launch.index();
  Value position = index.constant(0);
  for (auto [coordinate, size] : llvm::zip_equal(point, sizes))
    position = index.add(index.mul(position, launch.size(size)), coordinate);
  return position;
}

void StageEmitter::store(Scalar element, Value memory, Value position) {
  memref::StoreOp::create(launch.builder(), launch.loc(),
                          scalars.toStorage(element), memory, position);
}

Value StageEmitter::guardHolds(IntegerSet set, ValueRange coordinates) {
  OpBuilder &b = launch.builder();
  Location loc = launch.loc();
  Value all;
  for (unsigned i = 0; i < set.getNumConstraints(); ++i) {
    Value value = launch.index().expr(set.getConstraint(i), coordinates,
                                      launch.symbols());
    Value zero = launch.index().constant(0);
    auto predicate =
        set.isEq(i) ? arith::CmpIPredicate::eq : arith::CmpIPredicate::sge;
    Value holds = arith::CmpIOp::create(b, loc, predicate, value, zero);
    all = all ? arith::AndIOp::create(b, loc, all, holds).getResult() : holds;
  }
  return all;
}

// `other` is the value of a guarded load where its guard is false, else null.
Scalar StageEmitter::load(LoadOp op, ValueRange coordinates, Scalar other) {
  OpBuilder &b = launch.builder();
  Location loc = launch.loc();
  const TensorPlace &where = places.find(op.getTensor())->second;
  auto read = [&]() -> Scalar {
    if (!where.memory)
      return where.scalar;
    SmallVector<Value> point;
    for (AffineExpr expr : op.getMap().getResults().drop_front(where.firstAxis))
      point.push_back(launch.index().expr(expr, coordinates, launch.symbols()));
    auto sizes = SmallVector<AffineExpr>(getDims(op.getTensor().getType()));
    sizes.erase(sizes.begin(), sizes.begin() + where.firstAxis);
    // So many elements behind a place is an offset of that place's address:
    // neighbours are found to be ones.
    int64_t behind = 0;
    std::optional<int64_t> stride = 1;
    for (size_t i = point.size(); i-- > 0 && stride;) {
      if (auto sum = point[i].getDefiningOp<arith::AddIOp>())
        if (auto constant = IndexBuilder::constantOf(sum.getRhs())) {
          behind += *constant * *stride;
          point[i] = sum.getLhs();
        }
      auto size = constantValue(sizes[i]);
      stride = size ? std::optional(*stride * *size) : std::nullopt;
    }
    Value position = launch.index().add(linear(point, sizes), behind);
    Value stored = memref::LoadOp::create(b, loc, where.memory, position);
    return scalars.fromStorage(stored, op.getType());
  };
  if (!op.getGuard()) {
    if (!reusesLoads || !where.memory)
      return read();
    std::vector<const void *> key{op.getTensor().getAsOpaquePointer()};
    for (AffineExpr expr : op.getMap().getResults())
      if (auto dim = dyn_cast<AffineDimExpr>(expr)) {
        key.push_back(coordinates[dim.getPosition()].getAsOpaquePointer());
      } else if (isa<AffineConstantExpr>(expr)) {
        key.push_back(expr.getAsOpaquePointer());
      } else {
        return read();
      }
    auto [it, isNew] = loaded.try_emplace(key);
    if (isNew)
      it->second = read();
    return it->second;
  }
  Value holds = guardHolds(*op.getGuard(), coordinates);
  auto choice = scf::IfOp::create(b, loc, other.value.getType(), holds,
                                  /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(&choice.getThenRegion().front());
  scf::YieldOp::create(b, loc, read().value);
  b.setInsertionPointToStart(&choice.getElseRegion().front());
  scf::YieldOp::create(b, loc, other.value);
  return {choice.getResult(0), op.getType()};
}

StageEmitter::LoadPlace StageEmitter::placeOf(LoadOp op,
                                              ValueRange coordinates) {
  const TensorPlace &where = places.find(op.getTensor())->second;
  assert(where.memory && where.firstAxis == 0 && "not in global memory");
  SmallVector<Value> point;
  for (AffineExpr expr : op.getMap().getResults())
    point.push_back(launch.index().expr(expr, coordinates, launch.symbols()));
  Value holds;
  if (op.getGuard())
    holds = guardHolds(*op.getGuard(), coordinates);
  return {where.memory, linear(point, getDims(op.getTensor().getType())),
          holds};
}

// Counts negative values from the end; out of range is a data error, and the
// nearest index is used instead.
Value StageEmitter::checkedIndex(ToIndexOp op, Value value) {
  OpBuilder &b = launch.builder();
  Location loc = launch.loc();
  IndexBuilder &index = launch.index();
  Value size = launch.size(op.getSize().getDims().front());
  Value at = arith::IndexCastOp::create(b, loc, b.getIndexType(), value);
  Value zero = index.constant(0);
  Value isNegative = index.less(at, zero);
  at = arith::SelectOp::create(b, loc, isNegative, index.add(at, size), at);
  // As an unsigned number a negative index is larger than every size.
  Value isOutside =
      arith::CmpIOp::create(b, loc, arith::CmpIPredicate::uge, at, size);
  launch.onlyIf(isOutside, [&] {
    Value code =
        arith::ConstantIntOp::create(b, loc, b.getI32Type(), kIndexOutOfRange);
    memref::StoreOp::create(b, loc, code, launch.status(), zero);
  });
  return index.max(zero, index.min(at, index.sub(size, index.constant(1))));
}

//===----------------------------------------------------------------------===//
// Expressions
//===----------------------------------------------------------------------===//

/// The operations of the stage's body that `wanted` is computed from.
static llvm::DenseSet<Operation *> sourcesOf(StageOp stage, Value wanted) {
  llvm::DenseSet<Operation *> sources;
  SmallVector<Value> work{wanted};
  while (!work.empty()) {
    Operation *op = work.pop_back_val().getDefiningOp();
    if (op && op->getBlock() == stage.getBlock() && sources.insert(op).second)
      llvm::append_range(work, op->getOperands());
  }
  return sources;
}

FailureOr<Scalar> StageEmitter::body(StageOp stage, ValueRange coordinates) {
  return scalar(stage, coordinates, stage.getYielded());
}

FailureOr<Scalar> StageEmitter::scalar(StageOp stage, ValueRange coordinates,
                                       Value wanted) {
  OpBuilder &b = launch.builder();
  Location loc = launch.loc();
  // Coordinates are index values, everything else is a Scalar.
  IRMapping points;
  points.map(stage.getBlock()->getArguments(), coordinates);
  llvm::DenseMap<Value, Scalar> values;
  llvm::DenseSet<Value> ofRow; // the same at all elements of the row
  auto isOfRow = [&](Value v) { return ofRow.contains(v); };
  auto mapped = [&](ValueRange coords) {
    return llvm::map_to_vector(coords,
                               [&](Value v) { return points.lookup(v); });
  };
  llvm::DenseSet<Operation *> sources = sourcesOf(stage, wanted);
  for (Operation &operation : stage.getBlock()->without_terminator()) {
    if (!sources.contains(&operation))
      continue;
    Value result = operation.getResult(0);
    if (auto op = dyn_cast<LoadOp>(operation)) {
      Scalar other = op.getOther() ? values.lookup(op.getOther()) : Scalar();
      values[result] = load(op, mapped(op.getCoords()), other);
      if (!op.getGuard() && places.find(op.getTensor())->second.isOfRow)
        ofRow.insert(result);
    } else if (auto op = dyn_cast<ApplyOp>(operation)) {
      auto arguments = llvm::map_to_vector(
          op.getArgs(), [&](Value v) { return values.lookup(v); });
      if (llvm::all_of(op.getArgs(), isOfRow))
        ofRow.insert(result);
      if (op.getFn() == ScalarFn::div && isOfRow(op.getArgs()[1]) &&
          !isOfRow(op.getArgs()[0]) &&
          !op.getArgs()[1].getDefiningOp<LiteralOp>())
        values[result] = scalars.divideByShared(arguments[0], arguments[1]);
      else
        values[result] = scalars.apply(op.getFn(), arguments);
    } else if (auto op = dyn_cast<CastOp>(operation)) {
      values[result] = scalars.cast(values.lookup(op.getValue()), op.getType(),
                                    op.getSaturate());
      if (isOfRow(op.getValue()))
        ofRow.insert(result);
    } else if (auto op = dyn_cast<LiteralOp>(operation)) {
      values[result] = scalars.literal(op.getValue());
      ofRow.insert(result);
    } else if (auto op = dyn_cast<CoordOp>(operation)) {
      Value value = launch.index().expr(
          op.getMap().getResult(0), mapped(op.getCoords()), launch.symbols());
      values[result] = {
          arith::IndexCastOp::create(b, loc, b.getI64Type(), value),
          b.getI64Type()};
    } else if (auto op = dyn_cast<InsideOp>(operation)) {
      values[result] = {guardHolds(op.getSet(), mapped(op.getCoords())),
                        b.getI1Type()};
    } else if (auto op = dyn_cast<ToIndexOp>(operation)) {
      points.map(result, checkedIndex(op, values.lookup(op.getValue()).value));
    } else {
      return operation.emitOpError("is not supported on CUDA");
    }
  }
  return values.lookup(wanted);
}

//===----------------------------------------------------------------------===//
// Folds
//===----------------------------------------------------------------------===//

Value StageEmitter::identity(StageOp stage) {
  return scalars.identity(stage.getFoldKind(), stage.getElementType()).value;
}

Scalar StageEmitter::foldStart(StageOp stage) {
  if (TypedAttr init = stage.getInitAttr())
    return scalars.literal(init);
  return scalars.identity(stage.getFoldKind(), stage.getElementType());
}

// The winner so far is carried with its position; the first (last) of equal
// ones wins, and a NaN beats every number.
FailureOr<Scalar> StageEmitter::argFold(StageOp stage, ValueRange point) {
  OpBuilder &b = launch.builder();
  Location loc = launch.loc();
  IndexBuilder &index = launch.index();
  FoldKind kind = stage.getFoldKind();
  bool wantsMax = kind == FoldKind::argmax || kind == FoldKind::argmax_last;
  bool wantsLast =
      kind == FoldKind::argmax_last || kind == FoldKind::argmin_last;
  Type type = stage.getYielded().getType();
  SmallVector<Value> extents = launch.sizes(stage.getReduceDims());
  Value count = index.constant(1);
  for (Value extent : extents)
    count = index.mul(count, extent);
  bool failedInside = false;
  auto at = [&](Value k) {
    SmallVector<Value> coordinates(point);
    llvm::append_range(coordinates, index.delinearize(k, extents));
    FailureOr<Scalar> value = body(stage, coordinates);
    failedInside |= failed(value);
    return succeeded(value) ? *value : Scalar();
  };
  auto apply = [&](ScalarFn fn, ArrayRef<Scalar> args) {
    return scalars.apply(fn, args).value;
  };
  Scalar first = at(index.constant(0));
  if (failedInside)
    return failure();
  auto winner = launch.loop(
      index.constant(1), count, index.constant(1),
      {first.value, index.constant(0)},
      [&](Value k, ValueRange carried) -> SmallVector<Value> {
        Scalar best{carried[0], type}, value = at(k);
        if (failedInside)
          return carried;
        ScalarFn better = wantsMax ? (wantsLast ? ScalarFn::ge : ScalarFn::gt)
                                   : (wantsLast ? ScalarFn::le : ScalarFn::lt);
        Value wins = apply(better, {value, best});
        if (isa<FloatType>(type)) {
          Value isNaN = apply(ScalarFn::isnan, {value});
          Value wasNaN = apply(ScalarFn::isnan, {best});
          // Against an earlier NaN only a later NaN can win, when asked for.
          Value beatsNaN = isNaN;
          if (!wantsLast)
            beatsNaN = arith::ConstantIntOp::create(b, loc, b.getI1Type(), 0);
          Value beatsNumber = arith::OrIOp::create(b, loc, wins, isNaN);
          wins = arith::SelectOp::create(b, loc, wasNaN, beatsNaN, beatsNumber);
        }
        return {arith::SelectOp::create(b, loc, wins, value.value, best.value),
                arith::SelectOp::create(b, loc, wins, k, carried[1])};
      });
  if (failedInside)
    return failure();
  return Scalar{arith::IndexCastOp::create(b, loc, b.getI64Type(), winner[1]),
                b.getI64Type()};
}

FailureOr<Scalar> StageEmitter::element(StageOp stage, ValueRange point) {
  if (stage.getFoldKind() == FoldKind::none)
    return body(stage, point);
  if (isArgFold(stage.getFoldKind()))
    return argFold(stage, point);
  IndexBuilder &index = launch.index();
  Type type = stage.getElementType();
  bool failedInside = false;
  // One loop per reduce axis, outermost first: the declared order.
  SmallVector<Value> coordinates(point);
  std::function<Value(unsigned, Value)> nest = [&](unsigned axis,
                                                   Value carried) -> Value {
    if (axis == stage.getReduceRank()) {
      FailureOr<Scalar> value = body(stage, coordinates);
      failedInside |= failed(value);
      if (failedInside)
        return carried;
      return scalars.combine(stage.getFoldKind(), {carried, type}, *value)
          .value;
    }
    return launch.loop(index.constant(0),
                       launch.size(stage.getReduceDims()[axis]),
                       index.constant(1), {carried},
                       [&](Value k, ValueRange inner) -> SmallVector<Value> {
                         coordinates.push_back(k);
                         Value next = nest(axis + 1, inner[0]);
                         coordinates.pop_back();
                         return {next};
                       })[0];
  };
  Scalar result{nest(0, foldStart(stage).value), type};
  return failedInside ? FailureOr<Scalar>(failure()) : result;
}

Value StageEmitter::combineParts(StageOp stage, Value x, Value y) {
  Type type = stage.getElementType();
  return scalars.combine(stage.getFoldKind(), {x, type}, {y, type}).value;
}

Scalar StageEmitter::addStart(StageOp stage, Value fold) {
  if (stage.getInit())
    fold = combineParts(stage, foldStart(stage).value, fold);
  return {fold, stage.getElementType()};
}

FailureOr<Scalar> StageEmitter::foldPart(StageOp stage, ValueRange point,
                                         Value first, int64_t step) {
  auto part = foldParts(stage, SmallVector<Value>(point), first, step, 1);
  if (failed(part))
    return failure();
  return Scalar{part->front(), stage.getElementType()};
}

// Neighbour steps stand in one body, so that what they load is on its way
// together, and is one access where it lies next to each other.
FailureOr<SmallVector<Value>>
StageEmitter::foldParts(StageOp stage, ArrayRef<SmallVector<Value>> points,
                        Value first, int64_t stride, int64_t together) {
  IndexBuilder &index = launch.index();
  FoldKind kind = stage.getFoldKind();
  Type type = stage.getElementType();
  SmallVector<Value> extents = launch.sizes(stage.getReduceDims());
  Value count = index.constant(1);
  for (Value extent : extents)
    count = index.mul(count, extent);
  bool failedInside = false;
  SmallVector<Value> parts = launch.loop(
      first, index.div(count, index.constant(together)), index.constant(stride),
      SmallVector<Value>(points.size(), scalars.identity(kind, type).value),
      [&](Value k, ValueRange carried) {
        SmallVector<Value> next(carried);
        SmallVector<Value> at =
            index.delinearize(index.mul(k, together), extents);
        Value innermost = at.back();
        for (int64_t step = 0; step < together; ++step) {
          if (step)
            at.back() = index.add(innermost, step);
          for (auto [point, part] : llvm::zip_equal(points, next)) {
            SmallVector<Value> coordinates(point);
            llvm::append_range(coordinates, at);
            FailureOr<Scalar> value = body(stage, coordinates);
            failedInside |= failed(value);
            if (failedInside)
              return SmallVector<Value>(carried);
            part = scalars.combine(kind, {part, type}, *value).value;
          }
        }
        return next;
      });
  if (failedInside)
    return failure();
  return parts;
}

FailureOr<Scalar> StageEmitter::elementByBlock(StageOp stage,
                                               ValueRange point) {
  FailureOr<Scalar> part =
      foldPart(stage, point, launch.thread(), launch.blockThreads());
  if (failed(part))
    return failure();
  return addStart(stage, launch.reduceBlock(part->value, [&](Value x, Value y) {
    return combineParts(stage, x, y);
  }));
}
