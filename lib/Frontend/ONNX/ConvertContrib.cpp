//===- ConvertContrib.cpp - com.microsoft: norms, activations, products ---===//
//
// The operators that onnxruntime's optimizer and model builders emit, as
// functions of the same parts that the standard operators are made of.
//
//===----------------------------------------------------------------------===//

#include "Contrib.h"

using namespace dlc;
using namespace mlir;
using graph::FoldKind;

//===----------------------------------------------------------------------===//
// Norms
//===----------------------------------------------------------------------===//

namespace {
/// A normalised tensor and its statistics, all in the wide type.
struct Normalized {
  Value value, mean, inverse;
};
} // namespace

/// Over the axes from `axis` on; without a mean the root of the mean square.
static Normalized normalize(GraphBuilder &b, Value wide, int64_t axis,
                            double epsilon, bool subtractMean) {
  SmallVector<int64_t> axes =
      llvm::to_vector(llvm::seq<int64_t>(axis, b.rank(wide)));
  Normalized n;
  if (subtractMean) {
    n.mean = makeMean(b, wide, axes);
    wide = b.sub(wide, n.mean);
  }
  Value square = makeMean(b, b.mul(wide, wide), axes);
  n.inverse = b.unary("graph.rsqrt", b.addScalar(square, epsilon));
  n.value = b.mul(wide, n.inverse);
  return n;
}

Value dlc::normalizeHeads(NodeContext &node, Value x, Value weight) {
  GraphBuilder &b = node.b;
  Type element = b.element(x), wide = wideType(element);
  Normalized n = normalize(b, b.convert(x, wide), b.rank(x) - 1,
                           node.f("qk_norm_epsilon", 1e-6),
                           /*subtractMean=*/false);
  return b.convert(b.mul(n.value, b.convert(weight, wide)), element);
}

/// input + skip + bias, its norm over the last axis times gamma plus beta. All
/// in f32, rounded once.
static void convertSkipNorm(NodeContext &node, bool subtractMean) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Type element = b.element(x), wide = wideType(element);
  auto widened = [&](unsigned i) { return b.convert(node.in(i), wide); };
  Value sum = b.add(widened(0), widened(1));
  unsigned bias = subtractMean ? 4 : 3;
  if (node.has(bias))
    sum = b.add(sum, widened(bias));
  Normalized n = normalize(b, sum, b.rank(sum) - 1, node.f("epsilon", 1e-12),
                           subtractMean);
  Value y = b.mul(n.value, widened(2));
  if (subtractMean && node.has(3))
    y = b.add(y, widened(3));
  node.result(0, b.convert(y, element));
  if (node.wants(1) || node.wants(2))
    refuse("the statistics of training");
  node.result(3, b.convert(sum, element));
}
static void convertSkipLayerNormalization(NodeContext &node) {
  convertSkipNorm(node, /*subtractMean=*/true);
}
static void convertSkipSimplifiedLayerNormalization(NodeContext &node) {
  convertSkipNorm(node, /*subtractMean=*/false);
}

static void convertSimplifiedLayerNormalization(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0), scale = node.in(1);
  Type wide = wideType(b.element(x));
  Normalized n = normalize(b, b.convert(x, wide),
                           normalizeAxis(node.i("axis", -1), b.rank(x)),
                           node.f("epsilon", 1e-5), /*subtractMean=*/false);
  node.result(
      0, b.convert(b.mul(n.value, b.convert(scale, wide)), b.element(scale)));
  node.result(1, n.inverse);
}

