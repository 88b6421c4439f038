// Reading kernels into bodies.
#include "dlc/Fusion/Body.h"

#include "mlir/IR/IntegerSet.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;

bool Node::operator==(const Node &o) const {
  return kind == o.kind && type == o.type && fn == o.fn &&
         literal == o.literal && tensor == o.tensor && args == o.args &&
         index == o.index && guard == o.guard && equal == o.equal;
}

void Node::forEachData(llvm::function_ref<void(unsigned)> fn) const {
  auto visit = [&](AffineExpr e) {
    e.walk([&](AffineExpr x) {
      auto dim = dyn_cast<AffineDimExpr>(x);
      if (dim && dim.getPosition() >= kDataDim)
        fn(dim.getPosition() - kDataDim);
    });
  };
  llvm::for_each(index, visit);
  llvm::for_each(guard, visit);
}

SmallVector<AffineExpr> Stage::extents() const {
  SmallVector<AffineExpr> all(domain.begin(), domain.end());
  all.append(reduce.begin(), reduce.end());
  return all;
}

bool Stage::reads(TensorId tensor) const {
  return llvm::is_contained(loads, tensor);
}

const Stage *Body::find(TensorId tensor) const {
  for (const StageRef &stage : stages)
    if (stage->result == tensor)
      return stage.get();
  return nullptr;
}

std::vector<TensorId> Body::operands() const {
  std::vector<TensorId> result;
  llvm::SmallDenseSet<TensorId, 16> seen;
  for (const StageRef &stage : stages)
    seen.insert(stage->result);
  for (const StageRef &stage : stages)
    for (TensorId tensor : stage->loads)
      if (seen.insert(tensor).second)
        result.push_back(tensor);
  return result;
}

//===----------------------------------------------------------------------===//
// TensorTable
//===----------------------------------------------------------------------===//

// The element of a constant that has one.
static TypedAttr scalarConstant(Value value) {
  auto constant = graph::getViewed(value).getDefiningOp<graph::ConstantOp>();
  if (!constant || value.getDefiningOp<graph::BitcastOp>())
    return {};
  auto dense = dyn_cast<DenseElementsAttr>(constant.getValue());
  if (!dense || dense.getNumElements() != 1)
    return {};
  return dyn_cast<TypedAttr>(*dense.getValues<Attribute>().begin());
}

TensorId TensorTable::get(Value value) {
  auto [it, isNew] = ids.try_emplace(value, 0);
  if (!isNew)
    return it->second;
  auto type = cast<RankedTensorType>(value.getType());
  std::optional<TensorId> viewed;
  if (auto reshape = value.getDefiningOp<graph::ReshapeOp>())
    viewed = get(reshape.getX());
  TensorId id = entries.size();
  entries.push_back({value, type, viewed ? entries[*viewed].base : id,
                     viewed.value_or(id), scalarConstant(value)});
  return ids[value] = id;
}

TensorId TensorTable::addInternal(RankedTensorType type) {
  TensorId id = entries.size();
  entries.push_back({Value(), type, id, id, TypedAttr()});
  return id;
}

//===----------------------------------------------------------------------===//
// StageBuilder
//===----------------------------------------------------------------------===//

StageBuilder::StageBuilder(MLIRContext *context, const Stage &shape)
    : context(context), indexMath(context, shape.extents()) {
  this->shape.result = shape.result;
  this->shape.type = shape.type;
  this->shape.domain = shape.domain;
  this->shape.reduce = shape.reduce;
  this->shape.fold = shape.fold;
  this->shape.init = shape.init;
}

// The `fn` of a literal that was a guard which holds at every point.
static constexpr unsigned kHeld = 1;

