//===- ConvertElementwise.cpp - one scalar function of each element -------===//
//
// Most are a row of the graph dialect under another name; the tables say which.
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

using namespace dlc;
using namespace mlir;

namespace {
/// An ONNX operator and the graph operator that is the same function.
struct SameRow {
  const char *onnx, *graph;
};
} // namespace

static const SameRow unaryRows[] = {
    {"Abs", "abs"},
    {"Neg", "neg"},
    {"Sign", "sign"},
    {"Ceil", "ceil"},
    {"Floor", "floor"},
    {"Round", "round"},
    {"Sqrt", "sqrt"},
    {"Exp", "exp"},
    {"Log", "log"},
    {"Sin", "sin"},
    {"Cos", "cos"},
    {"Tan", "tan"},
    {"Asin", "asin"},
    {"Acos", "acos"},
    {"Atan", "atan"},
    {"Sinh", "sinh"},
    {"Cosh", "cosh"},
    {"Tanh", "tanh"},
    {"Asinh", "asinh"},
    {"Acosh", "acosh"},
    {"Atanh", "atanh"},
    {"Erf", "erf"},
    {"Not", "bit_not"},
    {"IsNaN", "isnan"},
    {"Relu", "relu"},
    {"Sigmoid", "sigmoid"},
    {"Softplus", "softplus"},
    {"Mish", "mish"},
    {"Softsign", "softsign"},
    {"Reciprocal", "reciprocal"},
    {"HardSwish", "hard_swish"},
    {"BitwiseNot", "bit_not"},
};

static const SameRow binaryRows[] = {
    {"Add", "add"},           {"Sub", "sub"},
    {"Mul", "mul"},           {"Div", "div"},
    {"And", "bit_and"},       {"Or", "bit_or"},
    {"Xor", "bit_xor"},       {"BitwiseAnd", "bit_and"},
    {"BitwiseOr", "bit_or"},  {"BitwiseXor", "bit_xor"},
    {"Equal", "eq"},          {"Less", "lt"},
    {"LessOrEqual", "le"},    {"Greater", "gt"},
    {"GreaterOrEqual", "ge"}, {"Pow", "pow"},
};

/// The graph name of this node's operator in a table.
template <size_t N>
static std::string rowOf(NodeContext &node, const SameRow (&rows)[N]) {
  StringRef name =
      node.op->getName().getStringRef().drop_front(strlen("onnx."));
  for (const SameRow &row : rows)
    if (name == row.onnx)
      return std::string("graph.") + row.graph;
  llvm_unreachable("registered from the same table");
}

static void convertUnary(NodeContext &node) {
  node.result(node.b.unary(rowOf(node, unaryRows), node.in(0)));
}

static void convertBinary(NodeContext &node) {
  node.result(node.b.emit(rowOf(node, binaryRows), {node.in(0), node.in(1)}));
}

static void convertMod(NodeContext &node) {
  node.result(node.b.emit(node.i("fmod", 0) ? "graph.rem" : "graph.mod",
                          {node.in(0), node.in(1)}));
}

static void convertBitShift(NodeContext &node) {
  StringRef direction = node.s("direction", "");
  if (direction != "LEFT" && direction != "RIGHT")
    refuseMalformed("direction '" + direction.str() +
                    "' is neither LEFT nor RIGHT");
  GraphBuilder &b = node.b;
  Value x = node.in(0), amount = node.in(1);
  Type element = b.element(x);
  int64_t width = element.getIntOrFloatBitWidth();
  // Amounts outside [0, width) shift everything out, which machines do not do.
  Value inside = b.emit("graph.lt", {amount, b.splatInt(width, element)});
  if (!element.isUnsignedInteger())
    inside =
        b.emit("graph.bit_and",
               {inside, b.emit("graph.ge", {amount, b.splatInt(0, element)})});
  if (direction == "RIGHT" && !element.isUnsignedInteger())
    return node.result(
        b.emit("graph.shr",
               {x, b.select(inside, amount, b.splatInt(width - 1, element))}));
  Value zero = b.splatInt(0, element);
  Value shifted = b.emit(direction == "LEFT" ? "graph.shl" : "graph.shr",
                         {x, b.select(inside, amount, zero)});
  node.result(b.select(inside, shifted, zero));
}

/// The slope broadcasts to x; before opset 7 a vector was one slope a channel.
static void convertPRelu(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0), slope = node.in(1);
  if (node.converter.sourceOpset < 7 && b.rank(slope) == 1 && b.rank(x) > 1) {
    Dims dims(b.rank(x), b.c(1));
    dims[1] = b.dim(slope, 0);
    slope = b.reshape(slope, dims);
  }
  node.result(b.emit("graph.prelu", {x, slope}));
}

/// Left fold of all operands with one binary operator.
static Value foldOperands(NodeContext &node, StringRef op) {
  SmallVector<Value> values = node.inputs();
  Value total = values.front();
  for (Value value : ArrayRef(values).drop_front())
    total = node.b.emit(op, {total, value});
  return total;
}

