//===- ConvertContribQuantization.cpp - com.microsoft: few bits -----------===//
//
// Weights packed to 2, 4 or 8 bits in blocks, and the operators of
// onnxruntime's quantiser that are a float operator between two scales.
//
//===----------------------------------------------------------------------===//

#include "Contrib.h"
#include "Windows.h"

#include "dlc/Dialect/Graph/IR/ConstantBytes.h"

#include "mlir/IR/DialectResourceBlobManager.h"

using namespace dlc;
using namespace mlir;
using graph::FoldKind;

static Type f32(GraphBuilder &b) { return b.builder.getF32Type(); }
static Type i32(GraphBuilder &b) { return b.builder.getI32Type(); }

static Value asScalar(GraphBuilder &b, Value x) {
  return b.reshape(x, ArrayRef<int64_t>{});
}

//===----------------------------------------------------------------------===//
// Packed weights
//===----------------------------------------------------------------------===//

/// The bytes of a constant, through reshapes; empty: it is none.
static ArrayRef<char> constantBytes(Value x) {
  while (auto view = x.getDefiningOp<graph::ReshapeOp>())
    x = view->getOperand(0);
  auto op = x.getDefiningOp<graph::ConstantOp>();
  return op ? graph::rawBytesOf(cast<ElementsAttr>(op.getValue()))
            : ArrayRef<char>();
}

Value dlc::unpackBits(GraphBuilder &b, Value bytes, int64_t bits) {
  if (bits == 8)
    return bytes;
  // Constants lie unpacked, a byte a number, as those of ONNX's own types of
  // four bits do: products read them so.
  if (ArrayRef<char> packed = constantBytes(bytes); !packed.empty()) {
    SmallVector<int64_t> shape(
        cast<RankedTensorType>(bytes.getType()).getShape());
    shape.back() *= 8 / bits;
    std::vector<char> numbers;
    numbers.reserve(packed.size() * 8 / bits);
    for (char byte : packed)
      for (int64_t at = 0; at < 8; at += bits)
        numbers.push_back(static_cast<char>(
            (static_cast<unsigned char>(byte) >> at) & ((1 << bits) - 1)));
    auto type = RankedTensorType::get(shape, b.element(bytes));
    constexpr size_t small = 64 << 10; // what may still be folded
    if (numbers.size() <= small)
      return b.constant(DenseElementsAttr::getFromRawBuffer(type, numbers));
    return b.constant(DenseResourceElementsAttr::get(
        type, "unpacked",
        HeapAsmResourceBlob::allocateAndCopyWithAlign(
            ArrayRef<char>(numbers), 64, /*dataIsMutable=*/false)));
  }
  // One expression of the element's own number, so that products compute it.
  Type u8 = b.element(bytes), i64 = b.builder.getI64Type();
  int64_t each = 8 / bits, last = b.rank(bytes);
  Value shifts =
      b.convert(b.mul(b.iota(b.c(each), i64), b.splatInt(bits, i64)), u8);
  Value moved = b.emit("graph.shr", {b.unsqueeze(bytes, {last}), shifts});
  Value numbers =
      b.emit("graph.bit_and", {moved, b.splatInt((1 << bits) - 1, u8)});
  Dims out = b.dims(bytes);
  out.back() = out.back() * each;
  return b.reshape(numbers, out);
}

static int64_t readBits(NodeContext &node) {
  int64_t bits = node.i("bits", 4);
  if (bits != 2 && bits != 4 && bits != 8)
    refuse("weights of " + std::to_string(bits) + " bits");
  return bits;
}

