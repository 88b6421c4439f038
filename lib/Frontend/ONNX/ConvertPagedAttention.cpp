//===- ConvertPagedAttention.cpp - com.microsoft.PagedAttention -----------===//
//
// Attention over a cache of pages (blocks of positions) that a table assigns to
// sequences. Tokens of all sequences lie one after the other. The new rows are
// scattered into the caches; keys and values then are the pages of a sequence,
// gathered, one after the other, as far as they are in use.
//
// One sequence is a batch of one with all its tokens as queries. Several are
// attended token by token: which sequence a token belongs to is in the data.
//
//===----------------------------------------------------------------------===//

#include "Contrib.h"

#include <limits>

using namespace dlc;
using namespace mlir;
using graph::FoldKind;

namespace {
class PagedAttention {
public:
  explicit PagedAttention(NodeContext &node) : node(node), b(node.b) {}
  void convert();

private:
  Type i64() { return b.builder.getI64Type(); }
  Value integer(int64_t value) { return b.splatInt(value, i64()); }
  Value sizeOf(AffineExpr size) { return makeSizeValue(node, size); }
  Value wide(Value x) { return b.convert(x, i64()); }
  Value compare(StringRef op, Value x, Value y) {
    return b.emit(("graph." + op).str(), {x, y});
  }
  void checkForm();
  void splitTokens();
  void findPositions();
  Value makeSlots();
  Value append(Value cache, Value rows, Value slots);
  Value makePages();
  Value readPages(Value cache, Value pages);
  Value makeBias();

  NodeContext &node;
  GraphBuilder &b;
  int64_t heads = 0, groups = 0;
  bool isOne = false;               ///< sequence
  AffineExpr tokens, batch, length; ///< (batch, length) are the tokens
  AffineExpr pageSize, pages;       ///< of a sequence at most
  Value q, k, v;                    ///< (batch, heads, length, width)
  Value past, ends;                 ///< i64 (B) and (B + 1)
  Value sequence;                   ///< i64 (tokens), not for one
  Value position;                   ///< i64 (tokens), in the sequence
  Value last;                       ///< i64 (B): the last position in use
};
} // namespace

void PagedAttention::checkForm() {
  static const struct {
    unsigned input;
    const char *what;
  } unsupported[] = {
      {10, "slot_mapping"}, {14, "quantised caches"}, {15, "quantised caches"}};
  for (auto [input, what] : unsupported)
    if (node.has(input))
      refuse(what);
  if (node.s("kv_cache_layout", "SEPARATE") != "SEPARATE" ||
      node.s("k_quant_type", "NONE") != "NONE" ||
      node.s("v_quant_type", "NONE") != "NONE" || node.i("rotary_offset", 0))
    refuse("latent or quantised caches, or a rotary offset");
  std::tie(heads, groups) = readHeadCounts(node);
  if (!node.has(3) || !node.has(4) || !node.has(5) || !node.has(6) ||
      !node.has(7) || node.has(1) != node.has(2))
    refuseMalformed("wants caches, lengths and a block table, and key and "
                    "value together");
  Value cache = node.in(3), table = node.in(7);
  if (b.rank(node.in(0)) != 2 || b.rank(cache) != 4 ||
      b.dims(cache) != b.dims(node.in(4)) || b.rank(table) != 2 ||
      b.rank(node.in(5)) != 1 || b.rank(node.in(6)) != 1)
    refuseMalformed("wants tokens (n, hidden), caches (blocks, block size, "
                    "heads, width) of one shape and a table (batch, blocks)");
  if (graph::constantValue(b.dim(cache, 2)) != groups)
    refuseMalformed("the caches have other than kv_num_heads heads");
  pageSize = b.dim(cache, 1);
  pages = b.dim(table, 1);
  isOne = graph::constantValue(b.dim(table, 0)) == 1;
}

