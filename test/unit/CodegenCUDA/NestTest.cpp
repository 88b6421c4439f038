// Kernels of every layout over blocks and threads, against plain C++.
#include "CudaTestUtils.h"

#include <cmath>
#include <numeric>

using namespace dlc;
using namespace dlc::test;

static void expectNear(const std::vector<float> &actual,
                       const std::vector<double> &expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i)
    ASSERT_TRUE(std::fabs(actual[i] - expected[i]) <= tolerance)
        << "element " << i << ": " << actual[i] << " is not " << expected[i];
}

TEST(Map, BroadcastAddAndRelu) {
  CompiledKernel kernel(R"(
graph.kernel @k(%x: tensor<37x50xf32>, %b: tensor<50xf32>) -> tensor<37x50xf32> {
  %s = graph.stage domain<37, 50> : tensor<37x50xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<37x50xf32> -> f32
    %c = graph.load %b[affine_map<(d0, d1) -> (d1)>](%i, %j) : tensor<50xf32> -> f32
    %a = graph.apply add(%v, %c) : (f32, f32) -> f32
    %z = graph.literal 0.0 : f32 : f32
    %m = graph.apply max(%a, %z) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  graph.return %s : tensor<37x50xf32>
})");
  ASSERT_EQ(kernel.error, "");
  EXPECT_EQ(kernel.nest, "map");
  auto x = randomFloats(37 * 50, 1), b = randomFloats(50, 2);
  std::vector<float> y(37 * 50, -9);
  ASSERT_EQ(kernel.run({in(x, "x"), in(b, "b"), out(y, "y")}), "");
  std::vector<double> expected;
  for (int i = 0; i < 37 * 50; ++i)
    expected.push_back(std::fmax(x[i] + b[i % 50], 0.0f));
  expectNear(y, expected, 0);
}

// A transpose of symbolic size with a guard: zeros where the column is 0.
// Accesses of 16 bytes, where rows are multiples of that and elements many.
TEST(Map, NeighboursTogether) {
  auto text = [](const std::string &rows, const std::string &columns,
                 const std::string &type) {
    std::string tensor = "tensor<" + rows + "x" + columns + "x" + type + ">";
    return "graph.kernel @k(%a: " + tensor + ", %b: " + tensor + ") -> " +
           tensor + " {\n  %s = graph.stage domain<" + rows + ", " + columns +
           "> : " + tensor +
           " {\n  ^bb0(%i: index, %j: index):\n"
           "    %x = graph.load %a[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) "
           ": " +
           tensor + " -> " + type +
           "\n    %y = graph.load %b[affine_map<(d0, d1) -> (d0, d1)>](%i, "
           "%j) : " +
           tensor + " -> " + type + "\n    %z = graph.apply add(%x, %y) : (" +
           type + ", " + type + ") -> " + type +
           "\n    graph.yield %z : " + type +
           "\n  }\n  graph.return %s : " + tensor + "\n}";
  };
  CompiledKernel wide(text("432", "256", "f32"));
  ASSERT_EQ(wide.error, "");
  EXPECT_NE(wide.ptx.find("ld.global.v4"), std::string::npos) << wide.ptx;
  EXPECT_NE(wide.ptx.find("st.global.v4"), std::string::npos);
  auto a = randomFloats(432 * 256, 1), b = randomFloats(432 * 256, 2);
  std::vector<float> y(432 * 256, -9);
  ASSERT_EQ(wide.run({in(a, "a"), in(b, "b"), out(y, "y")}), "");
  for (size_t i = 0; i < y.size(); ++i)
    ASSERT_EQ(y[i], a[i] + b[i]) << i;
  // Odd rows, and too few elements.
  for (auto [rows, columns] :
       {std::pair("480", "255"), std::pair("10", "256")}) {
    CompiledKernel narrow(text(rows, columns, "f32"));
    ASSERT_EQ(narrow.error, "");
    EXPECT_EQ(narrow.ptx.find("ld.global.v4"), std::string::npos);
  }
}

