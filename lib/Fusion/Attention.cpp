// Attentions are grouped at once, before other groups are formed: pair by pair
// a sum of products would never merge with a softmax. The search walks from
// each sum of products back through a softmax to another; what becomes a group
// is decided on the composed kernel (Schedule/AttentionSpec.h), never by the
// list of nodes an exporter writes.
#include "AttentionForm.h"

#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;
using graph::ScalarFn;

// Nodes between two sums of products; a softmax has fewer however it is
// spelled.
static constexpr size_t kMaxBetween = 48;
// Stages after the sum that are tried.
static constexpr size_t kMaxEpilogue = 4;

static bool isProductNode(const GraphNode &node) {
  return node.body && llvm::any_of(node.body->stages, [](const StageRef &s) {
           return isContraction(*s);
         });
}

static bool hasFold(const GraphNode &node, graph::FoldKind kind) {
  return node.body && llvm::any_of(node.body->stages, [&](const StageRef &s) {
           return s->fold == kind;
         });
}

static bool applies(const GraphNode &node, ScalarFn fn) {
  return node.body && llvm::any_of(node.body->stages, [&](const StageRef &s) {
           return llvm::any_of(s->nodes, [&](const Node &n) {
             return n.kind == Node::Apply && static_cast<ScalarFn>(n.fn) == fn;
           });
         });
}

namespace {
class Search {
public:
  Search(FusionGraph &graph, const Policy &policy)
      : graph(graph), former(graph, policy), isTaken(graph.nodes.size()) {}
  AttentionSearch run();

private:
  /// The nearest node that `from` reads, through nodes that `through` lets
  /// pass, for which `wanted` holds.
  std::optional<unsigned>
  findBefore(unsigned from, llvm::function_ref<bool(unsigned)> through,
             llvm::function_ref<bool(unsigned)> wanted) const;
  std::optional<unsigned> findScores(unsigned output) const;
  std::vector<unsigned> between(unsigned first, unsigned last) const;
  void tryOutput(unsigned output);

  FusionGraph &graph;
  AttentionFormer former;
  std::vector<bool> isTaken;
  AttentionSearch found;
};
} // namespace

std::optional<unsigned>
Search::findBefore(unsigned from, llvm::function_ref<bool(unsigned)> through,
                   llvm::function_ref<bool(unsigned)> wanted) const {
  llvm::SmallSetVector<unsigned, 16> queue;
  queue.insert(from);
  for (size_t i = 0; i < queue.size() && queue.size() < kMaxBetween; ++i)
    for (unsigned p : graph.nodes[queue[i]].predecessors) {
      if (wanted(p))
        return p;
      if (through(p))
        queue.insert(p);
    }
  return std::nullopt;
}

// The sum of products whose softmax `output` weighs values by, or by something
// like one: an exponential with a maximum before it or a sum after it.
std::optional<unsigned> Search::findScores(unsigned output) const {
  auto isPlain = [&](unsigned n) {
    return AttentionFormer::isFoldFree(graph.nodes[n]);
  };
  auto isExp = [&](unsigned n) {
    return applies(graph.nodes[n], ScalarFn::exp);
  };
  auto exponential = findBefore(output, isPlain, isExp);
  if (!exponential)
    return std::nullopt;
  bool isNormalised =
      llvm::any_of(graph.nodes[*exponential].successors, [&](unsigned s) {
        return hasFold(graph.nodes[s], graph::FoldKind::add) &&
               !isProductNode(graph.nodes[s]);
      });
  auto maximum = findBefore(*exponential, isPlain, [&](unsigned n) {
    return hasFold(graph.nodes[n], graph::FoldKind::max);
  });
  if (!isNormalised && !maximum)
    return std::nullopt;
  return findBefore(*exponential, isPlain,
                    [&](unsigned n) { return isProductNode(graph.nodes[n]); });
}

// What is computed from `first` on the way to `last`, both included.
std::vector<unsigned> Search::between(unsigned first, unsigned last) const {
  llvm::SmallDenseSet<unsigned> after{first};
  for (unsigned n = first + 1; n <= last; ++n)
    if (llvm::any_of(graph.nodes[n].predecessors,
                     [&](unsigned p) { return after.contains(p); }))
      after.insert(n);
  llvm::SmallSetVector<unsigned, 16> members;
  members.insert(last);
  for (size_t i = 0; i < members.size(); ++i)
    for (unsigned p : graph.nodes[members[i]].predecessors)
      if (after.contains(p))
        members.insert(p);
  std::vector<unsigned> sorted(members.begin(), members.end());
  llvm::sort(sorted);
  return sorted;
}

void Search::tryOutput(unsigned output) {
  auto scores = findScores(output);
  if (!scores || *scores == output)
    return;
  // The longest epilogue first; the reason that counts is the shortest one's.
  SmallVector<unsigned> ends{output};
  while (ends.size() <= kMaxEpilogue) {
    auto next = former.singleReader(ends.back());
    if (!next || !AttentionFormer::isFoldFree(graph.nodes[*next]) ||
        isTaken[*next])
      break;
    ends.push_back(*next);
  }
  AttentionRemark remark;
  std::optional<AttentionForm> form;
  std::string reason;
  for (unsigned end : llvm::reverse(ends)) {
    std::vector<unsigned> members = between(*scores, end);
    if (members.size() > kMaxBetween ||
        llvm::any_of(members, [&](unsigned m) { return isTaken[m]; })) {
      reason = "form: too much stands between the sums of products";
      continue;
    }
    std::string why;
    if ((form = former.tryForm(members, {}, why)))
      break;
    // Without the division that follows, the sum is one more result.
    if (reason.empty() || StringRef(reason).starts_with("results") ||
        !StringRef(why).starts_with("results"))
      reason = why;
  }
  if (!form) {
    remark.text = reason;
    remark.members = graph.namesOf(between(*scores, output));
    found.remarks.push_back(std::move(remark));
    return;
  }
  former.grow(*form);
  remark.isFound = true;
  remark.text = form->text;
  remark.first = form->group.members.front();
  remark.members = graph.namesOf(form->group.members);
  remark.isFormed = form->isTaken;
  remark.reason = form->reason;
  found.remarks.push_back(std::move(remark));
  if (!form->isTaken)
    return;
  for (unsigned m : form->group.members)
    isTaken[m] = true;
  found.groups.push_back(std::move(form->group));
}

AttentionSearch Search::run() {
  for (unsigned n = 0; n < graph.nodes.size(); ++n)
    if (isProductNode(graph.nodes[n]))
      tryOutput(n);
  return std::move(found);
}

AttentionSearch fusion::findAttentions(FusionGraph &graph,
                                       const Policy &policy) {
  return Search(graph, policy).run();
}
