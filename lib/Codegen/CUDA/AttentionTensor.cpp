// Attention on tensor cores: queries, keys, values and weights of f16 or bf16,
// sums in f32. A warp takes 16 rows; its queries, scores and sums stay in
// registers, and scores of one product are weights of the other as they lie.
//
// Blocks of keys and values go through two stages of shared memory: one is
// multiplied while the next is on its way (cp.async, where the operand is
// nothing but 16 contiguous bytes; else by way of registers). A row there has
// one chunk more than elements, so that the eight rows of a matrix lie in
// different banks.
#include "AttentionStaged.h"
#include "MmaSync.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

using namespace mlir;
using namespace dlc;

namespace {

/// Of one instruction: rows, columns, steps.
constexpr int64_t kRows = 16, kColumns = 8, kStep = 16;
constexpr int64_t kWordBytes = 4;
constexpr int64_t kMostWarps = 4, kMostKeys = 64, kMostColumns = 128;
/// Static shared memory.
constexpr int64_t kMostShared = 48 << 10;
/// Of 255, for queries, scores and sums.
constexpr int64_t kMostRegisters = 168;

int64_t pitchOf(int64_t elements) { return (elements + kChunk) * 2; }
int64_t stageBytesOf(const AttentionPlan &plan) {
  return plan.keys * (pitchOf(plan.inner) + pitchOf(plan.columns));
}

class TensorTile final : public StagedTile {
public:
  TensorTile(LaunchBuilder &launch, const AttentionPlan &plan)
      : StagedTile(launch, plan) {
    words = launch.shared(b.getI32Type(), 2 * stageBytesOf(plan) / kWordBytes);
    keys = {plan.narrowKey, &spec.key, spec.inner, plan.inner, 0};
    values = {plan.narrowValue, &spec.value, spec.columns, plan.columns,
              plan.keys * pitchOf(plan.inner)};
    isAsync = isContiguous(keys) || isContiguous(values);
  }

private:
  void fetchQueries() override;
  void startKeys(Value key, bool withValues) override {
    fetch(key, withValues);
  }
  void enterKeys(Value key, bool withValues) override;
  void leaveKeys() override;
  void addProducts(ValueRange a, ValueRange pairs, MutableArrayRef<Value> sums);
  Values multiplyKeys(Value key) override;
  Values addValues(Value key, ValueRange weights, ValueRange sums) override;

  void fetch(Value key, bool withValues);
  void fill(const Panel &panel, Value stage, Value key);
  Value stageOf(Value key);
  Value matrixAt(const Panel &panel, Value stage, Value row, Value chunk) {
    Value byte = index.add(index.add(stage, panel.offset),
                           index.add(index.mul(row, pitchOf(panel.extent)),
                                     index.mul(chunk, kChunkBytes)));
    return pointerTo(b, loc, words, kSharedSpace, byte);
  }

  Panel keys, values;
  bool isAsync;
  Values queries; ///< fragments of A, four words a step
};

} // namespace

bool dlc::fitTensorTile(AttentionPlan &plan, int64_t rows, int64_t keys) {
  auto extent = [&](ArrayRef<unsigned> axes) {
    return *graph::constantValue(plan.spec.extentOf(axes));
  };
  plan.inner = llvm::alignTo(extent(plan.spec.inner), kStep);
  int64_t columns = extent(plan.spec.columns);
  int64_t tiles = llvm::divideCeil(columns, kMostColumns);
  plan.columns = llvm::alignTo(llvm::divideCeil(columns, tiles), 2 * kColumns);
  int64_t warps = kMostWarps;
  if (auto all = graph::constantValue(plan.allRows()))
    warps = std::clamp<int64_t>(llvm::divideCeil(*all, kRows), 1, warps);
  plan.rows = rows ? rows : warps * kRows;
  if (plan.rows % kRows || plan.rows < kRows ||
      plan.rows > 3 * kMostWarps * kRows || keys % kStep ||
      keys > 2 * kMostKeys)
    return false;
  plan.threads = unsigned(plan.rows / kRows * kWarpThreads);
  for (plan.keys = keys ? keys : kMostKeys; plan.keys >= kStep;
       plan.keys -= kStep) {
    if (2 * stageBytesOf(plan) <= kMostShared)
      return plan.inner / 4 + plan.columns / 2 + plan.keys / 2 <=
             kMostRegisters;
    if (keys)
      return false;
  }
  return false;
}

std::unique_ptr<AttentionTile> dlc::makeTensorTile(LaunchBuilder &launch,
                                                   const AttentionPlan &plan) {
  return std::make_unique<TensorTile>(launch, plan);
}

//===----------------------------------------------------------------------===//
// Filling
//===----------------------------------------------------------------------===//

void TensorTile::fetchQueries() {
  for (int64_t step = 0; step < plan.inner; step += kStep)
    for (int64_t part = 0; part < 4; ++part) {
      Value row = index.add(firstRow, rowOf(part % 2));
      auto [first, second] = queryPair(row, index.less(row, totalRows), inGroup,
                                       step + part / 2 * kChunk);
      queries.push_back(pair(first, second));
    }
}

