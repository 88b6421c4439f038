// Elements of a right factor that is computed from packed constants.
#include "ContractionComputed.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

void ComputedEmitter::setAxes(ArrayRef<unsigned> group, Value linear,
                              SmallVectorImpl<Value> &at) {
  SmallVector<Value> extents;
  for (unsigned axis : group)
    extents.push_back(index.expr(factor.spec.space.extents[axis], {}, symbols));
  for (auto [axis, value] :
       llvm::zip_equal(group, index.delinearize(linear, extents)))
    at[axis] = value;
}

Value ComputedEmitter::load(graph::LoadOp load, const ComputedPoint &point,
                            const ExprPoint &coordinates) {
  const ContractionSpec &spec = factor.spec;
  const ContractionSchedule &s = factor.schedule;
  OpBuilder &b = index.builder();
  for (auto [operand, layout] :
       llvm::zip_equal(spec.rhsLoads, factor.layouts)) {
    if (operand.value != load.getResult())
      continue;
    Value batch = index.constant(0), step = index.constant(0);
    auto walk = [&](Value &linear, ArrayRef<unsigned> group) {
      for (unsigned axis : group)
        linear =
            index.add(index.mul(linear, index.expr(spec.space.extents[axis], {},
                                                   symbols)),
                      coordinates.axes[axis]);
    };
    walk(batch, packedBatchAxes(spec, operand));
    SmallVector<unsigned> inner = spec.innerAxesOf(operand);
    walk(step, inner);
    Value at = index.add(index.mul(batch, layout.batchElements()),
                         index.mul(point.panel, layout.depth()));
    at = index.add(index.add(at, point.inside),
                   index.mul(step, int64_t(s.panelColumns())));
    Value memory = buffer(operand.operand);
    Type element = cast<MemRefType>(memory.getType()).getElementType();
    // What varies along all of k is what there is much of. A line of several
    // vectors or steps is asked for once, where one can tell.
    auto inside = IndexBuilder::constantOf(point.inside);
    int64_t bytes = element.getIntOrFloatBitWidth() / 8;
    bool isWithinLine =
        inside && (s.panelColumns() * point.stepsAlign * bytes) % 64 == 0 &&
        ((point.plus * s.panelColumns() + *inside) * bytes) % 64 != 0;
    if (s.prefetch && inner.size() == spec.inner.size() && !isWithinLine)
      memref::PrefetchOp::create(
          b, index.loc(), memory,
          index.add(at, int64_t(s.prefetch) * s.panelColumns()),
          /*isWrite=*/false, /*localityHint=*/3, /*isDataCache=*/true);
    return vector::LoadOp::create(b, index.loc(),
                                  VectorType::get({int64_t(s.lanes)}, element),
                                  memory, at);
  }
  return Value();
}

Value ComputedEmitter::emit(const ComputedPoint &point) {
  const ContractionSpec &spec = factor.spec;
  ExprPoint coordinates;
  coordinates.axes = axes;
  coordinates.lanes = factor.schedule.lanes;
  coordinates.laneAxes = spec.columns;
  setAxes(spec.columns, index.add(point.panel, point.inside), coordinates.axes);
  // Steps that one knows to share a block of the last axis share its
  // coordinates, and with them what is loaded for the block.
  auto last = spec.inner.empty()
                  ? std::nullopt
                  : graph::constantValue(spec.space.extents[spec.inner.back()]);
  bool isShared = last && *last % point.stepsAlign == 0;
  setAxes(spec.inner,
          isShared ? point.first : index.add(point.first, point.plus),
          coordinates.axes);
  if (isShared) {
    Value &axis = coordinates.axes[spec.inner.back()];
    axis = index.add(axis, point.plus);
  }
  expressions.packedLoad = [&](graph::LoadOp load, const ExprPoint &at) {
    return this->load(load, point, at);
  };
  auto value = expressions.emit(spec.rhs.value, coordinates, factor.problem);
  expressions.packedLoad = nullptr;
  if (failed(value))
    return Value();
  return expressions.scalars.broadcast(*value, factor.schedule.lanes).value;
}
