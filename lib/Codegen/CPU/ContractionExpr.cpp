// Scalar expressions at a point or along a vector of points.
#include "dlc/Codegen/CPU/ContractionExpr.h"

#include "EverySecond.h"

#include "dlc/Codegen/Common/KernelFunction.h"
#include "dlc/Dialect/Graph/IR/Placement.h"
#include "dlc/Schedule/DataCoordinates.h"
#include "dlc/Schedule/IndexPoly.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

// DLC_DATA_INDEX_OUT_OF_RANGE of runtime.h.
static constexpr int32_t indexOutOfRange = 1;

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

// Whether an index is a multiple of `n`, as far as one sees.
static bool isMultiple(Value value, int64_t n) {
  if (auto constant = IndexBuilder::constantOf(value))
    return *constant % n == 0;
  if (auto argument = dyn_cast<BlockArgument>(value)) {
    auto loop =
        dyn_cast_or_null<scf::ForOp>(argument.getOwner()->getParentOp());
    return loop && argument == loop.getInductionVar() &&
           isMultiple(loop.getLowerBound(), n) && isMultiple(loop.getStep(), n);
  }
  Operation *op = value.getDefiningOp();
  if (isa_and_nonnull<arith::AddIOp, arith::RemSIOp, arith::RemUIOp>(op))
    return isMultiple(op->getOperand(0), n) && isMultiple(op->getOperand(1), n);
  return isa_and_nonnull<arith::MulIOp>(op) &&
         (isMultiple(op->getOperand(0), n) || isMultiple(op->getOperand(1), n));
}

// `expr` along a vector of `lanes` points of `axis` that begins at a multiple
// of `lanes`: a quotient by a multiple of them stays what it is, and a
// remainder goes on by one.
static AffineExpr alongBlock(AffineExpr expr, unsigned axis, int64_t lanes) {
  AffineExpr coordinate = getAffineDimExpr(axis, expr.getContext());
  llvm::DenseMap<AffineExpr, AffineExpr> known;
  expr.walk([&](AffineExpr part) {
    auto binary = dyn_cast<AffineBinaryOpExpr>(part);
    if (!binary || binary.getLHS() != coordinate)
      return;
    auto divisor = graph::constantValue(binary.getRHS());
    if (!divisor || *divisor <= 0 || *divisor % lanes != 0)
      return;
    if (part.getKind() == AffineExprKind::FloorDiv)
      known[part] = getAffineConstantExpr(0, expr.getContext());
    else if (part.getKind() == AffineExprKind::Mod)
      known[part] = coordinate;
  });
  return known.empty() ? expr : expr.replace(known);
}

/// Whether a vector of points lies within the last of its axes, and begins at a
/// multiple of its length there.
static bool isWholeBlock(const ExprPoint &point, const IterationSpace &space) {
  if (point.laneAxes.empty() || point.lanes <= 1)
    return false;
  unsigned last = point.laneAxes.back();
  auto extent = graph::constantValue(space.extents[last]);
  return isMultiple(point.axes[last], point.lanes) &&
         (point.laneAxes.size() == 1 || (extent && *extent % point.lanes == 0));
}

namespace {
/// An expression in the lanes of a whole block: its value in the first one, if
/// that is a number, and how much more it is in each.
struct LanePattern {
  std::optional<int64_t> first;
  SmallVector<int64_t> more;
};
} // namespace

/// The constant extent of the last of two axes, where a vector begins with the
/// first element of it and has whole groups of them.
static std::optional<int64_t> lastGroup(const ExprPoint &point,
                                        const IterationSpace &space) {
  if (point.laneAxes.size() != 2)
    return std::nullopt;
  unsigned last = point.laneAxes.back();
  auto size = graph::constantValue(space.extents[last]);
  bool begins = IndexBuilder::constantOf(point.axes[last]) == 0;
  return begins && size && *size > 0 && point.lanes % *size == 0 ? size
                                                                 : std::nullopt;
}

