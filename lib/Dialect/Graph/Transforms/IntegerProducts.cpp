// graph-integer-products: products of dequantised numbers as products of the
// integers, dequantised once.
//
//   sum (a - p) s * (b - q) t  =  s t * sum (a - p)(b - q)
//
// for scales that no axis of the sum moves along. The right side is exact in
// i32 up to one conversion; the left one rounds each factor and each addition.
#include "dlc/Dialect/Graph/Transforms/Passes.h"

#include "dlc/Dialect/Graph/IR/ConstantBytes.h"
#include "dlc/Dialect/Graph/IR/Graph.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

#include <cstring>

namespace dlc::graph {
#define GEN_PASS_DEF_INTEGERPRODUCTS
#include "dlc/Dialect/Graph/Transforms/Passes.h.inc"
} // namespace dlc::graph

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

// A product of two differences of bytes is at most 255^2.
static constexpr int64_t kMostTerms = (int64_t(1) << 31) / (255 * 255);
// Vectors of a sum over fewer channels would be part empty.
static constexpr int64_t kFewestChannels = 16;

static Type elementOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getElementType();
}

static RankedTensorType withElement(Type type, Type element) {
  auto tensor = cast<RankedTensorType>(type);
  return RankedTensorType::get(tensor.getShape(), element,
                               tensor.getEncoding());
}

/// What made a factor, if that is bytes times f32 scales.
static DequantizeOp bytesOf(Value factor) {
  auto made = factor.getDefiningOp<DequantizeOp>();
  return made && elementOf(made.getX()).isInteger(8) &&
                 elementOf(made.getScale()).isF32() && elementOf(factor).isF32()
             ? made
             : DequantizeOp();
}

/// Which axis of `of` the elements of `table`, which is broadcast to it, differ
/// along; none: one for all. Failure for tables of more axes.
static FailureOr<std::optional<unsigned>> axisOf(Value table, Value of) {
  SmallVector<AffineExpr> dims = getDims(table.getType());
  auto rank =
      static_cast<size_t>(cast<RankedTensorType>(of.getType()).getRank());
  if (dims.size() > rank)
    return failure();
  std::optional<unsigned> found;
  for (auto [i, size] : llvm::enumerate(dims)) {
    if (constantValue(size) == 1)
      continue;
    if (found)
      return failure();
    found = i + rank - dims.size();
  }
  return found;
}

/// The constant that `value` is, perhaps in another shape; null: none.
static ConstantOp constantOf(Value value) {
  Operation *from = value.getDefiningOp();
  while (isa_and_nonnull<ReshapeOp, TransposeOp>(from))
    from = from->getOperand(0).getDefiningOp();
  return dyn_cast_or_null<ConstantOp>(from);
}

/// The numbers of a constant of f32, if they are at hand.
static std::optional<SmallVector<float>> numbersOf(Value value) {
  ConstantOp constant = constantOf(value);
  if (!constant)
    return std::nullopt;
  if (auto dense = dyn_cast<DenseElementsAttr>(constant.getValue()))
    return llvm::to_vector(dense.getValues<float>());
  ArrayRef<char> bytes = rawBytesOf(constant.getValue());
  SmallVector<float> numbers(bytes.size() / sizeof(float));
  std::memcpy(numbers.data(), bytes.data(), numbers.size() * sizeof(float));
  return numbers.empty() ? std::nullopt : std::optional(numbers);
}

/// The product of two scales, one of which is one number: of constants it is
/// one.
static Value multiplyScales(OpBuilder &b, Location loc, Value x, Value y) {
  auto left = numbersOf(x), right = numbersOf(y);
  if (!left || !right || (left->size() != 1 && right->size() != 1))
    return MulOp::create(b, loc, x, y);
  bool isLong = left->size() > 1;
  auto type = cast<RankedTensorType>((isLong ? x : y).getType());
  SmallVector<float> product = isLong ? *left : *right;
  float factor = isLong ? right->front() : left->front();
  for (float &number : product)
    number *= factor;
  return ConstantOp::create(
      b, loc, type, DenseElementsAttr::get(type, ArrayRef<float>(product)));
}

