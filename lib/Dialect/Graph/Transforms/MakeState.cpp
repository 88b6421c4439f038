// graph-make-state: caches that a model is given and gives back become state
// that it keeps.
//
//   %present = graph.concat %past, %x        (returned as the output 'present')
// becomes
//   %all = graph.append %state, %x at the length
//   %present = graph.slice %all              (its used rows; no output any
//   more)
// where %state has the capacity as its size along the axis: whatever reads
// %present reads the state by its strides, and nothing is copied but %x.
//
//   %present = graph.scatter %past, %positions, %x     (between views)
// becomes
//   %present = graph.update %state, %positions, %x
//
// Where rows are rounded (StoredRows.h), there are a state and an append (an
// update) for codes and for scales, and %present is computed from both.
#include "dlc/Dialect/Graph/Transforms/Passes.h"

#include "StoredRows.h"
#include "dlc/Dialect/Graph/IR/Requirements.h"
#include "dlc/Dialect/Graph/IR/State.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/AttrTypeSubElements.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/SetVector.h"

namespace dlc::graph {
#define GEN_PASS_DEF_MAKESTATE
#include "dlc/Dialect/Graph/Transforms/Passes.h.inc"
} // namespace dlc::graph

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

namespace {
/// An input and the output that appends to it, or replaces its rows.
struct Pair {
  unsigned argument = 0, result = 0;
  ConcatOp concat;
  SmallVector<ScatterOp, 1> scatters; ///< without a concat; in order

  bool isPlaced() const { return !scatters.empty(); }
};

class StateMaker {
public:
  StateMaker(func::FuncOp main, unsigned bits)
      : main(main), bits(bits), context(main.getContext()),
        end(main.getBody().front().getTerminator()) {}

  /// Pairs by name, or all there are; fails with an error.
  LogicalResult findNamed(ArrayRef<std::string> names);
  LogicalResult findAll();
  LogicalResult rewrite();
  size_t size() const { return pairs.size(); }
  unsigned getNumRounded() const { return numRounded; }

private:
  StringRef nameOf(ArrayAttr attrs, unsigned index);
  std::optional<unsigned> lookup(ArrayAttr attrs, unsigned count,
                                 StringRef name);
  std::optional<Pair> match(unsigned argument, unsigned result,
                            std::string &reason);
  ConcatOp matchAppended(unsigned argument, unsigned result,
                         std::string &reason);
  SmallVector<ScatterOp, 1> matchPlaced(unsigned argument, unsigned result,
                                        std::string &reason);
  AffineExpr rowsOf(const Pair &pair);
  AffineExpr lengthOf(const Pair &pair);
  bool isKnown(AffineExpr size);
  std::string describe(const Pair &pair, unsigned dim);
  LogicalResult checkSizes();
  LogicalResult checkPlaced();
  void unify(ArrayRef<AffineExpr> symbols);
  void addCapacity();
  BlockArgument addState(const Pair &pair, const StoredRows::Part &part,
                         ArrayRef<AffineExpr> dims, const StateInfo &info);
  LogicalResult replace(Pair &pair);
  LogicalResult place(Pair &pair);

  func::FuncOp main;
  unsigned bits, numRounded = 0;
  MLIRContext *context;
  Operation *end;
  SmallVector<Pair> pairs;
  /// Sizes that arguments bind that stay, and lengths of the others.
  llvm::SmallDenseSet<unsigned> known, lengths;
  unsigned length = 0, capacity = 0;
  std::optional<unsigned> room; ///< of rows that are replaced
};
} // namespace

// Looks through what only says that sizes are equal.
static Value skipSameSizes(Value value) {
  while (auto reshape = value.getDefiningOp<ReshapeOp>()) {
    if (!reshape->hasAttr(kSameSizesAttr))
      break;
    value = reshape.getX();
  }
  return value;
}

static Value skipViews(Value value) {
  while (auto reshape = value.getDefiningOp<ReshapeOp>())
    value = reshape.getX();
  return value;
}

StringRef StateMaker::nameOf(ArrayAttr attrs, unsigned index) {
  if (attrs)
    if (auto name =
            cast<DictionaryAttr>(attrs[index]).getAs<StringAttr>("graph.name"))
      return name.getValue();
  return "";
}

