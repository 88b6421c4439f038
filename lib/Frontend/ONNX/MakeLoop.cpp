//===- MakeLoop.cpp - graph.loop ------------------------------------------===//
//
// The types of the carried tensors are found by trying: first as they come in,
// then with a symbol for every dim that an iteration changed. Positions that
// change alike share a symbol, so that what grows together stays equal.
//
//===----------------------------------------------------------------------===//

#include "ControlRegions.h"

#include "dlc/Dialect/Graph/IR/Control.h"
#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"
#include "dlc/Frontend/ONNX/DimBounds.h"

using namespace dlc;
using namespace mlir;

static constexpr int kMaxTries = 8;

namespace {
class LoopBuilder {
public:
  LoopBuilder(NodeContext &node, LoopRequest &request)
      : node(node), b(node.b), request(request) {}

  LoopValues build() {
    for (Entry &entry : request.state)
      flatten(node, entry, inits);
    for (Value init : inits)
      dims.push_back(b.dims(init));
    for (int i = 0; i < kMaxTries; ++i) {
      convertBody();
      if (typesHold())
        return emit();
    }
    refuse("carried tensors whose sizes keep changing");
  }

private:
  /// A size that iterations change.
  struct Size {
    AffineExpr symbol, first, next;
  };

  void convertBody() {
    SmallVector<Type> types = {
        RankedTensorType::get({}, b.builder.getI64Type())};
    for (auto [init, dim] : llvm::zip(inits, dims))
      types.push_back(graph::makeTensorType(dim, b.element(init)));
    again = {};
    next.clear();
    stacked.clear();
    body = buildBlock(b, types, [&](Block &block) {
      SmallVector<Value> arguments(block.getArguments().drop_front());
      ArrayRef<Value> rest = arguments;
      std::vector<Entry> state;
      for (Entry &entry : request.state)
        state.push_back(rebuild(entry, rest));
      std::vector<Entry> results = request.body(block.getArgument(0), state);
      if (knownCondition(results[0]) != true)
        again = b.reshape(node.converter.materialize(results[0]),
                          ArrayRef<int64_t>{});
      size_t numStates = state.size();
      for (size_t k = 0; k < numStates; ++k) {
        if (!haveSameStructure(results[1 + k], request.state[k]))
          refuse("a sequence or optional that changes in a loop whose end only "
                 "the run tells");
        flatten(node, results[1 + k], next);
      }
      for (size_t k = 1 + numStates; k < results.size(); ++k)
        stacked.push_back(node.converter.materialize(results[k]));
    });
  }

  /// Are the iterations' dims the ones assumed? Else new symbols are made.
  bool typesHold() {
    SmallVector<Size> fresh; // symbol by first and next dim
    bool hold = true;
    for (auto [k, value] : llvm::enumerate(next)) {
      if (b.element(value) != b.element(inits[k]) ||
          b.rank(value) != b.rank(inits[k]))
        refuse("a carried tensor is " + describeType(inits[k].getType()) +
               " first and " + describeType(value.getType()) + " then");
      for (auto [axis, dim] : llvm::enumerate(b.dims(value))) {
        AffineExpr &assumed = dims[k][axis], first = b.dim(inits[k], axis);
        Size *size =
            llvm::find_if(sizes, [&](Size &s) { return s.symbol == assumed; });
        if (size != sizes.end()) {
          if (!size->next)
            size->next = dim;
          if (size->next == dim)
            continue;
        } else if (graph::simplify(assumed - dim) == 0) {
          continue;
        }
        hold = false; // a dim of its own, or one that goes another way
        Size *made = llvm::find_if(
            fresh, [&](Size &s) { return s.first == first && s.next == dim; });
        if (made == fresh.end()) {
          fresh.push_back({node.converter.makeSymbol(node.op), first, dim});
          made = &fresh.back();
        }
        assumed = made->symbol;
      }
    }
    if (hold)
      return true;
    for (Size &size : fresh)
      sizes.push_back(size);
    for (Size &size : sizes) // asked again of the next try
      size.next = {};
    return false;
  }

  /// The most iterations; null where nothing tells.
  AffineExpr getMostTrips() {
    if (request.trips)
      return request.trips;
    if (guard)
      return guard;
    // The driver leaves the bounds of -dim on the module.
    auto module = node.op->getParentOfType<ModuleOp>();
    auto bounds = module ? module->getAttrOfType<DictionaryAttr>(kDimBoundsAttr)
                         : DictionaryAttr();
    auto range =
        bounds ? bounds.getAs<DenseI64ArrayAttr>(onnxd::getNodeName(node.op))
               : DenseI64ArrayAttr();
    if (range)
      guard = b.c(range[1]);
    // Or the model declares how many values it stacks.
    for (OpResult result :
         node.op->getResults().drop_front(request.state.size())) {
      auto type = dyn_cast<RankedTensorType>(result.getType());
      if (!guard && type && type.getRank() && !type.isDynamicDim(0))
        guard = b.c(type.getDimSize(0));
    }
    return guard;
  }

