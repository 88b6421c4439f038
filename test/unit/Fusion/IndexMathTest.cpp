// Composed index maps, against evaluation at every point.
#include "dlc/Fusion/IndexMath.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "mlir/IR/MLIRContext.h"
#include "gtest/gtest.h"

#include <random>

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;

namespace {
class IndexMathTest : public ::testing::Test {
protected:
  AffineExpr d(unsigned i) { return getAffineDimExpr(i, &context); }
  AffineExpr s(unsigned i) { return getAffineSymbolExpr(i, &context); }
  AffineExpr c(int64_t v) { return getAffineConstantExpr(v, &context); }
  MLIRContext context;
};

TEST_F(IndexMathTest, DividesByWhatRangesDecide) {
  IndexMath math(&context, {c(4), s(0), c(64)});
  AffineExpr flat = (d(0) * s(0) + d(1)) * 64 + d(2);
  EXPECT_EQ(math.simplify(flat.floorDiv(s(0) * 64)), d(0));
  EXPECT_EQ(math.simplify(flat.floorDiv(c(64)) % s(0)), d(1));
  EXPECT_EQ(math.simplify(flat % c(64)), d(2));
  // One more than the range decides stays as it is.
  EXPECT_NE(math.simplify((d(2) + 1) % c(64)), d(2) + 1);
}

TEST_F(IndexMathTest, JoinsTheDigitsOfANumber) {
  IndexMath math(&context, {c(100)});
  EXPECT_EQ(math.simplify(d(0).floorDiv(c(7)) * 7 + d(0) % c(7)), d(0));
  EXPECT_NE(math.simplify(d(0).floorDiv(c(7)) * 8 + d(0) % c(7)), d(0));
}

// rebase_compose, on random factorisations of one size, nesting or not.
TEST_F(IndexMathTest, ReshapesKeepTheRowMajorPosition) {
  std::mt19937 random(7);
  auto factorise = [&](int64_t n) {
    SmallVector<AffineExpr> dims;
    while (n > 1) {
      SmallVector<int64_t> divisors;
      for (int64_t k = 2; k <= n; ++k)
        if (n % k == 0)
          divisors.push_back(k);
      int64_t k = divisors[random() % divisors.size()];
      dims.push_back(c(k));
      if (random() % 4 == 0)
        dims.push_back(c(1));
      n /= k;
    }
    return dims;
  };
  for (int trial = 0; trial < 200; ++trial) {
    SmallVector<AffineExpr> to = factorise(360), from = factorise(360);
    IndexMath math(&context, to);
    SmallVector<AffineExpr> at;
    for (unsigned i = 0; i < to.size(); ++i)
      at.push_back(d(i));
    SmallVector<AffineExpr> source = math.throughReshape(at, to, from);
    for (int64_t flat = 0; flat < 360; ++flat) {
      SmallVector<int64_t> point(to.size());
      int64_t rest = flat;
      for (size_t i = to.size(); i-- > 0;) {
        int64_t n = *graph::constantValue(to[i]);
        point[i] = rest % n;
        rest /= n;
      }
      int64_t position = 0;
      for (auto [e, n] : llvm::zip(source, from)) {
        int64_t value = graph::evaluate(e, {}, point);
        int64_t size = *graph::constantValue(n);
        ASSERT_TRUE(value >= 0 && value < size);
        position = position * size + value;
      }
      ASSERT_EQ(position, flat);
    }
  }
}

TEST_F(IndexMathTest, SymbolicReshapesStayLinear) {
  // (s0, s1, 12, 64) seen as (s0 * s1, 768) and back.
  IndexMath math(&context, {s(0), s(1), c(12), c(64)});
  SmallVector<AffineExpr> flat =
      math.throughReshape({d(0), d(1), d(2), d(3)}, {s(0), s(1), c(12), c(64)},
                          {s(0) * s(1), c(768)});
  SmallVector<AffineExpr> back = math.throughReshape(
      flat, {s(0) * s(1), c(768)}, {s(0), s(1), c(12), c(64)});
  EXPECT_EQ(back, (SmallVector<AffineExpr>{d(0), d(1), d(2), d(3)}));
}
} // namespace
