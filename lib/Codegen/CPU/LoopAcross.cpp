// Register tiles of folds: lanes along one axis, several points of another one
// at once. A weight is loaded once for all points, and an element of an image
// once for all windows that it is in:
//
//   x[w - 1 .. w + T]  -> y[w], y[w + 1], ..., y[w + T - 1]     T accumulators
//
// Tiles at the ends of the axis, where windows reach beyond the image, begin at
// constants: which steps exist is decided while they are written out.
#include "LoopStage.h"

#include "dlc/Codegen/CPU/LoopKnobs.h"

using namespace mlir;
using namespace dlc;

// Copies of the code for tiles at the ends, and multiply-adds of one copy.
static constexpr int64_t maxEndTiles = 4, maxTileSteps = 200,
                         mostWrittenOut = 8, manyTaps = 25;

/// Loads of a fold's step that points along `dim` share: those that do not
/// depend on it, and those whose windows overlap.
static unsigned countShared(const LoopExpr &expr, unsigned dim) {
  unsigned shared = 0;
  for (const LoopNode &fold : expr.nodes) {
    if (fold.kind != LoopNode::Fold || !fold.needs.test(dim))
      continue;
    for (unsigned id : expr.reachable(fold.args[0])) {
      const LoopNode &load = expr.nodes[id];
      if (load.kind != LoopNode::Load)
        continue;
      bool isStep = llvm::any_of(
          fold.axes, [&](unsigned axis) { return load.needs.test(axis); });
      if (!load.index.dependsOnDim(dim)) {
        shared += isStep;
        continue;
      }
      auto along = load.index.coefficient(dim);
      auto step = along ? along->constant() : std::nullopt;
      shared += step && llvm::any_of(fold.axes, [&](unsigned axis) {
                  auto c = load.index.coefficient(axis);
                  auto own = c ? c->constant() : std::nullopt;
                  auto extent = graph::constantValue(expr.extents[axis]);
                  return own && *own && extent && *step % *own == 0 &&
                         std::abs(*step / *own) < *extent;
                });
    }
  }
  return shared;
}

namespace {
/// What the guards along an axis ask for.
struct GuardsAlong {
  int64_t begin, end;                 ///< where all of them hold
  llvm::SmallDenseSet<unsigned> axes; ///< fold axes in them
};
} // namespace

/// Nothing when some guard is not decided by `dim` and constant fold axes.
static std::optional<GuardsAlong> guardsAlong(const LoopExpr &expr,
                                              unsigned dim, int64_t extent) {
  GuardsAlong result{0, extent, {}};
  for (const LoopNode &node : expr.nodes)
    for (const LoopGuard &guard : node.guards) {
      if (!guard.expr.dependsOnDim(dim))
        continue;
      auto along = guard.expr.coefficient(dim);
      auto step = along ? along->constant() : std::nullopt;
      if (!step || *step == 0 || guard.isEquality)
        return std::nullopt;
      IndexPoly rest = guard.expr.without(dim);
      for (unsigned d = 0; d < expr.extents.size(); ++d) {
        if (d == dim || !rest.dependsOnDim(d))
          continue;
        auto coefficient = rest.coefficient(d);
        auto c = coefficient ? coefficient->constant() : std::nullopt;
        auto n = expr.extents[d] ? graph::constantValue(expr.extents[d])
                                 : std::nullopt;
        if (!c || !n || llvm::is_contained(expr.domain, d))
          return std::nullopt;
        result.axes.insert(d);
        rest = rest.without(d);
        if (*c < 0)
          rest = rest + IndexPoly((*n - 1) * *c);
      }
      auto least = rest.constant();
      if (!least)
        return std::nullopt;
      // step * x + least >= 0
      if (*step > 0)
        result.begin =
            std::max(result.begin, -llvm::divideFloorSigned(*least, *step));
      else
        result.end =
            std::min(result.end, llvm::divideFloorSigned(*least, -*step) + 1);
    }
  result.begin = std::min(result.begin, extent);
  result.end = std::max(result.end, result.begin);
  return result;
}

/// Steps of the loops of a fold from the first of `axes` on.
static int64_t stepsToWriteOut(const LoopExpr &expr,
                               const llvm::SmallDenseSet<unsigned> &axes) {
  int64_t most = 0;
  for (const LoopNode &fold : expr.nodes) {
    if (fold.kind != LoopNode::Fold)
      continue;
    int64_t steps = 0;
    for (unsigned axis : fold.axes) {
      if (!steps && axes.contains(axis))
        steps = 1;
      auto n = graph::constantValue(expr.extents[axis]);
      steps = std::min(steps * n.value_or(1 << 20), int64_t(1) << 20);
    }
    most = std::max(most, steps);
  }
  return most;
}

/// Whether some load moves by two elements from lane to lane.
static bool stepsByTwo(const LoopExpr &expr, unsigned dim) {
  return llvm::any_of(expr.nodes, [&](const LoopNode &node) {
    if (node.kind != LoopNode::Load || !node.needs.test(dim))
      return false;
    auto along = node.index.coefficient(dim);
    auto step = along ? along->constant() : std::nullopt;
    return step && std::abs(*step) == 2;
  });
}

