//===- ConvertRecurrent.cpp - RNN, GRU, LSTM ------------------------------===//
//
// Short sequences are unrolled over time, others are a loop. The products of
// the inputs with W do not depend on the state: they are one matrix product for
// all steps. DynamicQuantizeLSTM has weights in bytes, and puts inputs and
// states into bytes by their own range before it multiplies them.
//
//===----------------------------------------------------------------------===//

#include "Contrib.h"
#include "ControlRegions.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

using namespace dlc;
using namespace mlir;

/// Steps up to which a sequence is unrolled: each of them has kernels of its
/// own.
static constexpr int64_t kUnrolledSteps = 16;

namespace {
/// What inputs or states of one direction are multiplied with.
struct Weights {
  Value matrix;      ///< (gates * hidden, k); (k, gates * hidden) of bytes
  Value scale, zero; ///< of bytes: one number, or one a column

  /// x (..., k) times it.
  Value multiply(GraphBuilder &b, Value x) const;
};

/// One direction of one recurrent node.
struct Cell {
  NodeContext &node;
  GraphBuilder &b;
  int64_t gates, direction;
  AffineExpr hidden;
  Weights recurrent;   ///< of a constant if R is one
  Value recurrentBias; ///< (gates * hidden) or null
  /// The last gate's part of both, of a GRU that multiplies the reset state.
  Weights last;
  Value lastBias;
  SmallVector<Value> peepholes;

  std::string activation(unsigned i, StringRef otherwise);
  double parameter(StringRef name, unsigned i, double otherwise);
  Value activate(unsigned i, StringRef otherwise, Value x);
  Value gate(Value all, int64_t i) {
    return b.sliceAxis(all, 1, hidden * i, hidden);
  }
};
} // namespace

Value Weights::multiply(GraphBuilder &b, Value x) const {
  if (scale) {
    DynamicQuantized q = makeDynamicQuantize(b, x);
    return makeIntegerMatMul(b, q.value, q.zeroPoint, q.scale, matrix, zero,
                             scale);
  }
  return b.rank(x) == 3 ? b.einsum("tbi", "ni", "tbn", x, matrix)
                        : b.einsum("bk", "nk", "bn", x, matrix);
}

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
  Value sum = b.add(x, cell.recurrent.multiply(b, h));
  if (cell.recurrentBias)
    sum = b.add(sum, cell.recurrentBias);
  h = cell.activate(0, "Tanh", sum);
}

/// Gates z (update), r (reset), h, in ONNX's order.
static void stepGRU(Cell &cell, Value x, Value &h) {
  GraphBuilder &b = cell.b;
  // Gates that multiply the same state are one product.
  auto product = [&](Value state, const Weights &weights, Value bias) {
    Value sum = weights.multiply(b, state);
    return bias ? b.add(sum, bias) : sum;
  };
  Value all = product(h, cell.recurrent, cell.recurrentBias);
  auto sigmoid = [&](int64_t i) {
    return cell.activate(0, "Sigmoid",
                         b.add(cell.gate(x, i), cell.gate(all, i)));
  };
  Value z = sigmoid(0), r = sigmoid(1);
  Value inner = cell.last.matrix
                    ? product(b.mul(r, h), cell.last, cell.lastBias)
                    : b.mul(r, cell.gate(all, 2));
  Value candidate = cell.activate(1, "Tanh", b.add(cell.gate(x, 2), inner));
  Value one = b.splat(1, b.element(h));
  h = b.add(b.mul(b.sub(one, z), candidate), b.mul(z, h));
}

