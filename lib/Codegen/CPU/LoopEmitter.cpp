// Evaluation of loads, coordinates and functions. A load is emitted according
// to how its address moves from lane to lane: not at all, by one element, or
// otherwise; where a guard does not hold, memory is never touched.
#include "dlc/Codegen/CPU/LoopEmitter.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;
using CmpI = arith::CmpIPredicate;

// DLC_DATA_INDEX_OUT_OF_RANGE of runtime.h.
static constexpr int32_t indexOutOfRange = 1;

//===----------------------------------------------------------------------===//
// Points
//===----------------------------------------------------------------------===//

bool LoopEmitter::isBound(const LoopNode &node) const {
  for (unsigned d : node.needs.set_bits())
    if (!dims[d])
      return false;
  return true;
}

bool LoopEmitter::hasLaneData(const LoopNode &node) const {
  return llvm::any_of(
      node.data, [&](unsigned data) { return alongLanes(expr.nodes[data]); });
}

template <typename Body>
auto LoopEmitter::at(const LoopNode &node, unsigned group, int lane,
                     Body body) {
  SmallVector<std::pair<unsigned, Value>, 4> saved;
  auto set = [&](unsigned dim, Value value) {
    saved.push_back({dim, dims[dim]});
    dims[dim] = value;
  };
  for (unsigned data : node.data) {
    Values values = evaluate(data);
    Value v = values[values.size() == 1 ? 0 : group].value;
    if (isa<VectorType>(v.getType()))
      v = vector::ExtractOp::create(b, loc, v, int64_t(std::max(lane, 0)));
    set(expr.nodes[data].dim,
        arith::IndexCastOp::create(b, loc, b.getIndexType(), v));
  }
  if (groups.dim >= 0 && group) {
    Value offset = index.constant(group * groups.step);
    if (groups.limit)
      offset = index.min(offset,
                         index.mul(index.sub(groups.limit, index.constant(1)),
                                   index.constant(groups.step)));
    set(groups.dim, index.add(dims[groups.dim], offset));
  }
  if (lanes.dim >= 0 && lane > 0)
    set(lanes.dim, index.add(dims[lanes.dim], index.constant(lane)));
  auto result = body();
  for (auto [dim, value] : llvm::reverse(saved))
    dims[dim] = value;
  return result;
}

Value LoopEmitter::laneNumbers(Type element, int64_t factor, int64_t constant) {
  SmallVector<Attribute> values;
  for (unsigned l = 0; l < lanes.width; ++l)
    values.push_back(b.getIntegerAttr(element, l * factor + constant));
  auto type = VectorType::get({int64_t(lanes.width)}, element);
  return arith::ConstantOp::create(b, loc,
                                   DenseElementsAttr::get(type, values));
}

Value LoopEmitter::andMask(Value x, Value y) {
  if (!x || !y)
    return x ? x : y;
  return arith::AndIOp::create(b, loc, x, y);
}

SmallVector<Value> LoopEmitter::loop(
    Value begin, Value end, int64_t step, ValueRange values,
    llvm::function_ref<SmallVector<Value>(Value, ValueRange)> body) {
  auto b0 = constantIndex(begin), e0 = constantIndex(end);
  if (b0 && e0 && *b0 >= *e0)
    return SmallVector<Value>(values);
  if (b0 && e0 && *e0 - *b0 <= step) // one round
    return body(begin, values);
  auto loop =
      scf::ForOp::create(b, loc, begin, end, index.constant(step), values);
  {
    OpBuilder::InsertionGuard guard(b);
    // Without carried values the builder has made the terminator.
    Block *block = loop.getBody();
    if (block->mightHaveTerminator())
      b.setInsertionPoint(block->getTerminator());
    else
      b.setInsertionPointToEnd(block);
    SmallVector<Value> next =
        body(loop.getInductionVar(), loop.getRegionIterArgs());
    if (!values.empty())
      scf::YieldOp::create(b, loc, next);
  }
  return SmallVector<Value>(loop.getResults());
}

