//===- ConvertGroupQueryAttention.cpp - com.microsoft ---------------------===//
//
// GroupQueryAttention: rows behind those of a cache, or in a cache that has
// room for a window of them; caches of floats, or of numbers of 8 or 4 bits
// with the scales beside.
//
//===----------------------------------------------------------------------===//

#include "Contrib.h"

#include <limits>

using namespace dlc;
using namespace mlir;
using graph::FoldKind;

namespace {
class GroupQueryAttention {
public:
  explicit GroupQueryAttention(NodeContext &node) : node(node), b(node.b) {}
  void convert();

private:
  Type i64() { return b.builder.getI64Type(); }
  Value integer(int64_t value) { return b.splatInt(value, i64()); }
  Value compare(StringRef op, Value x, Value y) {
    return b.emit(("graph." + op).str(), {x, y});
  }
  Value both(Value x, Value y) { return b.emit("graph.bit_and", {x, y}); }
  void addBias(Value allowed) {
    terms.bias =
        joinBias(b, terms.bias,
                 penalty(b, allowed, -std::numeric_limits<float>::infinity()));
  }
  void checkForm();
  void splitHeads();
  void checkLengths();
  void turn();
  Value encode(Value x, unsigned scale);
  Value decode(Value codes, unsigned scale);
  Value resident(Value tokens);
  void placeWindow();
  Value evict(Value all);
  void maskWindow();

  NodeContext &node;
  GraphBuilder &b;
  int64_t heads = 0, groups = 0, bits = 0; ///< 0: caches of floats
  bool causal = true, isWindowed = false;
  int64_t window = -1;
  Value q, k, v;                  ///< (batch, heads, length, width)
  AffineExpr past, length, total; ///< `past` is the room of a windowed cache
  AttentionTerms terms;
  // Of a windowed cache, i64 (B): tokens before and after, and rows of the
  // cache that hold some, before and after.
  Value before, after, rowsBefore, rowsAfter;
};
} // namespace

void GroupQueryAttention::checkForm() {
  std::tie(heads, groups) = readHeadCounts(node);
  if (node.wants(3))
    refuse("the scores as a result");
  if (node.has(14) != node.has(15))
    refuseMalformed("q_norm_weight and k_norm_weight belong together");
  if (node.has(3) != node.has(4))
    refuseMalformed("past_key and past_value belong together");
  causal = node.i("causal", 1);
  window = node.i("local_window_size", -1);
  isWindowed = node.i("sliding_window_cache", 0);
  if (isWindowed && (!node.has(3) || window < 1 || !causal))
    refuseMalformed("a windowed cache needs past_key, a window and causal");
  if (isWindowed && node.has(10))
    refuse("an attention_bias beside a windowed cache");
  StringRef kinds[] = {node.s("k_quant_type", "NONE"),
                       node.s("v_quant_type", "NONE")};
  bool isRounded = kinds[0] != "NONE";
  if (isRounded != (kinds[1] != "NONE") || isRounded != node.has(12) ||
      isRounded != node.has(13) || (isRounded && !node.has(3)))
    refuse("one of the caches quantised, or scales without a cache or a type "
           "of quantisation");
  if (!isRounded)
    return;
  bits = node.i("kv_cache_bit_width", 8);
  for (unsigned i : {0u, 1u}) {
    if (kinds[i] != "PER_TENSOR" && kinds[i] != "PER_CHANNEL")
      refuseMalformed(("quantisation '" + kinds[i] + "'").str());
    auto code = dyn_cast<IntegerType>(node.elementOf(3 + i));
    if (!code || code.getWidth() != 8 || (bits != 8 && bits != 4) ||
        graph::isUnsigned(code) != (bits == 4))
      refuse("caches of " + describeElement(node.elementOf(3 + i)) + " with " +
             std::to_string(bits) + " bits");
  }
}

void GroupQueryAttention::splitHeads() {
  Value query = node.in(0);
  if (node.has(1)) {
    q = dlc::splitHeads(b, query, heads);
    k = dlc::splitHeads(b, node.in(1), groups);
    v = dlc::splitHeads(b, node.in(2), groups);
  } else {
    Value all = dlc::splitHeads(b, query, heads + 2 * groups);
    q = b.sliceAxis(all, 1, b.c(0), b.c(heads));
    k = b.sliceAxis(all, 1, b.c(heads), b.c(groups));
    v = b.sliceAxis(all, 1, b.c(heads + groups), b.c(groups));
  }
  if (node.has(14)) {
    q = normalizeHeads(node, q, node.in(14));
    k = normalizeHeads(node, k, node.in(15));
  }
  past = node.has(3) ? b.dim(node.in(3), 2) : b.c(0);
  length = b.dim(q, 2);
  total = graph::simplify(past + b.dim(k, 2));
}

