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
  /// A Concat of the original, or scatters one after the other, and what took
  /// their place.
  struct Cache {
    unsigned result;
    BlockArgument past;
    ConcatOp concat;
    SmallVector<ScatterOp, 1> scatters;
    SmallVector<Part, 2> parts;

    /// Whose result is the output, between views.
    Operation *last() {
      return concat ? concat.getOperation() : scatters.back().getOperation();
    }
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
  bool readCache(Cache &cache, const StateInfo &info);
  bool readScatters(Cache &cache, Value value);
  bool matchAppends(Cache &cache, SmallVectorImpl<Value> &used,
                    SmallVectorImpl<Value> &sources);
  bool matchUpdates(Cache &cache, SmallVectorImpl<Value> &used,
                    SmallVectorImpl<Value> &sources);
  bool matchCache(Cache &cache, Block::iterator &next, Block::iterator end);
  static bool isViewOfState(Operation &op, const Cache &cache);
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
  llvm::SmallDenseSet<Operation *> gone; // what led to a last scatter
  llvm::DenseMap<Value, Value> values;
};
} // namespace

static StringAttr nameOf(ArrayAttr attrs, unsigned i) {
  return attrs ? cast<DictionaryAttr>(attrs[i]).getAs<StringAttr>("graph.name")
               : StringAttr();
}

// What each state of `kept` stands for, in the original.
bool StateCheck::readStates() {
  std::optional<StateInfo> appended, placed;
  for (BlockArgument argument : kept.getArguments()) {
    auto info = readStateAttr(
        kept.getArgAttr(argument.getArgNumber(), graph::kStateAttr));
    if (!info)
      continue;
    std::optional<StateInfo> &first = info->isPlaced() ? placed : appended;
    if (!first || (info->isPlaced() && first->capacity < 0))
      first = info;
    if (info->isPlaced()
            ? info->capacity >= 0 && info->capacity != first->capacity
            : info->length != first->length ||
                  info->capacity != first->capacity ||
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
      caches.push_back({result, {}, {}, {}, {}});
      cache = &caches.back();
      if (!readCache(*cache, *info))
        return false;
    }
    if (info->isPlaced() == !!cache->concat)
      return refuse("a state is replaced where it was appended to");
    cache->parts.push_back({argument, *info});
  }
  for (Cache &cache : caches)
    if (cache.parts.size() > (bits ? 2 : 1))
      return refuse("a cache has more parts than its form");
  return !caches.empty() || refuse("there is no state");
}

// What the original does to the state that is the output.
bool StateCheck::readCache(Cache &cache, const StateInfo &info) {
  Value value =
      original.getBody().front().getTerminator()->getOperand(cache.result);
  auto skipViews = [&](bool all) {
    while (auto reshape = value.getDefiningOp<ReshapeOp>()) {
      if (!all && !reshape->hasAttr(kSameSizesAttr))
        break;
      value = reshape.getX();
    }
  };
  skipViews(/*all=*/false);
  if (info.isPlaced()) {
    Type type = value.getType();
    skipViews(/*all=*/true);
    if (!readScatters(cache, value) || cache.past.getType() != type)
      return refuse("output '" + info.output +
                    "' is not an input with rows replaced, which nothing else "
                    "reads");
    if (info.capacity < 0)
      return true;
  } else {
    auto concat = value.getDefiningOp<ConcatOp>();
    if (!concat || concat.getInputs().size() != 2 ||
        !isa<BlockArgument>(concat.getInputs()[0]) ||
        !concat.getInputs()[0].hasOneUse())
      return refuse("output '" + info.output +
                    "' does not append to an input that nothing else reads");
    cache.concat = concat;
    cache.past = cast<BlockArgument>(concat.getInputs()[0]);
    if (static_cast<int64_t>(concat.getAxis()) != info.axis)
      return refuse("rows are not appended at the length, along the axis");
  }
  // The symbol that is left: the length's, or the room's.
  SmallVector<AffineExpr> dims = getDims(cache.past.getType());
  if (info.axis < 0 || info.axis >= static_cast<int64_t>(dims.size()) ||
      !isa<AffineSymbolExpr>(dims[info.axis]))
    return refuse("the length of a state is no symbol");
  AffineExpr left = getAffineSymbolExpr(
      info.isPlaced() ? info.capacity : info.length, original.getContext());
  if (dims[info.axis] != left)
    lengths[dims[info.axis]] = left;
  return true;
}

// Scatters that replace rows, each of what only the next one reads.
bool StateCheck::readScatters(Cache &cache, Value value) {
  while (auto scatter = value.getDefiningOp<ScatterOp>()) {
    if (scatter.getKind() != FoldKind::none ||
        scatter->getBlock() != &original.getBody().front())
      return false;
    if (!cache.scatters.empty())
      gone.insert(scatter);
    cache.scatters.insert(cache.scatters.begin(), scatter);
    for (value = scatter.getX();;) {
      if (!value.hasOneUse())
        return false;
      auto reshape = value.getDefiningOp<ReshapeOp>();
      if (!reshape)
        break;
      gone.insert(reshape);
      value = reshape.getX();
    }
  }
  cache.past = dyn_cast<BlockArgument>(value);
  return cache.past && !cache.scatters.empty() &&
         cache.past.getOwner() == &original.getBody().front();
}

