// Scalar functions and element types on one thread, and what the assembler says
// of the code.
#include "CudaTestUtils.h"

#include "dlc/Target/CUDA/Ptxas.h"

#include <cmath>
#include <limits>

using namespace dlc;
using namespace dlc::test;

/// A kernel that applies `expression` (of %v, yielding %r) to 1-d tensors.
static std::string pointwise(size_t count, const std::string &from,
                             const std::string &to,
                             const std::string &expression) {
  std::string n = std::to_string(count);
  return "graph.kernel @k(%x: tensor<" + n + "x" + from + ">) -> tensor<" + n +
         "x" + to + "> {\n  %s = graph.stage domain<" + n + "> : tensor<" + n +
         "x" + to + "> {\n  ^bb0(%i: index):\n" +
         "    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<" + n +
         "x" + from + "> -> " + from + "\n    " + expression +
         "\n    graph.yield %r : " + to + "\n  }\n  graph.return %s : tensor<" +
         n + "x" + to + ">\n}";
}

static std::string unary(size_t count, const std::string &fn) {
  return pointwise(count, "f32", "f32",
                   "%r = graph.apply " + fn + "(%v) : (f32) -> f32");
}

/// Distance in units of the last place of the expected float.
static double ulps(float actual, double expected) {
  if (std::isnan(expected) || std::isnan(actual))
    return std::isnan(expected) && std::isnan(actual) ? 0 : 1e9;
  float rounded = static_cast<float>(expected);
  if (std::isinf(rounded) || std::isinf(actual))
    return actual == rounded ? 0 : 1e9;
  float magnitude = std::fabs(rounded);
  double unit = std::nextafter(magnitude, INFINITY) - double(magnitude);
  return std::fabs(actual - expected) / unit;
}

struct FunctionCase {
  const char *name;
  double (*reference)(double);
  double low, high;
  double maxUlps;
};

static std::vector<float> sweep(double low, double high) {
  std::vector<float> values;
  const int count = 2000;
  for (int i = 0; i <= count; ++i)
    values.push_back(low + (high - low) * i / count);
  for (float special : {0.0f, -0.0f, 1.0f, -1.0f, 1e-30f, -1e-30f, 1e-40f,
                        INFINITY, -INFINITY, NAN})
    values.push_back(special);
  return values;
}

class Function : public ::testing::TestWithParam<FunctionCase> {};

TEST_P(Function, IsCloseToTheReference) {
  const FunctionCase &c = GetParam();
  std::vector<float> x = sweep(c.low, c.high), y(x.size());
  CompiledKernel kernel(unary(x.size(), c.name));
  ASSERT_EQ(kernel.error, "");
  ASSERT_EQ(kernel.run({in(x, "x"), out(y, "y")}), "");
  for (size_t i = 0; i < x.size(); ++i)
    ASSERT_LE(ulps(y[i], c.reference(x[i])), c.maxUlps)
        << c.name << "(" << x[i] << ") = " << y[i] << ", expected "
        << c.reference(x[i]);
}

static double rsqrtOf(double x) { return 1 / std::sqrt(x); }

INSTANTIATE_TEST_SUITE_P(
    All, Function,
    ::testing::Values(FunctionCase{"exp", std::exp, -110, 95, 2},
                      FunctionCase{"log", std::log, 1e-6, 30, 2},
                      FunctionCase{"tanh", std::tanh, -12, 12, 2},
                      FunctionCase{"erf", std::erf, -5, 5, 2},
                      FunctionCase{"sqrt", std::sqrt, 0, 1000, 0.51},
                      FunctionCase{"rsqrt", rsqrtOf, 1e-3, 100, 2},
                      FunctionCase{"sin", std::sin, -20, 20, 2},
                      FunctionCase{"cos", std::cos, -20, 20, 2},
                      FunctionCase{"log1p", std::log1p, -0.9, 10, 2},
                      FunctionCase{"expm1", std::expm1, -10, 10, 2},
                      FunctionCase{"atan", std::atan, -30, 30, 64}),
    [](const auto &info) { return info.param.name; });

