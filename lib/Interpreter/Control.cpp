// Blocks of operators, branches and loops. A tensor is dropped when its block
// ends or after its last use; what a region reads of the blocks around it lives
// as long as the operator that holds the region.
#include "Control.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::interp;

// The operation of `block` in which the last use of a value lies.
static llvm::DenseMap<Operation *, SmallVector<Value>>
findLastUses(Block &block) {
  llvm::DenseMap<Operation *, SmallVector<Value>> last;
  auto add = [&](Value value) {
    Operation *latest = nullptr;
    for (Operation *user : value.getUsers()) {
      Operation *here = block.findAncestorOpInBlock(*user);
      if (!latest || latest->isBeforeInBlock(here))
        latest = here;
    }
    last[latest].push_back(value); // null: never used
  };
  for (BlockArgument arg : block.getArguments())
    add(arg);
  for (Operation &op : block)
    for (Value result : op.getResults())
      add(result);
  return last;
}

BlockRunner::Tensors BlockRunner::run(Block &block,
                                      ArrayRef<Tensor> arguments) {
  llvm::DenseMap<Operation *, SmallVector<Value>> lastUses =
      findLastUses(block);
  for (auto [arg, tensor] : llvm::zip_equal(block.getArguments(), arguments))
    values[arg] = tensor;
  for (Operation &op : block) {
    SmallVector<Tensor> operands = llvm::map_to_vector(
        op.getOperands(), [&](Value value) { return values.lookup(value); });
    bool isEnd = op.hasTrait<OpTrait::IsTerminator>();
    Tensors results =
        isEnd ? Tensors(SmallVector<Tensor>()) : runOp(&op, operands);
    if (failed(results) || failed(checkResults(&op, *results, symbols)))
      return failure();
    if (observer && !isEnd)
      observer(&op, operands, *results);
    for (auto [value, tensor] : llvm::zip_equal(op.getResults(), *results))
      values[value] = std::move(tensor);
    for (Value value : lastUses.lookup(&op))
      values.erase(value);
    if (isEnd)
      return operands;
  }
  return block.getParentOp()->emitOpError("does not return");
}

static bool isTrue(const Tensor &tensor) { return tensor.getBytes()[0] != 0; }

BlockRunner::Tensors BlockRunner::runOp(Operation *op,
                                        ArrayRef<Tensor> operands) {
  if (auto prefix = dyn_cast<graph::PrefixOp>(op))
    if (failed(bindCount(prefix, operands)))
      return failure();
  if (auto branch = dyn_cast<graph::IfOp>(op))
    return runIf(branch, isTrue(operands[0]));
  if (auto loop = dyn_cast<graph::LoopOp>(op))
    return runLoop(loop, operands);
  if (isa<graph::ExpectOp>(op)) {
    if (!isTrue(operands[0]))
      return op->emitOpError("a shape computed from the data is not the one "
                             "the model was compiled for");
    return SmallVector<Tensor>();
  }
  return interpreter.runOp(op, operands, symbols);
}

// The symbol that a prefix binds gets its value.
LogicalResult BlockRunner::bindCount(graph::PrefixOp op,
                                     ArrayRef<Tensor> operands) {
  int64_t count = operands[1].getData<int64_t>()[0],
          rows = operands[0].getShape()[0];
  if (count < 0 || count > rows)
    return op.emitOpError()
           << "count is " << count << ", of " << rows << " rows";
  symbols[op.getSymbol()] = count;
  return success();
}

// All dims are evaluated before the first symbol changes.
LogicalResult BlockRunner::bind(Operation *op, TypeRange from, TypeRange to,
                                ArrayRef<int64_t> binds,
                                ArrayRef<AffineExpr> bounds) {
  SmallVector<std::pair<unsigned, int64_t>> values;
  for (auto [symbol, dim] : graph::matchSymbols(from, to, binds))
    values.push_back({symbol, graph::evaluate(dim, symbols)});
  for (auto [symbol, value] : values) {
    int64_t largest = graph::evaluate(
        bounds[llvm::find(binds, symbol) - binds.begin()], symbols);
    if (value < 0 || value > largest)
      return op->emitOpError() << "a size is " << value << ", at most "
                               << largest << " is possible";
    symbols[symbol] = value;
  }
  return success();
}

