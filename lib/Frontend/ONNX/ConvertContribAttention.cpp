//===- ConvertContribAttention.cpp - com.microsoft: attention -------------===//
//
// Attention, MultiHeadAttention and RotaryEmbedding. Each brings its operands
// into (batch, heads, length, width) and its masks into one additive bias; the
// rest is one function.
//
//===----------------------------------------------------------------------===//

#include "Contrib.h"

#include "dlc/Dialect/Graph/IR/Control.h"

#include <cmath>

using namespace dlc;
using namespace mlir;
using graph::FoldKind;

static Type f32(GraphBuilder &b) { return b.builder.getF32Type(); }
static Type i64(GraphBuilder &b) { return b.builder.getI64Type(); }

//===----------------------------------------------------------------------===//
// Parts
//===----------------------------------------------------------------------===//

Value dlc::splitHeads(GraphBuilder &b, Value x, int64_t heads) {
  Dims dims = b.dims(x);
  if (dims.size() != 3 || heads < 1)
    refuseMalformed("wants operands (batch, length, heads * width)");
  AffineExpr width = graph::simplify(dims[2].floorDiv(heads));
  return b.transpose(b.reshape(x, {dims[0], dims[1], b.c(heads), width}),
                     {0, 2, 1, 3});
}

Value dlc::mergeHeads(GraphBuilder &b, Value x) {
  Value moved = b.transpose(x, {0, 2, 1, 3});
  Dims dims = b.dims(moved);
  return b.reshape(moved, {dims[0], dims[1], dims[2] * dims[3]});
}

Value dlc::makeRotary(GraphBuilder &b, Value x, Value cos, Value sin,
                      bool interleaved) {
  int64_t last = b.rank(x) - 1;
  AffineExpr half = b.dims(cos).back(), width = b.dim(x, last),
             turned = graph::simplify(half * 2);
  Value head = b.sliceAxis(x, last, b.c(0), turned);
  Value first, second;
  Dims split = b.dims(head);
  if (interleaved) {
    split.back() = half;
    split.push_back(b.c(2));
    Value pairs = b.reshape(head, split);
    first = b.squeeze(b.sliceAxis(pairs, last + 1, b.c(0), b.c(1)), {last + 1});
    second =
        b.squeeze(b.sliceAxis(pairs, last + 1, b.c(1), b.c(1)), {last + 1});
  } else {
    first = b.sliceAxis(head, last, b.c(0), half);
    second = b.sliceAxis(head, last, half, half);
  }
  Value left = b.sub(b.mul(first, cos), b.mul(second, sin)),
        right = b.add(b.mul(second, cos), b.mul(first, sin));
  Value y;
  if (interleaved)
    y = b.reshape(b.concat({b.unsqueeze(left, {last + 1}),
                            b.unsqueeze(right, {last + 1})},
                           last + 1),
                  b.dims(head));
  else
    y = b.concat({left, right}, last);
  AffineExpr rest = graph::simplify(width - turned);
  if (rest == 0)
    return y;
  return b.concat({y, b.sliceAxis(x, last, turned, rest)}, last);
}

/// q k' of grouped heads as (B, H, S, T), in f32.
static Value makeScores(GraphBuilder &b, Value q, Value k) {
  Dims qd = b.dims(q), kd = b.dims(k);
  std::optional<int64_t> heads = graph::constantValue(qd[1]),
                         groups = graph::constantValue(kd[1]);
  if (!heads || !groups || *groups < 1 || *heads % *groups)
    refuseMalformed("the heads of keys do not divide those of queries");
  if (*heads == *groups)
    return b.einsum("bhsd", "bhtd", "bhst", q, k);
  Value grouped =
      b.reshape(q, {qd[0], kd[1], b.c(*heads / *groups), qd[2], qd[3]});
  Value scores = b.einsum("bkgsd", "bktd", "bkgst", grouped, k);
  Dims out = b.dims(scores);
  return b.reshape(scores, {out[0], qd[1], out[3], out[4]});
}

static Value makeWeightedSum(GraphBuilder &b, Value p, Value v) {
  Dims pd = b.dims(p), vd = b.dims(v);
  if (pd[1] == vd[1])
    return b.einsum("bhst", "bhtd", "bhsd", p, v);
  int64_t each = *graph::constantValue(pd[1]) / *graph::constantValue(vd[1]);
  Value grouped = b.reshape(p, {pd[0], vd[1], b.c(each), pd[2], pd[3]});
  Value sum = b.einsum("bkgst", "bktd", "bkgsd", grouped, v);
  Dims out = b.dims(sum);
  return b.reshape(sum, {out[0], pd[1], out[3], out[4]});
}

