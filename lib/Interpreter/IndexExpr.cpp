// Evaluation of index expressions, fast where they are linear.
#include "IndexExpr.h"
#include "LaneType.h"

#include "dlc/Dialect/Graph/IR/Graph.h"

#include <algorithm>

using namespace mlir;
using namespace dlc;
using namespace dlc::interp;

// Adds scale * expr to the coefficients; false when expr is not linear.
static bool addLinear(AffineExpr expr, int64_t scale,
                      MutableArrayRef<int64_t> coefficients,
                      int64_t &constant) {
  if (auto c = dyn_cast<AffineConstantExpr>(expr)) {
    constant += scale * c.getValue();
    return true;
  }
  if (auto d = dyn_cast<AffineDimExpr>(expr)) {
    if (d.getPosition() >= coefficients.size())
      return false;
    coefficients[d.getPosition()] += scale;
    return true;
  }
  auto bin = dyn_cast<AffineBinaryOpExpr>(expr);
  if (!bin)
    return false;
  if (expr.getKind() == AffineExprKind::Add)
    return addLinear(bin.getLHS(), scale, coefficients, constant) &&
           addLinear(bin.getRHS(), scale, coefficients, constant);
  auto right = dyn_cast<AffineConstantExpr>(bin.getRHS());
  if (expr.getKind() == AffineExprKind::Mul) {
    if (right)
      return addLinear(bin.getLHS(), scale * right.getValue(), coefficients,
                       constant);
    if (auto left = dyn_cast<AffineConstantExpr>(bin.getLHS()))
      return addLinear(bin.getRHS(), scale * left.getValue(), coefficients,
                       constant);
    return false;
  }
  if (!right || right.getValue() != 1)
    return false;
  // x mod 1 is 0, x div 1 is x
  return expr.getKind() == AffineExprKind::Mod ||
         addLinear(bin.getLHS(), scale, coefficients, constant);
}

IndexExpr::IndexExpr(AffineExpr expr, unsigned numAxes)
    : expr(expr), coefficients(numAxes, 0) {
  expr.walk([&](AffineExpr e) {
    auto d = dyn_cast<AffineDimExpr>(e);
    usesData |= d && d.getPosition() >= numAxes;
  });
  linear = addLinear(expr, 1, coefficients, constant);
}

// The step of a subexpression that may contain div and mod of other axes.
static std::optional<int64_t> stepOf(AffineExpr expr, unsigned axis) {
  if (!expr.isFunctionOfDim(axis))
    return 0;
  if (isa<AffineDimExpr>(expr))
    return 1;
  auto bin = cast<AffineBinaryOpExpr>(expr);
  std::optional<int64_t> left = stepOf(bin.getLHS(), axis),
                         right = stepOf(bin.getRHS(), axis);
  if (!left || !right)
    return std::nullopt;
  if (expr.getKind() == AffineExprKind::Add)
    return *left + *right;
  auto factor = dyn_cast<AffineConstantExpr>(bin.getRHS());
  if (expr.getKind() == AffineExprKind::Mul && factor)
    return *left * factor.getValue();
  return std::nullopt;
}

std::optional<int64_t> IndexExpr::getStep(int axis) const {
  if (usesData)
    return std::nullopt;
  if (axis < 0)
    return 0;
  return linear ? coefficients[axis] : stepOf(expr, axis);
}

int64_t IndexExpr::at(ArrayRef<int64_t> coords) const {
  if (!linear)
    return graph::evaluate(expr, {}, coords);
  int64_t value = constant;
  for (size_t i = 0; i < coefficients.size(); ++i)
    value += coefficients[i] * coords[i];
  return value;
}

std::optional<std::pair<int64_t, int64_t>>
IndexExpr::getRange(ArrayRef<int64_t> extents) const {
  if (!linear)
    return std::nullopt;
  int64_t low = constant, high = constant;
  for (size_t i = 0; i < coefficients.size(); ++i)
    (coefficients[i] < 0 ? low : high) += coefficients[i] * (extents[i] - 1);
  return std::make_pair(low, high);
}

static int64_t floorDiv(int64_t a, int64_t b) {
  return b == 0 ? 0 : a / b - (a % b != 0 && (a < 0) != (b < 0));
}

static void evaluateLanes(AffineExpr expr,
                          llvm::function_ref<const int64_t *(unsigned)> dim,
                          int64_t count, int64_t *out) {
  if (auto c = dyn_cast<AffineConstantExpr>(expr)) {
    std::fill_n(out, count, c.getValue());
    return;
  }
  if (auto d = dyn_cast<AffineDimExpr>(expr)) {
    std::copy_n(dim(d.getPosition()), count, out);
    return;
  }
  auto bin = cast<AffineBinaryOpExpr>(expr);
  evaluateLanes(bin.getLHS(), dim, count, out);
  int64_t right[kBlock];
  evaluateLanes(bin.getRHS(), dim, count, right);
  auto each = [&](auto fn) {
    for (int64_t i = 0; i < count; ++i)
      out[i] = fn(out[i], right[i]);
  };
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return each([](int64_t a, int64_t b) { return a + b; });
  case AffineExprKind::Mul:
    return each([](int64_t a, int64_t b) { return a * b; });
  case AffineExprKind::FloorDiv:
    return each(floorDiv);
  case AffineExprKind::CeilDiv:
    return each([](int64_t a, int64_t b) { return -floorDiv(-a, b); });
  default:
    return each([](int64_t a, int64_t b) { return a - floorDiv(a, b) * b; });
  }
}

void IndexExpr::lanes(llvm::function_ref<const int64_t *(unsigned)> dim,
                      int64_t count, int64_t *out) const {
  evaluateLanes(expr, dim, count, out);
}
