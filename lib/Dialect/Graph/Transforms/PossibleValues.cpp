// Sets of numbers for what is chosen by conditions, expressions of coordinates
// for positions; comparisons of positions are decided by interval arithmetic.
#include "PossibleValues.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/DialectResourceBlobManager.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

// A mask by position has two numbers; more than a few are as good as unknown.
static constexpr size_t kMostNumbers = 4;
static constexpr unsigned kMostDepth = 24, kMostVisits = 96;

//===----------------------------------------------------------------------===//
// Constants
//===----------------------------------------------------------------------===//

static TypedAttr readNumber(Type type, const char *data) {
  int64_t bytes = elementBytes(type);
  uint64_t bits = 0;
  memcpy(&bits, data, bytes);
  if (type.isInteger(1))
    return BoolAttr::get(type.getContext(), bits != 0);
  if (auto integer = dyn_cast<IntegerType>(type))
    return IntegerAttr::get(
        type, APInt(integer.getWidth(), bits, false, /*implicitTrunc=*/true));
  auto kind = cast<FloatType>(type);
  return FloatAttr::get(
      type, APFloat(kind.getFloatSemantics(), APInt(kind.getWidth(), bits)));
}

TypedAttr graph::getUniform(Value value) {
  auto constant = value.getDefiningOp<ConstantOp>();
  if (!constant)
    return {};
  auto elements = cast<ElementsAttr>(constant.getValueAttr());
  Type type = elements.getShapedType().getElementType();
  if (auto dense = dyn_cast<DenseElementsAttr>(elements)) {
    if (!dense.isSplat() || !type.isIntOrFloat())
      return {};
    return isa<FloatType>(type)
               ? TypedAttr(FloatAttr::get(type, dense.getSplatValue<APFloat>()))
               : TypedAttr(
                     IntegerAttr::get(type, dense.getSplatValue<APInt>()));
  }
  auto resource = dyn_cast<DenseResourceElementsAttr>(elements);
  AsmResourceBlob *blob =
      resource ? resource.getRawHandle().getBlob() : nullptr;
  unsigned width = type.isIntOrFloat() ? type.getIntOrFloatBitWidth() : 0;
  if (!blob ||
      (width != 1 && width != 8 && width != 16 && width != 32 && width != 64))
    return {};
  ArrayRef<char> data = blob->getData();
  size_t bytes = elementBytes(type);
  if (data.size() < bytes ||
      data.size() != bytes * static_cast<size_t>(
                                 elements.getShapedType().getNumElements()))
    return {};
  // Each byte equals the one an element before it.
  if (memcmp(data.data(), data.data() + bytes, data.size() - bytes) != 0)
    return {};
  return readNumber(type, data.data());
}

//===----------------------------------------------------------------------===//
// Functions of numbers
//===----------------------------------------------------------------------===//

static TypedAttr truth(MLIRContext *context, bool value) {
  return BoolAttr::get(context, value);
}

static TypedAttr evaluateFloat(ScalarFn fn, const APFloat &a, const APFloat &b,
                               Type type) {
  APFloat result = a;
  auto nearest = APFloat::rmNearestTiesToEven;
  switch (fn) {
  case ScalarFn::add:
    result.add(b, nearest);
    break;
  case ScalarFn::sub:
    result.subtract(b, nearest);
    break;
  case ScalarFn::mul:
    result.multiply(b, nearest);
    break;
  case ScalarFn::div:
    result.divide(b, nearest);
    break;
  case ScalarFn::max:
    result = maximum(a, b);
    break;
  case ScalarFn::min:
    result = minimum(a, b);
    break;
  default:
    return {};
  }
  return result.isNaN() ? TypedAttr() : FloatAttr::get(type, result);
}

