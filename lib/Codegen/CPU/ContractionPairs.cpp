// The last columns of a product, where they fill half a vector: that vector
// holds two steps of k of them in turns, column 0 of k, column 0 of k + 1,
// column 1 of k, ..., so that one multiply-add does both. Its sums are those of
// the even and of the odd steps, added at the end: another order of the sum.
#include "ContractionPairs.h"

#include "ContractionTileBody.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

bool dlc::canPairTail(const ContractionSpec &spec,
                      const ContractionSchedule &s) {
  auto isEven = [](std::optional<int64_t> n) { return n && *n % 2 == 0; };
  auto columns = graph::constantValue(spec.extentOf(spec.columns));
  bool isHalf = columns && s.lanes >= 8 && *columns % s.lanes == s.lanes / 2;
  // As they lie in memory: neither factor is converted by the tiles.
  if (!isHalf || s.form != ProductForm::Single || !s.fma ||
      !spec.accumulator.isF32() || s.rhs != FactorSource::Packed ||
      !spec.rhs.plain || !spec.rhs.element.isF32() || s.widensRhs ||
      s.depthPerPass % 2 != 0 ||
      !isEven(graph::constantValue(spec.extentOf(spec.inner))))
    return false;
  switch (s.lhs) { // the two steps of a row lie side by side
  case FactorSource::Memory: {
    auto inner = spec.strideOf(spec.lhs, spec.inner);
    return spec.lhs.element.isF32() && inner && *inner == 1;
  }
  case FactorSource::Indirect:
    return spec.lhs.element.isF32() &&
           isEven(graph::constantValue(spec.extentOf(spec.lhsRun())));
  case FactorSource::Filled:
    return !s.wholeSteps && (s.wholeRows || s.kBlock % 2 == 0);
  case FactorSource::Packed:
    return s.kBlock % 2 == 0 && spec.lhs.element.isF32();
  }
  llvm_unreachable("no such source");
}

void dlc::pairTail(const PackedLayout &layout, MutableArrayRef<float> packed) {
  int64_t lanes = layout.pairedLanes, half = lanes / 2, width = layout.panel;
  int64_t first = int64_t(layout.major.size()) / lanes * lanes;
  std::vector<float> pair(lanes);
  for (int64_t b = 0; b < int64_t(layout.batch.size()); ++b)
    for (int64_t k = 0; k < layout.depth(); k += 2) {
      float *even = &packed[layout.offsetOf(b, first, k)], *odd = even + width;
      for (int64_t i = 0; i < half; ++i) {
        pair[2 * i] = even[i];
        pair[2 * i + 1] = odd[i];
      }
      std::copy(pair.begin(), pair.end(), even);
      std::fill(odd, odd + lanes, 0.0f);
    }
}

bool TileBody::hasPairs() const {
  return p.pairsTail && shape.tailLanes && !shape.dynamicTail;
}

TileBody::Accumulators TileBody::pairStep(Value lhsAt, Value rhsAt,
                                          Accumulators sums) {
  unsigned last = shape.vectors - 1;
  SmallVector<Value> right[2];
  for (unsigned step : {0, 1})
    for (unsigned v = 0; v < last; ++v)
      right[step].push_back(
          loadRhs(index.add(rhsAt, index.mul(p.rhsStep, int64_t(step))), v));
  Value both = loadRhs(rhsAt, last);
  auto pairType = VectorType::get({2}, type.getElementType());
  SmallVector<int64_t> turns;
  for (unsigned i = 0; i < p.lanes; ++i)
    turns.push_back(i % 2);
  for (unsigned r = 0; r < shape.rows; ++r) {
    if (!isPadding.empty() && isPadding[r])
      continue;
    Value at = index.add(lhsAt, rowOffsets[r]);
    for (unsigned step : {0, 1}) {
      if (!last)
        continue;
      Value left = broadcastLhs(r, index.add(at, step));
      for (unsigned v = 0; v < last; ++v) {
        Value &sum = sums[r * shape.vectors + v];
        sum = multiplyAdd(left, right[step][v], sum);
      }
    }
    Value memory = rowMemories.empty() ? lhs : rowMemories[r];
    Value pair = vector::LoadOp::create(b, loc, pairType, memory, at);
    Value &sum = sums[r * shape.vectors + last];
    sum = multiplyAdd(vector::ShuffleOp::create(b, loc, pair, pair, turns),
                      both, sum);
  }
  return sums;
}

void TileBody::spreadPairs(Accumulators &sums) {
  if (!hasPairs())
    return;
  SmallVector<int64_t> turns; // what is there so far, beside zeros
  for (unsigned i = 0; i < p.lanes; ++i)
    turns.push_back(i % 2 ? p.lanes : i / 2);
  for (unsigned r = 0; r < shape.rows; ++r) {
    Value &sum = sums[(r + 1) * shape.vectors - 1];
    sum = vector::ShuffleOp::create(b, loc, sum,
                                    zeroVector(type.getElementType()), turns);
  }
}

void TileBody::addPairs(Accumulators &sums) {
  if (!hasPairs())
    return;
  SmallVector<int64_t> even, odd; // the upper half repeats the lower one
  for (unsigned i = 0; i < p.lanes; ++i) {
    even.push_back(2 * i % p.lanes);
    odd.push_back(2 * i % p.lanes + 1);
  }
  for (unsigned r = 0; r < shape.rows; ++r) {
    Value &sum = sums[(r + 1) * shape.vectors - 1];
    Value low = vector::ShuffleOp::create(b, loc, sum, sum, even),
          high = vector::ShuffleOp::create(b, loc, sum, sum, odd);
    sum = arith::AddFOp::create(b, loc, low, high);
  }
}
