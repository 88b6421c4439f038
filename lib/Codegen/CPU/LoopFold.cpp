// Folds. With lanes along a domain axis (or none) a fold is a loop that carries
// one accumulator a group; LoopRow.cpp has the lanes along the fold's own axis.
// Folds of one group share the loop: what they load is loaded once.
//
// Rounding of a sum grows with the number of additions that a term goes
// through. Where its order is free, a long sum is one of partial sums of about
// kSumBlock steps, in turn summed so.
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
LoopEmitter::carry(Value begin, Value end, int64_t step, const Values &state,
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

/// Steps of a float sum that are added up one after another; twice as many
/// where no block begins.
static constexpr int64_t kSumBlock = 32;

std::optional<int64_t> LoopEmitter::stepsOf(unsigned axis) const {
  if (block && block->axis == axis)
    return block->steps;
  return graph::constantValue(expr.extents[axis]);
}

int64_t LoopEmitter::countSteps(const LoopNode &fold, unsigned level) const {
  int64_t steps = 1, most = 1 << 20;
  for (unsigned axis : ArrayRef<unsigned>(fold.axes).drop_front(level)) {
    auto n = stepsOf(axis);
    if (n && axis == fold.axes.back() && takesRow(fold))
      n = llvm::divideCeil(*n, options.width * options.rowGroups);
    steps = n ? std::min(steps * *n, most) : most;
  }
  return steps;
}

bool LoopEmitter::isFreeSum(unsigned fold) const {
  const LoopNode &node = expr.nodes[fold];
  return node.fold == FoldKind::add && isa<FloatType>(node.type) &&
         !options.scalar.strict;
}

LoopEmitter::Values
LoopEmitter::addPartial(const FoldParts &parts, const Values &state,
                        llvm::function_ref<Values(Values)> body) {
  auto forSums = [&](llvm::function_ref<void(const FoldPart &, unsigned)> f) {
    for (const FoldPart &part : parts)
      for (unsigned i = 0; i < part.count && isFreeSum(part.fold); ++i)
        f(part, part.first + i);
  };
  Values partial = state;
  forSums([&](const FoldPart &part, unsigned i) {
    auto vector = dyn_cast<VectorType>(state[i].value.getType());
    partial[i] = scalar.broadcast(scalar.identity(FoldKind::add, state[i].type),
                                  vector ? vector.getNumElements() : 0);
  });
  Values result = body(partial);
  forSums([&](const FoldPart &part, unsigned i) {
    result[i] = scalar.combine(FoldKind::add, state[i], result[i]);
  });
  return result;
}

LoopEmitter::Values
LoopEmitter::carrySums(const FoldParts &parts, unsigned level, Value begin,
                       Value end, int64_t step, const Values &state,
                       llvm::function_ref<Values(Value, Values)> body) {
  const LoopNode &node = expr.nodes[parts.front().fold];
  int64_t inner = countSteps(node, level + 1);
  auto extent = stepsOf(node.axes[level]);
  int64_t steps = extent ? llvm::divideCeil(*extent, step) : 1 << 20;
  // What is one addition to these loops may be a sum of many inside.
  int64_t each = startsPartial(node, level + 1) ? 1 : inner;
  if (steps * each <= 2 * kSumBlock ||
      llvm::none_of(parts, [&](auto &part) { return isFreeSum(part.fold); }))
    return carry(begin, end, step, state, body);
  int64_t block = step * std::max<int64_t>(kSumBlock / each, 1);
  auto addBlock = [&](Value first, Values carried) {
    Value last = index.min(end, index.add(first, index.constant(block)));
    return addPartial(parts, carried, [&](Values partial) {
      return carry(first, last, step, partial, body);
    });
  };
  // One level of blocks is what an unknown size is worth.
  return extent && block > step
             ? carrySums(parts, level, begin, end, block, state, addBlock)
             : carry(begin, end, block, state, addBlock);
}

bool LoopEmitter::startsPartial(const LoopNode &fold, unsigned level) const {
  return countSteps(fold, level) >= kSumBlock / 8 &&
         countSteps(fold, 0) > 2 * kSumBlock;
}

LoopEmitter::Values
LoopEmitter::foldLevel(const FoldParts &parts, unsigned level, Values state,
                       llvm::function_ref<Values(Values)> body) {
  return startsPartial(expr.nodes[parts.front().fold], level)
             ? addPartial(parts, state, body)
             : body(state);
}

//===----------------------------------------------------------------------===//
// Lanes along a domain axis
//===----------------------------------------------------------------------===//

SmallVector<unsigned, 2> LoopEmitter::foldsHere(unsigned id) {
  SmallVector<unsigned, 2> folds{id};
  for (auto [other, node] : llvm::enumerate(expr.nodes)) {
    if (other == id || node.kind != LoopNode::Fold ||
        node.group != expr.nodes[id].group || !isBound(node))
      continue;
    bool isKnown = llvm::any_of(
        memo, [&](auto &scope) { return scope.contains(unsigned(other)); });
    if (!isKnown)
      folds.push_back(other);
  }
  return folds;
}

LoopEmitter::Values LoopEmitter::evaluateFold(const LoopNode &node,
                                              unsigned id) {
  if (expr.moments &&
      (id == expr.moments->sum || id == expr.moments->squares)) {
    foldMoments();
    return memo.back().lookup(id);
  }
  SmallVector<unsigned, 2> folds = foldsHere(id);
  SmallVector<Values, 2> results =
      takesRow(node) ? foldRow(folds) : foldAcross(folds);
  for (auto [fold, values] : llvm::drop_begin(llvm::zip(folds, results)))
    memo.back()[fold] = values;
  return results[0];
}

/// Appends a fold's accumulators to the state, at what they start from: vectors
/// (or scalars, without lanes), then scalars; an arg fold's positions follow.
void LoopEmitter::addPart(FoldParts &parts, Values &state, unsigned fold,
                          unsigned numVectors, unsigned width,
                          unsigned numScalars) {
  const LoopNode &node = expr.nodes[fold];
  bool isArg = isArgFold(node.fold);
  Type type = isArg ? expr.nodes[node.args[0]].type : node.type;
  unsigned first = state.size();
  auto append = [&](Scalar start) {
    state.append(numVectors, scalar.broadcast(start, width));
    state.append(numScalars, start);
  };
  // Partial results start from the identity: `init` is combined once.
  append(takesRow(node) ? scalar.identity(node.fold, type) : initial(node));
  if (isArg)
    append(scalar.identity(FoldKind::add, b.getI64Type()));
  parts.push_back({fold, first, unsigned(state.size()) - first});
}

SmallVector<LoopEmitter::Values, 2>
LoopEmitter::foldAcross(ArrayRef<unsigned> folds) {
  FoldParts parts;
  Values state;
  for (unsigned fold : folds) {
    const LoopNode &body = expr.nodes[expr.nodes[fold].args[0]];
    addPart(parts, state, fold, alongGroups(body) ? groups.count : 1,
            alongLanes(body) ? lanes.width : 0, 0);
  }
  {
    Scope scope(*this);
    state = foldLoops(parts, 0, state);
  }
  SmallVector<Values, 2> results;
  for (const FoldPart &part : parts) {
    bool isArg = isArgFold(expr.nodes[part.fold].fold);
    auto begin = state.begin() + part.first;
    results.emplace_back(begin + (isArg ? part.count / 2 : 0),
                         begin + part.count);
  }
  return results;
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
    // Equal guards of other nodes hold there too.
    for (auto [id, node] : llvm::enumerate(expr.nodes))
      for (auto [g, other] : llvm::enumerate(node.guards))
        if (other == guard && !holds.contains({unsigned(id), unsigned(g)}))
          decided.push_back({unsigned(id), unsigned(g)});
  }
  if (decided.empty())
    return std::nullopt;
  return range;
}

