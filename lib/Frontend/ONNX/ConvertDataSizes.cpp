//===- ConvertDataSizes.cpp - sizes that only the data tell ---------------===//
//
// graph.prefix gives a tensor a size from the data; everything here is built so
// that the largest such size follows from the operands' shapes. Slice and Split
// with parameters known at run time are gathers by a prefix of 0, 1, 2, ...
//
//===----------------------------------------------------------------------===//

#include "DeclaredSizes.h"

using namespace dlc;
using namespace mlir;

static Type getI64(GraphBuilder &b) { return b.builder.getI64Type(); }

Value dlc::makePrefix(NodeContext &node, Value x, Value count) {
  GraphBuilder &b = node.b;
  if (DenseElementsAttr known = GraphBuilder::asConstant(count))
    return b.sliceAxis(x, 0, b.c(0), b.c(*known.value_begin<int64_t>()));
  Dims out = b.dims(x);
  out[0] = node.converter.makeSymbol(node.op);
  return b.emit("graph.prefix", {x, count}, {},
                graph::makeTensorType(out, b.element(x)));
}

Value dlc::makeSizeValue(NodeContext &node, AffineExpr size) {
  GraphBuilder &b = node.b;
  if (std::optional<int64_t> n = graph::constantValue(size))
    return b.splatInt(*n, getI64(b));
  Entry entry = Entry::known({{}, getI64(b), {size}});
  return node.converter.materialize(entry);
}

/// x[start + i * step] along an axis for i < count; the scalars have one
/// element, `count` is at most the axis' size.
static Value takeRange(NodeContext &node, Value x, int64_t axis, Value start,
                       Value count, Value step = {}) {
  GraphBuilder &b = node.b;
  Value at = makePrefix(node, b.iota(b.dim(x, axis), getI64(b)), count);
  if (step)
    at = b.mul(at, step);
  return b.gather(x, b.add(at, start), axis);
}

/// Element i of a rank-1 integer tensor, as i64 of shape [1].
static Value elementAt(GraphBuilder &b, Value x, int64_t i) {
  return b.convert(b.sliceAxis(x, 0, b.c(i), b.c(1)), getI64(b));
}

static NodeConverter convertKnownSlice, convertKnownSplit;

/// One axis: Slice's rules for negative, out of range and reversed bounds.
static Value sliceAxis(NodeContext &node, Value x, int64_t axis, Value start,
                       Value end, Value step) {
  GraphBuilder &b = node.b;
  Type i64 = getI64(b);
  Value zero = b.splatInt(0, i64, {1}), one = b.splatInt(1, i64, {1});
  Value size = b.reshape(makeSizeValue(node, b.dim(x, axis)), {1});
  Value forward = b.emit("graph.gt", {step, zero});
  auto clamp = [&](Value bound, Value low) {
    Value isBack = b.emit("graph.lt", {bound, zero});
    bound = b.select(isBack, b.add(bound, size), bound);
    Value high = b.select(forward, size, b.sub(size, one));
    return b.min(b.max(bound, low), high);
  };
  start = clamp(start, zero);
  end = clamp(end, b.select(forward, zero, b.splatInt(-1, i64, {1})));
  Value span = b.select(forward, b.sub(end, start), b.sub(start, end));
  Value stride = b.unary("graph.abs", step);
  Value count = b.div(b.sub(b.add(span, stride), one), stride);
  return takeRange(node, x, axis, start, b.max(count, zero), step);
}

static void convertSlice(NodeContext &node) {
  GraphBuilder &b = node.b;
  bool isKnown = node.shapeValue(1) && node.shapeValue(2);
  for (unsigned i : {3u, 4u})
    isKnown &= !node.has(i) || node.shapeValue(i).has_value();
  if (isKnown)
    return convertKnownSlice(node);
  Value x = node.in(0), starts = node.in(1), ends = node.in(2),
        axes = node.maybe(3), steps = node.maybe(4);
  SmallVector<int64_t> length = b.staticDims(starts, "a slice");
  for (Value other : {ends, axes, steps})
    if (other && ArrayRef(b.staticDims(other, "a slice")) != ArrayRef(length))
      refuseMalformed("starts, ends, axes and steps differ in length");
  if (length.size() != 1)
    refuseMalformed("starts must be a list");
  Type i64 = getI64(b);
  Value one = b.splatInt(1, i64, {1});
  int64_t rank = b.rank(x);
  std::optional<ShapeValue> known;
  if (axes)
    known = node.shapeValue(3);
  // Axis by axis: the list is short, and an axis of the data may be any of it.
  for (int64_t axis = 0; axis < rank; ++axis) {
    Value start, end, step;
    for (int64_t i = 0; i < length[0]; ++i) {
      Value from = elementAt(b, starts, i), to = elementAt(b, ends, i);
      Value by = steps ? elementAt(b, steps, i) : one;
      if (!axes || known) {
        int64_t given = known ? *graph::constantValue(known->values[i]) : i;
        if (normalizeAxis(given, rank) == axis)
          start = from, end = to, step = by;
        continue;
      }
      if (!start) {
        start = b.splatInt(0, i64, {1});
        end = b.splatInt(INT64_MAX, i64, {1});
        step = one;
      }
      Value given = elementAt(b, axes, i);
      Value isThis = b.emit(
          "graph.bit_or",
          {b.emit("graph.eq", {given, b.splatInt(axis, i64, {1})}),
           b.emit("graph.eq", {given, b.splatInt(axis - rank, i64, {1})})});
      start = b.select(isThis, from, start);
      end = b.select(isThis, to, end);
      step = b.select(isThis, by, step);
    }
    if (start)
      x = sliceAxis(node, x, axis, start, end, step);
  }
  node.result(x);
}

static void convertSplit(NodeContext &node) {
  if (!node.has(1) || node.shapeValue(1))
    return convertKnownSplit(node);
  GraphBuilder &b = node.b;
  Value x = node.in(0), sizes = node.in(1);
  int64_t axis = normalizeAxis(node.i("axis", 0), b.rank(x)),
          parts = node.op->getNumResults();
  if (b.rank(sizes) != 1 || graph::constantValue(b.dim(sizes, 0)) != parts)
    refuseMalformed("'split' is " + describeType(sizes.getType()) + " for " +
                    std::to_string(parts) + " results");
  Value start = b.splatInt(0, getI64(b), {1});
  for (int64_t i = 0; i < parts; ++i) {
    Value size = elementAt(b, sizes, i);
    node.result(i, takeRange(node, x, axis, start, size));
    start = b.add(start, size);
  }
}

void dlc::addDataSizes(ConverterTable &table) {
  convertKnownSlice = table.lookup("Slice");
  convertKnownSplit = table.lookup("Split");
  table["Slice"] = convertSlice;
  table["Split"] = convertSplit;
  addDeclaredSizes(table);
}
