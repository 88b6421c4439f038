// Lanes that are two elements apart, from two loads of neighbours.
#ifndef DLC_LIB_CODEGEN_CPU_EVERYSECOND_H
#define DLC_LIB_CODEGEN_CPU_EVERYSECOND_H

#include "mlir/Dialect/Vector/IR/VectorOps.h"

namespace dlc {

/// Elements 0, 2, 4, ... of those from which `low` was loaded, as one vector;
/// `high` begins one less than a vector further on. So it ends with the last
/// element that is wanted, and nothing beyond it is touched.
inline mlir::Value everySecond(mlir::OpBuilder &b, mlir::Location loc,
                               mlir::Value low, mlir::Value high) {
  auto type = llvm::cast<mlir::VectorType>(low.getType());
  int64_t width = type.getDimSize(0);
  llvm::SmallVector<int64_t> order;
  for (int64_t lane = 0; lane < width; ++lane)
    order.push_back(2 * lane < width ? 2 * lane : 2 * lane + 1);
  return mlir::vector::ShuffleOp::create(b, loc, type, low, high, order);
}

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CPU_EVERYSECOND_H
