// Attention with few rows: on tensor cores where all is f16 or bf16, else on
// plain units.
//
// A sum over inner elements or over keys may be taken in any order, so the
// instructions' steps stand for those elements that one access of 16 bytes
// brings to a thread: neither product needs its operand rearranged by way of
// shared memory.
#include "AttentionDecode.h"
#include "MmaSync.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace dlc;

namespace {

constexpr int64_t kWarps = 4, kMostWarps = 8;
/// Rows of an instruction, and of the half of it that few rows need.
constexpr int64_t kTensorRows = 16, kHalfRows = 8;
/// Keys of one product of scores, and of one with values.
constexpr int64_t kScoreKeys = 8, kValueKeys = 16;
/// Elements that the lanes which share a key, or a row of columns, read at
/// once.
constexpr int64_t kInnerBlock = 4 * kChunk, kColumnBlock = 8 * kChunk;
constexpr int64_t kPlainRows = 8, kMostColumns = 256;
constexpr int64_t kLineBytes = 128;
/// Words that a thread may hold: by rule of queries and sums and of keys on
/// their way, and all together at most.
constexpr int64_t kRowWords = 96, kKeyWords = 32, kMostWords = 176;
/// Static shared memory, less what statistics need.
constexpr int64_t kMostShared = 40 << 10;

/// Of 16-bit elements, or of f32.
int64_t elementsAChunk(const AttentionPlan &plan) {
  auto isHalf = [](const ContractionOperand &operand) {
    return operand.plain && operand.element.isIntOrFloat() &&
           operand.element.getIntOrFloatBitWidth() == 16;
  };
  return isHalf(plan.spec.key) && isHalf(plan.spec.value) ? 8 : 4;
}

class DecodeTile : public AttentionTile {
public:
  DecodeTile(LaunchBuilder &launch, const AttentionPlan &plan)
      : AttentionTile(launch, plan), warpKeys(plan.keys / plan.keyWarps) {
    lane = index.rem(launch.thread(), index.constant(kWarpThreads));
    warp = index.div(launch.thread(), index.constant(kWarpThreads));
    firstOfWarp = index.mul(warp, warpKeys);
  }

protected:
  void leaveKeys() override {}
  void startKeys(Value, bool) override {}
  void enterKeys(Value key, bool withValues) override {
    if (!withValues || !plan.keepsScores())
      loadKeys(key);
    if (withValues)
      loadValues(key);
  }
  virtual void loadKeys(Value key) = 0;
  virtual void loadValues(Value key) = 0;
  void keepScores(Value key, ValueRange scores) override;
  Values keptScores(Value key) override;
  void combineStats(Values &maxima, Values &sums) override;
  void combineSums(Values &sums) override;
  bool coversColumns() const override {
    return numColumns * numSharers == plan.allColumns();
  }
  Value isFirst(Value number) { return index.less(number, index.constant(1)); }

  /// The thread has its rows' statistics to give, and its sums.
  virtual Value givesStats() = 0;
  virtual Value givesSums() = 0; ///< null: all do
  virtual Value addLanes(Value sum) { return sum; }

  /// A key as it may be read, and whether it is one; null: certainly.
  std::pair<Value, Value> clampKey(Value key);
  Value shared(Value memory, Value at) {
    return memref::LoadOp::create(b, loc, memory, at);
  }