namespace {
/// The factors of a product and where their axes are in its result.
struct Integers {
  DequantizeOp factors[2];
  /// Axis of the result that axis i of a factor is; none: it is summed over.
  SmallVector<std::optional<unsigned>> axes[2];
  unsigned rank;

  /// Whether a scale for each row of a factor is one for each of the result.
  bool hasScales() {
    for (int i : {0, 1}) {
      auto axis = axisOf(factors[i].getScale(), factors[i].getX());
      if (failed(axis) || (*axis && !axes[i][**axis]))
        return false;
    }
    return true;
  }

  Value dequantize(OpBuilder &b, Location loc, Value sum, Type type) {
    Value real = ConvertOp::create(b, loc, sum, TypeAttr::get(b.getF32Type()),
                                   UnitAttr());
    Value scales[2];
    for (int i : {0, 1}) {
      Value scale = factors[i].getScale();
      SmallVector<AffineExpr> dims(rank, b.getAffineConstantExpr(1));
      if (auto axis = *axisOf(scale, factors[i].getX()))
        dims[*axes[i][*axis]] = getDims(factors[i].getX().getType())[*axis];
      scales[i] = ReshapeOp::create(
          b, loc, makeTensorType(dims, b.getF32Type()), scale);
    }
    Value scale = multiplyScales(b, loc, scales[0], scales[1]);
    Value result = MulOp::create(b, loc, real, scale);
    assert(result.getType() == type && "scales change no shape");
    (void)type;
    return result;
  }
};
} // namespace

/// Whether what is dequantised is made of constants alone.
static bool isConstant(DequantizeOp op) {
  return llvm::all_of(op->getOperands(),
                      [](Value value) { return constantOf(value) != nullptr; });
}

/// Whether its zero points are known to be nothing to subtract: symmetric
/// weights have a vector of zeros.
static bool isSymmetric(DequantizeOp op) {
  ConstantOp zero = constantOf(op.getZeroPoint());
  if (!zero)
    return false;
  if (auto dense = dyn_cast<DenseElementsAttr>(zero.getValue());
      dense && dense.isSplat())
    return dense.getSplatValue<APInt>().isZero();
  ArrayRef<char> bytes = rawBytesOf(zero.getValue());
  return !bytes.empty() && llvm::all_of(bytes, [](char c) { return c == 0; });
}

static std::optional<Integers> factorsOf(Operation *op, int64_t rank) {
  Integers found{{bytesOf(op->getOperand(0)), bytesOf(op->getOperand(1))},
                 {},
                 static_cast<unsigned>(rank)};
  // Without a constant it is most often part of an attention.
  if (!found.factors[0] || !found.factors[1] ||
      (!isConstant(found.factors[0]) && !isConstant(found.factors[1])))
    return std::nullopt;
  return found;
}

static bool isShort(ArrayRef<AffineExpr> dims) {
  int64_t terms = 1;
  for (AffineExpr dim : dims) {
    auto size = constantValue(dim);
    if (!size || *size > kMostTerms || (terms *= *size) > kMostTerms)
      return false;
  }
  return true;
}

/// One zero point for all, or null: a convolution takes a number for x, one or
/// a vector for w, and none where that is zero.
static Value zeroPoint(OpBuilder &b, DequantizeOp factor, unsigned axis) {
  if (isSymmetric(factor))
    return {};
  Value zero = factor.getZeroPoint();
  auto along = axisOf(zero, factor.getX());
  if (failed(along) || (*along && **along != axis))
    return {};
  SmallVector<AffineExpr> dims;
  if (*along)
    dims.push_back(getDims(factor.getX().getType())[axis]);
  return ReshapeOp::create(b, factor.getLoc(),
                           makeTensorType(dims, elementOf(zero)), zero);
}

