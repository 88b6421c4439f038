// Masks by position: comparisons of coordinates inside the score.
#include "AttentionCuts.h"

#include <cmath>

using namespace mlir;
using namespace dlc;
using graph::ScalarFn;

namespace {
/// What a score, or what is added to it, is where selects around it choose
/// otherwise: the largest such number; `replaces`: it is all of the score.
struct Otherwise {
  double fill = -INFINITY;
  bool replaces = true;

  Otherwise with(double other, bool replacesToo) const {
    return {std::max(fill, other), replaces && replacesToo};
  }
};

class CutFinder {
public:
  CutFinder(const IterationSpace &space, ArrayRef<unsigned> keys,
            llvm::function_ref<bool(Value)> readsScores,
            llvm::function_ref<bool(Value)> isOuter)
      : space(space), keys(keys), readsScores(readsScores), isOuter(isOuter) {}

  /// Adds to `cuts` what masks `score`: where a cut's `kept` is negative, the
  /// score is the fill, or has it added.
  void findInScore(Value score, bool isAddedTo = false,
                   Otherwise otherwise = {});
  SmallVector<KeyCut> cuts;
  SmallVector<Value> data;

private:
  struct Conjunct {
    AffineExpr kept;
    Value condition; ///< `truth` exactly where 0 <= kept; null: unknown
    bool truth;
  };
  /// The conditions, each `expr >= 0`, of which every one must hold for the i1
  /// `condition` to be `truth`; those that are not linear are left out.
  void findConjuncts(Value condition, bool truth,
                     SmallVectorImpl<Conjunct> &found);
  std::optional<AffineExpr> asCoordinate(Value value);
  /// A number from data that is the same for all rows and keys.
  std::optional<AffineExpr> asData(Value value);
  bool readsData(AffineExpr expr) const {
    bool found = false;
    expr.walk([&](AffineExpr e) {
      auto dim = dyn_cast<AffineDimExpr>(e);
      found |= dim && dim.getPosition() >= space.extents.size();
    });
    return found;
  }
  void addCuts(Value condition, bool keptWhen, double fill, bool replaces,
               Otherwise otherwise);
  void findInBias(Value bias, Otherwise otherwise);

  const IterationSpace &space;
  ArrayRef<unsigned> keys;
  llvm::function_ref<bool(Value)> readsScores, isOuter;
};
} // namespace

static std::optional<double> literalOf(Value value) {
  value = resolve(value);
  if (auto cast = value.getDefiningOp<graph::CastOp>())
    return isa<FloatType>(cast.getType()) ? literalOf(cast.getValue())
                                          : std::nullopt;
  auto literal = value.getDefiningOp<graph::LiteralOp>();
  auto number = literal ? dyn_cast<FloatAttr>(literal.getValue()) : FloatAttr();
  if (!number)
    return std::nullopt;
  APFloat exact = number.getValue();
  bool lost = false;
  exact.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &lost);
  return exact.convertToDouble();
}

static bool isFill(std::optional<double> value) {
  return value && *value < -1000;
}

std::optional<AffineExpr> CutFinder::asData(Value value) {
  if (!(value.getType().isInteger(64) || value.getType().isInteger(32)) ||
      !isOuter(value))
    return std::nullopt;
  auto known = llvm::find(data, value);
  unsigned number = std::distance(data.begin(), known);
  if (known == data.end())
    data.push_back(value);
  return getAffineDimExpr(space.extents.size() + number, value.getContext());
}

