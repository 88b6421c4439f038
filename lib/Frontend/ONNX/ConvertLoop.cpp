//===- ConvertLoop.cpp - Loop and Scan ------------------------------------===//
//
// A short loop whose end is known is unrolled: each iteration then knows its
// number, and sequences may grow. Every other one is a graph.loop.
//
//===----------------------------------------------------------------------===//

#include "ControlRegions.h"
#include "SizeComparison.h"

using namespace dlc;
using namespace mlir;

/// Operations up to which unrolling is worth the code.
static constexpr size_t kUnrolledOps = 512;

/// Stacks per-iteration values along a new axis.
static Value stack(GraphBuilder &b, ArrayRef<Value> values, int64_t axis) {
  SmallVector<Value> parts;
  for (Value value : values)
    parts.push_back(b.unsqueeze(value, {axis}));
  return b.concat(parts, axis);
}

/// The dims a body declares for an argument of one element: [] or [1].
static SmallVector<int64_t> getScalarDims(BlockArgument argument) {
  auto type = dyn_cast<RankedTensorType>(argument.getType());
  return SmallVector<int64_t>(type ? type.getRank() : 0, 1);
}

namespace {
enum class Unrolled { Done, EndNotKnown, TooLong };

/// One Loop or Scan.
class LoopConversion {
public:
  LoopConversion(NodeContext &node, int64_t numStates)
      : node(node), b(node.b), body(getGraph(node, "body")),
        numStates(numStates),
        numStacked(static_cast<int64_t>(node.op->getNumResults()) - numStates) {
    if (numStates < 0 || numStacked < 0)
      refuseMalformed("has too few operands or results");
  }
  virtual ~LoopConversion() = default;

  void convert() {
    Unrolled unrolled = unroll(kUnrolledOps);
    if (unrolled == Unrolled::Done)
      return;
    LoopValues values;
    try {
      values = loop();
    } catch (const Refusal &) {
      // What cannot change from iteration to iteration can still be unrolled.
      if (unrolled != Unrolled::TooLong ||
          unroll(std::numeric_limits<size_t>::max()) != Unrolled::Done)
        throw;
      return;
    }
    define(std::move(values));
  }

protected:
  /// Converts the body; `iteration` as an entry, or as a tensor.
  std::vector<Entry> iterate(Entry iteration, ArrayRef<Entry> state) {
    std::vector<Entry> results = node.converter.convertRegion(
        body, makeArguments(std::move(iteration), state));
    if (!hasCondition())
      results.insert(results.begin(), knownInt(b, 1, b.builder.getI1Type()));
    if (static_cast<int64_t>(results.size()) != 1 + numStates + numStacked)
      refuseMalformed("the body has the wrong number of results");
    return results;
  }

  virtual bool hasCondition() const = 0;
  virtual std::vector<Entry> makeArguments(Entry iteration,
                                           ArrayRef<Entry> state) = 0;
  /// The stack along its axis and in its direction.
  virtual Value arrange(int64_t k, Value stack) { return stack; }

  NodeContext &node;
  GraphBuilder &b;
  Region &body;
  int64_t numStates, numStacked;
  std::vector<Entry> initial;
  AffineExpr trips; ///< null: not known
  Value limit;      ///< where trips is null: the run-time number, if any
  Entry condition;  ///< the first

private:
  LoopValues loop() {
    LoopRequest request;
    request.trips = trips;
    request.limit = limit;
    if (knownCondition(condition) != true)
      request.condition =
          b.reshape(node.converter.materialize(condition), ArrayRef<int64_t>{});
    request.state = initial;
    request.numStacked = numStacked;
    request.body = [&](Value iteration, ArrayRef<Entry> state) {
      return iterate(Entry::tensor(iteration), state);
    };
    return makeLoop(node, request);
  }

