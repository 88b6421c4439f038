//===- ControlRegions.cpp - regions of the graph dialect ------------------===//
//
// See ControlRegions.h.
//
//===----------------------------------------------------------------------===//

#include "ControlRegions.h"

#include "dlc/Dialect/Graph/IR/Control.h"
#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

using namespace dlc;
using namespace mlir;

Region &dlc::getGraph(NodeContext &node, StringRef name) {
  if (auto names = node.op->getAttrOfType<ArrayAttr>(onnxd::kGraphsAttr))
    for (auto [entry, region] : llvm::zip(names, node.op->getRegions()))
      if (cast<StringAttr>(entry).getValue() == name)
        return region;
  refuseMalformed("has no graph '" + name.str() + "'");
}

std::optional<bool> dlc::knownCondition(Entry &entry) {
  if (!entry.shape && entry.value)
    if (DenseElementsAttr dense = GraphBuilder::asConstant(entry.value);
        dense && dense.getNumElements() == 1)
      return !dense.getValues<APInt>()[0].isZero();
  if (!entry.shape || entry.shape->values.size() != 1)
    return std::nullopt;
  std::optional<int64_t> value = graph::constantValue(entry.shape->values[0]);
  return value ? std::optional(*value != 0) : std::nullopt;
}

Entry dlc::knownInt(GraphBuilder &b, int64_t value, Type element,
                    ArrayRef<int64_t> dims) {
  return Entry::known(
      ShapeValue{SmallVector<int64_t>(dims), element, {b.c(value)}});
}

//===----------------------------------------------------------------------===//
// Entries as tensors
//===----------------------------------------------------------------------===//

void dlc::flatten(NodeContext &node, Entry &entry,
                  SmallVectorImpl<Value> &tensors) {
  if (entry.kind == Entry::List)
    for (Entry &part : entry.list)
      flatten(node, part, tensors);
  else if (entry.kind == Entry::Tensor)
    tensors.push_back(node.converter.materializeCodes(entry));
}

Entry dlc::rebuild(const Entry &like, ArrayRef<Value> &tensors) {
  if (like.kind == Entry::Tensor) {
    Entry entry = Entry::tensor(tensors.front());
    entry.narrow = like.narrow;
    tensors = tensors.drop_front();
    return entry;
  }
  Entry entry;
  entry.kind = like.kind;
  for (const Entry &part : like.list)
    entry.list.push_back(rebuild(part, tensors));
  return entry;
}

bool dlc::haveSameStructure(const Entry &x, const Entry &y) {
  return x.kind == y.kind && x.narrow == y.narrow &&
         x.list.size() == y.list.size() &&
         llvm::all_of(llvm::zip(x.list, y.list), [](auto pair) {
           return haveSameStructure(std::get<0>(pair), std::get<1>(pair));
         });
}

//===----------------------------------------------------------------------===//
// Blocks
//===----------------------------------------------------------------------===//

std::unique_ptr<Block>
dlc::buildBlock(GraphBuilder &b, TypeRange arguments,
                llvm::function_ref<void(Block &)> build) {
  auto block = std::make_unique<Block>();
  for (Type type : arguments)
    block->addArgument(type, b.loc);
  OpBuilder::InsertionGuard guard(b.builder);
  b.builder.setInsertionPointToEnd(block.get());
  Location outer = b.loc; // nodes inside set their own
  build(*block);
  b.loc = outer;
  return block;
}

void dlc::addLeave(GraphBuilder &b, Block &block, ValueRange values) {
  OpBuilder::InsertionGuard guard(b.builder);
  b.builder.setInsertionPointToEnd(&block);
  graph::LeaveOp::create(b.builder, b.loc, values);
}

//===----------------------------------------------------------------------===//
// Sizes
//===----------------------------------------------------------------------===//

AffineExpr dlc::getUpperBound(AffineExpr x, AffineExpr y) {
  if (std::optional<int64_t> difference =
          graph::constantValue(graph::simplify(x - y)))
    return *difference >= 0 ? x : y;
  return graph::simplify(x + y);
}

InnerSizes::InnerSizes(Block &block) {
  for (Operation &op : block)
    graph::forEachDataSymbol(&op, [&](unsigned symbol, AffineExpr largest) {
      bounds[symbol] = largest;
    });
}

// Grows with its symbols: sums and products, divisions by positive constants.
static bool isMonotone(AffineExpr e) {
  if (!isa<AffineBinaryOpExpr>(e))
    return isNonNegative(e);
  auto binary = cast<AffineBinaryOpExpr>(e);
  if (!isMonotone(binary.getLHS()))
    return false;
  if (e.getKind() == AffineExprKind::Add || e.getKind() == AffineExprKind::Mul)
    return isMonotone(binary.getRHS());
  return e.getKind() != AffineExprKind::Mod &&
         graph::constantValue(binary.getRHS()).value_or(0) > 0;
}

AffineExpr InnerSizes::getLargest(AffineExpr size) const {
  unsigned most = 0;
  bool dependsOnData = false;
  size.walk([&](AffineExpr part) {
    if (auto symbol = dyn_cast<AffineSymbolExpr>(part)) {
      most = std::max(most, symbol.getPosition() + 1);
      dependsOnData |= bounds.contains(symbol.getPosition());
    }
  });
  if (!dependsOnData)
    return size;
  if (!isMonotone(size))
    refuse("a size that the data tell inside, of which no largest value is "
           "known outside");
  SmallVector<AffineExpr> replacements;
  for (unsigned i = 0; i < most; ++i) {
    auto it = bounds.find(i);
    replacements.push_back(it == bounds.end()
                               ? getAffineSymbolExpr(i, size.getContext())
                               : getLargest(it->second));
  }
  return graph::simplify(size.replaceSymbols(replacements));
}
