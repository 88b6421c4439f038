// The tiled matrix product of whole warpgroups: wgmma, which sm_90a has, of
// f16, bf16 (f32 sums) and bytes without zero points (i32 sums).
//
// A block's warpgroups have 64 or 128 of the tile's rows each, and all of its
// columns. Panels of 128 bytes of the fold lie in a ring of stages in dynamic
// shared memory, as wgmma reads them (WarpGroup.h), where cp.async puts them in
// chunks of 16 bytes; zeros outside. In each step of the loop the panel that
// was waited for is multiplied, the panel before is let finish, and a copy
// takes the place of the one before that: it has been read by all warpgroups
// that came to this step's barrier.
#include "ContractionTile.h"
#include "MmaSync.h"
#include "WarpGroup.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

namespace {

/// A factor's part of a stage.
struct Panel {
  FactorCopy copy;
  ArrayRef<unsigned> axes;
  int64_t extent; ///< rows or columns of the tile
  Value first;    ///< the tile's first
  int64_t offset; ///< bytes from the start of a stage
  int64_t steps;  ///< of the fold

  Type type() const { return LoadOp(copy.load).getType(); }
  /// Elements of a chunk.
  int64_t chunk() const { return kChunkBytes / elementBytes(type()); }
  int64_t bytes() const { return extent * kSwizzleBytes; }
  /// MN-major: bytes from 64 rows of the matrix to the next.
  int64_t runBytes() const { return steps * kSwizzleBytes; }
  /// From one instruction's part of the fold to the next.
  int64_t advance() const {
    int64_t perProduct = kWarpGroupFoldBytes / elementBytes(type());
    return copy.transposed ? perProduct * kSwizzleBytes : kWarpGroupFoldBytes;
  }
};

class WarpGroupTile : ContractionTile {
public:
  WarpGroupTile(LaunchBuilder &launch, StageEmitter &emitter,
                const Contraction &c)
      : ContractionTile(launch, emitter, c) {}

  LogicalResult emit(StoreElements store);

private:
  Panel makePanel(bool isLeft, int64_t offset);
  void fill(const Panel &panel, Value stage, Value depthFirst);
  void fillStage(Value panelNumber);
  Value descriptor(const Panel &panel, Value stage, Value row);
  SmallVector<Value> multiplyStage(Value stage, ValueRange sums);
  Value placeOf(Value panelNumber);
  Value broadcast(Value index);

  Panel left, right;
  int64_t products; ///< of 64 rows, of a warpgroup
  int64_t stageBytes;
  Value words;  ///< all stages, memref of i32
  Value ownRow; ///< the first of the warpgroup in the tile
};

} // namespace

Panel WarpGroupTile::makePanel(bool isLeft, int64_t offset) {
  return {copyOf(c, isLeft),
          isLeft ? ArrayRef<unsigned>(c.rowAxes) : c.columnAxes,
          isLeft ? c.tileRows : c.tileColumns,
          isLeft ? firstRow : firstColumn,
          offset,
          c.panelSteps};
}

// Neighbour threads take neighbour chunks of the operand.
void WarpGroupTile::fill(const Panel &panel, Value stage, Value depthFirst) {
  constexpr int64_t chunksARow = kSwizzleBytes / kChunkBytes;
  bool transposed = panel.copy.transposed;
  Value inRow = index.constant(chunksARow);
  Value inner =
      transposed ? index.constant(panel.extent / panel.chunk()) : inRow;
  dealOut(panel.bytes() / kChunkBytes, [&](Value i) {
    // MN-major, rows are steps.
    Value row = index.div(i, inner), chunk = index.rem(i, inner);
    Value along = index.mul(chunk, panel.chunk());
    Value at = index.add(panel.first, transposed ? along : row);
    Value atDepth = index.add(depthFirst, transposed ? row : along);
    Value place = index.add(index.add(stage, panel.offset),
                            index.mul(row, kSwizzleBytes));
    if (transposed) {
      place = index.add(place,
                        index.mul(index.div(chunk, inRow), panel.runBytes()));
      chunk = index.rem(chunk, inRow);
    }
    Value moved = arith::XOrIOp::create(b, loc, chunk, index.rem(row, inRow));
    copyPart(panel.copy.contiguous, panel.axes, at, atDepth, words,
             index.add(place, index.mul(moved, kChunkBytes)), kChunkBytes);
  });
}

Value WarpGroupTile::placeOf(Value panelNumber) {
  return index.mul(index.rem(panelNumber, index.constant(c.stages)),
                   stageBytes);
}

// A panel behind the fold's end is zeros, which nobody reads.
void WarpGroupTile::fillStage(Value panelNumber) {
  Value depthFirst = index.mul(panelNumber, c.panelSteps);
  for (const Panel *panel : {&left, &right})
    fill(*panel, placeOf(panelNumber), depthFirst);
  NVVM::CpAsyncCommitGroupOp::create(b, loc);
}

