// graph-fold-uniform: tensors whose elements are all one number are that
// number, and operators that change nothing are gone. Bits stay as they were,
// but for the sign of a zero that nobody can tell.
#include "PossibleValues.h"

#include "dlc/Dialect/Graph/IR/Folds.h"

#include "dlc/Dialect/Graph/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/SmallPtrSet.h"

namespace dlc::graph {
#define GEN_PASS_DEF_FOLDUNIFORM
#include "dlc/Dialect/Graph/Transforms/Passes.h.inc"
} // namespace dlc::graph

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

// Constants up to this size are written out; operators that are not elementwise
// read them as they lie.
static constexpr int64_t kMostElements = 1024;
// No axis is longer than memory.
static constexpr int64_t kMostExtent = int64_t(1) << 48;
// How far readers are followed.
static constexpr size_t kMostReaders = 64;

//===----------------------------------------------------------------------===//
// The sign of a zero
//===----------------------------------------------------------------------===//

/// Whether no result depends on which zero an element of `value` is. Where it
/// is passed on, it only decides about the sign of another zero.
static bool isZeroSignUnseen(Value value) {
  SmallVector<Value> work{value};
  llvm::SmallPtrSet<Operation *, 16> seen;
  while (!work.empty()) {
    Value from = work.pop_back_val();
    for (Operation *user : from.getUsers()) {
      if (!seen.insert(user).second)
        continue;
      if (seen.size() > kMostReaders)
        return false;
      if (isa<ExpOp, AbsOp, IsNaNOp, EqOp, NeOp, LtOp, LeOp, GtOp, GeOp>(user))
        continue;
      // A sum starts from +0, which neither zero changes.
      if (isa<ContractOp>(user))
        continue;
      if (auto convert = dyn_cast<ConvertOp>(user)) {
        if (isa<FloatType>(convert.getTo()))
          work.push_back(convert.getResult());
        continue;
      }
      if (auto reduce = dyn_cast<ReduceOp>(user)) {
        if (reduce.getKind() == FoldKind::add && !reduce.getAxes().empty())
          continue;
        if (reduce.getKind() >= FoldKind::argmax)
          return false;
        work.push_back(reduce.getResult());
        continue;
      }
      bool passes = isa<AddOp, SubOp, MulOp, MaxOp, MinOp, BroadcastOp,
                        ReshapeOp, TransposeOp, SliceOp>(user) ||
                    (isa<DivOp>(user) && user->getOperand(1) != from) ||
                    (isa<SelectOp>(user) && user->getOperand(0) != from);
      if (!passes)
        return false;
      work.push_back(user->getResult(0));
    }
  }
  return true;
}

/// A sum that starts from +0 and is not rounded to fewer bits afterwards: a
/// small negative one would become -0.
static bool isPlainSum(Value value) {
  Type type = cast<RankedTensorType>(value.getType()).getElementType();
  if (!type.isF32() && !type.isF64())
    return false;
  Operation *op = value.getDefiningOp();
  auto reduce = dyn_cast_or_null<ReduceOp>(op);
  return isa_and_nonnull<ContractOp, ConvOp>(op) ||
         (reduce && reduce.getKind() == FoldKind::add &&
          !reduce.getAxes().empty());
}

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

namespace {
class Folder {
public:
  explicit Folder(func::FuncOp main);
  void run();
  unsigned numFolded = 0;

private:
  bool tryUniform(Operation *op);
  bool tryIdentity(Operation *op);
  bool tryReduce(ReduceOp op);
  void narrowOperands(Operation *op);
  TypedAttr uniformOf(Value value);
  TypedAttr extremeOf(ReduceOp op);
  TypedAttr sumOf(ReduceOp op, TypedAttr number);
  bool isNeverNegativeZero(Value value);
  Value materialize(OpBuilder &builder, Location loc, TypedAttr number,
                    RankedTensorType type);
  void replace(Operation *op, Value by);

  func::FuncOp main;
  PossibleValues values;
};
} // namespace

static SmallVector<SizeBounds> symbolBounds(func::FuncOp main) {
  SmallVector<SizeBounds> bounds;
  auto names = main->getAttrOfType<ArrayAttr>("graph.symbols");
  auto ranges = main->getAttrOfType<ArrayAttr>("graph.ranges");
  for (size_t i = 0; names && i < names.size(); ++i) {
    SizeBounds each{0, kMostExtent};
    if (ranges && i < ranges.size())
      if (auto range = dyn_cast<DenseI64ArrayAttr>(ranges[i]))
        each = {range[0], std::min(range[1], kMostExtent)};
    bounds.push_back(each);
  }
  return bounds;
}

