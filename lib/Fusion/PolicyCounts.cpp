// Sizes, points and work of stages, as the nests compute them.
#include "PolicyCounts.h"

#include "dlc/Schedule/NarrowNumbers.h"

#include <algorithm>

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;
using graph::ScalarFn;

double fusion::sizeOf(AffineExpr extent, ArrayRef<int64_t> symbols) {
  if (auto n = graph::constantValue(extent))
    return static_cast<double>(*n);
  return static_cast<double>(
      std::max<int64_t>(1, graph::evaluate(extent, symbols)));
}
double fusion::pointsOf(ArrayRef<AffineExpr> extents,
                        ArrayRef<int64_t> symbols) {
  double points = 1;
  for (AffineExpr e : extents)
    points *= sizeOf(e, symbols);
  return points;
}
double fusion::bytesOf(RankedTensorType type, ArrayRef<int64_t> symbols) {
  return pointsOf(graph::getDims(type), symbols) *
         static_cast<double>(graph::elementBytes(type.getElementType()));
}

double fusion::weightOf(const Node &node) {
  if (node.kind == Node::Load || node.kind == Node::Cast ||
      node.kind == Node::Inside)
    return 1;
  if (node.kind == Node::ToIndex)
    return 2;
  if (node.kind != Node::Apply)
    return 0;
  switch (static_cast<ScalarFn>(node.fn)) {
  case ScalarFn::exp:
  case ScalarFn::log:
  case ScalarFn::log1p:
  case ScalarFn::expm1:
  case ScalarFn::tanh:
  case ScalarFn::erf:
    return 16;
  case ScalarFn::sin:
  case ScalarFn::cos:
  case ScalarFn::pow:
    return 32;
  case ScalarFn::div:
  case ScalarFn::sqrt:
  case ScalarFn::rsqrt:
    return 5;
  case ScalarFn::mod:
  case ScalarFn::rem:
    return 8;
  default: // what libm does, once a lane
    return (node.fn >= 8 && node.fn < 18) ? 64 : 1;
  }
}

std::vector<int> fusion::innermostAxes(const Stage &stage) {
  std::vector<int> axes(stage.nodes.size(), -1);
  for (auto [i, node] : llvm::enumerate(stage.nodes)) {
    auto visit = [&](AffineExpr e) {
      e.walk([&](AffineExpr x) {
        auto dim = dyn_cast<AffineDimExpr>(x);
        if (!dim)
          return;
        unsigned position = dim.getPosition();
        axes[i] = std::max(axes[i], position >= kDataDim
                                        ? axes[position - kDataDim]
                                        : static_cast<int>(position));
      });
    };
    if (node.kind != Node::ToIndex)
      llvm::for_each(node.index, visit);
    llvm::for_each(node.guard, visit);
    for (unsigned arg : node.args)
      axes[i] = std::max(axes[i], axes[arg]);
  }
  return axes;
}

/// Whether a load reads a tensor of the stage's shape at the stage's point.
static bool readsOwnPoint(const Node &node, const Stage &stage,
                          const TensorTable &tensors) {
  if (graph::getDims(tensors.typeOf(node.tensor)) !=
      ArrayRef<AffineExpr>(stage.domain))
    return false;
  for (auto [i, at] : llvm::enumerate(node.index)) {
    auto dim = dyn_cast<AffineDimExpr>(at);
    if (!(dim && dim.getPosition() == i) &&
        graph::constantValue(stage.domain[i]) != 1)
      return false;
  }
  return true;
}

/// In how many parts the nests cut the innermost axis, where guards change.
static double countParts(const Stage &stage, unsigned axis) {
  llvm::SmallDenseSet<AffineExpr, 4> edges; // both sides of one are two guards
  for (const Node &node : stage.nodes)
    for (AffineExpr e : node.guard)
      if (e.isFunctionOfDim(axis))
        edges.insert(e);
  return 1 + edges.size() / 2;
}

double fusion::innermostRun(const Stage &stage, const TensorTable &tensors,
                            ArrayRef<int64_t> symbols, double enough) {
  std::vector<unsigned> axes; // wide ones, the last first
  for (unsigned i = stage.domain.size(); i-- > 0;)
    if (graph::constantValue(stage.domain[i]) != 1)
      axes.push_back(i);
  if (axes.empty())
    return 1;
  double run =
      sizeOf(stage.domain[axes[0]], symbols) / countParts(stage, axes[0]);
  if (run >= enough)
    return run;
  IndexMath math(stage.type.getContext(), stage.domain);
  std::vector<Poly> addresses;
  for (const Node &node : stage.nodes)
    if (node.kind == Node::Load && !readsOwnPoint(node, stage, tensors))
      addresses.push_back(math.flatten(
          node.index, graph::getDims(tensors.typeOf(node.tensor))));
  bool hasGuards = llvm::any_of(
      stage.nodes, [](const Node &node) { return !node.guard.empty(); });
  auto continues = [&](unsigned outer, unsigned inner) {
    Poly extent = math.toPoly(stage.domain[inner]);
    return llvm::all_of(addresses, [&](const Poly &address) {
      auto x = IndexMath::coefficient(address, outer),
           y = IndexMath::coefficient(address, inner);
      return x && y && *x == *y * extent;
    });
  };
  for (size_t i = 1; i < axes.size() && run < enough && !hasGuards &&
                     continues(axes[i], axes[i - 1]);
       ++i)
    run *= sizeOf(stage.domain[axes[i]], symbols);
  return run;
}

