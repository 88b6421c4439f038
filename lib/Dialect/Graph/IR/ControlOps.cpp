// graph.if, graph.loop and graph.expect: verifiers, effects, canonicalisation.
#include "dlc/Dialect/Graph/IR/Control.h"

#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

#define GET_OP_CLASSES
#include "dlc/Dialect/Graph/IR/ControlOps.cpp.inc"

//===----------------------------------------------------------------------===//
// Symbols
//===----------------------------------------------------------------------===//

static bool isBound(ArrayRef<int64_t> binds, AffineExpr dim) {
  auto symbol = dyn_cast<AffineSymbolExpr>(dim);
  return symbol && llvm::is_contained(binds, symbol.getPosition());
}

bool IfOp::bindsSymbol(AffineExpr dim) {
  return isBound(getBoundSymbols(), dim);
}
bool LoopOp::bindsSymbol(AffineExpr dim) {
  return isBound(getBoundSymbols(), dim);
}

void graph::forEachDataSymbol(
    Operation *root, llvm::function_ref<void(unsigned, AffineExpr)> add) {
  auto addAll = [&](auto op) {
    for (auto [i, symbol] : llvm::enumerate(op.getBoundSymbols()))
      add(symbol, op.getLargest(i));
  };
  root->walk<WalkOrder::PreOrder>([&](Operation *op) {
    if (auto prefix = dyn_cast<PrefixOp>(op))
      add(prefix.getSymbol(), getDims(prefix.getX().getType())[0]);
    else if (auto branch = dyn_cast<IfOp>(op))
      addAll(branch);
    else if (auto loop = dyn_cast<LoopOp>(op))
      addAll(loop);
  });
}

SmallVector<std::pair<unsigned, AffineExpr>>
graph::matchSymbols(TypeRange from, TypeRange to, ArrayRef<int64_t> binds) {
  SmallVector<std::pair<unsigned, AffineExpr>> matches;
  for (auto [source, target] : llvm::zip_equal(from, to))
    for (auto [value, dim] : llvm::zip_equal(getDims(source), getDims(target)))
      if (isBound(binds, dim) && value != dim) {
        std::pair<unsigned, AffineExpr> match(
            cast<AffineSymbolExpr>(dim).getPosition(), value);
        if (!llvm::is_contained(matches, match))
          matches.push_back(match);
      }
  return matches;
}

//===----------------------------------------------------------------------===//
// Verifiers
//===----------------------------------------------------------------------===//

static bool isOneOf(Value value, bool wantsBool) {
  auto type = cast<RankedTensorType>(value.getType());
  return type.hasStaticShape() && type.getNumElements() == 1 &&
         type.getElementType().isSignlessInteger(wantsBool ? 1 : 64);
}

static LogicalResult verifyBinds(Operation *op, ArrayRef<int64_t> binds,
                                 std::optional<DimsAttr> bounds) {
  size_t count = bounds ? bounds->getDims().size() : 0;
  if (binds.size() != count)
    return op->emitOpError("binds ")
           << binds.size() << " symbols with " << count << " bounds";
  return success();
}

// May a value of type `from` become one of type `to`?
static LogicalResult verifyStep(Operation *op, const Twine &what, Type from,
                                Type to, ArrayRef<int64_t> binds) {
  auto source = cast<RankedTensorType>(from),
       target = cast<RankedTensorType>(to);
  bool fits = source.getRank() == target.getRank() &&
              source.getElementType() == target.getElementType();
  if (fits)
    for (auto [a, b] : llvm::zip(getDims(source), getDims(target)))
      fits &= isBound(binds, b) || simplify(a - b) == 0;
  if (!fits)
    return op->emitOpError() << what << " is " << from << ", expected " << to;
  return success();
}

// A symbol gets one value.
static LogicalResult verifySymbols(Operation *op, TypeRange from, TypeRange to,
                                   ArrayRef<int64_t> binds) {
  llvm::DenseMap<unsigned, AffineExpr> values;
  for (auto [symbol, value] : matchSymbols(from, to, binds))
    if (!values.try_emplace(symbol, value).second)
      return op->emitOpError("gives symbol ") << symbol << " two values";
  return success();
}

static LogicalResult verifyEnds(Operation *op, Region &region) {
  if (region.front().empty() || !isa<LeaveOp>(region.front().back()))
    return op->emitOpError("regions end with graph.leave");
  return success();
}

LogicalResult IfOp::verify() {
  if (!isOneOf(getCondition(), /*wantsBool=*/true))
    return emitOpError("condition must be one i1 element");
  if (failed(verifyBinds(*this, getBoundSymbols(), getBounds())))
    return failure();
  for (Region *region : {&getThenRegion(), &getElseRegion()}) {
    if (failed(verifyEnds(*this, *region)))
      return failure();
    ValueRange values = region->front().getTerminator()->getOperands();
    if (values.size() != getNumResults())
      return emitOpError("a branch leaves with ")
             << values.size() << " values for " << getNumResults()
             << " results";
    for (auto [i, value] : llvm::enumerate(values))
      if (failed(verifyStep(*this, "value " + Twine(i) + " of a branch",
                            value.getType(), getResult(i).getType(),
                            getBoundSymbols())))
        return failure();
    if (failed(verifySymbols(*this, values.getTypes(),
                             getOperation()->getResultTypes(),
                             getBoundSymbols())))
      return failure();
  }
  return success();
}