Value dlc::makeAttention(GraphBuilder &b, Value q, Value k, Value v,
                         const AttentionTerms &terms) {
  Type element = b.element(q);
  std::optional<int64_t> width = graph::constantValue(b.dim(q, 3));
  if (!width || *width < 1)
    refuse("heads of symbolic width");
  double scale =
      terms.scale ? terms.scale : 1 / std::sqrt(static_cast<double>(*width));
  // Scores in f32 whatever the operands are.
  Type wide = wideType(element);
  Value scores =
      b.mulScalar(makeScores(b, b.convert(q, wide), b.convert(k, wide)), scale);
  if (terms.softcap > 0)
    scores = b.mulScalar(
        b.unary("graph.tanh", b.mulScalar(scores, 1 / terms.softcap)),
        terms.softcap);
  if (terms.bias)
    scores = b.add(scores, b.convert(terms.bias, wide));
  Value top = b.reduce(scores, FoldKind::max, {3});
  Value sink = terms.sink ? b.convert(terms.sink, wide) : Value();
  if (sink)
    top = b.max(top, sink);
  Value e = b.unary("graph.exp", b.sub(scores, top));
  Value sum = b.reduce(e, FoldKind::add, {3});
  if (sink)
    sum = b.add(sum, b.unary("graph.exp", b.sub(sink, top)));
  Value p = b.div(e, sum);
  return b.convert(makeWeightedSum(b, p, b.convert(v, wide)), element);
}

void dlc::requireTrue(NodeContext &node, Value condition, StringRef what) {
  GraphBuilder &b = node.b;
  Value flat = b.reshape(condition, {1});
  if (DenseElementsAttr known = GraphBuilder::asConstant(flat)) {
    if (!*known.value_begin<bool>())
      refuse((what + " does not hold").str());
    return;
  }
  graph::ExpectOp::create(b.builder, b.loc, flat);
}

Value dlc::penalty(GraphBuilder &b, Value allowed, double value) {
  return b.select(allowed, b.splat(0, f32(b)), b.splat(value, f32(b)));
}

std::pair<Value, Value> dlc::makePositions(NodeContext &node, AffineExpr rows,
                                           AffineExpr columns,
                                           AffineExpr first) {
  GraphBuilder &b = node.b;
  Value row = b.add(b.iota(rows, i64(b)), makeSizeValue(node, first));
  return {b.reshape(row, {rows, b.c(1)}),
          b.reshape(b.iota(columns, i64(b)), {b.c(1), columns})};
}

Value dlc::joinBias(GraphBuilder &b, Value x, Value y) {
  return x && y ? b.add(x, y) : x ? x : y;
}

std::pair<int64_t, int64_t> dlc::readHeadCounts(NodeContext &node) {
  int64_t heads = node.i("num_heads", 0), groups = node.i("kv_num_heads", 0);
  if (heads < 1 || groups < 1 || heads % groups)
    refuseMalformed("kv_num_heads must divide num_heads");
  return {heads, groups};
}

/// A mask of MultiHeadAttention or Attention as an additive bias that
/// broadcasts with (B, H, S, T).
static Value makeMaskBias(NodeContext &node, Value mask, AffineExpr batch,
                          AffineExpr length, AffineExpr total, double filter,
                          bool allowStarts) {
  GraphBuilder &b = node.b;
  Type i32 = b.builder.getI32Type();
  Value zero = b.splatInt(0, i32);
  Dims dims = b.dims(mask);
  if (dims.size() == 1) {
    Value column = b.iota(total, i32);
    // The ends of the rows, and perhaps their starts.
    if (graph::simplify(dims[0] - batch) == 0) {
      Value end = b.unsqueeze(mask, {1, 2, 3});
      return penalty(b, b.emit("graph.lt", {column, end}), filter);
    }
    if (allowStarts && graph::simplify(dims[0] - batch * 2) == 0) {
      Value end = b.unsqueeze(b.sliceAxis(mask, 0, b.c(0), batch), {1, 2, 3}),
            start = b.unsqueeze(b.sliceAxis(mask, 0, batch, batch), {1, 2, 3});
      return penalty(
          b,
          b.emit("graph.bit_and", {b.emit("graph.lt", {column, end}),
                                   b.emit("graph.ge", {column, start})}),
          filter);
    }
    refuse("a mask " + describeType(mask.getType()) + " of lengths");
  }
  Value allowed = b.emit("graph.gt", {mask, zero});
  if (dims.size() == 2)
    return penalty(b, b.unsqueeze(allowed, {1, 2}), filter);
  if (dims.size() == 3)
    return penalty(b, b.unsqueeze(allowed, {1}), filter);
  refuse("a mask of rank " + std::to_string(dims.size()));
}

Value dlc::makeCausalBias(NodeContext &node, AffineExpr length,
                          AffineExpr total, AffineExpr past) {
  GraphBuilder &b = node.b;
  auto [row, column] = makePositions(node, length, total, past);
  return penalty(b, b.emit("graph.le", {column, row}),
                 -std::numeric_limits<float>::infinity());
}