//===----------------------------------------------------------------------===//
// Evaluation
//===----------------------------------------------------------------------===//

LoopEmitter::Values LoopEmitter::evaluate(unsigned id) {
  for (auto &scope : llvm::reverse(memo))
    if (auto it = scope.find(id); it != scope.end())
      return it->second;
  Values result = evaluateNew(expr.nodes[id], id);
  memo.back()[id] = result;
  return result;
}

LoopEmitter::Values LoopEmitter::evaluateNew(const LoopNode &node,
                                             unsigned id) {
  switch (node.kind) {
  case LoopNode::Load:
    return evaluateLoad(node, id);
  case LoopNode::Coord:
    return evaluateCoord(node);
  case LoopNode::ToIndex:
    return evaluateToIndex(node);
  case LoopNode::Fold:
    return evaluateFold(node);
  case LoopNode::Literal:
    return {scalar.literal(node.attr)};
  case LoopNode::Apply:
  case LoopNode::Cast:
    break;
  }
  SmallVector<Values, 3> args;
  size_t count = 1;
  for (unsigned arg : node.args) {
    args.push_back(evaluate(arg));
    count = std::max(count, args.back().size());
  }
  Values result;
  for (size_t g = 0; g < count; ++g) {
    SmallVector<Scalar, 3> operands;
    for (const Values &arg : args)
      operands.push_back(arg[arg.size() == 1 ? 0 : g]);
    result.push_back(node.kind == LoopNode::Cast
                         ? scalar.cast(operands[0], node.type, node.saturate)
                         : scalar.apply(node.fn, operands));
  }
  return result;
}

void LoopEmitter::hoist(unsigned id) {
  const LoopNode &node = expr.nodes[id];
  if (node.kind == LoopNode::Literal)
    return;
  if (isBound(node)) {
    evaluate(id);
    return;
  }
  std::optional<bool> state = guardState(id);
  bool isDead = state == false;                        // only `other` is used
  bool isSure = state == true && !node.guards.empty(); // `other` is not used
  if (!isDead)
    for (unsigned data : node.data)
      hoist(data);
  if (!isSure)
    for (unsigned arg : node.args)
      hoist(arg);
}

LoopEmitter::Values LoopEmitter::evaluateCoord(const LoopNode &node) {
  Values result;
  bool vary = alongLanes(node);
  Type i64 = b.getI64Type();
  for (unsigned g = 0, n = alongGroups(node) ? groups.count : 1; g < n; ++g) {
    auto valueAt = [&](int lane) {
      return at(node, g, lane, [&]() -> Value {
        return arith::IndexCastOp::create(b, loc, i64,
                                          index.emit(node.index, dims));
      });
    };
    if (!vary) {
      result.push_back({valueAt(-1), node.type});
      continue;
    }
    auto coefficient = node.index.coefficient(lanes.dim);
    auto step = coefficient ? coefficient->constant() : std::nullopt;
    if (step && !hasLaneData(node)) {
      Scalar base = scalar.broadcast({valueAt(-1), node.type}, lanes.width);
      result.push_back(
          {arith::AddIOp::create(b, loc, base.value, laneNumbers(i64, *step)),
           node.type});
      continue;
    }
    SmallVector<Value> elements;
    for (unsigned l = 0; l < lanes.width; ++l)
      elements.push_back(valueAt(l));
    auto type = VectorType::get({int64_t(lanes.width)}, i64);
    result.push_back(
        {vector::FromElementsOp::create(b, loc, type, elements), node.type});
  }
  return result;
}

