//===- ConvertConv.cpp - convolutions -------------------------------------===//
//
// Conv, ConvInteger, ConvTranspose. A bias is its own add over the channels, so
// that fusion sees it as any other epilogue.
//
//===----------------------------------------------------------------------===//

#include "Windows.h"

using namespace dlc;
using namespace mlir;

/// The bias (C) as (1, C, 1, ...), added to (N, C, spatial...).
static Value addBias(GraphBuilder &b, Value x, Value bias) {
  if (!bias)
    return x;
  SmallVector<AffineExpr> dims(b.rank(x), b.c(1));
  dims[1] = b.dim(bias, 0);
  return b.add(x, b.reshape(bias, dims));
}

static SmallVector<int64_t> readKernel(NodeContext &node, Value w) {
  SmallVector<int64_t> kernel;
  SmallVector<AffineExpr> dims = node.b.dims(w);
  for (AffineExpr size : llvm::drop_begin(dims, 2)) {
    std::optional<int64_t> n = graph::constantValue(size);
    if (!n)
      refuse("a convolution with a symbolic kernel size");
    kernel.push_back(*n);
  }
  if (node.hasAttr("kernel_shape") && node.is("kernel_shape") != kernel)
    refuseMalformed("kernel_shape differs from the weight " +
                    describeType(w.getType()));
  return kernel;
}

Value dlc::makeConv(NodeContext &node, Value x, Value w, Value xZero,
                    Value wZero, Type element) {
  GraphBuilder &b = node.b;
  if (b.rank(w) != b.rank(x) || b.rank(x) < 3)
    refuseMalformed("operands " + describeType(x.getType()) + " and " +
                    describeType(w.getType()) + " do not convolve");
  int64_t group = node.i("group", 1);
  if (group < 1)
    refuseMalformed("group is " + std::to_string(group));
  if (AffineExpr channels = b.unify(b.dim(x, 1), b.dim(w, 1) * group))
    x = b.ensureDim(x, 1, channels);
  Window window = readWindow(node, x, readKernel(node, w));
  Dims out{b.dim(x, 0), b.dim(w, 0)};
  out.append(windowOutput(b, x, window));
  SmallVector<Value> operands{x, w};
  for (Value zero : {xZero, wZero})
    if (zero)
      operands.push_back(zero);
  return b.emit(
      "graph.conv", operands,
      {b.i64s("strides", window.strides), b.i64s("dilations", window.dilations),
       b.i64s("pads_low", window.low), b.i64s("pads_high", window.high),
       b.attr("group", b.builder.getI64IntegerAttr(group)),
       b.attr("operandSegmentSizes",
              b.builder.getDenseI32ArrayAttr(
                  {1, 1, xZero ? 1 : 0, wZero ? 1 : 0}))},
      graph::makeTensorType(out, element ? element : b.element(x)));
}

static void convertConv(NodeContext &node) {
  Value y = makeConv(node, node.in(0), node.in(1), {}, {}, {});
  node.result(addBias(node.b, y, node.maybe(2)));
}

static void convertConvInteger(NodeContext &node) {
  node.result(makeConv(node, node.in(0), node.in(1), node.maybe(2),
                       node.maybe(3), node.b.builder.getI32Type()));
}

static void convertConvTranspose(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0), w = node.in(1);
  if (b.rank(w) != b.rank(x) || b.rank(x) < 3)
    refuseMalformed("operands " + describeType(x.getType()) + " and " +
                    describeType(w.getType()) + " do not convolve");
  SmallVector<int64_t> kernel = readKernel(node, w);
  size_t spatial = kernel.size();
  SmallVector<int64_t> zeros(spatial, 0), ones(spatial, 1),
      pads = node.is("pads", SmallVector<int64_t>(2 * spatial, 0));
  SmallVector<int64_t> strides = node.is("strides", ones),
                       dilations = node.is("dilations", ones);
  SmallVector<int64_t> extra = node.is("output_padding", zeros),
                       wanted = node.is("output_shape");
  StringRef automatic = node.s("auto_pad", "NOTSET");
  if (strides.size() != spatial || dilations.size() != spatial ||
      extra.size() != spatial || pads.size() != 2 * spatial ||
      (!wanted.empty() && wanted.size() != spatial))
    refuseMalformed("strides, dilations, pads and output_padding must have one "
                    "entry (pads: two) a spatial dim");
  SmallVector<int64_t> low;
  Dims out{b.dim(x, 0), b.dim(w, 1) * node.i("group", 1)};
  for (size_t i = 0; i < spatial; ++i) {
    if (strides[i] < 1 || dilations[i] < 1 || pads[i] < 0 ||
        pads[i + spatial] < 0)
      refuseMalformed(
          "strides and dilations must be positive, pads not negative");
    AffineExpr full = (b.dim(x, 2 + i) - 1) * strides[i] +
                      (kernel[i] - 1) * dilations[i] + 1 + extra[i];
    bool same = automatic == "SAME_UPPER" || automatic == "SAME_LOWER";
    if (wanted.empty() && !same) {
      int64_t before = automatic == "VALID" ? 0 : pads[i],
              after = automatic == "VALID" ? 0 : pads[i + spatial];
      low.push_back(before);
      out.push_back(full - before - after);
      continue;
    }
    AffineExpr size =
        wanted.empty() ? b.dim(x, 2 + i) * strides[i] : b.c(wanted[i]);
    std::optional<int64_t> total =
        graph::constantValue(graph::simplify(full - size));
    if (!total)
      refuse("output_shape or auto_pad of a symbolic dim");
    int64_t crop = std::max<int64_t>(0, *total);
    low.push_back(automatic == "SAME_UPPER" ? crop / 2 : crop - crop / 2);
    out.push_back(size);
  }
  Value y =
      b.emit("graph.conv_transpose", {x, w},
             {b.i64s("strides", strides), b.i64s("dilations", dilations),
              b.i64s("pads_low", low),
              b.attr("group", b.builder.getI64IntegerAttr(node.i("group", 1)))},
             graph::makeTensorType(out, b.element(x)));
  node.result(addBias(b, y, node.maybe(2)));
}

void dlc::addConvolutions(ConverterTable &table) {
  table["Conv"] = convertConv;
  table["ConvInteger"] = convertConvInteger;
  table["ConvTranspose"] = convertConvTranspose;
}
