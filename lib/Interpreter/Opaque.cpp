// Opaque operators, written to be read: what each means, nothing clever.
#include "Opaque.h"

#include "ScalarLanes.h"

#include "dlc/Dialect/Graph/IR/Folds.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::interp;

static int64_t *indices(Tensor &result) {
  return reinterpret_cast<int64_t *>(result.getMutableBytes());
}

static void compact(const Tensor &mask, Tensor &result) {
  int64_t count = 0;
  for (auto [i, isKept] : llvm::enumerate(mask.getData<bool>()))
    if (isKept)
      indices(result)[count++] = i;
}

static LogicalResult scatter(graph::ScatterOp op, ArrayRef<Tensor> operands,
                             const MathTable &math, Tensor &result) {
  const Tensor &x = operands[0], &updates = operands[2];
  int64_t rows = x.getShape()[0], columns = x.getShape()[1];
  LaneType type = *getLaneType(x.getElementType());
  std::memcpy(result.getMutableBytes(), x.getBytes(), x.getNumBytes());
  ApplyFn combine = nullptr;
  if (auto combiner = graph::combinerOf(op.getKind()))
    combine = getApplyFn(*combiner, type, type);
  for (auto [i, given] : llvm::enumerate(operands[1].getData<int64_t>())) {
    int64_t row = given < 0 ? given + rows : given;
    if (row < 0 || row >= rows)
      return op.emitOpError() << "index " << given << " is outside [" << -rows
                              << ", " << rows << ")";
    for (int64_t column = 0; column < columns; ++column) {
      int64_t target = row * columns + column;
      uint64_t old, update; // one lane each, of any type
      loadLanes(type, updates.getBytes(), i * columns + column, 1, 1, &update);
      if (combine) {
        loadLanes(type, result.getBytes(), target, 1, 1, &old);
        const void *arguments[] = {&old, &update};
        combine(arguments, &update, 1, math);
        roundLanes(type, &update, 1);
      }
      storeLane(type, &update, result.getMutableBytes(), target);
    }
  }
  return success();
}

FailureOr<Tensor> interp::evaluateOpaque(graph::GraphOp op,
                                         ArrayRef<Tensor> operands,
                                         ArrayRef<int64_t> shape,
                                         const MathTable &math) {
  auto type = cast<RankedTensorType>(op->getResult(0).getType());
  Tensor result(type.getElementType(), shape);
  LogicalResult done =
      TypeSwitch<Operation *, LogicalResult>(op)
          .Case([&](graph::ArgsortOp sort) {
            return argsort(operands[0], sort.getDescending(), result),
                   success();
          })
          .Case([&](graph::CompactOp) {
            return compact(operands[0], result), success();
          })
          .Case([&](graph::ScatterOp o) {
            return scatter(o, operands, math, result);
          })
          .Case([&](graph::NmsOp nms) {
            return selectBoxes(operands, nms.getCenter(), result), success();
          })
          .Default([](Operation *other) {
            return other->emitOpError("has no meaning in the interpreter");
          });
  if (failed(done))
    return failure();
  return result;
}
