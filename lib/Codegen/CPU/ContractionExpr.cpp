// Scalar expressions at a point or along a vector of points.
#include "dlc/Codegen/CPU/ContractionExpr.h"

#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

static Value constantLike(OpBuilder &b, Location loc, TypedAttr scalar,
                          Type like) {
  if (auto vector = dyn_cast<VectorType>(like)) {
    auto type = VectorType::get(vector.getShape(), scalar.getType());
    return arith::ConstantOp::create(b, loc,
                                     DenseElementsAttr::get(type, scalar));
  }
  return arith::ConstantOp::create(b, loc, scalar);
}

Value ExprEmitter::at(AffineExpr expr, const ExprPoint &point) {
  return index.expr(expr, point.axes, symbols);
}

std::optional<AffineExpr> ExprEmitter::laneStep(AffineExpr expr,
                                                const ExprPoint &point) {
  return collapsedStride(
      point.laneAxes,
      [&](unsigned axis) { return linearCoefficient(expr, axis); },
      space.extents, expr.getContext());
}

Value ExprEmitter::ramp(Value base, Value step, const ExprPoint &point) {
  Type i64 = b.getI64Type();
  auto type = VectorType::get({point.lanes}, i64);
  SmallVector<int64_t> lanes;
  for (unsigned i = 0; i < point.lanes; ++i)
    lanes.push_back(i);
  Value iota = arith::ConstantOp::create(
      b, loc, DenseElementsAttr::get(type, ArrayRef<int64_t>(lanes)));
  auto widen = [&](Value v) -> Value {
    return vector::BroadcastOp::create(
        b, loc, type, arith::IndexCastOp::create(b, loc, i64, v));
  };
  if (IndexBuilder::constantOf(step) != 1)
    iota = arith::MulIOp::create(b, loc, iota, widen(step));
  return arith::AddIOp::create(b, loc, iota, widen(base));
}

