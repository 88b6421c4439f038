// The tiled matrix product on tensor cores: mma.sync.m16n8k16 of f16 or bf16
// with f32 sums, which every GPU since sm_80 has.
//
// Panels of 32 steps of the fold go through a ring of stages in shared memory:
// while one is multiplied, the next ones are on their way (cp.async, where a
// factor is nothing but 16 contiguous bytes; else by way of registers, zeros
// outside and conversions included). ldmatrix hands them to the warps.
//
// A panel lies as its operand does. With the fold innermost a row is 64 bytes
// in four chunks, else a step of the fold is a row of `extent` elements, which
// ldmatrix transposes. Chunks change places with the row's number (xor), so
// that the eight rows of a matrix lie in different banks.
//
// Fragments are laid out as in the PTX ISA; lib/Emulator/TensorCore.cpp names
// the sections.
#include "ContractionTile.h"
#include "MmaSync.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

namespace {

/// Steps of the fold in a panel, and of one instruction.
constexpr int64_t kDepth = 32, kStep = 16;
/// Of one instruction.
constexpr int64_t kRows = 16, kColumns = 8;
/// Warps next to each other along a tile's columns.
constexpr int64_t kWarpColumns = 4;
constexpr int64_t kWordBytes = 4;

/// A factor's part of a stage.
struct Panel {
  Value factor;
  ArrayRef<unsigned> axes;
  int64_t extent;    ///< rows or columns of the tile
  Value first;       ///< the tile's first
  int64_t offset;    ///< bytes from the start of a stage
  bool alongFold;    ///< the fold is innermost
  LoadOp contiguous; ///< what cp.async reads; null: it cannot

  int64_t bytes() const { return extent * kDepth * 2; }
  int64_t chunksARow() const { return (alongFold ? kDepth : extent) / kChunk; }
};

class TensorTile : ContractionTile {
public:
  TensorTile(LaunchBuilder &launch, StageEmitter &emitter, const Contraction &c)
      : ContractionTile(launch, emitter, c) {}

  LogicalResult emit(llvm::function_ref<void(Scalar, ValueRange)> store);

private:
  Panel makePanel(Value factor, ArrayRef<unsigned> axes, int64_t extent,
                  Value first, int64_t offset);
  Value bits(Value factor, ArrayRef<unsigned> axes, Value at, Value atDepth);
  Value chunkPlace(const Panel &panel, Value row, Value chunk);
  void copyChunk(const Panel &panel, Value at, Value atDepth, Value place);
  void loadChunk(const Panel &panel, Value at, Value atDepth, Value place);
  void fill(const Panel &panel, Value stage, Value depthFirst);
  void fillStage(Value panelNumber);
  SmallVector<Value> matrices(const Panel &panel, Value stage, Value row,
                              Value chunk);
  SmallVector<Value> loadLeft(Value stage, int64_t step, int64_t tile);
  SmallVector<Value> loadRight(Value stage, int64_t step, int64_t tile);
  SmallVector<Value> multiplyStage(Value stage, ValueRange sums);
  Value bitXor(Value x, Value y) { return arith::XOrIOp::create(b, loc, x, y); }
  Value pointerTo(Value memory, unsigned space, Value byte) {
    return dlc::pointerTo(b, loc, memory, space, byte);
  }

  int64_t warpTileRows, warpTileColumns; ///< products of a warp
  int64_t numStages, stageBytes;
  Panel left, right;
  Value words; ///< all stages, memref of i32
  Value lane;
  Value warpRow, warpColumn; ///< first row and column of the warp in the tile
};

} // namespace

//===----------------------------------------------------------------------===//
// Filling
//===----------------------------------------------------------------------===//

