//===- ConvertRuntimeAxes.cpp - one axis that only the data tell ----------===//
//
// There are only as many axes as dims. Each is tried with the operator's own
// converter, and the data choose among the results; this costs the work of all,
// and no model that was meant to be fast does it. Results of different shapes
// are chosen among as lists of elements, and get their dims from tables.
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

#include "llvm/ADT/ScopeExit.h"

using namespace dlc;
using namespace mlir;

/// The converters that know the axis, by operator.
static llvm::StringMap<NodeConverter> &getConverters() {
  static llvm::StringMap<NodeConverter> converters;
  return converters;
}

/// The operand that holds the axis.
static unsigned getAxisOperand(StringRef op) { return op == "DFT" ? 2 : 1; }

/// What the operator gives for one axis; null where it refuses.
static Value convertWith(NodeContext &node, unsigned operand, int64_t axis,
                         NodeConverter converter) {
  Entry &entry = node.entry(operand), given = entry;
  auto restore = llvm::scope_exit([&] { entry = given; });
  auto type = GraphBuilder::type(node.in(operand));
  entry = Entry::known({SmallVector<int64_t>(type.getShape()),
                        type.getElementType(),
                        {node.b.c(axis)}});
  try {
    converter(node);
  } catch (const Refusal &) {
    return {};
  }
  return node.converter.materialize(
      node.converter.lookup(node.op->getResult(0)));
}

/// table[axis], as one i64 element.
static Value lookUp(GraphBuilder &b, ArrayRef<int64_t> table, Value axis) {
  return b.gather(b.constantInts(table, {static_cast<int64_t>(table.size())},
                                 b.builder.getI64Type()),
                  axis, 0);
}

/// The candidate that `axis` (one element) numbers; all have the type of the
/// first one.
static Value choose(GraphBuilder &b, ArrayRef<Value> candidates, Value axis) {
  Value chosen = candidates.front();
  for (auto [i, candidate] : llvm::enumerate(candidates)) {
    if (i == 0)
      continue;
    Value isThis = b.emit("graph.eq", {axis, b.splatInt(static_cast<int64_t>(i),
                                                        b.element(axis), {1})});
    SmallVector<int64_t> ones(b.rank(candidate), 1);
    chosen = b.select(b.reshape(isThis, ones), candidate, chosen);
  }
  return chosen;
}

/// Candidates of one rank and different dims; null where there is none.
static Value chooseShape(NodeContext &node, ArrayRef<Value> candidates,
                         Value axis) {
  GraphBuilder &b = node.b;
  Value some = *llvm::find_if(candidates, [](Value v) { return bool(v); });
  std::vector<SmallVector<int64_t>> tables(b.rank(some));
  SmallVector<int64_t> totals;
  for (Value candidate : candidates) {
    totals.push_back(candidate ? 1 : -1); // -1: a data error where it is bound
    SmallVector<int64_t> dims(tables.size(), 0);
    if (candidate)
      dims = b.staticDims(candidate, "an axis that only the data tell");
    for (auto [table, size] : llvm::zip(tables, dims)) {
      table.push_back(size);
      totals.back() *= candidate ? size : 1;
    }
  }
  int64_t most = std::max<int64_t>(*llvm::max_element(totals), 0);
  SmallVector<Value> lists;
  for (auto [candidate, total] : llvm::zip(candidates, totals))
    lists.push_back(
        candidate ? b.pad(b.reshape(candidate, ArrayRef<int64_t>{total}), {},
                          {0}, {most - total})
                  : b.broadcast(b.splat(0, b.element(some)), {b.c(most)}));
  Value elements =
      makePrefix(node, choose(b, lists, axis), lookUp(b, totals, axis));
  Dims dims;
  for (const SmallVector<int64_t> &table : tables) {
    int64_t largest = *llvm::max_element(table);
    if (llvm::all_equal(table)) {
      dims.push_back(b.c(largest));
      continue;
    }
    // The numbers are nobody's business, only how many there are.
    Value numbers = b.iota(b.c(largest), b.builder.getI64Type());
    dims.push_back(b.dim(makePrefix(node, numbers, lookUp(b, table, axis)), 0));
  }
  return b.reshape(elements, dims);
}

static void convertAnyAxis(NodeContext &node) {
  GraphBuilder &b = node.b;
  StringRef op = node.op->getName().stripDialect();
  NodeConverter converter = getConverters().lookup(op);
  unsigned operand = getAxisOperand(op);
  if (!node.has(operand) || node.shapeValue(operand))
    return converter(node);
  auto type = GraphBuilder::type(node.in(operand));
  if (!type.hasStaticShape() || type.getNumElements() != 1)
    return converter(node);
  int64_t count = b.rank(node.in(0)) + (op == "Unsqueeze" ? 1 : 0);
  Type i64 = b.builder.getI64Type();
  Value given =
      b.reshape(b.convert(node.in(operand), i64), ArrayRef<int64_t>{1});
  // Checks the range and counts negative ones from the end.
  Value axis = b.gather(b.iota(b.c(count), i64), given, 0);
  SmallVector<Value> candidates;
  for (int64_t i = 0; i < count; ++i)
    candidates.push_back(convertWith(node, operand, i, converter));
  if (llvm::none_of(candidates, [](Value v) { return bool(v); }))
    refuse("no axis fits");
  bool isSame = llvm::all_of(candidates, [&](Value v) {
    return v && candidates[0] && v.getType() == candidates[0].getType();
  });
  node.result(isSame ? choose(b, candidates, axis)
                     : chooseShape(node, candidates, axis));
}

void dlc::addRuntimeAxes(ConverterTable &table) {
  for (StringRef op : {"ReduceSum", "ReduceMean", "ReduceProd", "ReduceMin",
                       "ReduceMax", "ReduceL1", "ReduceL2", "ReduceLogSum",
                       "ReduceLogSumExp", "ReduceSumSquare", "CumSum",
                       "CumProd", "DFT", "Unsqueeze", "Squeeze"}) {
    NodeConverter known = table.lookup(op);
    if (!known)
      continue;
    getConverters()[op] = known;
    table[op] = convertAnyAxis;
  }
}