/// An integer that is linear in coordinates and data; casts that keep it are
/// looked through (sizes of tensors fit any type positions are written in).
std::optional<AffineExpr> CutFinder::asCoordinate(Value value) {
  value = resolve(value);
  if (auto coord = value.getDefiningOp<graph::CoordOp>()) {
    auto expr = space.toAxes(coord.getMap().getResult(0), coord.getCoords());
    return succeeded(expr) ? std::optional(*expr) : std::nullopt;
  }
  if (auto cast = value.getDefiningOp<graph::CastOp>()) {
    Type type = cast.getType();
    bool isWide = type.isInteger(64) || type.isInteger(32) || type.isF64();
    auto inner = isWide ? asCoordinate(cast.getValue()) : std::nullopt;
    // Data may be any number of their type.
    if (!inner || (readsData(*inner) && !type.isInteger(64)))
      return asData(value);
    return inner;
  }
  if (auto literal = value.getDefiningOp<graph::LiteralOp>()) {
    auto number = dyn_cast<IntegerAttr>(literal.getValue());
    if (!number || number.getType().isInteger(1) ||
        number.getValue().getSignificantBits() > 40)
      return std::nullopt;
    return getAffineConstantExpr(number.getValue().getSExtValue(),
                                 value.getContext());
  }
  auto apply = value.getDefiningOp<graph::ApplyOp>();
  if (!apply || !isa<IntegerType>(apply.getType()))
    return asData(value);
  ScalarFn fn = apply.getFn();
  // Sums of data in narrow types may wrap around.
  auto isExact = [&](AffineExpr e) {
    return apply.getType().isInteger(64) || !readsData(e);
  };
  if (fn == ScalarFn::neg) {
    auto a = asCoordinate(apply.getArgs()[0]);
    return a && isExact(*a) ? std::optional(graph::simplify(-*a))
                            : asData(value);
  }
  if (fn != ScalarFn::add && fn != ScalarFn::sub && fn != ScalarFn::mul)
    return asData(value);
  auto a = asCoordinate(apply.getArgs()[0]),
       b = asCoordinate(apply.getArgs()[1]);
  if (!a || !b || !isExact(*a) || !isExact(*b))
    return asData(value);
  if (fn != ScalarFn::mul)
    return graph::simplify(fn == ScalarFn::add ? *a + *b : *a - *b);
  if (!isa<AffineConstantExpr>(*a) && !isa<AffineConstantExpr>(*b))
    return std::nullopt;
  return graph::simplify(*a * *b);
}

void CutFinder::findConjuncts(Value condition, bool truth,
                              SmallVectorImpl<Conjunct> &found) {
  condition = resolve(condition);
  if (auto inside = condition.getDefiningOp<graph::InsideOp>()) {
    IntegerSet set = inside.getSet();
    if (!truth && set.getNumConstraints() != 1)
      return;
    for (unsigned i = 0; i < set.getNumConstraints(); ++i) {
      auto expr = space.toAxes(set.getConstraint(i), inside.getCoords());
      if (succeeded(expr) && !set.isEq(i))
        found.push_back({truth ? *expr : -*expr - 1,
                         set.getNumConstraints() == 1 ? condition : Value(),
                         truth});
    }
    return;
  }
  auto apply = condition.getDefiningOp<graph::ApplyOp>();
  if (!apply)
    return;
  ValueRange args = apply.getArgs();
  auto compare = [&](bool swaps, bool strict) {
    auto a = asCoordinate(args[swaps ? 1 : 0]),
         b = asCoordinate(args[swaps ? 0 : 1]);
    if (!a || !b)
      return; // a < b: b - a - 1 >= 0; not (a < b): a - b >= 0
    AffineExpr holds = *b - *a - (strict ? 1 : 0);
    found.push_back({truth ? holds : -holds - 1, condition, truth});
  };
  switch (apply.getFn()) {
  case ScalarFn::bit_not:
    return findConjuncts(args[0], !truth, found);
  case ScalarFn::bit_and:
  case ScalarFn::bit_or:
    if (truth == (apply.getFn() == ScalarFn::bit_and)) {
      findConjuncts(args[0], truth, found);
      findConjuncts(args[1], truth, found);
    }
    return;
  case ScalarFn::lt:
    return compare(false, true);
  case ScalarFn::le:
    return compare(false, false);
  case ScalarFn::gt:
    return compare(true, true);
  case ScalarFn::ge:
    return compare(true, false);
  default:
    return;
  }
}

void CutFinder::addCuts(Value condition, bool keptWhen, double fill,
                        bool replaces, Otherwise otherwise) {
  if (otherwise.fill > fill) {
    replaces = (replaces || std::isinf(fill)) && otherwise.replaces;
    fill = otherwise.fill;
  }
  SmallVector<Conjunct> found;
  findConjuncts(condition, keptWhen, found);
  for (const Conjunct &conjunct : found) {
    AffineExpr kept = graph::simplify(conjunct.kept);
    bool usesKeys = llvm::any_of(
        keys, [&](unsigned key) { return kept.isFunctionOfDim(key); });
    bool isLinear = true;
    for (unsigned axis = 0; axis < space.extents.size(); ++axis)
      isLinear &= linearCoefficient(kept, axis).has_value();
    if (usesKeys && isLinear)
      cuts.push_back(
          {kept, {}, replaces, fill, conjunct.condition, conjunct.truth});
  }
}

