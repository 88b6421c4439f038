//===- ConvertNormalization.cpp - softmax and the norms -------------------===//
//
// Decomposed into reductions and elementwise operators; fusion puts them back
// together. 16-bit floats are computed in f32 and rounded once at the end.
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

using namespace dlc;
using namespace mlir;
using graph::FoldKind;

/// The number of elements folded by these axes, as a scalar of this type.
Value dlc::makeCount(GraphBuilder &b, Value x, ArrayRef<int64_t> axes,
                     Type element) {
  AffineExpr count = b.c(1);
  for (int64_t axis : axes)
    count = count * b.dim(x, axis);
  count = graph::simplify(count);
  if (std::optional<int64_t> n = graph::constantValue(count))
    return b.splat(static_cast<double>(*n), element);
  return b.size(count, element);
}

Value dlc::makeMean(GraphBuilder &b, Value x, ArrayRef<int64_t> axes) {
  return b.div(b.reduce(x, FoldKind::add, axes),
               makeCount(b, x, axes, b.element(x)));
}

Value dlc::makeSoftmax(GraphBuilder &b, Value x, int64_t axis) {
  Value e = b.unary("graph.exp", b.sub(x, b.reduce(x, FoldKind::max, {axis})));
  return b.div(e, b.reduce(e, FoldKind::add, {axis}));
}

namespace {
/// A tensor minus its mean, and the mean of the squares of that.
struct Moments {
  Value mean, centered, variance;
};
} // namespace

static Moments makeMoments(GraphBuilder &b, Value x, ArrayRef<int64_t> axes) {
  Moments m;
  m.mean = makeMean(b, x, axes);
  m.centered = b.sub(x, m.mean);
  m.variance = makeMean(b, b.mul(m.centered, m.centered), axes);
  return m;
}

static SmallVector<int64_t> axesFrom(int64_t first, int64_t rank) {
  return llvm::to_vector(llvm::seq<int64_t>(first, rank));
}

/// (C) as (1, C, 1, ...) beside a tensor (N, C, ...).
static Value alongChannels(GraphBuilder &b, Value vector, int64_t rank) {
  SmallVector<AffineExpr> dims(rank, b.c(1));
  dims[rank > 1 ? 1 : 0] = b.dim(vector, 0);
  return b.reshape(vector, dims);
}

static void convertSoftmax(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Type element = b.element(x);
  int64_t axis = normalizeAxis(node.i("axis", -1), b.rank(x));
  Value y = makeSoftmax(b, b.convert(x, wideType(element)), axis);
  node.result(b.convert(y, element));
}

static void convertLogSoftmax(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Type element = b.element(x);
  int64_t axis = normalizeAxis(node.i("axis", -1), b.rank(x));
  Value wide = b.convert(x, wideType(element));
  Value shifted = b.sub(wide, b.reduce(wide, FoldKind::max, {axis}));
  Value sum = b.reduce(b.unary("graph.exp", shifted), FoldKind::add, {axis});
  node.result(b.convert(b.sub(shifted, b.unary("graph.log", sum)), element));
}

/// 1 where the largest element of the axis is (the first one), else 0.
static void convertHardmax(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  int64_t axis = normalizeAxis(node.i("axis", -1), b.rank(x));
  Value winner = b.reduce(x, FoldKind::argmax, {axis});
  Dims along(b.rank(x), b.c(1));
  along[axis] = b.dim(x, axis);
  Value positions =
      b.reshape(b.iota(b.dim(x, axis), b.builder.getI64Type()), along);
  node.result(b.convert(b.emit("graph.eq", {positions, winner}), b.element(x)));
}

