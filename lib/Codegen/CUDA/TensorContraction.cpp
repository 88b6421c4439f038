// The tiled matrix product on tensor cores: mma.sync.m16n8k16 of f16 or bf16
// with f32 sums, which every GPU since sm_80 has.
//
// A block computes 64 x 64 elements with eight warps, each 32 x 16. Panels lie
// in shared memory with the fold innermost, in pairs: a lane's part of a
// fragment is then a 32-bit word, and the padding of a row keeps the 32 words
// of a warp in different banks (20 g + q for g < 8, q < 4).
//
// Fragments are laid out as in the PTX ISA, "Matrix Fragments for mma.m16n8k16
// with floating point type"; lib/Emulator/TensorCore.cpp has the same table.
#include "ContractionTile.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

namespace {

/// Pairs along the fold between two barriers, and the padding of a panel's row.
constexpr int64_t kPairs = 16;
constexpr int64_t kPaddedPairs = kPairs + 4;
/// Pairs of one instruction.
constexpr int64_t kStepPairs = 8;
/// Of one instruction, and how many of them a warp does along rows and columns.
constexpr int64_t kRows = 16, kColumns = 8;
constexpr int64_t kWarpTileRows = 2, kWarpTileColumns = 2;
/// Warps next to each other along a tile's columns.
constexpr int64_t kWarpColumns = kTileColumns / (kColumns * kWarpTileColumns);

static_assert(kTileRows / (kRows * kWarpTileRows) * kWarpColumns *
                  kWarpThreads ==
              kTileThreads);

class TensorTile : ContractionTile {
public:
  TensorTile(LaunchBuilder &launch, StageEmitter &emitter, const Contraction &c)
      : ContractionTile(launch, emitter, c) {}

  LogicalResult emit(llvm::function_ref<void(Scalar, ValueRange)> store);

private:
  Value element(Value factor, ArrayRef<unsigned> axes, Value at, Value atDepth);
  void fillPanel(Value panel, Value factor, ArrayRef<unsigned> axes,
                 int64_t extent, Value first, Value depthFirst);
  Value word(Value panel, Value row, int64_t pair);
  SmallVector<Value> multiply(ValueRange a, ValueRange pairB, ValueRange sums);
  SmallVector<Value> multiplyPanels(Value rows, Value columns, ValueRange sums);

  Value group, inGroup;      ///< lane / 4, lane % 4
  Value warpRow, warpColumn; ///< first row and column of the warp in the tile
};

} // namespace

// The factor's bits at a place, zero outside, as i32.
Value TensorTile::element(Value factor, ArrayRef<unsigned> axes, Value at,
                          Value atDepth) {
  Type word = b.getI32Type();
  auto choice = scf::IfOp::create(b, loc, TypeRange{word},
                                  isInside(count(axes), at, atDepth),
                                  /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(choice.elseBlock());
  Value zero = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(0));
  scf::YieldOp::create(b, loc, zero);
  b.setInsertionPointToStart(choice.thenBlock());
  FailureOr<Scalar> value = factorAt(factor, axes, at, atDepth);
  Value bits = zero;
  if (succeeded(value)) {
    bits = emitter.toStorage(*value);
    if (!bits.getType().isInteger())
      bits = arith::BitcastOp::create(b, loc, b.getI16Type(), bits);
    bits = arith::ExtUIOp::create(b, loc, word, bits);
  } else {
    bits = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(0));
  }
  scf::YieldOp::create(b, loc, bits);
  return choice.getResult(0);
}

// panel[i][k] = the pair of elements 2k, 2k + 1 of the fold, low half first.
void TensorTile::fillPanel(Value panel, Value factor, ArrayRef<unsigned> axes,
                           int64_t extent, Value first, Value depthFirst) {
  // Neighbour threads read neighbour elements of the operand.
  bool alongFold = liesAlongFold(stage, factor);
  Value inner = index.constant(alongFold ? kPairs : extent);
  launch.loop(
      launch.thread(), index.constant(extent * kPairs),
      index.constant(kTileThreads), [&](Value i) {
        Value outerStep = index.div(i, inner), innerStep = index.rem(i, inner);
        Value pair = alongFold ? innerStep : outerStep;
        Value row = alongFold ? outerStep : innerStep;
        Value at = index.add(first, row);
        Value k = index.add(depthFirst, index.mul(pair, index.constant(2)));
        Value low = element(factor, axes, at, k);
        Value high = element(factor, axes, at, index.add(k, 1));
        Value half = arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(16));
        Value both = arith::OrIOp::create(
            b, loc, low, arith::ShLIOp::create(b, loc, high, half));
        memref::StoreOp::create(
            b, loc, both, panel,
            index.add(index.mul(row, index.constant(kPaddedPairs)), pair));
      });
}

