//===- ConvertRandom.cpp - noise ------------------------------------------===//
//
// Random tensors are a hash of each element's number and the seed: the same in
// every run and on every target. A node without a seed takes one from its name.
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

#include "llvm/ADT/bit.h"
#include "llvm/Support/xxhash.h"

#include <cmath>

using namespace dlc;
using namespace mlir;

static uint32_t readSeed(NodeContext &node) {
  if (node.hasAttr("seed"))
    return llvm::bit_cast<uint32_t>(static_cast<float>(node.f("seed", 0)));
  return static_cast<uint32_t>(xxh3_64bits(onnxd::getNodeName(node.op)));
}

/// Uniform numbers in [0, 1) with these dims, in f32; `stream` tells apart
/// several of one node.
static Value makeUniform(NodeContext &node, ArrayRef<AffineExpr> dims,
                         uint32_t stream) {
  GraphBuilder &b = node.b;
  Type u32 = b.builder.getIntegerType(32, /*isSigned=*/false);
  auto constant = [&](uint32_t value) { return b.splatInt(value, u32); };
  auto mix = [&](Value x, int shift) {
    return b.emit("graph.bit_xor",
                  {x, b.emit("graph.shr", {x, constant(shift)})});
  };
  // The finalizer of MurmurHash3 over the element's number.
  Value x = b.convert(
      b.iota(graph::product(b.context(), dims), b.builder.getI64Type()), u32);
  x = b.add(b.mul(x, constant(0x9E3779B9u)),
            constant(readSeed(node) + stream * 0x85EBCA77u));
  x = b.mul(mix(x, 16), constant(0x85EBCA6Bu));
  x = b.mul(mix(x, 13), constant(0xC2B2AE35u));
  x = b.emit("graph.shr", {mix(x, 16), constant(8)});
  Value unit =
      b.mulScalar(b.convert(x, b.builder.getF32Type()), std::ldexp(1.0, -24));
  return b.reshape(unit, dims);
}

/// Box and Muller: two uniform numbers give a normal one.
static Value makeNormal(NodeContext &node, ArrayRef<AffineExpr> dims) {
  GraphBuilder &b = node.b;
  Value u = makeUniform(node, dims, 0), v = makeUniform(node, dims, 1);
  Type f32 = b.builder.getF32Type();
  Value radius =
      b.unary("graph.sqrt",
              b.mulScalar(b.unary("graph.log", b.sub(b.splat(1, f32), u)), -2));
  return b.mul(radius, b.unary("graph.cos", b.mulScalar(v, 2 * M_PI)));
}

static Type readType(NodeContext &node, Type otherwise) {
  int64_t type = node.i("dtype", 0);
  return type ? onnxd::getElementType(node.b.context(), static_cast<int>(type))
              : otherwise;
}

static Dims readShape(NodeContext &node) {
  Dims dims;
  for (int64_t size : node.is("shape")) {
    if (size < 0)
      refuseMalformed("a dim is negative");
    dims.push_back(node.b.c(size));
  }
  return dims;
}

static void finishUniform(NodeContext &node, ArrayRef<AffineExpr> dims,
                          Type element) {
  double low = node.f("low", 0), high = node.f("high", 1);
  Value unit = makeUniform(node, dims, 0);
  node.result(node.b.convert(
      node.b.addScalar(node.b.mulScalar(unit, high - low), low), element));
}

static void finishNormal(NodeContext &node, ArrayRef<AffineExpr> dims,
                         Type element) {
  Value normal = makeNormal(node, dims);
  node.result(node.b.convert(
      node.b.addScalar(node.b.mulScalar(normal, node.f("scale", 1)),
                       node.f("mean", 0)),
      element));
}

static void convertRandomUniform(NodeContext &node) {
  finishUniform(node, readShape(node),
                readType(node, node.b.builder.getF32Type()));
}
static void convertRandomNormal(NodeContext &node) {
  finishNormal(node, readShape(node),
               readType(node, node.b.builder.getF32Type()));
}
static void convertRandomUniformLike(NodeContext &node) {
  Value x = node.in(0);
  finishUniform(node, node.b.dims(x), readType(node, node.b.element(x)));
}
static void convertRandomNormalLike(NodeContext &node) {
  Value x = node.in(0);
  finishNormal(node, node.b.dims(x), readType(node, node.b.element(x)));
}

static void convertBernoulli(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Value hit = b.emit("graph.lt", {makeUniform(node, b.dims(x), 0),
                                  b.convert(x, b.builder.getF32Type())});
  node.result(b.convert(hit, readType(node, b.element(x))));
}

/// Dropout whose mode or ratio only the run tells.
static void convertRuntimeDropout(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Type f32 = b.builder.getF32Type();
  auto scalar = [&](Value value) {
    return b.reshape(value, ArrayRef<int64_t>{});
  };
  Value training = scalar(node.in(2));
  Value ratio =
      node.has(1) ? scalar(b.convert(node.in(1), f32)) : b.splat(0.5, f32);
  Value stays = b.emit("graph.ge", {makeUniform(node, b.dims(x), 0), ratio});
  Value scale = b.div(b.splat(1, f32), b.sub(b.splat(1, f32), ratio));
  Value dropped = b.select(stays, b.mul(x, b.convert(scale, b.element(x))),
                           b.splat(0, b.element(x)));
  node.result(0, b.select(training, dropped, x));
  if (node.wants(1))
    node.result(
        1, b.emit("graph.bit_or", {stays, b.unary("graph.bit_not", training)}));
}

/// Inference: the data passes and the mask is all true. In training an element
/// stays with probability 1 - ratio and is scaled up by its inverse.
static void convertDropout(NodeContext &node) {
  GraphBuilder &b = node.b;
  bool isKnown = !node.has(2) || node.shapeValue(2).has_value();
  bool isRatioKnown =
      !node.has(2) || !node.has(1) || GraphBuilder::asConstant(node.in(1));
  if (!isKnown || !isRatioKnown)
    return convertRuntimeDropout(node);
  Value x = node.in(0);
  Type element = b.element(x);
  bool training = false;
  if (node.has(2)) {
    SmallVector<int64_t> flag = node.ints(2, "training_mode");
    training = flag.size() == 1 && flag[0] != 0;
  }
  SmallVector<double> ratio{0.5};
  if (training && node.has(1))
    ratio = node.floats(1, "ratio");
  if (ratio.size() != 1 || !(ratio[0] >= 0 && ratio[0] < 1))
    refuseMalformed("'ratio' must be one number in [0, 1)");
  if (!training || ratio[0] == 0) {
    node.result(0, x);
    if (node.wants(1))
      node.result(1,
                  b.broadcast(b.splatInt(1, b.builder.getI1Type()), b.dims(x)));
    return;
  }
  Value keep = b.emit("graph.ge", {makeUniform(node, b.dims(x), 0),
                                   b.splat(ratio[0], b.builder.getF32Type())});
  node.result(0, b.select(keep, b.mulScalar(x, 1 / (1 - ratio[0])),
                          b.splat(0, element)));
  node.result(1, keep);
}

void dlc::addRandom(ConverterTable &table) {
  table["RandomUniform"] = convertRandomUniform;
  table["RandomNormal"] = convertRandomNormal;
  table["RandomUniformLike"] = convertRandomUniformLike;
  table["RandomNormalLike"] = convertRandomNormalLike;
  table["Bernoulli"] = convertBernoulli;
  table["Dropout"] = convertDropout;
}
