// Elementwise rows against C++ on every dtype, with broadcasting and symbols.
#include "RowTestUtils.h"

#include <cmath>
#include <limits>

using namespace dlc;
using namespace dlc::interp;

namespace {
class ElementwiseRows : public RowTest {
protected:
  void checkUnary(const std::string &op, float (*reference)(float), float low,
                  float high, float tolerance = 1e-5f) {
    SCOPED_TRACE(op);
    std::vector<float> x(1500), expected; // longer than a block
    std::uniform_real_distribution<float> values(low, high);
    for (float &v : x)
      v = values(generator);
    for (float v : x)
      expected.push_back(reference(v));
    Tensor result = runOp(op, "", {"tensor<3x500xf32>"}, "tensor<3x500xf32>",
                          {tensor<float>("f32", {3, 500}, x)});
    expectNear(result, {3, 500}, expected, tolerance);
  }

  template <typename T>
  void checkBinary(const std::string &op, const std::string &element,
                   llvm::ArrayRef<T> x, llvm::ArrayRef<T> y,
                   llvm::ArrayRef<T> expected) {
    SCOPED_TRACE(op + " " + element);
    int64_t n = x.size();
    std::string type = "tensor<" + std::to_string(n) + "x" + element + ">";
    Tensor result =
        runOp(op, "", {type, type}, type,
              {tensor<T>(element, {n}, x), tensor<T>(element, {n}, y)});
    expectEqual<T>(result, {n}, expected);
  }
};
} // namespace

TEST_F(ElementwiseRows, UnaryFloat) {
  checkUnary("exp", std::exp, -5, 5);
  checkUnary("log", std::log, 0.1f, 5);
  checkUnary("tanh", std::tanh, -3, 3);
  checkUnary("erf", std::erf, -3, 3);
  checkUnary("sqrt", std::sqrt, 0, 9);
  checkUnary("floor", std::floor, -9, 9);
  checkUnary("round", std::nearbyint, -9, 9);
  checkUnary("abs", std::fabs, -9, 9);
  checkUnary("relu", [](float x) { return std::max(x, 0.0f); }, -2, 2);
  checkUnary("sigmoid", [](float x) { return 1 / (1 + std::exp(-x)); }, -9, 9);
  checkUnary(
      "softplus", [](float x) { return std::log1p(std::exp(x)); }, -9, 9);
  checkUnary(
      "hard_swish",
      [](float x) { return x * std::max(0.0f, std::min(1.0f, x / 6 + 0.5f)); },
      -9, 9);
  checkUnary(
      "mish", [](float x) { return x * std::tanh(std::log1p(std::exp(x))); },
      -9, 9);
  checkUnary(
      "gelu",
      [](float x) { return 0.5f * x * (1 + std::erf(x / std::sqrt(2.0f))); },
      -4, 4);
  checkUnary("reciprocal", [](float x) { return 1 / x; }, 0.5f, 9);
}

TEST_F(ElementwiseRows, Attributes) {
  std::vector<float> x = {-3, -1, -0.5f, 0, 0.5f, 1, 3, 8};
  Tensor in = tensor<float>("f32", {8}, x);
  auto check = [&](const std::string &op, const std::string &attributes,
                   float (*reference)(float)) {
    SCOPED_TRACE(op);
    std::vector<float> expected;
    for (float v : x)
      expected.push_back(reference(v));
    expectNear(runOp(op, attributes, {"tensor<8xf32>"}, "tensor<8xf32>", {in}),
               {8}, expected);
  };
  check("leaky_relu", "alpha = 0.1 : f64",
        [](float v) { return v < 0 ? 0.1f * v : v; });
  check("elu", "alpha = 2.0 : f64",
        [](float v) { return v < 0 ? 2 * std::expm1(v) : v; });
  check("hard_sigmoid", "alpha = 0.2 : f64, beta = 0.5 : f64", [](float v) {
    return std::max(0.0f, std::min(1.0f, 0.2f * v + 0.5f));
  });
  check("shrink", "lambd = 0.75 : f64, bias = 0.25 : f64", [](float v) {
    return v < -0.75f ? v + 0.25f : v > 0.75f ? v - 0.25f : 0;
  });
  check("gelu", "tanh_form", [](float v) {
    return 0.5f * v *
           (1 + std::tanh(0.7978845608f * (v + 0.044715f * v * v * v)));
  });
}