static void convertMax(NodeContext &node) {
  node.result(foldOperands(node, "graph.max"));
}
static void convertMin(NodeContext &node) {
  node.result(foldOperands(node, "graph.min"));
}
static void convertSum(NodeContext &node) {
  node.result(foldOperands(node, "graph.add"));
}
static void convertMean(NodeContext &node) {
  Value sum = foldOperands(node, "graph.add");
  node.result(
      node.b.div(sum, node.b.splat(node.numInputs(), node.b.element(sum))));
}

static void convertWhere(NodeContext &node) {
  node.result(node.b.select(node.in(0), node.in(1), node.in(2)));
}

static void convertClip(NodeContext &node) {
  Value x = node.in(0), low = node.maybe(1), high = node.maybe(2);
  if (low && high)
    return node.result(
        node.b.emit("graph.clip", {x, node.b.reshape(low, ArrayRef<int64_t>{}),
                                   node.b.reshape(high, ArrayRef<int64_t>{})}));
  if (low)
    x = node.b.max(x, node.b.reshape(low, ArrayRef<int64_t>{}));
  if (high)
    x = node.b.min(x, node.b.reshape(high, ArrayRef<int64_t>{}));
  node.result(x);
}

/// Activations with float attributes, carried over by name.
static void
convertWithAttributes(NodeContext &node, StringRef op,
                      ArrayRef<std::pair<StringRef, double>> attributes) {
  SmallVector<NamedAttribute> list;
  for (auto [name, otherwise] : attributes)
    list.push_back(node.b.f64(name, node.f(name, otherwise)));
  node.result(node.b.emit(op, {node.in(0)}, list));
}

static void convertLeakyRelu(NodeContext &n) {
  convertWithAttributes(n, "graph.leaky_relu", {{"alpha", 0.01}});
}
static void convertElu(NodeContext &n) {
  convertWithAttributes(n, "graph.elu", {{"alpha", 1.0}});
}
static void convertCelu(NodeContext &n) {
  convertWithAttributes(n, "graph.celu", {{"alpha", 1.0}});
}
static void convertThresholdedRelu(NodeContext &n) {
  convertWithAttributes(n, "graph.thresholded_relu", {{"alpha", 1.0}});
}
static void convertSwish(NodeContext &n) {
  convertWithAttributes(n, "graph.swish", {{"alpha", 1.0}});
}
static void convertSelu(NodeContext &n) {
  convertWithAttributes(
      n, "graph.selu",
      {{"alpha", 1.6732632423543772}, {"gamma", 1.0507009873554805}});
}
static void convertHardSigmoid(NodeContext &n) {
  convertWithAttributes(n, "graph.hard_sigmoid",
                        {{"alpha", 0.2}, {"beta", 0.5}});
}
static void convertShrink(NodeContext &n) {
  convertWithAttributes(n, "graph.shrink", {{"lambd", 0.5}, {"bias", 0.0}});
}

static void convertGelu(NodeContext &node) {
  StringRef form = node.s("approximate", "none");
  if (form != "none" && form != "tanh")
    refuseMalformed("approximate '" + form.str() +
                    "' is neither none nor tanh");
  SmallVector<NamedAttribute> attributes;
  if (form == "tanh")
    attributes.push_back(
        node.b.attr("tanh_form", node.b.builder.getUnitAttr()));
  node.result(node.b.emit("graph.gelu", {node.in(0)}, attributes));
}

static void convertIsInf(NodeContext &node) {
  auto flag = [&](StringRef name) {
    return node.b.attr(name, node.b.builder.getBoolAttr(node.i(name, 1) != 0));
  };
  node.result(node.b.emit("graph.isinf", {node.in(0)},
                          {flag("detect_positive"), flag("detect_negative")}));
}

static void convertIdentity(NodeContext &node) {
  node.resultEntry(0, node.entry(0));
}

void dlc::addElementwise(ConverterTable &table) {
  for (const SameRow &row : unaryRows)
    table[row.onnx] = convertUnary;
  for (const SameRow &row : binaryRows)
    table[row.onnx] = convertBinary;
  table["Mod"] = convertMod;
  table["PRelu"] = convertPRelu;
  table["BitShift"] = convertBitShift;
  table["Max"] = convertMax;
  table["Min"] = convertMin;
  table["Sum"] = convertSum;
  table["Mean"] = convertMean;
  table["Where"] = convertWhere;
  table["Clip"] = convertClip;
  table["LeakyRelu"] = convertLeakyRelu;
  table["Elu"] = convertElu;
  table["Celu"] = convertCelu;
  table["ThresholdedRelu"] = convertThresholdedRelu;
  table["Swish"] = convertSwish;
  table["Selu"] = convertSelu;
  table["HardSigmoid"] = convertHardSigmoid;
  table["Shrink"] = convertShrink;
  table["Gelu"] = convertGelu;
  table["IsInf"] = convertIsInf;
  table["Identity"] = convertIdentity;
}
