// Scalar expressions at a point or along a vector of points.
#include "dlc/Codegen/CPU/ContractionExpr.h"

#include "dlc/Codegen/Common/KernelFunction.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

Type dlc::getComputeType(Type type) {
  if (auto integer = dyn_cast<IntegerType>(type))
    return IntegerType::get(type.getContext(), integer.getWidth());
  return type;
}

/// `type`, or a vector of it with the shape of `like`.
static Type shapedLike(Type type, Type like) {
  if (auto vector = dyn_cast<VectorType>(like))
    return VectorType::get(vector.getShape(), type);
  return type;
}

static Value constantLike(OpBuilder &b, Location loc, TypedAttr scalar,
                          Type like) {
  if (auto vector = dyn_cast<VectorType>(like)) {
    auto type = VectorType::get(vector.getShape(), scalar.getType());
    return arith::ConstantOp::create(b, loc,
                                     DenseElementsAttr::get(type, scalar));
  }
  return arith::ConstantOp::create(b, loc, scalar);
}

Value dlc::convertElement(OpBuilder &b, Location loc, Value value, Type from,
                          Type to) {
  if (from == to)
    return value;
  Type target = shapedLike(getComputeType(to), value.getType());
  bool isUnsigned = graph::isUnsigned(from) || from.isInteger(1);
  auto fromFloat = dyn_cast<FloatType>(from), toFloat = dyn_cast<FloatType>(to);
  if (fromFloat && toFloat) {
    if (fromFloat.getWidth() < toFloat.getWidth())
      return arith::ExtFOp::create(b, loc, target, value);
    if (fromFloat.getWidth() > toFloat.getWidth())
      return arith::TruncFOp::create(b, loc, target, value);
    return {}; // f16 <-> bf16
  }
  auto fromInt = dyn_cast<IntegerType>(from), toInt = dyn_cast<IntegerType>(to);
  if (fromInt && toFloat) {
    if (isUnsigned)
      return arith::UIToFPOp::create(b, loc, target, value);
    return arith::SIToFPOp::create(b, loc, target, value);
  }
  if (fromInt && toInt) {
    if (toInt.getWidth() == 1)
      return {};
    if (fromInt.getWidth() == toInt.getWidth())
      return value;
    if (fromInt.getWidth() > toInt.getWidth())
      return arith::TruncIOp::create(b, loc, target, value);
    if (isUnsigned)
      return arith::ExtUIOp::create(b, loc, target, value);
    return arith::ExtSIOp::create(b, loc, target, value);
  }
  // Float to integer has clamping and NaN rules that contractions do not need.
  return {};
}

Value ExprEmitter::at(AffineExpr expr, const ExprPoint &point) {
  return index.expr(expr, point.axes, symbols);
}

