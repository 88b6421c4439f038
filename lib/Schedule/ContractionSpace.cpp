// Where each stage of a contraction kernel stands in the space of its results.
#include "ContractionSpace.h"

#include "dlc/Schedule/DataCoordinates.h"
#include "dlc/Schedule/IndexPoly.h"

#include "mlir/IR/IntegerSet.h"

using namespace mlir;
using namespace dlc;

bool IterationSpace::isWide(unsigned axis) const {
  return graph::constantValue(extents[axis]) != 1;
}

FailureOr<AffineExpr> IterationSpace::toAxes(AffineExpr expr,
                                             ValueRange coords) const {
  SmallVector<graph::ToIndexOp> data;
  auto inAxes = dlc::toAxes(*this, expr, coords, data);
  return data.empty() ? inAxes : FailureOr<AffineExpr>(failure());
}

FailureOr<AffineExpr> dlc::toAxes(const IterationSpace &space, AffineExpr expr,
                                  ValueRange coords,
                                  SmallVectorImpl<graph::ToIndexOp> &data) {
  SmallVector<AffineExpr> axes;
  for (Value coord : coords) {
    if (auto argument = dyn_cast<BlockArgument>(coord)) {
      axes.push_back(space.arguments.find(argument.getOwner())
                         ->second[argument.getArgNumber()]);
      continue;
    }
    auto toIndex = coord.getDefiningOp<graph::ToIndexOp>();
    if (!toIndex)
      return failure();
    auto known = llvm::find(data, toIndex);
    axes.push_back(getAffineDimExpr(space.extents.size() +
                                        std::distance(data.begin(), known),
                                    expr.getContext()));
    if (known == data.end())
      data.push_back(toIndex);
  }
  return graph::simplify(IndexPoly::get(expr.replaceDims(axes), space.extents)
                             .toExpr(expr.getContext()));
}

//===----------------------------------------------------------------------===//
// The iteration space
//===----------------------------------------------------------------------===//

namespace {
/// Finds where each stage stands in the space of the results.
class SpaceBuilder {
public:
  SpaceBuilder(ArrayRef<FoldPlace> folds, ArrayRef<graph::StageOp> results,
               ArrayRef<AffineExpr> domain, bool splitsOften)
      : folds(folds), results(results),
        context(folds.front().stage->getContext()), splitsOften(splitsOften) {
    sizes.assign(domain.begin(), domain.end());
    domainRank = domain.size();
    for (const FoldPlace &fold : folds) {
      if (fold.group != groupStart.size())
        continue;
      groupStart.push_back(sizes.size());
      llvm::append_range(sizes, graph::StageOp(fold.stage).getReduceDims());
    }
    divisors.resize(sizes.size());
  }

  /// Fails, in words, when a stage is read at two places or under a guard.
  FailureOr<IterationSpace> build(std::string &reason);

private:
  FailureOr<IterationSpace> make(std::string &reason);
  LogicalResult place(IterationSpace &space, graph::StageOp stage,
                      ArrayRef<AffineExpr> at, std::string &reason);
  bool findSplits(const IterationSpace &space);
  bool addDivisor(unsigned coordinate, AffineExpr divisor);
  ArrayRef<AffineExpr> coordinatesOf(unsigned group) const {
    size_t end = group + 1 < groupStart.size() ? groupStart[group + 1]
                                               : coordinates.size();
    return ArrayRef(coordinates)
        .slice(groupStart[group], end - groupStart[group]);
  }

