// Attention on tensor cores: queries, keys, values and weights of f16 or bf16,
// sums in f32. A warp takes 16 rows; its queries, scores and sums stay in
// registers, and scores of one product are weights of the other as they lie.
//
// Blocks of keys and values go through two stages of shared memory: one is
// multiplied while the next is on its way (cp.async, where the operand is
// nothing but 16 contiguous bytes; else by way of registers). A row there has
// one chunk more than elements, so that the eight rows of a matrix lie in
// different banks.
#include "AttentionTile.h"
#include "MmaSync.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

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

class TensorTile final : public AttentionTile {
public:
  TensorTile(LaunchBuilder &launch, const AttentionPlan &plan)
      : AttentionTile(launch, plan) {
    lanes = 4;
    numRows = 2;
    numKeys = plan.keys / 4;
    numColumns = plan.columns / 4;
    lane = index.rem(launch.thread(), index.constant(kWarpThreads));
    warpRow = index.mul(
        index.div(launch.thread(), index.constant(kWarpThreads)), kRows);
    group = index.div(lane, index.constant(4));
    inGroup = index.mul(index.rem(lane, index.constant(4)), 2);
    words = launch.shared(b.getI32Type(), 2 * stageBytesOf(plan) / kWordBytes);
    keys = {plan.narrowKey, &spec.key, spec.inner, plan.inner, 0, Value()};
    values = {plan.narrowValue,
              &spec.value,
              spec.columns,
              plan.columns,
              plan.keys * pitchOf(plan.inner),
              Value()};
    isAsync = isContiguous(keys) || isContiguous(values);
  }

private:
  /// Part of a stage: rows of keys.
  struct Panel {
    Value factor;
    const ContractionOperand *operand;
    ArrayRef<unsigned> along; ///< axes of a row
    int64_t extent;           ///< padded
    int64_t offset;           ///< bytes from the start of a stage
    Value first;              ///< of the row's elements; null: 0
  };
  // Registers hold two neighbours of every eight keys or columns, for row
  // `group` and the one eight behind: number [i][j] of the base class is
  // register 2 i + j % 2 of instruction j / 2.
  Value rowOf(unsigned i) override {
    return index.add(index.add(warpRow, group), i * (kRows / 2));
  }
  Value keyOf(unsigned j) override {
    return index.add(inGroup, j / 2 * kColumns + j % 2);
  }
  Value columnOf(unsigned c) override { return keyOf(c); }

  void fetchQueries() override;
  void startKeys(Value key, bool withValues) override {
    fetch(key, withValues);
  }
  void enterKeys(Value key, bool withValues) override;
  void leaveKeys() override;
  void addProducts(ValueRange a, ValueRange pairs, MutableArrayRef<Value> sums);
  Values multiplyKeys(Value key) override;
  Values addValues(Value key, ValueRange weights, ValueRange sums) override;

  bool isContiguous(const Panel &panel) const;
  void fetch(Value key, bool withValues);
  void copyChunk(const Panel &panel, Value at, Value first, Value inside,
                 Value place);
  void loadChunk(const Panel &panel, Value at, Value first, Value place);
  void fill(const Panel &panel, Value stage, Value key);
  Value stageOf(Value key);
  Value pair(Value low, Value high);
  Value matrixAt(const Panel &panel, Value stage, Value row, Value chunk) {
    Value byte = index.add(index.add(stage, panel.offset),
                           index.add(index.mul(row, pitchOf(panel.extent)),
                                     index.mul(chunk, kChunkBytes)));
    return pointerTo(b, loc, words, kSharedSpace, byte);
  }

  Value lane, warpRow, group, inGroup;
  Value words; ///< both stages, memref of i32
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
      plan.rows > 2 * kMostWarps * kRows || keys % kStep ||
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

/// Two 16-bit elements in a word.
Value TensorTile::pair(Value low, Value high) {
  Type word = b.getI32Type();
  Value half = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(16));
  high = arith::ShLIOp::create(
      b, loc, arith::ExtUIOp::create(b, loc, word, high), half);
  return arith::OrIOp::create(b, loc, arith::ExtUIOp::create(b, loc, word, low),
                              high);
}

void TensorTile::fetchQueries() {
  Value depth = launch.size(spec.extentOf(spec.inner));
  bool exact = *graph::constantValue(spec.extentOf(spec.inner)) == plan.inner;
  for (int64_t step = 0; step < plan.inner; step += kStep)
    for (int64_t part = 0; part < 4; ++part) {
      Value row = index.add(firstRow, rowOf(part % 2));
      Value exists = index.less(row, totalRows);
      Value elements[2];
      for (int64_t i = 0; i < 2; ++i) {
        Value k = index.add(inGroup, step + part / 2 * kChunk + i);
        AttentionRows::Axes axes = axesOfRow(row);
        rows.setAxes(axes, spec.inner, k);
        elements[i] =
            storedAt(plan.narrowQuery, axes,
                     both(exists, exact ? Value() : index.less(k, depth)));
      }
      queries.push_back(pair(elements[0], elements[1]));
    }
}