static TypedAttr evaluateInteger(ScalarFn fn, const APInt &a, const APInt &b,
                                 Type type) {
  bool isUnsignedType = isUnsigned(type) || type.isInteger(1);
  bool isBit = type.isInteger(1);
  auto get = [&](const APInt &value) { return IntegerAttr::get(type, value); };
  switch (fn) {
  case ScalarFn::add:
    return isBit ? TypedAttr() : get(a + b);
  case ScalarFn::sub:
    return isBit ? TypedAttr() : get(a - b);
  case ScalarFn::mul:
    return isBit ? TypedAttr() : get(a * b);
  case ScalarFn::max:
    return get((isUnsignedType ? a.uge(b) : a.sge(b)) ? a : b);
  case ScalarFn::min:
    return get((isUnsignedType ? a.ule(b) : a.sle(b)) ? a : b);
  case ScalarFn::bit_and:
    return get(a & b);
  case ScalarFn::bit_or:
    return get(a | b);
  case ScalarFn::bit_xor:
    return get(a ^ b);
  default:
    return {};
  }
}

static bool isComparison(ScalarFn fn) {
  return fn == ScalarFn::eq || fn == ScalarFn::ne || fn == ScalarFn::lt ||
         fn == ScalarFn::le || fn == ScalarFn::gt || fn == ScalarFn::ge;
}

/// What `fn` says of two numbers of which the first is less (-1), equal (0) or
/// greater (1).
static bool holds(ScalarFn fn, int order) {
  switch (fn) {
  case ScalarFn::eq:
    return order == 0;
  case ScalarFn::ne:
    return order != 0;
  case ScalarFn::lt:
    return order < 0;
  case ScalarFn::le:
    return order <= 0;
  case ScalarFn::gt:
    return order > 0;
  default:
    return order >= 0;
  }
}

TypedAttr graph::evaluate(ScalarFn fn, ArrayRef<TypedAttr> args, Type type) {
  MLIRContext *context = type.getContext();
  if (fn == ScalarFn::select)
    return args[cast<IntegerAttr>(args[0]).getValue().isZero() ? 2 : 1];
  auto x = dyn_cast<FloatAttr>(args[0]);
  if (fn == ScalarFn::neg)
    return x && !x.getValue().isNaN() ? FloatAttr::get(type, -x.getValue())
                                      : TypedAttr();
  if (fn == ScalarFn::bit_not)
    return x ? TypedAttr()
             : IntegerAttr::get(type, ~cast<IntegerAttr>(args[0]).getValue());
  if (args.size() != 2 || args[0].getType() != args[1].getType())
    return {};
  if (x) {
    const APFloat &a = x.getValue(), &b = cast<FloatAttr>(args[1]).getValue();
    if (a.isNaN() || b.isNaN())
      return {};
    if (!isComparison(fn))
      return evaluateFloat(fn, a, b, type);
    return truth(context, holds(fn, a < b ? -1 : a > b ? 1 : 0));
  }
  const APInt &a = cast<IntegerAttr>(args[0]).getValue(),
              &b = cast<IntegerAttr>(args[1]).getValue();
  if (!isComparison(fn))
    return evaluateInteger(fn, a, b, type);
  Type element = args[0].getType();
  bool isLess =
      isUnsigned(element) || element.isInteger(1) ? a.ult(b) : a.slt(b);
  return truth(context, holds(fn, a == b ? 0 : isLess ? -1 : 1));
}

static TypedAttr convertNumber(TypedAttr value, Type to) {
  if (auto x = dyn_cast<FloatAttr>(value)) {
    auto type = dyn_cast<FloatType>(to);
    APFloat result = x.getValue();
    bool losesInfo = false;
    if (!type || (!to.isF16() && !to.isBF16() && !to.isF32() && !to.isF64()) ||
        result.isNaN())
      return {};
    result.convert(type.getFloatSemantics(), APFloat::rmNearestTiesToEven,
                   &losesInfo);
    return FloatAttr::get(to, result);
  }
  Type from = value.getType();
  const APInt &x = cast<IntegerAttr>(value).getValue();
  bool isNegative = !isUnsigned(from) && !from.isInteger(1) && x.isNegative();
  if (auto type = dyn_cast<FloatType>(to)) {
    // One rounding, as long as no type stands between.
    if (!to.isF32() && !to.isF64())
      return {};
    APFloat result(type.getFloatSemantics());
    result.convertFromAPInt(isNegative ? x.sext(65) : x.zext(65),
                            /*IsSigned=*/true, APFloat::rmNearestTiesToEven);
    return FloatAttr::get(to, result);
  }
  unsigned width = cast<IntegerType>(to).getWidth();
  if (width == 1)
    return truth(to.getContext(), !x.isZero());
  bool isWide = isUnsigned(from) || from.isInteger(1);
  return IntegerAttr::get(to,
                          isWide ? x.zextOrTrunc(width) : x.sextOrTrunc(width));
}

