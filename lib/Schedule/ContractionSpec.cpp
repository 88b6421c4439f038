// Classification of a kernel as a contraction. Nothing here knows an operator:
// which axes each factor of the product reads decides everything.
#include "dlc/Schedule/ContractionSpec.h"

#include "ContractionSpace.h"
#include "dlc/Dialect/Graph/IR/Placement.h"
#include "dlc/Schedule/DataCoordinates.h"
#include "dlc/Schedule/IndexPoly.h"
#include "dlc/Schedule/NarrowNumbers.h"
#include "dlc/Schedule/OperandForm.h"
#include "dlc/Schedule/ShortRuns.h"

#include "mlir/IR/IntegerSet.h"

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

//===----------------------------------------------------------------------===//
// Operands
//===----------------------------------------------------------------------===//

static LogicalResult collectAxes(Value value, const IterationSpace &space,
                                 llvm::SmallSetVector<unsigned, 8> &axes,
                                 llvm::SmallDenseSet<Value> &seen,
                                 bool throughFolds) {
  if (!seen.insert(value).second)
    return success();
  SmallVector<graph::ToIndexOp> data;
  auto note = [&](AffineExpr expr, ValueRange coords) -> LogicalResult {
    auto inAxes = toAxes(space, expr, coords, data);
    if (failed(inAxes))
      return failure();
    inAxes->walk([&](AffineExpr e) {
      if (auto dim = dyn_cast<AffineDimExpr>(e);
          dim && dim.getPosition() < space.extents.size())
        axes.insert(dim.getPosition());
    });
    for (graph::ToIndexOp toIndex : data)
      if (failed(
              collectAxes(toIndex.getValue(), space, axes, seen, throughFolds)))
        return failure();
    return success();
  };
  Operation *op = value.getDefiningOp();
  if (!op)
    return failure();
  if (auto load = dyn_cast<graph::LoadOp>(op)) {
    if (auto source = load.getTensor().getDefiningOp<graph::StageOp>()) {
      if (source.getFoldKind() == graph::FoldKind::none)
        return collectAxes(source.getYielded(), space, axes, seen,
                           throughFolds);
      if (!throughFolds)
        return failure();
    }
    for (AffineExpr expr : load.getMap().getResults())
      if (failed(note(expr, load.getCoords())))
        return failure();
    if (load.getGuard()) {
      for (AffineExpr expr : load.getGuard()->getConstraints())
        if (failed(note(expr, load.getCoords())))
          return failure();
      return collectAxes(load.getOther(), space, axes, seen, throughFolds);
    }
    return success();
  }
  if (auto coord = dyn_cast<graph::CoordOp>(op))
    return note(coord.getMap().getResult(0), coord.getCoords());
  if (auto inside = dyn_cast<graph::InsideOp>(op)) {
    for (AffineExpr expr : inside.getSet().getConstraints())
      if (failed(note(expr, inside.getCoords())))
        return failure();
    return success();
  }
  if (!isa<graph::ApplyOp, graph::CastOp, graph::LiteralOp>(op))
    return failure();
  for (Value operand : op->getOperands())
    if (failed(collectAxes(operand, space, axes, seen, throughFolds)))
      return failure();
  return success();
}

LogicalResult dlc::collectAxes(Value value, const IterationSpace &space,
                               llvm::SmallSetVector<unsigned, 8> &axes,
                               bool throughFolds) {
  llvm::SmallDenseSet<Value> seen;
  return ::collectAxes(value, space, axes, seen, throughFolds);
}

static bool isZero(Value scalar) {
  auto literal = scalar.getDefiningOp<graph::LiteralOp>();
  if (!literal)
    return false;
  if (auto number = dyn_cast<FloatAttr>(literal.getValue()))
    return number.getValue().isPosZero();
  auto number = dyn_cast<IntegerAttr>(literal.getValue());
  return number && number.getValue().isZero();
}

