// Greedy grouping by predicted time saved: a heap of pairs, the best first.
//
// The groups are kept in an order in which they can run. A pair may be merged
// iff no other path leads from the first to the second (C-CONVEX); such a path
// lies in the window between their places, so the search stays there, and the
// merge puts what depends on the first group behind the second's place.
#include "FusionGraph.h"

#include "dlc/Fusion/Compose.h"

#include "llvm/ADT/SetVector.h"

#include <ctime>
#include <queue>

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;

// Groups looked at in one search for a path; more is a refusal.
static constexpr unsigned kMaxVisited = 100;

namespace {
/// What becomes of two groups.
struct Merge {
  Body body;
  std::vector<TensorId> outputs;
  std::vector<unsigned> members;
  double seconds = 0, saved = 0;
  llvm::SmallSetVector<unsigned, 16> behind; ///< groups that depend on a
};
struct Pair {
  double key;    ///< seconds saved, or a guess of it
  unsigned a, b; ///< groups; a comes first
  unsigned versionA, versionB;
  std::shared_ptr<Merge> merge; ///< once it is known; then the key is exact
};
struct WorsePair {
  bool operator()(const Pair &x, const Pair &y) const {
    if (x.key != y.key)
      return x.key < y.key;
    return std::tie(x.a, x.b) > std::tie(y.a, y.b);
  }
};

class Grouper {
public:
  Grouper(FusionGraph &graph, const Policy &policy,
          const FusionOptions &options)
      : graph(graph), policy(policy), options(options) {}
  Grouping run();

private:
  Candidate candidate(const Group &group) {
    return {*group.body, group.outputs, graph.tensors, graph.typicalSizes,
            static_cast<unsigned>(group.members.size())};
  }
  std::optional<Refusal> checkConvex(unsigned a, unsigned b, Merge &merge);
  std::optional<Refusal> tryMerge(unsigned a, unsigned b, Merge &merge);
  void merge(unsigned a, unsigned b, Merge &&merge);
  bool mergeAll(Group &&attention);
  void findUnread();
  void push(unsigned a, unsigned b);
  void pushNeighbours(unsigned group);
  llvm::SmallSetVector<unsigned, 8> next(unsigned group, bool forwards);
  void drain();
  void pushSiblings();
  std::vector<std::pair<unsigned, unsigned>> findFusibleEdges();

  FusionGraph &graph;
  const Policy &policy;
  const FusionOptions &options;
  std::vector<Group> groups;
  std::vector<unsigned> groupOf; ///< node -> group
  std::vector<int> slots;        ///< place -> group, -1 for none
  std::priority_queue<Pair, std::vector<Pair>, WorsePair> heap;
  std::map<std::pair<unsigned, unsigned>, Refusal> refusals;
};
} // namespace

llvm::SmallSetVector<unsigned, 8> Grouper::next(unsigned group, bool forwards) {
  llvm::SmallSetVector<unsigned, 8> result;
  auto insert = [&](unsigned other) {
    if (other != group)
      result.insert(other);
  };
  for (unsigned m : groups[group].members)
    for (unsigned n :
         forwards ? graph.nodes[m].successors : graph.nodes[m].predecessors) {
      insert(groupOf[n]);
      if (forwards)
        if (auto it = graph.clonedIn.find(n); it != graph.clonedIn.end())
          llvm::for_each(it->second, insert);
    }
  if (!forwards)
    for (unsigned clone : groups[group].clones)
      for (unsigned n : graph.nodes[clone].predecessors)
        insert(groupOf[n]);
  return result;
}

// A path from a to b through other groups stays between their places.
std::optional<Refusal> Grouper::checkConvex(unsigned a, unsigned b,
                                            Merge &merge) {
  unsigned end = groups[b].slot;
  SmallVector<unsigned> work;
  auto visit = [&](unsigned from) {
    for (unsigned n : next(from, /*forwards=*/true)) {
      if (n == b && from != a)
        return false;
      if (n != b && groups[n].slot < end && merge.behind.insert(n))
        work.push_back(n);
    }
    return true;
  };
  visit(a);
  while (!work.empty()) {
    if (merge.behind.size() > kMaxVisited)
      return Refusal{Condition::Convex,
                     "too many groups lie between to look for a path"};
    unsigned from = work.pop_back_val();
    if (!visit(from))
      return Refusal{
          Condition::Convex,
          "a path leaves and comes back through " +
              graph.describe(ArrayRef(groups[from].members).take_front(1))};
  }
  return std::nullopt;
}

