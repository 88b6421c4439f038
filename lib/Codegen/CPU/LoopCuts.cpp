// A row's innermost axis is cut where guards change from true to false, so that
// most of it runs without tests:
//
//   row   |---- guards tested ----|-------- all hold --------|-- tested --|
#include "LoopStage.h"

#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace dlc;

// Guards are resolved by cutting ranges up to this many nested cuts, as long as
// the copies of the code are not more than these; what is left is tested.
static constexpr unsigned maxCuts = 40, maxLeaves = 48;

/// The first load, from the root, whose guards are neither known nor given up.
std::optional<unsigned> StageLoops::nextGuard() {
  std::vector<bool> seen(expr.nodes.size());
  std::optional<unsigned> found;
  auto visit = [&](auto &&self, unsigned id) -> void {
    if (found || seen[id])
      return;
    seen[id] = true;
    const LoopNode &node = expr.nodes[id];
    std::optional<bool> state = emitter.guardState(id);
    bool isKnown = state.has_value() && !node.guards.empty();
    // What the outer loops determine has been evaluated there.
    bool isFixed = llvm::all_of(node.needs.set_bits(), [&](unsigned d) {
      return emitter.getDims()[d] != nullptr;
    });
    bool isClear = true; // nothing is left for a cut to decide
    for (unsigned i = 0; i < node.guards.size(); ++i)
      isClear &= emitter.holds.contains({id, i}) || isClipped(id, i) ||
                 isConstantLater(node.guards[i]);
    if (!isKnown && !isFixed && !isClear && !tested.contains(id)) {
      found = id;
      return;
    }
    if (auto taken = emitter.takenOperand(node))
      return self(self, *taken);
    if (isKnown && !*state && node.kind == LoopNode::Load)
      return self(self, node.args[0]);
    for (unsigned data : node.data)
      self(self, data);
    if (!isKnown)
      for (unsigned arg : node.args)
        self(self, arg);
  };
  visit(visit, expr.root);
  return found;
}

bool StageLoops::isClipped(unsigned id, unsigned number) const {
  const LoopGuard &guard = expr.nodes[id].guards[number];
  if (dependsAcross(guard) || guard.isEquality ||
      (plan.laneDim >= 0 && guard.expr.dependsOnDim(plan.laneDim)))
    return false;
  for (const LoopNode &fold : expr.nodes) {
    auto load = expr.skippableLoad(fold, strict);
    if (!load)
      continue;
    ArrayRef<LoopGuard> guards = expr.nodes[*load].guards;
    auto equal = llvm::find(guards, guard);
    if (equal == guards.end())
      continue;
    // One axis of this fold, and otherwise what the loops outside determine.
    unsigned axes = 0;
    bool isOther = false;
    for (unsigned d = 0; d < expr.extents.size(); ++d) {
      if (!guard.expr.dependsOnDim(d) || emitter.getDims()[d])
        continue;
      isOther |= !llvm::is_contained(fold.axes, d) ||
                 !expr.isClippable(*load, equal - guards.begin(), d);
      ++axes;
    }
    if (!isOther && axes == 1)
      return true;
  }
  return false;
}

/// Whether a guard depends only on constants and on axes that are written out.
bool StageLoops::isConstantLater(const LoopGuard &guard) const {
  for (unsigned d = 0; d < expr.extents.size(); ++d) {
    if (!guard.expr.dependsOnDim(d))
      continue;
    Value value = emitter.getDims()[d];
    if (int(d) == plan.laneDim || (value && !IndexBuilder::constantOf(value)) ||
        !expr.extents[d] || !graph::constantValue(expr.extents[d]))
      return false;
  }
  return true;
}

