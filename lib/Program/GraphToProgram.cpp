// convert-graph-to-program: checks what it was given, makes the program.model
// (ModelBuilder) and declares the kernels.
#include "dlc/Program/Passes.h"

#include "ModelBuilder.h"
#include "dlc/Dialect/Graph/IR/Placement.h"
#include "dlc/Dialect/Graph/IR/State.h"

namespace dlc::program {
#define GEN_PASS_DEF_CONVERTGRAPHTOPROGRAM
#include "dlc/Program/Passes.h.inc"
} // namespace dlc::program

using namespace mlir;
using namespace dlc;
using namespace dlc::program;

// A kernel that indexes by data or divides integers may meet invalid data; a
// library may fail.
static bool canFail(graph::KernelOp kernel) {
  if (DictionaryAttr schedule = kernel.getScheduleAttr())
    if (auto nest = schedule.getAs<StringAttr>("nest");
        nest && nest.getValue() == "library")
      return true;
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

// Runs and pitches; null where all tensors lie as usual.
static DenseI64ArrayAttr pitchesInBytes(graph::KernelOp kernel) {
  if (!graph::hasPitches(kernel))
    return {};
  SmallVector<int64_t> bytes;
  auto add = [&](ValueRange tensors) {
    for (Value tensor : tensors) {
      auto type = cast<RankedTensorType>(tensor.getType());
      int64_t element = graph::elementBytes(type.getElementType()),
              pitch = graph::getPitch(tensor);
      bytes.push_back(pitch ? element * type.getShape().back() : 0);
      bytes.push_back(element * pitch);
    }
  };
  add(kernel.getBody().getArguments());
  add(kernel.getResultValues());
  return DenseI64ArrayAttr::get(kernel.getContext(), bytes);
}

namespace {
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
    main.getBody().walk([&](Operation *op) {
      if (isa<graph::CallOp, graph::ReshapeOp, graph::PrefixOp,
              graph::BitcastOp, graph::ConstantOp, graph::IfOp, graph::LoopOp,
              graph::ExpectOp, graph::AppendOp, graph::UpdateOp>(op) ||
          op->hasTrait<OpTrait::IsTerminator>())
        return;
      op->emitOpError("is not a kernel call");
      ready = false;
    });
    if (!ready)
      return signalPassFailure();

    llvm::DenseSet<StringAttr> placed = graph::getPlacedKernels(module);
    ModelBuilder(main, name).build();
    main.erase();
    for (auto kernel :
         llvm::make_early_inc_range(module.getOps<graph::KernelOp>())) {
      if (placed.contains(kernel.getSymNameAttr())) {
        kernel.erase();
        continue;
      }
      OpBuilder builder(kernel);
      auto declared = KernelOp::create(
          builder, kernel.getLoc(), kernel.getSymName(),
          kernel.getArgumentTypes().size(), kernel.getResultTypes().size(),
          kernel.getNumSymbols(), builder.getArrayAttr({}), AffineMapAttr(),
          AffineMapAttr(), StringAttr(), canFail(kernel), AffineMapAttr(),
          DenseI64ArrayAttr(), ArrayAttr(), DenseI64ArrayAttr(),
          DenseI64ArrayAttr(), AffineMapAttr(), DenseI64ArrayAttr(),
          pitchesInBytes(kernel));
      if (auto dispatch =
              kernel->getAttrOfType<DictionaryAttr>(kDispatchAttr)) {
        declared.setSizeAttr(dispatch.getAs<AffineMapAttr>("size"));
        declared.setLimitsAttr(dispatch.getAs<DenseI64ArrayAttr>("limits"));
        declared.setVariantsAttr(dispatch.getAs<ArrayAttr>("kernels"));
      }
      kernel.erase();
    }
  }
};
} // namespace