LogicalResult LoopOp::verify() {
  if (getLimit() && !isOneOf(getLimit(), /*wantsBool=*/false))
    return emitOpError("limit must be one i64 element");
  if (getCondition() && !isOneOf(getCondition(), /*wantsBool=*/true))
    return emitOpError("condition must be one i1 element");
  if (failed(verifyBinds(*this, getBoundSymbols(), getBounds())))
    return failure();
  for (std::optional<DimsAttr> one : {getTrips(), getGuard()})
    if (one && one->getDims().size() != 1)
      return emitOpError("trips and guard are one expression");
  if (getCount() && !llvm::is_contained(getBoundSymbols(), *getCount()))
    return emitOpError("count is not a symbol it binds");
  Block &body = getBody().front();
  unsigned carried = getNumCarried();
  if (body.getNumArguments() != 1 + carried)
    return emitOpError("body has ")
           << body.getNumArguments() << " arguments, expected " << 1 + carried;
  if (!isOneOf(body.getArgument(0), /*wantsBool=*/false))
    return emitOpError("body's first argument must be one i64 element");
  if (failed(verifyEnds(*this, getBody())))
    return failure();
  if (getLeave()->getNumOperands() != getConditional() + getNumResults() ||
      getNumResults() < carried)
    return emitOpError("body leaves with ")
           << getLeave()->getNumOperands() << " values for " << getNumResults()
           << " results";
  if (getConditional() && !isOneOf(getAgain(), /*wantsBool=*/true))
    return emitOpError("the condition to go on must be one i1 element");
  for (unsigned i = 0; i < carried; ++i) {
    Type type = getResult(i).getType();
    if (getCarriedArguments()[i].getType() != type)
      return emitOpError("carried tensor ")
             << i << " is " << getCarriedArguments()[i].getType()
             << " in the body and " << type << " as a result";
    if (failed(verifyStep(*this, "initial value " + Twine(i),
                          getInits()[i].getType(), type, getBoundSymbols())) ||
        failed(verifyStep(*this, "next value " + Twine(i),
                          getNext()[i].getType(), type, getBoundSymbols())))
      return failure();
  }
  TypeRange carriedTypes = getCarriedResults().getTypes();
  if (failed(verifySymbols(*this, getInits().getTypes(), carriedTypes,
                           getBoundSymbols())) ||
      failed(verifySymbols(*this, getNext().getTypes(), carriedTypes,
                           getBoundSymbols())))
    return failure();
  for (auto [i, pair] : llvm::enumerate(llvm::zip(getStacked(), getStacks()))) {
    auto [value, stack] = pair;
    SmallVector<AffineExpr> dims = getDims(value.getType());
    AffineExpr leading = getCount()
                             ? getAffineSymbolExpr(*getCount(), getContext())
                         : getTrips() ? getTrips()->getDims()[0]
                                      : AffineExpr();
    if (!leading)
      return emitOpError("stacks values, and their number is not told");
    dims.insert(dims.begin(), leading);
    Type expected = makeTensorType(
        dims, cast<RankedTensorType>(value.getType()).getElementType());
    if (stack.getType() != expected)
      return emitOpError("stack ")
             << i << " is " << stack.getType() << ", expected " << expected;
  }
  return success();
}

LogicalResult ExpectOp::verify() {
  if (!isOneOf(getCondition(), /*wantsBool=*/true))
    return emitOpError("condition must be one i1 element");
  return success();
}

//===----------------------------------------------------------------------===//
// Effects
//===----------------------------------------------------------------------===//

// Sizes elsewhere may name the symbols, so an operator that binds some is
// needed whatever becomes of its results.
static void
getControlEffects(Operation *op, bool binds,
                  SmallVectorImpl<MemoryEffects::EffectInstance> &effects) {
  bool writes = binds;
  for (Region &region : op->getRegions())
    for (Operation &inner : region.front())
      writes |= !isMemoryEffectFree(&inner);
  if (writes)
    effects.emplace_back(MemoryEffects::Write::get());
}

void IfOp::getEffects(SmallVectorImpl<MemoryEffects::EffectInstance> &effects) {
  getControlEffects(*this, !getBoundSymbols().empty(), effects);
}

void LoopOp::getEffects(
    SmallVectorImpl<MemoryEffects::EffectInstance> &effects) {
  getControlEffects(*this, !getBoundSymbols().empty(), effects);
}

//===----------------------------------------------------------------------===//
// Canonicalisation
//===----------------------------------------------------------------------===//

namespace {
// A constant condition: the branch stands in the operator's place.
struct InlineConstantIf : OpRewritePattern<IfOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(IfOp op,
                                PatternRewriter &rewriter) const override {
    auto constant = getViewed(op.getCondition()).getDefiningOp<ConstantOp>();
    auto value = constant ? dyn_cast<DenseElementsAttr>(constant.getValue())
                          : DenseElementsAttr();
    if (!value || !op.getBoundSymbols().empty())
      return failure();
    Region &region =
        *value.value_begin<bool>() ? op.getThenRegion() : op.getElseRegion();
    Operation *leave = region.front().getTerminator();
    SmallVector<Value> results(leave->getOperands());
    if (TypeRange(ValueRange(results)) != op->getResultTypes())
      return failure();
    rewriter.eraseOp(leave);
    rewriter.inlineBlockBefore(&region.front(), op);
    rewriter.replaceOp(op, results);
    return success();
  }
};
} // namespace

void IfOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                       MLIRContext *context) {
  patterns.add<InlineConstantIf>(context);
}
