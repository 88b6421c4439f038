// Attention by wgmma beside numbers, every access and their order checked.
#include "AttentionText.h"

#include "dlc/Target/CUDA/Ptxas.h"

#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/Instructions.h"
#include "llvm/IR/Module.h"

using namespace dlc;
using namespace dlc::test;

static const char *const kRound = "laws = [\"round(softmax)\"]";

static bool usesWgmma(const CompiledKernel &kernel) {
  return kernel.ptx.find("wgmma.mma_async") != std::string::npos;
}

TEST(AttentionWarpGroup, IsRight) {
  AttentionCase cases[] = {
      {.rows = 64, .keys = 128, .inner = 64, .columns = 64},
      {.heads = 2, .rows = 130, .keys = 300, .inner = 64, .columns = 64},
      {.rows = 200,
       .keys = 200,
       .inner = 128,
       .columns = 128,
       .mask = "causal"},
      {.group = 3,
       .rows = 50,
       .keys = 140,
       .inner = 80,
       .columns = 48,
       .mask = "causal",
       .past = 90},
      {.rows = 70, .keys = 150, .inner = 96, .columns = 96, .mask = "data"},
      {.rows = 90, .keys = 260, .inner = 16, .columns = 16, .mask = "fill"},
      // Two blocks of columns.
      {.rows = 64, .keys = 100, .inner = 256, .columns = 256},
      // Copied by way of registers, and rows without a key.
      {.rows = 70, .keys = 70, .inner = 20, .columns = 12},
      {.rows = 70, .keys = 140, .inner = 16, .columns = 24, .transposed = true},
      {.rows = 80, .keys = 70, .mask = "causal", .past = -2},
  };
  for (AttentionCase c : cases)
    for (const char *type : {"f16", "bf16"}) {
      c.type = type;
      c.schedule = kRound;
      // One warpgroup, which the rule takes for few blocks, and two.
      if (c.type == "bf16" && c.rows * c.group > 64)
        c.schedule += ", tile_rows = 128 : i64";
      CompiledKernel kernel(attentionText(c), "cuda:sm=90a");
      ASSERT_EQ(kernel.error, "");
      EXPECT_TRUE(usesWgmma(kernel));
      EXPECT_EQ(checkAttention(kernel, c), "")
          << type << " " << c.rows << c.mask;
    }
}

// What the tile does not take stays with mma.sync: few rows, weights that are
// rounded before they are multiplied, other devices.
TEST(AttentionWarpGroup, IsWhereItPays) {
  auto uses = [](AttentionCase c, const char *target) {
    c.type = "bf16";
    CompiledKernel kernel(attentionText(c), target);
    EXPECT_EQ(kernel.error, "");
    EXPECT_EQ(checkAttention(kernel, c), "");
    return usesWgmma(kernel);
  };
  AttentionCase c{.rows = 64, .keys = 96, .inner = 32, .columns = 32};
  c.schedule = kRound;
  EXPECT_TRUE(uses(c, "cuda:sm=90a"));
  EXPECT_FALSE(uses(c, "cuda:sm=90"));
  EXPECT_FALSE(uses(c, "cuda:sm=80"));
  c.rows = 63;
  EXPECT_FALSE(uses(c, "cuda:sm=90a"));
  c.rows = 64;
  c.schedule = "";
  EXPECT_FALSE(uses(c, "cuda:sm=90a"));
}

TEST(AttentionWarpGroup, OnePassOfParts) {
  for (const char *mask : {"none", "causal"}) {
    AttentionCase c{.rows = 64,
                    .keys = 700,
                    .inner = 32,
                    .columns = 32,
                    .type = "f16",
                    .mask = mask,
                    .past = 300};
    c.schedule = kRound;
    CompiledKernel kernel(attentionText(c), "cuda:sm=90a");
    ASSERT_EQ(kernel.error, "");
    EXPECT_EQ(kernel.numLaunches, 2u);
    EXPECT_TRUE(usesWgmma(kernel));
    EXPECT_EQ(checkAttention(kernel, c), "");
  }
}

// The other form has the same grid and blocks.
TEST(AttentionWarpGroup, PortableForm) {
  AttentionCase c{.rows = 200,
                  .keys = 200,
                  .inner = 128,
                  .columns = 128,
                  .type = "bf16",
                  .mask = "causal"};
  for (const char *knobs :
       {"", ", tile_rows = 64 : i64", ", tile_rows = 192 : i64"}) {
    c.schedule = std::string(kRound) + knobs;
    CudaCodegenOptions options{"k"};
    options.portable = true;
    CompiledKernel kernel(attentionText(c), "cuda:sm=90a", options);
    ASSERT_EQ(kernel.error, "");
    EXPECT_FALSE(usesWgmma(kernel));
    EXPECT_EQ(checkAttention(kernel, c), "");
    CompiledKernel own(attentionText(c), "cuda:sm=90a");
    EXPECT_TRUE(usesWgmma(own));
    EXPECT_EQ(kernel.shapes(), own.shapes());
  }
}

