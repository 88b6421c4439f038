//===- ConvertSorting.cpp - order and selection by data -------------------===//
//
// TopK, Unique, NonZero, NonMaxSuppression and Compress with a condition that
// only the data tell. Results whose size the data tell get a dim symbol of
// their own, bound by graph.prefix.
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

using namespace dlc;
using namespace mlir;

/// The first k row numbers of each batch (b, n, m) in order: (b, k).
static Value argsort(GraphBuilder &b, Value x, AffineExpr k, bool descending) {
  SmallVector<NamedAttribute> attributes;
  if (descending)
    attributes.push_back(b.attr("descending", b.builder.getUnitAttr()));
  return b.emit(
      "graph.argsort", {x}, attributes,
      graph::makeTensorType({b.dim(x, 0), k}, b.builder.getI64Type()));
}

/// Positions where a mask (n) is true, then zeros: (n).
static Value compact(GraphBuilder &b, Value mask) {
  return b.emit("graph.compact", {mask}, {},
                graph::makeTensorType(b.dims(mask), b.builder.getI64Type()));
}

/// The number of true elements of a mask (n), as one element.
static Value countTrue(GraphBuilder &b, Value mask) {
  return b.reduce(b.convert(mask, b.builder.getI64Type()), graph::FoldKind::add,
                  {0});
}

static void convertTopK(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  int64_t rank = b.rank(x), axis = normalizeAxis(node.i("axis", -1), rank);
  AffineExpr size = b.dim(x, axis), k = size;
  std::optional<ShapeValue> wanted = node.shapeValue(1);
  if (wanted) {
    if (wanted->values.size() != 1)
      refuseMalformed("'K' must be one number");
    k = wanted->values[0];
  }
  std::optional<int64_t> n = graph::constantValue(size),
                         count = graph::constantValue(k);
  if (count && (*count < 0 || (n && *count > *n)))
    refuseMalformed("'K' is " + std::to_string(*count) + " of a dim of " +
                    (n ? std::to_string(*n) : "symbolic size"));
  // The axis goes last; the others are batches.
  SmallVector<int64_t> toLast, back(rank);
  for (int64_t i = 0; i < rank; ++i)
    if (i != axis)
      toLast.push_back(i);
  toLast.push_back(axis);
  for (auto [to, from] : llvm::enumerate(toLast))
    back[from] = to;
  Value moved = b.transpose(x, toLast);
  Dims dims = b.dims(moved);
  AffineExpr batches = graph::product(b.context(), ArrayRef(dims).drop_back());
  Value rows = b.reshape(moved, {batches, size, b.c(1)});
  Value order = argsort(b, rows, k, node.i("largest", 1));
  if (!wanted) {
    // All are sorted; the first K, along the leading dim, are a view.
    Value first = makePrefix(node, b.transpose(order, {1, 0}), node.in(1));
    order = b.transpose(first, {1, 0});
    k = b.dim(order, 1);
  }
  Dims out = dims;
  out.back() = k;
  order = b.reshape(order, out);
  node.result(0, b.transpose(b.gatherElements(moved, order, rank - 1), back));
  node.result(1, b.transpose(order, back));
}

static void convertNonZero(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Type element = b.element(x);
  Dims dims = b.dims(x);
  if (dims.empty())
    dims.push_back(b.c(1));
  Value mask = b.reshape(x, {graph::product(b.context(), dims)});
  if (!element.isInteger(1))
    mask = b.emit("graph.ne", {mask, b.splat(0, element)});
  Value rest = makePrefix(node, compact(b, mask), countTrue(b, mask));
  // The digits of each position, the last axis first.
  SmallVector<Value> coordinates(dims.size());
  for (size_t i = dims.size(); i-- > 0;) {
    Value size = makeSizeValue(node, dims[i]);
    coordinates[i] = b.unsqueeze(i ? b.mod(rest, size) : rest, {0});
    if (i)
      rest = b.div(rest, size);
  }
  node.result(b.concat(coordinates, 0));
}

static void convertCompress(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0), condition = node.in(1);
  int64_t axis = 0;
  if (node.hasAttr("axis"))
    axis = normalizeAxis(node.i("axis", 0), b.rank(x));
  else
    x = b.reshape(x, {graph::product(b.context(), b.dims(x))});
  if (std::optional<ShapeValue> known = node.shapeValue(1);
      known && known->isConstant()) {
    SmallVector<int64_t> kept;
    for (auto [i, flag] : llvm::enumerate(known->values))
      if (graph::constantValue(flag) != 0)
        kept.push_back(i);
    return node.result(
        b.gather(x,
                 b.constantInts(kept, {static_cast<int64_t>(kept.size())},
                                b.builder.getI64Type()),
                 axis));
  }
  // A short condition says nothing of the rest, which goes.
  Value at = makePrefix(node, compact(b, condition), countTrue(b, condition));
  node.result(b.gather(x, at, axis));
}

