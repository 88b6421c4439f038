// Attention by wgmma: as on other tensor cores (AttentionTensor.cpp), but a
// warpgroup multiplies 64 rows with all keys of a step, and scores of a step
// are on their way while those before them are weighed.
//
// Queries, keys and values lie in shared memory as 128-byte rows of 64
// elements, swizzled. Of a step's products with keys come scores in registers;
// their weights, rounded, are the operand in registers of the product with
// values. Of keys and values there are two stages each. While step j computes,
// the keys of step j + 1 and the values of step j are copied:
//
//   wait for copies; barrier; copy keys j + 1, values j
//   start scores j = queries x keys j
//   start sums += weights j - 1 x values j - 1
//   wait for scores; maxima, weights j
//   wait for sums; multiply them by the rows' factors
#include "AttentionStaged.h"
#include "MmaSync.h"
#include "WarpGroup.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace dlc;

namespace {

/// Steps of the fold of one instruction, elements of a row in shared memory.
constexpr int64_t kStep = 16, kRunElements = kSwizzleBytes / 2;
constexpr int64_t kRunChunks = kSwizzleBytes / kChunkBytes;
constexpr int64_t kMostColumns = 128, kMostKeys = 256, kStages = 2;
constexpr int64_t kGateBytes = 16;
constexpr int64_t kMostGroups = 3, kFewestRows = 64;
/// Three quarters of an H100's multiprocessors.
constexpr int64_t kEnoughBlocks = 99;
/// Of a block, dynamic, on sm_90.
constexpr int64_t kMostShared = 227 << 10;
/// For scores, weights and sums: of 255 registers, and of 168 where three
/// warpgroups share them.
constexpr int64_t kMostRegisters = 160, kMostOfThree = 128;

/// Bytes of `rows` rows of `elements`.
int64_t bytesOf(int64_t rows, int64_t elements) {
  return llvm::divideCeil(elements, kRunElements) * rows * kSwizzleBytes;
}
int64_t sharedBytesOf(const AttentionPlan &plan) {
  return bytesOf(plan.rows, plan.inner) +
         kStages * (bytesOf(plan.keys, plan.inner) +
                    bytesOf(plan.keys, plan.columns)) +
         kGateBytes;
}

class WarpGroupTile final : public StagedTile {
public:
  WarpGroupTile(LaunchBuilder &launch, const AttentionPlan &plan)
      : StagedTile(launch, plan) {
    skipsMasks = true;
    scale = rows.takeScale();
    words = launch.dynamicShared(b.getI32Type(), kSwizzleAlignment);
    int64_t queryBytes = bytesOf(plan.rows, plan.inner);
    keyBytes = bytesOf(plan.keys, plan.inner);
    valueBytes = bytesOf(plan.keys, plan.columns);
    queries = {plan.narrowQuery, &spec.query, spec.inner, plan.inner, 0};
    queries.ofRows = true;
    keys = {plan.narrowKey, &spec.key, spec.inner, plan.inner, queryBytes};
    values = {plan.narrowValue, &spec.value, spec.columns, plan.columns,
              queryBytes + kStages * keyBytes};
  }

private:
  void fetchQueries() override {
    gate = pointerTo(b, loc, words, kSharedSpace,
                     index.constant(plan.sharedBytes - kGateBytes));
    if (plan.gatesWaits)
      launch.onlyIf(index.less(launch.thread(), index.constant(1)),
                    [&] { openGate(b, loc, gate); });
    fill(queries, index.constant(queries.offset), firstRow, plan.rows);
  }
  Values onePass(Value from, Value to, ValueRange carried) override;
  // Of the general loop, which this tile has no use for.
  Values multiplyKeys(Value) override { llvm_unreachable("one pass"); }
  Values addValues(Value, ValueRange, ValueRange) override {
    llvm_unreachable("one pass");
  }

  void fill(const Panel &panel, Value to, Value first, int64_t count);
  void fillKeys(Value key) { fill(keys, stageOf(keys, key), key, plan.keys); }
  void fillValues(Value key) {
    values.first = firstColumn;
    fill(values, stageOf(values, key), key, plan.keys);
  }
  void awaitCopies();
  Value stageOf(const Panel &panel, Value key);
  Value descriptorAt(Value byte, int64_t runBytes = 0) {
    return matrixDescriptor(
        b, loc, pointerTo(b, loc, words, kSharedSpace, byte), runBytes);
  }
  Values startScores(Value key);
  Values startSums(Value key, ValueRange weights, ValueRange sums);
  Values weightWords(ValueRange weights);
  Softmax gated(const Softmax &softmax);

