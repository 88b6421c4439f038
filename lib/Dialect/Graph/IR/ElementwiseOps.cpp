// What every elementwise row shares: broadcasting types and the kernel around
// a scalar body.
#include "dlc/Dialect/Graph/IR/KernelBuilder.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

LogicalResult graph::detail::inferBroadcast(std::optional<Location> loc,
                                            ValueRange operands, Type element,
                                            SmallVectorImpl<Type> &results) {
  SmallVector<AffineExpr> dims;
  for (Value v : operands) {
    auto joined = broadcastDims(dims, getDims(v.getType()));
    if (failed(joined))
      return emitOptionalError(
          loc, "operand shapes do not broadcast: ", operands.getTypes());
    dims = *joined;
  }
  results.push_back(makeTensorType(dims, element));
  return success();
}

LogicalResult graph::detail::buildElementwiseKernel(Operation *op,
                                                    KernelBuilder &kernel,
                                                    ScalarBody body) {
  Type result = op->getResult(0).getType();
  unsigned rank = cast<RankedTensorType>(result).getRank();
  Value stage = kernel.map(result, [&](ExprBuilder &b) {
    SmallVector<Value> in;
    for (unsigned i = 0; i < op->getNumOperands(); ++i) {
      // Axes are matched from the last one; an extent-1 axis is read at 0.
      SmallVector<AffineExpr> dims = getDims(op->getOperand(i).getType()),
                              index;
      unsigned lead = rank - dims.size();
      for (auto [axis, dim] : llvm::enumerate(dims))
        index.push_back(constantValue(dim) == 1 ? b.c(0) : b.d(lead + axis));
      in.push_back(b.load(kernel.operand(i), index));
    }
    return body(b, in, cast<RankedTensorType>(result).getElementType());
  });
  kernel.finish(stage);
  return success();
}