/// The load that the factor is, where chunks along `axis` (an argument of the
/// stage's block) of extent `extent` are contiguous, aligned and wholly inside
/// or wholly outside; null where they need not be.
static LoadOp contiguousChunks(StageOp stage, Value factor, unsigned axis,
                               AffineExpr extent) {
  auto load = factor.getDefiningOp<LoadOp>();
  if (!load || load.getMap().getNumResults() == 0)
    return {};
  if (Value other = load.getOther()) {
    auto literal = other.getDefiningOp<LiteralOp>();
    auto zero = literal ? dyn_cast<FloatAttr>(literal.getValue()) : FloatAttr();
    if (!zero || !zero.getValue().isPosZero())
      return {};
  }
  unsigned last = load.getMap().getNumResults() - 1;
  auto isMultiple = [](AffineExpr size) {
    auto value = constantValue(size);
    return value && *value % kChunk == 0;
  };
  if (!isMultiple(extent) ||
      !isMultiple(getDims(load.getTensor().getType())[last]))
    return {};
  std::optional<unsigned> position;
  for (auto [i, coordinate] : llvm::enumerate(load.getCoords())) {
    auto argument = dyn_cast<BlockArgument>(coordinate);
    if (!argument || argument.getOwner() != stage.getBlock())
      return {};
    if (argument.getArgNumber() != axis)
      continue;
    if (position)
      return {};
    position = i;
  }
  if (!position || load.getMap().getResult(last) !=
                       getAffineDimExpr(*position, stage.getContext()))
    return {};
  for (unsigned i = 0; i < last; ++i)
    if (load.getMap().getResult(i).isFunctionOfDim(*position))
      return {};
  if (load.getGuard())
    for (AffineExpr constraint : load.getGuard()->getConstraints())
      if (constraint.isFunctionOfDim(*position))
        return {};
  return load;
}

Panel TensorTile::makePanel(Value factor, ArrayRef<unsigned> axes,
                            int64_t extent, Value first, int64_t offset) {
  Panel panel{factor, axes, extent, first, offset, false, {}};
  panel.alongFold = liesAlongFold(stage, factor);
  unsigned axis =
      panel.alongFold ? stage.getBlock()->getNumArguments() - 1 : axes.back();
  AffineExpr size = panel.alongFold ? stage.getReduceDims().back()
                                    : stage.getDomainDims()[axis];
  panel.contiguous = contiguousChunks(stage, factor, axis, size);
  return panel;
}

// The factor's bits at a place, zero outside, as i32.
Value TensorTile::bits(Value factor, ArrayRef<unsigned> axes, Value at,
                       Value atDepth) {
  Type word = b.getI32Type();
  auto choice = scf::IfOp::create(b, loc, TypeRange{word},
                                  isInside(count(axes), at, atDepth),
                                  /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(choice.elseBlock());
  Value zero = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(0));
  scf::YieldOp::create(b, loc, zero);
  b.setInsertionPointToStart(choice.thenBlock());
  FailureOr<Scalar> value = factorAt(factor, axes, at, atDepth);
  Value result;
  if (succeeded(value)) {
    result = emitter.toStorage(*value);
    if (!result.getType().isInteger())
      result = arith::BitcastOp::create(b, loc, b.getI16Type(), result);
    result = arith::ExtUIOp::create(b, loc, word, result);
  } else {
    result = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(0));
  }
  scf::YieldOp::create(b, loc, result);
  return choice.getResult(0);
}

/// Byte of a chunk in its panel.
Value TensorTile::chunkPlace(const Panel &panel, Value row, Value chunk) {
  Value eight = index.constant(8);
  Value moved = panel.alongFold ? index.rem(index.div(row, index.constant(2)),
                                            index.constant(4))
                                : index.rem(row, eight);
  int64_t pitch = panel.chunksARow() * kChunkBytes;
  return index.add(index.mul(row, pitch),
                   index.mul(bitXor(chunk, moved), kChunkBytes));
}

void TensorTile::copyChunk(const Panel &panel, Value at, Value atDepth,
                           Value place) {
  LoadOp load = panel.contiguous;
  SmallVector<Value> coordinates = coordinatesAt(panel.axes, at, atDepth);
  SmallVector<Value> used;
  for (Value coordinate : load.getCoords())
    used.push_back(coordinates[cast<BlockArgument>(coordinate).getArgNumber()]);
  StageEmitter::LoadPlace from = emitter.placeOf(load, used);
  Value reads = isInside(count(panel.axes), at, atDepth);
  if (from.holds)
    reads = arith::AndIOp::create(b, loc, reads, from.holds);
  Value position =
      arith::SelectOp::create(b, loc, reads, from.position, index.constant(0));
  copyAsync(b, loc, pointerTo(words, kSharedSpace, place),
            pointerTo(from.memory, kGlobalSpace, index.mul(position, 2)),
            reads);
}

void TensorTile::loadChunk(const Panel &panel, Value at, Value atDepth,
                           Value place) {
  Value half = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(16));
  Value word = index.div(place, index.constant(kWordBytes));
  for (int64_t pair = 0; pair < kChunk / 2; ++pair) {
    auto element = [&](int64_t i) {
      return bits(panel.factor, panel.axes,
                  panel.alongFold ? at : index.add(at, i),
                  panel.alongFold ? index.add(atDepth, i) : atDepth);
    };
    Value low = element(2 * pair), high = element(2 * pair + 1);
    Value both = arith::OrIOp::create(
        b, loc, low, arith::ShLIOp::create(b, loc, high, half));
    memref::StoreOp::create(b, loc, both, words, index.add(word, pair));
  }
}