  int64_t warpKeys;
  Value lane, warp, firstOfWarp;
  /// Threads that have a row's columns at the end, and this one's number.
  int64_t numSharers = 0;
  Value sharer;
  bool isCombined = false;
  Values factors; ///< of what the warp has found to what the block has
private:
  Value scorePlace(unsigned row, Value key, unsigned j);
};

std::pair<Value, Value> DecodeTile::clampKey(Value key) {
  auto total = IndexBuilder::constantOf(totalKeys);
  if (total && *total % plan.keys == 0)
    return {key, Value()};
  Value last = index.sub(totalKeys, index.constant(1));
  return {index.min(key, last), index.less(key, totalKeys)};
}

//===----------------------------------------------------------------------===//
// Scores for a second pass
//===----------------------------------------------------------------------===//

Value DecodeTile::scorePlace(unsigned row, Value key, unsigned j) {
  Value record = index.add(index.mul(outer, plan.rows), rowOf(row));
  return index.add(
      index.add(index.mul(record, launch.size(plan.paddedKeys())), key),
      keyOf(j));
}

void DecodeTile::keepScores(Value key, ValueRange scores) {
  for (unsigned i = 0; i < numRows; ++i) {
    Value stores = both(existsOf(i), plan.innerLanes ? givesSums() : Value());
    auto store = [&] {
      for (unsigned j = 0; j < numKeys; ++j)
        memref::StoreOp::create(b, loc, scores[i * numKeys + j], scratch.scores,
                                scorePlace(i, key, j));
    };
    if (stores)
      launch.onlyIf(stores, store);
    else
      store();
  }
}

AttentionTile::Values DecodeTile::keptScores(Value key) {
  Values all;
  for (unsigned i = 0; i < numRows; ++i) {
    auto load = [&] {
      Values scores;
      for (unsigned j = 0; j < numKeys; ++j)
        scores.push_back(shared(scratch.scores, scorePlace(i, key, j)));
      return scores;
    };
    if (!existsOf(i)) {
      llvm::append_range(all, load());
      continue;
    }
    SmallVector<Type> types(numKeys, b.getF32Type());
    auto choice = scf::IfOp::create(b, loc, types, existsOf(i),
                                    /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(choice.elseBlock());
    scf::YieldOp::create(b, loc, Values(numKeys, rows.number(0)));
    b.setInsertionPointToStart(choice.thenBlock());
    scf::YieldOp::create(b, loc, load());
    llvm::append_range(all, choice.getResults());
  }
  return all;
}

//===----------------------------------------------------------------------===//
// The block's end
//===----------------------------------------------------------------------===//

void DecodeTile::combineStats(Values &maxima, Values &sums) {
  Value memory = launch.shared(b.getF32Type(), plan.keyWarps * plan.rows * 2);
  auto place = [&](Value ofWarp, unsigned i) {
    return index.mul(index.add(index.mul(ofWarp, plan.rows), rowOf(i)), 2);
  };
  launch.onlyIf(givesStats(), [&] {
    for (unsigned i = 0; i < numRows; ++i) {
      Value at = place(warp, i);
      memref::StoreOp::create(b, loc, maxima[i], memory, at);
      memref::StoreOp::create(b, loc, sums[i], memory, index.add(at, 1));
    }
  });
  launch.barrier();
  auto factorOf = [&](Value maximum, Value subtracted) {
    return rows.expOfNonPositive(
        arith::SubFOp::create(b, loc, maximum, subtracted));
  };
  for (unsigned i = 0; i < numRows; ++i) {
    Values found, parts;
    Value maximum;
    for (int64_t w = 0; w < plan.keyWarps; ++w) {
      Value at = place(index.constant(w), i);
      found.push_back(shared(memory, at));
      parts.push_back(shared(memory, index.add(at, 1)));
      maximum = w ? rows.larger(maximum, found.back()) : found.back();
    }
    Value subtracted = rows.finite(maximum), sum = rows.number(0);
    for (auto [least, part] : llvm::zip_equal(found, parts))
      sum = math::FmaOp::create(b, loc, part, factorOf(least, subtracted), sum);
    factors.push_back(factorOf(maxima[i], subtracted));
    maxima[i] = maximum;
    sums[i] = sum;
  }
}

void DecodeTile::combineSums(Values &sums) {
  Value memory =
      launch.shared(b.getF32Type(), plan.keyWarps * plan.rows * plan.columns);
  auto place = [&](Value ofWarp, unsigned i) {
    return index.mul(index.add(index.mul(ofWarp, plan.rows), rowOf(i)),
                     plan.columns);
  };
  for (unsigned i = 0; i < numRows; ++i)
    for (unsigned c = 0; c < numColumns; ++c) {
      Value &sum = sums[i * numColumns + c];
      if (!plan.rounds()) // else weights are the row's
        sum = arith::MulFOp::create(b, loc, sum, factors[i]);
      sum = addLanes(sum);
    }
  auto give = [&] {
    for (unsigned i = 0; i < numRows; ++i)
      for (unsigned c = 0; c < numColumns; ++c)
        memref::StoreOp::create(b, loc, sums[i * numColumns + c], memory,
                                index.add(place(warp, i), columnOf(c)));
  };
  if (Value gives = givesSums())
    launch.onlyIf(gives, give);
  else
    give();
  launch.barrier();
  numColumns =
      static_cast<unsigned>(llvm::divideCeil(plan.allColumns(), numSharers));
  isCombined = true;
  Values whole;
  Value last = index.constant(plan.columns - 1);
  for (unsigned i = 0; i < numRows; ++i)
    for (unsigned c = 0; c < numColumns; ++c) {
      Value column = index.min(columnOf(c), last), sum;
      for (int64_t w = 0; w < plan.keyWarps; ++w) {
        Value part =
            shared(memory, index.add(place(index.constant(w), i), column));
        sum = w ? arith::AddFOp::create(b, loc, sum, part) : part;
      }
      whole.push_back(sum);
    }
  sums = whole;
}

//===----------------------------------------------------------------------===//
// On tensor cores
//===----------------------------------------------------------------------===//

// Rows are those of the instructions' first operand, of which the upper eight
// may be left away. A lane is number `inGroup` of the four of a `group`: the
// four share a key's inner elements, of which each has eight neighbours of
// every 32, and the eight groups columns, of which each has eight neighbours of
// every
// 64. Keys are those of the sums' places.
class TensorDecode final : public DecodeTile {
public:
  TensorDecode(LaunchBuilder &launch, const AttentionPlan &plan)
      : DecodeTile(launch, plan) {
    lanes = 4;
    numRows = unsigned(plan.rows / kHalfRows);
    numKeys = unsigned(warpKeys / 4);
    numColumns = unsigned(plan.columns / 4);
    group = index.div(lane, index.constant(4));
    inGroup = index.rem(lane, index.constant(4));
    numSharers = 4 * plan.keyWarps;
    sharer = index.add(index.mul(warp, 4), inGroup);
  }

private:
  Value rowOf(unsigned i) override { return index.add(group, i * kHalfRows); }
  Value keyOf(unsigned j) override {
    return index.add(index.add(firstOfWarp, index.mul(inGroup, 2)),
                     j / 2 * kScoreKeys + j % 2);
  }
  Value columnOf(unsigned c) override {
    if (isCombined)
      return index.add(sharer, c * numSharers);
    unsigned product = c / 2;
    Value column = index.mul(index.add(index.mul(inGroup, 2), c % 2), kChunk);
    return index.add(column,
                     product / kChunk * kColumnBlock + product % kChunk);
  }
  Value storesRows() override { return both(isFirst(warp), givesStats()); }
  Value givesStats() override { return isFirst(inGroup); }
  Value givesSums() override { return {}; }

  void fetchQueries() override;
  void loadKeys(Value key) override;
  void loadValues(Value key) override;
  Values multiplyKeys(Value key) override;
  Values addValues(Value key, ValueRange weights, ValueRange sums) override;

  Value word(uint32_t value) {
    return arith::ConstantOp::create(
        b, loc, b.getI32IntegerAttr(static_cast<int32_t>(value)));
  }
  Value join(Value low, Value high);
  Values chunkAt(Value factor, const ContractionOperand &operand,
                 ArrayRef<unsigned> along, Value key, Value first, bool zeroes);

  Value group, inGroup;
  Values queries; ///< fragments, four words a step
  Values keyChunks, valueChunks;
};

/// Two 16-bit numbers as a word.
Value TensorDecode::join(Value low, Value high) {
  auto wide = [&](Value bits) -> Value {
    return arith::ExtUIOp::create(b, loc, b.getI32Type(), bits);
  };
  return arith::OrIOp::create(
      b, loc, wide(low), arith::ShLIOp::create(b, loc, wide(high), word(16)));
}

/// The words of eight elements of a key, from `first` on. `zeroes`: of those
/// behind the end; else they may be any.
AttentionTile::Values TensorDecode::chunkAt(Value factor,
                                            const ContractionOperand &operand,
                                            ArrayRef<unsigned> along, Value key,
                                            Value first, bool zeroes) {
  int64_t extent = *graph::constantValue(spec.extentOf(along));
  Value total = index.constant(extent), inside;
  bool isWhole = extent % kChunk == 0;
  if (extent %
      (along == ArrayRef<unsigned>(spec.inner) ? kInnerBlock : kColumnBlock)) {
    inside = index.less(first, total);
    first = arith::SelectOp::create(b, loc, inside, first, index.constant(0));
  }
  AttentionRows::Axes axes = axesOfKey(key);
  Values words;
  if (liesInChunks(plan, operand, along)) {
    rows.setAxes(axes, along, first);
    Value position = rows.at(operand.base, axes);
    for (auto [axis, stride] : llvm::enumerate(operand.strides))
      if (stride != 0)
        position =
            index.add(position, index.mul(axes[axis], rows.at(stride, axes)));
    Type four = VectorType::get({4}, b.getI32Type());
    Value loaded =
        LLVM::LoadOp::create(b, loc, four,
                             pointerTo(b, loc, launch.buffer(operand.operand),
                                       kGlobalSpace, index.mul(position, 2)),
                             /*alignment=*/kChunkBytes);
    for (uint32_t i = 0; i < 4; ++i)
      words.push_back(LLVM::ExtractElementOp::create(b, loc, loaded, word(i)));
  } else {
    Values elements;
    for (int64_t i = 0; i < kChunk; ++i) {
      Value at = index.add(first, i);
      Value exists = isWhole ? Value() : index.less(at, total);
      rows.setAxes(axes, along, at);
      elements.push_back(storedAt(factor, axes, exists));
    }
    for (int64_t i = 0; i < kChunk; i += 2)
      words.push_back(join(elements[i], elements[i + 1]));
  }
  if (inside && zeroes)
    for (Value &bits : words)
      bits = arith::SelectOp::create(b, loc, inside, bits, word(0));
  return words;
}

// Steps of sixteen stand for elements 0-3 and 4-7 of a lane's eight.
void TensorDecode::fetchQueries() {
  for (int64_t step = 0; step < plan.inner / kValueKeys; ++step)
    for (int64_t part = 0; part < 4; ++part) {
      if (part % 2 >= numRows) {
        queries.push_back(word(0));
        continue;
      }
      auto [first, second] =
          queryPair(index.add(firstRow, rowOf(unsigned(part % 2))),
                    existsOf(unsigned(part % 2)), index.mul(inGroup, kChunk),
                    step / 2 * kInnerBlock + step % 2 * 4 + part / 2 * 2);
      queries.push_back(join(first, second));
    }
}

void TensorDecode::loadKeys(Value key) {
  keyChunks.clear();
  for (int64_t first = 0; first < warpKeys; first += kScoreKeys) {
    Value at = index.add(index.add(key, firstOfWarp), index.add(group, first));
    at = clampKey(at).first;
    for (int64_t d = 0; d < plan.inner; d += kInnerBlock)
      llvm::append_range(keyChunks,
                         chunkAt(plan.narrowKey, spec.key, spec.inner, at,
                                 index.add(index.mul(inGroup, kChunk), d),
                                 /*zeroes=*/true));
  }
}

void TensorDecode::loadValues(Value key) {
  valueChunks.clear();
  for (int64_t first = 0; first < warpKeys; first += kScoreKeys)
    for (int64_t next = 0; next < 2; ++next) {
      Value at = index.add(index.add(key, firstOfWarp),
                           index.add(index.mul(inGroup, 2), first + next));
      auto [readable, exists] = clampKey(at);
      for (int64_t c = 0; c < plan.columns; c += kColumnBlock)
        for (Value bits :
             chunkAt(plan.narrowValue, spec.value, spec.columns, readable,
                     index.add(index.mul(group, kChunk), c),
                     /*zeroes=*/false)) {
          // A weight of 0 times infinity is no 0.
          if (exists)
            bits = arith::SelectOp::create(b, loc, exists, bits, word(0));
          valueChunks.push_back(bits);
        }
    }
}

AttentionTile::Values TensorDecode::multiplyKeys(Value) {
  Values scores(numRows * numKeys);
  int64_t steps = plan.inner / kValueKeys;
  for (int64_t product = 0; product < warpKeys / kScoreKeys; ++product) {
    Values sums(4, rows.number(0));
    for (int64_t step = 0; step < steps; ++step) {
      // Two steps a chunk of four words.
      Values pair{keyChunks[(product * steps + step) * 2],
                  keyChunks[(product * steps + step) * 2 + 1]};
      sums =
          multiplyMatrices(b, loc, plan.narrow, plan.narrow,
                           ValueRange(queries).slice(step * 4, 4), pair, sums);
    }
    for (unsigned i = 0; i < numRows; ++i)
      for (unsigned j = 0; j < 2; ++j)
        scores[i * numKeys + product * 2 + j] = sums[2 * i + j];
  }
  return scores;
}

AttentionTile::Values TensorDecode::addValues(Value, ValueRange weights,
                                              ValueRange before) {
  ExprEmitter expressions = rows.expressions();
  auto weight = [&](unsigned i, unsigned j) {
    return expressions.scalars.toStorage(
        {weights[i * numKeys + j], plan.narrow});
  };
  auto asBits = [&](Value value) -> Value {
    Type bits = b.getI16Type();
    return value.getType() == bits
               ? value
               : arith::BitcastOp::create(b, loc, bits, value).getResult();
  };
  Values next(before);
  int64_t chunkWords = plan.columns / kColumnBlock * 4;
  for (int64_t step = 0; step < warpKeys / kValueKeys; ++step) {
    Values a;
    for (unsigned part = 0; part < 4; ++part) {
      unsigned i = part % 2, j = unsigned(step * 4 + part / 2 * 2);
      a.push_back(i < numRows
                      ? join(asBits(weight(i, j)), asBits(weight(i, j + 1)))
                      : word(0));
    }
    for (int64_t product = 0; product < plan.columns / 8; ++product) {
      // Of both keys of a pair, the lane's column.
      Values pairs;
      for (int64_t half = 0; half < 2; ++half) {
        auto chunkWord = [&](int64_t inPair) {
          int64_t key = (step * 2 + half) * 2 + inPair;
          return valueChunks[key * chunkWords + product / kChunk * 4 +
                             product % kChunk / 2];
        };
        Value x = chunkWord(0), y = chunkWord(1);
        if (product % 2 == 0) {
          x = arith::AndIOp::create(b, loc, x, word(0xffff));
          y = arith::ShLIOp::create(b, loc, y, word(16));
        } else {
          x = arith::ShRUIOp::create(b, loc, x, word(16));
          y = arith::AndIOp::create(b, loc, y, word(0xffff0000));
        }
        pairs.push_back(arith::OrIOp::create(b, loc, x, y));
      }
      auto at = [&](unsigned i, unsigned j) -> Value & {
        return next[i * numColumns + product * 2 + j];
      };
      Values sums;
      for (unsigned i = 0; i < 2; ++i)
        for (unsigned j = 0; j < 2; ++j)
          sums.push_back(i < numRows ? at(i, j) : rows.number(0));
      sums = multiplyMatrices(b, loc, plan.narrow, plan.narrow, a, pairs, sums);
      for (unsigned i = 0; i < numRows; ++i)
        for (unsigned j = 0; j < 2; ++j)
          at(i, j) = sums[2 * i + j];
    }
  }
  return next;
}

//===----------------------------------------------------------------------===//
// On plain units
//===----------------------------------------------------------------------===//

// All lanes have all rows. Those of the same `part` share inner elements and
// columns, a chunk of every `innerLanes` chunks; the others have other keys,
// for which they have sums of their own until the end.
class PlainDecode final : public DecodeTile {
public:
  PlainDecode(LaunchBuilder &launch, const AttentionPlan &plan)
      : DecodeTile(launch, plan), chunk(elementsAChunk(plan)),
        keyLanes(kWarpThreads / plan.innerLanes) {
    lanes = unsigned(keyLanes);
    numRows = unsigned(plan.rows);
    numKeys = unsigned(warpKeys / keyLanes);
    numColumns = unsigned(plan.columns / plan.innerLanes);
    keyLane = index.rem(lane, index.constant(keyLanes));
    part = index.div(lane, index.constant(keyLanes));
    numSharers = plan.threads;
    sharer = launch.thread();
  }

private:
  Value rowOf(unsigned i) override { return index.constant(i); }
  Value keyOf(unsigned j) override {
    return index.add(index.add(firstOfWarp, keyLane), j * keyLanes);
  }
  Value columnOf(unsigned c) override {
    return isCombined ? index.add(sharer, c * numSharers) : elementOf(c);
  }
  /// Number i of the thread's inner elements, or columns.
  Value elementOf(unsigned i) {
    return index.add(index.mul(part, chunk),
                     i / chunk * chunk * plan.innerLanes + i % chunk);
  }
  Value storesRows() override { return isFirst(launch.thread()); }
  Value givesStats() override { return isFirst(lane); }
  Value givesSums() override { return isFirst(keyLane); }
  Value addLanes(Value sum) override {
    for (int64_t offset = keyLanes / 2; offset > 0; offset /= 2)
      sum = arith::AddFOp::create(b, loc, sum,
                                  launch.shuffleXor(sum, unsigned(offset)));
    return sum;
  }

  void fetchQueries() override;
  void loadKeys(Value key) override;
  void loadValues(Value key) override;
  Values multiplyKeys(Value key) override;
  Values addValues(Value key, ValueRange weights, ValueRange sums) override;

  int64_t chunk, keyLanes;
  Value keyLane, part;
  Values queries, keyElements, valueElements; ///< [row or key][element]
};

void PlainDecode::fetchQueries() {
  for (unsigned i = 0; i < numRows; ++i)
    for (unsigned x = 0; x < plan.inner / plan.innerLanes; ++x) {
      AttentionRows::Axes axes = axesOfRow(index.add(firstRow, rowOf(i)));
      rows.setAxes(axes, spec.inner, elementOf(x));
      queries.push_back(factorAt(spec.query.value, axes, Value()));
    }
}

void PlainDecode::loadKeys(Value key) {
  keyElements.clear();
  for (unsigned j = 0; j < numKeys; ++j) {
    AttentionRows::Axes axes =
        axesOfKey(clampKey(index.add(key, keyOf(j))).first);
    for (unsigned x = 0; x < plan.inner / plan.innerLanes; ++x) {
      rows.setAxes(axes, spec.inner, elementOf(x));
      keyElements.push_back(factorAt(spec.key.value, axes, Value()));
    }
  }
}

void PlainDecode::loadValues(Value key) {
  valueElements.clear();
  for (unsigned j = 0; j < numKeys; ++j) {
    auto [readable, exists] = clampKey(index.add(key, keyOf(j)));
    AttentionRows::Axes axes = axesOfKey(readable);
    for (unsigned c = 0; c < plan.columns / plan.innerLanes; ++c) {
      rows.setAxes(axes, spec.columns, elementOf(c));
      Value value = factorAt(spec.value.value, axes, Value());
      if (exists) // a weight of 0 times infinity is no 0
        value = arith::SelectOp::create(b, loc, exists, value, rows.number(0));
      valueElements.push_back(value);
    }
  }
}

AttentionTile::Values PlainDecode::multiplyKeys(Value) {
  unsigned elements = unsigned(plan.inner / plan.innerLanes);
  Values scores;
  for (unsigned i = 0; i < numRows; ++i)
    for (unsigned j = 0; j < numKeys; ++j) {
      Value sum = rows.number(0);
      for (unsigned x = 0; x < elements; ++x)
        sum = math::FmaOp::create(b, loc, queries[i * elements + x],
                                  keyElements[j * elements + x], sum);
      for (unsigned offset = kWarpThreads / 2; offset >= keyLanes; offset /= 2)
        sum =
            arith::AddFOp::create(b, loc, sum, launch.shuffleXor(sum, offset));
      scores.push_back(sum);
    }
  return scores;
}

AttentionTile::Values PlainDecode::addValues(Value, ValueRange weights,
                                             ValueRange before) {
  Values sums(before);
  for (unsigned i = 0; i < numRows; ++i)
    for (unsigned j = 0; j < numKeys; ++j)
      for (unsigned c = 0; c < numColumns; ++c) {
        Value &sum = sums[i * numColumns + c];
        sum = math::FmaOp::create(b, loc, weights[i * numKeys + j],
                                  valueElements[j * numColumns + c], sum);
      }
  return sums;
}

} // namespace

//===----------------------------------------------------------------------===//
// What fits
//===----------------------------------------------------------------------===//

static bool fitTensor(AttentionPlan &plan, int64_t all, int64_t keys) {
  if (all > kTensorRows || keys % kValueKeys)
    return false;
  auto extent = [&](ArrayRef<unsigned> axes) {
    return *graph::constantValue(plan.spec.extentOf(axes));
  };
  plan.rows = llvm::alignTo(all, kHalfRows);
  plan.innerLanes = 0;
  plan.inner = llvm::alignTo(extent(plan.spec.inner), kInnerBlock);
  plan.columns = llvm::alignTo(extent(plan.spec.columns), kColumnBlock);
  int64_t wide = std::max(plan.inner, plan.columns);
  if (plan.columns > kMostColumns)
    return false;
  int64_t warpKeys = keys ? keys : 2 * kValueKeys;
  plan.keyWarps = 1; // keepsScores asks
  // Queries and sums are held in different launches, or passes, where scores
  // are kept.
  int64_t queries = plan.inner / 4,
          sums = plan.columns / 4 * (plan.rows / kHalfRows);
  int64_t held = plan.keepsScores() ? std::max(queries, sums) : queries + sums;
  auto words = [&] {
    return warpKeys * wide / 64 * (plan.rounds() ? 1 : 2) + held;
  };
  if (!keys && words() > kMostWords)
    warpKeys = kValueKeys;
  plan.keys = warpKeys;
  return words() <= kMostWords;
}

static bool fitPlain(AttentionPlan &plan, int64_t all, int64_t keys,
                     int64_t lanes) {
  plan.inner = *graph::constantValue(plan.spec.extentOf(plan.spec.inner));
  plan.columns = plan.allColumns();
  plan.rows = all;
  if (all > kPlainRows || plan.columns > kMostColumns)
    return false;
  int64_t chunk = elementsAChunk(plan), both = plan.inner + plan.columns;
  auto fits = [&](int64_t l) {
    return plan.inner % (l * chunk) == 0 && plan.columns % (l * chunk) == 0;
  };
  if (lanes) {
    if (!llvm::isPowerOf2_64(lanes) || lanes < 4 || lanes > kWarpThreads ||
        !fits(lanes))
      return false;
  } else {
    // A line for the lanes of a key, more where rows are.
    lanes = kLineBytes / 16;
    while (lanes > 4 && !fits(lanes))
      lanes /= 2;
    while (lanes < kWarpThreads && all * both / lanes > kRowWords)
      lanes *= 2;
    if (!fits(lanes) || all * both / lanes > kRowWords)
      return false;
  }
  plan.innerLanes = lanes;
  int64_t keyLanes = kWarpThreads / lanes;
  int64_t each = keys / keyLanes;
  if (!keys)
    for (each = 1; each < 8 && 2 * each * plan.inner / lanes <= kKeyWords;)
      each *= 2;
  plan.keys = each * keyLanes;
  return each > 0 && (!keys || plan.keys == keys) &&
         (all + each) * both / lanes <= kMostWords;
}

bool dlc::fitDecodeTile(AttentionPlan &plan, int64_t warps, int64_t keys,
                        int64_t lanes) {
  auto all = graph::constantValue(plan.allRows());
  if (!all || warps > kMostWarps || (warps && !llvm::isPowerOf2_64(warps)))
    return false;
  AttentionPlan fitted = plan;
  if (!(plan.narrow ? !lanes && fitTensor(fitted, *all, keys)
                    : fitPlain(fitted, *all, keys, lanes)))
    return false;
  auto isShared = [&](int64_t count) {
    return count * fitted.rows * fitted.columns * 4 <= kMostShared;
  };
  if (!warps)
    for (warps = kWarps; warps > 1 && !isShared(warps);)
      warps /= 2;
  if (!isShared(warps))
    return false;
  fitted.keyWarps = warps;
  fitted.threads = unsigned(warps * kWarpThreads);
  fitted.keys *= warps;
  plan = fitted;
  return true;
}

std::unique_ptr<AttentionTile> dlc::makeDecodeTile(LaunchBuilder &launch,
                                                   const AttentionPlan &plan) {
  if (plan.narrow)
    return std::make_unique<TensorDecode>(launch, plan);
  return std::make_unique<PlainDecode>(launch, plan);
}
