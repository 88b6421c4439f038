// Relaid programs: the functions are walked together, and each value's layout
// is what the kernel that computes it says.
#include "dlc/Check/Layout.h"

#include "Index.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "mlir/IR/OperationSupport.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/SmallBitVector.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

namespace {
class LayoutWalk {
public:
  LayoutWalk(ModuleOp original, ModuleOp relaid, NumericsMode mode,
             LayoutVerdict &verdict)
      : original(original), relaid(relaid), mode(mode), verdict(verdict) {}

  bool walk(Region &a, Region &b);
  bool refuse(const Twine &why) {
    if (verdict.graph.empty())
      verdict.graph = why.str();
    return false;
  }

private:
  bool checkOp(Operation *a, Operation *b);
  bool checkCall(CallOp a, CallOp b);
  bool isAddedCopy(CallOp call);
  bool checkCopy(CallOp call);
  Value copied(Value value) const {
    auto it = copies.find(value);
    return it == copies.end() ? value : it->second;
  }
  bool checkConstant(ConstantOp a, ConstantOp b);
  bool checkCallee(KernelOp a, KernelOp b);
  bool isType(Type a, Type b, ArrayRef<int64_t> permutation, bool isWide);

  SymbolTable original, relaid;
  NumericsMode mode;
  LayoutVerdict &verdict;
  IndexArena index;
  llvm::DenseMap<Value, Value> values; // old -> new
  llvm::DenseMap<Value, Value> copies; // new -> the new value it holds
  // Of new values; none: as it was.
  llvm::DenseMap<Value, SmallVector<int64_t>> layouts;
  // The type of 16 bits of new values whose numbers are stored as float32.
  llvm::DenseMap<Value, Type> wides;
  llvm::DenseMap<std::pair<Operation *, Operation *>, bool> known;
};
} // namespace

// A list of the claim; it was read by checkRelayout before.
static SmallVector<int64_t> permutationOf(KernelOp kernel, StringRef key,
                                          unsigned i) {
  auto claim = kernel->getAttrOfType<DictionaryAttr>("graph.relayout");
  if (!claim)
    return {};
  auto entry = cast<DenseI64ArrayAttr>(cast<ArrayAttr>(claim.get(key))[i]);
  if (llvm::is_sorted(entry.asArrayRef()))
    return {};
  return SmallVector<int64_t>(entry.asArrayRef());
}

static bool isWide(KernelOp kernel, StringRef key, unsigned i) {
  auto claim = kernel->getAttrOfType<DictionaryAttr>("graph.relayout");
  auto numbers = claim ? claim.getAs<DenseI64ArrayAttr>(key) : nullptr;
  return numbers && llvm::is_contained(numbers.asArrayRef(), i);
}

static Type elementOf(Type tensor) {
  return cast<RankedTensorType>(tensor).getElementType();
}

bool LayoutWalk::isType(Type a, Type b, ArrayRef<int64_t> permutation,
                        bool isWide) {
  auto x = dyn_cast<RankedTensorType>(a), y = dyn_cast<RankedTensorType>(b);
  if (permutation.empty() && !isWide)
    return a == b;
  if (!x || !y ||
      !(isWide ? y.getElementType().isF32()
               : x.getElementType() == y.getElementType()) ||
      x.getRank() != y.getRank() ||
      (!permutation.empty() && x.getRank() != int64_t(permutation.size())))
    return false;
  SmallVector<AffineExpr> old = getDims(x), now = getDims(y);
  for (size_t i = 0; i < now.size(); ++i)
    if (simplify(old[permutation.empty() ? i : permutation[i]] - now[i]) != 0)
      return false;
  return true;
}

// The same kernel, or one that renames it.
bool LayoutWalk::checkCallee(KernelOp a, KernelOp b) {
  auto [it, isNew] = known.try_emplace({a, b}, true);
  if (!isNew)
    return it->second;
  if (!b->hasAttr("graph.relayout"))
    return it->second = OperationEquivalence::isEquivalentTo(
                            a, b, OperationEquivalence::IgnoreLocations) ||
                        refuse("kernel '" + b.getSymName() +
                               "' changed without a claim");
  Admission admission = checkRelayout(a, b, mode);
  if (admission)
    ++verdict.shown;
  else
    verdict.kernels.push_back({a.getSymName().str(), admission.reason});
  return it->second = admission.admitted;
}

bool LayoutWalk::checkCall(CallOp a, CallOp b) {
  auto old = original.lookup<KernelOp>(a.getCallee()),
       now = relaid.lookup<KernelOp>(b.getCallee());
  if (!old || !now)
    return refuse("a call of no kernel");
  if (a.getSymbolsAttr() != b.getSymbolsAttr())
    return refuse("a call of '" + b.getCallee() + "' with other symbols");
  if (!checkCallee(old, now))
    return false;
  if (b.getNumOperands() != now.getBody().getNumArguments() ||
      b.getNumResults() != now.getResultTypes().size())
    return refuse("a call of '" + b.getCallee() +
                  "' with another number of operands or results");
  for (auto [i, value] : llvm::enumerate(b.getArgs()))
    if (layouts.lookup(value) != permutationOf(now, "operands", i) ||
        wides.contains(value) != isWide(now, "wideOperands", i))
      return refuse("operand " + Twine(i) + " of a call of '" + b.getCallee() +
                    "' has another layout than the kernel reads");
  for (auto [i, value] : llvm::enumerate(b.getResults())) {
    layouts[value] = permutationOf(now, "results", i);
    if (isWide(now, "wideResults", i))
      wides[value] = elementOf(a.getResult(i).getType());
  }
  return true;
}