TEST_F(ElementwiseRows, IntegerEdges) {
  constexpr int32_t lowest = std::numeric_limits<int32_t>::min(),
                    highest = std::numeric_limits<int32_t>::max();
  checkBinary<int32_t>("add", "i32", {highest, 5, -7}, {1, 6, 3},
                       {lowest, 11, -4});
  checkBinary<int32_t>("div", "i32", {7, -7, 7, -7, lowest, 5},
                       {2, 2, -2, -2, -1, 0}, {3, -3, -3, 3, lowest, 0});
  checkBinary<int32_t>("mod", "i32", {7, -7, 7, -7, lowest, 5},
                       {3, 3, -3, -3, -1, 0}, {1, 2, -2, -1, 0, 0});
  checkBinary<int32_t>("rem", "i32", {7, -7, 7, -7, lowest, 5},
                       {3, 3, -3, -3, -1, 0}, {1, -1, 1, -1, 0, 0});
  checkBinary<int8_t>("mul", "i8", {100, -128, 7}, {3, -1, 9}, {44, -128, 63});
  checkBinary<uint8_t>("sub", "ui8", {3, 200}, {5, 100}, {254, 100});
  checkBinary<uint8_t>("div", "ui8", {200, 9, 1}, {3, 0, 255}, {66, 0, 0});
  checkBinary<uint64_t>("max", "ui64", {1, ~0ull}, {1ull << 63, 3},
                        {1ull << 63, ~0ull});
  checkBinary<uint16_t>("shl", "ui16", {1, 3, 1, 0x8001}, {4, 15, 16, 1},
                        {16, 0x8000, 0, 2});
  checkBinary<uint32_t>("shr", "ui32", {256, 1u << 31, 7}, {4, 31, 32},
                        {16, 1, 0});
  checkBinary<int64_t>("bit_xor", "i64", {5, -1}, {3, 1}, {6, -2});
  checkBinary<int64_t>(
      "pow", "i64", {3, -2, -1, 2, 0, 10}, {4, 3, -3, -1, 0, 19},
      {81, -8, -1, 0, 1, static_cast<int64_t>(10000000000000000000ull)});
}

TEST_F(ElementwiseRows, FloatEdges) {
  float nan = std::numeric_limits<float>::quiet_NaN(),
        inf = std::numeric_limits<float>::infinity();
  std::vector<float> x = {1, nan, 3, -0.0f, inf, 5.5f, -5.5f},
                     y = {nan, 2, -4, 0.0f, -inf, -2, 2};
  auto two = [&](const std::string &op, std::vector<float> expected) {
    SCOPED_TRACE(op);
    expectNear(
        runOp(op, "", {"tensor<7xf32>", "tensor<7xf32>"}, "tensor<7xf32>",
              {tensor<float>("f32", {7}, x), tensor<float>("f32", {7}, y)}),
        {7}, expected);
  };
  two("max", {nan, nan, 3, 0, inf, 5.5f, 2});
  two("min", {nan, nan, -4, 0, -inf, -2, -5.5f});
  two("mod", {nan, nan, -1, nan, nan, -0.5f, 0.5f});
  two("rem", {nan, nan, 3, nan, nan, 1.5f, -1.5f});
  auto predicate = [&](const std::string &op, const std::string &attributes,
                       std::vector<uint8_t> expected) {
    Tensor result = runOp(op, attributes, {"tensor<7xf32>"}, "tensor<7xi1>",
                          {tensor<float>("f32", {7}, y)});
    expectEqual<uint8_t>(result, {7}, expected);
  };
  predicate("isnan", "", {1, 0, 0, 0, 0, 0, 0});
  predicate("isinf", "", {0, 0, 0, 0, 1, 0, 0});
  predicate("isinf", "detect_negative = false", {0, 0, 0, 0, 0, 0, 0});
}

TEST_F(ElementwiseRows, HalfRoundsEveryOperation) {
  // 2049 is not an f16: 2048 + 1 rounds to even, and 65504 + 32 overflows.
  std::vector<uint16_t> x = {0x6800, 0x7bff, 0x0001},
                        y = {0x3c00, 0x5000, 0x0001};
  Tensor sum =
      runOp("add", "", {"tensor<3xf16>", "tensor<3xf16>"}, "tensor<3xf16>",
            {tensor<uint16_t>("f16", {3}, x), tensor<uint16_t>("f16", {3}, y)});
  expectEqual<uint16_t>(sum, {3}, {0x6800, 0x7c00, 0x0002});
  // bf16: 256 + 1 rounds to even.
  std::vector<uint16_t> p = {0x4380, 0x3f80}, q = {0x3f80, 0x3f80};
  Tensor other = runOp(
      "add", "", {"tensor<2xbf16>", "tensor<2xbf16>"}, "tensor<2xbf16>",
      {tensor<uint16_t>("bf16", {2}, p), tensor<uint16_t>("bf16", {2}, q)});
  expectEqual<uint16_t>(other, {2}, {0x4380, 0x4000});
}

