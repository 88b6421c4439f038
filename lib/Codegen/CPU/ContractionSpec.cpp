// Classification of a kernel as a contraction. Nothing here knows an operator:
// which axes each factor of the product reads decides everything.
#include "dlc/Codegen/CPU/ContractionSpec.h"

#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace dlc;

//===----------------------------------------------------------------------===//
// Index expressions
//===----------------------------------------------------------------------===//

static AffineExpr zero(MLIRContext *context) {
  return getAffineConstantExpr(0, context);
}

/// Whether `expr` mentions any axis.
static bool hasDims(AffineExpr expr) {
  bool found = false;
  expr.walk([&](AffineExpr e) { found |= isa<AffineDimExpr>(e); });
  return found;
}

std::optional<AffineExpr> dlc::linearCoefficient(AffineExpr expr,
                                                 unsigned axis) {
  MLIRContext *context = expr.getContext();
  if (!expr.isFunctionOfDim(axis))
    return zero(context);
  if (isa<AffineDimExpr>(expr))
    return getAffineConstantExpr(1, context);
  auto binary = cast<AffineBinaryOpExpr>(expr);
  if (expr.getKind() == AffineExprKind::Add) {
    auto x = linearCoefficient(binary.getLHS(), axis);
    auto y = linearCoefficient(binary.getRHS(), axis);
    if (!x || !y)
      return std::nullopt;
    return graph::simplify(*x + *y);
  }
  if (expr.getKind() == AffineExprKind::Mul) {
    AffineExpr factor = binary.getRHS(), rest = binary.getLHS();
    if (hasDims(factor))
      std::swap(factor, rest);
    if (hasDims(factor))
      return std::nullopt;
    auto x = linearCoefficient(rest, axis);
    if (!x)
      return std::nullopt;
    return graph::simplify(*x * factor);
  }
  return std::nullopt;
}

std::optional<AffineExpr>
dlc::collapsedStride(ArrayRef<unsigned> group,
                     function_ref<std::optional<AffineExpr>(unsigned)> strideOf,
                     ArrayRef<AffineExpr> extents, MLIRContext *context) {
  if (group.empty())
    return zero(context);
  for (size_t i = 0; i < group.size(); ++i) {
    auto stride = strideOf(group[i]);
    if (!stride)
      return std::nullopt;
    if (i + 1 == group.size())
      return stride;
    auto next = strideOf(group[i + 1]);
    if (!next || graph::simplify(*stride - *next * extents[group[i + 1]]) != 0)
      return std::nullopt;
  }
  return std::nullopt;
}

bool IterationSpace::isWide(unsigned axis) const {
  return graph::constantValue(extents[axis]) != 1;
}

FailureOr<AffineExpr> IterationSpace::toAxes(AffineExpr expr,
                                             ValueRange coords) const {
  // Which block argument each dim of `expr` is.
  SmallVector<unsigned> argumentOf;
  for (Value coord : coords) {
    auto argument = dyn_cast<BlockArgument>(coord);
    if (!argument)
      return failure();
    argumentOf.push_back(argument.getArgNumber());
  }
  std::function<AffineExpr(AffineExpr)> rewrite =
      [&](AffineExpr e) -> AffineExpr {
    if (auto dim = dyn_cast<AffineDimExpr>(e))
      return arguments[argumentOf[dim.getPosition()]];
    auto binary = dyn_cast<AffineBinaryOpExpr>(e);
    if (!binary)
      return e;
    if (auto dim = dyn_cast<AffineDimExpr>(binary.getLHS()))
      for (const Split &split : splits)
        if (split.argument == argumentOf[dim.getPosition()] &&
            split.divisor == binary.getRHS()) {
          if (e.getKind() == AffineExprKind::FloorDiv)
            return split.outer;
          if (e.getKind() == AffineExprKind::Mod)
            return split.inner;
        }
    return getAffineBinaryOpExpr(e.getKind(), rewrite(binary.getLHS()),
                                 rewrite(binary.getRHS()));
  };
  return graph::simplify(rewrite(expr));
}

//===----------------------------------------------------------------------===//
// The iteration space
//===----------------------------------------------------------------------===//