static void convertEmbedLayerNormalization(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value ids = node.in(0), words = node.in(2), places = node.in(3);
  if (b.rank(ids) != 2 || b.rank(words) != 2 || b.rank(places) != 2)
    refuseMalformed("ids and embeddings must be matrices");
  Type i32 = b.builder.getI32Type();
  Value at = node.has(8) ? node.in(8) : b.iota(b.dim(ids, 1), i32);
  Value sum = b.add(b.gather(words, ids, 0), b.gather(places, at, 0));
  node.result(2, sum);
  if (node.has(1) != node.has(4))
    refuseMalformed("segment ids and segment embeddings belong together");
  if (node.has(1))
    sum = b.add(sum, b.gather(node.in(4), node.in(1), 0));
  Type element = b.element(words), wide = wideType(element);
  Normalized n = normalize(b, b.convert(sum, wide), 2, node.f("epsilon", 1e-12),
                           /*subtractMean=*/true);
  Value y = b.add(b.mul(n.value, b.convert(node.in(5), wide)),
                  b.convert(node.in(6), wide));
  node.result(0, b.convert(y, element));
  // The number of words of each row.
  if (node.wants(1)) {
    Value count = node.has(7)
                      ? b.squeeze(b.reduce(node.in(7), FoldKind::add, {1}), {1})
                      : b.broadcast(b.splatInt(0, i32, {1}), {b.dim(ids, 0)});
    node.result(1, count);
  }
}

//===----------------------------------------------------------------------===//
// Activations
//===----------------------------------------------------------------------===//

static Value makeGelu(GraphBuilder &b, Value x, bool tanhForm) {
  Type element = b.element(x);
  SmallVector<NamedAttribute> attributes;
  if (tanhForm)
    attributes.push_back(b.attr("tanh_form", b.builder.getUnitAttr()));
  return b.convert(
      b.emit("graph.gelu", {b.convert(x, wideType(element))}, attributes),
      element);
}

static void convertContribGelu(NodeContext &node) {
  node.result(makeGelu(node.b, node.in(0), /*tanhForm=*/false));
}
static void convertBiasGelu(NodeContext &node) {
  node.result(makeGelu(node.b, node.b.add(node.in(0), node.in(1)), false));
}
static void convertFastGelu(NodeContext &node) {
  Value x = node.in(0);
  if (node.has(1))
    x = node.b.add(x, node.in(1));
  node.result(makeGelu(node.b, x, /*tanhForm=*/true));
}
static void convertQuickGelu(NodeContext &node) {
  GraphBuilder &b = node.b;
  Type element = b.element(node.in(0));
  // 1.702 as the float that onnxruntime declares.
  Value y = b.emit("graph.swish", {b.convert(node.in(0), wideType(element))},
                   {b.f64("alpha", node.f("alpha", 1.702f))});
  node.result(b.convert(y, element));
}
/// The left half of x + bias times the gelu of the right half.
static void convertBiasSplitGelu(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = b.add(node.in(0), node.in(1));
  int64_t axis = b.rank(x) - 1;
  AffineExpr half = b.dim(x, axis).floorDiv(2);
  Value left = b.sliceAxis(x, axis, b.c(0), half),
        right = b.sliceAxis(x, axis, half, half);
  node.result(b.mul(left, makeGelu(b, right, /*tanhForm=*/false)));
}
static void convertBiasAdd(NodeContext &node) {
  node.result(node.b.add(node.b.add(node.in(0), node.in(1)), node.in(2)));
}

