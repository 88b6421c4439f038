// Inlining of stages: index maps composed, guards conjoined along the way.
#include "Inline.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/IntegerSet.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

std::optional<std::string> Inliner::failure() const {
  if (!unknown.empty())
    return unknown;
  if (tooDeep)
    return "the expression is nested too deeply to be compared";
  if (tooMany)
    return "the expression is too large to be compared";
  if (exprs.overflowed())
    return "the expression or its sizes are too large to be compared";
  return std::nullopt;
}

void Inliner::enter() {
  tooDeep |= ++depth > maxDepth;
  tooMany |= ++steps > maxSteps;
}

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

uint32_t Inliner::newEnvironment(ArrayRef<PolyId> symbols) {
  Environment environment;
  environment.symbols.assign(symbols.begin(), symbols.end());
  environments.push_back(std::move(environment));
  return environments.size() - 1;
}

TensorId Inliner::add(TensorSource source) {
  tensors.push_back(std::move(source));
  return tensors.size() - 1;
}

SmallVector<PolyId> Inliner::sizes(ArrayRef<AffineExpr> dims,
                                   ArrayRef<PolyId> symbols) {
  return llvm::map_to_vector(dims, [&](AffineExpr e) {
    return index.fromAffine(e, {}, symbols, index.emptyContext());
  });
}

TensorId Inliner::leaf(uint32_t number, Type type, ArrayRef<PolyId> symbols) {
  return add({TensorSource::Leaf,
              number,
              {},
              {},
              sizes(getDims(type), symbols),
              cast<RankedTensorType>(type).getElementType()});
}
TensorId Inliner::constant(ElementsAttr value) {
  return add({TensorSource::Constant,
              0,
              value,
              {},
              sizes(getDims(value.getType()), {}),
              value.getElementType()});
}
TensorId Inliner::reshape(TensorId source, Type type,
                          ArrayRef<PolyId> symbols) {
  return add({TensorSource::Reshape,
              source,
              {},
              {},
              sizes(getDims(type), symbols),
              cast<RankedTensorType>(type).getElementType()});
}

SmallVector<TensorId> Inliner::call(KernelOp kernel,
                                    ArrayRef<TensorId> operands,
                                    ArrayRef<PolyId> symbols,
                                    uint32_t *environment) {
  uint32_t id = newEnvironment(symbols);
  if (environment)
    *environment = id;
  for (auto [arg, tensor] :
       llvm::zip(kernel.getBody().getArguments(), operands))
    environments[id].tensors[arg] = tensor;
  for (StageOp stage : kernel.getStages())
    environments[id].tensors[stage.getResult()] =
        add({TensorSource::Stage,
             id,
             {},
             stage,
             sizes(stage.getDomainDims(), symbols),
             stage.getElementType()});
  return llvm::map_to_vector(kernel.getResultValues(), [&](Value v) {
    return environments[id].tensors.lookup(v);
  });
}

//===----------------------------------------------------------------------===//
// Reading a tensor
//===----------------------------------------------------------------------===//

NodeId Inliner::readConstant(TensorId id, ArrayRef<PolyId> coords) {
  const TensorSource &source = tensors[id];
  auto dense = dyn_cast<DenseElementsAttr>(source.value);
  if (dense && dense.isSplat())
    return exprs.literal(dense.getSplatValue<TypedAttr>());
  if (dense) {
    // Row-major position, where it is known.
    int64_t position = 0;
    bool isKnown = true;
    for (auto [coord, size] : llvm::zip(coords, dense.getType().getShape())) {
      std::optional<int64_t> c = index.constantValue(coord);
      isKnown &= c && *c >= 0 && *c < size;
      if (isKnown)
        position = position * size + *c;
    }
    if (isKnown)
      return exprs.literal(*(dense.value_begin<TypedAttr>() + position));
  }
  Node node(Node::Load, source.value.getElementType());
  node.payload = reinterpret_cast<uintptr_t>(source.value.getAsOpaquePointer());
  node.args.assign(coords.begin(), coords.end());
  return exprs.intern(std::move(node));
}

