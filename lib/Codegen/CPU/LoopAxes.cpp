// What an expression's axes may be made of: neighbours that are walked as one
// are merged, quotients are split off, folds leave out steps that a guard makes
// empty, and folds over prefixes are one pass over their axis.
#include "dlc/Codegen/CPU/LoopExpr.h"

#include "dlc/Schedule/ShortRuns.h"

using namespace mlir;
using namespace dlc;

// Operands come before their users.
void LoopExpr::computeNeeds() {
  unsigned dims = extents.size();
  auto addPoly = [&](llvm::SmallBitVector &bits, const IndexPoly &poly) {
    for (unsigned d = 0; d < dims; ++d)
      if (extents[d] && poly.dependsOnDim(d))
        bits.set(d);
  };
  for (LoopNode &node : nodes) {
    node.needs.clear();
    node.needs.resize(dims);
    for (unsigned arg : node.args)
      node.needs |= nodes[arg].needs;
    for (unsigned data : node.data)
      node.needs |= nodes[data].needs;
    addPoly(node.needs, node.index);
    for (const LoopGuard &guard : node.guards)
      addPoly(node.needs, guard.expr);
    for (unsigned axis : node.axes)
      node.needs.reset(axis);
  }
}

//===----------------------------------------------------------------------===//
// Merging axes
//===----------------------------------------------------------------------===//

/// Every polynomial of the expression.
static SmallVector<IndexPoly *> polynomials(LoopExpr &expr) {
  SmallVector<IndexPoly *> result;
  for (LoopNode &node : expr.nodes) {
    result.push_back(&node.index);
    for (LoopGuard &guard : node.guards)
      result.push_back(&guard.expr);
  }
  return result;
}

// Axes are split by at most this: each remainder is a copy of the code.
static constexpr int64_t maxSplit = 4;

/// The constant by which quotients over `dim` divide; 0 if there is none or
/// more than one.
static int64_t divisorOf(LoopExpr &expr, unsigned dim) {
  int64_t divisor = 0;
  for (IndexPoly *poly : polynomials(expr))
    for (auto &[monomial, factor] : poly->terms)
      for (AffineExpr atom : monomial) {
        auto binary = dyn_cast<AffineBinaryOpExpr>(atom);
        if (!binary || !atom.isFunctionOfDim(dim))
          continue;
        auto by = graph::constantValue(binary.getRHS());
        auto inside = IndexPoly::get(binary.getLHS()).coefficient(dim);
        auto step = inside ? inside->constant() : std::nullopt;
        if (!by || !step || std::abs(*step) != 1 || (divisor && divisor != *by))
          return 0;
        divisor = *by;
      }
  return divisor;
}

bool LoopExpr::hasShortRuns(unsigned dim) const {
  bool found = false;
  for (const LoopNode &node : nodes) {
    if (llvm::any_of(node.guards, [&](const LoopGuard &guard) {
          return guard.expr.dependsOnDim(dim);
        }))
      return false;
    if (!node.index.dependsOnDim(dim))
      continue;
    auto run = findShortRun(node.index, dim);
    auto step = node.index.coefficient(dim);
    if (run ? node.kind != LoopNode::Load : !step || step->constant() != 1)
      return false;
    found |= run.has_value();
  }
  return found;
}

void LoopExpr::splitAxes(unsigned keep) {
  for (size_t i = 0; i < domain.size(); ++i) {
    unsigned axis = domain[i];
    int64_t divisor = axis < keep ? 0 : divisorOf(*this, axis);
    auto extent = graph::constantValue(extents[axis]);
    if (divisor < 2 || divisor > maxSplit || !extent ||
        *extent % divisor != 0 || *extent == divisor ||
        (i + 1 == domain.size() && hasShortRuns(axis)))
      continue;
    unsigned quotient = extents.size(), remainder = quotient + 1;
    extents.push_back(getAffineConstantExpr(*extent / divisor, context));
    extents.push_back(getAffineConstantExpr(divisor, context));
    SmallVector<AffineExpr> replacement(axis + 1);
    replacement[axis] = getAffineDimExpr(quotient, context) * divisor +
                        getAffineDimExpr(remainder, context);
    for (IndexPoly *poly : polynomials(*this))
      if (poly->dependsOnDim(axis))
        *poly = poly->substitute(replacement, context, extents);
    domain[i] = quotient;
    domain.insert(domain.begin() + i + 1, remainder);
    splits.push_back({quotient, remainder});
    ++i;
  }
  if (!splits.empty())
    computeNeeds();
}

/// Replaces (outer, inner) by one axis that is called `inner`, if each
/// polynomial depends on outer * extent(inner) + inner only.
static bool mergePair(LoopExpr &expr, unsigned outer, unsigned inner) {
  IndexPoly extent = IndexPoly::get(expr.extents[inner]);
  SmallVector<IndexPoly *> polys = polynomials(expr);
  for (IndexPoly *poly : polys) {
    auto high = poly->coefficient(outer), low = poly->coefficient(inner);
    if (!high || !low || !(*high == *low * extent))
      return false;
  }
  for (IndexPoly *poly : polys)
    *poly = poly->without(outer);
  expr.extents[inner] =
      (IndexPoly::get(expr.extents[outer]) * extent).toExpr(expr.context);
  expr.extents[outer] = getAffineConstantExpr(1, expr.context);
  return true;
}

