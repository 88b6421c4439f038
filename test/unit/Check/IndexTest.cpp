// The normal form of index expressions, signs under what is known, and the
// claims that only evaluation or Z3 settles.
#include "../../../lib/Check/Prove.h"

#include "gtest/gtest.h"

#include <random>

using namespace dlc;
using namespace dlc::check;

namespace {
struct IndexTest : testing::Test {
  IndexArena index;
  ContextId none = index.emptyContext();
  ProofBudget budget;

  PolyId c(int64_t value) { return index.constant(value); }
  PolyId axis(unsigned i, int64_t size) { return index.axis(0, i, c(size)); }
  PolyId div(PolyId a, PolyId b) { return index.floorDiv(a, b, none); }
  PolyId mod(PolyId a, PolyId b) { return index.mod(a, b, none); }
  PolyId flat(llvm::ArrayRef<PolyId> at, llvm::ArrayRef<PolyId> sizes) {
    PolyId sum = 0;
    for (size_t i = 0; i < at.size(); ++i)
      sum = index.add(index.mul(sum, sizes[i]), at[i]);
    return sum;
  }
};
} // namespace

TEST_F(IndexTest, DigitsCancel) {
  PolyId x = axis(0, 24);
  // (x / 4) * 4 + x % 4 = x
  EXPECT_EQ(index.add(index.scale(div(x, c(4)), 4), mod(x, c(4))), x);
  EXPECT_EQ(div(div(x, c(2)), c(3)), div(x, c(6)));
  EXPECT_EQ(div(x, c(24)), c(0));
  EXPECT_EQ(mod(x, c(24)), x);
  EXPECT_EQ(div(index.add(index.scale(x, 6), axis(1, 6)), c(6)), x);
  EXPECT_EQ(div(index.add(index.scale(x, 6), axis(1, 6)), c(12)), div(x, c(2)));
  EXPECT_NE(div(index.add(index.scale(x, 6), axis(1, 7)), c(6)), x);
}

// Splitting by any radices and joining again gives the number that was split.
TEST_F(IndexTest, RoundTripsOfRandomRadices) {
  std::mt19937 random(5);
  int64_t totals[] = {24, 96, 720, 768, 4096};
  for (int i = 0; i < 200; ++i) {
    int64_t total = totals[random() % 5], rest = total;
    std::vector<PolyId> sizes;
    while (rest > 1) {
      int64_t d = 2 + static_cast<int64_t>(random() % (rest - 1));
      while (rest % d)
        --d;
      sizes.push_back(c(d));
      rest /= d;
    }
    PolyId x = axis(0, total), stride = c(1);
    std::vector<PolyId> digits(sizes.size());
    for (size_t k = sizes.size(); k-- > 0;) {
      digits[k] = mod(div(x, stride), sizes[k]);
      stride = index.mul(stride, sizes[k]);
    }
    ASSERT_EQ(flat(digits, sizes), x) << index.str(flat(digits, sizes));
  }
}

TEST_F(IndexTest, SymbolicRadices) {
  PolyId s = index.symbol(0), t = index.symbol(1);
  ContextId context = index.withExtents(none, {s, t});
  PolyId x = index.axis(0, 0, s), y = index.axis(0, 1, t);
  PolyId joined = index.add(index.mul(x, t), y);
  EXPECT_EQ(index.floorDiv(joined, t, context), x);
  EXPECT_EQ(index.mod(joined, t, context), y);
  // Of size 0 nothing is known.
  EXPECT_NE(index.floorDiv(index.add(index.mul(s, t), c(1)), t, none), s);
  // d < s t: d / t < s.
  PolyId d = index.axis(0, 2, index.mul(s, t));
  PolyId q = index.floorDiv(d, t, context);
  EXPECT_TRUE(index.isNonNegative(index.sub(index.sub(s, q), c(1)), context));
  EXPECT_FALSE(index.isNonNegative(index.sub(index.sub(s, q), c(2)), context));
}

TEST_F(IndexTest, SignsAreNotInvented) {
  PolyId x = axis(0, 10), y = axis(1, 10);
  EXPECT_TRUE(index.isNonNegative(index.sub(c(9), x), none));
  EXPECT_FALSE(index.isNonNegative(index.sub(c(8), x), none));
  EXPECT_FALSE(index.isNonNegative(index.sub(x, y), none));
  Guard guard{{index.sub(x, y), /*isEquality=*/false}};
  ContextId context = index.assume(none, guard);
  EXPECT_TRUE(index.isNonNegative(index.sub(x, y), context));
  EXPECT_TRUE(index.isNonNegative(index.scale(index.sub(x, y), 3), context));
  EXPECT_FALSE(index.isNonNegative(index.sub(y, x), context));
  PolyId s = index.symbol(0);
  EXPECT_TRUE(index.isNonNegative(s, none));
  EXPECT_FALSE(index.isNonNegative(index.sub(s, c(1)), none));
}

// The search may give up before it meets a fact that says just that.
TEST_F(IndexTest, FactsAreKnown) {
  PolyId x = axis(0, 96), y = axis(1, 4), z = axis(2, 13);
  auto less = [&](PolyId a, PolyId b) { return index.sub(a, b); };
  PolyId poly = index.scale(index.floorDiv(index.add(x, c(4)), c(8), none), 48);
  poly = less(poly, index.scale(index.floorDiv(x, c(2), none), 12));
  poly = less(less(poly, index.scale(y, 2)), index.add(z, c(13)));
  EXPECT_FALSE(index.isNonNegative(poly, none));
  Constraint fact = index.normalize({poly, /*isEquality=*/false});
  ContextId context = index.assume(none, {fact});
  EXPECT_TRUE(index.isNonNegative(poly, context));
  EXPECT_EQ(index.simplify({fact}, context), Guard{});
  EXPECT_FALSE(index.isNonNegative(less(poly, c(1)), context));
}

