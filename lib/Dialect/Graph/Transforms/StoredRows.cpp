// Rounding of rows and its inverse, in graph operators: whatever reads the
// state may take the inverse into its kernel.
#include "StoredRows.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

static constexpr int64_t kGroupOf4Bits = 32;
static constexpr double kLargestF16 = 65504;

FailureOr<StoredRows> StoredRows::get(RankedTensorType row, int64_t axis,
                                      unsigned bits, std::string &reason) {
  StoredRows stored;
  Type element = row.getElementType();
  if (bits == 0 || !isa<FloatType>(element)) {
    stored.parts.push_back({"", element, -1});
    return stored;
  }
  std::optional<int64_t> last = constantValue(getDims(row).back());
  if (!element.isF32() && !element.isF16() && !element.isBF16()) {
    reason = "elements are neither float32 nor float16 nor bfloat16";
    return failure();
  }
  if (axis == row.getRank() - 1 || !last || *last == 0 ||
      (bits == 4 && *last % 2 != 0)) {
    reason = "the last axis, along which scales are shared, must be another "
             "one, of constant size";
    if (bits == 4)
      reason += ", which is even";
    return failure();
  }
  stored.bits = bits;
  stored.group =
      bits == 4 && *last % kGroupOf4Bits == 0 ? kGroupOf4Bits : *last;
  stored.groups = *last / stored.group;
  MLIRContext *context = row.getContext();
  Type code = bits == 8 ? IntegerType::get(context, 8)
                        : IntegerType::get(context, 8, IntegerType::Unsigned);
  stored.parts.push_back({".codes", code, *last * bits / 8});
  stored.parts.push_back({".scales", Float16Type::get(context), stored.groups});
  return stored;
}

namespace {
/// Operators at one place.
struct Ops {
  OpBuilder &b;
  Location loc;

  Value constant(double value) {
    auto type = RankedTensorType::get({}, b.getF32Type());
    return ConstantOp::create(b, loc,
                              DenseElementsAttr::get(type, float(value)));
  }
  Value convert(Value x, Type element) {
    if (cast<RankedTensorType>(x.getType()).getElementType() == element)
      return x;
    return ConvertOp::create(b, loc, x, TypeAttr::get(element), UnitAttr());
  }
  /// x with its last axis of other sizes.
  Value split(Value x, ArrayRef<int64_t> last) {
    SmallVector<AffineExpr> dims = getDims(x.getType());
    dims.pop_back();
    for (int64_t size : last)
      dims.push_back(getAffineConstantExpr(size, b.getContext()));
    return ReshapeOp::create(b, loc, withDims(x, dims), x);
  }
  static RankedTensorType withDims(Value x, ArrayRef<AffineExpr> dims) {
    return makeTensorType(dims,
                          cast<RankedTensorType>(x.getType()).getElementType());
  }
};
} // namespace

SmallVector<Value> StoredRows::encode(OpBuilder &b, Location loc,
                                      Value x) const {
  if (bits == 0)
    return {x};
  Ops ops{b, loc};
  double largest = bits == 8 ? 127 : 7;
  x = ops.split(ops.convert(x, b.getF32Type()), {groups, group});
  auto rank = cast<RankedTensorType>(x.getType()).getRank();
  Value magnitude = AbsOp::create(b, loc, x);
  Value most = ReduceOp::create(
      b, loc, magnitude, FoldKindAttr::get(b.getContext(), FoldKind::max),
      b.getDenseI64ArrayAttr({rank - 1}));
  Value scale = ops.convert(DivOp::create(b, loc, most, ops.constant(largest)),
                            b.getF16Type());
  Value wide = ops.convert(scale, b.getF32Type());
  // Nothing else is converted to an integer than numbers that fit.
  Value isNumber =
      BitAndOp::create(b, loc, GtOp::create(b, loc, wide, ops.constant(0)),
                       LeOp::create(b, loc, wide, ops.constant(kLargestF16)));
  Value n = RoundOp::create(b, loc, DivOp::create(b, loc, x, wide));
  n = ClipOp::create(b, loc, n, ops.constant(-largest), ops.constant(largest));
  n = SelectOp::create(b, loc, isNumber, n, ops.constant(0));
  Value codes;
  if (bits == 8) {
    codes = ops.convert(n, b.getIntegerType(8));
  } else {
    // The first half of a group in the low bits, the other one above them.
    n = ops.split(AddOp::create(b, loc, n, ops.constant(8)), {2, group / 2});
    SmallVector<AffineExpr> dims = getDims(n.getType());
    dims[dims.size() - 2] = getAffineConstantExpr(1, b.getContext());
    auto half = [&](int64_t i) -> Value {
      SmallVector<AffineExpr> starts(dims.size(),
                                     getAffineConstantExpr(0, b.getContext()));
      starts[dims.size() - 2] = getAffineConstantExpr(i, b.getContext());
      return SliceOp::create(
          b, loc, Ops::withDims(n, dims), n,
          DimsAttr::get(b.getContext(), starts),
          b.getDenseI64ArrayAttr(SmallVector<int64_t>(dims.size(), 1)));
    };
    Value both = AddOp::create(
        b, loc, half(0),
        MulOp::create(b, loc, half(1), ops.constant(16)).getResult());
    codes = ops.convert(both, parts[0].element);
  }
  auto flatten = [&](Value part, int64_t last) -> Value {
    SmallVector<AffineExpr> dims = getDims(x.getType());
    dims.pop_back_n(2);
    dims.push_back(getAffineConstantExpr(last, b.getContext()));
    return ReshapeOp::create(b, loc, Ops::withDims(part, dims), part);
  };
  return {flatten(codes, parts[0].last), flatten(scale, parts[1].last)};
}

Value StoredRows::decode(OpBuilder &b, Location loc, ValueRange stored,
                         RankedTensorType type) const {
  if (bits == 0)
    return stored[0];
  Ops ops{b, loc};
  Value n, scale = ops.convert(stored[1], b.getF32Type());
  if (bits == 8) {
    n = ops.convert(ops.split(stored[0], {groups, group}), b.getF32Type());
    scale = ops.split(scale, {groups, 1});
  } else {
    Value pairs = ops.split(stored[0], {groups, 1, group / 2});
    Type code = parts[0].element;
    auto number = [&](ArrayRef<int64_t> shape, ArrayRef<uint8_t> values) {
      return ConstantOp::create(
          b, loc,
          DenseElementsAttr::getFromRawBuffer(
              RankedTensorType::get(shape, code),
              ArrayRef(reinterpret_cast<const char *>(values.data()),
                       values.size())));
    };
    // A byte for each of its halves.
    SmallVector<AffineExpr> dims = getDims(pairs.getType());
    dims[dims.size() - 2] = getAffineConstantExpr(2, b.getContext());
    Value twice =
        BroadcastOp::create(b, loc, Ops::withDims(pairs, dims), pairs);
    Value moved = ShrOp::create(b, loc, twice, number({2, 1}, {0, 4}));
    Value low = BitAndOp::create(b, loc, moved, number({}, {15}));
    n = SubOp::create(b, loc, ops.convert(low, b.getF32Type()),
                      ops.constant(8));
    scale = ops.split(scale, {groups, 1, 1});
  }
  Value x = MulOp::create(b, loc, n, scale);
  x = ReshapeOp::create(b, loc, makeTensorType(getDims(type), b.getF32Type()),
                        x);
  return ops.convert(x, type.getElementType());
}