TEST(Map, DynamicSizesAndGuard) {
  CompiledKernel kernel(R"(
graph.kernel @k(%x: tensor<?x?xf32, #graph.dims<s0, s1>>) -> tensor<?x?xf32, #graph.dims<s1, s0>>
    attributes {symbols = ["m", "n"]} {
  %s = graph.stage domain<s1, s0> : tensor<?x?xf32, #graph.dims<s1, s0>> {
  ^bb0(%i: index, %j: index):
    %z = graph.literal 0.0 : f32 : f32
    %v = graph.load %x[affine_map<(d0, d1) -> (d1, d0 - 1)>](%i, %j)
      guard affine_set<(d0, d1) : (d0 - 1 >= 0)> else %z : f32
      : tensor<?x?xf32, #graph.dims<s0, s1>> -> f32
    graph.yield %v : f32
  }
  graph.return %s : tensor<?x?xf32, #graph.dims<s1, s0>>
})");
  ASSERT_EQ(kernel.error, "");
  for (auto [m, n] : {std::pair<int, int>{7, 5}, {1, 1}, {300, 3}, {0, 4}}) {
    auto x = randomFloats(m * n, 3);
    std::vector<float> y(m * n, -9);
    ASSERT_EQ(kernel.run({in(x, "x"), out(y, "y")}, {m, n}), "");
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < m; ++j)
        ASSERT_EQ(y[i * m + j], i ? x[j * n + i - 1] : 0.0f) << i << " " << j;
  }
}

// The control: a buffer one element too short is seen.
TEST(Map, ShortBufferIsReported) {
  CompiledKernel kernel(R"(
graph.kernel @k(%x: tensor<8xf32>) -> tensor<8xf32> {
  %s = graph.stage domain<8> : tensor<8xf32> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<8xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %s : tensor<8xf32>
})");
  ASSERT_EQ(kernel.error, "");
  std::vector<float> x(8), y(7);
  EXPECT_NE(kernel.run({in(x, "x"), out(y, "y")}).find("'y', which has 28"),
            std::string::npos);
}

TEST(Map, GatherReportsIndexOutOfRange) {
  CompiledKernel kernel(R"(
graph.kernel @k(%x: tensor<5xf32>, %i: tensor<4xi64>) -> tensor<4xf32> {
  %s = graph.stage domain<4> : tensor<4xf32> {
  ^bb0(%d: index):
    %n = graph.load %i[affine_map<(d0) -> (d0)>](%d) : tensor<4xi64> -> i64
    %k = graph.to_index %n in <5>
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%k) : tensor<5xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %s : tensor<4xf32>
})");
  ASSERT_EQ(kernel.error, "");
  std::vector<float> x = {10, 11, 12, 13, 14}, y(4);
  std::vector<int64_t> index = {4, 0, -1, -5};
  int32_t status = -1;
  ASSERT_EQ(kernel.run({in(x, "x"), in(index, "i"), out(y, "y")}, {}, &status),
            "");
  EXPECT_EQ(status, 0);
  EXPECT_EQ(y, (std::vector<float>{14, 10, 14, 10}));
  for (int64_t bad : {5, -6, 1 << 30}) {
    index[2] = bad;
    ASSERT_EQ(
        kernel.run({in(x, "x"), in(index, "i"), out(y, "y")}, {}, &status), "");
    EXPECT_NE(status, 0) << bad;
  }
}

//===----------------------------------------------------------------------===//
// Folds and rows
//===----------------------------------------------------------------------===//

static const char *const kMatMul = R"(
graph.kernel @k(%a: tensor<?x784xf32, #graph.dims<s0, 784>>, %b: tensor<784x10xf32>)
    -> tensor<?x10xf32, #graph.dims<s0, 10>> attributes {symbols = ["batch"]} {
  %s = graph.stage domain<s0, 10> reduce<784> fold add : tensor<?x10xf32, #graph.dims<s0, 10>> {
  ^bb0(%i: index, %j: index, %k: index):
    %x = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<?x784xf32, #graph.dims<s0, 784>> -> f32
    %y = graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, %k) : tensor<784x10xf32> -> f32
    %m = graph.apply mul(%x, %y) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  graph.return %s : tensor<?x10xf32, #graph.dims<s0, 10>>
})";