static void convertBatchNormalization(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  int64_t rank = b.rank(x);
  if (rank < 2)
    refuse("an operand of rank " + std::to_string(rank));
  Type element = b.element(x), wide = wideType(element);
  auto channel = [&](unsigned i) {
    return alongChannels(b, b.convert(node.in(i), wide), rank);
  };
  Value scale = channel(1), bias = channel(2), mean = channel(3),
        variance = channel(4);
  Value data = b.convert(x, wide);
  if (node.i("training_mode", 0)) {
    SmallVector<int64_t> axes{0};
    axes.append(axesFrom(2, rank));
    Moments m = makeMoments(b, data, axes);
    double momentum = node.f("momentum", 0.9);
    auto running = [&](unsigned result, unsigned operand, Value now) {
      if (!node.wants(result))
        return;
      Value old = b.convert(node.in(operand), wide);
      Value flat = b.reshape(now, b.dims(old));
      Value next =
          b.add(b.mulScalar(old, momentum), b.mulScalar(flat, 1 - momentum));
      node.result(result, b.convert(next, b.element(node.in(operand))));
    };
    running(1, 3, m.mean);
    running(2, 4, m.variance);
    mean = m.mean;
    variance = m.variance;
  }
  // scale / sqrt(variance + epsilon) is constant in inference: it folds, and
  // what remains is one multiplication and one addition.
  Value factor =
      b.div(scale, b.unary("graph.sqrt",
                           b.addScalar(variance, node.f("epsilon", 1e-5))));
  Value shift = b.sub(bias, b.mul(mean, factor));
  node.result(0, b.convert(b.add(b.mul(data, factor), shift), element));
}

static void convertInstanceNormalization(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  int64_t rank = b.rank(x);
  Type element = b.element(x), wide = wideType(element);
  Moments m = makeMoments(b, b.convert(x, wide), axesFrom(2, rank));
  Value inverse =
      b.unary("graph.rsqrt", b.addScalar(m.variance, node.f("epsilon", 1e-5)));
  Value scale = alongChannels(b, b.convert(node.in(1), wide), rank);
  Value bias = alongChannels(b, b.convert(node.in(2), wide), rank);
  node.result(b.convert(b.add(b.mul(b.mul(m.centered, inverse), scale), bias),
                        element));
}

/// The type a norm computes in: `stash_type` for narrower operands.
static Type stashType(NodeContext &node, Type element) {
  return node.i("stash_type", 1) == 1 ? wideType(element) : element;
}

static void convertLayerNormalization(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  int64_t rank = b.rank(x), axis = normalizeAxis(node.i("axis", -1), rank);
  Type element = b.element(x), wide = stashType(node, element);
  Moments m = makeMoments(b, b.convert(x, wide), axesFrom(axis, rank));
  Value inverse =
      b.unary("graph.rsqrt", b.addScalar(m.variance, node.f("epsilon", 1e-5)));
  // The normalised value is rounded to the operand's type before scaling.
  Value y = b.convert(b.mul(m.centered, inverse), element);
  y = b.mul(y, node.in(1));
  if (Value bias = node.maybe(2))
    y = b.add(y, bias);
  node.result(0, y);
  node.result(1, m.mean);
  node.result(2, inverse);
}

static void convertRMSNormalization(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  int64_t rank = b.rank(x), axis = normalizeAxis(node.i("axis", -1), rank);
  Type element = b.element(x), wide = stashType(node, element);
  Value data = b.convert(x, wide);
  Value square = makeMean(b, b.mul(data, data), axesFrom(axis, rank));
  Value inverse =
      b.unary("graph.rsqrt", b.addScalar(square, node.f("epsilon", 1e-5)));
  Value y = b.convert(b.mul(data, inverse), element);
  Value scale = b.convert(node.in(1), element);
  node.result(b.mul(y, scale));
}

static void convertGroupNormalization(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  int64_t rank = b.rank(x), groups = node.i("num_groups", 1);
  if (rank < 2 || groups < 1)
    refuseMalformed(
        "wants a positive num_groups and an operand of rank 2 or more");
  Type element = b.element(x), wide = stashType(node, element);
  Dims dims = b.dims(x), split{dims[0], b.c(groups), dims[1].floorDiv(groups)};
  split.append(dims.begin() + 2, dims.end());
  Value grouped = b.reshape(b.convert(x, wide), split);
  Moments m = makeMoments(b, grouped, axesFrom(2, split.size()));
  Value inverse =
      b.unary("graph.rsqrt", b.addScalar(m.variance, node.f("epsilon", 1e-5)));
  Value y = b.convert(b.reshape(b.mul(m.centered, inverse), dims), element);
  y = b.mul(y, alongChannels(b, node.in(1), rank));
  node.result(b.add(y, alongChannels(b, node.in(2), rank)));
}