// The control of the sweeps: a function that is not the one named fails.
TEST(FunctionControl, WrongFunctionIsFarOff) {
  EXPECT_GT(ulps(std::exp2(1.5f), std::exp(1.5)), 2);
  EXPECT_GT(ulps(NAN, 1), 2);
  EXPECT_GT(ulps(INFINITY, 3e38), 2);
}

//===----------------------------------------------------------------------===//
// Element types
//===----------------------------------------------------------------------===//

TEST(Types, CastsSaturateAndWrap) {
  std::vector<float> x = {0, 1.9f, -1.9f, 300, -300, NAN, 3e9f, -5};
  auto run = [&](const std::string &type, bool saturate, auto zero) {
    CompiledKernel kernel(pointwise(x.size(), "f32", type,
                                    std::string("%r = graph.scalar_cast %v ") +
                                        (saturate ? "saturate " : "") +
                                        ": f32 -> " + type));
    EXPECT_EQ(kernel.error, "");
    std::vector<decltype(zero)> y(x.size());
    EXPECT_EQ(kernel.run({in(x, "x"), out(y, "y")}), "");
    return y;
  };
  EXPECT_EQ(run("i8", true, int8_t(0)),
            (std::vector<int8_t>{0, 1, -1, 127, -128, 0, 127, -5}));
  EXPECT_EQ(run("ui8", true, uint8_t(0)),
            (std::vector<uint8_t>{0, 1, 0, 255, 0, 0, 255, 0}));
  std::vector<int8_t> wrapped = run("i8", false, int8_t(0));
  EXPECT_EQ(wrapped[3], int8_t(300));
  EXPECT_EQ(wrapped[4], int8_t(-300));
  EXPECT_EQ(run("i1", false, uint8_t(0)),
            (std::vector<uint8_t>{0, 1, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(run("f64", false, double(0))[1], double(1.9f));
}

TEST(Types, SixteenBitFloatsRoundToNearestEven) {
  // 1 + 2^-8 lies half way between two bf16 numbers and goes to the even one.
  std::vector<float> x = {1.0f + 0.00390625f, 1.0f + 3 * 0.00390625f, -2.5f,
                          NAN};
  std::vector<uint16_t> y(4);
  CompiledKernel narrow(
      pointwise(4, "f32", "bf16", "%r = graph.scalar_cast %v : f32 -> bf16"));
  ASSERT_EQ(narrow.error, "");
  ASSERT_EQ(narrow.run({in(x, "x"), out(y, "y")}), "");
  EXPECT_EQ(y[0], 0x3f80);
  EXPECT_EQ(y[1], 0x3f82);
  EXPECT_EQ(y[2], 0xc020);
  EXPECT_GT(y[3] & 0x7fff, 0x7f80);

  std::vector<uint16_t> half = {0x3c00, 0x4000, 0x7bff,
                                0x0001}; // 1 2 65504 2^-24
  std::vector<uint16_t> doubled(4);
  CompiledKernel add(pointwise(
      4, "f16", "f16", "%r = graph.apply add(%v, %v) : (f16, f16) -> f16"));
  ASSERT_EQ(add.error, "");
  ASSERT_EQ(add.run({in(half, "x"), out(doubled, "y")}), "");
  EXPECT_EQ(doubled, (std::vector<uint16_t>{0x4000, 0x4400, 0x7c00, 0x0002}));
}

TEST(Types, IntegersAndBooleans) {
  std::vector<int64_t> x = {7, -7, 0, int64_t(1) << 40};
  std::vector<int64_t> y(4);
  CompiledKernel kernel(
      pointwise(4, "i64", "i64",
                "%c = graph.literal 3 : i64 : i64\n"
                "%m = graph.apply mod(%v, %c) : (i64, i64) -> i64\n"
                "%d = graph.apply div(%v, %c) : (i64, i64) -> i64\n"
                "%h = graph.literal 100 : i64 : i64\n"
                "%e = graph.apply mul(%d, %h) : (i64, i64) -> i64\n"
                "%r = graph.apply add(%e, %m) : (i64, i64) -> i64"));
  ASSERT_EQ(kernel.error, "");
  ASSERT_EQ(kernel.run({in(x, "x"), out(y, "y")}), "");
  EXPECT_EQ(y, (std::vector<int64_t>{201, -198, 0,
                                     (int64_t(1) << 40) / 3 * 100 +
                                         (int64_t(1) << 40) % 3}));

  // Bytes of bool buffers are 0 or 1.
  std::vector<uint8_t> a = {0, 1, 1}, b(3);
  CompiledKernel negate(
      pointwise(3, "i1", "i1", "%r = graph.apply bit_not(%v) : (i1) -> i1"));
  ASSERT_EQ(negate.error, "");
  ASSERT_EQ(negate.run({in(a, "x"), out(b, "y")}), "");
  EXPECT_EQ(b, (std::vector<uint8_t>{1, 0, 0}));

  std::vector<uint8_t> u = {200, 3, 255}, v(3);
  CompiledKernel smaller(
      pointwise(3, "ui8", "ui8",
                "%c = graph.literal 100 : ui8 : ui8\n"
                "%r = graph.apply max(%v, %c) : (ui8, ui8) -> ui8"));
  ASSERT_EQ(smaller.error, "");
  ASSERT_EQ(smaller.run({in(u, "x"), out(v, "y")}), "");
  EXPECT_EQ(v, (std::vector<uint8_t>{200, 100, 255}));
}

TEST(Types, UnsupportedFunctionIsSaidInWords) {
  CompiledKernel kernel(
      pointwise(4, "f64", "f64", "%r = graph.apply asinh(%v) : (f64) -> f64"));
  EXPECT_EQ(kernel.error, "function 'asinh' of the C math library is not "
                          "supported on CUDA");
}

//===----------------------------------------------------------------------===//
// The assembler
//===----------------------------------------------------------------------===//

TEST(Assembler, AcceptsEveryFunctionForBothArchitectures) {
  if (auto found = findPtxas(); !found) {
    llvm::consumeError(found.takeError());
    GTEST_SKIP() << "no ptxas";
  }
  std::string all;
  std::string last = "%v";
  for (const char *fn :
       {"exp",        "log",   "tanh",  "erf",   "sqrt",  "rsqrt", "sin",
        "cos",        "tan",   "asin",  "acos",  "atan",  "sinh",  "cosh",
        "asinh",      "acosh", "atanh", "log1p", "expm1", "ceil",  "floor",
        "round_even", "trunc", "abs",   "neg",   "sign"}) {
    std::string next = std::string("%") + fn;
    all += next + " = graph.apply " + fn + "(" + last + ") : (f32) -> f32\n";
    last = next;
  }
  all += "%p = graph.apply pow(" + last + ", %v) : (f32, f32) -> f32\n";
  all += "%m = graph.apply mod(%p, %v) : (f32, f32) -> f32\n";
  all += "%r = graph.apply max(%m, %v) : (f32, f32) -> f32\n";
  for (const char *sm : {"80", "90a"}) {
    CompiledKernel kernel(pointwise(64, "f32", "f32", all),
                          std::string("cuda:sm=") + sm);
    ASSERT_EQ(kernel.error, "");
    auto result = runPtxas(kernel.ptx, std::string("sm_") + sm);
    ASSERT_TRUE(static_cast<bool>(result))
        << llvm::toString(result.takeError());
    ASSERT_EQ(result->kernels.size(), 1u);
    EXPECT_EQ(result->kernels[0].spillStoreBytes, 0);
  }
}

TEST(Types, PowersOfDoubles) {
  const double inf = INFINITY;
  std::vector<double> x = {2, 0.5, -2, -2, -8, 0, -0.0, 1, -1, NAN, 10, 3, inf};
  std::vector<double> e = {10,  2,   3, -2,  0.5,  -1, 3,
                           NAN, inf, 0, 300, -inf, -1};
  std::vector<double> y(x.size());
  std::string n = std::to_string(x.size());
  CompiledKernel kernel("graph.kernel @k(%x: tensor<" + n +
                        "xf64>, %e: tensor<" + n + "xf64>) -> tensor<" + n +
                        "xf64> {\n  %s = graph.stage domain<" + n +
                        "> : tensor<" + n + R"(xf64> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<)" +
                        n +
                        R"(xf64> -> f64
    %w = graph.load %e[affine_map<(d0) -> (d0)>](%i) : tensor<)" +
                        n +
                        R"(xf64> -> f64
    %r = graph.apply pow(%v, %w) : (f64, f64) -> f64
    graph.yield %r : f64
  }
  graph.return %s : tensor<)" +
                        n + "xf64>\n}");
  ASSERT_EQ(kernel.error, "");
  ASSERT_EQ(kernel.run({in(x, "x"), in(e, "e"), out(y, "y")}), "");
  for (size_t i = 0; i < x.size(); ++i) {
    double expected = std::pow(x[i], e[i]);
    if (std::isnan(expected))
      EXPECT_TRUE(std::isnan(y[i])) << x[i] << "^" << e[i] << " = " << y[i];
    else if (std::isinf(expected) || expected == 0)
      EXPECT_EQ(y[i], expected) << x[i] << "^" << e[i];
    else
      EXPECT_NEAR(y[i] / expected, 1, 1e-12) << x[i] << "^" << e[i];
  }
}

