// Copies around a convolution whose image or result has the model's layout.
#include "Regions.h"

#include "dlc/Dialect/Graph/IR/KernelBuilder.h"

#include "mlir/IR/SymbolTable.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::layout;

graph::CallOp layout::copyTensor(ModuleOp module, SymbolTable &symbols,
                                 OpBuilder &builder, Value value,
                                 graph::CallOp near) {
  Type type = value.getType();
  MLIRContext *context = type.getContext();
  graph::KernelBuilder kernel(module, near.getLoc(), "copy", {type}, {type});
  Value result = kernel.map(type, [&](graph::ExprBuilder &b) {
    SmallVector<AffineExpr> index;
    for (unsigned i = 0; i < cast<RankedTensorType>(type).getRank(); ++i)
      index.push_back(b.d(i));
    return b.load(kernel.operand(0), index);
  });
  kernel.finish(result);
  graph::SymbolRenumbering renumbering(context);
  renumbering.rewrite(kernel.getKernel());
  renumbering.nameSymbols(kernel.getKernel());
  symbols.remove(kernel.getKernel());
  StringAttr name = symbols.insert(kernel.getKernel());
  auto call = graph::CallOp::create(
      builder, near.getLoc(), type, name, value,
      renumbering.actual.empty()
          ? graph::DimsAttr()
          : graph::DimsAttr::get(context, renumbering.actual));
  if (Attribute origin = near->getAttr("origin"))
    call->setAttr("origin", origin);
  return call;
}

SmallVector<graph::CallOp> layout::insertCopies(ModuleOp module,
                                                ArrayRef<Boundary> boundaries) {
  SmallVector<graph::CallOp> copies;
  SymbolTable symbols(module);
  // Several convolutions of one image share its copy.
  llvm::DenseMap<std::pair<Value, Block *>, Value> images;
  for (const Boundary &boundary : boundaries) {
    graph::CallOp call = boundary.call;
    OpBuilder builder(call);
    if (boundary.copiesOperand) {
      Value image = call.getArgs()[boundary.operand];
      Value &copy = images[{image, call->getBlock()}];
      if (!copy) {
        copies.push_back(copyTensor(module, symbols, builder, image, call));
        copy = copies.back().getResult(0);
      }
      call->setOperand(boundary.operand, copy);
    }
    if (boundary.copiesResult) {
      builder.setInsertionPointAfter(call);
      Value result = call.getResult(boundary.result);
      copies.push_back(copyTensor(module, symbols, builder, result, call));
      result.replaceAllUsesExcept(copies.back().getResult(0), copies.back());
    }
  }
  return copies;
}
