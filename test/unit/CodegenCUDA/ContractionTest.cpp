// Tiled products: sizes around the tile, batches, a padded convolution, and the
// assembler's word on registers.
#include "CudaTestUtils.h"

#include "dlc/Target/CUDA/Ptxas.h"

#include <cmath>

using namespace dlc;
using namespace dlc::test;

static const char *const kBatchedMatMul = R"(
graph.kernel @k(%a: tensor<?x?x?xf32, #graph.dims<s0, s1, s3>>, %b: tensor<?x?x?xf32, #graph.dims<s0, s3, s2>>)
    -> tensor<?x?x?xf32, #graph.dims<s0, s1, s2>> attributes {symbols = ["b", "m", "n", "k"]} {
  %s = graph.stage domain<s0, s1, s2> reduce<s3> fold add : tensor<?x?x?xf32, #graph.dims<s0, s1, s2>> {
  ^bb0(%h: index, %i: index, %j: index, %k: index):
    %x = graph.load %a[affine_map<(d0, d1, d2, d3) -> (d0, d1, d3)>](%h, %i, %j, %k) : tensor<?x?x?xf32, #graph.dims<s0, s1, s3>> -> f32
    %y = graph.load %b[affine_map<(d0, d1, d2, d3) -> (d0, d3, d2)>](%h, %i, %j, %k) : tensor<?x?x?xf32, #graph.dims<s0, s3, s2>> -> f32
    %m = graph.apply mul(%x, %y) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  graph.return %s : tensor<?x?x?xf32, #graph.dims<s0, s1, s2>>
})";

TEST(Contraction, BatchedProductsOfEverySize) {
  CompiledKernel kernel(kBatchedMatMul);
  ASSERT_EQ(kernel.error, "");
  EXPECT_EQ(kernel.nest, "contraction");
  struct {
    int64_t b, m, n, k;
  } sizes[] = {{1, 1, 1, 1},    {2, 63, 65, 15}, {1, 64, 64, 16},
               {3, 5, 130, 33}, {1, 100, 7, 0},  {2, 65, 1, 17}};
  for (auto [b, m, n, k] : sizes) {
    auto x = randomFloats(b * m * k, 1), y = randomFloats(b * k * n, 2);
    std::vector<float> z(b * m * n, -7);
    ASSERT_EQ(kernel.run({in(x, "a"), in(y, "b"), out(z, "c")}, {b, m, n, k},
                         nullptr, /*seed=*/b),
              "");
    for (int64_t h = 0; h < b; ++h)
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j) {
          double sum = 0;
          for (int64_t q = 0; q < k; ++q)
            sum += double(x[(h * m + i) * k + q]) * y[(h * k + q) * n + j];
          ASSERT_NEAR(z[(h * m + i) * n + j], sum, 1e-5)
              << h << " " << i << " " << j << " of " << m << "x" << n << "x"
              << k;
        }
  }
}

// A 3x3 convolution of 2 images of 5 channels, padded by one, with stride 2 and
// the bias as a stage of its own, which the launch of the tiles computes: rows
// are channels, columns image positions.
static const char *const kConvolution = R"(
graph.kernel @k(%x: tensor<2x5x9x11xf32>, %w: tensor<20x5x3x3xf32>, %b: tensor<20xf32>) -> tensor<2x20x5x6xf32> {
  %s = graph.stage domain<2, 20, 5, 6> reduce<5, 3, 3> fold add : tensor<2x20x5x6xf32> {
  ^bb0(%n: index, %o: index, %i: index, %j: index, %c: index, %p: index, %q: index):
    %z = graph.literal 0.0 : f32 : f32
    %v = graph.load %x[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d4, d2 * 2 + d5 - 1, d3 * 2 + d6 - 1)>](%n, %o, %i, %j, %c, %p, %q)
      guard affine_set<(d0, d1, d2, d3, d4, d5, d6) : (d2 * 2 + d5 - 1 >= 0, 9 - d2 * 2 - d5 >= 0, d3 * 2 + d6 - 1 >= 0, 11 - d3 * 2 - d6 >= 0)>
      else %z : f32 : tensor<2x5x9x11xf32> -> f32
    %f = graph.load %w[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d1, d4, d5, d6)>](%n, %o, %i, %j, %c, %p, %q) : tensor<20x5x3x3xf32> -> f32
    %m = graph.apply mul(%v, %f) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  %y = graph.stage domain<2, 20, 5, 6> : tensor<2x20x5x6xf32> {
  ^bb0(%n: index, %o: index, %i: index, %j: index):
    %v = graph.load %s[affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>](%n, %o, %i, %j) : tensor<2x20x5x6xf32> -> f32
    %c = graph.load %b[affine_map<(d0, d1, d2, d3) -> (d1)>](%n, %o, %i, %j) : tensor<20xf32> -> f32
    %a = graph.apply add(%v, %c) : (f32, f32) -> f32
    graph.yield %a : f32
  }
  graph.return %y : tensor<2x20x5x6xf32>
})";

