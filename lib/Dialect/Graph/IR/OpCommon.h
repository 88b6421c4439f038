// What the rows of injective, reducing and contracting operators share.
#ifndef DLC_LIB_DIALECT_GRAPH_IR_OPCOMMON_H
#define DLC_LIB_DIALECT_GRAPH_IR_OPCOMMON_H

#include "dlc/Dialect/Graph/IR/KernelBuilder.h"

namespace dlc::graph::detail {

inline mlir::Type elementOf(mlir::Type type) {
  return llvm::cast<mlir::RankedTensorType>(type).getElementType();
}

/// The type that a fold of `element` runs in: sums of 16-bit floats are
/// accumulated in f32 and rounded once.
inline mlir::Type accumulatorType(mlir::Type element,
                                  FoldKind kind = FoldKind::add) {
  bool sums = kind == FoldKind::add || kind == FoldKind::mul;
  return sums && llvm::isa<mlir::Float16Type, mlir::BFloat16Type>(element)
             ? mlir::Float32Type::get(element.getContext())
             : element;
}

/// `value` as a tensor of `type`: adds a stage that converts it when needed.
inline mlir::Value roundTo(KernelBuilder &kernel, mlir::Value value,
                           mlir::Type type) {
  if (value.getType() == type)
    return value;
  return kernel.map(type, [&](ExprBuilder &b) {
    llvm::SmallVector<mlir::AffineExpr> at;
    for (int64_t i = 0; i < llvm::cast<mlir::RankedTensorType>(type).getRank();
         ++i)
      at.push_back(b.d(i));
    return b.cast(b.load(value, at), elementOf(type));
  });
}

/// The ranks of a convolution's tensors agree, and each list has an entry a
/// spatial axis.
inline llvm::LogicalResult
verifySpatial(mlir::Operation *op, mlir::Type x, mlir::Type w,
              std::initializer_list<llvm::ArrayRef<int64_t>> lists) {
  auto rankOf = [](mlir::Type type) {
    return llvm::cast<mlir::RankedTensorType>(type).getRank();
  };
  int64_t spatial = rankOf(x) - 2;
  if (spatial < 1 || rankOf(w) != rankOf(x) ||
      rankOf(op->getResult(0).getType()) != rankOf(x))
    return op->emitOpError("x, w and result must have one rank of at least 3");
  for (llvm::ArrayRef<int64_t> list : lists)
    if (static_cast<int64_t>(list.size()) != spatial)
      return op->emitOpError(
          "strides, dilations and pads must have one entry a spatial axis");
  return llvm::success();
}

} // namespace dlc::graph::detail

#endif // DLC_LIB_DIALECT_GRAPH_IR_OPCOMMON_H
