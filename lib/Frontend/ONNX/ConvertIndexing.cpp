//===- ConvertIndexing.cpp - elements chosen by data ----------------------===//
//
// Gather and its relatives, Trilu, OneHot and the scatters that the graph
// dialect can say as gathers or masks.
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

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
    if (size) {
      Value slice = node.b.sliceAxis(x, axis, start, node.b.c(1));
      Dims out = node.b.dims(slice);
      out.erase(out.begin() + axis);
      out.insert(out.begin() + axis, known->dims.size(), node.b.c(1));
      return node.result(node.b.reshape(slice, out));
    }
  }
  node.result(node.b.gather(x, readIndices(node, 1), axis));
}

static void convertGatherElements(NodeContext &node) {
  Value x = node.in(0);
  node.result(
      node.b.gatherElements(x, readIndices(node, 1),
                            normalizeAxis(node.i("axis", 0), node.b.rank(x))));
}

/// Row-major position in dims of index tuples (the last axis of `indices`),
/// negative entries counted from the end.
static Value flattenTuples(GraphBuilder &b, Value indices,
                           ArrayRef<AffineExpr> sizes) {
  Type i64 = b.builder.getI64Type();
  int64_t last = b.rank(indices) - 1;
  Value flat;
  for (auto [i, size] : llvm::enumerate(sizes)) {
    std::optional<int64_t> n = graph::constantValue(size);
    if (!n)
      refuse("index tuples into symbolic dims");
    Value part = b.squeeze(b.sliceAxis(indices, last, b.c(i), b.c(1)), {last});
    Value wrapped = b.select(b.emit("graph.lt", {part, b.splatInt(0, i64)}),
                             b.add(part, b.splatInt(*n, i64)), part);
    flat = flat ? b.add(b.mul(flat, b.splatInt(*n, i64)), wrapped) : wrapped;
  }
  return flat;
}

/// Index tuples become row-major positions into the leading dims, merged.
static void convertGatherND(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0),
        indices = node.b.convert(node.in(1), b.builder.getI64Type());
  int64_t batch = node.i("batch_dims", 0), rank = b.rank(x),
          indexRank = b.rank(indices);
  std::optional<int64_t> depth = graph::constantValue(b.dims(indices).back());
  if (!depth || batch < 0 || batch >= indexRank || batch + *depth > rank)
    refuseMalformed("indices " + describeType(indices.getType()) +
                    " do not fit " + describeType(x.getType()));
  Dims dims = b.dims(x), indexDims = b.dims(indices);
  Value flat = flattenTuples(b, indices, ArrayRef(dims).slice(batch, *depth));
  // The batch number is one more leading digit.
  AffineExpr batches =
      graph::product(b.context(), ArrayRef(dims).take_front(batch));
  AffineExpr inner =
      graph::product(b.context(), ArrayRef(dims).slice(batch, *depth));
  Dims merged{batches * inner};
  merged.append(dims.begin() + batch + *depth, dims.end());
  if (batch) {
    std::optional<int64_t> n = graph::constantValue(batches),
                           m = graph::constantValue(inner);
    if (!n || !m)
      refuse("batch_dims over symbolic dims");
    Dims numbers(ArrayRef(dims).take_front(batch));
    numbers.append(indexRank - 1 - batch, b.c(1));
    Value offset = b.reshape(
        b.iota(batches, b.builder.getI64Type(), 0, static_cast<double>(*m)),
        numbers);
    flat = b.add(flat, offset);
  }
  node.result(b.gather(b.reshape(x, merged), flat, 0));
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

/// Writes chosen by constant or run-time indices, one update after the other:
/// each is a select over the whole tensor, so only a few are unrolled.
static constexpr int64_t kMaxUpdates = 64;

static Value combine(GraphBuilder &b, StringRef reduction, Value old,
                     Value update) {
  if (reduction == "none")
    return update;
  return b.emit(llvm::StringSwitch<StringRef>(reduction)
                    .Case("add", "graph.add")
                    .Case("mul", "graph.mul")
                    .Case("max", "graph.max")
                    .Case("min", "graph.min")
                    .Default("graph.add"),
                {old, update});
}

