// Attention, rotary positions, softmax and normalisations.
#include "Operations.h"

#include <cmath>
#include <limits>

using namespace dlc::library;
using llvm::ArrayRef;
using llvm::StringRef;

static const StringRef headLayouts[] = {"heads-first", "tokens-first"};

// A tensor of heads: [batch, heads, tokens, d], or tokens before heads, as
// projections give them.
static std::vector<Extent> headShape(bool tokensFirst, Extent batch,
                                     Extent heads, Extent tokens, Extent d) {
  return tokensFirst ? std::vector<Extent>{batch, tokens, heads, d}
                     : std::vector<Extent>{batch, heads, tokens, d};
}

static std::string swapHeads(ModelWriter &w, bool tokensFirst,
                             const std::string &value) {
  std::vector<int64_t> perm{0, 2, 1, 3};
  return tokensFirst ? w.add("Transpose", {value}, {{"perm", perm}}) : value;
}

std::vector<Operation> dlc::library::makeAttention(const Entry &entry) {
  static const StringRef phases[] = {"prefill", "decode"},
                         masks[] = {"none", "causal", "additive"};
  bool decode = entry.json.getString("phase", "prefill", phases) == "decode";
  bool tokensFirst = entry.json.getString("layout", "heads-first",
                                          headLayouts) == "tokens-first";
  std::string mask =
      entry.json.getString("mask", decode ? "none" : "causal", masks);
  if (decode && mask == "causal")
    entry.json.fail("mask", "a decoded token sees all keys; expected none or "
                            "additive");
  double scale = entry.json.getNumber("scale", 0);
  OperationBuilder b(entry,
                     std::string("attention_") +
                         (decode ? "decode" : "prefill") +
                         (mask == "none"     ? decode ? "" : "_full"
                          : mask == "causal" ? ""
                                             : "_masked"),
                     "attention");
  b.dim("batch", false, 1);
  b.dim("heads", true, 32);
  b.dim("kv_heads", true, 32);
  Extent one = OperationBuilder::constant(1);
  // A prefill's keys are its own tokens; others have a size of their own.
  bool ownKeys = !decode && mask == "causal";
  if (!decode)
    b.dim("tokens", false, 512);
  if (!ownKeys)
    b.dim("keys", false, 1024);
  b.dim("d", true, 128);
  Extent tokens = decode ? one : b["tokens"],
         keys = ownKeys ? tokens : b["keys"];
  auto shape = [&](StringRef heads, Extent count) {
    return headShape(tokensFirst, b["batch"], b[heads], count, b["d"]);
  };
  b.input("q", b.type, shape("heads", tokens));
  b.input("k", b.type, shape("kv_heads", keys));
  b.input("v", b.type, shape("kv_heads", keys));
  if (mask == "additive")
    b.input("mask", b.type, {b["batch"], one, tokens, keys});
  b.output("o", b.type, shape("heads", tokens));
  b.op.checkSizes = [](ArrayRef<Range> ranges) -> std::string {
    int64_t heads = ranges[1].min, shared = ranges[2].min;
    if (shared > 0 && heads > 0 && heads % shared == 0)
      return "";
    return std::to_string(heads) + " heads cannot share " +
           std::to_string(shared) +
           " kv_heads; expected a divisor of the heads";
  };
  b.setAttribute("phase", decode ? "decode" : "prefill");
  b.setAttribute("layout", tokensFirst ? "tokens-first" : "heads-first");
  b.setAttribute("mask", mask);
  b.setAttribute("scale", scale);
  const ElementType *type = &b.type;
  return {b.take(
      std::string("o = softmax(q * k' * ") + (scale ? "scale" : "1 / sqrt(d)") +
          (mask == "none"     ? ""
           : mask == "causal" ? ", causal"
                              : " + mask") +
          ") * v, heads share kv_heads in order",
      [=](ModelWriter &w, ArrayRef<Range> ranges) {
        // The operator of ONNX would scale keys, which costs a pass over them.
        int64_t heads = ranges[1].min, shared = ranges[2].min,
                d = ranges.back().min, group = heads / shared;
        bool inGroups = group != 1;
        std::string q = swapHeads(w, tokensFirst, "q"),
                    k = swapHeads(w, tokensFirst, "k"),
                    v = swapHeads(w, tokensFirst, "v");
        if (inGroups) { // [batch, kv_heads, group, tokens, d]
          q = w.add("Reshape", {q, w.integers({0, shared, group, -1, d})});
          k = w.add("Unsqueeze", {k, w.integers({2})});
          v = w.add("Unsqueeze", {v, w.integers({2})});
        }
        std::vector<int64_t> turn{0, 1, 3, 2}, turnGroups{0, 1, 2, 4, 3};
        std::string turned =
            w.add("Transpose", {k}, {{"perm", inGroups ? turnGroups : turn}});
        double factor = scale ? scale : 1 / std::sqrt(static_cast<double>(d));
        std::string product = w.add("MatMul", {q, turned});
        std::string scores = w.add("Mul", {product, w.scalar(factor, *type)});
        if (mask == "additive") {
          std::string added = "mask";
          if (inGroups)
            added = w.add("Unsqueeze", {added, w.integers({2})});
          scores = w.add("Add", {scores, added});
        }
        if (mask == "causal") {
          std::string axis = w.integer(tokensFirst ? 1 : 2);
          std::string count = w.add("Gather", {w.add("Shape", {"q"}), axis});
          std::string places =
              w.add("Range", {w.integer(0), count, w.integer(1)});
          std::string rows = w.add("Unsqueeze", {places, w.integers({1})});
          std::string sees = w.add("LessOrEqual", {places, rows});
          constexpr double infinity = std::numeric_limits<double>::infinity();
          scores = w.add("Where", {sees, scores, w.scalar(-infinity, *type)});
        }
        std::string weights =
            w.add("Softmax", {scores}, {{"axis", int64_t(-1)}});
        std::string o = w.add("MatMul", {weights, v});
        if (inGroups)
          o = w.add("Reshape", {o, w.integers({0, heads, -1, d})});
        w.finish(swapHeads(w, tokensFirst, o), "o");
      })};
}

