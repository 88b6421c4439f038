// The attention nest against the interpreter: hand-written forms, and seeded
// combinations of sizes, masks, layouts, element types and schedules.
#include "AttentionFixture.h"

#include "gtest/gtest-spi.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::test;
using interp::Tensor;

graph::KernelOp AttentionTest::parse(const AttentionCase &a,
                                     const std::string &knobs) {
  owner = parseSourceString<ModuleOp>(a.text(), &context);
  EXPECT_TRUE(owner) << a.text();
  auto kernel = *owner->getOps<graph::KernelOp>().begin();
  if (!knobs.empty())
    kernel.setScheduleAttr(cast<DictionaryAttr>(
        parseAttribute("{nest = \"attention\", " + knobs + "}", &context)));
  return kernel;
}

std::string AttentionTest::refusal(const AttentionCase &a,
                                   const std::string &knobs, bool strict,
                                   const char *machine) {
  auto target = parseCpuTarget(machine);
  CpuCodegenOptions options;
  options.symbol = "k";
  options.strict = strict;
  std::string reason;
  auto code = emitAttention(parse(a, knobs), *target, options, reason);
  return succeeded(code) ? "" : reason;
}

void AttentionTest::expectSeen(graph::KernelOp kernel, const OpCase &c,
                               ArrayRef<Tensor> inputs, ArrayRef<Tensor> wrong,
                               const NestVariant &variant) {
  ::testing::TestPartResultArray failures;
  {
    ::testing::ScopedFakeTestPartResultReporter reporter(
        ::testing::ScopedFakeTestPartResultReporter::
            INTERCEPT_ONLY_CURRENT_THREAD,
        &failures);
    EXPECT_FALSE(checkVariant(kernel, c, inputs, wrong, variant));
  }
  EXPECT_GT(failures.size(), 0);
}

double AttentionTest::toleranceOf(const AttentionCase &a) {
  // Where p is rounded, a neighbour's rounding may go the other way.
  return a.roundsWeights ? 5e-3 : a.resultType() == "f32" ? 3e-5 : 1e-3;
}

SmallVector<Tensor> AttentionTest::makeInputs(graph::KernelOp kernel,
                                              const AttentionCase &a,
                                              bool specials) {
  SmallVector<Tensor> inputs;
  for (auto [i, pair] :
       llvm::enumerate(llvm::zip(kernel.getArgumentTypes(), a.shapes()))) {
    auto [type, shape] = pair;
    OpCase kind;
    kind.specials = specials;
    kind.low = 0, kind.high = 1;
    // A value that no query keeps is not read: 0 * infinity is 0 there. A mask
    // that is added loses what it is added to.
    bool isCut = a.causal || a.mask == AttentionCase::Lengths;
    if (i == 2 && (isCut || a.zeroesNaN))
      kind.specials = false;
    kind.specials &= !(a.causal && a.addsFill);
    // Masks: -inf here and there, so that rows lose all keys now and then.
    inputs.push_back(
        random(cast<RankedTensorType>(type).getElementType(), shape, kind));
    if (cast<RankedTensorType>(type).getElementType().isInteger(64)) {
      // Lengths, some of them of nothing or of too much; or pages, in disorder,
      // of which some are counted from the end.
      auto *values = reinterpret_cast<int64_t *>(inputs[i].getMutableBytes());
      int64_t pages = a.pageSize ? a.numPages() : 0;
      for (int64_t k = 0; k < inputs[i].getNumElements(); ++k)
        values[k] = shape.size() == 1
                        ? int64_t(generator() % (a.keys + 4)) - 2
                        : int64_t(generator() % (2 * pages)) - pages;
    }
    if (i == 3 &&
        (a.mask == AttentionCase::Padding || a.mask == AttentionCase::Full)) {
      auto *values = reinterpret_cast<float *>(inputs[i].getMutableBytes());
      for (int64_t k = 0; k < inputs[i].getNumElements(); ++k)
        if (generator() % 3 == 0)
          values[k] = -INFINITY;
      int64_t row = shape.back();
      for (int64_t k = 0; k < row && generator() % 2 && shape.size() == 2; ++k)
        values[k] = -INFINITY;
    }
  }
  return inputs;
}

