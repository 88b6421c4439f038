//===- ConvertPool.cpp - window and whole-image reductions ----------------===//
//
// MaxPool, AveragePool, LpPool and the Global forms, which are reductions over
// all spatial axes.
//
//===----------------------------------------------------------------------===//

#include "Windows.h"

using namespace dlc;
using namespace mlir;

static Value emitPool(NodeContext &node, graph::PoolKind kind) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Window window = readWindow(node, x, node.is("kernel_shape"));
  bool ceil =
      node.i("ceil_mode", 0) && node.s("auto_pad", "NOTSET") == "NOTSET";
  Dims out{b.dim(x, 0), b.dim(x, 1)};
  out.append(windowOutput(b, x, window, ceil));
  SmallVector<NamedAttribute> attributes{
      b.attr("kind", graph::PoolKindAttr::get(b.context(), kind)),
      b.i64s("kernel", window.kernel),
      b.i64s("strides", window.strides),
      b.i64s("dilations", window.dilations),
      b.i64s("pads_low", window.low),
      b.i64s("pads_high", window.high)};
  if (kind == graph::PoolKind::avg && node.i("count_include_pad", 0))
    attributes.push_back(b.attr("count_include_pad", b.builder.getUnitAttr()));
  if (kind == graph::PoolKind::lp)
    attributes.push_back(b.f64("p", node.i("p", 2)));
  return b.emit("graph.pool", {x}, attributes,
                graph::makeTensorType(out, b.element(x)));
}

static void convertMaxPool(NodeContext &node) {
  if (node.wants(1))
    refuse("the Indices result");
  node.result(emitPool(node, graph::PoolKind::max));
}
static void convertAveragePool(NodeContext &node) {
  node.result(emitPool(node, graph::PoolKind::avg));
}
static void convertLpPool(NodeContext &node) {
  node.result(emitPool(node, graph::PoolKind::lp));
}

static SmallVector<int64_t> spatialAxes(NodeContext &node, Value x) {
  SmallVector<int64_t> axes;
  for (int64_t i = 2; i < node.b.rank(x); ++i)
    axes.push_back(i);
  return axes;
}

static void convertGlobalMaxPool(NodeContext &node) {
  Value x = node.in(0);
  node.result(node.b.reduce(x, graph::FoldKind::max, spatialAxes(node, x)));
}

static void convertGlobalAveragePool(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Type element = b.element(x);
  SmallVector<int64_t> axes = spatialAxes(node, x);
  Value wide = b.convert(x, wideType(element));
  node.result(b.convert(makeMean(b, wide, axes), element));
}

static void convertGlobalLpPool(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Type element = b.element(x), wide = wideType(element);
  double p = node.i("p", 2);
  Value powers = b.emit("graph.pow", {b.unary("graph.abs", b.convert(x, wide)),
                                      b.splat(p, wide)});
  Value sum = b.reduce(powers, graph::FoldKind::add, spatialAxes(node, x));
  node.result(
      b.convert(b.emit("graph.pow", {sum, b.splat(1 / p, wide)}), element));
}

void dlc::addPooling(ConverterTable &table) {
  table["MaxPool"] = convertMaxPool;
  table["AveragePool"] = convertAveragePool;
  table["LpPool"] = convertLpPool;
  table["GlobalMaxPool"] = convertGlobalMaxPool;
  table["GlobalAveragePool"] = convertGlobalAveragePool;
  table["GlobalLpPool"] = convertGlobalLpPool;
}
