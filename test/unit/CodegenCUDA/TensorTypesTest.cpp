// Products on tensor cores of bytes, with and without zero points, and of f32
// rounded to tf32: sizes around the tile, operands that lie along the fold or
// not, guarded loads, split sums; the barriers; the assembler's word.
#include "AttentionText.h"
#include "CudaTestUtils.h"

#include "dlc/Target/CUDA/Ptxas.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/IR/Instructions.h"
#include "llvm/IR/IntrinsicInst.h"

#include <cmath>
#include <cstring>

using namespace dlc;
using namespace dlc::test;

namespace {

using Replacements = std::vector<std::pair<std::string, std::string>>;

std::string replaceAll(std::string text, const Replacements &all) {
  for (auto &[from, to] : all)
    for (size_t at; (at = text.find(from)) != std::string::npos;)
      text.replace(at, from.size(), to);
  return text;
}

struct Product {
  std::string left, right;                  ///< i8 or ui8
  bool leftZero, rightZero;                 ///< a zero point a row, a column
  bool leftAlong = true, rightAlong = true; ///< the fold is innermost
};

/// y[m, n] = 3 sum (a - x[m]) (b - z[n]) of sizes s0, s1, s2.
std::string productOf(const Product &p) {
  std::string text = R"(
graph.kernel @k(%a: tensorASHAPE, %b: tensorBSHAPE, %x: tensor<?xLEFT, #graph.dims<s0>>, %z: tensor<?xRIGHT, #graph.dims<s1>>)
    -> tensor<?x?xi32, #graph.dims<s0, s1>> attributes {symbols = ["m", "n", "k"]} {
  %s = graph.stage domain<s0, s1> reduce<s2> fold add : tensor<?x?xi32, #graph.dims<s0, s1>> {
  ^bb0(%i: index, %j: index, %k: index):
    %p = graph.load %a[affine_map<(d0, d1, d2) -> AMAP>](%i, %j, %k) : tensorASHAPE -> LEFT
    %q = graph.load %b[affine_map<(d0, d1, d2) -> BMAP>](%i, %j, %k) : tensorBSHAPE -> RIGHT
    %u = graph.scalar_cast %p : LEFT -> i32
    %v = graph.scalar_cast %q : RIGHT -> i32
    %e = graph.load %x[affine_map<(d0, d1, d2) -> (d0)>](%i, %j, %k) : tensor<?xLEFT, #graph.dims<s0>> -> LEFT
    %f = graph.load %z[affine_map<(d0, d1, d2) -> (d1)>](%i, %j, %k) : tensor<?xRIGHT, #graph.dims<s1>> -> RIGHT
    %g = graph.scalar_cast %e : LEFT -> i32
    %h = graph.scalar_cast %f : RIGHT -> i32
    %0 = graph.literal 0 : i32 : i32
    %w = graph.apply sub(%u, LEFTZERO) : (i32, i32) -> i32
    %t = graph.apply sub(%v, RIGHTZERO) : (i32, i32) -> i32
    %m = graph.apply mul(%w, %t) : (i32, i32) -> i32
    graph.yield %m : i32
  }
  %r = graph.stage domain<s0, s1> : tensor<?x?xi32, #graph.dims<s0, s1>> {
  ^bb0(%i: index, %j: index):
    %p = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<?x?xi32, #graph.dims<s0, s1>> -> i32
    %c = graph.literal 3 : i32 : i32
    %t = graph.apply mul(%p, %c) : (i32, i32) -> i32
    graph.yield %t : i32
  }
  graph.return %r : tensor<?x?xi32, #graph.dims<s0, s1>>
})";
  return replaceAll(
      text, {{"ASHAPE", p.leftAlong ? "<?x?xLEFT, #graph.dims<s0, s2>>"
                                    : "<?x?xLEFT, #graph.dims<s2, s0>>"},
             {"BSHAPE", p.rightAlong ? "<?x?xRIGHT, #graph.dims<s1, s2>>"
                                     : "<?x?xRIGHT, #graph.dims<s2, s1>>"},
             {"AMAP", p.leftAlong ? "(d0, d2)" : "(d2, d0)"},
             {"BMAP", p.rightAlong ? "(d1, d2)" : "(d2, d1)"},
             {"LEFTZERO", p.leftZero ? "%g" : "%0"},
             {"RIGHTZERO", p.rightZero ? "%h" : "%0"},
             {"LEFT", p.left},
             {"RIGHT", p.right}});
}

