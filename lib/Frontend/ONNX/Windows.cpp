//===- Windows.cpp - pads, strides and output sizes -----------------------===//
//
// See Windows.h. auto_pad SAME_* of a symbolic dim pads by the dim's remainder,
// which no attribute can say: the operand gets the largest such frame, and a
// slice of it begins where the dim's own one would.
//
//===----------------------------------------------------------------------===//

#include "Windows.h"

using namespace dlc;
using namespace mlir;

/// The pads of auto_pad SAME_* in all, for a window of `reach` elements.
static AffineExpr samePads(AffineExpr size, int64_t stride, int64_t reach) {
  AffineExpr out = (size + (stride - 1)).floorDiv(stride);
  return graph::simplify((out - 1) * stride + reach - size);
}

Value dlc::addFrame(NodeContext &node, Value x, const Window &w, Value fill) {
  GraphBuilder &b = node.b;
  bool upper = node.s("auto_pad", "NOTSET") == "SAME_UPPER";
  Dims starts(b.rank(x), b.c(0)), sizes = b.dims(x);
  SmallVector<int64_t> low(b.rank(x), 0), high(b.rank(x), 0);
  for (size_t i = 0; i < w.axes(); ++i) {
    int64_t reach = (w.kernel[i] - 1) * w.dilations[i] + 1, most = reach - 1;
    AffineExpr total = samePads(sizes[2 + i], w.strides[i], reach);
    if (reach == 1 || graph::constantValue(total))
      continue;
    low[2 + i] = upper ? most / 2 : most - most / 2;
    high[2 + i] = most - low[2 + i];
    AffineExpr before = (total + (upper ? 0 : 1)).floorDiv(2);
    starts[2 + i] = graph::simplify(low[2 + i] - before);
    sizes[2 + i] = graph::simplify(sizes[2 + i] + total);
  }
  return b.slice(b.pad(x, fill, low, high), starts, sizes);
}

Window dlc::readWindow(NodeContext &node, Value x, ArrayRef<int64_t> kernel,
                       Value fill) {
  GraphBuilder &b = node.b;
  int64_t spatial = b.rank(x) - 2;
  if (spatial < 1 || static_cast<int64_t>(kernel.size()) != spatial)
    refuseMalformed("operand " + describeType(x.getType()) + " does not have " +
                    std::to_string(kernel.size()) + " spatial dims");
  Window w;
  w.x = x;
  w.kernel.assign(kernel.begin(), kernel.end());
  SmallVector<int64_t> ones(spatial, 1);
  w.strides = node.is("strides", ones);
  w.dilations = node.is("dilations", ones);
  SmallVector<int64_t> pads =
      node.is("pads", SmallVector<int64_t>(2 * spatial, 0));
  if (pads.empty())
    pads.assign(2 * spatial, 0);
  if (w.strides.size() != kernel.size() ||
      w.dilations.size() != kernel.size() || pads.size() != 2 * kernel.size())
    refuseMalformed("strides, dilations and pads must have one entry (pads: "
                    "two) a spatial dim");
  constexpr int64_t limit = int64_t(1) << 31;
  for (int64_t i = 0; i < spatial; ++i)
    if (w.strides[i] < 1 || w.dilations[i] < 1 || kernel[i] < 1 ||
        w.strides[i] > limit || w.dilations[i] > limit || kernel[i] > limit)
      refuseMalformed("kernel, strides and dilations must be positive");
  for (int64_t pad : pads)
    if (pad < 0 || pad > limit)
      refuseMalformed("pads must not be negative or huge");
  w.low.assign(pads.begin(), pads.begin() + spatial);
  w.high.assign(pads.begin() + spatial, pads.end());

  StringRef automatic = node.s("auto_pad", "NOTSET");
  if (automatic == "NOTSET")
    return w;
  if (automatic != "VALID" && automatic != "SAME_UPPER" &&
      automatic != "SAME_LOWER")
    refuseMalformed("unknown auto_pad '" + automatic.str() + "'");
  for (int64_t i = 0; i < spatial; ++i) {
    w.low[i] = w.high[i] = 0;
    int64_t reach = (w.kernel[i] - 1) * w.dilations[i] + 1;
    if (automatic == "VALID" || reach == 1)
      continue;
    std::optional<int64_t> total =
        graph::constantValue(samePads(b.dim(x, 2 + i), w.strides[i], reach));
    if (!total) {
      if (!fill)
        refuse("auto_pad " + automatic.str() +
               " of a symbolic dim with a stride");
      if (reach < w.strides[i])
        refuse("auto_pad " + automatic.str() +
               " of a symbolic dim with a stride beyond the kernel");
      w.isFramed = true;
      continue;
    }
    total = std::max<int64_t>(0, *total);
    w.low[i] = automatic == "SAME_UPPER" ? *total / 2 : *total - *total / 2;
    w.high[i] = *total - w.low[i];
  }
  if (w.isFramed)
    w.x = addFrame(node, x, w, fill);
  return w;
}

Dims dlc::windowOutput(GraphBuilder &b, Value x, const Window &w, bool ceil) {
  Dims out;
  for (size_t i = 0; i < w.axes(); ++i) {
    int64_t reach = (w.kernel[i] - 1) * w.dilations[i] + 1;
    AffineExpr room = b.dim(x, 2 + i) + (w.low[i] + w.high[i] - reach);
    std::optional<int64_t> n = graph::constantValue(graph::simplify(room));
    if (!n) {
      // No window starts behind the operand, where one would not count.
      if (ceil && w.high[i] + w.strides[i] > reach)
        refuse("ceil_mode of a symbolic dim, with windows that may start in "
               "the padding behind it");
      AffineExpr steps = ceil ? room + (w.strides[i] - 1) : room;
      out.push_back(graph::simplify(steps.floorDiv(w.strides[i]) + 1));
      continue;
    }
    if (*n < 0)
      refuseMalformed("the window is larger than the padded operand " +
                      describeType(x.getType()));
    int64_t count = *n / w.strides[i] + 1;
    if (ceil && *n % w.strides[i]) {
      // The extra window counts only if it starts before the high padding.
      int64_t size = *graph::constantValue(b.dim(x, 2 + i));
      if (count * w.strides[i] < size + w.low[i])
        ++count;
    }
    out.push_back(b.c(count));
  }
  return out;
}