static void convertNonMaxSuppression(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value boxes = node.in(0), scores = node.in(1);
  Type i64 = b.builder.getI64Type(), f32 = b.builder.getF32Type();
  if (b.rank(boxes) != 3 || b.rank(scores) != 3)
    refuseMalformed("wants boxes (batch, n, 4) and scores (batch, class, n)");
  AffineExpr batches = b.dim(scores, 0), classes = b.dim(scores, 1),
             n = b.dim(scores, 2), most = n;
  Value limit;
  if (std::optional<ShapeValue> known = node.shapeValue(2);
      known && known->isConstant() && known->values.size() == 1) {
    int64_t given =
        std::max<int64_t>(*graph::constantValue(known->values[0]), 0);
    if (std::optional<int64_t> size = graph::constantValue(n))
      most = b.c(std::min(given, *size));
    limit = b.splatInt(given, i64, {1});
    if (given == 0)
      most = b.c(0);
  } else if (Value given = node.maybe(2)) {
    limit = b.reshape(given, ArrayRef<int64_t>{1});
  } else {
    most = b.c(0);
  }
  if (graph::constantValue(most) == 0)
    return node.result(b.constantInts({}, {0, 3}, i64));
  auto parameter = [&](unsigned i, double otherwise) {
    Value given = node.maybe(i);
    return given ? b.reshape(given, ArrayRef<int64_t>{1})
                 : b.splat(otherwise, f32, {1});
  };
  Value order = argsort(b, b.reshape(scores, {batches * classes, n, b.c(1)}), n,
                        /*descending=*/true);
  SmallVector<NamedAttribute> attributes;
  if (node.i("center_point_box", 0))
    attributes.push_back(b.attr("center", b.builder.getUnitAttr()));
  Value selected = b.emit(
      "graph.nms",
      {boxes, scores, order, limit, parameter(3, 0), parameter(4, -INFINITY)},
      attributes, graph::makeTensorType({batches, classes, most}, i64));
  Value flat = b.reshape(selected, {batches * classes * most});
  Value mask = b.emit("graph.ge", {flat, b.splatInt(0, i64)});
  Value at = makePrefix(node, compact(b, mask), countTrue(b, mask));
  Value owner = b.div(at, makeSizeValue(node, most)),
        perBatch = makeSizeValue(node, classes);
  SmallVector<Value> columns;
  for (Value column :
       {b.div(owner, perBatch), b.mod(owner, perBatch), b.gather(flat, at, 0)})
    columns.push_back(b.unsqueeze(column, {1}));
  node.result(b.concat(columns, 1));
}

/// 1 where a row differs from the one before; the first one does.
static Value markFirsts(GraphBuilder &b, Value rows) {
  Type i64 = b.builder.getI64Type();
  Value number = b.iota(b.dim(rows, 0), i64), zero = b.splatInt(0, i64);
  Value before = b.max(b.sub(number, b.splatInt(1, i64)), zero);
  Value differs = b.emit("graph.ne", {rows, b.gather(rows, before, 0)});
  differs = b.squeeze(b.reduce(differs, graph::FoldKind::bit_or, {1}), {1});
  return b.emit("graph.bit_or", {differs, b.emit("graph.eq", {number, zero})});
}

/// Sorts rows; a group of equal ones begins where a row differs from the one
/// before. The sort is stable: a group's first is its first in the operand too.
static void convertUnique(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Type i64 = b.builder.getI64Type();
  bool hasAxis = node.hasAttr("axis");
  int64_t axis = hasAxis ? normalizeAxis(node.i("axis", 0), b.rank(x)) : 0;
  SmallVector<int64_t> perm{axis}, back(b.rank(x));
  for (int64_t i = 0; i < b.rank(x); ++i)
    if (i != axis)
      perm.push_back(i);
  Value moved = x;
  AffineExpr n = graph::product(b.context(), b.dims(x)), m = b.c(1);
  if (hasAxis) {
    moved = b.transpose(x, perm);
    n = b.dim(moved, 0);
    m = graph::product(b.context(), ArrayRef(b.dims(moved)).drop_front());
  } else {
    moved = b.reshape(x, {n});
  }
  auto sortNumbers = [&](Value numbers) {
    AffineExpr size = b.dim(numbers, 0);
    return b.reshape(
        argsort(b, b.reshape(numbers, {b.c(1), size, b.c(1)}), size, false),
        {size});
  };
  Value rows = b.reshape(moved, {n, m});
  Value order =
      b.reshape(argsort(b, b.reshape(moved, {b.c(1), n, m}), n, false), {n});
  Value isFirst = markFirsts(b, b.gather(rows, order, 0));
  Value at = makePrefix(node, compact(b, isFirst), countTrue(b, isFirst));
  Value firsts = b.gather(order, at, 0), rank; // of groups, where not sorted
  if (!node.i("sorted", 1)) {
    rank = sortNumbers(firsts);
    firsts = b.gather(firsts, rank, 0);
  }
  Value unique = b.gather(moved, firsts, 0);
  if (hasAxis) {
    for (auto [to, from] : llvm::enumerate(perm))
      back[from] = to;
    unique = b.transpose(unique, back);
  }
  node.result(0, unique);
  node.result(1, firsts);
  if (!node.wants(2) && !node.wants(3))
    return;
  // The group of each row in sorted order.
  Value group = b.emit("graph.cumsum", {b.convert(isFirst, i64)},
                       {b.attr("axis", b.builder.getI64IntegerAttr(0))});
  group = b.sub(group, b.splatInt(1, i64));
  if (rank)
    group = b.gather(sortNumbers(rank), group, 0);
  if (node.wants(2))
    node.result(2, b.gather(group, sortNumbers(order), 0));
  if (node.wants(3)) {
    AffineExpr groups = b.dim(firsts, 0);
    Value zeros = b.broadcast(b.splatInt(0, i64), {groups, b.c(1)}),
          ones = b.broadcast(b.splatInt(1, i64), {n, b.c(1)});
    auto kind = graph::FoldKindAttr::get(b.context(), graph::FoldKind::add);
    Value counts = b.emit("graph.scatter", {zeros, group, ones},
                          {b.attr("kind", kind)}, zeros.getType());
    node.result(3, b.reshape(counts, {groups}));
  }
}

void dlc::addSorting(ConverterTable &table) {
  table["TopK"] = convertTopK;
  table["NonZero"] = convertNonZero;
  table["Compress"] = convertCompress;
  table["NonMaxSuppression"] = convertNonMaxSuppression;
  table["Unique"] = convertUnique;
}
