//===- ConvertRecurrent.cpp - RNN, GRU, LSTM ------------------------------===//
//
// Unrolled over time, so the length must be known. The products of the inputs
// with W do not depend on the state: they are one matrix product for all steps.
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

using namespace dlc;
using namespace mlir;

namespace {
/// One direction of one recurrent node.
struct Cell {
  NodeContext &node;
  GraphBuilder &b;
  int64_t gates, direction;
  AffineExpr hidden;
  Value recurrent;     ///< (gates * hidden, hidden)
  Value recurrentBias; ///< (gates * hidden) or null
  SmallVector<Value> peepholes;

  std::string activation(unsigned i, StringRef otherwise);
  double parameter(StringRef name, unsigned i, double otherwise);
  Value activate(unsigned i, StringRef otherwise, Value x);
  Value gate(Value all, int64_t i) {
    return b.sliceAxis(all, 1, hidden * i, hidden);
  }
};
} // namespace

std::string Cell::activation(unsigned i, StringRef otherwise) {
  auto names = node.op->getAttrOfType<ArrayAttr>("activations");
  unsigned perDirection = gates == 1   ? 1
                          : gates == 3 ? 2
                                       : 3,
           at = direction * perDirection + i;
  return names && at < names.size()
             ? cast<StringAttr>(names[at]).getValue().lower()
             : otherwise.lower();
}

double Cell::parameter(StringRef name, unsigned i, double otherwise) {
  SmallVector<double> values = node.fs(name);
  unsigned perDirection = gates == 1   ? 1
                          : gates == 3 ? 2
                                       : 3,
           at = direction * perDirection + i;
  return at < values.size() ? values[at] : otherwise;
}

Value Cell::activate(unsigned i, StringRef otherwise, Value x) {
  std::string name = activation(i, otherwise);
  if (double clip = node.f("clip", 0); clip > 0) {
    Type element = b.element(x);
    x = b.min(b.max(x, b.splat(-clip, element)), b.splat(clip, element));
  }
  if (name == "sigmoid" || name == "tanh" || name == "relu" ||
      name == "softsign" || name == "softplus")
    return b.unary("graph." + name, x);
  if (name == "affine")
    return b.addScalar(b.mulScalar(x, parameter("activation_alpha", i, 1)),
                       parameter("activation_beta", i, 0));
  if (name == "leakyrelu")
    return b.emit("graph.leaky_relu", {x},
                  {b.f64("alpha", parameter("activation_alpha", i, 0.01))});
  if (name == "elu")
    return b.emit("graph.elu", {x},
                  {b.f64("alpha", parameter("activation_alpha", i, 1))});
  if (name == "hardsigmoid")
    return b.emit("graph.hard_sigmoid", {x},
                  {b.f64("alpha", parameter("activation_alpha", i, 0.2)),
                   b.f64("beta", parameter("activation_beta", i, 0.5))});
  refuse("activation '" + name + "'");
}

/// One element of the leading (direction) axis.
static Value pick(GraphBuilder &b, Value x, int64_t i) {
  return b.squeeze(b.sliceAxis(x, 0, b.c(i), b.c(1)), {0});
}

/// h' = f(x + R h + rb)
static void stepRNN(Cell &cell, Value x, Value &h) {
  GraphBuilder &b = cell.b;
  Value sum = b.add(x, b.einsum("bk", "nk", "bn", h, cell.recurrent));
  if (cell.recurrentBias)
    sum = b.add(sum, cell.recurrentBias);
  h = cell.activate(0, "Tanh", sum);
}

/// Gates z (update), r (reset), h, in ONNX's order.
static void stepGRU(Cell &cell, Value x, Value &h) {
  GraphBuilder &b = cell.b;
  auto rows = [&](int64_t i) {
    return b.sliceAxis(cell.recurrent, 0, cell.hidden * i, cell.hidden);
  };
  auto bias = [&](int64_t i, Value sum) {
    return cell.recurrentBias
               ? b.add(sum, b.sliceAxis(cell.recurrentBias, 0, cell.hidden * i,
                                        cell.hidden))
               : sum;
  };
  auto product = [&](int64_t i, Value state) {
    return bias(i, b.einsum("bk", "nk", "bn", state, rows(i)));
  };
  Value z = cell.activate(0, "Sigmoid", b.add(cell.gate(x, 0), product(0, h)));
  Value r = cell.activate(0, "Sigmoid", b.add(cell.gate(x, 1), product(1, h)));
  Value inner = cell.node.i("linear_before_reset", 0) ? b.mul(r, product(2, h))
                                                      : product(2, b.mul(r, h));
  Value candidate = cell.activate(1, "Tanh", b.add(cell.gate(x, 2), inner));
  Value one = b.splat(1, b.element(h));
  h = b.add(b.mul(b.sub(one, z), candidate), b.mul(z, h));
}

/// Gates i, o, f, c, in ONNX's order.
static void stepLSTM(Cell &cell, Value x, Value &h, Value &c) {
  GraphBuilder &b = cell.b;
  Value all = b.add(x, b.einsum("bk", "nk", "bn", h, cell.recurrent));
  if (cell.recurrentBias)
    all = b.add(all, cell.recurrentBias);
  auto peep = [&](Value sum, unsigned i, Value state) {
    return cell.peepholes.empty() ? sum
                                  : b.add(sum, b.mul(cell.peepholes[i], state));
  };
  Value input = cell.activate(0, "Sigmoid", peep(cell.gate(all, 0), 0, c));
  Value forget =
      cell.node.i("input_forget", 0)
          ? b.sub(b.splat(1, b.element(h)), input)
          : cell.activate(0, "Sigmoid", peep(cell.gate(all, 2), 2, c));
  Value candidate = cell.activate(1, "Tanh", cell.gate(all, 3));
  c = b.add(b.mul(forget, c), b.mul(input, candidate));
  Value output = cell.activate(0, "Sigmoid", peep(cell.gate(all, 1), 1, c));
  h = b.mul(output, cell.activate(2, "Tanh", c));
}

