// Products of matrix tiles (AMX): bf16 and bytes around every edge, seeded
// schedules, and what the default schedule makes of machine and mode.
#include "ContractionFixture.h"

#include <random>
#include <sys/mman.h>

using namespace dlc;
using namespace dlc::test;

namespace {

/// einsum of narrow numbers, then relu(sum + bias of columns) in `result`.
std::string withEpilogue(int64_t m, int64_t n, int64_t k, bool isBytes,
                         const std::string &result) {
  auto text = [](int64_t size) { return std::to_string(size); };
  std::string a = tensorType({text(m), text(k)}, isBytes ? "ui8" : "bf16"),
              b = tensorType({text(k), text(n)}, isBytes ? "i8" : "bf16"),
              e = isBytes ? "i32" : "f32", x = isBytes ? "ui8" : "bf16",
              w = isBytes ? "i8" : "bf16", c = tensorType({text(n)}, e),
              s = tensorType({text(m), text(n)}, e),
              y = tensorType({text(m), text(n)}, result);
  std::string cast =
      result == e ? ""
                  : "%f = graph.scalar_cast %d : " + e + " -> " + result + "\n";
  return "graph.kernel @kernel(%a: " + a + ", %b: " + b + ", %c: " + c +
         ") -> " + y +
         " attributes {symbols = []} {\n%s = graph.stage domain <" + text(m) +
         ", " + text(n) + "> reduce <" + text(k) + "> fold add : " + s +
         " {\n^bb0(%i: index, %j: index, %k: index):\n%p = graph.load "
         "%a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : " +
         a + " -> " + x +
         "\n%q = graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, "
         "%k) : " +
         b + " -> " + w + "\n%r = graph.scalar_cast %p : " + x + " -> " + e +
         "\n%t = graph.scalar_cast %q : " + w + " -> " + e +
         "\n%u = graph.apply mul(%r, %t) : (" + e + ", " + e + ") -> " + e +
         "\ngraph.yield %u : " + e + "\n}\n%v = graph.stage domain <" +
         text(m) + ", " + text(n) + "> : " + y +
         " {\n^bb0(%i: index, %j: index):\n%z = graph.literal " +
         (isBytes ? "0" : "0.0") + " : " + e + " : " + e +
         "\n%p = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : " +
         s + " -> " + e +
         "\n%q = graph.load %c[affine_map<(d0, d1) -> (d1)>](%i, %j) : " + c +
         " -> " + e + "\n%r = graph.apply add(%p, %q) : (" + e + ", " + e +
         ") -> " + e + "\n%d = graph.apply max(%r, %z) : (" + e + ", " + e +
         ") -> " + e + "\n" + cast + "graph.yield " +
         (cast.empty() ? "%d : " + e : "%f : " + result) +
         "\n}\ngraph.return %v : " + y + "\n}";
}

class MatrixContraction : public Contraction {
protected:
  bool has(ProductForm form) {
    auto host = parseCpuTarget("host");
    return host && host->hasFeature("amx-tile") &&
           host->hasFeature(isByteForm(form) ? "amx-int8" : "amx-bf16");
  }
  Options tiles(ProductForm form, int constant = 0) {
    Options options = constants(constant == 1, constant == 2);
    options.form = form;
    options.allBytes = isByteForm(form);
    return options;
  }
  static std::string product(const char *equation,
                             const std::map<char, std::string> &sizes,
                             bool isBytes, const char *left = "ui8",
                             const char *right = "i8") {
    return isBytes ? einsum(equation, sizes, left, "i32", right)
                   : einsum(equation, sizes, "bf16", "f32");
  }
};

constexpr ProductForm forms[] = {ProductForm::Bf16Tiles,
                                 ProductForm::ByteTiles};

TEST_F(MatrixContraction, AroundEveryEdge) {
  for (ProductForm form : forms) {
    if (!has(form))
      continue;
    bool isBytes = isByteForm(form);
    for (const char *equation :
         {"mk,kn->mn", "mk,nk->mn", "km,kn->mn", "bmk,bkn->bmn"})
      for (auto [m, n, k] : {std::array<int64_t, 3>{1, 70, 64},
                             {16, 16, 32},
                             {17, 33, 31},
                             {31, 1, 65},
                             {64, 64, 128},
                             {77, 40, 1},
                             {33, 100, 200}})
        for (int constant : {0, m == 33 || m == 77 ? 1 : 2}) {
          // A part of the combinations is enough.
          if (std::string(equation) != "mk,kn->mn" && m % 4 != 1)
            continue;
          auto sizes = mnk(m, n, k);
          sizes['b'] = "2";
          check(product(equation, sizes, isBytes), tiles(form, constant),
                equation);
        }
  }
}

TEST_F(MatrixContraction, SignsOfBytes) {
  if (!has(ProductForm::ByteTiles))
    GTEST_SKIP() << "needs AMX-INT8";
  for (const char *left : {"i8", "ui8"})
    for (const char *right : {"i8", "ui8"})
      for (int constant : {0, 2})
        check(product("mk,kn->mn", mnk(37, 50, 70), true, left, right),
              tiles(ProductForm::ByteTiles, constant), left);
}

TEST_F(MatrixContraction, SymbolicSizes) {
  for (ProductForm form : forms) {
    if (!has(form))
      continue;
    for (auto [m, n, k] : {std::array<int64_t, 3>{1, 40, 35},
                           {16, 32, 64},
                           {33, 33, 65},
                           {0, 8, 4},
                           {5, 8, 0},
                           {50, 3, 128}}) {
      Options options = tiles(form);
      options.symbols = {m, n, k};
      check(product("mk,kn->mn", {{'m', "s0"}, {'n', "s1"}, {'k', "s2"}},
                    isByteForm(form)),
            options, "all symbolic");
      if (k != 64)
        continue;
      for (int64_t rows : {1, 15, 16, 17, 32, 47, 64, 70}) {
        options = tiles(form, 2);
        options.symbols = {rows};
        check(product("mk,kn->mn", {{'m', "s0"}, {'n', "70"}, {'k', "64"}},
                      isByteForm(form)),
              options, "symbolic rows");
      }
    }
  }
}

TEST_F(MatrixContraction, Epilogues) {
  for (ProductForm form : forms) {
    if (!has(form))
      continue;
    bool isBytes = isByteForm(form);
    for (auto [m, n, k] :
         {std::array<int64_t, 3>{33, 35, 40}, {32, 64, 64}, {16, 16, 128}})
      for (const char *result :
           {isBytes ? "i32" : "f32", isBytes ? "f32" : "bf16"}) {
        Options options = tiles(form, 2);
        options.constants.resize(3);
        check(withEpilogue(m, n, k, isBytes, result), options, result);
      }
  }
}

// Passes over k, each of which fills its part of both factors: around every
// edge, with sums that wait in scratch and in the result.
TEST_F(MatrixContraction, PassesOverDepth) {
  if (!has(ProductForm::Bf16Tiles))
    GTEST_SKIP() << "needs AMX-BF16";
  for (auto [m, n, k] : {std::array<int64_t, 3>{1, 70, 64},
                         {17, 33, 31},
                         {33, 100, 200},
                         {64, 64, 128},
                         {70, 40, 1},
                         {50, 130, 97}})
    for (const char *equation :
         {"mk,kn->mn", "mk,nk->mn", "km,kn->mn", "bmk,bnk->bmn"}) {
      // A part of the combinations is enough.
      if (equation[1] != 'k' && m % 4 != 1)
        continue;
      int64_t pass = m % 4 == 2 ? 64 : 32;
      Options options = tiles(ProductForm::Bf16Tiles);
      options.adjust = [pass](ContractionSchedule &s) {
        s.lhs = FactorSource::Filled;
        s.rowsOutside = true;
        s.depthPerPass = pass;
        s.rowsPerTask = pass == 32 ? s.tileRows : 0;
        s.columnsPerTask = 0;
        s.columnsPerBlock = pass == 32 ? 2 * s.panelColumns() : 0;
      };
      auto sizes = mnk(m, n, k);
      sizes['b'] = "2";
      check(product(equation, sizes, false), options, equation);
      if (std::string(equation) != "mk,nk->mn" || n % 20)
        continue;
      options.symbols = {m, n, k};
      check(product(equation, {{'m', "s0"}, {'n', "s1"}, {'k', "s2"}}, false),
            options, "all symbolic");
      options.symbols.clear();
      options.constants.resize(3);
      for (const char *result : {"f32", "bf16"})
        check(withEpilogue(m, n, k, false, result), options, result);
    }
}

// A result of 16 bits holds no sums between passes: they wait in scratch, with
// the right factor read where it lies or filled for each pass.
TEST_F(MatrixContraction, SumsWaitInScratch) {
  for (FactorSource rhs : {FactorSource::Memory, FactorSource::Filled})
    for (bool outside : {false, true})
      for (auto [m, n, k] : {std::array<int64_t, 3>{33, 101, 96},
                             {14, 32, 33},
                             {3, 150, 70},
                             {15, 70, 3}}) {
        Options options = tiles(ProductForm::Single);
        options.constants.resize(3);
        options.adjust = [=](ContractionSchedule &s) {
          s.lhs = FactorSource::Filled;
          s.rhs = rhs;
          s.dot = false;
          s.depthPerPass = 2 * s.kBlock;
          s.rowsOutside = outside;
          s.columnsPerBlock =
              outside ? std::max(s.panelVectors, s.tileVectors) * s.lanes : 0;
          s.columnsPerTask = 0;
        };
        check(withEpilogue(m, n, k, false, "bf16"), options, "bf16");
      }
}

// Wide matrices whose rows are the sum's steps, and rows that end within a
// tile, are summed in passes; short sums are not.
TEST_F(MatrixContraction, WhenKIsCut) {
  auto scheduleOf = [&](const std::string &text) {
    mlir::OwningOpRef<mlir::ModuleOp> module;
    graph::KernelOp kernel = kernelOf(context, module, text);
    auto machine = parseCpuTarget("x86:cpu=sapphirerapids");
    EXPECT_TRUE(bool(machine));
    std::string reason;
    auto spec = classifyContraction(kernel, reason);
    EXPECT_TRUE(mlir::succeeded(spec)) << reason;
    return defaultSchedule(*spec, *machine, {}, std::nullopt,
                           ProductForm::Bf16Tiles);
  };
  auto of = [&](const char *equation, int64_t m, int64_t k) {
    return scheduleOf(product(equation, mnk(m, 4096, k), false));
  };
  EXPECT_GT(of("mk,kn->mn", 16, 4096).depthPerPass, 0);
  EXPECT_GT(of("mk,nk->mn", 128, 4096).depthPerPass, 0);
  EXPECT_GT(of("mk,nk->mn", 16, 100).depthPerPass, 0);
  EXPECT_EQ(of("mk,nk->mn", 16, 4096).depthPerPass, 0);
  EXPECT_EQ(of("mk,kn->mn", 128, 128).depthPerPass, 0);
  EXPECT_EQ(of("mk,kn->mn", 128, 128).lhs, FactorSource::Memory);
}

/// Bytes whose last one ends at a page that must not be touched.
class PageEnd {
public:
  explicit PageEnd(size_t bytes) {
    inner = (bytes + 4095) / 4096 * 4096;
    memory = static_cast<char *>(mmap(nullptr, inner + 4096, PROT_NONE,
                                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(memory, inner, PROT_READ | PROT_WRITE);
    start = memory + inner - bytes;
  }
  ~PageEnd() { munmap(memory, inner + 4096); }
  PageEnd(const PageEnd &) = delete;
  char *data() { return start; }

private:
  char *memory, *start;
  size_t inner;
};

TEST_F(MatrixContraction, ReadsNothingBehindItsOperands) {
  for (ProductForm form : forms) {
    if (!has(form))
      continue;
    for (bool dynamic : {false, true})
      for (auto [m, n, k] :
           {std::array<int64_t, 3>{33, 30, 128}, {7, 17, 64}, {48, 32, 70}}) {
        auto sizes = mnk(m, n, k);
        if (dynamic)
          sizes['m'] = "s0";
        mlir::OwningOpRef<mlir::ModuleOp> module;
        graph::KernelOp kernel = kernelOf(
            context, module, product("mk,kn->mn", sizes, isByteForm(form)));
        auto target = parseCpuTarget("host:threads=1");
        CpuCodegenOptions codegen;
        codegen.symbol = "kernel";
        std::string reason;
        auto spec = classifyContraction(kernel, reason);
        ASSERT_TRUE(mlir::succeeded(spec)) << reason;
        auto schedule =
            defaultSchedule(*spec, *target, codegen, std::nullopt, form);
        EXPECT_EQ(schedule.lhs,
                  k == 70 ? FactorSource::Filled : FactorSource::Memory);
        auto emitted =
            emitContraction(*spec, schedule, *target, codegen, reason);
        ASSERT_TRUE(mlir::succeeded(emitted)) << reason;
        auto loaded = LoadedKernel::load(*emitted, *target, reason);
        ASSERT_TRUE(loaded) << reason;
        int64_t bytes = isByteForm(form) ? 1 : 2;
        PageEnd a(m * k * bytes), b(k * n * bytes), c(m * n * 4);
        llvm::SmallVector<int64_t> symbols;
        if (dynamic)
          symbols.push_back(m);
        EXPECT_EQ(loaded->run({a.data(), b.data(), c.data()}, symbols), 0);
      }
  }
}

/// Seeded sizes and schedules; DLC_TEST_COUNT of them (30) from DLC_TEST_FIRST.
TEST_F(MatrixContraction, SeededSchedules) {
  auto number = [](const char *name, int otherwise) {
    const char *text = std::getenv(name);
    return text ? std::atoi(text) : otherwise;
  };
  int first = number("DLC_TEST_FIRST", 0), count = number("DLC_TEST_COUNT", 30);
  for (int seed = first; seed < first + count; ++seed) {
    std::mt19937 generator(seed);
    auto below = [&](int bound) { return int64_t(generator() % bound); };
    ProductForm form = forms[seed % 2];
    if (!has(form))
      continue;
    auto size = [&](int most) {
      return std::max<int64_t>(1, 16 * below(most) + below(5) - 2);
    };
    int64_t m = size(7), n = 1 + size(8), k = size(16);
    if (below(2))
      k = 64 * (1 + below(4)); // rows are read in place
    auto sizes = mnk(m, n, k);
    sizes['b'] = "2";
    const char *equations[] = {"mk,kn->mn", "mk,nk->mn", "km,kn->mn",
                               "bmk,bkn->bmn", "bmk,bnk->bmn"};
    const char *equation = equations[below(5)];
    int constant = int(below(3));
    Options options = tiles(form, constant);
    int64_t draws[7];
    for (int64_t &draw : draws)
      draw = below(64);
    options.adjust = [&](ContractionSchedule &s) {
      int64_t step = s.panelColumns();
      if (s.lhs != FactorSource::Packed)
        s.tileRows = s.panelRows = draws[0] % 2 ? 32 : 16;
      if (draws[1] % 3 == 0)
        s.tileVectors = 1;
      if (s.lhs == FactorSource::Memory && draws[0] % 4 < 2)
        s.lhs = FactorSource::Filled;
      s.rowsPerTask = draws[2] % 3 * s.tileRows;
      s.columnsPerTask = draws[3] % 3 * step;
      s.columnsPerBlock =
          draws[4] % 3 == 0 && s.columnsPerTask != step ? step : 0;
      s.rowsOutside = draws[5] % 2;
      s.depthPerPass = 0;
      if (isBf16Form(s.form) && s.lhs == FactorSource::Filled && draws[6] % 4) {
        s.depthPerPass = 32 * (draws[6] % 4);
        s.rowsOutside = true;
      }
    };
    bool isBytes = isByteForm(form);
    check(product(equation, sizes, isBytes, below(2) ? "ui8" : "i8",
                  below(2) ? "ui8" : "i8"),
          options, "seed " + std::to_string(seed) + " " + equation);
  }
}

// What `flush` licenses is seen, as with dot products of vectors; and the gate
// sees one wrong factor.
TEST_F(MatrixContraction, FlushLosesSubnormalFactors) {
  if (!has(ProductForm::Bf16Tiles))
    GTEST_SKIP() << "needs AMX-BF16";
  std::string text = einsum("mk,kn->mn", mnk(4, 20, 6), "bf16", "f32");
  Options options = tiles(ProductForm::Bf16Tiles);
  options.value = [](unsigned operand, int64_t) {
    return operand ? 0x1p120 : 0x1p-130;
  };
  for (double value : run(text, options).values)
    EXPECT_EQ(value, 0);
  options.form = ProductForm::Single;
  for (double value : run(text, options).values)
    EXPECT_EQ(value, 6 * 0x1p-10);
}

TEST_F(MatrixContraction, AWrongFactorIsSeen) {
  for (ProductForm form : forms) {
    if (!has(form))
      continue;
    std::string text = product("mk,kn->mn", mnk(20, 20, 70), isByteForm(form));
    Options options = tiles(form);
    int64_t other = -1;
    options.value = [&](unsigned operand, int64_t i) {
      return operand == 1 && i == other ? 3.0 : double((i * 7 + operand) % 5);
    };
    Outcome right = run(text, options);
    ASSERT_LE(right.gate, 1);
    other = 20 * 69 + 19; // the last k of the last column
    Outcome changed = run(text, options);
    ASSERT_LE(changed.gate, 1);
    EXPECT_NE(right.values, changed.values);
    EXPECT_NE(changed.values, right.expected);
  }
}

TEST_F(MatrixContraction, FormsByMachineAndMode) {
  auto formOn = [&](const char *target, const std::string &text,
                    bool isConstant = true, bool strict = false) {
    mlir::OwningOpRef<mlir::ModuleOp> module;
    graph::KernelOp kernel = kernelOf(context, module, text);
    auto machine = parseCpuTarget(target);
    EXPECT_TRUE(bool(machine)) << target;
    CpuCodegenOptions codegen;
    codegen.strict = strict;
    codegen.constantOperands = {false, isConstant};
    std::string reason;
    auto spec = classifyContraction(kernel, reason);
    EXPECT_TRUE(mlir::succeeded(spec)) << reason;
    return defaultSchedule(*spec, *machine, codegen).form;
  };
  auto bf16 = [&](int64_t m) {
    return product("mk,kn->mn", mnk(m, 4096, 4096), false);
  };
  auto bytes = [&](int64_t m) {
    return product("mk,kn->mn", mnk(m, 1024, 1024), true);
  };
  const char *tiled = "x86:cpu=sapphirerapids";
  EXPECT_EQ(formOn(tiled, bf16(128)), ProductForm::Bf16Tiles);
  EXPECT_EQ(formOn(tiled, bf16(128), false), ProductForm::Bf16Tiles);
  EXPECT_EQ(formOn(tiled, bytes(128)), ProductForm::ByteTiles);
  EXPECT_EQ(formOn(tiled, bytes(128), true, /*strict=*/true),
            ProductForm::ByteTiles);
  // Not in strict mode, for few rows (memory decides), nor without the unit.
  EXPECT_EQ(formOn(tiled, bf16(128), true, /*strict=*/true),
            ProductForm::Single);
  EXPECT_EQ(formOn(tiled, bf16(1)), ProductForm::Single);
  EXPECT_EQ(formOn(tiled, bytes(1)), ProductForm::ByteQuads);
  for (const char *off : {"-amx-tile", "-amx-bf16"})
    EXPECT_EQ(
        formOn((std::string(tiled) + ":features=" + off).c_str(), bf16(128)),
        ProductForm::Single);
  EXPECT_EQ(formOn("x86:cpu=sapphirerapids:features=-amx-int8", bytes(128)),
            ProductForm::ByteQuads);
  EXPECT_EQ(formOn("x86:cpu=znver5", bf16(128)), ProductForm::Bf16Pairs);
  EXPECT_EQ(formOn("x86:cpu=znver4", bytes(128)), ProductForm::ByteQuads);
  EXPECT_EQ(formOn(tiled, einsum("mk,kn->mn", mnk(64, 64, 64))),
            ProductForm::Single);
}

TEST_F(MatrixContraction, RefusesWhatDoesNotFit) {
  mlir::OwningOpRef<mlir::ModuleOp> module;
  graph::KernelOp kernel = kernelOf(
      context, module, einsum("mk,kn->mn", mnk(40, 40, 40), "bf16", "f32"));
  std::string reason;
  auto spec = classifyContraction(kernel, reason);
  auto machine = parseCpuTarget("x86:cpu=sapphirerapids");
  auto without = parseCpuTarget("x86:cpu=sapphirerapids:features=-amx-tile");
  ASSERT_TRUE(machine && without);
  ContractionSchedule good = defaultSchedule(*spec, *machine, {}, std::nullopt,
                                             ProductForm::Bf16Tiles);
  EXPECT_TRUE(isLegal(good, *spec, *machine, reason)) << reason;
  EXPECT_FALSE(isLegal(good, *spec, *without, reason));
  EXPECT_EQ(reason, "the machine has no such dot product");
  auto refused = [&](std::function<void(ContractionSchedule &)> change) {
    ContractionSchedule s = good;
    change(s);
    EXPECT_FALSE(isLegal(s, *spec, *machine, reason));
    return reason;
  };
  using S = ContractionSchedule;
  EXPECT_EQ(refused([](S &s) { s.fma = false; }),
            "bf16 dot products round in another order");
  EXPECT_EQ(refused([](S &s) { s.tileRows = s.panelRows = 24; }),
            "a matrix tile has 16 rows, and one or two are summed");
  EXPECT_EQ(refused([](S &s) { s.tileVectors = 4; }),
            "a matrix tile has 16 columns, and one or two are summed");
  EXPECT_EQ(refused([](S &s) { s.depthPerPass = 40; }),
            "a pass is not whole blocks of k");
  EXPECT_EQ(refused([](S &s) {
              s.depthPerPass = 64;
              s.rowsOutside = false;
            }),
            "passes of matrix tiles copy rows of lhs, rows outside");
  EXPECT_EQ(refused([](S &s) { s.lhs = FactorSource::Memory; }),
            "rows of lhs are not whole groups of k");
}

} // namespace
