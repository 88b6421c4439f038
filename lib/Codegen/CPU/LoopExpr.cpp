// Reading stages into LoopExpr. A stage that is inlined is read in a scope of
// its own, where its coordinates are the expressions it is loaded at; its
// reduce axes become new dims, so that two inlined copies never share one.
#include "dlc/Codegen/CPU/LoopExpr.h"

#include "dlc/Dialect/Graph/IR/Placement.h"
#include "mlir/IR/IntegerSet.h"

using namespace mlir;
using namespace dlc;
using graph::StageOp;

namespace {
class Reader {
public:
  Reader(LoopExpr &expr, const LoopSource &source)
      : expr(expr), source(source) {}

  /// The store of an output.
  unsigned readOutput(const LoopOutput &output, ArrayRef<AffineExpr> domain);

private:
  struct Scope {
    llvm::DenseMap<Value, AffineExpr> coords;
    llvm::DenseMap<Value, unsigned> nodes; // scalar value -> node
  };
  /// A stage that has been read at some coordinates.
  struct Known {
    StageOp stage;
    SmallVector<AffineExpr> at;
    unsigned node;
  };
  unsigned read(Value value, Scope &scope);
  unsigned readStage(StageOp stage, ArrayRef<AffineExpr> domain);
  unsigned readNewStage(StageOp stage, ArrayRef<AffineExpr> domain);
  unsigned readLoad(graph::LoadOp load, Scope &scope);
  std::optional<unsigned> joinFold(StageOp stage, ArrayRef<AffineExpr> domain);
  unsigned readFold(StageOp stage, ArrayRef<AffineExpr> domain,
                    ArrayRef<unsigned> axes);
  SmallVector<LoopGuard, 2> guardsOf(IntegerSet set,
                                     ArrayRef<AffineExpr> coords);
  std::optional<SmallVector<LoopGuard, 2>> constraintsOf(Value truth,
                                                         Scope &scope);
  void useData(LoopNode &node);
  unsigned add(LoopNode node) {
    expr.nodes.push_back(std::move(node));
    return expr.nodes.size() - 1;
  }
  unsigned newDim(AffineExpr extent) {
    expr.extents.push_back(extent);
    return expr.extents.size() - 1;
  }
  AffineExpr dim(unsigned i) { return getAffineDimExpr(i, expr.context); }
  SmallVector<AffineExpr> coordsOf(ValueRange values, Scope &scope);
  unsigned rowRankOf(unsigned buffer) {
    return buffer >= source.firstRowBuffer ? source.rowRank : 0;
  }
  unsigned addStore(unsigned value, unsigned buffer, StageOp stage,
                    ArrayRef<AffineExpr> at);

  LoopExpr &expr;
  const LoopSource &source;
  SmallVector<Known> known;
  SmallVector<unsigned> toIndex; ///< the ToIndex nodes
};
} // namespace

SmallVector<AffineExpr> Reader::coordsOf(ValueRange values, Scope &scope) {
  SmallVector<AffineExpr> result;
  for (Value v : values) {
    if (v.getDefiningOp<graph::ToIndexOp>()) {
      unsigned node = read(v, scope);
      result.push_back(dim(expr.nodes[node].dim));
      continue;
    }
    result.push_back(scope.coords.lookup(v));
  }
  return result;
}

/// Row-major address of `index` in `tensor`.
static IndexPoly flatten(ArrayRef<AffineExpr> index, Value tensor,
                         ArrayRef<AffineExpr> extents, unsigned rowRank) {
  IndexPoly address;
  SmallVector<AffineExpr> sizes = graph::getMemoryDims(tensor);
  for (auto [i, size] : llvm::drop_begin(llvm::zip(index, sizes), rowRank))
    address = address * IndexPoly::get(size) + IndexPoly::get(i, extents);
  // Digits of a reshape meet their place values only in the whole sum.
  return IndexPoly::get(address.toExpr(tensor.getContext()), extents);
}

SmallVector<LoopGuard, 2> Reader::guardsOf(IntegerSet set,
                                           ArrayRef<AffineExpr> coords) {
  SmallVector<LoopGuard, 2> guards;
  for (auto [constraint, isEquality] :
       llvm::zip(set.getConstraints(), set.getEqFlags()))
    guards.push_back(
        {IndexPoly::get(constraint.replaceDims(coords), expr.extents),
         isEquality});
  // What holds everywhere is no guard.
  llvm::erase_if(guards, [](const LoopGuard &g) {
    return g.isEquality ? g.expr.isZero() : g.expr.isNonNegative();
  });
  return guards;
}

