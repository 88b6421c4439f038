// Reading stages into LoopExpr. A stage that is inlined is read in a scope of
// its own, where its coordinates are the expressions it is loaded at; its
// reduce axes become new dims, so that two inlined copies never share one.
#include "dlc/Codegen/CPU/LoopExpr.h"

#include "mlir/IR/IntegerSet.h"

using namespace mlir;
using namespace dlc;
using graph::StageOp;

namespace {
class Reader {
public:
  Reader(LoopExpr &expr,
         llvm::function_ref<std::optional<unsigned>(Value)> bufferOf,
         unsigned firstRowBuffer, unsigned rowRank)
      : expr(expr), bufferOf(bufferOf), firstRowBuffer(firstRowBuffer),
        rowRank(rowRank) {}

  unsigned readStage(StageOp stage, ArrayRef<AffineExpr> domain);

private:
  struct Scope {
    llvm::DenseMap<Value, AffineExpr> coords;
    llvm::DenseMap<Value, unsigned> nodes; // scalar value -> node
  };
  unsigned read(Value value, Scope &scope);
  unsigned readLoad(graph::LoadOp load, Scope &scope);
  unsigned add(LoopNode node) {
    expr.nodes.push_back(std::move(node));
    return expr.nodes.size() - 1;
  }
  unsigned newDim(AffineExpr extent) {
    expr.extents.push_back(extent);
    return expr.extents.size() - 1;
  }
  AffineExpr dim(unsigned i) { return getAffineDimExpr(i, expr.context); }
  SmallVector<AffineExpr> coordsOf(ValueRange values, Scope &scope,
                                   SmallVectorImpl<unsigned> &data);

  LoopExpr &expr;
  llvm::function_ref<std::optional<unsigned>(Value)> bufferOf;
  unsigned firstRowBuffer;
  unsigned rowRank;
};
} // namespace

SmallVector<AffineExpr> Reader::coordsOf(ValueRange values, Scope &scope,
                                         SmallVectorImpl<unsigned> &data) {
  SmallVector<AffineExpr> result;
  for (Value v : values) {
    if (v.getDefiningOp<graph::ToIndexOp>()) {
      unsigned node = read(v, scope);
      data.push_back(node);
      result.push_back(dim(expr.nodes[node].dim));
      continue;
    }
    result.push_back(scope.coords.lookup(v));
  }
  return result;
}

/// Row-major address of `index` in a tensor of `type`.
static IndexPoly flatten(ArrayRef<AffineExpr> index, Type type,
                         ArrayRef<AffineExpr> extents, unsigned rowRank) {
  IndexPoly address;
  SmallVector<AffineExpr> sizes = graph::getDims(type);
  for (auto [i, size] : llvm::drop_begin(llvm::zip(index, sizes), rowRank))
    address = address * IndexPoly::get(size) + IndexPoly::get(i, extents);
  // Digits of a reshape meet their place values only in the whole sum.
  return IndexPoly::get(address.toExpr(type.getContext()), extents);
}

unsigned Reader::readLoad(graph::LoadOp load, Scope &scope) {
  SmallVector<unsigned> data;
  SmallVector<AffineExpr> coords = coordsOf(load.getCoords(), scope, data);
  SmallVector<AffineExpr> index;
  for (AffineExpr e : load.getMap().getResults())
    index.push_back(e.replaceDims(coords));
  std::optional<unsigned> buffer = bufferOf(load.getTensor());
  if (!buffer)
    return readStage(load.getTensor().getDefiningOp<StageOp>(), index);
  LoopNode node;
  node.kind = LoopNode::Load;
  node.type = load.getType();
  node.buffer = *buffer;
  node.index = flatten(index, load.getTensor().getType(), expr.extents,
                       *buffer >= firstRowBuffer ? rowRank : 0);
  if (auto guard = load.getGuard()) {
    for (auto [constraint, isEquality] :
         llvm::zip(guard->getConstraints(), guard->getEqFlags()))
      node.guards.push_back(
          {IndexPoly::get(constraint.replaceDims(coords), expr.extents),
           isEquality});
    // What holds everywhere is no guard.
    llvm::erase_if(node.guards, [](const LoopGuard &g) {
      return g.isEquality ? g.expr.isZero() : g.expr.isNonNegative();
    });
    if (!node.guards.empty())
      node.args.push_back(read(load.getOther(), scope));
  }
  for (unsigned d : data)
    if (node.index.dependsOnDim(expr.nodes[d].dim) ||
        llvm::any_of(node.guards, [&](const LoopGuard &g) {
          return g.expr.dependsOnDim(expr.nodes[d].dim);
        }))
      node.data.push_back(d);
  return add(node);
}