/// Where the difference between lanes is the same in every block: pairs of
/// elements, halves of bytes.
static std::optional<LanePattern> lanePattern(AffineExpr expr,
                                              const ExprPoint &point,
                                              const IterationSpace &space) {
  MLIRContext *context = expr.getContext();
  SmallVector<AffineExpr> extents = space.extents;
  std::function<AffineExpr(int64_t)> atLane;
  int64_t first = 0; // of the axes walked as one, where that is a number
  SmallVector<int64_t> sizes;
  for (unsigned axis : point.laneAxes) {
    auto at = IndexBuilder::constantOf(point.axes[axis]);
    auto size = graph::constantValue(space.extents[axis]);
    if (!at || !size)
      break;
    first = first * *size + *at;
    sizes.push_back(*size);
  }
  if (!sizes.empty() && sizes.size() == point.laneAxes.size()) {
    atLane = [&, first](int64_t lane) {
      llvm::DenseMap<AffineExpr, AffineExpr> known;
      int64_t rest = first + lane;
      for (size_t i = sizes.size(); i-- > 0;) {
        known[getAffineDimExpr(point.laneAxes[i], context)] =
            getAffineConstantExpr(i ? rest % sizes[i] : rest, context);
        rest /= sizes[i];
      }
      return expr.replace(known);
    };
  } else if (auto size = lastGroup(point, space)) {
    unsigned last = point.laneAxes.back(),
             groups = *std::prev(point.laneAxes.end(), 2);
    AffineExpr group = getAffineDimExpr(groups, context);
    atLane = [&, last, group, size](int64_t lane) {
      return expr.replace({{group, group + lane / *size},
                           {getAffineDimExpr(last, context),
                            getAffineConstantExpr(lane % *size, context)}});
    };
  } else if (isWholeBlock(point, space)) {
    unsigned last = point.laneAxes.back();
    AffineExpr axis = getAffineDimExpr(last, context);
    extents[last] = AffineExpr(); // of the block's number, which stands for it
    atLane = [&, axis](int64_t lane) {
      return expr.replace(axis, axis * int64_t(point.lanes) + lane);
    };
  } else {
    return std::nullopt;
  }
  auto numberOf = [&](AffineExpr e) {
    return graph::constantValue(
        graph::simplify(IndexPoly::get(e, extents).toExpr(context)));
  };
  LanePattern pattern{numberOf(atLane(0)), {}};
  for (int64_t lane = 0; lane < int64_t(point.lanes); ++lane) {
    auto more = numberOf(atLane(lane) - atLane(0));
    if (!more)
      return std::nullopt;
    pattern.more.push_back(*more);
  }
  return pattern;
}