void CutFinder::findInBias(Value bias, Otherwise otherwise) {
  bias = resolve(bias);
  if (auto cast = bias.getDefiningOp<graph::CastOp>())
    return isa<FloatType>(cast.getValue().getType())
               ? findInBias(cast.getValue(), otherwise)
               : void();
  auto apply = bias.getDefiningOp<graph::ApplyOp>();
  if (!apply)
    return;
  if (apply.getFn() == ScalarFn::add) {
    findInBias(apply.getArgs()[0], otherwise);
    findInBias(apply.getArgs()[1], otherwise);
  } else if (apply.getFn() == ScalarFn::select) {
    auto first = literalOf(apply.getArgs()[1]),
         second = literalOf(apply.getArgs()[2]);
    if (isFill(second))
      addCuts(apply.getArgs()[0], true, *second, /*replaces=*/false, otherwise);
    else if (isFill(first))
      addCuts(apply.getArgs()[0], false, *first, /*replaces=*/false, otherwise);
    // What is added where the condition holds may be masked again.
    for (int arm : {1, 2})
      if (auto other = arm == 1 ? second : first; isFill(other))
        findInBias(apply.getArgs()[arm], otherwise.with(*other, false));
  }
}

void CutFinder::findInScore(Value score, bool isAddedTo, Otherwise otherwise) {
  score = resolve(score);
  if (auto cast = score.getDefiningOp<graph::CastOp>())
    return isa<FloatType>(cast.getValue().getType())
               ? findInScore(cast.getValue(), isAddedTo, otherwise)
               : void();
  auto apply = score.getDefiningOp<graph::ApplyOp>();
  if (!apply)
    return;
  ValueRange args = apply.getArgs();
  if (apply.getFn() == ScalarFn::add) {
    for (Value arg : args)
      readsScores(arg) ? findInScore(arg, /*isAddedTo=*/true, otherwise)
                       : findInBias(arg, otherwise);
  } else if (apply.getFn() == ScalarFn::select && !readsScores(args[0])) {
    int kept = readsScores(args[1]) ? 1 : 2;
    auto fill = literalOf(args[3 - kept]);
    if (!isFill(fill))
      return;
    addCuts(args[0], kept == 1, *fill, /*replaces=*/!isAddedTo, otherwise);
    findInScore(args[kept], isAddedTo, otherwise.with(*fill, !isAddedTo));
  }
}

SmallVector<KeyCut>
dlc::findKeyCuts(Value score, const IterationSpace &space,
                 ArrayRef<unsigned> keys,
                 llvm::function_ref<bool(Value)> readsScores,
                 llvm::function_ref<bool(Value)> isOuter) {
  CutFinder finder(space, keys, readsScores, isOuter);
  finder.findInScore(score);
  SmallVector<KeyCut> unique;
  for (const KeyCut &cut : finder.cuts)
    if (llvm::none_of(unique, [&](const KeyCut &other) {
          return graph::simplify(other.kept - cut.kept) == 0 &&
                 other.replaces == cut.replaces && other.fill == cut.fill;
        }))
      unique.push_back(cut);
  for (KeyCut &cut : unique)
    for (size_t i = 0; i < finder.data.size(); ++i)
      if (cut.kept.isFunctionOfDim(space.extents.size() + i))
        cut.data = finder.data;
  return unique;
}

void dlc::describeKeyCuts(ArrayRef<KeyCut> cuts, ArrayRef<unsigned> rows,
                          ArrayRef<unsigned> keys, const IterationSpace &space,
                          llvm::raw_ostream &os) {
  for (const KeyCut &cut : cuts) {
    std::optional<AffineExpr> byKey, byRow;
    if (keys.size() == 1)
      byKey = linearCoefficient(cut.kept, keys[0]);
    if (rows.size() == 1)
      byRow = linearCoefficient(cut.kept, rows[0]);
    SmallVector<AffineExpr> zeros(
        space.extents.size() + cut.data.size(),
        getAffineConstantExpr(0, cut.kept.getContext()));
    AffineExpr offset = graph::simplify(cut.kept.replaceDims(zeros));
    if (!cut.data.empty()) {
      os << (!byRow || *byRow == 0 ? " lengths" : " bounds") << " from data";
    } else if (byKey && *byKey == -1 &&
               (rows.empty() || (byRow && *byRow == 1))) {
      os << " causal";
      if (offset != 0)
        os << " offset " << offset;
    } else if (byKey && *byKey == 1 && byRow && *byRow == -1) {
      os << " window " << offset + 1;
    } else {
      os << " cut " << cut.kept;
    }
  }
}