Folder::Folder(func::FuncOp main) : main(main), values(symbolBounds(main)) {}

static Type elementOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getElementType();
}

TypedAttr Folder::uniformOf(Value value) {
  if (!isa<RankedTensorType>(value.getType()))
    return {};
  auto found = values.get(value, PossibleValues::anywhere(value));
  if (!found || found->numbers.size() != 1)
    return {};
  return found->numbers.front();
}

Value Folder::materialize(OpBuilder &builder, Location loc, TypedAttr number,
                          RankedTensorType type) {
  auto point = type;
  bool isSmall =
      type.hasStaticShape() && type.getNumElements() <= kMostElements;
  if (!isSmall)
    point = RankedTensorType::get({}, type.getElementType());
  Value constant = ConstantOp::create(builder, loc, point,
                                      DenseElementsAttr::get(point, number));
  return isSmall ? constant : BroadcastOp::create(builder, loc, type, constant);
}

void Folder::replace(Operation *op, Value by) {
  op->getResult(0).replaceAllUsesWith(by);
  op->erase();
  ++numFolded;
}

/// All elements are one number.
bool Folder::tryUniform(Operation *op) {
  Value result = op->getResult(0);
  auto type = cast<RankedTensorType>(result.getType());
  // That is how it is written.
  if (auto broadcast = dyn_cast<BroadcastOp>(op);
      broadcast && getUniform(broadcast.getX()))
    return false;
  TypedAttr number = uniformOf(result);
  if (!number || number.getType() != type.getElementType())
    return false;
  OpBuilder builder(op);
  replace(op, materialize(builder, op->getLoc(), number, type));
  return true;
}

bool Folder::isNeverNegativeZero(Value value) {
  if (isPlainSum(value))
    return true;
  auto found = values.get(value, PossibleValues::anywhere(value));
  return found && !found->numbers.empty() &&
         llvm::none_of(found->numbers, [](TypedAttr number) {
           auto x = dyn_cast<FloatAttr>(number);
           return x && x.getValue().isNegZero();
         });
}

namespace {
enum class Special { None, PlusZero, MinusZero, One, Least, Most, False, True };
} // namespace

static Special specialOf(TypedAttr number) {
  if (auto x = dyn_cast_or_null<FloatAttr>(number)) {
    const APFloat &value = x.getValue();
    if (value.isInfinity())
      return value.isNegative() ? Special::Least : Special::Most;
    return value.isPosZero()         ? Special::PlusZero
           : value.isNegZero()       ? Special::MinusZero
           : value.isExactlyValue(1) ? Special::One
                                     : Special::None;
  }
  auto integer = dyn_cast_or_null<IntegerAttr>(number);
  if (!integer)
    return Special::None;
  const APInt &value = integer.getValue();
  if (integer.getType().isInteger(1))
    return value.isZero() ? Special::False : Special::True;
  return value.isZero()  ? Special::MinusZero // changes nothing, ever
         : value.isOne() ? Special::One
                         : Special::None;
}

/// One operand changes nothing.
bool Folder::tryIdentity(Operation *op) {
  OpBuilder builder(op);
  auto type = cast<RankedTensorType>(op->getResult(0).getType());
  auto keep = [&](Value value) {
    if (elementOf(value) != type.getElementType())
      return false;
    if (value.getType() != type)
      value = BroadcastOp::create(builder, op->getLoc(), type, value);
    replace(op, value);
    return true;
  };
  if (auto select = dyn_cast<SelectOp>(op)) {
    TypedAttr condition = uniformOf(select.getCondition());
    Special which = specialOf(condition);
    if (which == Special::None)
      return false;
    return keep(which == Special::True ? select.getX() : select.getY());
  }
  if (!isa<AddOp, SubOp, MulOp, DivOp, MaxOp, MinOp, BitAndOp, BitOrOp>(op))
    return false;
  bool commutes = !isa<SubOp, DivOp>(op);
  for (unsigned side : {1u, 0u}) {
    if (side == 0 && !commutes)
      continue;
    Value other = op->getOperand(1 - side);
    Special number = specialOf(uniformOf(op->getOperand(side)));
    bool isNothing = false;
    switch (number) {
    case Special::PlusZero: // x - (+0) is x; -0 + (+0) is +0
      isNothing = isa<SubOp>(op) ||
                  (isa<AddOp>(op) && (isNeverNegativeZero(other) ||
                                      isZeroSignUnseen(op->getResult(0))));
      break;
    case Special::MinusZero: // -0 - (-0) is +0
      isNothing = isa<AddOp>(op) ||
                  (isa<SubOp>(op) && (isa<IntegerType>(elementOf(other)) ||
                                      isNeverNegativeZero(other) ||
                                      isZeroSignUnseen(op->getResult(0))));
      break;
    case Special::One:
      isNothing = isa<MulOp, DivOp>(op);
      break;
    case Special::Least:
      isNothing = isa<MaxOp>(op);
      break;
    case Special::Most:
      isNothing = isa<MinOp>(op);
      break;
    case Special::False:
      isNothing = isa<BitOrOp>(op);
      break;
    case Special::True:
      isNothing = isa<BitAndOp>(op);
      break;
    case Special::None:
      break;
    }
    if (isNothing && keep(other))
      return true;
  }
  return false;
}

