// Folds. With lanes along a domain axis (or none) a fold is a loop that carries
// one accumulator a group. Along its own last axis it carries several vectors
// of partial results, which are combined at the end.
#include "dlc/Codegen/CPU/LoopEmitter.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;
using graph::FoldKind;
using graph::ScalarFn;

static bool isArgFold(FoldKind kind) { return kind >= FoldKind::argmax; }

// A fold's state is its accumulators; an arg fold's the best values, then as
// many positions.

Scalar LoopEmitter::initial(const LoopNode &node) {
  if (node.attr)
    return scalar.literal(node.attr);
  Type type = isArgFold(node.fold) ? expr.nodes[node.args[0]].type : node.type;
  return scalar.identity(node.fold, type);
}

LoopEmitter::Values
LoopEmitter::carry(const LoopNode &node, Value begin, Value end, int64_t step,
                   const Values &state,
                   llvm::function_ref<Values(Value, Values)> body) {
  SmallVector<Value> values;
  for (const Scalar &s : state)
    values.push_back(s.value);
  auto typed = [&](ValueRange range) {
    Values result;
    for (auto [v, s] : llvm::zip(range, state))
      result.push_back({v, s.type});
    return result;
  };
  return typed(
      loop(begin, end, step, values, [&](Value iv, ValueRange carried) {
        SmallVector<Value> next;
        for (const Scalar &s : body(iv, typed(carried)))
          next.push_back(s.value);
        return next;
      }));
}

/// The better of two candidates of an arg fold. Elements come in order, so a
/// tie is decided by the kind alone; between lanes it is decided by position.
void LoopEmitter::argStep(const LoopNode &node, Scalar &best, Scalar &position,
                          Scalar x, Scalar at, bool comparePositions) {
  bool isMax =
      node.fold == FoldKind::argmax || node.fold == FoldKind::argmax_last;
  bool takesLast =
      node.fold == FoldKind::argmax_last || node.fold == FoldKind::argmin_last;
  auto both = [&](Scalar l, Scalar r) {
    return scalar.apply(ScalarFn::bit_and, {l, r});
  };
  auto either = [&](Scalar l, Scalar r) {
    return scalar.apply(ScalarFn::bit_or, {l, r});
  };
  auto no = [&](Scalar l) { return scalar.apply(ScalarFn::bit_not, {l}); };
  Scalar wins = scalar.apply(isMax ? ScalarFn::gt : ScalarFn::lt, {x, best});
  Scalar ties = scalar.apply(ScalarFn::eq, {x, best});
  if (isa<FloatType>(x.type)) {
    Scalar isNaN = scalar.apply(ScalarFn::isnan, {x});
    Scalar wasNaN = scalar.apply(ScalarFn::isnan, {best});
    wins = either(wins, both(isNaN, no(wasNaN)));
    ties = either(ties, both(isNaN, wasNaN));
  }
  if (comparePositions)
    wins = either(
        wins, both(ties, scalar.apply(takesLast ? ScalarFn::gt : ScalarFn::lt,
                                      {at, position})));
  else if (takesLast)
    wins = either(wins, ties);
  best = scalar.select(wins.value, x, best);
  position = scalar.select(wins.value, at, position);
}

//===----------------------------------------------------------------------===//
// Lanes along a domain axis
//===----------------------------------------------------------------------===//

LoopEmitter::Values LoopEmitter::evaluateFold(const LoopNode &node) {
  if (rowAxis >= 0 && lanes.dim < 0 && !node.axes.empty() &&
      int(node.axes.back()) == rowAxis)
    return foldRow(node);
  const LoopNode &body = expr.nodes[node.args[0]];
  unsigned count = alongGroups(body) ? groups.count : 1;
  unsigned width = alongLanes(body) ? lanes.width : 0;
  Values state(count, scalar.broadcast(initial(node), width));
  if (isArgFold(node.fold)) {
    Scalar first = scalar.identity(FoldKind::add, b.getI64Type());
    state.append(count, scalar.broadcast(first, width));
  }
  Scope scope(*this);
  state = foldLoops(node, 0, state);
  if (isArgFold(node.fold))
    state.erase(state.begin(), state.begin() + count);
  return state;
}