  Unrolled unroll(size_t maxOps) {
    std::optional<int64_t> known =
        trips ? graph::constantValue(trips) : std::nullopt;
    if (trips ? !known : static_cast<bool>(limit))
      return Unrolled::EndNotKnown;
    Unrolled outcome = Unrolled::Done;
    LoopValues values{initial, {}};
    std::vector<SmallVector<Value>> stacks(numStacked);
    auto block = buildBlock(b, {}, [&](Block &scratch) {
      Entry again = condition;
      for (int64_t i = 0; !known || i < *known; ++i) {
        std::optional<bool> goesOn = knownCondition(again);
        if (goesOn == false)
          break;
        if (!goesOn)
          return void(outcome = Unrolled::EndNotKnown);
        if (i >= node.converter.options.limits.unroll ||
            scratch.getOperations().size() > maxOps)
          return void(outcome = Unrolled::TooLong);
        std::vector<Entry> results =
            iterate(knownInt(b, i, b.builder.getI64Type()), values.state);
        again = results[0];
        for (int64_t k = 0; k < numStates; ++k)
          values.state[k] = results[1 + k];
        for (int64_t k = 0; k < numStacked; ++k)
          stacks[k].push_back(
              node.converter.materialize(results[1 + numStates + k]));
      }
      for (SmallVector<Value> &parts : stacks) {
        if (parts.empty()) // its dims are the body's to tell
          return void(outcome = Unrolled::EndNotKnown);
        values.stacks.push_back(stack(b, parts, 0));
      }
    });
    if (outcome != Unrolled::Done)
      return outcome;
    b.builder.getInsertionBlock()->getOperations().splice(
        b.builder.getInsertionPoint(), block->getOperations());
    define(std::move(values));
    return outcome;
  }

  void define(LoopValues values) {
    for (int64_t k = 0; k < numStates; ++k)
      node.resultEntry(k, values.state[k]);
    for (int64_t k = 0; k < numStacked; ++k)
      if (node.wants(numStates + k))
        node.result(numStates + k, arrange(k, values.stacks[k]));
  }
};

class OnnxLoop : public LoopConversion {
public:
  explicit OnnxLoop(NodeContext &node)
      : LoopConversion(node, static_cast<int64_t>(node.numInputs()) - 2) {
    for (int64_t i = 0; i < numStates; ++i)
      initial.push_back(node.entry(2 + i));
    condition =
        node.has(1) ? node.entry(1) : knownInt(b, 1, b.builder.getI1Type());
    if (body.front().getNumArguments() != 2 + initial.size())
      refuseMalformed("the body has the wrong number of operands");
    if (!node.has(0))
      return;
    std::optional<ShapeValue> count = node.shapeValue(0);
    if (count && count->values.size() != 1)
      refuseMalformed("'M' must be one number");
    if (!count) {
      limit = b.reshape(node.in(0), ArrayRef<int64_t>{});
      return;
    }
    trips = count->values[0];
    std::optional<int64_t> known = graph::constantValue(trips);
    if (known && *known < 0)
      trips = b.c(0);
    else if (known && *known >= int64_t(1) << 40) // as good as none
      trips = {};
    else if (isNonNegative(graph::simplify(trips + 1))) // range(1, n)
      requireAtMost(node, b.c(0), trips,
                    "the number of iterations is negative");
    else if (!known && !isNonNegative(trips)) {
      limit = b.reshape(node.in(0), ArrayRef<int64_t>{});
      trips = {};
    }
  }

private:
  bool hasCondition() const override { return true; }