void PagedAttention::splitTokens() {
  Value query = node.in(0);
  tokens = b.dim(query, 0);
  batch = isOne ? b.c(1) : tokens;
  length = isOne ? tokens : b.c(1);
  auto split = [&](Value x, int64_t count) {
    AffineExpr width = graph::simplify(b.dim(x, 1).floorDiv(count));
    return b.transpose(b.reshape(x, {batch, length, b.c(count), width}),
                       {0, 2, 1, 3});
  };
  if (node.has(1)) {
    q = split(query, heads);
    k = split(node.in(1), groups);
    v = split(node.in(2), groups);
  } else {
    Value all = split(query, heads + 2 * groups);
    q = b.sliceAxis(all, 1, b.c(0), b.c(heads));
    k = b.sliceAxis(all, 1, b.c(heads), b.c(groups));
    v = b.sliceAxis(all, 1, b.c(heads + groups), b.c(groups));
  }
  if (node.has(12) != node.has(13))
    refuseMalformed("q_norm_weight and k_norm_weight belong together");
  if (node.has(12)) {
    q = normalizeHeads(node, q, node.in(12));
    k = normalizeHeads(node, k, node.in(13));
  }
}

// A sequence's tokens stand at its past length and on.
void PagedAttention::findPositions() {
  past = wide(node.in(6));
  ends = wide(node.in(5));
  AffineExpr count = b.dim(node.in(7), 0);
  Value number = b.iota(tokens, i64());
  Value begins = b.sliceAxis(ends, 0, b.c(0), count),
        stops = b.sliceAxis(ends, 0, b.c(1), count);
  // What the lengths say must be what the shapes say.
  Value fits = b.emit(
      "graph.bit_and",
      {compare("eq", b.sliceAxis(ends, 0, b.c(0), b.c(1)), integer(0)),
       compare("eq", b.sliceAxis(ends, 0, count, b.c(1)), sizeOf(tokens))});
  requireTrue(node, fits,
              "cumulative_sequence_length from 0 to the number of tokens");
  Value least = b.reduce(past, FoldKind::min, {0});
  requireTrue(node, compare("ge", least, integer(0)), "past_seqlens >= 0");
  last = b.add(past, b.sub(b.sub(stops, begins), integer(1)));
  // Keys beyond the table's pages do not exist.
  Value most = b.reduce(last, FoldKind::max, {0});
  requireTrue(node, compare("lt", most, sizeOf(pages * pageSize)),
              "past and new tokens within the table's blocks");
  if (isOne) {
    position = b.add(number, past);
    return;
  }
  // The sequences that end at or before a token.
  Value ended =
      b.emit("graph.le", {b.unsqueeze(stops, {0}), b.unsqueeze(number, {1})});
  sequence = b.reshape(b.reduce(wide(ended), FoldKind::add, {1}), {tokens});
  position = b.add(b.sub(number, b.gather(begins, sequence, 0)),
                   b.gather(past, sequence, 0));
}

/// Rows of the caches for the tokens, (tokens).
Value PagedAttention::makeSlots() {
  Value table = wide(node.in(7)), size = sizeOf(pageSize);
  Value page = b.div(position, size);
  if (!isOne)
    page = b.add(page, b.mul(sequence, sizeOf(pages)));
  AffineExpr entries = graph::simplify(b.dim(table, 0) * pages);
  Value block = b.gather(b.reshape(table, {entries}), page, 0);
  Value slot = b.add(b.mul(block, size), b.mod(position, size));
  // No block: a place that does not exist, instead of one from the end.
  Value none = sizeOf(b.dim(node.in(3), 0) * pageSize);
  return b.select(compare("lt", block, integer(0)), none, slot);
}

Value PagedAttention::append(Value cache, Value rows, Value slots) {
  Dims dims = b.dims(cache);
  AffineExpr columns = graph::simplify(dims[2] * dims[3]),
             count = graph::simplify(dims[0] * dims[1]);
  Value flat = b.reshape(cache, {count, columns});
  Value updates = b.reshape(b.transpose(rows, {0, 2, 1, 3}), {tokens, columns});
  Value result = b.emit(
      "graph.scatter", {flat, slots, b.convert(updates, b.element(cache))},
      {b.attr("kind", graph::FoldKindAttr::get(b.context(), FoldKind::none))},
      flat.getType());
  return b.reshape(result, dims);
}

