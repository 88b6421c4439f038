//===- ConvertQuantization.cpp - linear quantisation ----------------------===//
//
// QuantizeLinear, DequantizeLinear and the QLinear operators, which are their
// float operator between the two.
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

using namespace dlc;
using namespace mlir;

/// Scale or zero point beside x: per tensor as it is, per axis (C) as
/// (1, C, 1, ...), per block repeated along the axis.
static Value placeParameter(NodeContext &node, Value parameter, Value x) {
  GraphBuilder &b = node.b;
  int64_t block = node.i("block_size", 0), rank = b.rank(x);
  if (b.rank(parameter) == 0)
    return parameter;
  if (b.rank(parameter) == 1 &&
      graph::constantValue(b.dim(parameter, 0)) == 1 && block == 0)
    return b.reshape(parameter, ArrayRef<int64_t>{});
  int64_t axis = normalizeAxis(node.i("axis", 1), rank);
  if (block > 0) {
    Dims out = b.dims(parameter), wide;
    if (static_cast<int64_t>(out.size()) != rank)
      refuseMalformed("the scale of a blocked tensor must have its rank");
    Dims split;
    for (auto [i, size] : llvm::enumerate(out)) {
      split.push_back(size);
      wide.push_back(size);
      if (static_cast<int64_t>(i) == axis) {
        split.push_back(b.c(1));
        wide.push_back(b.c(block));
      }
    }
    out[axis] = out[axis] * block;
    Value repeated =
        b.reshape(b.broadcast(b.reshape(parameter, split), wide), out);
    // The last block may be cut short.
    return b.sliceAxis(repeated, axis, b.c(0), b.dim(x, axis));
  }
  if (b.rank(parameter) != 1)
    refuseMalformed("scale " + describeType(parameter.getType()) +
                    " must be a scalar or a vector");
  Dims dims(rank, b.c(1));
  dims[axis] = b.dim(parameter, 0);
  return b.reshape(parameter, dims);
}

static Value quantize(NodeContext &node, Value x, Value scale, Value zero) {
  return node.b.emit("graph.quantize", {x, placeParameter(node, scale, x),
                                        placeParameter(node, zero, x)});
}

static Value dequantize(NodeContext &node, Value x, Value scale, Value zero) {
  if (!zero)
    zero = node.b.splatInt(0, node.b.element(x));
  return node.b.emit("graph.dequantize", {x, placeParameter(node, scale, x),
                                          placeParameter(node, zero, x)});
}

/// The operand as the numbers it stands for.
static Value decodeOperand(NodeContext &node, unsigned i) {
  Type narrow = node.entry(i).narrow;
  return castOperand(node, i,
                     narrow ? graph::getDecodedType(narrow)
                            : node.b.element(node.in(i)));
}

static bool isZeroConstant(Value value) {
  DenseElementsAttr constant = GraphBuilder::asConstant(value);
  return constant && constant.isSplat() &&
         (isa<FloatType>(constant.getElementType())
              ? constant.getSplatValue<APFloat>().isZero()
              : constant.getSplatValue<APInt>().isZero());
}

/// x / scale + zero, rounded by the code. Without a zero point -0 stays.
static Value quantizeToFloat(NodeContext &node, Value x, Value scale,
                             Value zero, Type to) {
  GraphBuilder &b = node.b;
  Value ratio = b.div(x, placeParameter(node, scale, x));
  if (zero && !isZeroConstant(zero)) {
    Value shift = b.convert(placeParameter(node, zero, x), b.element(ratio));
    Value isZero = b.emit("graph.eq", {shift, b.splat(0, b.element(shift))});
    ratio = b.select(isZero, ratio, b.add(ratio, shift));
  }
  CastRules rules;
  rules.saturate = node.i("saturate", 1) != 0;
  return encode(b, ratio, to, rules);
}

/// Through i8 or ui8, then to the range of fewer bits.
static Value quantizeToInteger(NodeContext &node, Value x, Value scale,
                               Value zero, IntegerType to) {
  GraphBuilder &b = node.b;
  Type wide = graph::getDecodedType(to);
  if (!zero)
    zero = b.splatInt(0, wide);
  int64_t steps = int64_t(1) << to.getWidth(),
          low = to.isUnsigned() ? 0 : -steps / 2;
  Value bytes = quantize(node, x, scale, zero);
  Value inside = b.emit("graph.clip", {bytes, b.splatInt(low, wide),
                                       b.splatInt(low + steps - 1, wide)});
  return encode(b, inside, to);
}

static void convertQuantizeLinear(NodeContext &node) {
  GraphBuilder &b = node.b;
  Type u8 = b.builder.getIntegerType(8, /*isSigned=*/false);
  Type to = node.has(2)                 ? node.elementOf(2)
            : node.i("output_dtype", 0) ? readElementType(node, "output_dtype")
                                        : u8;
  // Division in the scale's type, at least f32.
  Type wide =
      wideType(node.i("precision", 0) ? readElementType(node, "precision")
               : node.entry(1).narrow ? b.builder.getF32Type()
                                      : b.element(node.in(1)));
  Value x = castOperand(node, 0, wide), scale = castOperand(node, 1, wide);
  Value zero = node.has(2) ? decodeOperand(node, 2) : Value();
  if (graph::isNarrow(to)) {
    auto integer = dyn_cast<IntegerType>(to);
    return node.typedResult(
        integer ? quantizeToInteger(node, x, scale, zero, integer)
                : quantizeToFloat(node, x, scale, zero, to),
        to);
  }
  if (isFloat(to))
    refuse("quantisation to " + describeElement(to));
  node.result(quantize(node, x, scale, zero ? zero : b.splatInt(0, to)));
}