  Panel queries, keys, values;
  int64_t keyBytes, valueBytes;
  Value gate;
};

} // namespace

bool dlc::fitWarpGroupTile(AttentionPlan &plan, int64_t rows, int64_t keys) {
  auto extent = [&](ArrayRef<unsigned> axes) {
    return *graph::constantValue(plan.spec.extentOf(axes));
  };
  auto all = graph::constantValue(plan.allRows());
  if (plan.rounds() || !all || (!rows && *all < kFewestRows))
    return false;
  plan.inner = llvm::alignTo(extent(plan.spec.inner), kStep);
  int64_t columns = extent(plan.spec.columns);
  int64_t tiles = llvm::divideCeil(columns, kMostColumns);
  plan.columns = llvm::alignTo(llvm::divideCeil(columns, tiles), kStep);
  // Two warpgroups share what is copied, where that leaves blocks for all.
  auto outer = graph::constantValue(plan.spec.extentOf(plan.spec.outer));
  int64_t blocks =
      outer.value_or(1) * tiles * llvm::divideCeil(*all, 2 * kWarpGroupRows);
  plan.rows = rows                      ? rows
              : blocks >= kEnoughBlocks ? 2 * kWarpGroupRows
                                        : kWarpGroupRows;
  int64_t groups = plan.rows / kWarpGroupRows;
  if (plan.rows % kWarpGroupRows || groups < 1 || groups > kMostGroups ||
      keys % kStep || keys > kMostKeys)
    return false;
  plan.threads = unsigned(groups * kWarpGroupThreads);
  int64_t most = groups < kMostGroups ? kMostRegisters : kMostOfThree;
  for (plan.keys = keys ? keys : 2 * kRunElements; plan.keys >= kStep;
       plan.keys -= kStep) {
    if (sharedBytesOf(plan) <= kMostShared &&
        plan.keys / 2 + plan.keys / 4 + plan.columns / 2 <= most) {
      plan.sharedBytes = unsigned(sharedBytesOf(plan));
      return true;
    }
    if (keys)
      return false;
  }
  return false;
}

std::unique_ptr<AttentionTile>
dlc::makeWarpGroupTile(LaunchBuilder &launch, const AttentionPlan &plan) {
  return std::make_unique<WarpGroupTile>(launch, plan);
}

//===----------------------------------------------------------------------===//
// Filling
//===----------------------------------------------------------------------===//

Value WarpGroupTile::stageOf(const Panel &panel, Value key) {
  Value number = index.rem(index.div(key, index.constant(plan.keys)),
                           index.constant(kStages));
  return index.add(
      index.mul(number, panel.operand == keys.operand ? keyBytes : valueBytes),
      panel.offset);
}