unsigned StageBuilder::add(Node node) {
  for (AffineExpr &e : node.index)
    e = indexMath.simplify(e);
  // What holds everywhere is no guard.
  for (size_t i = node.guard.size(); i-- > 0;) {
    node.guard[i] = indexMath.simplify(node.guard[i]);
    auto value = graph::constantValue(node.guard[i]);
    bool isRepeated = false;
    for (size_t j = 0; j < i; ++j)
      isRepeated |= indexMath.simplify(node.guard[j]) == node.guard[i] &&
                    node.equal[j] == node.equal[i];
    if (isRepeated || (value && (node.equal[i] ? *value == 0 : *value >= 0))) {
      node.guard.erase(node.guard.begin() + i);
      node.equal.erase(node.equal.begin() + i);
    }
  }
  if (node.kind == Node::Load && node.guard.empty())
    node.args.clear();
  if (node.kind == Node::Inside && node.guard.empty()) {
    node.kind = Node::Literal;
    node.literal = BoolAttr::get(context, true);
    node.fn = kHeld;
  }
  // A choice that such a guard has made.
  if (node.kind == Node::Apply &&
      static_cast<graph::ScalarFn>(node.fn) == graph::ScalarFn::select)
    if (const Node &condition = nodes[node.args[0]];
        condition.kind == Node::Literal && condition.fn == kHeld)
      return node.args[1];
  size_t hash = llvm::hash_combine(
      node.kind, node.type.getAsOpaquePointer(), node.fn,
      Attribute(node.literal).getAsOpaquePointer(), node.tensor,
      llvm::hash_combine_range(node.args.begin(), node.args.end()));
  for (AffineExpr e : node.index)
    hash = llvm::hash_combine(hash, hash_value(e));
  for (AffineExpr e : node.guard)
    hash = llvm::hash_combine(hash, hash_value(e));
  auto [begin, end] = known.equal_range(hash);
  for (auto it = begin; it != end; ++it)
    if (nodes[it->second] == node)
      return it->second;
  known.emplace(hash, nodes.size());
  nodes.push_back(std::move(node));
  return nodes.size() - 1;
}

StageRef StageBuilder::finish(unsigned root) {
  std::vector<bool> used(nodes.size());
  used[root] = true;
  for (size_t i = nodes.size(); i-- > 0;) {
    if (!used[i])
      continue;
    for (unsigned arg : nodes[i].args)
      used[arg] = true;
    nodes[i].forEachData([&](unsigned data) { used[data] = true; });
  }
  std::vector<unsigned> number(nodes.size());
  auto stage = std::make_shared<Stage>(std::move(shape));
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (!used[i])
      continue;
    number[i] = stage->nodes.size();
    Node node = std::move(nodes[i]);
    for (unsigned &arg : node.args)
      arg = number[arg];
    llvm::DenseMap<AffineExpr, AffineExpr> renamed;
    node.forEachData([&](unsigned data) {
      renamed[getAffineDimExpr(kDataDim + data, context)] =
          getAffineDimExpr(kDataDim + number[data], context);
    });
    if (!renamed.empty()) {
      for (AffineExpr &e : node.index)
        e = e.replace(renamed);
      for (AffineExpr &e : node.guard)
        e = e.replace(renamed);
    }
    if (node.kind == Node::Load &&
        !llvm::is_contained(stage->loads, node.tensor))
      stage->loads.push_back(node.tensor);
    stage->nodes.push_back(std::move(node));
  }
  stage->root = number[root];
  return stage;
}

//===----------------------------------------------------------------------===//
// readKernel
//===----------------------------------------------------------------------===//

bool fusion::isAbsorbed(graph::KernelOp kernel, unsigned operand,
                        TensorId tensor, const TensorTable &tensors) {
  if (!tensors.scalarOf(tensor))
    return false;
  return llvm::none_of(kernel.getBody().getArgument(operand).getUsers(),
                       [](Operation *user) {
                         auto load = dyn_cast<graph::LoadOp>(user);
                         return !load || load.getGuard();
                       });
}

namespace {
// Reads one stage; symbols become what the call gives for them.
class StageReader {
public:
  StageReader(StageBuilder &builder, graph::StageOp stage,
              ArrayRef<AffineExpr> symbols,
              const llvm::DenseMap<Value, TensorId> &tensorOf,
              const llvm::DenseMap<Value, TypedAttr> &literals)
      : builder(builder), stage(stage), symbols(symbols), tensorOf(tensorOf),
        literals(literals) {}

  unsigned read(Value value) {
    if (auto it = numbers.find(value); it != numbers.end())
      return it->second;
    return numbers[value] = readOp(value.getDefiningOp());
  }

private:
  AffineExpr bind(AffineExpr expr, OperandRange coords) {
    SmallVector<AffineExpr> dims;
    for (auto [i, coord] : llvm::enumerate(coords)) {
      auto arg = dyn_cast<BlockArgument>(coord);
      if (arg)
        dims.push_back(getAffineDimExpr(arg.getArgNumber(), expr.getContext()));
      else if (expr.isFunctionOfDim(i))
        dims.push_back(
            getAffineDimExpr(kDataDim + read(coord), expr.getContext()));
      else
        dims.push_back(getAffineConstantExpr(0, expr.getContext()));
    }
    return expr.replaceDimsAndSymbols(dims, symbols);
  }
  void bindSet(IntegerSet set, OperandRange coords, Node &node) {
    for (auto [e, isEqual] :
         llvm::zip(set.getConstraints(), set.getEqFlags())) {
      node.guard.push_back(bind(e, coords));
      node.equal.push_back(isEqual);
    }
  }