// Few elements with long folds: a block per 32 of them.
TEST(Fold, ProductOfOneRow) {
  CompiledKernel kernel(R"(
graph.kernel @k(%a: tensor<3x200xf32>, %b: tensor<200x70xf32>, %c: tensor<70xf32>) -> tensor<3x70xf32> {
  %s = graph.stage domain<3, 70> reduce<200> fold add : tensor<3x70xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %x = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<3x200xf32> -> f32
    %y = graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, %k) : tensor<200x70xf32> -> f32
    %p = graph.apply mul(%x, %y) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  %t = graph.stage domain<3, 70> : tensor<3x70xf32> {
  ^bb0(%i: index, %j: index):
    %x = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<3x70xf32> -> f32
    %y = graph.load %c[affine_map<(d0, d1) -> (d1)>](%i, %j) : tensor<70xf32> -> f32
    %p = graph.apply add(%x, %y) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  graph.return %t : tensor<3x70xf32>
})");
  ASSERT_EQ(kernel.error, "");
  EXPECT_EQ(kernel.numLaunches, 1u);
  EXPECT_NE(kernel.ptx.find("bar.sync"), std::string::npos);
  auto a = randomFloats(3 * 200, 1), b = randomFloats(200 * 70, 2),
       c = randomFloats(70, 3);
  for (bool hasBarrier : {true, false}) {
    std::vector<float> y(3 * 70, -9);
    if (!hasBarrier)
      ASSERT_TRUE(kernel.dropBarrier(0));
    std::string report =
        kernel.run({in(a, "a"), in(b, "b"), in(c, "c"), out(y, "y")});
    if (!hasBarrier) {
      EXPECT_NE(report.find("race at byte"), std::string::npos);
      break;
    }
    ASSERT_EQ(report, "");
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 70; ++j) {
        double sum = c[j];
        for (int k = 0; k < 200; ++k)
          sum += double(a[i * 200 + k]) * b[k * 70 + j];
        ASSERT_NEAR(y[i * 70 + j], sum, 1e-5) << i << " " << j;
      }
  }
}

TEST(Fold, MatMul) {
  CompiledKernel kernel(kMatMul);
  ASSERT_EQ(kernel.error, "");
  for (int m : {1, 33}) {
    auto a = randomFloats(m * 784, 4), b = randomFloats(784 * 10, 5);
    std::vector<float> c(m * 10);
    std::vector<double> expected(m * 10);
    for (int i = 0; i < m; ++i)
      for (int j = 0; j < 10; ++j)
        for (int k = 0; k < 784; ++k)
          expected[i * 10 + j] += double(a[i * 784 + k]) * b[k * 10 + j];
    ASSERT_EQ(kernel.run({in(a, "a"), in(b, "b"), out(c, "c")}, {m}), "");
    expectNear(c, expected, 1e-4);
  }
}

static const char *const kSoftmax = R"(
graph.kernel @k(%x: tensor<?x?xf32, #graph.dims<s0, s1>>) -> tensor<?x?xf32, #graph.dims<s0, s1>>
    attributes {symbols = ["m", "n"]} {
  %m = graph.stage domain<s0, 1> reduce<s1> fold max : tensor<?x1xf32, #graph.dims<s0, 1>> {
  ^bb0(%i: index, %u: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %u, %k) : tensor<?x?xf32, #graph.dims<s0, s1>> -> f32
    graph.yield %v : f32
  }
  %e = graph.stage domain<s0, s1> : tensor<?x?xf32, #graph.dims<s0, s1>> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<?x?xf32, #graph.dims<s0, s1>> -> f32
    %w = graph.load %m[affine_map<(d0, d1) -> (d0, 0)>](%i, %j) : tensor<?x1xf32, #graph.dims<s0, 1>> -> f32
    %d = graph.apply sub(%v, %w) : (f32, f32) -> f32
    %p = graph.apply exp(%d) : (f32) -> f32
    graph.yield %p : f32
  }
  %s = graph.stage domain<s0, 1> reduce<s1> fold add : tensor<?x1xf32, #graph.dims<s0, 1>> {
  ^bb0(%i: index, %u: index, %k: index):
    %v = graph.load %e[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %u, %k) : tensor<?x?xf32, #graph.dims<s0, s1>> -> f32
    graph.yield %v : f32
  }
  %y = graph.stage domain<s0, s1> : tensor<?x?xf32, #graph.dims<s0, s1>> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %e[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<?x?xf32, #graph.dims<s0, s1>> -> f32
    %w = graph.load %s[affine_map<(d0, d1) -> (d0, 0)>](%i, %j) : tensor<?x1xf32, #graph.dims<s0, 1>> -> f32
    %q = graph.apply div(%v, %w) : (f32, f32) -> f32
    graph.yield %q : f32
  }
  graph.return %y : tensor<?x?xf32, #graph.dims<s0, s1>>
})";