std::optional<unsigned> StateMaker::lookup(ArrayAttr attrs, unsigned count,
                                           StringRef name) {
  for (unsigned i = 0; i < count; ++i)
    if (nameOf(attrs, i) == name)
      return i;
  return std::nullopt;
}

// What the output does to the input, or none with the reason.
std::optional<Pair> StateMaker::match(unsigned argument, unsigned result,
                                      std::string &reason) {
  Pair pair{argument, result, {}, {}};
  if (isa_and_nonnull<ScatterOp>(
          skipViews(end->getOperand(result)).getDefiningOp()))
    pair.scatters = matchPlaced(argument, result, reason);
  else
    pair.concat = matchAppended(argument, result, reason);
  if (!pair.concat && !pair.isPlaced())
    return std::nullopt;
  return pair;
}

// The scatters that make the output of the input, one after the other; none
// with the reason.
SmallVector<ScatterOp, 1> StateMaker::matchPlaced(unsigned argument,
                                                  unsigned result,
                                                  std::string &reason) {
  BlockArgument past = main.getArgument(argument);
  Value present = skipSameSizes(end->getOperand(result));
  SmallVector<ScatterOp, 1> scatters;
  auto type = cast<RankedTensorType>(past.getType());
  if (getDims(present.getType()) != getDims(type) || type.getRank() == 0) {
    reason = "it has other sizes than the input";
    return {};
  }
  Value value = skipViews(present);
  while (auto scatter = value.getDefiningOp<ScatterOp>()) {
    if (scatter.getKind() != FoldKind::none ||
        scatter->getBlock() != &main.getBody().front()) {
      reason = "it does not replace rows, or does so within a branch";
      return {};
    }
    scatters.insert(scatters.begin(), scatter);
    // What is there before the last one is read by the next one alone.
    for (value = scatter.getX(); value.hasOneUse();) {
      auto reshape = value.getDefiningOp<ReshapeOp>();
      if (!reshape)
        break;
      value = reshape.getX();
    }
    if (!value.hasOneUse()) {
      reason = "something else reads the input too";
      return {};
    }
  }
  if (value != past) {
    reason = "it is not the input with rows replaced";
    return {};
  }
  return scatters;
}

// The concat, or null with the reason why the output is not the input with new
// rows behind it.
ConcatOp StateMaker::matchAppended(unsigned argument, unsigned result,
                                   std::string &reason) {
  BlockArgument past = main.getArgument(argument);
  Value present = skipSameSizes(end->getOperand(result));
  auto concat = present.getDefiningOp<ConcatOp>();
  if (!concat || concat.getInputs().size() != 2 ||
      concat.getInputs()[0] != past) {
    reason = "it is not Concat of the input and new rows";
    return {};
  }
  AffineExpr rows = getDims(past.getType())[concat.getAxis()];
  if (!isa<AffineSymbolExpr>(rows)) {
    reason = "the input's dim " + std::to_string(concat.getAxis()) +
             " is not a symbol alone";
    return {};
  }
  if (concat.getInputs()[1] == past || !past.hasOneUse()) {
    reason = "something else reads the input too";
    return {};
  }
  return concat;
}

LogicalResult StateMaker::findNamed(ArrayRef<std::string> names) {
  llvm::SmallDenseSet<unsigned> arguments, results;
  for (StringRef text : names) {
    // ONNX names may contain colons: any of them may be the one between.
    std::optional<unsigned> argument, result;
    for (size_t i = text.find(':'); i != StringRef::npos && !result;
         i = text.find(':', i + 1)) {
      argument = lookup(main.getArgAttrsAttr(), main.getNumArguments(),
                        text.take_front(i));
      if (argument)
        result = lookup(main.getResAttrsAttr(), main.getNumResults(),
                        text.drop_front(i + 1));
    }
    if (!argument || !result)
      return main.emitError() << "-state=" << text
                              << ": the model has no such input and output "
                                 "(expected <input>:<output>, or auto)";
    std::string reason;
    std::optional<Pair> pair = match(*argument, *result, reason);
    if (!pair)
      return main.emitError()
             << "-state=" << text
             << ": the output does not append to the input or replace rows of "
                "it: "
             << reason;
    if (!arguments.insert(*argument).second || !results.insert(*result).second)
      return main.emitError() << "-state=" << text << ": is given twice";
    pairs.push_back(std::move(*pair));
  }
  return success();
}

