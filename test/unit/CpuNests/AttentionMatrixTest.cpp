// Attention by matrix tiles (AMX) and by products of pairs (vdpbf16ps) against
// the interpreter: edges of tiles, seeded combinations, special numbers, and
// which kernels get either. Results are f32 where they can be, so that bf16's
// rounding hides nothing.
#include "AttentionFixture.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::test;
using interp::Tensor;

namespace {
class MatrixAttention : public AttentionTest {
protected:
  MatrixAttention() { machine = "host:threads=1"; }
  /// A form of the products that this machine has, as knobs, single ones among
  /// them; and whether it is for rounded weights alone.
  struct Form {
    std::string knobs;
    bool roundedOnly;
  };
  static std::vector<Form> forms() {
    auto host = parseCpuTarget("host");
    std::vector<Form> found{{"few = 0, tiles = 0, pairs = 0", false}};
    if (host && host->hasFeature("amx-bf16"))
      found.push_back({"few = 0, tiles = 1, pairs = 0", false});
    if (host && host->hasFeature("avx512bf16"))
      found.push_back({"few = 0, tiles = 0, pairs = 1", true});
    return found;
  }
  /// Each with weights that are rounded, and not.
  static std::vector<std::pair<std::string, bool>> formsAndRoundings() {
    std::vector<std::pair<std::string, bool>> all;
    for (const Form &form : forms()) {
      all.emplace_back(form.knobs, true);
      if (!form.roundedOnly)
        all.emplace_back(form.knobs, false);
    }
    return all;
  }
  static AttentionCase plain(int64_t queries, int64_t keys, int64_t inner,
                             int64_t columns, bool rounds) {
    AttentionCase a;
    a.queries = queries, a.keys = keys, a.inner = inner, a.columns = columns;
    a.element = "bf16", a.result = "f32", a.roundsWeights = rounds;
    return a;
  }
  AttentionSchedule defaultOf(const AttentionCase &a, const char *target) {
    auto parsed = parseCpuTarget(target);
    EXPECT_TRUE(bool(parsed)) << target;
    std::string reason;
    auto spec = classifyAttention(parse(a, ""), reason);
    EXPECT_TRUE(succeeded(spec)) << reason;
    return defaultSchedule(*spec, *parsed);
  }
  bool usesTiles(const AttentionCase &a, const char *target) {
    return defaultOf(a, target).tiles;
  }
  bool usesPairs(const AttentionCase &a, const char *target) {
    return defaultOf(a, target).pairs;
  }
};

TEST_F(MatrixAttention, AroundEveryEdge) {
  constexpr std::array<int64_t, 4> sizes[] = {
      {16, 32, 32, 16}, {17, 33, 31, 17}, {32, 64, 64, 32}, {33, 3, 2, 40},
      {70, 31, 33, 33}, {15, 95, 48, 48}, {9, 300, 16, 64}, {40, 65, 96, 15}};
  for (const auto &[form, rounds] : formsAndRoundings())
    for (auto [queries, keys, inner, columns] : sizes) {
      AttentionCase a = plain(queries, keys, inner, columns, rounds);
      checkCase(a, form);
      a.group = 1 + keys % 2 * 2, a.merged = a.headsLast = a.group > 1;
      std::string blocks = rounds     ? ""
                           : keys % 2 ? ", block_n = 64"
                                      : ", block_n = 32";
      checkCase(a, form + blocks +
                       (keys % 2 ? ", rows_per_task = 32" : ", vectors = 1"));
    }
}

TEST_F(MatrixAttention, SymbolicSizes) {
  for (const auto &[form, rounds] : formsAndRoundings())
    for (auto [queries, keys] :
         {std::pair<int64_t, int64_t>{1, 1}, {9, 32}, {64, 47}, {50, 129}}) {
      AttentionCase a = plain(queries, keys, 40, 24, rounds);
      a.symbolicQueries = a.symbolicKeys = true;
      a.causal = AttentionCase::BottomRight;
      checkCase(a, form);
      a.window = 21;
      checkCase(a, form);
    }
}

// Frontiers and windows that begin within a tile, at odd keys too; rows without
// keys; masks that keep nothing of a block.
TEST_F(MatrixAttention, MaskedRows) {
  for (const auto &[form, rounds] : formsAndRoundings())
    for (const char *fill : {"0xFF800000", "-3.4028235e38"}) {
      const std::string knobs = form + (rounds ? "" : ", block_n = 32");
      AttentionCase a = plain(45, 90, 24, 20, rounds);
      a.fill = fill;
      a.causal = AttentionCase::BottomRight;
      for (int64_t window : {0, 3, 37}) {
        a.window = window;
        checkCase(a, knobs);
      }
      a.queries = 90, a.keys = 45, a.window = 0; // the first rows see nothing
      checkCase(a, knobs);
      if (fill[0] == '-')
        continue;
      a.causal = AttentionCase::None;
      for (auto mask : {AttentionCase::Boolean, AttentionCase::Full}) {
        a.mask = mask;
        for (bool zeroes : {false, true}) {
          a.zeroesNaN = zeroes;
          checkCase(a, knobs, /*specials=*/zeroes != rounds);
        }
      }
    }
}

// Where masked scores are a number that a row's scores do not exceed by far,
// all keys count: a block's weights are made again.
TEST_F(MatrixAttention, MaskedKeysThatCount) {
  for (const auto &[form, rounds] : formsAndRoundings()) {
    AttentionCase a = plain(40, 70, 16, 16, rounds);
    a.causal = AttentionCase::BottomRight;
    a.fill = "-1001.0";
    a.mask =
        AttentionCase::Full; // of -inf: rows without a score are among them
    checkCase(a, form);
    a.group = 2;
    checkCase(a, form + ", rows_per_task = 32");
  }
}

// Rotated queries, softcap, slopes, results in bf16: the parts around the
// products are the nest's.
TEST_F(MatrixAttention, Surroundings) {
  for (const auto &[form, roundedOnly] : forms()) {
    AttentionCase a = plain(37, 60, 40, 40, true);
    a.result = "";
    a.softcap = 5, a.mask = AttentionCase::Slopes;
    checkCase(a, form);
    a.transposedKeys = a.guardsMaximum = true;
    checkCase(a, form);
    if (roundedOnly)
      continue;
    a.roundsWeights = false, a.dividesLater = true;
    checkCase(a, form);
  }
}

// One wrong element of each operand, the last that a tile reads, is seen.
TEST_F(MatrixAttention, AWrongFactorIsSeen) {
  for (const auto &[form, rounds] : formsAndRoundings())
    for (int operand : {0, 1, 2}) {
      AttentionCase a = plain(33, 45, 40, 24, rounds);
      graph::KernelOp kernel = parse(a, form);
      SmallVector<Tensor> inputs = makeInputs(kernel, a, false);
      auto *last =
          reinterpret_cast<uint16_t *>(inputs[operand].getMutableBytes() +
                                       inputs[operand].getNumBytes() - 2);
      uint16_t right = *last;
      *last = 0x4080; // 4.0, beyond the others
      auto wrong = interp::Interpreter().runKernel(kernel, inputs, {});
      *last = right;
      auto expected = interp::Interpreter().runKernel(kernel, inputs, {});
      ASSERT_TRUE(succeeded(wrong) && succeeded(expected));
      OpCase c;
      c.op = "attention";
      c.tolerance = toleranceOf(a);
      NestVariant variant;
      variant.target = machine;
      variant.nest = "attention";
      EXPECT_TRUE(checkVariant(kernel, c, inputs, *expected, variant));
      expectSeen(kernel, c, inputs, *wrong, variant);
    }
}

TEST_F(MatrixAttention, WhichKernels) {
  const char *tiled = "x86:cpu=sapphirerapids";
  AttentionCase a = plain(64, 64, 32, 32, true);
  EXPECT_TRUE(usesTiles(a, tiled));
  a.roundsWeights = false;
  EXPECT_TRUE(usesTiles(a, tiled));
  EXPECT_FALSE(usesTiles(a, "x86:cpu=sapphirerapids:features=-amx-bf16"));
  EXPECT_FALSE(usesTiles(a, "x86:cpu=znver5"));
  EXPECT_FALSE(usesTiles(a, "arm:cpu=neoverse-v2"));
  a.queries = 1;
  EXPECT_FALSE(usesTiles(a, tiled));
  a.queries = 64, a.rotates = true; // queries are no bf16 numbers then
  EXPECT_FALSE(usesTiles(a, tiled));
  for (const char *element : {"f32", "f16"}) {
    a = {};
    a.queries = a.keys = 64, a.element = element;
    EXPECT_FALSE(usesTiles(a, tiled)) << element;
  }
  EXPECT_EQ(refusal(a, "few = 0, tiles = 1", false, tiled),
            "schedule: no products of bf16 numbers, or no matrix tiles for "
            "them");
  a = plain(64, 64, 32, 32, false);
  EXPECT_EQ(refusal(a, "few = 0, tiles = 1, block_n = 16", false, tiled),
            "schedule: blocks of keys are not whole matrix tiles");
  EXPECT_EQ(refusal(a, "few = 0, tiles = 1, vectors = 3", false, tiled),
            "schedule: a matrix tile has 16 columns, and one or two are "
            "summed");
  EXPECT_EQ(refusal(a, "few = 1, tiles = 1", false, tiled),
            "schedule: matrix tiles are for blocks of queries");
  EXPECT_EQ(refusal(a, "few = 0, tiles = 0", false, tiled), "");
}

// Where vdpbf16ps is faster than multiply-adds, for weights that are bf16
// numbers; matrix tiles come first.
TEST_F(MatrixAttention, WhichKernelsHavePairs) {
  const char *fast = "x86:cpu=znver5", *tiled = "x86:cpu=sapphirerapids";
  AttentionCase a = plain(64, 64, 32, 32, true);
  EXPECT_TRUE(usesPairs(a, fast));
  EXPECT_FALSE(usesPairs(a, tiled)); // half as fast there
  EXPECT_FALSE(usesPairs(a, "x86:cpu=sapphirerapids:features=-amx-bf16"));
  EXPECT_FALSE(usesPairs(a, "x86:cpu=znver5:features=-avx512bf16"));
  EXPECT_FALSE(usesPairs(a, "arm:cpu=neoverse-v2"));
  EXPECT_EQ(refusal(a, "few = 0, tiles = 0, pairs = 1", false, tiled), "");
  EXPECT_EQ(refusal(a, "few = 0, tiles = 1, pairs = 1", false, tiled),
            "schedule: matrix tiles and products of pairs exclude each other");
  EXPECT_EQ(refusal(a, "few = 0, pairs = 1, copy_keys = 0", false, fast),
            "schedule: pairs are made from copies");
  EXPECT_EQ(refusal(a, "few = 1, pairs = 1", false, fast),
            "schedule: products of pairs are for blocks of queries");
  const char *none = "schedule: no products of pairs of bf16 numbers, or no "
                     "instruction for them";
  EXPECT_EQ(refusal(a, "few = 0, pairs = 1", false, "x86:cpu=znver3"), none);
  a.roundsWeights = false;
  EXPECT_FALSE(usesPairs(a, fast));
  EXPECT_EQ(refusal(a, "few = 0, pairs = 1", false, fast), none);
  a = plain(1, 64, 32, 32, true);
  EXPECT_FALSE(usesPairs(a, fast));
  a = plain(64, 64, 32, 32, true);
  a.rotates = true; // queries are no bf16 numbers then
  EXPECT_FALSE(usesPairs(a, fast));
}

/// Seeded combinations; DLC_TEST_COUNT of them (30) from DLC_TEST_FIRST.
TEST_F(MatrixAttention, SeededCombinations) {
  Seeds seeds(30);
  const std::vector<Form> all = forms();
  for (int i = int(seeds.first); i < int(seeds.end); ++i) {
    const Form &form = all[i % all.size()];
    generator.seed(500000 + i);
    std::string knobs;
    bool specials;
    AttentionCase a = randomCase(generator, knobs, specials);
    auto pick = [&](int64_t low, int64_t high) {
      return std::uniform_int_distribution<int64_t>(low, high)(generator);
    };
    a.element = "bf16", a.rotates = false;
    a.result = pick(0, 3) ? "f32" : "";
    a.dividesLater &= !form.roundedOnly;
    a.roundsWeights = !a.dividesLater && (pick(0, 1) || form.roundedOnly);
    a.inner = pick(2, 100);
    a.queries = std::max<int64_t>(a.queries, 2); // one has no lanes
    knobs = form.knobs + ", vectors = " + std::to_string(pick(1, 2));
    if (!a.roundsWeights && pick(0, 1))
      knobs += ", block_n = " + std::to_string(32 * pick(1, 3));
    if (pick(0, 2) == 0)
      knobs += ", rows_per_task = " + std::to_string(32 * pick(1, 2));
    if (StringRef(form.knobs).contains("tiles = 0"))
      knobs += ", key_tile = " + std::to_string(pick(1, 14)) +
               ", column_tile = " + std::to_string(pick(1, 14)) +
               ", unroll = " + std::to_string(pick(1, 5));
    if (!checkCase(a, knobs, specials)) {
      ADD_FAILURE() << "combination " << i << "\n" << a.text();
      break;
    }
  }
}
} // namespace
