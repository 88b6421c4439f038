// Search on made-up spaces: legal, distinct, reproducible, better than chance,
// resumable. Nothing is measured here.
#include "TunerTestUtils.h"

#include "dlc/Tuner/Experience.h"
#include "dlc/Tuner/Search.h"

#include <cmath>

using namespace dlc;
using namespace dlc::tuner;
using namespace dlc::test;

/// Knobs of a contraction, of which odd tiles of two vectors are not legal.
static ScheduleSpace makeSpace() {
  ScheduleSpace space;
  space.nest = "contraction";
  ScheduleSpace::Knob rows{"tile_rows", {}};
  for (int i = 1; i <= 24; ++i)
    rows.values.push_back(i);
  space.knobs = {rows,
                 {"tile_vectors", {1, 2, 4, 6}},
                 {"unroll", {1, 2, 4, 8}},
                 {"rhs", {0, 2}},
                 {"task_row_tiles", {0, 1, 2, 4, 8}}};
  space.defaults = {{"tile_rows", 2},
                    {"tile_vectors", 1},
                    {"unroll", 1},
                    {"rhs", 0},
                    {"task_row_tiles", 0}};
  space.isLegal = [](const KnobValues &knobs, std::string &reason) {
    reason = "odd";
    return knobs.at("tile_vectors") != 2 || knobs.at("tile_rows") % 2 == 0;
  };
  return space;
}

static Scorer makeScorer() {
  ContractionFacts facts;
  facts.rows = facts.columns = facts.depth = 256;
  facts.lhsRow = facts.rhsDepth = 256;
  return llvm::cantFail(Scorer::create(facts.toJson(), TargetFacts().toJson()));
}

/// A landscape that the analytic model does not know.
static std::optional<double> timeOf(const KnobValues &knobs) {
  double rows = double(knobs.at("tile_rows")),
         vectors = double(knobs.at("tile_vectors"));
  if (knobs.at("unroll") == 8 && rows > 20)
    return std::nullopt; // fails
  return 0.4 + std::abs(rows - 10) / 20 + std::abs(std::log2(vectors / 4)) / 3 +
         (knobs.at("rhs") == 2 ? 0 : 0.3) + (knobs.at("unroll") == 4 ? 0 : 0.1);
}

TEST(ScheduleSpace, PointsAreLegal) {
  ScheduleSpace space = makeSpace();
  ScheduleSpace::Random random(1);
  std::string reason;
  std::set<KnobValues> seen;
  for (int i = 0; i < 300; ++i) {
    auto point = space.sample(random);
    ASSERT_TRUE(point);
    EXPECT_TRUE(space.isLegal(*point, reason));
    KnobValues child = space.mutate(*point, random);
    EXPECT_TRUE(space.isLegal(child, reason));
    EXPECT_NE(child, *point);
    EXPECT_TRUE(space.isLegal(space.cross(*point, child, random), reason));
    seen.insert(*point);
  }
  EXPECT_GT(seen.size(), 200u);
  space.isLegal = [](const KnobValues &, std::string &) { return false; };
  EXPECT_FALSE(space.sample(random));
}

static std::vector<KnobValues> runSearch(const SearchOptions &options,
                                         unsigned rounds, double *best,
                                         const Forest *base = nullptr) {
  ScheduleSpace space = makeSpace();
  Scorer scorer = makeScorer();
  Search search(space, scorer, base, options);
  std::vector<KnobValues> order;
  std::string reason;
  for (unsigned r = 0; r < rounds; ++r) {
    for (const KnobValues &point : search.propose(options.batch)) {
      EXPECT_TRUE(point == space.defaults || space.isLegal(point, reason));
      order.push_back(point);
      search.addResult(point, timeOf(point));
    }
    search.endRound();
  }
  if (best)
    *best = search.getBest().second;
  return order;
}

TEST(Search, IsReproducibleAndDistinct) {
  SearchOptions options;
  std::vector<KnobValues> a = runSearch(options, 4, nullptr);
  EXPECT_EQ(a.size(), 32u);
  EXPECT_EQ(a, runSearch(options, 4, nullptr));
  EXPECT_EQ(a[0], makeSpace().defaults);
  EXPECT_EQ(std::set<KnobValues>(a.begin(), a.end()).size(), a.size());
  options.seed = 2;
  EXPECT_NE(a, runSearch(options, 4, nullptr));
}

TEST(Search, BeatsChance) {
  double model = 0, chance = 0;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    SearchOptions options;
    options.seed = seed;
    double best;
    runSearch(options, 4, &best);
    model += best / 5;
    options.guide = Guide::Random;
    runSearch(options, 4, &best);
    chance += best / 5;
  }
  EXPECT_LT(model, chance);
  EXPECT_LT(model, 0.5); // the best point takes 0.4, the default 1.9
}

TEST(Search, StopsWhenNothingIsGained) {
  ScheduleSpace space = makeSpace();
  Scorer scorer = makeScorer();
  Search search(space, scorer, nullptr, {});
  unsigned rounds = 0;
  while (!search.isConverged() && rounds < 20) {
    for (const KnobValues &point : search.propose(8))
      search.addResult(point, 1.0);
    search.endRound();
    ++rounds;
  }
  EXPECT_GE(rounds, 2u);
  EXPECT_LE(rounds, SearchOptions().quietRounds);
  SearchOptions options;
  options.guide = Guide::Random;
  Search blind(space, scorer, nullptr, options);
  for (rounds = 0; !blind.isConverged() && rounds < 20; ++rounds) {
    for (const KnobValues &point : blind.propose(8))
      blind.addResult(point, 1.0);
    blind.endRound();
  }
  EXPECT_EQ(rounds, options.quietRounds);
}

