//===- ConvertSequences.cpp - lists and optionals -------------------------===//
//
// Sequences are lists at compile time: their length is known wherever the graph
// dialect could say anything about them. An optional is its value or nothing.
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

using namespace dlc;
using namespace mlir;

static std::vector<Entry> &getList(NodeContext &node, unsigned i) {
  Entry &entry = node.entry(i);
  if (entry.kind != Entry::List)
    refuse("operand " + std::to_string(i) +
           " is not a sequence of known length");
  return entry.list;
}

static Entry makeList(std::vector<Entry> entries) {
  return {Entry::List, {}, std::nullopt, std::move(entries)};
}

/// A constant position in a list of `size`; negative from the end.
static int64_t readPosition(NodeContext &node, unsigned i, int64_t size) {
  SmallVector<int64_t> position = node.ints(i, "position");
  if (position.size() != 1)
    refuseMalformed("'position' must be one number");
  return normalizeAxis(position[0], size);
}

static void convertConstruct(NodeContext &node) {
  std::vector<Entry> entries;
  for (unsigned i = 0; i < node.numInputs(); ++i)
    entries.push_back(node.entry(i));
  node.resultEntry(0, makeList(std::move(entries)));
}

static void convertEmpty(NodeContext &node) {
  node.resultEntry(0, makeList({}));
}

/// The element at a position that the run tells: all are alike, and one is
/// gathered.
static void convertAtData(NodeContext &node, std::vector<Entry> &list) {
  GraphBuilder &b = node.b;
  SmallVector<Value> parts;
  Type first;
  for (Entry &entry : list) {
    if (entry.kind != Entry::Tensor)
      refuse("a position that only the run tells in a sequence of sequences or "
             "optionals");
    Value part = node.converter.materialize(entry);
    if (!first)
      first = part.getType();
    if (part.getType() != first)
      refuse("a position that only the run tells in a sequence of " +
             describeType(first) + " and " + describeType(part.getType()));
    parts.push_back(b.unsqueeze(part, {0}));
  }
  if (parts.empty())
    refuseMalformed("the sequence is empty");
  node.result(b.gather(b.concat(parts, 0),
                       b.reshape(node.in(1), ArrayRef<int64_t>{}), 0));
}

static void convertAt(NodeContext &node) {
  std::vector<Entry> &list = getList(node, 0);
  if (!node.shapeValue(1))
    return convertAtData(node, list);
  node.resultEntry(0, list[readPosition(node, 1, list.size())]);
}

static void convertLength(NodeContext &node) {
  int64_t size = getList(node, 0).size();
  node.resultEntry(0, Entry::known(ShapeValue{
                          {}, node.b.builder.getI64Type(), {node.b.c(size)}}));
}

static void convertInsert(NodeContext &node) {
  std::vector<Entry> list = getList(node, 0);
  int64_t size = list.size(), at = size;
  if (node.has(2)) {
    SmallVector<int64_t> position = node.ints(2, "position");
    if (position.size() != 1 || position[0] < -size || position[0] > size)
      refuseMalformed("'position' must be one number within the sequence");
    // As list.insert: -1 is before the last element.
    at = position[0] < 0 ? position[0] + size : position[0];
  }
  list.insert(list.begin() + at, node.entry(1));
  node.resultEntry(0, makeList(std::move(list)));
}

static void convertErase(NodeContext &node) {
  std::vector<Entry> list = getList(node, 0);
  if (list.empty())
    refuseMalformed("the sequence is empty");
  int64_t at =
      node.has(1) ? readPosition(node, 1, list.size()) : list.size() - 1;
  list.erase(list.begin() + at);
  node.resultEntry(0, makeList(std::move(list)));
}

