// graph-expose-bands: constant masks along a diagonal become comparisons, and
// constant positions that are compared become coordinates.
#include "dlc/Dialect/Graph/Transforms/Passes.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "llvm/ADT/SetVector.h"

namespace dlc::graph {
#define GEN_PASS_DEF_EXPOSEBANDS
#include "dlc/Dialect/Graph/Transforms/Passes.h.inc"
} // namespace dlc::graph

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

// A smaller mask costs nothing to read.
static constexpr int64_t kLeastElements = 16;
static constexpr size_t kMostReaders = 64;

namespace {
/// The elements [row, column] with low <= column - row <= high are `inside`.
struct Band {
  int64_t rows, columns, low, high;
  TypedAttr inside, outside;
};
} // namespace

/// The bits of each element of the constant, if it is a mask by its type.
static std::optional<SmallVector<uint64_t>> readBits(ElementsAttr value) {
  Type element = value.getElementType();
  unsigned width = element.isIntOrFloat() ? element.getIntOrFloatBitWidth() : 0;
  if (!element.isInteger(1) &&
      !(isa<FloatType>(element) && (width == 16 || width == 32 || width == 64)))
    return std::nullopt;
  SmallVector<uint64_t> bits;
  if (auto dense = dyn_cast<DenseElementsAttr>(value)) {
    if (dense.isSplat())
      return std::nullopt;
    if (element.isInteger(1))
      for (bool b : dense.getValues<bool>())
        bits.push_back(b);
    else
      for (const APFloat &f : dense.getValues<APFloat>())
        bits.push_back(f.bitcastToAPInt().getZExtValue());
    return bits;
  }
  auto resource = dyn_cast<DenseResourceElementsAttr>(value);
  AsmResourceBlob *blob =
      resource ? resource.getRawHandle().getBlob() : nullptr;
  size_t bytes = elementBytes(element);
  if (!blob ||
      blob->getData().size() !=
          bytes * static_cast<size_t>(value.getShapedType().getNumElements()))
    return std::nullopt;
  const char *data = blob->getData().data();
  for (size_t at = 0; at < blob->getData().size(); at += bytes) {
    uint64_t each = 0;
    memcpy(&each, data + at, bytes);
    bits.push_back(each);
  }
  return bits;
}

static TypedAttr scalar(Type element, uint64_t bits) {
  if (element.isInteger(1))
    return BoolAttr::get(element.getContext(), bits != 0);
  auto type = cast<FloatType>(element);
  return FloatAttr::get(
      type, APFloat(type.getFloatSemantics(), APInt(type.getWidth(), bits)));
}

// The value at the corner that a causal mask hides is outside, unless the other
// corner is it too (a window).
static std::optional<Band> asBand(ElementsAttr value) {
  ArrayRef<int64_t> shape = value.getShapedType().getShape();
  if (shape.size() < 2 ||
      llvm::any_of(shape.drop_back(2), [](int64_t n) { return n != 1; }) ||
      value.getShapedType().getNumElements() < kLeastElements)
    return std::nullopt;
  int64_t rows = shape[shape.size() - 2], columns = shape.back();
  if (rows < 2 || columns < 2)
    return std::nullopt;
  auto bits = readBits(value);
  if (!bits)
    return std::nullopt;
  auto at = [&](int64_t r, int64_t c) { return (*bits)[r * columns + c]; };
  uint64_t outside = at(0, columns - 1), inside = outside;
  int64_t low = rows + columns, high = -rows - columns;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) {
      if (at(r, c) == outside)
        continue;
      if (inside == outside)
        inside = at(r, c);
      low = std::min(low, c - r), high = std::max(high, c - r);
    }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      if (at(r, c) != (low <= c - r && c - r <= high ? inside : outside))
        return std::nullopt;
  if (inside == outside)
    return std::nullopt;
  Type element = value.getElementType();
  return Band{rows,
              columns,
              low,
              high,
              scalar(element, inside),
              scalar(element, outside)};
}

namespace {
/// Along one axis start, start + step, ...; the other axes have one element.
struct Progression {
  size_t axis;
  int64_t start, step;
};
} // namespace

static std::optional<Progression> asProgression(ElementsAttr value) {
  ShapedType type = value.getShapedType();
  Type element = type.getElementType();
  int64_t count = type.getNumElements();
  if ((!element.isInteger(64) && !element.isInteger(32)) ||
      element.isUnsignedInteger() || count < 2)
    return std::nullopt;
  auto wide = llvm::find(type.getShape(), count);
  if (wide == type.getShape().end())
    return std::nullopt;
  SmallVector<int64_t> numbers;
  if (auto dense = dyn_cast<DenseElementsAttr>(value)) {
    for (const APInt &n : dense.getValues<APInt>())
      numbers.push_back(n.getSExtValue());
  } else {
    auto resource = dyn_cast<DenseResourceElementsAttr>(value);
    AsmResourceBlob *blob =
        resource ? resource.getRawHandle().getBlob() : nullptr;
    size_t bytes = elementBytes(element);
    if (!blob || blob->getData().size() != bytes * static_cast<size_t>(count))
      return std::nullopt;
    for (const char *at = blob->getData().begin(), *end = blob->getData().end();
         at != end; at += bytes) {
      int64_t wide = 0;
      int32_t narrow = 0;
      memcpy(bytes == 8 ? static_cast<void *>(&wide) : &narrow, at, bytes);
      numbers.push_back(bytes == 8 ? wide : narrow);
    }
  }
  constexpr int64_t most = int64_t(1) << 40; // exact in an iota's numbers
  int64_t step = numbers[1] - numbers[0];
  if (step == 0 || std::abs(numbers.front()) > most ||
      std::abs(numbers.back()) > most)
    return std::nullopt;
  for (int64_t i = 1; i < count; ++i)
    if (numbers[i] != numbers[0] + i * step)
      return std::nullopt;
  return Progression{
      static_cast<size_t>(std::distance(type.getShape().begin(), wide)),
      numbers[0], step};
}