// Neighbour threads take neighbour chunks of the operand.
void TensorTile::fill(const Panel &panel, Value stage, Value depthFirst) {
  Value inner = index.constant(panel.chunksARow());
  int64_t chunks = panel.bytes() / kChunkBytes;
  for (int64_t begin = 0; begin < chunks; begin += kTileThreads) {
    Value i = index.add(launch.thread(), begin);
    Value row = index.div(i, inner), chunk = index.rem(i, inner);
    Value along = index.mul(chunk, kChunk);
    Value at = index.add(panel.first, panel.alongFold ? row : along);
    Value atDepth = index.add(depthFirst, panel.alongFold ? along : row);
    Value place = index.add(index.add(stage, panel.offset),
                            chunkPlace(panel, row, chunk));
    if (panel.contiguous)
      copyChunk(panel, at, atDepth, place);
    else
      loadChunk(panel, at, atDepth, place);
  }
}

// A panel behind the fold's end is zeros, which nobody reads.
void TensorTile::fillStage(Value panelNumber) {
  Value place =
      index.mul(index.rem(panelNumber, index.constant(numStages)), stageBytes);
  Value depthFirst = index.mul(panelNumber, kDepth);
  fill(left, place, depthFirst);
  fill(right, place, depthFirst);
  if (left.contiguous || right.contiguous)
    NVVM::CpAsyncCommitGroupOp::create(b, loc);
}

//===----------------------------------------------------------------------===//
// Multiplying
//===----------------------------------------------------------------------===//

/// Four 8 x 8 matrices; `row` and `chunk` are the lane's in the panel.
SmallVector<Value> TensorTile::matrices(const Panel &panel, Value stage,
                                        Value row, Value chunk) {
  Value place =
      index.add(index.add(stage, panel.offset), chunkPlace(panel, row, chunk));
  return loadMatrices(b, loc, pointerTo(words, kSharedSpace, place),
                      /*transposes=*/!panel.alongFold);
}

// Matrices in the order of A's registers: rows 0-7 and 8-15 of the first eight
// steps, then of the others.
SmallVector<Value> TensorTile::loadLeft(Value stage, int64_t step,
                                        int64_t tile) {
  Value in16 = index.rem(lane, index.constant(16));
  Value upper = index.div(lane, index.constant(16));
  Value first = index.add(warpRow, tile * kRows);
  if (left.alongFold)
    return matrices(left, stage, index.add(first, in16),
                    index.add(upper, step / kChunk));
  Value in8 = index.rem(lane, index.constant(8));
  Value second =
      index.rem(index.div(lane, index.constant(8)), index.constant(2));
  return matrices(left, stage,
                  index.add(index.add(in8, index.mul(upper, 8)), step),
                  index.add(index.div(first, index.constant(kChunk)), second));
}

// Two tiles next to each other: both registers of B of the first, then of the
// second.
SmallVector<Value> TensorTile::loadRight(Value stage, int64_t step,
                                         int64_t tile) {
  Value in8 = index.rem(lane, index.constant(8));
  Value upper = index.div(lane, index.constant(16));
  Value second =
      index.rem(index.div(lane, index.constant(8)), index.constant(2));
  Value first = index.add(warpColumn, tile * kColumns);
  if (right.alongFold)
    return matrices(
        right, stage,
        index.add(index.add(first, in8), index.mul(upper, kColumns)),
        index.add(second, step / kChunk));
  return matrices(right, stage,
                  index.add(index.add(in8, index.mul(second, 8)), step),
                  index.add(index.div(first, index.constant(kChunk)), upper));
}

SmallVector<Value> TensorTile::multiplyStage(Value stage, ValueRange sums) {
  SmallVector<Value> next(sums);
  for (int64_t step = 0; step < kDepth; step += kStep) {
    SmallVector<SmallVector<Value>> a;
    SmallVector<Value> pairs;
    for (int64_t i = 0; i < warpTileRows; ++i)
      a.push_back(loadLeft(stage, step, i));
    for (int64_t j = 0; j < warpTileColumns; j += 2)
      llvm::append_range(pairs, loadRight(stage, step, j));
    for (int64_t i = 0; i < warpTileRows; ++i)
      for (int64_t j = 0; j < warpTileColumns; ++j) {
        auto part = MutableArrayRef<Value>(next).slice(
            (i * warpTileColumns + j) * 4, 4);
        llvm::copy(multiplyMatrices(b, loc, c.narrowType, a[i],
                                    ValueRange(pairs).slice(2 * j, 2), part),
                   part.begin());
      }
  }
  return next;
}