static Value convolve(OpBuilder &b, ConvOp conv) {
  if (conv.getXZeroPoint() || conv.getWZeroPoint())
    return {};
  SmallVector<AffineExpr> w = getDims(conv.getW().getType());
  auto channels = constantValue(w[1]);
  auto found = factorsOf(conv, static_cast<int64_t>(w.size()));
  if (!found || !isShort(ArrayRef(w).drop_front()) ||
      (conv.getGroup() > 1 && (!channels || *channels < kFewestChannels)))
    return {};
  for (int i : {0, 1})
    found->axes[i].resize(w.size());
  found->axes[0][0] = 0; // images
  found->axes[1][0] = 1; // output channels
  auto [x, weights] = std::pair(found->factors[0], found->factors[1]);
  auto xAxis = axisOf(x.getZeroPoint(), x.getX());
  auto wAxis = axisOf(weights.getZeroPoint(), weights.getX());
  if (!found->hasScales() || failed(xAxis) || *xAxis || failed(wAxis) ||
      (*wAxis && **wAxis != 0))
    return {};
  auto sum = ConvOp::create(
      b, conv.getLoc(), withElement(conv.getType(), b.getI32Type()), x.getX(),
      weights.getX(), zeroPoint(b, x, 0), zeroPoint(b, weights, 0),
      conv.getStridesAttr(), conv.getDilationsAttr(), conv.getPadsLowAttr(),
      conv.getPadsHighAttr(), conv.getGroupAttr());
  return found->dequantize(b, conv.getLoc(), sum, conv.getType());
}

static Value contract(OpBuilder &b, ContractOp op) {
  AffineMap result = op.getResultMap();
  auto found = factorsOf(op, result.getNumResults());
  if (!found)
    return {};
  SmallVector<AffineExpr> summed;
  for (auto [axis, size] : llvm::enumerate(op.getIterationDims()))
    if (!result.isFunctionOfDim(axis))
      summed.push_back(size);
  if (!isShort(summed))
    return {};
  AffineMap maps[2] = {op.getLhsMap(), op.getRhsMap()};
  for (int i : {0, 1})
    for (AffineExpr expr : maps[i].getResults()) {
      std::optional<unsigned> at;
      if (isa<AffineDimExpr>(expr))
        at = result.getResultPosition(expr);
      found->axes[i].push_back(at);
    }
  if (!found->hasScales())
    return {};
  Value centered[2];
  TypeAttr i32 = TypeAttr::get(b.getI32Type());
  for (int i : {0, 1}) {
    DequantizeOp factor = found->factors[i];
    Location loc = factor.getLoc();
    centered[i] = SubOp::create(
        b, loc, ConvertOp::create(b, loc, factor.getX(), i32, UnitAttr()),
        ConvertOp::create(b, loc, factor.getZeroPoint(), i32, UnitAttr()));
  }
  Value sum = ContractOp::create(b, op.getLoc(),
                                 withElement(op.getType(), b.getI32Type()),
                                 centered[0], centered[1], op.getLhsMapAttr(),
                                 op.getRhsMapAttr(), op.getResultMapAttr());
  return found->dequantize(b, op.getLoc(), sum, op.getType());
}

namespace {
struct IntegerProducts : graph::impl::IntegerProductsBase<IntegerProducts> {
  using IntegerProductsBase::IntegerProductsBase;

  void runOnOperation() override {
    SmallVector<Operation *> products;
    getOperation().walk([&](Operation *op) {
      if (isa<ConvOp, ContractOp>(op))
        products.push_back(op);
    });
    for (Operation *op : products) {
      OpBuilder b(op);
      auto conv = dyn_cast<ConvOp>(op);
      Value result =
          conv ? convolve(b, conv) : contract(b, cast<ContractOp>(op));
      if (!result)
        continue;
      op->getResult(0).replaceAllUsesWith(result);
      SmallVector<Value> factors(op->getOperands());
      op->erase();
      for (Value factor : factors)
        if (Operation *made = factor.getDefiningOp();
            made && factor.use_empty())
          made->erase();
      ++numProducts;
    }
  }
};
} // namespace
