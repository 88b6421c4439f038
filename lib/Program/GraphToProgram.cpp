// convert-graph-to-program: tensors become buffers.
//
// The one idea: every tensor value of @main is mapped to a buffer. A view maps
// to its operand's buffer, and a value that is a model output maps to the
// caller's buffer from the start, so that its kernel writes there directly.
//
// A tensor whose size the data tell lies in a buffer for the largest size that
// is possible; as an output it is copied when its size is known.
#include "dlc/Program/Passes.h"

#include "DataBounds.h"
#include "dlc/Dialect/Graph/IR/Graph.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/DenseMap.h"

namespace dlc::program {
#define GEN_PASS_DEF_CONVERTGRAPHTOPROGRAM
#include "dlc/Program/Passes.h.inc"
} // namespace dlc::program

using namespace mlir;
using namespace dlc;
using namespace dlc::program;

// A kernel that indexes by data or divides integers may meet invalid data.
static bool canFail(graph::KernelOp kernel) {
  WalkResult walk = kernel.walk([](Operation *op) {
    if (isa<graph::ToIndexOp, graph::ScatterOp>(op))
      return WalkResult::interrupt();
    if (auto apply = dyn_cast<graph::ApplyOp>(op);
        apply && isa<IntegerType>(apply.getResult().getType()))
      if (apply.getFn() == graph::ScalarFn::div ||
          apply.getFn() == graph::ScalarFn::mod ||
          apply.getFn() == graph::ScalarFn::rem)
        return WalkResult::interrupt();
    return WalkResult::advance();
  });
  return walk.wasInterrupted();
}

// The name the model gives to argument or result `index` of @main.
static StringAttr getName(ArrayAttr attrs, unsigned index, StringRef fallback,
                          Builder &builder) {
  if (attrs)
    if (auto name =
            cast<DictionaryAttr>(attrs[index]).getAs<StringAttr>("graph.name"))
      return name;
  return builder.getStringAttr(fallback + Twine(index));
}

namespace {
class ModelBuilder {
public:
  ModelBuilder(func::FuncOp main, StringRef name)
      : main(main), builder(main), context(main.getContext()) {
    auto symbols = main->getAttrOfType<ArrayAttr>("graph.symbols");
    if (!symbols)
      symbols = builder.getArrayAttr({});
    numSymbols = symbols.size();
    model = ModelOp::create(
        builder, main.getLoc(), builder.getStringAttr(name), symbols,
        main->getAttrOfType<ArrayAttr>("graph.ranges"), AffineMapAttr());
    builder.createBlock(&model.getBody());
  }

  void build() {
    main.walk([&](graph::PrefixOp op) {
      data.add(op.getSymbol(), graph::getDims(op.getX().getType())[0]);
    });
    bindInputs();
    bindOutputs();
    for (Operation &op : main.getBody().front().without_terminator()) {
      builder.setInsertionPointToEnd(model.getBlock());
      if (auto constant = dyn_cast<graph::ConstantOp>(op))
        buffers[constant] = ConstantOp::create(
            builder, op.getLoc(), BufferType::get(context), constant.getValue(),
            StringAttr(), IntegerAttr(), IntegerAttr());
      else if (auto call = dyn_cast<graph::CallOp>(op))
        convertCall(call);
      else if (auto prefix = dyn_cast<graph::PrefixOp>(op))
        convertPrefix(prefix);
    }
    for (auto [value, target] : copies)
      CopyOp::create(builder, main.getLoc(),
                     buffers.lookup(graph::getViewed(value)), target,
                     makeSize(getBytes(value), numSymbols));
  }

private:
  // The size of a tensor in bytes.
  AffineExpr getBytes(Value tensor) {
    auto type = cast<RankedTensorType>(tensor.getType());
    SmallVector<AffineExpr> dims = graph::getDims(type);
    dims.push_back(getAffineConstantExpr(
        graph::elementBytes(type.getElementType()), context));
    return graph::product(context, dims);
  }

