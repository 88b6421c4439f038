// Attention as one launch: masks, shared heads, parts of the keys, 16-bit
// factors on tensor cores; the barriers; the assembler's word.
#include "AttentionText.h"
#include "CudaTestUtils.h"

#include "dlc/Target/CUDA/Ptxas.h"

using namespace dlc;
using namespace dlc::test;

TEST(Attention, OneLaunchWhateverTheMask) {
  AttentionCase cases[] = {
      {.heads = 2, .rows = 70, .keys = 150, .inner = 24, .columns = 40},
      {.heads = 2, .group = 3, .rows = 9, .keys = 65, .columns = 130},
      {.rows = 130, .keys = 130, .mask = "causal"},
      {.rows = 20, .keys = 80, .columns = 64, .mask = "causal", .past = 60},
      {.rows = 40, .keys = 70, .mask = "data", .transposed = true},
      {.rows = 100, .keys = 140, .mask = "fill"},
      // Rows without a key: NaN.
      {.rows = 10, .keys = 70, .mask = "causal", .past = -2},
      {.rows = 1, .keys = 2, .inner = 3, .columns = 5},
  };
  for (const AttentionCase &c : cases) {
    CompiledKernel kernel(attentionText(c));
    ASSERT_EQ(kernel.error, "");
    EXPECT_EQ(kernel.nest, "attention");
    EXPECT_EQ(kernel.numLaunches, 1u);
    EXPECT_EQ(checkAttention(kernel, c), "") << c.mask << " " << c.rows;
  }
}

TEST(Attention, SymbolicSizes) {
  AttentionCase c{.heads = 2, .group = 2, .mask = "causal", .symbolic = true};
  CompiledKernel kernel(attentionText(c));
  ASSERT_EQ(kernel.error, "");
  EXPECT_EQ(kernel.nest, "attention");
  for (auto [rows, keys] : {std::pair{1, 1}, {33, 64}, {64, 129}}) {
    c.rows = rows, c.keys = keys;
    EXPECT_EQ(checkAttention(kernel, c), "") << rows << " " << keys;
  }
}

// Scores below the fill of masked ones: those have the weight then, and the
// keys that the bounds leave out are looked at after all.
TEST(Attention, MaskedKeysThatCount) {
  AttentionCase c{.rows = 70, .keys = 140, .mask = "fill", .scale = -4000.0f};
  CompiledKernel kernel(attentionText(c));
  ASSERT_EQ(kernel.error, "");
  EXPECT_EQ(checkAttention(kernel, c, /*positive=*/true), "");
  // The control: another mask is told apart by such scores.
  AttentionCase causal = c;
  causal.mask = "causal";
  CompiledKernel other(attentionText(causal));
  ASSERT_EQ(other.error, "");
  EXPECT_EQ(checkAttention(other, causal, true), "");
  EXPECT_NE(checkAttention(other, c, true), "");
}

TEST(Attention, PartsOfTheKeys) {
  for (const char *type : {"f32", "f16"}) {
    AttentionCase c{.heads = 2,
                    .group = 2,
                    .rows = 1,
                    .keys = 700,
                    .inner = 16,
                    .columns = 16,
                    .type = type};
    CompiledKernel kernel(attentionText(c));
    ASSERT_EQ(kernel.error, "");
    EXPECT_EQ(kernel.nest, "attention");
    // Rounded weights need the sum of all parts first.
    EXPECT_EQ(kernel.numLaunches, c.type == "f32" ? 2u : 3u);
    EXPECT_EQ(checkAttention(kernel, c), "");
    c.mask = "causal";
    c.past = 300; // whole parts are masked
    CompiledKernel causal(attentionText(c));
    ASSERT_EQ(causal.error, "");
    EXPECT_EQ(checkAttention(causal, c), "");
  }
}

TEST(Attention, TensorCores) {
  AttentionCase cases[] = {
      {.heads = 2, .rows = 70, .keys = 150, .inner = 32, .columns = 48},
      {.group = 4, .rows = 9, .keys = 65, .inner = 24, .mask = "causal"},
      // Copied by way of registers.
      {.rows = 20, .keys = 70, .inner = 20, .columns = 12},
      {.rows = 20, .keys = 70, .inner = 16, .columns = 16, .transposed = true},
      {.rows = 30, .keys = 40, .inner = 16, .columns = 136, .mask = "data"},
      {.rows = 10, .keys = 70, .mask = "causal", .past = -2},
  };
  for (AttentionCase c : cases)
    for (const char *type : {"f16", "bf16"}) {
      c.type = type;
      CompiledKernel kernel(attentionText(c));
      ASSERT_EQ(kernel.error, "");
      EXPECT_EQ(kernel.nest, "attention");
      EXPECT_EQ(kernel.numLaunches, 1u);
      EXPECT_NE(kernel.ptx.find("mma.sync.aligned.m16n8k16"),
                std::string::npos);
      EXPECT_EQ(checkAttention(kernel, c), "")
          << type << " " << c.rows << c.mask;
    }
}