/// y = a * dequantised(b)' + bias
static void convertMatMulNBits(NodeContext &node) {
  GraphBuilder &b = node.b;
  int64_t bits = readBits(node), n = node.i("N", 0), k = node.i("K", 0),
          block = node.i("block_size", 0);
  if (n < 1 || k < 1 || block < 16 || (block & (block - 1)))
    refuseMalformed("N, K and block_size must be sizes");
  if (node.has(4) || node.i("weight_prepacked", 0))
    refuse("group indices or weights packed for one device");
  int64_t blocks = llvm::divideCeil(k, block), blob = block * bits / 8;
  Value a = node.in(0);
  Type element = b.element(a), wide = wideType(element);
  auto shaped = [&](Value x, ArrayRef<int64_t> dims) {
    return b.reshape(x, dims); // some exporters flatten
  };
  Value q = b.convert(
      unpackBits(b, shaped(node.in(1), {n, blocks, blob}), bits), wide);
  Value scales = b.convert(shaped(node.in(2), {n, blocks, 1}), wide);
  Value zero = b.splat(static_cast<double>(1 << (bits - 1)), wide);
  if (Value given = node.maybe(3)) {
    if (isFloat(b.element(given))) {
      zero = shaped(given, {n, blocks, 1});
    } else {
      int64_t bytes = llvm::divideCeil(blocks * bits, int64_t(8));
      Value all = unpackBits(b, shaped(given, {n, bytes}), bits);
      zero = b.unsqueeze(b.sliceAxis(all, 1, b.c(0), b.c(blocks)), {2});
    }
    zero = b.convert(zero, wide);
  }
  Value w = b.mul(b.sub(q, zero), scales);
  w = b.sliceAxis(b.reshape(w, {n, blocks * block}), 1, b.c(0), b.c(k));
  Value y = makeMatMul(b, b.convert(a, wide), b.transpose(w, {1, 0}));
  if (Value bias = node.maybe(5))
    y = b.add(y, b.convert(bias, wide));
  node.result(b.convert(y, element));
}

/// Rows of a packed table, taken first and unpacked then.
static void convertGatherBlockQuantized(NodeContext &node) {
  GraphBuilder &b = node.b;
  int64_t bits = readBits(node), block = node.i("block_size", 128);
  Value data = node.in(0), indices = node.in(1), scales = node.in(2);
  int64_t rank = b.rank(data);
  if (normalizeAxis(node.i("gather_axis", 0), rank) != 0 ||
      normalizeAxis(node.i("quantize_axis", 1), rank) != rank - 1 || rank < 2 ||
      block < 16)
    refuse("other than rows quantised in blocks of at least 16 along the last "
           "axis");
  Type element = b.element(scales), wide = wideType(element);
  Value q = b.convert(unpackBits(b, b.gather(data, indices, 0), bits), wide);
  Value scale = b.convert(b.gather(scales, indices, 0), wide);
  Value zero = b.splat(static_cast<double>(1 << (bits - 1)), wide);
  int64_t last = b.rank(q) - 1;
  if (node.has(3)) {
    Value all = unpackBits(b, b.gather(node.in(3), indices, 0), bits);
    zero = b.convert(b.sliceAxis(all, last, b.c(0), b.dim(scale, last)), wide);
  }
  // Repeats the parameters of a block along it.
  auto widen = [&](Value x) {
    if (b.rank(x) == 0)
      return x;
    Dims dims = b.dims(x), flat = dims;
    dims.push_back(b.c(block));
    flat[last] = flat[last] * block;
    Value repeated =
        b.reshape(b.broadcast(b.unsqueeze(x, {last + 1}), dims), flat);
    return b.sliceAxis(repeated, last, b.c(0), b.dim(q, last));
  };
  node.result(b.convert(b.mul(b.sub(q, widen(zero)), widen(scale)), element));
}

//===----------------------------------------------------------------------===//
// A float operator between two scales
//===----------------------------------------------------------------------===//

/// (operand - zero point) * scale of operands i, i + 1 and i + 2.
static Value dequantizeOperand(NodeContext &node, unsigned i) {
  GraphBuilder &b = node.b;
  Value x = node.in(i), zero = node.maybe(i + 2);
  zero = zero ? asScalar(b, zero) : b.splatInt(0, b.element(x));
  return b.emit("graph.dequantize", {x, asScalar(b, node.in(i + 1)), zero});
}

/// Rounds to the type of operand 0 with scale i and zero point i + 1.
static Value quantizeResult(NodeContext &node, Value y, unsigned i,
                            Type element) {
  GraphBuilder &b = node.b;
  Value zero = node.maybe(i + 1);
  zero = zero ? asScalar(b, zero) : b.splatInt(0, element);
  return b.emit("graph.quantize", {y, asScalar(b, node.in(i)), zero});
}