unsigned Reader::read(Value value, Scope &scope) {
  if (auto it = scope.nodes.find(value); it != scope.nodes.end())
    return it->second;
  LoopNode node;
  node.type = value.getType();
  unsigned result;
  Operation *op = value.getDefiningOp();
  if (auto load = dyn_cast<graph::LoadOp>(op)) {
    result = readLoad(load, scope);
  } else if (auto apply = dyn_cast<graph::ApplyOp>(op)) {
    node.kind = LoopNode::Apply;
    node.fn = apply.getFn();
    for (Value arg : apply.getArgs())
      node.args.push_back(read(arg, scope));
    result = add(node);
  } else if (auto cast = dyn_cast<graph::CastOp>(op)) {
    node.kind = LoopNode::Cast;
    node.saturate = cast.getSaturate();
    node.args.push_back(read(cast.getValue(), scope));
    result = add(node);
  } else if (auto literal = dyn_cast<graph::LiteralOp>(op)) {
    node.kind = LoopNode::Literal;
    node.attr = literal.getValueAttr();
    result = add(node);
  } else if (auto coord = dyn_cast<graph::CoordOp>(op)) {
    node.kind = LoopNode::Coord;
    SmallVector<unsigned> data;
    SmallVector<AffineExpr> coords = coordsOf(coord.getCoords(), scope, data);
    node.index = IndexPoly::get(coord.getMap().getResult(0).replaceDims(coords),
                                expr.extents);
    for (unsigned d : data)
      if (node.index.dependsOnDim(expr.nodes[d].dim))
        node.data.push_back(d);
    result = add(node);
  } else {
    auto toIndex = llvm::cast<graph::ToIndexOp>(op);
    node.kind = LoopNode::ToIndex;
    node.args.push_back(read(toIndex.getValue(), scope));
    node.index = IndexPoly::get(toIndex.getSize().getDims()[0]);
    node.dim = newDim(AffineExpr());
    result = add(node);
  }
  scope.nodes[value] = result;
  return result;
}

unsigned Reader::readStage(StageOp stage, ArrayRef<AffineExpr> domain) {
  Scope scope;
  LoopNode fold;
  for (auto [i, arg] : llvm::enumerate(stage.getBlock()->getArguments())) {
    if (i < domain.size()) {
      scope.coords[arg] = domain[i];
      continue;
    }
    unsigned axis = newDim(stage.getReduceDims()[i - domain.size()]);
    fold.axes.push_back(axis);
    scope.coords[arg] = dim(axis);
  }
  unsigned body = read(stage.getYielded(), scope);
  if (stage.getFoldKind() == graph::FoldKind::none)
    return body;
  fold.kind = LoopNode::Fold;
  fold.type = stage.getElementType();
  fold.fold = stage.getFoldKind();
  fold.attr = stage.getInitAttr();
  fold.args.push_back(body);
  return add(fold);
}

/// Fills `needs`; operands come before their users.
static void computeNeeds(LoopExpr &expr) {
  unsigned dims = expr.extents.size();
  auto addPoly = [&](llvm::SmallBitVector &bits, const IndexPoly &poly) {
    for (unsigned d = 0; d < dims; ++d)
      if (expr.extents[d] && poly.dependsOnDim(d))
        bits.set(d);
  };
  for (LoopNode &node : expr.nodes) {
    node.needs.clear();
    node.needs.resize(dims);
    for (unsigned arg : node.args)
      node.needs |= expr.nodes[arg].needs;
    for (unsigned data : node.data)
      node.needs |= expr.nodes[data].needs;
    addPoly(node.needs, node.index);
    for (const LoopGuard &guard : node.guards)
      addPoly(node.needs, guard.expr);
    for (unsigned axis : node.axes)
      node.needs.reset(axis);
  }
}

