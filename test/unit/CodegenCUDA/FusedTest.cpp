// Kernels of several stages as fusion makes them, on the emulator with all its
// checks, against plain C++.
#include "CudaTestUtils.h"

#include <cmath>

using namespace dlc;
using namespace dlc::test;

static void expectNear(const std::vector<float> &actual,
                       const std::vector<double> &expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i)
    ASSERT_TRUE(std::fabs(actual[i] - expected[i]) <= tolerance)
        << "element " << i << ": " << actual[i] << " is not " << expected[i];
}

// A product, its bias and its relu are one launch, and the sum is kept too.
TEST(Fused, ContractionAndEpilogue) {
  CompiledKernel kernel(R"(
graph.kernel @k(%a: tensor<70x40xf32>, %b: tensor<40x33xf32>, %c: tensor<33xf32>) -> (tensor<70x33xf32>, tensor<70x33xf32>) {
  %s = graph.stage domain<70, 33> reduce<40> fold add : tensor<70x33xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %x = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<70x40xf32> -> f32
    %y = graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, %k) : tensor<40x33xf32> -> f32
    %p = graph.apply mul(%x, %y) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  %t = graph.stage domain<70, 33> : tensor<70x33xf32> {
  ^bb0(%i: index, %j: index):
    %x = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<70x33xf32> -> f32
    %y = graph.load %c[affine_map<(d0, d1) -> (d1)>](%i, %j) : tensor<33xf32> -> f32
    %p = graph.apply add(%x, %y) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  %u = graph.stage domain<70, 33> : tensor<70x33xf32> {
  ^bb0(%i: index, %j: index):
    %z = graph.literal 0.0 : f32 : f32
    %x = graph.load %t[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<70x33xf32> -> f32
    %p = graph.apply max(%x, %z) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  graph.return %s, %u : tensor<70x33xf32>, tensor<70x33xf32>
})");
  ASSERT_EQ(kernel.error, "");
  EXPECT_EQ(kernel.nest, "contraction");
  EXPECT_EQ(kernel.numLaunches, 1u);
  auto a = randomFloats(70 * 40, 1), b = randomFloats(40 * 33, 2),
       c = randomFloats(33, 3);
  std::vector<float> s(70 * 33, -9), u(70 * 33, -9);
  ASSERT_EQ(kernel.run(
                {in(a, "a"), in(b, "b"), in(c, "c"), out(s, "s"), out(u, "u")}),
            "");
  std::vector<double> sums, results;
  for (int i = 0; i < 70; ++i)
    for (int j = 0; j < 33; ++j) {
      double sum = 0;
      for (int k = 0; k < 40; ++k)
        sum += double(a[i * 40 + k]) * b[k * 33 + j];
      sums.push_back(sum);
      results.push_back(std::fmax(sum + c[j], 0.0));
    }
  expectNear(s, sums, 1e-5);
  expectNear(u, results, 1e-5);
}

// A chain of maps is one launch without buffers between.
TEST(Fused, MapChain) {
  CompiledKernel kernel(R"(
graph.kernel @k(%x: tensor<?x50xf32, #graph.dims<s0, 50>>) -> (tensor<?x50xf32, #graph.dims<s0, 50>>, tensor<?x50xf32, #graph.dims<s0, 50>>) attributes {symbols = ["m"]} {
  %a = graph.stage domain<s0, 50> : tensor<?x50xf32, #graph.dims<s0, 50>> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<?x50xf32, #graph.dims<s0, 50>> -> f32
    %r = graph.apply mul(%v, %v) : (f32, f32) -> f32
    graph.yield %r : f32
  }
  %b = graph.stage domain<s0, 50> : tensor<?x50xf32, #graph.dims<s0, 50>> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %a[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<?x50xf32, #graph.dims<s0, 50>> -> f32
    %r = graph.apply neg(%v) : (f32) -> f32
    graph.yield %r : f32
  }
  %c = graph.stage domain<s0, 50> : tensor<?x50xf32, #graph.dims<s0, 50>> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %a[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<?x50xf32, #graph.dims<s0, 50>> -> f32
    %w = graph.load %b[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<?x50xf32, #graph.dims<s0, 50>> -> f32
    %r = graph.apply sub(%v, %w) : (f32, f32) -> f32
    graph.yield %r : f32
  }
  graph.return %b, %c : tensor<?x50xf32, #graph.dims<s0, 50>>, tensor<?x50xf32, #graph.dims<s0, 50>>
})");
  ASSERT_EQ(kernel.error, "");
  EXPECT_EQ(kernel.nest, "map");
  EXPECT_EQ(kernel.numLaunches, 1u);
  for (int m : {1, 37}) {
    auto x = randomFloats(m * 50, 5);
    std::vector<float> b(m * 50, -9), c(m * 50, -9);
    ASSERT_EQ(kernel.run({in(x, "x"), out(b, "b"), out(c, "c")}, {m}), "");
    for (int i = 0; i < m * 50; ++i) {
      ASSERT_EQ(b[i], -(x[i] * x[i]));
      ASSERT_EQ(c[i], x[i] * x[i] - b[i]);
    }
  }
}

