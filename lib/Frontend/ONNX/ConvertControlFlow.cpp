//===- ConvertControlFlow.cpp - If, Loop, Scan ----------------------------===//
//
// The graph dialect has no control flow: it is decided here. A known condition
// takes one branch; an unknown one computes both and selects. Loops with a
// known trip count are unrolled.
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

using namespace dlc;
using namespace mlir;

static Region &getGraph(NodeContext &node, StringRef name) {
  auto names = node.op->getAttrOfType<ArrayAttr>(onnxd::kGraphsAttr);
  for (auto [entry, region] : llvm::zip(names, node.op->getRegions()))
    if (cast<StringAttr>(entry).getValue() == name)
      return region;
  refuseMalformed("has no graph '" + name.str() + "'");
}

/// The condition when it is known.
static std::optional<bool> knownCondition(NodeContext &node, Entry &entry) {
  std::optional<ShapeValue> shape = entry.shape;
  if (!shape && entry.value)
    if (DenseElementsAttr dense = GraphBuilder::asConstant(entry.value);
        dense && dense.getNumElements() == 1)
      return !dense.getValues<APInt>()[0].isZero();
  if (!shape || shape->values.size() != 1)
    return std::nullopt;
  std::optional<int64_t> value = graph::constantValue(shape->values[0]);
  return value ? std::optional(*value != 0) : std::nullopt;
}

/// condition ? x : y for whole values; lists element by element.
static Entry selectEntry(NodeContext &node, Value condition, Entry &x,
                         Entry &y) {
  if (x.kind != y.kind)
    refuse("branches that give different kinds of values under an unknown "
           "condition");
  if (x.kind == Entry::None)
    return x;
  if (x.kind == Entry::List) {
    if (x.list.size() != y.list.size())
      refuse("branches that give sequences of different lengths under an "
             "unknown condition");
    Entry out{Entry::List, {}, std::nullopt, {}};
    for (auto [a, b] : llvm::zip(x.list, y.list))
      out.list.push_back(selectEntry(node, condition, a, b));
    return out;
  }
  Value a = node.converter.materialize(x), b = node.converter.materialize(y);
  if (a.getType() != b.getType())
    refuse("branches that give " + describeType(a.getType()) + " and " +
           describeType(b.getType()) + " under an unknown condition");
  return Entry::tensor(node.b.select(condition, a, b));
}

static void convertIf(NodeContext &node) {
  Region &thenGraph = getGraph(node, "then_branch"),
         &elseGraph = getGraph(node, "else_branch");
  if (std::optional<bool> known = knownCondition(node, node.entry(0))) {
    std::vector<Entry> results =
        node.converter.convertRegion(*known ? thenGraph : elseGraph, {});
    for (auto [i, entry] : llvm::enumerate(results))
      node.resultEntry(i, entry);
    return;
  }
  Value condition = node.b.reshape(node.in(0), ArrayRef<int64_t>{});
  std::vector<Entry> x = node.converter.convertRegion(thenGraph, {}),
                     y = node.converter.convertRegion(elseGraph, {});
  if (x.size() != y.size())
    refuseMalformed("the branches have different numbers of results");
  for (size_t i = 0; i < x.size(); ++i)
    node.resultEntry(i, selectEntry(node, condition, x[i], y[i]));
}

static Entry knownInt(GraphBuilder &b, int64_t value, Type element) {
  return Entry::known(ShapeValue{{}, element, {b.c(value)}});
}

/// Stacks per-iteration values along a new axis.
static Value stack(GraphBuilder &b, ArrayRef<Value> values, int64_t axis) {
  SmallVector<Value> parts;
  for (Value value : values)
    parts.push_back(b.unsqueeze(value, {axis}));
  return b.concat(parts, axis);
}