//===----------------------------------------------------------------------===//
// Operators
//===----------------------------------------------------------------------===//

static std::optional<ScalarFn> functionOf(Operation *op) {
#define DLC_FUNCTION(Op, fn)                                                   \
  if (isa<Op>(op))                                                             \
    return ScalarFn::fn;
  DLC_FUNCTION(AddOp, add)
  DLC_FUNCTION(SubOp, sub)
  DLC_FUNCTION(MulOp, mul)
  DLC_FUNCTION(DivOp, div)
  DLC_FUNCTION(MaxOp, max)
  DLC_FUNCTION(MinOp, min)
  DLC_FUNCTION(NegOp, neg)
  DLC_FUNCTION(BitAndOp, bit_and)
  DLC_FUNCTION(BitOrOp, bit_or)
  DLC_FUNCTION(BitXorOp, bit_xor)
  DLC_FUNCTION(BitNotOp, bit_not)
  DLC_FUNCTION(EqOp, eq)
  DLC_FUNCTION(NeOp, ne)
  DLC_FUNCTION(LtOp, lt)
  DLC_FUNCTION(LeOp, le)
  DLC_FUNCTION(GtOp, gt)
  DLC_FUNCTION(GeOp, ge)
  DLC_FUNCTION(SelectOp, select)
#undef DLC_FUNCTION
  return std::nullopt;
}

/// The coordinates of an operand's element that broadcasts to `at`.
static SmallVector<AffineExpr> broadcastFrom(ArrayRef<AffineExpr> at,
                                             Value operand) {
  SmallVector<AffineExpr> dims = getDims(operand.getType());
  SmallVector<AffineExpr> place(at.take_back(dims.size()));
  for (auto [coordinate, dim] : llvm::zip(place, dims))
    if (constantValue(dim) == 1)
      coordinate = getAffineConstantExpr(0, dim.getContext());
  return place;
}

/// Where axes of one element are added or dropped, and nothing else.
static std::optional<SmallVector<AffineExpr>>
reshapeFrom(ArrayRef<AffineExpr> at, ReshapeOp op) {
  SmallVector<AffineExpr> from = getDims(op.getX().getType()),
                          to = getDims(op.getType()), place;
  size_t next = 0;
  auto skip = [&] {
    while (next < to.size() && constantValue(to[next]) == 1)
      ++next;
  };
  for (AffineExpr dim : from) {
    if (constantValue(dim) == 1) {
      place.push_back(getAffineConstantExpr(0, op.getContext()));
      continue;
    }
    skip();
    if (next == to.size() || simplify(to[next] - dim) != 0)
      return std::nullopt;
    place.push_back(at[next++]);
  }
  skip();
  return next == to.size() ? std::optional(place) : std::nullopt;
}

SizeBounds PossibleValues::boundsOf(AffineExpr expr,
                                    ArrayRef<AffineExpr> of) const {
  // Dims as further symbols.
  SmallVector<SizeBounds> bounds(symbols);
  SmallVector<AffineExpr> dims;
  for (AffineExpr extent : of) {
    SizeBounds size = graph::boundsOf(extent, symbols);
    dims.push_back(getAffineSymbolExpr(bounds.size(), expr.getContext()));
    bounds.push_back({0, std::max<int64_t>(0, size.high - 1)});
  }
  return graph::boundsOf(simplify(expr).replaceDims(dims), bounds);
}

