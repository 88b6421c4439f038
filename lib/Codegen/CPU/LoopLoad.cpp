// Loads and their guards. A load is emitted according to how its address moves
// from lane to lane: not at all, by one element, or otherwise; where a guard
// does not hold, memory is never touched.
#include "EverySecond.h"
#include "LoopPoint.h"
#include "dlc/Schedule/ShortRuns.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;
using CmpI = arith::CmpIPredicate;

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
    auto value = dims[d] && int(d) != lanes.dim
                     ? IndexBuilder::constantOf(dims[d])
                     : std::nullopt;
    if (!value || (int(d) == groups.dim && groups.limit))
      return std::nullopt;
    values[d] = *value;
    if (int(d) == groups.dim)
      values[d] += (groups.first + group) * groups.step;
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

LoopEmitter::Values LoopEmitter::evaluateInside(const LoopNode &node,
                                                unsigned id) {
  auto known = [&](bool value) { return scalar.literal(b.getBoolAttr(value)); };
  if (auto state = guardState(id))
    return {known(*state)};
  Values result;
  for (unsigned g = 0, n = alongGroups(node) ? groups.count : 1; g < n; ++g) {
    if (isNever(node, g))
      result.push_back(known(false));
    else if (Value holds = guardValue(node, g))
      result.push_back({holds, node.type});
    else
      result.push_back(known(true));
  }
  return result;
}