std::optional<LoopEmitter::AxisRange>
LoopEmitter::clipAxis(const LoopNode &fold, unsigned axis,
                      SmallVectorImpl<std::pair<unsigned, unsigned>> &decided) {
  auto load = expr.skippableLoad(fold, options.scalar.strict);
  if (!load || guardState(*load))
    return std::nullopt;
  AxisRange range;
  for (auto [i, guard] : llvm::enumerate(expr.nodes[*load].guards)) {
    std::pair<unsigned, unsigned> key{*load, unsigned(i)};
    if (holds.contains(key) || guard.isEquality)
      continue;
    bool isFree = !expr.isClippable(*load, i, axis);
    for (unsigned d = 0; d < expr.extents.size() && !isFree; ++d)
      isFree = d != axis && guard.expr.dependsOnDim(d) &&
               (!dims[d] || int(d) == lanes.dim || int(d) == groups.dim);
    if (isFree)
      continue;
    int64_t step = *guard.expr.coefficient(axis)->constant();
    if (!range.begin) {
      range.begin = index.constant(0);
      range.end = index.emit(expr.extents[axis]);
    }
    Value steps = index.floorDiv(index.emit(guard.expr.without(axis), dims),
                                 index.constant(std::abs(step)));
    if (step > 0) // step * axis + rest >= 0 from ceil(-rest / step) on
      range.begin = index.max(range.begin, index.sub(index.constant(0), steps));
    else
      range.end = index.min(range.end, index.add(steps, index.constant(1)));
    decided.push_back(key);
  }
  if (decided.empty())
    return std::nullopt;
  return range;
}

LoopEmitter::Values LoopEmitter::foldLoops(const LoopNode &node, unsigned level,
                                           Values state) {
  if (level == node.axes.size())
    return foldStep(node, state);
  hoist(node.args[0]);
  unsigned axis = node.axes[level];
  SmallVector<std::pair<unsigned, unsigned>> decided;
  if (auto range = clipAxis(node, axis, decided)) {
    for (auto guard : decided)
      holds.insert(guard);
    state = carry(node, range->begin, range->end, 1, state,
                  [&](Value iv, Values carried) {
                    Scope scope(*this);
                    dims[axis] = iv;
                    return foldLoops(node, level + 1, carried);
                  });
    for (auto guard : decided)
      holds.erase(guard);
    dims[axis] = Value();
    return state;
  }
  // Short constant loops are written out: addresses and guards become
  // constants.
  int64_t steps = 1;
  for (unsigned a : ArrayRef<unsigned>(node.axes).drop_front(level)) {
    auto n = graph::constantValue(expr.extents[a]);
    steps = n ? std::min<int64_t>(steps * *n, 1 << 20) : 1 << 20;
  }
  if (steps <= options.unrollLimit) {
    int64_t n = *graph::constantValue(expr.extents[axis]);
    for (int64_t i = 0; i < n; ++i) {
      Scope scope(*this);
      dims[axis] = index.constant(i);
      state = foldLoops(node, level + 1, state);
    }
    dims[axis] = Value();
    return state;
  }
  state = carry(node, index.constant(0), index.emit(expr.extents[axis]), 1,
                state, [&](Value iv, Values carried) {
                  Scope scope(*this);
                  dims[axis] = iv;
                  return foldLoops(node, level + 1, carried);
                });
  dims[axis] = Value();
  return state;
}