/// The least value of the terms of `poly` that depend on axes not yet in a
/// loop, over the steps at which all constant guards of the node hold; the
/// other terms are left in `poly`. Nothing when the terms are not constant
/// then.
std::optional<int64_t> StageLoops::takeLeast(const LoopNode &node,
                                             IndexPoly &poly) const {
  ArrayRef<Value> dims = emitter.getDims();
  auto isOpen = [&](unsigned d) { return int(d) != plan.laneDim && !dims[d]; };
  IndexPoly part, rest;
  for (auto &term : poly.terms) {
    IndexPoly single;
    single.terms.insert(term);
    bool hasOpen = false;
    for (unsigned d = 0; d < expr.extents.size(); ++d)
      hasOpen |= isOpen(d) && single.dependsOnDim(d);
    (hasOpen ? part : rest).terms.insert(term);
  }
  if (!isConstantLater({part, false}))
    return std::nullopt;
  bool hasSymbols = false;
  part.toExpr(expr.context).walk([&](AffineExpr e) {
    hasSymbols |= isa<AffineSymbolExpr>(e);
  });
  if (hasSymbols)
    return std::nullopt;
  // Every step of the axes that the part or a constant guard depends on.
  SmallVector<const LoopGuard *> conditions;
  for (const LoopGuard &guard : node.guards)
    if (guard.isEquality && isConstantLater(guard))
      conditions.push_back(&guard);
  SmallVector<unsigned> axes;
  int64_t steps = 1;
  SmallVector<int64_t> values(expr.extents.size());
  for (unsigned d = 0; d < expr.extents.size(); ++d) {
    bool isUsed = part.dependsOnDim(d);
    for (const LoopGuard *guard : conditions)
      isUsed |= guard->expr.dependsOnDim(d);
    if (!isUsed)
      continue;
    if (dims[d]) {
      values[d] = *IndexBuilder::constantOf(dims[d]);
      continue;
    }
    axes.push_back(d);
    steps *= *graph::constantValue(expr.extents[d]);
  }
  if (steps > 4096)
    return std::nullopt;
  AffineExpr value = part.toExpr(expr.context);
  std::optional<int64_t> least;
  for (int64_t step = 0; step < steps; ++step) {
    int64_t number = step;
    for (unsigned axis : axes) {
      int64_t n = *graph::constantValue(expr.extents[axis]);
      values[axis] = number % n;
      number /= n;
    }
    if (llvm::any_of(conditions, [&](const LoopGuard *guard) {
          return graph::evaluate(guard->expr.toExpr(expr.context), {},
                                 values) != 0;
        }))
      continue;
    int64_t here = graph::evaluate(value, {}, values);
    least = least ? std::min(*least, here) : here;
  }
  poly = rest;
  return least.value_or(0); // no step at all: the guard is never asked
}

/// Where in [begin, end) all guards of a load hold, whatever the fold axes.
std::optional<StageLoops::Cut> StageLoops::findCut(unsigned id, Value begin,
                                                   Value end) {
  const LoopNode &node = expr.nodes[id];
  Cut cut;
  cut.begin = begin, cut.end = end;
  Value always;
  SmallVector<Value> dims(emitter.getDims());
  for (auto [i, guard] : llvm::enumerate(node.guards)) {
    if (emitter.holds.contains({id, unsigned(i)}))
      continue;
    if (dependsAcross(guard) || isClipped(id, i) ||
        (guard.isEquality && isConstantLater(guard))) {
      cut.isExact = false;
      continue;
    }
    cut.guards.push_back(i);
    IndexPoly least = guard.expr;
    if (guard.isEquality)
      return std::nullopt;
    bool hasOpen = false;
    for (unsigned d = 0; d < expr.extents.size(); ++d)
      hasOpen |= int(d) != plan.laneDim && !dims[d] && least.dependsOnDim(d);
    if (hasOpen)
      if (auto value = takeLeast(node, least)) {
        cut.isExact = false;
        least = least + IndexPoly(*value);
      }
    for (unsigned d = 0; d < expr.extents.size(); ++d) {
      if (int(d) == plan.laneDim || dims[d] || !least.dependsOnDim(d))
        continue;
      // An axis of a fold (or a data coordinate): take its least value.
      auto coefficient = least.coefficient(d);
      auto c = coefficient ? coefficient->constant() : std::nullopt;
      if (!c || !expr.extents[d])
        return std::nullopt;
      cut.isExact = false;
      least = least.without(d);
      if (*c < 0)
        least = least + (IndexPoly::get(expr.extents[d]) - IndexPoly(1)) * *c;
    }
    auto coefficient = least.coefficient(plan.laneDim);
    auto c = coefficient ? coefficient->constant() : std::nullopt;
    if (!c)
      return std::nullopt;
    Value rest = index.emit(least.without(plan.laneDim), dims);
    if (*c == 0) {
      Value holds = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sge,
                                          rest, index.constant(0));
      always =
          always ? Value(arith::AndIOp::create(b, loc, always, holds)) : holds;
      continue;
    }
    cut.isUniform = false;
    Value steps = index.floorDiv(rest, index.constant(std::abs(*c)));
    if (*c > 0) // c v + rest >= 0 from v = ceil(-rest / c) on
      cut.begin = index.max(cut.begin, index.sub(index.constant(0), steps));
    else
      cut.end = index.min(cut.end, index.add(steps, index.constant(1)));
  }
  if (!cut.isUniform) {
    cut.begin = index.min(cut.begin, end);
    cut.end = index.max(cut.end, cut.begin);
  }
  if (always)
    cut.end = arith::SelectOp::create(b, loc, always, cut.end, cut.begin);
  return cut;
}

