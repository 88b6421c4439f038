// Parts of a contraction's tile.
#include "ContractionTile.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

Value ContractionTile::count(ArrayRef<unsigned> axes) {
  return launch.size(extentOf(stage, axes));
}

void ContractionTile::setAxes(SmallVectorImpl<Value> &coordinates,
                              ArrayRef<unsigned> axes, Value linear) {
  SmallVector<Value> extents;
  for (unsigned axis : axes)
    extents.push_back(launch.size(stage.getDomainDims()[axis]));
  for (auto [axis, coordinate] :
       llvm::zip_equal(axes, index.delinearize(linear, extents)))
    coordinates[axis] = coordinate;
}

void ContractionTile::begin() {
  Value rowTiles = index.ceilDiv(count(c.rowAxes), index.constant(kTileRows));
  Value columnTiles =
      index.ceilDiv(count(c.columnAxes), index.constant(kTileColumns));
  SmallVector<Value> tile = index.delinearize(
      launch.block(), {count(c.batchAxes), rowTiles, columnTiles});
  batch.assign(stage.getDomainRank(), index.constant(0));
  setAxes(batch, c.batchAxes, tile[0]);
  firstRow = index.mul(tile[1], index.constant(kTileRows));
  firstColumn = index.mul(tile[2], index.constant(kTileColumns));
  depth = launch.size(product(stage.getContext(), stage.getReduceDims()));
}

Value ContractionTile::isInside(Value total, Value at, Value atDepth) {
  return arith::AndIOp::create(b, loc, index.less(at, total),
                               index.less(atDepth, depth));
}

FailureOr<Scalar> ContractionTile::factorAt(Value factor,
                                            ArrayRef<unsigned> axes, Value at,
                                            Value atDepth) {
  SmallVector<Value> coordinates(batch);
  setAxes(coordinates, axes, at);
  llvm::append_range(
      coordinates,
      index.delinearize(atDepth, launch.sizes(stage.getReduceDims())));
  FailureOr<Scalar> value = emitter.scalar(stage, coordinates, factor);
  failedInside |= failed(value);
  return value;
}

SmallVector<Value> ContractionTile::foldPanels(Value left, Value right,
                                               Value rows, Value columns,
                                               int64_t step, int64_t numSums,
                                               FillPanel fillPanel,
                                               MultiplyPanels multiplyPanels) {
  SmallVector<Value> zeros(numSums, emitter.foldStart(stage).value);
  return launch.loop(
      index.constant(0), depth, index.constant(step), zeros,
      [&](Value k, ValueRange carried) {
        fillPanel(rows, left, c.rowAxes, kTileRows, firstRow, k);
        fillPanel(columns, right, c.columnAxes, kTileColumns, firstColumn, k);
        launch.barrier();
        SmallVector<Value> next = multiplyPanels(rows, columns, carried);
        // The panels are written again in the next turn.
        launch.barrier();
        return next;
      });
}

void ContractionTile::storeAt(
    Value row, Value column, Value sum,
    llvm::function_ref<void(Scalar, ValueRange)> store) {
  Value isInside =
      arith::AndIOp::create(b, loc, index.less(row, count(c.rowAxes)),
                            index.less(column, count(c.columnAxes)));
  launch.onlyIf(isInside, [&] {
    SmallVector<Value> point(batch);
    setAxes(point, c.rowAxes, row);
    setAxes(point, c.columnAxes, column);
    store({sum, b.getF32Type()}, point);
  });
}