// Whether the program before knew no such kernel.
bool LayoutWalk::isAddedCopy(CallOp call) {
  auto kernel = relaid.lookup<KernelOp>(call.getCallee());
  if (!kernel || original.lookup(call.getCallee()))
    return false;
  auto claim = kernel->getAttrOfType<DictionaryAttr>("graph.relayout");
  auto of = claim ? claim.getAs<StringAttr>("of") : StringAttr();
  return !of || !original.lookup(of);
}

// A kernel that was added may only copy: its result holds the operand's
// elements, its axes in the order in which the body reads them.
bool LayoutWalk::checkCopy(CallOp call) {
  auto kernel = relaid.lookup<KernelOp>(call.getCallee());
  auto fail = [&] {
    return refuse("kernel '" + call.getCallee() + "' was added and is no copy");
  };
  if (kernel.getOpaque() || kernel.getBody().getNumArguments() != 1 ||
      kernel.getStages().size() != 1 || kernel.getResultValues().size() != 1)
    return fail();
  StageOp stage = kernel.getStages()[0];
  auto convert = stage.getYielded().getDefiningOp<CastOp>();
  auto load = (convert ? convert.getValue() : stage.getYielded())
                  .getDefiningOp<LoadOp>();
  if (stage.getFoldKind() != FoldKind::none || stage.getReduceRank() != 0 ||
      kernel.getResultValues()[0] != stage.getResult() || !load ||
      load.getGuard() || load.getTensor() != kernel.getBody().getArgument(0))
    return fail();
  auto from = cast<RankedTensorType>(call.getArgs()[0].getType()),
       to = cast<RankedTensorType>(call.getResult(0).getType());
  size_t rank = from.getRank();
  // Numbers of 16 bits may be stored as float32 from here on, or up to here.
  Type held = wides.lookup(call.getArgs()[0]), element = from.getElementType(),
       stored = to.getElementType();
  bool widens =
      !held && (element.isF16() || element.isBF16()) && stored.isF32();
  if (!(convert ? !convert.getSaturate() && (widens || held == stored)
                : element == stored) ||
      size_t(to.getRank()) != rank || stage.getDomainRank() != rank ||
      load.getMap().getNumResults() != rank)
    return fail();
  if (widens || (held && !convert))
    wides[call.getResult(0)] = widens ? element : held;
  SmallVector<AffineExpr> old = getDims(from), now = getDims(to);
  SmallVector<int64_t> before = layouts.lookup(call.getArgs()[0]), layout(rank);
  llvm::SmallBitVector seen(rank);
  for (size_t i = 0; i < rank; ++i) {
    auto dim = dyn_cast<AffineDimExpr>(load.getMap().getResult(i));
    auto arg =
        dim ? dyn_cast<BlockArgument>(load.getCoords()[dim.getPosition()])
            : BlockArgument();
    if (!arg || arg.getOwner() != stage.getBlock() ||
        arg.getArgNumber() >= rank || seen.test(arg.getArgNumber()) ||
        simplify(old[i] - now[arg.getArgNumber()]) != 0)
      return fail();
    seen.set(arg.getArgNumber());
    layout[arg.getArgNumber()] = before.empty() ? int64_t(i) : before[i];
  }
  if (llvm::is_sorted(layout))
    layout.clear();
  layouts[call.getResult(0)] = layout;
  copies[call.getResult(0)] = copied(call.getArgs()[0]);
  return true;
}

static ArrayRef<char> bytesOf(ElementsAttr value) {
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(value)) {
    AsmResourceBlob *blob = resource.getRawHandle().getBlob();
    return blob ? blob->getData() : ArrayRef<char>();
  }
  auto dense = dyn_cast<DenseElementsAttr>(value);
  return dense && !dense.isSplat() ? dense.getRawData() : ArrayRef<char>();
}

