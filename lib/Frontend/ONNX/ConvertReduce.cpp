//===- ConvertReduce.cpp - folds over axes --------------------------------===//
//
// Reduce*, ArgMax and ArgMin, CumSum. The graph's reduce keeps folded dims as
// 1; the ones that go are reshaped away.
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

using namespace dlc;
using namespace mlir;
using graph::FoldKind;

/// Axes of a reduction: operand 1, or all; empty with noop_with_empty_axes.
static SmallVector<int64_t> reduceAxes(NodeContext &node, Value x) {
  SmallVector<int64_t> axes;
  if (node.has(1))
    axes = normalizeAxes(node.ints(1, "axes"), node.b.rank(x));
  if (axes.empty() && !node.i("noop_with_empty_axes", 0))
    for (int64_t i = 0; i < node.b.rank(x); ++i)
      axes.push_back(i);
  return axes;
}

/// Drops the folded dims unless keepdims asks for them.
static void finish(NodeContext &node, Value folded, ArrayRef<int64_t> axes) {
  node.result(node.i("keepdims", 1) ? folded : node.b.squeeze(folded, axes));
}

template <FoldKind Kind>
static void convertFold(NodeContext &node) {
  Value x = node.in(0);
  SmallVector<int64_t> axes = reduceAxes(node, x);
  FoldKind kind = Kind;
  // On booleans max and min are or and and.
  if (node.b.element(x).isInteger(1))
    kind = Kind == FoldKind::max   ? FoldKind::bit_or
           : Kind == FoldKind::min ? FoldKind::bit_and
                                   : Kind;
  finish(node, node.b.reduce(x, kind, axes), axes);
}

static void convertReduceMean(NodeContext &node) {
  Value x = node.in(0);
  Type element = node.b.element(x), wide = wideType(element);
  SmallVector<int64_t> axes = reduceAxes(node, x);
  finish(
      node,
      node.b.convert(makeMean(node.b, node.b.convert(x, wide), axes), element),
      axes);
}

/// sum(f(x)) then g of it, in f32 for 16-bit floats.
static void convertSumOf(NodeContext &node, function_ref<Value(Value)> before,
                         function_ref<Value(Value)> after) {
  Value x = node.in(0);
  Type element = node.b.element(x);
  SmallVector<int64_t> axes = reduceAxes(node, x);
  Value wide = before(node.b.convert(x, wideType(element)));
  finish(
      node,
      node.b.convert(after(node.b.reduce(wide, FoldKind::add, axes)), element),
      axes);
}

static void convertReduceL1(NodeContext &node) {
  convertSumOf(
      node, [&](Value x) { return node.b.unary("graph.abs", x); },
      [](Value sum) { return sum; });
}
static void convertReduceL2(NodeContext &node) {
  if (!isFloat(node.b.element(node.in(0)))) {
    // Through f64: the root of an integer sum is rounded toward zero.
    Value x = node.in(0);
    SmallVector<int64_t> axes = reduceAxes(node, x);
    Value wide = node.b.convert(x, node.b.builder.getF64Type());
    Value root =
        node.b.unary("graph.sqrt", node.b.reduce(node.b.mul(wide, wide),
                                                 FoldKind::add, axes));
    return finish(node, node.b.convert(root, node.b.element(x)), axes);
  }
  convertSumOf(
      node, [&](Value x) { return node.b.mul(x, x); },
      [&](Value sum) { return node.b.unary("graph.sqrt", sum); });
}
static void convertReduceSumSquare(NodeContext &node) {
  convertSumOf(
      node, [&](Value x) { return node.b.mul(x, x); },
      [](Value sum) { return sum; });
}
static void convertReduceLogSum(NodeContext &node) {
  convertSumOf(
      node, [](Value x) { return x; },
      [&](Value sum) { return node.b.unary("graph.log", sum); });
}