/// Of the panel's rows from `row` on, a multiple of 64.
Value WarpGroupTile::descriptor(const Panel &panel, Value stage, Value row) {
  int64_t rowBytes =
      panel.copy.transposed ? panel.runBytes() / kWarpGroupRows : kSwizzleBytes;
  Value place =
      index.add(index.add(stage, panel.offset), index.mul(row, rowBytes));
  return matrixDescriptor(b, loc, pointerTo(b, loc, words, kSharedSpace, place),
                          panel.copy.transposed ? panel.runBytes() : 0);
}

SmallVector<Value> WarpGroupTile::multiplyStage(Value stage, ValueRange sums) {
  WarpGroupProduct product{left.type(), right.type(), c.tileColumns,
                           left.copy.transposed, right.copy.transposed};
  Value b0 = descriptor(right, stage, index.constant(0));
  SmallVector<Value> a0;
  for (int64_t i = 0; i < products; ++i)
    a0.push_back(
        descriptor(left, stage, index.add(ownRow, i * kWarpGroupRows)));
  SmallVector<Value> next(sums);
  const int64_t count = c.tileColumns / 2;
  fenceWarpGroup(b, loc);
  for (int64_t step = 0; step < kSwizzleBytes / kWarpGroupFoldBytes; ++step)
    for (int64_t i = 0; i < products; ++i) {
      auto part = MutableArrayRef<Value>(next).slice(i * count, count);
      llvm::copy(multiplyWarpGroup(
                     b, loc, product,
                     advanceDescriptor(b, loc, a0[i], step * left.advance()),
                     advanceDescriptor(b, loc, b0, step * right.advance()),
                     part),
                 part.begin());
    }
  commitWarpGroup(b, loc);
  return next;
}

/// The same in all lanes, which the assembler does not see.
Value WarpGroupTile::broadcast(Value value) {
  Value narrow = arith::IndexCastOp::create(b, loc, b.getI32Type(), value);
  Value same = NVVM::ShflOp::create(b, loc, b.getI32Type(), word(-1), narrow,
                                    word(0), word(kWarpThreads - 1),
                                    NVVM::ShflKind::idx, UnitAttr());
  return arith::IndexCastUIOp::create(b, loc, b.getIndexType(), same);
}

LogicalResult WarpGroupTile::emit(StoreElements store) {
  begin();
  left = makePanel(/*isLeft=*/true, 0);
  right = makePanel(/*isLeft=*/false, left.bytes());
  stageBytes = left.bytes() + right.bytes();
  const int64_t rows = c.tileRows / (c.threads / kWarpGroupThreads);
  products = rows / kWarpGroupRows;
  words = launch.dynamicShared(b.getI32Type(), kSwizzleAlignment);
  Value group = index.div(launch.thread(), index.constant(kWarpGroupThreads));
  ownRow = index.mul(broadcast(group), rows);

  Value perPanel = index.constant(c.panelSteps);
  Value firstPanel = index.div(firstStep, perPanel);
  // One stage is read, one was; the others are ahead.
  const int64_t ahead = c.stages - 2;
  for (int64_t i = 0; i < ahead; ++i)
    fillStage(index.add(firstPanel, i));
  SmallVector<Value> zeros(products * c.tileColumns / 2, sumStart());
  SmallVector<Value> sums = launch.loop(
      firstPanel, index.ceilDiv(depth, perPanel), index.constant(1), zeros,
      [&](Value i, ValueRange carried) {
        NVVM::CpAsyncWaitGroupOp::create(b, loc,
                                         static_cast<uint32_t>(ahead - 1));
        fenceAsyncProxy(b, loc);
        launch.barrier();
        // The product before keeps the tensor cores busy while copies start.
        fillStage(index.add(i, ahead));
        SmallVector<Value> next = multiplyStage(placeOf(i), carried);
        return waitForWarpGroup(b, loc, 1, next);
      });
  sums = waitForWarpGroup(b, loc, 0, sums);
  if (failedInside)
    return failure();

  // The sums take the panels' place.
  NVVM::CpAsyncWaitGroupOp::create(b, loc, 0u);
  launch.barrier();
  Value lane = index.rem(launch.thread(), index.constant(kWarpThreads));
  Value warp = index.div(launch.thread(), index.constant(kWarpThreads));
  Value warpRow = index.add(
      index.mul(group, rows),
      index.mul(index.rem(warp, index.constant(4)), kWarpGroupRows / 4));
  Value row = index.add(warpRow, index.div(lane, index.constant(4)));
  Value column = index.mul(index.rem(lane, index.constant(4)), 2);
  auto scatter = [&](Value, StoreSum put) {
    for (int64_t i = 0; i < static_cast<int64_t>(sums.size()); ++i) {
      int64_t product = i / (c.tileColumns / 2), at = i % (c.tileColumns / 2);
      put(index.add(row, product * kWarpGroupRows + at / 2 % 2 * 8),
          index.add(column, at / 4 * 8 + at % 2), sums[i]);
    }
  };
  storeTile(words, c.tileRows, scatter, store);
  return success(!failedInside);
}

LogicalResult dlc::emitWarpGroupTile(LaunchBuilder &launch,
                                     StageEmitter &emitter,
                                     const Contraction &contraction,
                                     StoreElements store) {
  return WarpGroupTile(launch, emitter, contraction).emit(store);
}
