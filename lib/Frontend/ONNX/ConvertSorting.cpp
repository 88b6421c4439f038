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

/// The first `count` rows of x; their number is a new symbol named for the
/// node.
static Value prefix(NodeContext &node, Value x, Value count) {
  GraphBuilder &b = node.b;
  Dims out = b.dims(x);
  out[0] = node.converter.makeSymbol(node.op);
  return b.emit("graph.prefix", {x, count}, {},
                graph::makeTensorType(out, b.element(x)));
}

/// Numbers 0, 1, 2, ... of a size.
static Value numbers(GraphBuilder &b, AffineExpr size) {
  return b.iota(size, b.builder.getI64Type());
}

static void convertTopK(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  int64_t rank = b.rank(x), axis = normalizeAxis(node.i("axis", -1), rank);
  Dims wanted = node.symbolic(1, "K");
  if (wanted.size() != 1)
    refuseMalformed("'K' must be one number");
  AffineExpr k = wanted[0], size = b.dim(x, axis);
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
  Dims out = dims;
  out.back() = k;
  Value order = b.reshape(argsort(b, rows, k, node.i("largest", 1)), out);
  node.result(0, b.transpose(b.gatherElements(moved, order, rank - 1), back));
  node.result(1, b.transpose(order, back));
}

static void convertNonZero(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Type element = b.element(x), i64 = b.builder.getI64Type();
  SmallVector<int64_t> dims = b.staticDims(x, "NonZero");
  if (dims.empty())
    dims.push_back(1);
  int64_t total = 1;
  for (int64_t size : dims)
    total *= size;
  Value flat = b.reshape(x, {total});
  Value mask = element.isInteger(1)
                   ? flat
                   : b.emit("graph.ne", {flat, b.splat(0, element)});
  Value at = prefix(node, compact(b, mask), countTrue(b, mask));
  SmallVector<Value> coordinates;
  int64_t stride = total;
  for (int64_t size : dims) {
    stride /= std::max<int64_t>(size, 1);
    Value digit = b.div(at, b.splatInt(std::max<int64_t>(stride, 1), i64));
    coordinates.push_back(b.unsqueeze(
        b.mod(digit, b.splatInt(std::max<int64_t>(size, 1), i64)), {0}));
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
  Value at = prefix(node, compact(b, condition), countTrue(b, condition));
  node.result(b.gather(x, at, axis));
}

/// (b * c * k) selections and their batch and class, those that exist first.
static void convertNonMaxSuppression(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value boxes = node.in(0), scores = node.in(1);
  Type i64 = b.builder.getI64Type(), f32 = b.builder.getF32Type();
  if (b.rank(boxes) != 3 || b.rank(scores) != 3)
    refuseMalformed("wants boxes (batch, n, 4) and scores (batch, class, n)");
  SmallVector<int64_t> dims = b.staticDims(scores, "NonMaxSuppression");
  int64_t batches = dims[0], classes = dims[1], n = dims[2], most = n;
  Value limit;
  if (std::optional<ShapeValue> known = node.shapeValue(2);
      known && known->isConstant() && known->values.size() == 1) {
    most = std::clamp<int64_t>(*graph::constantValue(known->values[0]), 0, n);
    limit = b.splatInt(most, i64, {1});
  } else if (Value given = node.maybe(2)) {
    limit = b.reshape(given, {1});
  } else {
    most = 0;
  }
  if (most == 0)
    return node.result(b.constantInts({}, {0, 3}, i64));
  auto parameter = [&](unsigned i, double otherwise) {
    Value given = node.maybe(i);
    return given ? b.reshape(given, {1}) : b.splat(otherwise, f32, {1});
  };
  Value order = argsort(b, b.reshape(scores, {batches * classes, n, 1}), b.c(n),
                        /*descending=*/true);
  SmallVector<NamedAttribute> attributes;
  if (node.i("center_point_box", 0))
    attributes.push_back(b.attr("center", b.builder.getUnitAttr()));
  Value selected = b.emit(
      "graph.nms",
      {boxes, scores, order, limit, parameter(3, 0), parameter(4, -INFINITY)},
      attributes,
      graph::makeTensorType({b.c(batches), b.c(classes), b.c(most)}, i64));
  int64_t total = batches * classes * most;
  SmallVector<int64_t> owners;
  for (int64_t i = 0; i < batches; ++i)
    for (int64_t j = 0; j < classes; ++j)
      for (int64_t k = 0; k < most; ++k)
        owners.append({i, j});
  Value table = b.concat({b.constantInts(owners, {total, 2}, i64),
                          b.reshape(selected, {total, 1})},
                         1);
  Value mask =
      b.reshape(b.emit("graph.ge", {selected, b.splatInt(0, i64)}), {total});
  Value at = prefix(node, compact(b, mask), countTrue(b, mask));
  node.result(b.gather(table, at, 0));
}

/// Rows (n, m): where each first occurs among its equals, in the order asked.
static void convertUnique(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Type i64 = b.builder.getI64Type();
  bool hasAxis = node.hasAttr("axis");
  int64_t axis = hasAxis ? normalizeAxis(node.i("axis", 0), b.rank(x)) : 0;
  SmallVector<int64_t> dims = b.staticDims(x, "Unique"), perm{axis};
  for (int64_t i = 0; i < b.rank(x); ++i)
    if (i != axis)
      perm.push_back(i);
  Value moved = hasAxis ? b.transpose(x, perm) : x;
  int64_t n = 1, m = 1;
  for (auto [i, size] : llvm::enumerate(dims))
    (hasAxis && static_cast<int64_t>(i) != axis ? m : n) *= size;
  if (n == 0 || m == 0)
    refuse("an empty operand");
  if (n > 4096)
    refuse("more than 4096 rows");
  Value rows = b.reshape(moved, {n, m});
  // equal[i][j] compares rows of the original order.
  Value equal =
      b.emit("graph.eq", {b.unsqueeze(rows, {1}), b.unsqueeze(rows, {0})});
  equal = b.squeeze(b.reduce(equal, graph::FoldKind::bit_and, {2}), {2});
  // The first row equal to i.
  Value columns = b.broadcast(numbers(b, b.c(n)), {b.c(n), b.c(n)});
  Value first = b.squeeze(b.reduce(b.select(equal, columns, b.splatInt(n, i64)),
                                   graph::FoldKind::min, {1}),
                          {1});
  Value isFirst = b.emit("graph.eq", {first, numbers(b, b.c(n))});
  Value order = numbers(b, b.c(n));
  if (node.i("sorted", 1))
    order = b.reshape(argsort(b, b.unsqueeze(rows, {0}), b.c(n), false), {n});
  // Firsts in the order asked: flags in that order, compacted.
  Value flags = b.gather(isFirst, order, 0);
  Value at = prefix(node, compact(b, flags), countTrue(b, flags));
  Value firsts = b.gather(order, at, 0);
  Value unique = b.gather(moved, firsts, 0);
  if (hasAxis) {
    SmallVector<int64_t> back(perm.size());
    for (auto [to, from] : llvm::enumerate(perm))
      back[from] = to;
    unique = b.transpose(unique, back);
  } else {
    unique = b.gather(b.reshape(x, {n}), firsts, 0);
  }
  node.result(0, unique);
  node.result(1, firsts);
  // belongs[i][u]: row i is of group u.
  Value belongs =
      b.emit("graph.eq", {b.unsqueeze(first, {1}), b.unsqueeze(firsts, {0})});
  Value member = b.convert(belongs, i64);
  if (node.wants(2)) {
    Value group = b.mul(member, numbers(b, b.dim(firsts, 0)));
    node.result(2, b.squeeze(b.reduce(group, graph::FoldKind::add, {1}), {1}));
  }
  if (node.wants(3))
    node.result(3, b.squeeze(b.reduce(member, graph::FoldKind::add, {0}), {0}));
}

void dlc::addSorting(ConverterTable &table) {
  table["TopK"] = convertTopK;
  table["NonZero"] = convertNonZero;
  table["Compress"] = convertCompress;
  table["NonMaxSuppression"] = convertNonMaxSuppression;
  table["Unique"] = convertUnique;
}