static void insert(PossibleValues::Values &values, TypedAttr number) {
  if (!llvm::is_contained(values.numbers, number))
    values.numbers.push_back(number);
}

/// A position, or the one integer that it is.
static AffineExpr asPosition(const PossibleValues::Values &values) {
  if (values.position || values.numbers.size() != 1)
    return values.position;
  auto integer = dyn_cast<IntegerAttr>(values.numbers.front());
  if (!integer || integer.getType().isInteger(1) ||
      isUnsigned(integer.getType()))
    return {};
  return getAffineConstantExpr(integer.getValue().getSExtValue(),
                               integer.getContext());
}

std::optional<PossibleValues::Values>
PossibleValues::apply(ScalarFn fn, Operation *op, ArrayRef<AffineExpr> at,
                      unsigned depth) {
  Type type =
      cast<RankedTensorType>(op->getResult(0).getType()).getElementType();
  bool isTruth = type.isInteger(1);
  auto any = [&]() -> std::optional<Values> {
    if (!isTruth)
      return std::nullopt;
    return Values{
        {truth(op->getContext(), false), truth(op->getContext(), true)}, {}};
  };
  SmallVector<Values> args;
  for (Value operand : op->getOperands()) {
    auto values = visit(operand, broadcastFrom(at, operand), depth + 1);
    // A choice that is decided has one arm.
    bool isChoice =
        fn == ScalarFn::select && !args.empty() && args[0].numbers.size() == 1;
    if (isChoice && cast<IntegerAttr>(args[0].numbers[0]).getValue().isZero() !=
                        (args.size() == 2))
      values = Values();
    if (!values)
      return any();
    args.push_back(std::move(*values));
  }
  if (fn == ScalarFn::select) {
    const Values &condition = args[0];
    if (condition.numbers.size() == 1) {
      bool first = !cast<IntegerAttr>(condition.numbers[0]).getValue().isZero();
      return args[first ? 1 : 2];
    }
    if (args[1].position || args[2].position)
      return std::nullopt;
    Values both = args[1];
    for (TypedAttr number : args[2].numbers)
      insert(both, number);
    return both.numbers.size() <= kMostNumbers ? std::optional(both)
                                               : std::nullopt;
  }
  if (llvm::any_of(args, [](const Values &v) { return bool(v.position); })) {
    if (args.size() != 2)
      return any();
    AffineExpr a = asPosition(args[0]), b = asPosition(args[1]);
    if (!a || !b)
      return any();
    if (isComparison(fn)) {
      SizeBounds difference = boundsOf(a - b, extents);
      SmallVector<int> orders;
      if (difference.low < 0)
        orders.push_back(-1);
      if (difference.low <= 0 && difference.high >= 0)
        orders.push_back(0);
      if (difference.high > 0)
        orders.push_back(1);
      Values values;
      for (int order : orders)
        insert(values, truth(op->getContext(), holds(fn, order)));
      return values;
    }
    AffineExpr result = fn == ScalarFn::add   ? simplify(a + b)
                        : fn == ScalarFn::sub ? simplify(a - b)
                                              : AffineExpr();
    if (!result)
      return std::nullopt;
    // Where it cannot wrap.
    SizeBounds bounds = boundsOf(result, extents);
    int64_t most = type.isInteger(32) ? INT32_MAX : INT64_MAX / 4;
    if (bounds.low < -most || bounds.high > most)
      return std::nullopt;
    return Values{{}, result};
  }
  Values result;
  for (TypedAttr x : args[0].numbers)
    for (TypedAttr y : args.size() == 2 ? ArrayRef<TypedAttr>(args[1].numbers)
                                        : ArrayRef<TypedAttr>(x)) {
      SmallVector<TypedAttr, 2> numbers{x};
      if (args.size() == 2)
        numbers.push_back(y);
      TypedAttr number = evaluate(fn, numbers, type);
      if (!number)
        return any();
      insert(result, number);
    }
  return result.numbers.size() <= kMostNumbers ? std::optional(result)
                                               : std::nullopt;
}