// Negative values count from the end; what is out of range is reported and
// clamped.
LoopEmitter::Values LoopEmitter::evaluateToIndex(const LoopNode &node) {
  Values result;
  Type i64 = b.getI64Type();
  Value sizeIndex = index.emit(node.index, dims);
  for (const Scalar &x : evaluate(node.args[0])) {
    unsigned width = x.isVector() ? lanes.width : 0;
    auto splat = [&](Value v) {
      return scalar.broadcast({v, i64}, width).value;
    };
    auto number = [&](int64_t c) {
      return splat(arith::ConstantIntOp::create(b, loc, c, 64));
    };
    auto compare = [&](CmpI predicate, Value l, Value r) -> Value {
      return arith::CmpIOp::create(b, loc, predicate, l, r);
    };
    auto choose = [&](Value c, Value yes, Value no) -> Value {
      return arith::SelectOp::create(b, loc, c, yes, no);
    };
    Value size = splat(arith::IndexCastOp::create(b, loc, i64, sizeIndex));
    Value v = x.value, zero = number(0);
    v = choose(compare(CmpI::slt, v, zero),
               arith::AddIOp::create(b, loc, v, size), v);
    Value isBad = compare(CmpI::uge, v, size);
    if (width && lanes.mask)
      isBad = andMask(isBad, lanes.mask);
    Value any = isBad;
    if (width)
      any =
          vector::ReductionOp::create(b, loc, vector::CombiningKind::OR, isBad);
    scf::IfOp::create(b, loc, any, [&](OpBuilder &nested, Location) {
      Value code =
          arith::ConstantIntOp::create(nested, loc, indexOutOfRange, 32);
      Value zeroIndex = arith::ConstantIndexOp::create(nested, loc, 0);
      memref::StoreOp::create(nested, loc, code, status, zeroIndex);
      scf::YieldOp::create(nested, loc);
    });
    Value last = arith::SubIOp::create(b, loc, size, number(1));
    v = choose(compare(CmpI::sgt, v, last), last, v);
    v = choose(compare(CmpI::slt, v, zero), zero, v);
    result.push_back({v, node.type});
  }
  return result;
}

//===----------------------------------------------------------------------===//
// Guards
//===----------------------------------------------------------------------===//

std::optional<bool> LoopEmitter::guardState(unsigned id) const {
  if (outside.contains(id))
    return false;
  for (unsigned i = 0; i < expr.nodes[id].guards.size(); ++i)
    if (!holds.contains({id, i}))
      return std::nullopt;
  return true;
}

std::optional<int64_t> LoopEmitter::constantOf(const IndexPoly &poly,
                                               unsigned group) const {
  SmallVector<int64_t> values(dims.size());
  for (unsigned d = 0; d < dims.size(); ++d) {
    if (!poly.dependsOnDim(d))
      continue;
    auto value =
        dims[d] && int(d) != lanes.dim ? constantIndex(dims[d]) : std::nullopt;
    if (!value || (int(d) == groups.dim && groups.limit))
      return std::nullopt;
    values[d] = *value + (int(d) == groups.dim ? group * groups.step : 0);
  }
  AffineExpr e = poly.toExpr(expr.context);
  bool hasSymbols = false;
  e.walk([&](AffineExpr x) { hasSymbols |= isa<AffineSymbolExpr>(x); });
  if (hasSymbols)
    return std::nullopt;
  return graph::evaluate(e, {}, values);
}

bool LoopEmitter::isNever(const LoopNode &node, unsigned group) const {
  return llvm::any_of(node.guards, [&](const LoopGuard &guard) {
    auto value = constantOf(guard.expr, group);
    return value && (guard.isEquality ? *value != 0 : *value < 0);
  });
}

SmallVector<LoopGuard, 4> LoopEmitter::openGuards(const LoopNode &node,
                                                  unsigned group) const {
  unsigned id = &node - expr.nodes.data();
  SmallVector<LoopGuard, 4> open;
  for (auto [i, guard] : llvm::enumerate(node.guards))
    if (!holds.contains({id, unsigned(i)}) && !constantOf(guard.expr, group))
      open.push_back(guard);
  return open;
}

