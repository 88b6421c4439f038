// The contraction nest against naive loops: shapes around every edge of tiles
// and vectors, transposes, batches, convolutions, element types, symbolic
// sizes; guard bytes behind every buffer; and controls that must fail.
#include "ContractionFixture.h"
#include "dlc/Codegen/CPU/KernelVariants.h"

using namespace dlc;
using namespace dlc::test;
using namespace mlir;

namespace {

TEST_F(Contraction, MatMulEdges) {
  for (int64_t m : {1, 2, 5, 13, 14, 15, 29})
    for (int64_t n : {1, 15, 16, 17, 31, 33, 64, 70})
      for (int64_t k : {1, 16, 37})
        if (m * n > 1)
          check(einsum("mk,kn->mn", mnk(m, n, k)),
                constants(m % 2 == 0, n % 2 == 0),
                std::to_string(m) + "x" + std::to_string(n) + "x" +
                    std::to_string(k));
}

TEST_F(Contraction, EverySourceOfFactors) {
  auto set = [](FactorSource lhs, FactorSource rhs) {
    Options options =
        constants(lhs == FactorSource::Packed, rhs == FactorSource::Packed);
    options.adjust = [=](ContractionSchedule &s) {
      s.lhs = lhs;
      s.rhs = rhs;
      s.tileRows = s.panelRows = 6;
      s.tileVectors = 4;
      s.columnsPerTask = s.columnsPerBlock = s.rowsPerTask = 0;
    };
    return options;
  };
  FactorSource sources[] = {FactorSource::Memory, FactorSource::Filled,
                            FactorSource::Packed};
  for (FactorSource lhs : sources)
    for (FactorSource rhs : sources)
      for (auto [m, n, k] :
           {std::array<int64_t, 3>{19, 75, 35}, {12, 64, 32}, {3, 130, 17}})
        check(einsum("mk,kn->mn", mnk(m, n, k)), set(lhs, rhs),
              std::to_string(int(lhs)) + std::to_string(int(rhs)));
}

// Last columns that fill half a vector have two steps of k at once.
TEST_F(Contraction, PairedTails) {
  for (const char *target : {"x86:cpu=x86-64-v4", "x86:cpu=x86-64-v3"})
    for (int64_t n : {8, 24, 40, 12})
      for (int64_t k : {2, 38, 37})
        for (FactorSource lhs :
             {FactorSource::Memory, FactorSource::Filled, FactorSource::Packed})
          for (int64_t m : {2, 29}) {
            Options options = constants(lhs == FactorSource::Packed, true);
            options.target = target;
            options.adjust = [=](ContractionSchedule &s) {
              bool isHalf = n % s.lanes == s.lanes / 2 && k % 2 == 0;
              EXPECT_EQ(s.pairsTail, isHalf) << n << " " << k;
              s.lhs = lhs;
              s.tileRows = s.panelRows = 6;
              s.tileVectors = 2;
              s.columnsPerTask = s.columnsPerBlock = 0;
              if (m == 29 && k > 16) // sums that go on
                s.depthPerPass = 16;
              s.rowsPerTask = 0;
            };
            check(einsum("mk,kn->mn", mnk(m, n, k)), options,
                  std::string(target) + " " + std::to_string(n) + " " +
                      std::to_string(k) + " " + std::to_string(int(lhs)));
          }
  // Sums in their order: not.
  Options strict = constants(false, true);
  strict.target = "x86:cpu=x86-64-v4";
  strict.strict = true;
  strict.adjust = [](ContractionSchedule &s) { EXPECT_FALSE(s.pairsTail); };
  check(einsum("mk,kn->mn", mnk(5, 24, 16)), strict, "strict");
}

TEST_F(Contraction, TasksAndBlocks) {
  for (int64_t rows : {0, 14, 28})
    for (int64_t columns : {0, 32, 96})
      for (int64_t block : {0, 32})
        for (bool constant : {false, true}) {
          Options options = constants(false, constant);
          options.adjust = [=](ContractionSchedule &s) {
            s.tileRows = s.panelRows = 14;
            s.tileVectors = 2;
            s.rowsPerTask = rows;
            s.columnsPerTask = columns;
            s.columnsPerBlock = block;
            s.rowsOutside = block != 0 && rows == 0;
            s.lhs = FactorSource::Filled;
            s.rhs = constant ? FactorSource::Packed : FactorSource::Filled;
          };
          check(einsum("mk,kn->mn", mnk(45, 101, 33)), options, "static");
          options.symbols = {45, 101, 33};
          options.constants = {};
          if (!constant)
            check(einsum("mk,kn->mn", {{'m', "s0"}, {'n', "s1"}, {'k', "s2"}}),
                  options, "symbolic");
        }
}

TEST_F(Contraction, RowsOutside) {
  Options options = constants(true, false);
  options.adjust = [](ContractionSchedule &s) { s.rowsOutside = true; };
  for (auto [m, n, k] : {std::array<int64_t, 3>{45, 101, 33}, {14, 32, 16}})
    check(einsum("mk,kn->mn", mnk(m, n, k)), options, "static");
  check(conv({1, 5, 9, 11}, {17, 5, 3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}),
        options, "conv");
  options.constants = {};
  options.symbols = {27, 75, 18};
  check(einsum("mk,kn->mn", {{'m', "s0"}, {'n', "s1"}, {'k', "s2"}}), options,
        "symbolic");
  options.adjust = [](ContractionSchedule &s) { s.rowsOutsideFrom = 20; };
  for (int64_t rows : {0, 19, 20, 45}) {
    options.symbols = {rows, 75, 18};
    check(einsum("mk,kn->mn", {{'m', "s0"}, {'n', "s1"}, {'k', "s2"}}), options,
          "by number of rows");
  }
}

// Partial sums wait in the result between passes over k.
TEST_F(Contraction, DepthPasses) {
  for (bool outside : {false, true})
    for (FactorSource lhs : {FactorSource::Memory, FactorSource::Filled}) {
      auto options = [&](bool constant) {
        Options options = constants(false, constant);
        options.adjust = [=](ContractionSchedule &s) {
          s.lhs = lhs;
          s.rhs = constant ? FactorSource::Packed : FactorSource::Filled;
          s.dot = false;
          s.depthPerPass = 2 * s.kBlock;
          s.rowsOutside = outside;
        };
        return options;
      };
      for (auto [m, n, k] : {std::array<int64_t, 3>{45, 101, 96},
                             {14, 32, 33},
                             {7, 50, 32},
                             {15, 70, 3}})
        for (bool constant : {false, true}) {
          check(einsum("mk,kn->mn", mnk(m, n, k)), options(constant), "static");
          check(einsum("mk,nk->mn", mnk(m, n, k)), options(constant),
                "transposed");
        }
      for (int64_t k : {0, 1, 31, 32, 33, 100}) {
        Options symbolic = options(false);
        symbolic.symbols = {27, 75, k};
        check(einsum("mk,kn->mn", {{'m', "s0"}, {'n', "s1"}, {'k', "s2"}}),
              symbolic, "symbolic");
      }
    }
}

// Rows of rhs so long that passes over k are the default.
TEST_F(Contraction, DepthPassesByStrides) {
  for (int64_t m : {1, 8, 20, 130}) {
    Options options = constants(false, false);
    options.adjust = [&](ContractionSchedule &s) {
      EXPECT_EQ(s.rhs, FactorSource::Memory);
      EXPECT_EQ(s.depthPerPass % s.kBlock, 0);
      EXPECT_GT(s.depthPerPass, 0);
      EXPECT_LT(s.depthPerPass, 100);
    };
    check(einsum("mk,kn->mn", mnk(m, 410, 165)), options, "static");
    if (m == 8)
      check(einsum("bmk,bkn->bmn",
                   {{'b', "2"}, {'m', "8"}, {'n', "450"}, {'k', "150"}}),
            options, "batched");
  }
  // Panels of a constant rhs are fetched by the tiles of rows before.
  Options ahead = constants(false, true);
  ahead.adjust = [](ContractionSchedule &s) { EXPECT_TRUE(s.fetchesAhead); };
  check(einsum("mk,kn->mn", mnk(15, 1000, 300)), ahead, "ahead");
}

TEST_F(Contraction, Transposes) {
  for (const char *equation :
       {"km,kn->mn", "mk,nk->mn", "km,nk->mn", "mk,kn->nm", "mk,nk->nm"})
    for (auto [m, n, k] : {std::array<int64_t, 3>{20, 37, 18},
                           {64, 96, 33},
                           {1, 50, 40},
                           {15, 150, 5}})
      for (bool constant : {false, true}) {
        check(einsum(equation, mnk(m, n, k)), constants(constant, false),
              equation);
        check(einsum(equation, mnk(m, n, k)), constants(false, constant),
              equation);
      }
}

TEST_F(Contraction, FewRowsAgainstContiguousDepth) {
  for (int64_t m : {1, 2, 3, 4})
    for (int64_t n : {2, 7, 16, 70, 130})
      for (int64_t k : {1, 15, 16, 50}) {
        Options options;
        options.adjust = [=](ContractionSchedule &s) {
          EXPECT_EQ(s.dot, k > 1);
        };
        check(einsum("mk,nk->mn", mnk(m, n, k)), options, "dot");
        options.target = "x86:cpu=x86-64-v3:threads=1";
        check(einsum("mk,nk->mn", mnk(m, n, k)), options, "dot");
      }
  // More of them, copied, where there are registers.
  for (int64_t m : {5, 8, 13, 16})
    for (int64_t n : {7, 70, 96})
      for (int64_t k : {15, 16, 50}) {
        Options options;
        options.adjust = [](ContractionSchedule &s) {
          EXPECT_EQ(s.dot, s.lanes == 16);
        };
        check(einsum("mk,nk->mn", mnk(m, n, k)), options, "dot of more rows");
      }
  Options ranged;
  ranged.rows = SizeRange{5, 16, 8};
  for (int64_t m : {5, 9, 16}) {
    ranged.symbols = {m};
    check(einsum("mk,nk->mn", {{'m', "s0"}, {'n', "70"}, {'k', "50"}}), ranged,
          "dot, symbolic rows");
    check(einsum("mk,nk->mn", {{'m', "s0"}, {'n', "70"}, {'k', "50"}}, "f16"),
          ranged, "dot of f16, symbolic rows");
  }
  check(
      einsum("bmk,bnk->bmn",
             {{'b', "3"}, {'m', "1"}, {'n', "s0"}, {'k', "24"}}),
      [] {
        Options options;
        options.symbols = {37};
        return options;
      }(),
      "dot, symbolic columns");
  check(einsum("mk,nk->mn", mnk(2, 30, 20), "i32"), {}, "dot of integers");
  check(einsum("mk,nk->mn", mnk(2, 30, 20), "bf16"), {}, "dot of bf16");
}

TEST_F(Contraction, NarrowIntegers) {
  for (const char *element : {"i8", "ui8"})
    for (int constant : {0, 1, 2}) {
      check(einsum("mk,kn->mn", mnk(21, 50, 40), element, "i32"),
            constants(constant == 1, constant == 2), element);
      check(einsum("mk,nk->mn", mnk(21, 50, 40), element, "i32"),
            constants(constant == 1, constant == 2), element);
    }
}

TEST_F(Contraction, BatchesAndBroadcasts) {
  std::map<char, std::string> sizes{{'b', "3"},  {'h', "2"},  {'m', "17"},
                                    {'n', "35"}, {'k', "21"}, {'x', "1"}};
  for (const char *equation :
       {"bmk,bkn->bmn", "bmk,kn->bmn", "mk,bkn->bmn", "bhmk,bhnk->bhmn",
        "bmhk,bnhk->bhmn", "bhmn,bnhk->bmhk", "bxk,bkn->bxn", "bhk,kn->bhn",
        "bk,nk->bn", "bmk,k->bm", "hmk,bhkn->bhmn"})
    for (int constant : {0, 1, 2})
      check(einsum(equation, sizes), constants(constant == 1, constant == 2),
            equation);
}

TEST_F(Contraction, SymbolicSizes) {
  for (auto [m, n, k] : {std::array<int64_t, 3>{1, 1, 1},
                         {7, 33, 16},
                         {28, 64, 40},
                         {131, 17, 5},
                         {0, 8, 4},
                         {5, 8, 0}}) {
    Options options;
    options.symbols = {m, n, k};
    std::string what =
        std::to_string(m) + " " + std::to_string(n) + " " + std::to_string(k);
    check(einsum("mk,kn->mn", {{'m', "s0"}, {'n', "s1"}, {'k', "s2"}}), options,
          what);
    check(einsum("bmk,bnk->bmn",
                 {{'b', "2"}, {'m', "s0"}, {'n', "s1"}, {'k', "s2"}}),
          options, what);
    options.symbols = {m};
    options.constants = {false, true};
    check(einsum("mk,kn->mn", {{'m', "s0"}, {'n', "45"}, {'k', "20"}}), options,
          what);
  }
}

// A variant is made for a range of rows, and right for all.
TEST_F(Contraction, EveryVariantAtEverySize) {
  const SizeRange ranges[] = {{0, 4, 1}, {5, 14, 8}, {15, 1 << 30, 128}};
  for (const SizeRange &range : ranges)
    for (const char *equation : {"mk,kn->mn", "mk,nk->mn", "bmk,bnk->bmn"})
      for (int64_t m : {0, 1, 3, 5, 14, 31, 150}) {
        Options options;
        options.symbols = {m};
        options.rows = range;
        std::string what = equation + std::string(" rows ") +
                           std::to_string(m) + " to " +
                           std::to_string(range.high);
        std::map<char, std::string> sizes{
            {'b', "2"}, {'m', "s0"}, {'n', "45"}, {'k', "20"}};
        check(einsum(equation, sizes), options, what);
        options.target = "x86:cpu=x86-64-v3:threads=4";
        options.strict = m % 2;
        options.constants = {false, equation[0] == 'm'};
        check(einsum(equation, sizes), options, what);
      }
}

TEST_F(Contraction, VariantsByRange) {
  auto plan = [&](const std::string &text, std::vector<SizeRange> symbols,
                  std::vector<bool> constants = {}, unsigned most = 3) {
    OwningOpRef<ModuleOp> module;
    graph::KernelOp kernel = kernelOf(context, module, text);
    auto target = parseCpuTarget("x86:cpu=x86-64-v4:threads=1");
    CpuCodegenOptions codegen;
    codegen.constantOperands.assign(constants.begin(), constants.end());
    KernelVariants variants =
        planVariants(kernel, *target, codegen, symbols, most);
    EXPECT_EQ(bool(variants.size), !variants.ranges.empty());
    std::string spelled;
    for (const SizeRange &range : variants.ranges)
      spelled +=
          std::to_string(range.low) + ".." +
          (range.high == SizeRange().high ? "" : std::to_string(range.high)) +
          "@" + std::to_string(range.typical) + " ";
    return spelled;
  };
  auto rows = [](const char *equation, const char *n = "400") {
    return einsum(equation, {{'b', "s0"}, {'m', "s0"}, {'n', n}, {'k', "200"}});
  };
  SizeRange any;
  EXPECT_EQ(plan(rows("mk,kn->mn"), {any}), "0..4@1 5..14@8 15..@128 ");
  EXPECT_EQ(plan(rows("mk,kn->mn"), {any}, {}, 2), "0..4@1 5..@128 ");
  EXPECT_EQ(plan(rows("mk,kn->mn"), {any}, {}, 1), "0..@128 ");
  // Rows of rhs a page apart are read in short passes over k: a second tile
  // finds them near.
  EXPECT_EQ(plan(rows("mk,kn->mn", "1024"), {any}), "0..4@1 5..14@8 15..@128 ");
  // One packed form serves few rows and many; one tile does not deserve more.
  EXPECT_EQ(plan(rows("mk,kn->mn"), {any}, {false, true}), "0..4@1 5..@128 ");
  // Bounds and what is typical, from -dim.
  EXPECT_EQ(plan(rows("mk,nk->mn"), {{1, 512, 300}}),
            "1..4@1 5..16@8 17..512@300 ");
  EXPECT_EQ(plan(rows("mk,nk->mn"), {any}), "0..4@1 5..16@8 17..@128 ");
  EXPECT_EQ(plan(rows("mk,nk->mn"), {{1, 4, 2}}), "1..4@2 ");
  EXPECT_EQ(plan(rows("mk,nk->mn"), {{3, 4, 4}}), "3..4@4 ");
  EXPECT_EQ(plan(rows("mk,nk->mn"), {{64, 512, 64}}), "64..512@64 ");
  // Static rows, and kernels that are no contraction, have nothing to choose.
  EXPECT_EQ(plan(rows("kn,bk->nb", "3"), {any}), "");
  EXPECT_EQ(plan(einsum("mk,kn->mn", mnk(4, 5, 6)), {}), "");
}

TEST_F(Contraction, RowsOfOpenLength) {
  auto schedule = [&](const std::string &text, const char *machine) {
    OwningOpRef<ModuleOp> module;
    graph::KernelOp kernel = kernelOf(context, module, text);
    auto target = parseCpuTarget(machine);
    EXPECT_TRUE(bool(target));
    std::string reason;
    auto spec = classifyContraction(kernel, reason);
    EXPECT_TRUE(succeeded(spec)) << reason;
    return defaultSchedule(*spec, *target, {}).str();
  };
  auto product = [](const char *element) {
    return einsum("mk,kn->mn", {{'m', "128"}, {'n', "1024"}, {'k', "s0"}},
                  element);
  };
  // Six rows meet in a set of the first-level cache at worst.
  const char *two = "x86:cpu=x86-64-v4:threads=2";
  EXPECT_NE(schedule(product("f32"), two).find("lhs=memory"),
            std::string::npos);
  // Rows that have to be widened are copied, by few tasks.
  std::string copies = schedule(product("f16"), two);
  EXPECT_NE(copies.find("lhs=filled"), std::string::npos) << copies;
  EXPECT_NE(copies.find(" columns=512 "), std::string::npos) << copies;
}

// A transposed left factor is read where it lies unless the lines of its steps
// meet in few sets of the second-level cache.
TEST_F(Contraction, RowsSideBySide) {
  auto schedule = [&](int64_t m, const char *machine,
                      const char *element = "f32") {
    OwningOpRef<ModuleOp> module;
    graph::KernelOp kernel = kernelOf(
        context, module, einsum("km,kn->mn", mnk(m, 256, 1024), element));
    auto target = parseCpuTarget(machine);
    EXPECT_TRUE(bool(target));
    std::string reason;
    auto spec = classifyContraction(kernel, reason);
    EXPECT_TRUE(succeeded(spec)) << reason;
    return defaultSchedule(*spec, *target, {}).lhs;
  };
  for (const char *machine : {"x86:cpu=znver5", "x86:cpu=x86-64-v3"}) {
    EXPECT_EQ(schedule(196, machine), FactorSource::Memory);
    EXPECT_EQ(schedule(1000, machine), FactorSource::Memory);
    EXPECT_EQ(schedule(1024, machine), FactorSource::Filled);
    EXPECT_EQ(schedule(196, machine, "f16"), FactorSource::Filled);
  }
  EXPECT_EQ(schedule(196, "arm"), FactorSource::Filled);
  for (bool constant : {false, true}) {
    Options options = constants(false, constant);
    options.adjust = [](ContractionSchedule &s) {
      EXPECT_EQ(s.lhs, FactorSource::Memory);
    };
    check(einsum("km,kn->mn", mnk(70, 150, 40)), options, "side by side");
    options.target = "x86:cpu=x86-64-v3:threads=2";
    check(einsum("bkm,bkn->bmn",
                 {{'b', "2"}, {'m', "33"}, {'n', "140"}, {'k', "50"}}),
          options, "side by side");
  }
}

// A batch that only the run knows may be one: each of its products is cut.
TEST_F(Contraction, TasksOfAnOpenBatch) {
  auto isCut = [&](const char *batch) {
    OwningOpRef<ModuleOp> module;
    graph::KernelOp kernel = kernelOf(
        context, module,
        einsum("bmk,bkn->bmn",
               {{'b', batch}, {'m', "512"}, {'n', "512"}, {'k', "512"}}));
    auto target = parseCpuTarget("x86:cpu=x86-64-v4:threads=2");
    EXPECT_TRUE(bool(target));
    std::string reason;
    auto spec = classifyContraction(kernel, reason);
    EXPECT_TRUE(succeeded(spec)) << reason;
    std::string text = defaultSchedule(*spec, *target, {}).str();
    return text.find(" rows=0 columns=0 ") == std::string::npos;
  };
  EXPECT_TRUE(isCut("1"));
  EXPECT_TRUE(isCut("s0"));
  EXPECT_FALSE(isCut("16"));
}

TEST_F(Contraction, RangesLieInTheSchedule) {
  OwningOpRef<ModuleOp> module;
  graph::KernelOp kernel =
      kernelOf(context, module, einsum("mk,kn->mn", mnk(4, 5, 6)));
  EXPECT_FALSE(getVariantRange(kernel));
  for (SizeRange range : {SizeRange{0, 4, 1}, SizeRange{5, SizeRange().high, 9},
                          SizeRange{2, 7, 3}}) {
    setVariantRange(kernel, range);
    EXPECT_EQ(getVariantRange(kernel), range);
  }
  clearVariantRange(kernel);
  EXPECT_FALSE(getVariantRange(kernel));
  EXPECT_FALSE(kernel.getScheduleAttr());
}

TEST_F(Contraction, ElementTypes) {
  for (const char *element : {"f64", "i32", "i64", "f16", "bf16"})
    for (auto [m, n, k] :
         {std::array<int64_t, 3>{19, 70, 33}, {1, 40, 64}, {33, 7, 20}})
      for (int constant : {0, 1, 2, 3})
        check(einsum("mk,kn->mn", mnk(m, n, k), element),
              constants(constant & 1, constant & 2), element);
}

TEST_F(Contraction, StrictIsTheLeftFold) {
  Options options;
  options.strict = true;
  int64_t m = 15, n = 40, k = 300;
  Outcome outcome = run(einsum("mk,kn->mn", mnk(m, n, k)), options);
  ASSERT_EQ(outcome.values.size(), size_t(m * n));
  EXPECT_LE(outcome.gate, 1.0);
  // The same sums rounded after every product and every addition, from the
  // very inputs the harness draws.
  std::vector<float> inputs;
  uint32_t seed = 12345;
  for (int64_t i = 0; i < m * k + k * n; ++i) {
    seed = seed * 1664525u + 1013904223u;
    inputs.push_back(float(double(seed >> 8) / (1 << 24) - 0.5));
  }
  int64_t different = 0;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      volatile float sum = 0;
      for (int64_t x = 0; x < k; ++x) {
        volatile float product = inputs[i * k + x] * inputs[m * k + x * n + j];
        sum = sum + product;
      }
      different += sum != float(outcome.values[i * n + j]);
    }
  EXPECT_EQ(different, 0);
}