  void bindInputs() {
    for (BlockArgument arg : main.getArguments()) {
      unsigned i = arg.getArgNumber();
      buffers[arg] =
          InputOp::create(builder, arg.getLoc(), BufferType::get(context),
                          builder.getI64IntegerAttr(i),
                          getName(main.getArgAttrsAttr(), i, "input", builder),
                          TypeAttr::get(arg.getType()));
    }
  }

  // The first output that a kernel's result reaches is that kernel's buffer.
  void bindOutputs() {
    for (auto [i, value] : llvm::enumerate(
             main.getBody().front().getTerminator()->getOperands())) {
      Value target = OutputOp::create(
          builder, value.getLoc(), BufferType::get(context),
          builder.getI64IntegerAttr(i),
          getName(main.getResAttrsAttr(), i, "output", builder),
          TypeAttr::get(value.getType()));
      Value root = graph::getViewed(value);
      if (root.getDefiningOp<graph::CallOp>() &&
          !data.dependsOnData(value.getType()) &&
          buffers.try_emplace(root, target).second)
        continue;
      copies.push_back({value, target});
    }
  }

  void convertCall(graph::CallOp call) {
    SmallVector<Value> args, outs;
    for (Value arg : call.getArgs())
      args.push_back(buffers.lookup(graph::getViewed(arg)));
    for (Value result : call.getResults()) {
      Value &buffer = buffers[result];
      if (!buffer)
        buffer = AllocOp::create(
            builder, call.getLoc(), BufferType::get(context),
            makeSize(graph::simplify(data.getLargest(getBytes(result))),
                     numSymbols),
            IntegerAttr(), IntegerAttr());
      outs.push_back(buffer);
    }
    AffineMapAttr actual;
    if (call.getSymbols())
      actual = AffineMapAttr::get(
          AffineMap::get(0, numSymbols, call.getSymbols()->getDims(), context));
    CallOp::create(builder, call.getLoc(), call.getCalleeAttr(), args, outs,
                   actual, call->getAttrOfType<ArrayAttr>("origin"));
  }

  void convertPrefix(graph::PrefixOp op) {
    AffineExpr bound = data.getLargest(graph::getDims(op.getX().getType())[0]);
    ArrayAttr origin;
    if (auto name = dyn_cast<NameLoc>(op.getLoc()))
      origin = builder.getStrArrayAttr({name.getName()});
    BindOp::create(builder, op.getLoc(),
                   buffers.lookup(graph::getViewed(op.getCount())),
                   builder.getI64IntegerAttr(op.getSymbol()),
                   makeSize(bound, numSymbols), origin);
  }

  func::FuncOp main;
  OpBuilder builder;
  MLIRContext *context;
  ModelOp model;
  unsigned numSymbols;
  DataBounds data;
  llvm::DenseMap<Value, Value> buffers; // root tensor -> buffer
  SmallVector<std::pair<Value, Value>> copies;
};

struct ConvertGraphToProgram
    : program::impl::ConvertGraphToProgramBase<ConvertGraphToProgram> {
  using ConvertGraphToProgramBase::ConvertGraphToProgramBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto main = module.lookupSymbol<func::FuncOp>("main");
    if (!main || main.isExternal()) {
      module.emitOpError("has no function 'main'");
      return signalPassFailure();
    }
    bool ready = true;
    for (Operation &op : main.getBody().front().without_terminator())
      if (!isa<graph::CallOp, graph::ReshapeOp, graph::PrefixOp,
               graph::BitcastOp, graph::ConstantOp>(op)) {
        op.emitOpError("is not a kernel call");
        ready = false;
      }
    if (!ready)
      return signalPassFailure();

    ModelBuilder(main, name).build();
    main.erase();
    for (auto kernel :
         llvm::make_early_inc_range(module.getOps<graph::KernelOp>())) {
      OpBuilder builder(kernel);
      KernelOp::create(builder, kernel.getLoc(), kernel.getSymName(),
                       kernel.getArgumentTypes().size(),
                       kernel.getResultTypes().size(), kernel.getNumSymbols(),
                       builder.getArrayAttr({}), AffineMapAttr(),
                       AffineMapAttr(), StringAttr(), canFail(kernel));
      kernel.erase();
    }
  }
};
} // namespace