std::vector<TensorId> fusion::getOutputs(const FusionGraph &graph,
                                         const Body &body,
                                         ArrayRef<unsigned> members) {
  std::vector<TensorId> outputs;
  for (const StageRef &stage : body.stages) {
    if (!graph.tensors.valueOf(stage->result))
      continue;
    const TensorUse &use = graph.usesOf(stage->result);
    bool isRead =
        use.escapes || llvm::any_of(use.readers, [&](unsigned r) {
          return !llvm::binary_search(members, r) || graph.clonedIn.contains(r);
        });
    if (isRead)
      outputs.push_back(stage->result);
  }
  return outputs;
}

std::optional<Refusal> Grouper::tryMerge(unsigned a, unsigned b, Merge &merge) {
  Group &first = groups[a], &second = groups[b];
  if (first.isAttention || second.isAttention)
    return Refusal{Condition::Size, "an attention is formed at once"};
  if (first.isUnread || second.isUnread)
    return Refusal{Condition::Live, "every reader computes it itself"};
  if (auto refusal =
          policy.checkMembers(first.members.size() + second.members.size()))
    return refusal;
  if (auto refusal = checkConvex(a, b, merge))
    return refusal;
  std::merge(first.members.begin(), first.members.end(), second.members.begin(),
             second.members.end(), std::back_inserter(merge.members));
  merge.outputs = getOutputs(graph, *first.body, merge.members);
  llvm::append_range(merge.outputs,
                     getOutputs(graph, *second.body, merge.members));
  if (merge.outputs.empty())
    return Refusal{Condition::Live, "nothing reads the result"};
  auto isOutput = [&](TensorId id) {
    return llvm::is_contained(merge.outputs, id);
  };
  auto decide = [&](const Stage &producer, ArrayRef<StageRef> consumers,
                    bool keeps, bool readsFold) {
    return policy.inlines(producer, consumers, keeps, readsFold,
                          graph.typicalSizes);
  };
  if (auto refusal = compose(*first.body, *second.body, isOutput, decide,
                             graph.tensors, merge.body))
    return refusal;
  unsigned rows = 0;
  if (auto refusal = checkRow(merge.body, rows))
    return refusal;
  if (auto refusal = checkBounds(merge.body))
    return refusal;
  Candidate merged{merge.body, merge.outputs, graph.tensors, graph.typicalSizes,
                   static_cast<unsigned>(merge.members.size())};
  if (auto refusal = policy.check(merged, candidate(first), candidate(second)))
    return refusal;
  merge.seconds = policy.getSeconds(merged);
  merge.saved = first.seconds + second.seconds - merge.seconds;
  if (merge.saved <= 0)
    return Refusal{Condition::Recompute,
                   "no time is saved: computing values again takes longer "
                   "than storing them"};
  return std::nullopt;
}

void Grouper::merge(unsigned a, unsigned b, Merge &&merge) {
  // Places from a's to b's: what does not depend on a, the group, the rest.
  unsigned begin = groups[a].slot, end = groups[b].slot;
  SmallVector<unsigned> before, behind;
  for (unsigned s = begin + 1; s < end; ++s) {
    if (slots[s] < 0)
      continue;
    unsigned g = slots[s];
    (merge.behind.contains(g) ? behind : before).push_back(g);
  }
  unsigned place = begin;
  auto put = [&](unsigned g) {
    slots[place] = static_cast<int>(g);
    groups[g].slot = place++;
  };
  llvm::for_each(before, put);
  put(a);
  llvm::for_each(behind, put);
  while (place <= end)
    slots[place++] = -1;
  Group &group = groups[a];
  for (unsigned m : groups[b].members)
    groupOf[m] = a;
  group.members = std::move(merge.members);
  group.body = std::move(merge.body);
  group.outputs = std::move(merge.outputs);
  group.seconds = merge.seconds;
  ++group.version;
  groups[b].alive = false;
  groups[b].body.reset();
  groups[b].members.clear();
  pushNeighbours(a);
}

