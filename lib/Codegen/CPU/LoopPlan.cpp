// Choosing lanes. A load that stands still or moves by one element from lane to
// lane costs one instruction; any other costs one a lane. The axis with the
// cheaper loads gets the lanes.
#include "dlc/Codegen/CPU/LoopPlan.h"

#include "dlc/Codegen/Common/ScalarEmitter.h"
#include "dlc/Schedule/RowPlan.h"
#include "dlc/Schedule/ShortRuns.h"

using namespace mlir;
using namespace dlc;
using graph::FoldKind;

/// What the loads cost with lanes along `dim`, in loads of a vector.
static int64_t loadCost(const LoopExpr &expr, unsigned dim) {
  int64_t cost = 0;
  for (unsigned id : expr.reachable(expr.root)) {
    const LoopNode &node = expr.nodes[id];
    if (node.kind != LoopNode::Load)
      continue;
    if (!node.needs.test(dim)) {
      cost += 1;
      continue;
    }
    auto coefficient = node.index.coefficient(dim);
    auto step = coefficient ? coefficient->constant() : std::nullopt;
    bool laneData = llvm::any_of(node.data, [&](unsigned data) {
      return expr.nodes[data].needs.test(dim);
    });
    if (findShortRun(node.index, dim))
      cost += 2;
    else if (laneData || !step)
      cost += 12;
    else
      cost += std::abs(*step) <= 1 ? 1 : std::abs(*step) == 2 ? 2 : 8;
  }
  return cost;
}

/// Bytes of the widest number that lanes along `dim` are computed in.
static unsigned widestBytes(const LoopExpr &expr, unsigned dim) {
  unsigned bytes = 1;
  for (unsigned id : expr.reachable(expr.root)) {
    const LoopNode &node = expr.nodes[id];
    if (!node.needs.test(dim) || node.type.isInteger(1) || node.type.isIndex())
      continue;
    Type type = ScalarEmitter::computeType(node.type);
    bytes = std::max(bytes, type.getIntOrFloatBitWidth() / 8);
  }
  return bytes;
}

static int64_t weight(const LoopNode &node) {
  if (node.kind != LoopNode::Apply)
    return node.kind == LoopNode::Load ? 1 : 0;
  return scalarWeight(node.fn);
}

/// Product of the extents of a fold's axes.
static AffineExpr foldSteps(const LoopExpr &expr, const LoopNode &fold) {
  SmallVector<AffineExpr> extents;
  for (unsigned axis : fold.axes)
    extents.push_back(expr.extents[axis]);
  return graph::product(expr.context, extents);
}

/// Whether lanes along the fold's last axis take less time for each result than
/// lanes along the `across` results, which leave lanes of a vector idle.
static bool isRowFaster(const LoopExpr &expr, const LoopNode &fold,
                        int64_t rowCost, int64_t laneCost, unsigned width,
                        int64_t across) {
  auto extent = graph::constantValue(expr.extents[fold.axes.back()]);
  auto steps = graph::constantValue(foldSteps(expr, fold));
  if (!extent || !steps || *extent == 0)
    return rowCost <= laneCost;
  // What is left in the lanes is combined by halves: a shuffle and an operation
  // that wait for each other.
  int64_t combine = 4 * llvm::Log2_32(width);
  int64_t perRow =
      *steps / *extent * llvm::divideCeil(*extent, width) * rowCost + combine;
  int64_t vectors = (across + width - 1) / width;
  return perRow * across <= vectors * *steps * laneCost;
}

static AffineExpr costOf(const LoopExpr &expr) {
  AffineExpr cost = getAffineConstantExpr(1, expr.context);
  for (unsigned id : expr.reachable(expr.root)) {
    const LoopNode &node = expr.nodes[id];
    if (node.kind != LoopNode::Fold) {
      cost = cost + weight(node);
      continue;
    }
    int64_t body = 1;
    for (unsigned inner : expr.reachable(node.args[0]))
      body += weight(expr.nodes[inner]);
    // A step of a scan combines lanes too.
    cost = cost + (expr.scan ? getAffineConstantExpr(body + 4, expr.context)
                             : foldSteps(expr, node) * body);
  }
  return graph::simplify(cost);
}

/// The fold whose last axis can have the lanes, if there is one.
static const LoopNode *rowFold(const LoopExpr &expr, bool strict) {
  const LoopNode *best = nullptr;
  for (unsigned id : expr.reachable(expr.root)) {
    const LoopNode &node = expr.nodes[id];
    if (node.kind != LoopNode::Fold || node.axes.empty())
      continue;
    bool isSum = node.fold == FoldKind::add || node.fold == FoldKind::mul;
    if (strict && isSum && isa<FloatType>(node.type))
      return nullptr; // the order of a float sum is its result
    if (!best)
      best = &node;
  }
  return best;
}