// Few rows: warps share them, on tensor cores and on plain units.
TEST(Attention, FewRows) {
  AttentionCase cases[] = {
      {.heads = 2, .rows = 1, .keys = 70, .inner = 64, .columns = 64},
      {.group = 4, .rows = 1, .keys = 300, .inner = 128, .columns = 128},
      {.group = 4,
       .rows = 3,
       .keys = 130,
       .inner = 32,
       .mask = "causal",
       .past = 127},
      {.group = 8,
       .rows = 1,
       .keys = 257,
       .inner = 80,
       .columns = 96,
       .mask = "data"},
      {.rows = 5,
       .keys = 5,
       .inner = 24,
       .columns = 40,
       .mask = "fill",
       .past = 1},
      {.group = 2, .rows = 1, .keys = 90, .inner = 20, .columns = 12},
      {.group = 3,
       .rows = 1,
       .keys = 128,
       .inner = 16,
       .columns = 256,
       .transposed = true},
      {.group = 4, .rows = 1, .keys = 150, .inner = 256, .columns = 256},
      {.rows = 2, .keys = 70, .inner = 16, .mask = "causal", .past = -2},
  };
  for (AttentionCase c : cases)
    for (const char *type : {"f32", "f16", "bf16"}) {
      c.type = type;
      CompiledKernel kernel(attentionText(c));
      ASSERT_EQ(kernel.error, "");
      EXPECT_EQ(kernel.nest, "attention");
      EXPECT_EQ(checkAttention(kernel, c), "")
          << type << " " << c.group << " " << c.keys << c.mask;
    }
}

// Keys and values are read in accesses of 16 bytes, straight to registers, and
// for rounded weights no key twice.
TEST(Attention, FewRowsReadKeysOnce) {
  AttentionCase c{.group = 4,
                  .rows = 1,
                  .keys = 4096,
                  .inner = 128,
                  .columns = 128,
                  .type = "f16"};
  CompiledKernel kernel(attentionText(c));
  ASSERT_EQ(kernel.error, "");
  EXPECT_EQ(kernel.numLaunches, 3u);
  EXPECT_EQ(kernel.ptx.find("cp.async"), std::string::npos);
  size_t wide = 0;
  for (size_t at = 0;
       (at = kernel.ptx.find("ld.global.v4", at)) != std::string::npos; ++at)
    ++wide;
  // 32 keys of a warp's step: 16 accesses of a thread for keys in one launch,
  // and for values in the other.
  EXPECT_EQ(wide, 32u);
}

TEST(Attention, FewRowsNeedTheirBarriers) {
  for (const char *type : {"f32", "bf16"}) {
    AttentionCase c{.group = 2,
                    .rows = 1,
                    .keys = 150,
                    .inner = 32,
                    .columns = 64,
                    .type = type};
    CompiledKernel kernel(attentionText(c));
    ASSERT_EQ(kernel.error, "");
    for (unsigned number : {0, 1}) {
      ASSERT_TRUE(kernel.dropBarrier(number));
      EXPECT_NE(checkAttention(kernel, c).find("race at byte"),
                std::string::npos)
          << type << " " << number;
      kernel.restore();
    }
  }
}

TEST(Attention, BarriersAreNeeded) {
  for (const char *type : {"f32", "bf16"}) {
    AttentionCase c{.rows = 40, .keys = 150, .inner = 16, .type = type};
    CompiledKernel kernel(attentionText(c));
    ASSERT_EQ(kernel.error, "");
    for (unsigned number : {0, 1}) {
      ASSERT_TRUE(kernel.dropBarrier(number));
      EXPECT_NE(checkAttention(kernel, c).find("race at byte"),
                std::string::npos)
          << type << " " << number;
      kernel.restore();
    }
  }
}

TEST(Attention, StrictSumsKeepTheirOrder) {
  AttentionCase c{.rows = 40, .keys = 70};
  CompiledKernel kernel(attentionText(c), "cuda:sm=80", /*strict=*/true);
  ASSERT_EQ(kernel.error, "");
  EXPECT_NE(kernel.nest, "attention");
  EXPECT_EQ(checkAttention(kernel, c), "");
}

TEST(Attention, KeepsItsSumsInRegisters) {
  if (auto found = findPtxas(); !found) {
    llvm::consumeError(found.takeError());
    GTEST_SKIP() << "no ptxas";
  }
  for (const char *type : {"f32", "f16"})
    for (int64_t width : {64, 128})
      for (const char *sm : {"80", "89", "90a"}) {
        if (width == 64 && sm[0] == '8')
          continue;
        AttentionCase c{.heads = 8,
                        .rows = 1024,
                        .keys = 1024,
                        .inner = width,
                        .columns = width,
                        .type = type,
                        .mask = "causal"};
        CompiledKernel kernel(attentionText(c), std::string("cuda:sm=") + sm);
        ASSERT_EQ(kernel.error, "");
        auto result =
            llvm::cantFail(runPtxas(kernel.ptx, std::string("sm_") + sm));
        for (const KernelResources &k : result.kernels) {
          EXPECT_EQ(k.spillStoreBytes, 0) << type << " " << width << " " << sm;
          EXPECT_EQ(k.stackBytes, 0) << type << " " << width << " " << sm;
        }
      }
}
