// From members to one kernel that is an attention.
#include "AttentionForm.h"

#include "Precision.h"
#include "dlc/Fusion/Compose.h"
#include "dlc/Schedule/AttentionSpec.h"
#include "dlc/Schedule/NestChoice.h"

#include "llvm/ADT/MapVector.h"
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

/// Rows of another tensor at an index from data each, and nothing computed from
/// them.
static bool isGather(const GraphNode &node) {
  if (!node.body || node.body->stages.size() != 1 ||
      node.body->stages.front()->isFold())
    return false;
  unsigned indices = 0;
  for (const Node &n : node.body->stages.front()->nodes) {
    if (!n.guard.empty() || n.kind == Node::Inside || n.kind == Node::Apply)
      return false;
    indices += n.kind == Node::ToIndex;
  }
  return indices == 1;
}

/// A few functions of integers and truths, or one of two numbers by a truth:
/// what masks by position are made of, so that keys may need no look.
static bool isPositionArithmetic(const GraphNode &node) {
  if (!AttentionFormer::isFoldFree(node) || node.body->stages.size() != 1)
    return false;
  const Stage &stage = *node.body->stages.front();
  unsigned functions = 0;
  for (const Node &n : stage.nodes) {
    if (!n.guard.empty() || n.kind == Node::Inside)
      return false;
    functions += n.kind == Node::Apply;
    bool isChoice =
        n.kind == Node::Apply &&
        static_cast<graph::ScalarFn>(n.fn) == graph::ScalarFn::select &&
        stage.nodes[n.args[1]].kind == Node::Literal &&
        stage.nodes[n.args[2]].kind == Node::Literal;
    if (!n.type.isInteger() && n.kind != Node::Literal && !isChoice)
      return false;
  }
  return functions <= 4;
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
AttentionFormer::tryForm(std::vector<unsigned> members,
                         std::vector<unsigned> clones, std::string &reason) {
  AttentionForm form;
  Group &group = form.group;
  group.members = std::move(members);
  group.clones = std::move(clones);
  std::vector<unsigned> nodes = getNodes(group);
  for (unsigned m : nodes)
    if (!graph.nodes[m].body) {
      reason = "form: " + graph.describe({m}) + " has no expression";
      return std::nullopt;
    }
  Body together;
  for (unsigned m : group.members)
    llvm::append_range(together.stages, graph.nodes[m].body->stages);
  group.outputs = getOutputs(graph, together, group.members);
  auto body = composeAll(nodes, group.outputs, reason);
  if (!body)
    return std::nullopt;
  group.body = std::move(body);
  Location loc = graph.main.getLoc();
  graph::KernelOp kernel = emitKernel(graph, group, loc);
  auto spec = classifyAttention(kernel, reason);
  // The same by laws, as long as it stays one.
  std::vector<graph::Law> laws = policy.attentionLaws(
      narrowTypeOf(*group.body, group.outputs, graph.tensors));
  std::optional<Body> by =
      succeeded(spec) && !laws.empty()
          ? applyPrecision(*group.body, group.outputs, laws, graph.tensors)
          : std::nullopt;
  if (by) {
    std::swap(*group.body, *by);
    graph::KernelOp other = emitKernel(graph, group, loc);
    std::string why;
    auto otherSpec = classifyAttention(other, why);
    if (succeeded(otherSpec) && bestNest(other).nest == "attention") {
      std::swap(kernel, other);
      spec = std::move(otherSpec);
      group.laws = std::move(laws);
    } else {
      std::swap(*group.body, *by);
    }
    other.erase();
  }
  std::vector<TensorId> operands = getOperands(graph, group);
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

double AttentionFormer::pointsOf(TensorId tensor) const {
  double points = 1;
  for (AffineExpr size : graph::getDims(graph.tensors.typeOf(tensor)))
    points *= static_cast<double>(
        std::max<int64_t>(1, graph::evaluate(size, graph.typicalSizes)));
  return points;
}

// What another kernel does on the way: a product's bias, the root of a row's
// mean square. Repeated for every element of the row here, it is not there.
bool AttentionFormer::belongsBefore(unsigned node, TensorId result,
                                    double points) const {
  const GraphNode &n = graph.nodes[node];
  if (n.op->getNumResults() != 1)
    return true;
  std::vector<TensorId> operands = n.body->operands();
  if (operands.empty()) // positions
    return false;
  if (pointsOf(result) * 4 < points)
    return true;
  return isEpilogue(node);
}

// Functions of a sum of products, one after the other, that nothing else reads
// on the way: its own kernel applies them for nothing.
bool AttentionFormer::isEpilogue(unsigned node, unsigned depth) const {
  const GraphNode &n = graph.nodes[node];
  auto applies = [](const StageRef &stage) {
    return llvm::any_of(stage->nodes, [](const Node &x) {
      return x.kind == Node::Apply || x.kind == Node::Cast;
    });
  };
  if (!n.body || depth > 8 || llvm::none_of(n.body->stages, applies))
    return false;
  return llvm::any_of(n.body->operands(), [&](TensorId operand) {
    auto it = producers.find(graph.tensors.baseOf(operand));
    if (it == producers.end() || singleReader(it->second) != node)
      return false;
    const GraphNode &producer = graph.nodes[it->second];
    return (producer.body && llvm::any_of(producer.body->stages,
                                          [](const StageRef &stage) {
                                            return isContraction(*stage);
                                          })) ||
           (isFoldFree(producer) && isEpilogue(it->second, depth + 1));
  });
}

std::vector<unsigned> AttentionFormer::findPrologue(
    const AttentionForm &form, ArrayRef<TensorId> tensors,
    bool (*accepts)(const GraphNode &), bool clones) const {
  llvm::SmallSetVector<unsigned, 16> more;
  SmallVector<TensorId> wanted(tensors);
  double points = 0;
  for (TensorId tensor : tensors)
    points = std::max(points, pointsOf(tensor));
  // A node is added once all of its readers are: the last of them finds it.
  for (bool changed = true; std::exchange(changed, false);)
    for (size_t i = 0; i < wanted.size(); ++i) {
      auto it = producers.find(graph.tensors.baseOf(wanted[i]));
      if (it == producers.end() || more.contains(it->second))
        continue;
      unsigned node = it->second;
      bool isPosition = clones && isPositionArithmetic(graph.nodes[node]);
      if (!accepts(graph.nodes[node]) ||
          (!isPosition && belongsBefore(node, it->first, points)))
        continue;
      if (!clones && isReadOutside(node, form, more.getArrayRef()))
        continue;
      more.insert(node);
      for (TensorId operand : graph.nodes[node].body->operands())
        wanted.push_back(operand);
      changed = true;
    }
  return {more.begin(), more.end()};
}

// Numbers of few bits and their scales: to read these and to unpack them again
// for every block of queries costs less than to write and read what they are.
std::vector<unsigned> AttentionFormer::findUnpacking(const AttentionForm &form,
                                                     TensorId tensor) const {
  llvm::SmallSetVector<unsigned, 16> nodes;
  llvm::MapVector<TensorId, double> read; // and how many elements
  read[tensor] = pointsOf(tensor);
  for (bool changed = true; std::exchange(changed, false);)
    for (auto [operand, points] : llvm::to_vector(read)) {
      auto it = producers.find(graph.tensors.baseOf(operand));
      if (it == producers.end() || nodes.contains(it->second) ||
          !isFoldFree(graph.nodes[it->second]) ||
          isReadOutside(it->second, form, nodes.getArrayRef()))
        continue;
      nodes.insert(it->second);
      read.erase(operand);
      for (TensorId next : graph.nodes[it->second].body->operands())
        read[next] = std::min(pointsOf(next), points);
      changed = true;
    }
  double bytes = 0, most = 0;
  Type codes;
  for (auto [operand, points] : read) {
    Type element = graph.tensors.typeOf(operand).getElementType();
    bytes += points * graph::elementBytes(element);
    if (points > most) {
      most = points;
      codes = element;
    }
  }
  double unpacked =
      most * graph::elementBytes(graph.tensors.typeOf(tensor).getElementType());
  if (!isa_and_nonnull<IntegerType>(codes) || 1.5 * bytes > unpacked)
    return {};
  return {nodes.begin(), nodes.end()};
}

// A cache in pages: to gather its rows writes and reads again all that are in
// use. What leads to the gather are views.
std::vector<unsigned> AttentionFormer::findPages(const AttentionForm &form,
                                                 TensorId tensor) const {
  std::vector<unsigned> nodes;
  bool gathers = false;
  while (!gathers) {
    auto it = producers.find(graph.tensors.baseOf(tensor));
    if (it == producers.end())
      return {};
    const GraphNode &node = graph.nodes[it->second];
    gathers = isGather(node);
    if ((!gathers && !isLight(node)) || isReadOutside(it->second, form, nodes))
      return {};
    nodes.push_back(it->second);
    if (!gathers)
      tensor = node.body->operands().front();
  }
  return nodes;
}

bool AttentionFormer::isReadOutside(unsigned node, const AttentionForm &form,
                                    ArrayRef<unsigned> more) const {
  return llvm::any_of(graph.nodes[node].op->getResults(), [&](Value result) {
    const TensorUse &use = graph.usesOf(graph.tensors.get(result));
    return use.escapes || llvm::any_of(use.readers, [&](unsigned r) {
             return !llvm::is_contained(more, r) &&
                    !llvm::binary_search(form.group.members, r);
           });
  });
}

void AttentionFormer::tryGrow(AttentionForm &form, ArrayRef<unsigned> more,
                              bool wantsCuts, std::string *refused) {
  if (more.empty())
    return;
  // What is read elsewhere stays there and is computed here too; so does what
  // that is computed from.
  SmallVector<unsigned> own(more);
  for (bool changed = true; std::exchange(changed, false);)
    for (unsigned node : SmallVector<unsigned>(own))
      if (isReadOutside(node, form, own)) {
        llvm::erase(own, node);
        changed = true;
      }
  std::vector<unsigned> members = form.group.members,
                        clones = form.group.clones;
  for (unsigned node : more)
    (llvm::is_contained(own, node) ? members : clones).push_back(node);
  llvm::sort(members);
  llvm::sort(clones);
  std::string why;
  auto larger = tryForm(std::move(members), std::move(clones), why);
  if (refused && larger && !larger->isTaken && form.isTaken)
    *refused = larger->reason;
  if (larger && (larger->isTaken || !form.isTaken) &&
      (!wantsCuts || larger->cuts > form.cuts))
    form = std::move(*larger);
}

void AttentionFormer::grow(AttentionForm &form) {
  // Queries are computed once for all keys; keys and values again for every
  // block of queries. Heads that are repeated are so for both, or neither.
  tryGrow(form, findPrologue(form, form.query, isFoldFree),
          /*wantsCuts=*/false);
  std::vector<TensorId> both = form.key;
  llvm::append_range(both, form.value);
  std::vector<unsigned> paging;
  for (TensorId tensor : both)
    for (unsigned node : findPages(form, tensor))
      if (!llvm::is_contained(paging, node))
        paging.push_back(node);
  std::string noPages;
  tryGrow(form, paging, /*wantsCuts=*/false, &noPages);
  both = form.key;
  llvm::append_range(both, form.value);
  std::vector<unsigned> unpacking;
  for (TensorId tensor : both)
    for (unsigned node : findUnpacking(form, tensor))
      if (!llvm::is_contained(unpacking, node))
        unpacking.push_back(node);
  tryGrow(form, unpacking, /*wantsCuts=*/false);
  both = form.key;
  llvm::append_range(both, form.value);
  tryGrow(form, findPrologue(form, both, isLight), /*wantsCuts=*/false);
  // Masks are read, unless they say which keys need no look at all.
  tryGrow(form, findPrologue(form, form.others, isFoldFree, /*clones=*/true),
          /*wantsCuts=*/true);
  if (form.isTaken)
    form.reason = noPages;
}