/// The number that an idempotent fold gives everywhere: one that no element
/// exceeds, and that each row has somewhere: at its first or last element, or
/// on a diagonal.
TypedAttr Folder::extremeOf(ReduceOp op) {
  Value x = op.getX();
  PossibleValues::Place free = PossibleValues::anywhere(x);
  auto all = values.get(x, free);
  if (!all || all->numbers.empty())
    return {};
  SmallVector<PossibleValues::Place> places;
  auto isReduced = [&](size_t axis) {
    return llvm::is_contained(op.getAxes(), static_cast<int64_t>(axis));
  };
  for (bool last : {false, true}) {
    PossibleValues::Place place = free;
    for (int64_t axis : op.getAxes())
      place.at[axis] = last ? simplify(free.extents[axis] - 1)
                            : getAffineConstantExpr(0, op.getContext());
    places.push_back(std::move(place));
  }
  if (op.getAxes().size() == 1) {
    int64_t axis = op.getAxes().front();
    for (size_t kept = 0; kept < free.at.size(); ++kept) {
      AffineExpr more = simplify(free.extents[axis] - free.extents[kept]);
      if (isReduced(kept) || values.boundsOf(more, {}).low < 0)
        continue;
      for (AffineExpr offset :
           {getAffineConstantExpr(0, op.getContext()), more}) {
        PossibleValues::Place place = free;
        place.at[axis] = free.at[kept] + offset;
        places.push_back(std::move(place));
      }
    }
  }
  Type type = elementOf(x);
  ScalarFn fn = *combinerOf(op.getKind());
  for (const PossibleValues::Place &place : places) {
    auto there = values.get(x, place);
    if (!there || there->numbers.size() != 1)
      continue;
    TypedAttr number = there->numbers.front();
    if (llvm::all_of(all->numbers, [&](TypedAttr each) {
          return evaluate(fn, {each, number}, type) == number;
        }))
      return number;
  }
  return {};
}

/// count * number, where no partial sum is rounded.
TypedAttr Folder::sumOf(ReduceOp op, TypedAttr number) {
  int64_t count = 1;
  for (int64_t axis : op.getAxes()) {
    auto size = constantValue(getDims(op.getX().getType())[axis]);
    if (!size || *size > kMostExtent / std::max<int64_t>(1, count))
      return {};
    count *= *size;
  }
  Type type = number.getType();
  if (auto integer = dyn_cast<IntegerAttr>(number))
    return type.isInteger(1)
               ? TypedAttr()
               : IntegerAttr::get(
                     type, integer.getValue() *
                               APInt(integer.getValue().getBitWidth(), count,
                                     false, /*implicitTrunc=*/true));
  // Multiples of a number of p bits have p + log2(count) bits at most.
  APFloat value = cast<FloatAttr>(number).getValue();
  if (value.isZero()) // from +0
    return FloatAttr::get(type, APFloat::getZero(value.getSemantics()));
  if (!value.isFiniteNonZero() || value.isDenormal())
    return {};
  bool isNarrow = type.isF16() || type.isBF16(); // summed in f32
  if (!isNarrow && !type.isF32() && !type.isF64())
    return {};
  const llvm::fltSemantics &wide =
      isNarrow ? APFloat::IEEEsingle() : value.getSemantics();
  bool losesInfo = false;
  value.convert(wide, APFloat::rmNearestTiesToEven, &losesInfo);
  unsigned precision = APFloat::semanticsPrecision(wide);
  APInt bits = value.bitcastToAPInt();
  unsigned trailing =
      std::min(bits.countr_zero(), precision - 1); // of the stored mantissa
  if (precision - trailing + llvm::Log2_64_Ceil(count + 1) > precision)
    return {};
  APFloat factor(wide);
  factor.convertFromAPInt(APInt(64, count), /*IsSigned=*/false,
                          APFloat::rmNearestTiesToEven);
  if (value.multiply(factor, APFloat::rmNearestTiesToEven) != APFloat::opOK)
    return {};
  value.convert(cast<FloatType>(type).getFloatSemantics(),
                APFloat::rmNearestTiesToEven, &losesInfo);
  return FloatAttr::get(type, value);
}