uint8_t byteAt(int64_t i) { return static_cast<uint8_t>(i * 37 + i / 7 * 11); }

int numberOf(uint8_t byte, const std::string &type) {
  return type == "i8" ? static_cast<int8_t>(byte) : byte;
}

/// Empty when there is no report and every number is right.
std::string check(CompiledKernel &kernel, const Product &p, int64_t m,
                  int64_t n, int64_t k) {
  std::vector<uint8_t> a(m * k), b(n * k), x(m), z(n);
  auto fill = [](std::vector<uint8_t> &bytes, int64_t seed) {
    for (size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = byteAt(static_cast<int64_t>(i) + seed);
  };
  fill(a, 1), fill(b, 2), fill(x, 3), fill(z, 4);
  std::vector<int32_t> y(m * n, -9);
  std::string report = kernel.run(
      {in(a, "a"), in(b, "b"), in(x, "x"), in(z, "z"), out(y, "y")}, {m, n, k});
  if (!report.empty())
    return report;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      int sum = 0, left = p.leftZero ? numberOf(x[i], p.left) : 0,
          right = p.rightZero ? numberOf(z[j], p.right) : 0;
      for (int64_t q = 0; q < k; ++q)
        sum +=
            (numberOf(a[p.leftAlong ? i * k + q : q * m + i], p.left) - left) *
            (numberOf(b[p.rightAlong ? j * k + q : q * n + j], p.right) -
             right);
      if (y[i * n + j] != 3 * sum)
        return "wrong number at " + std::to_string(i) + " " +
               std::to_string(j) + " of " + std::to_string(m) + "x" +
               std::to_string(n) + "x" + std::to_string(k);
    }
  return {};
}

} // namespace

TEST(TensorTypes, BytesOfEverySign) {
  for (const char *left : {"i8", "ui8"})
    for (const char *right : {"i8", "ui8"}) {
      Product p{left, right, true, true};
      CompiledKernel kernel(productOf(p));
      ASSERT_EQ(kernel.error, "");
      EXPECT_EQ(kernel.nest, "contraction");
      EXPECT_EQ(kernel.numLaunches, 1u);
      EXPECT_NE(kernel.ptx.find("mma.sync.aligned.m16n8k32"),
                std::string::npos);
      EXPECT_EQ(check(kernel, p, 63, 65, 100), "") << left << " " << right;
    }
}

TEST(TensorTypes, BytesWithAndWithoutZeroPoints) {
  for (unsigned zeros = 0; zeros < 4; ++zeros)
    for (bool along : {false, true}) {
      Product p{"ui8", "i8", (zeros & 1) != 0, (zeros & 2) != 0, !along, along};
      CompiledKernel kernel(productOf(p));
      ASSERT_EQ(kernel.error, "");
      EXPECT_EQ(kernel.ptx.find("dp4a") != std::string::npos, zeros != 0);
      struct {
        int64_t m, n, k;
      } sizes[] = {{1, 1, 1}, {64, 64, 64}, {5, 130, 97}, {70, 16, 0}};
      for (auto [m, n, k] : sizes)
        EXPECT_EQ(check(kernel, p, m, n, k), "") << zeros << " " << along;
    }
}

TEST(TensorTypes, IntegersAreExactWithAnyOrder) {
  Product p{"i8", "i8", false, false};
  CompiledKernel kernel(productOf(p), "cuda:sm=80", /*strict=*/true);
  ASSERT_EQ(kernel.error, "");
  EXPECT_NE(kernel.ptx.find("mma.sync"), std::string::npos);
  EXPECT_EQ(check(kernel, p, 20, 20, 70), "");
}

