//===- ConvertAttention.cpp - Attention of 16-bit operands ----------------===//
//
// The operator's definition rounds queries and keys after each was multiplied
// by the root of the scale, the scores, and the scores with their mask. As the
// operator leaves the precision of what is inside open, those roundings are
// left out: scores are sums in f32, scaled and masked in f32. Weights are
// rounded as in the definition. What this does not take has the definition's
// own form (FunctionBody.h): operands of f32 and f64, masks that are operands,
// lengths, windows, scores as a result.
//
//===----------------------------------------------------------------------===//

#include "Contrib.h"

using namespace dlc;
using namespace mlir;

/// (B, S, heads * width) or (B, heads, S, width) as the latter.
static Value asHeads(NodeContext &node, Value x, const char *attribute) {
  GraphBuilder &b = node.b;
  return b.rank(x) == 3 ? splitHeads(b, x, node.i(attribute, 0)) : x;
}

static void convertAttention(NodeContext &node) {
  GraphBuilder &b = node.b;
  constexpr int64_t typeDouble = 11; // TensorProto.DOUBLE
  enum { Mask = 3, PastKey, PastValue, Lengths };
  Value q = node.in(0), k = node.in(1), v = node.in(2);
  Type element = b.element(q);
  if (!element.isF16() && !element.isBF16())
    refuse("operands that are not of 16 bits");
  if (b.element(k) != element || b.element(v) != element)
    refuse("operands of several types");
  if (node.has(Mask) || node.has(Lengths) || node.wants(3) ||
      node.i("left_window_size", -1) != -1 ||
      node.i("right_window_size", -1) != -1 ||
      node.i("softmax_precision", 0) == typeDouble ||
      node.has(PastKey) != node.has(PastValue))
    refuse("masks, lengths, windows, or scores as a result");
  bool flat = b.rank(q) == 3;
  q = asHeads(node, q, "q_num_heads");
  k = asHeads(node, k, "kv_num_heads");
  v = asHeads(node, v, "kv_num_heads");
  AffineExpr past = b.c(0);
  if (node.has(PastKey)) {
    past = b.dim(node.in(PastKey), 2);
    k = b.concat({node.in(PastKey), k}, 2);
    v = b.concat({node.in(PastValue), v}, 2);
  }
  AttentionTerms terms;
  terms.scale = node.f("scale", 0);
  terms.softcap = node.f("softcap", 0);
  terms.roundsWeights = true;
  // Every query has a key, the first one.
  if (node.i("is_causal", 0))
    terms.allowed = isCausal(node, b.dim(q, 2), b.dim(k, 2), past);
  Value y = makeAttention(b, q, k, v, terms);
  node.result(0, flat ? mergeHeads(b, y) : y);
  if (node.wants(1))
    node.result(1, k);
  if (node.wants(2))
    node.result(2, v);
}

void dlc::addAttention(ConverterTable &table) {
  table["Attention"] = convertAttention;
}