TEST_F(Contraction, Convolutions) {
  for (bool constant : {false, true}) {
    Options options = constants(false, constant);
    check(conv({1, 5, 9, 11}, {17, 5, 3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}),
          options, "3x3 pad 1");
    check(conv({2, 3, 20, 20}, {16, 3, 7, 7}, {2, 2}, {1, 1}, {3, 3}, {3, 3}),
          options, "7x7 stride 2");
    check(conv({1, 8, 13, 40}, {30, 8, 1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}),
          options, "1x1");
    check(conv({1, 8, 14, 14}, {12, 8, 1, 1}, {2, 2}, {1, 1}, {0, 0}, {0, 0}),
          options, "1x1 stride 2");
    check(conv({1, 4, 12, 35}, {6, 4, 3, 2}, {1, 2}, {2, 3}, {0, 1}, {2, 4}),
          options, "dilated, asymmetric");
    check(
        conv({1, 12, 10, 10}, {18, 4, 3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 3),
        options, "grouped");
    check(conv({2, 6, 100}, {10, 6, 5}, {1}, {1}, {2}, {2}), options, "1-d");
    check(conv({1, 3, 6, 7, 8}, {5, 3, 3, 2, 3}, {1, 1, 2}, {1, 1, 1},
               {1, 0, 1}, {1, 0, 1}),
          options, "3-d");
    check(conv({1, 2, 3, 3}, {4, 2, 3, 3}, {1, 1}, {1, 1}, {0, 0}, {0, 0}),
          options, "one pixel");
  }
}

// Pixels are rows of lhs, read by an address for each and each tap.
TEST_F(Contraction, ChannelsLast) {
  struct {
    int64_t channels, filters, size, kernel, stride, dilation, pad;
  } cases[] = {{8, 16, 9, 3, 1, 1, 1},   {13, 70, 8, 3, 2, 1, 1},
               {32, 33, 11, 3, 1, 2, 2}, {40, 5, 7, 1, 2, 1, 0},
               {16, 20, 10, 2, 1, 1, 0}, {9, 35, 3, 5, 1, 1, 2}};
  for (auto &c : cases) {
    std::string text =
        convChannelsLast({2, c.size, c.size + 2, c.channels},
                         {c.filters, c.channels, c.kernel, c.kernel}, c.stride,
                         c.dilation, c.pad);
    check(text, constants(false, false), "channels last");
    Options outside = constants(false, true);
    outside.adjust = [](ContractionSchedule &s) {
      EXPECT_EQ(s.lhs, FactorSource::Indirect);
      s.rowsOutside = true;
      s.rowsPerTask = 2 * s.tileRows;
      s.columnsPerTask = 0;
    };
    check(text, outside, "rows outside");
    Options passes = constants(false, true);
    passes.adjust = [&](ContractionSchedule &s) {
      s.lhs = FactorSource::Indirect;
      // Rows of taps, one at a time.
      s.depthPerPass = c.kernel > 1 ? c.kernel * c.channels : 0;
      s.columnsPerTask = 0;
      s.fetchesAhead = true;
    };
    check(text, passes, "passes over taps");
    Options filled = constants(false, true);
    filled.adjust = [](ContractionSchedule &s) {
      s.lhs = FactorSource::Filled;
    };
    check(text, filled, "filled");
  }
}

// The first convolution of a network: few channels, the image as it came.
TEST_F(Contraction, ResultChannelsLast) {
  struct {
    int64_t channels, filters, size, kernel, stride, dilation, pad;
  } cases[] = {{3, 16, 21, 7, 2, 1, 3},
               {1, 33, 8, 3, 2, 1, 1},
               {4, 70, 11, 3, 1, 2, 2},
               {1, 9, 20, 17, 1, 1, 2},
               {3, 40, 10, 2, 1, 1, 0}};
  for (auto &c : cases)
    check(convChannelsLast({2, c.size, c.size + 2, c.channels},
                           {c.filters, c.channels, c.kernel, c.kernel},
                           c.stride, c.dilation, c.pad, /*imageToo=*/false),
          constants(false, c.filters != 33), "result channels last");
}

// Images and weights of 16 bits. Of an image that is stored as float32 the
// weights alone are widened, in the tiles or a panel at a time; bf16 is
// multiplied in pairs where it lies.
TEST_F(Contraction, ConvolutionsOf16Bits) {
  struct {
    int64_t channels, filters, size, kernel, stride, dilation, pad;
  } cases[] = {{13, 37, 6, 3, 2, 1, 1}, {16, 20, 7, 2, 1, 2, 1}};
  for (const char *target : {"host:threads=2", "x86:cpu=x86-64-v3:threads=1"})
    for (auto &c : cases)
      for (std::string weights : {"f16", "bf16"})
        for (std::string image : {std::string("f32"), weights})
          for (bool imageToo : {true, false}) {
            std::string text = convChannelsLast(
                {2, c.size, c.size + 2, c.channels},
                {c.filters, c.channels, c.kernel, c.kernel}, c.stride,
                c.dilation, c.pad, imageToo, image, weights);
            Options options = constants(false, true);
            options.target = target;
            check(text, options, image + " by " + weights);
            if (!imageToo)
              continue;
            if (image == "f32")
              for (bool widens : {false, true}) {
                options.adjust = [&, widens](ContractionSchedule &s) {
                  EXPECT_EQ(s.lhs, FactorSource::Indirect) << c.channels;
                  s.widensRhs = widens;
                  s.depthPerPass = 0;
                };
                check(text, options, "widened panels");
              }
          }
}

// The first convolution of a network of 16 bits: taps share what is widened.
TEST_F(Contraction, FewChannelsOf16Bits) {
  for (const char *element : {"f16", "bf16"})
    for (int64_t stride : {1, 2}) {
      Options options = constants(false, true);
      options.adjust = [](ContractionSchedule &s) {
        if (s.lanes == 16) {
          EXPECT_TRUE(s.wholeSteps) << s.str();
        }
      };
      check(convChannelsLast({2, 11, 37, 3}, {24, 3, 5, 5}, stride, 1, 2, false,
                             element, element),
            options, element);
    }
}

// The same, read where the image lies: a tile's pixels have one address, and
// those of the first and of the last tile in an image's row have padding.
TEST_F(Contraction, FewChannelsInPlace) {
  struct {
    int64_t channels, filters, height, width, kernel, stride, dilation, pad;
  } cases[] = {{3, 16, 7, 56, 3, 2, 1, 1}, // 28 pixels a row, none beyond it
               {3, 32, 3, 42, 3, 1, 1, 1}, {2, 24, 5, 28, 3, 1, 2, 2},
               {3, 36, 6, 28, 7, 2, 1, 3}, // 14 pixels
               {1, 20, 2, 12, 5, 1, 1, 4}, // 16: padding beyond narrow tiles
               {3, 40, 5, 23, 3, 2, 1, 0}, // 11, without padding
               {2, 16, 3, 9, 2, 1, 1, 0}};
  for (const char *target : {"host:threads=2", "x86:cpu=x86-64-v3:threads=1",
                             "x86:cpu=x86-64-v2:threads=1"})
    for (auto &c : cases) {
      std::string text =
          convChannelsLast({2, c.height, c.width, c.channels},
                           {c.filters, c.channels, c.kernel, c.kernel},
                           c.stride, c.dilation, c.pad, /*imageToo=*/false);
      Options options = constants(false, true);
      options.target = target;
      options.adjust = [](ContractionSchedule &s) {
        EXPECT_EQ(s.lhs, FactorSource::Indirect);
      };
      check(text, options, "default");
      for (unsigned rows : {1, 4, 7}) {
        options.adjust = [&](ContractionSchedule &s) {
          s.tileRows = s.panelRows = std::min(rows, s.tileRows);
          s.rowsPerTask = 0;
        };
        check(text, options, "tiles of " + std::to_string(rows));
      }
      options.strict = true;
      options.adjust = [](ContractionSchedule &s) {
        EXPECT_EQ(s.lhs, FactorSource::Filled);
        s.lhs = FactorSource::Indirect;
        s.wholeRows = s.wholeSteps = false;
      };
      check(text, options, "strict");
    }
  // 23 pixels: tiles that divide a row are so short that a copy is faster.
  Options prime = constants(false, true);
  prime.adjust = [](ContractionSchedule &s) {
    EXPECT_EQ(s.lhs, FactorSource::Filled);
  };
  check(convChannelsLast({1, 4, 23, 3}, {64, 3, 3, 3}, 1, 1, 1, false), prime,
        "23 pixels");
}

TEST_F(Contraction, OtherMachines) {
  // Vectors of 128 and 256 bits with 16 registers run on this machine too.
  for (const char *target :
       {"x86:cpu=x86-64-v3:threads=1", "x86:cpu=x86-64-v2:threads=1",
        "x86:cpu=x86-64-v3:threads=4"}) {
    Options options;
    options.target = target;
    for (int constant : {0, 1, 2}) {
      options.constants = {constant == 1, constant == 2};
      check(einsum("mk,kn->mn", mnk(23, 75, 19)), options, target);
      check(einsum("mk,nk->mn", mnk(70, 33, 40)), options, target);
      check(einsum("km,kn->mn", mnk(20, 40, 9), "f64"), options, target);
    }
    check(conv({1, 5, 9, 11}, {17, 5, 3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}),
          options, target);
  }
}

TEST_F(Contraction, Arm) {
  if (!canRunArm())
    GTEST_SKIP() << "needs aarch64-linux-gnu-gcc and qemu-aarch64";
  Options options;
  options.target = "arm:threads=1";
  for (int constant : {0, 1, 2}) {
    options.constants = {constant == 1, constant == 2};
    check(einsum("mk,kn->mn", mnk(23, 75, 19)), options, "arm");
    check(einsum("km,nk->mn", mnk(70, 33, 40)), options, "arm");
  }
  options.constants = {false, true};
  check(einsum("mk,kn->mn", mnk(9, 30, 17), "bf16"), options, "arm");
  check(einsum("mk,kn->mn", mnk(9, 30, 17), "i8", "i32"), options, "arm");
  check(conv({1, 5, 9, 11}, {17, 5, 3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}),
        options, "arm");
  options.constants = {};
  check(einsum("mk,nk->mn", mnk(1, 50, 40)), options, "arm dot");
  options.symbols = {29, 31, 20};
  options.target = "arm:cpu=neoverse-v1:threads=2";
  check(einsum("mk,kn->mn", {{'m', "s0"}, {'n', "s1"}, {'k', "s2"}}), options,
        "arm symbolic");
}

/// The reason why a kernel is declined; empty when it is not.
class ContractionDeclined : public Contraction {
protected:
  std::string reasonFor(const std::string &text) {
    OwningOpRef<ModuleOp> module;
    graph::KernelOp kernel = kernelOf(context, module, text);
    EXPECT_TRUE(kernel) << text;
    auto target = parseCpuTarget("host:threads=1");
    CpuCodegenOptions options;
    options.symbol = "kernel";
    std::string reason;
    if (succeeded(emitContraction(kernel, *target, options, reason)))
      return "";
    return reason;
  }
};

TEST_F(ContractionDeclined, SaysWhy) {
  EXPECT_EQ(reasonFor(conv({1, 8, 10, 10}, {8, 1, 3, 3}, {1, 1}, {1, 1}, {1, 1},
                           {1, 1}, 8)),
            "no axis over which a filled factor is used again (depthwise)");
  EXPECT_EQ(reasonFor(einsum("k,k->", {{'k', "9"}})),
            "the result has one element");
  EXPECT_EQ(reasonFor(einsum("bk,bk->b", {{'k', "9"}, {'b', "4"}})),
            "the factors do not differ in the result's last axis");
}

// The gate must see what it is there for.
TEST_F(Contraction, GateRejectsWrongResults) {
  int64_t m = 16, n = 48, k = 64;
  Outcome outcome = run(einsum("mk,kn->mn", mnk(m, n, k)), {});
  ASSERT_LE(outcome.gate, 1.0);
  auto gateOf = [&](llvm::function_ref<double(size_t)> value) {
    double gate = 0;
    for (size_t i = 0; i < outcome.expected.size(); ++i)
      gate = std::max(gate, std::abs(value(i) - outcome.expected[i]) /
                                (8 * 0x1p-24 * 8 * outcome.magnitudes[i]));
    return gate;
  };
  EXPECT_LE(gateOf([&](size_t i) { return outcome.values[i]; }), 1.0);
  // Neighbouring columns swapped, the last summand dropped in size, and results
  // rounded to bfloat16.
  EXPECT_GT(gateOf([&](size_t i) { return outcome.values[i ^ 1]; }), 1.0);
  EXPECT_GT(gateOf([&](size_t i) {
              return outcome.values[i] - outcome.magnitudes[i] / 64;
            }),
            1.0);
  EXPECT_GT(gateOf([&](size_t i) {
              char bytes[2];
              Type bf16 = BFloat16Type::get(&context);
              encode(outcome.values[i], bf16, bytes);
              return decode(bytes, bf16);
            }),
            1.0);
}

TEST_F(Contraction, GuardsSeeAWriteBehindTheBuffer) {
  GuardedBuffer buffer(100);
  EXPECT_TRUE(buffer.intact());
  buffer.data()[100] = 1;
  EXPECT_FALSE(buffer.intact());
}

} // namespace
