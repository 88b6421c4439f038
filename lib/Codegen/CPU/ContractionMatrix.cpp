// The micro-kernel of matrix tiles (AMX). Tile registers are named by number,
// all of one configuration that a task loads once: 16 rows of 64 bytes. Sums
// are 0 to 3, two by two; 4 and 5 are rows of lhs, 6 and 7 columns of rhs.
// Edges cost nothing here: what lies behind a factor's last row or column is
// multiplied too, into sums that nobody reads.
#include "dlc/Codegen/CPU/ContractionTile.h"

#include "TileRegisters.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

void TileRegisters::call(StringRef name, ValueRange arguments) {
  OpBuilder &b = index.builder();
  LLVM::CallIntrinsicOp::create(b, index.loc(),
                                b.getStringAttr("llvm.x86." + name), arguments);
}

Value TileRegisters::addressAt(Value memory, Value bytes) {
  OpBuilder &b = index.builder();
  Location loc = index.loc();
  Value base = memref::ExtractAlignedPointerAsIndexOp::create(b, loc, memory);
  Value address = arith::IndexCastOp::create(b, loc, b.getI64Type(),
                                             index.add(base, bytes));
  return LLVM::IntToPtrOp::create(
      b, loc, LLVM::LLVMPointerType::get(b.getContext()), address);
}

Value TileRegisters::addressOf(Value memory, Value at) {
  int64_t bytes =
      cast<MemRefType>(memory.getType()).getElementTypeBitWidth() / 8;
  return addressAt(memory, index.mul(at, bytes));
}

Value TileRegisters::strideOf(Value elements, int64_t bytes) {
  OpBuilder &b = index.builder();
  return arith::IndexCastOp::create(b, index.loc(), b.getI64Type(),
                                    index.mul(elements, bytes));
}

Value TileRegisters::number(int64_t tile) {
  OpBuilder &b = index.builder();
  return arith::ConstantOp::create(b, index.loc(), b.getI8IntegerAttr(tile));
}

void dlc::emitTileConfiguration(IndexBuilder &index, Value scratch) {
  OpBuilder &b = index.builder();
  Location loc = index.loc();
  // Palette 1; eight times the bytes of a row, then the numbers of rows.
  SmallVector<int8_t> bytes(64, 0);
  bytes[0] = 1;
  for (int tile = 0; tile < 8; ++tile) {
    bytes[16 + 2 * tile] = 64;
    bytes[48 + tile] = kTileRows;
  }
  auto type = VectorType::get({64}, b.getI8Type());
  Value configuration = arith::ConstantOp::create(
      b, loc, DenseElementsAttr::get(type, ArrayRef<int8_t>(bytes)));
  Value zero = index.constant(0);
  vector::StoreOp::create(b, loc, configuration, scratch, zero);
  TileRegisters registers(index);
  registers.call("ldtilecfg", registers.addressOf(scratch, zero));
}

void dlc::emitTileRelease(OpBuilder &b, Location loc) {
  IndexBuilder index(b, loc);
  TileRegisters(index).call("tilerelease", {});
}

namespace {
class MatrixTile {
public:
  MatrixTile(IndexBuilder &index, const TileParams &params, TileShape shape)
      : registers(index), index(index), b(index.builder()), loc(index.loc()),
        p(params), heights((shape.rows + kTileRows - 1) / kTileRows),
        widths(shape.vectors) {}

  void emit(TilePass pass, Value lhs, Value lhsOffset, Value rhs,
            Value rhsOffset, Value out, Value outOffset, Value termRow,
            Value termColumn);

private:
  void load(int64_t tile, Value memory, Value at, Value stride) {
    registers.load(tile, registers.addressOf(memory, at), stride);
  }
  void multiply(int64_t sum, int64_t left, int64_t right) {
    StringRef name = p.form == ProductForm::Bf16Tiles ? "tdpbf16ps"
                     : p.lhsUnsigned                  ? "tdpbusd"
                                                      : "tdpbsud";
    registers.multiply(name, sum, left, right);
  }
  void forEachSum(function_ref<void(int64_t tile, Value at)> body);
  void storeTerms(Value termRow, Value termColumn);

  TileRegisters registers;
  IndexBuilder &index;
  OpBuilder &b;
  Location loc;
  const TileParams &p;
  unsigned heights, widths;
  Value out, outOffset;
};
} // namespace

void MatrixTile::forEachSum(function_ref<void(int64_t, Value)> body) {
  for (unsigned i = 0; i < heights; ++i)
    for (unsigned j = 0; j < widths; ++j)
      body(2 * i + j,
           index.add(index.add(outOffset,
                               index.mul(p.outRow, int64_t(i) * kTileRows)),
                     int64_t(j) * p.lanes));
}