std::optional<PossibleValues::Values>
PossibleValues::convert(Operation *op, ArrayRef<AffineExpr> at,
                        unsigned depth) {
  auto cast = llvm::cast<ConvertOp>(op);
  Type to = cast.getTo();
  auto values = visit(cast.getX(), at, depth + 1);
  if (!values || cast.getSaturate() || !to.isIntOrFloat())
    return std::nullopt;
  if (values->position)
    return to.isSignlessInteger(64) ? values : std::nullopt;
  Values result;
  for (TypedAttr number : values->numbers) {
    TypedAttr converted = convertNumber(number, to);
    if (!converted)
      return std::nullopt;
    insert(result, converted);
  }
  return result;
}

std::optional<PossibleValues::Values>
PossibleValues::visit(Value value, ArrayRef<AffineExpr> at, unsigned depth) {
  Type type = cast<RankedTensorType>(value.getType()).getElementType();
  auto unknown = [&]() -> std::optional<Values> {
    if (!type.isInteger(1))
      return std::nullopt;
    return Values{
        {truth(type.getContext(), false), truth(type.getContext(), true)}, {}};
  };
  Operation *op = value.getDefiningOp();
  if (!op || depth > kMostDepth || budget == 0)
    return unknown();
  --budget;
  if (TypedAttr number = getUniform(value))
    return Values{{number}, {}};
  std::optional<Values> found;
  bool isPositions = type.isSignlessInteger(64) || type.isSignlessInteger(32);
  if (auto fn = functionOf(op)) {
    found = apply(*fn, op, at, depth);
  } else if (isa<ConvertOp>(op)) {
    found = convert(op, at, depth);
  } else if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    found =
        visit(broadcast.getX(), broadcastFrom(at, broadcast.getX()), depth + 1);
  } else if (auto reshape = dyn_cast<ReshapeOp>(op)) {
    if (auto place = reshapeFrom(at, reshape))
      found = visit(reshape.getX(), *place, depth + 1);
  } else if (auto transpose = dyn_cast<TransposeOp>(op)) {
    SmallVector<AffineExpr> place(at);
    for (auto [i, p] : llvm::enumerate(transpose.getPerm()))
      place[p] = at[i];
    found = visit(transpose.getX(), place, depth + 1);
  } else if (auto slice = dyn_cast<SliceOp>(op)) {
    SmallVector<AffineExpr> place;
    for (auto [start, step, coordinate] :
         llvm::zip(slice.getStarts().getDims(), slice.getSteps(), at))
      place.push_back(start + coordinate * step);
    found = visit(slice.getX(), place, depth + 1);
  } else if (auto iota = dyn_cast<IotaOp>(op); iota && isPositions) {
    double start = iota.getStart().convertToDouble(),
           step = iota.getStep().convertToDouble();
    auto isSmall = [](double x) {
      return x == std::trunc(x) && std::abs(x) < 1e9;
    };
    if (isSmall(start) && isSmall(step))
      found = Values{
          {}, at[0] * static_cast<int64_t>(step) + static_cast<int64_t>(start)};
  } else if (auto size = dyn_cast<SizeOp>(op); size && isPositions) {
    found = Values{{}, size.getSize().getDims().front()};
  }
  return found ? found : unknown();
}

PossibleValues::Place PossibleValues::anywhere(Value value) {
  Place place;
  place.extents = getDims(value.getType());
  for (size_t i = 0; i < place.extents.size(); ++i)
    place.at.push_back(getAffineDimExpr(i, value.getContext()));
  return place;
}

std::optional<PossibleValues::Values> PossibleValues::get(Value value,
                                                          const Place &place) {
  extents = place.extents;
  budget = kMostVisits;
  auto values = visit(value, place.at, 0);
  extents = {};
  return values;
}