static void convertDequantizeLinear(NodeContext &node) {
  GraphBuilder &b = node.b;
  Type scaleType = node.elementOf(1);
  Type element = node.i("output_dtype", 0)
                     ? readElementType(node, "output_dtype")
                     : scaleType;
  Type wide =
      graph::isNarrow(scaleType) ? b.builder.getF32Type() : wideType(scaleType);
  Value real =
      dequantize(node, decodeOperand(node, 0), castOperand(node, 1, wide),
                 node.has(2) ? decodeOperand(node, 2) : Value());
  node.typedResult(graph::isNarrow(element) ? encode(b, real, element)
                                            : b.convert(real, element),
                   element);
}

/// u8 with scale (max - min) / 255 over the whole tensor and 0.
DynamicQuantized dlc::makeDynamicQuantize(GraphBuilder &b, Value x) {
  Type f32 = b.builder.getF32Type(),
       u8 = b.builder.getIntegerType(8, /*isSigned=*/false);
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq<int64_t>(0, b.rank(x)));
  auto extreme = [&](graph::FoldKind kind) {
    return b.reshape(b.reduce(x, kind, axes), ArrayRef<int64_t>{});
  };
  Value zero = b.splat(0, f32);
  Value high = b.max(extreme(graph::FoldKind::max), zero),
        low = b.min(extreme(graph::FoldKind::min), zero);
  Value scale = b.div(b.sub(high, low), b.splat(255, f32));
  Value ratio = b.unary("graph.round", b.div(b.sub(zero, low), scale));
  Value clipped = b.min(b.max(ratio, zero), b.splat(255, f32));
  Value zeroPoint = b.convert(clipped, u8);
  return {b.emit("graph.quantize", {x, scale, zeroPoint}), scale, zeroPoint};
}

static void convertDynamicQuantizeLinear(NodeContext &node) {
  DynamicQuantized q = makeDynamicQuantize(node.b, node.in(0));
  node.result(0, q.value);
  node.result(1, q.scale);
  node.result(2, q.zeroPoint);
}

/// Integer product exactly in i32, then one scale: a_scale * b_scale / y_scale.
static void convertQLinearMatMul(NodeContext &node) {
  GraphBuilder &b = node.b;
  Type i32 = b.builder.getI32Type(), f32 = b.builder.getF32Type();
  auto centered = [&](unsigned value, unsigned zero, bool rows) {
    Value x = b.convert(node.in(value), i32), z = b.convert(node.in(zero), i32);
    if (b.rank(z) == 1 && graph::constantValue(b.dim(z, 0)) == 1)
      z = b.reshape(z, ArrayRef<int64_t>{});
    else if (b.rank(z) == 1 && rows)
      z = b.unsqueeze(z, {1});
    return b.sub(x, z);
  };
  auto scale = [&](unsigned i, bool rows) {
    Value s = b.convert(node.in(i), f32);
    if (b.rank(s) == 1 && graph::constantValue(b.dim(s, 0)) == 1)
      return b.reshape(s, ArrayRef<int64_t>{});
    return b.rank(s) == 1 && rows ? b.unsqueeze(s, {1}) : s;
  };
  Value product = makeMatMul(b, centered(0, 2, true), centered(3, 5, false));
  Value factor = b.mul(scale(1, true), scale(4, false));
  Value real = b.mul(b.convert(product, f32), factor);
  Value yScale = scale(6, true), yZero = node.in(7);
  if (b.rank(yZero) == 1)
    yZero = graph::constantValue(b.dim(yZero, 0)) == 1
                ? b.reshape(yZero, ArrayRef<int64_t>{})
                : b.unsqueeze(yZero, {1});
  node.result(b.emit("graph.quantize", {real, yScale, yZero}));
}

static void convertQLinearConv(NodeContext &node) {
  GraphBuilder &b = node.b;
  Type i32 = b.builder.getI32Type(), f32 = b.builder.getF32Type();
  Value x = node.in(0), w = node.in(3);
  Value sum = makeConv(node, x, w, node.in(2), node.in(5), i32);
  auto channels = [&](Value v) {
    if (b.rank(v) == 0)
      return v;
    if (graph::constantValue(b.dim(v, 0)) == 1)
      return b.reshape(v, ArrayRef<int64_t>{});
    Dims dims(b.rank(sum), b.c(1));
    dims[1] = b.dim(v, 0);
    return b.reshape(v, dims);
  };
  if (Value bias = node.maybe(8))
    sum = b.add(sum, channels(bias));
  Value factor = b.mul(channels(node.in(1)), channels(node.in(4)));
  Value real = b.mul(b.convert(sum, f32), factor);
  node.result(b.emit("graph.quantize",
                     {real, channels(node.in(6)), channels(node.in(7))}));
}

void dlc::addQuantization(ConverterTable &table) {
  table["QuantizeLinear"] = convertQuantizeLinear;
  table["DequantizeLinear"] = convertDequantizeLinear;
  table["DynamicQuantizeLinear"] = convertDynamicQuantizeLinear;
  table["QLinearMatMul"] = convertQLinearMatMul;
  table["QLinearConv"] = convertQLinearConv;
}