NodeId Inliner::read(TensorId id, ArrayRef<PolyId> at, uint32_t level,
                     ContextId context) {
  if (stopped())
    return 0;
  const TensorSource &source = tensors[id];
  // Along an axis of one element there is one place: members read what is
  // there, and where the kernel reads is a condition of its own (C-BOUNDS).
  SmallVector<PolyId> coords(at);
  for (auto [coord, size] : llvm::zip(coords, source.dims))
    if (index.constantValue(size) == 1)
      coord = index.constant(0);
  std::vector<uint64_t> key = {id, level, context};
  key.insert(key.end(), coords.begin(), coords.end());
  if (auto it = reads.find(key); it != reads.end())
    return it->second;
  enter();
  NodeId result = 0;
  switch (source.kind) {
  case TensorSource::Leaf: {
    Node node(Node::Load, source.element);
    node.payload = source.number;
    node.args.assign(coords.begin(), coords.end());
    result = exprs.intern(std::move(node));
    break;
  }
  case TensorSource::Constant:
    result = readConstant(id, coords);
    break;
  case TensorSource::Stage:
    result = readStage(source, coords, level, context);
    break;
  case TensorSource::Reshape: {
    // The row-major position under its own dims, as digits of the source's.
    // Equal leading and trailing dims pass straight through.
    ArrayRef<PolyId> to = source.dims, from = tensors[source.number].dims;
    size_t head = 0, tail = 0;
    while (head < from.size() && head < to.size() && from[head] == to[head])
      ++head;
    while (tail + head < from.size() && tail + head < to.size() &&
           from[from.size() - 1 - tail] == to[to.size() - 1 - tail])
      ++tail;
    PolyId flat = 0;
    for (size_t i = head; i < to.size() - tail; ++i)
      flat = index.add(index.mul(flat, to[i]), coords[i]);
    SmallVector<PolyId> inner(from.size());
    for (size_t i = 0; i < head; ++i)
      inner[i] = coords[i];
    for (size_t i = 0; i < tail; ++i)
      inner[from.size() - 1 - i] = coords[to.size() - 1 - i];
    PolyId stride = index.constant(1);
    for (size_t i = from.size() - tail; i-- > head;) {
      PolyId digit = index.floorDiv(flat, stride, context);
      inner[i] = i == head ? digit : index.mod(digit, from[i], context);
      if (index.constantValue(from[i]) == 1)
        inner[i] = 0;
      stride = index.mul(stride, from[i]);
    }
    result = read(source.number, inner, level, context);
    break;
  }
  }
  --depth;
  reads[key] = result;
  return result;
}

// The start value, null where it is what the fold starts from anyway.
static Attribute normalizeInit(StageOp stage) {
  TypedAttr init = stage.getInitAttr();
  if (!init)
    return {};
  FoldKind kind = stage.getFoldKind();
  if (auto f = dyn_cast<FloatAttr>(init)) {
    APFloat v = f.getValue();
    bool isIdentity =
        (kind == FoldKind::add && v.isPosZero()) ||
        (kind == FoldKind::mul && v.isExactlyValue(1.0)) ||
        (kind == FoldKind::max && v.isInfinity() && v.isNegative()) ||
        (kind == FoldKind::min && v.isInfinity() && !v.isNegative());
    return isIdentity ? Attribute() : init;
  }
  if (auto i = dyn_cast<IntegerAttr>(init)) {
    const APInt &v = i.getValue();
    bool isIdentity =
        ((kind == FoldKind::add || kind == FoldKind::bit_or) && v.isZero()) ||
        (kind == FoldKind::mul && v.isOne()) ||
        (kind == FoldKind::bit_and && v.isAllOnes());
    return isIdentity ? Attribute() : init;
  }
  return init;
}

NodeId Inliner::readStage(const TensorSource &source, ArrayRef<PolyId> coords,
                          uint32_t level, ContextId context) {
  StageOp stage = source.stage;
  SmallVector<PolyId> dims(coords);
  if (stage.getFoldKind() == FoldKind::none)
    return evaluate(stage.getYielded(),
                    frame(source.number, stage, dims, level), context);
  SmallVector<PolyId> extents =
      sizes(stage.getReduceDims(), environments[source.number].symbols);
  for (auto [j, extent] : llvm::enumerate(extents))
    dims.push_back(index.axis(level + 1, j, extent));
  Node node(Node::Fold, stage.getElementType());
  node.payload = static_cast<uint64_t>(stage.getFoldKind());
  node.init = normalizeInit(stage);
  node.extents.assign(extents.begin(), extents.end());
  node.level = level + 1;
  node.args = {evaluate(stage.getYielded(),
                        frame(source.number, stage, dims, level + 1),
                        index.withExtents(context, extents))};
  return exprs.intern(std::move(node));
}

//===----------------------------------------------------------------------===//
// Bodies
//===----------------------------------------------------------------------===//

const Inliner::Frame &Inliner::frame(uint32_t environment, Operation *stage,
                                     ArrayRef<PolyId> dims, uint32_t level) {
  std::vector<uint64_t> key = {environment, reinterpret_cast<uintptr_t>(stage),
                               level};
  key.insert(key.end(), dims.begin(), dims.end());
  auto [it, isNew] = frameIds.try_emplace(std::move(key), frames.size());
  if (isNew)
    frames.push_back({environment, SmallVector<PolyId>(dims), level,
                      static_cast<uint32_t>(frames.size())});
  return frames[it->second];
}

SmallVector<PolyId> Inliner::coordinateValues(OperandRange coords,
                                              const Frame &frame,
                                              ContextId context) {
  SmallVector<PolyId> values;
  for (Value coord : coords) {
    if (auto arg = dyn_cast<BlockArgument>(coord)) {
      values.push_back(frame.dims[arg.getArgNumber()]);
      continue;
    }
    auto toIndex = coord.getDefiningOp<ToIndexOp>();
    if (!toIndex) {
      unknown = "a coordinate is not of a kind the checker knows";
      return {};
    }
    NodeId node = evaluate(toIndex.getValue(), frame, context);
    PolyId size = sizes(toIndex.getSize().getDims(),
                        environments[frame.environment].symbols)[0];
    values.push_back(index.data(node, size));
  }
  return values;
}

