// Classification of a kernel as attention: a softmax, in whatever order and
// spelling its parts are written, between two sums of products. Which stage
// reads what, and at which axes, decides everything.
#include "dlc/Schedule/AttentionSpec.h"

#include "AttentionCuts.h"
#include "ContractionSpace.h"
#include "dlc/Schedule/DataCoordinates.h"
#include "dlc/Schedule/IndexPoly.h"

#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace dlc;
using graph::FoldKind;
using graph::ScalarFn;
using graph::StageOp;

//===----------------------------------------------------------------------===//
// Scalars across stages
//===----------------------------------------------------------------------===//

static StageOp loadedStage(graph::LoadOp load) {
  return load.getTensor().getDefiningOp<StageOp>();
}

Value dlc::resolve(Value value) {
  while (auto load = value.getDefiningOp<graph::LoadOp>()) {
    StageOp source = loadedStage(load);
    if (!source || load.getGuard() || source.getFoldKind() != FoldKind::none)
      break;
    value = source.getYielded();
  }
  return value;
}

graph::ApplyOp dlc::asApply(Value value, ScalarFn fn) {
  auto apply = resolve(value).getDefiningOp<graph::ApplyOp>();
  return apply && apply.getFn() == fn ? apply : graph::ApplyOp();
}

/// The folds that `value` reads, through stages without fold.
static void collectFolds(Value value, llvm::SmallSetVector<StageOp, 4> &folds,
                         llvm::SmallDenseSet<Value> &seen) {
  if (!seen.insert(value).second)
    return;
  Operation *op = value.getDefiningOp();
  if (!op)
    return;
  if (auto load = dyn_cast<graph::LoadOp>(op))
    if (StageOp source = loadedStage(load)) {
      if (source.getFoldKind() != FoldKind::none)
        folds.insert(source);
      else
        collectFolds(source.getYielded(), folds, seen);
    }
  for (Value operand : op->getOperands())
    collectFolds(operand, folds, seen);
}
static llvm::SmallSetVector<StageOp, 4> foldsOf(Value value) {
  llvm::SmallSetVector<StageOp, 4> folds;
  llvm::SmallDenseSet<Value> seen;
  collectFolds(value, folds, seen);
  return folds;
}

namespace {
/// Whether two scalars are the same expression at the same place.
class Equality {
public:
  explicit Equality(const IterationSpace &space) : space(space) {}

  bool operator()(Value a, Value b) {
    a = resolve(a), b = resolve(b);
    if (a == b)
      return true;
    auto [it, isNew] = known.try_emplace({a, b}, false);
    if (!isNew)
      return it->second;
    bool same = compare(a.getDefiningOp(), b.getDefiningOp());
    known[{a, b}] = same;
    return same;
  }

private:
  bool isSamePoint(AffineMap x, ValueRange xs, AffineMap y, ValueRange ys) {
    if (x.getNumResults() != y.getNumResults())
      return false;
    for (auto [e, f] : llvm::zip_equal(x.getResults(), y.getResults())) {
      auto a = space.toAxes(e, xs), b = space.toAxes(f, ys);
      if (failed(a) || failed(b) || graph::simplify(*a - *b) != 0)
        return false;
    }
    return true;
  }
  bool isSameSet(IntegerSet x, ValueRange xs, IntegerSet y, ValueRange ys) {
    if (x.getNumConstraints() != y.getNumConstraints())
      return false;
    for (unsigned i = 0; i < x.getNumConstraints(); ++i) {
      auto a = space.toAxes(x.getConstraint(i), xs),
           b = space.toAxes(y.getConstraint(i), ys);
      if (x.isEq(i) != y.isEq(i) || failed(a) || failed(b) ||
          graph::simplify(*a - *b) != 0)
        return false;
    }
    return true;
  }
  bool compare(Operation *a, Operation *b) {
    if (!a || !b || a->getName() != b->getName() ||
        a->getResultTypes() != b->getResultTypes())
      return false;
    if (auto load = dyn_cast<graph::LoadOp>(a)) {
      auto other = cast<graph::LoadOp>(b);
      if (load.getTensor() != other.getTensor() ||
          !isSamePoint(load.getMap(), load.getCoords(), other.getMap(),
                       other.getCoords()) ||
          bool(load.getGuard()) != bool(other.getGuard()))
        return false;
      return !load.getGuard() ||
             (isSameSet(*load.getGuard(), load.getCoords(), *other.getGuard(),
                        other.getCoords()) &&
              (*this)(load.getOther(), other.getOther()));
    }
    if (auto coord = dyn_cast<graph::CoordOp>(a)) {
      auto other = cast<graph::CoordOp>(b);
      return isSamePoint(coord.getMap(), coord.getCoords(), other.getMap(),
                         other.getCoords());
    }
    if (auto inside = dyn_cast<graph::InsideOp>(a)) {
      auto other = cast<graph::InsideOp>(b);
      return isSameSet(inside.getSet(), inside.getCoords(), other.getSet(),
                       other.getCoords());
    }
    if (!isa<graph::ApplyOp, graph::CastOp, graph::LiteralOp>(a) ||
        a->getAttrDictionary() != b->getAttrDictionary() ||
        a->getNumOperands() != b->getNumOperands())
      return false;
    auto all = [&](auto first, auto second) {
      return llvm::all_of(llvm::zip_equal(first, second), [&](auto pair) {
        return (*this)(std::get<0>(pair), std::get<1>(pair));
      });
    };
    if (all(a->getOperands(), b->getOperands()))
      return true;
    auto apply = dyn_cast<graph::ApplyOp>(a);
    static constexpr ScalarFn commutative[] = {ScalarFn::add, ScalarFn::mul,
                                               ScalarFn::max, ScalarFn::min,
                                               ScalarFn::bit_and};
    return apply && llvm::is_contained(commutative, apply.getFn()) &&
           all(a->getOperands(), llvm::reverse(b->getOperands()));
  }

