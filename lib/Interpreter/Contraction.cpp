// Sums of products, fast. When the two factors of the product depend on
// different domain axes, each factor is evaluated once for a block of its own
// axes and the reduce axes, by the general evaluator, and the products are then
// summed from the two dense blocks. Every element is still summed from left to
// right, so that the result is the one of the general path.
//
//   u[m, k] for the axes only the first factor has, v[k, n] for those only the
//   second has; the axes both have are walked outside.
#include "StageEvaluator.h"

#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/SetVector.h"

#include <algorithm>

using namespace mlir;
using namespace dlc;
using namespace dlc::interp;
using dlc::graph::FoldKind;
using dlc::graph::ScalarFn;

// Marks the iteration axes that `value` depends on.
static void markAxes(Value value, llvm::BitVector &axes) {
  if (auto arg = dyn_cast<BlockArgument>(value)) {
    axes.set(arg.getArgNumber());
    return;
  }
  Operation *op = value.getDefiningOp();
  auto markUsed = [&](OperandRange coords,
                      function_ref<bool(unsigned)> isUsed) {
    for (auto [i, coord] : llvm::enumerate(coords))
      if (isUsed(i))
        markAxes(coord, axes);
  };
  if (auto load = dyn_cast<graph::LoadOp>(op)) {
    markUsed(load.getCoords(), [&](unsigned i) {
      if (load.getMap().isFunctionOfDim(i))
        return true;
      auto guard = load.getGuard();
      return guard && llvm::any_of(guard->getConstraints(), [&](AffineExpr e) {
               return e.isFunctionOfDim(i);
             });
    });
    if (load.getOther())
      markAxes(load.getOther(), axes);
  } else if (auto coord = dyn_cast<graph::CoordOp>(op)) {
    markUsed(coord.getCoords(),
             [&](unsigned i) { return coord.getMap().isFunctionOfDim(i); });
  } else {
    for (Value operand : op->getOperands())
      markAxes(operand, axes);
  }
}

namespace {
constexpr int64_t kRows = 64;     // of u in a block
constexpr int64_t kColumns = 256; // of v in a block
constexpr int64_t kDepth = 256;   // reduce points in a block
static_assert(kColumns <= kBlock && kRows <= kBlock);

// One factor and the axes only it has.
struct Factor {
  Value value;
  SmallVector<unsigned, 8> axes;
  int64_t points = 1;
};

// c[i][j] += u[i][k] * v[k][j] for rows x columns, k from left to right.
// The tile is small enough to stay in vector registers.
template <typename T, int rows, int columns>
void multiplyTile(const T *u, int64_t uStride, const T *v, int64_t depth,
                  T *c) {
  T sum[rows][columns];
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j)
      sum[i][j] = c[i * kColumns + j];
  for (int64_t k = 0; k < depth; ++k)
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < columns; ++j)
        sum[i][j] += u[i * uStride + k] * v[k * kColumns + j];
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j)
      c[i * kColumns + j] = sum[i][j];
}

template <typename T>
void multiplyBlock(const T *u, const T *v, int64_t rows, int64_t columns,
                   int64_t depth, T *c) {
  constexpr int tileRows = 4, tileColumns = 32 / sizeof(T);
  int64_t fullColumns = columns / tileColumns * tileColumns;
  int64_t i = 0;
  for (; i + tileRows <= rows; i += tileRows) {
    for (int64_t j = 0; j < fullColumns; j += tileColumns)
      multiplyTile<T, tileRows, tileColumns>(u + i * kDepth, kDepth, v + j,
                                             depth, c + i * kColumns + j);
    for (int64_t j = fullColumns; j < columns; ++j)
      multiplyTile<T, tileRows, 1>(u + i * kDepth, kDepth, v + j, depth,
                                   c + i * kColumns + j);
  }
  for (; i < rows; ++i) {
    for (int64_t j = 0; j < fullColumns; j += tileColumns)
      multiplyTile<T, 1, tileColumns>(u + i * kDepth, kDepth, v + j, depth,
                                      c + i * kColumns + j);
    for (int64_t j = fullColumns; j < columns; ++j)
      multiplyTile<T, 1, 1>(u + i * kDepth, kDepth, v + j, depth,
                            c + i * kColumns + j);
  }
}

// The work of one thread.
template <typename T>
class ContractionWorker {
public:
  ContractionWorker(StageTask &task, const Factor &rows, const Factor &columns,
                    ArrayRef<unsigned> shared, const BodyProgram &rowProgram,
                    const BodyProgram &columnProgram, char *out)
      : task(task), rows(rows), columns(columns), shared(shared),
        rowState(rowProgram), columnState(columnProgram),
        rowBlock(task.extents, task.reduceAxes),
        columnBlock(task.extents, columns.axes),
        out(reinterpret_cast<T *>(out)), u(new T[kRows * kDepth]),
        v(new T[kDepth * kColumns]), c(rows.points * kColumns) {
    strides.assign(task.domainAxes.size(), 1);
    for (size_t i = strides.size(); i-- > 1;)
      strides[i - 1] = strides[i] * task.extents[i];
  }