bool dlc::variesAlong(Value scalar, const IterationSpace &space,
                      function_ref<bool(unsigned)> counts) {
  llvm::SmallSetVector<unsigned, 8> axes;
  return failed(collectAxes(scalar, space, axes)) ||
         llvm::any_of(axes, [&](unsigned axis) {
           return space.isWide(axis) && counts(axis);
         });
}

AffineExpr dlc::addressOf(const ContractionOperand &operand) {
  AffineExpr address = operand.base;
  for (auto [axis, stride] : llvm::enumerate(operand.strides))
    address = address + getAffineDimExpr(axis, stride.getContext()) * stride;
  return graph::simplify(address);
}

Value dlc::outsideOf(const ContractionOperand &operand) {
  auto load = operand.guarded ? operand.value.getDefiningOp<graph::LoadOp>()
                              : graph::LoadOp();
  return load && load.getGuard() && !isZero(load.getOther()) ? load.getOther()
                                                             : Value();
}

void dlc::describeOperand(ContractionOperand &operand,
                          const IterationSpace &space, bool mayBeOutside) {
  Value value = operand.value;
  graph::LoadOp load;
  bool isConverted = false;
  while (true) {
    if (auto cast = value.getDefiningOp<graph::CastOp>()) {
      // A second conversion would mean a rounding in between.
      if (isConverted)
        return;
      isConverted = true;
      value = cast.getValue();
      continue;
    }
    load = value.getDefiningOp<graph::LoadOp>();
    if (!load)
      return;
    auto source = load.getTensor().getDefiningOp<graph::StageOp>();
    // A zero of 16 bits is one when it is widened, too.
    bool isZeroOutside =
        load.getGuard() && isZero(load.getOther()) &&
        (!isConverted || load.getType().isF16() || load.getType().isBF16());
    bool isSameOutside =
        load.getGuard() && !isConverted && mayBeOutside &&
        load == operand.value.getDefiningOp() &&
        !variesAlong(load.getOther(), space, [](unsigned) { return true; });
    if (load.getGuard() && (source || !(isZeroOutside || isSameOutside)))
      return;
    if (!source)
      break;
    value = source.getYielded();
  }
  MLIRContext *context = value.getContext();
  if (auto guard = load.getGuard())
    for (unsigned i = 0; i < guard->getNumConstraints(); ++i) {
      auto expr = space.toAxes(guard->getConstraint(i), load.getCoords());
      if (failed(expr))
        return;
      operand.guards.push_back({guard->isEq(i), *expr});
    }
  AffineExpr offset = zero(context), stride = getAffineConstantExpr(1, context);
  SmallVector<AffineExpr> dims = graph::getMemoryDims(load.getTensor());
  for (size_t i = dims.size(); i-- > 0;) {
    auto index = space.toAxes(load.getMap().getResult(i), load.getCoords());
    if (failed(index))
      return;
    offset = offset + *index * stride;
    stride = stride * dims[i];
  }
  // The digits of a reshape meet their place values only in the whole sum.
  offset =
      graph::simplify(IndexPoly::get(offset, space.extents).toExpr(context));
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
  operand.plain = !load.getGuard();
  operand.guarded = !operand.plain;
}

//===----------------------------------------------------------------------===//
// Narrow factors
//===----------------------------------------------------------------------===//

Value dlc::throughStages(Value value) {
  while (auto load = value.getDefiningOp<graph::LoadOp>()) {
    auto source = load.getTensor().getDefiningOp<graph::StageOp>();
    if (!source || load.getGuard() ||
        source.getFoldKind() != graph::FoldKind::none)
      break;
    value = source.getYielded();
  }
  return value;
}

/// Whether `value` differs between steps of the sum.
static bool variesInside(Value value, const IterationSpace &space) {
  return variesAlong(value, space,
                     [&](unsigned axis) { return axis >= space.numDomain; });
}

