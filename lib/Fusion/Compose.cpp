// Inlining a producer's expression into its consumers.
#include "dlc/Fusion/Compose.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;
using graph::ScalarFn;

namespace {
// Copies nodes into a stage under construction. Data coordinates are renumbered
// first: the coordinates put in for dims are already the new stage's.
class Copier {
public:
  explicit Copier(MLIRContext *context) : context(context) {}

  Node translate(const Node &from, ArrayRef<AffineExpr> coords) {
    Node node = from;
    for (unsigned &arg : node.args)
      arg = numbers[arg];
    llvm::DenseMap<AffineExpr, AffineExpr> data;
    from.forEachData([&](unsigned d) {
      data[getAffineDimExpr(kDataDim + d, context)] =
          getAffineDimExpr(kDataDim + numbers[d], context);
    });
    auto rewrite = [&](AffineExpr &e) {
      if (!data.empty())
        e = e.replace(data);
      if (!coords.empty())
        e = e.replaceDims(coords);
    };
    llvm::for_each(node.index, rewrite);
    llvm::for_each(node.guard, rewrite);
    return node;
  }
  void push(unsigned number) { numbers.push_back(number); }
  unsigned operator[](unsigned node) const { return numbers[node]; }

private:
  MLIRContext *context;
  std::vector<unsigned> numbers;
};
} // namespace

// Any value that no scalar function traps on: it is never chosen.
static unsigned addFiller(StageBuilder &builder, Type type) {
  Node node;
  node.type = type;
  if (auto f = dyn_cast<FloatType>(type))
    node.literal = FloatAttr::get(f, 1.0);
  else
    node.literal =
        IntegerAttr::get(type, APInt(type.getIntOrFloatBitWidth(), 1));
  return builder.add(std::move(node));
}

// The producer's expression at the point `load` reads.
static unsigned inlineAt(const Stage &producer, const Node &load,
                         StageBuilder &builder) {
  MLIRContext *context = producer.type.getContext();
  Copier copier(context);
  bool isGuarded = !load.guard.empty();
  for (auto [i, from] : llvm::enumerate(producer.nodes)) {
    Node node = copier.translate(from, load.index);
    if (isGuarded && node.kind == Node::Load) {
      bool isRoot = i == producer.root;
      bool hadGuard = !node.guard.empty();
      // A pure read takes over guard and replacement as they are.
      if (isRoot && (!hadGuard || node.args[0] == load.args[0])) {
        node.guard.append(load.guard.begin(), load.guard.end());
        node.equal.append(load.equal.begin(), load.equal.end());
        node.args.assign({load.args[0]});
        return builder.add(std::move(node));
      }
      if (!hadGuard)
        node.args.push_back(addFiller(builder, node.type));
      node.guard.append(load.guard.begin(), load.guard.end());
      node.equal.append(load.equal.begin(), load.equal.end());
    }
    copier.push(builder.add(std::move(node)));
  }
  unsigned value = copier[producer.root];
  if (!isGuarded || value == load.args[0])
    return value;
  Node inside;
  inside.kind = Node::Inside;
  inside.type = IntegerType::get(context, 1);
  inside.guard = load.guard;
  inside.equal = load.equal;
  Node select;
  select.kind = Node::Apply;
  select.type = load.type;
  select.fn = static_cast<unsigned>(ScalarFn::select);
  select.args = {builder.add(std::move(inside)), value, load.args[0]};
  return builder.add(std::move(select));
}

StageRef fusion::inlineProducer(const Stage &producer, const Stage &consumer) {
  MLIRContext *context = consumer.type.getContext();
  StageBuilder builder(context, consumer);
  Copier copier(context);
  for (const Node &from : consumer.nodes) {
    Node node = copier.translate(from, {});
    bool isRead = node.kind == Node::Load && node.tensor == producer.result;
    copier.push(isRead ? inlineAt(producer, node, builder)
                       : builder.add(std::move(node)));
  }
  return builder.finish(copier[consumer.root]);
}

StageRef fusion::readThroughViews(StageRef stage, TensorId base,
                                  const TensorTable &tensors) {
  auto isView = [&](const Node &node) {
    return node.kind == Node::Load && node.tensor != base &&
           tensors.baseOf(node.tensor) == base;
  };
  if (llvm::none_of(stage->loads, [&](TensorId tensor) {
        return tensor != base && tensors.baseOf(tensor) == base;
      }))
    return stage;
  MLIRContext *context = stage->type.getContext();
  StageBuilder builder(context, *stage);
  Copier copier(context);
  for (const Node &from : stage->nodes) {
    Node node = copier.translate(from, {});
    while (isView(node)) {
      TensorId source = tensors.viewedBy(node.tensor);
      node.index = builder.math().throughReshape(
          node.index, graph::getDims(tensors.typeOf(node.tensor)),
          graph::getDims(tensors.typeOf(source)));
      node.tensor = source;
    }
    copier.push(builder.add(std::move(node)));
  }
  return builder.finish(copier[stage->root]);
}

std::optional<Refusal>
fusion::compose(const Body &first, const Body &second,
                llvm::function_ref<bool(TensorId)> isOutput,
                InlineDecision decide, const TensorTable &tensors,
                Body &result) {
  result.stages = first.stages;
  for (StageRef stage : second.stages) {
    for (const StageRef &source : first.stages)
      stage = readThroughViews(stage, source->result, tensors);
    result.stages.push_back(std::move(stage));
  }
  std::vector<StageRef> &stages = result.stages;
  for (size_t i = 0; i < stages.size();) {
    StageRef producer = stages[i];
    SmallVector<size_t> readers;
    SmallVector<StageRef> consumers;
    for (size_t j = i + 1; j < stages.size(); ++j)
      if (stages[j]->reads(producer->result)) {
        readers.push_back(j);
        consumers.push_back(stages[j]);
      }
    bool keeps = isOutput(producer->result);
    bool readsFold = llvm::any_of(stages, [&](const StageRef &other) {
      return other->isFold() && producer->reads(other->result) &&
             !isOutput(other->result);
    });
    if (!consumers.empty() && !producer->isFold() &&
        decide(*producer, consumers, keeps, readsFold)) {
      for (size_t j : readers) {
        if (auto refusal = checkCompose(*producer, *stages[j]))
          return refusal;
        stages[j] = inlineProducer(*producer, *stages[j]);
      }
      consumers.clear();
    }
    if (consumers.empty() && !keeps)
      stages.erase(stages.begin() + i);
    else
      ++i;
  }
  return std::nullopt;
}
