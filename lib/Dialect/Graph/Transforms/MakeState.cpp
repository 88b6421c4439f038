// graph-make-state: caches that a model is given and gives back become state
// that it keeps.
//
//   %present = graph.concat %past, %x        (returned as the output 'present')
// becomes
//   %all = graph.append %state, %x at the length
//   %present = graph.slice %all              (its used rows; no output any
//   more)
// where %state has the capacity as its size along the axis: whatever reads
// %present reads the state by its strides, and nothing is copied but %x. Where
// rows are rounded (StoredRows.h), there are a state and an append for codes
// and for scales, and %present is computed from the slices of both.
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
/// An input and the output that appends to it.
struct Pair {
  unsigned argument, result;
  ConcatOp concat;
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
  ConcatOp match(unsigned argument, unsigned result, std::string &reason);
  AffineExpr rowsOf(Pair pair);
  LogicalResult checkSizes();
  void unifyLengths();
  void addCapacity();
  LogicalResult replace(Pair pair);

  func::FuncOp main;
  unsigned bits, numRounded = 0;
  MLIRContext *context;
  Operation *end;
  SmallVector<Pair> pairs;
  unsigned length = 0, capacity = 0;
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

// The concat, or null with the reason why the output is not the input with new
// rows behind it.
ConcatOp StateMaker::match(unsigned argument, unsigned result,
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
    ConcatOp concat = match(*argument, *result, reason);
    if (!concat)
      return main.emitError()
             << "-state=" << text
             << ": the output does not append to the input: " << reason;
    if (!arguments.insert(*argument).second || !results.insert(*result).second)
      return main.emitError() << "-state=" << text << ": is given twice";
    pairs.push_back({*argument, *result, concat});
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
      if (ConcatOp concat = match(i, k, reason)) {
        taken.insert(k);
        pairs.push_back({i, k, concat});
        break;
      }
    }
  if (pairs.empty())
    return main.emitError("-state=auto: no output is Concat of an input and "
                          "new rows along a symbolic axis");
  return success();
}

AffineExpr StateMaker::rowsOf(Pair pair) {
  return getDims(pair.concat.getInputs()[1].getType())[pair.concat.getAxis()];
}

// Every size of a state has to be known from the other inputs, and one run
// appends equally many rows to all.
LogicalResult StateMaker::checkSizes() {
  llvm::SmallDenseSet<unsigned> ofPairs, lengths, known;
  for (Pair pair : pairs) {
    ofPairs.insert(pair.argument);
    AffineExpr rows = getDims(
        main.getArgument(pair.argument).getType())[pair.concat.getAxis()];
    lengths.insert(cast<AffineSymbolExpr>(rows).getPosition());
  }
  for (BlockArgument argument : main.getArguments())
    if (!ofPairs.contains(argument.getArgNumber()))
      for (AffineExpr dim : getDims(argument.getType()))
        if (auto s = dyn_cast<AffineSymbolExpr>(dim))
          known.insert(s.getPosition());
  auto names = main->getAttrOfType<ArrayAttr>("graph.symbols");
  for (Pair pair : pairs) {
    StringRef input = nameOf(main.getArgAttrsAttr(), pair.argument);
    AffineExpr rows = rowsOf(pair);
    auto isKnown = [&](AffineExpr e) {
      auto s = dyn_cast<AffineSymbolExpr>(e);
      return isa<AffineConstantExpr>(e) ||
             (s && known.contains(s.getPosition()) &&
              !lengths.contains(s.getPosition()));
    };
    if (!isKnown(rows))
      return main.emitError()
             << "-state: the rows that are appended to '" << input
             << "' are neither a number nor a dim of another input";
    if (rows != rowsOf(pairs.front()))
      return main.emitError()
             << "-state: '" << input << "' gets other rows in a run than '"
             << nameOf(main.getArgAttrsAttr(), pairs.front().argument) << "'";
    auto dims = getDims(main.getArgument(pair.argument).getType());
    for (auto [i, dim] : llvm::enumerate(dims))
      if (i != pair.concat.getAxis() && !isKnown(dim)) {
        auto s = dyn_cast<AffineSymbolExpr>(dim);
        return main.emitError()
               << "-state: dim " << i << " of '" << input << "'"
               << (s ? " ('" + cast<StringAttr>(names[s.getPosition()]).str() +
                           "')"
                     : std::string())
               << " is neither a number nor a dim of another input";
      }
  }
  return success();
}