  const IterationSpace &space;
  llvm::DenseMap<std::pair<Value, Value>, bool> known;
};

using AxisSet = llvm::SmallSetVector<unsigned, 8>;

class Classifier {
public:
  Classifier(graph::KernelOp kernel, std::string &reason) : reason(reason) {
    spec.kernel = kernel;
  }
  FailureOr<AttentionSpec> run() {
    if (failed(findFolds()) || failed(makeSpace()) || failed(checkSoftmax()) ||
        failed(checkWeights()) || failed(checkScores()) ||
        failed(groupAxes()) || failed(checkPages()))
      return failure();
    spec.cuts = findKeyCuts(
        spec.score, spec.space, spec.keys,
        [&](Value x) { return foldsOf(x).contains(spec.scores); },
        [&](Value x) { return isOfOuter(x); });
    return spec;
  }

private:
  LogicalResult decline(StringRef name, const Twine &words) {
    reason = (name + ": " + words).str();
    return failure();
  }
  LogicalResult findFolds();
  LogicalResult makeSpace();
  LogicalResult checkSoftmax();
  LogicalResult checkWeights();
  LogicalResult checkScores();
  LogicalResult groupAxes();
  LogicalResult checkPages();
  /// Constant along keys, inner and columns as far as they are known, and made
  /// of no folds but the maximum and the sum.
  bool isRowFunction(Value value, bool mayReadSum);
  std::optional<AxisSet> axesOf(Value value) {
    AxisSet axes;
    if (failed(collectAxes(value, spec.space, axes, /*throughFolds=*/true)))
      return std::nullopt;
    return axes;
  }
  /// Made of no folds, of outer axes alone, and read at no index from data.
  bool isOfOuter(Value value);
  bool isKey(unsigned axis) const {
    return axis >= spec.space.numDomain && axis < spec.space.groupEnds[0];
  }

  std::string &reason;
  AttentionSpec spec;
  Value valueFactor, queryFactor, keyFactor;
};
} // namespace

//===----------------------------------------------------------------------===//
// Folds
//===----------------------------------------------------------------------===//

/// The coordinates from data that `value` is read at.
static void collectPages(Value value,
                         llvm::SmallSetVector<Operation *, 4> &pages,
                         llvm::SmallDenseSet<Value> &seen) {
  Operation *op = value.getDefiningOp();
  if (!op || !seen.insert(value).second)
    return;
  if (isa<graph::ToIndexOp>(op))
    pages.insert(op);
  if (auto load = dyn_cast<graph::LoadOp>(op))
    if (StageOp source = loadedStage(load);
        source && source.getFoldKind() == FoldKind::none)
      collectPages(source.getYielded(), pages, seen);
  for (Value operand : op->getOperands())
    collectPages(operand, pages, seen);
}