/// `truth` as a set: comparisons of coordinates with zero, and both of two
/// such.
std::optional<SmallVector<LoopGuard, 2>> Reader::constraintsOf(Value truth,
                                                               Scope &scope) {
  auto apply = truth.getDefiningOp<graph::ApplyOp>();
  if (!apply)
    return std::nullopt;
  if (apply.getFn() == graph::ScalarFn::bit_and) {
    auto both = constraintsOf(apply.getArgs()[0], scope),
         right = constraintsOf(apply.getArgs()[1], scope);
    if (!both || !right)
      return std::nullopt;
    llvm::append_range(*both, *right);
    return both;
  }
  auto coord = apply.getFn() == graph::ScalarFn::ge
                   ? apply.getArgs()[0].getDefiningOp<graph::CoordOp>()
                   : graph::CoordOp();
  auto bound = coord ? apply.getArgs()[1].getDefiningOp<graph::LiteralOp>()
                     : graph::LiteralOp();
  auto number =
      bound ? dyn_cast<IntegerAttr>(bound.getValueAttr()) : IntegerAttr();
  if (!number || !number.getValue().isZero())
    return std::nullopt;
  auto set = IntegerSet::get(coord.getMap().getNumDims(),
                             coord.getMap().getNumSymbols(),
                             coord.getMap().getResult(0), false);
  return guardsOf(set, coordsOf(coord.getCoords(), scope));
}

/// Notes which data coordinates a node depends on: its own, or those at which
/// the stage that it is inlined from is read.
void Reader::useData(LoopNode &node) {
  for (unsigned id : toIndex) {
    unsigned d = expr.nodes[id].dim;
    if (node.index.dependsOnDim(d) ||
        llvm::any_of(node.guards, [&](const LoopGuard &g) {
          return g.expr.dependsOnDim(d);
        }))
      node.data.push_back(id);
  }
}

unsigned Reader::readLoad(graph::LoadOp load, Scope &scope) {
  SmallVector<AffineExpr> coords = coordsOf(load.getCoords(), scope);
  SmallVector<AffineExpr> index;
  for (AffineExpr e : load.getMap().getResults())
    index.push_back(e.replaceDims(coords));
  Value tensor = load.getTensor();
  std::optional<unsigned> buffer = source.bufferOf(tensor);
  auto isOneOf = [&](ArrayRef<LoopOutput> outputs) {
    return llvm::any_of(outputs, [&](const LoopOutput &output) {
      return StageOp(output.stage).getResult() == tensor;
    });
  };
  bool isMerged = source.mergesMoments && // its mean is the block's
                  StageOp(source.outputs.front().stage).getResult() == tensor;
  if (!buffer ||
      (!isMerged && (isOneOf(source.outputs) || isOneOf(source.absorbed))))
    return readStage(tensor.getDefiningOp<StageOp>(), index);
  LoopNode node;
  node.kind = LoopNode::Load;
  node.type = load.getType();
  node.buffer = *buffer;
  node.index = flatten(index, tensor, expr.extents, rowRankOf(*buffer));
  if (auto guard = load.getGuard()) {
    node.guards = guardsOf(*guard, coords);
    if (!node.guards.empty())
      node.args.push_back(read(load.getOther(), scope));
  }
  useData(node);
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
    SmallVector<Value, 3> args(apply.getArgs());
    // A choice between two numbers by where the point lies (the taps of an
    // average that count) is decided for ranges, as guards are.
    if (node.fn == graph::ScalarFn::select &&
        args[1].getDefiningOp<graph::LiteralOp>() &&
        args[2].getDefiningOp<graph::LiteralOp>())
      if (auto guards = constraintsOf(args[0], scope);
          guards && !guards->empty()) {
        LoopNode inside;
        inside.kind = LoopNode::Inside;
        inside.type = args[0].getType();
        inside.guards = std::move(*guards);
        useData(inside);
        node.args.push_back(add(inside));
      }
    for (Value arg : ArrayRef<Value>(args).drop_front(node.args.size()))
      node.args.push_back(read(arg, scope));
    result = add(node);
  } else if (auto cast = dyn_cast<graph::CastOp>(op)) {
    node.kind = LoopNode::Cast;
    node.saturate = cast.getSaturate();
    node.args.push_back(read(cast.getValue(), scope));
    result = add(node);
  } else if (auto inside = dyn_cast<graph::InsideOp>(op)) {
    node.kind = LoopNode::Inside;
    node.guards =
        guardsOf(inside.getSet(), coordsOf(inside.getCoords(), scope));
    useData(node);
    if (node.guards.empty()) { // everywhere
      node.kind = LoopNode::Literal;
      node.attr = BoolAttr::get(expr.context, true);
    }
    result = add(node);
  } else if (auto literal = dyn_cast<graph::LiteralOp>(op)) {
    node.kind = LoopNode::Literal;
    node.attr = literal.getValueAttr();
    result = add(node);
  } else if (auto coord = dyn_cast<graph::CoordOp>(op)) {
    node.kind = LoopNode::Coord;
    SmallVector<AffineExpr> coords = coordsOf(coord.getCoords(), scope);
    node.index = IndexPoly::get(coord.getMap().getResult(0).replaceDims(coords),
                                expr.extents);
    useData(node);
    result = add(node);
  } else {
    auto checked = llvm::cast<graph::ToIndexOp>(op);
    node.kind = LoopNode::ToIndex;
    node.args.push_back(read(checked.getValue(), scope));
    node.index = IndexPoly::get(checked.getSize().getDims()[0]);
    node.dim = newDim(AffineExpr());
    result = add(node);
    toIndex.push_back(result);
  }
  scope.nodes[value] = result;
  return result;
}

