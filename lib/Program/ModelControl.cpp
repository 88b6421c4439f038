// Branches and loops as steps over buffers.
//
// What a branch or an iteration leaves is written in place where a kernel makes
// it, else copied at the end. A carried tensor has two buffers: an iteration
// reads one and writes the other, so that no copy is in the way of another, and
// kernels never write what they read.
#include "ModelBuilder.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::program;

// Symbols that the step from `from` to `to` binds, set at once.
template <typename OpT>
void ModelBuilder::setSymbols(OpT op, TypeRange from, TypeRange to) {
  SmallVector<int64_t> symbols;
  SmallVector<AffineExpr> values, bounds;
  for (auto [symbol, value] :
       graph::matchSymbols(from, to, op.getBoundSymbols())) {
    symbols.push_back(symbol);
    values.push_back(value);
    bounds.push_back(data.getLargest(getAffineSymbolExpr(symbol, context)));
  }
  if (symbols.empty())
    return;
  auto makeMap = [&](ArrayRef<AffineExpr> results) {
    return AffineMapAttr::get(AffineMap::get(0, numSymbols, results, context));
  };
  SetOp::create(builder, op.getLoc(), builder.getDenseI64ArrayAttr(symbols),
                makeMap(values), makeMap(bounds), getOrigin(op));
}

void ModelBuilder::convertIf(graph::IfOp op) {
  SmallVector<Value> targets;
  for (Value result : op.getResults())
    targets.push_back(getOrMakeBuffer(result));
  auto branch = IfOp::create(builder, op.getLoc(), lookup(op.getCondition()));
  OpBuilder::InsertionGuard guard(builder);
  for (auto [from, to] :
       {std::pair(&op.getThenRegion(), &branch.getThenRegion()),
        std::pair(&op.getElseRegion(), &branch.getElseRegion())}) {
    Block &block = from->front();
    builder.createBlock(to);
    ValueRange values = block.getTerminator()->getOperands();
    Copies copies;
    for (auto [value, target] : llvm::zip_equal(values, targets))
      if (!bindInPlace(value, target, &block))
        copies.push_back({value, target});
    convertBlock(block);
    addCopies(copies);
    setSymbols(op, values.getTypes(), op->getResultTypes());
  }
}

// A buffer that holds the first value of a carried tensor: that of the kernel
// that made it, when nobody else needs it.
Value ModelBuilder::makeCurrent(graph::LoopOp op, unsigned i) {
  Value init = op.getInits()[i];
  AffineExpr bytes = getLargestBytes(op.getResult(i).getType());
  Value root = graph::getViewed(init), buffer = buffers.lookup(root);
  bool isOwn = root.getDefiningOp<graph::CallOp>() && root == init &&
               root.hasOneUse() &&
               root.getDefiningOp()->getBlock() == op->getBlock();
  if (auto alloc = buffer.getDefiningOp<AllocOp>();
      isOwn && alloc && getSize(alloc.getSize()) == bytes)
    return buffer;
  Value current = makeAlloc(bytes, op.getLoc());
  CopyOp::create(builder, op.getLoc(), buffer, current,
                 makeSizeAttr(getBytes(init.getType())));
  return current;
}

void ModelBuilder::convertLoop(graph::LoopOp op) {
  unsigned carried = op.getNumCarried();
  SmallVector<Value> current, next, stacked;
  for (unsigned i = 0; i < carried; ++i)
    current.push_back(makeCurrent(op, i));
  for (unsigned i = 0; i < carried; ++i)
    next.push_back(
        makeAlloc(getLargestBytes(op.getResult(i).getType()), op.getLoc()));
  SmallVector<AffineExpr> strides;
  for (auto [value, stack] : llvm::zip_equal(op.getStacked(), op.getStacks())) {
    stacked.push_back(getOrMakeBuffer(stack));
    strides.push_back(getBytes(value.getType()));
  }
  Value iteration;
  if (!op.getIteration().use_empty())
    iteration =
        makeAlloc(getAffineConstantExpr(sizeof(int64_t), context), op.getLoc());
  setSymbols(op, op.getInits().getTypes(), op.getCarriedResults().getTypes());

  auto sizeOf = [&](std::optional<graph::DimsAttr> dims) {
    return dims ? makeSizeAttr(dims->getDims()[0]) : AffineMapAttr();
  };
  AffineMapAttr countBound;
  if (op.getCount())
    countBound = makeSizeAttr(
        data.getLargest(getAffineSymbolExpr(*op.getCount(), context)));
  SmallVector<Type> types(carried, BufferType::get(context));
  auto loop = LoopOp::create(
      builder, op.getLoc(), types,
      op.getLimit() ? lookup(op.getLimit()) : Value(),
      op.getCondition() ? lookup(op.getCondition()) : Value(), iteration,
      current, next, stacked,
      strides.empty()
          ? AffineMapAttr()
          : AffineMapAttr::get(AffineMap::get(0, numSymbols, strides, context)),
      sizeOf(op.getTrips()), sizeOf(op.getGuard()), op.getCountAttr(),
      countBound, getOrigin(op));
  if (iteration)
    buffers[op.getIteration()] = iteration;
  {
    OpBuilder::InsertionGuard guard(builder);
    Block *body = builder.createBlock(&loop.getBody());
    for (unsigned i = 0; i < 2 * carried + stacked.size(); ++i)
      body->addArgument(BufferType::get(context), op.getLoc());
    convertLoopBody(op, loop);
  }
  for (auto [tensor, buffer] :
       llvm::zip_equal(op.getCarriedResults(), loop.getResults()))
    buffers[tensor] = buffer;
}

void ModelBuilder::convertLoopBody(graph::LoopOp op, LoopOp loop) {
  Block &block = op.getBody().front();
  Copies copies;
  auto place = [&](Value value, Value target) {
    if (!bindInPlace(value, target, &block))
      copies.push_back({value, target});
  };
  for (unsigned i = 0; i < op.getNumCarried(); ++i) {
    buffers[op.getCarriedArguments()[i]] = loop.getCurrentArgument(i);
    place(op.getNext()[i], loop.getNextArgument(i));
  }
  for (auto [i, value] : llvm::enumerate(op.getStacked()))
    place(value, loop.getSliceArgument(i));
  convertBlock(block);
  addCopies(copies);
  if (Value again = op.getAgain())
    AgainOp::create(builder, op.getLoc(), lookup(again));
  setSymbols(op, op.getNext().getTypes(), op.getCarriedResults().getTypes());
}
