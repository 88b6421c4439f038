// From members to one kernel that is an attention.
#include "AttentionForm.h"

#include "dlc/Fusion/Compose.h"
#include "dlc/Schedule/AttentionSpec.h"

#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;

AttentionFormer::AttentionFormer(FusionGraph &graph, const Policy &policy)
    : graph(graph), policy(policy) {
  for (auto [i, node] : llvm::enumerate(graph.nodes))
    for (Value result : node.op->getResults())
      if (isa<RankedTensorType>(result.getType()))
        producers[graph.tensors.get(result)] = i;
}

bool AttentionFormer::isFoldFree(const GraphNode &node) {
  return node.body && llvm::all_of(node.body->stages, [](const StageRef &s) {
           return !s->isFold() && llvm::none_of(s->nodes, [](const Node &n) {
             return n.kind == Node::ToIndex;
           });
         });
}

/// A view, a transposition, a repetition, a conversion, or a product with a
/// number: as good to compute as to load.
static bool isLight(const GraphNode &node) {
  if (!AttentionFormer::isFoldFree(node) || node.body->stages.size() != 1)
    return false;
  unsigned loads = 0, functions = 0;
  for (const Node &n : node.body->stages.front()->nodes) {
    if (!n.guard.empty() || n.kind == Node::Inside)
      return false;
    loads += n.kind == Node::Load;
    functions += n.kind == Node::Apply;
  }
  return loads == 1 && functions <= 1;
}

std::optional<unsigned> AttentionFormer::singleReader(unsigned node) const {
  Operation *op = graph.nodes[node].op;
  if (op->getNumResults() != 1)
    return std::nullopt;
  const TensorUse &use = graph.usesOf(graph.tensors.get(op->getResult(0)));
  if (use.escapes || use.readers.empty() ||
      llvm::any_of(use.readers,
                   [&](unsigned r) { return r != use.readers.front(); }))
    return std::nullopt;
  return use.readers.front();
}

//===----------------------------------------------------------------------===//
// Composition
//===----------------------------------------------------------------------===//

// A stage is inlined where it is read, except what a fold went into and several
// read: the scores, the exponentials.
static bool inlines(const Stage &producer, ArrayRef<StageRef> consumers,
                    bool isOutput, bool readsFold) {
  if (isOutput)
    return false;
  unsigned loads = 0;
  for (const StageRef &consumer : consumers)
    for (const Node &node : consumer->nodes)
      loads += node.kind == Node::Load && node.tensor == producer.result;
  return !readsFold || loads == 1;
}

std::optional<Body> AttentionFormer::composeAll(ArrayRef<unsigned> members,
                                                ArrayRef<TensorId> outputs,
                                                std::string &reason) {
  auto fail = [&](const Refusal &refusal) {
    reason = getName(refusal.condition).str() + ": " + refusal.reason;
    return std::nullopt;
  };
  Body all;
  for (unsigned m : members) {
    Body longer;
    if (auto refusal = compose(
            all, *graph.nodes[m].body, [](TensorId) { return true; },
            [](const Stage &, ArrayRef<StageRef>, bool, bool) { return false; },
            graph.tensors, longer))
      return fail(*refusal);
    all = std::move(longer);
  }
  Body body;
  if (auto refusal = compose(
          all, Body(),
          [&](TensorId id) { return llvm::is_contained(outputs, id); }, inlines,
          graph.tensors, body))
    return fail(*refusal);
  unsigned rows = 0;
  if (auto refusal = checkRow(body, rows))
    return fail(*refusal);
  if (auto refusal = checkBounds(body))
    return fail(*refusal);
  return body;
}

/// The tensors that kernel arguments stand for, which `value` loads.
static std::vector<TensorId> operandsOf(Value value,
                                        ArrayRef<TensorId> operands) {
  std::vector<TensorId> found;
  llvm::SmallDenseSet<Value> seen;
  auto visit = [&](auto &&self, Value at) -> void {
    if (!seen.insert(at).second)
      return;
    if (auto argument = dyn_cast<BlockArgument>(at)) {
      if (isa<RankedTensorType>(at.getType()))
        found.push_back(operands[argument.getArgNumber()]);
      return;
    }
    if (auto stage = at.getDefiningOp<graph::StageOp>()) {
      if (stage.getFoldKind() == graph::FoldKind::none)
        self(self, stage.getYielded());
      return;
    }
    for (Value operand : at.getDefiningOp()->getOperands())
      self(self, operand);
  };
  visit(visit, value);
  return found;
}

