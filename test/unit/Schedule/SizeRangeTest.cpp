// Bounds of size expressions hold for all values in the symbols' ranges.
#include "dlc/Schedule/SizeRange.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "mlir/IR/MLIRContext.h"
#include "gtest/gtest.h"

#include <random>

using namespace mlir;
using namespace dlc;

namespace {

constexpr int64_t kMost = SizeRange().high;

struct SizeRangeTest : ::testing::Test {
  AffineExpr s(unsigned i) { return getAffineSymbolExpr(i, &context); }
  MLIRContext context;
};

TEST_F(SizeRangeTest, KnownForms) {
  SizeRange batch{1, 64, 8}, any;
  EXPECT_EQ(rangeOf(s(0) * 3 + 1, {batch}), (SizeRange{4, 193, 25}));
  EXPECT_EQ(rangeOf(s(0) * s(1), {batch, {2, 3, 2}}), (SizeRange{2, 192, 16}));
  EXPECT_EQ(rangeOf((s(0) - 2).floorDiv(4), {batch}), (SizeRange{0, 15, 1}));
  EXPECT_EQ(rangeOf(s(0).ceilDiv(16), {batch}), (SizeRange{1, 4, 1}));
  EXPECT_EQ(rangeOf(s(0) % 5, {batch}), (SizeRange{0, 4, 3}));
  // No end: sums stop at the largest number, a size is not negative.
  EXPECT_EQ(rangeOf(s(0) * 4096 + 7, {any}).high, kMost);
  EXPECT_EQ(rangeOf(s(0) - 3, {any}).low, 0);
  // A symbol nobody knows.
  EXPECT_EQ(rangeOf(s(3), {batch}).high, kMost);
  EXPECT_EQ(rangeOf(s(0).floorDiv(s(1)), {batch, {0, 4, 0}}).high, 64);
}

TEST_F(SizeRangeTest, HoldForRandomExpressions) {
  std::mt19937 random(7);
  auto number = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  for (int round = 0; round < 300; ++round) {
    std::vector<SizeRange> ranges;
    for (int i = 0; i < 3; ++i) {
      int64_t low = number(0, 5), high = low + number(0, 6);
      ranges.push_back({low, high, number(low, high)});
    }
    AffineExpr expr = s(number(0, 2));
    for (int i = 0; i < 4; ++i) {
      AffineExpr other = number(0, 1)
                             ? s(number(0, 2))
                             : getAffineConstantExpr(number(-4, 7), &context);
      switch (number(0, 4)) {
      case 0:
        expr = expr + other;
        break;
      case 1:
        expr = expr * other;
        break;
      case 2:
        expr = expr.floorDiv(other);
        break;
      case 3:
        expr = expr.ceilDiv(other);
        break;
      default:
        expr = expr % (number(1, 6));
      }
    }
    SizeRange range = rangeOf(expr, ranges);
    for (int i = 0; i < 50; ++i) {
      std::vector<int64_t> values;
      for (const SizeRange &r : ranges)
        values.push_back(number(r.low, r.high));
      // Negative values are no sizes.
      int64_t value = std::max<int64_t>(graph::evaluate(expr, values), 0);
      EXPECT_TRUE(range.contains(value)) << value;
    }
    EXPECT_TRUE(range.contains(range.typical));
  }
}

} // namespace
