//===- ConvertResize.cpp - interpolation ----------------------------------===//
//
// Resize one axis at a time. Each output coordinate reads a fixed number of
// neighbours with weights known at compile time: a gather of constant indices
// and a constant factor for each neighbour. Where sizes are symbolic, the run
// computes both (ResizeSymbolic.cpp).
//
//===----------------------------------------------------------------------===//

#include "ResizeSymbolic.h"

#include <cmath>

using namespace dlc;
using namespace mlir;

namespace {
/// How one axis is resized.
struct AxisPlan {
  int64_t in, out;
  double scale;
  double roiStart = 0, roiEnd = 1;
};

/// Neighbours of each output coordinate: tap k of output i reads indices[k][i].
struct Taps {
  std::vector<SmallVector<int64_t>> indices;
  std::vector<SmallVector<double>> weights;
  SmallVector<bool> outside; ///< takes the extrapolation value
};
} // namespace

/// The place in the operand that output coordinate y stands for.
static double sourceCoordinate(StringRef mode, const AxisPlan &axis, double y) {
  double width = axis.scale * static_cast<double>(axis.in),
         last = static_cast<double>(axis.in) - 1;
  if (mode == "align_corners")
    return width == 1 ? 0 : y * last / (width - 1);
  if (mode == "asymmetric")
    return y / axis.scale;
  if (mode == "tf_half_pixel_for_nn") // opsets 11 and 12
    return (y + 0.5) / axis.scale;
  if (mode == "tf_crop_and_resize") {
    double span = (axis.roiEnd - axis.roiStart) * last;
    return axis.roiStart * last +
           (width == 1 ? span / 2 : y * span / (width - 1));
  }
  if (mode == "pytorch_half_pixel")
    return width == 1 ? -0.5 : (y + 0.5) / axis.scale - 0.5;
  if (mode == "half_pixel")
    return (y + 0.5) / axis.scale - 0.5;
  if (mode == "half_pixel_symmetric") {
    double adjustment = static_cast<double>(axis.out) / width;
    return static_cast<double>(axis.in) / 2 * (1 - adjustment) +
           (y + 0.5) / axis.scale - 0.5;
  }
  refuseMalformed("unknown coordinate_transformation_mode '" + mode.str() +
                  "'");
}

StringRef dlc::nearestMode(NodeContext &node, double scale) {
  StringRef mode = node.s("nearest_mode", "round_prefer_floor");
  if (mode == "simple") // before opset 11
    return scale < 1 ? "ceil" : "floor";
  return mode;
}

static SmallVector<double> nearestWeights(StringRef mode, double ratio) {
  bool right;
  if (ratio == 1)
    right = true;
  else if (mode == "round_prefer_floor")
    right = ratio > 0.5;
  else if (mode == "round_prefer_ceil")
    right = ratio >= 0.5;
  else if (mode == "floor" || mode == "ceil")
    right = mode == "ceil";
  else
    refuseMalformed("unknown nearest_mode '" + mode.str() + "'");
  return {right ? 0.0 : 1.0, right ? 1.0 : 0.0};
}

/// Weights of a kernel that reaches `radius` pixels, stretched by 1/scale when
/// an antialiased axis shrinks.
static SmallVector<double> kernelWeights(double ratio, double scale, int radius,
                                         function_ref<double(double)> kernel) {
  // The kernel widens as the image shrinks, and every tap is a gather.
  if (!(scale >= 1.0 / 64))
    refuse("antialiasing at a scale below 1/64");
  int64_t first = static_cast<int64_t>(std::floor(-radius / scale)) + 1,
          count = 2 - 2 * first;
  SmallVector<double> weights;
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    weights.push_back(
        kernel(std::abs((static_cast<double>(first + i) - ratio) * scale)));
    sum += weights.back();
  }
  for (double &weight : weights)
    weight /= sum;
  return weights;
}