  [[noreturn]] void refuseUnbounded(StringRef what) {
    refuse((what +
            ", and only the run tells the number of iterations; give a "
            "largest one with -dim=" +
            onnxd::getNodeName(node.op) + "=0..<n>")
               .str());
  }

  /// The largest value of a size that changes.
  AffineExpr bound(Size &size, const InnerSizes &inner) {
    AffineExpr next = inner.getLargest(size.next);
    auto dependsOnLoop = [&](AffineExpr e) {
      bool found = false;
      e.walk([&](AffineExpr part) {
        found |= llvm::any_of(sizes, [&](Size &s) { return s.symbol == part; });
      });
      return found;
    };
    if (!dependsOnLoop(next)) // another size after the first iteration
      return getUpperBound(size.first, next);
    AffineExpr growth = graph::simplify(next - size.symbol);
    if (dependsOnLoop(growth))
      refuse("a carried tensor whose size grows by more than the same number "
             "in each iteration");
    if (graph::constantValue(growth).value_or(1) <= 0)
      return size.first;
    if (!isNonNegative(growth))
      refuse("a carried tensor that may grow or shrink");
    AffineExpr trips = getMostTrips();
    if (!trips)
      refuseUnbounded("a carried tensor grows");
    return graph::simplify(size.first + trips * growth);
  }

  LoopValues emit() {
    if (!request.trips && !request.limit && !again)
      refuseMalformed("an endless loop: nothing limits its iterations, and its "
                      "condition is always true");
    InnerSizes inner(*body);
    SmallVector<int64_t> symbols;
    SmallVector<AffineExpr> bounds;
    for (Size &size : sizes) {
      if (!size.next) // of an earlier try, and no dim any more
        continue;
      symbols.push_back(cast<AffineSymbolExpr>(size.symbol).getPosition());
      bounds.push_back(bound(size, inner));
    }
    IntegerAttr count;
    AffineExpr stackSize = request.trips;
    if (!stacked.empty() && (!request.trips || again || request.condition)) {
      AffineExpr most = getMostTrips();
      if (!most)
        refuseUnbounded("values are stacked");
      stackSize = node.converter.makeSymbol(node.op);
      int64_t symbol = cast<AffineSymbolExpr>(stackSize).getPosition();
      symbols.push_back(symbol);
      bounds.push_back(most);
      count = b.builder.getI64IntegerAttr(symbol);
    }
    SmallVector<Type> types;
    for (auto [init, dim] : llvm::zip(inits, dims))
      types.push_back(graph::makeTensorType(dim, b.element(init)));
    for (Value value : stacked) {
      Dims out = b.dims(value);
      for (AffineExpr dim : out)
        if (changes(dim, inner))
          refuse("stacked values whose sizes differ between iterations");
      out.insert(out.begin(), stackSize);
      types.push_back(graph::makeTensorType(out, b.element(value)));
      b.checkType(types.back());
    }
    SmallVector<Value> leave;
    if (again)
      leave.push_back(again);
    llvm::append_range(leave, next);
    llvm::append_range(leave, stacked);
    addLeave(b, *body, leave);
    auto dimsAttr = [&](AffineExpr e) {
      return e ? graph::DimsAttr::get(b.context(), {e}) : graph::DimsAttr();
    };
    auto op = graph::LoopOp::create(
        b.builder, b.loc, types, request.limit, request.condition, inits,
        again ? b.builder.getUnitAttr() : UnitAttr(), dimsAttr(request.trips),
        dimsAttr(guard), count,
        symbols.empty() ? DenseI64ArrayAttr()
                        : b.builder.getDenseI64ArrayAttr(symbols),
        bounds.empty() ? graph::DimsAttr()
                       : graph::DimsAttr::get(b.context(), bounds));
    op.getBody().push_back(body.release());
    LoopValues values;
    SmallVector<Value> carried(op.getCarriedResults());
    ArrayRef<Value> rest = carried;
    for (Entry &entry : request.state)
      values.state.push_back(rebuild(entry, rest));
    llvm::append_range(values.stacks, op.getStacks());
    return values;
  }

  /// Does a size name what the iterations bind?
  bool changes(AffineExpr dim, const InnerSizes &inner) {
    bool found = inner.getLargest(dim) != dim;
    dim.walk([&](AffineExpr part) {
      found |= llvm::any_of(sizes, [&](Size &s) { return s.symbol == part; });
    });
    return found;
  }

  NodeContext &node;
  GraphBuilder &b;
  LoopRequest &request;
  SmallVector<Value> inits;
  SmallVector<Dims> dims; ///< assumed in the body
  SmallVector<Size> sizes;
  AffineExpr guard;
  // Of the last try:
  std::unique_ptr<Block> body;
  Value again;
  SmallVector<Value> next, stacked;
};
} // namespace

LoopValues dlc::makeLoop(NodeContext &node, LoopRequest &request) {
  return LoopBuilder(node, request).build();
}