LoopExpr
LoopExpr::build(StageOp stage, unsigned resultBuffer,
                llvm::function_ref<std::optional<unsigned>(Value)> bufferOf,
                unsigned firstRowBuffer, unsigned rowRank) {
  LoopExpr expr;
  expr.context = stage.getContext();
  expr.resultBuffer = resultBuffer;
  expr.resultType = stage.getElementType();
  expr.extents.assign(stage.getDomainDims().begin(),
                      stage.getDomainDims().end());
  SmallVector<AffineExpr> domain;
  for (unsigned i = 0; i < expr.extents.size(); ++i) {
    domain.push_back(getAffineDimExpr(i, expr.context));
    if (graph::constantValue(expr.extents[i]) != 1)
      expr.domain.push_back(i);
  }
  expr.store = flatten(domain, stage.getResult().getType(), expr.extents,
                       resultBuffer >= firstRowBuffer ? rowRank : 0);
  expr.root =
      Reader(expr, bufferOf, firstRowBuffer, rowRank).readStage(stage, domain);
  // A reduce axis of one element is no loop (its coordinate is 0 everywhere).
  for (LoopNode &node : expr.nodes)
    llvm::erase_if(node.axes, [&](unsigned axis) {
      return graph::constantValue(expr.extents[axis]) == 1;
    });
  computeNeeds(expr);
  return expr;
}

//===----------------------------------------------------------------------===//
// Merging axes
//===----------------------------------------------------------------------===//

/// Every polynomial of the expression.
static SmallVector<IndexPoly *> polynomials(LoopExpr &expr) {
  SmallVector<IndexPoly *> result{&expr.store};
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

void LoopExpr::splitAxes(unsigned keep) {
  for (size_t i = 0; i < domain.size(); ++i) {
    unsigned axis = domain[i];
    int64_t divisor = axis < keep ? 0 : divisorOf(*this, axis);
    auto extent = graph::constantValue(extents[axis]);
    if (divisor < 2 || divisor > maxSplit || !extent ||
        *extent % divisor != 0 || *extent == divisor)
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
    computeNeeds(*this);
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
  for (LoopNode &node : nodes)
    // The position of an arg fold is the coordinate on its single axis.
    if (node.kind == LoopNode::Fold && node.fold < graph::FoldKind::argmax)
      mergeList(*this, node.axes, 0);
  computeNeeds(*this);
}

/// Whether combining `attr` with anything of `fold` gives the other.
static bool isNeutral(graph::FoldKind fold, TypedAttr attr) {
  using graph::FoldKind;
  if (auto f = dyn_cast<FloatAttr>(attr)) {
    APFloat value = f.getValue();
    return fold == FoldKind::add   ? value.isZero()
           : fold == FoldKind::max ? value.isInfinity() && value.isNegative()
           : fold == FoldKind::min ? value.isInfinity() && !value.isNegative()
                                   : false;
  }
  APInt value = cast<IntegerAttr>(attr).getValue();
  bool isUnsigned = graph::isUnsigned(attr.getType());
  switch (fold) {
  case FoldKind::add:
  case FoldKind::bit_or:
    return value.isZero();
  case FoldKind::max:
    return isUnsigned ? value.isMinValue() : value.isMinSignedValue();
  case FoldKind::min:
    return isUnsigned ? value.isMaxValue() : value.isMaxSignedValue();
  default:
    return false;
  }
}

std::optional<unsigned> LoopExpr::skippableLoad(const LoopNode &fold,
                                                bool strict) const {
  if (fold.kind != LoopNode::Fold)
    return std::nullopt;
  // The load whose replacement is neutral, through conversions that keep it so.
  auto find = [&](unsigned id) -> std::optional<unsigned> {
    bool isSum = fold.fold == graph::FoldKind::add;
    while (nodes[id].kind == LoopNode::Cast && isSum)
      id = nodes[id].args[0];
    const LoopNode &node = nodes[id];
    if (node.kind != LoopNode::Load || node.guards.empty())
      return std::nullopt;
    const LoopNode &other = nodes[node.args[0]];
    if (other.kind != LoopNode::Literal || !isNeutral(fold.fold, other.attr))
      return std::nullopt;
    return id;
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
