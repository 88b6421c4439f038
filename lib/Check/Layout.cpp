// Relaid kernels: both are walked together, and every index is compared as a
// polynomial of the old kernel's coordinates.
#include "dlc/Check/Layout.h"

#include "Index.h"

#include "mlir/IR/IntegerSet.h"
#include "llvm/ADT/SmallBitVector.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

using Permutation = SmallVector<int64_t>;

namespace {
// What a kernel claims, read with suspicion.
struct Claim {
  StringRef of;
  SmallVector<Permutation> operands, results, domains, reduces;
  SmallVector<Law> laws;
  SmallVector<int64_t> wideOperands, wideResults;
};

class RelayoutCheck {
public:
  RelayoutCheck(KernelOp before, KernelOp after, NumericsMode mode)
      : before(before), after(after), mode(mode) {}

  Admission run();

private:
  bool refuse(const Twine &why) {
    if (reason.empty())
      reason = why.str();
    return false;
  }
  bool checkKernel();
  bool checkSignature();
  bool checkStages();
  bool checkStage(unsigned i, StageOp a, StageOp b);
  bool checkFold(unsigned i, StageOp a, StageOp b);
  bool checkBody(Block &a, Block &b);
  bool checkOp(Operation *a, Operation *b);
  bool checkLoad(LoadOp a, LoadOp b);
  bool checkAdded(Operation *b);
  bool dropsWidening(Operation *a);
  bool isSameNumber(Value narrow, Value wide) const;
  bool checkType(Type a, Type b, ArrayRef<int64_t> permutation, bool isWide,
                 const Twine &what);
  bool checkDims(ArrayRef<AffineExpr> a, ArrayRef<AffineExpr> b,
                 ArrayRef<int64_t> permutation, const Twine &what);
  bool checkGuard(IntegerSet a, OperandRange aCoords, IntegerSet b,
                  OperandRange bCoords, const Twine &what);
  // The polynomials of coordinates, in terms of the old kernel's.
  bool valuesOf(OperandRange coords, SmallVectorImpl<PolyId> &values);
  PolyId indexOf(AffineExpr expr, ArrayRef<PolyId> coords) {
    return index.fromAffine(expr, coords, symbols, index.emptyContext());
  }

  KernelOp before, after;
  NumericsMode mode;
  std::string reason;
  Claim claim;
  IndexArena index;
  SmallVector<PolyId> symbols;
  llvm::DenseMap<Value, Value> scalars;      // old -> new
  llvm::DenseMap<Value, Value> wides;        // old -> new, the same in f32
  llvm::DenseMap<Value, Value> olds;         // new, of both -> old
  llvm::DenseSet<Value> wideTensors;         // old ones
  llvm::DenseMap<Value, Value> tensors;      // old -> new
  llvm::DenseMap<Value, Permutation> relaid; // of old tensors
  llvm::DenseMap<Value, PolyId> coordinates; // of both kernels
  uint32_t numData = 0, numStages = 0;
};
} // namespace

//===----------------------------------------------------------------------===//
// The claim
//===----------------------------------------------------------------------===//

static bool readPermutations(DictionaryAttr dict, StringRef key,
                             SmallVectorImpl<Permutation> &list) {
  auto array = dyn_cast_or_null<ArrayAttr>(dict.get(key));
  if (!array)
    return false;
  for (Attribute attr : array) {
    auto entry = dyn_cast<DenseI64ArrayAttr>(attr);
    if (!entry)
      return false;
    Permutation permutation(entry.asArrayRef());
    llvm::SmallBitVector seen(permutation.size());
    for (int64_t axis : permutation) {
      if (axis < 0 || axis >= int64_t(permutation.size()) || seen.test(axis))
        return false;
      seen.set(axis);
    }
    list.push_back(permutation);
  }
  return true;
}

