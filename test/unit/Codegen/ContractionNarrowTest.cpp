// Products of narrow numbers: bf16 pairs, bytes with and without zero points.
// Integers must be equal bit by bit, whatever the instruction.
#include "ContractionFixture.h"

using namespace dlc;
using namespace dlc::test;

namespace {

/// Where a zero point comes from: there is none, one number, or one for each
/// row (of lhs) or column (of rhs).
enum class Zero { None, One, Each };

struct Quantized {
  std::string m = "21", n = "50", k = "40";
  std::string lhs = "ui8", rhs = "i8";
  Zero lhsZero = Zero::None, rhsZero = Zero::None;
  bool lhsTransposed = false, rhsTransposed = false;
  bool batched = false;
};

/// sum over k of (cast(a) - p) * (cast(b) - q) as a kernel; operands a, b, p, q
/// as they exist.
std::string quantized(const Quantized &c) {
  std::string batch = c.batched ? "3" : "";
  auto sizes = [&](std::vector<std::string> tail) {
    if (c.batched)
      tail.insert(tail.begin(), batch);
    return tail;
  };
  std::string dims = c.batched ? "(d0, d1, d2, d3)" : "(d0, d1, d2)";
  std::string coords = c.batched ? "(%bb, %i, %j, %k)" : "(%i, %j, %k)";
  std::string i = c.batched ? "d1" : "d0", j = c.batched ? "d2" : "d1",
              k = c.batched ? "d3" : "d2", at = c.batched ? "d0, " : "";
  std::string a = tensorType(sizes(c.lhsTransposed
                                       ? std::vector<std::string>{c.k, c.m}
                                       : std::vector<std::string>{c.m, c.k}),
                             c.lhs),
              b = tensorType(sizes(c.rhsTransposed
                                       ? std::vector<std::string>{c.n, c.k}
                                       : std::vector<std::string>{c.k, c.n}),
                             c.rhs),
              y = tensorType(sizes({c.m, c.n}), "i32");
  std::string arguments = "%a: " + a + ", %b: " + b, body;
  auto load = [&](std::string name, std::string memory, std::string type,
                  std::string index, std::string element) {
    body += "%" + name + "x = graph.load %" + memory + "[affine_map<" + dims +
            " -> (" + index + ")>]" + coords + " : " + type + " -> " + element +
            "\n%" + name + "w = graph.scalar_cast %" + name + "x : " + element +
            " -> i32\n";
  };
  load("a", "a", a, at + (c.lhsTransposed ? k + ", " + i : i + ", " + k),
       c.lhs);
  load("b", "b", b, at + (c.rhsTransposed ? j + ", " + k : k + ", " + j),
       c.rhs);
  auto subtract = [&](Zero zero, std::string name, std::string factor,
                      std::string size, std::string axis, std::string element) {
    if (zero == Zero::None)
      return factor + "w";
    std::string type = zero == Zero::One ? "tensor<" + element + ">"
                                         : tensorType({size}, element);
    arguments += ", %" + name + ": " + type;
    load(name, name, type, zero == Zero::One ? "" : axis, element);
    body += "%" + factor + "s = graph.apply sub(%" + factor + "w, %" + name +
            "w) : (i32, i32) -> i32\n";
    return factor + "s";
  };
  std::string left = subtract(c.lhsZero, "p", "a", c.m, i, c.lhs),
              right = subtract(c.rhsZero, "q", "b", c.n, j, c.rhs);
  std::string symbols;
  for (const std::string &size : {c.m, c.n, c.k})
    if (size[0] == 's')
      symbols += (symbols.empty() ? "\"" : ", \"") + size + "\"";
  return "graph.kernel @kernel(" + arguments + ") -> " + y +
         " attributes {symbols = [" + symbols +
         "]} {\n%s = graph.stage domain <" + (c.batched ? batch + ", " : "") +
         c.m + ", " + c.n + "> reduce <" + c.k + "> fold add : " + y +
         " {\n^bb0(" + (c.batched ? "%bb: index, " : "") +
         "%i: index, %j: index, %k: index):\n" + body +
         "%m = graph.apply mul(%" + left + ", %" + right +
         ") : (i32, i32) -> i32\ngraph.yield %m : i32\n}\ngraph.return %s : " +
         y + "\n}";
}

std::string describe(const Quantized &c) {
  return c.m + "x" + c.n + "x" + c.k + " " + c.lhs + " " + c.rhs + " zeros " +
         std::to_string(int(c.lhsZero)) + std::to_string(int(c.rhsZero)) +
         (c.lhsTransposed ? " lhs^T" : "") + (c.rhsTransposed ? " rhs^T" : "") +
         (c.batched ? " batched" : "");
}

class NarrowContraction : public Contraction {
protected:
  Options bytes(int constant = 0) {
    Options options = constants(constant == 1, constant == 2);
    options.allBytes = true;
    options.target = targets[0];
    return options;
  }
  static bool hasByteTiles() {
    auto host = parseCpuTarget("host");
    return host && host->hasFeature("amx-tile") && host->hasFeature("amx-int8");
  }
  /// The forms this machine runs on vectors of each width.
  const char *targets[3] = {
      hasByteTiles() ? "x86:cpu=host:features=-amx-tile:threads=1"
                     : "host:threads=1",
      "x86:cpu=x86-64-v3:threads=1", "x86:cpu=x86-64-v2:threads=1"};
  /// In vectors; where the machine has matrix tiles, by those too.
  void check(const std::string &text, Options options,
             const std::string &what) {
    Contraction::check(text, options, what);
    if (!hasByteTiles() || !options.allBytes || options.adjust ||
        options.form || options.target != targets[0])
      return;
    options.target = "host:threads=1";
    options.form = ProductForm::ByteTiles;
    Contraction::check(text, options, what + " by tiles");
  }
  bool hasAvxVnni() {
    auto host = parseCpuTarget("host");
    return host && host->hasFeature("avxvnni");
  }
  bool runs(ProductForm form) {
    auto host = parseCpuTarget("host");
    return host && host->desc().vectorBytes == 64 &&
           host->hasFeature(form == ProductForm::Bf16Pairs ? "avx512bf16"
                                                           : "avx512vnni");
  }
};

TEST_F(NarrowContraction, BytesAroundEveryEdge) {
  for (std::string m : {"1", "5", "29"})
    for (std::string n : {"1", "16", "33", "70"})
      for (std::string k : {"1", "4", "37", "130"}) {
        if (m == "1" && n == "1")
          continue;
        Quantized c;
        c.m = m, c.n = n, c.k = k;
        c.lhsZero = Zero::One;
        check(quantized(c), bytes(k == "4" || n == "33" ? 2 : 0), describe(c));
      }
}

TEST_F(NarrowContraction, SignsAndZeroPoints) {
  for (std::string target : targets)
    for (const char *lhs : {"i8", "ui8"})
      for (const char *rhs : {"i8", "ui8"})
        for (Zero p : {Zero::None, Zero::One, Zero::Each})
          for (Zero q : {Zero::None, Zero::One, Zero::Each}) {
            // Zero points of other machines are subtracted while panels are
            // filled.
            if (target != targets[0] && p != q)
              continue;
            Quantized c;
            c.lhs = lhs, c.rhs = rhs, c.lhsZero = p, c.rhsZero = q;
            c.k = p == Zero::Each ? "37" : "68";
            Options options = bytes(int(p) == int(q) ? 2 : 0);
            options.target = target;
            options.strict = p == q; // exact in both modes
            check(quantized(c), options, describe(c));
          }
}

TEST_F(NarrowContraction, TransposesBatchesAndSources) {
  for (bool lhsTransposed : {false, true})
    for (bool rhsTransposed : {false, true})
      for (bool batched : {false, true})
        for (int constant : {0, 1, 2})
          for (std::string k : {"20", "131"}) {
            Quantized c;
            c.lhsTransposed = lhsTransposed;
            c.rhsTransposed = rhsTransposed;
            c.batched = batched;
            c.k = k;
            if (constant == 1 && batched == (k == "20"))
              continue;
            c.lhsZero = Zero::Each;
            c.rhsZero = constant ? Zero::Each : Zero::One;
            c.lhs = batched ? "ui8" : "i8";
            check(quantized(c), bytes(constant), describe(c));
          }
}

TEST_F(NarrowContraction, EightWideDotsOfBytes) {
  if (!hasAvxVnni())
    GTEST_SKIP() << "needs AVX-VNNI";
  for (std::string k : {"3", "64", "90"}) {
    Quantized c;
    c.k = k;
    c.lhsZero = c.rhsZero = Zero::Each;
    Options options = bytes(2);
    options.target = "x86:cpu=x86-64-v3:features=avxvnni:threads=1";
    options.adjust = [](ContractionSchedule &s) {
      EXPECT_EQ(s.form, ProductForm::ByteQuads);
    };
    check(quantized(c), options, describe(c));
    c.rhsTransposed = true;
    options.constants = {};
    check(quantized(c), options, describe(c));
  }
}

TEST_F(NarrowContraction, SchedulesOfBytes) {
  auto with = [&](int constant, std::function<void(ContractionSchedule &)> f) {
    Options options = bytes(constant);
    options.adjust = std::move(f);
    return options;
  };
  Quantized c;
  c.m = "31", c.n = "70", c.k = "200";
  c.lhs = "i8";
  c.lhsZero = c.rhsZero = Zero::Each;
  for (int constant : {0, 2}) {
    check(quantized(c),
          with(constant,
               [](ContractionSchedule &s) {
                 s.rowsPerTask = 2 * s.tileRows;
                 s.columnsPerTask = 2 * s.panelColumns();
               }),
          "tasks");
    check(quantized(c),
          with(constant,
               [](ContractionSchedule &s) {
                 s.columnsPerTask = 0;
                 s.columnsPerBlock = s.panelColumns();
                 s.rowsOutside = true;
               }),
          "blocks");
    check(quantized(c),
          with(constant,
               [](ContractionSchedule &s) { s.depthPerPass = 2 * s.kBlock; }),
          "passes");
    check(quantized(c),
          with(constant,
               [](ContractionSchedule &s) {
                 s.tileRows = s.panelRows = 6;
                 s.tileVectors = 4;
                 s.lhs = FactorSource::Filled;
               }),
          "wide tiles");
  }
  c.k = "64";
  check(quantized(c),
        with(2,
             [](ContractionSchedule &s) {
               if (s.form == ProductForm::ByteQuads)
                 s.lhs = FactorSource::Memory;
             }),
        "in place");
}

TEST_F(NarrowContraction, SymbolicBytes) {
  for (auto [m, n, k] :
       {std::array<int64_t, 3>{1, 1, 1}, {28, 33, 41}, {0, 8, 4}, {5, 8, 0}}) {
    Quantized c;
    c.m = "s0", c.n = "s1", c.k = "s2";
    c.lhsZero = Zero::Each, c.rhsZero = Zero::One;
    Options options = bytes();
    options.symbols = {m, n, k};
    check(quantized(c), options,
          std::to_string(m) + " " + std::to_string(n) + " " +
              std::to_string(k));
    c.rhsTransposed = true;
    if (m > 1)
      check(quantized(c), options, "transposed");
  }
}

/// A convolution of bytes whose border is the zero point.
TEST_F(NarrowContraction, ConvolutionsOfBytes) {
  for (const char *target : targets)
    for (int constant : {0, 2}) {
      std::string x = "tensor<1x5x9x11xui8>", w = "tensor<17x5x3x3xi8>",
                  y = "tensor<1x17x9x11xi32>",
                  dims = "(d0, d1, d2, d3, d4, d5, d6)",
                  coords = "(%n, %o, %i, %j, %c, %p, %q)", row = "d2 + d5 - 1",
                  column = "d3 + d6 - 1";
      std::string text =
          "graph.kernel @kernel(%x: " + x + ", %w: " + w +
          ", %z: tensor<ui8>) -> " + y +
          " attributes {symbols = []} {\n%s = graph.stage domain <1, 17, 9, "
          "11> reduce <5, 3, 3> fold add : " +
          y +
          " {\n^bb0(%n: index, %o: index, %i: index, %j: index, %c: index, %p: "
          "index, %q: index):\n%zx = graph.load %z[affine_map<" +
          dims + " -> ()>]" + coords +
          " : tensor<ui8> -> ui8\n%a = graph.load %x[affine_map<" + dims +
          " -> (d0, d4, " + row + ", " + column + ")>]" + coords +
          " guard affine_set<" + dims + " : (" + row + " >= 0, 8 - (" + row +
          ") >= 0, " + column + " >= 0, 10 - (" + column +
          ") >= 0)> else %zx : ui8 : " + x +
          " -> ui8\n%b = graph.load %w[affine_map<" + dims +
          " -> (d1, d4, d5, d6)>]" + coords + " : " + w +
          " -> i8\n%aw = graph.scalar_cast %a : ui8 -> i32\n%bw = "
          "graph.scalar_cast %b : i8 -> i32\n%zw = graph.scalar_cast %zx : ui8 "
          "-> i32\n%as = graph.apply sub(%aw, %zw) : (i32, i32) -> i32\n%m = "
          "graph.apply mul(%as, %bw) : (i32, i32) -> i32\ngraph.yield %m : "
          "i32\n}\ngraph.return %s : " +
          y + "\n}";
      Options options = bytes(constant);
      options.target = target;
      check(text, options, target);
    }
}

/// Extreme bytes: no partial sum saturates.
TEST_F(NarrowContraction, NothingSaturates) {
  for (const char *target : targets)
    for (double left : {0.0, 255.0})
      for (double right : {-128.0, 127.0}) {
        Quantized c;
        c.k = "150";
        c.lhsZero = Zero::One;
        Options options = bytes(2);
        options.target = target;
        options.value = [=](unsigned operand, int64_t) {
          return operand == 0 ? left : operand == 1 ? right : 255 - left;
        };
        check(quantized(c), options, target);
      }
}

// The tests above see a wrong zero point: a kernel of another one is not equal.
TEST_F(NarrowContraction, AnotherZeroPointIsSeen) {
  Quantized c;
  c.lhsZero = Zero::One;
  Options options = bytes();
  Outcome outcome = run(quantized(c), options);
  ASSERT_EQ(outcome.gate, 0);
  options.value = [](unsigned operand, int64_t i) {
    return operand == 2 ? 1.0 : double((i * 7 + operand) % 100);
  };
  Outcome one = run(quantized(c), options);
  options.value = [](unsigned operand, int64_t i) {
    return operand == 2 ? 2.0 : double((i * 7 + operand) % 100);
  };
  Outcome two = run(quantized(c), options);
  ASSERT_EQ(one.gate, 0);
  ASSERT_EQ(two.gate, 0);
  EXPECT_NE(one.values, two.values);
  EXPECT_NE(one.values, two.expected);
}

TEST_F(NarrowContraction, Bf16PairsAroundEveryEdge) {
  if (!runs(ProductForm::Bf16Pairs))
    GTEST_SKIP() << "needs AVX512-BF16";
  for (const char *equation :
       {"mk,kn->mn", "mk,nk->mn", "km,kn->mn", "bmk,bkn->bmn", "bmk,bnk->bmn"})
    for (auto [m, n, k] :
         {std::array<int64_t, 3>{1, 70, 64}, {29, 33, 37}, {14, 64, 1}})
      for (int constant : {0, m == 29 ? 1 : 2}) {
        auto sizes = mnk(m, n, k);
        sizes['b'] = "2";
        Options options = constants(constant == 1, constant == 2);
        options.form = ProductForm::Bf16Pairs;
        check(einsum(equation, sizes, "bf16", "f32"), options, equation);
      }
  Options symbolic;
  symbolic.form = ProductForm::Bf16Pairs;
  for (int64_t k : {0, 1, 2, 35}) {
    symbolic.symbols = {19, 40, k};
    check(einsum("mk,kn->mn", {{'m', "s0"}, {'n', "s1"}, {'k', "s2"}}, "bf16",
                 "f32"),
          symbolic, "symbolic");
  }
}

TEST_F(NarrowContraction, Bf16PairsOfFewRowsAreSummedAlongDepth) {
  if (!runs(ProductForm::Bf16Pairs))
    GTEST_SKIP() << "needs AVX512-BF16";
  for (int64_t m : {1, 4, 5, 8, 9})
    for (int64_t n : {7, 8, 70, 96})
      for (int64_t k : {2, 31, 32, 33, 70}) {
        Options options;
        options.form = ProductForm::Bf16Pairs;
        options.adjust = [=](ContractionSchedule &s) {
          EXPECT_EQ(s.dot, m <= 8);
        };
        check(einsum("mk,nk->mn", mnk(m, n, k), "bf16", "f32"), options, "dot");
        check(einsum("mk,nk->mn", mnk(m, n, k), "bf16"), options,
              "dot, rounded");
      }
  Options symbolic;
  symbolic.form = ProductForm::Bf16Pairs;
  symbolic.rows = SizeRange{5, 8, 8};
  for (int64_t k : {0, 1, 35, 64}) {
    symbolic.symbols = {7, 40, k};
    check(einsum("mk,nk->mn", {{'m', "s0"}, {'n', "s1"}, {'k', "s2"}}, "bf16",
                 "f32"),
          symbolic, "dot, symbolic");
  }
}

TEST_F(NarrowContraction, Bf16PairsKeepSpecialNumbers) {
  if (!runs(ProductForm::Bf16Pairs))
    GTEST_SKIP() << "needs AVX512-BF16";
  // Row i of lhs holds one special number; rhs is ones, but for one column of
  // zeros.
  const double special[] = {INFINITY, -INFINITY, NAN, 0x1p-133, -0.0, 0x1p127};
  int64_t k = 21, n = 20;
  Options options;
  options.form = ProductForm::Bf16Pairs;
  options.value = [&](unsigned operand, int64_t i) {
    if (operand)
      return i % n == 3 ? 0.0 : 1.0;
    return i % k == 7 ? special[i / k] : 0.0;
  };
  Outcome outcome =
      run(einsum("mk,kn->mn", mnk(6, n, k), "bf16", "f32"), options);
  ASSERT_EQ(outcome.values.size(), size_t(6 * n));
  for (int64_t i = 0; i < 6; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double value = outcome.values[i * n + j];
      double exact = special[i] * (j == 3 ? 0.0 : 1.0);
      if (exact != exact)
        EXPECT_TRUE(value != value) << i << " " << j;
      else
        // Law `flush`: 2^-126 (|x| + |y| + 2) a term.
        EXPECT_TRUE(value == exact || std::abs(value - exact) <= 0x1p-124)
            << i << " " << j << " " << value;
    }
}

// What `flush` licenses is seen, and is why strict mode refuses it.
TEST_F(NarrowContraction, FlushLosesSubnormalFactors) {
  if (!runs(ProductForm::Bf16Pairs))
    GTEST_SKIP() << "needs AVX512-BF16";
  std::string text = einsum("mk,kn->mn", mnk(4, 20, 6), "bf16", "f32");
  Options options;
  options.form = ProductForm::Bf16Pairs;
  options.value = [](unsigned operand, int64_t) {
    return operand ? 0x1p120 : 0x1p-130;
  };
  Outcome flushed = run(text, options);
  options.form = ProductForm::Single;
  Outcome kept = run(text, options);
  ASSERT_EQ(flushed.values.size(), kept.values.size());
  for (size_t i = 0; i < kept.values.size(); ++i) {
    EXPECT_EQ(kept.values[i], 6 * 0x1p-10);
    EXPECT_EQ(flushed.values[i], 0);
    EXPECT_LE(std::abs(flushed.values[i] - kept.values[i]),
              6 * 0x1p-126 * (0x1p-130 + 0x1p120 + 2));
  }
}

// A packed rhs that is widened before the rows pass, whole and in passes.
TEST_F(NarrowContraction, WidensPanelsForManyRows) {
  for (const char *type : {"bf16", "f16"})
    for (int64_t depth : {0, 32})
      for (unsigned vectors : {1, 2, 4}) {
        Options options = constants(false, true);
        options.form = ProductForm::Single;
        options.adjust = [=](ContractionSchedule &s) {
          EXPECT_TRUE(s.widensRhs);
          s.tileVectors = vectors;
          s.tileRows = s.panelRows = 5;
          s.rowsPerTask = 25;
          s.depthPerPass = depth;
        };
        check(einsum("mk,kn->mn", mnk(67, 75, 70), type, "f32"), options, type);
      }
}

/// x times weights that are computed from bytes, zero points and scales, one
/// for all (0), for each column (1) or for blocks of 8 k of each column (2).
std::string dequantized(int64_t m, int64_t n, int64_t k, int scale, int zero,
                        bool transposed) {
  auto text = [](int64_t size) { return std::to_string(size); };
  std::string dims = "affine_map<(d0, d1, d2) -> (", at = ")>](%i, %j, %k) : ";
  auto sizes = [&](int form) -> std::vector<std::string> {
    if (form == 0)
      return {"1"};
    if (form == 1)
      return {text(n)};
    return {text(k / 8), text(n)};
  };
  const char *index[] = {"0", "d1", "d2 floordiv 8, d1"};
  std::string x = tensorType({text(m), text(k)}, "f32"),
              q = tensorType(transposed
                                 ? std::vector<std::string>{text(n), text(k)}
                                 : std::vector<std::string>{text(k), text(n)},
                             "i8"),
              s = tensorType(sizes(scale), "f32"),
              z = tensorType(sizes(zero), "i8"),
              y = tensorType({text(m), text(n)}, "f32");
  return "graph.kernel @kernel(%x: " + x + ", %q: " + q + ", %s: " + s +
         ", %z: " + z + ") -> " + y +
         " attributes {symbols = []} {\n%r = graph.stage domain <" + text(m) +
         ", " + text(n) + "> reduce <" + text(k) + "> fold add : " + y +
         " {\n^bb0(%i: index, %j: index, %k: index):\n%a = graph.load %x[" +
         dims + "d0, d2" + at + x + " -> f32\n%b = graph.load %q[" + dims +
         (transposed ? "d1, d2" : "d2, d1") + at + q +
         " -> i8\n%c = graph.load %s[" + dims + index[scale] + at + s +
         " -> f32\n%d = graph.load %z[" + dims + index[zero] + at + z +
         " -> i8\n%e = graph.scalar_cast %b : i8 -> i32\n%f = "
         "graph.scalar_cast %d : i8 -> i32\n%g = graph.apply sub(%e, %f) : "
         "(i32, i32) -> i32\n%h = graph.scalar_cast %g : i32 -> f32\n%w = "
         "graph.apply mul(%h, %c) : (f32, f32) -> f32\n%p = graph.apply "
         "mul(%a, %w) : (f32, f32) -> f32\ngraph.yield %p : f32\n}\n"
         "graph.return %r : " +
         y + "\n}";
}

// Rows of one tile use them as they are computed, more rows from panels.
TEST_F(NarrowContraction, WeightsAreDequantisedByTilesAndInPanels) {
  for (const char *target : targets)
    for (int scale : {0, 1, 2})
      for (auto [m, n, k] :
           {std::array<int64_t, 3>{1, 70, 264}, {3, 45, 40}, {67, 33, 40}}) {
        bool transposed = scale != 1;
        Options options;
        options.constants = {false, true, true, true};
        options.target = target;
        options.strict = scale == 1;
        options.allBytes = true;
        bool fitsTile = m <= 3;
        options.adjust = [=](ContractionSchedule &s) {
          EXPECT_EQ(s.widensRhs, !fitsTile);
        };
        int zero = (scale + m) % 3;
        check(dequantized(m, n, k, scale, zero, transposed), options, target);
        if (fitsTile) {
          options.adjust = [](ContractionSchedule &s) {
            s.widensRhs = true;
            s.depthPerPass = 0;
          };
          check(dequantized(m, n, k, scale, zero, transposed), options, target);
          for (unsigned unroll : {1, 3, 8}) {
            options.adjust = [=](ContractionSchedule &s) {
              s.unroll = unroll;
              s.tileVectors = 1;
            };
            check(dequantized(m, n, k, scale, zero, transposed), options,
                  target);
          }
        }
        // Inputs are not packed: panels are filled.
        if (m > 1) {
          options.constants = {false, true, true, false};
          options.adjust = [](ContractionSchedule &s) {
            EXPECT_EQ(s.rhs, FactorSource::Filled);
          };
          check(dequantized(m, n, k, scale, zero, transposed), options, target);
        }
      }
}

// All passes over some columns come before the next columns where rows are few.
TEST_F(NarrowContraction, PassesLieInsideColumnsForFewRows) {
  CpuTarget target = llvm::cantFail(parseCpuTarget("x86:cpu=x86-64-v4"));
  CpuCodegenOptions options;
  options.constantOperands = {false, true, true};
  auto scheduleOf = [&](int64_t m) {
    mlir::OwningOpRef<mlir::ModuleOp> module;
    std::string reason, text = fourBits(m, 64, 512, "ui8", "8.000000e+00");
    auto spec = classifyContraction(kernelOf(context, module, text), reason);
    EXPECT_TRUE(mlir::succeeded(spec)) << reason;
    return defaultSchedule(*spec, target, options);
  };
  for (int64_t m : {14, 16}) {
    ContractionSchedule schedule = scheduleOf(m);
    EXPECT_TRUE(schedule.widensRhs && schedule.passesInside) << schedule.str();
    EXPECT_TRUE(schedule.depthPerPass > 0 && schedule.depthPerPass < 512);
  }
  for (int64_t m : {4, 24, 200})
    EXPECT_FALSE(scheduleOf(m).passesInside);
}

// Two of them lie in a byte, read by tiles, by words of eight k or one by one,
// and in panels.
TEST_F(NarrowContraction, NumbersOfFourBits) {
  for (const char *target : targets)
    for (bool isSigned : {false, true})
      for (auto [m, n, k] :
           {std::array<int64_t, 3>{1, 70, 264}, {4, 33, 40}, {37, 45, 24}}) {
        std::string text = fourBits(m, n, k, isSigned ? "i8" : "ui8",
                                    isSigned ? "5.000000e-01" : "8.000000e+00");
        Options options;
        options.constants = {false, true, true};
        options.target = target;
        options.value = [=](unsigned operand, int64_t i) {
          double random = double(uint32_t(i * 2654435761u + operand) >> 16);
          return operand == 1 ? std::fmod(random, 16) - (isSigned ? 8 : 0)
                              : random / 65536 - 0.25;
        };
        check(text, options, target);
        for (unsigned unroll : {1, 4}) {
          options.adjust = [=](ContractionSchedule &s) {
            s.unroll = unroll;
            s.tileVectors = 1;
          };
          check(text, options, target);
        }
        options.adjust = nullptr;
        // A few steps of k in panels at a time, columns or passes outside.
        for (bool inside : {false, true}) {
          options.adjust = [=](ContractionSchedule &s) {
            s.widensRhs = true;
            s.rowsOutside = s.rowsOutsideFrom = false;
            s.depthPerPass = s.kBlock;
            s.passesInside = inside;
          };
          check(text, options, target);
        }
        options.adjust = nullptr;
        // They are taken to have four bits.
        options.value = [value = options.value](unsigned operand, int64_t i) {
          return value(operand, i) + (operand == 1 ? 16 : 0);
        };
        EXPECT_GT(run(text, options).gate, 1);
      }
}

TEST_F(NarrowContraction, FormsByMachineAndMode) {
  auto formOn = [&](const char *target, const std::string &text,
                    bool strict = false) {
    mlir::OwningOpRef<mlir::ModuleOp> module;
    graph::KernelOp kernel = kernelOf(context, module, text);
    auto machine = parseCpuTarget(target);
    EXPECT_TRUE(bool(machine));
    CpuCodegenOptions codegen;
    codegen.strict = strict;
    std::string reason;
    auto spec = classifyContraction(kernel, reason);
    EXPECT_TRUE(mlir::succeeded(spec)) << reason;
    return defaultSchedule(*spec, *machine, codegen).form;
  };
  std::string bf16 = einsum("mk,kn->mn", mnk(64, 64, 64), "bf16", "f32"),
              byte = quantized({}), f32 = einsum("mk,kn->mn", mnk(64, 64, 64));
  EXPECT_EQ(formOn("x86:cpu=znver4", bf16), ProductForm::Bf16Pairs);
  EXPECT_EQ(formOn("x86:cpu=znver5", bf16), ProductForm::Bf16Pairs);
  EXPECT_EQ(formOn("x86:cpu=znver4", bf16, /*strict=*/true),
            ProductForm::Single);
  // Half the rate of multiply-adds there, but for matrix tiles.
  EXPECT_EQ(formOn("x86:cpu=sapphirerapids", bf16), ProductForm::Bf16Tiles);
  EXPECT_EQ(formOn("x86:cpu=sapphirerapids:features=-amx-tile", bf16),
            ProductForm::Single);
  EXPECT_EQ(formOn("x86:cpu=x86-64-v4", bf16), ProductForm::Single);
  EXPECT_EQ(formOn("x86:cpu=znver4", f32), ProductForm::Single);
  EXPECT_EQ(formOn("x86:cpu=sapphirerapids", byte, /*strict=*/true),
            ProductForm::ByteQuads);
  EXPECT_EQ(formOn("x86:cpu=x86-64-v4", byte), ProductForm::I16Pairs);
  EXPECT_EQ(formOn("x86:cpu=haswell", byte), ProductForm::I16Pairs);
  EXPECT_EQ(formOn("x86:cpu=x86-64-v2", byte), ProductForm::I16Pairs);
  EXPECT_EQ(formOn("arm", byte), ProductForm::Single);
  EXPECT_EQ(formOn("arm", bf16), ProductForm::Single);
}

TEST_F(NarrowContraction, RefusesFormsThatDoNotFit) {
  auto reasonFor = [&](const std::string &text, const char *target,
                       ProductForm form, bool strict) {
    mlir::OwningOpRef<mlir::ModuleOp> module;
    graph::KernelOp kernel = kernelOf(context, module, text);
    auto machine = parseCpuTarget(target);
    CpuCodegenOptions codegen;
    codegen.symbol = "kernel";
    std::string reason;
    auto spec = classifyContraction(kernel, reason);
    ContractionSchedule schedule =
        baseSchedule(machine->desc(), spec->accumulator, form);
    schedule.fma = !strict;
    EXPECT_FALSE(isLegal(schedule, *spec, *machine, reason));
    return reason;
  };
  std::string bf16 = einsum("mk,kn->mn", mnk(9, 9, 9), "bf16", "f32");
  EXPECT_EQ(reasonFor(einsum("mk,kn->mn", mnk(9, 9, 9)), "x86:cpu=znver4",
                      ProductForm::Bf16Pairs, false),
            "the factors are not the narrow numbers of this form");
  EXPECT_EQ(reasonFor(bf16, "x86:cpu=x86-64-v4", ProductForm::Bf16Pairs, false),
            "the machine has no such dot product");
  EXPECT_EQ(reasonFor(bf16, "x86:cpu=znver4", ProductForm::Bf16Pairs, true),
            "bf16 dot products round in another order");
  EXPECT_EQ(reasonFor(bf16, "x86:cpu=znver4", ProductForm::ByteQuads, false),
            "the factors are not the narrow numbers of this form");
}

} // namespace