static void convertLpNormalization(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Type element = b.element(x);
  int64_t axis = normalizeAxis(node.i("axis", -1), b.rank(x)),
          p = node.i("p", 2);
  Value data = b.convert(x, wideType(element));
  Value norm;
  if (p == 1)
    norm = b.reduce(b.unary("graph.abs", data), FoldKind::add, {axis});
  else if (p == 2)
    norm = b.unary("graph.sqrt",
                   b.reduce(b.mul(data, data), FoldKind::add, {axis}));
  else
    refuse("p = " + std::to_string(p));
  // A zero norm gives zeros.
  Value zero = b.splat(0, b.element(data));
  Value safe = b.select(b.emit("graph.eq", {norm, zero}),
                        b.splat(1, b.element(data)), norm);
  node.result(b.convert(b.div(data, safe), element));
}

static void convertMeanVarianceNormalization(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Type element = b.element(x);
  SmallVector<int64_t> axes =
      normalizeAxes(node.is("axes", {0, 2, 3}), b.rank(x));
  Moments m = makeMoments(b, b.convert(x, wideType(element)), axes);
  // As the operator's definition has it: epsilon after the root.
  Value deviation = b.addScalar(b.unary("graph.sqrt", m.variance), 1e-9);
  node.result(b.convert(b.div(m.centered, deviation), element));
}

/// x / (bias + alpha / size * sum of squares over nearby channels) ** beta
static void convertLRN(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Type element = b.element(x);
  int64_t size = node.i("size", 1), rank = b.rank(x);
  if (size < 1 || rank < 2 || size > (1 << 20))
    refuseMalformed("wants a positive size and an operand of rank 2 or more");
  Value data = b.convert(x, wideType(element));
  Value square = b.mul(data, data);
  // Channels as the one spatial axis of a pool over (N, 1, C, rest).
  Dims dims = b.dims(x);
  AffineExpr rest = graph::product(b.context(), ArrayRef(dims).drop_front(2));
  Value image = b.reshape(square, {dims[0], b.c(1), dims[1], rest});
  int64_t low = (size - 1) / 2, high = size - 1 - low;
  Value sum = b.emit("graph.pool", {image},
                     {b.attr("kind", graph::PoolKindAttr::get(
                                         b.context(), graph::PoolKind::sum)),
                      b.i64s("kernel", {size, 1}), b.i64s("strides", {1, 1}),
                      b.i64s("dilations", {1, 1}), b.i64s("pads_low", {low, 0}),
                      b.i64s("pads_high", {high, 0})},
                     image.getType());
  Value base = b.addScalar(
      b.mulScalar(b.reshape(sum, dims), node.f("alpha", 1e-4) / size),
      node.f("bias", 1));
  Value scale = b.emit("graph.pow",
                       {base, b.splat(node.f("beta", 0.75), b.element(base))});
  node.result(b.convert(b.div(data, scale), element));
}

void dlc::addNormalization(ConverterTable &table) {
  table["Softmax"] = convertSoftmax;
  table["LogSoftmax"] = convertLogSoftmax;
  table["Hardmax"] = convertHardmax;
  table["BatchNormalization"] = convertBatchNormalization;
  table["InstanceNormalization"] = convertInstanceNormalization;
  table["LayerNormalization"] = convertLayerNormalization;
  table["RMSNormalization"] = convertRMSNormalization;
  table["GroupNormalization"] = convertGroupNormalization;
  table["LpNormalization"] = convertLpNormalization;
  table["MeanVarianceNormalization"] = convertMeanVarianceNormalization;
  table["LRN"] = convertLRN;
}