// Every step of the tile is needed: barriers, and the sums of rows.
TEST(TensorTypes, BarriersAreNeeded) {
  Product p{"ui8", "i8", true, true};
  for (unsigned number : {0, 1, 2}) {
    CompiledKernel kernel(productOf(p));
    ASSERT_EQ(kernel.error, "");
    ASSERT_TRUE(kernel.dropBarrier(number));
    EXPECT_NE(check(kernel, p, 64, 64, 300).find("race at byte"),
              std::string::npos)
        << number;
  }
}

TEST(TensorTypes, SumsOfRowsAreNeeded) {
  Product p{"ui8", "i8", true, true};
  CompiledKernel kernel(productOf(p));
  ASSERT_EQ(kernel.error, "");
  unsigned planted = 0;
  auto dropSum = [](llvm::Instruction &instruction, bool doIt) {
    auto *call = llvm::dyn_cast<llvm::CallInst>(&instruction);
    if (!call || !call->getCalledFunction() ||
        !call->getCalledFunction()->getName().contains("idp4a"))
      return false;
    if (doIt) {
      call->replaceAllUsesWith(call->getArgOperand(2));
      call->eraseFromParent();
    }
    return true;
  };
  for (unsigned number = 0; kernel.plant(number, dropSum); number += 5) {
    EXPECT_NE(check(kernel, p, 64, 64, 128), "") << number;
    kernel.restore();
    ++planted;
  }
  EXPECT_GE(planted, 3u);
}

//===----------------------------------------------------------------------===//
// Static sizes: contiguous pieces, parts of sums, windows
//===----------------------------------------------------------------------===//

static std::string staticProduct(int64_t m, int64_t n, int64_t k) {
  return replaceAll(R"(
graph.kernel @k(%a: tensor<MxKxui8>, %b: tensor<NxKxi8>, %x: tensor<ui8>) -> tensor<MxNxi32> {
  %s = graph.stage domain<M, N> reduce<K> fold add : tensor<MxNxi32> {
  ^bb0(%i: index, %j: index, %k: index):
    %p = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<MxKxui8> -> ui8
    %q = graph.load %b[affine_map<(d0, d1, d2) -> (d1, d2)>](%i, %j, %k) : tensor<NxKxi8> -> i8
    %e = graph.load %x[affine_map<(d0, d1, d2) -> ()>](%i, %j, %k) : tensor<ui8> -> ui8
    %u = graph.scalar_cast %p : ui8 -> i32
    %v = graph.scalar_cast %q : i8 -> i32
    %g = graph.scalar_cast %e : ui8 -> i32
    %w = graph.apply sub(%u, %g) : (i32, i32) -> i32
    %t = graph.apply mul(%w, %v) : (i32, i32) -> i32
    graph.yield %t : i32
  }
  graph.return %s : tensor<MxNxi32>
})",
                    {{"M", std::to_string(m)},
                     {"N", std::to_string(n)},
                     {"K", std::to_string(k)}});
}

TEST(TensorTypes, BytesInPartsAndPieces) {
  struct {
    int64_t m, n, k;
    size_t launches;
    bool isAsync;
  } cases[] = {{40, 24, 160, 1, true},
               {20, 40, 1040, 2, true},   // four parts
               {20, 40, 1001, 2, false}}; // and rows that are not aligned
  for (auto [m, n, k, launches, isAsync] : cases) {
    CompiledKernel kernel(staticProduct(m, n, k));
    ASSERT_EQ(kernel.error, "");
    EXPECT_EQ(kernel.numLaunches, launches) << k;
    EXPECT_EQ(kernel.ptx.find("cp.async.cg") != std::string::npos, isAsync);
    std::vector<uint8_t> a(m * k), b(n * k), x{131};
    for (size_t i = 0; i < a.size(); ++i)
      a[i] = byteAt(static_cast<int64_t>(i));
    for (size_t i = 0; i < b.size(); ++i)
      b[i] = byteAt(static_cast<int64_t>(i) + 5);
    std::vector<int32_t> y(m * n, -9);
    ASSERT_EQ(kernel.run({in(a, "a"), in(b, "b"), in(x, "x"), out(y, "y")}),
              "");
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        int sum = 0;
        for (int64_t q = 0; q < k; ++q)
          sum += (a[i * k + q] - 131) * static_cast<int8_t>(b[j * k + q]);
        ASSERT_EQ(y[i * n + j], sum) << i << " " << j << " of " << k;
      }
  }
}

