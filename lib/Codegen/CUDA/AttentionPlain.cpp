// Attention on the plain f32 units: any factors. Sixteen lanes hold the same
// rows, each with four keys of a step's 64 and every sixteenth four (or one) of
// the columns. Queries stay in shared memory; keys and values go through a
// panel of it, weights from lanes to rows through another.
#include "AttentionTile.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace dlc;

namespace {

constexpr unsigned kThreads = 256;
/// Lanes that share rows, and groups of them in a block.
constexpr int64_t kLanes = 16, kGroups = kThreads / kLanes;
constexpr int64_t kKeys = 64, kLaneKeys = kKeys / kLanes;
/// Steps of a product between two barriers.
constexpr int64_t kDepth = 16;
/// Columns of a block at most: sixteen sums a row of each thread.
constexpr int64_t kMostColumns = 256;
/// Rows of a block at most.
constexpr int64_t kMostRows = 64;
/// Four floats more a row keep rows 16-byte aligned and off each other's banks.
constexpr int64_t kPadding = 4;
/// Static shared memory.
constexpr int64_t kMostShared = 48 << 10;

int64_t panelWords(const AttentionPlan &plan) {
  return kDepth * (std::max(kKeys, plan.columns) + kPadding);
}
int64_t queryWords(const AttentionPlan &plan) {
  return plan.inner * (plan.rows + kPadding);
}
int64_t weightWords(const AttentionPlan &plan) {
  return kKeys * (plan.rows + kPadding);
}

class PlainTile final : public AttentionTile {
public:
  PlainTile(LaunchBuilder &launch, const AttentionPlan &plan)
      : AttentionTile(launch, plan) {
    lanes = kLanes;
    numRows = plan.rows / kGroups;
    numKeys = kLaneKeys;
    numColumns = plan.columns / kLanes;
    pitch = plan.rows + kPadding;
    lane = index.rem(launch.thread(), index.constant(kLanes));
    firstOfGroup =
        index.mul(index.div(launch.thread(), index.constant(kLanes)), numRows);
    Type f32 = b.getF32Type();
    queries = launch.shared(f32, queryWords(plan));
    weightsMemory = launch.shared(f32, weightWords(plan));
    panel = launch.shared(f32, panelWords(plan));
  }

private:
  Value rowOf(unsigned i) override { return index.add(firstOfGroup, i); }
  Value keyOf(unsigned j) override {
    return index.add(index.mul(lane, kLaneKeys), j);
  }
  Value columnOf(unsigned c) override {
    if (inFours())
      return index.add(index.mul(lane, 4), c / 4 * (4 * kLanes) + c % 4);
    return index.add(lane, c * kLanes);
  }
  bool inFours() const { return plan.columns % (4 * kLanes) == 0; }

  void fetchQueries() override;
  Values multiplyKeys(Value key) override;
  Values addValues(Value key, ValueRange weights, ValueRange sums) override;

  void fill(Value memory, int64_t outer, int64_t inner, bool innerFirst,
            int64_t rowPitch,
            llvm::function_ref<Value(Value outer, Value inner)> element);
  Value load(Value memory, Value at) {
    return memref::LoadOp::create(b, loc, memory, at);
  }
  Values multiplyAdd(ValueRange left, ValueRange right, ValueRange sums);

  int64_t pitch;
  Value lane, firstOfGroup;
  Value queries, weightsMemory, panel;
};

} // namespace

bool dlc::fitPlainTile(AttentionPlan &plan, int64_t wanted) {
  plan.threads = kThreads;
  plan.keys = kKeys;
  plan.inner = llvm::alignTo(
      *graph::constantValue(plan.spec.extentOf(plan.spec.inner)), kDepth);
  int64_t columns = plan.allColumns();
  int64_t tiles = llvm::divideCeil(columns, kMostColumns);
  plan.columns = llvm::alignTo(llvm::divideCeil(columns, tiles), kLanes);
  auto rows = graph::constantValue(plan.allRows());
  for (plan.rows = kMostRows; plan.rows >= kGroups; plan.rows /= 2) {
    if (wanted && plan.rows != wanted)
      continue;
    if (!wanted && rows && plan.rows > kGroups && plan.rows >= 2 * *rows)
      continue; // most of the tile would be idle
    if ((queryWords(plan) + weightWords(plan) + panelWords(plan)) * 4 <=
        kMostShared)
      return true;
  }
  return false;
}

std::unique_ptr<AttentionTile> dlc::makePlainTile(LaunchBuilder &launch,
                                                  const AttentionPlan &plan) {
  return std::make_unique<PlainTile>(launch, plan);
}

/// memory[outer][inner] = element; neighbour threads take neighbours along
/// `inner`, or along `outer`.
void PlainTile::fill(Value memory, int64_t outer, int64_t inner,
                     bool innerFirst, int64_t rowPitch,
                     llvm::function_ref<Value(Value, Value)> element) {
  Value fast = index.constant(innerFirst ? inner : outer);
  launch.loop(launch.thread(), index.constant(outer * inner),
              index.constant(kThreads), [&](Value i) {
                Value slow = index.div(i, fast), quick = index.rem(i, fast);
                Value o = innerFirst ? slow : quick;
                Value n = innerFirst ? quick : slow;
                Value value = element(o, n);
                memref::StoreOp::create(b, loc, value, memory,
                                        index.add(index.mul(o, rowPitch), n));
              });
}

