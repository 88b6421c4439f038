//===- ConvertControlFlow.cpp - If ----------------------------------------===//
//
// A known condition takes one branch. An unknown one makes a graph.if; where
// the branches disagree about a dim, the result's dim is a symbol that the
// branch binds. A branch that cannot run with the shapes at hand is an error
// when the data choose it, and not before: exporters write models for several
// shapes.
//
//===----------------------------------------------------------------------===//

#include "ControlRegions.h"
#include "SizeComparison.h"

#include "dlc/Dialect/Graph/IR/Control.h"

using namespace dlc;
using namespace mlir;

/// Both branches give the same integer, known now.
static bool isKnownAlike(const Entry &x, const Entry &y) {
  return x.kind == Entry::Tensor && y.kind == Entry::Tensor && x.shape &&
         y.shape && x.shape->dims == y.shape->dims &&
         x.shape->element == y.shape->element &&
         x.shape->values == y.shape->values;
}

namespace {
/// The types of the results, with symbols where the branches disagree.
class ResultTypes {
public:
  ResultTypes(NodeContext &node, Block &thenBlock, Block &elseBlock)
      : node(node), inThen(thenBlock), inElse(elseBlock) {}

  Type join(Value x, Value y) {
    GraphBuilder &b = node.b;
    if (b.element(x) != b.element(y) || b.rank(x) != b.rank(y))
      refuse("branches that give " + describeType(x.getType()) + " and " +
             describeType(y.getType()) +
             " under a condition that only the "
             "run tells");
    Dims dims;
    for (auto [m, n] : llvm::zip(b.dims(x), b.dims(y)))
      dims.push_back(graph::simplify(m - n) == 0 ? m : bind(m, n));
    return graph::makeTensorType(dims, b.element(x));
  }

  SmallVector<int64_t> symbols;
  SmallVector<AffineExpr> bounds;

private:
  /// One symbol for each pair of dims: what is equal in both stays equal.
  AffineExpr bind(AffineExpr m, AffineExpr n) {
    for (auto [i, pair] : llvm::enumerate(pairs))
      if (pair == std::make_pair(m, n))
        return node.b.builder.getAffineSymbolExpr(symbols[i]);
    AffineExpr symbol = node.converter.makeSymbol(node.op);
    pairs.push_back({m, n});
    symbols.push_back(cast<AffineSymbolExpr>(symbol).getPosition());
    bounds.push_back(getUpperBound(inThen.getLargest(m), inElse.getLargest(n)));
    return symbol;
  }

  NodeContext &node;
  InnerSizes inThen, inElse;
  SmallVector<std::pair<AffineExpr, AffineExpr>> pairs;
};
} // namespace

/// Converts a branch; null, with the reason, when it cannot run with these
/// shapes.
static std::unique_ptr<Block> convertBranch(NodeContext &node, Region &graph,
                                            std::vector<Entry> &results,
                                            std::optional<Refusal> &reason) {
  Location loc = node.b.loc;
  try {
    return buildBlock(node.b, {}, [&](Block &) {
      results = node.converter.convertRegion(graph, {});
    });
  } catch (const Refusal &refusal) {
    if (!refusal.malformed)
      throw;
    node.b.loc = loc;
    reason = refusal;
    return nullptr;
  }
}

static void inlineBranch(NodeContext &node, Region &graph) {
  std::vector<Entry> results = node.converter.convertRegion(graph, {});
  for (auto [i, entry] : llvm::enumerate(results))
    node.resultEntry(i, entry);
}

/// The size that the condition compares with 1; null if it does something else.
static AffineExpr getSizeBesideOne(NodeContext &node) {
  Operation *test = node.op->getOperand(0).getDefiningOp();
  if (!test || test->getName().getStringRef() != "onnx.Equal")
    return {};
  AffineExpr sizes[2];
  for (unsigned i : {0, 1}) {
    std::optional<ShapeValue> known =
        NodeContext(node.converter, test).shapeValue(i);
    if (!known || known->values.size() != 1)
      return {};
    sizes[i] = known->values[0];
  }
  return graph::constantValue(sizes[1]) == 1   ? sizes[0]
         : graph::constantValue(sizes[0]) == 1 ? sizes[1]
                                               : AffineExpr();
}

