// The bounds of a sum, a product or a quotient from those of its parts, in 128
// bits cut to 64.
#include "dlc/Dialect/Graph/IR/SizeBounds.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/STLExtras.h"

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

// The terms of a sum: expressions that are no sums, and their factors. Null
// stands for the constant's.
using Terms = llvm::SmallMapVector<AffineExpr, Wide, 8>;
static void addTerms(AffineExpr expr, Wide factor, Terms &terms) {
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  if (auto constant = dyn_cast<AffineConstantExpr>(expr)) {
    terms[AffineExpr()] += factor * constant.getValue();
  } else if (binary && expr.getKind() == AffineExprKind::Add) {
    addTerms(binary.getLHS(), factor, terms);
    addTerms(binary.getRHS(), factor, terms);
  } else if (auto times = binary && expr.getKind() == AffineExprKind::Mul
                              ? dyn_cast<AffineConstantExpr>(binary.getRHS())
                              : AffineConstantExpr()) {
    addTerms(binary.getLHS(), factor * times.getValue(), terms);
  } else {
    terms[expr] += factor;
  }
}

// Bounds of a sum in which a remainder is written x - (x floordiv c) * c, as
// the simplifier leaves it: k c (x floordiv c) - k x is -k (x mod c).
static SizeBounds boundsOfSum(AffineExpr expr, ArrayRef<SizeBounds> symbols) {
  Terms terms;
  addTerms(expr, 1, terms);
  Wide low = 0, high = 0;
  for (auto [atom, factor] : terms) {
    auto quotient = atom && atom.getKind() == AffineExprKind::FloorDiv
                        ? cast<AffineBinaryOpExpr>(atom)
                        : AffineBinaryOpExpr(nullptr);
    auto divisor = quotient ? dyn_cast<AffineConstantExpr>(quotient.getRHS())
                            : AffineConstantExpr();
    if (!divisor || divisor.getValue() <= 0 ||
        factor % divisor.getValue() != 0 || factor == 0)
      continue;
    Wide k = factor / divisor.getValue(), most = k * (divisor.getValue() - 1);
    Terms dividend;
    addTerms(quotient.getLHS(), k, dividend);
    if (!llvm::all_of(dividend, [&](auto &term) {
          auto found = terms.find(term.first);
          return !term.first ||
                 (found != terms.end() && found->second == -term.second);
        }))
      continue;
    for (auto &[part, amount] : dividend)
      terms[part] += amount;
    terms[atom] = 0;
    low -= std::max<Wide>(most, 0);
    high -= std::min<Wide>(most, 0);
    break; // one is what sizes have
  }
  for (auto &[atom, factor] : terms) {
    SizeBounds x = !atom         ? SizeBounds{1, 1}
                   : factor == 0 ? SizeBounds{0, 0}
                                 : graph::boundsOf(atom, symbols);
    SizeBounds part = cut(factor * (factor > 0 ? x.low : x.high),
                          factor * (factor > 0 ? x.high : x.low));
    low += part.low;
    high += part.high;
  }
  return cut(low, high);
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
  case AffineExprKind::Add: {
    SizeBounds sum = boundsOfSum(expr, symbols);
    return {std::max(sum.low, cut(Wide(x.low) + y.low, 0).low),
            std::min(sum.high, cut(0, Wide(x.high) + y.high).high)};
  }
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