TEST_F(ElementwiseRows, Convert) {
  float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> x = {1.9f, -1.9f, 300, -300, nan, 1e20f};
  Tensor in = tensor<float>("f32", {6}, x);
  auto convert = [&](const std::string &to, bool saturate) {
    return runOp("convert", "to = " + to + (saturate ? ", saturate" : ""),
                 {"tensor<6xf32>"}, "tensor<6x" + to + ">", {in});
  };
  expectEqual<int8_t>(convert("i8", true), {6}, {1, -1, 127, -128, 0, 127});
  expectEqual<int8_t>(convert("i8", false), {6}, {1, -1, 44, -44, 0, 0});
  expectEqual<uint8_t>(convert("ui8", true), {6}, {1, 0, 255, 0, 0, 255});
  expectEqual<int64_t>(
      convert("i64", true), {6},
      {1, -1, 300, -300, 0, std::numeric_limits<int64_t>::max()});
  expectEqual<uint64_t>(convert("ui64", true), {6}, {1, 0, 300, 0, 0, ~0ull});
  expectEqual<uint8_t>(convert("i1", false), {6}, {1, 1, 1, 1, 1, 1});
  // One rounding from f64: 1 + 2^-11 + 2^-40 is above the middle of two f16.
  std::vector<double> d = {1 + std::ldexp(1.0, -11) + std::ldexp(1.0, -40),
                           1 + std::ldexp(1.0, -11)};
  Tensor half = runOp("convert", "to = f16", {"tensor<2xf64>"}, "tensor<2xf16>",
                      {tensor<double>("f64", {2}, d)});
  expectEqual<uint16_t>(half, {2}, {0x3c01, 0x3c00});
}

TEST_F(ElementwiseRows, HalfConversionIsExactOnAllValues) {
  std::vector<uint16_t> all(65536);
  for (unsigned i = 0; i < all.size(); ++i)
    all[i] = i;
  Tensor in = tensor<uint16_t>("f16", {65536}, all);
  Tensor wide = runOp("convert", "to = f32", {"tensor<65536xf16>"},
                      "tensor<65536xf32>", {in});
  Tensor back = runOp("convert", "to = f16", {"tensor<65536xf32>"},
                      "tensor<65536xf16>", {wide});
  for (unsigned i = 0; i < all.size(); ++i) {
    _Float16 half;
    std::memcpy(&half, &all[i], 2);
    float expected = static_cast<float>(half),
          actual = wide.getData<float>()[i];
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(actual)) << i;
      continue;
    }
    ASSERT_EQ(actual, expected) << i;
    ASSERT_EQ(back.getData<uint16_t>()[i], all[i]);
  }
}

TEST_F(ElementwiseRows, BroadcastAndSelect) {
  Tensor c = randomInts<uint8_t>("i1", {4, 1}, 0, 1), x = random({3, 1, 5}),
         y = random({5});
  Tensor result = runOp(
      "select", "", {"tensor<4x1xi1>", "tensor<3x1x5xf32>", "tensor<5xf32>"},
      "tensor<3x4x5xf32>", {c, x, y});
  std::vector<float> expected;
  forEachPoint({3, 4, 5}, [&](auto p) {
    expected.push_back(c.getData<uint8_t>()[p[1]]
                           ? x.getData<float>()[p[0] * 5 + p[2]]
                           : y.getData<float>()[p[2]]);
  });
  expectNear(result, {3, 4, 5}, expected, 0);
}

TEST_F(ElementwiseRows, SymbolicSizes) {
  std::string batch = "tensor<?x?xf32, #graph.dims<s0, s1>>";
  for (auto [n, m] :
       {std::pair<int64_t, int64_t>{1, 1}, {7, 3}, {0, 4}, {33, 40}}) {
    Tensor x = random({n, m}), y = random({m});
    Tensor result = runOp("add", "", {batch, "tensor<?xf32, #graph.dims<s1>>"},
                          batch, {x, y}, 2);
    std::vector<float> expected;
    forEachPoint({n, m}, [&](auto p) {
      expected.push_back(x.getData<float>()[p[0] * x.getShape()[1] + p[1]] +
                         y.getData<float>()[p[1]]);
    });
    expectNear(result, {n, m}, expected, 0);
  }
}

TEST_F(ElementwiseRows, Quantize) {
  std::vector<float> x = {-1.0f, 0.24f, 0.25f, 0.75f, 100, -100},
                     scale = {0.5f};
  std::vector<uint8_t> zero = {128};
  Tensor q =
      runOp("quantize", "", {"tensor<6xf32>", "tensor<1xf32>", "tensor<1xui8>"},
            "tensor<6xui8>",
            {tensor<float>("f32", {6}, x), tensor<float>("f32", {1}, scale),
             tensor<uint8_t>("ui8", {1}, zero)});
  expectEqual<uint8_t>(q, {6}, {126, 128, 128, 130, 255, 0});
  Tensor back = runOp(
      "dequantize", "", {"tensor<6xui8>", "tensor<1xf32>", "tensor<1xui8>"},
      "tensor<6xf32>",
      {q, tensor<float>("f32", {1}, scale), tensor<uint8_t>("ui8", {1}, zero)});
  expectNear(back, {6}, {-1, 0, 0, 1, 63.5f, -64}, 0);
}
