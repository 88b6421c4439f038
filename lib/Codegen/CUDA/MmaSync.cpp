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

SmallVector<Value> dlc::multiplyMatrices(OpBuilder &b, Location loc,
                                         Type narrow, ValueRange a,
                                         ValueRange pairB, ValueRange sums) {
  bool isHalf = narrow.isF16();
  SmallVector<Value> operands;
  for (ValueRange part : {a, pairB})
    for (Value bits : part)
      operands.push_back(
          isHalf ? LLVM::BitcastOp::create(
                       b, loc, VectorType::get({2}, b.getF16Type()), bits)
                       .getResult()
                 : bits);
  llvm::append_range(operands, sums);
  StringRef name = isHalf ? "llvm.nvvm.mma.m16n8k16.row.col.f32.f32"
                          : "llvm.nvvm.mma.m16n8k16.row.col.bf16";
  return callForFour(b, loc, name, b.getF32Type(), operands);
}

void dlc::copyAsync(OpBuilder &b, Location loc, Value to, Value from,
                    Value copies) {
  auto constant = [&](int32_t value) -> Value {
    return arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(value));
  };
  Value bytes = arith::SelectOp::create(b, loc, copies, constant(kChunkBytes),
                                        constant(0));
  NVVM::CpAsyncOp::create(b, loc, to, from, static_cast<uint32_t>(kChunkBytes),
                          NVVM::LoadCacheModifierKind::CG, bytes);
}