static void convertConcatFromSequence(NodeContext &node) {
  GraphBuilder &b = node.b;
  SmallVector<Value> values;
  for (Entry &entry : getList(node, 0))
    values.push_back(node.converter.materialize(entry));
  if (values.empty())
    refuseMalformed("the sequence is empty");
  bool newAxis = node.i("new_axis", 0);
  int64_t axis = normalizeAxis(node.i("axis", 0), b.rank(values[0]) + newAxis);
  for (Value &value : values)
    value = newAxis ? b.unsqueeze(value, {axis}) : value;
  node.result(b.concat(values, axis));
}

static void convertSplitToSequence(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  int64_t axis = normalizeAxis(node.i("axis", 0), b.rank(x));
  std::optional<int64_t> size = graph::constantValue(b.dim(x, axis));
  if (!size)
    refuse("splitting a symbolic dim");
  SmallVector<int64_t> sizes;
  bool drops = false;
  if (!node.has(1)) {
    sizes.assign(*size, 1);
    drops = !node.i("keepdims", 1);
  } else if (SmallVector<int64_t> split = node.ints(1, "split");
             node.shapeValue(1)->dims.empty()) {
    if (split[0] < 1)
      refuseMalformed("'split' must be positive");
    for (int64_t done = 0; done < *size; done += split[0])
      sizes.push_back(std::min(split[0], *size - done));
  } else {
    sizes = split;
  }
  if (sizes.size() > 4096)
    refuse("a sequence of " + std::to_string(sizes.size()));
  std::vector<Entry> parts;
  int64_t start = 0;
  for (int64_t length : sizes) {
    Value part = b.sliceAxis(x, axis, b.c(start), b.c(length));
    parts.push_back(Entry::tensor(drops ? b.squeeze(part, {axis}) : part));
    start += length;
  }
  if (start != *size)
    refuseMalformed("'split' does not add up to the dim");
  node.resultEntry(0, makeList(std::move(parts)));
}

/// The body once for each element of the first sequence.
static void convertSequenceMap(NodeContext &node) {
  size_t length = getList(node, 0).size(), results = node.op->getNumResults();
  std::vector<std::vector<Entry>> lists(results);
  for (size_t i = 0; i < length; ++i) {
    std::vector<Entry> arguments;
    for (unsigned k = 0; k < node.numInputs(); ++k) {
      Entry &operand = node.entry(k);
      if (operand.kind == Entry::List && operand.list.size() != length)
        refuseMalformed("the sequences differ in length");
      arguments.push_back(operand.kind == Entry::List ? operand.list[i]
                                                      : operand);
    }
    std::vector<Entry> values =
        node.converter.convertRegion(node.op->getRegion(0), arguments);
    for (size_t k = 0; k < results && k < values.size(); ++k)
      lists[k].push_back(values[k]);
  }
  for (auto [k, list] : llvm::enumerate(lists))
    node.resultEntry(k, makeList(std::move(list)));
}

static void convertOptional(NodeContext &node) {
  node.resultEntry(0, node.numInputs() ? node.entry(0) : Entry());
}

static void convertHasElement(NodeContext &node) {
  bool has = node.has(0);
  node.resultEntry(0, Entry::known(ShapeValue{
                          {}, node.b.builder.getI1Type(), {node.b.c(has)}}));
}

static void convertGetElement(NodeContext &node) {
  if (!node.has(0))
    refuseMalformed("the optional is empty");
  node.resultEntry(0, node.entry(0));
}

void dlc::addSequences(ConverterTable &table) {
  table["SequenceConstruct"] = convertConstruct;
  table["SequenceEmpty"] = convertEmpty;
  table["SequenceAt"] = convertAt;
  table["SequenceLength"] = convertLength;
  table["SequenceInsert"] = convertInsert;
  table["SequenceErase"] = convertErase;
  table["ConcatFromSequence"] = convertConcatFromSequence;
  table["SplitToSequence"] = convertSplitToSequence;
  table["SequenceMap"] = convertSequenceMap;
  table["Optional"] = convertOptional;
  table["OptionalHasElement"] = convertHasElement;
  table["OptionalGetElement"] = convertGetElement;
}