bool dlc::readsPages(const AttentionSpec &spec) {
  llvm::SmallSetVector<Operation *, 4> pages;
  llvm::SmallDenseSet<Value> seen;
  collectPages(spec.key.value, pages, seen);
  collectPages(spec.value.value, pages, seen);
  return !pages.empty();
}

static graph::ApplyOp productOf(StageOp stage) {
  return asApply(stage.getYielded(), ScalarFn::mul);
}

LogicalResult Classifier::findFolds() {
  SmallVector<StageOp> sums;
  for (StageOp stage : spec.kernel.getStages()) {
    FoldKind kind = stage.getFoldKind();
    if (kind == FoldKind::none)
      continue;
    if (kind == FoldKind::max) {
      if (spec.maximum)
        return decline("maximum", "there are two maxima");
      spec.maximum = stage;
    } else if (kind == FoldKind::add && !stage.getInit()) {
      sums.push_back(stage);
    } else {
      return decline("folds", "a fold that is neither maximum nor sum");
    }
  }
  if (!spec.maximum)
    return decline("maximum", "no maximum is subtracted from the scores");
  if (spec.maximum.getInit())
    return decline("maximum", "the maximum starts from a number of its own");
  auto scored = foldsOf(spec.maximum.getYielded());
  StageOp first = scored.empty() ? StageOp() : scored.front();
  if (scored.size() != 1 || first.getFoldKind() != FoldKind::add ||
      !productOf(first))
    return decline("scores", "the maximum is not taken of a sum of products");
  spec.scores = first;
  if (!foldsOf(spec.scores.getYielded()).empty())
    return decline("folds", "a factor of the scores is a fold");
  llvm::erase(sums, spec.scores);
  if (sums.size() != 2)
    return decline(sums.size() < 2 ? "sum" : "folds",
                   sums.empty() || sums.size() == 1
                       ? "no sum of the exponentials beside the one with values"
                       : "a sum that belongs to no softmax");
  // One of them may read the other; else the one of the exponentials is it.
  bool firstIsSum = foldsOf(sums[1].getYielded()).contains(sums[0]) ||
                    (!foldsOf(sums[0].getYielded()).contains(sums[1]) &&
                     asApply(sums[0].getYielded(), ScalarFn::exp));
  spec.sum = sums[firstIsSum ? 0 : 1];
  spec.output = sums[firstIsSum ? 1 : 0];
  if (!productOf(spec.output))
    return decline("values", "what is summed last is not a product");
  for (StageOp fold : {spec.scores, spec.maximum, spec.sum, spec.output}) {
    Type type = fold.getElementType();
    if (!type.isF32() && !type.isF64())
      return decline("type", "a fold is not in f32 or f64");
  }
  return success();
}

LogicalResult Classifier::makeSpace() {
  ArrayRef<AffineExpr> keys = spec.output.getReduceDims();
  for (StageOp fold : {spec.maximum, spec.sum}) {
    ArrayRef<AffineExpr> own = fold.getReduceDims();
    bool same = own.size() == keys.size();
    for (size_t i = 0; same && i < own.size(); ++i)
      same = graph::simplify(own[i] - keys[i]) == 0;
    if (!same)
      return decline("axis", "maximum, sum and the sum with values do not run "
                             "over the same axes");
  }
  for (Value value : spec.kernel.getResultValues())
    spec.results.push_back(value.getDefiningOp<StageOp>());
  ArrayRef<AffineExpr> domain = spec.results[0].getDomainDims();
  for (StageOp result : spec.results)
    if (result.getDomainDims() != domain ||
        (result != spec.output &&
         !foldsOf(result.getYielded()).contains(spec.output)))
      return decline("results", "something besides the output is a result");
  std::string why;
  auto space = makeIterationSpace(
      {{spec.maximum, 0}, {spec.sum, 0}, {spec.output, 0}, {spec.scores, 1}},
      spec.results, domain, /*splitsOften=*/true, why);
  if (failed(space))
    return decline(why == "a stage is read at two places" ? "axis" : "form",
                   why);
  spec.space = std::move(*space);
  AffineExpr points = graph::product(spec.context(), domain),
             sums = graph::product(spec.context(), spec.output.getDomainDims());
  if (graph::simplify(points - sums) != 0)
    return decline("results", "the results repeat or drop elements");
  spec.resultStrides = domainStrides(spec.space);
  return success();
}