bool LoopEmitter::isLinear(const LoopNode &node, const LoopGuard &guard) const {
  for (unsigned data : node.data)
    if (alongLanes(expr.nodes[data]) &&
        guard.expr.dependsOnDim(expr.nodes[data].dim))
      return false;
  if (lanes.dim < 0)
    return true;
  auto coefficient = guard.expr.coefficient(lanes.dim);
  auto step = coefficient ? coefficient->constant() : std::nullopt;
  return step && std::abs(*step) < (1 << 20);
}

Value LoopEmitter::compareLanes(const LoopGuard &guard, Value base,
                                int64_t factor, int64_t constant) {
  // 32 bits are enough once the value of lane 0 is clamped.
  base = index.max(index.min(base, index.constant(1 << 29)),
                   index.constant(-(1 << 29)));
  Type i32 = b.getI32Type();
  Value narrow = arith::IndexCastOp::create(b, loc, i32, base);
  Value splat = scalar.broadcast({narrow, i32}, lanes.width).value;
  return arith::CmpIOp::create(b, loc, guard.isEquality ? CmpI::eq : CmpI::sge,
                               splat, laneNumbers(i32, -factor, -constant));
}

Value LoopEmitter::guardValue(const LoopNode &node, unsigned group) {
  // A guard that is the same in all lanes stays a scalar as long as possible.
  Value uniform, perLane;
  for (const LoopGuard &guard : openGuards(node, group)) {
    auto test = [&](int lane) {
      return at(node, group, lane, [&]() -> Value {
        return arith::CmpIOp::create(
            b, loc, guard.isEquality ? CmpI::eq : CmpI::sge,
            index.emit(guard.expr, dims), index.constant(0));
      });
    };
    bool linear = isLinear(node, guard);
    if (linear && (lanes.dim < 0 || !guard.expr.dependsOnDim(lanes.dim))) {
      uniform = andMask(uniform, test(-1));
      continue;
    }
    if (linear) {
      Value base =
          at(node, group, -1, [&] { return index.emit(guard.expr, dims); });
      int64_t step = *guard.expr.coefficient(lanes.dim)->constant();
      perLane = andMask(perLane, compareLanes(guard, base, step, 0));
      continue;
    }
    SmallVector<Value> elements;
    for (unsigned l = 0; l < lanes.width; ++l)
      elements.push_back(test(l));
    auto type = VectorType::get({int64_t(lanes.width)}, b.getI1Type());
    perLane = andMask(perLane,
                      vector::FromElementsOp::create(b, loc, type, elements));
  }
  if (!perLane)
    return uniform;
  if (uniform)
    perLane = andMask(
        perLane, scalar.broadcast({uniform, b.getI1Type()}, lanes.width).value);
  return perLane;
}

Value LoopEmitter::elementMask(const LoopNode &node, unsigned group,
                               bool guarded, int64_t offset) {
  auto type = VectorType::get({int64_t(lanes.width)}, b.getI1Type());
  SmallVector<bool> whole;
  for (unsigned e = 0; e < lanes.width; ++e)
    whole.push_back((e + offset) % 2 == 0);
  Value mask =
      arith::ConstantOp::create(b, loc, DenseElementsAttr::get(type, whole));
  if (lanes.mask) {
    Value elements = index.sub(index.mul(lanes.count, index.constant(2)),
                               index.constant(offset));
    mask = andMask(mask, vector::CreateMaskOp::create(b, loc, type, elements));
  }
  if (!guarded)
    return mask;
  for (const LoopGuard &guard : openGuards(node, group)) {
    Value base =
        at(node, group, -1, [&] { return index.emit(guard.expr, dims); });
    // Both sides doubled, so that half a lane is a whole number.
    base = index.mul(base, index.constant(2));
    int64_t step = *guard.expr.coefficient(lanes.dim)->constant();
    mask = andMask(mask, compareLanes(guard, base, step, step * offset));
  }
  return mask;
}

//===----------------------------------------------------------------------===//
// Loads
//===----------------------------------------------------------------------===//