static SmallVector<double> interpolationWeights(NodeContext &node,
                                                StringRef mode, double ratio,
                                                double scale) {
  if (mode == "nearest")
    return nearestWeights(nearestMode(node, scale), ratio);
  double stretch = node.i("antialias", 0) ? std::min(scale, 1.0) : 1.0;
  if (mode == "linear")
    return kernelWeights(ratio, stretch, 1,
                         [](double x) { return std::max(0.0, 1 - x); });
  double a = node.f("cubic_coeff_a", -0.75);
  return kernelWeights(ratio, stretch, 2, [a](double x) {
    if (x <= 1)
      return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0.0;
  });
}

static Taps computeTaps(NodeContext &node, const AxisPlan &axis) {
  StringRef mode = node.s("mode", "nearest");
  StringRef transform = node.s("coordinate_transformation_mode", "half_pixel");
  Taps taps;
  for (int64_t i = 0; i < axis.out; ++i) {
    double x = sourceCoordinate(transform, axis, static_cast<double>(i));
    double floor = std::floor(x);
    // An exact pixel is the right one of its pair.
    bool exact = x == floor;
    int64_t base = static_cast<int64_t>(floor) - (exact ? 1 : 0);
    SmallVector<double> weights =
        interpolationWeights(node, mode, exact ? 1 : x - floor, axis.scale);
    int64_t count = weights.size(), first = base - count / 2 + 1;
    if (node.i("exclude_outside", 0)) {
      double sum = 0;
      for (int64_t k = 0; k < count; ++k) {
        if (first + k < 0 || first + k >= axis.in)
          weights[k] = 0;
        sum += weights[k];
      }
      for (double &weight : weights)
        weight /= sum;
    }
    taps.indices.resize(std::max<size_t>(taps.indices.size(), count));
    taps.weights.resize(std::max<size_t>(taps.weights.size(), count));
    for (int64_t k = 0; k < count; ++k) {
      taps.indices[k].push_back(std::clamp<int64_t>(first + k, 0, axis.in - 1));
      taps.weights[k].push_back(weights[k]);
    }
    taps.outside.push_back(transform == "tf_crop_and_resize" &&
                           (x < 0 || x > static_cast<double>(axis.in) - 1));
  }
  return taps;
}

/// Each element along `axis` `times` times.
static Value repeatElements(GraphBuilder &b, Value x, int64_t axis,
                            int64_t times) {
  Dims split, wide, out = b.dims(x);
  for (auto [i, size] : llvm::enumerate(b.dims(x))) {
    split.push_back(size);
    wide.push_back(size);
    if (static_cast<int64_t>(i) == axis) {
      split.push_back(b.c(1));
      wide.push_back(b.c(times));
    }
  }
  out[axis] = out[axis] * times;
  return b.reshape(b.broadcast(b.reshape(x, split), wide), out);
}

/// Elements `indices` of `axis`, a list that is known: where it repeats each
/// element equally often, as an index map, which fuses and is relaid where
/// indices from data are not.
static Value takeElements(GraphBuilder &b, Value x, int64_t axis,
                          ArrayRef<int64_t> indices) {
  int64_t out = indices.size(), in = *graph::constantValue(b.dim(x, axis));
  if (out % in == 0 && llvm::all_of(llvm::seq(out), [&](int64_t i) {
        return indices[i] == i / (out / in);
      }))
    return repeatElements(b, x, axis, out / in);
  return b.gather(x, b.constantInts(indices, {out}, b.builder.getI64Type()),
                  axis);
}

