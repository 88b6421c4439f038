// Who reads what: dependences through views, and through the sizes that the
// data tell.
#include "FusionGraph.h"

#include "dlc/Dialect/Graph/IR/Control.h"
#include "dlc/Dialect/Graph/IR/Placement.h"
#include "mlir/Transforms/RegionUtils.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;

static bool isView(Operation *op) {
  return isa_and_nonnull<graph::ReshapeOp, graph::BitcastOp>(op);
}

SmallVector<Value> fusion::getReadValues(Operation *op) {
  llvm::SetVector<Value> values(op->operand_begin(), op->operand_end());
  for (Region &region : op->getRegions())
    getUsedValuesDefinedAbove(region, values);
  return values.takeVector();
}

FusionGraph::FusionGraph(func::FuncOp main, Block &block,
                         const FusionOptions &options)
    : main(main), block(block) {
  typicalSizes = typicalSizesOf(main, options.typicalSizes);
  SymbolTable symbols(main->getParentOfType<ModuleOp>());
  for (Operation &op : block.without_terminator()) {
    if (isView(&op) || isa<graph::ConstantOp>(op))
      continue;
    GraphNode node{&op, {}, {}, {}, {}};
    if (auto call = dyn_cast<graph::CallOp>(op)) {
      node.kernel = symbols.lookup<graph::KernelOp>(call.getCallee());
      if (node.kernel && !call->hasAttr(graph::kKeptAttr) &&
          !checkPure(node.kernel))
        node.body = readKernel(call, node.kernel, tensors);
    }
    numbers[&op] = nodes.size();
    nodes.push_back(std::move(node));
  }
  connect();
}

SmallVector<int64_t>
fusion::typicalSizesOf(func::FuncOp main,
                       const std::map<std::string, int64_t> &given) {
  SmallVector<int64_t> sizes;
  auto names = main->getAttrOfType<ArrayAttr>("graph.symbols");
  if (!names)
    return sizes;
  sizes.assign(names.size(), 128);
  for (Type type : main.getArgumentTypes()) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    if (!tensor || tensor.getRank() == 0)
      continue;
    if (auto s = dyn_cast<AffineSymbolExpr>(graph::getDims(tensor)[0]))
      if (s.getPosition() < sizes.size())
        sizes[s.getPosition()] = 1;
  }
  for (auto [i, name] : llvm::enumerate(names.getAsRange<StringAttr>()))
    if (auto it = given.find(name.str()); it != given.end())
      sizes[i] = it->second;
  return sizes;
}

void FusionGraph::collectUses(Value value, TensorUse &use) {
  for (Operation *user : value.getUsers()) {
    bool isHere = user->getBlock() == &block;
    user = block.findAncestorOpInBlock(*user); // the branch or loop around it
    if (isHere && isa<graph::ReshapeOp>(user))
      collectUses(user->getResult(0), use);
    else if (auto it = numbers.find(user); it != numbers.end())
      use.readers.push_back(it->second);
    else
      use.escapes = true; // returned, or its bits are read as another type
  }
}

// The symbols that a node's types and symbol list mention.
static void collectSymbols(Operation *op, llvm::SmallDenseSet<unsigned> &used) {
  auto scan = [&](AffineExpr e) {
    e.walk([&](AffineExpr x) {
      if (auto s = dyn_cast<AffineSymbolExpr>(x))
        used.insert(s.getPosition());
    });
  };
  auto scanTypes = [&](TypeRange types) {
    for (Type type : types)
      if (auto tensor = dyn_cast<RankedTensorType>(type))
        if (auto dims = dyn_cast_or_null<graph::DimsAttr>(tensor.getEncoding()))
          llvm::for_each(dims.getDims(), scan);
  };
  op->walk([&](Operation *part) {
    scanTypes(part->getOperandTypes());
    scanTypes(part->getResultTypes());
    if (auto call = dyn_cast<graph::CallOp>(part))
      if (call.getSymbols())
        llvm::for_each(call.getSymbols()->getDims(), scan);
    if (auto loop = dyn_cast<graph::LoopOp>(part))
      for (std::optional<graph::DimsAttr> one :
           {loop.getTrips(), loop.getGuard()})
        if (one)
          llvm::for_each(one->getDims(), scan);
  });
}

void FusionGraph::connect() {
  llvm::DenseMap<unsigned, unsigned> binderOf; // symbol -> node
  for (auto [i, node] : llvm::enumerate(nodes)) {
    if (auto prefix = dyn_cast<graph::PrefixOp>(node.op))
      binderOf[prefix.getSymbol()] = i;
    else if (auto branch = dyn_cast<graph::IfOp>(node.op))
      for (int64_t symbol : branch.getBoundSymbols())
        binderOf[symbol] = i;
    else if (auto loop = dyn_cast<graph::LoopOp>(node.op))
      for (int64_t symbol : loop.getBoundSymbols())
        binderOf[symbol] = i;
  }
  for (auto [i, node] : llvm::enumerate(nodes)) {
    llvm::SetVector<unsigned> before;
    for (Value operand : getReadValues(node.op)) {
      Operation *def = operand.getDefiningOp();
      while (isView(def))
        def = def->getOperand(0).getDefiningOp();
      if (auto it = numbers.find(def); def && it != numbers.end())
        before.insert(it->second);
    }
    if (!binderOf.empty()) {
      llvm::SmallDenseSet<unsigned> used;
      collectSymbols(node.op, used);
      for (auto &[symbol, binder] : binderOf)
        if (binder < i && used.contains(symbol))
          before.insert(binder);
    }
    node.predecessors.assign(before.begin(), before.end());
    llvm::sort(node.predecessors);
    for (unsigned p : node.predecessors)
      nodes[p].successors.push_back(i);
    for (Value result : node.op->getResults())
      if (isa<RankedTensorType>(result.getType()))
        collectUses(result, uses[tensors.get(result)]);
  }
}

std::vector<std::string>
FusionGraph::namesOf(ArrayRef<unsigned> members) const {
  std::vector<std::string> names;
  for (unsigned m : members) {
    Operation *op = nodes[m].op;
    auto origin = op->getAttrOfType<ArrayAttr>("origin");
    auto call = dyn_cast<graph::CallOp>(op);
    std::string name =
        call ? call.getCallee().str() : op->getName().stripDialect().str();
    if (origin && !origin.empty())
      name += "(" + cast<StringAttr>(origin[0]).getValue().str() + ")";
    names.push_back(name);
  }
  return names;
}

std::string FusionGraph::describe(ArrayRef<unsigned> members) const {
  std::string text;
  for (const std::string &name : namesOf(members))
    text += (text.empty() ? "" : " + ") + name;
  return text;
}