unsigned Reader::addStore(unsigned value, unsigned buffer, StageOp stage,
                          ArrayRef<AffineExpr> at) {
  LoopNode node;
  node.kind = LoopNode::Store;
  node.type = stage.getElementType();
  node.args.push_back(value);
  node.buffer = buffer;
  node.index = flatten(at, stage.getResult(), expr.extents, rowRankOf(buffer));
  return add(node);
}

unsigned Reader::readOutput(const LoopOutput &output,
                            ArrayRef<AffineExpr> domain) {
  unsigned value = readStage(output.stage, domain);
  unsigned store = addStore(value, output.buffer, output.stage, domain);
  // A stage that reads it at its own point has it at hand.
  for (Known &k : known)
    if (k.stage == output.stage && ArrayRef(k.at) == domain)
      k.node = store;
  return store;
}

/// A stage's value; the same value when it has been read there already.
unsigned Reader::readStage(StageOp stage, ArrayRef<AffineExpr> domain) {
  for (const Known &k : known)
    if (k.stage == stage && ArrayRef(k.at) == domain)
      return k.node;
  unsigned node = readNewStage(stage, domain);
  for (const LoopOutput &output : source.absorbed)
    if (output.stage == stage)
      node = addStore(node, output.buffer, stage, domain);
  known.push_back({stage, SmallVector<AffineExpr>(domain), node});
  return node;
}

unsigned Reader::readNewStage(StageOp stage, ArrayRef<AffineExpr> domain) {
  if (stage.getFoldKind() != graph::FoldKind::none) {
    if (auto joined = joinFold(stage, domain))
      return *joined;
    SmallVector<unsigned> axes;
    for (AffineExpr n : stage.getReduceDims())
      axes.push_back(newDim(n));
    return readFold(stage, domain, axes);
  }
  return readFold(stage, domain, {});
}

/// The stage's fold over `axes` at `domain`, or its body if it has no fold.
unsigned Reader::readFold(StageOp stage, ArrayRef<AffineExpr> domain,
                          ArrayRef<unsigned> axes) {
  Scope scope;
  for (auto [i, arg] : llvm::enumerate(stage.getBlock()->getArguments()))
    scope.coords[arg] =
        i < domain.size() ? domain[i] : dim(axes[i - domain.size()]);
  unsigned body = read(stage.getYielded(), scope);
  if (stage.getFoldKind() == graph::FoldKind::none)
    return body;
  LoopNode fold;
  fold.kind = LoopNode::Fold;
  fold.axes.assign(axes.begin(), axes.end());
  fold.type = stage.getElementType();
  fold.fold = stage.getFoldKind();
  fold.attr = stage.getInitAttr();
  fold.args.push_back(body);
  fold.group = expr.nodes.size();
  if (auto prefix = findPrefixFold(stage, source.strict)) {
    // Where the stage is inlined, its axis may be no axis of the loops.
    auto axis = dyn_cast<AffineDimExpr>(domain[prefix->axis]);
    if (axis && llvm::count_if(domain, [&](AffineExpr e) {
                  return e.isFunctionOfDim(axis.getPosition());
                }) == 1) {
      fold.prefix = *prefix;
      fold.prefix->axis = axis.getPosition();
    }
  }
  return add(fold);
}

