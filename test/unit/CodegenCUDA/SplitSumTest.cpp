// Sums of products that are split over blocks: where tiles are few and sums are
// long, and only there.
#include "AttentionText.h"
#include "CudaTestUtils.h"

#include "llvm/IR/Instructions.h"

#include <cmath>

using namespace dlc;
using namespace dlc::test;

/// y[m, n] = max(a[m, k] * b[k, n], 0), of f32 or widened 16-bit factors.
static std::string product(const std::string &type, int64_t m, int64_t n,
                           int64_t k) {
  std::string a = std::to_string(m) + "x" + std::to_string(k) + "x" + type,
              b = std::to_string(k) + "x" + std::to_string(n) + "x" + type,
              y = std::to_string(m) + "x" + std::to_string(n) + "xf32",
              domain = std::to_string(m) + ", " + std::to_string(n);
  bool narrow = type != "f32";
  std::string text = "graph.kernel @k(%a: tensor<" + a + ">, %b: tensor<" + b +
                     ">) -> tensor<" + y + "> {\n  %s = graph.stage domain<" +
                     domain + "> reduce<" + std::to_string(k) +
                     "> fold add : tensor<" + y + R"(> {
  ^bb0(%i: index, %j: index, %q: index):
    %x = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %q) : tensor<)" +
                     a + "> -> " + type + R"(
    %z = graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, %q) : tensor<)" +
                     b + "> -> " + type + "\n";
  if (narrow)
    text += "    %u = graph.scalar_cast %x : " + type +
            " -> f32\n    %v = graph.scalar_cast %z : " + type + " -> f32\n";
  text += std::string("    %p = graph.apply mul(") +
          (narrow ? "%u, %v" : "%x, %z") + R"() : (f32, f32) -> f32
    graph.yield %p : f32
  }
  %r = graph.stage domain<)" +
          domain + "> : tensor<" + y + R"(> {
  ^bb0(%i: index, %j: index):
    %x = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<)" +
          y + R"(> -> f32
    %z = graph.literal 0.0 : f32 : f32
    %p = graph.apply max(%x, %z) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  graph.return %r : tensor<)" +
          y + ">\n}";
  return text;
}

/// Empty when there is no report and every number is right.
static std::string check(CompiledKernel &kernel, const std::string &type,
                         int64_t m, int64_t n, int64_t k) {
  auto a = eighths(m * k, 1), b = eighths(k * n, 2);
  std::vector<float> y(m * n, -7);
  std::string report;
  if (type == "f32") {
    report = kernel.run({in(a, "a"), in(b, "b"), out(y, "y")});
  } else {
    auto x = toBits(a, type == "bf16"), z = toBits(b, type == "bf16");
    report = kernel.run({in(x, "a"), in(z, "b"), out(y, "y")});
  }
  if (!report.empty())
    return report;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0; // exact: sixty-fourths
      for (int64_t q = 0; q < k; ++q)
        sum += double(a[i * k + q]) * b[q * n + j];
      if (y[i * n + j] != float(std::max(sum, 0.0)))
        return "wrong number at " + std::to_string(i) + " " + std::to_string(j);
    }
  return {};
}

TEST(SplitSum, PartsAddUp) {
  for (const char *type : {"f32", "f16", "bf16"})
    for (int64_t k : {520, 1000}) { // two and three parts, the last one short
      CompiledKernel kernel(product(type, 20, 40, k));
      ASSERT_EQ(kernel.error, "");
      EXPECT_EQ(kernel.nest, "contraction");
      EXPECT_EQ(kernel.numLaunches, 2u);
      EXPECT_EQ(check(kernel, type, 20, 40, k), "") << type << " " << k;
    }
}

TEST(SplitSum, OnlyWhereItPays) {
  // Short sums; tiles enough for the device; an order to be kept.
  CompiledKernel shortSums(product("f32", 20, 40, 511));
  EXPECT_EQ(shortSums.numLaunches, 1u);
  CompiledKernel manyTiles(product("f32", 1024, 1024, 1024));
  EXPECT_EQ(manyTiles.numLaunches, 1u);
  CompiledKernel strict(product("f32", 20, 40, 520), "cuda:sm=80",
                        /*strict=*/true);
  EXPECT_EQ(strict.numLaunches, 1u);
}

// The control: parts that are not stored are no sums.
TEST(SplitSum, EveryPartCounts) {
  CompiledKernel kernel(product("f32", 20, 40, 520));
  ASSERT_EQ(kernel.error, "");
  ASSERT_TRUE(kernel.dropStore("k__parts"));
  EXPECT_NE(check(kernel, "f32", 20, 40, 520), "");
}
