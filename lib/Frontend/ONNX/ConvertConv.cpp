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
  Window window = readWindow(node, x, readKernel(node, w),
                             xZero ? xZero : b.splat(0, b.element(x)));
  x = window.x;
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

namespace {
/// What a transposed convolution without dilations is made of.
struct Transposed {
  SmallVector<int64_t> kernel, strides, low;
  int64_t group;
  Dims out;
};
} // namespace

// Of the taps of a transposed convolution only those reach an output whose
// distance to it is a multiple of the stride: s * u + r for the output's
// residue r. So it is a convolution with s times the channels, one set a
// residue, whose kernel has 1 / s of the taps (a sub-pixel convolution: Shi et
// al. 2016), and the residues put side by side:
//
//   y[s q + r] = sum over u of x[q - u] w[s u + r]
//
// Null where what is cut off at the end depends on a symbolic size.
static Value convolveResidues(GraphBuilder &b, Value x, Value w,
                              const Transposed &t) {
  size_t spatial = t.kernel.size();
  SmallVector<int64_t> taps, none(2 + spatial, 0), filled(2 + spatial, 0);
  bool isCut = false;
  for (size_t i = 0; i < spatial; ++i) {
    AffineExpr n = b.dim(x, 2 + i);
    int64_t u = llvm::divideCeil(t.kernel[i], t.strides[i]);
    auto left = graph::constantValue(
        graph::simplify((n + u - 1) * t.strides[i] - t.low[i] - t.out[2 + i]));
    if (!left)
      return {};
    // Outputs that no tap reaches.
    if (*left < 0)
      u += llvm::divideCeil(-*left, t.strides[i]);
    taps.push_back(u);
    filled[2 + i] = u * t.strides[i] - t.kernel[i];
    isCut |= t.low[i] != 0 || *left != 0;
  }
  if (llvm::any_of(filled, [](int64_t n) { return n != 0; }))
    w = b.pad(w, b.splat(0, b.element(w)), none, filled);

  // (g C, K, s u ...) -> (g s ... K, C, u ...), the taps in reverse.
  AffineExpr group = b.c(t.group), channels = b.dim(w, 1);
  AffineExpr depth = graph::simplify(b.dim(w, 0).floorDiv(t.group));
  Dims split{group, depth, channels};
  SmallVector<int64_t> order{0}, tapAxes;
  for (size_t i = 0; i < spatial; ++i) {
    split.append({b.c(taps[i]), b.c(t.strides[i])});
    order.push_back(4 + 2 * i);
    tapAxes.push_back(3 + 2 * i);
  }
  w = b.reshape(w, split);
  for (size_t i = 0; i < spatial; ++i)
    if (taps[i] > 1)
      w = b.sliceAxis(w, tapAxes[i], b.c(taps[i] - 1), b.c(taps[i]), -1);
  order.append({2, 1});
  order.append(tapAxes);
  w = b.transpose(w, order);
  AffineExpr residues = b.c(1);
  for (int64_t s : t.strides)
    residues = residues * s;
  Dims merged{graph::simplify(group * residues * channels), depth};
  SmallVector<int64_t> ones(spatial, 1), margins;
  Dims wide{b.dim(x, 0), merged[0]};
  for (size_t i = 0; i < spatial; ++i) {
    merged.push_back(b.c(taps[i]));
    margins.push_back(taps[i] - 1);
    wide.push_back(graph::simplify(b.dim(x, 2 + i) + (taps[i] - 1)));
  }
  Value y = b.emit("graph.conv", {x, b.moveNow(b.reshape(w, merged))},
                   {b.i64s("strides", ones), b.i64s("dilations", ones),
                    b.i64s("pads_low", margins), b.i64s("pads_high", margins),
                    b.attr("group", b.builder.getI64IntegerAttr(t.group)),
                    b.attr("operandSegmentSizes",
                           b.builder.getDenseI32ArrayAttr({1, 1, 0, 0}))},
                   graph::makeTensorType(wide, b.element(x)));

  // (N, g s ... K, q ...) -> (N, g K, q s, ...)
  Dims parts{wide[0], group},
      joined{wide[0], graph::simplify(group * channels)};
  SmallVector<int64_t> back{0, 1, static_cast<int64_t>(2 + spatial)};
  for (int64_t s : t.strides)
    parts.push_back(b.c(s));
  parts.push_back(channels);
  for (size_t i = 0; i < spatial; ++i) {
    parts.push_back(wide[2 + i]);
    back.append(
        {static_cast<int64_t>(3 + spatial + i), static_cast<int64_t>(2 + i)});
    joined.push_back(graph::simplify(wide[2 + i] * t.strides[i]));
  }
  y = b.reshape(b.transpose(b.reshape(y, parts), back), joined);
  if (!isCut)
    return y;
  Dims starts(2 + spatial, b.c(0));
  for (size_t i = 0; i < spatial; ++i)
    starts[2 + i] = b.c(t.low[i]);
  return b.slice(y, starts, t.out);
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
  int64_t group = node.i("group", 1);
  auto isOne = [](int64_t n) { return n == 1; };
  if (group > 0 && llvm::all_of(dilations, isOne) &&
      !llvm::all_of(strides, isOne) &&
      graph::constantValue(b.dim(w, 0)).value_or(1) % group == 0 &&
      b.dim(x, 1) == b.dim(w, 0))
    if (Value y = convolveResidues(b, x, w, {kernel, strides, low, group, out}))
      return node.result(addBias(b, y, node.maybe(2)));
  Value y = b.emit("graph.conv_transpose", {x, w},
                   {b.i64s("strides", strides), b.i64s("dilations", dilations),
                    b.i64s("pads_low", low),
                    b.attr("group", b.builder.getI64IntegerAttr(group))},
                   graph::makeTensorType(out, b.element(x)));
  node.result(addBias(b, y, node.maybe(2)));
}

void dlc::addConvolutions(ConverterTable &table) {
  table["Conv"] = convertConv;
  table["ConvInteger"] = convertConvInteger;
  table["ConvTranspose"] = convertConvTranspose;
}