Value LoopEmitter::elementMask(const LoopNode &node, unsigned group,
                               bool guarded, int64_t offset) {
  auto type = VectorType::get({int64_t(lanes.width)}, b.getI1Type());
  SmallVector<bool> whole;
  for (int64_t e = 0; e < lanes.width; ++e)
    whole.push_back(e + offset >= 0 && (e + offset) % 2 == 0);
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

bool LoopEmitter::movesAlongLanes(const LoopNode &node) const {
  return lanes.dim >= 0 &&
         (node.index.dependsOnDim(lanes.dim) || hasLaneData(node));
}

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
      result.push_back(loadShared(node, g));
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
    bool isVector = movesAlongLanes(node);
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

IndexPoly LoopEmitter::normalForm(const IndexPoly &poly, unsigned group,
                                  std::vector<const void *> &key) const {
  SmallVector<AffineExpr> replacement(dims.size());
  for (unsigned d = 0; d < dims.size(); ++d) {
    if (!poly.dependsOnDim(d))
      continue;
    auto constant = IndexBuilder::constantOf(dims[d]);
    if (int(d) == lanes.dim) {
      key.push_back(constant ? reinterpret_cast<const void *>(*constant)
                             : dims[d].getAsOpaquePointer());
      continue;
    }
    if (constant)
      replacement[d] = getAffineConstantExpr(*constant, expr.context);
    else
      key.push_back(dims[d].getAsOpaquePointer());
    if (int(d) == groups.dim)
      replacement[d] =
          (constant ? replacement[d] : getAffineDimExpr(d, expr.context)) +
          int64_t(groups.first + group) * groups.step;
  }
  IndexPoly normal = poly.substitute(replacement, expr.context, {});
  key.push_back(normal.toExpr(expr.context).getAsOpaquePointer());
  return normal;
}

std::vector<const void *> LoopEmitter::sharedKey(const LoopNode &node) const {
  auto number = [](uintptr_t n) { return reinterpret_cast<const void *>(n); };
  return {b.getInsertionBlock(), lanes.mask.getAsOpaquePointer(),
          number(node.buffer), number(movesAlongLanes(node) ? lanes.width : 0)};
}

Scalar LoopEmitter::loadShared(const LoopNode &node, unsigned group) {
  if (!sharesLoads || !node.data.empty() || groups.limit || pairTaps(node))
    return loadOne(node, group, Value(), std::nullopt);
  std::vector<const void *> key = sharedKey(node);
  LoopNode moved = node;
  moved.index = normalForm(node.index, group, key);
  auto [it, isNew] = loaded.try_emplace(key);
  if (isNew) {
    unsigned first = std::exchange(groups.first, 0); // it is in the address
    it->second = loadOne(moved, 0, Value(), std::nullopt);
    groups.first = first;
  }
  return it->second;
}

Scalar LoopEmitter::loadOne(const LoopNode &node, unsigned group, Value mask,
                            std::optional<Scalar> other) {
  if (mask || movesAlongLanes(node))
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

std::optional<Value> LoopEmitter::loadRuns(const LoopNode &node,
                                           unsigned group) {
  auto run = findShortRun(node.index, lanes.dim);
  if (!run || !expr.hasShortRuns(lanes.dim) || hasLaneData(node))
    return std::nullopt;
  Value buffer = buffers[node.buffer];
  Value first =
      at(node, group, -1, [&] { return index.emit(node.index, dims); });
  int64_t width = lanes.width;
  auto type = VectorType::get(
      {width}, cast<MemRefType>(buffer.getType()).getElementType());
  if (*run >= width) // all lanes are of one run
    return vector::BroadcastOp::create(
        b, loc, type, memref::LoadOp::create(b, loc, buffer, first));
  std::vector<const void *> key;
  IndexPoly address = normalForm(node.index, group, key);
  int64_t place = 0;
  for (auto &[monomial, factor] : address.terms) {
    if (monomial.empty())
      place = llvm::mod(factor, *run);
    else if (factor % *run != 0)
      return std::nullopt;
  }
  Value base = index.sub(first, index.constant(place)), runs;
  if (!lanes.mask)
    runs = vector::LoadOp::create(b, loc, type, buffer, base);
  else if (options.maskedMemory)
    runs = vector::MaskedLoadOp::create(
        b, loc, type, buffer, base, lanes.mask,
        arith::ConstantOp::create(b, loc, b.getZeroAttr(type)));
  else
    return std::nullopt;
  SmallVector<int64_t> order;
  for (int64_t lane = 0; lane < width; ++lane)
    order.push_back(lane / *run * *run + place);
  return vector::ShuffleOp::create(b, loc, type, runs, runs, order);
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
  if (mask && !movesAlongLanes(node)) {
    // One element for all lanes, there if any lane wants it.
    Value any =
        vector::ReductionOp::create(b, loc, vector::CombiningKind::OR, exists);
    auto choice = scf::IfOp::create(b, loc, TypeRange{element}, any, true);
    {
      OpBuilder::InsertionGuard inside(b);
      b.setInsertionPointToEnd(choice.thenBlock());
      Value address =
          at(node, group, -1, [&] { return index.emit(node.index, dims); });
      scf::YieldOp::create(
          b, loc, Value(memref::LoadOp::create(b, loc, buffer, address)));
      b.setInsertionPointToEnd(choice.elseBlock());
      scf::YieldOp::create(
          b, loc,
          Value(arith::ConstantOp::create(b, loc, b.getZeroAttr(element))));
    }
    Scalar one = scalar.fromStorage(choice.getResult(0), node.type);
    return scalar.select(mask, one, *other);
  }
  auto coefficient = node.index.coefficient(lanes.dim);
  bool isLinear = coefficient && !hasLaneData(node);
  auto step = isLinear ? coefficient->constant() : std::nullopt;
  auto addressAt = [&](int lane) {
    return at(node, group, lane, [&] { return index.emit(node.index, dims); });
  };
  bool useMask = exists && options.maskedMemory;
  if (step == 1 && (!exists || useMask)) {
    Value base = addressAt(-1);
    if (int64_t ahead = options.prefetch.lookup(node.buffer))
      memref::PrefetchOp::create(
          b, loc, buffer, index.add(base, index.constant(ahead)),
          /*isWrite=*/false, /*localityHint=*/3, /*isDataCache=*/true);
    if (auto result = options.prefetchResult.find(node.buffer);
        result != options.prefetchResult.end())
      memref::PrefetchOp::create(b, loc, buffers[result->second], base,
                                 /*isWrite=*/true, /*localityHint=*/3,
                                 /*isDataCache=*/true);
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
  if (!mask)
    if (auto runs = loadRuns(node, group))
      return finish(*runs);
  if (step == 2 && (!exists || useMask))
    if (auto pair = loadPair(node, group))
      return finish(*pair);
  if (step == 2 && !exists) {
    Value base = addressAt(-1);
    int64_t width = lanes.width;
    Value low = vector::LoadOp::create(b, loc, type, buffer, base);
    Value high = vector::LoadOp::create(
        b, loc, type, buffer, index.add(base, index.constant(width - 1)));
    return finish(everySecond(b, loc, low, high));
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
    Value low = part(0), high = part(width - 1);
    return finish(everySecond(b, loc, low, high));
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