std::vector<Operation> dlc::library::makeRope(const Entry &entry) {
  bool tokensFirst = entry.json.getString("layout", "heads-first",
                                          headLayouts) == "tokens-first";
  bool interleaved = entry.json.getBool("interleaved", false);
  OperationBuilder b(entry, "rope", "rope");
  b.dim("batch", false, 1);
  b.dim("heads", true, 32);
  b.dim("tokens", false, 512);
  b.dim("d", true, 128);
  b.dim("positions", false, 4096);
  Extent half = b["d"];
  half.divisor = 2;
  auto shape =
      headShape(tokensFirst, b["batch"], b["heads"], b["tokens"], b["d"]);
  b.input("x", b.type, shape);
  b.input("cos", b.type, {b["positions"], half});
  b.input("sin", b.type, {b["positions"], half});
  b.input("at", *findType("i64"), {b["batch"], b["tokens"]});
  b.output("y", b.type, shape);
  b.setAttribute("layout", tokensFirst ? "tokens-first" : "heads-first");
  b.op.checkSizes = [](ArrayRef<Range> ranges) -> std::string {
    return ranges[3].min % 2 ? "d is " + std::to_string(ranges[3].min) +
                                   "; expected an even number: pairs are turned"
                             : "";
  };
  b.setAttribute("interleaved", interleaved);
  return {b.take(
      std::string(
          "y = x turned by the angles of rows at[...] of cos and sin, ") +
          (interleaved ? "neighbours" : "halves") + " of d as pairs",
      [=](ModelWriter &w, ArrayRef<Range>) {
        std::string x = swapHeads(w, tokensFirst, "x");
        std::string y = w.add("RotaryEmbedding", {x, "cos", "sin", "at"},
                              {{"interleaved", int64_t(interleaved)}});
        w.finish(swapHeads(w, tokensFirst, y), "y");
      })};
}

std::vector<Operation> dlc::library::makeSoftmax(const Entry &entry) {
  OperationBuilder b(entry, "softmax", "softmax");
  b.dim("rows");
  b.dim("columns", false, 1024);
  b.input("x", b.type, {b["rows"], b["columns"]});
  b.output("y", b.type, {b["rows"], b["columns"]});
  return {b.take(
      "y = softmax of each row of x", [](ModelWriter &w, ArrayRef<Range>) {
        w.finish(w.add("Softmax", {"x"}, {{"axis", int64_t(-1)}}), "y");
      })};
}

// Layer or RMS normalisation of rows, with a residual added before.
static std::vector<Operation> makeNorm(const Entry &entry, bool isLayer) {
  double epsilon = entry.json.getNumber("epsilon", 1e-5);
  bool residual = entry.json.getBool("residual", false);
  std::string name = isLayer ? "layer_norm" : "rms_norm";
  OperationBuilder b(entry, (residual ? "add_" : "") + name, name);
  b.dim("rows");
  b.dim("columns", false, 4096);
  std::vector<Extent> whole{b["rows"], b["columns"]};
  b.input("x", b.type, whole);
  if (residual)
    b.input("residual", b.type, whole);
  b.input("weight", b.type, {b["columns"]});
  if (isLayer)
    b.input("bias", b.type, {b["columns"]});
  b.output("y", b.type, whole);
  if (residual)
    b.output("sum", b.type, whole);
  b.setAttribute("epsilon", epsilon);
  b.setAttribute("residual", residual);
  return {b.take(
      std::string(residual ? "sum = x + residual, " : "") +
          "y = " + (isLayer ? "layer" : "RMS") +
          " normalisation of each row of " + (residual ? "sum" : "x"),
      [=](ModelWriter &w, ArrayRef<Range>) {
        std::string x = "x";
        if (residual)
          x = w.add("Add", {"x", "residual"});
        std::vector<std::string> inputs{x, "weight"};
        if (isLayer)
          inputs.push_back("bias");
        std::string y = w.add(
            isLayer ? "LayerNormalization" : "RMSNormalization", inputs,
            {{"axis", int64_t(-1)}, {"epsilon", static_cast<float>(epsilon)}});
        w.finish(y, "y");
        if (residual)
          w.finish(x, "sum");
      })};
}

std::vector<Operation> dlc::library::makeLayerNorm(const Entry &entry) {
  return makeNorm(entry, /*isLayer=*/true);
}
std::vector<Operation> dlc::library::makeRmsNorm(const Entry &entry) {
  return makeNorm(entry, /*isLayer=*/false);
}