/// Lengths in the data must say what the shapes say: every row is past plus new
/// long, or there is no past and rows are padded on the right, which a causal
/// mask makes irrelevant.
void GroupQueryAttention::checkLengths() {
  Value lengths =
      b.addScalar(b.convert(node.in(5), i64()), 1); // total of each row
  Value whole = makeSizeValue(node, total);
  Value fits = compare("eq", lengths, whole);
  if (causal) {
    Value noPast = compare("eq", makeSizeValue(node, past), integer(0));
    Value shorter = both(noPast, compare("le", lengths, whole));
    fits = b.emit("graph.bit_or", {fits, shorter});
  }
  Value all = b.reduce(b.convert(b.reshape(fits, {b.dim(lengths, 0)}), i64()),
                       FoldKind::min, {0});
  Value said = b.convert(b.reshape(node.in(6), ArrayRef<int64_t>{}), i64());
  Value agrees = both(compare("eq", b.reshape(all, {1}), integer(1)),
                      compare("eq", said, whole));
  requireTrue(node, agrees,
              "seqlens_k and total_sequence_length as past plus new length");
}

//===----------------------------------------------------------------------===//
// Caches of few bits
//===----------------------------------------------------------------------===//

/// The nearest number to x over its scale, from -128 to 127 or from -8 to 7;
/// two of four bits share a byte, each 8 more, the first in the low bits.
Value GroupQueryAttention::encode(Value x, unsigned scale) {
  Type i8 = b.builder.getIntegerType(8);
  Value codes = b.emit("graph.quantize", {b.convert(x, b.builder.getF32Type()),
                                          node.in(scale), b.splatInt(0, i8)});
  if (bits == 8)
    return codes;
  Type u8 = b.builder.getIntegerType(8, /*isSigned=*/false);
  Value near =
      b.emit("graph.clip", {codes, b.splatInt(-8, i8), b.splatInt(7, i8)});
  Value numbers = b.convert(b.add(near, b.splatInt(8, i8)), u8);
  int64_t last = b.rank(numbers);
  Dims pairs = b.dims(numbers);
  pairs.back() = graph::simplify(pairs.back().floorDiv(2));
  Dims out = pairs;
  pairs.push_back(b.c(2));
  Value split = b.reshape(numbers, pairs);
  auto part = [&](int64_t i) {
    return b.squeeze(b.sliceAxis(split, last, b.c(i), b.c(1)), {last});
  };
  return b.add(part(0), b.mul(part(1), b.splatInt(16, u8)));
}

Value GroupQueryAttention::decode(Value codes, unsigned scale) {
  if (!bits)
    return codes;
  Type f32 = b.builder.getF32Type();
  Value numbers = b.convert(unpackBits(b, codes, bits), f32);
  if (bits == 4)
    numbers = b.addScalar(numbers, -8);
  return b.convert(b.mul(numbers, node.in(scale)), b.element(q));
}

//===----------------------------------------------------------------------===//
// Windowed caches
//===----------------------------------------------------------------------===//

/// Rows of the cache that hold tokens, of so many: all of them, or as many as
/// are left when whole steps of (room - window + 1) leave.
Value GroupQueryAttention::resident(Value tokens) {
  Value room = makeSizeValue(node, past);
  Value step = b.addScalar(b.sub(room, integer(window)), 1);
  Value more = b.sub(tokens, room);
  Value steps = b.div(b.add(b.max(more, integer(0)), b.addScalar(step, -1)),
                      b.max(step, integer(1)));
  return b.select(compare("le", more, integer(0)), tokens,
                  b.sub(tokens, b.mul(steps, step)));
}

void GroupQueryAttention::placeWindow() {
  requireTrue(node, compare("ge", makeSizeValue(node, past), integer(window)),
              "a cache of local_window_size rows or more");
  after = b.addScalar(b.convert(node.in(5), i64()), 1);
  before = b.sub(after, makeSizeValue(node, length));
  requireTrue(node,
              compare("ge", b.reduce(before, FoldKind::min, {0}), integer(0)),
              "seqlens_k as no less than the new tokens");
  rowsBefore = resident(before);
  rowsAfter = resident(after);
}