LoopEmitter::Values LoopEmitter::evaluateLoad(const LoopNode &node,
                                              unsigned id) {
  std::optional<bool> state = guardState(id);
  if (state == false)
    return evaluate(node.args[0]);
  bool isGuarded = !state;
  if (!isGuarded && isTransposed(node))
    return loadTransposed(node);
  Values others;
  if (isGuarded)
    others = evaluate(node.args[0]);
  Values result;
  for (unsigned g = 0, n = alongGroups(node) ? groups.count : 1; g < n; ++g) {
    if (!isGuarded || (!isNever(node, g) && openGuards(node, g).empty())) {
      result.push_back(loadOne(node, g, Value(), std::nullopt));
      continue;
    }
    Scalar other = others[others.size() == 1 ? 0 : g];
    if (isNever(node, g)) {
      result.push_back(other);
      continue;
    }
    Value guard = guardValue(node, g);
    if (isa<VectorType>(guard.getType())) {
      result.push_back(loadOne(node, g, guard, other));
      continue;
    }
    bool isVector = alongLanes(node);
    other = scalar.broadcast(other, isVector ? lanes.width : 0);
    if (!isVector && other.isVector()) {
      // The lanes agree on the load but not on what stands in for it.
      Scalar neutral = scalar.identity(graph::FoldKind::add, node.type);
      auto choice = scf::IfOp::create(
          b, loc, TypeRange{neutral.value.getType()}, guard, true);
      {
        OpBuilder::InsertionGuard inside(b);
        b.setInsertionPointToEnd(choice.thenBlock());
        scf::YieldOp::create(b, loc,
                             loadOne(node, g, Value(), std::nullopt).value);
        b.setInsertionPointToEnd(choice.elseBlock());
        scf::YieldOp::create(b, loc, neutral.value);
      }
      result.push_back(
          scalar.select(guard, {choice.getResult(0), node.type}, other));
      continue;
    }
    auto choice = scf::IfOp::create(b, loc, TypeRange{other.value.getType()},
                                    guard, true);
    {
      OpBuilder::InsertionGuard inside(b);
      b.setInsertionPointToEnd(choice.thenBlock());
      scf::YieldOp::create(b, loc,
                           loadOne(node, g, Value(), std::nullopt).value);
      b.setInsertionPointToEnd(choice.elseBlock());
      scf::YieldOp::create(b, loc, other.value);
    }
    result.push_back({choice.getResult(0), node.type});
  }
  return result;
}

Scalar LoopEmitter::loadOne(const LoopNode &node, unsigned group, Value mask,
                            std::optional<Scalar> other) {
  if (mask || alongLanes(node))
    return loadLanes(node, group, mask, other);
  Value address =
      at(node, group, -1, [&] { return index.emit(node.index, dims); });
  Value stored = memref::LoadOp::create(b, loc, buffers[node.buffer], address);
  return scalar.fromStorage(stored, node.type);
}

/// What data coordinates and the lane add to a load's address, in each lane.
std::optional<Value> LoopEmitter::dataOffsets(const LoopNode &node,
                                              unsigned group) {
  auto along = node.index.coefficient(lanes.dim);
  auto laneStep = along ? along->constant() : std::nullopt;
  if (!laneStep)
    return std::nullopt;
  Type i64 = b.getI64Type();
  Value sum = laneNumbers(i64, *laneStep);
  for (unsigned data : node.data) {
    auto coefficient = node.index.coefficient(expr.nodes[data].dim);
    auto step = coefficient ? coefficient->constant() : std::nullopt;
    if (!step)
      return std::nullopt;
    Values values = evaluate(data);
    Scalar value =
        scalar.broadcast(values[values.size() == 1 ? 0 : group], lanes.width);
    Value scale =
        scalar
            .broadcast({arith::ConstantIntOp::create(b, loc, *step, 64), i64},
                       lanes.width)
            .value;
    sum = arith::AddIOp::create(
        b, loc, sum, arith::MulIOp::create(b, loc, value.value, scale));
  }
  return sum;
}

