// graph-form-kernels: one kernel a graph operator.
//
// The kernel is what the operator's row declares, with its own symbols s0, s1,
// ... so that two layers of one model share it whatever their dims are called.
// Sharing is by canonical text: a kernel printed under a fixed name and without
// locations.
#include "dlc/Dialect/Graph/Transforms/Passes.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/StringMap.h"

namespace dlc::graph {
#define GEN_PASS_DEF_FORMKERNELS
#include "dlc/Dialect/Graph/Transforms/Passes.h.inc"
} // namespace dlc::graph

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

// The names of the model nodes behind a location, in order.
static void collectOrigin(Location loc, SmallVectorImpl<StringRef> &names) {
  if (auto name = dyn_cast<NameLoc>(loc))
    names.push_back(name.getName());
  else if (auto fused = dyn_cast<FusedLoc>(loc))
    for (Location part : fused.getLocations())
      collectOrigin(part, names);
  else if (auto call = dyn_cast<CallSiteLoc>(loc))
    collectOrigin(call.getCallee(), names);
}

static std::string canonicalText(KernelOp kernel) {
  std::string text;
  llvm::raw_string_ostream os(text);
  StringAttr name = kernel.getSymNameAttr();
  kernel.setSymName("kernel");
  kernel->print(os, OpPrintingFlags().useLocalScope().assumeVerified());
  kernel.setSymNameAttr(name);
  return text;
}

// reshape and constant are no work: a view and data.
static bool staysInMain(Operation &op) { return isa<ReshapeOp>(op); }

namespace {
struct FormKernels : graph::impl::FormKernelsBase<FormKernels> {
  using FormKernelsBase::FormKernelsBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    kernels.clear();
    SmallVector<GraphOp> ops;
    module.walk([&](GraphOp op) {
      if (!staysInMain(*op.getOperation()) && !op->getParentOfType<KernelOp>())
        ops.push_back(op);
    });
    for (GraphOp op : ops)
      if (failed(outline(op, module)))
        return signalPassFailure();
  }

private:
  LogicalResult outline(GraphOp op, ModuleOp module) {
    SmallVector<AffineExpr> symbols;
    std::string base =
        (op->getName().stripDialect() + "_" + std::to_string(kernels.size()))
            .str();
    FailureOr<KernelOp> built = buildKernelFor(op, module, base, symbols);
    if (failed(built))
      return op->emitOpError("has no kernel for these operands");
    std::string text = canonicalText(*built);
    auto [it, isNew] = kernels.try_emplace(text, base);
    if (!isNew)
      built->erase();
    numKernels += isNew;
    ++numCalls;

    OpBuilder builder(op);
    auto symbolsAttr =
        symbols.empty() ? DimsAttr() : DimsAttr::get(&getContext(), symbols);
    auto call = CallOp::create(builder, op->getLoc(), op->getResultTypes(),
                               it->second, op->getOperands(), symbolsAttr);
    SmallVector<StringRef> origin;
    collectOrigin(op->getLoc(), origin);
    if (!origin.empty())
      call->setAttr("origin", builder.getStrArrayAttr(origin));
    op->replaceAllUsesWith(call.getResults());
    op->erase();
    return success();
  }

  llvm::StringMap<std::string> kernels; // canonical text -> name
};
} // namespace
