// LoopEmitter::at, which its source files share.
#ifndef DLC_LIB_CODEGEN_CPU_LOOPPOINT_H
#define DLC_LIB_CODEGEN_CPU_LOOPPOINT_H

#include "dlc/Codegen/CPU/LoopEmitter.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

namespace dlc {

template <typename Body>
auto LoopEmitter::at(const LoopNode &node, unsigned group, int lane,
                     Body body) {
  llvm::SmallVector<std::pair<unsigned, mlir::Value>, 4> saved;
  auto set = [&](unsigned dim, mlir::Value value) {
    saved.push_back({dim, dims[dim]});
    dims[dim] = value;
  };
  for (unsigned data : node.data) {
    Values values = evaluate(data);
    mlir::Value v = values[values.size() == 1 ? 0 : group].value;
    if (llvm::isa<mlir::VectorType>(v.getType()))
      v = mlir::vector::ExtractOp::create(b, loc, v,
                                          int64_t(std::max(lane, 0)));
    set(expr.nodes[data].dim,
        mlir::arith::IndexCastOp::create(b, loc, b.getIndexType(), v));
  }
  group += groups.first;
  if (groups.dim >= 0 && group) {
    mlir::Value offset = index.constant(group * groups.step);
    if (groups.limit)
      offset = index.min(offset,
                         index.mul(index.sub(groups.limit, index.constant(1)),
                                   index.constant(groups.step)));
    set(groups.dim, index.add(dims[groups.dim], offset));
  }
  if (lanes.dim >= 0 && lane > 0)
    set(lanes.dim, index.add(dims[lanes.dim], index.constant(lane)));
  auto result = body();
  for (auto [dim, value] : llvm::reverse(saved))
    dims[dim] = value;
  return result;
}

} // namespace dlc

#endif // DLC_LIB_CODEGEN_CPU_LOOPPOINT_H