// Groups of one member each become one, unless a path leaves and comes back.
bool Grouper::mergeAll(Group &&attention) {
  unsigned begin = groups.size(), end = 0;
  llvm::SmallDenseSet<unsigned> parts;
  for (unsigned m : attention.members) {
    if (groups[groupOf[m]].members.size() != 1)
      return false;
    parts.insert(groupOf[m]);
    begin = std::min(begin, groups[groupOf[m]].slot);
    end = std::max(end, groups[groupOf[m]].slot);
  }
  llvm::DenseSet<unsigned> behind;
  SmallVector<unsigned> work(parts.begin(), parts.end());
  while (!work.empty()) {
    unsigned from = work.pop_back_val();
    for (unsigned n : next(from, /*forwards=*/true)) {
      if (parts.contains(n) ? !parts.contains(from) : false)
        return false;
      if (!parts.contains(n) && groups[n].slot < end && behind.insert(n).second)
        work.push_back(n);
    }
  }
  for (unsigned clone : attention.clones)
    for (unsigned n : graph.nodes[clone].predecessors)
      if (behind.contains(groupOf[n]))
        return false;
  unsigned a = groupOf[attention.members.front()];
  SmallVector<unsigned> before, after;
  for (unsigned s = begin; s <= end; ++s)
    if (slots[s] >= 0 && !parts.contains(slots[s]))
      (behind.contains(slots[s]) ? after : before).push_back(slots[s]);
  before.push_back(a);
  before.append(after);
  for (unsigned s = begin; s <= end; ++s) {
    bool isTaken = s - begin < before.size();
    slots[s] = isTaken ? static_cast<int>(before[s - begin]) : -1;
    if (isTaken)
      groups[before[s - begin]].slot = s;
  }
  for (unsigned m : attention.members) {
    if (unsigned part = groupOf[m]; part != a) {
      groups[part].alive = false;
      groups[part].body.reset();
      groups[part].members.clear();
    }
    groupOf[m] = a;
  }
  Group &group = groups[a];
  group.members = std::move(attention.members);
  group.clones = std::move(attention.clones);
  for (unsigned clone : group.clones)
    graph.clonedIn[clone].push_back(a);
  group.body = std::move(attention.body);
  group.outputs = std::move(attention.outputs);
  group.laws = std::move(attention.laws);
  group.isAttention = true;
  ++group.version;
  group.seconds = policy.getSeconds(candidate(group));
  return true;
}

// What every reader computes itself goes, if it stays a group of its own.
void Grouper::findUnread() {
  for (unsigned n = graph.nodes.size(); n-- > 0;) {
    auto copies = graph.clonedIn.find(n);
    if (copies == graph.clonedIn.end() || !groups[groupOf[n]].body)
      continue;
    Group &group = groups[groupOf[n]];
    group.isUnread = llvm::all_of(group.outputs, [&](TensorId id) {
      const TensorUse &use = graph.usesOf(id);
      return !use.escapes && llvm::all_of(use.readers, [&](unsigned reader) {
        return groups[groupOf[reader]].isUnread ||
               llvm::is_contained(copies->second, groupOf[reader]);
      });
    });
  }
}

void Grouper::push(unsigned a, unsigned b) {
  if (!groups[a].body || !groups[b].body) {
    for (unsigned g : {a, b})
      if (graph::KernelOp kernel = graph.nodes[groups[g].members[0]].kernel;
          kernel && options.explains)
        if (auto refusal = checkPure(kernel))
          refusals.insert_or_assign({a, b}, *refusal);
    return;
  }
  // A guess that is seldom too low: the tensors between them for nothing.
  double key = std::min(groups[a].seconds, groups[b].seconds);
  heap.push({key, a, b, groups[a].version, groups[b].version, {}});
}

void Grouper::pushNeighbours(unsigned group) {
  for (unsigned n : next(group, /*forwards=*/true))
    push(group, n);
  for (unsigned n : next(group, /*forwards=*/false))
    push(n, group);
}

void Grouper::drain() {
  while (!heap.empty()) {
    Pair pair = heap.top();
    heap.pop();
    Group &a = groups[pair.a], &b = groups[pair.b];
    if (!a.alive || !b.alive || a.version != pair.versionA ||
        b.version != pair.versionB)
      continue;
    // Siblings may have changed places since they were met.
    if (a.slot > b.slot) {
      push(pair.b, pair.a);
      continue;
    }
    bool isKnown = pair.merge != nullptr;
    std::optional<Refusal> refusal;
    if (isKnown) { // only what lies between the two may have changed
      pair.merge->behind.clear();
      refusal = checkConvex(pair.a, pair.b, *pair.merge);
    } else {
      pair.merge = std::make_shared<Merge>();
      refusal = tryMerge(pair.a, pair.b, *pair.merge);
    }
    if (refusal) {
      if (options.explains)
        refusals.insert_or_assign({pair.a, pair.b}, *refusal);
      continue;
    }
    bool isBest = heap.empty() || pair.merge->saved >= heap.top().key;
    if (!isKnown && !isBest) {
      pair.key = pair.merge->saved;
      heap.push(std::move(pair));
      continue;
    }
    merge(pair.a, pair.b, std::move(*pair.merge));
  }
}