std::optional<AttentionForm>
AttentionFormer::tryForm(std::vector<unsigned> members, std::string &reason) {
  AttentionForm form;
  Group &group = form.group;
  for (unsigned m : members)
    if (!graph.nodes[m].body) {
      reason = "form: " + graph.describe({m}) + " has no expression";
      return std::nullopt;
    }
  Body together;
  for (unsigned m : members)
    llvm::append_range(together.stages, graph.nodes[m].body->stages);
  group.outputs = getOutputs(graph, together, members);
  auto body = composeAll(members, group.outputs, reason);
  if (!body)
    return std::nullopt;
  group.members = std::move(members);
  group.body = std::move(body);
  Location loc = graph.main.getLoc();
  graph::KernelOp kernel = emitKernel(graph, group, loc);
  std::vector<TensorId> operands = getOperands(graph, group);
  auto spec = classifyAttention(kernel, reason);
  if (succeeded(spec)) {
    form.text = spec->str();
    form.cuts = spec->cuts.size();
    form.query = operandsOf(spec->query.value, operands);
    form.key = operandsOf(spec->key.value, operands);
    form.value = operandsOf(spec->value.value, operands);
    form.others = operandsOf(spec->score, operands);
    form.isTaken = policy.takesAttention(kernel, form.reason);
  }
  kernel.erase();
  return succeeded(spec) ? std::optional(std::move(form)) : std::nullopt;
}

//===----------------------------------------------------------------------===//
// What comes before
//===----------------------------------------------------------------------===//

std::vector<unsigned>
AttentionFormer::findPrologue(const AttentionForm &form,
                              ArrayRef<TensorId> tensors,
                              bool (*accepts)(const GraphNode &)) const {
  llvm::SmallSetVector<unsigned, 16> more;
  SmallVector<TensorId> wanted(tensors);
  // A node is added once all of its readers are: the last of them finds it.
  for (bool changed = true; std::exchange(changed, false);)
    for (size_t i = 0; i < wanted.size(); ++i) {
      auto it = producers.find(graph.tensors.baseOf(wanted[i]));
      if (it == producers.end() || more.contains(it->second))
        continue;
      unsigned node = it->second;
      if (!accepts(graph.nodes[node]) ||
          graph.nodes[node].op->getNumResults() != 1)
        continue;
      const TensorUse &use = graph.usesOf(it->first);
      bool isOwn = !use.escapes && llvm::all_of(use.readers, [&](unsigned r) {
        return more.contains(r) || llvm::binary_search(form.group.members, r);
      });
      if (!isOwn)
        continue;
      more.insert(node);
      for (TensorId operand : graph.nodes[node].body->operands())
        wanted.push_back(operand);
      changed = true;
    }
  return {more.begin(), more.end()};
}

void AttentionFormer::tryGrow(AttentionForm &form, ArrayRef<unsigned> more,
                              bool wantsCuts) {
  if (more.empty())
    return;
  std::vector<unsigned> members = form.group.members;
  llvm::append_range(members, more);
  llvm::sort(members);
  members.erase(std::unique(members.begin(), members.end()), members.end());
  std::string why;
  auto larger = tryForm(std::move(members), why);
  if (larger && (larger->isTaken || !form.isTaken) &&
      (!wantsCuts || larger->cuts > form.cuts))
    form = std::move(*larger);
}

void AttentionFormer::grow(AttentionForm &form) {
  // Queries are computed once for all keys; keys and values again for every
  // block of queries.
  tryGrow(form, findPrologue(form, form.query, isFoldFree),
          /*wantsCuts=*/false);
  tryGrow(form, findPrologue(form, form.key, isLight), /*wantsCuts=*/false);
  tryGrow(form, findPrologue(form, form.value, isLight), /*wantsCuts=*/false);
  // Masks are read, unless they say which keys need no look at all.
  tryGrow(form, findPrologue(form, form.others, isFoldFree),
          /*wantsCuts=*/true);
}