static void convertLoop(NodeContext &node) {
  GraphBuilder &b = node.b;
  Region &body = getGraph(node, "body");
  int64_t carried = static_cast<int64_t>(node.numInputs()) - 2,
          limit = node.converter.options.maxUnroll + 1;
  if (node.has(0)) {
    SmallVector<int64_t> trips = node.ints(0, "M");
    if (trips.size() != 1)
      refuseMalformed("'M' must be one number");
    limit = std::min(limit, trips[0]);
  }
  std::vector<Entry> state;
  for (int64_t i = 0; i < carried; ++i)
    state.push_back(node.entry(2 + i));
  Entry condition =
      node.has(1) ? node.entry(1) : knownInt(b, 1, b.builder.getI1Type());
  std::vector<SmallVector<Value>> scans(node.op->getNumResults() - carried);
  // Null while the condition is known; then the tensor that says whether the
  // iteration still counts.
  Value active;
  for (int64_t i = 0; i < limit; ++i) {
    std::optional<bool> known = knownCondition(node, condition);
    if (known == false)
      break;
    if (i == node.converter.options.maxUnroll)
      refuse("more than " + std::to_string(i) +
             " iterations, or a number that only the data tells");
    if (!known) {
      if (!scans.empty() || !node.has(0))
        refuse("an iteration count that only the data tells");
      Value now =
          b.reshape(node.converter.materialize(condition), ArrayRef<int64_t>{});
      active = active ? b.emit("graph.bit_and", {active, now}) : now;
    }
    std::vector<Entry> arguments{knownInt(b, i, b.builder.getI64Type()),
                                 condition};
    arguments.insert(arguments.end(), state.begin(), state.end());
    std::vector<Entry> results = node.converter.convertRegion(body, arguments);
    if (results.size() != 1 + carried + scans.size())
      refuseMalformed("the body has the wrong number of results");
    condition = results[0];
    for (int64_t k = 0; k < carried; ++k)
      state[k] = active ? selectEntry(node, active, results[1 + k], state[k])
                        : results[1 + k];
    for (size_t k = 0; k < scans.size(); ++k)
      scans[k].push_back(node.converter.materialize(results[1 + carried + k]));
  }
  for (int64_t k = 0; k < carried; ++k)
    node.resultEntry(k, state[k]);
  for (auto [k, values] : llvm::enumerate(scans)) {
    if (values.empty())
      refuse("a loop without iterations that stacks values");
    node.result(carried + k, stack(b, values, 0));
  }
}

static void convertScan(NodeContext &node) {
  GraphBuilder &b = node.b;
  Region &body = getGraph(node, "body");
  int64_t inputs = node.i("num_scan_inputs", 1),
          states = static_cast<int64_t>(node.numInputs()) - inputs;
  if (states < 0 || inputs < 1)
    refuseMalformed("num_scan_inputs is " + std::to_string(inputs));
  int64_t outputs = static_cast<int64_t>(node.op->getNumResults()) - states;
  SmallVector<int64_t> zerosIn(inputs, 0),
      zerosOut(std::max<int64_t>(outputs, 0), 0);
  SmallVector<int64_t> inAxes = node.is("scan_input_axes", zerosIn),
                       inReversed = node.is("scan_input_directions", zerosIn);
  SmallVector<int64_t> outAxes = node.is("scan_output_axes", zerosOut),
                       outReversed =
                           node.is("scan_output_directions", zerosOut);
  std::vector<Entry> state;
  for (int64_t i = 0; i < states; ++i)
    state.push_back(node.entry(i));
  SmallVector<Value> scanned = node.inputs(states);
  int64_t length = 0;
  for (int64_t k = 0; k < inputs; ++k) {
    inAxes[k] = normalizeAxis(inAxes[k], b.rank(scanned[k]));
    std::optional<int64_t> n =
        graph::constantValue(b.dim(scanned[k], inAxes[k]));
    if (!n)
      refuse("a scan over a symbolic dim");
    if (k && *n != length)
      refuseMalformed("the scanned operands have different lengths");
    length = *n;
  }
  if (length < 1 || length > node.converter.options.maxUnroll)
    refuse("a scan of " + std::to_string(length) + " steps");
  std::vector<SmallVector<Value>> collected(std::max<int64_t>(outputs, 0));
  for (int64_t i = 0; i < length; ++i) {
    std::vector<Entry> arguments = state;
    for (int64_t k = 0; k < inputs; ++k) {
      int64_t at = inReversed[k] ? length - 1 - i : i;
      Value part = b.sliceAxis(scanned[k], inAxes[k], b.c(at), b.c(1));
      arguments.push_back(Entry::tensor(b.squeeze(part, {inAxes[k]})));
    }
    std::vector<Entry> results = node.converter.convertRegion(body, arguments);
    if (static_cast<int64_t>(results.size()) != states + outputs)
      refuseMalformed("the body has the wrong number of results");
    for (int64_t k = 0; k < states; ++k)
      state[k] = results[k];
    for (int64_t k = 0; k < outputs; ++k)
      collected[k].push_back(node.converter.materialize(results[states + k]));
  }
  for (int64_t k = 0; k < states; ++k)
    node.resultEntry(k, state[k]);
  for (int64_t k = 0; k < outputs; ++k) {
    if (outReversed[k])
      std::reverse(collected[k].begin(), collected[k].end());
    int64_t axis = normalizeAxis(outAxes[k], b.rank(collected[k][0]) + 1);
    node.result(states + k, stack(b, collected[k], axis));
  }
}

void dlc::addControlFlow(ConverterTable &table) {
  table["If"] = convertIf;
  table["Loop"] = convertLoop;
  table["Scan"] = convertScan;
}