LogicalResult StateMaker::findAll() {
  llvm::SmallDenseSet<unsigned> taken;
  for (unsigned i = 0; i < main.getNumArguments(); ++i)
    for (unsigned k = 0; k < main.getNumResults(); ++k) {
      std::string reason;
      if (taken.contains(k))
        continue;
      if (std::optional<Pair> pair = match(i, k, reason)) {
        taken.insert(k);
        pairs.push_back(std::move(*pair));
        break;
      }
    }
  if (pairs.empty())
    return main.emitError("-state=auto: no output is Concat of an input and "
                          "new rows along a symbolic axis, or an input with "
                          "rows replaced");
  return success();
}

AffineExpr StateMaker::rowsOf(const Pair &pair) {
  ConcatOp concat = pair.concat;
  return getDims(concat.getInputs()[1].getType())[concat.getAxis()];
}

AffineExpr StateMaker::lengthOf(const Pair &pair) {
  ConcatOp concat = pair.concat;
  return getDims(main.getArgument(pair.argument).getType())[concat.getAxis()];
}

bool StateMaker::isKnown(AffineExpr size) {
  auto s = dyn_cast<AffineSymbolExpr>(size);
  return isa<AffineConstantExpr>(size) ||
         (s && known.contains(s.getPosition()) &&
          !lengths.contains(s.getPosition()));
}

std::string StateMaker::describe(const Pair &pair, unsigned dim) {
  auto names = main->getAttrOfType<ArrayAttr>("graph.symbols");
  BlockArgument past = main.getArgument(pair.argument);
  std::string text = "dim " + std::to_string(dim) + " of '" +
                     nameOf(main.getArgAttrsAttr(), pair.argument).str() + "'";
  if (auto s = dyn_cast<AffineSymbolExpr>(getDims(past.getType())[dim]))
    text += " ('" + cast<StringAttr>(names[s.getPosition()]).str() + "')";
  return text;
}

// Every size of a state has to be known from the other inputs, and one run
// appends equally many rows to all that it appends to.
LogicalResult StateMaker::checkSizes() {
  llvm::SmallDenseSet<unsigned> ofPairs;
  const Pair *first = nullptr;
  for (const Pair &pair : pairs) {
    ofPairs.insert(pair.argument);
    if (pair.isPlaced())
      continue;
    first = first ? first : &pair;
    lengths.insert(cast<AffineSymbolExpr>(lengthOf(pair)).getPosition());
  }
  for (BlockArgument argument : main.getArguments())
    if (!ofPairs.contains(argument.getArgNumber()))
      for (AffineExpr dim : getDims(argument.getType()))
        if (auto s = dyn_cast<AffineSymbolExpr>(dim))
          known.insert(s.getPosition());
  for (const Pair &pair : pairs) {
    if (pair.isPlaced())
      continue;
    StringRef input = nameOf(main.getArgAttrsAttr(), pair.argument);
    AffineExpr rows = rowsOf(pair);
    if (!isKnown(rows))
      return main.emitError()
             << "-state: the rows that are appended to '" << input
             << "' are neither a number nor a dim of another input";
    if (rows != rowsOf(*first))
      return main.emitError()
             << "-state: '" << input << "' gets other rows in a run than '"
             << nameOf(main.getArgAttrsAttr(), first->argument) << "'";
    ConcatOp concat = pair.concat;
    auto dims = getDims(main.getArgument(pair.argument).getType());
    for (auto [i, dim] : llvm::enumerate(dims))
      if (i != concat.getAxis() && !isKnown(dim))
        return main.emitError()
               << "-state: " << describe(pair, i)
               << " is neither a number nor a dim of another input";
  }
  return checkPlaced();
}