/// Gates i, o, f, c, in ONNX's order.
static void stepLSTM(Cell &cell, Value x, Value &h, Value &c) {
  GraphBuilder &b = cell.b;
  Value all = b.add(x, cell.recurrent.multiply(b, h));
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

namespace {
/// A direction's run over time.
struct Sequence {
  Cell &cell;
  Value inputs;  ///< X W^T + Wb: (steps, batch, gates * hidden)
  Value lengths; ///< (batch, 1), or null: all sequences are full
  AffineExpr steps;
  bool backwards;
  Value h, c; ///< c of LSTM only

  /// One step: the output. `t` is an i64 scalar.
  Value advance(Value xt, Value t, Value &h, Value &c);
  /// All steps; returns the outputs (steps, batch, hidden), and leaves the last
  /// states.
  Value unroll(int64_t count);
  Value loop();
};
} // namespace

Value Sequence::advance(Value xt, Value t, Value &h, Value &c) {
  GraphBuilder &b = cell.b;
  Value nextH = h, nextC = c;
  if (cell.gates == 4)
    stepLSTM(cell, xt, nextH, nextC);
  else if (cell.gates == 3)
    stepGRU(cell, xt, nextH);
  else
    stepRNN(cell, xt, nextH);
  Value output = nextH;
  // Past a sequence's end the state stays and the output is zero.
  if (lengths) {
    Value inside = b.emit("graph.lt", {t, lengths});
    output = b.select(inside, nextH, b.splat(0, b.element(xt)));
    nextH = b.select(inside, nextH, h);
    nextC = c ? b.select(inside, nextC, c) : c;
  }
  h = nextH;
  c = nextC;
  return output;
}

Value Sequence::unroll(int64_t count) {
  GraphBuilder &b = cell.b;
  SmallVector<Value> outputs(count);
  for (int64_t i = 0; i < count; ++i) {
    int64_t t = backwards ? count - 1 - i : i;
    outputs[t] =
        b.unsqueeze(advance(pick(b, inputs, t),
                            b.splatInt(t, b.builder.getI64Type()), h, c),
                    {0});
  }
  return b.concat(outputs, 0);
}

Value Sequence::loop() {
  GraphBuilder &b = cell.b;
  Type i64 = b.builder.getI64Type();
  LoopRequest request;
  request.trips = steps;
  request.state = {Entry::tensor(h)};
  if (c)
    request.state.push_back(Entry::tensor(c));
  request.numStacked = 1;
  request.body = [&](Value iteration, ArrayRef<Entry> state) {
    Value t = iteration;
    if (backwards)
      t = b.sub(b.sub(makeSizeValue(cell.node, steps), b.splatInt(1, i64)), t);
    Value nextH = state[0].value, nextC = c ? state[1].value : Value();
    Value output = advance(b.gather(inputs, t, 0), t, nextH, nextC);
    std::vector<Entry> results = {knownInt(b, 1, b.builder.getI1Type()),
                                  Entry::tensor(nextH)};
    if (c)
      results.push_back(Entry::tensor(nextC));
    results.push_back(Entry::tensor(output));
    return results;
  };
  LoopValues values = makeLoop(cell.node, request);
  h = values.state[0].value;
  c = c ? values.state[1].value : c;
  Value outputs = values.stacks[0];
  return backwards ? b.sliceAxis(outputs, 0, steps - 1, steps, -1) : outputs;
}

/// The lengths of the sequences; null where all are as long as X.
static Value readLengths(NodeContext &node, AffineExpr steps,
                         AffineExpr batch) {
  GraphBuilder &b = node.b;
  if (!node.has(4))
    return {};
  if (std::optional<ShapeValue> known = node.shapeValue(4);
      known && llvm::all_of(known->values, [&](AffineExpr e) {
        return graph::simplify(e - steps) == 0;
      }))
    return {};
  return b.reshape(b.convert(node.in(4), b.builder.getI64Type()),
                   {batch, b.c(1)});
}

/// Input `i`, W or R, of direction `d`; DynamicQuantizeLSTM has its scale and
/// zero point at `scale` and after it.
static Weights readWeights(NodeContext &node, unsigned i, unsigned scale,
                           int64_t d) {
  GraphBuilder &b = node.b;
  auto own = [&](unsigned of) { return b.moveNow(pick(b, node.in(of), d)); };
  if (isFloat(b.element(node.in(i))))
    return {own(i), {}, {}};
  return {own(i), own(scale), own(scale + 1)};
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
  bool isQuantized = !isFloat(b.element(w));
  AffineExpr steps = b.dim(x, 0), batch = b.dim(x, 1),
             hidden = b.dim(r, isQuantized ? 1 : 2);
  std::optional<int64_t> known = graph::constantValue(steps);
  StringRef direction = node.s("direction", "forward");
  int64_t directions = direction == "bidirectional" ? 2 : 1;
  Type element = b.element(x);
  Value lengths = readLengths(node, steps, batch);

  SmallVector<Value> outputs, lastH, lastC;
  for (int64_t d = 0; d < directions; ++d) {
    Cell cell{node, b,  gates, d, hidden, readWeights(node, 2, 10, d),
              {},   {}, {},    {}};
    Value inputs = readWeights(node, 1, 8, d).multiply(b, x);
    if (Value bias = node.maybe(3)) {
      Value both = pick(b, bias, d);
      AffineExpr half = hidden * gates;
      inputs = b.add(inputs, b.sliceAxis(both, 0, b.c(0), half));
      cell.recurrentBias = b.sliceAxis(both, 0, half, half);
    }
    if (gates == 3 && !node.i("linear_before_reset", 0)) {
      auto split = [&](Value &all, Value &last) {
        if (!all)
          return;
        last = b.moveNow(b.sliceAxis(all, 0, hidden * 2, hidden));
        all = b.moveNow(b.sliceAxis(all, 0, b.c(0), hidden * 2));
      };
      split(cell.recurrent.matrix, cell.last.matrix);
      split(cell.recurrentBias, cell.lastBias);
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
    Sequence sequence{cell,
                      inputs,
                      lengths,
                      steps,
                      direction == "reverse" || d == 1,
                      initial(5),
                      isLSTM ? initial(6) : Value()};
    bool isShort = known && *known >= 1 && *known <= kUnrolledSteps;
    outputs.push_back(isShort ? sequence.unroll(*known) : sequence.loop());
    lastH.push_back(sequence.h);
    lastC.push_back(sequence.c);
  }
  auto join = [&](ArrayRef<Value> values, int64_t axis) {
    SmallVector<Value> parts;
    for (Value value : values)
      parts.push_back(b.unsqueeze(value, {axis}));
    return b.concat(parts, axis);
  };
  if (node.wants(0)) {
    Value y = join(outputs, 1); // (steps, directions, batch, hidden)
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
  table["com.microsoft.DynamicQuantizeLSTM"] = convertLSTM;
}