/// The rows that stay, of the cache's and the new ones behind them, at the
/// beginning of the cache; those behind them are any.
Value GroupQueryAttention::evict(Value all) {
  Value row = b.reshape(b.iota(past, i64()), {b.c(1), past});
  auto each = [&](Value x) { return b.unsqueeze(x, {1}); };
  // The token in a row, counted from the first new one.
  Value token = b.add(row, each(b.sub(b.sub(after, rowsAfter), before)));
  Value from =
      b.select(compare("lt", token, integer(0)), b.add(token, each(rowsBefore)),
               b.add(token, makeSizeValue(node, past)));
  from = b.select(compare("lt", row, each(rowsAfter)), from, integer(0));
  Dims dims = b.dims(all);
  dims[2] = past;
  return b.gatherElements(all, b.broadcast(b.unsqueeze(from, {1, 3}), dims), 2);
}

/// Keys of the cache that hold a token, and the new ones, within the window.
/// What lies in the other rows of the cache is not computed with.
void GroupQueryAttention::maskWindow() {
  AffineExpr keys = total;
  Value room = makeSizeValue(node, past);
  Value column = b.reshape(b.iota(keys, i64()), {b.c(1), keys});
  Value rows = b.unsqueeze(rowsBefore, {1});
  Value isNew = compare("ge", column, room);
  Value known = b.emit("graph.bit_or", {isNew, compare("lt", column, rows)});
  // Counted from the first new token, as queries are.
  Value token = b.select(isNew, b.sub(column, room), b.sub(column, rows));
  Value key = b.unsqueeze(token, {1, 2}); // (B, 1, 1, keys)
  Value query = b.reshape(b.iota(length, i64()), {length, b.c(1)});
  addBias(both(both(compare("le", key, query),
                    compare("gt", key, b.sub(query, integer(window)))),
               b.unsqueeze(known, {1, 2})));
  Value there = b.unsqueeze(known, {1, 3});
  for (Value *x : {&k, &v})
    *x = b.select(there, *x, b.splat(0, b.element(*x)));
}

void GroupQueryAttention::turn() {
  if (!node.has(7) || !node.has(8))
    refuseMalformed("do_rotary needs cos_cache and sin_cache");
  Value positions = node.maybe(9);
  if (!positions) {
    Value first =
        isWindowed ? b.unsqueeze(before, {1}) : makeSizeValue(node, past);
    positions =
        b.broadcast(b.add(b.iota(length, i64()), first), {b.dim(q, 0), length});
  }
  Value cos = lookUp(b, node.in(7), positions),
        sin = lookUp(b, node.in(8), positions);
  bool interleaved = node.i("rotary_interleaved", 0);
  q = makeRotary(b, q, cos, sin, interleaved);
  k = makeRotary(b, k, cos, sin, interleaved);
}

void GroupQueryAttention::convert() {
  checkForm();
  splitHeads();
  if (isWindowed)
    placeWindow();
  else
    checkLengths();
  if (node.i("do_rotary", 0))
    turn();
  if (bits) {
    k = encode(k, 12);
    v = encode(v, 13);
  }
  if (node.has(3)) {
    k = b.concat({node.in(3), k}, 2);
    v = b.concat({node.in(4), v}, 2);
  }
  Value present[] = {isWindowed ? evict(k) : k, isWindowed ? evict(v) : v};
  k = decode(k, 12);
  v = decode(v, 13);
  terms.scale = node.f("scale", 0);
  terms.softcap = node.f("softcap", 0);
  if (isWindowed) {
    maskWindow();
  } else {
    if (causal)
      terms.bias = makeCausalBias(node, length, total, past);
    if (window >= 0) {
      auto [row, column] = makePositions(node, length, total, past);
      addBias(compare("gt", column, b.sub(row, integer(window))));
    }
  }
  if (node.has(10))
    terms.bias =
        joinBias(b, terms.bias, b.convert(node.in(10), b.builder.getF32Type()));
  if (node.has(11))
    terms.sink = b.reshape(node.in(11), {1, heads, 1, 1});
  else if (node.i("smooth_softmax", -1) > 0)
    terms.sink = b.splat(0, b.builder.getF32Type(), {1, heads, 1, 1});
  node.result(0, mergeHeads(b, makeAttention(b, q, k, v, terms)));
  node.result(1, present[0]);
  node.result(2, present[1]);
}

static void convertGroupQueryAttention(NodeContext &node) {
  GroupQueryAttention(node).convert();
}

void dlc::addContribGroupQueryAttention(ConverterTable &table) {
  table["com.microsoft.GroupQueryAttention"] = convertGroupQueryAttention;
}