//===----------------------------------------------------------------------===//
// Softmax
//===----------------------------------------------------------------------===//

bool Classifier::isRowFunction(Value value, bool mayReadSum) {
  for (StageOp fold : foldsOf(value))
    if (fold != spec.maximum && (fold != spec.sum || !mayReadSum))
      return false;
  auto axes = axesOf(value);
  return axes && llvm::none_of(*axes, [&](unsigned axis) {
           return axis >= spec.space.numDomain;
         });
}

LogicalResult Classifier::checkSoftmax() {
  Equality same(spec.space);
  spec.score = resolve(spec.maximum.getYielded());
  Value e = resolve(spec.sum.getYielded());
  auto exp = asApply(e, ScalarFn::exp);
  if (!exp) {
    Value under = e;
    while (auto cast = under.getDefiningOp<graph::CastOp>())
      under = resolve(cast.getValue());
    if (under != e && asApply(under, ScalarFn::exp))
      return decline("rounding", "the exponentials are converted before they "
                                 "are summed");
    return decline("exp", "what is summed is not the exponential of the "
                          "scores less their maximum");
  }
  auto difference = asApply(exp.getArgs()[0], ScalarFn::sub);
  if (!difference) {
    if (resolve(exp.getArgs()[0]).getDefiningOp<graph::CastOp>())
      return decline("rounding", "the difference is converted before exp");
    return decline("exp", "what is exponentiated is not a difference");
  }
  if (!foldsOf(difference.getArgs()[1]).contains(spec.maximum))
    return decline("maximum", "what is subtracted is not the maximum");
  if (!isRowFunction(difference.getArgs()[1], /*mayReadSum=*/false))
    return decline("maximum", "what is subtracted varies along the keys");
  if (!same(difference.getArgs()[0], spec.score))
    return decline("maximum",
                   "the maximum is of another tensor than is exponentiated");
  spec.exponential = e;
  spec.reference = resolve(difference.getArgs()[1]);
  spec.isPlainReference = spec.reference.getDefiningOp<graph::LoadOp>() &&
                          foldsOf(spec.reference).size() == 1;
  return success();
}

LogicalResult Classifier::checkWeights() {
  Equality same(spec.space);
  graph::ApplyOp product = productOf(spec.output);
  bool reads[2];
  for (int side : {0, 1})
    reads[side] = foldsOf(product.getArgs()[side]).contains(spec.maximum);
  if (reads[0] == reads[1])
    return decline("values", reads[0] ? "both factors come from the softmax"
                                      : "no factor comes from the softmax");
  spec.weight = product.getArgs()[reads[1]];
  valueFactor = product.getArgs()[reads[0]];
  if (!foldsOf(valueFactor).empty())
    return decline("values", "the values are a fold");
  auto narrow = [&](Type type) {
    unsigned width = type.getIntOrFloatBitWidth();
    if (isa<FloatType>(type) &&
        width < spec.exponential.getType().getIntOrFloatBitWidth() &&
        (!spec.weightRounding ||
         width < spec.weightRounding.getIntOrFloatBitWidth()))
      spec.weightRounding = type;
  };
  auto rounds = [](graph::CastOp cast) {
    return isa<FloatType>(cast.getType()) &&
           cast.getType().getIntOrFloatBitWidth() <
               cast.getValue().getType().getIntOrFloatBitWidth();
  };
  Value at = resolve(spec.weight);
  while (!same(at, spec.exponential)) {
    at = resolve(at);
    if (auto cast = at.getDefiningOp<graph::CastOp>()) {
      narrow(cast.getType());
      if (rounds(cast))
        spec.roundings.push_back(cast);
      if (!isa<FloatType>(cast.getType()))
        return decline("weights", "the weights are converted to integers");
      at = cast.getValue();
      continue;
    }
    auto apply = at.getDefiningOp<graph::ApplyOp>();
    if (!apply)
      return decline("weights", "the weights are not the exponentials that "
                                "are summed");
    ValueRange args = apply.getArgs();
    auto isRow = [&](Value x) { return isRowFunction(x, /*mayReadSum=*/true); };
    auto isZero = [&](Value x) {
      auto literal = resolve(x).getDefiningOp<graph::LiteralOp>();
      auto number =
          literal ? dyn_cast<FloatAttr>(literal.getValue()) : FloatAttr();
      return number && number.getValue().isPosZero();
    };
    auto readsSum = [&](Value x) { return foldsOf(x).contains(spec.sum); };
    if (apply.getFn() == ScalarFn::div) {
      if (!isRow(args[1]))
        return decline("division", "the divisor varies along the keys or is "
                                   "another sum");
      spec.dividesWeights |= readsSum(args[1]);
      at = args[0];
    } else if (apply.getFn() == ScalarFn::mul &&
               (isRow(args[0]) || isRow(args[1]))) {
      int row = isRow(args[0]) ? 0 : 1;
      spec.dividesWeights |= readsSum(args[row]);
      at = args[1 - row];
    } else if (apply.getFn() == ScalarFn::select) {
      int zero = isZero(args[1]) ? 1 : 2;
      if (!isZero(args[zero]))
        return decline("weights", "weights are replaced by other than 0");
      at = args[3 - zero];
      auto isNaN = asApply(args[0], ScalarFn::isnan);
      if (isNaN && zero == 1 && same(isNaN.getArgs()[0], at))
        spec.zeroesNaN = true;
      else if (!isRow(args[0]))
        return decline("weights", "single weights are cut after the softmax");
    } else if (apply.getFn() == ScalarFn::add ||
               apply.getFn() == ScalarFn::sub) {
      return decline("weights", "something is added after the softmax");
    } else if (apply.getFn() == ScalarFn::mul) {
      return decline("weights", "weights are scaled one by one after the "
                                "softmax");
    } else if (apply.getFn() == ScalarFn::exp) {
      return decline("weights", "the exponentials are not those that are "
                                "summed");
    } else {
      return decline("weights", "a function is applied after the softmax");
    }
  }
  if (spec.dividesWeights)
    return success();
  bool divides = llvm::any_of(spec.results, [&](StageOp result) {
    return foldsOf(result.getYielded()).contains(spec.sum);
  });
  return divides ? success()
                 : decline("division", "nothing is divided by the sum");
}