Value ExprEmitter::splat(Value scalar, const ExprPoint &point) {
  if (!point.lanes || isa<VectorType>(scalar.getType()))
    return scalar;
  return vector::BroadcastOp::create(
      b, loc, VectorType::get({point.lanes}, scalar.getType()), scalar);
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

FailureOr<Value> ExprEmitter::emitLoad(graph::LoadOp load,
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
      auto predicate = guard->isEq(i) ? arith::CmpIPredicate::eq
                                      : arith::CmpIPredicate::sge;
      std::optional<AffineExpr> step = getAffineConstantExpr(0, context);
      if (point.lanes)
        step = laneStep(*expr, point);
      if (!step) {
        reason = "a guard is not linear along the vector";
        return failure();
      }
      Value value = at(*expr, point);
      if (*step == 0) {
        require(arith::CmpIOp::create(b, loc, predicate, value,
                                      index.constant(0)));
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
  Value other;
  if (load.getGuard()) {
    auto value = emit(load.getOther(), point, reason);
    if (failed(value))
      return failure();
    other = *value;
    if (storage != getComputeType(element)) {
      reason = "guarded load of bool";
      return failure();
    }
  }
  // Loads at the point; `read` may run only where `inside` holds.
  auto read = [&](OpBuilder &, Location) -> Value {
    if (!point.lanes)
      return memref::LoadOp::create(b, loc, memory, where);
    auto type = VectorType::get({point.lanes}, storage);
    if (*step == 0 && !(mask && mask != point.mask)) {
      // One element for all lanes. The caller's mask leaves lane 0 on.
      return splat(memref::LoadOp::create(b, loc, memory, where), point);
    }
    Value pass = other ? other
                       : constantLike(b, loc, cast<TypedAttr>(b.getZeroAttr(storage)), type);
    if (*step == 1) {
      if (mask)
        return vector::MaskedLoadOp::create(b, loc, type, memory, where, mask,
                                            pass);
      return vector::LoadOp::create(b, loc, type, memory, where);
    }
    Value lanes = ramp(index.constant(0), at(*step, point), point);
    Value all = mask ? mask
                     : constantLike(b, loc, b.getBoolAttr(true), lanes.getType());
    return vector::GatherOp::create(b, loc, type, memory, where, lanes, all,
                                    pass);
  };
  Value result;
  if (inside) {
    Type type = point.lanes ? Type(VectorType::get({point.lanes}, storage))
                            : storage;
    auto branch = scf::IfOp::create(b, loc, TypeRange{type}, inside,
                                    /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(branch.thenBlock());
    scf::YieldOp::create(b, loc, read(b, loc));
    b.setInsertionPointToStart(branch.elseBlock());
    scf::YieldOp::create(b, loc, other);
    result = branch.getResult(0);
  } else {
    result = read(b, loc);
  }
  if (element.isInteger(1))
    result = arith::CmpIOp::create(
        b, loc, arith::CmpIPredicate::ne, result,
        constantLike(b, loc, b.getI8IntegerAttr(0), result.getType()));
  return result;
}

FailureOr<Value> ExprEmitter::emitApply(graph::ApplyOp apply,
                                        const ExprPoint &point,
                                        std::string &reason) {
  SmallVector<Value> args;
  for (Value argument : apply.getArgs()) {
    auto value = emit(argument, point, reason);
    if (failed(value))
      return failure();
    args.push_back(*value);
  }
  Type element = apply.getArgs()[0].getType();
  bool isFloat = isa<FloatType>(element);
  bool isUnsigned = graph::isUnsigned(element);
  auto binary = [&](auto floating, auto integer) -> Value {
    using F = decltype(floating);
    using I = decltype(integer);
    if (isFloat)
      return F::create(b, loc, args[0], args[1]);
    return I::create(b, loc, args[0], args[1]);
  };
  switch (apply.getFn()) {
  case graph::ScalarFn::add:
    return binary(arith::AddFOp(), arith::AddIOp());
  case graph::ScalarFn::sub:
    return binary(arith::SubFOp(), arith::SubIOp());
  case graph::ScalarFn::mul:
    return binary(arith::MulFOp(), arith::MulIOp());
  case graph::ScalarFn::max:
    if (isUnsigned)
      return Value(arith::MaxUIOp::create(b, loc, args[0], args[1]));
    return binary(arith::MaximumFOp(), arith::MaxSIOp());
  case graph::ScalarFn::min:
    if (isUnsigned)
      return Value(arith::MinUIOp::create(b, loc, args[0], args[1]));
    return binary(arith::MinimumFOp(), arith::MinSIOp());
  case graph::ScalarFn::div:
    if (isFloat)
      return Value(arith::DivFOp::create(b, loc, args[0], args[1]));
    break;
  case graph::ScalarFn::neg:
    if (isFloat)
      return Value(arith::NegFOp::create(b, loc, args[0]));
    break;
  case graph::ScalarFn::select:
    return Value(
        arith::SelectOp::create(b, loc, args[0], args[1], args[2]));
  default:
    break;
  }
  reason = ("no vector form of '" + graph::stringifyScalarFn(apply.getFn()) +
            "' here")
               .str();
  return failure();
}

FailureOr<Value> ExprEmitter::emit(Value scalar, const ExprPoint &point,
                                   std::string &reason) {
  Operation *op = scalar.getDefiningOp();
  if (!op) {
    reason = "a coordinate is used as a value";
    return failure();
  }
  if (auto load = dyn_cast<graph::LoadOp>(op))
    return emitLoad(load, point, reason);
  if (auto apply = dyn_cast<graph::ApplyOp>(op))
    return emitApply(apply, point, reason);
  if (auto literal = dyn_cast<graph::LiteralOp>(op)) {
    Type type = getComputeType(literal.getType());
    TypedAttr value = literal.getValue();
    if (auto integer = dyn_cast<IntegerAttr>(value))
      value = IntegerAttr::get(type, integer.getValue());
    return splat(arith::ConstantOp::create(b, loc, value), point);
  }
  if (auto conversion = dyn_cast<graph::CastOp>(op)) {
    auto value = emit(conversion.getValue(), point, reason);
    if (failed(value))
      return failure();
    Type from = conversion.getValue().getType(), to = conversion.getType();
    Value result = convertElement(b, loc, *value, from, to);
    if (!result) {
      reason = "no conversion here from one element type to another";
      return failure();
    }
    return result;
  }
  if (auto coord = dyn_cast<graph::CoordOp>(op); coord && !point.lanes) {
    auto expr = space.toAxes(coord.getMap().getResult(0), coord.getCoords());
    if (succeeded(expr))
      return Value(arith::IndexCastOp::create(b, loc, b.getI64Type(),
                                              at(*expr, point)));
  }
  reason = "an expression that only the generic nest emits";
  return failure();
}