/// Softmax with fixed sizes, so that rows stay in registers.
static std::string staticSoftmax(int m, int n) {
  std::string text = kSoftmax;
  auto replace = [&](const std::string &from, const std::string &to) {
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos;
         at += to.size())
      text.replace(at, from.size(), to);
  };
  std::string ms = std::to_string(m), ns = std::to_string(n);
  replace("tensor<?x?xf32, #graph.dims<s0, s1>>",
          "tensor<" + ms + "x" + ns + "xf32>");
  replace("tensor<?x1xf32, #graph.dims<s0, 1>>", "tensor<" + ms + "x1xf32>");
  replace("attributes {symbols = [\"m\", \"n\"]}", "");
  replace("<s0, 1>", "<" + ms + ", 1>");
  replace("<s0, s1>", "<" + ms + ", " + ns + ">");
  replace("<s1>", "<" + ns + ">");
  return text;
}

static void checkSoftmax(CompiledKernel &kernel, int m, int n,
                         std::vector<int64_t> symbols, uint64_t seed) {
  auto x = randomFloats(m * n, 6);
  for (float &v : x)
    v *= 20;
  std::vector<float> y(m * n);
  std::vector<double> expected;
  for (int i = 0; i < m; ++i) {
    double sum = 0, top = -1e30;
    for (int j = 0; j < n; ++j)
      top = std::fmax(top, x[i * n + j]);
    for (int j = 0; j < n; ++j)
      sum += std::exp(x[i * n + j] - top);
    for (int j = 0; j < n; ++j)
      expected.push_back(std::exp(x[i * n + j] - top) / sum);
  }
  ASSERT_EQ(kernel.run({in(x, "x"), out(y, "y")}, symbols, nullptr, seed), "");
  expectNear(y, expected, 1e-6);
}

TEST(Row, SoftmaxOfSymbolicSize) {
  CompiledKernel kernel(kSoftmax);
  ASSERT_EQ(kernel.error, "");
  EXPECT_EQ(kernel.nest, "row");
  EXPECT_EQ(kernel.numLaunches, 1u);
  for (uint64_t seed : {0, 7})
    for (auto [m, n] : {std::pair<int, int>{3, 1}, {4, 31}, {2, 1000}})
      checkSoftmax(kernel, m, n, {m, n}, seed);
}

TEST(Row, SoftmaxOfFixedSize) {
  // Some threads a row and several rows a warp or block, whose last ones are
  // missing; a warp a row; a block a row; ends within and at a piece; passes
  // over rows that fit no registers.
  for (auto [m, n] : {std::pair<int, int>{3, 10},
                      {37, 64},
                      {2, 200},
                      {5, 513},
                      {9, 1000},
                      {2, 4096},
                      {2, 4097},
                      {1, 9000},
                      {32, 32776}}) {
    CompiledKernel kernel(staticSoftmax(m, n));
    ASSERT_EQ(kernel.error, "") << n;
    EXPECT_EQ(kernel.nest, "row");
    EXPECT_EQ(kernel.numLaunches, 1u);
    checkSoftmax(kernel, m, n, {}, 3);
    bool isWide = n % 4 == 0;
    EXPECT_EQ(kernel.ptx.find("ld.global.v4") != std::string::npos, isWide)
        << n;
    EXPECT_EQ(kernel.ptx.find("st.global.v4") != std::string::npos, isWide);
  }
}