TEST(Contraction, PaddedConvolution) {
  CompiledKernel kernel(kConvolution);
  ASSERT_EQ(kernel.error, "");
  EXPECT_EQ(kernel.nest, "contraction");
  EXPECT_EQ(kernel.numLaunches, 1u);
  auto x = randomFloats(2 * 5 * 9 * 11, 3), w = randomFloats(20 * 5 * 9, 4),
       b = randomFloats(20, 5);
  std::vector<float> y(2 * 20 * 5 * 6, -7);
  ASSERT_EQ(kernel.run({in(x, "x"), in(w, "w"), in(b, "b"), out(y, "y")}), "");
  for (int n = 0; n < 2; ++n)
    for (int o = 0; o < 20; ++o)
      for (int i = 0; i < 5; ++i)
        for (int j = 0; j < 6; ++j) {
          double sum = b[o];
          for (int c = 0; c < 5; ++c)
            for (int p = 0; p < 3; ++p)
              for (int q = 0; q < 3; ++q) {
                int row = 2 * i + p - 1, column = 2 * j + q - 1;
                if (row >= 0 && row < 9 && column >= 0 && column < 11)
                  sum += double(x[((n * 5 + c) * 9 + row) * 11 + column]) *
                         w[((o * 5 + c) * 3 + p) * 3 + q];
              }
          ASSERT_NEAR(y[((n * 20 + o) * 5 + i) * 6 + j], sum, 1e-5)
              << n << " " << o << " " << i << " " << j;
        }
}

// Not worth a tile, or not allowed to change the order of rounding.
TEST(Contraction, NarrowAndStrictProductsAreNotTiled) {
  std::string narrow = R"(
graph.kernel @k(%a: tensor<64x32xf32>, %b: tensor<32x3xf32>) -> tensor<64x3xf32> {
  %s = graph.stage domain<64, 3> reduce<32> fold add : tensor<64x3xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %x = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<64x32xf32> -> f32
    %y = graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, %k) : tensor<32x3xf32> -> f32
    %m = graph.apply mul(%x, %y) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  graph.return %s : tensor<64x3xf32>
})";
  EXPECT_EQ(CompiledKernel(narrow).nest, "generic");
  EXPECT_EQ(CompiledKernel(kBatchedMatMul, "cuda:sm=80", /*strict=*/true).nest,
            "generic");
}

TEST(Contraction, KeepsItsSumsInRegisters) {
  if (auto found = findPtxas(); !found) {
    llvm::consumeError(found.takeError());
    GTEST_SKIP() << "no ptxas";
  }
  for (const char *text : {kBatchedMatMul, kConvolution}) {
    CompiledKernel kernel(text, "cuda:sm=90a");
    ASSERT_EQ(kernel.error, "");
    auto result = llvm::cantFail(runPtxas(kernel.ptx, "sm_90a"));
    for (const KernelResources &k : result.kernels) {
      EXPECT_EQ(k.spillStoreBytes, 0) << k.kernel;
      EXPECT_EQ(k.stackBytes, 0) << k.kernel;
      EXPECT_LE(k.registers, 128) << k.kernel;
    }
  }
}

TEST(Contraction, BarriersAreNeeded) {
  for (unsigned number : {0, 1, 2}) {
    CompiledKernel kernel(kBatchedMatMul);
    ASSERT_EQ(kernel.error, "");
    ASSERT_TRUE(kernel.dropBarrier(number));
    auto x = randomFloats(64 * 40, 1), y = randomFloats(40 * 64, 2);
    std::vector<float> z(64 * 64);
    EXPECT_NE(kernel.run({in(x, "a"), in(y, "b"), out(z, "c")}, {1, 64, 64, 40})
                  .find("race at byte"),
              std::string::npos);
  }
}