/// Whether tasks still have an axis to be cut along, if there is work for more
/// than one.
static bool leavesTasks(const LoopExpr &expr, const LoopPlan &plan,
                        unsigned dim) {
  constexpr int64_t few = 1 << 18;
  AffineExpr work = plan.elementCost;
  for (unsigned d : expr.domain) {
    auto extent = graph::constantValue(expr.extents[d]);
    if (int(d) != plan.laneDim && d != dim && extent != 1)
      return true;
    if (int(d) == plan.laneDim && (!extent || *extent >= 512))
      return true;
    work = work * expr.extents[d];
  }
  auto total = graph::constantValue(graph::simplify(work));
  return total && *total <= few;
}

void LoopPlan::planAcross(const LoopExpr &expr, const CpuTarget &target,
                          const LoopSchedule &schedule, int64_t registers) {
  unsigned folds = 0;
  for (unsigned id : expr.reachable(expr.root)) {
    const LoopNode &node = expr.nodes[id];
    folds += node.kind == LoopNode::Fold;
    if ((node.kind == LoopNode::Fold && node.fold >= graph::FoldKind::argmax) ||
        !node.data.empty())
      return;
  }
  if (!folds || schedule.across == 1 || laneDim < 0 || width < 2)
    return;
  for (unsigned d : llvm::reverse(expr.domain)) {
    auto extent = graph::constantValue(expr.extents[d]);
    // A loop that is written out has a copy of the code for each point already.
    if (int(d) == laneDim || llvm::is_contained(unrolled, d) || !extent ||
        *extent < 2 || !countShared(expr, d) || !leavesTasks(expr, *this, d))
      continue;
    auto guards = guardsAlong(expr, d, *extent);
    if (!guards)
      continue;
    int64_t steps = stepsToWriteOut(expr, guards->axes);
    // Accumulators, what is loaded once for all of them, and a few more. (The
    // second fold of an average, of whole numbers, mostly needs none.)
    int64_t most = target.desc().vectorRegisters >= 32 ? 14 : 6;
    most = std::max<int64_t>(most / std::max<int64_t>(folds, registers), 2);
    // An axis that is one tile has both ends in one copy of the code.
    llvm::SmallDenseSet<unsigned> all;
    for (const LoopNode &node : expr.nodes)
      all.insert(node.axes.begin(), node.axes.end());
    bool isOneTile = stepsToWriteOut(expr, all) >= manyTaps &&
                     *extent <= most && *extent * steps <= 2 * maxTileSteps;
    if (steps && !isOneTile)
      most = std::min({most, mostWrittenOut, maxTileSteps / steps});
    // Taps two elements apart are taken from two loads: those of the next tap
    // stay in registers, too.
    if (registers > 1 && stepsByTwo(expr, laneDim))
      most = std::min(most, std::max<int64_t>(mostWrittenOut / registers, 2));
    if (schedule.across)
      most = std::min(schedule.across, kMostAcross);
    if (most < 2)
      continue;
    int64_t tiles = llvm::divideCeil(*extent, most);
    int64_t count = llvm::divideCeil(*extent, tiles), ends = 0;
    for (int64_t at = 0; at < *extent; at += count)
      ends += at < guards->begin || at + count > guards->end;
    if (ends > maxEndTiles)
      continue;
    acrossDim = d;
    acrossCount = count;
    insideBegin = guards->begin;
    insideEnd = guards->end;
    unrollLimit = std::max<int64_t>(unrollLimit, steps);
    groups = 1;
    return;
  }
}

void StageLoops::emitTileAcross(Value at, unsigned count, Value begin,
                                Value end) {
  LoopEmitter::Scope scope(emitter);
  emitter.setDim(plan.acrossDim, at);
  if (count > 1)
    across = {plan.acrossDim, count, 1, false, Value()};
  emitter.groups = across;
  emitter.sharesLoads = true;
  emitRange(begin, end);
  emitter.sharesLoads = false;
  emitter.groups = across = LoopGroups();
  emitter.setDim(plan.acrossDim, Value());
}

void StageLoops::emitAcross(Value begin, Value end) {
  int64_t n = *graph::constantValue(expr.extents[plan.acrossDim]);
  int64_t count = plan.acrossCount;
  auto isInside = [&](int64_t at) {
    return at >= plan.insideBegin && at + count <= plan.insideEnd;
  };
  for (int64_t at = 0; at < n;) {
    int64_t to = at;
    while (to < n && isInside(to))
      to += count;
    if (to == at) { // an end, or what is left over
      emitTileAcross(index.constant(at), std::min(count, n - at), begin, end);
      at += count;
      continue;
    }
    SmallVector<std::pair<unsigned, unsigned>> held;
    for (auto [id, node] : llvm::enumerate(expr.nodes))
      for (auto [g, guard] : llvm::enumerate(node.guards))
        if (dependsAcross(guard) &&
            emitter.holds.insert({unsigned(id), unsigned(g)}).second)
          held.push_back({unsigned(id), unsigned(g)});
    emitter.loop(index.constant(at), index.constant(to), count, {},
                 [&](Value iv, ValueRange) {
                   emitTileAcross(iv, count, begin, end);
                   return SmallVector<Value>();
                 });
    for (auto guard : held)
      emitter.holds.erase(guard);
    at = to;
  }
}