static Value resizeAxis(NodeContext &node, Value x, int64_t axis,
                        const AxisPlan &plan) {
  GraphBuilder &b = node.b;
  if (plan.out == 0)
    return node.b.sliceAxis(x, axis, node.b.c(0), node.b.c(0));
  Taps taps = computeTaps(node, plan);
  Type i64 = b.builder.getI64Type(), element = b.element(x);
  auto along = [&](Value vector) {
    Dims dims(b.rank(x), b.c(1));
    dims[axis] = b.c(plan.out);
    return b.reshape(vector, dims);
  };
  Value total;
  if (node.s("mode", "nearest") == "nearest") {
    // One of the two weights is 1: a single gather.
    SmallVector<int64_t> chosen;
    for (int64_t i = 0; i < plan.out; ++i)
      chosen.push_back(taps.weights[0][i] == 1 ? taps.indices[0][i]
                                               : taps.indices[1][i]);
    total = takeElements(b, x, axis, chosen);
  } else {
    for (auto [indices, weights] : llvm::zip(taps.indices, taps.weights)) {
      if (llvm::all_of(weights, [](double w) { return w == 0; }))
        continue;
      Value part = b.gather(x, b.constantInts(indices, {plan.out}, i64), axis);
      part = b.mul(part, along(b.constantFloats(weights, {plan.out}, element)));
      total = total ? b.add(total, part) : part;
    }
  }
  if (llvm::is_contained(taps.outside, true)) {
    SmallVector<int64_t> flags(taps.outside.begin(), taps.outside.end());
    Value mask =
        along(b.constantInts(flags, {plan.out}, b.builder.getI1Type()));
    total = b.select(mask, b.splat(node.f("extrapolation_value", 0), element),
                     total);
  }
  return total;
}

/// The whole number by which nearest upsampling repeats each element of a
/// symbolic dim; 0 where it does something else.
static int64_t repetitionOf(NodeContext &node, AffineExpr in,
                            const SymbolicResize &plan) {
  StringRef transform = node.s("coordinate_transformation_mode", "half_pixel");
  StringRef rounding = node.s("nearest_mode", "round_prefer_floor");
  bool repeats =
      (transform == "asymmetric" &&
       (rounding == "floor" || rounding == "simple")) ||
      ((transform == "half_pixel" || transform == "pytorch_half_pixel") &&
       rounding.starts_with("round"));
  if (node.s("mode", "nearest") != "nearest" || !repeats)
    return 0;
  if (plan.scale)
    return *plan.scale == std::floor(*plan.scale)
               ? static_cast<int64_t>(*plan.scale)
               : 0;
  auto product = dyn_cast<AffineBinaryOpExpr>(plan.out);
  bool isMultiple = product && product.getKind() == AffineExprKind::Mul &&
                    product.getLHS() == in;
  return isMultiple ? graph::constantValue(product.getRHS()).value_or(0) : 0;
}

static Value resizeSymbolic(NodeContext &node, Value x,
                            const SymbolicResize &plan) {
  AffineExpr in = node.b.dim(x, plan.axis);
  bool crops =
      node.s("coordinate_transformation_mode", "") == "tf_crop_and_resize";
  if (!crops && plan.out == in && plan.scale.value_or(1) == 1)
    return x;
  if (int64_t times = repetitionOf(node, in, plan); times > 0)
    return repeatElements(node.b, x, plan.axis, times);
  return resizeSymbolicAxis(node, x, plan);
}

/// What scales that are sizes over the operand's own make of it; empty where
/// they are something else.
static Dims readComputedScales(NodeContext &node, ArrayRef<int64_t> axes) {
  std::optional<Fractions> scales = node.fractions(2);
  if (!scales || GraphBuilder::asConstant(node.in(2)) ||
      scales->above.size() != axes.size())
    return {};
  Dims sizes;
  for (auto [above, below, axis] :
       llvm::zip(scales->above, scales->below, axes)) {
    AffineExpr in = node.b.dim(node.in(0), axis);
    bool isWhole = graph::constantValue(below) == 1;
    if (!isWhole && graph::simplify(in - below) != 0)
      return {};
    sizes.push_back(graph::simplify(isWhole ? in * above : above));
  }
  return sizes;
}