/// What the sums start from, as vectors into their place.
void MatrixTile::storeTerms(Value termRow, Value termColumn) {
  auto type = VectorType::get({p.lanes}, b.getI32Type());
  auto product = [&](Value memoryOfRows, Value row, Value memoryOfColumns,
                     Value column) -> Value {
    Value left, right;
    if (memoryOfRows)
      left = vector::BroadcastOp::create(
          b, loc, type, memref::LoadOp::create(b, loc, memoryOfRows, row));
    if (memoryOfColumns)
      right = vector::LoadOp::create(b, loc, type, memoryOfColumns, column);
    if (left && right)
      return arith::MulIOp::create(b, loc, left, right);
    return left ? left : right;
  };
  index.forEach(index.constant(0), index.constant(int64_t(heights) * kTileRows),
                1, [&](Value i) {
                  Value row = index.add(termRow, i);
                  for (unsigned j = 0; j < widths; ++j) {
                    Value column = index.add(termColumn, int64_t(j) * p.lanes);
                    Value sum = product(p.rowZero, row, p.columnTerm, column),
                          less = product(p.rowSum, row, p.columnZero, column);
                    if (!sum)
                      sum = arith::ConstantOp::create(b, loc,
                                                      b.getZeroAttr(type));
                    if (less)
                      sum = arith::SubIOp::create(b, loc, sum, less);
                    vector::StoreOp::create(
                        b, loc, sum, out,
                        index.add(index.add(outOffset, index.mul(p.outRow, i)),
                                  int64_t(j) * p.lanes));
                  }
                });
}

void MatrixTile::emit(TilePass pass, Value lhs, Value lhsOffset, Value rhs,
                      Value rhsOffset, Value sums, Value sumsOffset,
                      Value termRow, Value termColumn) {
  out = sums;
  outOffset = sumsOffset;
  int64_t block = int64_t(kTileRows) * p.group, bytes = 4 / p.group;
  Value outStride = registers.strideOf(p.outRow, 4);
  if (p.hasTerms()) {
    storeTerms(termRow, termColumn);
    forEachSum([&](int64_t tile, Value at) { load(tile, out, at, outStride); });
  } else {
    auto start = [&](bool anew) {
      forEachSum([&](int64_t tile, Value at) {
        if (anew)
          registers.zero(tile);
        else
          load(tile, out, at, outStride);
      });
    };
    if (pass.accumulate) {
      auto branch = scf::IfOp::create(b, loc, pass.accumulate,
                                      /*withElseRegion=*/true);
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(branch.thenBlock());
      start(false);
      b.setInsertionPointToStart(branch.elseBlock());
      start(true);
    } else {
      start(true);
    }
  }
  Value lhsStride = registers.strideOf(p.lhsRow, bytes),
        rhsStride =
            registers.strideOf(index.mul(p.rhsStep, int64_t(p.group)), bytes);
  // A block of k of a row is side by side.
  Value lhsBlock = p.kBlock == 1 ? index.mul(p.lhsBlock, block) : p.lhsBlock;
  Value rhsBlock = index.mul(p.rhsStep, block);
  Value blocks = index.div(pass.depth, index.constant(block));
  index.forEach(index.constant(0), blocks, 1, [&](Value q) {
    Value left = index.add(lhsOffset, index.mul(q, lhsBlock)),
          right = index.add(rhsOffset, index.mul(q, rhsBlock));
    auto columnAt = [&](unsigned j) {
      Value at =
          index.add(right, int64_t(j % p.panelVectors) * p.lanes * p.group);
      return j / p.panelVectors ? index.add(at, p.rhsPanel) : at;
    };
    // Lines of rhs are fetched ahead, between products.
    auto fetch = [&](Value at) {
      at = index.add(at, index.mul(p.rhsStep, int64_t(p.prefetch) * p.group));
      for (int64_t line = 0; line < kTileRows; ++line)
        memref::PrefetchOp::create(
            b, loc, rhs,
            index.add(at, index.mul(p.rhsStep, line * int64_t(p.group))),
            /*isWrite=*/false, /*localityHint=*/3, /*isDataCache=*/true);
    };
    for (unsigned i = 0; i < heights; ++i) {
      load(4 + i, lhs,
           index.add(left, index.mul(p.lhsRow, int64_t(i) * kTileRows)),
           lhsStride);
      for (unsigned j = 0; j < widths; ++j) {
        if (i == 0) {
          load(6 + j, rhs, columnAt(j), rhsStride);
          if (p.prefetch)
            fetch(columnAt(j));
        }
        multiply(2 * i + j, 4 + i, 6 + j);
      }
    }
  });
  forEachSum([&](int64_t tile, Value at) {
    registers.store(tile, registers.addressOf(out, at), outStride);
  });
}

void dlc::emitMatrixTile(IndexBuilder &index, const TileParams &params,
                         TileShape shape, TilePass pass, ValueRange arguments,
                         Value termRow, Value termColumn) {
  MatrixTile(index, params, shape)
      .emit(pass, arguments[0], arguments[1], arguments[2], arguments[3],
            arguments[4], arguments[5], termRow, termColumn);
}
