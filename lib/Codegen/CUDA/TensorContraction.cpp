// The tiled matrix product on tensor cores: mma.sync, which every GPU since
// sm_80 has, of f16, bf16, f32 as tf32 (f32 sums) and bytes (i32 sums).
//
// Panels of 64 bytes of the fold go through a ring of stages in shared memory:
// while one is multiplied, the next ones are on their way (cp.async, where a
// factor is nothing but 16 contiguous bytes, or words of f32; else by way of
// registers, zeros outside and conversions included). ldmatrix hands them to
// the warps.
//
// A thread that fills a panel with loads that are not contiguous stays at its
// elements; the places of the steps come from a table in shared memory
// (PlaceParts.h). What goes by registers is stored when the panel before has
// been multiplied.
//
// A row of a panel is 64 bytes along the fold in four chunks: so fragments of
// all types want it. 16-bit elements may also lie as their operand does, a step
// of the fold in a row of `extent` elements, which ldmatrix transposes. Chunks
// change places with the row's number (xor), so that the eight rows of a matrix
// lie in different banks.
//
// Bytes are multiplied as they lie. What their zero points add to a sum follows
// from the sums of the factors' rows, which are added up on the way:
//   sum (a - x)(b - y) = sum a b - x sum b - y sum a + depth x y.
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

/// Chunks of a panel's row along the fold that one instruction takes.
constexpr int64_t kStepChunks = 2;
/// Of one instruction.
constexpr int64_t kRows = 16, kColumns = 8;
constexpr int64_t kWordBytes = 4;

/// A factor's part of a stage.
struct Panel {
  Value factor;
  ArrayRef<unsigned> axes;
  int64_t extent;   ///< rows or columns of the tile
  Value first;      ///< the tile's first
  int64_t offset;   ///< bytes from the start of a stage
  int64_t rowBytes; ///< along the fold
  FactorCopy copy;
  std::optional<PlaceParts> parts = {};
  Value table = {}; ///< of the steps of two panels, memref of i32
  SmallVector<PlacePart> own = {}; ///< of the elements of the thread's chunks

  Type type() const { return factor.getType(); }
  int64_t elementBytes() const { return graph::elementBytes(type()); }
  /// Elements of a chunk.
  int64_t chunk() const { return kChunkBytes / elementBytes(); }
  bool isAsync() const { return copy.isAsync(); }
  int64_t bytes() const { return extent * rowBytes; }
  int64_t chunksARow() const {
    return copy.transposed ? extent / chunk() : rowBytes / kChunkBytes;
  }
};

class TensorTile : ContractionTile {
public:
  TensorTile(LaunchBuilder &launch, StageEmitter &emitter, const Contraction &c)
      : ContractionTile(launch, emitter, c) {}

  LogicalResult emit(StoreElements store);

private:
  Panel makePanel(Value factor, ArrayRef<unsigned> axes, int64_t extent,
                  Value first, int64_t offset, bool isLeft);
  Value bits(Value factor, ArrayRef<unsigned> axes, Value at, Value atDepth);
  Value chunkPlace(const Panel &panel, Value row, Value chunk);
  using Stores = SmallVector<std::pair<Value, Value>>;
  Value loadChunk(const Panel &panel, Value at, Value atDepth);
  Value packChunk(const Panel &panel,
                  llvm::function_ref<Value(int64_t)> bitsOf);
  void makeTables();
  void fillStepTables(Value panelNumber);
  Value loadAt(const Panel &panel, PlacePart own, PlacePart step);
  void gather(const Panel &panel, Value stage, Value panelNumber,
              Stores &stores);
  void storeChunks(const Stores &stores);
  std::pair<Value, Value> ownPlace(const Panel &panel);
  void fill(const Panel &panel, Value stage, Value depthFirst);
  void fillStage(Value panelNumber, Stores &stores);
  SmallVector<Value> matrices(const Panel &panel, Value stage, Value row,
                              Value chunk);
  SmallVector<Value> loadLeft(Value stage, int64_t step, int64_t tile);
  SmallVector<Value> loadRight(Value stage, int64_t step, int64_t tile);
  SmallVector<Value> multiplyStage(Value stage, ValueRange sums);
  void storeFactorSums(ValueRange sums, Value place);
  Value shiftSum(Value place, Value row, Value column, ValueRange point,
                 Value sum);
  int64_t numSums() const { return warpTileRows * warpTileColumns * 4; }
  /// Sums of the left factor's rows of a thread, and of the right one's.
  int64_t numLeftSums() const { return c.zeroRight ? 2 * warpTileRows : 0; }
  int64_t numRightSums() const { return c.zeroLeft ? warpTileColumns : 0; }
  bool isShifted() const { return c.zeroLeft || c.zeroRight; }
  Value bitXor(Value x, Value y) { return arith::XOrIOp::create(b, loc, x, y); }
  Value pointerTo(Value memory, unsigned space, Value byte) {
    return dlc::pointerTo(b, loc, memory, space, byte);
  }

