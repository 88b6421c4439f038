// A body as a kernel.
#include "EmitKernel.h"

#include "mlir/IR/IntegerSet.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;

static unsigned countSymbols(ArrayRef<AffineExpr> exprs) {
  unsigned count = 0;
  for (AffineExpr e : exprs)
    e.walk([&](AffineExpr x) {
      if (auto s = dyn_cast<AffineSymbolExpr>(x))
        count = std::max(count, s.getPosition() + 1);
    });
  return count;
}

namespace {
// Emits the body of one stage.
class StageEmitter {
public:
  StageEmitter(OpBuilder &builder, Location loc, const Stage &stage,
               Block *block, const llvm::DenseMap<TensorId, Value> &tensors)
      : builder(builder), loc(loc), stage(stage), block(block),
        tensors(tensors) {}

  void emit() {
    for (const Node &node : stage.nodes)
      values.push_back(emitNode(node));
    graph::YieldOp::create(builder, loc, values[stage.root]);
  }

private:
  // All coordinates of the stage, then the data coordinates of the node.
  SmallVector<Value> coordsOf(const Node &node,
                              SmallVectorImpl<AffineExpr> &index,
                              SmallVectorImpl<AffineExpr> &guard) {
    MLIRContext *context = builder.getContext();
    SmallVector<Value> coords(block->args_begin(), block->args_end());
    llvm::DenseMap<AffineExpr, AffineExpr> renamed;
    node.forEachData([&](unsigned data) {
      AffineExpr from = getAffineDimExpr(kDataDim + data, context);
      if (!renamed.try_emplace(from, getAffineDimExpr(coords.size(), context))
               .second)
        return;
      coords.push_back(values[data]);
    });
    auto rename = [&](AffineExpr e) {
      return renamed.empty() ? e : e.replace(renamed);
    };
    for (AffineExpr e : node.index)
      index.push_back(rename(e));
    for (AffineExpr e : node.guard)
      guard.push_back(rename(e));
    return coords;
  }

  Value emitNode(const Node &node) {
    SmallVector<Value> args;
    for (unsigned arg : node.args)
      args.push_back(values[arg]);
    MLIRContext *context = builder.getContext();
    switch (node.kind) {
    case Node::Apply:
      return graph::ApplyOp::create(
          builder, loc, node.type,
          graph::ScalarFnAttr::get(context,
                                   static_cast<graph::ScalarFn>(node.fn)),
          args);
    case Node::Cast:
      return graph::CastOp::create(builder, loc, node.type, args[0],
                                   node.fn != 0);
    case Node::Literal:
      return graph::LiteralOp::create(builder, loc, node.type, node.literal);
    case Node::ToIndex:
      return graph::ToIndexOp::create(
          builder, loc, args[0], graph::DimsAttr::get(context, node.index));
    default:
      break;
    }
    SmallVector<AffineExpr> index, guard;
    SmallVector<Value> coords = coordsOf(node, index, guard);
    IntegerSet set;
    if (!guard.empty())
      set = IntegerSet::get(coords.size(), countSymbols(guard), guard,
                            node.equal);
    if (node.kind == Node::Inside)
      return graph::InsideOp::create(builder, loc, coords,
                                     IntegerSetAttr::get(set));
    if (node.kind == Node::Load && stageOf(node))
      restoreUnitAxes(index, tensors.lookup(node.tensor).getType());
    auto map = AffineMapAttr::get(AffineMap::get(
        coords.size(), countSymbols(index), index, builder.getContext()));
    if (node.kind == Node::Coord)
      return graph::CoordOp::create(builder, loc, coords, map);
    return graph::LoadOp::create(
        builder, loc, node.type, tensors.lookup(node.tensor), coords, map,
        guard.empty() ? IntegerSetAttr() : IntegerSetAttr::get(set),
        guard.empty() ? Value() : args[0]);
  }

  bool stageOf(const Node &node) {
    return tensors.lookup(node.tensor).getDefiningOp<graph::StageOp>() !=
           nullptr;
  }
  // The coordinate on an axis of one element is 0; written as the coordinate it
  // shows that a read stays in its row.
  void restoreUnitAxes(MutableArrayRef<AffineExpr> index, Type type) {
    SmallVector<AffineExpr> dims = graph::getDims(type);
    for (size_t i = 0; i < std::min(index.size(), stage.domain.size()); ++i)
      if (graph::constantValue(index[i]) == 0 &&
          graph::constantValue(dims[i]) == 1 &&
          graph::constantValue(stage.domain[i]) == 1)
        index[i] = getAffineDimExpr(i, builder.getContext());
  }

  OpBuilder &builder;
  Location loc;
  const Stage &stage;
  Block *block;
  const llvm::DenseMap<TensorId, Value> &tensors;
  SmallVector<Value> values;
};
} // namespace

graph::KernelOp fusion::emitKernel(OpBuilder &builder, Location loc,
                                   const Body &body,
                                   ArrayRef<TensorId> operands,
                                   ArrayRef<TensorId> outputs,
                                   const TensorTable &tensors) {
  MLIRContext *context = builder.getContext();
  OpBuilder::InsertionGuard outside(builder);
  SmallVector<Type> operandTypes, resultTypes;
  for (TensorId id : operands)
    operandTypes.push_back(tensors.typeOf(id));
  for (TensorId id : outputs)
    resultTypes.push_back(body.find(id)->type);
  auto kernel = graph::KernelOp::create(
      builder, loc, builder.getStringAttr("fused"),
      TypeAttr::get(builder.getFunctionType(operandTypes, resultTypes)),
      nullptr, nullptr, nullptr, nullptr, nullptr, nullptr);
  Block *block = builder.createBlock(&kernel.getBody());
  llvm::DenseMap<TensorId, Value> values;
  for (auto [id, type] : llvm::zip(operands, operandTypes))
    values[id] = block->addArgument(type, loc);
  builder.setInsertionPointToStart(block);
  for (const StageRef &stage : body.stages) {
    auto op = graph::StageOp::create(
        builder, loc, stage->type, graph::DimsAttr::get(context, stage->domain),
        stage->isFold() ? graph::DimsAttr::get(context, stage->reduce)
                        : graph::DimsAttr(),
        stage->isFold() ? graph::FoldKindAttr::get(context, stage->fold)
                        : graph::FoldKindAttr(),
        stage->init);
    OpBuilder::InsertionGuard guard(builder);
    Block *inner = builder.createBlock(&op.getBody());
    for (unsigned i = 0; i < stage->numAxes(); ++i)
      inner->addArgument(builder.getIndexType(), loc);
    StageEmitter(builder, loc, *stage, inner, values).emit();
    values[stage->result] = op.getResult();
  }
  SmallVector<Value> results;
  for (TensorId id : outputs)
    results.push_back(values.lookup(id));
  graph::ReturnOp::create(builder, loc, results);
  return kernel;
}