  ArrayRef<FoldPlace> folds;
  ArrayRef<graph::StageOp> results;
  MLIRContext *context;
  bool splitsOften;
  SmallVector<AffineExpr> sizes; ///< of the domain, then of each group
  unsigned domainRank = 0;
  SmallVector<unsigned> groupStart;
  /// Of coordinates that are several axes, by what they are divided: each
  /// divides the next.
  SmallVector<SmallVector<AffineExpr>> divisors;
  SmallVector<AffineExpr> coordinates; ///< of sizes, over the axes
  SmallVector<AffineExpr> placeValues; ///< by axis, in its coordinate
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
  auto fold = llvm::find_if(
      folds, [&](const FoldPlace &f) { return f.stage == stage; });
  if (fold != folds.end())
    llvm::append_range(arguments, coordinatesOf(fold->group));
  else if (stage.getFoldKind() != graph::FoldKind::none) {
    reason = "a second fold";
    return failure();
  }
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

/// Whether one size divides the other wherever both are sizes.
static bool divides(AffineExpr divisor, AffineExpr size) {
  auto n = graph::constantValue(size), d = graph::constantValue(divisor);
  return n && d ? *d > 0 && *n % *d == 0
                : graph::simplify(size - size.floorDiv(divisor) * divisor) == 0;
}

/// Only exact divisions: the axes must tile the coordinate.
bool SpaceBuilder::addDivisor(unsigned coordinate, AffineExpr divisor) {
  SmallVector<AffineExpr> &chain = divisors[coordinate];
  if (!divides(divisor, sizes[coordinate]) ||
      graph::simplify(divisor - sizes[coordinate]) == 0 ||
      graph::constantValue(divisor) == 1)
    return false;
  size_t position = 0;
  for (AffineExpr other : chain) {
    if (graph::simplify(other - divisor) == 0)
      return false;
    if (divides(other, divisor))
      ++position;
    else if (!divides(divisor, other))
      return false;
  }
  if (!chain.empty() && !splitsOften)
    return false;
  chain.insert(chain.begin() + position, divisor);
  return true;
}

/// Whether `value` is used for nothing but coordinates.
static bool isIndexAlone(Value value) {
  return !value.use_empty() && llvm::all_of(value.getUsers(), [](Operation *u) {
    return isa<graph::ToIndexOp>(u) || (isa<graph::ApplyOp, graph::CastOp>(u) &&
                                        isIndexAlone(u->getResult(0)));
  });
}

/// Finds `axis floordiv n` and `axis mod n` in what the stages read. A divisor
/// that does not fit leaves the expression as it is, which then is not linear,
/// and the kernel is declined.
bool SpaceBuilder::findSplits(const IterationSpace &space) {
  bool found = false;
  auto scan = [&](AffineExpr expr, ValueRange coords) {
    SmallVector<graph::ToIndexOp> data;
    auto inAxes = toAxes(space, expr, coords, data);
    if (failed(inAxes))
      return;
    // Where data say which rows are read, what they say it by is no split: a
    // position in a page, and the page.
    llvm::SmallSetVector<unsigned, 8> whole;
    for (Value coord : coords)
      if (auto page = coord.getDefiningOp<graph::ToIndexOp>();
          page && failed(collectAxes(page.getValue(), space, whole)))
        return;
    inAxes->walk([&](AffineExpr e) {
      auto binary = dyn_cast<AffineBinaryOpExpr>(e);
      if (!binary || (e.getKind() != AffineExprKind::FloorDiv &&
                      e.getKind() != AffineExprKind::Mod))
        return;
      auto dim = dyn_cast<AffineDimExpr>(binary.getLHS());
      if (!dim || !binary.getRHS().isSymbolicOrConstant())
        return;
      unsigned axis = dim.getPosition();
      if (axis >= space.extents.size() || whole.contains(axis))
        return;
      found |= addDivisor(space.coordinateOf[axis],
                          graph::simplify(binary.getRHS() * placeValues[axis]));
    });
  };
  for (auto &[block, arguments] : space.arguments)
    for (Operation &op : *block) {
      // Where a table of indices is read splits no axis.
      if (op.getNumResults() == 1 && isIndexAlone(op.getResult(0)))
        continue;
      if (auto inside = dyn_cast<graph::InsideOp>(op))
        for (AffineExpr expr : inside.getSet().getConstraints())
          scan(expr, inside.getCoords());
      if (auto coord = dyn_cast<graph::CoordOp>(op); coord && splitsOften)
        scan(coord.getMap().getResult(0), coord.getCoords());
      auto load = dyn_cast<graph::LoadOp>(op);
      if (!load)
        continue;
      for (AffineExpr expr : load.getMap().getResults())
        scan(expr, load.getCoords());
      if (load.getGuard())
        for (AffineExpr expr : load.getGuard()->getConstraints())
          scan(expr, load.getCoords());
    }
  return found;
}

FailureOr<IterationSpace> SpaceBuilder::make(std::string &reason) {
  IterationSpace space;
  coordinates.clear();
  placeValues.clear();
  auto addAxis = [&](unsigned coordinate, AffineExpr extent,
                     AffineExpr placeValue) {
    space.extents.push_back(graph::simplify(extent));
    space.coordinateOf.push_back(coordinate);
    placeValues.push_back(placeValue);
    // An axis of one element has one coordinate, as in the normal form.
    return space.isWide(space.extents.size() - 1)
               ? getAffineDimExpr(space.extents.size() - 1, context)
               : getAffineConstantExpr(0, context);
  };
  for (auto [i, size] : llvm::enumerate(sizes)) {
    if (llvm::is_contained(groupStart, i) && i > domainRank)
      space.groupEnds.push_back(space.extents.size());
    AffineExpr rest = size, coordinate = getAffineConstantExpr(0, context);
    for (AffineExpr divisor : llvm::reverse(divisors[i])) {
      coordinate =
          coordinate + addAxis(i, rest.floorDiv(divisor), divisor) * divisor;
      rest = divisor;
    }
    coordinates.push_back(coordinate +
                          addAxis(i, rest, getAffineConstantExpr(1, context)));
    if (i + 1 == domainRank)
      space.numDomain = space.extents.size();
  }
  space.groupEnds.push_back(space.extents.size());
  for (graph::StageOp stage : results)
    if (failed(place(space, stage, ArrayRef(coordinates).take_front(domainRank),
                     reason)))
      return failure();
  for (const FoldPlace &fold : folds)
    if (!space.arguments.contains(graph::StageOp(fold.stage).getBlock())) {
      reason = "no result uses the sum";
      return failure();
    }
  return space;
}

FailureOr<IterationSpace> SpaceBuilder::build(std::string &reason) {
  auto space = make(reason);
  // Splitting a coordinate may show what its axes are divided by.
  for (unsigned round = 0; succeeded(space) && round < 4; ++round) {
    if (!findSplits(*space))
      return space;
    space = make(reason);
    if (!splitsOften)
      return space;
  }
  return space;
}

FailureOr<IterationSpace> dlc::makeIterationSpace(
    ArrayRef<FoldPlace> folds, ArrayRef<graph::StageOp> results,
    ArrayRef<AffineExpr> domain, bool splitsOften, std::string &reason) {
  return SpaceBuilder(folds, results, domain, splitsOften).build(reason);
}

SmallVector<AffineExpr> dlc::domainStrides(const IterationSpace &space) {
  MLIRContext *context = space.extents.front().getContext();
  AffineExpr stride = getAffineConstantExpr(1, context);
  SmallVector<AffineExpr> strides(space.extents.size(),
                                  getAffineConstantExpr(0, context));
  for (unsigned axis = space.numDomain; axis-- > 0;) {
    strides[axis] = graph::simplify(stride);
    stride = stride * space.extents[axis];
  }
  return strides;
}