//===----------------------------------------------------------------------===//
// Axes
//===----------------------------------------------------------------------===//

LogicalResult Classifier::checkScores() {
  graph::ApplyOp product = productOf(spec.scores);
  for (int side : {0, 1}) {
    auto axes = axesOf(product.getArgs()[side]);
    if (!axes)
      return decline("scores", "a factor reads an index from data");
    (llvm::any_of(*axes, [&](unsigned a) { return isKey(a); }) ? keyFactor
                                                               : queryFactor) =
        product.getArgs()[side];
  }
  if (!keyFactor || !queryFactor)
    return decline("scores", keyFactor ? "both factors vary along the keys"
                                       : "no factor varies along the keys");
  spec.query.value = queryFactor;
  spec.key.value = keyFactor;
  spec.value.value = valueFactor;
  for (ContractionOperand *operand : {&spec.query, &spec.key, &spec.value})
    describeOperand(*operand, spec.space);
  return success();
}

LogicalResult Classifier::groupAxes() {
  const IterationSpace &space = spec.space;
  auto ofQuery = axesOf(queryFactor), ofKey = axesOf(keyFactor),
       ofValue = axesOf(valueFactor), ofScore = axesOf(spec.score);
  if (!ofQuery || !ofKey || !ofValue || !ofScore)
    return decline("form", "an index from data");
  if (llvm::none_of(*ofValue, [&](unsigned a) { return isKey(a); }))
    return decline("values", "the values do not vary along the keys");
  for (unsigned axis = space.numDomain; axis < space.extents.size(); ++axis)
    if (space.isWide(axis))
      (isKey(axis) ? spec.keys : spec.inner).push_back(axis);
  SmallVector<unsigned> rows;
  for (unsigned axis = 0; axis < space.numDomain; ++axis) {
    if (!space.isWide(axis))
      continue;
    bool inKey = ofKey->contains(axis), inValue = ofValue->contains(axis),
         inScore = ofScore->contains(axis) || ofQuery->contains(axis);
    if (inValue && !inKey && !inScore)
      spec.columns.push_back(axis);
    else if (inKey && inValue)
      spec.outer.push_back(axis);
    else if (!inKey && !inValue)
      rows.push_back(axis);
    else
      return decline("groups", "keys and values are shared by different "
                               "groups of heads");
  }
  // Heads that share keys lie beside those that do not, in one coordinate or in
  // front of the positions.
  auto isGroup = [&](unsigned axis) {
    return llvm::any_of(ArrayRef<unsigned>(spec.outer), [&](unsigned other) {
      return space.coordinateOf[other] == space.coordinateOf[axis];
    });
  };
  // Or the query lies so: such a head ends where the next key head's begin.
  auto liesInGroup = [&](unsigned axis) {
    return spec.query.plain &&
           llvm::any_of(ArrayRef<unsigned>(spec.outer), [&](unsigned other) {
             return graph::simplify(spec.query.strides[other] -
                                    spec.query.strides[axis] *
                                        space.extents[axis]) == 0;
           });
  };
  bool anySplit = llvm::any_of(rows, isGroup);
  auto lying = llvm::count_if(rows, liesInGroup);
  bool liesApart = lying > 0 && lying < static_cast<int>(rows.size());
  for (unsigned axis : rows) {
    bool inGroup = anySplit    ? isGroup(axis)
                   : liesApart ? liesInGroup(axis)
                               : axis != rows.back();
    (inGroup ? spec.group : spec.rows).push_back(axis);
  }
  return success();
}