// Work under a set: relu(x) + 1 inside, 0 around it.
TEST(Fused, Inside) {
  CompiledKernel kernel(R"(
graph.kernel @k(%x: tensor<5x30xf32>) -> tensor<5x40xf32> {
  %s = graph.stage domain<5, 40> : tensor<5x40xf32> {
  ^bb0(%i: index, %j: index):
    %z = graph.literal 0.0 : f32 : f32
    %one = graph.literal 1.0 : f32 : f32
    %in = graph.inside[affine_set<(d0, d1) : (d1 - 4 >= 0, 33 - d1 >= 0)>](%i, %j)
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1 - 4)>](%i, %j) guard affine_set<(d0, d1) : (d1 - 4 >= 0, 33 - d1 >= 0)> else %z : f32 : tensor<5x30xf32> -> f32
    %m = graph.apply max(%v, %z) : (f32, f32) -> f32
    %a = graph.apply add(%m, %one) : (f32, f32) -> f32
    %r = graph.apply select(%in, %a, %z) : (i1, f32, f32) -> f32
    graph.yield %r : f32
  }
  graph.return %s : tensor<5x40xf32>
})");
  ASSERT_EQ(kernel.error, "");
  auto x = randomFloats(5 * 30, 7);
  std::vector<float> y(5 * 40, -9);
  ASSERT_EQ(kernel.run({in(x, "x"), out(y, "y")}), "");
  for (int i = 0; i < 5; ++i)
    for (int j = 0; j < 40; ++j) {
      bool isInside = j >= 4 && j < 34;
      ASSERT_EQ(y[i * 40 + j],
                isInside ? std::fmax(x[i * 30 + j - 4], 0.0f) + 1.0f : 0.0f)
          << i << " " << j;
    }
}

// A row sum and what is made of it: a block an element, one launch; then the
// rows, of which each block does one.
TEST(Fused, ReduceAndEpilogue) {
  CompiledKernel kernel(R"(
graph.kernel @k(%x: tensor<9x300xf32>) -> tensor<9xf32> {
  %s = graph.stage domain<9> reduce<300> fold add : tensor<9xf32> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : tensor<9x300xf32> -> f32
    graph.yield %v : f32
  }
  %y = graph.stage domain<9> : tensor<9xf32> {
  ^bb0(%i: index):
    %v = graph.load %s[affine_map<(d0) -> (d0)>](%i) : tensor<9xf32> -> f32
    %n = graph.literal 300.0 : f32 : f32
    %r = graph.apply div(%v, %n) : (f32, f32) -> f32
    graph.yield %r : f32
  }
  graph.return %y : tensor<9xf32>
})");
  ASSERT_EQ(kernel.error, "");
  EXPECT_EQ(kernel.numLaunches, 1u);
  auto x = randomFloats(9 * 300, 8);
  std::vector<float> y(9, -9);
  ASSERT_EQ(kernel.run({in(x, "x"), out(y, "y")}), "");
  std::vector<double> expected;
  for (int i = 0; i < 9; ++i) {
    double sum = 0;
    for (int k = 0; k < 300; ++k)
      sum += x[i * 300 + k];
    expected.push_back(sum / 300);
  }
  expectNear(y, expected, 1e-5);
}