// A convolution of bytes: what lies outside is the zero point, which counts
// nothing.
TEST(TensorTypes, WindowsOfBytes) {
  CompiledKernel kernel(R"(
graph.kernel @k(%a: tensor<4x9x9xui8>, %b: tensor<16x4x3x3xi8>) -> tensor<16x9x9xi32> {
  %s = graph.stage domain<16, 9, 9> reduce<4, 3, 3> fold add : tensor<16x9x9xi32> {
  ^bb0(%o: index, %i: index, %j: index, %c: index, %p: index, %q: index):
    %z = graph.literal 123 : ui8 : ui8
    %x = graph.load %a[affine_map<(d0, d1, d2, d3, d4, d5) -> (d3, d1 + d4 - 1, d2 + d5 - 1)>](%o, %i, %j, %c, %p, %q) guard affine_set<(d0, d1, d2, d3, d4, d5) : (d1 + d4 - 1 >= 0, 9 - d1 - d4 >= 0, d2 + d5 - 1 >= 0, 9 - d2 - d5 >= 0)> else %z : ui8 : tensor<4x9x9xui8> -> ui8
    %w = graph.load %b[affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, d3, d4, d5)>](%o, %i, %j, %c, %p, %q) : tensor<16x4x3x3xi8> -> i8
    %u = graph.scalar_cast %x : ui8 -> i32
    %e = graph.scalar_cast %z : ui8 -> i32
    %v = graph.scalar_cast %w : i8 -> i32
    %f = graph.apply sub(%u, %e) : (i32, i32) -> i32
    %t = graph.apply mul(%f, %v) : (i32, i32) -> i32
    graph.yield %t : i32
  }
  graph.return %s : tensor<16x9x9xi32>
})");
  ASSERT_EQ(kernel.error, "");
  EXPECT_EQ(kernel.nest, "contraction");
  EXPECT_NE(kernel.ptx.find("mma.sync.aligned.m16n8k32"), std::string::npos);
  std::vector<uint8_t> a(4 * 81), b(16 * 36);
  for (size_t i = 0; i < a.size(); ++i)
    a[i] = byteAt(static_cast<int64_t>(i));
  for (size_t i = 0; i < b.size(); ++i)
    b[i] = byteAt(static_cast<int64_t>(i) + 5);
  std::vector<int32_t> y(16 * 81, -9);
  ASSERT_EQ(kernel.run({in(a, "a"), in(b, "b"), out(y, "y")}), "");
  for (int o = 0; o < 16; ++o)
    for (int i = 0; i < 9; ++i)
      for (int j = 0; j < 9; ++j) {
        int sum = 0;
        for (int c = 0; c < 4; ++c)
          for (int p = 0; p < 3; ++p)
            for (int q = 0; q < 3; ++q) {
              int row = i + p - 1, column = j + q - 1;
              if (row >= 0 && row < 9 && column >= 0 && column < 9)
                sum += (a[c * 81 + row * 9 + column] - 123) *
                       static_cast<int8_t>(b[(o * 4 + c) * 9 + p * 3 + q]);
            }
        ASSERT_EQ(y[(o * 9 + i) * 9 + j], sum) << o << " " << i << " " << j;
      }
}

//===----------------------------------------------------------------------===//
// tf32
//===----------------------------------------------------------------------===//

