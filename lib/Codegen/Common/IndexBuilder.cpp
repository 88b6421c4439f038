// Folding index arithmetic.
#include "dlc/Codegen/Common/IndexBuilder.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace dlc;

std::optional<int64_t> IndexBuilder::constantOf(Value value) {
  llvm::APInt result;
  if (value && matchPattern(value, m_ConstantInt(&result)))
    return result.getSExtValue();
  return std::nullopt;
}

Value IndexBuilder::constant(int64_t value) {
  return arith::ConstantIndexOp::create(b, l, value);
}

Value IndexBuilder::add(Value x, Value y) {
  auto cx = constantOf(x), cy = constantOf(y);
  if (cx && cy)
    return constant(*cx + *cy);
  if (cx == 0)
    return y;
  if (cy == 0)
    return x;
  return arith::AddIOp::create(b, l, x, y);
}

Value IndexBuilder::add(Value x, int64_t y) {
  return y == 0 ? x : add(x, constant(y));
}

Value IndexBuilder::sub(Value x, Value y) {
  auto cx = constantOf(x), cy = constantOf(y);
  if (cx && cy)
    return constant(*cx - *cy);
  if (cy == 0)
    return x;
  if (x == y)
    return constant(0);
  return arith::SubIOp::create(b, l, x, y);
}

Value IndexBuilder::mul(Value x, Value y) {
  auto cx = constantOf(x), cy = constantOf(y);
  if (cx && cy)
    return constant(*cx * *cy);
  if (cx == 0 || cy == 1)
    return x;
  if (cy == 0 || cx == 1)
    return y;
  return arith::MulIOp::create(b, l, x, y);
}

Value IndexBuilder::mul(Value x, int64_t y) {
  return y == 1 ? x : mul(x, constant(y));
}

Value IndexBuilder::div(Value x, Value y) {
  auto cx = constantOf(x), cy = constantOf(y);
  if (cx && cy && *cy)
    return constant(*cx / *cy);
  if (cy == 1 || cx == 0)
    return x;
  return arith::DivUIOp::create(b, l, x, y);
}

Value IndexBuilder::rem(Value x, Value y) {
  auto cx = constantOf(x), cy = constantOf(y);
  if (cx && cy && *cy)
    return constant(*cx % *cy);
  if (cy == 1)
    return constant(0);
  return arith::RemUIOp::create(b, l, x, y);
}

Value IndexBuilder::ceilDiv(Value x, Value y) {
  return div(add(x, sub(y, constant(1))), y);
}

Value IndexBuilder::floorDiv(Value x, Value y) {
  auto cx = constantOf(x), cy = constantOf(y);
  if (cx && cy && *cy > 0)
    return constant(*cx >= 0 ? *cx / *cy : -((-*cx + *cy - 1) / *cy));
  return cy == 1 ? x : Value(arith::FloorDivSIOp::create(b, l, x, y));
}

Value IndexBuilder::min(Value x, Value y) {
  auto cx = constantOf(x), cy = constantOf(y);
  if (cx && cy)
    return constant(std::min(*cx, *cy));
  if (x == y)
    return x;
  return arith::MinSIOp::create(b, l, x, y);
}

Value IndexBuilder::max(Value x, Value y) {
  auto cx = constantOf(x), cy = constantOf(y);
  if (cx && cy)
    return constant(std::max(*cx, *cy));
  if (x == y)
    return x;
  return arith::MaxSIOp::create(b, l, x, y);
}

static Value compare(OpBuilder &b, Location l, arith::CmpIPredicate predicate,
                     Value x, Value y) {
  return b.createOrFold<arith::CmpIOp>(l, predicate, x, y);
}

Value IndexBuilder::less(Value x, Value y) {
  return compare(b, l, arith::CmpIPredicate::slt, x, y);
}

Value IndexBuilder::atLeast(Value x, Value y) {
  return compare(b, l, arith::CmpIPredicate::sge, x, y);
}

/// Whether `expr` cannot be negative: dims and symbols are not.
static bool isNonNegative(AffineExpr expr) {
  switch (expr.getKind()) {
  case AffineExprKind::Constant:
    return cast<AffineConstantExpr>(expr).getValue() >= 0;
  case AffineExprKind::DimId:
  case AffineExprKind::SymbolId:
    return true;
  default:
    auto binary = cast<AffineBinaryOpExpr>(expr);
    return isNonNegative(binary.getLHS()) && isNonNegative(binary.getRHS());
  }
}

Value IndexBuilder::expr(AffineExpr e, ValueRange dims, ValueRange symbols) {
  if (auto c = dyn_cast<AffineConstantExpr>(e))
    return constant(c.getValue());
  if (auto d = dyn_cast<AffineDimExpr>(e))
    return dims[d.getPosition()];
  if (auto s = dyn_cast<AffineSymbolExpr>(e))
    return symbols[s.getPosition()];
  auto binary = cast<AffineBinaryOpExpr>(e);
  Value x = expr(binary.getLHS(), dims, symbols);
  Value y = expr(binary.getRHS(), dims, symbols);
  // Unsigned division is one instruction where floor division is five.
  bool plain = isNonNegative(binary.getLHS()) && isNonNegative(binary.getRHS());
  switch (e.getKind()) {
  case AffineExprKind::Add:
    return add(x, y);
  case AffineExprKind::Mul:
    return mul(x, y);
  case AffineExprKind::FloorDiv:
    if (plain)
      return div(x, y);
    return b.createOrFold<arith::FloorDivSIOp>(l, x, y);
  case AffineExprKind::CeilDiv:
    if (plain)
      return ceilDiv(x, y);
    return b.createOrFold<arith::CeilDivSIOp>(l, x, y);
  default: { // Mod: the result has the divisor's sign, which is positive
    if (plain)
      return rem(x, y);
    Value quotient = b.createOrFold<arith::FloorDivSIOp>(l, x, y);
    return sub(x, mul(quotient, y));
  }
  }
}

SmallVector<Value> IndexBuilder::delinearize(Value linear,
                                             ArrayRef<Value> extents) {
  SmallVector<Value> coords(extents.size());
  for (size_t i = extents.size(); i-- > 0;) {
    if (i == 0) {
      coords[i] = linear;
      break;
    }
    coords[i] = rem(linear, extents[i]);
    linear = div(linear, extents[i]);
  }
  return coords;
}

void IndexBuilder::forEach(Value from, Value to, int64_t by,
                           function_ref<void(Value)> body) {
  auto first = constantOf(from), last = constantOf(to);
  if (first && last && *first >= *last)
    return;
  if (first && last && *first + by >= *last)
    return body(from);
  auto loop = scf::ForOp::create(b, l, from, to, constant(by));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(loop.getBody());
  body(loop.getInductionVar());
}
