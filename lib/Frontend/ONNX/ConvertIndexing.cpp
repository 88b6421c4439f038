//===- ConvertIndexing.cpp - elements chosen by data ----------------------===//
//
// Gather and its relatives along one axis, Trilu, OneHot.
//
//===----------------------------------------------------------------------===//

#include "Converter.h"
#include "SizeComparison.h"

using namespace dlc;
using namespace mlir;

/// Indices as i64, negative ones counted from the end by the operator itself.
static Value readIndices(NodeContext &node, unsigned i) {
  Value indices = node.in(i);
  Type element = node.b.element(indices);
  return element.isInteger(32) || element.isInteger(64)
             ? indices
             : node.b.convert(indices, node.b.builder.getI64Type());
}

static void convertGather(NodeContext &node) {
  Value x = node.in(0);
  int64_t axis = normalizeAxis(node.i("axis", 0), node.b.rank(x));
  std::optional<ShapeValue> known = node.shapeValue(1);
  // One constant index is a slice, which every later pass understands better.
  if (known && known->isConstant() && known->values.size() == 1) {
    std::optional<int64_t> size = graph::constantValue(node.b.dim(x, axis));
    int64_t at = *graph::constantValue(known->values[0]);
    AffineExpr start = at < 0 ? node.b.dim(x, axis) + at : node.b.c(at);
    if (size && (at < -*size || at >= *size))
      refuseMalformed("index " + std::to_string(at) + " is outside a dim of " +
                      std::to_string(*size));
    if (!size)
      requireAtMost(node, node.b.c(at < 0 ? -at : at + 1), node.b.dim(x, axis),
                    "an index is outside its dim");
    Value slice = node.b.sliceAxis(x, axis, start, node.b.c(1));
    Dims out = node.b.dims(slice);
    out.erase(out.begin() + axis);
    out.insert(out.begin() + axis, known->dims.size(), node.b.c(1));
    return node.result(node.b.reshape(slice, out));
  }
  node.result(node.b.gather(x, readIndices(node, 1), axis));
}

static void convertGatherElements(NodeContext &node) {
  Value x = node.in(0);
  node.result(
      node.b.gatherElements(x, readIndices(node, 1),
                            normalizeAxis(node.i("axis", 0), node.b.rank(x))));
}

/// Row and column numbers of the last two axes; true where the element stays.
static void convertTrilu(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  int64_t rank = b.rank(x), diagonal = 0;
  if (rank < 2)
    refuseMalformed("wants a matrix");
  Type i64 = b.builder.getI64Type();
  Value offset;
  if (std::optional<ShapeValue> known = node.shapeValue(1);
      known && known->isConstant() && known->values.size() == 1)
    diagonal = *graph::constantValue(known->values[0]);
  else if (Value k = node.maybe(1))
    offset = b.reshape(k, ArrayRef<int64_t>{});
  Value rows = b.unsqueeze(b.iota(b.dim(x, rank - 2), i64), {1});
  Value columns = b.iota(b.dim(x, rank - 1), i64);
  Value limit = b.add(rows, offset ? offset : b.splatInt(diagonal, i64));
  Value keep =
      b.emit(node.i("upper", 1) ? "graph.ge" : "graph.le", {columns, limit});
  node.result(b.select(keep, x, b.splat(0, b.element(x))));
}

static void convertOneHot(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value indices = node.in(0), values = node.in(2);
  Type i64 = b.builder.getI64Type();
  std::optional<ShapeValue> known = node.shapeValue(1);
  int64_t depth = 0;
  if (known && known->isConstant() && known->values.size() == 1)
    depth = *graph::constantValue(known->values[0]);
  else if (!known && GraphBuilder::asConstant(node.in(1)) &&
           isFloat(b.element(node.in(1))))
    depth = static_cast<int64_t>(node.floats(1, "depth")[0]);
  else
    refuse("'depth' must be constant");
  if (depth < 0)
    refuseMalformed("'depth' is negative");
  int64_t axis = normalizeAxis(node.i("axis", -1), b.rank(indices) + 1);
  Value at = b.unsqueeze(b.convert(indices, i64), {axis});
  // Negative indices count from the end; those outside match nothing.
  at = b.select(b.emit("graph.lt", {at, b.splatInt(0, i64)}),
                b.add(at, b.splatInt(depth, i64)), at);
  Dims along(b.rank(indices) + 1, b.c(1));
  along[axis] = b.c(depth);
  Value positions = b.reshape(b.iota(b.c(depth), i64), along);
  Value off =
      b.reshape(b.sliceAxis(values, 0, b.c(0), b.c(1)), ArrayRef<int64_t>{});
  Value on =
      b.reshape(b.sliceAxis(values, 0, b.c(1), b.c(1)), ArrayRef<int64_t>{});
  node.result(b.select(b.emit("graph.eq", {at, positions}), on, off));
}

/// Reverses the first lengths[b] elements of each sequence: a gather whose
/// index is length - 1 - t inside and t outside.
static void convertReverseSequence(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0), lengths = node.in(1);
  int64_t batch = node.i("batch_axis", 1), time = node.i("time_axis", 0);
  if (batch + time != 1 || batch * time != 0)
    refuseMalformed("batch_axis and time_axis must be 0 and 1");
  Type i64 = b.builder.getI64Type();
  SmallVector<int64_t> lengthAxes, timeAxes;
  for (int64_t i = 0; i < b.rank(x); ++i) {
    if (i != batch)
      lengthAxes.push_back(i);
    if (i != time)
      timeAxes.push_back(i);
  }
  Value count = b.unsqueeze(b.convert(lengths, i64), lengthAxes);
  Value t = b.unsqueeze(b.iota(b.dim(x, time), i64), timeAxes);
  Value mirrored = b.sub(b.sub(count, b.splatInt(1, i64)), t);
  Value at = b.select(b.emit("graph.lt", {t, count}), mirrored, t);
  node.result(b.gatherElements(x, b.broadcast(at, b.dims(x)), time));
}

void dlc::addIndexing(ConverterTable &table) {
  table["Gather"] = convertGather;
  table["GatherElements"] = convertGatherElements;
  table["Trilu"] = convertTrilu;
  table["OneHot"] = convertOneHot;
  table["ReverseSequence"] = convertReverseSequence;
}