Scalar LoopEmitter::loadLanes(const LoopNode &node, unsigned group, Value mask,
                              std::optional<Scalar> other) {
  Value buffer = buffers[node.buffer];
  Type element = cast<MemRefType>(buffer.getType()).getElementType();
  auto type = VectorType::get({int64_t(lanes.width)}, element);
  Value exists = andMask(lanes.mask, mask);
  auto finish = [&](Value stored) {
    Scalar result = scalar.fromStorage(stored, node.type);
    return mask ? scalar.select(mask, result, *other) : result;
  };
  auto coefficient = node.index.coefficient(lanes.dim);
  bool isLinear = coefficient && !hasLaneData(node);
  auto step = isLinear ? coefficient->constant() : std::nullopt;
  auto addressAt = [&](int lane) {
    return at(node, group, lane, [&] { return index.emit(node.index, dims); });
  };
  bool useMask = exists && options.maskedMemory;
  if (step == 1 && (!exists || useMask)) {
    Value base = addressAt(-1);
    if (!exists)
      return finish(vector::LoadOp::create(b, loc, type, buffer, base));
    Value zeros = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
    return finish(vector::MaskedLoadOp::create(b, loc, type, buffer, base,
                                               exists, zeros));
  }
  if (step == -1 && !exists) {
    Value base = index.sub(addressAt(-1), index.constant(lanes.width - 1));
    Value loaded = vector::LoadOp::create(b, loc, type, buffer, base);
    SmallVector<int64_t> order;
    for (unsigned l = lanes.width; l-- > 0;)
      order.push_back(l);
    return finish(
        vector::ShuffleOp::create(b, loc, type, loaded, loaded, order));
  }
  if (step == 2 && !exists) {
    // Two loads, of which every second element is kept. The second ends with
    // the last element that is wanted, so that nothing beyond it is touched.
    Value base = addressAt(-1);
    int64_t width = lanes.width;
    Value low = vector::LoadOp::create(b, loc, type, buffer, base);
    Value high = vector::LoadOp::create(
        b, loc, type, buffer, index.add(base, index.constant(width - 1)));
    SmallVector<int64_t> order;
    for (int64_t l = 0; l < width; ++l)
      order.push_back(2 * l < width ? 2 * l : 2 * l + 1);
    return finish(vector::ShuffleOp::create(b, loc, type, low, high, order));
  }
  if (step == 2 && useMask && (!lanes.mask || lanes.count) &&
      (!mask ||
       llvm::all_of(openGuards(node, group), [&](const LoopGuard &guard) {
         return this->isLinear(node, guard);
       }))) {
    Value base = addressAt(-1);
    int64_t width = lanes.width;
    Value zeros = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
    auto part = [&](int64_t offset) -> Value {
      return vector::MaskedLoadOp::create(
          b, loc, type, buffer, index.add(base, index.constant(offset)),
          elementMask(node, group, mask != nullptr, offset), zeros);
    };
    SmallVector<int64_t> order;
    for (int64_t l = 0; l < width; ++l)
      order.push_back(2 * l < width ? 2 * l : 2 * l + 1);
    Value low = part(0), high = part(width - 1);
    return finish(vector::ShuffleOp::create(b, loc, type, low, high, order));
  }
  if (hasLaneData(node))
    if (auto offsets = dataOffsets(node, group)) {
      // Indices from data: a gather from where the other axes stand.
      IndexPoly rest = node.index;
      for (unsigned data : node.data)
        rest = rest.without(expr.nodes[data].dim);
      Value base = at(node, group, -1, [&] { return index.emit(rest, dims); });
      auto maskType = VectorType::get({int64_t(lanes.width)}, b.getI1Type());
      Value all = exists ? exists
                         : Value(arith::ConstantOp::create(
                               b, loc, DenseElementsAttr::get(maskType, true)));
      Value zeros = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
      return finish(vector::GatherOp::create(
          b, loc, type, buffer, ValueRange{base}, *offsets, all, zeros));
    }
  auto laneAddress = [&](unsigned l) -> Value {
    if (!isLinear || l == 0)
      return addressAt(isLinear ? -1 : int(l));
    Value stride =
        at(node, group, -1, [&] { return index.emit(*coefficient, dims); });
    return index.add(addressAt(-1), index.mul(stride, index.constant(l)));
  };
  if (useMask) {
    // A masked gather from the address of lane 0.
    Value base = isLinear ? addressAt(-1) : index.constant(0);
    Value offsets;
    if (step && std::abs(*step) < (1 << 24)) {
      offsets = laneNumbers(b.getI32Type(), *step);
    } else {
      SmallVector<Value> elements;
      for (unsigned l = 0; l < lanes.width; ++l)
        elements.push_back(arith::IndexCastOp::create(
            b, loc, b.getI64Type(),
            isLinear ? index.sub(laneAddress(l), base) : laneAddress(l)));
      offsets = vector::FromElementsOp::create(
          b, loc, VectorType::get({int64_t(lanes.width)}, b.getI64Type()),
          elements);
    }
    Value zeros = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
    return finish(vector::GatherOp::create(
        b, loc, type, buffer, ValueRange{base}, offsets, exists, zeros));
  }
  SmallVector<Value> elements;
  for (unsigned l = 0; l < lanes.width; ++l) {
    auto load = [&]() -> Value {
      return memref::LoadOp::create(b, loc, buffer, laneAddress(l));
    };
    if (!exists) {
      elements.push_back(load());
      continue;
    }
    Value isThere = vector::ExtractOp::create(b, loc, exists, int64_t(l));
    auto choice = scf::IfOp::create(b, loc, TypeRange{element}, isThere, true);
    OpBuilder::InsertionGuard inside(b);
    b.setInsertionPointToEnd(choice.thenBlock());
    scf::YieldOp::create(b, loc, load());
    b.setInsertionPointToEnd(choice.elseBlock());
    scf::YieldOp::create(
        b, loc,
        Value(arith::ConstantOp::create(b, loc, b.getZeroAttr(element))));
    elements.push_back(choice.getResult(0));
  }
  return finish(vector::FromElementsOp::create(b, loc, type, elements));
}