LoopEmitter::Values LoopEmitter::foldStep(const LoopNode &node, Values state) {
  const LoopNode &body = expr.nodes[node.args[0]];
  if (isArgFold(node.fold)) {
    Values x = evaluate(node.args[0]);
    unsigned count = state.size() / 2;
    // The position is the row-major coordinate on the fold's axes.
    LoopNode coord;
    coord.kind = LoopNode::Coord;
    coord.type = b.getI64Type();
    coord.needs.resize(expr.extents.size());
    for (unsigned axis : node.axes) {
      coord.index = coord.index * IndexPoly::get(expr.extents[axis]) +
                    IndexPoly::atom(getAffineDimExpr(axis, expr.context));
      coord.needs.set(axis);
    }
    Values at = evaluateCoord(coord);
    for (unsigned g = 0; g < count; ++g) {
      Scalar best = state[g], position = state[count + g];
      argStep(node, best, position, x[x.size() == 1 ? 0 : g],
              at[at.size() == 1 ? 0 : g], /*comparePositions=*/false);
      state[g] = best, state[count + g] = position;
    }
    return state;
  }
  // Steps that change nothing, by constants, are left out.
  auto load = expr.skippableLoad(node, options.scalar.strict);
  auto skips = [&](unsigned group) {
    return load && isNever(expr.nodes[*load], group);
  };
  if (llvm::all_of(llvm::seq<unsigned>(0, state.size()), skips))
    return state;
  // A product that is summed is one instruction where rounding twice is not
  // asked for.
  bool isSingleOrDouble = node.type.isF32() || node.type.isF64();
  if (node.fold == FoldKind::add && isSingleOrDouble &&
      !options.scalar.strict && options.scalar.fma &&
      body.kind == LoopNode::Apply && body.fn == ScalarFn::mul) {
    Values x = evaluate(body.args[0]), y = evaluate(body.args[1]);
    for (auto [g, acc] : llvm::enumerate(state)) {
      if (skips(g))
        continue;
      auto vector = dyn_cast<VectorType>(acc.value.getType());
      unsigned width = vector ? vector.getNumElements() : 0;
      Scalar l = scalar.broadcast(x[x.size() == 1 ? 0 : g], width);
      Scalar r = scalar.broadcast(y[y.size() == 1 ? 0 : g], width);
      acc.value = math::FmaOp::create(b, loc, l.value, r.value, acc.value);
    }
    return state;
  }
  Values x = evaluate(node.args[0]);
  for (auto [g, acc] : llvm::enumerate(state))
    if (!skips(g))
      acc = scalar.combine(node.fold, acc, x[x.size() == 1 ? 0 : g]);
  return state;
}

//===----------------------------------------------------------------------===//
// Lanes along the fold's last axis
//===----------------------------------------------------------------------===//

// The state in the loops: the vectors of the groups, then, where there is no
// masked memory, the scalar of the elements left over; an arg fold's state has
// the positions of the same after it.

LoopEmitter::Values LoopEmitter::foldRow(const LoopNode &node) {
  bool isArg = isArgFold(node.fold), hasScalar = !options.maskedMemory;
  Type valueType = isArg ? expr.nodes[node.args[0]].type : node.type;
  Scalar neutral = scalar.identity(node.fold, valueType);
  Values state(options.rowGroups, scalar.broadcast(neutral, options.width));
  if (hasScalar)
    state.push_back(neutral);
  unsigned count = state.size();
  if (isArg) {
    Scalar first = scalar.identity(FoldKind::add, b.getI64Type());
    state.append(options.rowGroups, scalar.broadcast(first, options.width));
    if (hasScalar)
      state.push_back(first);
  }
  {
    Scope scope(*this);
    state = foldRowLoops(node, 0, state);
  }
  Scalar result = state[0], position = isArg ? state[count] : Scalar();
  auto join = [&](Scalar x, Scalar at) {
    if (isArg)
      argStep(node, result, position, x, at, /*comparePositions=*/true);
    else
      result = scalar.combine(node.fold, result, x);
  };
  for (unsigned g = 1; g < options.rowGroups; ++g)
    join(state[g], isArg ? state[count + g] : Scalar());
  reduceLanes(node, result, isArg ? &position : nullptr);
  if (hasScalar)
    join(state[count - 1], isArg ? state[2 * count - 1] : Scalar());
  if (node.attr)
    join(scalar.literal(node.attr), Scalar());
  return {isArg ? position : result};
}

/// Combines the lanes by halves.
void LoopEmitter::reduceLanes(const LoopNode &node, Scalar &value,
                              Scalar *position) {
  for (int64_t width = options.width; width > 1; width /= 2) {
    auto half = [&](Scalar x, int64_t offset) -> Scalar {
      SmallVector<int64_t> order;
      for (int64_t l = 0; l < width / 2; ++l)
        order.push_back(offset + l);
      auto type =
          VectorType::get({width / 2}, getElementTypeOrSelf(x.value.getType()));
      return {vector::ShuffleOp::create(b, loc, type, x.value, x.value, order),
              x.type};
    };
    Scalar low = half(value, 0), high = half(value, width / 2);
    if (!position) {
      value = scalar.combine(node.fold, low, high);
      continue;
    }
    Scalar at = half(*position, 0), highAt = half(*position, width / 2);
    argStep(node, low, at, high, highAt, /*comparePositions=*/true);
    value = low, *position = at;
  }
  auto first = [&](Scalar x) -> Scalar {
    return {vector::ExtractOp::create(b, loc, x.value, int64_t(0)), x.type};
  };
  value = first(value);
  if (position)
    *position = first(*position);
}

