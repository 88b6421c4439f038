// Which keys a block of queries needs: causal frontiers, windows and lengths
// are linear conditions, so that keys which no row keeps are never read and
// conditions which all rows meet are never tested.
#include "AttentionTask.h"

#include "dlc/Schedule/IndexPoly.h"
#include "dlc/Schedule/KeyBounds.h"

using namespace mlir;
using namespace dlc;

// The rows of a block differ along the lanes only.
static SmallVector<unsigned> blockAxes(std::optional<unsigned> lane) {
  return lane ? SmallVector<unsigned>{*lane} : SmallVector<unsigned>();
}

bool AttentionTask::boundsKeys(const KeyCut &cut) const {
  return dlc::boundsKeys(spec, cut, blockAxes(laneAxis()), weighsOnce());
}

std::optional<double> AttentionTask::leastMaximum() const {
  return dlc::leastMaximum(spec, blockAxes(laneAxis()), weighsOnce());
}

Value AttentionTask::appendData(Scope &scope, const KeyCut &cut,
                                SmallVectorImpl<Value> &axes) {
  OpBuilder &b = scope.b();
  Value all;
  std::string reason;
  for (Value scalar : cut.data) {
    // Of outer axes alone: whatever the others are.
    auto value = expressionsOf(scope).emit(scalar, pointOf(scope), reason);
    if (failed(value)) {
      dataReason = reason;
      axes.push_back(scope.index.constant(0));
      continue;
    }
    Value number = value->value;
    Type type = number.getType();
    auto within = [&](arith::CmpIPredicate predicate, int64_t bound) -> Value {
      Value limit = arith::ConstantOp::create(b, scope.loc(),
                                              b.getIntegerAttr(type, bound));
      return arith::CmpIOp::create(b, scope.loc(), predicate, number, limit);
    };
    if (type.isInteger(64)) {
      Value known = arith::AndIOp::create(
          b, scope.loc(), within(arith::CmpIPredicate::sge, -KeyCut::maxData),
          within(arith::CmpIPredicate::sle, KeyCut::maxData));
      all = all ? Value(arith::AndIOp::create(b, scope.loc(), all, known))
                : known;
    }
    axes.push_back(
        arith::IndexCastOp::create(b, scope.loc(), b.getIndexType(), number));
  }
  return all;
}

AttentionTask::KeyRange AttentionTask::keysOf(Scope &scope, Value firstRow,
                                              Value rows) {
  IndexBuilder &index = scope.index;
  unsigned keyAxis = spec.keys.front();
  Value zero = index.constant(0), keys = sizeOf(scope, spec.keys);
  KeyRange range{zero, keys, zero, keys};
  SmallVector<Value> at = scope.axes;
  at[keyAxis] = zero;
  Value lastRow = index.add(firstRow, index.sub(rows, index.constant(1)));
  for (const KeyCut &cut : spec.cuts) {
    if (!boundsKeys(cut))
      continue;
    at.truncate(scope.axes.size());
    Value isKnown = appendData(scope, cut, at);
    auto valueAt = [&](Value row) {
      if (auto lane = laneAxis())
        at[*lane] = row;
      return index.expr(cut.kept, at, scope.symbols);
    };
    auto lane = laneAxis();
    int64_t slope = lane ? *constantCoefficient(cut.kept, *lane) : 0;
    Value x = valueAt(firstRow), y = slope ? valueAt(lastRow) : x;
    Value most = slope >= 0 ? y : x, least = slope >= 0 ? x : y;
    if (isKnown) // the condition itself is tested, for every key
      most =
          arith::SelectOp::create(scope.b(), scope.loc(), isKnown, most, keys);
    if (*constantCoefficient(cut.kept, keyAxis) == -1) { // key <= value
      range.end = index.min(range.end, index.add(most, 1));
      range.allEnd = index.min(range.allEnd, index.add(least, 1));
    } else { // key >= -value
      range.begin = index.max(range.begin, index.sub(zero, most));
      range.allBegin = index.max(range.allBegin, index.sub(zero, least));
    }
  }
  range.end = index.max(range.end, zero);
  range.begin = index.min(range.begin, keys);
  return range;
}

/// The expressions that are all >= 0 where `condition` holds; empty for other
/// scalars.
static SmallVector<AffineExpr> asLinear(Value condition,
                                        const IterationSpace &space) {
  SmallVector<AffineExpr> result;
  if (auto inside = condition.getDefiningOp<graph::InsideOp>()) {
    IntegerSet set = inside.getSet();
    for (unsigned i = 0; i < set.getNumConstraints(); ++i) {
      auto expr = space.toAxes(set.getConstraint(i), inside.getCoords());
      if (failed(expr) || set.isEq(i))
        return {};
      result.push_back(*expr);
    }
    return result;
  }
  auto compare = condition.getDefiningOp<graph::ApplyOp>();
  if (!compare || compare.getArgs().size() != 2)
    return result;
  auto coordinate = [&](Value value) -> std::optional<AffineExpr> {
    if (auto coord = value.getDefiningOp<graph::CoordOp>()) {
      auto expr = space.toAxes(coord.getMap().getResult(0), coord.getCoords());
      return succeeded(expr) ? std::optional(*expr) : std::nullopt;
    }
    auto literal = value.getDefiningOp<graph::LiteralOp>();
    auto number =
        literal ? dyn_cast<IntegerAttr>(literal.getValue()) : IntegerAttr();
    if (!number || !number.getType().isInteger(64))
      return std::nullopt;
    return getAffineConstantExpr(number.getInt(), value.getContext());
  };
  auto x = coordinate(compare.getArgs()[0]),
       y = coordinate(compare.getArgs()[1]);
  if (!x || !y)
    return result;
  switch (compare.getFn()) {
  case graph::ScalarFn::ge:
    return {*x - *y};
  case graph::ScalarFn::gt:
    return {*x - *y - 1};
  case graph::ScalarFn::le:
    return {*y - *x};
  case graph::ScalarFn::lt:
    return {*y - *x - 1};
  default:
    return result;
  }
}

void AttentionTask::walkScalars(Value value, llvm::SmallDenseSet<Value> &seen,
                                function_ref<void(Value)> body) {
  if (!seen.insert(value).second || !value.getDefiningOp())
    return;
  body(value);
  if (auto load = value.getDefiningOp<graph::LoadOp>())
    if (auto source = load.getTensor().getDefiningOp<graph::StageOp>();
        source && source.getFoldKind() == graph::FoldKind::none)
      walkScalars(source.getYielded(), seen, body);
  for (Value operand : value.getDefiningOp()->getOperands())
    if (!isa<IndexType, TensorType>(operand.getType()))
      walkScalars(operand, seen, body);
}

void AttentionTask::assumeKept(ExprEmitter &expressions) {
  llvm::SmallDenseSet<Value> seen;
  walkScalars(spec.score, seen, [&](Value scalar) {
    if (!scalar.getType().isInteger(1))
      return;
    SmallVector<AffineExpr> exprs = asLinear(scalar, spec.space);
    auto isCut = [&](AffineExpr expr) {
      return llvm::any_of(spec.cuts, [&](const KeyCut &cut) {
        return boundsKeys(cut) && graph::simplify(expr - cut.kept) == 0;
      });
    };
    if (exprs.empty())
      return;
    bool holds = llvm::all_of(exprs, isCut);
    bool fails = exprs.size() == 1 && isCut(-exprs[0] - 1);
    if (holds || fails)
      expressions.setValue(scalar, expressions.scalars.literal(
                                       BoolAttr::get(spec.context(), holds)));
  });
}