  int64_t warpTileRows, warpTileColumns; ///< products of a warp
  int64_t stageBytes;
  Panel left, right;
  Value words; ///< all stages, memref of i32
  Value warp, lane;
  Value warpRow, warpColumn; ///< first row and column of the warp in the tile
};

} // namespace

//===----------------------------------------------------------------------===//
// Filling
//===----------------------------------------------------------------------===//

Panel TensorTile::makePanel(Value factor, ArrayRef<unsigned> axes,
                            int64_t extent, Value first, int64_t offset,
                            bool isLeft) {
  return {
      factor,           axes,
      extent,           first,
      offset,           c.panelSteps * graph::elementBytes(factor.getType()),
      copyOf(c, isLeft)};
}

// The factor's bits at a place, zero outside, as i32.
Value TensorTile::bits(Value factor, ArrayRef<unsigned> axes, Value at,
                       Value atDepth) {
  Type word = b.getI32Type();
  auto choice =
      scf::IfOp::create(b, loc, TypeRange{word}, isInside(axes, at, atDepth),
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
    Type type = result.getType();
    if (!type.isInteger())
      result = arith::BitcastOp::create(
          b, loc, b.getIntegerType(type.getIntOrFloatBitWidth()), result);
    if (result.getType() != word)
      result = arith::ExtUIOp::create(b, loc, word, result);
  } else {
    result = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(0));
  }
  scf::YieldOp::create(b, loc, result);
  return choice.getResult(0);
}

/// Byte of a chunk in its panel.
Value TensorTile::chunkPlace(const Panel &panel, Value row, Value chunk) {
  // Rows of eight chunks begin in the same bank, those of four every other one.
  int64_t chunks = panel.chunksARow();
  Value moved = chunks >= 8 ? index.rem(row, index.constant(8))
                            : index.rem(index.div(row, index.constant(2)),
                                        index.constant(chunks));
  int64_t pitch = chunks * kChunkBytes;
  return index.add(index.mul(row, pitch),
                   index.mul(bitXor(chunk, moved), kChunkBytes));
}

/// A chunk of the factor's elements, whose bits `bitsOf` gives as i32.
Value TensorTile::packChunk(const Panel &panel,
                            llvm::function_ref<Value(int64_t)> bitsOf) {
  int64_t inWord = kWordBytes / panel.elementBytes();
  Type word = b.getI32Type();
  SmallVector<Value> all;
  for (int64_t first = 0; first < panel.chunk(); first += inWord) {
    Value whole;
    for (int64_t i = first; i < first + inWord; ++i) {
      Value part = bitsOf(i);
      if (int64_t shift = 8 * panel.elementBytes() * (i - first)) {
        Value by = arith::ConstantIntOp::create(b, loc, word, shift);
        part = arith::ShLIOp::create(b, loc, part, by);
      }
      whole = whole ? arith::OrIOp::create(b, loc, whole, part) : part;
    }
    all.push_back(whole);
  }
  auto type = VectorType::get({static_cast<int64_t>(all.size())}, word);
  Value vector = LLVM::PoisonOp::create(b, loc, type);
  for (auto [i, value] : llvm::enumerate(all))
    vector = LLVM::InsertElementOp::create(
        b, loc, vector, value, arith::ConstantIntOp::create(b, loc, word, i));
  return vector;
}