// Every element of the old one is where the permutation says.
static bool isPermuted(ElementsAttr a, ElementsAttr b,
                       ArrayRef<int64_t> permutation) {
  auto type = cast<RankedTensorType>(a.getType()),
       now = cast<RankedTensorType>(b.getType());
  Type element = type.getElementType();
  ArrayRef<char> x = bytesOf(a), y = bytesOf(b);
  size_t rank = type.getRank();
  if (element != now.getElementType() || !element.isIntOrFloat() ||
      element.getIntOrFloatBitWidth() % 8 != 0 || permutation.size() != rank ||
      size_t(now.getRank()) != rank)
    return false;
  size_t size = element.getIntOrFloatBitWidth() / 8,
         count = type.getNumElements();
  if (x.size() != size * count || y.size() != size * count)
    return false;
  SmallVector<size_t> newStride(rank), place(rank);
  llvm::SmallBitVector seen(rank);
  size_t stride = size;
  for (size_t i = rank; i-- > 0;) {
    int64_t axis = permutation[i];
    if (axis < 0 || axis >= int64_t(rank) || seen.test(axis) ||
        now.getDimSize(i) != type.getDimSize(axis))
      return false;
    seen.set(axis);
    newStride[axis] = stride;
    stride *= now.getDimSize(i);
  }
  for (size_t n = 0; n < count; ++n) { // in the old order
    size_t rest = n, at = 0;
    for (size_t axis = rank; axis-- > 0; rest /= type.getDimSize(axis))
      at += rest % type.getDimSize(axis) * newStride[axis];
    if (x.slice(n * size, size) != y.slice(at, size))
      return false;
  }
  return true;
}

bool LayoutWalk::checkConstant(ConstantOp a, ConstantOp b) {
  auto permutation = b->getAttrOfType<DenseI64ArrayAttr>("graph.relayout");
  if (!permutation)
    return a->getAttrDictionary() == b->getAttrDictionary() ||
           refuse("another constant");
  if (!isPermuted(a.getValue(), b.getValue(), permutation.asArrayRef()))
    return refuse("a constant does not hold the elements of the old one");
  if (!llvm::is_sorted(permutation.asArrayRef()))
    layouts[b.getResult()].assign(permutation.asArrayRef().begin(),
                                  permutation.asArrayRef().end());
  return true;
}

bool LayoutWalk::checkOp(Operation *a, Operation *b) {
  if (a->getName() != b->getName() ||
      a->getNumOperands() != b->getNumOperands() ||
      a->getNumResults() != b->getNumResults() ||
      a->getNumRegions() != b->getNumRegions())
    return refuse("another operation: " + b->getName().getStringRef());
  for (auto [p, q] : llvm::zip(a->getOperands(), b->getOperands()))
    if (!values.contains(p) || values.lookup(p) != copied(q))
      return refuse("another operand of " + b->getName().getStringRef());
  if (auto call = dyn_cast<CallOp>(b)) {
    if (!checkCall(cast<CallOp>(a), call))
      return false;
  } else if (auto constant = dyn_cast<ConstantOp>(b)) {
    if (!checkConstant(cast<ConstantOp>(a), constant))
      return false;
  } else {
    if (a->getAttrDictionary() != b->getAttrDictionary())
      return refuse("another attribute of " + b->getName().getStringRef());
    for (Value operand : b->getOperands())
      if (!layouts.lookup(operand).empty() || wides.contains(operand))
        return refuse(b->getName().getStringRef() +
                      " reads a tensor that was relaid");
  }
  for (auto [p, q] : llvm::zip(a->getResults(), b->getResults())) {
    if (!isType(p.getType(), q.getType(), layouts.lookup(q), wides.contains(q)))
      return refuse("another type of a result of " +
                    b->getName().getStringRef());
    values[p] = q;
  }
  for (auto [p, q] : llvm::zip(a->getRegions(), b->getRegions()))
    if (!walk(p, q))
      return false;
  return true;
}

bool LayoutWalk::walk(Region &a, Region &b) {
  if (a.getBlocks().size() != b.getBlocks().size())
    return refuse("another number of blocks");
  for (auto [x, y] : llvm::zip(a, b)) {
    if (x.getArgumentTypes() != y.getArgumentTypes())
      return refuse("other arguments");
    for (auto [p, q] : llvm::zip(x.getArguments(), y.getArguments()))
      values[p] = q;
    auto p = x.begin();
    for (Operation &q : y) {
      // What follows may only follow from it.
      if (auto call = dyn_cast<CallOp>(q); call && isAddedCopy(call)) {
        if (!checkCopy(call))
          return false;
      } else if (p == x.end()) {
        return refuse("more operations");
      } else if (!checkOp(&*p++, &q)) {
        return false;
      }
    }
    if (p != x.end())
      return refuse("fewer operations");
  }
  return true;
}

LayoutVerdict check::checkLayouts(ModuleOp original, ModuleOp relaid,
                                  NumericsMode mode) {
  LayoutVerdict verdict;
  LayoutWalk walk(original, relaid, mode, verdict);
  auto olds = llvm::to_vector(original.getOps<func::FuncOp>()),
       news = llvm::to_vector(relaid.getOps<func::FuncOp>());
  if (olds.size() != news.size())
    verdict.graph = "another number of functions";
  for (auto [a, b] : llvm::zip(olds, news)) {
    if (!verdict.graph.empty())
      break;
    if (a->getAttrDictionary() != b->getAttrDictionary())
      walk.refuse("another function");
    else
      walk.walk(a.getBody(), b.getBody());
  }
  return verdict;
}

void LayoutVerdict::print(llvm::raw_ostream &os) const {
  for (const Refusal &refusal : kernels)
    os << "REFUSE layout of " << refusal.kernel << ": " << refusal.reason
       << "\n";
  if (!graph.empty())
    os << "REFUSE layouts: " << graph << "\n";
}