// Where rows are replaced one size may be nobody's: the room.
LogicalResult StateMaker::checkPlaced() {
  for (const Pair &pair : pairs) {
    if (!pair.isPlaced())
      continue;
    bool hasRoom = false;
    auto dims = getDims(main.getArgument(pair.argument).getType());
    for (auto [i, dim] : llvm::enumerate(dims)) {
      if (isKnown(dim))
        continue;
      auto symbol = dyn_cast<AffineSymbolExpr>(dim);
      if (!symbol || hasRoom || lengths.contains(symbol.getPosition()))
        return main.emitError()
               << "-state: " << describe(pair, i)
               << " is neither a number nor a dim of another input"
               << (hasRoom ? ", as is one before it" : "");
      hasRoom = true;
      room = room ? *room : symbol.getPosition();
    }
  }
  return success();
}

// One symbol, the first, in place of all: of lengths, which begin at 0 and get
// equally many rows, or of rooms, which are had together.
void StateMaker::unify(ArrayRef<AffineExpr> symbols) {
  llvm::DenseMap<AffineExpr, AffineExpr> others;
  for (AffineExpr other : symbols)
    if (other != symbols.front())
      others[other] = symbols.front();
  if (others.empty())
    return;
  AttrTypeReplacer replacer;
  replacer.addReplacement([&](DimsAttr dims) -> Attribute {
    return DimsAttr::get(context,
                         llvm::map_to_vector(dims.getDims(), [&](AffineExpr e) {
                           return simplify(e.replace(others));
                         }));
  });
  replacer.recursivelyReplaceElementsIn(main, /*replaceAttrs=*/true,
                                        /*replaceLocs=*/false,
                                        /*replaceTypes=*/true);
  SmallVector<Requirement> requirements = getRequirements(main);
  for (Requirement &each : requirements) {
    each.left = simplify(each.left.replace(others));
    each.right = simplify(each.right.replace(others));
  }
  llvm::erase_if(requirements, [](const Requirement &each) {
    return each.left == each.right;
  });
  setRequirements(main, requirements);
}

// A symbol for the room of all states, as wide as the length may grow.
void StateMaker::addCapacity() {
  Builder builder(context);
  auto symbols = main->getAttrOfType<ArrayAttr>("graph.symbols");
  SmallVector<Attribute> names(symbols.getValue());
  capacity = names.size();
  std::string name = cast<StringAttr>(names[length]).str() + ".capacity";
  while (llvm::is_contained(names, builder.getStringAttr(name)))
    name += "_";
  names.push_back(builder.getStringAttr(name));
  main->setAttr("graph.symbols", builder.getArrayAttr(names));
  if (auto attr = main->getAttrOfType<ArrayAttr>("graph.ranges")) {
    SmallVector<Attribute> ranges(attr.getValue());
    auto range = cast<DenseI64ArrayAttr>(ranges[length]).asArrayRef();
    ranges.push_back(builder.getDenseI64ArrayAttr({0, range[1], range[2]}));
    main->setAttr("graph.ranges", builder.getArrayAttr(ranges));
  }
  // Maps name the number of symbols.
  setRequirements(main, getRequirements(main));
}

// An argument for one part of a state, named and attributed as the input.
BlockArgument StateMaker::addState(const Pair &pair,
                                   const StoredRows::Part &part,
                                   ArrayRef<AffineExpr> dims,
                                   const StateInfo &info) {
  Builder b(context);
  NamedAttrList attrs(main.getArgAttrDict(pair.argument));
  attrs.set("graph.name",
            b.getStringAttr(nameOf(main.getArgAttrsAttr(), pair.argument) +
                            part.suffix));
  attrs.set(kStateAttr, makeStateAttr(info, context));
  unsigned place = main.getNumArguments();
  if (failed(main.insertArgument(place, makeTensorType(dims, part.element),
                                 attrs.getDictionary(context),
                                 main.getArgument(pair.argument).getLoc())))
    return {};
  return main.getArgument(place);
}