/// Values that the largest group of folds carries from step to step, for one
/// vector of results; the positions of an arg fold count twice: they are wide.
static unsigned countStates(const LoopExpr &expr) {
  llvm::SmallDenseMap<unsigned, unsigned> states;
  unsigned most = 1;
  for (const LoopNode &node : expr.nodes)
    if (node.kind == LoopNode::Fold) {
      unsigned &count = states[node.group];
      count += node.fold >= FoldKind::argmax ? 4 : 1;
      most = std::max(most, count);
    }
  return most;
}

/// The axis along which all loads are dense that are not along `lane`; -1 when
/// there is none or when tiles do not pay.
static int findTileDim(const LoopExpr &expr, unsigned lane) {
  int found = -1;
  for (unsigned id : expr.reachable(expr.root)) {
    const LoopNode &node = expr.nodes[id];
    if (node.kind == LoopNode::Fold || !node.guards.empty() ||
        !node.data.empty())
      return -1;
    if (node.kind != LoopNode::Load || !node.needs.test(lane))
      continue;
    auto coefficient = node.index.coefficient(lane);
    if (!coefficient)
      return -1;
    auto step = coefficient->constant();
    if (step && std::abs(*step) <= 1)
      continue;
    int dense = -1;
    for (unsigned d : expr.domain)
      if (auto c = node.index.coefficient(d); c && c->constant() == 1)
        dense = d;
    if (dense < 0 || (found >= 0 && dense != found))
      return -1;
    found = dense;
  }
  if (found < 0)
    return -1;
  for (unsigned d : {lane, unsigned(found)})
    if (auto n = graph::constantValue(expr.extents[d]); n && *n < 4)
      return -1;
  return found;
}

/// Whether a fold's row of more than one vector and no more than two is guarded
/// at its ends: neither vector lies inside, and cut into ranges both are tested
/// for themselves. As one vector of twice the lanes the row is masked, not cut.
static bool isCutAtBothEnds(const LoopExpr &expr, const CpuTarget &target,
                            unsigned dim, unsigned width) {
  auto extent = graph::constantValue(expr.extents[dim]);
  if (!extent || *extent <= width || *extent > 2 * width ||
      !ScalarOptions::get(target, /*strict=*/false).maskedMemory)
    return false;
  auto isGuarded = [&](unsigned id) {
    return llvm::any_of(expr.nodes[id].guards, [&](const LoopGuard &guard) {
      return guard.expr.dependsOnDim(dim);
    });
  };
  return llvm::any_of(expr.nodes, [&](const LoopNode &fold) {
    return fold.kind == LoopNode::Fold && fold.needs.test(dim) &&
           llvm::any_of(expr.reachable(fold.args[0]), isGuarded);
  });
}

