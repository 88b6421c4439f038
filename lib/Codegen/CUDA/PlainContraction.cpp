// The tiled matrix product on the plain f32 units. A factor is any expression,
// so that padding, strides and conversions of a convolution cost a guarded load
// here and no copy of the operand.
//
// Panels of both factors go through a ring of stages in shared memory, a step
// of the fold in a row: while one is multiplied, the next ones are on their way
// by cp.async (in chunks of 16 bytes where the operand lies so, else a word a
// time, which turns it), or wait in registers (what has to be computed).
//
// A thread that copies stays at its element or at its step of a panel. The
// other part of a place (PlaceParts.h) is evenly spaced, or comes from a table
// in shared memory: elements' are computed once, those of a panel's steps while
// the panel before it is copied.
//
// A thread has its rows and columns in fours, a quarter of a warp's reach
// apart, so that a warp of 4 x 8 threads reads 64 and 128 contiguous bytes a
// step: 8 x 8 sums take 4 reads of 16 bytes for 64 multiply-adds.
#include "ContractionTile.h"
#include "MmaSync.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

namespace {

constexpr int64_t kWordBytes = 4;
/// Elements of a read of shared memory.
constexpr int64_t kFour = 4;
/// Threads of a warp along rows and columns.
constexpr int64_t kLaneRows = 4, kLaneColumns = 8;
/// Multiply-adds of a loop's body, at most.
constexpr int64_t kMostUnrolled = 1024;

/// A factor's part of a stage: panel[step][element].
struct Panel {
  Value factor;
  ArrayRef<unsigned> axes;
  int64_t extent; ///< rows or columns of the tile
  Value first;    ///< the tile's first
  int64_t offset; ///< words from the start of a stage
  FactorCopy copy;
  std::optional<PlaceParts> parts = {};
  Value table = {};   ///< memref of i32
  PlacePart own = {}; ///< of the element that the thread stays at

  bool hasStepTable() const { return table && !copy.alongFold; }

  int64_t pitch() const { return extent + kPanelPadding; }
  /// Words of a copy.
  int64_t together() const { return copy.contiguous ? kFour : 1; }
};

class PlainTile : ContractionTile {
public:
  PlainTile(LaunchBuilder &launch, StageEmitter &emitter, const Contraction &c)
      : ContractionTile(launch, emitter, c), left{c.left,
                                                  c.rowAxes,
                                                  c.tileRows,
                                                  Value(),
                                                  0,
                                                  copyOf(c, /*isLeft=*/true),
                                                  partsOf(c, /*isLeft=*/true)},
        right{c.right,
              c.columnAxes,
              c.tileColumns,
              Value(),
              c.panelSteps * left.pitch(),
              copyOf(c, /*isLeft=*/false),
              partsOf(c, /*isLeft=*/false)} {}

  LogicalResult emit(StoreElements store);

private:
  using Elements = SmallVector<Value>;
  bool hasTables() const { return left.table || right.table; }
  void makeTables();
  void fillStepTables(Value panelNumber);
  std::pair<Value, Value> ownPlace(const Panel &panel);
  void copyParts(const Panel &panel, Value stage, Value panelNumber);
  void copyPanel(const Panel &panel, Value stage, Value panelNumber);
  Elements loadPanel(const Panel &panel, Value depthFirst);
  void storePanel(const Panel &panel, Value stage, ArrayRef<Value> elements);
  std::pair<Value, Value> placeIn(const Panel &panel, Value i);
  void startStage(Value panelNumber, Elements &left, Elements &right);
  void finishStage(Value panelNumber, ArrayRef<Value> left,
                   ArrayRef<Value> right);
  Value stageOf(Value panelNumber);
  Elements readFours(Value first, int64_t count, int64_t reach);
  SmallVector<Value> multiplyStage(Value stage, ValueRange sums);
  SmallVector<Value> foldStages();
  bool isAsync() const { return left.copy.isAsync() || right.copy.isAsync(); }

  Panel left, right;
  Value words; ///< all stages, memref of i32
  Value threadRow, threadColumn;
};

} // namespace

//===----------------------------------------------------------------------===//
// Filling
//===----------------------------------------------------------------------===//

/// First word of a panel's stage.
Value PlainTile::stageOf(Value panelNumber) {
  return index.mul(index.rem(panelNumber, index.constant(c.stages)),
                   c.panelSteps * (left.pitch() + right.pitch()));
}

/// Step and element of the i-th of a panel's elements: neighbour threads have
/// neighbour elements of the operand.
std::pair<Value, Value> PlainTile::placeIn(const Panel &panel, Value i) {
  Value inner =
      index.constant(panel.copy.alongFold ? c.panelSteps : panel.extent);
  Value slow = index.div(i, inner), quick = index.rem(i, inner);
  return panel.copy.alongFold ? std::pair(quick, slow) : std::pair(slow, quick);
}