static std::optional<Claim> readClaim(KernelOp kernel) {
  auto dict = kernel->getAttrOfType<DictionaryAttr>("graph.relayout");
  if (!dict)
    return std::nullopt;
  Claim claim;
  auto of = dyn_cast_or_null<StringAttr>(dict.get("of"));
  auto laws = dyn_cast_or_null<ArrayAttr>(dict.get("laws"));
  if (!of || !laws || !readPermutations(dict, "operands", claim.operands) ||
      !readPermutations(dict, "results", claim.results) ||
      !readPermutations(dict, "domains", claim.domains) ||
      !readPermutations(dict, "reduces", claim.reduces))
    return std::nullopt;
  auto readNumbers = [&](StringRef key, SmallVectorImpl<int64_t> &list) {
    Attribute attr = dict.get(key);
    auto numbers = dyn_cast_or_null<DenseI64ArrayAttr>(attr);
    if (numbers)
      llvm::append_range(list, numbers.asArrayRef());
    return !attr || numbers;
  };
  if (!readNumbers("wideOperands", claim.wideOperands) ||
      !readNumbers("wideResults", claim.wideResults))
    return std::nullopt;
  claim.of = of.getValue();
  for (Attribute attr : laws) {
    auto text = dyn_cast<StringAttr>(attr);
    if (!text)
      return std::nullopt;
    FailureOr<Law> law = Law::parse(text.getValue());
    if (failed(law))
      return std::nullopt;
    claim.laws.push_back(*law);
  }
  return claim;
}

static bool isIdentity(ArrayRef<int64_t> permutation) {
  return llvm::is_sorted(permutation);
}

static std::string str(ArrayRef<int64_t> permutation) {
  std::string text = "(";
  for (int64_t axis : permutation)
    text += (text.size() > 1 ? ", " : "") + std::to_string(axis);
  return text + ")";
}

//===----------------------------------------------------------------------===//
// Types and domains
//===----------------------------------------------------------------------===//

bool RelayoutCheck::checkDims(ArrayRef<AffineExpr> a, ArrayRef<AffineExpr> b,
                              ArrayRef<int64_t> permutation,
                              const Twine &what) {
  if (a.size() != b.size() ||
      (!permutation.empty() && permutation.size() != a.size()))
    return refuse(what + ": another rank");
  for (size_t i = 0; i < b.size(); ++i)
    if (indexOf(a[permutation.empty() ? i : permutation[i]], {}) !=
        indexOf(b[i], {}))
      return refuse(what + ": sizes are not those permuted by " +
                    str(permutation));
  return true;
}

// Whether elements of `a` are stored as those of `b`.
static bool isStoredAs(Type a, Type b, bool isWide) {
  return isWide ? (a.isF16() || a.isBF16()) && b.isF32() : a == b;
}

bool RelayoutCheck::checkType(Type a, Type b, ArrayRef<int64_t> permutation,
                              bool isWide, const Twine &what) {
  auto x = dyn_cast<RankedTensorType>(a), y = dyn_cast<RankedTensorType>(b);
  if (!x || !y || !isStoredAs(x.getElementType(), y.getElementType(), isWide))
    return refuse(what + ": another element type");
  return checkDims(getDims(x), getDims(y), permutation, what);
}

bool RelayoutCheck::checkSignature() {
  size_t numOperands = before.getBody().getNumArguments();
  auto oldValues = before.getResultValues(),
       newValues = after.getResultValues();
  if (after.getBody().getNumArguments() != numOperands ||
      claim.operands.size() != numOperands ||
      newValues.size() != oldValues.size() ||
      claim.results.size() != oldValues.size())
    return refuse("another number of operands or results");
  if (after.getArgumentTypes() !=
          ArrayRef<Type>(llvm::to_vector(after.getBody().getArgumentTypes())) ||
      after.getResultTypes() !=
          ArrayRef<Type>(llvm::to_vector(newValues.getTypes())))
    return refuse("the kernel's type is not its operands' and results'");
  for (size_t i = 0; i < numOperands; ++i) {
    Value a = before.getBody().getArgument(i),
          b = after.getBody().getArgument(i);
    bool isWide = llvm::is_contained(claim.wideOperands, i);
    if (!checkType(a.getType(), b.getType(), claim.operands[i], isWide,
                   "operand " + Twine(i)))
      return false;
    if (isWide)
      wideTensors.insert(a);
    tensors[a] = b;
    relaid[a] = claim.operands[i];
  }
  return true;
}