static std::string floatProduct(int64_t m, int64_t n, int64_t k,
                                bool rightAlong) {
  return replaceAll(R"(
graph.kernel @k(%a: tensor<MxKxf32>, %b: tensor<BSHAPExf32>) -> tensor<MxNxf32> {
  %s = graph.stage domain<M, N> reduce<K> fold add : tensor<MxNxf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %p = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<MxKxf32> -> f32
    %q = graph.load %b[affine_map<(d0, d1, d2) -> BMAP>](%i, %j, %k) : tensor<BSHAPExf32> -> f32
    %t = graph.apply mul(%p, %q) : (f32, f32) -> f32
    graph.yield %t : f32
  }
  graph.return %s : tensor<MxNxf32>
})",
                    {{"BSHAPE", rightAlong ? "NxK" : "KxN"},
                     {"BMAP", rightAlong ? "(d1, d2)" : "(d2, d1)"},
                     {"M", std::to_string(m)},
                     {"N", std::to_string(n)},
                     {"K", std::to_string(k)}});
}

static float roundToTf32(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x1000) & 0xffffe000;
  std::memcpy(&x, &bits, sizeof bits);
  return x;
}

static const CudaCodegenOptions kTf32{"k", /*strict=*/false, /*tf32=*/true};

TEST(TensorTypes, Tf32OnlyWhereItIsAsked) {
  CompiledKernel plain(floatProduct(40, 24, 72, true));
  EXPECT_EQ(plain.ptx.find("mma.sync"), std::string::npos);
  CompiledKernel asked(floatProduct(40, 24, 72, true), "cuda:sm=80", kTf32);
  ASSERT_EQ(asked.error, "");
  EXPECT_NE(asked.ptx.find("mma.sync.aligned.m16n8k8.row.col.f32.tf32"),
            std::string::npos);
  EXPECT_NE(asked.ptx.find("cvt.rna.tf32.f32"), std::string::npos);
}

TEST(TensorTypes, Tf32RoundsFactorsToNearest) {
  struct {
    int64_t m, n, k;
  } sizes[] = {{64, 64, 64}, {33, 70, 37}, {20, 40, 530}};
  for (auto [m, n, k] : sizes)
    for (bool along : {false, true}) {
      CompiledKernel kernel(floatProduct(m, n, k, along), "cuda:sm=80", kTf32);
      ASSERT_EQ(kernel.error, "");
      auto a = randomFloats(m * k, 1), b = randomFloats(n * k, 2);
      std::vector<float> y(m * n, -9);
      ASSERT_EQ(kernel.run({in(a, "a"), in(b, "b"), out(y, "y")}), "");
      double worst = 0, worstShare = 0;
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j) {
          double rounded = 0, exact = 0, size = 0;
          for (int64_t q = 0; q < k; ++q) {
            float u = a[i * k + q], v = b[along ? j * k + q : q * n + j];
            rounded += double(roundToTf32(u)) * roundToTf32(v);
            exact += double(u) * v;
            size += std::fabs(double(u) * v);
          }
          worst = std::max(worst, std::fabs(y[i * n + j] - rounded) / size);
          worstShare =
              std::max(worstShare, std::fabs(y[i * n + j] - exact) / size);
        }
      EXPECT_LE(worst, 1e-6) << m << " " << n << " " << k;
      // The bound of docs/precision.md; and truncation would be felt.
      EXPECT_LE(worstShare, std::ldexp(1.0, -10) + 1e-6);
      EXPECT_GE(worstShare, std::ldexp(1.0, -20));
    }
}

TEST(TensorTypes, KeepTheirSumsInRegisters) {
  if (auto found = findPtxas(); !found) {
    llvm::consumeError(found.takeError());
    GTEST_SKIP() << "no ptxas";
  }
  // Large enough for tiles of 128 x 128.
  std::string texts[] = {staticProduct(1536, 1536, 512),
                         floatProduct(1536, 1536, 512, true),
                         floatProduct(1536, 1536, 512, false)};
  for (const std::string &text : texts)
    for (const char *sm : {"80", "89", "90a"}) {
      CompiledKernel kernel(text, std::string("cuda:sm=") + sm, kTf32);
      ASSERT_EQ(kernel.error, "");
      auto result =
          llvm::cantFail(runPtxas(kernel.ptx, std::string("sm_") + sm));
      for (const KernelResources &k : result.kernels) {
        EXPECT_EQ(k.spillStoreBytes, 0) << k.kernel << " " << sm;
        EXPECT_LE(k.registers, 128) << k.kernel << " " << sm;
      }
    }
}