// Random expressions: what is shown to be nonnegative is so at every point, and
// simplification never changes a value.
TEST_F(IndexTest, AgreesWithEvaluation) {
  std::mt19937 random(9);
  Prover prover(index, budget);
  unsigned shown = 0;
  for (int i = 0; i < 400; ++i) {
    PolyId at[] = {axis(0, 5), axis(1, 4), axis(2, 7)};
    auto pick = [&] { return at[random() % 3]; };
    PolyId e = index.add(index.scale(pick(), random() % 7),
                         index.sub(pick(), c(random() % 6)));
    int64_t a = 2 + random() % 5, b = 2 + random() % 5;
    // floor(floor(e / a) / b) = floor(e / (a b)), by another way.
    PolyId left = div(div(e, c(a)), c(b)), right = div(e, c(a * b));
    Witness witness;
    ASSERT_EQ(prover.proveEqual(left, right, none, witness), Answer::Proved)
        << index.str(left) << " and " << index.str(right);
    PolyId r = index.sub(mod(e, c(a)), c(random() % 2));
    bool isShown = index.isNonNegative(r, none);
    shown += isShown;
    witness.clear();
    Answer answer =
        prover.prove({{{r, /*isEquality=*/false}}, {}, none}, witness);
    ASSERT_NE(answer, Answer::Unknown);
    if (isShown)
      ASSERT_EQ(answer, Answer::Proved) << index.str(r);
  }
  EXPECT_GT(shown, 100u);
}

// Radices that do not nest, small: every point. Large: Z3.
TEST_F(IndexTest, EveryPointThenSolver) {
  Prover prover(index, budget);
  Witness witness;
  // x % 6 by way of x % 12 and x % 18, which are not digits of each other.
  auto claim = [&](int64_t size, int64_t offset) {
    PolyId x = axis(0, size);
    PolyId a = mod(mod(x, c(12)), c(6)), b = mod(mod(x, c(18)), c(6));
    return std::pair(index.add(a, c(offset)), b);
  };
  auto [a, b] = claim(1000, 0);
  if (a != b)
    EXPECT_EQ(prover.proveEqual(a, b, none, witness), Answer::Proved);
  // x^2 - x is even: no normal form says so.
  PolyId x = axis(0, 1000);
  PolyId square = index.sub(index.mul(x, x), x);
  EXPECT_EQ(prover.proveEqual(mod(square, c(2)), c(0), none, witness),
            Answer::Proved);
  EXPECT_EQ(prover.numExhaustive, 1u);
  EXPECT_EQ(prover.proveEqual(mod(square, c(4)), c(0), none, witness),
            Answer::Refuted);
  EXPECT_FALSE(witness.empty());
  witness.clear();
  // Over 2^24 points and more: bit-vectors.
  PolyId y = axis(0, int64_t(1) << 20), z = axis(1, int64_t(1) << 10);
  PolyId sum = index.add(index.scale(y, 2), z);
  Guard left{{index.sub(sum, c(5)), /*isEquality=*/false}},
      right{{index.sub(div(sum, c(5)), c(1)), /*isEquality=*/false}},
      wrong{{index.sub(div(sum, c(5)), c(2)), /*isEquality=*/false}};
  EXPECT_EQ(prover.prove({left, right, none}, witness), Answer::Proved);
  EXPECT_EQ(prover.numSolver, 1u);
  EXPECT_EQ(prover.prove({left, wrong, none}, witness), Answer::Refuted);
  witness.clear();
  // A single point of 2^30 that is wrong: only the solver finds it.
  PolyId last = index.add(index.scale(y, 1 << 10), z);
  PolyId carry = div(index.add(last, c(1)), c(int64_t(1) << 30));
  EXPECT_EQ(prover.proveEqual(carry, c(0), none, witness), Answer::Refuted);
  witness.clear();
  // Symbols have no bound: integers, or no answer, but never a wrong one.
  PolyId s = index.symbol(0);
  PolyId odd = index.sub(index.mul(s, s), s);
  EXPECT_NE(prover.proveEqual(mod(odd, c(2)), c(1), none, witness),
            Answer::Proved);
}

TEST_F(IndexTest, NumbersThatOverflowAreNoAnswer) {
  PolyId big = c(int64_t(1) << 40);
  PolyId x = axis(0, 4);
  index.mul(index.mul(big, x), index.mul(big, x));
  EXPECT_TRUE(index.overflowed());
  EXPECT_FALSE(index.isNonNegative(x, none));
}

// In a piece of a concat within a piece of another: the outer piece says which
// d0, the inner one which d0 + 2 k.
TEST_F(IndexTest, FactsReachThroughFacts) {
  Prover prover(index, budget);
  PolyId d = axis(0, 6), k = axis(1, 6);
  ContextId inner = index.assume(
      none, {{index.add(d, index.sub(index.scale(k, 2), c(8))), false}});
  ContextId both = index.assume(inner, {{index.sub(c(1), d), false}});
  PolyId half = div(k, c(2));
  Witness witness;
  EXPECT_EQ(prover.proveEqual(half, c(2), both, witness), Answer::Proved);
  EXPECT_EQ(prover.proveEqual(half, c(2), inner, witness), Answer::Refuted);
  // A witness is a point where all that is known holds.
  witness.clear();
  EXPECT_EQ(prover.proveEqual(k, c(4), both, witness), Answer::Refuted);
  int64_t values[2] = {0, 0};
  for (auto [atom, value] : witness)
    values[index.getAtom(atom).b] = value;
  EXPECT_GE(values[0] + 2 * values[1], 8);
  EXPECT_LE(values[0], 1);
}