// What all elements of a row are divided by has its reciprocal computed once.
TEST(Division, ByWhatARowHasOnce) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> divisors = {
      3,      -7,     1,    0x1.fffffep0f, 1e-30f,   1e30f,     -3e38f,
      2e-45f, 1e-40f, 0.0f, -0.0f,         infinity, -infinity, NAN};
  std::vector<float> dividends = sweep(-1e4, 1e4);
  for (float x : {3e38f, -2e38f, 1e38f, 3e-39f, 1e-45f})
    dividends.push_back(x);
  std::string rows = std::to_string(divisors.size()),
              columns = std::to_string(dividends.size());
  std::string x = "tensor<" + columns + "xf32>", d = "tensor<" + rows + "xf32>",
              m = "tensor<" + rows + "x1xf32>",
              y = "tensor<" + rows + "x" + columns + "xf32>";
  // A row's divisor is the largest of equal ones.
  CompiledKernel kernel(
      "graph.kernel @k(%x: " + x + ", %d: " + d + ") -> " + y +
      " {\n  %m = graph.stage domain<" + rows + ", 1> reduce<" + columns +
      "> fold max : " + m +
      " {\n  ^bb0(%i: index, %o: index, %k: index):\n"
      "    %v = graph.load %d[affine_map<(d0, d1, d2) -> (d0)>](%i, %o, %k) "
      ": " +
      d + " -> f32\n    graph.yield %v : f32\n  }\n" +
      "  %s = graph.stage domain<" + rows + ", " + columns + "> : " + y +
      " {\n  ^bb0(%i: index, %j: index):\n"
      "    %v = graph.load %x[affine_map<(d0, d1) -> (d1)>](%i, %j) : " +
      x +
      " -> f32\n"
      "    %w = graph.load %m[affine_map<(d0, d1) -> (d0, 0)>](%i, %j) : " +
      m +
      " -> f32\n    %q = graph.apply div(%v, %w) : (f32, f32) -> f32\n"
      "    graph.yield %q : f32\n  }\n  graph.return %s : " +
      y + "\n}");
  ASSERT_EQ(kernel.error, "");
  EXPECT_EQ(kernel.nest, "row");
  std::vector<float> q(divisors.size() * dividends.size());
  ASSERT_EQ(kernel.run({in(dividends, "x"), in(divisors, "d"), out(q, "q")}),
            "");
  for (size_t i = 0; i < divisors.size(); ++i)
    for (size_t j = 0; j < dividends.size(); ++j) {
      float wanted = dividends[j] / divisors[i];
      bool isSubnormal =
          std::fabs(wanted) < 2 * std::numeric_limits<float>::min();
      float got = q[i * dividends.size() + j];
      EXPECT_LE(ulps(got, wanted), isSubnormal ? 1 : 0)
          << dividends[j] << " / " << divisors[i] << " = " << got;
    }
}