//===----------------------------------------------------------------------===//
// Stages
//===----------------------------------------------------------------------===//

bool RelayoutCheck::checkFold(unsigned i, StageOp a, StageOp b) {
  if (a.getFoldKind() != b.getFoldKind() || a.getInitAttr() != b.getInitAttr())
    return refuse("stage " + Twine(i) + ": another fold");
  ArrayRef<int64_t> permutation = claim.reduces[i];
  if (!checkDims(a.getReduceDims(), b.getReduceDims(), permutation,
                 "the fold of stage " + Twine(i)))
    return false;
  if (isIdentity(permutation))
    return true;
  // Their result is a place in the old order.
  if (a.getFoldKind() >= FoldKind::argmax)
    return refuse("stage " + Twine(i) +
                  ": axes of a fold whose result is an index are permuted");
  Law law{LawKind::reorder, a.getFoldKind()};
  if (!llvm::is_contained(claim.laws, law))
    return refuse("stage " + Twine(i) +
                  ": axes of a fold are permuted without "
                  "the law " +
                  law.str());
  Admission admission = admitLaws(before, {law}, mode);
  return admission || refuse(admission.reason);
}

bool RelayoutCheck::checkStage(unsigned i, StageOp a, StageOp b) {
  ArrayRef<int64_t> domain = claim.domains[i], reduce = claim.reduces[i];
  bool isWide = wideTensors.contains(a.getResult());
  // A maximum is one of the numbers; a sum would be rounded at each step.
  if (isWide && (a.getInit() || (a.getFoldKind() != FoldKind::none &&
                                 a.getFoldKind() != FoldKind::max &&
                                 a.getFoldKind() != FoldKind::min)))
    return refuse("stage " + Twine(i) + ": a fold that is widened");
  if (!checkDims(a.getDomainDims(), b.getDomainDims(), domain,
                 "the domain of stage " + Twine(i)) ||
      !checkType(a.getResult().getType(), b.getResult().getType(), domain,
                 isWide, "stage " + Twine(i)) ||
      !checkFold(i, a, b))
    return false;
  Block *x = a.getBlock(), *y = b.getBlock();
  unsigned rank = a.getDomainRank(), count = rank + a.getReduceRank();
  if (x->getNumArguments() != count || y->getNumArguments() != count)
    return refuse("stage " + Twine(i) + ": another number of coordinates");
  SmallVector<AffineExpr> sizes(a.getDomainDims());
  llvm::append_range(sizes, a.getReduceDims());
  // Levels keep the coordinates of stages apart.
  uint32_t level = ++numStages;
  for (unsigned k = 0; k < count; ++k)
    coordinates[x->getArgument(k)] =
        index.axis(level, k, indexOf(sizes[k], {}));
  for (unsigned k = 0; k < count; ++k) {
    unsigned old = k < rank
                       ? (domain.empty() ? k : domain[k])
                       : rank + (reduce.empty() ? k - rank : reduce[k - rank]);
    coordinates[y->getArgument(k)] = coordinates[x->getArgument(old)];
  }
  if (!checkBody(*x, *y))
    return refuse("stage " + Twine(i) + " differs");
  tensors[a.getResult()] = b.getResult();
  relaid[a.getResult()] = Permutation(domain);
  return true;
}

