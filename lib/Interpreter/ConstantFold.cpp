// Folding operators on constants: the interpreter is the compiler's only
// evaluator.
#include "dlc/Interpreter/Interpreter.h"

#include "mlir/IR/Diagnostics.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::interp;

FailureOr<DenseElementsAttr> interp::foldGraphOp(Operation *op,
                                                 ArrayRef<Attribute> operands,
                                                 int64_t maxBytes) {
  if (op->getNumResults() != 1 || operands.size() != op->getNumOperands() ||
      !isa<graph::GraphOp, graph::ConstantOp>(op))
    return failure();
  auto type = dyn_cast<RankedTensorType>(op->getResult(0).getType());
  if (!type || !type.hasStaticShape() ||
      !type.getElementType().isIntOrFloat() ||
      type.getNumElements() * graph::elementBytes(type.getElementType()) >
          maxBytes)
    return failure();
  SmallVector<Tensor> tensors;
  for (Attribute attr : operands) {
    FailureOr<Tensor> tensor =
        Tensor::fromAttr(dyn_cast_or_null<ElementsAttr>(attr));
    if (failed(tensor))
      return failure();
    tensors.push_back(*tensor);
  }
  // Errors in the data belong to the run, not to the compilation.
  ScopedDiagnosticHandler silence(op->getContext(),
                                  [](Diagnostic &) { return success(); });
  Options options;
  options.threads = 1;
  FailureOr<SmallVector<Tensor>> results =
      Interpreter(options).runOp(op, tensors, {});
  if (failed(results))
    return failure();
  return results->front().toAttr();
}
