// Both products by matrix tiles (AMX), where factors are bf16 numbers. What
// lies in scratch is what the nest has without them: scores [key][query], sums
// [column][query]. Their left factors are keys [key][inner] and values turned
// to [column][key], copied once a block of keys; their right ones, queries and
// weights, hold two numbers of the inner axis, two keys, in each lane.
//
// Tiles have no masks. Zeros stand behind the inner axis of queries and keys,
// and behind the keys of weights and values; what is computed behind the last
// key or column nobody reads.
#include "AttentionTask.h"
#include "TileRegisters.h"
#include "dlc/Codegen/CPU/ContractionTile.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

/// Steps of k of one tile, and the vectors that hold those of a row.
static constexpr int64_t kDepth = 32;

//===----------------------------------------------------------------------===//
// Scratch
//===----------------------------------------------------------------------===//

void AttentionTask::layOutTiles(AffineExpr (&sizes)[numAreas],
                                AffineExpr blocks) {
  int64_t inner = innerPitch - s.lanes, columns = columnPitch - s.lanes;
  int64_t width = s.blockRows(), half = kDepth / 2;
  AffineExpr keyBlocks = keysOfBlock.ceilDiv(kDepth);
  sizes[Queries] = blocks * (inner / 2 * width);
  sizes[Scores] = keyBlocks * (kDepth * width);
  // A block's keys may begin anywhere: whole tiles of them end a tile later.
  sizes[Keys] = (keyBlocks + 1) * (kDepth * inner / 2);
  valuePitch = graph::simplify((keyBlocks + 1) * half);
  sizes[Values] = valuePitch * columns;
  sizes[Weights] = keyBlocks * ((weightParts() - 1) * half * width);
  sizes[Rows] =
      constantExpr(std::max(width, kDepth) * std::max(innerPitch, columnPitch));
  sizes[Configuration] = constantExpr(16);
}

unsigned AttentionTask::weightParts() const {
  return graph::sumsBf16Products(spec.output) ? 1 : 3;
}

//===----------------------------------------------------------------------===//
// Copies
//===----------------------------------------------------------------------===//

Value AttentionTask::bitsOf(Scope &scope, Value numbers) {
  auto type = cast<VectorType>(numbers.getType());
  return arith::BitcastOp::create(
      scope.b(), scope.loc(),
      VectorType::get(type.getShape(), scope.b().getI32Type()), numbers);
}

Value AttentionTask::splatBits(Scope &scope, int64_t bits) {
  auto type = VectorType::get({int64_t(s.lanes)}, scope.b().getI32Type());
  return arith::ConstantOp::create(
      scope.b(), scope.loc(),
      DenseElementsAttr::get(type, APInt(32, static_cast<uint64_t>(bits))));
}

/// bf16 numbers of two vectors, one after the other.
Value AttentionTask::concatenated(Scope &scope, Value first, Value second) {
  OpBuilder &b = scope.b();
  Location loc = scope.loc();
  SmallVector<int64_t> order;
  for (int64_t lane = 0; lane < 2 * int64_t(s.lanes); ++lane)
    order.push_back(lane);
  auto narrow = [&](Value numbers) -> Value {
    Value bits = bitsOf(scope, numbers);
    bits = arith::ShRUIOp::create(b, loc, bits, splatBits(scope, 16));
    return arith::TruncIOp::create(
        b, loc, VectorType::get({int64_t(s.lanes)}, b.getI16Type()), bits);
  };
  Value both =
      vector::ShuffleOp::create(b, loc, narrow(first), narrow(second), order);
  return vector::BitCastOp::create(b, loc, vectorType(), both);
}

/// bf16 numbers of two vectors, side by side in each lane.
Value AttentionTask::paired(Scope &scope, Value low, Value high) {
  OpBuilder &b = scope.b();
  Location loc = scope.loc();
  Value x = bitsOf(scope, low), y = bitsOf(scope, high);
  x = arith::ShRUIOp::create(b, loc, x, splatBits(scope, 16));
  y = arith::AndIOp::create(b, loc, y, splatBits(scope, 0xffff0000));
  return arith::BitcastOp::create(b, loc, vectorType(),
                                  arith::OrIOp::create(b, loc, x, y));
}

/// The staged rows of a block of queries, two numbers of the inner axis a lane.
void AttentionTask::packQueries(Scope &scope, Value number) {
  IndexBuilder &index = scope.index;
  int64_t inner = innerPitch - s.lanes, width = s.blockRows();
  Value to =
      index.add(scope.areas[Queries], index.mul(number, inner / 2 * width));
  index.forEach(
      index.constant(0), index.constant(inner), kDepth, [&](Value at) {
        for (unsigned v = 0; v < s.vectors; ++v) {
          SmallVector<Value> rows;
          for (unsigned l = 0; l < s.lanes; ++l) {
            Value row = index.add(index.add(scope.areas[Rows], at),
                                  int64_t(v * s.lanes + l) * innerPitch);
            rows.push_back(concatenated(
                scope, loadVector(scope, row),
                loadVector(scope, index.add(row, int64_t(s.lanes)))));
          }
          transpose(scope, rows);
          Value place =
              index.add(to, index.mul(index.div(at, index.constant(2)), width));
          for (unsigned l = 0; l < s.lanes; ++l)
            storeVector(
                scope, rows[l],
                index.add(place, int64_t(l) * width + int64_t(v) * s.lanes));
        }
      });
}

