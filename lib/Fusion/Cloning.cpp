// Cheap operators whose result several groups read are computed in each of them
// (C-SAME-NODES allows copies), when that takes less time than what it spares:
// the tensor need not be written where all of its readers compute it.
//
// No cycle can come of it: a reader of the tensor depends on the operator's
// operands already. Nothing is merged afterwards, since the edges of copies are
// not in the graph.
#include "FusionGraph.h"

#include "dlc/Fusion/Compose.h"

#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;

// Copies come with what they need of their own group, up to so many operators
// of so many scalar operations each.
static constexpr size_t maxChain = 3, maxNodes = 8;

namespace {
class Cloner {
public:
  Cloner(FusionGraph &graph, const Policy &policy, std::vector<Group> &groups,
         ArrayRef<unsigned> groupOf)
      : graph(graph), policy(policy), groups(groups), groupOf(groupOf) {}
  void run();

private:
  /// A group and what it would be.
  struct Change {
    unsigned group;
    Body body;
    double seconds;
  };

  Candidate candidate(const Body &body, ArrayRef<TensorId> outputs,
                      size_t members) const {
    return {body, outputs, graph.tensors, graph.typicalSizes,
            static_cast<unsigned>(members)};
  }
  Candidate candidate(const Group &group) const {
    return candidate(*group.body, group.outputs,
                     group.members.size() + group.clones.size());
  }
  bool isCheap(unsigned node) const;
  bool findChain(unsigned node, std::vector<unsigned> &chain) const;
  bool composeChain(ArrayRef<unsigned> chain, TensorId result, Body &body);
  bool compose(const Body &first, const Body &second,
               ArrayRef<TensorId> outputs, Body &result);
  std::optional<Change> tryInto(unsigned group, const Body &copy,
                                TensorId result, ArrayRef<unsigned> chain);
  std::optional<Change> tryWithout(unsigned node, TensorId result);
  void tryNode(unsigned node);
  void addReaders(unsigned group);
  void setBody(unsigned group, Change &&change);

  FusionGraph &graph;
  const Policy &policy;
  std::vector<Group> &groups;
  ArrayRef<unsigned> groupOf;
  std::vector<bool> gone; ///< nodes that are only copies any more
  llvm::DenseMap<unsigned, SmallVector<unsigned, 2>> copiesIn; ///< by node
  llvm::DenseMap<TensorId, unsigned> nodeOf;                   ///< by result
  llvm::DenseMap<TensorId, llvm::SmallSetVector<unsigned, 4>> readers;
};
} // namespace

void Cloner::addReaders(unsigned group) {
  for (TensorId operand : groups[group].body->operands())
    readers[graph.tensors.baseOf(operand)].insert(group);
}

void Cloner::setBody(unsigned number, Change &&change) {
  Group &group = groups[number];
  for (TensorId operand : group.body->operands())
    readers[graph.tensors.baseOf(operand)].remove(number);
  group.body = std::move(change.body);
  group.seconds = change.seconds;
  addReaders(number);
}

/// One stage of a few scalar operations, without a fold and without a gather.
bool Cloner::isCheap(unsigned node) const {
  const std::optional<Body> &body = graph.nodes[node].body;
  if (!body || body->stages.size() != 1 ||
      graph.nodes[node].op->getNumResults() != 1)
    return false;
  const Stage &stage = *body->stages.front();
  return !stage.isFold() && stage.nodes.size() <= maxNodes &&
         llvm::none_of(stage.nodes,
                       [](const Node &n) { return n.kind == Node::ToIndex; });
}

/// The node and what it needs of its group that is not written.
bool Cloner::findChain(unsigned node, std::vector<unsigned> &chain) const {
  const Group &home = groups[groupOf[node]];
  chain.assign({node});
  for (size_t i = 0; i < chain.size(); ++i) {
    if (!isCheap(chain[i]))
      return false;
    for (TensorId operand : graph.nodes[chain[i]].body->operands()) {
      TensorId base = graph.tensors.baseOf(operand);
      auto it = nodeOf.find(base);
      if (it == nodeOf.end() || llvm::is_contained(home.outputs, base) ||
          groupOf[it->second] != groupOf[node] ||
          llvm::is_contained(chain, it->second))
        continue;
      chain.push_back(it->second);
      if (chain.size() > maxChain)
        return false;
    }
  }
  llvm::sort(chain);
  return true;
}

bool Cloner::compose(const Body &first, const Body &second,
                     ArrayRef<TensorId> outputs, Body &result) {
  auto isOutput = [&](TensorId id) { return llvm::is_contained(outputs, id); };
  auto decide = [&](const Stage &producer, ArrayRef<StageRef> consumers,
                    bool keeps, bool readsFold) {
    return policy.inlines(producer, consumers, keeps, readsFold,
                          graph.typicalSizes);
  };
  unsigned rows = 0;
  return !fusion::compose(first, second, isOutput, decide, graph.tensors,
                          result) &&
         !checkRow(result, rows) && !checkBounds(result);
}

/// The chain as one expression for `result`.
bool Cloner::composeChain(ArrayRef<unsigned> chain, TensorId result,
                          Body &body) {
  body = *graph.nodes[chain.front()].body;
  auto isOutput = [&](TensorId id) { return id == result; };
  auto decide = [](const Stage &, ArrayRef<StageRef>, bool, bool) {
    return true;
  };
  for (size_t i = 1; i < chain.size(); ++i) {
    Body longer;
    // What only a later one reads has to stay until then.
    auto isWanted = [&](TensorId id) {
      return isOutput(id) ||
             llvm::any_of(chain.drop_front(i + 1), [&](unsigned later) {
               return llvm::any_of(graph.nodes[later].body->operands(),
                                   [&](TensorId operand) {
                                     return graph.tensors.baseOf(operand) == id;
                                   });
             });
    };
    if (fusion::compose(body, *graph.nodes[chain[i]].body, isWanted, decide,
                        graph.tensors, longer))
      return false;
    body = std::move(longer);
  }
  return body.stages.size() == 1 && body.stages.front()->result == result;
}