LoopEmitter::Values LoopEmitter::foldRowLoops(const LoopNode &node,
                                              unsigned level, Values state) {
  hoist(node.args[0]);
  if (level + 1 == node.axes.size())
    return foldRowInner(node, state);
  unsigned axis = node.axes[level];
  state = carry(node, index.constant(0), index.emit(expr.extents[axis]), 1,
                state, [&](Value iv, Values carried) {
                  Scope scope(*this);
                  dims[axis] = iv;
                  return foldRowLoops(node, level + 1, carried);
                });
  dims[axis] = Value();
  return state;
}

LoopEmitter::Values LoopEmitter::foldRowInner(const LoopNode &node,
                                              Values state) {
  bool isArg = isArgFold(node.fold), hasScalar = !options.maskedMemory;
  unsigned axis = node.axes.back();
  unsigned all = options.rowGroups + hasScalar;
  int64_t width = options.width, block = width * options.rowGroups;
  Value begin = index.constant(0), extent = index.emit(expr.extents[axis]);
  SmallVector<std::pair<unsigned, unsigned>> decided;
  if (auto range = clipAxis(node, axis, decided)) {
    begin = range->begin;
    extent = index.max(range->end, begin);
    for (auto guard : decided)
      holds.insert(guard);
  }
  // The end of the last whole block of `size` steps.
  auto wholeEnd = [&](int64_t size) {
    Value blocks =
        index.divUnsigned(index.sub(extent, begin), index.constant(size));
    return index.add(begin, index.mul(blocks, index.constant(size)));
  };
  Value blocks = wholeEnd(block);
  // One step on part of the state: accumulators first .. first + count - 1.
  auto step = [&](Values carried, unsigned first, unsigned count) {
    Scope scope(*this);
    Values part(carried.begin() + first, carried.begin() + first + count);
    if (isArg)
      part.append(carried.begin() + all + first,
                  carried.begin() + all + first + count);
    Values next = foldStep(node, part);
    for (unsigned i = 0; i < next.size(); ++i) {
      Scalar &to = carried[i < count ? first + i : all + first + i - count];
      to = lanes.mask ? scalar.select(lanes.mask, next[i], to) : next[i];
    }
    return carried;
  };
  auto run = [&](Value begin, Value end, int64_t stride, LoopLanes useLanes,
                 LoopGroups useGroups, unsigned first, unsigned count) {
    state =
        carry(node, begin, end, stride, state, [&](Value iv, Values carried) {
          dims[axis] = iv;
          lanes = useLanes, groups = useGroups;
          if (lanes.dim >= 0 && options.maskedMemory && stride == width) {
            lanes.count = index.sub(extent, iv);
            auto type = VectorType::get({width}, b.getI1Type());
            lanes.mask =
                vector::CreateMaskOp::create(b, loc, type, lanes.count);
          }
          Values next = step(carried, first, count);
          lanes = LoopLanes(), groups = LoopGroups();
          return next;
        });
    dims[axis] = Value();
  };
  LoopLanes vectors{int(axis), unsigned(width), Value(), Value()};
  LoopGroups several{int(axis), options.rowGroups, width, false, Value()};
  if (options.rowGroups > 1 || !options.maskedMemory)
    run(begin, blocks, block, vectors, several, 0, options.rowGroups);
  else
    blocks = begin;
  if (options.maskedMemory) {
    run(blocks, extent, width, vectors, LoopGroups(), 0, 1);
  } else {
    Value vectorEnd = wholeEnd(width);
    if (options.rowGroups > 1)
      run(blocks, vectorEnd, width, vectors, LoopGroups(), 0, 1);
    run(vectorEnd, extent, 1, LoopLanes(), LoopGroups(), options.rowGroups, 1);
  }
  for (auto guard : decided)
    holds.erase(guard);
  return state;
}