bool RelayoutCheck::checkStages() {
  Block &x = before.getBody().front(), &y = after.getBody().front();
  std::vector<StageOp> a = before.getStages(), b = after.getStages();
  if (a.size() != b.size() || x.getOperations().size() != a.size() + 1 ||
      y.getOperations().size() != b.size() + 1 ||
      claim.domains.size() != a.size() || claim.reduces.size() != a.size())
    return refuse("another number of stages");
  for (auto [i, value] : llvm::enumerate(before.getResultValues()))
    if (llvm::is_contained(claim.wideResults, i))
      wideTensors.insert(value);
  for (auto [i, value] : llvm::enumerate(before.getResultValues()))
    if (wideTensors.contains(value) != llvm::is_contained(claim.wideResults, i))
      return refuse("result " + Twine(i) + " is wide elsewhere");
  for (unsigned i = 0; i < a.size(); ++i)
    if (!checkStage(i, a[i], b[i]))
      return false;
  for (auto [i, pair] : llvm::enumerate(
           llvm::zip(before.getResultValues(), after.getResultValues()))) {
    auto [p, q] = pair;
    if (tensors.lookup(p) != q)
      return refuse("result " + Twine(i) + " is another stage");
    Permutation actual = relaid.lookup(p);
    if (actual != claim.results[i] &&
        !(isIdentity(actual) && isIdentity(claim.results[i])))
      return refuse("result " + Twine(i) + " is permuted by " + str(actual) +
                    ", claimed is " + str(claim.results[i]));
  }
  return true;
}

//===----------------------------------------------------------------------===//
// Bodies
//===----------------------------------------------------------------------===//

bool RelayoutCheck::valuesOf(OperandRange coords,
                             SmallVectorImpl<PolyId> &values) {
  for (Value coord : coords) {
    auto it = coordinates.find(coord);
    if (it == coordinates.end())
      return refuse("a coordinate that is none of the stage");
    values.push_back(it->second);
  }
  return true;
}

bool RelayoutCheck::checkGuard(IntegerSet a, OperandRange aCoords, IntegerSet b,
                               OperandRange bCoords, const Twine &what) {
  SmallVector<PolyId> x, y;
  if (!valuesOf(aCoords, x) || !valuesOf(bCoords, y))
    return false;
  if (a.getNumConstraints() != b.getNumConstraints())
    return refuse(what + ": another number of constraints");
  for (unsigned i = 0; i < a.getNumConstraints(); ++i)
    if (a.isEq(i) != b.isEq(i) ||
        indexOf(a.getConstraint(i), x) != indexOf(b.getConstraint(i), y))
      return refuse(what + ": constraint " + Twine(i) +
                    " differs: " + index.str(indexOf(a.getConstraint(i), x)) +
                    " and " + index.str(indexOf(b.getConstraint(i), y)));
  return true;
}

bool RelayoutCheck::checkLoad(LoadOp a, LoadOp b) {
  auto it = tensors.find(a.getTensor());
  if (it == tensors.end() || it->second != b.getTensor())
    return refuse("a load of another tensor");
  SmallVector<PolyId> x, y;
  if (!valuesOf(a.getCoords(), x) || !valuesOf(b.getCoords(), y))
    return false;
  ArrayRef<int64_t> permutation = relaid[a.getTensor()];
  auto old = a.getMap().getResults(), now = b.getMap().getResults();
  if (old.size() != now.size() ||
      (!permutation.empty() && permutation.size() != old.size()))
    return refuse("a load with another number of indices");
  for (size_t i = 0; i < now.size(); ++i) {
    PolyId p = indexOf(old[permutation.empty() ? i : permutation[i]], x),
           q = indexOf(now[i], y);
    if (p != q)
      return refuse("index " + Twine(i) + " of a load differs: " +
                    index.str(p) + " and " + index.str(q));
  }
  if (a.getGuard().has_value() != b.getGuard().has_value())
    return refuse("a load's guard is on one side only");
  return !a.getGuard() ||
         checkGuard(*a.getGuard(), a.getCoords(), *b.getGuard(), b.getCoords(),
                    "a load's guard");
}