/// The function that a fused operator ends with.
static Value activate(NodeContext &node, Value x, ArrayRef<double> given) {
  GraphBuilder &b = node.b;
  StringRef name = node.s("activation", "");
  auto parameter = [&](size_t i, double otherwise) {
    return i < given.size() ? given[i] : otherwise;
  };
  if (name.empty())
    return x;
  if (name == "Relu" || name == "Sigmoid" || name == "Tanh")
    return b.unary(("graph." + name.lower()), x);
  if (name == "LeakyRelu")
    return b.emit("graph.leaky_relu", {x},
                  {b.f64("alpha", parameter(0, 0.01))});
  if (name == "HardSigmoid")
    return b.emit(
        "graph.hard_sigmoid", {x},
        {b.f64("alpha", parameter(0, 0.2)), b.f64("beta", parameter(1, 0.5))});
  if (name == "Clip" && given.size() == 2)
    return b.emit("graph.clip", {x, b.splat(given[0], b.element(x)),
                                 b.splat(given[1], b.element(x))});
  refuse("the activation '" + name.str() + "'");
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

static void convertFusedMatMul(NodeContext &node) {
  GraphBuilder &b = node.b;
  auto operand = [&](unsigned i, StringRef batch, StringRef matrix) {
    Value x = node.in(i);
    int64_t rank = b.rank(x);
    SmallVector<int64_t> perm = llvm::to_vector(llvm::seq<int64_t>(0, rank));
    // The first axis moves before the last one.
    if (node.i(batch, 0) && rank > 2)
      std::rotate(perm.begin(), perm.begin() + 1, perm.end() - 1);
    if (node.i(matrix, 0) && rank > 1)
      std::swap(perm[rank - 2], perm[rank - 1]);
    return b.transpose(x, perm);
  };
  Value y = makeMatMul(b, operand(0, "transBatchA", "transA"),
                       operand(1, "transBatchB", "transB"));
  double alpha = node.f("alpha", 1);
  node.result(alpha == 1 ? y : b.mulScalar(y, alpha));
}

static void convertFusedGemm(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0), y = node.in(1);
  if (b.rank(x) != 2 || b.rank(y) != 2)
    refuseMalformed("operands must be matrices");
  x = node.i("transA", 0) ? b.transpose(x, {1, 0}) : x;
  y = node.i("transB", 0) ? b.transpose(y, {1, 0}) : y;
  Value product = makeMatMul(b, x, y);
  double alpha = node.f("alpha", 1), beta = node.f("beta", 1);
  if (alpha != 1)
    product = b.mulScalar(product, alpha);
  if (Value bias = node.maybe(2); bias && beta != 0)
    product = b.add(product, beta == 1 ? bias : b.mulScalar(bias, beta));
  SmallVector<double> given;
  for (StringRef name : {"activation_alpha", "activation_beta"})
    if (node.hasAttr(name))
      given.push_back(node.f(name, 0));
  node.result(activate(node, product, given));
}

/// activation(conv(x, w) + bias + z)
static void convertFusedConv(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value y = makeConv(node, node.in(0), node.in(1), {}, {}, {});
  if (Value bias = node.maybe(2)) {
    Dims dims(b.rank(y), b.c(1));
    dims[1] = b.dim(bias, 0);
    y = b.add(y, b.reshape(bias, dims));
  }
  if (Value z = node.maybe(3))
    y = b.add(y, z);
  node.result(activate(node, y, node.fs("activation_params")));
}

void dlc::addContrib(ConverterTable &table) {
  table["SimplifiedLayerNormalization"] = convertSimplifiedLayerNormalization;
  const std::pair<const char *, NodeConverter> rows[] = {
      {"SkipLayerNormalization", convertSkipLayerNormalization},
      {"SkipSimplifiedLayerNormalization",
       convertSkipSimplifiedLayerNormalization},
      {"EmbedLayerNormalization", convertEmbedLayerNormalization},
      {"Gelu", convertContribGelu},
      {"BiasGelu", convertBiasGelu},
      {"FastGelu", convertFastGelu},
      {"QuickGelu", convertQuickGelu},
      {"BiasSplitGelu", convertBiasSplitGelu},
      {"BiasAdd", convertBiasAdd},
      {"FusedMatMul", convertFusedMatMul},
      {"FusedGemm", convertFusedGemm},
      {"FusedConv", convertFusedConv},
  };
  for (auto [name, converter] : rows)
    table[("com.microsoft." + StringRef(name)).str()] = converter;
  table["com.microsoft.LayerNormalization"] =
      table.lookup("LayerNormalization");
  addContribAttention(table);
  addContribPagedAttention(table);
  addContribGroupQueryAttention(table);
  addContribQuantization(table);
}