LogicalResult StateMaker::replace(Pair &pair) {
  BlockArgument past = main.getArgument(pair.argument);
  auto type = cast<RankedTensorType>(past.getType());
  auto axis = static_cast<int64_t>(pair.concat.getAxis());
  std::string reason;
  auto stored = StoredRows::get(type, axis, bits, reason);
  if (failed(stored))
    return main.emitError()
           << "-kv: '" << nameOf(main.getArgAttrsAttr(), pair.argument)
           << "': " << reason;
  numRounded += stored->getParts().size() > 1;
  StateInfo info{nameOf(main.getResAttrsAttr(), pair.result).str(), axis,
                 length, capacity, rowsOf(pair)};
  OpBuilder b(pair.concat);
  Location loc = pair.concat.getLoc();
  SmallVector<Value> used;
  SmallVector<Value> rows = stored->encode(b, loc, pair.concat.getInputs()[1]);
  for (auto [part, x] : llvm::zip_equal(stored->getParts(), rows)) {
    SmallVector<AffineExpr> dims = getDims(x.getType());
    dims[axis] = getAffineSymbolExpr(capacity, context);
    BlockArgument state = addState(pair, part, dims, info);
    if (!state)
      return failure();
    Value all = AppendOp::create(
        b, loc, state.getType(), state, x, b.getI64IntegerAttr(axis),
        DimsAttr::get(context, {getAffineSymbolExpr(length, context)}));
    dims[axis] = getDims(pair.concat.getType())[axis];
    size_t rank = type.getRank();
    used.push_back(SliceOp::create(
        b, loc, makeTensorType(dims, part.element), all,
        DimsAttr::get(context, SmallVector<AffineExpr>(
                                   rank, getAffineConstantExpr(0, context))),
        b.getDenseI64ArrayAttr(SmallVector<int64_t>(rank, 1))));
  }
  Value present = stored->decode(b, loc, used, pair.concat.getType());
  pair.concat.getResult().replaceAllUsesWith(present);
  pair.concat->erase();
  return success();
}

// How many leading dims the rows of a table (r, c) number; -1 when the table is
// another view of them.
static int64_t countLeading(ArrayRef<AffineExpr> dims, Value table) {
  SmallVector<AffineExpr> sizes = getDims(table.getType());
  MLIRContext *context = table.getContext();
  for (size_t i = 0; i <= dims.size(); ++i)
    if (simplify(product(context, dims.take_front(i)) - sizes[0]) == 0 &&
        simplify(product(context, dims.drop_front(i)) - sizes[1]) == 0)
      return i;
  return -1;
}

static Value view(OpBuilder &b, Location loc, Value x,
                  ArrayRef<AffineExpr> dims) {
  RankedTensorType type = makeTensorType(
      dims, cast<RankedTensorType>(x.getType()).getElementType());
  return type == x.getType() ? x : ReshapeOp::create(b, loc, type, x);
}

LogicalResult StateMaker::place(Pair &pair) {
  BlockArgument past = main.getArgument(pair.argument);
  auto type = cast<RankedTensorType>(past.getType());
  SmallVector<AffineExpr> dims = getDims(type);
  ScatterOp last = pair.scatters.back();
  std::string reason;
  int64_t leading = countLeading(dims, last.getX());
  for (ScatterOp scatter : pair.scatters)
    if (countLeading(dims, scatter.getX()) != leading)
      leading = -1;
  auto stored = StoredRows::get(type, leading - 1, bits, reason);
  if (succeeded(stored) && stored->getParts().size() > 1 && leading < 0) {
    reason = "its rows are replaced across its sizes";
    stored = failure();
  }
  if (failed(stored))
    return main.emitError()
           << "-kv: '" << nameOf(main.getArgAttrsAttr(), pair.argument)
           << "': " << reason;
  bool isRounded = stored->getParts().size() > 1;
  numRounded += isRounded;
  StateInfo info;
  info.output = nameOf(main.getResAttrsAttr(), pair.result).str();
  info.axis = -1;
  info.rows = getAffineConstantExpr(0, context);
  for (auto [i, dim] : llvm::enumerate(dims))
    if (room && dim == getAffineSymbolExpr(*room, context)) {
      info.axis = i;
      info.capacity = *room;
    }
  OpBuilder b(last);
  Location loc = last.getLoc();
  SmallVector<Value> states;
  SmallVector<SmallVector<AffineExpr>> partDims;
  for (const StoredRows::Part &part : stored->getParts()) {
    partDims.push_back(dims);
    if (part.last >= 0)
      partDims.back().back() = getAffineConstantExpr(part.last, context);
    states.push_back(addState(pair, part, partDims.back(), info));
    if (!states.back())
      return failure();
  }
  for (ScatterOp scatter : pair.scatters) {
    SmallVector<AffineExpr> table = getDims(scatter.getType());
    Value x = scatter.getUpdates();
    AffineExpr count = getDims(x.getType())[0];
    if (isRounded) {
      SmallVector<AffineExpr> each = {count};
      llvm::append_range(each, ArrayRef(dims).drop_front(leading));
      x = view(b, loc, x, each);
    }
    SmallVector<Value> rows = stored->encode(b, loc, x);
    for (auto [state, part, own] : llvm::zip_equal(states, rows, partDims)) {
      if (isRounded)
        table[1] = product(context, ArrayRef(own).drop_front(leading));
      Value place = view(b, loc, state, table);
      state = UpdateOp::create(b, loc, place.getType(), place,
                               scatter.getPositions(),
                               view(b, loc, part, {count, table[1]}));
    }
  }
  Value present = states[0];
  if (isRounded) {
    for (auto [state, own] : llvm::zip_equal(states, partDims))
      state = view(b, loc, state, own);
    present = view(b, loc, stored->decode(b, loc, states, type),
                   getDims(last.getType()));
  }
  last.getResult().replaceAllUsesWith(present);
  for (Operation *op = last; op && op->use_empty();) {
    Operation *before = op->getOperand(0).getDefiningOp();
    op->erase();
    op = before;
  }
  return success();
}