bool LoopEmitter::isTransposed(const LoopNode &node) const {
  if (lanes.dim < 0 || groups.dim < 0 || groups.dim == lanes.dim ||
      groups.count != lanes.width || groups.step != 1 || !node.data.empty() ||
      !alongLanes(node) || !alongGroups(node))
    return false;
  auto alongLane = node.index.coefficient(lanes.dim);
  auto alongGroup = node.index.coefficient(groups.dim);
  if (!alongLane || !alongGroup || alongGroup->constant() != 1)
    return false;
  auto step = alongLane->constant();
  return !step || std::abs(*step) > 1;
}

LoopEmitter::Values LoopEmitter::loadTransposed(const LoopNode &node) {
  Value buffer = buffers[node.buffer];
  Type element = cast<MemRefType>(buffer.getType()).getElementType();
  int64_t width = lanes.width;
  auto type = VectorType::get({width}, element);
  Value mask, zeros;
  if (groups.limit) {
    mask = vector::CreateMaskOp::create(
        b, loc, VectorType::get({width}, b.getI1Type()), groups.limit);
    zeros = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
  }
  // Row l is what lane l has in all groups.
  SmallVector<Value> rows;
  Value first = dims[lanes.dim];
  for (int64_t l = 0; l < width; ++l) {
    Value offset = index.constant(l);
    if (lanes.count) // lanes that do not exist repeat the last one
      offset = index.min(offset, index.sub(lanes.count, index.constant(1)));
    dims[lanes.dim] = index.add(first, offset);
    Value address = index.emit(node.index, dims);
    rows.push_back(
        mask ? Value(vector::MaskedLoadOp::create(b, loc, type, buffer, address,
                                                  mask, zeros))
             : Value(vector::LoadOp::create(b, loc, type, buffer, address)));
  }
  dims[lanes.dim] = first;
  // Exchange blocks of half the size between pairs of rows, until single
  // elements are exchanged.
  for (int64_t size = width / 2; size >= 1; size /= 2)
    for (int64_t l = 0; l < width; ++l) {
      if (l & size)
        continue;
      SmallVector<int64_t> low, high;
      for (int64_t i = 0; i < width; ++i) {
        low.push_back(i & size ? width + i - size : i);
        high.push_back(i & size ? width + i : i + size);
      }
      Value x = rows[l], y = rows[l + size];
      rows[l] = vector::ShuffleOp::create(b, loc, type, x, y, low);
      rows[l + size] = vector::ShuffleOp::create(b, loc, type, x, y, high);
    }
  Values result;
  for (Value row : rows)
    result.push_back(scalar.fromStorage(row, node.type));
  return result;
}