//===----------------------------------------------------------------------===//
// RotaryEmbedding
//===----------------------------------------------------------------------===//

Value dlc::lookUp(GraphBuilder &b, Value table, Value positions) {
  return b.unsqueeze(b.gather(table, positions, 0), {1});
}

static void convertRotaryEmbedding(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0), positions = node.in(1), cos = node.in(2),
        sin = node.in(3);
  if (node.i("is_packed_batching", 0) || node.f("scale", 1) != 1)
    refuse("packed batching or a scale");
  bool flat = b.rank(x) == 3;
  int64_t heads = node.i("num_heads", 0);
  Value split = x;
  if (flat) {
    std::optional<int64_t> hidden = graph::constantValue(b.dim(x, 2)),
                           pairs = graph::constantValue(b.dim(cos, 1));
    if (heads == 0 && hidden && pairs && *pairs > 0)
      heads = *hidden / (2 * *pairs);
    split = splitHeads(b, x, heads);
  } else if (b.rank(x) != 4) {
    refuseMalformed("wants an operand of rank 3 or 4");
  }
  if (b.rank(positions) == 1) {
    // One offset for all rows.
    Value at = b.add(b.iota(b.dim(split, 2), i64(b)), positions);
    positions = b.broadcast(at, {b.dim(split, 0), b.dim(split, 2)});
  }
  Value y = makeRotary(b, split, lookUp(b, cos, positions),
                       lookUp(b, sin, positions), node.i("interleaved", 0));
  node.result(flat ? mergeHeads(b, y) : y);
}

//===----------------------------------------------------------------------===//
// MultiHeadAttention and Attention
//===----------------------------------------------------------------------===//

namespace {
/// Queries, keys and values as (B, heads, length, width).
struct Heads {
  Value q, k, v;
};
} // namespace

/// Element i of the second last axis of packed (B, S, heads, n, width), with
/// the heads in front.
static Value unpack(GraphBuilder &b, Value packed, int64_t i) {
  Value one = b.squeeze(b.sliceAxis(packed, 3, b.c(i), b.c(1)), {3});
  return b.transpose(one, {0, 2, 1, 3});
}

/// Adds elements [start, start + width) of a bias to (B, heads, S, width).
static Value addHeadBias(GraphBuilder &b, Value x, Value bias,
                         AffineExpr &start) {
  Dims dims = b.dims(x);
  AffineExpr size = graph::simplify(dims[1] * dims[3]);
  Value part =
      b.reshape(b.sliceAxis(bias, 0, start, size), {dims[1], b.c(1), dims[3]});
  start = graph::simplify(start + size);
  return b.add(x, part);
}

static Heads readHeads(NodeContext &node, int64_t heads) {
  GraphBuilder &b = node.b;
  Value query = node.in(0), key = node.maybe(1), value = node.maybe(2);
  Heads out;
  if (b.rank(query) == 5) {
    out = {unpack(b, query, 0), unpack(b, query, 1), unpack(b, query, 2)};
  } else if (!key) {
    refuse("a query " + describeType(query.getType()) + " without a key");
  } else if (b.rank(key) == 5) {
    out = {splitHeads(b, query, heads), unpack(b, key, 0), unpack(b, key, 1)};
  } else if (!value) {
    refuse("a key without a value");
  } else {
    bool asPast = b.rank(key) == 4;
    out = {splitHeads(b, query, heads),
           asPast ? key : splitHeads(b, key, heads),
           asPast ? value : splitHeads(b, value, heads)};
  }
  if (Value bias = node.maybe(3)) {
    AffineExpr start = b.c(0);
    out.q = addHeadBias(b, out.q, bias, start);
    // Keys that come as past states have theirs already.
    if (!key || b.rank(key) != 4) {
      out.k = addHeadBias(b, out.k, bias, start);
      out.v = addHeadBias(b, out.v, bias, start);
    }
  }
  return out;
}

static void convertMultiHeadAttention(NodeContext &node) {
  GraphBuilder &b = node.b;
  int64_t heads = node.i("num_heads", 0);
  if (node.has(8) || node.has(9) || node.wants(3))
    refuse("shared buffers, beams, or the scores as a result");
  Heads h = readHeads(node, heads);
  AffineExpr past = b.c(0);
  if (node.has(6) != node.has(7))
    refuseMalformed("past_key and past_value belong together");
  if (node.has(6)) {
    past = b.dim(node.in(6), 2);
    h.k = b.concat({node.in(6), h.k}, 2);
    h.v = b.concat({node.in(7), h.v}, 2);
  }
  AffineExpr length = b.dim(h.q, 2), total = b.dim(h.k, 2);
  double filter = node.f("mask_filter_value", -10000);
  AttentionTerms terms;
  terms.scale = node.f("scale", 0);
  if (node.has(4))
    terms.bias = makeMaskBias(node, node.in(4), b.dim(h.q, 0), length, total,
                              filter, /*allowStarts=*/false);
  if (node.i("unidirectional", 0))
    terms.bias =
        joinBias(b, terms.bias, makeCausalBias(node, length, total, past));
  if (node.has(5))
    terms.bias = joinBias(b, terms.bias, b.convert(node.in(5), f32(b)));
  node.result(0, mergeHeads(b, makeAttention(b, h.q, h.k, h.v, terms)));
  node.result(1, h.k);
  node.result(2, h.v);
}