LogicalResult StateMaker::rewrite() {
  if (failed(checkSizes()))
    return failure();
  SmallVector<AffineExpr> ofAppended, ofRoom;
  for (const Pair &pair : pairs) {
    if (!pair.isPlaced())
      ofAppended.push_back(lengthOf(pair));
    else
      for (AffineExpr dim : getDims(main.getArgument(pair.argument).getType()))
        if (!isKnown(dim))
          ofRoom.push_back(dim);
  }
  if (!ofAppended.empty()) {
    length = cast<AffineSymbolExpr>(ofAppended.front()).getPosition();
    unify(ofAppended);
    addCapacity();
  }
  if (!ofRoom.empty())
    unify(ofRoom);
  llvm::BitVector arguments(main.getNumArguments()),
      results(main.getNumResults());
  for (Pair &pair : pairs) {
    if (failed(pair.isPlaced() ? place(pair) : replace(pair)))
      return failure();
    arguments.set(pair.argument);
    results.set(pair.result);
  }
  for (int i = results.find_last(); i >= 0; i = results.find_prev(i)) {
    Value returned = end->getOperand(i);
    end->eraseOperand(i);
    // What only gave the output its declared sizes.
    while (auto reshape = returned.getDefiningOp<ReshapeOp>()) {
      if (!reshape->use_empty())
        break;
      returned = reshape.getX();
      reshape->erase();
    }
  }
  if (bits != 0 && numRounded == 0)
    return main.emitError("-kv: no cache holds floats");
  arguments.resize(main.getNumArguments());
  return success(succeeded(main.eraseResults(results)) &&
                 succeeded(main.eraseArguments(arguments)));
}

namespace {
struct MakeState : graph::impl::MakeStateBase<MakeState> {
  using MakeStateBase::MakeStateBase;

  void runOnOperation() override {
    auto main = getOperation().lookupSymbol<func::FuncOp>("main");
    if (!main || !llvm::hasSingleElement(main.getBody()) || pairs.empty())
      return;
    SmallVector<std::string> names(pairs.begin(), pairs.end());
    if (bits != 0 && bits != 2 && bits != 4 && bits != 8) {
      main.emitError("state is held in 2, 4 or 8 bits, or as it is (0)");
      return signalPassFailure();
    }
    StateMaker maker(main, bits);
    bool isAuto = names.size() == 1 && names.front() == "auto";
    if (failed(isAuto ? maker.findAll() : maker.findNamed(names)) ||
        failed(maker.rewrite()))
      return signalPassFailure();
    numStates += maker.size();
    numRounded += maker.getNumRounded();
  }
};
} // namespace
