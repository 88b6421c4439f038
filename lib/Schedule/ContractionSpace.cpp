// Where each stage of a contraction kernel stands in the space of its results.
#include "ContractionSpace.h"

#include "dlc/Schedule/IndexPoly.h"

#include "mlir/IR/IntegerSet.h"

using namespace mlir;
using namespace dlc;

bool IterationSpace::isWide(unsigned axis) const {
  return graph::constantValue(extents[axis]) != 1;
}

FailureOr<AffineExpr> IterationSpace::toAxes(AffineExpr expr,
                                             ValueRange coords) const {
  SmallVector<AffineExpr> axes;
  for (Value coord : coords) {
    auto argument = dyn_cast<BlockArgument>(coord);
    if (!argument)
      return failure();
    axes.push_back(
        arguments.find(argument.getOwner())->second[argument.getArgNumber()]);
  }
  return graph::simplify(IndexPoly::get(expr.replaceDims(axes), extents)
                             .toExpr(expr.getContext()));
}

//===----------------------------------------------------------------------===//
// The iteration space
//===----------------------------------------------------------------------===//

namespace {
/// Finds where each stage stands in the space of the results.
class SpaceBuilder {
public:
  SpaceBuilder(graph::StageOp sum, ArrayRef<graph::StageOp> results,
               ArrayRef<AffineExpr> domain)
      : sum(sum), results(results), context(sum.getContext()) {
    sizes.assign(domain.begin(), domain.end());
    llvm::append_range(sizes, sum.getReduceDims());
    domainRank = domain.size();
  }

  /// Fails, in words, when a stage is read at two places or under a guard.
  FailureOr<IterationSpace> build(std::string &reason);

private:
  FailureOr<IterationSpace> make(std::string &reason);
  LogicalResult place(IterationSpace &space, graph::StageOp stage,
                      ArrayRef<AffineExpr> at, std::string &reason);
  void findSplits(const IterationSpace &space);

  graph::StageOp sum;
  ArrayRef<graph::StageOp> results;
  MLIRContext *context;
  SmallVector<AffineExpr> sizes;
  unsigned domainRank = 0;
  /// Coordinates that are two axes, and by what they are divided.
  DenseMap<unsigned, AffineExpr> divisors;
  SmallVector<AffineExpr> coordinates; ///< of sizes, over the axes
};
} // namespace

/// Calls `body` for each load of a stage's result in `stage`.
static WalkResult
walkStageLoads(graph::StageOp stage,
               function_ref<WalkResult(graph::LoadOp, graph::StageOp)> body) {
  return stage.getBlock()->walk([&](graph::LoadOp load) {
    auto source = load.getTensor().getDefiningOp<graph::StageOp>();
    return source ? body(load, source) : WalkResult::advance();
  });
}

LogicalResult SpaceBuilder::place(IterationSpace &space, graph::StageOp stage,
                                  ArrayRef<AffineExpr> at,
                                  std::string &reason) {
  SmallVector<AffineExpr> arguments(at);
  if (stage != sum && stage.getFoldKind() != graph::FoldKind::none) {
    reason = "a second fold";
    return failure();
  }
  if (stage == sum)
    llvm::append_range(arguments, ArrayRef(coordinates).drop_front(domainRank));
  auto [entry, isNew] =
      space.arguments.try_emplace(stage.getBlock(), arguments);
  if (!isNew) {
    for (auto [x, y] : llvm::zip_equal(entry->second, arguments))
      if (graph::simplify(x - y) != 0) {
        reason = "a stage is read at two places";
        return failure();
      }
    return success();
  }
  LogicalResult result = success();
  walkStageLoads(stage, [&](graph::LoadOp load, graph::StageOp source) {
    SmallVector<AffineExpr> point;
    for (AffineExpr e : load.getMap().getResults()) {
      auto expr = space.toAxes(e, load.getCoords());
      if (failed(expr)) {
        reason = "a stage is read at an index from data";
        result = failure();
        return WalkResult::interrupt();
      }
      point.push_back(*expr);
    }
    if (load.getGuard()) {
      reason = "a stage is read under a guard";
      result = failure();
    } else {
      result = place(space, source, point, reason);
    }
    return failed(result) ? WalkResult::interrupt() : WalkResult::advance();
  });
  return result;
}