std::optional<AffineExpr> ExprEmitter::laneStep(AffineExpr expr,
                                                const ExprPoint &point) {
  // Blocks of lanes often lie within the last axis.
  if (isWholeBlock(point, space)) {
    unsigned last = point.laneAxes.back();
    return linearCoefficient(alongBlock(expr, last, point.lanes), last);
  }
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

Value ExprEmitter::perLane(AffineExpr expr, const ExprPoint &point) {
  if (auto step = laneStep(expr, point))
    return ramp(at(expr, point), at(*step, point), point);
  // The lanes' coordinates one by one.
  SmallVector<Value> extents, elements;
  Value first = index.constant(0);
  for (unsigned axis : point.laneAxes) {
    extents.push_back(index.expr(space.extents[axis], {}, symbols));
    first = index.add(index.mul(first, extents.back()), point.axes[axis]);
  }
  ExprPoint lane = point;
  for (unsigned i = 0; i < point.lanes; ++i) {
    for (auto [axis, value] : llvm::zip_equal(
             point.laneAxes, index.delinearize(index.add(first, i), extents)))
      lane.axes[axis] = value;
    elements.push_back(
        arith::IndexCastOp::create(b, loc, b.getI64Type(), at(expr, lane)));
  }
  auto type = VectorType::get({point.lanes}, b.getI64Type());
  return vector::FromElementsOp::create(b, loc, type, elements);
}

FailureOr<ExprEmitter::Condition> ExprEmitter::emitSet(IntegerSet set,
                                                       ValueRange coords,
                                                       const ExprPoint &point,
                                                       std::string &reason) {
  Condition condition;
  auto require = [&](Value holds) {
    Value &all =
        isa<VectorType>(holds.getType()) ? condition.mask : condition.inside;
    all = all ? b.createOrFold<arith::AndIOp>(loc, all, holds) : holds;
  };
  for (unsigned i = 0; i < set.getNumConstraints(); ++i) {
    auto expr = space.toAxes(set.getConstraint(i), coords);
    if (failed(expr)) {
      reason = "a guard's coordinate comes from data";
      return failure();
    }
    auto predicate =
        set.isEq(i) ? arith::CmpIPredicate::eq : arith::CmpIPredicate::sge;
    auto step = point.lanes ? laneStep(*expr, point)
                            : getAffineConstantExpr(0, expr->getContext());
    if (step && *step == 0) {
      require(b.createOrFold<arith::CmpIOp>(loc, predicate, at(*expr, point),
                                            index.constant(0)));
      continue;
    }
    auto steps = step ? graph::constantValue(*step) : std::nullopt;
    if (steps && !set.isEq(i) &&
        requireInterval(condition, at(*expr, point), *steps, point))
      continue;
    if (auto pattern = lanePattern(*expr, point, space);
        pattern && pattern->first) {
      SmallVector<bool> holds;
      for (int64_t more : pattern->more) {
        int64_t value = *pattern->first + more;
        holds.push_back(set.isEq(i) ? value == 0 : value >= 0);
      }
      auto type = VectorType::get({point.lanes}, b.getI1Type());
      require(arith::ConstantOp::create(b, loc,
                                        DenseElementsAttr::get(type, holds)));
      continue;
    }
    Value values = perLane(*expr, point);
    require(arith::CmpIOp::create(
        b, loc, predicate, values,
        constantLike(b, loc, b.getI64IntegerAttr(0), values.getType())));
  }
  return condition;
}

// Negative values count from the end; what is out of range is reported and
// clamped, as in a loop nest.
FailureOr<Value> ExprEmitter::emitPage(graph::ToIndexOp page,
                                       const ExprPoint &point,
                                       std::string &reason) {
  if (auto it = pages.find(page); it != pages.end())
    return it->second;
  if (!status) {
    reason = "a load's coordinate comes from data";
    return failure();
  }
  auto value = emitNext(page.getValue(), point, reason);
  if (failed(value))
    return failure();
  if (value->isVector()) {
    reason = "a load's coordinate comes from data, and differs between lanes";
    return failure();
  }
  Value zero = index.constant(0);
  Value size = index.expr(page.getSize().getDims()[0], {}, symbols);
  Value at = arith::IndexCastOp::create(b, loc, b.getIndexType(), value->value);
  auto compare = [&](arith::CmpIPredicate predicate, Value x,
                     Value y) -> Value {
    return arith::CmpIOp::create(b, loc, predicate, x, y);
  };
  at = arith::SelectOp::create(b, loc,
                               compare(arith::CmpIPredicate::slt, at, zero),
                               index.add(at, size), at);
  Value isBad = compare(arith::CmpIPredicate::uge, at, size);
  scf::IfOp::create(b, loc, isBad, [&](OpBuilder &nested, Location) {
    Value code = arith::ConstantIntOp::create(nested, loc, indexOutOfRange, 32);
    memref::StoreOp::create(nested, loc, code, status, zero);
    scf::YieldOp::create(nested, loc);
  });
  return index.max(zero, index.min(at, index.sub(size, index.constant(1))));
}

LogicalResult ExprEmitter::findPages(Value scalar, const ExprPoint &point,
                                     std::string &reason) {
  Operation *op = scalar.getDefiningOp();
  if (!op)
    return success();
  if (auto page = dyn_cast<graph::ToIndexOp>(op)) {
    if (pages.contains(page))
      return success();
    memo.clear();
    auto coordinate = emitPage(page, point, reason);
    if (failed(coordinate))
      return failure();
    pages[page] = *coordinate;
    return success();
  }
  if (auto load = dyn_cast<graph::LoadOp>(op))
    if (auto stage = load.getTensor().getDefiningOp<graph::StageOp>();
        stage && stage.getFoldKind() == graph::FoldKind::none &&
        failed(findPages(stage.getYielded(), point, reason)))
      return failure();
  for (Value operand : op->getOperands())
    if (operand.getDefiningOp() && !operand.getDefiningOp<graph::StageOp>() &&
        failed(findPages(operand, point, reason)))
      return failure();
  return success();
}

FailureOr<Scalar> ExprEmitter::emitLoad(graph::LoadOp load,
                                        const ExprPoint &point,
                                        std::string &reason) {
  if (auto stage = load.getTensor().getDefiningOp<graph::StageOp>()) {
    if (auto it = known.find(stage); it != known.end())
      return it->second;
    if (stage.getFoldKind() != graph::FoldKind::none) {
      reason = "a fold is read whose value is not known here";
      return failure();
    }
    return emitNext(stage.getYielded(), point, reason);
  }
  auto stored = emitOperandLoad(load, point, reason);
  if (failed(stored))
    return failure();
  auto tensor = cast<RankedTensorType>(load.getTensor().getType());
  return scalars.fromStorage(*stored, tensor.getElementType());
}

FailureOr<Value> ExprEmitter::emitStored(Value scalar, const ExprPoint &point,
                                         std::string &reason) {
  memo.clear();
  if (auto load = scalar.getDefiningOp<graph::LoadOp>();
      load && isa<BlockArgument>(load.getTensor())) {
    auto stored = emitOperandLoad(load, point, reason);
    if (failed(stored) || !point.lanes || isa<VectorType>(stored->getType()))
      return stored;
    return Value(vector::BroadcastOp::create(
        b, loc, VectorType::get({point.lanes}, stored->getType()), *stored));
  }
  auto value = emitNext(scalar, point, reason);
  if (failed(value))
    return failure();
  return scalars.toStorage(scalars.broadcast(*value, point.lanes));
}

bool ExprEmitter::requireInterval(Condition &all, Value base, int64_t step,
                                  const ExprPoint &point) {
  int64_t size = std::abs(step);
  if (!llvm::isPowerOf2_64(size))
    return false;
  auto floorDiv = [&](Value x) -> Value {
    return size == 1 ? x
                     : b.createOrFold<arith::ShRSIOp>(
                           loc, x, index.constant(llvm::Log2_64(size)));
  };
  auto clamp = [&](Value x) {
    return index.min(index.max(x, index.constant(0)),
                     index.constant(point.lanes));
  };
  if (step > 0) {
    // base + step * lane >= 0 from lane -floor(base / step) on.
    Value first = clamp(index.sub(index.constant(0), floorDiv(base)));
    all.lower = all.lower ? index.max(all.lower, first) : first;
  } else {
    Value end = clamp(index.add(floorDiv(base), 1));
    all.upper = all.upper ? index.min(all.upper, end) : end;
  }
  return true;
}

Value dlc::laneInterval(IndexBuilder &index, Value lower, Value upper,
                        int64_t lanes) {
  OpBuilder &b = index.builder();
  Location loc = index.loc();
  auto type = VectorType::get({lanes}, b.getI1Type());
  Value mask;
  if (upper)
    mask = vector::CreateMaskOp::create(b, loc, type, upper);
  if (!lower)
    return mask;
  Value below = vector::CreateMaskOp::create(b, loc, type, lower);
  Value all = constantLike(b, loc, b.getBoolAttr(true), type);
  Value from = arith::XOrIOp::create(b, loc, below, all);
  return mask ? b.createOrFold<arith::AndIOp>(loc, mask, from) : from;
}

Value ExprEmitter::maskOf(const Condition &condition, unsigned lanes) {
  Value inside = laneInterval(index, condition.lower, condition.upper, lanes);
  if (!condition.mask || !inside)
    return condition.mask ? condition.mask : inside;
  return b.createOrFold<arith::AndIOp>(loc, condition.mask, inside);
}

Value ExprEmitter::loadSeconds(VectorType type, Value memory, Value where,
                               const Condition &holds, Value pass) {
  // Between elements that exist lie others that do.
  int64_t lanes = type.getDimSize(0);
  Value zeros = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
  auto part = [&](int64_t offset) -> Value {
    Value at = index.add(where, index.constant(offset));
    if (holds.isSame())
      return vector::LoadOp::create(b, loc, type, memory, at);
    Condition elements;
    if (holds.lower)
      elements.lower =
          index.sub(index.mul(holds.lower, 2), index.constant(offset));
    if (holds.upper)
      elements.upper =
          index.sub(index.mul(holds.upper, 2), index.constant(offset + 1));
    return vector::MaskedLoadOp::create(b, loc, type, memory, at,
                                        maskOf(elements, lanes), zeros);
  };
  Value low = part(0), high = part(lanes - 1);
  Value all = everySecond(b, loc, low, high);
  return pass && !holds.isSame()
             ? arith::SelectOp::create(b, loc, maskOf(holds, lanes), all, pass)
             : all;
}

/// Elements where + more[lane] in lanes that `mask` (null: all) has, `pass` in
/// the others, by one load of what lies between them; null where the mask is
/// not known or they are too far apart.
static Value loadPattern(OpBuilder &b, Location loc, VectorType type,
                         Value memory, Value where, ArrayRef<int64_t> more,
                         Value mask, Value pass, bool maskedMemory) {
  int64_t lanes = type.getDimSize(0);
  SmallVector<bool> isOn(lanes, true);
  if (mask) {
    DenseElementsAttr known;
    if (!matchPattern(mask, m_Constant(&known)))
      return {};
    isOn = llvm::to_vector(known.getValues<bool>());
  }
  std::optional<int64_t> low, high;
  for (auto [on, offset] : llvm::zip_equal(isOn, more))
    if (on) {
      low = std::min(low.value_or(offset), offset);
      high = std::max(high.value_or(offset), offset);
    }
  if (!low)
    return pass;
  int64_t count = *high - *low + 1;
  bool isExact = llvm::isPowerOf2_64(count);
  if (count > lanes || (!isExact && !maskedMemory))
    return {};
  auto part = isExact ? VectorType::get({count}, type.getElementType()) : type;
  Value at = arith::AddIOp::create(
      b, loc, where, arith::ConstantIndexOp::create(b, loc, *low));
  Value between;
  if (isExact) {
    between = vector::LoadOp::create(b, loc, part, memory, at);
  } else {
    Value first = vector::CreateMaskOp::create(
        b, loc, VectorType::get({lanes}, b.getI1Type()),
        Value(arith::ConstantIndexOp::create(b, loc, count)));
    Value zeros = arith::ConstantOp::create(b, loc, b.getZeroAttr(part));
    between =
        vector::MaskedLoadOp::create(b, loc, part, memory, at, first, zeros);
  }
  SmallVector<int64_t> places;
  for (auto [on, offset] : llvm::zip_equal(isOn, more))
    places.push_back(on ? offset - *low : 0);
  Value all = vector::ShuffleOp::create(b, loc, between, between, places);
  return mask ? Value(arith::SelectOp::create(b, loc, mask, all, pass)) : all;
}

/// The lanes below n that vector.create_mask n has; others are not told.
static Value countOf(Value mask) {
  auto created = mask ? mask.getDefiningOp<vector::CreateMaskOp>() : nullptr;
  return created && created.getOperands().size() == 1
             ? created.getOperands().front()
             : Value();
}

/// Elements where + more[lane] in the lanes below `count` (null: all), zeros in
/// the others, where they are a few runs in turns: a load of each run, of
/// which nothing behind the last lane is touched. Null where they are not.
static Value loadInterleaved(IndexBuilder &index, VectorType type, Value memory,
                             Value where, ArrayRef<int64_t> more, Value count) {
  OpBuilder &b = index.builder();
  Location loc = index.loc();
  int64_t lanes = type.getDimSize(0), runs = 2;
  auto isPeriod = [&](int64_t n) {
    for (int64_t lane = n; lane < lanes; ++lane)
      if (more[lane] != more[lane - n] + 1)
        return false;
    return true;
  };
  while (runs <= 4 && !isPeriod(runs))
    runs *= 2;
  if (runs > 4 || runs >= lanes)
    return {};
  auto part = VectorType::get({lanes / runs}, type.getElementType());
  SmallVector<Value> parts;
  for (int64_t run = 0; run < runs; ++run) {
    Value at = index.add(where, index.constant(more[run]));
    if (!count) {
      parts.push_back(vector::LoadOp::create(b, loc, part, memory, at));
      continue;
    }
    // Lanes run, run + runs, ... below count.
    Value on =
        index.div(index.sub(index.add(count, runs - 1), index.constant(run)),
                  index.constant(runs));
    Value mask = vector::CreateMaskOp::create(
        b, loc, VectorType::get({lanes / runs}, b.getI1Type()), on);
    parts.push_back(vector::MaskedLoadOp::create(
        b, loc, part, memory, at, mask,
        arith::ConstantOp::create(b, loc, b.getZeroAttr(part))));
  }
  // Runs i and i + n / 2 in turns, until one vector is left.
  for (; parts.size() > 1; parts.resize(parts.size() / 2))
    for (size_t i = 0, half = parts.size() / 2; i < half; ++i) {
      int64_t length = cast<VectorType>(parts[i].getType()).getDimSize(0);
      SmallVector<int64_t> order;
      for (int64_t lane = 0; lane < length; ++lane)
        order.append({lane, length + lane});
      parts[i] =
          vector::ShuffleOp::create(b, loc, parts[i], parts[i + half], order);
    }
  return parts.front();
}

FailureOr<Value> ExprEmitter::emitOperandLoad(graph::LoadOp load,
                                              const ExprPoint &point,
                                              std::string &reason) {
  if (packedLoad)
    if (Value stored = packedLoad(load, point))
      return stored;
  auto argument = cast<BlockArgument>(load.getTensor());
  MLIRContext *context = load.getContext();
  auto tensor = cast<RankedTensorType>(load.getTensor().getType());
  AffineExpr offset = getAffineConstantExpr(0, context),
             stride = getAffineConstantExpr(1, context);
  SmallVector<AffineExpr> dims = graph::getMemoryDims(argument);
  SmallVector<graph::ToIndexOp> data;
  for (size_t i = dims.size(); i-- > 0;) {
    auto part =
        toAxes(space, load.getMap().getResult(i), load.getCoords(), data);
    if (failed(part)) {
      reason = "a load's coordinate is none of the space";
      return failure();
    }
    offset = offset + *part * stride;
    stride = stride * dims[i];
  }
  ExprPoint extended;
  if (!data.empty()) {
    if (load.getGuard()) {
      reason = "a guarded load's coordinate comes from data";
      return failure();
    }
    extended = point;
    for (graph::ToIndexOp page : data) {
      auto coordinate = emitPage(page, point, reason);
      if (failed(coordinate))
        return failure();
      extended.axes.push_back(*coordinate);
    }
  }
  const ExprPoint &here = data.empty() ? point : extended;
  offset =
      graph::simplify(IndexPoly::get(offset, space.extents).toExpr(context));

  Condition lanesOn; // of the point
  if ((lanesOn.upper = countOf(point.mask)))
    lanesOn.upper = index.min(lanesOn.upper, index.constant(point.lanes));
  else
    lanesOn.mask = point.mask;
  Value inside; // a condition that is the same for all lanes
  bool differs = false;
  if (auto guard = load.getGuard(); guard && !holdsGuards) {
    auto holds = emitSet(*guard, load.getCoords(), point, reason);
    if (failed(holds))
      return failure();
    inside = holds->inside;
    differs = !holds->isSame();
    lanesOn.lower = holds->lower;
    if (holds->upper)
      lanesOn.upper =
          lanesOn.upper ? index.min(lanesOn.upper, holds->upper) : holds->upper;
    if (holds->mask)
      lanesOn.mask =
          lanesOn.mask
              ? b.createOrFold<arith::AndIOp>(loc, lanesOn.mask, holds->mask)
              : holds->mask;
  }

  Type element = tensor.getElementType(), storage = getStorageType(element);
  Value memory = buffer(argument.getArgNumber());
  std::optional<AffineExpr> step = getAffineConstantExpr(0, context);
  if (point.lanes)
    step = laneStep(offset, here);
  // One element for all lanes, unless the guard tells them apart.
  bool splats = !point.lanes || (step && *step == 0 && !differs);
  Value other;
  if (load.getGuard() && !holdsGuards) {
    auto value = emitNext(load.getOther(), point, reason);
    if (failed(value))
      return failure();
    splats &= !value->isVector();
    other = scalars.toStorage(splats ? *value
                                     : scalars.broadcast(*value, point.lanes));
  }
  std::optional<LanePattern> pattern;
  if (!step)
    pattern = lanePattern(offset, here, space);
  Value where = step || pattern ? at(offset, here) : index.constant(0);
  // Loads at the point; `read` may run only where `inside` holds.
  auto read = [&]() -> Value {
    if (splats)
      return memref::LoadOp::create(b, loc, memory, where);
    auto type = VectorType::get({point.lanes}, storage);
    Value pass =
        other ? other
              : constantLike(b, loc, cast<TypedAttr>(b.getZeroAttr(storage)),
                             type);
    if (step && *step == 2 && !lanesOn.mask &&
        (maskedMemory || lanesOn.isSame()))
      return loadSeconds(type, memory, where, lanesOn,
                         matchPattern(pass, m_PosZeroFloat()) ? Value() : pass);
    Value mask = maskOf(lanesOn, point.lanes);
    if (step && *step == 1) {
      if (mask)
        return vector::MaskedLoadOp::create(b, loc, type, memory, where, mask,
                                            pass);
      return vector::LoadOp::create(b, loc, type, memory, where);
    }
    if (pattern) {
      if (Value value = loadPattern(b, loc, type, memory, where, pattern->more,
                                    mask, pass, maskedMemory))
        return value;
      if (lanesOn.isSame() ||
          (maskedMemory && !lanesOn.mask && !lanesOn.lower &&
           (matchPattern(pass, m_PosZeroFloat()) ||
            matchPattern(pass, m_Zero()))))
        if (Value value = loadInterleaved(index, type, memory, where,
                                          pattern->more, lanesOn.upper))
          return value;
    }
    Value lanes = step ? ramp(index.constant(0), at(*step, here), here)
                  : pattern
                      ? arith::ConstantOp::create(
                            b, loc,
                            DenseElementsAttr::get(
                                VectorType::get({point.lanes}, b.getI64Type()),
                                ArrayRef<int64_t>(pattern->more)))
                      : perLane(offset, here);
    Value all =
        mask ? mask
             : constantLike(b, loc, b.getBoolAttr(true), lanes.getType());
    return vector::GatherOp::create(b, loc, type, memory, where, lanes, all,
                                    pass);
  };
  if (prefetches) {
    if (step && *step == 1 && !splats && !inside)
      memref::PrefetchOp::create(b, loc, memory, where, /*isWrite=*/false,
                                 /*localityHint=*/3, /*isDataCache=*/true);
    Type type =
        splats ? storage : Type(VectorType::get({point.lanes}, storage));
    return Value(arith::ConstantOp::create(
        b, loc, cast<TypedAttr>(b.getZeroAttr(type))));
  }
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
  return result;
}

FailureOr<Scalar> ExprEmitter::emitNext(Value scalar, const ExprPoint &point,
                                        std::string &reason) {
  if (auto it = memo.find(scalar); it != memo.end())
    return it->second;
  auto value = emitNew(scalar, point, reason);
  if (succeeded(value))
    memo[scalar] = *value;
  return value;
}

FailureOr<Scalar> ExprEmitter::emitNew(Value scalar, const ExprPoint &point,
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
      auto value = emitNext(argument, point, reason);
      if (failed(value))
        return failure();
      args.push_back(*value);
    }
    return scalars.apply(apply.getFn(), args);
  }
  if (auto literal = dyn_cast<graph::LiteralOp>(op))
    return scalars.literal(literal.getValue());
  if (auto conversion = dyn_cast<graph::CastOp>(op)) {
    auto value = emitNext(conversion.getValue(), point, reason);
    if (failed(value))
      return failure();
    return scalars.cast(*value, conversion.getType(), conversion.getSaturate());
  }
  if (auto set = dyn_cast<graph::InsideOp>(op)) {
    auto holds = emitSet(set.getSet(), set.getCoords(), point, reason);
    if (failed(holds))
      return failure();
    Type i1 = b.getI1Type();
    Scalar inside = holds->inside ? Scalar{holds->inside, i1}
                                  : scalars.literal(b.getBoolAttr(true));
    if (holds->isSame())
      return inside;
    Scalar mask{maskOf(*holds, point.lanes), i1};
    return holds->inside
               ? scalars.apply(graph::ScalarFn::bit_and, {inside, mask})
               : mask;
  }
  if (auto coord = dyn_cast<graph::CoordOp>(op)) {
    auto expr = space.toAxes(coord.getMap().getResult(0), coord.getCoords());
    if (succeeded(expr)) {
      auto step = point.lanes ? laneStep(*expr, point)
                              : getAffineConstantExpr(0, expr->getContext());
      if (step && *step == 0)
        return Scalar{arith::IndexCastOp::create(b, loc, b.getI64Type(),
                                                 at(*expr, point)),
                      b.getI64Type()};
      return Scalar{perLane(*expr, point), b.getI64Type()};
    }
  }
  reason = "an expression that only the generic nest emits";
  return failure();
}