static ArrayRef<AffineExpr> getDims(std::optional<graph::DimsAttr> dims) {
  return dims ? dims->getDims() : ArrayRef<AffineExpr>();
}

BlockRunner::Tensors BlockRunner::runIf(graph::IfOp op, bool condition) {
  Region &region = condition ? op.getThenRegion() : op.getElseRegion();
  Tensors results = run(region.front(), {});
  if (failed(results) ||
      failed(bind(op, region.front().getTerminator()->getOperandTypes(),
                  op->getResultTypes(), op.getBoundSymbols(),
                  getDims(op.getBounds()))))
    return failure();
  return results;
}

// Stacks `parts` along a new leading dim; `type` tells shape and element where
// there are none.
static Tensor stack(ArrayRef<Tensor> parts, Type type,
                    ArrayRef<int64_t> symbols) {
  SmallVector<int64_t> shape;
  for (AffineExpr dim : graph::getDims(type))
    shape.push_back(graph::evaluate(dim, symbols));
  shape[0] = parts.size();
  Tensor tensor(cast<RankedTensorType>(type).getElementType(), shape);
  char *to = tensor.getMutableBytes();
  for (const Tensor &part : parts)
    to = std::copy_n(part.getBytes(), part.getNumBytes(), to);
  return tensor;
}

BlockRunner::Tensors BlockRunner::runLoop(graph::LoopOp op,
                                          ArrayRef<Tensor> operands) {
  Block &body = op.getBody().front();
  ArrayRef<int64_t> binds = op.getBoundSymbols();
  ArrayRef<AffineExpr> bounds = getDims(op.getBounds());
  TypeRange carriedTypes = op.getCarriedResults().getTypes();
  int64_t limit = INT64_MAX, guard = INT64_MAX;
  if (op.getTrips())
    limit = graph::evaluate(op.getTrips()->getDims()[0], symbols);
  if (op.getLimit())
    limit = std::min(limit, operands.front().getData<int64_t>()[0]);
  if (op.getGuard())
    guard = graph::evaluate(op.getGuard()->getDims()[0], symbols);
  bool goesOn = !op.getCondition() || isTrue(operands[op.getLimit() ? 1 : 0]);
  SmallVector<Tensor> carried(operands.take_back(op.getNumCarried()));
  if (failed(bind(op, op.getInits().getTypes(), carriedTypes, binds, bounds)))
    return failure();
  std::vector<SmallVector<Tensor>> stacks(op.getStacks().size());
  int64_t i = 0;
  for (; goesOn && i < limit; ++i) {
    if (i >= guard)
      return op.emitOpError() << "runs more than " << guard << " iterations";
    SmallVector<Tensor> arguments = {Tensor::copy(
        IntegerType::get(op.getContext(), 64),
        cast<RankedTensorType>(op.getIteration().getType()).getShape(), &i)};
    llvm::append_range(arguments, carried);
    Tensors results = run(body, arguments);
    if (failed(results))
      return failure();
    ArrayRef<Tensor> rest = *results;
    if (op.getConditional()) {
      goesOn = isTrue(rest.front());
      rest = rest.drop_front();
    }
    carried.assign(rest.begin(), rest.begin() + op.getNumCarried());
    for (auto [list, value] :
         llvm::zip_equal(stacks, rest.drop_front(op.getNumCarried())))
      list.push_back(value);
    if (failed(bind(op, op.getNext().getTypes(), carriedTypes, binds, bounds)))
      return failure();
  }
  if (op.getCount())
    symbols[*op.getCount()] = i;
  SmallVector<Tensor> results = carried;
  for (auto [list, result] : llvm::zip_equal(stacks, op.getStacks()))
    results.push_back(stack(list, result.getType(), symbols));
  return results;
}
