// Sums of products of narrow numbers: one x86 instruction each, by the vector's
// width.
#include "dlc/Codegen/CPU/ContractionTile.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;

static Value callIntrinsic(OpBuilder &b, Location loc, StringRef name,
                           Type result, ValueRange arguments) {
  return LLVM::CallIntrinsicOp::create(b, loc, result, b.getStringAttr(name),
                                       arguments)
      .getResults();
}

Value dlc::emitGroupedProduct(OpBuilder &b, Location loc, ProductForm form,
                              bool leftUnsigned, Value left, Value right,
                              Value sum) {
  Type type = sum.getType();
  int64_t bits = cast<VectorType>(type).getNumElements() * 32;
  std::string width = std::to_string(bits);
  switch (vectorForm(form)) {
  case ProductForm::Bf16Pairs: {
    // Two fused multiply-adds, the odd element first, each rounded to nearest
    // even; subnormal numbers are zero on both sides.
    auto narrow = VectorType::get({bits / 16}, b.getBF16Type());
    auto cast = [&](Value x) -> Value {
      return vector::BitCastOp::create(b, loc, narrow, x);
    };
    return callIntrinsic(b, loc, "llvm.x86.avx512bf16.dpbf16ps." + width, type,
                         {sum, cast(left), cast(right)});
  }
  case ProductForm::ByteQuads:
    // No intermediate saturates: each product has 16 bits, and i32 wraps.
    if (!leftUnsigned)
      std::swap(left, right);
    return callIntrinsic(b, loc, "llvm.x86.avx512.vpdpbusd." + width, type,
                         {sum, left, right});
  case ProductForm::I16Pairs: {
    StringRef name = bits == 512   ? "llvm.x86.avx512.pmaddw.d.512"
                     : bits == 256 ? "llvm.x86.avx2.pmadd.wd"
                                   : "llvm.x86.sse2.pmadd.wd";
    return arith::AddIOp::create(
        b, loc, sum, callIntrinsic(b, loc, name, type, {left, right}));
  }
  default:
    break;
  }
  llvm_unreachable("not a grouped form");
}