  unsigned readOp(Operation *op) {
    Node node;
    node.type = op->getResult(0).getType();
    if (auto load = dyn_cast<graph::LoadOp>(op)) {
      if (auto it = literals.find(load.getTensor()); it != literals.end()) {
        node.literal = it->second;
        return builder.add(std::move(node));
      }
      node.kind = Node::Load;
      node.tensor = tensorOf.lookup(load.getTensor());
      for (AffineExpr e : load.getMap().getResults())
        node.index.push_back(bind(e, load.getCoords()));
      if (auto guard = load.getGuard()) {
        bindSet(*guard, load.getCoords(), node);
        node.args.push_back(read(load.getOther()));
      }
    } else if (auto apply = dyn_cast<graph::ApplyOp>(op)) {
      node.kind = Node::Apply;
      node.fn = static_cast<unsigned>(apply.getFn());
      for (Value arg : apply.getArgs())
        node.args.push_back(read(arg));
    } else if (auto cast = dyn_cast<graph::CastOp>(op)) {
      node.kind = Node::Cast;
      node.fn = cast.getSaturate();
      node.args.push_back(read(cast.getValue()));
    } else if (auto literal = dyn_cast<graph::LiteralOp>(op)) {
      node.literal = literal.getValueAttr();
    } else if (auto coord = dyn_cast<graph::CoordOp>(op)) {
      node.kind = Node::Coord;
      node.index.push_back(
          bind(coord.getMap().getResult(0), coord.getCoords()));
    } else if (auto inside = dyn_cast<graph::InsideOp>(op)) {
      node.kind = Node::Inside;
      bindSet(inside.getSet(), inside.getCoords(), node);
    } else {
      auto toIndex = llvm::cast<graph::ToIndexOp>(op);
      node.kind = Node::ToIndex;
      node.args.push_back(read(toIndex.getValue()));
      node.index.push_back(
          toIndex.getSize().getDims()[0].replaceSymbols(symbols));
    }
    return builder.add(std::move(node));
  }

  StageBuilder &builder;
  graph::StageOp stage;
  ArrayRef<AffineExpr> symbols;
  const llvm::DenseMap<Value, TensorId> &tensorOf;
  const llvm::DenseMap<Value, TypedAttr> &literals;
  llvm::DenseMap<Value, unsigned> numbers;
};
} // namespace

std::optional<Body> fusion::readKernel(graph::CallOp call,
                                       graph::KernelOp kernel,
                                       TensorTable &tensors) {
  if (kernel.getOpaque() || kernel.getStages().empty())
    return std::nullopt;
  SmallVector<AffineExpr> symbols;
  if (call.getSymbols())
    symbols.assign(call.getSymbols()->getDims().begin(),
                   call.getSymbols()->getDims().end());
  auto bindAll = [&](ArrayRef<AffineExpr> dims) {
    return llvm::map_to_vector<4>(dims, [&](AffineExpr e) {
      return graph::simplify(e.replaceSymbols(symbols));
    });
  };
  llvm::DenseMap<Value, TensorId> tensorOf;
  llvm::DenseMap<Value, TypedAttr> literals;
  for (auto [i, arg, value] :
       llvm::enumerate(kernel.getBody().getArguments(), call.getArgs())) {
    TensorId id = tensors.get(value);
    tensorOf[arg] = id;
    if (isAbsorbed(kernel, i, id, tensors))
      literals[arg] = tensors.scalarOf(id);
  }
  for (auto [value, result] :
       llvm::zip(kernel.getResultValues(), call.getResults()))
    if (!tensorOf.try_emplace(value, tensors.get(result)).second)
      return std::nullopt; // a stage returned twice
  Body body;
  for (graph::StageOp op : kernel.getStages()) {
    Stage shape;
    shape.domain = bindAll(op.getDomainDims());
    shape.reduce = bindAll(op.getReduceDims());
    shape.type = graph::makeTensorType(shape.domain, op.getElementType());
    shape.fold = op.getFoldKind();
    shape.init = op.getInitAttr();
    auto [it, isNew] = tensorOf.try_emplace(op.getResult(), 0);
    if (isNew)
      it->second = tensors.addInternal(shape.type);
    shape.result = it->second;
    StageBuilder builder(kernel.getContext(), shape);
    StageReader reader(builder, op, symbols, tensorOf, literals);
    body.stages.push_back(builder.finish(reader.read(op.getYielded())));
  }
  return body;
}