/// Whether a plain operand lies contiguous along the last of these axes; true
/// where one cannot know.
static bool liesAlong(const ContractionOperand &operand,
                      ArrayRef<unsigned> axes) {
  return !operand.plain || axes.empty() || operand.strides[axes.back()] == 1;
}

void PlainTile::fetchQueries() {
  Value depth = launch.size(spec.extentOf(spec.inner));
  fill(queries, plan.inner, plan.rows, !liesAlong(spec.query, spec.inner),
       pitch, [&](Value k, Value row) {
         Value at = index.add(firstRow, row);
         Value inside = both(index.less(at, totalRows), index.less(k, depth));
         AttentionRows::Axes axes = axesOfRow(at);
         rows.setAxes(axes, spec.inner, k);
         return factorAt(spec.query.value, axes, inside);
       });
}

/// sums[i][j] += left[i] * right[j].
AttentionTile::Values PlainTile::multiplyAdd(ValueRange left, ValueRange right,
                                             ValueRange sums) {
  Values next;
  for (auto [i, x] : llvm::enumerate(left))
    for (auto [j, y] : llvm::enumerate(right))
      next.push_back(
          math::FmaOp::create(b, loc, x, y, sums[i * right.size() + j]));
  return next;
}

AttentionTile::Values PlainTile::multiplyKeys(Value key) {
  Value depth = launch.size(spec.extentOf(spec.inner));
  constexpr int64_t panelPitch = kKeys + kPadding;
  Values zeros(numRows * numKeys, rows.number(0));
  return launch.loop(
      index.constant(0), index.constant(plan.inner), index.constant(kDepth),
      zeros, [&](Value first, ValueRange carried) {
        fill(panel, kDepth, kKeys, !liesAlong(spec.key, spec.inner), panelPitch,
             [&](Value step, Value i) {
               Value k = index.add(first, step), at = index.add(key, i);
               Value inside =
                   both(index.less(at, totalKeys), index.less(k, depth));
               AttentionRows::Axes axes = axesOfKey(at);
               rows.setAxes(axes, spec.inner, k);
               return factorAt(spec.key.value, axes, inside);
             });
        launch.barrier();
        Values sums = launch.loop(
            index.constant(0), index.constant(kDepth), index.constant(1),
            carried, [&](Value step, ValueRange so) {
              Value row = index.add(index.mul(index.add(first, step), pitch),
                                    firstOfGroup);
              Value column = index.add(index.mul(step, panelPitch),
                                       index.mul(lane, kLaneKeys));
              Values left, right;
              for (unsigned i = 0; i < numRows; ++i)
                left.push_back(load(queries, index.add(row, i)));
              for (unsigned j = 0; j < numKeys; ++j)
                right.push_back(load(panel, index.add(column, j)));
              return multiplyAdd(left, right, so);
            });
        launch.barrier(); // the panel is written again
        return sums;
      });
}

AttentionTile::Values PlainTile::addValues(Value key, ValueRange weights,
                                           ValueRange sums) {
  for (unsigned j = 0; j < numKeys; ++j) {
    Value row = index.add(index.mul(keyOf(j), pitch), firstOfGroup);
    for (unsigned i = 0; i < numRows; ++i)
      memref::StoreOp::create(b, loc, weights[i * numKeys + j], weightsMemory,
                              index.add(row, i));
  }
  int64_t panelPitch = plan.columns + kPadding;
  return launch.loop(
      index.constant(0), index.constant(kKeys), index.constant(kDepth), sums,
      [&](Value first, ValueRange carried) {
        fill(panel, kDepth, plan.columns, liesAlong(spec.value, spec.columns),
             panelPitch, [&](Value step, Value i) {
               Value at = index.add(key, index.add(first, step));
               Value column = index.add(firstColumn, i);
               Value inside = both(index.less(at, totalKeys),
                                   index.less(column, totalColumns));
               AttentionRows::Axes axes = axesOfKey(at);
               rows.setAxes(axes, spec.columns, column);
               return factorAt(spec.value.value, axes, inside);
             });
        launch.barrier(); // with weights in place, too
        Values next = launch.loop(
            index.constant(0), index.constant(kDepth), index.constant(1),
            carried, [&](Value step, ValueRange so) {
              Value row = index.add(index.mul(index.add(first, step), pitch),
                                    firstOfGroup);
              Value column = index.mul(step, panelPitch);
              Values left, right;
              for (unsigned i = 0; i < numRows; ++i)
                left.push_back(load(weightsMemory, index.add(row, i)));
              for (unsigned c = 0; c < numColumns; ++c)
                right.push_back(load(panel, index.add(column, columnOf(c))));
              return multiplyAdd(left, right, so);
            });
        launch.barrier();
        return next;
      });
}