static bool haveSameRanks(ArrayRef<Entry> x, ArrayRef<Entry> y) {
  auto rank = [](const Entry &entry) -> int64_t {
    return entry.kind != Entry::Tensor ? -1
           : entry.value               ? GraphBuilder::rank(entry.value)
                                       : entry.shape->dims.size();
  };
  return x.size() == y.size() && llvm::all_of(llvm::zip(x, y), [&](auto pair) {
           return rank(std::get<0>(pair)) == rank(std::get<1>(pair));
         });
}

static void convertUnknownIf(NodeContext &node, Region &thenGraph,
                             Region &elseGraph) {
  GraphBuilder &b = node.b;
  Value condition = b.reshape(node.in(0), ArrayRef<int64_t>{});
  std::vector<Entry> x, y;
  std::optional<Refusal> thenReason, elseReason;
  auto thenBlock = convertBranch(node, thenGraph, x, thenReason);
  auto elseBlock = convertBranch(node, elseGraph, y, elseReason);
  if (thenReason && elseReason)
    throw Refusal(*thenReason);
  if (thenReason || elseReason) {
    graph::ExpectOp::create(b.builder, b.loc,
                            thenReason ? b.unary("graph.bit_not", condition)
                                       : condition);
    return inlineBranch(node, thenReason ? elseGraph : thenGraph);
  }
  // Exporters squeeze a dim where it is 1: a symbolic one is taken not to be.
  if (AffineExpr size = getSizeBesideOne(node); size && !haveSameRanks(x, y)) {
    requireAtMost(
        node, b.c(2), size,
        "the branch for a dim of 1 gives another rank, and the dim is "
        "symbolic; for a 1 give it its size with -dim");
    return inlineBranch(node, elseGraph);
  }
  SmallVector<Value> thenValues, elseValues;
  {
    OpBuilder::InsertionGuard guard(b.builder);
    b.builder.setInsertionPointToEnd(elseBlock.get());
    if (x.size() != y.size())
      refuseMalformed("the branches have different numbers of results");
    for (auto [i, entry] : llvm::enumerate(y)) {
      if (!haveSameStructure(x[i], entry))
        refuse("branches that give different kinds of values, or sequences of "
               "different lengths, under a condition that only the run tells");
      if (!isKnownAlike(x[i], entry))
        flatten(node, entry, elseValues);
    }
    b.builder.setInsertionPointToEnd(thenBlock.get());
    for (auto [i, entry] : llvm::enumerate(x))
      if (!isKnownAlike(entry, y[i]))
        flatten(node, entry, thenValues);
  }
  ResultTypes results(node, *thenBlock, *elseBlock);
  SmallVector<Type> types;
  for (auto [a, c] : llvm::zip_equal(thenValues, elseValues))
    types.push_back(results.join(a, c));
  addLeave(b, *thenBlock, thenValues);
  addLeave(b, *elseBlock, elseValues);
  bool binds = !results.symbols.empty();
  auto op = graph::IfOp::create(
      b.builder, b.loc, types, condition,
      binds ? b.builder.getDenseI64ArrayAttr(results.symbols)
            : DenseI64ArrayAttr(),
      binds ? graph::DimsAttr::get(b.context(), results.bounds)
            : graph::DimsAttr());
  op.getThenRegion().push_back(thenBlock.release());
  op.getElseRegion().push_back(elseBlock.release());
  SmallVector<Value> made(op->getResults());
  ArrayRef<Value> rest = made;
  for (auto [i, entry] : llvm::enumerate(x)) {
    if (isKnownAlike(entry, y[i]))
      node.resultEntry(i, Entry::known(*entry.shape));
    else
      node.resultEntry(i, rebuild(entry, rest));
  }
}

static void convertIf(NodeContext &node) {
  Region &thenGraph = getGraph(node, "then_branch"),
         &elseGraph = getGraph(node, "else_branch");
  std::optional<bool> known = knownCondition(node.entry(0));
  if (!known)
    return convertUnknownIf(node, thenGraph, elseGraph);
  inlineBranch(node, *known ? thenGraph : elseGraph);
}

void dlc::addControlFlow(ConverterTable &table) {
  table["If"] = convertIf;
  table["Loop"] = convertLoop;
  table["Scan"] = convertScan;
}
