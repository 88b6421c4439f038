// Evaluation of loads, coordinates and functions. A load is emitted according
// to how its address moves from lane to lane: not at all, by one element, or
// otherwise; where a guard does not hold, memory is never touched.
#include "LoopPoint.h"

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
  auto b0 = IndexBuilder::constantOf(begin), e0 = IndexBuilder::constantOf(end);
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
    return evaluateFold(node, id);
  case LoopNode::Inside:
    return evaluateInside(node, id);
  case LoopNode::Store:
    return evaluateStore(node);
  case LoopNode::Tuple:
    for (unsigned store : node.args)
      evaluate(store);
    return {};
  case LoopNode::Literal:
    return {scalar.literal(node.attr)};
  case LoopNode::Apply:
  case LoopNode::Cast:
    break;
  }
  if (auto taken = takenOperand(node))
    return evaluate(*taken);
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

std::optional<unsigned> LoopEmitter::takenOperand(const LoopNode &node) const {
  if (node.kind != LoopNode::Apply || node.fn != graph::ScalarFn::select ||
      expr.nodes[node.args[0]].kind != LoopNode::Inside)
    return std::nullopt;
  std::optional<bool> state = guardState(node.args[0]);
  if (!state)
    return std::nullopt;
  return node.args[*state ? 1 : 2];
}

void LoopEmitter::hoist(unsigned id) {
  llvm::SmallDenseSet<unsigned> seen;
  hoist(id, seen);
}

void LoopEmitter::hoist(unsigned id, llvm::SmallDenseSet<unsigned> &seen) {
  const LoopNode &node = expr.nodes[id];
  if (node.kind == LoopNode::Literal || !seen.insert(id).second)
    return;
  if (auto taken = takenOperand(node))
    return hoist(*taken, seen);
  if (isBound(node)) {
    evaluate(id);
    return;
  }
  if (expr.moments && id == expr.moments->squares)
    return; // its mean is not known yet
  std::optional<bool> state = guardState(id);
  bool isDead = state == false;                        // only `other` is used
  bool isSure = state == true && !node.guards.empty(); // `other` is not used
  if (!isDead)
    for (unsigned data : node.data)
      hoist(data, seen);
  if (!isSure)
    for (unsigned arg : node.args)
      hoist(arg, seen);
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
// Stores
//===----------------------------------------------------------------------===//

void LoopEmitter::storeInterleaved(const LoopNode &node, const Values &values) {
  int64_t width = lanes.width, count = groups.count;
  SmallVector<Value> stored;
  for (int64_t g = 0; g < count; ++g)
    stored.push_back(scalar.toStorage(
        scalar.broadcast(values[values.size() == 1 ? 0 : g], width)));
  auto type = cast<VectorType>(stored[0].getType());
  Value buffer = buffers[node.buffer];
  Value first = index.emit(node.index, dims);
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

static constexpr uint64_t cacheLine = 64;

static uint64_t vectorBytes(Value vector) {
  auto type = cast<VectorType>(vector.getType());
  return type.getNumElements() * type.getElementTypeBitWidth() / 8;
}

std::optional<unsigned> LoopEmitter::findStreamed(unsigned dim) const {
  if (expr.hasShortRuns(dim)) // vectors begin with a run, not with a line
    return std::nullopt;
  for (unsigned id : expr.reachable(expr.root)) {
    const LoopNode &node = expr.nodes[id];
    if (node.kind != LoopNode::Store || !options.streamed.contains(node.buffer))
      continue;
    auto coefficient = node.index.coefficient(dim);
    auto step = coefficient ? coefficient->constant() : std::nullopt;
    bool isKnown = node.data.empty();
    for (unsigned d : node.needs.set_bits())
      isKnown &= d == dim || dims[d];
    if (step == 1 && isKnown)
      return id;
  }
  return std::nullopt;
}

Value LoopEmitter::elementsToLine(unsigned id) {
  const LoopNode &node = expr.nodes[id];
  Value buffer = buffers[node.buffer];
  int64_t size =
      cast<MemRefType>(buffer.getType()).getElementTypeBitWidth() / 8;
  Value begin = memref::ExtractAlignedPointerAsIndexOp::create(b, loc, buffer);
  Value address = index.add(
      begin, index.mul(index.emit(node.index, dims), index.constant(size)));
  // Elements are aligned by themselves.
  Value bytes =
      arith::AndIOp::create(b, loc, index.sub(index.constant(0), address),
                            index.constant(int64_t(cacheLine) - 1));
  return index.divUnsigned(bytes, index.constant(size));
}

LoopEmitter::Values LoopEmitter::evaluateStore(const LoopNode &node) {
  Values values = evaluate(node.args[0]);
  Value buffer = buffers[node.buffer];
  if (groups.interleave) {
    storeInterleaved(node, values);
    return values;
  }
  bool isVector = alongLanes(node);
  for (unsigned g = 0, n = alongGroups(node) ? groups.count : 1; g < n; ++g) {
    Scalar x = values[values.size() == 1 ? 0 : g];
    x = scalar.broadcast(x, isVector ? lanes.width : 0);
    Value stored = scalar.toStorage(x);
    auto addressAt = [&](int lane) {
      return at(node, g, lane, [&] { return index.emit(node.index, dims); });
    };
    if (!isVector) {
      memref::StoreOp::create(b, loc, stored, buffer, addressAt(-1));
      continue;
    }
    // Lanes run where everything that is stored is dense.
    Value mask = lanes.mask;
    if (groups.limit) {
      Value exists = arith::CmpIOp::create(b, loc, CmpI::slt, index.constant(g),
                                           groups.limit);
      mask = andMask(
          mask, scalar.broadcast({exists, b.getI1Type()}, lanes.width).value);
    }
    if (!mask) {
      bool isStreamed = streams == int(node.buffer);
      hasStreams |= isStreamed;
      vector::StoreOp::create(
          b, loc, stored, buffer, addressAt(-1), isStreamed,
          isStreamed ? llvm::Align(std::min(cacheLine, vectorBytes(stored)))
                     : llvm::MaybeAlign());
      continue;
    }
    vector::MaskedStoreOp::create(b, loc, buffer, ValueRange{addressAt(-1)},
                                  mask, stored);
  }
  return values;
}
