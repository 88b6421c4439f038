// Sizes as code. Division by zero gives 0 and never traps: a symbol may be 0.
#include "SizeCode.h"

#include "dlc/Dialect/Program/IR/Program.h"
#include "llvm/IR/Intrinsics.h"

using namespace mlir;
using namespace dlc;

llvm::Value *SizeCode::max(llvm::Value *x, llvm::Value *y) {
  return builder->CreateBinaryIntrinsic(llvm::Intrinsic::smax, x, y);
}

llvm::Value *SizeCode::read(llvm::Value *numbers, unsigned index) {
  return builder->CreateLoad(builder->getInt64Ty(),
                             builder->CreateConstInBoundsGEP1_64(
                                 builder->getInt64Ty(), numbers, index));
}

llvm::Value *SizeCode::emitAligned(AffineExpr bytes) {
  if (table && !isa<AffineConstantExpr>(bytes) && isFixed(bytes))
    return read(values, table->add(bytes, /*aligned=*/true));
  llvm::Value *size = max(emit(bytes), builder->getInt64(0));
  return builder->CreateAnd(
      builder->CreateAdd(size, builder->getInt64(program::kAlignment - 1)),
      builder->getInt64(-program::kAlignment));
}

// Rounds to minus infinity, as affine expressions do; 0 for a zero divisor.
llvm::Value *SizeCode::floorDiv(llvm::Value *x, llvm::Value *y) {
  llvm::Value *zero = builder->getInt64(0),
              *isZero = builder->CreateICmpEQ(y, zero);
  llvm::Value *divisor = builder->CreateSelect(isZero, builder->getInt64(1), y);
  llvm::Value *quotient = builder->CreateSDiv(x, divisor);
  llvm::Value *rest =
      builder->CreateSub(x, builder->CreateMul(quotient, divisor));
  llvm::Value *signsDiffer =
      builder->CreateICmpSLT(builder->CreateXor(rest, divisor), zero);
  llvm::Value *roundsDown =
      builder->CreateAnd(builder->CreateICmpNE(rest, zero), signsDiffer);
  llvm::Value *result = builder->CreateSub(
      quotient, builder->CreateZExt(roundsDown, builder->getInt64Ty()));
  return builder->CreateSelect(isZero, zero, result);
}

llvm::Value *SizeCode::emit(AffineExpr expr) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return builder->getInt64(constant.getValue());
  auto symbol = dyn_cast<AffineSymbolExpr>(expr);
  if (table && isFixed(expr))
    return symbol ? read(symbols, symbol.getPosition())
                  : read(values, table->add(expr, /*aligned=*/false));
  if (llvm::Value *value = known.lookup(expr))
    return value;
  llvm::Value *value;
  if (symbol) {
    value = read(symbols, symbol.getPosition());
  } else {
    auto binary = cast<AffineBinaryOpExpr>(expr);
    llvm::Value *x = emit(binary.getLHS()), *y = emit(binary.getRHS());
    switch (expr.getKind()) {
    case AffineExprKind::Add:
      value = builder->CreateAdd(x, y);
      break;
    case AffineExprKind::Mul:
      value = builder->CreateMul(x, y);
      break;
    case AffineExprKind::FloorDiv:
      value = floorDiv(x, y);
      break;
    case AffineExprKind::CeilDiv:
      value = builder->CreateNeg(floorDiv(builder->CreateNeg(x), y));
      break;
    default:
      assert(expr.getKind() == AffineExprKind::Mod && "sizes have no dims");
      value = builder->CreateSub(x, builder->CreateMul(floorDiv(x, y), y));
    }
  }
  return known[expr] = value;
}