bool AttentionTest::checkCase(const AttentionCase &a, const std::string &knobs,
                              bool specials) {
  std::string text = a.text();
  SCOPED_TRACE(a.name() + " {" + knobs + "}");
  graph::KernelOp kernel = parse(a, knobs);
  EXPECT_EQ(bestNest(kernel).nest, "attention") << bestNest(kernel).reason;
  OpCase c;
  c.op = "attention";
  c.symbols = a.symbols();
  c.tolerance = toleranceOf(a);
  c.specials = specials;
  SmallVector<Tensor> inputs = makeInputs(kernel, a, specials);
  auto expected = interp::Interpreter().runKernel(kernel, inputs, c.symbols);
  EXPECT_TRUE(succeeded(expected)) << text;
  if (failed(expected))
    return false;
  NestVariant variant;
  variant.target =
      !machine.empty()
          ? machine
          : runnableTargets()[numChecked % 4 == 0
                                  ? numChecked / 4 % runnableTargets().size()
                                  : runnableTargets().size() - 1];
  variant.nest = "attention";
  ++numChecked;
  return checkVariant(kernel, c, inputs, *expected, variant);
}

AttentionCase dlc::test::randomCase(std::mt19937 &generator, std::string &knobs,
                                    bool &specials) {
  auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(generator);
  };
  auto oneIn = [&](int n) { return pick(1, n) == 1; };
  AttentionCase a;
  a.batch = pick(1, 2);
  a.heads = pick(1, 3);
  a.group = oneIn(3) ? pick(2, 3) : 1;
  a.queries = oneIn(3) ? pick(1, 8) : pick(2, 70);
  a.keys = oneIn(3) ? pick(2, 8) : pick(2, 90);
  a.inner = pick(2, 40);
  a.columns = oneIn(2) ? a.inner : pick(2, 40);
  a.symbolicQueries = oneIn(3), a.symbolicKeys = oneIn(3);
  a.element = oneIn(4) ? (oneIn(2) ? "bf16" : "f16") : "f32";
  a.causal = AttentionCase::Causal(pick(0, 2));
  if (a.causal && oneIn(3))
    a.window = pick(1, 20);
  a.addsFill = oneIn(3);
  if (oneIn(4))
    a.fill = oneIn(2) ? "-3.4028235e38" : "-1.0e9";
  a.mask = AttentionCase::Mask(oneIn(2) ? 0 : pick(1, 4));
  a.softcap = oneIn(6) ? 5 : 0;
  a.headsLast = oneIn(3), a.merged = oneIn(3), a.transposedKeys = oneIn(6);
  a.zeroesNaN = oneIn(5);
  a.roundsWeights = oneIn(8);
  a.guardsMaximum = oneIn(8);
  a.dividesLater = !a.zeroesNaN && !a.roundsWeights && oneIn(8);
  a.rotates = oneIn(8);
  specials = oneIn(10);
  if (oneIn(6)) { // pages
    a.pageSize = pick(1, 9);
    a.keys = (a.keys + a.pageSize - 1) / a.pageSize * a.pageSize;
    a.symbolicKeys = a.transposedKeys = a.headsLast = false;
  }
  if (a.mask == AttentionCase::NoMask && oneIn(4))
    a.mask = AttentionCase::Lengths;
  auto add = [&](const std::string &name, int64_t value) {
    knobs += (knobs.empty() ? "" : ", ") + name + " = " + std::to_string(value);
  };
  knobs.clear();
  if (a.group * a.queries <= 8 || oneIn(6)) { // few
    add("few", 1);
    if (oneIn(2))
      add("row_tile", pick(1, 6));
    add("block_n", oneIn(2) && !a.roundsWeights ? 16 * pick(1, 3) : 0);
    if (oneIn(2) && !a.roundsWeights)
      add("split_kv", 16 * pick(1, 3));
    return a;
  }
  add("few", 0);
  if (oneIn(2) && !a.roundsWeights)
    add("block_n", pick(1, 40));
  if (a.pageSize || oneIn(3))
    add("copy_keys", 1);
  if (a.pageSize || oneIn(3))
    add("copy_values", 1);
  if (oneIn(3))
    add("key_tile", pick(1, 6));
  if (oneIn(3))
    add("column_tile", pick(1, 6));
  if (oneIn(4))
    add("unroll", pick(1, 5));
  if (oneIn(4))
    add("vectors", 1);
  return a;
}