// What is left out is noticed.
TEST(AttentionWarpGroup, PlantedBugsAreFound) {
  AttentionCase c{.rows = 70,
                  .keys = 300,
                  .inner = 32,
                  .columns = 32,
                  .type = "bf16",
                  .mask = "causal",
                  .past = 230};
  c.schedule = std::string(kRound) +
               ", parts = 1 : i64, tile_keys = 64 : i64, tile_rows = 128 : i64";
  CompiledKernel kernel(attentionText(c), "cuda:sm=90a");
  ASSERT_EQ(kernel.error, "");
  ASSERT_EQ(checkAttention(kernel, c), "");
  unsigned caught = 0;
  auto plant = [&](const char *what, unsigned most,
                   llvm::function_ref<bool(llvm::CallInst &, bool)> edit) {
    unsigned planted = 0;
    for (; planted < most &&
           kernel.plant(
               planted,
               [&](llvm::Instruction &instruction, bool doIt) {
                 auto *call = llvm::dyn_cast<llvm::CallInst>(&instruction);
                 return call && edit(*call, doIt);
               });
         ++planted) {
      EXPECT_NE(checkAttention(kernel, c), "") << what << " " << planted;
      ++caught;
      kernel.restore();
    }
    EXPECT_GT(planted, 0u) << "no place for: " << what;
  };
  for (auto [name, most] : {std::pair{"barrier.cta", 2u},
                            {"cp.async.wait.group", 2},
                            {"fence.proxy.async", 2},
                            {"wgmma.fence", 1},
                            {"wgmma.commit_group", 1},
                            {"cp.async.cg.shared", 2}})
    plant(name, most, [&](llvm::CallInst &call, bool doIt) {
      bool isIt = call.getCalledFunction() &&
                  call.getCalledFunction()->getName().contains(name);
      if (isIt && doIt)
        call.eraseFromParent();
      return isIt;
    });
  // Not the wait for all but one: the emulator has scores where they are begun.
  plant("wait for a group too few", 2, [&](llvm::CallInst &call, bool doIt) {
    auto *assembly = llvm::dyn_cast<llvm::InlineAsm>(call.getCalledOperand());
    llvm::StringRef wait = "wgmma.wait_group.sync.aligned 0";
    if (!assembly ||
        !llvm::StringRef(assembly->getAsmString()).starts_with(wait))
      return false;
    if (doIt) {
      std::string text = assembly->getAsmString().str();
      ++text[wait.size() - 1];
      call.setCalledOperand(llvm::InlineAsm::get(
          assembly->getFunctionType(), text, assembly->getConstraintString(),
          /*hasSideEffects=*/true));
    }
    return true;
  });
  EXPECT_EQ(caught, 12u);
}

// No spills, and ptxas lets products run on.
TEST(AttentionWarpGroup, IsNotSerialised) {
  if (auto found = findPtxas(); !found) {
    llvm::consumeError(found.takeError());
    GTEST_SKIP() << "no ptxas";
  }
  for (int64_t width : {64, 80, 128, 256})
    for (int64_t rows : {64, 128, 192})
      for (const char *mask : {"none", "causal"}) {
        if (rows == 192 && width > 64)
          continue;
        AttentionCase c{.heads = 8,
                        .rows = 1024,
                        .keys = 1000,
                        .inner = width,
                        .columns = width,
                        .type = "bf16",
                        .mask = mask};
        c.schedule = std::string(kRound) +
                     ", tile_rows = " + std::to_string(rows) + " : i64";
        CompiledKernel kernel(attentionText(c), "cuda:sm=90a");
        ASSERT_EQ(kernel.error, "");
        EXPECT_TRUE(usesWgmma(kernel));
        auto result = llvm::cantFail(runPtxas(kernel.ptx, "sm_90a"));
        EXPECT_EQ(result.remarks.size(), 0u)
            << (result.remarks.empty() ? "" : result.remarks.front());
        for (const KernelResources &k : result.kernels) {
          EXPECT_EQ(k.spillStoreBytes, 0) << width << " " << rows << mask;
          EXPECT_EQ(k.stackBytes, 0) << width << " " << rows << mask;
        }
      }
}