/// The narrow number that `factor` widens, and what is subtracted then.
static std::optional<std::pair<Value, Value>>
findNarrow(Value factor, const IterationSpace &space) {
  Value value = throughStages(factor), zero;
  if (auto apply = value.getDefiningOp<graph::ApplyOp>();
      apply && apply.getFn() == graph::ScalarFn::sub) {
    zero = apply.getArgs()[1];
    value = throughStages(apply.getArgs()[0]);
    if (!zero.getType().isInteger(32) || variesInside(zero, space))
      return std::nullopt;
    auto literal = zero.getDefiningOp<graph::LiteralOp>();
    if (literal && isZero(literal))
      zero = Value();
  }
  auto cast = value.getDefiningOp<graph::CastOp>();
  if (!cast)
    return std::nullopt;
  Value narrow = throughStages(cast.getValue());
  Type from = narrow.getType(), to = cast.getType();
  if (!isWidening(from, to, /*isShifted=*/bool(zero)))
    return std::nullopt;
  return std::pair(narrow, zero);
}

static std::optional<NarrowProduct>
describeNarrow(const ContractionSpec &spec) {
  auto left = findNarrow(spec.lhs.value, spec.space),
       right = findNarrow(spec.rhs.value, spec.space);
  if (!left || !right ||
      left->first.getType().isBF16() != right->first.getType().isBF16())
    return std::nullopt;
  NarrowProduct narrow;
  narrow.lhs.value = left->first;
  narrow.rhs.value = right->first;
  narrow.lhsZero = left->second;
  narrow.rhsZero = right->second;
  for (ContractionOperand *operand : {&narrow.lhs, &narrow.rhs}) {
    describeOperand(*operand, spec.space, /*mayBeOutside=*/true);
    // A conversion between narrow types is an expression like any other.
    if (operand->element != operand->value.getType())
      operand->plain = operand->guarded = false;
  }
  return narrow;
}

/// The loads that `value` is computed from; fails when one is guarded, or an
/// operand is read at two places.
static LogicalResult collectLoads(Value value, const IterationSpace &space,
                                  SmallVectorImpl<ContractionOperand> &loads) {
  value = throughStages(value);
  Operation *op = value.getDefiningOp();
  if (auto load = dyn_cast_or_null<graph::LoadOp>(op)) {
    if (load.getGuard())
      return failure();
    for (const ContractionOperand &known : loads)
      if (known.value == value)
        return success();
    ContractionOperand operand;
    operand.value = value;
    describeOperand(operand, space);
    bool isSecond = llvm::any_of(loads, [&](const ContractionOperand &known) {
      return known.operand == operand.operand;
    });
    if (!operand.plain || isSecond)
      return failure();
    loads.push_back(std::move(operand));
    return success();
  }
  if (!isa_and_nonnull<graph::ApplyOp, graph::CastOp, graph::LiteralOp>(op))
    return failure();
  for (Value argument : op->getOperands())
    if (failed(collectLoads(argument, space, loads)))
      return failure();
  return success();
}

SmallVector<unsigned>
ContractionSpec::innerAxesOf(const ContractionOperand &operand) const {
  SmallVector<unsigned> axes;
  for (unsigned axis : inner)
    if (operand.strides[axis] != 0)
      axes.push_back(axis);
  return axes;
}

