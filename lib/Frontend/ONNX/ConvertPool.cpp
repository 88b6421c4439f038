//===- ConvertPool.cpp - window and whole-image reductions ----------------===//
//
// MaxPool, AveragePool, LpPool and the Global forms, which are reductions over
// all spatial axes.
//
//===----------------------------------------------------------------------===//

#include "Windows.h"

#include <cmath>

using namespace dlc;
using namespace mlir;

/// Below every value: -inf, or the smallest integer.
static Value makeLowest(GraphBuilder &b, Type element) {
  if (isFloat(element))
    return b.splat(-INFINITY, element);
  unsigned bits = element.getIntOrFloatBitWidth();
  return b.splatInt(
      element.isUnsignedInteger() ? 0 : -(int64_t(1) << (bits - 1)), element);
}

static Value emitPool(NodeContext &node, graph::PoolKind kind) {
  GraphBuilder &b = node.b;
  Type element = b.element(node.in(0));
  Value fill = kind == graph::PoolKind::max ? makeLowest(b, element)
                                            : b.splat(0, element);
  Window window = readWindow(node, node.in(0), node.is("kernel_shape"), fill);
  bool ceil =
      node.i("ceil_mode", 0) && node.s("auto_pad", "NOTSET") == "NOTSET";
  SmallVector<NamedAttribute> attributes{
      b.attr("kind", graph::PoolKindAttr::get(b.context(), kind)),
      b.i64s("kernel", window.kernel),
      b.i64s("strides", window.strides),
      b.i64s("dilations", window.dilations),
      b.i64s("pads_low", window.low),
      b.i64s("pads_high", window.high)};
  bool countsPads = node.i("count_include_pad", 0);
  if (kind == graph::PoolKind::avg && countsPads)
    attributes.push_back(b.attr("count_include_pad", b.builder.getUnitAttr()));
  if (kind == graph::PoolKind::lp)
    attributes.push_back(b.f64("p", node.i("p", 2)));
  auto pool = [&](Value x) {
    Dims out{b.dim(x, 0), b.dim(x, 1)};
    out.append(windowOutput(b, x, window, ceil));
    return b.emit("graph.pool", {x}, attributes,
                  graph::makeTensorType(out, element));
  };
  Value y = pool(window.x);
  if (kind != graph::PoolKind::avg || countsPads || !window.isFramed)
    return y;
  // The frame's zeros count as taps: over the share that lies inside.
  Dims dims = b.dims(node.in(0));
  dims[0] = dims[1] = b.c(1);
  Value ones = b.broadcast(
      b.splat(1, element, SmallVector<int64_t>(dims.size(), 1)), dims);
  return b.div(y, pool(addFrame(node, ones, window, fill)));
}

/// The row-major (or, with storage_order, column-major) position of each
/// maximum in the whole operand: a tap at a time, the best so far is kept.
static void poolWithIndices(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Window window = readWindow(node, x, node.is("kernel_shape"));
  SmallVector<int64_t> dims = b.staticDims(x, "MaxPool with Indices");
  if (node.i("ceil_mode", 0))
    refuse("Indices with ceil_mode");
  SmallVector<int64_t> out;
  for (AffineExpr size : windowOutput(b, x, window))
    out.push_back(*graph::constantValue(size));
  size_t axes = window.axes();
  int64_t taps = 1, image = 1;
  for (size_t i = 0; i < axes; ++i) {
    taps *= window.kernel[i];
    image *= dims[2 + i];
  }
  if (taps > 256)
    refuse("Indices of a window of " + std::to_string(taps));
  Type i64 = b.builder.getI64Type(), element = b.element(x);
  SmallVector<int64_t> low{0, 0}, high{0, 0}, steps{1, 1};
  low.append(window.low);
  high.append(window.high);
  steps.append(window.strides);
  Value padded = b.pad(x, makeLowest(b, element), low, high), best, where;
  bool columnMajor = node.i("storage_order", 0);
  // For every output place, whether a tap has been inside the image.
  int64_t places = 1;
  for (int64_t size : out)
    places *= size;
  if (places > 1 << 22)
    refuse("Indices of so large a result");
  SmallVector<bool> seen(places, false);
  auto markSeen = [&](ArrayRef<int64_t> offset) {
    for (int64_t p = 0; p < places; ++p) {
      bool inside = true;
      for (int64_t i = axes, rest = p; i-- > 0; rest /= out[i]) {
        int64_t at =
            rest % out[i] * window.strides[i] + offset[i] - window.low[i];
        inside &= at >= 0 && at < dims[2 + i];
      }
      seen[p] = seen[p] || inside;
    }
  };
  for (int64_t tap = 0; tap < taps; ++tap) {
    SmallVector<int64_t> offset(axes);
    for (int64_t i = axes, rest = tap; i-- > 0; rest /= window.kernel[i])
      offset[i] = rest % window.kernel[i] * window.dilations[i];
    Dims starts{b.c(0), b.c(0)}, sizes{b.c(dims[0]), b.c(dims[1])};
    // The position of this tap in the image, one axis after the other.
    Value place = b.splatInt(0, i64);
    for (size_t i = 0; i < axes; ++i) {
      starts.push_back(b.c(offset[i]));
      sizes.push_back(b.c(out[i]));
      int64_t stride = 1;
      for (size_t k = 0; k < axes; ++k)
        if (columnMajor ? k < i : k > i)
          stride *= dims[2 + k];
      SmallVector<int64_t> along(axes, 1);
      along[i] = out[i];
      Value numbers =
          b.iota(b.c(out[i]), i64,
                 static_cast<double>((offset[i] - window.low[i]) * stride),
                 static_cast<double>(window.strides[i] * stride));
      place = b.add(place, b.reshape(numbers, along));
    }
    Value value = b.slice(padded, starts, sizes, steps);
    place = b.broadcast(place, sizes);
    if (!best) {
      best = value;
      where = place;
      markSeen(offset);
      continue;
    }
    // Only padding was seen where `seen` is false: whatever comes next is
    // taken, also an element as low as the padding.
    Value better = b.emit("graph.gt", {value, best});
    if (llvm::is_contained(seen, false)) {
      SmallVector<int64_t> fresh(
          llvm::map_range(seen, [](bool was) { return !was; }));
      better =
          b.emit("graph.bit_or",
                 {better, b.constantInts(fresh, out, b.builder.getI1Type())});
    }
    markSeen(offset);
    best = b.select(better, value, best);
    where = b.select(better, place, where);
  }
  Value images = b.reshape(
      b.iota(b.c(dims[0] * dims[1]), i64, 0, static_cast<double>(image)), [&] {
        SmallVector<int64_t> shape{dims[0], dims[1]};
        shape.append(axes, 1);
        return shape;
      }());
  node.result(0, best);
  node.result(1, b.add(where, images));
}

static void convertMaxPool(NodeContext &node) {
  if (node.wants(1))
    return poolWithIndices(node);
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