// What like kernels had comes first, as far as it is legal here and at most
// half a round; whatever else they had of knobs is left out.
TEST(Search, BeginsWithExperience) {
  SearchOptions options;
  KnobValues good{
      {"tile_rows", 10}, {"tile_vectors", 4}, {"unroll", 4}, {"rhs", 2}},
      foreign = good, illegal = good;
  foreign["tile_rows"] = 12;
  foreign["of_another_space"] = 7;
  illegal["tile_rows"] = 3;
  illegal["tile_vectors"] = 2;
  options.first = {illegal, good, foreign};
  double best;
  std::vector<KnobValues> order = runSearch(options, 1, &best);
  ASSERT_GE(order.size(), 3u);
  EXPECT_EQ(order[0], makeSpace().defaults);
  EXPECT_EQ(order[1].at("tile_rows"), 10);
  EXPECT_EQ(order[1].at("task_row_tiles"), 0); // kept from the default
  EXPECT_EQ(order[2].at("tile_rows"), 12);
  EXPECT_EQ(order[2].count("of_another_space"), 0u);
  EXPECT_NEAR(best, 0.4, 1e-9);
  EXPECT_EQ(order, runSearch(options, 1, nullptr));
  // More than half a round is the model's.
  for (int64_t rows = 1; rows <= 20; ++rows) {
    good["tile_rows"] = rows;
    options.first.push_back(good);
  }
  order = runSearch(options, 1, nullptr);
  unsigned taken = 0;
  for (size_t i = 1; i < order.size(); ++i)
    for (const KnobValues &point : options.first)
      if (order[i].at("tile_rows") == point.at("tile_rows") &&
          order[i].at("tile_vectors") == 4 && order[i].at("unroll") == 4 &&
          order[i].at("task_row_tiles") == 0) {
        taken += i < options.batch / 2;
        break;
      }
  EXPECT_EQ(taken, options.batch / 2 - 1);
}

// The nearest by size are asked first; failed and slow trials tell nothing.
TEST(Search, FindsExperience) {
  auto record = [](int64_t rows, int64_t tile, double ratio) {
    Record r = makeRecord(int(tile), ratio, rows);
    return r;
  };
  Record failed = record(64, 20, 0.1);
  failed.status = Status::Crash;
  failed.samples.clear();
  std::vector<Record> records{record(64, 5, 0.7),   record(64, 6, 0.8),
                              record(64, 7, 0.9),   record(64, 8, 1.3),
                              record(2048, 9, 0.3), failed};
  Record here = makeRecord(1, 1, 80);
  auto found = findExperience(records, here.workload, here.target, 1, 2);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].at("tile_rows"), 5);
  EXPECT_EQ(found[1].at("tile_rows"), 6);
  found = findExperience(records, here.workload, here.target, 2, 4);
  ASSERT_EQ(found.size(), 4u);
  EXPECT_EQ(found[3].at("tile_rows"), 9);
  Record large = makeRecord(1, 1, 4096);
  found = findExperience(records, large.workload, large.target, 1, 1);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].at("tile_rows"), 9);
  EXPECT_TRUE(findExperience({}, here.workload, here.target).empty());
}

// A space of few points ends.
TEST(Search, ExhaustsTheSpace) {
  ScheduleSpace space = makeSpace();
  space.knobs.resize(2);
  for (auto &knob : space.knobs)
    knob.values.resize(2);
  Scorer scorer = makeScorer();
  Search search(space, scorer, nullptr, {});
  unsigned count = 0;
  for (int round = 0; round < 10; ++round) {
    std::vector<KnobValues> points = search.propose(8);
    for (const KnobValues &point : points)
      search.addResult(point, 1.0);
    count += points.size();
    search.endRound();
  }
  EXPECT_EQ(count, 3u + 0u); // (1,1), (2,1), (2,2); (1,2) is not legal
}

// Mutations of the fastest find better points than chance; a listed space has
// no others, and all of it is measured in the end.
TEST(Search, EvolvesAndKeepsToAList) {
  double evolved = 0, chance = 0;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    SearchOptions options;
    options.seed = seed;
    double best;
    options.guide = Guide::Evolution;
    EXPECT_EQ(runSearch(options, 6, &best).size(), 48u);
    evolved += best / 5;
    options.guide = Guide::Random;
    runSearch(options, 6, &best);
    chance += best / 5;
  }
  EXPECT_LT(evolved, chance);

  ScheduleSpace space = makeSpace();
  ScheduleSpace::Random random(4);
  std::set<KnobValues> listed;
  while (listed.size() < 20)
    listed.insert(*space.sample(random));
  for (Guide guide : {Guide::Model, Guide::Evolution, Guide::Random})
    for (bool usePrior : {true, false}) {
      SearchOptions options;
      options.guide = guide;
      options.usePrior = usePrior;
      options.among.assign(listed.begin(), listed.end());
      std::set<KnobValues> asked;
      Scorer scorer = makeScorer();
      Search search(space, scorer, nullptr, options);
      for (unsigned round = 0; round < 40; ++round) {
        for (const KnobValues &point : search.propose(8)) {
          EXPECT_TRUE(asked.insert(point).second);
          EXPECT_TRUE(point == space.defaults || listed.count(point));
          search.addResult(point, timeOf(point));
        }
        search.endRound();
      }
      EXPECT_GE(asked.size(), 20u);
    }
}
