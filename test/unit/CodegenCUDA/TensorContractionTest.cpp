// Products of 16-bit floats on tensor cores: sizes around the tile, transposed
// operands, a stage behind; the barriers; the assembler's word.
#include "CudaTestUtils.h"

#include "dlc/Target/CUDA/Ptxas.h"

#include <cstring>

using namespace dlc;
using namespace dlc::test;

// y = round(a b + c), where b is k x n or, transposed, n x k.
static std::string matMul(const std::string &type, bool isTransposed) {
  std::string shape = isTransposed ? "<?x?x" + type + ", #graph.dims<s1, s2>>"
                                   : "<?x?x" + type + ", #graph.dims<s2, s1>>";
  std::string map = isTransposed ? "(d1, d2)" : "(d2, d1)";
  std::string text = R"(
graph.kernel @k(%a: tensor<?x?xTYPE, #graph.dims<s0, s2>>, %b: tensorSHAPE, %c: tensor<?xTYPE, #graph.dims<s1>>)
    -> tensor<?x?xTYPE, #graph.dims<s0, s1>> attributes {symbols = ["m", "n", "k"]} {
  %s = graph.stage domain<s0, s1> reduce<s2> fold add : tensor<?x?xf32, #graph.dims<s0, s1>> {
  ^bb0(%i: index, %j: index, %k: index):
    %x = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<?x?xTYPE, #graph.dims<s0, s2>> -> TYPE
    %y = graph.load %b[affine_map<(d0, d1, d2) -> MAP>](%i, %j, %k) : tensorSHAPE -> TYPE
    %u = graph.scalar_cast %x : TYPE -> f32
    %v = graph.scalar_cast %y : TYPE -> f32
    %m = graph.apply mul(%u, %v) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  %r = graph.stage domain<s0, s1> : tensor<?x?xTYPE, #graph.dims<s0, s1>> {
  ^bb0(%i: index, %j: index):
    %p = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<?x?xf32, #graph.dims<s0, s1>> -> f32
    %q = graph.load %c[affine_map<(d0, d1) -> (d1)>](%i, %j) : tensor<?xTYPE, #graph.dims<s1>> -> TYPE
    %w = graph.scalar_cast %q : TYPE -> f32
    %t = graph.apply add(%p, %w) : (f32, f32) -> f32
    %n = graph.scalar_cast %t : f32 -> TYPE
    graph.yield %n : TYPE
  }
  graph.return %r : tensor<?x?xTYPE, #graph.dims<s0, s1>>
})";
  auto replace = [&](const std::string &from, const std::string &to) {
    for (size_t at; (at = text.find(from)) != std::string::npos;)
      text.replace(at, from.size(), to);
  };
  replace("SHAPE", shape);
  replace("MAP", map);
  replace("TYPE", type);
  return text;
}

// Whole numbers that both types hold; every sum is exact in them, too.
static uint16_t toBits(int value, bool isBf16) {
  auto number = static_cast<float>(value);
  uint32_t word;
  std::memcpy(&word, &number, sizeof word);
  if (isBf16)
    return static_cast<uint16_t>(word >> 16);
  if (value == 0)
    return 0;
  return static_cast<uint16_t>((word >> 16 & 0x8000) |
                               (((word >> 23 & 0xff) - 112) << 10) |
                               (word >> 13 & 0x3ff));
}

static int sign(int64_t i) { return static_cast<int>(i * 7 % 5 % 3) - 1; }

TEST(TensorContraction, ProductsOfEverySize) {
  for (bool isBf16 : {false, true})
    for (bool isTransposed : {false, true}) {
      CompiledKernel kernel(matMul(isBf16 ? "bf16" : "f16", isTransposed));
      ASSERT_EQ(kernel.error, "");
      EXPECT_EQ(kernel.nest, "contraction");
      EXPECT_EQ(kernel.numLaunches, 1u);
      EXPECT_NE(kernel.ptx.find("mma.sync.aligned.m16n8k16"),
                std::string::npos);
      struct {
        int64_t m, n, k;
      } sizes[] = {
          {1, 1, 1}, {64, 64, 32}, {63, 65, 31}, {5, 130, 97}, {20, 7, 0}};
      for (auto [m, n, k] : sizes) {
        std::vector<uint16_t> a(m * k), b(k * n), c(n), y(m * n, 0x7fff);
        for (int64_t i = 0; i < m * k; ++i)
          a[i] = toBits(sign(i), isBf16);
        for (int64_t q = 0; q < k; ++q)
          for (int64_t j = 0; j < n; ++j)
            b[isTransposed ? j * k + q : q * n + j] =
                toBits(sign(q * 3 + j), isBf16);
        for (int64_t j = 0; j < n; ++j)
          c[j] = toBits(static_cast<int>(j % 4), isBf16);
        ASSERT_EQ(kernel.run({in(a, "a"), in(b, "b"), in(c, "c"), out(y, "y")},
                             {m, n, k}),
                  "");
        for (int64_t i = 0; i < m; ++i)
          for (int64_t j = 0; j < n; ++j) {
            int sum = static_cast<int>(j % 4);
            for (int64_t q = 0; q < k; ++q)
              sum += sign(i * k + q) * sign(q * 3 + j);
            ASSERT_EQ(y[i * n + j], toBits(sum, isBf16))
                << i << " " << j << " of " << m << "x" << n << "x" << k;
          }
      }
    }
}

TEST(TensorContraction, BarriersAreNeeded) {
  for (unsigned number : {0, 1, 2}) {
    CompiledKernel kernel(matMul("f16", false));
    ASSERT_EQ(kernel.error, "");
    ASSERT_TRUE(kernel.dropBarrier(number));
    std::vector<uint16_t> a(64 * 96), b(96 * 64), c(64), y(64 * 64);
    EXPECT_NE(kernel
                  .run({in(a, "a"), in(b, "b"), in(c, "c"), out(y, "y")},
                       {64, 64, 96})
                  .find("race at byte"),
              std::string::npos);
  }
}

TEST(TensorContraction, StrictProductsKeepTheirOrder) {
  CompiledKernel kernel(matMul("f16", false), "cuda:sm=80", /*strict=*/true);
  ASSERT_EQ(kernel.error, "");
  EXPECT_EQ(kernel.ptx.find("mma.sync"), std::string::npos);
}

TEST(TensorContraction, KeepsItsSumsInRegisters) {
  if (auto found = findPtxas(); !found) {
    llvm::consumeError(found.takeError());
    GTEST_SKIP() << "no ptxas";
  }
  for (const char *type : {"f16", "bf16"})
    for (const char *sm : {"80", "89", "90a"}) {
      CompiledKernel kernel(matMul(type, true), std::string("cuda:sm=") + sm);
      ASSERT_EQ(kernel.error, "");
      auto result =
          llvm::cantFail(runPtxas(kernel.ptx, std::string("sm_") + sm));
      for (const KernelResources &k : result.kernels) {
        EXPECT_EQ(k.spillStoreBytes, 0) << k.kernel;
        EXPECT_EQ(k.stackBytes, 0) << k.kernel;
        EXPECT_LE(k.registers, 128) << k.kernel;
      }
    }
}