/// Tables of elements, and the elements that the thread stays at. A barrier
/// comes before their first use.
void PlainTile::makeTables() {
  for (Panel *panel : {&left, &right}) {
    if (!panel->parts)
      continue;
    auto partAt = [&](Value i) {
      return elementPart(*panel->parts, panel->axes,
                         index.add(panel->first, i));
    };
    panel->table = makeTable(panel == &left);
    if (!panel->copy.alongFold)
      panel->own = partAt(ownPlace(*panel).second);
    else if (panel->table)
      dealOut(panel->extent,
              [&](Value i) { storePart(panel->table, i, partAt(i)); });
  }
}

void PlainTile::fillStepTables(Value panelNumber) {
  SmallVector<StepTable> tables;
  for (const Panel *panel : {&left, &right})
    if (panel->hasStepTable())
      tables.push_back({&*panel->parts, panel->table});
  ContractionTile::fillStepTables(tables, panelNumber);
}

/// Step and element of the first that the running thread copies.
std::pair<Value, Value> PlainTile::ownPlace(const Panel &panel) {
  return placeIn(panel, index.mul(launch.thread(), panel.together()));
}

void PlainTile::copyParts(const Panel &panel, Value stage, Value panelNumber) {
  const PlaceParts &parts = *panel.parts;
  bool staysAtStep = panel.copy.alongFold;
  int64_t atOnce = c.threads * panel.together();
  // From one copy to the next, in steps or elements.
  int64_t advance = atOnce / (staysAtStep ? c.panelSteps : panel.extent);
  auto [step, element] = ownPlace(panel);
  Value at = index.add(panel.first, element);
  Value atDepth = index.add(index.mul(panelNumber, c.panelSteps), step);
  Value to = pointerTo(
      b, loc, words, kSharedSpace,
      index.mul(index.add(index.add(stage, panel.offset),
                          index.add(index.mul(step, panel.pitch()), element)),
                kWordBytes));
  PlacePart own = panel.own;
  if (staysAtStep)
    own = stepPart(parts, atDepth);
  Value from, entries;
  if (parts.stride) {
    PlacePart other = staysAtStep ? elementPart(parts, panel.axes, at)
                                  : stepPart(parts, atDepth);
    from = addressOf(parts, index.add(own.offset, other.offset));
  } else {
    from = addressOf(parts, own.offset);
    Value entry =
        staysAtStep ? element : index.add(firstEntry(panelNumber), step);
    entries = pointerTo(b, loc, panel.table, kSharedSpace,
                        index.mul(entry, kPlaceBytes));
  }
  int64_t count = panel.extent * c.panelSteps / atOnce;
  // All reads of the table stand before the first copy: ptxas waits between a
  // read of shared memory and a copy to it.
  SmallVector<PlacePart> others;
  for (int64_t i = 0; entries && i < count; ++i)
    others.push_back(loadPart(behind(entries, i * advance * kPlaceBytes)));
  for (int64_t i = 0; i < count; ++i) {
    int64_t further = i * advance;
    Value source, reads;
    if (parts.stride) {
      source = behind(from, further * *parts.stride * kWordBytes);
      reads = staysAtStep
                  ? isInside(panel.axes, index.add(at, further), atDepth)
                  : isInside(panel.axes, at, index.add(atDepth, further));
    } else {
      source = behind(from, b.getF32Type(), others[i].offset);
      reads = mayRead(own, others[i]);
    }
    Value target =
        behind(to, further * (staysAtStep ? 1 : panel.pitch()) * kWordBytes);
    copyAsync(b, loc, target, source, reads, panel.together() * kWordBytes);
  }
}

void PlainTile::copyPanel(const Panel &panel, Value stage, Value panelNumber) {
  if (panel.parts)
    return copyParts(panel, stage, panelNumber);
  bool inChunks = static_cast<bool>(panel.copy.contiguous);
  int64_t together = panel.together();
  Value depthFirst = index.mul(panelNumber, c.panelSteps);
  dealOut(panel.extent * c.panelSteps / together, [&](Value i) {
    auto [step, element] = placeIn(panel, index.mul(i, together));
    Value place = index.add(index.add(stage, panel.offset),
                            index.add(index.mul(step, panel.pitch()), element));
    copyPart(inChunks ? panel.copy.contiguous : panel.copy.word, panel.axes,
             index.add(panel.first, element), index.add(depthFirst, step),
             words, index.mul(place, kWordBytes), together * kWordBytes);
  });
}