LoopPlan LoopPlan::get(const LoopExpr &expr, const CpuTarget &target,
                       bool strict, const LoopSchedule &schedule) {
  LoopPlan plan;
  plan.elementCost = costOf(expr);
  if (!expr.domain.empty())
    plan.laneDim = expr.domain.back();
  if (schedule.nest == "generic")
    return plan;
  for (auto [quotient, remainder] : expr.splits) {
    if (remainder == expr.domain.back()) {
      plan.interleaveDim = remainder;
      plan.laneDim = quotient;
    } else {
      plan.unrolled.push_back(remainder);
    }
  }
  unsigned vectorBytes = target.desc().vectorBytes;
  auto lanesOf = [&](unsigned dim) {
    return std::max(2u, vectorBytes / widestBytes(expr, dim));
  };
  auto widthFor = [&](unsigned dim) {
    return schedule.width ? schedule.width : lanesOf(dim);
  };
  if (expr.scan) {
    unsigned last = expr.domain.back();
    bool isAlong = last == expr.scan->dim;
    auto extent = graph::constantValue(expr.extents[last]);
    plan.scanDim = expr.scan->dim;
    plan.laneDim = isAlong ? -1 : int(last);
    plan.width = widthFor(last);
    if (extent && !schedule.width && *extent < plan.width)
      plan.width = std::max<uint64_t>(2, llvm::PowerOf2Ceil(*extent));
    plan.groups = isAlong ? 1 : schedule.groups ? schedule.groups : 4;
    while (plan.groups > 1 && (plan.groups * expr.scan->folds.size() > 8 ||
                               (extent && *extent < plan.groups * plan.width)))
      plan.groups /= 2;
    return plan;
  }
  const LoopNode *fold = expr.splits.empty() ? rowFold(expr, strict) : nullptr;
  if (fold) {
    unsigned axis = fold->axes.back();
    unsigned width = widthFor(axis);
    auto extent = graph::constantValue(expr.extents[axis]);
    bool takes = plan.laneDim < 0;
    if (!takes) {
      auto across = graph::constantValue(expr.extents[plan.laneDim]);
      bool isNarrow = across && *across * 2 <= width;
      bool isShort = extent && *extent * 4 <= width;
      int64_t rowCost = loadCost(expr, axis);
      int64_t laneCost = loadCost(expr, plan.laneDim);
      // Lanes along a window's row that is shorter than a vector: loads of
      // every second element are cheaper.
      bool isWindow = across && extent && *extent < width &&
                      laneCost <= 2 * rowCost && rowCost < laneCost;
      takes = isNarrow || isWindow
                  ? isRowFaster(expr, *fold, rowCost, laneCost, width, *across)
                  : rowCost < laneCost;
      takes &= !isShort;
      // A fold over a prefix (a running sum): along its own axis the steps
      // outside are left out.
      if (auto load = expr.skippableLoad(*fold, strict))
        takes |=
            llvm::any_of(expr.nodes[*load].guards, [&](const LoopGuard &guard) {
              return guard.expr.dependsOnDim(axis) &&
                     guard.expr.dependsOnDim(plan.laneDim) &&
                     !expr.nodes[*load].index.dependsOnDim(plan.laneDim) &&
                     rowCost <= laneCost && !isShort;
            });
    }
    if (takes) {
      plan.laneDim = -1;
      plan.rowAxis = axis;
      plan.width = width;
      // Sums wait for each other; rows of short vectors have many.
      auto has = [&](int64_t vectors) {
        return !extent || *extent >= vectors * width;
      };
      plan.rowGroups = vectorBytes <= 16 && has(16) ? 8
                       : has(4)                     ? 4
                       : has(2)                     ? 2
                                                    : 1;
      // Each fold of the loop has its accumulators.
      while (plan.rowGroups > 1 && plan.rowGroups * countStates(expr) > 8)
        plan.rowGroups /= 2;
      return plan;
    }
  }
  if (plan.laneDim < 0)
    return plan; // one element and nothing to fold
  plan.width = widthFor(plan.laneDim);
  if (plan.interleaveDim >= 0)
    return plan; // the groups are the elements that are interleaved
  if (int tile = findTileDim(expr, plan.laneDim); tile >= 0) {
    plan.tileDim = tile;
    // Turning a tile takes four shuffles a vector, and its rows are far apart.
    plan.elementCost = graph::simplify(plan.elementCost + 8);
    plan.width = std::min(plan.width, 16u); // a tile must fit the registers
    return plan;
  }
  // Lanes beyond the axis would be for nothing.
  if (auto n = graph::constantValue(expr.extents[plan.laneDim]))
    if (!schedule.width && *n < plan.width)
      plan.width = std::max<uint64_t>(2, llvm::PowerOf2Ceil(*n));
  if (!schedule.width &&
      isCutAtBothEnds(expr, target, plan.laneDim, plan.width))
    plan.width *= 2;
  // Several vectors at a time hide latency, as long as registers suffice.
  int64_t work = 0;
  bool hasFold = false;
  for (unsigned id : expr.reachable(expr.root)) {
    work += weight(expr.nodes[id]);
    hasFold |= expr.nodes[id].kind == LoopNode::Fold;
  }
  plan.groups = work <= 6 || (hasFold && work <= 12)                ? 4
                : work <= 16 || target.desc().vectorRegisters >= 32 ? 2
                                                                    : 1;
  // The middle of a row, where no guard is tested, has fewer vectors than it.
  bool hasGuards = llvm::any_of(
      expr.nodes, [](const LoopNode &node) { return !node.guards.empty(); });
  if (hasFold && hasGuards)
    plan.groups = std::min(plan.groups, 2u);
  // A fold of what is only loaded passes over memory with long steps: the wider
  // what it reads of each row, the more of a page is read at a time.
  unsigned most = 8;
  if (hasFold && !hasGuards && work <= 6)
    plan.groups = most = target.desc().vectorRegisters >= 32 ? 16 : 8;
  while (plan.groups > 1 && plan.groups * countStates(expr) > most)
    plan.groups /= 2;
  if (schedule.groups)
    plan.groups = schedule.groups;
  if (auto extent = graph::constantValue(expr.extents[plan.laneDim]))
    while (plan.groups > 1 && *extent < plan.groups * plan.width)
      plan.groups /= 2;
  plan.planAcross(expr, target, schedule,
                  llvm::divideCeil(plan.width, lanesOf(plan.laneDim)));
  return plan;
}