// The mean of a picture: neighbours are found across its lines, also where they
// are odd.
TEST(Row, AxesThatAreWalkedAsOne) {
  CompiledKernel kernel(R"(
graph.kernel @k(%x: tensor<300x6x14xf32>) -> tensor<300xf32> {
  %s = graph.stage domain<300> reduce<6, 14> fold add : tensor<300xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d1, d2)>](%i, %j, %k) : tensor<300x6x14xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %s : tensor<300xf32>
})");
  ASSERT_EQ(kernel.error, "");
  EXPECT_NE(kernel.ptx.find("ld.global.v4"), std::string::npos) << kernel.ptx;
  EXPECT_EQ(kernel.ptx.find("bar.sync"), std::string::npos);
  auto x = randomFloats(300 * 84, 6);
  std::vector<float> y(300);
  ASSERT_EQ(kernel.run({in(x, "x"), out(y, "y")}), "");
  std::vector<double> expected;
  for (int i = 0; i < 300; ++i)
    expected.push_back(std::accumulate(&x[i * 84], &x[i * 84] + 84, 0.0));
  expectNear(y, expected, 1e-5);
}

// Each operand is read once, whichever stages read it, and where a warp has the
// row nothing waits.
TEST(Row, RegistersHoldARow) {
  auto count = [](const std::string &text, const std::string &what) {
    size_t found = 0;
    for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; ++at)
      ++found;
    return found;
  };
  CompiledKernel block(staticSoftmax(4000, 4096)),
      warp(staticSoftmax(4000, 1024));
  ASSERT_EQ(block.error + warp.error, "");
  EXPECT_EQ(count(block.ptx, "ld.global"), 4u);
  EXPECT_EQ(count(block.ptx, "bar.sync"), 2u);
  EXPECT_EQ(count(warp.ptx, "ld.global"), 8u);
  EXPECT_EQ(count(warp.ptx, "bar.sync"), 0u);
  EXPECT_NE(warp.ptx.find(".maxntid 128"), std::string::npos);
}

// Bit for bit the order of the declaration.
TEST(Row, StrictFoldsInOrder) {
  std::string text = R"(
graph.kernel @k(%x: tensor<3x500xf32>) -> tensor<3xf32> {
  %s = graph.stage domain<3> reduce<500> fold add init 0.5 : f32 : tensor<3xf32> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : tensor<3x500xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %s : tensor<3xf32>
})";
  auto x = randomFloats(1500, 8);
  std::vector<float> y(3), expected(3, 0.5f);
  for (int i = 0; i < 1500; ++i)
    expected[i / 500] += x[i];
  CompiledKernel strict(text, "cuda", /*strict=*/true);
  ASSERT_EQ(strict.error, "");
  ASSERT_EQ(strict.run({in(x, "x"), out(y, "y")}), "");
  EXPECT_EQ(y, expected);
  // Without it a block shares the work; the start value counts once.
  CompiledKernel shared(text);
  ASSERT_EQ(shared.error, "");
  EXPECT_EQ(shared.nest, "row");
  ASSERT_EQ(shared.run({in(x, "x"), out(y, "y")}), "");
  for (int i = 0; i < 3; ++i)
    EXPECT_NEAR(y[i], expected[i], 1e-4);
}