/// log(sum(exp(x))) = m + log(sum(exp(x - m))) with m the maximum, 0 where
/// that is infinite so that inf - inf does not arise.
static void convertReduceLogSumExp(NodeContext &node) {
  Value input = node.in(0);
  Type element = node.b.element(input);
  if (!isFloat(element))
    refuse("integers");
  SmallVector<int64_t> axes = reduceAxes(node, input);
  Value x = node.b.convert(input, wideType(element));
  Value top = node.b.reduce(x, FoldKind::max, axes);
  Value zero = node.b.splat(0, node.b.element(x));
  Value infinite = node.b.emit("graph.isinf", {top});
  Value shift = node.b.select(infinite, zero, top);
  Value sum = node.b.reduce(node.b.unary("graph.exp", node.b.sub(x, shift)),
                            FoldKind::add, axes);
  finish(node,
         node.b.convert(node.b.add(node.b.unary("graph.log", sum), shift),
                        element),
         axes);
}

static void convertArg(NodeContext &node, FoldKind first, FoldKind last) {
  Value x = node.in(0);
  int64_t axis = normalizeAxis(node.i("axis", 0), node.b.rank(x));
  finish(
      node,
      node.b.reduce(x, node.i("select_last_index", 0) ? last : first, {axis}),
      {axis});
}
static void convertArgMax(NodeContext &node) {
  convertArg(node, FoldKind::argmax, FoldKind::argmax_last);
}
static void convertArgMin(NodeContext &node) {
  convertArg(node, FoldKind::argmin, FoldKind::argmin_last);
}

static void convertCumSum(NodeContext &node) {
  Value x = node.in(0);
  SmallVector<int64_t> axis = node.ints(1, "axis");
  if (axis.size() != 1)
    refuseMalformed("'axis' must be one number");
  GraphBuilder &b = node.b;
  SmallVector<NamedAttribute> attributes{b.attr(
      "axis", b.builder.getI64IntegerAttr(normalizeAxis(axis[0], b.rank(x))))};
  for (StringRef flag : {"exclusive", "reverse"})
    if (node.i(flag, 0))
      attributes.push_back(b.attr(flag, b.builder.getUnitAttr()));
  node.result(b.emit("graph.cumsum", {x}, attributes));
}

/// Each element is the product of a masked copy of the axis.
static void convertCumProd(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  SmallVector<int64_t> given = node.ints(1, "axis");
  if (given.size() != 1)
    refuseMalformed("'axis' must be one number");
  int64_t rank = b.rank(x), axis = normalizeAxis(given[0], rank);
  bool exclusive = node.i("exclusive", 0), reverse = node.i("reverse", 0);
  Type i64 = b.builder.getI64Type();
  // x gets a new axis before `axis`: element i there folds elements j.
  AffineExpr size = b.dim(x, axis);
  Dims to(rank + 1, b.c(1)), from(rank + 1, b.c(1));
  to[axis] = size;
  from[axis + 1] = size;
  Value i = b.reshape(b.iota(size, i64), to),
        j = b.reshape(b.iota(size, i64), from);
  StringRef inside = reverse ? (exclusive ? "graph.gt" : "graph.ge")
                             : (exclusive ? "graph.lt" : "graph.le");
  Value masked = b.select(b.emit(inside, {j, i}), b.unsqueeze(x, {axis}),
                          b.splatInt(1, b.element(x)));
  node.result(
      b.squeeze(b.reduce(masked, FoldKind::mul, {axis + 1}), {axis + 1}));
}

void dlc::addReductions(ConverterTable &table) {
  table["ReduceSum"] = convertFold<FoldKind::add>;
  table["ReduceProd"] = convertFold<FoldKind::mul>;
  table["ReduceMax"] = convertFold<FoldKind::max>;
  table["ReduceMin"] = convertFold<FoldKind::min>;
  table["ReduceMean"] = convertReduceMean;
  table["ReduceL1"] = convertReduceL1;
  table["ReduceL2"] = convertReduceL2;
  table["ReduceSumSquare"] = convertReduceSumSquare;
  table["ReduceLogSum"] = convertReduceLogSum;
  table["ReduceLogSumExp"] = convertReduceLogSumExp;
  table["ArgMax"] = convertArgMax;
  table["ArgMin"] = convertArgMin;
  table["CumSum"] = convertCumSum;
  table["CumProd"] = convertCumProd;
}