// One length for all: they begin empty and get equally many rows.
void StateMaker::unifyLengths() {
  auto lengthOf = [&](Pair pair) {
    return cast<AffineSymbolExpr>(getDims(
        main.getArgument(pair.argument).getType())[pair.concat.getAxis()]);
  };
  AffineExpr first = lengthOf(pairs.front());
  length = cast<AffineSymbolExpr>(first).getPosition();
  llvm::DenseMap<AffineExpr, AffineExpr> others;
  for (Pair pair : pairs)
    if (AffineExpr other = lengthOf(pair); other != first)
      others[other] = first;
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

LogicalResult StateMaker::replace(Pair pair) {
  BlockArgument past = main.getArgument(pair.argument);
  auto type = cast<RankedTensorType>(past.getType());
  auto axis = static_cast<int64_t>(pair.concat.getAxis());
  StringRef input = nameOf(main.getArgAttrsAttr(), pair.argument);
  std::string reason;
  auto stored = StoredRows::get(type, axis, bits, reason);
  if (failed(stored))
    return main.emitError() << "-kv: '" << input << "': " << reason;
  numRounded += stored->getParts().size() > 1;
  StateInfo info{nameOf(main.getResAttrsAttr(), pair.result).str(), axis,
                 length, capacity, rowsOf(pair)};
  OpBuilder b(pair.concat);
  Location loc = pair.concat.getLoc();
  SmallVector<Value> used;
  SmallVector<Value> rows = stored->encode(b, loc, pair.concat.getInputs()[1]);
  for (auto [part, x] : llvm::zip_equal(stored->getParts(), rows)) {
    auto dimsWith = [&](AffineExpr size) {
      SmallVector<AffineExpr> dims = getDims(x.getType());
      dims[axis] = size;
      return makeTensorType(dims, part.element);
    };
    RankedTensorType room = dimsWith(getAffineSymbolExpr(capacity, context));
    NamedAttrList attrs(main.getArgAttrDict(pair.argument));
    attrs.set("graph.name", b.getStringAttr(input + part.suffix));
    attrs.set(kStateAttr, makeStateAttr(info, context));
    unsigned place = main.getNumArguments();
    if (failed(main.insertArgument(place, room, attrs.getDictionary(context),
                                   past.getLoc())))
      return failure();
    Value all = AppendOp::create(
        b, loc, room, main.getArgument(place), x, b.getI64IntegerAttr(axis),
        DimsAttr::get(context, {getAffineSymbolExpr(length, context)}));
    size_t rank = type.getRank();
    used.push_back(SliceOp::create(
        b, loc, dimsWith(getDims(pair.concat.getType())[axis]), all,
        DimsAttr::get(context, SmallVector<AffineExpr>(
                                   rank, getAffineConstantExpr(0, context))),
        b.getDenseI64ArrayAttr(SmallVector<int64_t>(rank, 1))));
  }
  Value present = stored->decode(b, loc, used, pair.concat.getType());
  pair.concat.getResult().replaceAllUsesWith(present);
  pair.concat->erase();
  return success();
}

LogicalResult StateMaker::rewrite() {
  if (failed(checkSizes()))
    return failure();
  unifyLengths();
  addCapacity();
  llvm::BitVector arguments(main.getNumArguments()),
      results(main.getNumResults());
  for (Pair pair : pairs) {
    if (failed(replace(pair)))
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