/// Reads a fold into the loop of an earlier one over the same points, if there
/// is one that neither needs the other, so that what both load is loaded once.
std::optional<unsigned> Reader::joinFold(StageOp stage,
                                         ArrayRef<AffineExpr> domain) {
  auto isOrdered = [&](graph::FoldKind kind, Type type) {
    return source.strict && isa<FloatType>(type) &&
           (kind == graph::FoldKind::add || kind == graph::FoldKind::mul);
  };
  for (size_t i = known.size(); i-- > 0;) {
    Known k = known[i];
    StageOp other = k.stage;
    if (other.getFoldKind() == graph::FoldKind::none ||
        ArrayRef(k.at) != domain ||
        other.getReduceDims() != stage.getReduceDims() ||
        isOrdered(other.getFoldKind(), other.getElementType()) !=
            isOrdered(stage.getFoldKind(), stage.getElementType()))
      continue;
    // An output's node is its store.
    unsigned first = k.node;
    while (expr.nodes[first].kind == LoopNode::Store)
      first = expr.nodes[first].args[0];
    if (expr.skippableLoad(expr.nodes[first], source.strict))
      continue; // its loop leaves steps out
    unsigned group = expr.nodes[first].group;
    auto axes = llvm::to_vector(expr.nodes[first].axes);
    size_t nodes = expr.nodes.size(), dims = expr.extents.size(),
           stages = known.size();
    unsigned fold = readFold(stage, domain, axes);
    bool depends =
        expr.skippableLoad(expr.nodes[fold], source.strict).has_value();
    for (unsigned id : expr.reachable(expr.nodes[fold].args[0]))
      depends |= expr.nodes[id].kind == LoopNode::Fold &&
                 expr.nodes[id].group == group;
    if (!depends) {
      expr.nodes[fold].group = group;
      return fold;
    }
    expr.nodes.resize(nodes);
    expr.extents.resize(dims);
    known.truncate(stages);
    llvm::erase_if(toIndex, [&](unsigned id) { return id >= nodes; });
  }
  return std::nullopt;
}

LoopExpr LoopExpr::build(const LoopSource &source) {
  LoopExpr expr;
  StageOp first = source.outputs.front().stage;
  expr.context = first.getContext();
  expr.extents.assign(first.getDomainDims().begin(),
                      first.getDomainDims().end());
  // The last axis of the domain is the one along which stores are dense. Of
  // rows of one element that lie apart no other axis is.
  bool liesApart = llvm::any_of(source.outputs, [](const LoopOutput &output) {
    StageOp stage = output.stage;
    return graph::getPitch(stage.getResult()) != 0;
  });
  SmallVector<AffineExpr> domain;
  for (unsigned i = 0; i < expr.extents.size(); ++i) {
    domain.push_back(getAffineDimExpr(i, expr.context));
    bool isLast = i + 1 == expr.extents.size();
    if (graph::constantValue(expr.extents[i]) != 1 || (isLast && liesApart))
      expr.domain.push_back(i);
  }
  Reader reader(expr, source);
  LoopNode tuple;
  tuple.kind = LoopNode::Tuple;
  for (const LoopOutput &output : source.outputs)
    tuple.args.push_back(reader.readOutput(output, domain));
  expr.root = tuple.args.back();
  if (tuple.args.size() > 1) {
    tuple.type = expr.nodes[expr.root].type;
    expr.root = expr.nodes.size();
    expr.nodes.push_back(tuple);
  }
  // A reduce axis of one element is no loop (its coordinate is 0 everywhere).
  for (LoopNode &node : expr.nodes)
    llvm::erase_if(node.axes, [&](unsigned axis) {
      return graph::constantValue(expr.extents[axis]) == 1;
    });
  expr.computeNeeds();
  if (source.mergesMoments)
    expr.moments = expr.findMoments(tuple.args[0], tuple.args[1],
                                    source.outputs.front().buffer);
  return expr;
}