/// Chunks along the panel's rows are contiguous, aligned and wholly inside or
/// outside.
bool TensorTile::isContiguous(const Panel &panel) const {
  const ContractionOperand &operand = *panel.operand;
  if (!operand.plain || operand.element != plan.narrow ||
      !operand.base.isMultipleOf(kChunk))
    return false;
  auto stride = spec.strideOf(operand, panel.along);
  auto extent = graph::constantValue(spec.extentOf(panel.along));
  if (!stride || *stride != 1 || *extent % kChunk)
    return false;
  for (auto [axis, stride] : llvm::enumerate(operand.strides))
    if (!llvm::is_contained(panel.along, axis) && !stride.isMultipleOf(kChunk))
      return false;
  return true;
}

Value TensorTile::stageOf(Value key) {
  Value number =
      index.rem(index.div(key, index.constant(plan.keys)), index.constant(2));
  return index.mul(number, stageBytesOf(plan));
}

/// Chunk `first` of the panel's row of key `at`, to byte `place`.
void TensorTile::copyChunk(const Panel &panel, Value at, Value first,
                           Value inside, Value place) {
  AttentionRows::Axes axes = axesOfKey(at);
  rows.setAxes(axes, panel.along, first);
  Value position = rows.at(panel.operand->base, axes);
  for (auto [axis, stride] : llvm::enumerate(panel.operand->strides))
    if (stride != 0)
      position =
          index.add(position, index.mul(axes[axis], rows.at(stride, axes)));
  position =
      arith::SelectOp::create(b, loc, inside, position, index.constant(0));
  copyAsync(b, loc, pointerTo(b, loc, words, kSharedSpace, place),
            pointerTo(b, loc, launch.buffer(panel.operand->operand),
                      kGlobalSpace, index.mul(position, 2)),
            inside);
}

void TensorTile::loadChunk(const Panel &panel, Value at, Value first,
                           Value place) {
  Value total = launch.size(spec.extentOf(panel.along));
  Value exists = index.less(at, totalKeys);
  auto load = [&](bool guarded) {
    Values four;
    for (int64_t k = 0; k < kChunk; k += 2) {
      Value elements[2];
      for (int64_t half = 0; half < 2; ++half) {
        Value element = index.add(first, k + half);
        AttentionRows::Axes axes = axesOfKey(at);
        rows.setAxes(axes, panel.along, element);
        Value inside =
            guarded ? both(exists, index.less(element, total)) : Value();
        elements[half] = storedAt(panel.factor, axes, inside);
      }
      four.push_back(pair(elements[0], elements[1]));
    }
    return four;
  };
  Values four;
  if (*graph::constantValue(spec.extentOf(panel.along)) % kChunk == 0) {
    // Chunks are inside or outside as a whole: their elements have no branch
    // in between, so that loads are wide.
    SmallVector<Type> types(kChunk / 2, b.getI32Type());
    auto choice =
        scf::IfOp::create(b, loc, types, both(exists, index.less(first, total)),
                          /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(choice.elseBlock());
    Value zero = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(0));
    scf::YieldOp::create(b, loc, Values(kChunk / 2, zero));
    b.setInsertionPointToStart(choice.thenBlock());
    scf::YieldOp::create(b, loc, load(/*guarded=*/false));
    four.assign(choice.getResults().begin(), choice.getResults().end());
  } else {
    four = load(/*guarded=*/true);
  }
  Value word = index.div(place, index.constant(kWordBytes));
  for (auto [i, bits] : llvm::enumerate(four))
    memref::StoreOp::create(b, loc, bits, words,
                            index.add(word, static_cast<int64_t>(i)));
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

// From the registers of instructions to [row][..] and back.
static unsigned registerOf(unsigned i, unsigned j) {
  return j / 2 * 4 + 2 * i + j % 2;
}

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
  Values scores(numRows * numKeys);
  for (unsigned i = 0; i < numRows; ++i)
    for (unsigned j = 0; j < numKeys; ++j)
      scores[i * numKeys + j] = sums[registerOf(i, j)];
  return scores;
}

AttentionTile::Values TensorTile::addValues(Value key, ValueRange weights,
                                            ValueRange before) {
  Value stage = stageOf(key);
  ExprEmitter expressions = rows.expressions();
  auto narrowed = [&](unsigned i, unsigned j) {
    return expressions.scalars.toStorage(
        {weights[i * numKeys + j], plan.narrow});
  };
  Values sums(numRows * numColumns);
  for (unsigned i = 0; i < numRows; ++i)
    for (unsigned c = 0; c < numColumns; ++c)
      sums[registerOf(i, c)] = before[i * numColumns + c];
  Value in16 = index.rem(lane, index.constant(16));
  Value upper = index.div(lane, index.constant(16));
  for (int64_t step = 0; step < plan.keys; step += kStep) {
    // Rows 0-7 and 8-15 of the first eight keys, then of the others.
    Values a;
    for (unsigned part = 0; part < 4; ++part) {
      unsigned j = step / 4 + part / 2 * 2;
      a.push_back(pair(narrowed(part % 2, j), narrowed(part % 2, j + 1)));
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
  Values next(numRows * numColumns);
  for (unsigned i = 0; i < numRows; ++i)
    for (unsigned c = 0; c < numColumns; ++c)
      next[i * numColumns + c] = sums[registerOf(i, c)];
  return next;
}