/// Attention of projected queries, keys and values side by side (B, S, sizes);
/// the numbers are those of the operands.
static void attendPacked(NodeContext &node, Value all, unsigned mask,
                         unsigned states, std::optional<unsigned> bias) {
  GraphBuilder &b = node.b;
  int64_t heads = node.i("num_heads", 0);
  Value x = node.in(0), w = node.in(1);
  SmallVector<int64_t> sizes = node.is("qkv_hidden_sizes");
  std::optional<int64_t> hidden = graph::constantValue(b.dim(w, 1));
  if (sizes.empty() && hidden)
    sizes.assign(3, *hidden / 3);
  if (sizes.size() != 3 ||
      (hidden && sizes[0] + sizes[1] + sizes[2] != *hidden))
    refuseMalformed("'qkv_hidden_sizes' must be three that add up");
  Value parts[3];
  int64_t start = 0;
  for (auto [part, size] : llvm::zip(parts, sizes)) {
    part = splitHeads(b, b.sliceAxis(all, 2, b.c(start), b.c(size)), heads);
    start += size;
  }
  AffineExpr past = b.c(0);
  if (Value both = node.maybe(states)) {
    past = b.dim(both, 3);
    for (int i : {0, 1}) {
      Value state = b.squeeze(b.sliceAxis(both, 0, b.c(i), b.c(1)), {0});
      parts[1 + i] = b.concat({state, parts[1 + i]}, 2);
    }
  }
  AffineExpr length = b.dim(x, 1), total = b.dim(parts[1], 2);
  AttentionTerms terms;
  terms.scale = node.f("scale", 0);
  if (node.has(mask))
    terms.bias = makeMaskBias(node, node.in(mask), b.dim(x, 0), length, total,
                              node.f("mask_filter_value", -10000),
                              /*allowStarts=*/true);
  if (node.i("unidirectional", 0))
    terms.bias =
        joinBias(b, terms.bias, makeCausalBias(node, length, total, past));
  if (bias && node.has(*bias))
    terms.bias = joinBias(b, terms.bias, b.convert(node.in(*bias), f32(b)));
  node.result(
      0, mergeHeads(b, makeAttention(b, parts[0], parts[1], parts[2], terms)));
  if (node.wants(1))
    node.result(
        1,
        b.concat({b.unsqueeze(parts[1], {0}), b.unsqueeze(parts[2], {0})}, 0));
}

static void checkPacked(NodeContext &node) {
  GraphBuilder &b = node.b;
  if (b.rank(node.in(0)) != 3 || b.rank(node.in(1)) != 2 ||
      node.i("num_heads", 0) < 1)
    refuseMalformed(
        "wants an input (batch, length, hidden) and a weight matrix");
  if (node.i("do_rotary", 0) || node.i("past_present_share_buffer", 0))
    refuse("rotary embeddings or shared buffers");
}

static void convertAttention(NodeContext &node) {
  GraphBuilder &b = node.b;
  checkPacked(node);
  if (node.has(6))
    refuse("shared buffers");
  Value all = makeMatMul(b, node.in(0), node.in(1));
  if (Value bias = node.maybe(2))
    all = b.add(all, bias);
  attendPacked(node, all, /*mask=*/3, /*states=*/4, /*bias=*/5);
}

/// The projection in integers, the attention in floats.
static void convertQAttention(NodeContext &node) {
  GraphBuilder &b = node.b;
  checkPacked(node);
  Value all = makeIntegerMatMul(b, node.in(0), node.maybe(6), node.in(3),
                                node.in(1), node.maybe(7), node.in(4));
  all = b.add(b.convert(all, b.element(node.in(2))), node.in(2));
  attendPacked(node, all, /*mask=*/5, /*states=*/8, std::nullopt);
}

void dlc::addContribAttention(ConverterTable &table) {
  table["com.microsoft.RotaryEmbedding"] = convertRotaryEmbedding;
  table["com.microsoft.MultiHeadAttention"] = convertMultiHeadAttention;
  table["com.microsoft.Attention"] = convertAttention;
  table["com.microsoft.QAttention"] = convertQAttention;
}