FailureOr<Scalar> ExprEmitter::emitLoad(graph::LoadOp load,
                                        const ExprPoint &point,
                                        std::string &reason) {
  auto argument = dyn_cast<BlockArgument>(load.getTensor());
  if (!argument)
    return stageValue;
  MLIRContext *context = load.getContext();
  auto tensor = cast<RankedTensorType>(load.getTensor().getType());
  AffineExpr offset = getAffineConstantExpr(0, context),
             stride = getAffineConstantExpr(1, context);
  SmallVector<AffineExpr> dims = graph::getDims(tensor);
  for (size_t i = dims.size(); i-- > 0;) {
    auto part = space.toAxes(load.getMap().getResult(i), load.getCoords());
    if (failed(part)) {
      reason = "a load's coordinate comes from data";
      return failure();
    }
    offset = offset + *part * stride;
    stride = stride * dims[i];
  }
  offset = graph::simplify(offset);

  Value mask = point.mask; // of the lanes
  Value inside;            // a condition that is the same for all lanes
  auto require = [&](Value condition) {
    Value &all = isa<VectorType>(condition.getType()) ? mask : inside;
    all = all ? b.createOrFold<arith::AndIOp>(loc, all, condition) : condition;
  };
  if (auto guard = load.getGuard())
    for (unsigned i = 0; i < guard->getNumConstraints(); ++i) {
      auto expr = space.toAxes(guard->getConstraint(i), load.getCoords());
      if (failed(expr)) {
        reason = "a guard's coordinate comes from data";
        return failure();
      }
      auto predicate =
          guard->isEq(i) ? arith::CmpIPredicate::eq : arith::CmpIPredicate::sge;
      std::optional<AffineExpr> step = getAffineConstantExpr(0, context);
      if (point.lanes)
        step = laneStep(*expr, point);
      if (!step) {
        reason = "a guard is not linear along the vector";
        return failure();
      }
      Value value = at(*expr, point);
      if (*step == 0) {
        require(
            arith::CmpIOp::create(b, loc, predicate, value, index.constant(0)));
        continue;
      }
      Value values = ramp(value, at(*step, point), point);
      require(arith::CmpIOp::create(
          b, loc, predicate, values,
          constantLike(b, loc, b.getI64IntegerAttr(0), values.getType())));
    }

  Type element = tensor.getElementType(), storage = getStorageType(element);
  Value memory = buffer(argument.getArgNumber());
  Value where = at(offset, point);
  std::optional<AffineExpr> step = getAffineConstantExpr(0, context);
  if (point.lanes)
    step = laneStep(offset, point);
  if (!step) {
    reason = "a load is not linear along the vector";
    return failure();
  }
  // One element for all lanes, unless the guard tells them apart.
  bool splats = !point.lanes || (*step == 0 && mask == point.mask);
  Value other;
  if (load.getGuard()) {
    auto value = emit(load.getOther(), point, reason);
    if (failed(value))
      return failure();
    other = scalars.toStorage(splats ? *value
                                     : scalars.broadcast(*value, point.lanes));
    splats &= !isa<VectorType>(other.getType());
  }
  // Loads at the point; `read` may run only where `inside` holds.
  auto read = [&]() -> Value {
    if (splats)
      return memref::LoadOp::create(b, loc, memory, where);
    auto type = VectorType::get({point.lanes}, storage);
    Value pass =
        other ? other
              : constantLike(b, loc, cast<TypedAttr>(b.getZeroAttr(storage)),
                             type);
    if (*step == 1) {
      if (mask)
        return vector::MaskedLoadOp::create(b, loc, type, memory, where, mask,
                                            pass);
      return vector::LoadOp::create(b, loc, type, memory, where);
    }
    Value lanes = ramp(index.constant(0), at(*step, point), point);
    Value all =
        mask ? mask
             : constantLike(b, loc, b.getBoolAttr(true), lanes.getType());
    return vector::GatherOp::create(b, loc, type, memory, where, lanes, all,
                                    pass);
  };
  Value result;
  if (inside) {
    Type type =
        splats ? storage : Type(VectorType::get({point.lanes}, storage));
    auto branch = scf::IfOp::create(b, loc, TypeRange{type}, inside,
                                    /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(branch.thenBlock());
    scf::YieldOp::create(b, loc, read());
    b.setInsertionPointToStart(branch.elseBlock());
    scf::YieldOp::create(b, loc, other);
    result = branch.getResult(0);
  } else {
    result = read();
  }
  return scalars.fromStorage(result, element);
}

FailureOr<Scalar> ExprEmitter::emit(Value scalar, const ExprPoint &point,
                                    std::string &reason) {
  Operation *op = scalar.getDefiningOp();
  if (!op) {
    reason = "a coordinate is used as a value";
    return failure();
  }
  if (auto load = dyn_cast<graph::LoadOp>(op))
    return emitLoad(load, point, reason);
  if (auto apply = dyn_cast<graph::ApplyOp>(op)) {
    SmallVector<Scalar> args;
    for (Value argument : apply.getArgs()) {
      auto value = emit(argument, point, reason);
      if (failed(value))
        return failure();
      args.push_back(*value);
    }
    return scalars.apply(apply.getFn(), args);
  }
  if (auto literal = dyn_cast<graph::LiteralOp>(op))
    return scalars.literal(literal.getValue());
  if (auto conversion = dyn_cast<graph::CastOp>(op)) {
    auto value = emit(conversion.getValue(), point, reason);
    if (failed(value))
      return failure();
    return scalars.cast(*value, conversion.getType(), conversion.getSaturate());
  }
  if (auto coord = dyn_cast<graph::CoordOp>(op); coord && !point.lanes) {
    auto expr = space.toAxes(coord.getMap().getResult(0), coord.getCoords());
    if (succeeded(expr))
      return Scalar{
          arith::IndexCastOp::create(b, loc, b.getI64Type(), at(*expr, point)),
          b.getI64Type()};
  }
  reason = "an expression that only the generic nest emits";
  return failure();
}