// Attributes apart from those that hold coordinates.
static DictionaryAttr plainAttributes(Operation *op) {
  SmallVector<NamedAttribute> rest;
  for (NamedAttribute attr : op->getAttrDictionary())
    if (!isa<AffineMapAttr, IntegerSetAttr>(attr.getValue()))
      rest.push_back(attr);
  return DictionaryAttr::get(op->getContext(), rest);
}

// Whether `wide` is the number `narrow` of 16 bits in f32.
bool RelayoutCheck::isSameNumber(Value narrow, Value wide) const {
  if (Value known = wides.lookup(narrow))
    return known == wide;
  auto a = narrow.getDefiningOp<LiteralOp>(),
       b = wide.getDefiningOp<LiteralOp>();
  auto x = a ? dyn_cast<FloatAttr>(a.getValue()) : FloatAttr(),
       y = b ? dyn_cast<FloatAttr>(b.getValue()) : FloatAttr();
  if (!x || !y || !isStoredAs(x.getType(), y.getType(), /*isWide=*/true))
    return false;
  APFloat value = x.getValue();
  bool losesInfo = false;
  value.convert(APFloat::IEEEsingle(), APFloat::rmNearestTiesToEven,
                &losesInfo);
  return value.bitwiseIsEqual(y.getValue());
}

// The widening of a number that is loaded wide is the load.
bool RelayoutCheck::dropsWidening(Operation *a) {
  auto cast = dyn_cast<CastOp>(a);
  if (!cast || cast.getSaturate() || !cast.getType().isF32())
    return false;
  auto load = cast.getValue().getDefiningOp<LoadOp>();
  if (!load || !wideTensors.contains(load.getTensor()))
    return false;
  scalars[cast.getResult()] = wides.lookup(load.getResult());
  return true;
}

// A number of the old body in its other form; exact both ways.
bool RelayoutCheck::checkAdded(Operation *b) {
  if (isa<LiteralOp>(b))
    return true; // compared where it is used
  auto cast = dyn_cast<CastOp>(b);
  Value old = cast ? olds.lookup(cast.getValue()) : Value();
  if (!old || cast.getSaturate())
    return refuse("an operation that was added");
  bool widens = scalars.lookup(old) == cast.getValue();
  if (!(widens ? isStoredAs(old.getType(), cast.getType(), /*isWide=*/true)
               : old.getType() == cast.getType()))
    return refuse("a number that was added has another type");
  (widens ? wides : scalars)[old] = cast.getResult();
  return true;
}

bool RelayoutCheck::checkBody(Block &a, Block &b) {
  auto p = a.begin();
  auto skip = [&] {
    while (p != a.end() && dropsWidening(&*p))
      ++p;
  };
  for (Operation &q : b) {
    skip();
    if (q.hasAttr("graph.relayout")) {
      if (!checkAdded(&q))
        return false;
    } else if (p == a.end()) {
      return refuse("another number of operations");
    } else if (!checkOp(&*p++, &q)) {
      return false;
    }
  }
  return p == a.end() || refuse("another number of operations");
}