static void mergeList(LoopExpr &expr, SmallVectorImpl<unsigned> &axes,
                      unsigned keep) {
  for (size_t i = axes.size(); i-- > 1;)
    if (axes[i - 1] >= keep && mergePair(expr, axes[i - 1], axes[i]))
      axes.erase(axes.begin() + (i - 1));
}

void LoopExpr::mergeAxes(unsigned keep) {
  mergeList(*this, domain, keep);
  for (auto [id, leader] : llvm::enumerate(nodes)) {
    if (leader.kind != LoopNode::Fold || leader.group != id)
      continue;
    SmallVector<LoopNode *> members;
    for (LoopNode &node : nodes)
      if (node.kind == LoopNode::Fold && node.group == id)
        members.push_back(&node);
    // The position of an arg fold is the coordinate on its single axis.
    if (llvm::any_of(members, [](LoopNode *node) {
          return node->fold >= graph::FoldKind::argmax;
        }))
      continue;
    mergeList(*this, leader.axes, 0);
    for (LoopNode *node : members)
      node->axes = leader.axes;
  }
  computeNeeds();
}

void LoopExpr::formScan(unsigned keep) {
  Scan found;
  for (unsigned id : reachable(root)) {
    const LoopNode &node = nodes[id];
    if (node.kind != LoopNode::Fold)
      continue;
    bool isNested = llvm::any_of(reachable(node.args[0]), [&](unsigned inner) {
      return nodes[inner].kind == LoopNode::Fold;
    });
    if (!node.prefix || isNested || node.prefix->axis < keep ||
        !llvm::is_contained(domain, node.prefix->axis))
      return;
    if (!found.folds.empty() && (found.dim != node.prefix->axis ||
                                 found.isReversed != node.prefix->isReversed))
      return;
    found.dim = node.prefix->axis;
    found.isReversed = node.prefix->isReversed;
    found.folds.push_back(id);
  }
  if (found.folds.empty())
    return;
  scan = found;
  if (!found.isReversed)
    return;
  // Steps are called by where they stand: both axes run downwards.
  SmallVector<AffineExpr> replacement(extents.size());
  for (unsigned id : found.folds) {
    unsigned step = nodes[id].axes[0];
    replacement[step] = extents[step] - 1 - getAffineDimExpr(step, context);
  }
  for (IndexPoly *poly : polynomials(*this))
    *poly = poly->substitute(replacement, context, extents);
  computeNeeds();
}

std::optional<unsigned> LoopExpr::skippableLoad(const LoopNode &fold,
                                                bool strict) const {
  if (fold.kind != LoopNode::Fold)
    return std::nullopt;
  // The load (or select) whose replacement is neutral, through conversions that
  // keep it so.
  auto find = [&](unsigned id) -> std::optional<unsigned> {
    bool keepsNeutral =
        fold.fold == graph::FoldKind::add || fold.fold == graph::FoldKind::mul;
    while (nodes[id].kind == LoopNode::Cast && keepsNeutral)
      id = nodes[id].args[0];
    const LoopNode &node = nodes[id];
    bool isSelect = node.kind == LoopNode::Apply &&
                    node.fn == graph::ScalarFn::select &&
                    nodes[node.args[0]].kind == LoopNode::Inside;
    if (!isSelect && (node.kind != LoopNode::Load || node.guards.empty()))
      return std::nullopt;
    const LoopNode &other = nodes[node.args[isSelect ? 2 : 0]];
    if (other.kind != LoopNode::Literal || !isNeutral(fold.fold, other.attr))
      return std::nullopt;
    return isSelect ? node.args[0] : id;
  };
  unsigned body = fold.args[0];
  if (auto load = find(body))
    return load;
  const LoopNode &node = nodes[body];
  bool isExact = !strict || isa<IntegerType>(fold.type);
  if (fold.fold == graph::FoldKind::add && isExact &&
      node.kind == LoopNode::Apply && node.fn == graph::ScalarFn::mul)
    for (unsigned arg : node.args)
      if (auto load = find(arg))
        return load;
  return std::nullopt;
}

bool LoopExpr::isClippable(unsigned load, unsigned guard, unsigned axis) const {
  const LoopNode &node = nodes[load];
  if (node.guards[guard].isEquality)
    return false;
  auto coefficient = node.guards[guard].expr.coefficient(axis);
  auto step = coefficient ? coefficient->constant() : std::nullopt;
  if (!step || *step == 0)
    return false;
  // A quotient of the axis is a constant once its steps are written out.
  return node.index.coefficient(axis) &&
         llvm::all_of(node.guards, [&](const LoopGuard &g) {
           return g.expr.coefficient(axis).has_value();
         });
}

bool LoopExpr::impliesGuards(unsigned node, unsigned other) const {
  return llvm::all_of(nodes[other].guards, [&](const LoopGuard &guard) {
    return llvm::is_contained(nodes[node].guards, guard);
  });
}

std::vector<unsigned> LoopExpr::reachable(unsigned node) const {
  std::vector<bool> seen(nodes.size());
  std::vector<unsigned> result;
  auto visit = [&](auto &&self, unsigned n) -> void {
    if (seen[n])
      return;
    seen[n] = true;
    for (unsigned data : nodes[n].data)
      self(self, data);
    for (unsigned arg : nodes[n].args)
      self(self, arg);
    result.push_back(n);
  };
  visit(visit, node);
  return result;
}