Value TensorTile::stageOf(Value key) {
  Value number =
      index.rem(index.div(key, index.constant(plan.keys)), index.constant(2));
  return index.mul(number, stageBytesOf(plan));
}

// Neighbour threads take neighbour chunks of the operand.
void TensorTile::fill(const Panel &panel, Value stage, Value key) {
  int64_t chunks = panel.extent / kChunk;
  Value total = launch.size(spec.extentOf(panel.along));
  bool contiguous = isContiguous(panel);
  launch.loop(
      launch.thread(), index.constant(plan.keys * chunks),
      index.constant(plan.threads), [&](Value i) {
        Value row = index.div(i, index.constant(chunks));
        Value chunk = index.rem(i, index.constant(chunks));
        Value at = index.add(key, row);
        Value first = index.mul(chunk, kChunk);
        if (panel.first)
          first = index.add(first, panel.first);
        Value place = index.add(index.add(stage, panel.offset),
                                index.add(index.mul(row, pitchOf(panel.extent)),
                                          index.mul(chunk, kChunkBytes)));
        if (!contiguous)
          return loadChunk(panel, at, first, place);
        copyChunk(panel, at, first,
                  both(index.less(at, totalKeys), index.less(first, total)),
                  place);
      });
}

// What lies behind the last key is zeros.
void TensorTile::fetch(Value key, bool withValues) {
  Value stage = stageOf(key);
  fill(keys, stage, key);
  if (withValues) {
    values.first = firstColumn;
    fill(values, stage, key);
  }
  if (isAsync)
    NVVM::CpAsyncCommitGroupOp::create(b, loc);
}

void TensorTile::enterKeys(Value key, bool withValues) {
  // This block is there, for all threads, and the one that was in the place of
  // the next has been read.
  if (isAsync)
    NVVM::CpAsyncWaitGroupOp::create(b, loc, 0u);
  launch.barrier();
  fetch(index.add(key, plan.keys), withValues);
}

void TensorTile::leaveKeys() {
  if (isAsync)
    NVVM::CpAsyncWaitGroupOp::create(b, loc, 0u);
  launch.barrier();
}

//===----------------------------------------------------------------------===//
// Multiplying
//===----------------------------------------------------------------------===//

/// Adds a times both matrices of `pairs`, neighbours in columns, to `sums`.
void TensorTile::addProducts(ValueRange a, ValueRange pairs,
                             MutableArrayRef<Value> sums) {
  for (unsigned half = 0; half < 2; ++half) {
    auto part = sums.slice(4 * half, 4);
    llvm::copy(multiplyMatrices(b, loc, plan.narrow, plan.narrow, a,
                                pairs.slice(2 * half, 2), part),
               part.begin());
  }
}

AttentionTile::Values TensorTile::multiplyKeys(Value key) {
  Value stage = stageOf(key);
  Value in8 = index.rem(lane, index.constant(8));
  Value second =
      index.rem(index.div(lane, index.constant(8)), index.constant(2));
  Value upper = index.div(lane, index.constant(16));
  Value row = index.add(in8, index.mul(upper, kColumns));
  Values sums(plan.keys / kColumns * 4, rows.number(0));
  for (int64_t step = 0; step < plan.inner; step += kStep) {
    ValueRange a = ValueRange(queries).slice(step / kStep * 4, 4);
    for (int64_t first = 0; first < plan.keys; first += 2 * kColumns) {
      // Both registers of eight keys, then of the next eight.
      Values pairs = loadMatrices(b, loc,
                                  matrixAt(keys, stage, index.add(row, first),
                                           index.add(second, step / kChunk)),
                                  /*transposes=*/false);
      addProducts(a, pairs,
                  MutableArrayRef<Value>(sums).slice(first / kColumns * 4, 8));
    }
  }
  return toElements(sums, numKeys);
}

AttentionTile::Values TensorTile::addValues(Value key, ValueRange weights,
                                            ValueRange before) {
  Value stage = stageOf(key);
  Values sums = toRegisters(before, numColumns);
  Value in16 = index.rem(lane, index.constant(16));
  Value upper = index.div(lane, index.constant(16));
  for (int64_t step = 0; step < plan.keys; step += kStep) {
    // Rows 0-7 and 8-15 of the first eight keys, then of the others.
    Values a;
    for (unsigned part = 0; part < 4; ++part) {
      unsigned j = step / 4 + part / 2 * 2;
      ValueRange two = weights.slice(part % 2 * numKeys + j, 2);
      a.push_back(roundPair(b, loc, plan.narrow, two[0], two[1]));
    }
    for (int64_t first = 0; first < plan.columns; first += 2 * kColumns) {
      Values pairs = loadMatrices(b, loc,
                                  matrixAt(values, stage, index.add(in16, step),
                                           index.add(upper, first / kChunk)),
                                  /*transposes=*/true);
      addProducts(a, pairs,
                  MutableArrayRef<Value>(sums).slice(first / kColumns * 4, 8));
    }
  }
  return toElements(sums, numColumns);
}