  std::vector<Entry> makeArguments(Entry iteration,
                                   ArrayRef<Entry> state) override {
    Block &block = body.front();
    SmallVector<int64_t> dims = getScalarDims(block.getArgument(0));
    if (iteration.shape)
      iteration.shape->dims = dims;
    else if (!dims.empty())
      iteration.value = b.reshape(iteration.value, dims);
    std::vector<Entry> arguments{iteration,
                                 knownInt(b, 1, b.builder.getI1Type(),
                                          getScalarDims(block.getArgument(1)))};
    arguments.insert(arguments.end(), state.begin(), state.end());
    return arguments;
  }
};

class OnnxScan : public LoopConversion {
public:
  OnnxScan(NodeContext &node, int64_t numScanned)
      : LoopConversion(node,
                       static_cast<int64_t>(node.numInputs()) - numScanned) {
    if (numScanned < 1)
      refuseMalformed("num_scan_inputs is " + std::to_string(numScanned));
    SmallVector<int64_t> zerosIn(numScanned, 0), zerosOut(numStacked, 0);
    inAxes = node.is("scan_input_axes", zerosIn);
    inReversed = node.is("scan_input_directions", zerosIn);
    outAxes = node.is("scan_output_axes", zerosOut);
    outReversed = node.is("scan_output_directions", zerosOut);
    for (size_t size : {inAxes.size(), inReversed.size()})
      if (static_cast<int64_t>(size) != numScanned)
        refuseMalformed("has scan_input attributes of the wrong length");
    for (size_t size : {outAxes.size(), outReversed.size()})
      if (static_cast<int64_t>(size) != numStacked)
        refuseMalformed("has scan_output attributes of the wrong length");
    condition = knownInt(b, 1, b.builder.getI1Type());
    for (int64_t i = 0; i < numStates; ++i)
      initial.push_back(node.entry(i));
    scanned = node.inputs(numStates);
    for (auto [axis, x] : llvm::zip(inAxes, scanned)) {
      axis = normalizeAxis(axis, b.rank(x));
      AffineExpr length = b.dim(x, axis);
      if (!trips)
        trips = length;
      else if (graph::simplify(trips - length) != 0)
        graph::constantValue(trips) && graph::constantValue(length)
            ? refuseMalformed("the scanned operands have different lengths")
            : refuse(
                  "scanned operands whose lengths are not known to be equal");
    }
    if (body.front().getNumArguments() != initial.size() + scanned.size())
      refuseMalformed("the body has the wrong number of operands");
  }

private:
  bool hasCondition() const override { return false; }

  std::vector<Entry> makeArguments(Entry iteration,
                                   ArrayRef<Entry> state) override {
    std::vector<Entry> arguments = state.vec();
    for (auto [k, x] : llvm::enumerate(scanned))
      arguments.push_back(
          Entry::tensor(take(x, inAxes[k], inReversed[k], iteration)));
    return arguments;
  }

  Value take(Value x, int64_t axis, bool reversed, Entry &iteration) {
    if (iteration.shape) {
      AffineExpr at = iteration.shape->values[0];
      Value part = b.sliceAxis(x, axis, reversed ? trips - 1 - at : at, b.c(1));
      return b.squeeze(part, {axis});
    }
    Value at = iteration.value;
    if (reversed)
      at = b.sub(b.sub(makeSizeValue(node, trips),
                       b.splatInt(1, b.builder.getI64Type())),
                 at);
    return b.gather(x, b.reshape(at, ArrayRef<int64_t>{}), axis);
  }

  Value arrange(int64_t k, Value stack) override {
    if (outReversed[k])
      stack = b.sliceAxis(stack, 0, b.dim(stack, 0) - 1, b.dim(stack, 0), -1);
    int64_t rank = b.rank(stack), axis = normalizeAxis(outAxes[k], rank);
    SmallVector<int64_t> perm;
    for (int64_t i = 1; i < rank; ++i)
      perm.push_back(i);
    perm.insert(perm.begin() + axis, 0);
    return b.transpose(stack, perm);
  }

  SmallVector<int64_t> inAxes, inReversed, outAxes, outReversed;
  SmallVector<Value> scanned;
};
} // namespace

void dlc::convertLoop(NodeContext &node) { OnnxLoop(node).convert(); }

void dlc::convertScan(NodeContext &node) {
  int64_t numScanned = node.i("num_scan_inputs", 1);
  if (numScanned < 0 || numScanned > static_cast<int64_t>(node.numInputs()))
    refuseMalformed("num_scan_inputs is " + std::to_string(numScanned));
  OnnxScan(node, numScanned).convert();
}