ContractionSpec ContractionSpec::narrowed() const {
  ContractionSpec spec = *this;
  spec.lhs = narrow->lhs;
  spec.rhs = narrow->rhs;
  return spec;
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

bool dlc::usesData(const IterationSpace &space) {
  return llvm::any_of(space.arguments, [](auto &entry) {
    bool found = false;
    entry.first->walk([&](graph::ToIndexOp) { found = true; });
    return found;
  });
}

SmallVector<unsigned> ContractionSpec::lhsRun() const {
  return findRun(/*mayBeGuarded=*/false);
}

SmallVector<unsigned> ContractionSpec::lhsGuardedRun() const {
  return findRun(/*mayBeGuarded=*/true);
}

SmallVector<unsigned> ContractionSpec::findRun(bool mayBeGuarded) const {
  SmallVector<unsigned> run;
  if (!lhs.plain && !lhs.guarded)
    return run;
  auto isGuarded = [&](unsigned axis) {
    return llvm::any_of(lhs.guards, [&](auto &guard) {
      return guard.second.isFunctionOfDim(axis);
    });
  };
  for (unsigned axis : llvm::reverse(inner)) {
    SmallVector<unsigned> longer{axis};
    longer.append(run);
    auto stride = strideOf(lhs, longer);
    if ((isGuarded(axis) && !mayBeGuarded) || !stride || *stride != 1)
      break;
    run = longer;
  }
  return run;
}

bool ContractionSpec::hasLongRun() const {
  auto length = graph::constantValue(extentOf(lhsRun()));
  return !length || *length >= 8;
}

/// Rows: the longest run of `candidates`, ending at its last one, that the
/// result and a plain lhs (unless its rows get an address each) both walk as
/// one axis. The rest becomes outer.
static SmallVector<unsigned> chooseRows(const ContractionSpec &spec,
                                        ArrayRef<unsigned> candidates) {
  SmallVector<unsigned> rows;
  bool anywhere = spec.hasLongRun();
  for (unsigned axis : llvm::reverse(candidates)) {
    SmallVector<unsigned> longer{axis};
    longer.append(rows);
    auto resultStride = [&](unsigned a) -> std::optional<AffineExpr> {
      return spec.resultStrides[a];
    };
    if (!collapsedStride(longer, resultStride, spec.space.extents,
                         spec.context()) ||
        (spec.lhs.plain && !spec.strideOf(spec.lhs, longer) && !anywhere))
      break;
    rows = longer;
  }
  return rows;
}

/// Where results keep a distance between the runs of their last axis, so do the
/// rows of all axes before it. False where results differ in that, or columns
/// would step from one run into the next.
static bool applyPitch(ContractionSpec &spec, ArrayRef<graph::StageOp> results,
                       ArrayRef<unsigned> columns) {
  int64_t pitch = graph::getPitch(graph::StageOp(results[0]).getResult());
  for (graph::StageOp result : results)
    if (graph::getPitch(result.getResult()) != pitch)
      return false;
  if (!pitch)
    return true;
  auto run =
      graph::constantValue(graph::StageOp(results[0]).getDomainDims().back());
  if (!run)
    return false;
  for (unsigned axis = 0; axis < spec.space.numDomain; ++axis) {
    auto stride = graph::constantValue(spec.resultStrides[axis]);
    if (!spec.space.isWide(axis))
      continue;
    if (!stride)
      return false;
    if (*stride < *run)
      continue;
    if (llvm::is_contained(columns, axis))
      return false;
    spec.resultStrides[axis] =
        getAffineConstantExpr(*stride / *run * pitch, spec.context());
  }
  return true;
}

/// The scale of a computed rhs that most steps share.
static std::optional<SharedScale> findScale(const ContractionSpec &spec) {
  auto product = spec.rhs.value.getDefiningOp<graph::ApplyOp>();
  if (spec.rhsLoads.empty() || !isa<FloatType>(spec.accumulator) || !product ||
      product.getFn() != graph::ScalarFn::mul)
    return std::nullopt;
  /// How many steps share a value; 0: not known.
  auto sharedBy = [&](Value value) -> int64_t {
    SmallVector<ContractionOperand> loads;
    if (failed(collectLoads(value, spec.space, loads)) || loads.empty())
      return 0;
    int64_t steps = 1;
    for (unsigned axis : llvm::reverse(spec.inner)) {
      auto extent = graph::constantValue(spec.space.extents[axis]);
      if (!extent)
        return 0;
      if (llvm::any_of(loads, [&](const ContractionOperand &load) {
            return load.strides[axis] != 0;
          }))
        break;
      steps *= *extent;
    }
    return steps;
  };
  Value left = product.getArgs()[0], right = product.getArgs()[1];
  int64_t ofLeft = sharedBy(left), ofRight = sharedBy(right);
  if (ofLeft == 1 && ofRight > 1)
    return SharedScale{left, right, ofRight};
  if (ofRight == 1 && ofLeft > 1)
    return SharedScale{right, left, ofLeft};
  return std::nullopt;
}

/// Whether the columns are a few channels of each of many groups, all side by
/// side in the right factor and in the result, and the left factor has as many
/// of each group: a loop nest has vectors of several groups.
static bool isInShortRuns(const ContractionSpec &spec) {
  if (spec.columns.size() != 1 || spec.columns[0] == 0 ||
      !(spec.lhs.plain || spec.lhs.guarded) || !spec.rhs.plain || spec.narrow ||
      !spec.rhs.element.isF32())
    return false;
  unsigned column = spec.columns[0], group = column - 1;
  auto run = graph::constantValue(spec.space.extents[column]);
  auto isStep = [&](const ContractionOperand &factor, unsigned axis,
                    int64_t step) {
    return graph::constantValue(factor.strides[axis]) == step;
  };
  // Groups of eight lose less here, and a loop nest has no register tiles where
  // it does not know the rows.
  bool isKnown = llvm::all_of(spec.rows, [&](unsigned axis) {
    return graph::constantValue(spec.space.extents[axis]).has_value();
  });
  return run && isShortRun(*run) && (isKnown || *run < 8) &&
         llvm::is_contained(spec.outer, group) &&
         spec.space.coordinateOf[group] == spec.space.coordinateOf[column] &&
         isStep(spec.rhs, column, 1) && isStep(spec.rhs, group, *run) &&
         isStep(spec.lhs, group, *run) &&
         llvm::any_of(spec.inner, [&](unsigned axis) {
           return isStep(spec.lhs, axis, 1) &&
                  graph::constantValue(spec.space.extents[axis]) == *run;
         });
}

/// Classifies the sum `stage` of a kernel (or part of one) with `results`.
static FailureOr<ContractionSpec> classify(graph::StageOp stage,
                                           ArrayRef<graph::StageOp> results,
                                           std::string &reason,
                                           bool splitsOften = false) {
  auto decline = [&](const char *why) -> FailureOr<ContractionSpec> {
    reason = why;
    return failure();
  };
  ContractionSpec spec;
  spec.kernel = stage->getParentOfType<graph::KernelOp>();
  spec.stage = stage;
  spec.results.assign(results.begin(), results.end());
  if (stage.getFoldKind() != graph::FoldKind::add || stage.getInit())
    return decline("the fold is not a sum from zero");
  spec.accumulator = spec.stage.getElementType();
  if (!spec.accumulator.isIntOrFloat() || spec.accumulator.isInteger(1) ||
      spec.accumulator.isF16() || spec.accumulator.isBF16())
    return decline("no arithmetic of the accumulator's type");

  auto product = spec.stage.getYielded().getDefiningOp<graph::ApplyOp>();
  if (!product || product.getFn() != graph::ScalarFn::mul)
    return decline("the summand is not a product");
  MLIRContext *context = stage.getContext();
  // The results' domain; each sum is wanted at one of its points.
  ArrayRef<AffineExpr> domain = spec.results[0].getDomainDims();
  for (graph::StageOp result : results)
    if (result.getDomainDims() != domain)
      return decline("results of different shapes");
  AffineExpr points = graph::product(context, domain),
             sums = graph::product(context, stage.getDomainDims());
  auto numPoints = graph::constantValue(points),
       numSums = graph::constantValue(sums);
  if (numPoints && numSums ? *numPoints > *numSums
                           : graph::simplify(points - sums) != 0)
    return decline("the results repeat the sums");
  auto made =
      makeIterationSpace({{stage, 0}}, results, domain, splitsOften, reason);
  if (failed(made))
    return failure();
  spec.space = std::move(*made);
  const IterationSpace &space = spec.space;
  if (usesData(space))
    return decline("an index from data");

  llvm::SmallSetVector<unsigned, 8> uses[2];
  for (int side : {0, 1})
    if (failed(collectAxes(product.getArgs()[side], space, uses[side])))
      return decline("a factor reads an index from data or a fold");
  // A sum of multiples of one factor is a reduction: its partial sums are
  // short.
  auto inner = llvm::make_filter_range(
      llvm::seq<unsigned>(space.numDomain, space.extents.size()),
      [&](unsigned axis) { return space.isWide(axis); });
  if (!inner.empty() && llvm::none_of(inner, [&](unsigned axis) {
        return uses[0].contains(axis) && uses[1].contains(axis);
      }))
    return decline("no axis of the sum is one of both factors");

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
  describeOperand(spec.lhs, space);
  describeOperand(spec.rhs, space);
  spec.narrow = describeNarrow(spec);
  if (!spec.rhs.plain && !spec.rhs.guarded &&
      failed(collectLoads(spec.rhs.value, space, spec.rhsLoads))) {
    spec.rhsLoads.clear();
    // Numbers of four bits in blocks: k is a block, a byte and a half.
    if (!splitsOften) {
      std::string why;
      auto finer = classify(stage, results, why, /*splitsOften=*/true);
      if (succeeded(finer) && !finer->rhsLoads.empty())
        return finer;
    }
  }

  spec.resultStrides = domainStrides(space);

  auto onlyOn = [&](unsigned axis, int side) {
    return uses[side].contains(axis) && !uses[1 - side].contains(axis);
  };
  while (!wide.empty() && onlyOn(wide.back(), right)) {
    spec.columns.insert(spec.columns.begin(), wide.back());
    wide.pop_back();
  }
  if (!applyPitch(spec, results, spec.columns))
    return decline("the results' rows lie apart");
  SmallVector<unsigned> candidates;
  for (unsigned axis : wide)
    if (onlyOn(axis, 1 - right))
      candidates.push_back(axis);
  for (unsigned axis = space.numDomain; axis < space.extents.size(); ++axis)
    if (space.isWide(axis))
      spec.inner.push_back(axis);
  spec.rows = chooseRows(spec, candidates);
  for (unsigned axis : wide)
    if (!llvm::is_contained(spec.rows, axis))
      spec.outer.push_back(axis);
  // Gathering pixels that one row of weights then uses costs more than it
  // saves.
  unsigned bits = spec.accumulator.getIntOrFloatBitWidth();
  bool isPlain =
      spec.rhs.plain || (spec.narrow && spec.narrow->rhs.plain) ||
      llvm::any_of(spec.rhsLoads, [&](const ContractionOperand &load) {
        return load.element.getIntOrFloatBitWidth() < bits; // weights
      });
  if (spec.rows.empty() && !isPlain)
    return decline(
        "no axis over which a filled factor is used again (depthwise)");
  if (isInShortRuns(spec))
    return decline("columns are groups that are parts of a vector");
  spec.scale = findScale(spec);
  return spec;
}

FailureOr<ContractionSpec> dlc::classifyContraction(graph::KernelOp kernel,
                                                    std::string &reason) {
  graph::StageOp sum;
  SmallVector<graph::StageOp> results;
  for (graph::StageOp stage : kernel.getStages()) {
    if (stage.getFoldKind() == graph::FoldKind::none)
      continue;
    if (sum) {
      reason = "more than one fold";
      return failure();
    }
    sum = stage;
  }
  if (!sum) {
    reason = "no fold";
    return failure();
  }
  for (Value value : kernel.getResultValues())
    results.push_back(value.getDefiningOp<graph::StageOp>());
  return classify(sum, results, reason);
}

bool dlc::isContraction(graph::StageOp stage) {
  std::string reason;
  return succeeded(classify(stage, {stage}, reason));
}