std::optional<Cloner::Change> Cloner::tryInto(unsigned number, const Body &copy,
                                              TensorId result,
                                              ArrayRef<unsigned> chain) {
  const Group &group = groups[number];
  if (!group.alive || !group.body || group.isAttention || group.isUnread ||
      llvm::any_of(chain, [&](unsigned node) {
        return llvm::is_contained(group.clones, node) ||
               llvm::is_contained(group.members, node);
      }))
    return std::nullopt;
  Change change{number, Body(), 0};
  if (!compose(copy, *group.body, group.outputs, change.body))
    return std::nullopt;
  Candidate merged =
      candidate(change.body, group.outputs,
                group.members.size() + group.clones.size() + chain.size());
  if (policy.check(merged, candidate(copy, {result}, chain.size()),
                   candidate(group)))
    return std::nullopt;
  change.seconds = policy.getSeconds(merged);
  return change;
}

/// The node's group when nothing outside reads the node any more.
std::optional<Cloner::Change> Cloner::tryWithout(unsigned node,
                                                 TensorId result) {
  const Group &home = groups[groupOf[node]];
  std::vector<TensorId> outputs = home.outputs;
  llvm::erase(outputs, result);
  Change change{groupOf[node], Body(), 0};
  if (outputs.empty()) {
    if (home.members.size() + home.clones.size() > 1)
      return std::nullopt;
    return change;
  }
  if (!compose(*home.body, Body(), outputs, change.body))
    return std::nullopt;
  Candidate less =
      candidate(change.body, outputs, home.members.size() + home.clones.size());
  Body none;
  if (policy.check(less, candidate(home), candidate(none, {}, 0)))
    return std::nullopt;
  change.seconds = policy.getSeconds(less);
  return change;
}

void Cloner::tryNode(unsigned node) {
  Group &home = groups[groupOf[node]];
  if (!isCheap(node) || !home.body || home.isAttention || home.isUnread)
    return;
  TensorId result = graph.tensors.get(graph.nodes[node].op->getResult(0));
  if (!llvm::is_contained(home.outputs, result))
    return;
  const TensorUse &use = graph.usesOf(result);
  llvm::SmallSetVector<unsigned, 4> outside = readers[result];
  bool isReadHere = false;
  for (unsigned reader : use.readers) {
    // A copy of a reader reads it too, or names it.
    for (unsigned group : copiesIn.lookup(reader))
      if (!llvm::is_contained(groups[group].clones, node) &&
          group != groupOf[node])
        outside.insert(group);
    if (gone[reader])
      continue;
    if (groupOf[reader] == groupOf[node])
      isReadHere = true;
    else if (!llvm::is_contained(groups[groupOf[reader]].clones, node))
      outside.insert(groupOf[reader]);
  }
  outside.remove(groupOf[node]);
  std::vector<unsigned> chain;
  Body copy;
  if (outside.empty() || !findChain(node, chain) ||
      !composeChain(chain, result, copy))
    return;
  std::vector<Change> changes;
  double saved = 0;
  for (unsigned group : outside)
    if (auto change = tryInto(group, copy, result, chain)) {
      saved += groups[group].seconds - change->seconds;
      changes.push_back(std::move(*change));
    }
  std::optional<Change> without;
  if (changes.size() == outside.size() && !use.escapes)
    without = tryWithout(node, result);
  if (without)
    saved += home.seconds - without->seconds;
  if (!without || saved <= 0) {
    without.reset();
    llvm::erase_if(changes, [&](const Change &change) {
      return change.seconds >= groups[change.group].seconds;
    });
  }
  for (Change &change : changes) {
    Group &group = groups[change.group];
    setBody(change.group, std::move(change));
    group.clones.insert(group.clones.end(), chain.begin(), chain.end());
    llvm::sort(group.clones);
    for (unsigned copied : chain)
      copiesIn[copied].push_back(change.group);
  }
  if (!without)
    return;
  // Emission drops an operator that nothing reads any more.
  setBody(groupOf[node], std::move(*without));
  llvm::erase(home.outputs, result);
  if (isReadHere)
    return;
  gone[node] = true;
  if (home.outputs.empty())
    home.alive = false;
  else
    llvm::erase(home.members, node);
}

void Cloner::run() {
  gone.assign(graph.nodes.size(), false);
  for (auto [i, node] : llvm::enumerate(graph.nodes))
    for (Value result : node.op->getResults())
      if (isa<RankedTensorType>(result.getType()))
        nodeOf[graph.tensors.get(result)] = i;
  for (unsigned g = 0; g < groups.size(); ++g)
    if (groups[g].alive && groups[g].body) {
      addReaders(g);
      for (unsigned clone : groups[g].clones)
        copiesIn[clone].push_back(g);
    }
  for (unsigned node = graph.nodes.size(); node-- > 0;)
    tryNode(node);
}

void fusion::cloneProducers(FusionGraph &graph, const Policy &policy,
                            std::vector<Group> &groups,
                            ArrayRef<unsigned> groupOf) {
  Cloner(graph, policy, groups, groupOf).run();
}
