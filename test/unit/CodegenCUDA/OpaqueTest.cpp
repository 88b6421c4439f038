// Operators whose kernels are loops of one thread a task.
#include "CudaTestUtils.h"

#include "dlc/Target/CUDA/Ptxas.h"

#include <cmath>

using namespace dlc;
using namespace dlc::test;

static const char *const kArgsort = R"(
graph.kernel @k(%x: tensor<2x?x1xf32, #graph.dims<2, s0, 1>>) -> tensor<2x?xi64, #graph.dims<2, s0>>
    attributes {symbols = ["n"]} {
  %r = graph.argsort %x : (tensor<2x?x1xf32, #graph.dims<2, s0, 1>>) -> tensor<2x?xi64, #graph.dims<2, s0>>
  graph.return %r : tensor<2x?xi64, #graph.dims<2, s0>>
})";

TEST(Opaque, ArgsortOfTwoBatches) {
  CompiledKernel kernel(kArgsort);
  ASSERT_EQ(kernel.error, "");
  EXPECT_EQ(kernel.nest, "opaque");
  std::vector<float> x = {3, 1, NAN, 1, -2, 7, 7, 0, -INFINITY, 7};
  std::vector<int64_t> y(10, -1);
  ASSERT_EQ(kernel.run({in(x, "x"), out(y, "y")}, {5}), "");
  EXPECT_EQ(y, (std::vector<int64_t>{4, 1, 3, 0, 2, 3, 2, 0, 1, 4}));
}

static const char *const kScatter = R"(
graph.kernel @k(%x: tensor<4x2xf32>, %p: tensor<3xi64>, %u: tensor<3x2xf32>) -> tensor<4x2xf32> {
  %r = graph.scatter %x, %p, %u {kind = #graph<fold add>} : (tensor<4x2xf32>, tensor<3xi64>, tensor<3x2xf32>) -> tensor<4x2xf32>
  graph.return %r : tensor<4x2xf32>
})";

TEST(Opaque, ScatterAddsAndReportsPositions) {
  CompiledKernel kernel(kScatter);
  ASSERT_EQ(kernel.error, "");
  std::vector<float> x = {0, 1, 2, 3, 4, 5, 6, 7}, u = {10, 20, 30, 40, 50, 60};
  std::vector<int64_t> p = {1, -1, 1};
  std::vector<float> y(8);
  int32_t status = -1;
  ASSERT_EQ(kernel.run({in(x, "x"), in(p, "p"), in(u, "u"), out(y, "y")}, {},
                       &status),
            "");
  EXPECT_EQ(status, 0);
  EXPECT_EQ(y, (std::vector<float>{0, 1, 62, 83, 4, 5, 36, 47}));
  p[0] = 4;
  ASSERT_EQ(kernel.run({in(x, "x"), in(p, "p"), in(u, "u"), out(y, "y")}, {},
                       &status),
            "");
  EXPECT_NE(status, 0);
}

TEST(Opaque, AssemblerTakesIt) {
  if (auto found = findPtxas(); !found) {
    llvm::consumeError(found.takeError());
    GTEST_SKIP() << "no ptxas";
  }
  for (const char *text : {kArgsort, kScatter}) {
    CompiledKernel kernel(text);
    ASSERT_EQ(kernel.error, "");
    auto result = runPtxas(kernel.ptx, "sm_80");
    EXPECT_TRUE(static_cast<bool>(result))
        << llvm::toString(result.takeError());
  }
}