Value TensorTile::loadChunk(const Panel &panel, Value at, Value atDepth) {
  return packChunk(panel, [&](int64_t i) {
    return bits(panel.factor, panel.axes,
                panel.copy.transposed ? index.add(at, i) : at,
                panel.copy.transposed ? atDepth : index.add(atDepth, i));
  });
}

// One store of a whole chunk: chunks of neighbour rows are in different banks.
void TensorTile::storeChunks(const Stores &stores) {
  for (auto [vector, pointer] : stores)
    LLVM::StoreOp::create(b, loc, vector, pointer, kChunkBytes);
}

/// Step and element of the first that the running thread gathers.
std::pair<Value, Value> TensorTile::ownPlace(const Panel &panel) {
  bool transposed = panel.copy.transposed;
  Value inner = index.constant(transposed ? panel.chunksARow() : panel.extent);
  Value quick = index.rem(launch.thread(), inner),
        slow = index.div(launch.thread(), inner);
  return transposed ? std::pair(slow, index.mul(quick, panel.chunk()))
                    : std::pair(index.mul(slow, panel.chunk()), quick);
}

void TensorTile::makeTables() {
  for (Panel *panel : {&left, &right}) {
    if (!panel->parts)
      continue;
    panel->table = makeTable(panel == &left);
    Value element = index.add(panel->first, ownPlace(*panel).second);
    for (int64_t i = 0; i < (panel->copy.transposed ? panel->chunk() : 1); ++i)
      panel->own.push_back(
          elementPart(*panel->parts, panel->axes, index.add(element, i)));
  }
}

void TensorTile::fillStepTables(Value panelNumber) {
  SmallVector<StepTable> tables;
  for (const Panel *panel : {&left, &right})
    if (panel->parts)
      tables.push_back({&*panel->parts, panel->table});
  ContractionTile::fillStepTables(tables, panelNumber);
}