LoopEmitter::Values LoopEmitter::foldLoops(const FoldParts &parts,
                                           unsigned level, Values state) {
  const LoopNode &node = expr.nodes[parts.front().fold];
  if (level == node.axes.size()) {
    for (const FoldPart &part : parts) {
      auto begin = state.begin() + part.first;
      Values next =
          foldStep(expr.nodes[part.fold], Values(begin, begin + part.count));
      llvm::copy(next, begin);
    }
    return state;
  }
  for (const FoldPart &part : parts)
    hoist(expr.nodes[part.fold].args[0]);
  unsigned axis = node.axes[level];
  auto step = [&](Value iv, Values carried) {
    Scope scope(*this);
    dims[axis] = iv;
    return foldLevel(parts, level + 1, carried, [&](Values inner) {
      return foldLoops(parts, level + 1, inner);
    });
  };
  SmallVector<std::pair<unsigned, unsigned>> decided;
  std::optional<AxisRange> range;
  if (parts.size() == 1)
    range = clipAxis(node, axis, decided);
  if (range) {
    for (auto guard : decided)
      holds.insert(guard);
    state = carrySums(parts, level, range->begin, range->end, 1, state, step);
    for (auto guard : decided)
      holds.erase(guard);
    dims[axis] = Value();
    return state;
  }
  // Short constant loops are written out: addresses and guards become
  // constants.
  if (countSteps(node, level) <= options.unrollLimit) {
    if (auto folded = foldWindows(parts, level, state))
      return *folded;
    int64_t n = *graph::constantValue(expr.extents[axis]);
    for (int64_t i = 0; i < n; ++i) {
      Scope scope(*this);
      dims[axis] = index.constant(i);
      state = foldLoops(parts, level + 1, state);
    }
    dims[axis] = Value();
    return state;
  }
  state = carrySums(parts, level, index.constant(0),
                    index.emit(expr.extents[axis]), 1, state, step);
  dims[axis] = Value();
  return state;
}

