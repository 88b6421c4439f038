//===- ResizeSymbolic.cpp - interpolation to and from unknown sizes -------===//
//
// The formulas of ConvertResize.cpp as operators on vectors of one element an
// output coordinate, in f64 as there: places, neighbours, weights.
//
//===----------------------------------------------------------------------===//

#include "ResizeSymbolic.h"

#include <cmath>

using namespace dlc;
using namespace mlir;

AffineExpr dlc::scaleSize(NodeContext &node, AffineExpr in, double scale) {
  if (!(scale > 0) || scale > 1e6)
    refuseMalformed("a scale is not positive or too large");
  // A float is a whole number over a power of two.
  int64_t below = 1;
  while (scale != std::floor(scale) && below < int64_t(1) << 30) {
    scale *= 2;
    below *= 2;
  }
  if (scale != std::floor(scale))
    refuse("resizing a symbolic dim by a scale below 2^-30");
  AffineExpr above = in * static_cast<int64_t>(scale);
  return graph::simplify(below == 1 ? above : above.floorDiv(below));
}

namespace {
/// The run's vectors of an axis.
class AxisVectors {
public:
  AxisVectors(NodeContext &node, Value x, const SymbolicResize &plan)
      : node(node), b(node.b), plan(plan), f64(b.builder.getF64Type()) {
    in = b.size(b.dim(x, plan.axis), f64);
    last = add(in, -1);
    Value out = b.size(plan.out, f64);
    scale = plan.scale ? number(*plan.scale) : b.div(out, in);
    // Where the sizes are given, their ratio times one is the other.
    width = plan.scale ? b.mul(scale, in) : out;
    coordinate = place(b.iota(plan.out, f64), out);
    floor = b.unary("graph.floor", coordinate);
    ratio = b.sub(coordinate, floor);
  }

  /// Positions of the neighbours that are `offset` behind the left one.
  Value indices(int64_t offset) {
    Value at = b.emit("graph.clip", {add(floor, offset), number(0), last});
    return b.convert(at, b.builder.getI64Type());
  }
  /// The position of the nearest one.
  Value nearest(StringRef mode) {
    if (mode == "floor")
      return indices(0);
    Value right;
    if (mode == "round_prefer_floor" || mode == "ceil")
      right = b.emit("graph.gt", {ratio, number(mode == "ceil" ? 0.0 : 0.5)});
    else if (mode == "round_prefer_ceil")
      right = b.emit("graph.ge", {ratio, number(0.5)});
    else
      refuseMalformed("unknown nearest_mode '" + mode.str() + "'");
    return b.select(right, indices(1), indices(0));
  }
  /// Weights of the neighbours first, first + 1, ...
  SmallVector<Value> weights(StringRef mode, int64_t first, int64_t count) {
    SmallVector<Value> result;
    for (int64_t k = first; k < first + count; ++k)
      result.push_back(mode == "linear" ? linear(k) : cubic(k));
    if (!node.i("exclude_outside", 0))
      return result;
    Value sum;
    for (auto [k, weight] : llvm::enumerate(result)) {
      Value at = add(floor, first + static_cast<int64_t>(k));
      Value isInside =
          b.emit("graph.bit_and", {b.emit("graph.ge", {at, number(0)}),
                                   b.emit("graph.le", {at, last})});
      weight = b.select(isInside, weight, number(0));
      sum = sum ? b.add(sum, weight) : weight;
    }
    for (Value &weight : result)
      weight = b.div(weight, sum);
    return result;
  }
  /// Coordinates that take the extrapolation value.
  Value outside() {
    return b.emit("graph.bit_or", {b.emit("graph.lt", {coordinate, number(0)}),
                                   b.emit("graph.gt", {coordinate, last})});
  }

private:
  Value number(double value) { return b.splat(value, f64); }
  Value add(Value x, double value) { return b.add(x, number(value)); }