/// Finds `coordinate floordiv n` and `coordinate mod n` in the stage's loads.
/// One divisor a coordinate: a second one leaves the first expression as it is,
/// which then is not linear, and the kernel is declined.
static DenseMap<unsigned, AffineExpr> findSplits(graph::StageOp stage,
                                                 ArrayRef<AffineExpr> sizes) {
  DenseMap<unsigned, AffineExpr> divisors;
  stage.getBlock()->walk([&](graph::LoadOp load) {
    auto scan = [&](AffineExpr expr) {
      expr.walk([&](AffineExpr e) {
        auto binary = dyn_cast<AffineBinaryOpExpr>(e);
        if (!binary || (e.getKind() != AffineExprKind::FloorDiv &&
                        e.getKind() != AffineExprKind::Mod))
          return;
        auto dim = dyn_cast<AffineDimExpr>(binary.getLHS());
        if (!dim || hasDims(binary.getRHS()))
          return;
        auto argument =
            dyn_cast<BlockArgument>(load.getCoords()[dim.getPosition()]);
        if (!argument)
          return;
        // Only an exact division: the axes must tile the coordinate.
        AffineExpr size = sizes[argument.getArgNumber()],
                   divisor = binary.getRHS();
        auto n = graph::constantValue(size), d = graph::constantValue(divisor);
        bool exact =
            n && d
                ? *d > 0 && *n % *d == 0
                : graph::simplify(size - size.floorDiv(divisor) * divisor) == 0;
        if (exact)
          divisors.try_emplace(argument.getArgNumber(), divisor);
      });
    };
    for (AffineExpr expr : load.getMap().getResults())
      scan(expr);
    if (load.getGuard())
      for (AffineExpr expr : load.getGuard()->getConstraints())
        scan(expr);
  });
  return divisors;
}

static IterationSpace makeSpace(graph::StageOp stage) {
  MLIRContext *context = stage.getContext();
  SmallVector<AffineExpr> sizes(stage.getDomainDims());
  llvm::append_range(sizes, stage.getReduceDims());
  DenseMap<unsigned, AffineExpr> divisors = findSplits(stage, sizes);
  IterationSpace space;
  auto addAxis = [&](AffineExpr extent) {
    space.extents.push_back(graph::simplify(extent));
    return getAffineDimExpr(space.extents.size() - 1, context);
  };
  for (auto [i, size] : llvm::enumerate(sizes)) {
    auto found = divisors.find(i);
    if (found == divisors.end()) {
      space.arguments.push_back(addAxis(size));
    } else {
      AffineExpr divisor = found->second;
      AffineExpr outer = addAxis(size.floorDiv(divisor));
      AffineExpr inner = addAxis(divisor);
      space.arguments.push_back(outer * divisor + inner);
      space.splits.push_back({unsigned(i), divisor, outer, inner});
    }
    if (i + 1 == stage.getDomainRank())
      space.numDomain = space.extents.size();
  }
  return space;
}

//===----------------------------------------------------------------------===//
// Operands
//===----------------------------------------------------------------------===//

/// Adds the axes that `value` depends on; fails on data-dependent coordinates.
static LogicalResult collectAxes(Value value, const IterationSpace &space,
                                 llvm::SmallSetVector<unsigned, 8> &axes) {
  auto note = [&](AffineExpr expr, ValueRange coords) -> LogicalResult {
    auto inAxes = space.toAxes(expr, coords);
    if (failed(inAxes))
      return failure();
    inAxes->walk([&](AffineExpr e) {
      if (auto dim = dyn_cast<AffineDimExpr>(e))
        axes.insert(dim.getPosition());
    });
    return success();
  };
  Operation *op = value.getDefiningOp();
  if (!op)
    return failure();
  if (auto load = dyn_cast<graph::LoadOp>(op)) {
    if (!isa<BlockArgument>(load.getTensor()))
      return failure(); // an earlier stage: only single folds are contractions
    for (AffineExpr expr : load.getMap().getResults())
      if (failed(note(expr, load.getCoords())))
        return failure();
    if (load.getGuard()) {
      for (AffineExpr expr : load.getGuard()->getConstraints())
        if (failed(note(expr, load.getCoords())))
          return failure();
      return collectAxes(load.getOther(), space, axes);
    }
    return success();
  }
  if (auto coord = dyn_cast<graph::CoordOp>(op))
    return note(coord.getMap().getResult(0), coord.getCoords());
  if (!isa<graph::ApplyOp, graph::CastOp, graph::LiteralOp>(op))
    return failure();
  for (Value operand : op->getOperands())
    if (failed(collectAxes(operand, space, axes)))
      return failure();
  return success();
}