  // All rows of the columns first .. first + count - 1 at one point of the
  // shared axes.
  bool run(int64_t sharedPoint, int64_t first, int64_t count, const T &init) {
    rowBlock.setFixedPosition(shared, sharedPoint);
    columnBlock.setFixedPosition(shared, sharedPoint);
    columnBlock.select(first, count);
    std::fill(c.begin(), c.end(), init);
    for (int64_t k = 0; k < task.reducePoints; k += kDepth) {
      int64_t depth = std::min(kDepth, task.reducePoints - k);
      for (int64_t i = 0; i < depth; ++i) {
        columnBlock.setFixedPosition(task.reduceAxes, k + i);
        if (!columnState.run(columnBlock))
          return false;
        std::memcpy(v.get() + i * kColumns, columnState.getRoot(),
                    count * sizeof(T));
      }
      for (int64_t m = 0; m < rows.points; m += kRows) {
        int64_t height = std::min(kRows, rows.points - m);
        for (int64_t i = 0; i < height; ++i) {
          rowBlock.setFixedPosition(rows.axes, m + i);
          rowBlock.select(k, depth);
          if (!rowState.run(rowBlock))
            return false;
          std::memcpy(u.get() + i * kDepth, rowState.getRoot(),
                      depth * sizeof(T));
        }
        multiplyBlock(u.get(), v.get(), height, count, depth,
                      c.data() + m * kColumns);
      }
    }
    store(sharedPoint, first, count);
    return true;
  }

private:
  // The place in the result of a row-major position of some axes.
  int64_t offsetOf(ArrayRef<unsigned> axes, int64_t position) const {
    int64_t offset = 0;
    for (unsigned axis : llvm::reverse(axes)) {
      offset += position % task.extents[axis] * strides[axis];
      position /= task.extents[axis];
    }
    return offset;
  }
  void store(int64_t sharedPoint, int64_t first, int64_t count) {
    int64_t columnOffset[kColumns], base = offsetOf(shared, sharedPoint);
    for (int64_t j = 0; j < count; ++j)
      columnOffset[j] = offsetOf(columns.axes, first + j);
    for (int64_t m = 0; m < rows.points; ++m) {
      T *to = out + base + offsetOf(rows.axes, m);
      for (int64_t j = 0; j < count; ++j)
        to[columnOffset[j]] = c[m * kColumns + j];
    }
  }

  StageTask &task;
  const Factor &rows, &columns;
  ArrayRef<unsigned> shared;
  BodyState rowState, columnState;
  PointBlock rowBlock, columnBlock;
  T *out;
  std::unique_ptr<T[]> u, v;
  std::vector<T> c;
  SmallVector<int64_t, 8> strides;
};
} // namespace

// Sums wrap, so that signed integers are summed as unsigned ones.
template <typename T>
static void contract(StageTask &task, const Factor &rows, const Factor &columns,
                     ArrayRef<unsigned> shared, Tensor &out) {
  BodyProgram rowProgram(task.stage, rows.value, task.symbols, task.extents,
                         task.reduceAxes.back(), task.tensorOf, task.math,
                         task.errors);
  BodyProgram columnProgram(task.stage, columns.value, task.symbols,
                            task.extents, columns.axes.back(), task.tensorOf,
                            task.math, task.errors);
  if (task.errors.failed())
    return;
  T init = 0;
  if (task.stage.getInit())
    fillLanes(*getLaneType(task.stage.getElementType()),
              task.stage.getInitAttr(), 1, &init);
  int64_t sharedPoints = 1;
  for (unsigned axis : shared)
    sharedPoints *= task.extents[axis];
  int64_t columnBlocks = llvm::divideCeil(columns.points, kColumns),
          blocks = sharedPoints * columnBlocks;
  int64_t work =
      rows.points * std::min(columns.points, kColumns) * task.reducePoints;
  char *bytes = out.getMutableBytes();
  parallelFor(
      blocks, std::max<int64_t>((1 << 20) / std::max<int64_t>(work, 1), 1),
      task.threads, [&](int64_t begin, int64_t end) {
        ContractionWorker<T> worker(task, rows, columns, shared, rowProgram,
                                    columnProgram, bytes);
        for (int64_t b = begin; b < end; ++b) {
          int64_t first = b % columnBlocks * kColumns;
          if (!worker.run(b / columnBlocks, first,
                          std::min(kColumns, columns.points - first), init))
            return;
        }
      });
}

bool interp::evaluateContraction(StageTask &task, Tensor &out) {
  graph::StageOp stage = task.stage;
  auto product = stage.getYielded().getDefiningOp<graph::ApplyOp>();
  if (stage.getFoldKind() != FoldKind::add || !product ||
      product.getFn() != ScalarFn::mul || task.reducePoints < 4 ||
      task.domainPoints == 0)
    return false;
  LaneType type = *getLaneType(stage.getElementType());
  if (isHalf(type) || laneBytes(type) < 4)
    return false;

  llvm::BitVector axes[2];
  Factor factors[2];
  for (int i : {0, 1}) {
    axes[i].resize(task.extents.size());
    factors[i].value = product.getArgs()[i];
    markAxes(factors[i].value, axes[i]);
  }
  SmallVector<unsigned, 8> shared;
  for (unsigned axis : task.domainAxes) {
    if (axes[0].test(axis) == axes[1].test(axis)) {
      shared.push_back(axis);
      continue;
    }
    Factor &owner = factors[axes[0].test(axis) ? 0 : 1];
    owner.axes.push_back(axis);
    owner.points *= task.extents[axis];
  }
  // The general path is as good when a factor is not used often.
  if (factors[0].points < 4 || factors[1].points < 4)
    return false;
  bool swap = factors[1].points < factors[0].points;
  const Factor &rows = factors[swap ? 1 : 0], &columns = factors[swap ? 0 : 1];
  switch (type) {
  case LaneType::f64:
    contract<double>(task, rows, columns, shared, out);
    break;
  case LaneType::f32:
    contract<float>(task, rows, columns, shared, out);
    break;
  case LaneType::i32:
  case LaneType::u32:
    contract<uint32_t>(task, rows, columns, shared, out);
    break;
  default:
    contract<uint64_t>(task, rows, columns, shared, out);
    break;
  }
  return true;
}