/// All recurrent operators: X, W, R, B, sequence_lens, initial_h (, initial_c,
/// P).
static void convertRecurrent(NodeContext &node, int64_t gates) {
  GraphBuilder &b = node.b;
  Value x = node.in(0), w = node.in(1), r = node.in(2);
  bool isLSTM = gates == 4;
  if (b.rank(x) != 3 || b.rank(w) != 3 || b.rank(r) != 3)
    refuseMalformed("X, W and R must have rank 3");
  bool batchFirst = node.i("layout", 0);
  if (batchFirst)
    x = b.transpose(x, {1, 0, 2});
  std::optional<int64_t> steps = graph::constantValue(b.dim(x, 0));
  if (!steps || *steps > node.converter.options.maxUnroll || *steps < 1)
    refuse("a sequence of " +
           (steps ? std::to_string(*steps) : std::string("symbolic")) +
           " steps");
  AffineExpr batch = b.dim(x, 1), hidden = b.dims(r).back();
  StringRef direction = node.s("direction", "forward");
  int64_t directions = direction == "bidirectional" ? 2 : 1;
  Type element = b.element(x);
  Value lengths = node.maybe(4);
  // Every sequence of full length needs no masks.
  if (std::optional<ShapeValue> known = node.shapeValue(4);
      known && llvm::all_of(known->values, [&](AffineExpr e) {
        return graph::constantValue(e) == *steps;
      }))
    lengths = nullptr;
  if (lengths)
    lengths =
        b.reshape(b.convert(lengths, b.builder.getI64Type()), {batch, b.c(1)});

  std::vector<SmallVector<Value>> outputs(directions);
  SmallVector<Value> lastH, lastC;
  for (int64_t d = 0; d < directions; ++d) {
    Cell cell{node, b, gates, d, hidden, pick(b, r, d), {}, {}};
    Value inputs = b.einsum("tbi", "ni", "tbn", x, pick(b, w, d));
    if (Value bias = node.maybe(3)) {
      Value both = pick(b, bias, d);
      AffineExpr half = hidden * gates;
      inputs = b.add(inputs, b.sliceAxis(both, 0, b.c(0), half));
      cell.recurrentBias = b.sliceAxis(both, 0, half, half);
    }
    if (isLSTM && node.has(7))
      for (int64_t i = 0; i < 3; ++i)
        cell.peepholes.push_back(
            b.sliceAxis(pick(b, node.in(7), d), 0, hidden * i, hidden));
    auto initial = [&](unsigned i) {
      if (!node.has(i))
        return b.broadcast(b.splat(0, element), {batch, hidden});
      Value all = node.in(i);
      return pick(b, batchFirst ? b.transpose(all, {1, 0, 2}) : all, d);
    };
    Value h = initial(5), c = isLSTM ? initial(6) : Value();
    Value zero = b.splat(0, element);
    bool backwards = direction == "reverse" || d == 1;
    SmallVector<Value> &sequence = outputs[d];
    sequence.resize(*steps);
    for (int64_t i = 0; i < *steps; ++i) {
      int64_t t = backwards ? *steps - 1 - i : i;
      Value xt = pick(b, inputs, t), nextH = h, nextC = c;
      if (isLSTM)
        stepLSTM(cell, xt, nextH, nextC);
      else if (gates == 3)
        stepGRU(cell, xt, nextH);
      else
        stepRNN(cell, xt, nextH);
      // Past a sequence's end the state stays and the output is zero.
      if (lengths) {
        Value inside = b.emit("graph.lt",
                              {b.splatInt(t, b.builder.getI64Type()), lengths});
        h = b.select(inside, nextH, h);
        c = isLSTM ? b.select(inside, nextC, c) : c;
        sequence[t] = b.select(inside, nextH, zero);
      } else {
        h = nextH;
        c = nextC;
        sequence[t] = nextH;
      }
    }
    lastH.push_back(h);
    lastC.push_back(c);
  }
  auto join = [&](ArrayRef<Value> values, int64_t axis) {
    SmallVector<Value> parts;
    for (Value value : values)
      parts.push_back(b.unsqueeze(value, {axis}));
    return b.concat(parts, axis);
  };
  if (node.wants(0)) {
    SmallVector<Value> perDirection;
    for (auto &sequence : outputs)
      perDirection.push_back(join(sequence, 0));
    Value y = join(perDirection, 1); // (steps, directions, batch, hidden)
    node.result(0, batchFirst ? b.transpose(y, {2, 0, 1, 3}) : y);
  }
  auto state = [&](unsigned i, ArrayRef<Value> values) {
    if (!node.wants(i))
      return;
    Value y = join(values, 0);
    node.result(i, batchFirst ? b.transpose(y, {1, 0, 2}) : y);
  };
  state(1, lastH);
  if (isLSTM)
    state(2, lastC);
}

static void convertRNN(NodeContext &node) { convertRecurrent(node, 1); }
static void convertGRU(NodeContext &node) { convertRecurrent(node, 3); }
static void convertLSTM(NodeContext &node) { convertRecurrent(node, 4); }

void dlc::addRecurrent(ConverterTable &table) {
  table["RNN"] = convertRNN;
  table["GRU"] = convertGRU;
  table["LSTM"] = convertLSTM;
}