bool RelayoutCheck::checkOp(Operation *a, Operation *b) {
  auto loadBefore = dyn_cast<LoadOp>(a);
  bool isWide = loadBefore && wideTensors.contains(loadBefore.getTensor());
  if (a->getName() != b->getName() || a->getNumRegions() != 0 ||
      b->getNumRegions() != 0 ||
      !(isWide ? isStoredAs(loadBefore.getType(), b->getResult(0).getType(),
                            isWide)
               : a->getResultTypes() == b->getResultTypes()))
    return refuse("another operation or type");
  if (!isa<LoadOp, ApplyOp, CastOp, LiteralOp, CoordOp, InsideOp, ToIndexOp,
           YieldOp>(a))
    return refuse("an operation that this check does not know: " +
                  a->getName().getStringRef());
  if (plainAttributes(a) != plainAttributes(b))
    return refuse("another attribute");
  if (auto load = dyn_cast<LoadOp>(a)) {
    auto other = cast<LoadOp>(b);
    if (!checkLoad(load, other))
      return false;
    if (load.getOther() &&
        !(isWide ? isSameNumber(load.getOther(), other.getOther())
                 : scalars.lookup(load.getOther()) == other.getOther()))
      return refuse("another value outside a guard");
  } else if (auto coord = dyn_cast<CoordOp>(a)) {
    auto other = cast<CoordOp>(b);
    SmallVector<PolyId> x, y;
    if (!valuesOf(coord.getCoords(), x) || !valuesOf(other.getCoords(), y))
      return false;
    if (coord.getMap().getNumResults() != 1 ||
        other.getMap().getNumResults() != 1 ||
        indexOf(coord.getMap().getResult(0), x) !=
            indexOf(other.getMap().getResult(0), y))
      return refuse("another coordinate as a number");
  } else if (auto inside = dyn_cast<InsideOp>(a)) {
    auto other = cast<InsideOp>(b);
    if (!checkGuard(inside.getSet(), inside.getCoords(), other.getSet(),
                    other.getCoords(), "a set"))
      return false;
  } else if (isa<YieldOp>(a) &&
             wideTensors.contains(a->getParentOp()->getResult(0))) {
    if (b->getNumOperands() != 1 ||
        !isSameNumber(a->getOperand(0), b->getOperand(0)))
      return refuse("another number is yielded in float32");
  } else {
    if (a->getNumOperands() != b->getNumOperands())
      return refuse("another number of operands");
    for (auto [p, q] : llvm::zip(a->getOperands(), b->getOperands()))
      if (!scalars.contains(p) || scalars.lookup(p) != q)
        return refuse("another operand");
  }
  if (auto toIndex = dyn_cast<ToIndexOp>(a)) {
    ArrayRef<AffineExpr> size = toIndex.getSize().getDims();
    if (size.size() != 1)
      return refuse("a coordinate from data without one size");
    coordinates[a->getResult(0)] = coordinates[b->getResult(0)] =
        index.data(numData++, indexOf(size[0], {}));
  }
  for (auto [p, q] : llvm::zip(a->getResults(), b->getResults())) {
    (isWide ? wides : scalars)[p] = q;
    olds[q] = p;
  }
  return true;
}

//===----------------------------------------------------------------------===//
// The whole
//===----------------------------------------------------------------------===//

bool RelayoutCheck::checkKernel() {
  std::optional<Claim> found = readClaim(after);
  if (!found)
    return refuse("no claim, or none that can be read");
  claim = std::move(*found);
  if (claim.of != before.getSymName())
    return refuse("the claim is about kernel '" + claim.of + "'");
  if (before.getOpaque() || after.getOpaque())
    return refuse("an operator without expression");
  if (before.getSymbolsAttr() != after.getSymbolsAttr() ||
      before.getScheduleAttr() != after.getScheduleAttr())
    return refuse("other symbols or another schedule");
  for (unsigned i = 0; i < before.getNumSymbols(); ++i)
    symbols.push_back(index.symbol(i));
  if (!checkSignature() || !checkStages())
    return false;
  // Fewer row axes are always rows; they must be the same ones.
  int64_t rows = after.getRows().value_or(0);
  if (rows < 0 || rows > int64_t(before.getRows().value_or(0)))
    return refuse("more row axes than before");
  for (const Permutation &domain : claim.domains)
    for (int64_t i = 0; i < std::min<int64_t>(rows, domain.size()); ++i)
      if (domain[i] != i)
        return refuse("a row axis is permuted");
  return !index.overflowed() || refuse("sizes too large to be compared");
}

Admission RelayoutCheck::run() {
  if (checkKernel())
    return {};
  return {false, reason};
}

Admission check::checkRelayout(KernelOp before, KernelOp after,
                               NumericsMode mode) {
  return RelayoutCheck(before, after, mode).run();
}
