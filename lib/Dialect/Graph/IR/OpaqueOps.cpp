// Opaque operators and the views whose size or type is not their operand's:
// verifiers, and kernels that hold the operator itself.
#include "dlc/Dialect/Graph/IR/KernelBuilder.h"
#include "dlc/Dialect/Graph/IR/State.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

static RankedTensorType typeOf(Value value) {
  return cast<RankedTensorType>(value.getType());
}
static Type elementOf(Value value) { return typeOf(value).getElementType(); }
static bool isI64(Value value) {
  return elementOf(value).isInteger(64) && !isUnsigned(elementOf(value));
}
static bool areEqual(AffineExpr a, AffineExpr b) {
  return simplify(a - b) == 0;
}

/// A tensor of one element, whatever its rank.
static bool isScalar(Value value) {
  return typeOf(value).hasStaticShape() && typeOf(value).getNumElements() == 1;
}

Value graph::getViewed(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    if (!isa<ReshapeOp, PrefixOp, BitcastOp, AppendOp, UpdateOp>(op))
      break;
    value = op->getOperand(0);
  }
  return value;
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

LogicalResult ArgsortOp::buildKernel(KernelBuilder &kernel) {
  return kernel.finishOpaque(*this);
}
LogicalResult CompactOp::buildKernel(KernelBuilder &kernel) {
  return kernel.finishOpaque(*this);
}
LogicalResult ScatterOp::buildKernel(KernelBuilder &kernel) {
  return kernel.finishOpaque(*this);
}
LogicalResult NmsOp::buildKernel(KernelBuilder &kernel) {
  return kernel.finishOpaque(*this);
}

//===----------------------------------------------------------------------===//
// Verifiers
//===----------------------------------------------------------------------===//

LogicalResult ArgsortOp::verify() {
  if (typeOf(getX()).getRank() != 3 || typeOf(getResult()).getRank() != 2 ||
      !isI64(getResult()))
    return emitOpError("maps (b, n, m) to i64 (b, k)");
  SmallVector<AffineExpr> dims = getDims(getX().getType()),
                          out = getDims(getResult().getType());
  if (!areEqual(dims[0], out[0]))
    return emitOpError("result has another batch than the operand");
  if (std::optional<int64_t> rest = constantValue(simplify(dims[1] - out[1]));
      rest && *rest < 0)
    return emitOpError("more results than rows");
  return success();
}

LogicalResult CompactOp::verify() {
  if (typeOf(getMask()).getRank() != 1 || !elementOf(getMask()).isInteger(1))
    return emitOpError("mask must be i1 of rank 1");
  if (!isI64(getResult()) ||
      getDims(getResult().getType()) != getDims(getMask().getType()))
    return emitOpError("result must be i64 with the mask's dims");
  return success();
}

LogicalResult ScatterOp::verify() {
  if (typeOf(getX()).getRank() != 2 || typeOf(getUpdates()).getRank() != 2 ||
      typeOf(getPositions()).getRank() != 1)
    return emitOpError("takes x (r, c), positions (m) and updates (m, c)");
  if (!isI64(getPositions()))
    return emitOpError("positions must be i64");
  if (getResult().getType() != getX().getType() ||
      elementOf(getUpdates()) != elementOf(getX()))
    return emitOpError(
        "result must have x's type and updates its element type");
  SmallVector<AffineExpr> dims = getDims(getX().getType()),
                          updates = getDims(getUpdates().getType());
  if (!areEqual(updates[0], getDims(getPositions().getType())[0]) ||
      !areEqual(updates[1], dims[1]))
    return emitOpError(
        "updates must be as many rows as positions, each of x's length");
  switch (getKind()) {
  case FoldKind::none:
  case FoldKind::add:
  case FoldKind::mul:
  case FoldKind::max:
  case FoldKind::min:
    return success();
  default:
    return emitOpError("cannot fold with ") << stringifyFoldKind(getKind());
  }
}

LogicalResult NmsOp::verify() {
  SmallVector<AffineExpr> boxes = getDims(getBoxes().getType()),
                          scores = getDims(getScores().getType()),
                          order = getDims(getOrder().getType()),
                          out = getDims(getResult().getType());
  if (boxes.size() != 3 || constantValue(boxes[2]) != 4 || scores.size() != 3 ||
      !areEqual(boxes[0], scores[0]) || !areEqual(boxes[1], scores[2]))
    return emitOpError("takes boxes (b, n, 4) and scores (b, c, n)");
  if (order.size() != 2 || !areEqual(order[0], scores[0] * scores[1]) ||
      !areEqual(order[1], scores[2]))
    return emitOpError("takes an order (b * c, n)");
  if (out.size() != 3 || !areEqual(out[0], scores[0]) ||
      !areEqual(out[1], scores[1]) || !isI64(getResult()))
    return emitOpError("result must be i64 (b, c, k)");
  if (!elementOf(getBoxes()).isF32() || !elementOf(getScores()).isF32() ||
      !isI64(getOrder()))
    return emitOpError("boxes and scores must be f32, order i64");
  if (!isScalar(getLimit()) || !isI64(getLimit()) ||
      !isScalar(getIouThreshold()) || !elementOf(getIouThreshold()).isF32() ||
      !isScalar(getScoreThreshold()) || !elementOf(getScoreThreshold()).isF32())
    return emitOpError(
        "limit must be one i64 element, the thresholds one f32 element each");
  return success();
}

//===----------------------------------------------------------------------===//
// Views
//===----------------------------------------------------------------------===//

unsigned PrefixOp::getSymbol() {
  return cast<AffineSymbolExpr>(getDims(getResult().getType())[0])
      .getPosition();
}

LogicalResult PrefixOp::verify() {
  if (!isScalar(getCount()) || !isI64(getCount()))
    return emitOpError("count must be one i64 element");
  SmallVector<AffineExpr> dims = getDims(getX().getType()),
                          out = getDims(getResult().getType());
  if (dims.empty() || dims.size() != out.size() ||
      elementOf(getX()) != elementOf(getResult()) ||
      ArrayRef(dims).drop_front() != ArrayRef(out).drop_front())
    return emitOpError(
        "result must be the operand's type but for the leading dim");
  if (!isa<AffineSymbolExpr>(out[0]))
    return emitOpError("the result's leading dim must be a symbol alone");
  return success();
}

LogicalResult BitcastOp::verify() {
  if (getDims(getX().getType()) != getDims(getResult().getType()) ||
      elementBytes(elementOf(getX())) != elementBytes(elementOf(getResult())))
    return emitOpError(
        "result must have the operand's dims and elements as wide");
  return success();
}