// `count` rows from `first` on to byte `to`: what lies behind the last one is
// zeros. Neighbour threads take neighbour chunks of the operand.
void WarpGroupTile::fill(const Panel &panel, Value to, Value first,
                         int64_t count) {
  const int64_t chunks = panel.extent / kChunk, threads = plan.threads;
  Value total = launch.size(spec.extentOf(panel.along));
  Value end = panel.ofRows ? totalRows : totalKeys;
  auto extent = graph::constantValue(spec.extentOf(panel.along));
  auto rowsOf = graph::constantValue(panel.ofRows ? plan.allRows()
                                                  : spec.extentOf(spec.keys));
  bool wholeRows = rowsOf && *rowsOf % count == 0;
  bool wholeChunks = *extent % panel.extent == 0;
  auto placeOf = [&](Value row, Value chunk) {
    Value run = index.div(chunk, index.constant(kRunChunks));
    Value swizzled = arith::XOrIOp::create(
        b, loc, index.rem(chunk, index.constant(kRunChunks)),
        index.rem(row, index.constant(kRunChunks)));
    Value inRow = index.add(index.mul(row, kSwizzleBytes),
                            index.mul(swizzled, kChunkBytes));
    return index.add(index.add(to, index.mul(run, count * kSwizzleBytes)),
                     inRow);
  };
  auto elementOf = [&](Value chunk) {
    Value element = index.mul(chunk, kChunk);
    return panel.first ? index.add(element, panel.first) : element;
  };
  auto insideOf = [&](Value at, Value element) {
    return both(wholeRows ? Value() : index.less(at, end),
                wholeChunks ? Value() : index.less(element, total));
  };
  bool contiguous = isContiguous(panel);
  auto stride =
      panel.ofRows
          ? std::nullopt
          : graph::constantValue(panel.operand->strides[spec.keys.front()]);
  const int64_t rowStep = threads / std::max<int64_t>(chunks, 1);
  if (contiguous && stride && threads % chunks == 0 &&
      rowStep % kRunChunks == 0 && count % rowStep == 0) {
    // A thread's chunks lie below each other.
    Value row = index.div(launch.thread(), index.constant(chunks));
    Value chunk = index.rem(launch.thread(), index.constant(chunks));
    Value element = elementOf(chunk), at = index.add(first, row);
    Value place = placeOf(row, chunk);
    Value position = positionOf(panel, at, element);
    for (int64_t down = 0; down < count; down += rowStep)
      copyChunk(panel, index.add(position, down * *stride),
                insideOf(index.add(at, down), element),
                index.add(place, down * kSwizzleBytes));
    return;
  }
  launch.loop(launch.thread(), index.constant(count * chunks),
              index.constant(threads), [&](Value i) {
                Value row = index.div(i, index.constant(chunks));
                Value chunk = index.rem(i, index.constant(chunks));
                Value at = index.add(first, row), element = elementOf(chunk);
                if (contiguous)
                  copyChunk(panel, at, element, insideOf(at, element),
                            placeOf(row, chunk));
                else
                  loadChunk(panel, at, element, placeOf(row, chunk));
              });
}

// What was copied is there, for the wgmma of all threads.
void WarpGroupTile::awaitCopies() {
  NVVM::CpAsyncWaitGroupOp::create(b, loc, 0u);
  fenceAsyncProxy(b, loc);
  launch.barrier();
}

//===----------------------------------------------------------------------===//
// Multiplying
//===----------------------------------------------------------------------===//

// One group: the registers of products of queries and the keys at `key`.
AttentionTile::Values WarpGroupTile::startScores(Value key) {
  Value group = index.div(launch.thread(), index.constant(kWarpGroupThreads));
  Value left = descriptorAt(index.add(
      index.mul(group, kWarpGroupRows * kSwizzleBytes), queries.offset));
  Value right = descriptorAt(stageOf(keys, key));
  WarpGroupProduct product{plan.narrow, plan.narrow, plan.keys};
  product.startsAtZero = true;
  Values sums(plan.keys / 2, rows.number(0));
  fenceWarpGroup(b, loc);
  for (int64_t step = 0; step < plan.inner; step += kStep) {
    int64_t run = step / kRunElements, bytes = step % kRunElements * 2;
    auto advance = [&](Value descriptor, int64_t count) {
      return advanceDescriptor(b, loc, descriptor,
                               run * count * kSwizzleBytes + bytes);
    };
    sums = multiplyWarpGroup(b, loc, product, advance(left, plan.rows),
                             advance(right, plan.keys), sums);
    product.startsAtZero = false;
  }
  commitWarpGroup(b, loc);
  return sums;
}

// One group: the registers `sums` with products of weights and the values at
// `key`.
AttentionTile::Values WarpGroupTile::startSums(Value key, ValueRange weights,
                                               ValueRange sums) {
  Value right = descriptorAt(stageOf(values, key), plan.keys * kSwizzleBytes);
  WarpGroupProduct product{plan.narrow, plan.narrow, plan.columns};
  product.transposesRight = true;
  Values next(sums);
  fenceWarpGroup(b, loc);
  for (int64_t step = 0; step < plan.keys; step += kStep)
    next = multiplyWarpGroup(
        b, loc, product, weights.slice(step / kStep * 4, 4),
        advanceDescriptor(b, loc, right, step * kSwizzleBytes), next);
  commitWarpGroup(b, loc);
  return next;
}