static void convertResize(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  int64_t rank = b.rank(x);
  StringRef mode = node.s("mode", "nearest");
  if (mode != "nearest" && mode != "linear" && mode != "cubic")
    refuseMalformed("unknown mode '" + mode.str() + "'");
  SmallVector<int64_t> axes = node.is("axes");
  if (!node.hasAttr("axes"))
    axes = llvm::to_vector(llvm::seq<int64_t>(0, rank));
  for (int64_t &axis : axes)
    axis = normalizeAxis(axis, rank);

  auto isEmpty = [&](unsigned i) {
    return !node.has(i) ||
           (node.b.rank(node.in(i)) == 1 &&
            graph::constantValue(node.b.dim(node.in(i), 0)) == 0);
  };
  SmallVector<double> scales, roi;
  Dims sizes;
  if (!isEmpty(2)) {
    sizes = readComputedScales(node, axes);
    if (sizes.empty())
      scales = node.floats(2, "scales");
  } else if (!isEmpty(3)) {
    sizes = node.symbolic(3, "sizes");
  } else {
    refuseMalformed("neither 'scales' nor 'sizes' is given");
  }
  if (node.s("coordinate_transformation_mode", "") == "tf_crop_and_resize") {
    roi = node.floats(1, "roi");
    if (roi.size() != 2 * axes.size())
      refuseMalformed("'roi' must have two entries an axis");
  }
  if (scales.empty() ? sizes.size() != axes.size()
                     : scales.size() != axes.size())
    refuseMalformed("'scales' or 'sizes' must have one entry an axis");

  std::vector<AxisPlan> plans(axes.size());
  double extreme = 0;
  StringRef policy = node.s("keep_aspect_ratio_policy", "stretch");
  SmallVector<std::optional<SymbolicResize>> symbolic(axes.size());
  for (auto [i, axis] : llvm::enumerate(axes)) {
    AxisPlan &plan = plans[i];
    std::optional<int64_t> in = graph::constantValue(b.dim(x, axis));
    if (!roi.empty()) {
      plan.roiStart = roi[i];
      plan.roiEnd = roi[i + axes.size()];
    }
    if (!in || (scales.empty() && !graph::constantValue(sizes[i]))) {
      SymbolicResize &it = symbolic[i].emplace();
      it = {axis, {}, {}, plan.roiStart, plan.roiEnd};
      if (scales.empty()) {
        it.out = graph::simplify(sizes[i]);
      } else {
        it.scale = scales[i];
        it.out = scaleSize(node, b.dim(x, axis), scales[i]);
      }
      continue;
    }
    plan.in = *in;
    if (plan.in == 0)
      refuse("resizing an empty dim");
    if (scales.empty()) {
      std::optional<int64_t> out = graph::constantValue(sizes[i]);
      if (*out < 0)
        refuseMalformed("a size is negative");
      plan.out = *out;
      plan.scale = static_cast<double>(*out) / static_cast<double>(plan.in);
    } else {
      plan.scale = scales[i];
      if (!(plan.scale > 0) || plan.scale > 1e6)
        refuseMalformed("a scale is not positive or too large");
      plan.out =
          static_cast<int64_t>(plan.scale * static_cast<double>(plan.in));
    }
    bool first = i == 0;
    extreme = first                    ? plan.scale
              : policy == "not_larger" ? std::min(extreme, plan.scale)
                                       : std::max(extreme, plan.scale);
  }
  if (scales.empty() && policy != "stretch") {
    if (llvm::any_of(symbolic, [](const auto &it) { return it.has_value(); }))
      refuse("keep_aspect_ratio_policy with symbolic dims");
    for (AxisPlan &plan : plans) {
      plan.scale = extreme;
      plan.out =
          static_cast<int64_t>(extreme * static_cast<double>(plan.in) + 0.5);
    }
  }
  Type element = b.element(x);
  if (mode != "nearest" && !isFloat(element))
    refuse("interpolating integers");
  Type wide = mode == "nearest" ? element : wideType(element);
  Value y = b.convert(x, wide);
  for (auto [i, axis] : llvm::enumerate(axes)) {
    const AxisPlan &plan = plans[i];
    if (symbolic[i]) {
      y = resizeSymbolic(node, y, *symbolic[i]);
      continue;
    }
    if (plan.out > int64_t(1) << 21)
      refuseMalformed("the result is too large");
    if (plan.scale == 1 && plan.out == plan.in && plan.roiStart == 0 &&
        plan.roiEnd == 1)
      continue;
    y = resizeAxis(node, y, axis, plan);
  }
  node.result(b.convert(y, element));
}

void dlc::addResize(ConverterTable &table) { table["Resize"] = convertResize; }