// Groups that read one tensor and do not depend on each other.
void Grouper::pushSiblings() {
  std::map<TensorId, llvm::SmallSetVector<unsigned, 4>> readers;
  for (unsigned g = 0; g < groups.size(); ++g)
    if (groups[g].alive && groups[g].body)
      for (TensorId operand : groups[g].body->operands())
        readers[operand].insert(g);
  for (auto &[tensor, list] : readers) {
    if (list.size() < 2 || list.size() > 16)
      continue;
    SmallVector<unsigned> inOrder(list.begin(), list.end());
    llvm::sort(inOrder, [&](unsigned x, unsigned y) {
      return groups[x].slot < groups[y].slot;
    });
    for (size_t i = 0; i + 1 < inOrder.size(); ++i)
      push(inOrder[i], inOrder[i + 1]);
  }
}

// While every node is a group of its own.
std::vector<std::pair<unsigned, unsigned>> Grouper::findFusibleEdges() {
  std::vector<std::pair<unsigned, unsigned>> edges;
  for (unsigned g = 0; g < groups.size(); ++g)
    for (unsigned n : next(g, /*forwards=*/true)) {
      Merge merge;
      if (groups[g].alive && groups[g].body && groups[n].body &&
          !tryMerge(g, n, merge))
        edges.push_back({g, n});
    }
  return edges;
}

Grouping Grouper::run() {
  for (auto [i, node] : llvm::enumerate(graph.nodes)) {
    Group group;
    group.members = {static_cast<unsigned>(i)};
    group.body = node.body;
    group.slot = i;
    groupOf.push_back(i);
    slots.push_back(i);
    groups.push_back(std::move(group));
    Group &made = groups.back();
    if (!made.body)
      continue;
    made.outputs = getOutputs(graph, *made.body, made.members);
    made.seconds = policy.getSeconds(candidate(made));
  }
  Grouping grouping;
  if (options.noAttention.empty() || options.explains) {
    AttentionSearch search = findAttentions(graph, policy);
    if (!options.noAttention.empty()) {
      search.groups.clear();
      for (AttentionRemark &remark : search.remarks)
        if (std::exchange(remark.isFormed, false))
          remark.reason = options.noAttention;
    }
    for (Group &group : search.groups) {
      unsigned first = group.members.front();
      if (!mergeAll(std::move(group)))
        for (AttentionRemark &remark : search.remarks)
          if (remark.isFormed && remark.first == first) {
            remark.isFormed = false;
            remark.reason = "a path leaves it and comes back (C-CONVEX)";
          }
    }
    findUnread();
    grouping.attentions = std::move(search.remarks);
  }
  std::vector<std::pair<unsigned, unsigned>> edges;
  if (options.countsEdges)
    edges = findFusibleEdges();
  grouping.fusibleEdges = edges.size();
  std::clock_t start = std::clock();
  for (unsigned g = 0; g < groups.size(); ++g)
    if (groups[g].alive)
      for (unsigned n : next(g, /*forwards=*/true))
        push(g, n);
  drain();
  pushSiblings();
  drain();
  cloneProducers(graph, policy, groups, groupOf);
  std::clock_t end = std::clock();
  auto isFused = [&](unsigned a, unsigned b) {
    return groupOf[a] == groupOf[b] ||
           llvm::is_contained(groups[groupOf[b]].clones, a);
  };
  for (auto [a, b] : edges)
    if (isFused(a, b)) {
      ++grouping.fusedEdges;
    } else {
      Merge merge;
      if (auto refusal = tryMerge(groupOf[a], groupOf[b], merge))
        grouping.missed.push_back(
            {graph.describe(a), graph.describe(b), *refusal});
    }
  for (int g : slots)
    if (g >= 0)
      grouping.order.push_back(g);
  for (auto &[pair, refusal] : refusals) {
    auto [a, b] = pair;
    if (groups[a].alive && groups[b].alive)
      grouping.refused.push_back({graph.describe(groups[a].members),
                                  graph.describe(groups[b].members), refusal});
  }
  grouping.groups = std::move(groups);
  grouping.seconds = static_cast<double>(end - start) / CLOCKS_PER_SEC;
  return grouping;
}

Grouping fusion::formGroups(FusionGraph &graph, const Policy &policy,
                            const FusionOptions &options) {
  return Grouper(graph, policy, options).run();
}
