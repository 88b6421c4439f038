// See the header.
#include "MmaSync.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace dlc;

Value dlc::pointerTo(OpBuilder &b, Location loc, Value memory, unsigned space,
                     Value byte) {
  auto from = cast<MemRefType>(memory.getType());
  Value address = arith::IndexCastOp::create(
      b, loc, b.getI64Type(),
      memref::ExtractAlignedPointerAsIndexOp::create(b, loc, memory));
  auto source =
      LLVM::LLVMPointerType::get(b.getContext(), from.getMemorySpaceAsInt());
  Value pointer = LLVM::IntToPtrOp::create(b, loc, source, address);
  auto wanted = LLVM::LLVMPointerType::get(b.getContext(), space);
  if (wanted != source)
    pointer = LLVM::AddrSpaceCastOp::create(b, loc, wanted, pointer);
  Value offset = arith::IndexCastOp::create(b, loc, b.getI64Type(), byte);
  return LLVM::GEPOp::create(b, loc, wanted, b.getI8Type(), pointer,
                             ArrayRef<LLVM::GEPArg>{offset});
}

// Calls an intrinsic whose result is a struct of four; its parts.
static SmallVector<Value> callForFour(OpBuilder &b, Location loc,
                                      StringRef name, Type element,
                                      ValueRange operands) {
  auto result = LLVM::LLVMStructType::getLiteral(
      b.getContext(), {element, element, element, element});
  Value all = LLVM::CallIntrinsicOp::create(b, loc, result,
                                            b.getStringAttr(name), operands)
                  .getResult(0);
  SmallVector<Value> parts;
  for (int64_t i = 0; i < 4; ++i)
    parts.push_back(LLVM::ExtractValueOp::create(b, loc, all, i));
  return parts;
}

SmallVector<Value> dlc::loadMatrices(OpBuilder &b, Location loc, Value pointer,
                                     bool transposes) {
  StringRef name = transposes
                       ? "llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.trans.b16"
                       : "llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.b16";
  return callForFour(b, loc, name, b.getI32Type(), pointer);
}

SmallVector<Value> dlc::multiplyMatrices(OpBuilder &b, Location loc, Type left,
                                         Type right, ValueRange a,
                                         ValueRange pairB, ValueRange sums) {
  bool isHalf = left.isF16();
  SmallVector<Value> operands;
  for (ValueRange part : {a, pairB})
    for (Value bits : part)
      operands.push_back(
          isHalf ? LLVM::BitcastOp::create(
                       b, loc, VectorType::get({2}, b.getF16Type()), bits)
                       .getResult()
                 : bits);
  llvm::append_range(operands, sums);
  std::string name = "llvm.nvvm.mma.m16n8k";
  if (isHalf) {
    name += "16.row.col.f32.f32";
  } else if (left.isBF16()) {
    name += "16.row.col.bf16";
  } else if (left.isF32()) {
    name += "8.row.col.tf32";
  } else {
    StringRef x = left.isUnsignedInteger() ? "u8" : "s8",
              y = right.isUnsignedInteger() ? "u8" : "s8";
    name += ("32.row.col." + x + (x == y ? "" : "." + y.str())).str();
    return callForFour(b, loc, name, b.getI32Type(), operands);
  }
  return callForFour(b, loc, name, b.getF32Type(), operands);
}

Value dlc::roundPair(OpBuilder &b, Location loc, Type type, Value low,
                     Value high) {
  StringRef name =
      type.isF16() ? "llvm.nvvm.ff2f16x2.rn" : "llvm.nvvm.ff2bf16x2.rn";
  Value two = LLVM::CallIntrinsicOp::create(b, loc, VectorType::get({2}, type),
                                            b.getStringAttr(name),
                                            ValueRange{high, low})
                  .getResult(0);
  return LLVM::BitcastOp::create(b, loc, b.getI32Type(), two);
}

Value dlc::toTf32(OpBuilder &b, Location loc, Value word) {
  Value number = LLVM::BitcastOp::create(b, loc, b.getF32Type(), word);
  return LLVM::CallIntrinsicOp::create(b, loc, b.getI32Type(),
                                       b.getStringAttr("llvm.nvvm.f2tf32.rna"),
                                       ValueRange{number})
      .getResult(0);
}

Value dlc::addBytes(OpBuilder &b, Location loc, Value word, bool isUnsigned,
                    Value sum) {
  Value ones =
      arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(0x01010101));
  StringRef name = isUnsigned ? "llvm.nvvm.idp4a.u.u" : "llvm.nvvm.idp4a.s.s";
  return LLVM::CallIntrinsicOp::create(b, loc, b.getI32Type(),
                                       b.getStringAttr(name),
                                       ValueRange{word, ones, sum})
      .getResult(0);
}

void dlc::copyAsync(OpBuilder &b, Location loc, Value to, Value from,
                    Value copies, int64_t bytes) {
  auto constant = [&](int64_t value) -> Value {
    return arith::ConstantOp::create(
        b, loc, b.getI32IntegerAttr(static_cast<int32_t>(value)));
  };
  Value read =
      arith::SelectOp::create(b, loc, copies, constant(bytes), constant(0));
  NVVM::CpAsyncOp::create(b, loc, to, from, static_cast<uint32_t>(bytes),
                          bytes == kChunkBytes
                              ? NVVM::LoadCacheModifierKind::CG
                              : NVVM::LoadCacheModifierKind::CA,
                          read);
}