bool fusion::isNarrowFactor(const Stage &stage, unsigned id, unsigned inner) {
  const Node *node = &stage.nodes[id];
  bool isShifted = node->kind == Node::Apply &&
                   static_cast<ScalarFn>(node->fn) == ScalarFn::sub;
  if (isShifted) {
    if (innermostAxes(stage)[node->args[1]] >= static_cast<int>(inner))
      return false;
    node = &stage.nodes[node->args[0]];
  }
  if (node->kind != Node::Cast)
    return false;
  const Node &narrow = stage.nodes[node->args[0]];
  if (narrow.kind != Node::Load)
    return false;
  return isWidening(narrow.type, node->type, isShifted);
}

/// The nodes that `id` is computed from; empty when one is not a number at the
/// factor's own point: under a guard, at an index from data, a coordinate.
static std::vector<unsigned> expressionOf(const Stage &stage, unsigned id) {
  std::vector<unsigned> nodes{id};
  for (size_t i = 0; i < nodes.size(); ++i) {
    const Node &node = stage.nodes[nodes[i]];
    bool isPlain = node.kind == Node::Load || node.kind == Node::Apply ||
                   node.kind == Node::Cast || node.kind == Node::Literal;
    if (!isPlain || !node.guard.empty())
      return {};
    bool usesData = false;
    node.forEachData([&](unsigned) { usesData = true; });
    if (usesData)
      return {};
    for (unsigned arg : node.args)
      if (!llvm::is_contained(nodes, arg))
        nodes.push_back(arg);
  }
  return nodes;
}

bool fusion::isDequantized(const Stage &stage, unsigned id) {
  const Node &root = stage.nodes[id];
  std::vector<unsigned> nodes = expressionOf(stage, id);
  return root.kind == Node::Apply && isa<FloatType>(root.type) &&
         nodes.size() <= 16 && llvm::any_of(nodes, [&](unsigned n) {
           const Node &node = stage.nodes[n];
           return node.kind == Node::Load && isByte(node.type);
         });
}

/// The nodes that widen a factor of a contraction: they are computed once an
/// element, or not at all, not once a product.
static std::vector<bool> wideningNodes(const Stage &stage) {
  std::vector<bool> widens(stage.nodes.size());
  if (!isContraction(stage))
    return widens;
  for (unsigned factor : stage.nodes[stage.root].args) {
    if (isDequantized(stage, factor)) {
      bool isFirst = true; // load: every factor has one
      for (unsigned n : expressionOf(stage, factor)) {
        widens[n] = stage.nodes[n].kind != Node::Load || !isFirst;
        isFirst &= stage.nodes[n].kind != Node::Load;
      }
      continue;
    }
    if (!isNarrowFactor(stage, factor, stage.domain.size()))
      continue;
    widens[factor] = true;
    const Node &node = stage.nodes[factor];
    if (node.kind == Node::Apply) {
      widens[node.args[0]] = true;
      widens[node.args[1]] = true;
    }
  }
  return widens;
}

// The nest of a contraction computes what one factor needs as it fills it: at
// the points of the axes it moves along.
static double contractionWork(const Stage &stage, ArrayRef<int64_t> symbols) {
  SmallVector<AffineExpr> extents = stage.extents();
  std::vector<llvm::SmallBitVector> axes(stage.nodes.size());
  std::vector<bool> widens = wideningNodes(stage);
  double work = pointsOf(extents, symbols);
  for (auto [i, node] : llvm::enumerate(stage.nodes)) {
    axes[i].resize(extents.size());
    auto visit = [&](AffineExpr e) {
      e.walk([&](AffineExpr x) {
        auto dim = dyn_cast<AffineDimExpr>(x);
        if (dim && dim.getPosition() < extents.size())
          axes[i].set(dim.getPosition());
      });
    };
    llvm::for_each(node.index, visit);
    llvm::for_each(node.guard, visit);
    node.forEachData([&](unsigned data) { axes[i] |= axes[data]; });
    for (unsigned arg : node.args)
      axes[i] |= axes[arg];
    double points = 1;
    for (unsigned axis : axes[i].set_bits())
      points *= sizeOf(extents[axis], symbols);
    if (!widens[i])
      work += weightOf(node) * points;
  }
  return work;
}

static double workAtPoints(const Stage &stage, ArrayRef<int64_t> symbols) {
  if (isContraction(stage))
    return contractionWork(stage, symbols);
  SmallVector<double> prefix{1};
  for (AffineExpr e : stage.extents())
    prefix.push_back(prefix.back() * sizeOf(e, symbols));
  std::vector<int> axes = innermostAxes(stage);
  std::vector<bool> widens = wideningNodes(stage);
  double work = stage.isFold() ? prefix.back() : 0;
  for (auto [i, node] : llvm::enumerate(stage.nodes))
    if (!widens[i])
      work += weightOf(node) * prefix[axes[i] + 1];
  return work;
}

double fusion::workOf(const Stage &stage, ArrayRef<int64_t> symbols) {
  if (stage.work < 0)
    stage.work = workAtPoints(stage, symbols);
  return stage.work;
}