/// Emits the range in parts, by where the guards of one load hold.
bool StageLoops::emitCut(unsigned id, Value begin, Value end) {
  std::optional<Cut> cut = findCut(id, begin, end);
  if (!cut)
    return false;
  if (!cut->isExact && !cut->isUniform && maskedMemory && plan.width > 1) {
    // One vector is no more with tests than without.
    auto b0 = IndexBuilder::constantOf(begin),
         e0 = IndexBuilder::constantOf(end);
    if (b0 && e0 && *e0 - *b0 <= int64_t(plan.width))
      return false;
    // Whole vectors on both sides: the tested ones are masked anyway.
    Value width = index.constant(plan.width);
    auto inVectors = [&](Value v) { return index.divUnsigned(v, width); };
    Value first = index.mul(
        index.ceilDivUnsigned(index.sub(cut->begin, begin), width), width);
    Value isLast =
        arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, cut->end, end);
    Value last = index.add(
        begin, index.mul(inVectors(index.sub(cut->end, begin)), width));
    cut->end = arith::SelectOp::create(b, loc, isLast, end, last);
    cut->begin = index.min(index.add(begin, first), end);
    cut->end = index.max(cut->end, cut->begin);
  }
  ++cuts;
  // Nodes with the same guards are decided with it.
  SmallVector<std::pair<unsigned, unsigned>> held;
  SmallVector<unsigned> others;
  for (auto [other, node] : llvm::enumerate(expr.nodes)) {
    for (auto [g, guard] : llvm::enumerate(node.guards))
      if (llvm::any_of(cut->guards, [&](unsigned own) {
            return expr.nodes[id].guards[own] == guard;
          }))
        if (emitter.holds.insert({unsigned(other), unsigned(g)}).second)
          held.push_back({unsigned(other), unsigned(g)});
    if (!node.guards.empty() && expr.impliesGuards(other, id))
      others.push_back(other);
  }
  emitRange(cut->begin, cut->end);
  for (auto guard : held)
    emitter.holds.erase(guard);
  llvm::erase_if(others, [&](unsigned other) {
    return cut->isExact ? !emitter.outside.insert(other).second
                        : !tested.insert(other).second;
  });
  // Parts that are empty are left at once: they would pass all further cuts.
  auto emitPart = [&](Value from, Value to) {
    Value isThere =
        arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, from, to);
    auto choice = scf::IfOp::create(b, loc, isThere, /*withElse=*/false);
    OpBuilder::InsertionGuard inside(b);
    b.setInsertionPoint(choice.thenBlock()->getTerminator());
    emitRange(from, to);
  };
  if (cut->isUniform) {
    emitPart(cut->end, end);
  } else {
    // The parts before and after share their code.
    emitter.loop(
        index.constant(0), index.constant(2), 1, {},
        [&](Value part, ValueRange) {
          Value isFirst = arith::CmpIOp::create(
              b, loc, arith::CmpIPredicate::eq, part, index.constant(0));
          emitPart(arith::SelectOp::create(b, loc, isFirst, begin, cut->end),
                   arith::SelectOp::create(b, loc, isFirst, cut->begin, end));
          return SmallVector<Value>();
        });
  }
  for (unsigned other : others) {
    emitter.outside.erase(other);
    tested.erase(other);
  }
  --cuts;
  return true;
}

void StageLoops::emitRange(Value begin, Value end) {
  auto b0 = IndexBuilder::constantOf(begin), e0 = IndexBuilder::constantOf(end);
  if (b0 && e0 && *b0 >= *e0)
    return;
  SmallVector<unsigned> givenUp;
  while (cuts < maxCuts && leaves < maxLeaves) {
    std::optional<unsigned> id = nextGuard();
    if (!id)
      break;
    if (emitCut(*id, begin, end)) {
      for (unsigned g : givenUp)
        tested.erase(g);
      return;
    }
    tested.insert(*id);
    givenUp.push_back(*id);
  }
  emitLeaf(begin, end);
  for (unsigned g : givenUp)
    tested.erase(g);
}