LogicalResult
TensorTile::emit(llvm::function_ref<void(Scalar, ValueRange)> store) {
  begin();
  constexpr int64_t warps = kTileThreads / kWarpThreads;
  warpTileRows = c.tileRows / (kRows * (warps / kWarpColumns));
  warpTileColumns = c.tileColumns / (kColumns * kWarpColumns);
  left = makePanel(c.narrowLeft, c.rowAxes, c.tileRows, firstRow, 0);
  right = makePanel(c.narrowRight, c.columnAxes, c.tileColumns, firstColumn,
                    left.bytes());
  stageBytes = left.bytes() + right.bytes();
  // Static shared memory ends at 48 KiB.
  bool isAsync = left.contiguous || right.contiguous;
  constexpr int64_t most = 48 << 10;
  numStages = isAsync ? std::min<int64_t>(most / stageBytes, 4) : 2;
  int64_t rowsAPass = c.tileRows;
  while (tileWords(rowsAPass) * kWordBytes > most)
    rowsAPass /= 2;
  words = launch.shared(
      b.getI32Type(),
      std::max(numStages * stageBytes / kWordBytes, tileWords(rowsAPass)));

  lane = index.rem(launch.thread(), index.constant(kWarpThreads));
  Value warp = index.div(launch.thread(), index.constant(kWarpThreads));
  warpRow = index.mul(index.div(warp, index.constant(kWarpColumns)),
                      kRows * warpTileRows);
  warpColumn = index.mul(index.rem(warp, index.constant(kWarpColumns)),
                         kColumns * warpTileColumns);

  Value firstPanel = index.div(firstStep, index.constant(kDepth));
  for (int64_t i = 0; i + 1 < numStages; ++i)
    fillStage(index.add(firstPanel, i));
  SmallVector<Value> zeros(warpTileRows * warpTileColumns * 4, sumStart());
  SmallVector<Value> sums =
      launch.loop(firstPanel, index.ceilDiv(depth, index.constant(kDepth)),
                  index.constant(1), zeros, [&](Value i, ValueRange carried) {
                    // This panel is there, for all threads, and the one that
                    // was in the place of the next has been read.
                    if (isAsync)
                      NVVM::CpAsyncWaitGroupOp::create(
                          b, loc, static_cast<uint32_t>(numStages - 2));
                    launch.barrier();
                    fillStage(index.add(i, numStages - 1));
                    Value place = index.mul(
                        index.rem(i, index.constant(numStages)), stageBytes);
                    return multiplyStage(place, carried);
                  });
  if (failedInside)
    return failure();

  // The sums take the panels' place.
  if (isAsync)
    NVVM::CpAsyncWaitGroupOp::create(b, loc, 0u);
  launch.barrier();
  Value group = index.div(lane, index.constant(4));
  Value inGroup = index.rem(lane, index.constant(4));
  auto scatter = [&](Value firstOfPass, StoreSum put) {
    auto putAll = [&] {
      for (int64_t i = 0; i < warpTileRows; ++i)
        for (int64_t j = 0; j < warpTileColumns; ++j)
          for (int64_t part = 0; part < 4; ++part)
            put(index.add(index.add(warpRow, group),
                          i * kRows + (part >= 2 ? kRows / 2 : 0)),
                index.add(index.add(warpColumn, index.mul(inGroup, 2)),
                          j * kColumns + part % 2),
                sums[(i * warpTileColumns + j) * 4 + part]);
    };
    if (rowsAPass == c.tileRows)
      return putAll();
    Value end = index.add(firstOfPass, rowsAPass);
    launch.onlyIf(arith::AndIOp::create(b, loc, index.less(warpRow, end),
                                        index.atLeast(warpRow, firstOfPass)),
                  putAll);
  };
  storeTile(words, rowsAPass, scatter, store);
  return success();
}

LogicalResult
dlc::emitTensorTile(LaunchBuilder &launch, StageEmitter &emitter,
                    const Contraction &contraction,
                    llvm::function_ref<void(Scalar, ValueRange)> store) {
  return TensorTile(launch, emitter, contraction).emit(store);
}