static Value build(OpBuilder &builder, Location loc, RankedTensorType type,
                   const Progression &p) {
  auto flat =
      RankedTensorType::get({type.getShape()[p.axis]}, type.getElementType());
  Value iota = IotaOp::create(
      builder, loc, flat, builder.getF64FloatAttr(static_cast<double>(p.start)),
      builder.getF64FloatAttr(static_cast<double>(p.step)));
  return type.getRank() == 1
             ? iota
             : ReshapeOp::create(builder, loc, type, iota).getResult();
}

/// Whether what is computed from `constant`, element by element, is reduced to
/// maxima.
static bool endsInMaximum(Value constant) {
  llvm::SetVector<Operation *> readers(constant.user_begin(),
                                       constant.user_end());
  for (size_t i = 0; i < readers.size() && i < kMostReaders; ++i) {
    Operation *op = readers[i];
    if (auto reduce = dyn_cast<ReduceOp>(op)) {
      if (reduce.getKind() == FoldKind::max)
        return true;
      continue;
    }
    auto row = dyn_cast<GraphOp>(op);
    if (row && (row.getOpClass() == OpClass::elementwise ||
                row.getOpClass() == OpClass::broadcast ||
                row.getOpClass() == OpClass::injective))
      readers.insert(op->user_begin(), op->user_end());
  }
  return false;
}

/// Whether `constant`, perhaps added to something, is compared and nothing
/// else.
static bool isCompared(Value constant) {
  return llvm::all_of(constant.getUsers(), [](Operation *user) {
    return isa<LtOp, LeOp, GtOp, GeOp>(user) ||
           (isa<AddOp, SubOp, ReshapeOp, BroadcastOp>(user) &&
            isCompared(user->getResult(0)));
  });
}

/// The band as operators; the result has the constant's type.
static Value build(OpBuilder &builder, Location loc, RankedTensorType type,
                   const Band &band) {
  Type i64 = builder.getI64Type();
  size_t rank = type.getRank();
  auto positions = [&](int64_t size, size_t axis, int64_t start) -> Value {
    auto flat = RankedTensorType::get({size}, i64);
    Value iota = IotaOp::create(
        builder, loc, flat, builder.getF64FloatAttr(static_cast<double>(start)),
        builder.getF64FloatAttr(1.0));
    SmallVector<int64_t> shape(rank, 1);
    shape[axis] = size;
    return ReshapeOp::create(builder, loc, RankedTensorType::get(shape, i64),
                             iota);
  };
  Value column = positions(band.columns, rank - 1, 0), is;
  auto both = [&](Value condition) {
    is = is ? Value(BitAndOp::create(builder, loc, is, condition)) : condition;
  };
  if (band.high < band.columns - 1)
    both(LeOp::create(builder, loc, column,
                      positions(band.rows, rank - 2, band.high)));
  if (band.low > 1 - band.rows)
    both(GeOp::create(builder, loc, column,
                      positions(band.rows, rank - 2, band.low)));
  if (!is)
    return {};
  if (type.getElementType().isInteger(1)) {
    if (cast<IntegerAttr>(band.inside).getValue().isZero())
      is = BitNotOp::create(builder, loc, is);
    return is;
  }
  auto constant = [&](TypedAttr value) -> Value {
    auto point = RankedTensorType::get({}, type.getElementType());
    return ConstantOp::create(builder, loc, point,
                              DenseElementsAttr::get(point, value));
  };
  return SelectOp::create(builder, loc, is, constant(band.inside),
                          constant(band.outside));
}

namespace {
struct ExposeBands : graph::impl::ExposeBandsBase<ExposeBands> {
  using ExposeBandsBase::ExposeBandsBase;

  void runOnOperation() override {
    SmallVector<ConstantOp> constants;
    getOperation().walk([&](ConstantOp op) { constants.push_back(op); });
    for (ConstantOp op : constants) {
      auto type = dyn_cast<RankedTensorType>(op.getType());
      auto value = dyn_cast<ElementsAttr>(op.getValueAttr());
      if (!type || !value || type.getRank() < 1)
        continue;
      OpBuilder builder(op);
      Value built;
      if (auto positions = asProgression(value)) {
        if (isCompared(op.getResult()) && endsInMaximum(op.getResult()))
          built = build(builder, op.getLoc(), type, *positions);
      } else if (type.getRank() >= 2 && endsInMaximum(op.getResult())) {
        if (auto band = asBand(value))
          built = build(builder, op.getLoc(), type, *band);
      }
      if (!built || built.getType() != type)
        continue;
      op.getResult().replaceAllUsesWith(built);
      op.erase();
    }
  }
};
} // namespace