/// The thread's elements of a panel, zero outside; nothing of what is copied.
PlainTile::Elements PlainTile::loadPanel(const Panel &panel, Value depthFirst) {
  Elements elements;
  if (panel.copy.isAsync())
    return elements;
  Type f32 = b.getF32Type();
  int64_t total = panel.extent * c.panelSteps;
  for (int64_t begin = 0; begin < total; begin += c.threads) {
    Value i = index.add(launch.thread(), begin);
    auto [step, element] = placeIn(panel, i);
    Value at = index.add(panel.first, element),
          atDepth = index.add(depthFirst, step);
    Value inside = isInside(panel.axes, at, atDepth);
    if (begin + c.threads > total)
      inside = arith::AndIOp::create(b, loc, inside,
                                     index.less(i, index.constant(total)));
    auto choice = scf::IfOp::create(b, loc, TypeRange{f32}, inside,
                                    /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(choice.elseBlock());
    Value zero = arith::ConstantOp::create(b, loc, b.getF32FloatAttr(0));
    scf::YieldOp::create(b, loc, zero);
    b.setInsertionPointToStart(choice.thenBlock());
    FailureOr<Scalar> value = factorAt(panel.factor, panel.axes, at, atDepth);
    if (failed(value))
      zero = arith::ConstantOp::create(b, loc, b.getF32FloatAttr(0));
    scf::YieldOp::create(b, loc, succeeded(value) ? value->value : zero);
    elements.push_back(choice.getResult(0));
  }
  return elements;
}

void PlainTile::storePanel(const Panel &panel, Value stage,
                           ArrayRef<Value> elements) {
  if (elements.empty())
    return;
  const Value *next = elements.begin();
  dealOut(panel.extent * c.panelSteps, [&](Value i) {
    auto [step, element] = placeIn(panel, i);
    Value place = index.add(index.add(stage, panel.offset),
                            index.add(index.mul(step, panel.pitch()), element));
    Value bits = arith::BitcastOp::create(b, loc, b.getI32Type(), *next++);
    memref::StoreOp::create(b, loc, bits, words, place);
  });
}

// A panel behind the fold's end is zeros, which nobody reads.
void PlainTile::startStage(Value panelNumber, Elements &leftElements,
                           Elements &rightElements) {
  Value place = stageOf(panelNumber);
  Value depthFirst = index.mul(panelNumber, c.panelSteps);
  for (const Panel *panel : {&left, &right})
    if (panel->copy.isAsync())
      copyPanel(*panel, place, panelNumber);
  if (isAsync())
    NVVM::CpAsyncCommitGroupOp::create(b, loc);
  leftElements = loadPanel(left, depthFirst);
  rightElements = loadPanel(right, depthFirst);
}

void PlainTile::finishStage(Value panelNumber, ArrayRef<Value> leftElements,
                            ArrayRef<Value> rightElements) {
  Value place = stageOf(panelNumber);
  storePanel(left, place, leftElements);
  storePanel(right, place, rightElements);
}

//===----------------------------------------------------------------------===//
// Multiplying
//===----------------------------------------------------------------------===//

/// `count` elements, four a read, each `reach` words behind the one before.
PlainTile::Elements PlainTile::readFours(Value first, int64_t count,
                                         int64_t reach) {
  auto type = VectorType::get({kFour}, b.getF32Type());
  Elements elements;
  for (int64_t four = 0; four < count / kFour; ++four) {
    Value byte = index.mul(index.add(first, four * reach), kWordBytes);
    Value read = LLVM::LoadOp::create(
        b, loc, type, pointerTo(b, loc, words, kSharedSpace, byte),
        kFour * kWordBytes);
    for (int64_t i = 0; i < kFour; ++i)
      elements.push_back(LLVM::ExtractElementOp::create(
          b, loc, read,
          arith::ConstantIntOp::create(b, loc, b.getI32Type(), i)));
  }
  return elements;
}

SmallVector<Value> PlainTile::multiplyStage(Value stage, ValueRange sums) {
  int64_t perStep = c.threadRows * c.threadColumns;
  int64_t unrolled = c.panelSteps;
  while (unrolled % 2 == 0 && unrolled * perStep > kMostUnrolled)
    unrolled /= 2;
  // Rows (columns) of the threads of a block, once.
  int64_t rowReach = c.tileRows / (c.threadRows / kFour),
          columnReach = c.tileColumns / (c.threadColumns / kFour);
  return launch.loop(
      index.constant(0), index.constant(c.panelSteps), index.constant(unrolled),
      sums, [&](Value first, ValueRange carried) {
        SmallVector<Value> next(carried);
        for (int64_t step = 0; step < unrolled; ++step) {
          Value k = index.add(first, step);
          auto read = [&](const Panel &panel, Value own, int64_t count,
                          int64_t reach) {
            Value place = index.add(index.add(stage, panel.offset),
                                    index.mul(k, panel.pitch()));
            return readFours(index.add(place, index.mul(own, kFour)), count,
                             reach);
          };
          Elements x = read(left, threadRow, c.threadRows, rowReach);
          Elements y = read(right, threadColumn, c.threadColumns, columnReach);
          for (auto [i, a] : llvm::enumerate(x))
            for (auto [j, d] : llvm::enumerate(y)) {
              Value &sum = next[i * y.size() + j];
              sum = math::FmaOp::create(b, loc, a, d, sum);
            }
        }
        return next;
      });
}

//===----------------------------------------------------------------------===//
// The tile
//===----------------------------------------------------------------------===//

SmallVector<Value> PlainTile::foldStages() {
  Value perPanel = index.constant(c.panelSteps);
  Value firstPanel = index.div(firstStep, perPanel);
  Elements leftElements, rightElements;
  makeTables();
  for (int64_t i = 0; i + 1 < c.stages; ++i) {
    Value panel = index.add(firstPanel, i);
    fillStepTables(panel);
    if (hasTables())
      launch.barrier();
    startStage(panel, leftElements, rightElements);
    finishStage(panel, leftElements, rightElements);
  }
  fillStepTables(index.add(firstPanel, c.stages - 1));
  SmallVector<Value> zeros(c.threadRows * c.threadColumns, sumStart());
  return launch.loop(
      firstPanel, index.ceilDiv(depth, perPanel), index.constant(1), zeros,
      [&](Value i, ValueRange carried) {
        // This panel is there, for all threads, and the one that was in the
        // place of the next has been read.
        if (isAsync())
          NVVM::CpAsyncWaitGroupOp::create(b, loc,
                                           static_cast<uint32_t>(c.stages - 2));
        launch.barrier();
        Value ahead = index.add(i, c.stages - 1);
        startStage(ahead, leftElements, rightElements);
        fillStepTables(index.add(ahead, 1));
        SmallVector<Value> next = multiplyStage(stageOf(i), carried);
        finishStage(ahead, leftElements, rightElements);
        return next;
      });
}

LogicalResult PlainTile::emit(StoreElements store) {
  begin();
  left.first = firstRow;
  right.first = firstColumn;
  const int64_t bytes = sharedBytes(c), rowsAPass = dlc::rowsAPass(c);
  words = launch.shared(b.getI32Type(), bytes / kWordBytes);
  // Warps stand in rows of them along the columns.
  Value warpThreads = index.constant(kWarpThreads);
  Value lane = index.rem(launch.thread(), warpThreads);
  Value warp = index.div(launch.thread(), warpThreads);
  Value warpColumns =
      index.constant(c.tileColumns / (c.threadColumns * kLaneColumns));
  Value laneColumns = index.constant(kLaneColumns);
  threadRow = index.add(index.mul(index.div(warp, warpColumns), kLaneRows),
                        index.div(lane, laneColumns));
  threadColumn =
      index.add(index.mul(index.rem(warp, warpColumns), kLaneColumns),
                index.rem(lane, laneColumns));
  SmallVector<Value> sums = foldStages();
  if (failedInside)
    return failure();

  // The sums take the panels' place.
  if (isAsync())
    NVVM::CpAsyncWaitGroupOp::create(b, loc, 0u);
  launch.barrier();
  int64_t rowReach = c.tileRows / (c.threadRows / kFour),
          columnReach = c.tileColumns / (c.threadColumns / kFour);
  Value row = index.mul(threadRow, kFour),
        column = index.mul(threadColumn, kFour);
  auto scatter = [&](Value firstOfPass, StoreSum put) {
    auto putRow = [&](int64_t i) {
      Value at = index.add(row, i / kFour * rowReach + i % kFour);
      for (int64_t j = 0; j < c.threadColumns; ++j)
        put(at, index.add(column, j / kFour * columnReach + j % kFour),
            sums[i * c.threadColumns + j]);
    };
    int64_t first = *IndexBuilder::constantOf(firstOfPass);
    for (int64_t i = 0; i < c.threadRows; i += kFour) {
      auto putFour = [&] {
        for (int64_t part = 0; part < kFour; ++part)
          putRow(i + part);
      };
      // A pass has whole fours of all threads, or some threads' of one.
      int64_t begin = i / kFour * rowReach;
      if (begin + rowReach <= first || begin >= first + rowsAPass)
        continue;
      if (begin >= first && begin + rowReach <= first + rowsAPass) {
        putFour();
        continue;
      }
      Value at = index.add(row, begin);
      Value isIn = arith::AndIOp::create(
          b, loc, index.atLeast(at, firstOfPass),
          index.less(at, index.constant(first + rowsAPass)));
      launch.onlyIf(isIn, putFour);
    }
  };
  storeTile(words, rowsAPass, scatter, store);
  return success(!failedInside);
}

LogicalResult dlc::emitPlainTile(LaunchBuilder &launch, StageEmitter &emitter,
                                 const Contraction &contraction,
                                 StoreElements store) {
  return PlainTile(launch, emitter, contraction).emit(store);
}