SmallVector<PolyId> Inliner::coordinates(AffineMap map, OperandRange coords,
                                         const Frame &frame,
                                         ContextId context) {
  SmallVector<PolyId> values = coordinateValues(coords, frame, context);
  if (!unknown.empty())
    return SmallVector<PolyId>(map.getNumResults(), 0);
  return llvm::map_to_vector(map.getResults(), [&](AffineExpr e) {
    return index.fromAffine(e, values, environments[frame.environment].symbols,
                            context);
  });
}

std::optional<Guard> Inliner::guard(IntegerSet set, OperandRange coords,
                                    const Frame &frame, ContextId context) {
  SmallVector<PolyId> values = coordinateValues(coords, frame, context);
  Guard guard;
  if (!unknown.empty())
    return guard;
  for (auto [e, isEquality] : llvm::zip(set.getConstraints(), set.getEqFlags()))
    guard.push_back(
        {index.fromAffine(e, values, environments[frame.environment].symbols,
                          context),
         isEquality});
  return index.simplify(std::move(guard), context);
}

NodeId Inliner::evaluate(Value value, const Frame &frame, ContextId context) {
  if (stopped())
    return 0;
  std::vector<uint64_t> key = {
      frame.id, context,
      reinterpret_cast<uintptr_t>(value.getAsOpaquePointer())};
  if (auto it = values.find(key); it != values.end())
    return it->second;
  enter();
  Operation *op = value.getDefiningOp();
  MLIRContext *mlirContext = value.getContext();
  NodeId result = 0;
  if (!op) {
    unknown = "a body uses a coordinate as a number";
  } else {
    result =
        llvm::TypeSwitch<Operation *, NodeId>(op)
            .Case<LoadOp>(
                [&](LoadOp load) { return evaluateLoad(load, frame, context); })
            .Case<ApplyOp>([&](ApplyOp apply) {
              return evaluateApply(apply, frame, context);
            })
            .Case<CastOp>([&](CastOp cast) {
              return exprs.cast(evaluate(cast.getValue(), frame, context),
                                cast.getResult().getType(), cast.getSaturate());
            })
            .Case<LiteralOp>([&](LiteralOp literal) {
              return exprs.literal(literal.getValue());
            })
            .Case<CoordOp>([&](CoordOp coord) {
              return exprs.coord(coordinates(coord.getMap(), coord.getCoords(),
                                             frame, context)[0],
                                 mlirContext);
            })
            .Case<InsideOp>([&](InsideOp inside) {
              return exprs.inside(
                  guard(inside.getSet(), inside.getCoords(), frame, context),
                  mlirContext);
            })
            .Default([&](Operation *other) -> NodeId {
              unknown = "the checker has no meaning for '" +
                        other->getName().getStringRef().str() + "' in a stage";
              return 0;
            });
  }
  --depth;
  values[key] = result;
  return result;
}

// Where the guard fails there is no load, and the other way round.
NodeId Inliner::evaluateLoad(LoadOp op, const Frame &frame, ContextId context) {
  TensorId tensor =
      environments[frame.environment].tensors.lookup(op.getTensor());
  if (!op.getGuard())
    return read(tensor,
                coordinates(op.getMap(), op.getCoords(), frame, context),
                frame.level, context);
  std::optional<Guard> set =
      guard(*op.getGuard(), op.getCoords(), frame, context);
  if (!set)
    return evaluate(op.getOther(), frame, context);
  ContextId within = index.assume(context, *set);
  NodeId inside =
      read(tensor, coordinates(op.getMap(), op.getCoords(), frame, within),
           frame.level, within);
  if (set->empty())
    return inside;
  ContextId outside =
      set->size() == 1 ? index.assumeNot(context, set->front()) : context;
  return exprs.choose(*set, inside, evaluate(op.getOther(), frame, outside));
}

NodeId Inliner::evaluateApply(ApplyOp op, const Frame &frame,
                              ContextId context) {
  if (op.getFn() == ScalarFn::select) {
    NodeId condition = evaluate(op.getArgs()[0], frame, context);
    if (exprs.overflowed() || failure())
      return 0;
    if (std::optional<Guard> set = exprs.asGuard(condition)) {
      NodeId a = evaluate(op.getArgs()[1], frame, index.assume(context, *set));
      if (set->empty())
        return a;
      ContextId outside =
          set->size() == 1 ? index.assumeNot(context, set->front()) : context;
      return exprs.choose(*set, a, evaluate(op.getArgs()[2], frame, outside));
    }
    if (condition == exprs.truth(op.getContext(), false))
      return evaluate(op.getArgs()[2], frame, context);
  }
  SmallVector<NodeId> args = llvm::map_to_vector(
      op.getArgs(), [&](Value v) { return evaluate(v, frame, context); });
  if (failure())
    return 0;
  return exprs.apply(op.getFn(), args, op.getResult().getType());
}