static void finish(NodeContext &node, Value y, unsigned i) {
  node.result(quantizeResult(node, y, i, node.b.element(node.in(0))));
}

static void convertQLinearAdd(NodeContext &node) {
  finish(node,
         node.b.add(dequantizeOperand(node, 0), dequantizeOperand(node, 3)), 6);
}
static void convertQLinearMul(NodeContext &node) {
  finish(node,
         node.b.mul(dequantizeOperand(node, 0), dequantizeOperand(node, 3)), 6);
}
static void convertQLinearSigmoid(NodeContext &node) {
  finish(node, node.b.unary("graph.sigmoid", dequantizeOperand(node, 0)), 3);
}
static void convertQLinearLeakyRelu(NodeContext &node) {
  GraphBuilder &b = node.b;
  finish(node,
         b.emit("graph.leaky_relu", {dequantizeOperand(node, 0)},
                {b.f64("alpha", node.f("alpha", 0.01f))}),
         3);
}
static void convertQLinearSoftmax(NodeContext &node) {
  GraphBuilder &b = node.b;
  if (node.i("opset", 13) < 13)
    refuse("Softmax of an opset below 13");
  Value x = dequantizeOperand(node, 0);
  int64_t axis = normalizeAxis(node.i("axis", -1), b.rank(x));
  finish(node, makeSoftmax(b, x, axis), 3);
}
static void convertQLinearGlobalAveragePool(NodeContext &node) {
  GraphBuilder &b = node.b;
  if (node.i("channels_last", 0))
    refuse("channels_last");
  Value x = dequantizeOperand(node, 0);
  finish(node,
         makeMean(b, x, llvm::to_vector(llvm::seq<int64_t>(2, b.rank(x)))), 3);
}
static void convertQLinearAveragePool(NodeContext &node) {
  GraphBuilder &b = node.b;
  if (node.i("channels_last", 0))
    refuse("channels_last");
  Value x = dequantizeOperand(node, 0);
  Window window = readWindow(node, x, node.is("kernel_shape"));
  Dims out{b.dim(x, 0), b.dim(x, 1)};
  out.append(windowOutput(b, x, window,
                          node.i("ceil_mode", 0) &&
                              node.s("auto_pad", "NOTSET") == "NOTSET"));
  SmallVector<NamedAttribute> attributes{
      b.attr("kind",
             graph::PoolKindAttr::get(b.context(), graph::PoolKind::avg)),
      b.i64s("kernel", window.kernel),
      b.i64s("strides", window.strides),
      b.i64s("dilations", window.dilations),
      b.i64s("pads_low", window.low),
      b.i64s("pads_high", window.high)};
  if (node.i("count_include_pad", 0))
    attributes.push_back(b.attr("count_include_pad", b.builder.getUnitAttr()));
  finish(
      node,
      b.emit("graph.pool", {x}, attributes, graph::makeTensorType(out, f32(b))),
      3);
}

/// condition ? x : y, each (tensor, scale, zero point).
static void convertQLinearWhere(NodeContext &node) {
  Value y = node.b.select(node.in(0), dequantizeOperand(node, 1),
                          dequantizeOperand(node, 4));
  node.result(quantizeResult(node, y, 7, node.b.element(node.in(1))));
}

/// Result scale and zero point, then (tensor, scale, zero point) of each part.
static void convertQLinearConcat(NodeContext &node) {
  GraphBuilder &b = node.b;
  if (node.numInputs() < 5 || (node.numInputs() - 2) % 3)
    refuseMalformed("wants a tensor, a scale and a zero point for each part");
  SmallVector<Value> parts;
  for (unsigned i = 2; i < node.numInputs(); i += 3)
    parts.push_back(dequantizeOperand(node, i));
  Value y = b.concat(parts, normalizeAxis(node.i("axis", 0), b.rank(parts[0])));
  node.result(quantizeResult(node, y, 0, b.element(node.in(2))));
}

//===----------------------------------------------------------------------===//
// Integer products
//===----------------------------------------------------------------------===//

