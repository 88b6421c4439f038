// The walk over both functions. It knows nothing of the pass: what a state
// stands for is read from the original.
#include "dlc/Check/State.h"

#include "dlc/Dialect/Graph/IR/Requirements.h"
#include "dlc/Dialect/Graph/IR/State.h"
#include "mlir/IR/AttrTypeSubElements.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::graph;

namespace {
class StateCheck {
public:
  StateCheck(func::FuncOp original, func::FuncOp kept, unsigned bits)
      : original(original), kept(kept), bits(bits) {
    replacer.addReplacement([this](DimsAttr dims) -> Attribute {
      return DimsAttr::get(
          dims.getContext(),
          llvm::map_to_vector(dims.getDims(), [&](AffineExpr e) {
            return lengths.empty() ? e : simplify(e.replace(lengths));
          }));
    });
  }

  Admission run() {
    if (readStates() && matchSignature() &&
        walk(original.getBody().front(), kept.getBody().front()))
      matchOutputs();
    return {reason.empty(), reason};
  }

private:
  /// The part of a state's memory: rows in one argument of `kept`.
  struct Part {
    BlockArgument argument;
    StateInfo info;
  };
  /// A Concat of the original, and what took its place.
  struct Cache {
    ConcatOp concat;
    unsigned result;
    SmallVector<Part, 2> parts;
  };

  bool refuse(const Twine &text) {
    if (reason.empty())
      reason = text.str();
    return false;
  }
  static std::string name(Operation *op) {
    std::string text = "'" + op->getName().getStringRef().str() + "'";
    if (auto loc = dyn_cast<NameLoc>(op->getLoc()))
      text += " of '" + loc.getName().str() + "'";
    return text;
  }
  bool readStates();
  bool matchSignature();
  bool walk(Block &a, Block &b);
  bool matchOperation(Operation &a, Operation &b);
  bool matchCache(const Cache &cache, Block::iterator &next,
                  Block::iterator end);
  bool matchOutputs();
  bool dependsOn(Value value, ArrayRef<Value> sources);
  bool isDropped(Operation &op);
  bool same(Value a, Value b) {
    auto it = values.find(a);
    return it != values.end() && it->second == b;
  }

  func::FuncOp original, kept;
  unsigned bits;
  AttrTypeReplacer replacer;
  std::string reason;
  llvm::DenseMap<AffineExpr, AffineExpr> lengths; // to the one that is left
  SmallVector<Cache> caches;
  llvm::DenseMap<Value, Value> values;
};
} // namespace

static StringAttr nameOf(ArrayAttr attrs, unsigned i) {
  return attrs ? cast<DictionaryAttr>(attrs[i]).getAs<StringAttr>("graph.name")
               : StringAttr();
}

// What each state of `kept` stands for, in the original.
bool StateCheck::readStates() {
  Operation *end = original.getBody().front().getTerminator();
  std::optional<StateInfo> first;
  for (BlockArgument argument : kept.getArguments()) {
    auto info = readStateAttr(
        kept.getArgAttr(argument.getArgNumber(), graph::kStateAttr));
    if (!info)
      continue;
    if (!first)
      first = info;
    if (info->length != first->length || info->capacity != first->capacity ||
        info->rows != first->rows)
      return refuse("states have other lengths or get other rows");
    unsigned result = 0;
    while (result < original.getNumResults() &&
           (!nameOf(original.getResAttrsAttr(), result) ||
            nameOf(original.getResAttrsAttr(), result) != info->output))
      ++result;
    if (result == original.getNumResults())
      return refuse("a state stands for an output '" + info->output +
                    "' that there is not");
    auto *cache = llvm::find_if(
        caches, [&](const Cache &c) { return c.result == result; });
    if (cache == caches.end()) {
      Value value = end->getOperand(result);
      while (auto reshape = value.getDefiningOp<ReshapeOp>()) {
        if (!reshape->hasAttr(kSameSizesAttr))
          break;
        value = reshape.getX();
      }
      auto concat = value.getDefiningOp<ConcatOp>();
      if (!concat || concat.getInputs().size() != 2 ||
          !isa<BlockArgument>(concat.getInputs()[0]) ||
          !concat.getInputs()[0].hasOneUse())
        return refuse("output '" + info->output +
                      "' does not append to an input that nothing else reads");
      caches.push_back({concat, result, {}});
      cache = &caches.back();
      AffineExpr length =
          getDims(concat.getInputs()[0].getType())[concat.getAxis()];
      if (!isa<AffineSymbolExpr>(length))
        return refuse("the length of a state is no symbol");
      AffineExpr left =
          getAffineSymbolExpr(info->length, original.getContext());
      if (length != left)
        lengths[length] = left;
    }
    cache->parts.push_back({argument, *info});
  }
  for (Cache &cache : caches)
    if (cache.parts.size() > (bits ? 2 : 1))
      return refuse("a cache has more parts than its form");
  return !caches.empty() || refuse("there is no state");
}