/// The blocks of each sequence in use, (batch, pages); what a table holds
/// beyond them may be anything.
Value PagedAttention::makePages() {
  Value table = wide(node.in(7));
  Value first = b.mul(b.iota(pages, i64()), sizeOf(pageSize));
  Value used = compare("le", b.unsqueeze(first, {0}), b.unsqueeze(last, {1}));
  Value known = b.select(used, table, integer(0));
  return isOne ? known : b.gather(known, sequence, 0);
}

Value PagedAttention::readPages(Value cache, Value table) {
  Dims dims = b.dims(cache);
  Value rows = b.gather(cache, table, 0); // (batch, pages, size, heads, width)
  Value all = b.reshape(
      rows, {batch, graph::simplify(pages * pageSize), dims[2], dims[3]});
  return b.transpose(all, {0, 2, 1, 3});
}

/// Of keys that a token does not see, (batch, 1, length, keys). For one
/// sequence the past is apart from the positions: keys beyond its sum with the
/// last row's are not looked at.
Value PagedAttention::makeBias() {
  AffineExpr keys = graph::simplify(pages * pageSize);
  Value column = b.iota(keys, i64());
  Value seen = past, key = column;
  if (isOne) {
    Value row = b.reshape(b.iota(length, i64()), {length, b.c(1)});
    key = b.sub(b.reshape(column, {b.c(1), keys}), row);
  } else {
    seen = b.reshape(position, {batch, b.c(1), b.c(1), b.c(1)});
  }
  double lowest = -std::numeric_limits<double>::infinity();
  Value bias;
  if (node.i("is_causal", 1)) {
    bias = penalty(b, compare("le", key, seen), lowest);
  } else {
    Value end = isOne ? last
                      : b.reshape(b.gather(last, sequence, 0),
                                  {batch, b.c(1), b.c(1), b.c(1)});
    bias = penalty(b, compare("le", column, end), lowest);
  }
  if (int64_t window = node.i("local_window_size", -1); window >= 0)
    bias =
        b.add(bias, penalty(b, compare("gt", key, b.sub(seen, integer(window))),
                            lowest));
  return bias;
}

void PagedAttention::convert() {
  checkForm();
  splitTokens();
  findPositions();
  if (node.i("do_rotary", 0)) {
    if (!node.has(8) || !node.has(9))
      refuseMalformed("do_rotary needs cos_cache and sin_cache");
    Value at = b.reshape(position, {batch, length});
    Value cos = lookUp(b, node.in(8), at), sin = lookUp(b, node.in(9), at);
    bool interleaved = node.i("rotary_interleaved", 0);
    q = makeRotary(b, q, cos, sin, interleaved);
    k = makeRotary(b, k, cos, sin, interleaved);
  }
  Value slots = makeSlots(), table = makePages();
  Value keys = append(node.in(3), k, slots),
        values = append(node.in(4), v, slots);
  AttentionTerms terms;
  terms.scale = node.f("scale", 0);
  terms.softcap = node.f("softcap", 0);
  terms.bias = makeBias();
  if (node.has(11))
    terms.sink = b.reshape(node.in(11), {1, heads, 1, 1});
  Type element = b.element(q);
  Value y = makeAttention(b, q, b.convert(readPages(keys, table), element),
                          b.convert(readPages(values, table), element), terms);
  Value out = mergeHeads(b, y); // (batch, length, heads * width)
  node.result(0, b.reshape(out, {tokens, b.dim(out, 2)}));
  node.result(1, keys);
  node.result(2, values);
}

static void convertPagedAttention(NodeContext &node) {
  PagedAttention(node).convert();
}

void dlc::addContribPagedAttention(ConverterTable &table) {
  table["com.microsoft.PagedAttention"] = convertPagedAttention;
}