  /// The place in the operand that output coordinate y stands for.
  Value place(Value y, Value out) {
    StringRef mode = node.s("coordinate_transformation_mode", "half_pixel");
    Value isOne = b.emit("graph.eq", {width, number(1)});
    Value half = add(b.div(add(y, 0.5), scale), -0.5);
    if (mode == "align_corners")
      return b.select(isOne, number(0), b.div(b.mul(y, last), add(width, -1)));
    if (mode == "asymmetric")
      return b.div(y, scale);
    if (mode == "tf_half_pixel_for_nn")
      return b.div(add(y, 0.5), scale);
    if (mode == "tf_crop_and_resize") {
      Value span = b.mulScalar(last, plan.roiEnd - plan.roiStart);
      Value inside = b.select(isOne, b.mulScalar(span, 0.5),
                              b.div(b.mul(y, span), add(width, -1)));
      return b.add(b.mulScalar(last, plan.roiStart), inside);
    }
    if (mode == "pytorch_half_pixel")
      return b.select(isOne, number(-0.5), half);
    if (mode == "half_pixel")
      return half;
    if (mode == "half_pixel_symmetric") {
      Value adjustment = b.sub(number(1), b.div(out, width));
      return b.add(b.mul(b.mulScalar(in, 0.5), adjustment), half);
    }
    refuseMalformed("unknown coordinate_transformation_mode '" + mode.str() +
                    "'");
  }
  Value linear(int64_t k) { return k == 0 ? b.sub(number(1), ratio) : ratio; }
  Value cubic(int64_t k) {
    double a = node.f("cubic_coeff_a", -0.75);
    // Distance to the neighbour: within one pixel for the two in the middle.
    Value x = k <= 0 ? add(ratio, static_cast<double>(-k))
                     : b.sub(number(static_cast<double>(k)), ratio);
    if (k == 0 || k == 1) {
      Value inner = add(b.mulScalar(x, a + 2), -(a + 3));
      return add(b.mul(b.mul(inner, x), x), 1);
    }
    Value inner = add(b.mul(add(b.mulScalar(x, a), -5 * a), x), 8 * a);
    return add(b.mul(inner, x), -4 * a);
  }

  NodeContext &node;
  GraphBuilder &b;
  const SymbolicResize &plan;
  Type f64;
  Value in, last, scale, width, coordinate, floor, ratio;
};
} // namespace

Value dlc::resizeSymbolicAxis(NodeContext &node, Value x,
                              const SymbolicResize &plan) {
  GraphBuilder &b = node.b;
  StringRef mode = node.s("mode", "nearest");
  bool crops =
      node.s("coordinate_transformation_mode", "") == "tf_crop_and_resize";
  Dims dims = b.dims(x);
  if (graph::constantValue(dims[plan.axis]) == 1 && !crops) {
    dims[plan.axis] = plan.out; // every neighbour is the only pixel
    return b.broadcast(x, dims);
  }
  if (mode != "nearest" && node.i("antialias", 0) &&
      !(plan.scale && *plan.scale >= 1))
    refuse("antialiasing a symbolic dim that may shrink");
  AxisVectors vectors(node, x, plan);
  Type element = b.element(x);
  auto along = [&](Value vector) {
    Dims wide(b.rank(x), b.c(1));
    wide[plan.axis] = plan.out;
    return b.reshape(vector, wide);
  };
  Value total;
  if (mode == "nearest") {
    // Where the rounding depends on scales, they are given.
    StringRef rounding = nearestMode(node, plan.scale.value_or(1));
    total = b.gather(x, vectors.nearest(rounding), plan.axis);
  } else {
    int64_t first = mode == "linear" ? 0 : -1, count = mode == "linear" ? 2 : 4;
    for (auto [k, weight] :
         llvm::enumerate(vectors.weights(mode, first, count))) {
      Value indices = vectors.indices(first + static_cast<int64_t>(k));
      Value part = b.mul(b.gather(x, indices, plan.axis),
                         along(b.convert(weight, element)));
      total = total ? b.add(total, part) : part;
    }
  }
  if (!crops)
    return total;
  return b.select(along(vectors.outside()),
                  b.splat(node.f("extrapolation_value", 0), element), total);
}