/// The operand's bits at both parts, as i32, zero where it may not be read.
Value TensorTile::loadAt(const Panel &panel, PlacePart own, PlacePart step) {
  Type half = b.getIntegerType(8 * static_cast<unsigned>(panel.elementBytes()));
  Value from = behind(addressOf(*panel.parts, own.offset), half, step.offset);
  auto choice = scf::IfOp::create(b, loc, TypeRange{half}, mayRead(own, step),
                                  /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(choice.elseBlock());
  Value zero = arith::ConstantIntOp::create(b, loc, half, 0);
  scf::YieldOp::create(b, loc, zero);
  b.setInsertionPointToStart(choice.thenBlock());
  Value loaded = LLVM::LoadOp::create(
      b, loc, half, from, static_cast<unsigned>(panel.elementBytes()));
  scf::YieldOp::create(b, loc, loaded);
  b.setInsertionPointAfter(choice);
  return arith::ExtUIOp::create(b, loc, b.getI32Type(), choice.getResult(0));
}

void TensorTile::gather(const Panel &panel, Value stage, Value panelNumber,
                        Stores &stores) {
  auto [step, element] = ownPlace(panel);
  bool transposed = panel.copy.transposed;
  int64_t chunks = panel.bytes() / kChunkBytes / c.threads;
  // From one chunk of the thread to the next, in steps.
  int64_t advance = transposed ? c.threads / panel.chunksARow()
                               : c.threads / panel.extent * panel.chunk();
  Value entries = pointerTo(
      panel.table, kSharedSpace,
      index.mul(index.add(firstEntry(panelNumber), step), kPlaceBytes));
  // Reads of the table stand before the copies, between which ptxas waits.
  SmallVector<SmallVector<PlacePart>> steps(chunks);
  for (int64_t i = 0; i < chunks; ++i)
    for (int64_t k = 0; k < (transposed ? 1 : panel.chunk()); ++k)
      steps[i].push_back(
          loadPart(behind(entries, (i * advance + k) * kPlaceBytes)));
  for (int64_t i = 0; i < chunks; ++i) {
    Value at = index.add(step, i * advance);
    Value chunk = index.constant(panel.chunk());
    Value place = index.add(
        index.add(stage, panel.offset),
        transposed ? chunkPlace(panel, at, index.div(element, chunk))
                   : chunkPlace(panel, element, index.div(at, chunk)));
    auto partsAt = [&](int64_t k) {
      return transposed ? std::pair(panel.own[k], steps[i][0])
                        : std::pair(panel.own[0], steps[i][k]);
    };
    Value to = pointerTo(words, kSharedSpace, place);
    if (!panel.copy.word) {
      stores.push_back({packChunk(panel,
                                  [&](int64_t k) {
                                    auto [own, other] = partsAt(k);
                                    return loadAt(panel, own, other);
                                  }),
                        to});
      continue;
    }
    for (int64_t k = 0; k < panel.chunk(); ++k) {
      auto [own, other] = partsAt(k);
      Value from = behind(addressOf(*panel.parts, own.offset), b.getF32Type(),
                          other.offset);
      copyAsync(b, loc, behind(to, k * kWordBytes), from, mayRead(own, other),
                kWordBytes);
    }
  }
}

// Neighbour threads take neighbour chunks of the operand, or, where the fold is
// not innermost in it but in the panel, neighbour elements.
void TensorTile::fill(const Panel &panel, Value stage, Value depthFirst) {
  bool turns = !panel.copy.alongFold && !panel.copy.transposed;
  Value inner = index.constant(turns ? panel.extent : panel.chunksARow());
  dealOut(panel.bytes() / kChunkBytes, [&](Value i) {
    Value row = index.div(i, inner), chunk = index.rem(i, inner);
    if (turns)
      std::swap(row, chunk);
    Value along = index.mul(chunk, panel.chunk());
    Value at = index.add(panel.first, panel.copy.transposed ? along : row);
    Value atDepth = index.add(depthFirst, panel.copy.transposed ? row : along);
    Value place = index.add(index.add(stage, panel.offset),
                            chunkPlace(panel, row, chunk));
    if (panel.copy.contiguous) {
      copyPart(panel.copy.contiguous, panel.axes, at, atDepth, words, place,
               kChunkBytes);
    } else if (panel.copy.word) {
      for (int64_t k = 0; k < panel.chunk(); ++k)
        copyPart(panel.copy.word, panel.axes, at, index.add(atDepth, k), words,
                 index.add(place, k * kWordBytes), kWordBytes);
    } else {
      storeChunks({{loadChunk(panel, at, atDepth),
                    pointerTo(words, kSharedSpace, place)}});
    }
  });
}

// A panel behind the fold's end is zeros, which nobody reads. What is left to
// store is added to `stores`.
void TensorTile::fillStage(Value panelNumber, Stores &stores) {
  Value place =
      index.mul(index.rem(panelNumber, index.constant(c.stages)), stageBytes);
  Value depthFirst = index.mul(panelNumber, c.panelSteps);
  for (const Panel *panel : {&left, &right})
    if (panel->parts)
      gather(*panel, place, panelNumber, stores);
    else
      fill(*panel, place, depthFirst);
  if (left.isAsync() || right.isAsync())
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
  SmallVector<Value> loaded =
      loadMatrices(b, loc, pointerTo(words, kSharedSpace, place),
                   /*transposes=*/panel.copy.transposed);
  if (panel.type().isF32())
    for (Value &word : loaded)
      word = toTf32(b, loc, word);
  return loaded;
}

// Matrices in the order of A's registers: rows 0-7 and 8-15 of the first eight
// steps, then of the others.
SmallVector<Value> TensorTile::loadLeft(Value stage, int64_t step,
                                        int64_t tile) {
  Value in16 = index.rem(lane, index.constant(16));
  Value upper = index.div(lane, index.constant(16));
  Value first = index.add(warpRow, tile * kRows);
  if (!left.copy.transposed)
    return matrices(left, stage, index.add(first, in16),
                    index.add(upper, step * kStepChunks));
  Value in8 = index.rem(lane, index.constant(8));
  Value second =
      index.rem(index.div(lane, index.constant(8)), index.constant(2));
  return matrices(left, stage,
                  index.add(index.add(in8, index.mul(upper, 8)), step * 16),
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
  if (!right.copy.transposed)
    return matrices(
        right, stage,
        index.add(index.add(first, in8), index.mul(upper, kColumns)),
        index.add(second, step * kStepChunks));
  return matrices(right, stage,
                  index.add(index.add(in8, index.mul(second, 8)), step * 16),
                  index.add(index.div(first, index.constant(kChunk)), upper));
}

SmallVector<Value> TensorTile::multiplyStage(Value stage, ValueRange sums) {
  SmallVector<Value> next(sums);
  MutableArrayRef<Value> factorSums =
      MutableArrayRef<Value>(next).drop_front(numSums());
  for (int64_t step = 0; step < left.rowBytes / kChunkBytes / kStepChunks;
       ++step) {
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
        llvm::copy(multiplyMatrices(b, loc, left.type(), right.type(), a[i],
                                    ValueRange(pairs).slice(2 * j, 2), part),
                   part.begin());
      }
    // Words 0 and 2 of A are of one row, 1 and 3 of another.
    for (int64_t i = 0; i < numLeftSums() * 2; ++i) {
      Value &sum = factorSums[i / 4 * 2 + i % 2];
      sum = addBytes(b, loc, a[i / 4][i % 4], left.type().isUnsignedInteger(),
                     sum);
    }
    for (int64_t i = 0; i < numRightSums() * 2; ++i) {
      Value &sum = factorSums[numLeftSums() + i / 2];
      sum = addBytes(b, loc, pairs[i], right.type().isUnsignedInteger(), sum);
    }
  }
  return next;
}

//===----------------------------------------------------------------------===//
// Zero points
//===----------------------------------------------------------------------===//

/// Stores the sums of the factors' rows behind byte `place`: those of the left
/// one, then those of the right one. The four lanes of a group have a part
/// each; warps next to each other have the same rows.
void TensorTile::storeFactorSums(ValueRange sums, Value place) {
  auto whole = [&](Value sum) {
    for (unsigned offset : {1u, 2u})
      sum = arith::AddIOp::create(b, loc, sum, launch.shuffleXor(sum, offset));
    return sum;
  };
  SmallVector<Value> all = llvm::map_to_vector(sums, whole);
  Value first = index.div(place, index.constant(kWordBytes));
  Value group = index.div(lane, index.constant(4));
  Value isLeader =
      index.less(index.rem(lane, index.constant(4)), index.constant(1));
  auto onlyIfFirst = [&](Value number, llvm::function_ref<void()> body) {
    Value isFirst = index.less(number, index.constant(1));
    launch.onlyIf(arith::AndIOp::create(b, loc, isLeader, isFirst), body);
  };
  Value warpColumns = index.constant(c.warpColumns);
  onlyIfFirst(index.rem(warp, warpColumns), [&] {
    for (int64_t i = 0; i < numLeftSums(); ++i)
      memref::StoreOp::create(
          b, loc, all[i], words,
          index.add(index.add(first, index.add(warpRow, group)), i * 8));
  });
  onlyIfFirst(index.div(warp, warpColumns), [&] {
    for (int64_t j = 0; j < numRightSums(); ++j)
      memref::StoreOp::create(
          b, loc, all[numLeftSums() + j], words,
          index.add(index.add(first, index.add(warpColumn, group)),
                    c.tileRows + j * kColumns));
  });
}

Value TensorTile::shiftSum(Value place, Value row, Value column,
                           ValueRange point, Value sum) {
  Value first = index.div(place, index.constant(kWordBytes));
  SmallVector<Value> coordinates(point);
  coordinates.append(stage.getReduceRank(), index.constant(0));
  auto zeroOf = [&](Value scalar) -> Value {
    FailureOr<Scalar> value = emitter.scalar(stage, coordinates, scalar);
    failedInside |= failed(value);
    return succeeded(value) ? value->value : sum;
  };
  auto take = [&](Value zero, Value at) {
    Value other = memref::LoadOp::create(b, loc, words, index.add(first, at));
    sum = arith::SubIOp::create(b, loc, sum,
                                arith::MulIOp::create(b, loc, zero, other));
  };
  Value x = c.zeroLeft ? zeroOf(c.zeroLeft) : Value(),
        y = c.zeroRight ? zeroOf(c.zeroRight) : Value();
  if (x)
    take(x, index.add(column, c.tileRows));
  if (y)
    take(y, row);
  if (x && y) {
    Value steps = arith::IndexCastOp::create(b, loc, b.getI32Type(),
                                             index.sub(depth, firstStep));
    Value both = arith::MulIOp::create(b, loc, x, y);
    sum = arith::AddIOp::create(b, loc, sum,
                                arith::MulIOp::create(b, loc, both, steps));
  }
  return sum;
}

//===----------------------------------------------------------------------===//
// The tile
//===----------------------------------------------------------------------===//

LogicalResult TensorTile::emit(StoreElements store) {
  begin();
  const int64_t warps = c.threads / kWarpThreads;
  warpTileRows = c.tileRows / (kRows * (warps / c.warpColumns));
  warpTileColumns = c.tileColumns / (kColumns * c.warpColumns);
  left = makePanel(c.narrowLeft, c.rowAxes, c.tileRows, firstRow, 0,
                   /*isLeft=*/true);
  right = makePanel(c.narrowRight, c.columnAxes, c.tileColumns, firstColumn,
                    left.bytes(), /*isLeft=*/false);
  stageBytes = left.bytes() + right.bytes();
  bool isAsync = left.isAsync() || right.isAsync();
  const int64_t rowsAPass = dlc::rowsAPass(c);
  words = launch.shared(b.getI32Type(), sharedBytes(c) / kWordBytes);

  lane = index.rem(launch.thread(), index.constant(kWarpThreads));
  warp = index.div(launch.thread(), index.constant(kWarpThreads));
  warpRow = index.mul(index.div(warp, index.constant(c.warpColumns)),
                      kRows * warpTileRows);
  warpColumn = index.mul(index.rem(warp, index.constant(c.warpColumns)),
                         kColumns * warpTileColumns);

  Value perPanel = index.constant(c.panelSteps);
  Value firstPanel = index.div(firstStep, perPanel);
  left.parts = partsOf(c, /*isLeft=*/true);
  right.parts = partsOf(c, /*isLeft=*/false);
  makeTables();
  for (int64_t i = 0; i + 1 < c.stages; ++i) {
    Value panel = index.add(firstPanel, i);
    fillStepTables(panel);
    if (left.parts || right.parts)
      launch.barrier();
    Stores stores;
    fillStage(panel, stores);
    storeChunks(stores);
  }
  fillStepTables(index.add(firstPanel, c.stages - 1));
  SmallVector<Value> zeros(numSums(), sumStart());
  if (isShifted())
    zeros.append(numLeftSums() + numRightSums(),
                 arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(0)));
  SmallVector<Value> sums = launch.loop(
      firstPanel, index.ceilDiv(depth, perPanel), index.constant(1), zeros,
      [&](Value i, ValueRange carried) {
        // This panel is there, for all threads, and the one that
        // was in the place of the next has been read.
        if (isAsync)
          NVVM::CpAsyncWaitGroupOp::create(b, loc,
                                           static_cast<uint32_t>(c.stages - 2));
        launch.barrier();
        Value ahead = index.add(i, c.stages - 1);
        Stores stores;
        fillStage(ahead, stores);
        fillStepTables(index.add(ahead, 1));
        Value place =
            index.mul(index.rem(i, index.constant(c.stages)), stageBytes);
        SmallVector<Value> next = multiplyStage(place, carried);
        storeChunks(stores);
        return next;
      });
  if (failedInside)
    return failure();

  // The sums take the panels' place.
  if (isAsync)
    NVVM::CpAsyncWaitGroupOp::create(b, loc, 0u);
  launch.barrier();
  Value factorSums = index.constant(tileWords(rowsAPass) * kWordBytes);
  if (isShifted())
    storeFactorSums(ValueRange(sums).drop_front(numSums()), factorSums);
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
  auto shift = [&](Value row, Value column, ValueRange point, Value sum) {
    return shiftSum(factorSums, row, column, point, sum);
  };
  if (isShifted())
    storeTile(words, rowsAPass, scatter, store, shift);
  else
    storeTile(words, rowsAPass, scatter, store);
  return success(!failedInside);
}

LogicalResult dlc::emitTensorTile(LaunchBuilder &launch, StageEmitter &emitter,
                                  const Contraction &contraction,
                                  StoreElements store) {
  return TensorTile(launch, emitter, contraction).emit(store);
}