Value TensorTile::word(Value panel, Value row, int64_t pair) {
  Value at = index.add(
      index.add(index.mul(row, index.constant(kPaddedPairs)), inGroup), pair);
  return memref::LoadOp::create(b, loc, panel, at);
}

SmallVector<Value> TensorTile::multiply(ValueRange a, ValueRange pairB,
                                        ValueRange sums) {
  Type f32 = b.getF32Type();
  auto result =
      LLVM::LLVMStructType::getLiteral(b.getContext(), {f32, f32, f32, f32});
  bool isHalf = c.narrowType.isF16();
  auto operand = [&](Value bits) -> Value {
    return isHalf ? LLVM::BitcastOp::create(
                        b, loc, VectorType::get({2}, b.getF16Type()), bits)
                        .getResult()
                  : bits;
  };
  SmallVector<Value> operands;
  for (ValueRange part : {a, pairB})
    for (Value bits : part)
      operands.push_back(operand(bits));
  llvm::append_range(operands, sums);
  StringRef name = isHalf ? "llvm.nvvm.mma.m16n8k16.row.col.f32.f32"
                          : "llvm.nvvm.mma.m16n8k16.row.col.bf16";
  Value all = LLVM::CallIntrinsicOp::create(b, loc, result,
                                            b.getStringAttr(name), operands)
                  .getResult(0);
  SmallVector<Value> next;
  for (int64_t i = 0; i < 4; ++i)
    next.push_back(LLVM::ExtractValueOp::create(b, loc, all, i));
  return next;
}

SmallVector<Value> TensorTile::multiplyPanels(Value rows, Value columns,
                                              ValueRange sums) {
  SmallVector<Value> next(sums);
  for (int64_t first = 0; first < kPairs; first += kStepPairs) {
    SmallVector<SmallVector<Value>> a, pairs;
    for (int64_t i = 0; i < kWarpTileRows; ++i) {
      Value row = index.add(index.add(warpRow, group), i * kRows);
      Value lower = index.add(row, kRows / 2);
      a.push_back({word(rows, row, first), word(rows, lower, first),
                   word(rows, row, first + kStepPairs / 2),
                   word(rows, lower, first + kStepPairs / 2)});
    }
    for (int64_t j = 0; j < kWarpTileColumns; ++j) {
      Value column = index.add(index.add(warpColumn, group), j * kColumns);
      pairs.push_back({word(columns, column, first),
                       word(columns, column, first + kStepPairs / 2)});
    }
    for (int64_t i = 0; i < kWarpTileRows; ++i)
      for (int64_t j = 0; j < kWarpTileColumns; ++j) {
        auto part = MutableArrayRef<Value>(next).slice(
            (i * kWarpTileColumns + j) * 4, 4);
        llvm::copy(multiply(a[i], pairs[j], part), part.begin());
      }
  }
  return next;
}

LogicalResult
TensorTile::emit(llvm::function_ref<void(Scalar, ValueRange)> store) {
  begin();
  Value lane = index.rem(launch.thread(), index.constant(kWarpThreads));
  Value warp = index.div(launch.thread(), index.constant(kWarpThreads));
  group = index.div(lane, index.constant(4));
  inGroup = index.rem(lane, index.constant(4));
  warpRow = index.mul(index.div(warp, index.constant(kWarpColumns)),
                      index.constant(kRows * kWarpTileRows));
  warpColumn = index.mul(index.rem(warp, index.constant(kWarpColumns)),
                         index.constant(kColumns * kWarpTileColumns));

  Type word = b.getI32Type();
  Value rows = launch.shared(word, kTileRows * kPaddedPairs);
  Value columns = launch.shared(word, kTileColumns * kPaddedPairs);
  SmallVector<Value> sums = foldPanels(
      c.narrowLeft, c.narrowRight, rows, columns, 2 * kPairs,
      kWarpTileRows * kWarpTileColumns * 4,
      [&](auto &&...args) { fillPanel(args...); },
      [&](auto &&...args) { return multiplyPanels(args...); });
  if (failedInside)
    return failure();

  for (int64_t i = 0; i < kWarpTileRows; ++i)
    for (int64_t j = 0; j < kWarpTileColumns; ++j)
      for (int64_t part = 0; part < 4; ++part) {
        Value row = index.add(index.add(index.add(firstRow, warpRow), group),
                              i * kRows + (part >= 2 ? kRows / 2 : 0));
        Value column =
            index.add(index.add(index.add(firstColumn, warpColumn),
                                index.mul(inGroup, index.constant(2))),
                      j * kColumns + part % 2);
        storeAt(row, column, sums[(i * kWarpTileColumns + j) * 4 + part],
                store);
      }
  return success();
}

LogicalResult
dlc::emitTensorTile(LaunchBuilder &launch, StageEmitter &emitter,
                    const Contraction &contraction,
                    llvm::function_ref<void(Scalar, ValueRange)> store) {
  return TensorTile(launch, emitter, contraction).emit(store);
}