bool StateCheck::matchSignature() {
  SmallVector<BlockArgument> rest;
  for (BlockArgument argument : kept.getArguments())
    if (!kept.getArgAttr(argument.getArgNumber(), graph::kStateAttr))
      rest.push_back(argument);
  auto *next = rest.begin();
  for (BlockArgument argument : original.getArguments()) {
    if (llvm::any_of(caches,
                     [&](Cache &cache) { return cache.past == argument; }))
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
    auto *cache =
        llvm::find_if(caches, [&](Cache &c) { return c.last() == &op; });
    if (cache != caches.end()) {
      if (!matchCache(*cache, next, b.end()))
        return false;
      continue;
    }
    if (isDropped(op) || gone.contains(&op))
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

// Rows that the Concat put behind the past are appended at the length, and the
// rows in use are read.
bool StateCheck::matchAppends(Cache &cache, SmallVectorImpl<Value> &used,
                              SmallVectorImpl<Value> &sources) {
  ConcatOp concat = cache.concat;
  auto axis = static_cast<int64_t>(concat.getAxis());
  auto type =
      cast<RankedTensorType>(replacer.replace(concat.getResult().getType()));
  Value x = values.lookup(concat.getInputs()[1]);
  if (!x)
    return refuse("what is appended is not defined before");
  sources.push_back(x);
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
  return true;
}

// The scatters, in place: each at the same positions, of the same rows.
bool StateCheck::matchUpdates(Cache &cache, SmallVectorImpl<Value> &used,
                              SmallVectorImpl<Value> &sources) {
  bool isRounded = cache.parts.size() > 1;
  auto past = cast<RankedTensorType>(replacer.replace(cache.past.getType()));
  for (const Part &part : cache.parts) {
    SmallVector<AffineExpr> whole = getDims(past),
                            room = getDims(part.argument.getType());
    if (isRounded && !room.empty() && room.size() == whole.size())
      room.back() = whole.back();
    if (isRounded ? room != whole : part.argument.getType() != past)
      return refuse("a state has other sizes than the input");
    if (part.info.capacity >= 0 &&
        whole[part.info.axis] !=
            getAffineSymbolExpr(part.info.capacity, original.getContext()))
      return refuse("the room of a state is another size");
    Value state = part.argument;
    for (ScatterOp scatter : cache.scatters) {
      Value positions = values.lookup(scatter.getPositions()),
            x = values.lookup(scatter.getUpdates());
      if (!positions || !x)
        return refuse("what is replaced is not defined before");
      UpdateOp update;
      while (!update) {
        if (!state.hasOneUse())
          return refuse("a state is read by other than one update");
        Operation *user = *state.user_begin();
        if (auto reshape = dyn_cast<ReshapeOp>(user)) {
          state = reshape.getResult();
          continue;
        }
        update = dyn_cast<UpdateOp>(user);
        if (!update || update.getState() != state)
          return refuse("a state is read by other than one update");
      }
      if (update.getPositions() != positions)
        return refuse("rows are replaced at other positions");
      SmallVector<AffineExpr> table = getDims(update.getState().getType());
      if (table[0] !=
              getDims(replacer.replace(scatter.getResult().getType()))[0] ||
          (!isRounded && update.getState().getType() !=
                             replacer.replace(scatter.getResult().getType())))
        return refuse("rows are replaced of another view");
      if (isRounded ? !dependsOn(update.getUpdates(), {x})
                    : update.getUpdates() != x)
        return refuse("what is replaced is not computed from the new rows");
      sources.push_back(x);
      state = update.getResult();
    }
    used.push_back(state);
  }
  return true;
}

bool StateCheck::matchCache(Cache &cache, Block::iterator &next,
                            Block::iterator end) {
  Value result = cache.last()->getResult(0);
  auto type = cast<RankedTensorType>(replacer.replace(result.getType()));
  SmallVector<Value> used, sources;
  if (!(cache.concat ? matchAppends(cache, used, sources)
                     : matchUpdates(cache, used, sources)))
    return false;
  // Everything up to the first value of its type that is computed from the rows
  // in use is for it.
  bool isRounded = cache.parts.size() > 1, isPlaced = !cache.concat;
  llvm::append_range(sources, used);
  for (; next != end && !next->hasTrait<OpTrait::IsTerminator>(); ++next) {
    Operation &op = *next;
    bool isConstant = isa<graph::ConstantOp>(op),
         isWrite = isa<AppendOp, UpdateOp>(op);
    bool isOwn = isWrite || isViewOfState(op, cache) ||
                 llvm::all_of(op.getResults(),
                              [&](Value v) { return dependsOn(v, sources); });
    if (!isOwn)
      break;
    bool isWhole = isPlaced && !isRounded
                       ? op.getNumResults() == 1 && op.getResult(0) == used[0]
                       : !isConstant && !isWrite && op.getNumResults() == 1 &&
                             op.getResult(0).getType() == type &&
                             !(isRounded && isa<SliceOp>(op)) &&
                             dependsOn(op.getResult(0), used);
    if (!isWhole)
      continue;
    values[result] = op.getResult(0);
    ++next;
    return true;
  }
  return refuse("nothing has taken the place of " + name(cache.last()));
}

// A view of a state, before its rows are replaced or between.
bool StateCheck::isViewOfState(Operation &op, const Cache &cache) {
  if (!isa<ReshapeOp>(op) || cache.concat)
    return false;
  Value value = op.getOperand(0);
  while (Operation *before = value.getDefiningOp()) {
    if (!isa<ReshapeOp, UpdateOp>(before))
      return false;
    value = before->getOperand(0);
  }
  return llvm::any_of(cache.parts,
                      [&](const Part &part) { return part.argument == value; });
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