bool Classifier::isOfOuter(Value value) {
  llvm::SmallSetVector<Operation *, 4> pages;
  llvm::SmallDenseSet<Value> seen;
  collectPages(value, pages, seen);
  auto axes = axesOf(value);
  return pages.empty() && foldsOf(value).empty() && axes &&
         llvm::all_of(*axes, [&](unsigned axis) {
           return !spec.space.isWide(axis) ||
                  llvm::is_contained(spec.outer, axis);
         });
}

LogicalResult Classifier::checkPages() {
  llvm::SmallSetVector<Operation *, 4> pages;
  llvm::SmallDenseSet<Value> seen;
  collectPages(keyFactor, pages, seen);
  collectPages(valueFactor, pages, seen);
  bool isElsewhere = false;
  for (auto &entry : spec.space.arguments)
    entry.first->walk(
        [&](graph::ToIndexOp op) { isElsewhere |= !pages.contains(op); });
  if (isElsewhere)
    return decline("form", "an index from data");
  for (Operation *page : pages) {
    auto axes = axesOf(cast<graph::ToIndexOp>(page).getValue());
    if (!axes || llvm::any_of(*axes, [&](unsigned axis) {
          return llvm::is_contained(spec.inner, axis) ||
                 llvm::is_contained(spec.columns, axis);
        }))
      return decline("form", "an index from data within a key or a value");
  }
  return success();
}

FailureOr<AttentionSpec> dlc::classifyAttention(graph::KernelOp kernel,
                                                std::string &reason) {
  if (kernel.getOpaque()) {
    reason = "form: an operator without expression";
    return failure();
  }
  return Classifier(kernel, reason).run();
}

//===----------------------------------------------------------------------===//
// The spec
//===----------------------------------------------------------------------===//

AffineExpr AttentionSpec::extentOf(ArrayRef<unsigned> axes) const {
  AffineExpr extent = getAffineConstantExpr(1, context());
  for (unsigned axis : axes)
    extent = extent * space.extents[axis];
  return graph::simplify(extent);
}

std::optional<AffineExpr>
AttentionSpec::strideOf(const ContractionOperand &operand,
                        ArrayRef<unsigned> axes) const {
  return collapsedStride(
      axes,
      [&](unsigned axis) -> std::optional<AffineExpr> {
        return operand.strides[axis];
      },
      space.extents, context());
}

std::string AttentionSpec::str() const {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << "heads " << extentOf(outer) * extentOf(group) << " group "
     << extentOf(group) << " rows " << extentOf(rows) << " keys "
     << extentOf(keys) << " head_dim " << extentOf(inner) << " value_dim "
     << extentOf(columns);
  describeKeyCuts(cuts, rows, keys, space, os);
  auto note = [&](const ContractionOperand &operand, StringRef name) {
    if (!operand.plain)
      os << " " << name << (operand.guarded ? "-guarded" : "-computed");
  };
  note(query, "query"), note(key, "key"), note(value, "value");
  if (readsPages(*this))
    os << " paged";
  if (weightRounding)
    os << " weights " << weightRounding;
  return text;
}