// Four words for every sixteen keys: rows 0-7 and 8-15 of the first eight,
// then of the others.
AttentionTile::Values WarpGroupTile::weightWords(ValueRange weights) {
  Values all;
  for (int64_t step = 0; step < plan.keys; step += kStep)
    for (unsigned part = 0; part < 4; ++part) {
      unsigned j = step / 4 + part / 2 * 2;
      ValueRange two = weights.slice(part % 2 * numKeys + j, 2);
      all.push_back(roundPair(b, loc, plan.narrow, two[0], two[1]));
    }
  return all;
}

// All of it is computed before the gate.
AttentionTile::Softmax WarpGroupTile::gated(const Softmax &softmax) {
  Softmax behind;
  Values all;
  for (const Values *part :
       {&softmax.weights, &softmax.maxima, &softmax.sums, &softmax.factors})
    llvm::append_range(all, *part);
  ValueRange rest = all = passGate(b, loc, gate, all);
  for (auto [part, from] : {std::pair{&behind.weights, &softmax.weights},
                            {&behind.maxima, &softmax.maxima},
                            {&behind.sums, &softmax.sums},
                            {&behind.factors, &softmax.factors}}) {
    *part = Values(rest.take_front(from->size()));
    rest = rest.drop_front(from->size());
  }
  return behind;
}

AttentionTile::Values WarpGroupTile::onePass(Value from, Value to,
                                             ValueRange carried) {
  const unsigned numSums = numRows * numColumns;
  // Loops carry maxima, sums, sums with values and weights.
  auto weighStep = [&](Value key, Values scores, ValueRange now) {
    return weigh(scoresOf(key, toElements(scores, numKeys)),
                 now.take_front(numRows), now.slice(numRows, numRows));
  };
  auto join = [](const Softmax &softmax, ValueRange output) {
    Values all(softmax.maxima);
    llvm::append_range(all, softmax.sums);
    llvm::append_range(all, output);
    return all;
  };
  auto outputOf = [&](ValueRange now) {
    return now.slice(2 * numRows, numSums);
  };
  auto choice =
      scf::IfOp::create(b, loc, carried.getTypes(), index.less(from, to),
                        /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(choice.elseBlock());
  scf::YieldOp::create(b, loc, carried);
  b.setInsertionPointToStart(choice.thenBlock());

  auto copy = [&](Value key) {
    Value next = index.add(key, plan.keys);
    launch.onlyIf(index.less(next, to), [&] { fillKeys(next); });
    fillValues(key);
    NVVM::CpAsyncCommitGroupOp::create(b, loc);
  };
  fillKeys(from);
  NVVM::CpAsyncCommitGroupOp::create(b, loc);
  awaitCopies();
  copy(from);
  Softmax first =
      weighStep(from, waitForWarpGroup(b, loc, 0, startScores(from)), carried);
  Values initial = join(first, scaled(outputOf(carried), first.factors));
  llvm::append_range(initial, weightWords(first.weights));

  Value step = index.constant(plan.keys);
  Values after = launch.loop(
      index.add(from, step), to, step, initial, [&](Value key, ValueRange now) {
        awaitCopies();
        copy(key);
        Values scores = startScores(key);
        Values sums = startSums(index.sub(key, step),
                                now.drop_front(2 * numRows + numSums),
                                toRegisters(outputOf(now), numColumns));
        scores = waitForWarpGroup(b, loc, 1, scores);
        Softmax softmax = weighStep(key, scores, now);
        if (plan.gatesWaits)
          softmax = gated(softmax);
        sums = waitForWarpGroup(b, loc, 0, sums);
        Values next = join(
            softmax, scaled(toElements(sums, numColumns), softmax.factors));
        // Weights are what the product has read: new ones come behind it.
        llvm::append_range(next, weightWords(softmax.weights));
        return next;
      });
  awaitCopies();
  // The last step, where values still are to be added.
  Value last =
      index.mul(index.div(index.sub(to, index.constant(1)), step), step);
  Values sums =
      startSums(last, ValueRange(after).drop_front(2 * numRows + numSums),
                toRegisters(outputOf(after), numColumns));
  sums = waitForWarpGroup(b, loc, 0, sums);
  launch.barrier();
  Values results(after.begin(), after.begin() + 2 * numRows);
  llvm::append_range(results, toElements(sums, numColumns));
  scf::YieldOp::create(b, loc, results);
  return Values(choice.getResults());
}