/// Fills in the plain form of `operand` when it has one.
static void describe(ContractionOperand &operand, const IterationSpace &space) {
  Value value = operand.value;
  // One conversion: a second one would mean a rounding in between.
  if (auto cast = value.getDefiningOp<graph::CastOp>())
    value = cast.getValue();
  auto load = value.getDefiningOp<graph::LoadOp>();
  if (!load || load.getGuard())
    return;
  MLIRContext *context = value.getContext();
  AffineExpr offset = zero(context), stride = getAffineConstantExpr(1, context);
  SmallVector<AffineExpr> dims = graph::getDims(load.getTensor().getType());
  for (size_t i = dims.size(); i-- > 0;) {
    auto index = space.toAxes(load.getMap().getResult(i), load.getCoords());
    if (failed(index))
      return;
    offset = offset + *index * stride;
    stride = stride * dims[i];
  }
  offset = graph::simplify(offset);
  for (size_t axis = 0; axis < space.extents.size(); ++axis) {
    auto coefficient = linearCoefficient(offset, axis);
    if (!coefficient)
      return;
    operand.strides.push_back(*coefficient);
  }
  SmallVector<AffineExpr> zeros(space.extents.size(), zero(context));
  operand.base = graph::simplify(offset.replaceDims(zeros));
  operand.operand = cast<BlockArgument>(load.getTensor()).getArgNumber();
  operand.element =
      cast<RankedTensorType>(load.getTensor().getType()).getElementType();
  operand.plain = true;
}

//===----------------------------------------------------------------------===//
// Classification
//===----------------------------------------------------------------------===//

AffineExpr ContractionSpec::extentOf(ArrayRef<unsigned> group) const {
  AffineExpr extent = getAffineConstantExpr(1, context());
  for (unsigned axis : group)
    extent = extent * space.extents[axis];
  return graph::simplify(extent);
}

std::optional<AffineExpr>
ContractionSpec::strideOf(const ContractionOperand &operand,
                          ArrayRef<unsigned> group) const {
  return collapsedStride(
      group,
      [&](unsigned axis) -> std::optional<AffineExpr> {
        return operand.strides[axis];
      },
      space.extents, context());
}

/// The stage that only post-processes the sum, element by element.
static bool isEpilogueOf(graph::StageOp epilogue, graph::StageOp stage) {
  if (epilogue.getFoldKind() != graph::FoldKind::none ||
      epilogue.getDomainDims() != stage.getDomainDims())
    return false;
  WalkResult result = epilogue.getBlock()->walk([&](graph::LoadOp load) {
    if (isa<BlockArgument>(load.getTensor()))
      return WalkResult::advance();
    bool same = load.getTensor() == stage.getResult() && !load.getGuard() &&
                load.getMap().isIdentity();
    for (auto [i, coord] : llvm::enumerate(load.getCoords()))
      same &= coord == epilogue.getBlock()->getArgument(i);
    return same ? WalkResult::advance() : WalkResult::interrupt();
  });
  return !result.wasInterrupted();
}

/// Rows: the longest run of `candidates`, ending at its last one, that the
/// result and a plain lhs both walk as one axis. The rest becomes outer.
static SmallVector<unsigned> chooseRows(const ContractionSpec &spec,
                                        ArrayRef<unsigned> candidates) {
  SmallVector<unsigned> rows;
  for (unsigned axis : llvm::reverse(candidates)) {
    SmallVector<unsigned> longer{axis};
    longer.append(rows);
    auto resultStride = [&](unsigned a) -> std::optional<AffineExpr> {
      return spec.resultStrides[a];
    };
    if (!collapsedStride(longer, resultStride, spec.space.extents,
                         spec.context()) ||
        (spec.lhs.plain && !spec.strideOf(spec.lhs, longer)))
      break;
    rows = longer;
  }
  return rows;
}

