// The bounds of a sum, a product or a quotient from those of its parts, in 128
// bits cut to 64.
#include "dlc/Dialect/Graph/IR/SizeBounds.h"

#include <algorithm>
#include <iterator>

using namespace mlir;
using namespace dlc;
using graph::SizeBounds;

using Wide = __int128;

static constexpr int64_t kMost = std::numeric_limits<int64_t>::max(),
                         kLeast = std::numeric_limits<int64_t>::min();

static SizeBounds cut(Wide low, Wide high) {
  auto one = [](Wide x) {
    return static_cast<int64_t>(std::clamp<Wide>(x, kLeast, kMost));
  };
  return {one(low), one(high)};
}

// The corners hold the extremes of a function that is monotonic in each side.
template <typename Fn>
static SizeBounds corners(SizeBounds x, SizeBounds y, Fn fn) {
  Wide values[] = {fn(x.low, y.low), fn(x.low, y.high), fn(x.high, y.low),
                   fn(x.high, y.high)};
  auto [low, high] = std::minmax_element(std::begin(values), std::end(values));
  return cut(*low, *high);
}

static Wide floorDiv(Wide x, Wide y) {
  Wide quotient = x / y;
  return x % y != 0 && (x < 0) != (y < 0) ? quotient - 1 : quotient;
}

SizeBounds graph::boundsOf(AffineExpr expr, ArrayRef<SizeBounds> symbols) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return {constant.getValue(), constant.getValue()};
  if (auto symbol = dyn_cast<AffineSymbolExpr>(expr)) {
    if (symbol.getPosition() >= symbols.size())
      return {0, kMost};
    return symbols[symbol.getPosition()];
  }
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  if (!binary)
    return {kLeast, kMost};
  SizeBounds x = boundsOf(binary.getLHS(), symbols),
             y = boundsOf(binary.getRHS(), symbols);
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return cut(Wide(x.low) + y.low, Wide(x.high) + y.high);
  case AffineExprKind::Mul:
    return corners(x, y, [](Wide a, Wide b) { return a * b; });
  case AffineExprKind::FloorDiv:
  case AffineExprKind::CeilDiv: {
    bool up = expr.getKind() == AffineExprKind::CeilDiv;
    auto divide = [&](Wide a, Wide b) {
      return up ? -floorDiv(-a, b) : floorDiv(a, b);
    };
    if (y.low > 0)
      return corners(x, y, divide);
    // A quotient is no larger than the dividend; by zero it is zero.
    Wide most = std::max(Wide(x.high), -Wide(x.low));
    return y.low == 0 && x.low >= 0 ? cut(0, most) : cut(-most, most);
  }
  default: // mod
    if (x.low == x.high && y.low == y.high && x.low >= 0 && y.low > 0)
      return {x.low % y.low, x.low % y.low};
    if (x.low >= 0 && y.low >= 0)
      return cut(0,
                 std::min(Wide(x.high), std::max<Wide>(Wide(y.high) - 1, 0)));
    return {kLeast, kMost};
  }
}