/// How far apart in memory are what neighbouring windows along `groups` read,
/// and what neighbouring steps along `axis` do, of the first load of `body`
/// that both move in one direction.
static std::optional<std::pair<int64_t, int64_t>>
windowSteps(const LoopExpr &expr, unsigned body, unsigned groups,
            unsigned axis) {
  auto along = [](const LoopNode &load, unsigned dim) {
    auto coefficient = load.index.coefficient(dim);
    return coefficient ? coefficient->constant().value_or(0) : 0;
  };
  for (unsigned id : expr.reachable(body))
    if (const LoopNode &load = expr.nodes[id]; load.kind == LoopNode::Load)
      if (int64_t group = along(load, groups), tap = along(load, axis);
          group > 0 && tap > 0)
        return std::make_pair(group, tap);
  return std::nullopt;
}

// A window's taps in their order, windows side by side, keep an element of the
// image from the first window that reads it to the last, beside the elements
// between: more than there are registers. Element by element, each goes to all
// windows that it is in and is dead. Each window has its taps in the same order
// both ways.
std::optional<LoopEmitter::Values>
LoopEmitter::foldWindows(const FoldParts &parts, unsigned level, Values state) {
  const LoopNode &node = expr.nodes[parts.front().fold];
  unsigned axis = node.axes[level];
  if (!sharesLoads || groups.dim < 0 || groups.count < 2 || groups.limit)
    return std::nullopt;
  auto steps = windowSteps(expr, node.args[0], unsigned(groups.dim), axis);
  if (!steps)
    return std::nullopt;
  for (const FoldPart &part : parts) {
    if (part.count != groups.count)
      return std::nullopt;
    // Values of all groups at once that are known already have no place here.
    for (unsigned id : expr.reachable(expr.nodes[part.fold].args[0]))
      if (alongGroups(expr.nodes[id]) &&
          llvm::any_of(memo, [&](auto &scope) { return scope.contains(id); }))
        return std::nullopt;
  }
  ArrayRef<unsigned> axes = ArrayRef<unsigned>(node.axes).drop_front(level);
  int64_t count = countSteps(node, level);
  int64_t inner = count / *graph::constantValue(expr.extents[axis]);
  // Where it reads, the number of the step, the window.
  SmallVector<std::tuple<int64_t, int64_t, unsigned>> order;
  for (int64_t number = 0; number < count; ++number)
    for (unsigned g = 0; g < groups.count; ++g)
      order.push_back({int64_t(g) * groups.step * steps->first +
                           number / inner * steps->second,
                       number, g});
  llvm::sort(order);
  LoopGroups all = groups;
  for (auto [place, number, group] : order) {
    Scope scope(*this);
    for (unsigned a : llvm::reverse(axes)) {
      int64_t n = *graph::constantValue(expr.extents[a]);
      dims[a] = index.constant(number % n);
      number /= n;
    }
    groups.first = group;
    groups.count = 1;
    for (const FoldPart &part : parts) {
      Scalar &own = state[part.first + group];
      own = foldStep(expr.nodes[part.fold], {own}).front();
    }
    groups = all;
  }
  for (unsigned a : axes)
    dims[a] = Value();
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