bool StateCheck::matchSignature() {
  SmallVector<BlockArgument> rest;
  for (BlockArgument argument : kept.getArguments())
    if (!kept.getArgAttr(argument.getArgNumber(), graph::kStateAttr))
      rest.push_back(argument);
  auto *next = rest.begin();
  for (BlockArgument argument : original.getArguments()) {
    if (llvm::any_of(caches, [&](Cache &cache) {
          return cache.concat.getInputs()[0] == argument;
        }))
      continue;
    if (next == rest.end() ||
        replacer.replace(argument.getType()) != next->getType() ||
        nameOf(original.getArgAttrsAttr(), argument.getArgNumber()) !=
            nameOf(kept.getArgAttrsAttr(), next->getArgNumber()))
      return refuse("input " + Twine(argument.getArgNumber()) +
                    " is not the one it was");
    values[argument] = *next++;
  }
  return next == rest.end() || refuse("there are new inputs");
}

// What only gave an output that is gone its declared sizes.
bool StateCheck::isDropped(Operation &op) {
  auto reshape = dyn_cast<ReshapeOp>(op);
  return reshape && llvm::all_of(reshape->getUses(), [&](OpOperand &use) {
           if (use.getOwner() == original.getBody().front().getTerminator())
             return llvm::any_of(caches, [&](const Cache &cache) {
               return cache.result == use.getOperandNumber();
             });
           return isDropped(*use.getOwner());
         });
}

bool StateCheck::walk(Block &a, Block &b) {
  auto next = b.begin();
  for (Operation &op : a.without_terminator()) {
    auto *cache = llvm::find_if(
        caches, [&](Cache &c) { return c.concat.getOperation() == &op; });
    if (cache != caches.end()) {
      if (!matchCache(*cache, next, b.end()))
        return false;
      continue;
    }
    if (isDropped(op))
      continue;
    if (next == b.end() || !matchOperation(op, *next))
      return refuse(name(&op) + " is not the operation it was");
    ++next;
  }
  return std::next(next) == b.end() ||
         refuse(name(&*next) + " is no operation of the original");
}

bool StateCheck::matchOperation(Operation &a, Operation &b) {
  if (a.getName() != b.getName() || a.getNumOperands() != b.getNumOperands() ||
      a.getNumResults() != b.getNumResults() ||
      a.getNumRegions() != b.getNumRegions() ||
      replacer.replace(a.getAttrDictionary()) != b.getAttrDictionary())
    return false;
  for (auto [x, y] : llvm::zip_equal(a.getOperands(), b.getOperands()))
    if (!same(x, y))
      return false;
  for (auto [x, y] : llvm::zip_equal(a.getResults(), b.getResults())) {
    if (replacer.replace(x.getType()) != y.getType())
      return false;
    values[x] = y;
  }
  for (auto [x, y] : llvm::zip_equal(a.getRegions(), b.getRegions())) {
    if (!x.hasOneBlock() || !y.hasOneBlock() ||
        x.getNumArguments() != y.getNumArguments())
      return false;
    for (auto [p, q] : llvm::zip_equal(x.getArguments(), y.getArguments())) {
      if (replacer.replace(p.getType()) != q.getType())
        return false;
      values[p] = q;
    }
    if (!walk(x.front(), y.front()) ||
        !matchOperation(x.front().back(), y.front().back()))
      return false;
  }
  return true;
}

// Whether `value` is computed from `sources` and constants, without effect.
bool StateCheck::dependsOn(Value value, ArrayRef<Value> sources) {
  llvm::SetVector<Value> open;
  open.insert(value);
  for (size_t i = 0; i < open.size(); ++i) {
    Value one = open[i];
    if (llvm::is_contained(sources, one))
      continue;
    Operation *op = one.getDefiningOp();
    if (!op || op->getNumRegions() != 0 || !isMemoryEffectFree(op))
      return false;
    open.insert(op->operand_begin(), op->operand_end());
  }
  return true;
}