bool Folder::tryReduce(ReduceOp op) {
  auto type = cast<RankedTensorType>(op.getResult().getType());
  SmallVector<AffineExpr> dims = getDims(op.getX().getType());
  if (op.getAxes().empty())
    return false;
  for (int64_t axis : op.getAxes()) // an empty fold is its start
    if (values.boundsOf(dims[axis], {}).low < 1)
      return false;
  OpBuilder builder(op);
  bool repeats = isIdempotent(op.getKind());
  TypedAttr number;
  if (repeats)
    number = extremeOf(op);
  else if (op.getKind() == FoldKind::add)
    if (TypedAttr each = uniformOf(op.getX()))
      number = sumOf(op, each);
  if (number) {
    replace(op, materialize(builder, op.getLoc(), number, type));
    return true;
  }
  // What does not vary along an axis is its own maximum there.
  auto broadcast = op.getX().getDefiningOp<BroadcastOp>();
  if (!repeats || !broadcast)
    return false;
  SmallVector<AffineExpr> from = getDims(broadcast.getX().getType());
  for (int64_t axis : op.getAxes()) {
    int64_t own = axis - static_cast<int64_t>(dims.size()) +
                  static_cast<int64_t>(from.size());
    if (own >= 0 && constantValue(from[own]) != 1)
      return false;
  }
  Value x = broadcast.getX();
  if (x.getType() != type)
    x = BroadcastOp::create(builder, op.getLoc(), type, x);
  replace(op, x);
  return true;
}

/// An elementwise operator reads one number instead of many equal ones.
void Folder::narrowOperands(Operation *op) {
  auto dims = getDims(op->getResult(0).getType());
  for (OpOperand &operand : op->getOpOperands()) {
    Value value = operand.get();
    auto type = dyn_cast<RankedTensorType>(value.getType());
    if (!type || (type.hasStaticShape() && type.getNumElements() <= 1))
      continue;
    Value source = value;
    if (auto broadcast = value.getDefiningOp<BroadcastOp>())
      source = broadcast.getX();
    TypedAttr number = getUniform(source);
    if (!number)
      continue;
    // The others give the result its shape.
    SmallVector<AffineExpr> joined;
    bool isSame = true;
    for (OpOperand &other : op->getOpOperands())
      if (&other != &operand) {
        auto next = broadcastDims(joined, getDims(other.get().getType()));
        isSame &= succeeded(next);
        if (succeeded(next))
          joined = *next;
      }
    if (!isSame || joined.size() != dims.size() ||
        llvm::any_of(llvm::zip(joined, dims), [](auto pair) {
          return simplify(std::get<0>(pair) - std::get<1>(pair)) != 0;
        }))
      continue;
    OpBuilder builder(op);
    auto point = RankedTensorType::get({}, type.getElementType());
    operand.set(ConstantOp::create(builder, op->getLoc(), point,
                                   DenseElementsAttr::get(point, number)));
    ++numFolded;
  }
}

void Folder::run() {
  SmallVector<Operation *> ops;
  main.walk([&](GraphOp op) { ops.push_back(op); });
  for (Operation *op : ops) {
    if (op->getNumResults() != 1 || op->use_empty() ||
        !isa<RankedTensorType>(op->getResult(0).getType()))
      continue;
    OpClass opClass = cast<GraphOp>(op).getOpClass();
    if (opClass != OpClass::elementwise && opClass != OpClass::broadcast &&
        opClass != OpClass::injective && opClass != OpClass::reduce)
      continue;
    auto reduce = dyn_cast<ReduceOp>(op);
    if (tryUniform(op) || tryIdentity(op) || (reduce && tryReduce(reduce)))
      continue;
    if (opClass == OpClass::elementwise)
      narrowOperands(op);
  }
  if (numFolded == 0)
    return;
  ops.clear(); // what nobody reads any more
  main.walk<WalkOrder::PostOrder>([&](Operation *op) { ops.push_back(op); });
  for (Operation *op : llvm::reverse(ops))
    if (isOpTriviallyDead(op))
      op->erase();
}

namespace {
struct FoldUniform : graph::impl::FoldUniformBase<FoldUniform> {
  using FoldUniformBase::FoldUniformBase;

  void runOnOperation() override {
    auto main = getOperation().lookupSymbol<func::FuncOp>("main");
    if (!main || main.isExternal())
      return;
    Folder folder(main);
    folder.run();
    numFolded += folder.numFolded;
  }
};
} // namespace