LogicalResult AttentionTask::packKeys(Scope &scope, Value from, Value count,
                                      std::string &reason) {
  IndexBuilder &index = scope.index;
  int64_t length = *graph::constantValue(spec.extentOf(spec.inner));
  int64_t lanes = s.lanes, pitch = (innerPitch - lanes) / 2;
  unsigned axis = spec.keys.front();
  LogicalResult outcome = success();
  Value before = scope.axes[axis];
  index.forEach(index.constant(0), count, 1, [&](Value row) {
    scope.axes[axis] = index.add(from, row);
    if (failed(findPages(scope, spec.key.value, reason)))
      outcome = failure();
    Value to = index.add(scope.areas[Keys], index.mul(row, pitch));
    auto emitPart = [&](Value at, int64_t left) {
      Value parts[2];
      for (int64_t part : {0, 1}) {
        if (part * lanes >= left) {
          parts[part] = splat(scope, 0);
          continue;
        }
        auto numbers = emitLanes(scope, spec.key.value, spec.inner,
                                 index.add(at, part * lanes), length, reason);
        if (failed(numbers)) {
          outcome = failure();
          return;
        }
        parts[part] = *numbers;
      }
      storeVector(scope, concatenated(scope, parts[0], parts[1]),
                  index.add(to, index.div(at, index.constant(2))));
    };
    int64_t whole = length / kDepth * kDepth;
    index.forEach(index.constant(0), index.constant(whole), kDepth,
                  [&](Value at) { emitPart(at, kDepth); });
    if (whole < length)
      emitPart(index.constant(whole), length - whole);
  });
  scope.axes[axis] = before;
  scope.pages.clear();
  return outcome;
}