FailureOr<ContractionSpec> dlc::classifyContraction(graph::KernelOp kernel,
                                                    std::string &reason) {
  auto decline = [&](const char *why) -> FailureOr<ContractionSpec> {
    reason = why;
    return failure();
  };
  auto stages = kernel.getStages();
  if (stages.empty() || stages.size() > 2)
    return decline("not one fold stage with at most one stage after it");
  ContractionSpec spec;
  spec.kernel = kernel;
  spec.stage = stages[0];
  if (spec.stage.getFoldKind() != graph::FoldKind::add || spec.stage.getInit())
    return decline("the fold is not a sum from zero");
  if (stages.size() == 2) {
    spec.epilogue = stages[1];
    if (!isEpilogueOf(spec.epilogue, spec.stage))
      return decline("the last stage is not an elementwise use of the sum");
  }
  if (kernel.getResultValues().size() != 1 ||
      kernel.getResultValues()[0] != stages.back().getResult())
    return decline("the kernel returns other than its last stage");
  spec.accumulator = spec.stage.getElementType();
  if (!spec.accumulator.isIntOrFloat() || spec.accumulator.isInteger(1) ||
      spec.accumulator.isF16() || spec.accumulator.isBF16())
    return decline("no arithmetic of the accumulator's type");

  auto product = spec.stage.getYielded().getDefiningOp<graph::ApplyOp>();
  if (!product || product.getFn() != graph::ScalarFn::mul)
    return decline("the summand is not a product");
  spec.space = makeSpace(spec.stage);
  const IterationSpace &space = spec.space;
  MLIRContext *context = kernel.getContext();

  llvm::SmallSetVector<unsigned, 8> uses[2];
  for (int side : {0, 1})
    if (failed(collectAxes(product.getArgs()[side], space, uses[side])))
      return decline("a factor reads an index from data or another stage");

  SmallVector<unsigned> wide;
  for (unsigned axis = 0; axis < space.numDomain; ++axis)
    if (space.isWide(axis))
      wide.push_back(axis);
  if (wide.empty())
    return decline("the result has one element");
  bool last[2] = {uses[0].contains(wide.back()), uses[1].contains(wide.back())};
  if (last[0] == last[1])
    return decline("the factors do not differ in the result's last axis");
  int right = last[1] ? 1 : 0;
  spec.rhs.value = product.getArgs()[right];
  spec.lhs.value = product.getArgs()[1 - right];
  describe(spec.lhs, space);
  describe(spec.rhs, space);

  AffineExpr stride = getAffineConstantExpr(1, context);
  spec.resultStrides.assign(space.extents.size(), zero(context));
  for (unsigned axis = space.numDomain; axis-- > 0;) {
    spec.resultStrides[axis] = graph::simplify(stride);
    stride = stride * space.extents[axis];
  }

  auto onlyOn = [&](unsigned axis, int side) {
    return uses[side].contains(axis) && !uses[1 - side].contains(axis);
  };
  while (!wide.empty() && onlyOn(wide.back(), right)) {
    spec.columns.insert(spec.columns.begin(), wide.back());
    wide.pop_back();
  }
  SmallVector<unsigned> candidates;
  for (unsigned axis : wide)
    if (onlyOn(axis, 1 - right))
      candidates.push_back(axis);
  spec.rows = chooseRows(spec, candidates);
  for (unsigned axis : wide)
    if (!llvm::is_contained(spec.rows, axis))
      spec.outer.push_back(axis);
  for (unsigned axis = space.numDomain; axis < space.extents.size(); ++axis)
    if (space.isWide(axis))
      spec.inner.push_back(axis);
  // Gathering pixels that one row of weights then uses costs more than it
  // saves.
  if (spec.rows.empty() && !spec.rhs.plain)
    return decline(
        "no axis over which a filled factor is used again (depthwise)");
  return spec;
}