namespace {
TEST_F(AttentionTest, Plain) {
  AttentionCase a;
  checkCase(a);
  a.batch = 2, a.heads = 3, a.queries = 37, a.keys = 53, a.inner = 24,
  a.columns = 20;
  checkCase(a);
  checkCase(a, "block_n = 16");
  checkCase(a,
            "rows_per_task = 64, copy_keys = 1, copy_values = 1, block_n = 9");
  a.group = 2;
  checkCase(a, "block_n = 16");
}

// Rows without any key: what the body says of exp(-inf - -inf) and of 0 / 0.
// The first block of keys is masked where later ones are not.
TEST_F(AttentionTest, MaskedRows) {
  for (std::string knobs : {"", "few = 0, block_n = 4"}) {
    AttentionCase a;
    a.queries = 19, a.keys = 21;
    a.mask = AttentionCase::Boolean;
    checkCase(a, knobs);
    a.zeroesNaN = true;
    checkCase(a, knobs);
    a.zeroesNaN = false, a.guardsMaximum = true;
    checkCase(a, knobs);
    a.dividesLater = true;
    checkCase(a, knobs);
    a.guardsMaximum = false;
    checkCase(a, knobs);
    // More queries than keys, aligned at the end: the first ones see none.
    a = {};
    a.queries = 29, a.keys = 11, a.causal = AttentionCase::BottomRight;
    checkCase(a, knobs);
    a.fill = "-3.4028235e38";
    checkCase(a, knobs);
    a.addsFill = true;
    checkCase(a, knobs);
    a.window = 3;
    checkCase(a, knobs);
  }
}

// What is compared would show a causal frontier that is off by one.
TEST_F(AttentionTest, NegativeControl) {
  AttentionCase a;
  a.queries = 20, a.keys = 21, a.causal = AttentionCase::TopLeft;
  AttentionCase other = a;
  other.causal = AttentionCase::BottomRight;
  OpCase c;
  c.op = "attention";
  c.tolerance = 3e-5;
  graph::KernelOp kernel = parse(a, "");
  SmallVector<Tensor> inputs;
  for (auto [type, shape] : llvm::zip(kernel.getArgumentTypes(), a.shapes()))
    inputs.push_back(
        random(cast<RankedTensorType>(type).getElementType(), shape, c));
  auto expected = interp::Interpreter().runKernel(kernel, inputs, {});
  auto wrong = interp::Interpreter().runKernel(parse(other, ""), inputs, {});
  ASSERT_TRUE(succeeded(expected) && succeeded(wrong));
  NestVariant variant;
  variant.target = runnableTargets().back();
  variant.nest = "attention";
  kernel = parse(a, "");
  EXPECT_TRUE(checkVariant(kernel, c, inputs, *expected, variant));
  expectSeen(kernel, c, inputs, *wrong, variant);
}

// Keys behind a causal frontier are not read by queries before it, whatever
// lies there; those that are masked by data are.
TEST_F(AttentionTest, SkipsKeys) {
  for (std::string knobs : {"few = 0", "few = 0, block_n = 14", "few = 1"}) {
    SCOPED_TRACE(knobs);
    AttentionCase a;
    a.queries = 8, a.keys = 64, a.causal = AttentionCase::TopLeft;
    graph::KernelOp kernel = parse(a, knobs);
    OpCase c;
    c.op = "attention";
    c.tolerance = 3e-5;
    SmallVector<Tensor> inputs;
    for (auto [type, shape] : llvm::zip(kernel.getArgumentTypes(), a.shapes()))
      inputs.push_back(
          random(cast<RankedTensorType>(type).getElementType(), shape, c));
    auto expected = interp::Interpreter().runKernel(kernel, inputs, {});
    ASSERT_TRUE(succeeded(expected));
    for (int tensor : {1, 2}) {
      auto *values =
          reinterpret_cast<float *>(inputs[tensor].getMutableBytes());
      for (int64_t i = 0; i < inputs[tensor].getNumElements(); ++i)
        if (i / a.inner % a.keys >= a.queries)
          values[i] = NAN;
    }
    NestVariant variant;
    variant.target = runnableTargets().back();
    variant.nest = "attention";
    checkVariant(kernel, c, inputs, *expected, variant);
  }
}

// Keys and values in pages that a table tells, in blocks and for few queries;
// numbers that no page has are reported.
TEST_F(AttentionTest, Pages) {
  for (std::string knobs :
       {"", "few = 0, block_n = 16", "few = 1, split_kv = 16"}) {
    for (int64_t group : {1, 3}) {
      AttentionCase a;
      a.batch = 2, a.heads = 2, a.group = group, a.queries = 21, a.keys = 48;
      a.pageSize = 8;
      checkCase(a, knobs);
      a.mask = AttentionCase::Lengths;
      checkCase(a, knobs);
      a.element = "bf16", a.merged = true;
      checkCase(a, knobs);
    }
  }
  AttentionCase a;
  a.queries = 1, a.keys = 48, a.pageSize = 8;
  graph::KernelOp kernel = parse(a, "");
  SmallVector<Tensor> inputs = makeInputs(kernel, a, false);
  auto *table = reinterpret_cast<int64_t *>(inputs.back().getMutableBytes());
  OpCase c;
  c.op = "attention";
  c.tolerance = 3e-5;
  NestVariant variant;
  variant.target = runnableTargets().back();
  variant.nest = "attention";
  table[3] = -a.numPages();
  auto expected = interp::Interpreter().runKernel(kernel, inputs, {});
  ASSERT_TRUE(succeeded(expected));
  EXPECT_TRUE(checkVariant(kernel, c, inputs, *expected, variant));
  // Clamped, the last page is read.
  table[3] = a.numPages() - 1;
  expected = interp::Interpreter().runKernel(kernel, inputs, {});
  ASSERT_TRUE(succeeded(expected));
  table[3] = a.numPages();
  ::testing::TestPartResultArray failures;
  {
    ::testing::ScopedFakeTestPartResultReporter reporter(
        ::testing::ScopedFakeTestPartResultReporter::
            INTERCEPT_ONLY_CURRENT_THREAD,
        &failures);
    checkVariant(kernel, c, inputs, *expected, variant);
  }
  ASSERT_EQ(failures.size(), 2); // of either run
  for (int i : {0, 1})
    EXPECT_NE(
        std::string(failures.GetTestPartResult(i).message()).find("status"),
        std::string::npos);
}

// Keys at and behind a length that data tell are not read.
TEST_F(AttentionTest, SkipsKeysBehindLengths) {
  for (std::string knobs : {"few = 0", "few = 0, block_n = 14", "few = 1"}) {
    SCOPED_TRACE(knobs);
    AttentionCase a;
    a.batch = 2, a.queries = 9, a.keys = 64, a.mask = AttentionCase::Lengths;
    graph::KernelOp kernel = parse(a, knobs);
    SmallVector<Tensor> inputs = makeInputs(kernel, a, false);
    auto *lengths =
        reinterpret_cast<int64_t *>(inputs.back().getMutableBytes());
    lengths[0] = 5, lengths[1] = 37;
    OpCase c;
    c.op = "attention";
    c.tolerance = 3e-5;
    auto expected = interp::Interpreter().runKernel(kernel, inputs, {});
    ASSERT_TRUE(succeeded(expected));
    for (int tensor : {1, 2}) {
      auto *values =
          reinterpret_cast<float *>(inputs[tensor].getMutableBytes());
      int64_t size = inputs[tensor].getNumElements();
      for (int64_t i = 0; i < size; ++i)
        if (i / a.inner % a.keys >= lengths[i / (size / a.batch)])
          values[i] = NAN;
    }
    NestVariant variant;
    variant.target = runnableTargets().back();
    variant.nest = "attention";
    checkVariant(kernel, c, inputs, *expected, variant);
  }
}

TEST_F(AttentionTest, Refusals) {
  AttentionCase a;
  EXPECT_EQ(refusal(a, ""), "");
  EXPECT_EQ(refusal(a, "", /*strict=*/true), "strict: sums keep their order");
  const std::pair<const char *, const char *> wrong[] = {
      {"few = 0, vectors = 0", "a size of the tile is zero"},
      {"vectors = 2, key_tile = 16, few = 0",
       "the tile does not fit the vector registers"},
      {"few = 0, rows_per_task = 33", "a task's rows are not whole blocks"},
      {"few = 0, split_kv = 16",
       "keys are split over tasks for few queries only"},
      {"few = 1, block_n = 7", "blocks of keys are not whole vectors"},
      {"few = 1, row_tile = 17", "a tile of rows is empty or too large"},
      {"unroll = -1", "'unroll' has no such value"},
  };
  for (auto [knobs, why] : wrong)
    EXPECT_EQ(refusal(a, knobs), std::string("schedule: ") + why) << knobs;
  a.roundsWeights = true;
  EXPECT_EQ(refusal(a, "block_n = 16"),
            "schedule: rounded weights need all keys of a row at once");
  a = {};
  a.element = "bf16";
  EXPECT_EQ(refusal(a, "few = 0, copy_keys = 0"),
            "schedule: keys have no strides to be read by");
  // The schedule in full, and back.
  auto target = parseCpuTarget("x86:cpu=x86-64-v4");
  std::string reason;
  auto spec = classifyAttention(parse({}, ""), reason);
  ASSERT_TRUE(succeeded(spec)) << reason;
  AttentionSchedule schedule = defaultSchedule(*spec, *target);
  schedule.keyTile = 5;
  graph::KernelOp kernel = parse({}, "");
  kernel.setScheduleAttr(schedule.toSchedule().toAttr(&context));
  auto read = withKnobs(defaultSchedule(*spec, *target), kernel, reason);
  ASSERT_TRUE(succeeded(read)) << reason;
  EXPECT_EQ(read->str(), schedule.str());
}

TEST_F(AttentionTest, SeededCombinations) {
  // The full tier runs 2,000 of them, in parts.
  Seeds seeds(100);
  for (int i = int(seeds.first); i < int(seeds.end); ++i) {
    generator.seed(1000 + i);
    std::string knobs;
    bool specials;
    AttentionCase a = randomCase(generator, knobs, specials);
    if (!checkCase(a, knobs, specials)) {
      ADD_FAILURE() << "combination " << i << "\n" << a.text();
      break;
    }
  }
}
} // namespace