bool StateCheck::matchCache(const Cache &cache, Block::iterator &next,
                            Block::iterator end) {
  ConcatOp concat = cache.concat;
  auto axis = static_cast<int64_t>(concat.getAxis());
  auto type =
      cast<RankedTensorType>(replacer.replace(concat.getResult().getType()));
  Value x = values.lookup(concat.getInputs()[1]);
  if (!x)
    return refuse("what is appended is not defined before");
  SmallVector<Value> used;
  for (const Part &part : cache.parts) {
    BlockArgument state = part.argument;
    auto append = state.hasOneUse() ? dyn_cast<AppendOp>(*state.user_begin())
                                    : AppendOp();
    if (!append || append.getState() != state)
      return refuse("a state is read by other than one append");
    AffineExpr length =
        getAffineSymbolExpr(part.info.length, concat.getContext());
    SmallVector<AffineExpr> room = getDims(state.getType()),
                            rows = getDims(append.getX().getType()),
                            whole = getDims(type);
    if (part.info.axis != axis ||
        static_cast<int64_t>(append.getAxis()) != axis ||
        append.getAt().getDims()[0] != length || rows[axis] != part.info.rows ||
        simplify(whole[axis] - (length + rows[axis])) != 0 ||
        room[axis] !=
            getAffineSymbolExpr(part.info.capacity, concat.getContext()))
      return refuse("rows are not appended at the length, along the axis");
    if (cache.parts.size() > 1 ? !dependsOn(append.getX(), {x})
                               : append.getX() != x)
      return refuse("what is appended is not computed from the new rows");
    for (Operation *user : append.getResult().getUsers()) {
      auto slice = dyn_cast<SliceOp>(user);
      SmallVector<AffineExpr> dims = rows;
      dims[axis] = whole[axis];
      if (!slice || getDims(slice.getType()) != dims ||
          llvm::any_of(slice.getStarts().getDims(),
                       [](AffineExpr e) { return e != 0; }) ||
          llvm::any_of(slice.getSteps(), [](int64_t s) { return s != 1; }))
        return refuse("something reads other than the rows in use");
      used.push_back(slice.getResult());
    }
  }
  // Everything up to the first value of the Concat's type that is computed from
  // the rows in use is for it.
  bool isRounded = cache.parts.size() > 1;
  SmallVector<Value> sources(used);
  sources.push_back(x);
  for (; next != end && !next->hasTrait<OpTrait::IsTerminator>(); ++next) {
    Operation &op = *next;
    bool isConstant = isa<graph::ConstantOp>(op);
    if (!isa<AppendOp>(op) && !llvm::all_of(op.getResults(), [&](Value v) {
          return dependsOn(v, sources);
        }))
      break;
    if (isConstant || isa<AppendOp>(op) || op.getNumResults() != 1 ||
        op.getResult(0).getType() != type || (isRounded && isa<SliceOp>(op)) ||
        !dependsOn(op.getResult(0), used))
      continue;
    values[concat.getResult()] = op.getResult(0);
    ++next;
    return true;
  }
  return refuse("nothing has taken the place of " + name(concat));
}

bool StateCheck::matchOutputs() {
  Operation *a = original.getBody().front().getTerminator(),
            *b = kept.getBody().front().getTerminator();
  unsigned next = 0;
  for (unsigned i = 0; i < a->getNumOperands(); ++i) {
    if (llvm::any_of(caches,
                     [&](const Cache &cache) { return cache.result == i; }))
      continue;
    if (next == b->getNumOperands() ||
        !same(a->getOperand(i), b->getOperand(next)) ||
        nameOf(original.getResAttrsAttr(), i) !=
            nameOf(kept.getResAttrsAttr(), next))
      return refuse("output " + Twine(i) + " is not the value it was");
    ++next;
  }
  return next == b->getNumOperands() || refuse("there are new outputs");
}

std::string check::getRoundingLaw(unsigned bits) {
  return bits ? "round(int" + std::to_string(bits) + ")" : "";
}

Admission check::checkState(func::FuncOp original, func::FuncOp kept,
                            unsigned bits, NumericsMode mode) {
  if (bits && mode == NumericsMode::strict)
    return {false, getRoundingLaw(bits) +
                       ": -fp=strict rounds nothing that the model does not"};
  return StateCheck(original, kept, bits).run();
}