/// y = x with y[i with i[axis] = indices[i]] combined with updates[i]. Along
/// the axis each update position is one masked step over the whole tensor.
static void convertScatterElements(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value y = node.in(0), indices = node.in(1), updates = node.in(2);
  StringRef reduction = node.s("reduction", "none");
  int64_t rank = b.rank(y), axis = normalizeAxis(node.i("axis", 0), rank);
  Type i64 = b.builder.getI64Type();
  SmallVector<int64_t> dims = b.staticDims(y, "a scatter"),
                       part = b.staticDims(indices, "a scatter");
  if (part.size() != dims.size())
    refuseMalformed("indices must have the data's rank");
  if (part[axis] > kMaxUpdates)
    refuse("more than " + std::to_string(kMaxUpdates) +
           " updates along an axis");
  Dims along(rank, b.c(1));
  along[axis] = b.c(dims[axis]);
  Value positions = b.reshape(b.iota(b.c(dims[axis]), i64), along);
  Value at = b.convert(indices, i64);
  at = b.select(b.emit("graph.lt", {at, b.splatInt(0, i64)}),
                b.add(at, b.splatInt(dims[axis], i64)), at);
  SmallVector<int64_t> low(rank, 0), high(rank, 0);
  for (int64_t i = 0; i < rank; ++i)
    high[i] = i == axis ? 0 : dims[i] - part[i];
  if (llvm::any_of(high, [](int64_t pad) { return pad < 0; }))
    refuseMalformed("indices are larger than the data");
  for (int64_t step = 0; step < part[axis]; ++step) {
    // Where indices do not reach, -1 matches no position.
    Value index = b.pad(b.sliceAxis(at, axis, b.c(step), b.c(1)),
                        b.splatInt(-1, i64), low, high);
    Value update =
        b.pad(b.sliceAxis(updates, axis, b.c(step), b.c(1)), {}, low, high);
    y = b.select(b.emit("graph.eq", {positions, index}),
                 combine(b, reduction, y, update), y);
  }
  node.result(y);
}

/// The same with index tuples: the indexed dims are merged into one and every
/// tuple is one masked step.
static void convertScatterND(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0), indices = node.in(1), updates = node.in(2);
  Type i64 = b.builder.getI64Type();
  SmallVector<int64_t> dims = b.staticDims(x, "a scatter"),
                       indexDims = b.staticDims(indices, "a scatter");
  int64_t depth = indexDims.back(), tuples = 1, positions = 1, rest = 1;
  if (depth > static_cast<int64_t>(dims.size()))
    refuseMalformed("indices do not fit the data");
  for (int64_t size : ArrayRef(indexDims).drop_back())
    tuples *= size;
  for (auto [i, size] : llvm::enumerate(dims))
    (static_cast<int64_t>(i) < depth ? positions : rest) *= size;
  if (tuples > kMaxUpdates)
    refuse("more than " + std::to_string(kMaxUpdates) + " updates");
  Value flat = flattenTuples(
      b, b.reshape(b.convert(indices, i64), {tuples, depth}),
      graph::constantDims(b.context(), ArrayRef(dims).take_front(depth)));
  Value y = b.reshape(x, {positions, rest}),
        u = b.reshape(updates, {tuples, rest});
  Value rows = b.unsqueeze(b.iota(b.c(positions), i64), {1});
  for (int64_t i = 0; i < tuples; ++i) {
    Value hit =
        b.emit("graph.eq", {rows, b.sliceAxis(flat, 0, b.c(i), b.c(1))});
    y = b.select(hit,
                 combine(b, node.s("reduction", "none"), y,
                         b.sliceAxis(u, 0, b.c(i), b.c(1))),
                 y);
  }
  node.result(b.reshape(y, dims));
}

/// Elements where a constant condition holds.
static void convertCompress(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  SmallVector<int64_t> condition = node.ints(1, "condition"), kept;
  for (auto [i, flag] : llvm::enumerate(condition))
    if (flag)
      kept.push_back(i);
  int64_t axis = 0;
  if (node.hasAttr("axis"))
    axis = normalizeAxis(node.i("axis", 0), b.rank(x));
  else
    x = b.reshape(x, {graph::product(b.context(), b.dims(x))});
  node.result(b.gather(x,
                       b.constantInts(kept, {static_cast<int64_t>(kept.size())},
                                      b.builder.getI64Type()),
                       axis));
}

void dlc::addIndexing(ConverterTable &table) {
  table["Gather"] = convertGather;
  table["GatherElements"] = convertGatherElements;
  table["GatherND"] = convertGatherND;
  table["Trilu"] = convertTrilu;
  table["OneHot"] = convertOneHot;
  table["ReverseSequence"] = convertReverseSequence;
  table["ScatterElements"] = convertScatterElements;
  table["ScatterND"] = convertScatterND;
  table["Compress"] = convertCompress;
}