TEST(Fold, ArgMaxTiesAndNaN) {
  auto text = [](const std::string &kind) {
    return R"(
graph.kernel @k(%x: tensor<3x5xf32>) -> tensor<3xi64> {
  %s = graph.stage domain<3> reduce<5> fold )" +
           kind + R"( : tensor<3xi64> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : tensor<3x5xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %s : tensor<3xi64>
})";
  };
  std::vector<float> x = {1, 5, 2, 5, 0, 4, NAN, 9, NAN, 1, -1, -1, -3, -3, -2};
  auto run = [&](const std::string &kind) {
    CompiledKernel kernel(text(kind));
    EXPECT_EQ(kernel.error, "");
    std::vector<int64_t> y(3);
    EXPECT_EQ(kernel.run({in(x, "x"), out(y, "y")}), "");
    return y;
  };
  EXPECT_EQ(run("argmax"), (std::vector<int64_t>{1, 1, 0}));
  EXPECT_EQ(run("argmax_last"), (std::vector<int64_t>{3, 3, 1}));
  EXPECT_EQ(run("argmin"), (std::vector<int64_t>{4, 1, 2}));
  EXPECT_EQ(run("argmin_last"), (std::vector<int64_t>{4, 3, 3}));
}

// Stages without a common row become launches of their own; the quotient of the
// sum is computed where the sum is.
TEST(Map, MeanOfEverythingThenDifference) {
  CompiledKernel kernel(R"(
graph.kernel @k(%x: tensor<6x70xf32>) -> (tensor<6x70xf32>, tensor<f32>) {
  %s = graph.stage domain<> reduce<6, 70> fold add : tensor<f32> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : tensor<6x70xf32> -> f32
    graph.yield %v : f32
  }
  %h = graph.stage domain<> : tensor<f32> {
    %v = graph.load %s[affine_map<() -> ()>]() : tensor<f32> -> f32
    %c = graph.literal 420.0 : f32 : f32
    %q = graph.apply div(%v, %c) : (f32, f32) -> f32
    graph.yield %q : f32
  }
  %y = graph.stage domain<6, 70> : tensor<6x70xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<6x70xf32> -> f32
    %m = graph.load %h[affine_map<(d0, d1) -> ()>](%i, %j) : tensor<f32> -> f32
    %d = graph.apply sub(%v, %m) : (f32, f32) -> f32
    graph.yield %d : f32
  }
  graph.return %y, %s : tensor<6x70xf32>, tensor<f32>
})");
  ASSERT_EQ(kernel.error, "");
  EXPECT_EQ(kernel.numLaunches, 2u);
  // A dot would be no part of a name in PTX.
  EXPECT_NE(kernel.ptx.find(".entry k__0("), std::string::npos);
  auto x = randomFloats(420, 9);
  std::vector<float> y(420), sum(1);
  ASSERT_EQ(kernel.run({in(x, "x"), out(y, "y"), out(sum, "sum")}), "");
  double total = 0;
  for (float v : x)
    total += v;
  EXPECT_NEAR(sum[0], total, 1e-4);
  std::vector<double> expected;
  for (float v : x)
    expected.push_back(v - total / 420);
  expectNear(y, expected, 1e-6);
}

// The control of every run above, which looks for races: without its barrier a
// kernel is reported.
static std::vector<bool> barriersNeeded(const std::string &text, int elements) {
  std::vector<bool> needed;
  for (unsigned i = 0;; ++i) {
    CompiledKernel kernel(text);
    EXPECT_EQ(kernel.error, "");
    if (!kernel.dropBarrier(i))
      return needed;
    auto x = randomFloats(elements, 6);
    std::vector<float> y(elements);
    std::string report = kernel.run({in(x, "x"), out(y, "y")});
    needed.push_back(report.find("race at byte") != std::string::npos);
  }
}

TEST(Row, BarriersAreNeeded) {
  EXPECT_EQ(barriersNeeded(staticSoftmax(2, 4096), 2 * 4096),
            (std::vector<bool>{true, true}));
  // Here a thread reads what another one wrote.
  EXPECT_EQ(barriersNeeded(R"(
graph.kernel @k(%x: tensor<2x100xf32>) -> tensor<2x100xf32> {
  %e = graph.stage domain<2, 100> : tensor<2x100xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<2x100xf32> -> f32
    %n = graph.apply neg(%v) : (f32) -> f32
    graph.yield %n : f32
  }
  %y = graph.stage domain<2, 100> : tensor<2x100xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %e[affine_map<(d0, d1) -> (d0, 99 - d1)>](%i, %j) : tensor<2x100xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %y : tensor<2x100xf32>
})",
                           200),
            (std::vector<bool>{true}));
}
