// What rounds of turns come to: single times decide nothing, and what the same
// artifact twice differs by is no gain.
#include "dlc/Driver/Turns.h"

#include <gtest/gtest.h>
#include <random>

using namespace dlc;

namespace {

/// Rounds in which the other takes `share` of the plain one's time, with noise
/// of a round and of a turn.
std::vector<Round> makeRounds(double share, double noise, unsigned count = 31) {
  std::mt19937 rng(5);
  std::normal_distribution<double> normal;
  std::vector<Round> rounds;
  for (unsigned i = 0; i < count; ++i) {
    double all = std::exp(0.1 * normal(rng)); // others use the machine
    auto turn = [&] { return all * std::exp(noise * normal(rng)); };
    rounds.push_back({turn(), share * turn(), turn()});
  }
  return rounds;
}

TEST(Turns, FasterBeyondNoise) {
  TurnResult result = judgeTurns(makeRounds(0.9, 0.01));
  EXPECT_NEAR(result.ratio, 1 / 0.9, 0.01);
  EXPECT_TRUE(result.isFaster(1.02));
  // Not by as much as is asked for.
  EXPECT_FALSE(result.isFaster(1.12));
  EXPECT_FALSE(judgeTurns(makeRounds(0.985, 0.002)).isFaster(1.02));
  EXPECT_TRUE(judgeTurns(makeRounds(0.985, 0.002)).isFaster(1.01));
}

TEST(Turns, TheSameIsNeverFaster) {
  for (double noise : {0.002, 0.02, 0.1, 0.4})
    EXPECT_FALSE(judgeTurns(makeRounds(1, noise)).isFaster(1.02)) << noise;
}

// One turn of a tenth of the time: by the fastest of each it would be taken,
// though it is slower.
TEST(Turns, AMisleadingTimeDecidesNothing) {
  std::vector<Round> rounds = makeRounds(1.04, 0.005);
  rounds[7][1] *= 0.1;
  TurnResult result = judgeTurns(rounds);
  EXPECT_LT(result.ratio, 1);
  EXPECT_FALSE(result.isFaster(1.02));
  // Nor do turns of the plain one that were disturbed.
  rounds = makeRounds(1.04, 0.005);
  for (unsigned i = 0; i < 6; ++i)
    rounds[3 * i][0] *= 5;
  EXPECT_FALSE(judgeTurns(rounds).isFaster(1.02));
}

// The copies differ by more than the gain: which pages they lie on decides.
TEST(Turns, CopiesThatDifferAreNoise) {
  std::vector<Round> rounds = makeRounds(0.95, 0.005);
  EXPECT_TRUE(judgeTurns(rounds).isFaster(1.02));
  for (Round &round : rounds)
    round[2] *= 0.93;
  TurnResult result = judgeTurns(rounds);
  EXPECT_GT(result.noise, 1.06);
  EXPECT_FALSE(result.isFaster(1.005));
}

TEST(Turns, FewRoundsTellNothing) {
  EXPECT_FALSE(judgeTurns(makeRounds(0.5, 0.001, 5)).isFaster(1.02));
  EXPECT_TRUE(judgeTurns(makeRounds(0.5, 0.001, 11)).isFaster(1.02));
  EXPECT_FALSE(judgeTurns({}).isFaster(1.02));
}

} // namespace