LogicalResult AttentionTask::packValues(Scope &scope, Value from, Value count,
                                        std::string &reason) {
  IndexBuilder &index = scope.index;
  int64_t columns = columnPitch - s.lanes;
  Value pitch = sizeOf(scope, valuePitch), staged = scope.areas[Rows];
  Value zero = splat(scope, 0);
  LogicalResult outcome = success();
  auto placeOf = [&](Value column, Value key) {
    return index.add(index.add(scope.areas[Values], index.mul(column, pitch)),
                     index.div(key, index.constant(2)));
  };
  Value end = index.mul(index.ceilDiv(count, index.constant(kDepth)), kDepth);
  index.forEach(index.constant(0), end, kDepth, [&](Value key) {
    Value rows = index.min(index.constant(kDepth), index.sub(count, key));
    if (failed(copyRows(scope, spec.value.value, spec.keys.front(),
                        index.add(from, key), rows, spec.columns, staged,
                        columnPitch, reason)))
      outcome = failure();
    index.forEach(rows, index.constant(kDepth), 1, [&](Value row) {
      index.forEach(index.constant(0), index.constant(columns), s.lanes,
                    [&](Value at) {
                      storeVector(scope, zero,
                                  index.add(index.add(staged, at),
                                            index.mul(row, columnPitch)));
                    });
    });
    index.forEach(
        index.constant(0), index.constant(columns), s.lanes, [&](Value at) {
          SmallVector<Value> pairs; // of keys
          for (unsigned l = 0; l < s.lanes; ++l) {
            Value row =
                index.add(index.add(staged, at), 2 * int64_t(l) * columnPitch);
            pairs.push_back(
                paired(scope, loadVector(scope, row),
                       loadVector(scope, index.add(row, columnPitch))));
          }
          transpose(scope, pairs);
          for (unsigned l = 0; l < s.lanes; ++l)
            storeVector(scope, pairs[l],
                        placeOf(index.add(at, int64_t(l)), key));
        });
  });
  index.forEach(
      index.constant(0), index.constant(columns), 1,
      [&](Value column) { storeVector(scope, zero, placeOf(column, end)); });
  return outcome;
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

/// out[row][query] = sum over k of left[row][k] * right[k / 2][query][k % 2],
/// or that added to what out holds, for so many times 16 rows.
void AttentionTask::emitTileProduct(Scope &scope, const TileProduct &p) {
  IndexBuilder &index = scope.index;
  TileRegisters registers(index);
  constexpr int64_t line = 64; // bytes of a row of a tile
  int64_t pitch = 4 * int64_t(s.blockRows());
  auto at = [&](Value bytes, int64_t more) {
    return registers.addressAt(scope.work, index.add(bytes, more));
  };
  Value leftStride = registers.strideOf(p.leftRow, 1),
        stride = registers.strideOf(index.constant(pitch), 1);
  auto forEachSum = [&](function_ref<void(int64_t, Value)> body) {
    for (unsigned i = 0; i < p.heights; ++i)
      for (unsigned v = 0; v < s.vectors; ++v)
        body(2 * i + v, at(p.out, i * kTileRows * pitch + v * line));
  };
  forEachSum([&](int64_t tile, Value address) {
    if (p.accumulates)
      registers.load(tile, address, stride);
    else
      registers.zero(tile);
  });
  auto emitStep = [&](Value step) {
    Value left = index.add(p.left, index.mul(step, line));
    for (unsigned i = 0; i < p.heights; ++i) {
      Value rows = index.mul(p.leftRow, int64_t(i) * kTileRows);
      registers.load(4 + i, at(index.add(left, rows), 0), leftStride);
    }
    for (Value part : p.rights) {
      Value right = index.add(part, index.mul(step, kTileRows * pitch));
      for (unsigned v = 0; v < s.vectors; ++v) {
        registers.load(6 + v, at(right, v * line), stride);
        for (unsigned i = 0; i < p.heights; ++i)
          registers.multiply("tdpbf16ps", 2 * i + v, 4 + i, 6 + v);
      }
    }
  };
  constexpr int64_t unrolled = 8;
  if (auto steps = IndexBuilder::constantOf(p.steps);
      steps && *steps <= unrolled)
    for (int64_t step = 0; step < *steps; ++step)
      emitStep(index.constant(step));
  else
    index.forEach(index.constant(0), p.steps, 1, emitStep);
  forEachSum([&](int64_t tile, Value address) {
    registers.store(tile, address, stride);
  });
}

void AttentionTask::emitTileScores(Scope &scope, const BlockArguments &a,
                                   Value key) {
  IndexBuilder &index = scope.index;
  int64_t inner = innerPitch - s.lanes, width = s.blockRows();
  Value queries =
      index.add(scope.areas[Queries], index.mul(a.block, inner / 2 * width));
  Value row = index.sub(key, a.from);
  TileProduct p;
  p.heights = 2;
  p.leftRow = index.constant(2 * inner);
  p.steps = index.constant(inner / kDepth);
  p.rights = {index.mul(queries, 4)};
  p.left = index.add(index.mul(scope.areas[Keys], 4),
                     index.mul(index.sub(key, a.copiedFrom), 2 * inner));
  p.out = index.mul(index.add(scope.areas[Scores], index.mul(row, width)), 4);
  emitTileProduct(scope, p);
}

void AttentionTask::emitTileSums(Scope &scope, const BlockArguments &a) {
  IndexBuilder &index = scope.index;
  int64_t columns = columnPitch - s.lanes, width = s.blockRows();
  Value sums =
      index.add(scope.areas[Sums], index.mul(a.block, columns * width));
  TileProduct p;
  p.accumulates = !weighsElements();
  if (p.accumulates) {
    Value state = index.add(scope.areas[State], index.mul(a.block, 3 * width));
    SmallVector<Value> factors;
    for (unsigned v = 0; v < s.vectors; ++v)
      factors.push_back(loadVector(
          scope, index.add(state, 2 * width + int64_t(v) * s.lanes)));
    index.forEach(
        index.constant(0), index.constant(columns), 1, [&](Value column) {
          for (unsigned v = 0; v < s.vectors; ++v) {
            Value at = index.add(index.add(sums, index.mul(column, width)),
                                 int64_t(v) * s.lanes);
            storeVector(scope,
                        arith::MulFOp::create(scope.b(), scope.loc(),
                                              loadVector(scope, at),
                                              factors[v]),
                        at);
          }
        });
  }
  Value count = index.sub(a.to, a.from);
  p.steps = index.ceilDiv(count, index.constant(kDepth));
  p.leftRow = index.mul(sizeOf(scope, valuePitch), 4);
  for (unsigned part = 0; part < weightParts(); ++part)
    p.rights.push_back(index.mul(weightArea(scope, part), 4));
  Value values = index.add(index.mul(scope.areas[Values], 4),
                           index.mul(index.sub(a.from, a.copiedFrom), 2));
  auto emitColumns = [&](Value column, unsigned heights) {
    p.heights = heights;
    p.left = index.add(values, index.mul(p.leftRow, column));
    p.out = index.mul(index.add(sums, index.mul(column, width)), 4);
    emitTileProduct(scope, p);
  };
  int64_t whole = columns / (2 * kTileRows) * (2 * kTileRows);
  index.forEach(index.constant(0), index.constant(whole), 2 * kTileRows,
                [&](Value column) { emitColumns(column, 2); });
  if (whole < columns)
    emitColumns(index.constant(whole), 1);
}