/// Finds `axis floordiv n` and `axis mod n` in what the stages read. One
/// divisor an axis: a second one leaves the first expression as it is, which
/// then is not linear, and the kernel is declined.
void SpaceBuilder::findSplits(const IterationSpace &space) {
  auto scan = [&](AffineExpr expr, ValueRange coords) {
    auto inAxes = space.toAxes(expr, coords);
    if (failed(inAxes))
      return;
    inAxes->walk([&](AffineExpr e) {
      auto binary = dyn_cast<AffineBinaryOpExpr>(e);
      if (!binary || (e.getKind() != AffineExprKind::FloorDiv &&
                      e.getKind() != AffineExprKind::Mod))
        return;
      auto dim = dyn_cast<AffineDimExpr>(binary.getLHS());
      if (!dim || !binary.getRHS().isSymbolicOrConstant())
        return;
      // Only an exact division: the axes must tile the coordinate.
      AffineExpr size = sizes[dim.getPosition()], divisor = binary.getRHS();
      auto n = graph::constantValue(size), d = graph::constantValue(divisor);
      bool exact =
          n && d
              ? *d > 0 && *n % *d == 0
              : graph::simplify(size - size.floorDiv(divisor) * divisor) == 0;
      if (exact)
        divisors.try_emplace(dim.getPosition(), divisor);
    });
  };
  for (auto &[block, arguments] : space.arguments)
    for (Operation &op : *block) {
      if (auto inside = dyn_cast<graph::InsideOp>(op))
        for (AffineExpr expr : inside.getSet().getConstraints())
          scan(expr, inside.getCoords());
      auto load = dyn_cast<graph::LoadOp>(op);
      if (!load)
        continue;
      for (AffineExpr expr : load.getMap().getResults())
        scan(expr, load.getCoords());
      if (load.getGuard())
        for (AffineExpr expr : load.getGuard()->getConstraints())
          scan(expr, load.getCoords());
    }
}

FailureOr<IterationSpace> SpaceBuilder::make(std::string &reason) {
  IterationSpace space;
  coordinates.clear();
  auto addAxis = [&](AffineExpr extent) {
    space.extents.push_back(graph::simplify(extent));
    // An axis of one element has one coordinate, as in the normal form.
    return space.isWide(space.extents.size() - 1)
               ? getAffineDimExpr(space.extents.size() - 1, context)
               : getAffineConstantExpr(0, context);
  };
  for (auto [i, size] : llvm::enumerate(sizes)) {
    auto found = divisors.find(i);
    if (found == divisors.end()) {
      coordinates.push_back(addAxis(size));
    } else {
      AffineExpr divisor = found->second;
      AffineExpr outer = addAxis(size.floorDiv(divisor));
      AffineExpr inner = addAxis(divisor);
      coordinates.push_back(outer * divisor + inner);
    }
    if (i + 1 == domainRank)
      space.numDomain = space.extents.size();
  }
  for (graph::StageOp stage : results)
    if (failed(place(space, stage, ArrayRef(coordinates).take_front(domainRank),
                     reason)))
      return failure();
  if (!space.arguments.contains(sum.getBlock())) {
    reason = "no result uses the sum";
    return failure();
  }
  return space;
}

FailureOr<IterationSpace> SpaceBuilder::build(std::string &reason) {
  auto space = make(reason);
  if (failed(space))
    return failure();
  findSplits(*space);
  return divisors.empty() ? space : make(reason);
}

FailureOr<IterationSpace>
dlc::makeIterationSpace(graph::StageOp sum, ArrayRef<graph::StageOp> results,
                        ArrayRef<AffineExpr> domain, std::string &reason) {
  return SpaceBuilder(sum, results, domain).build(reason);
}
