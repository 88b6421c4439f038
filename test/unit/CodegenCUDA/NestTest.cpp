// Kernels of every layout over blocks and threads, against plain C++.
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