/// x minus its zero point in i32; a vector is one zero point a column.
static Value centered(GraphBuilder &b, Value x, Value zero) {
  Value wide = b.convert(x, i32(b));
  if (!zero)
    return wide;
  if (b.rank(zero) == 1 && graph::constantValue(b.dim(zero, 0)) == 1)
    zero = asScalar(b, zero);
  return b.sub(wide, b.convert(zero, i32(b)));
}

/// One scale, or one a column.
static Value columnScale(GraphBuilder &b, Value scale) {
  return b.rank(scale) == 1 && graph::constantValue(b.dim(scale, 0)) == 1
             ? asScalar(b, scale)
             : scale;
}

static void convertQGemm(NodeContext &node) {
  GraphBuilder &b = node.b;
  auto matrix = [&](unsigned i, StringRef flag) {
    return node.i(flag, 0) ? b.transpose(node.in(i), {1, 0}) : node.in(i);
  };
  Value sum =
      makeMatMul(b, centered(b, matrix(0, "transA"), asScalar(b, node.in(2))),
                 centered(b, matrix(3, "transB"), node.in(5)));
  if (Value bias = node.maybe(6))
    sum = b.add(sum, bias);
  Value scale = b.mul(asScalar(b, node.in(1)), columnScale(b, node.in(4)));
  if (double alpha = node.f("alpha", 1); alpha != 1)
    scale = b.mulScalar(scale, alpha);
  Value y = b.mul(b.convert(sum, f32(b)), scale);
  if (Value zero = node.maybe(8))
    y = b.emit("graph.quantize",
               {y, asScalar(b, node.in(7)), asScalar(b, zero)});
  node.result(y);
}

Value dlc::makeIntegerMatMul(GraphBuilder &b, Value x, Value xZero,
                             Value xScale, Value y, Value yZero, Value yScale) {
  Value sum = makeMatMul(b, centered(b, x, xZero), centered(b, y, yZero));
  Value scale = b.mul(columnScale(b, xScale), columnScale(b, yScale));
  return b.mul(b.convert(sum, f32(b)), b.convert(scale, f32(b)));
}

static void convertMatMulIntegerToFloat(NodeContext &node) {
  Value y = makeIntegerMatMul(node.b, node.in(0), node.maybe(4), node.in(2),
                              node.in(1), node.maybe(5), node.in(3));
  if (Value bias = node.maybe(6))
    y = node.b.add(y, bias);
  node.result(y);
}

/// DynamicQuantizeLinear of a, an integer product, and the scales.
static void convertDynamicQuantizeMatMul(NodeContext &node) {
  DynamicQuantized q = makeDynamicQuantize(node.b, node.in(0));
  Value y = makeIntegerMatMul(node.b, q.value, q.zeroPoint, q.scale, node.in(1),
                              node.maybe(3), node.in(2));
  if (Value bias = node.maybe(4))
    y = node.b.add(y, bias);
  node.result(y);
}

void dlc::addContribQuantization(ConverterTable &table) {
  const std::pair<const char *, NodeConverter> rows[] = {
      {"MatMulNBits", convertMatMulNBits},
      {"GatherBlockQuantized", convertGatherBlockQuantized},
      {"QLinearAdd", convertQLinearAdd},
      {"QLinearMul", convertQLinearMul},
      {"QLinearSigmoid", convertQLinearSigmoid},
      {"QLinearLeakyRelu", convertQLinearLeakyRelu},
      {"QLinearSoftmax", convertQLinearSoftmax},
      {"QLinearGlobalAveragePool", convertQLinearGlobalAveragePool},
      {"QLinearAveragePool", convertQLinearAveragePool},
      {"QLinearWhere", convertQLinearWhere},
      {"QLinearConcat", convertQLinearConcat},
      {"QGemm", convertQGemm},
      {"MatMulIntegerToFloat", convertMatMulIntegerToFloat},
      {"DynamicQuantizeMatMul", convertDynamicQuantizeMatMul},
      {"QuantizeLinear", table.lookup("QuantizeLinear")},
      {"DequantizeLinear", table.lookup("DequantizeLinear")},
  };
  for (auto [name, converter] : rows)
    table[("com.microsoft." + StringRef(name)).str()] = converter;
}
