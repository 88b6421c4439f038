// Rounding of rows and its inverse, in graph operators: whatever reads the
// state may take the inverse into its kernel.
#include "StoredRows.h"

#include <cmath>

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

static constexpr int64_t kGroupOfFewBits = 32;
static constexpr double kLargestF16 = 65504;

namespace {
/// A number is round(x / s + shift), between low and high; the code is that
/// and `more`.
struct Code {
  double largest; ///< of the numbers that are read, in magnitude
  double shift, low, high, more;

  static Code get(int64_t bits) {
    return bits == 8   ? Code{127, 0, -127, 127, 0}
           : bits == 4 ? Code{7, 0, -7, 7, 8}
                       : Code{1.5, 1.5, 0, 3, 0};
  }
  /// What a code is read less.
  double offset() const { return shift + more; }
};
} // namespace

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
      *last % (8 / bits) != 0) {
    reason = "the last axis, along which scales are shared, must be another "
             "one, of constant size";
    if (bits < 8)
      reason += ", a multiple of " + std::to_string(8 / bits);
    return failure();
  }
  stored.bits = bits;
  stored.group =
      bits < 8 && *last % kGroupOfFewBits == 0 ? kGroupOfFewBits : *last;
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
  Code code = Code::get(bits);
  x = ops.split(ops.convert(x, b.getF32Type()), {groups, group});
  auto rank = cast<RankedTensorType>(x.getType()).getRank();
  Value magnitude = AbsOp::create(b, loc, x);
  Value most = ReduceOp::create(
      b, loc, magnitude, FoldKindAttr::get(b.getContext(), FoldKind::max),
      b.getDenseI64ArrayAttr({rank - 1}));
  Value scale = ops.convert(
      DivOp::create(b, loc, most, ops.constant(code.largest)), b.getF16Type());
  Value wide = ops.convert(scale, b.getF32Type());
  if (code.offset() != static_cast<int64_t>(code.offset())) {
    // No number is zero, which makes a NaN of an infinite scale.
    Value isFinite =
        LeOp::create(b, loc, wide, ops.constant(kLargestF16)).getResult();
    scale =
        ops.convert(SelectOp::create(b, loc, isFinite, wide, ops.constant(NAN)),
                    b.getF16Type());
  }
  // Nothing else is converted to an integer than numbers that fit.
  Value isNumber =
      BitAndOp::create(b, loc, GtOp::create(b, loc, wide, ops.constant(0)),
                       LeOp::create(b, loc, wide, ops.constant(kLargestF16)));
  Value n = DivOp::create(b, loc, x, wide);
  if (code.shift != 0)
    n = AddOp::create(b, loc, n, ops.constant(code.shift));
  n = ClipOp::create(b, loc, RoundOp::create(b, loc, n), ops.constant(code.low),
                     ops.constant(code.high));
  n = SelectOp::create(b, loc, isNumber, n, ops.constant(0));
  Value codes;
  if (bits == 8) {
    codes = ops.convert(n, b.getIntegerType(8));
  } else {
    // The first part of a group in the low bits, the next ones above them.
    int64_t count = 8 / bits;
    if (code.more != 0)
      n = AddOp::create(b, loc, n, ops.constant(code.more));
    n = ops.split(n, {count, group / count});
    SmallVector<AffineExpr> dims = getDims(n.getType());
    dims[dims.size() - 2] = getAffineConstantExpr(1, b.getContext());
    auto part = [&](int64_t i) -> Value {
      SmallVector<AffineExpr> starts(dims.size(),
                                     getAffineConstantExpr(0, b.getContext()));
      starts[dims.size() - 2] = getAffineConstantExpr(i, b.getContext());
      return SliceOp::create(
          b, loc, Ops::withDims(n, dims), n,
          DimsAttr::get(b.getContext(), starts),
          b.getDenseI64ArrayAttr(SmallVector<int64_t>(dims.size(), 1)));
    };
    Value all = part(0);
    for (int64_t i = 1; i < count; ++i)
      all = AddOp::create(
          b, loc, all,
          MulOp::create(b, loc, part(i),
                        ops.constant(static_cast<double>(1 << (i * bits))))
              .getResult());
    codes = ops.convert(all, parts[0].element);
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
    int64_t count = 8 / bits;
    Value bytes = ops.split(stored[0], {groups, 1, group / count});
    Type code = parts[0].element;
    auto number = [&](ArrayRef<int64_t> shape, ArrayRef<uint8_t> values) {
      return ConstantOp::create(
          b, loc,
          DenseElementsAttr::getFromRawBuffer(
              RankedTensorType::get(shape, code),
              ArrayRef(reinterpret_cast<const char *>(values.data()),
                       values.size())));
    };
    // A byte for each of its parts.
    SmallVector<AffineExpr> dims = getDims(bytes.getType());
    dims[dims.size() - 2] = getAffineConstantExpr(count, b.getContext());
    Value each = BroadcastOp::create(b, loc, Ops::withDims(bytes, dims), bytes);
    SmallVector<uint8_t> places;
    for (int64_t i = 0; i < count; ++i)
      places.push_back(static_cast<uint8_t>(i * bits));
    Value moved = ShrOp::create(b, loc, each, number({count, 1}, places));
    Value low = BitAndOp::create(
        b, loc, moved, number({}, {static_cast<uint8_t>((1 << bits) - 1)}));
    n = SubOp::create(b, loc, ops.convert(low, b.getF32Type()),
                      ops.constant(Code::get(bits).offset()));
    scale = ops.split(scale, {groups, 1, 1});
  }
  Value x = MulOp::create(b, loc, n, scale);
  x = ReshapeOp::create(b, loc, makeTensorType(getDims(type), b.getF32Type()),
                        x);
  return ops.convert(x, type.getElementType());
}