//===----------------------------------------------------------------------===//
// The result
//===----------------------------------------------------------------------===//

void LoopEmitter::storeInterleaved(const Values &values) {
  int64_t width = lanes.width, count = groups.count;
  SmallVector<Value> stored;
  for (int64_t g = 0; g < count; ++g)
    stored.push_back(scalar.toStorage(
        scalar.broadcast(values[values.size() == 1 ? 0 : g], width)));
  auto type = cast<VectorType>(stored[0].getType());
  Value buffer = buffers[expr.resultBuffer];
  Value first = index.emit(expr.store, dims);
  for (int64_t part = 0; part < count; ++part) {
    // Element e of this part is lane n / count of group n % count.
    Value x = stored[0];
    for (int64_t g = 1; g < count; ++g) {
      SmallVector<int64_t> order;
      for (int64_t e = 0; e < width; ++e) {
        int64_t n = part * width + e, lane = n / count;
        order.push_back(n % count == g ? width + lane : g == 1 ? lane : e);
      }
      x = vector::ShuffleOp::create(b, loc, type, x, stored[g], order);
    }
    Value address = index.add(first, index.constant(part * width));
    if (!lanes.mask) {
      vector::StoreOp::create(b, loc, x, buffer, address);
      continue;
    }
    Value left = index.sub(index.mul(lanes.count, index.constant(count)),
                           index.constant(part * width));
    Value mask = vector::CreateMaskOp::create(
        b, loc, VectorType::get({width}, b.getI1Type()), left);
    vector::MaskedStoreOp::create(b, loc, buffer, ValueRange{address}, mask, x);
  }
}

void LoopEmitter::storeRoot() {
  Values values = evaluate(expr.root);
  Value buffer = buffers[expr.resultBuffer];
  if (groups.interleave)
    return storeInterleaved(values);
  LoopNode point; // only for `at`
  unsigned count = groups.dim >= 0 ? groups.count : 1;
  for (unsigned g = 0; g < count; ++g) {
    Scalar x = values[values.size() == 1 ? 0 : g];
    bool isVector = lanes.dim >= 0;
    x = scalar.broadcast(x, isVector ? lanes.width : 0);
    Value stored = scalar.toStorage(x);
    auto addressAt = [&](int lane) {
      return at(point, g, lane, [&] { return index.emit(expr.store, dims); });
    };
    if (!isVector) {
      memref::StoreOp::create(b, loc, stored, buffer, addressAt(-1));
      continue;
    }
    // LoopNest runs lanes along the innermost axis, where results are dense.
    Value mask = lanes.mask;
    if (groups.limit) {
      Value exists = arith::CmpIOp::create(b, loc, CmpI::slt, index.constant(g),
                                           groups.limit);
      mask = andMask(
          mask, scalar.broadcast({exists, b.getI1Type()}, lanes.width).value);
    }
    if (!mask) {
      vector::StoreOp::create(b, loc, stored, buffer, addressAt(-1));
      continue;
    }
    vector::MaskedStoreOp::create(b, loc, buffer, ValueRange{addressAt(-1)},
                                  mask, stored);
  }
}
