// Warp collectives, each by its definition, and the ways to misuse them.
#include "EmulatorTestUtils.h"

using namespace dlc;
using namespace dlc::test;

// A kernel of one warp: `body` computes i32 %r from i32 %t, the lane.
static std::string warpKernel(const std::string &body) {
  return R"(
define ptx_kernel void @k(ptr %y) {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  )" + body +
         R"(
  br label %finish
finish:
  %py = getelementptr i32, ptr %y, i32 %t
  store i32 %r, ptr %py
  ret void
})";
}

struct WarpRun {
  std::vector<int> y;
  std::string error;
};

static WarpRun runWarp(const std::string &body, unsigned threads = 32) {
  auto module = loadOrFail(warpKernel(body));
  WarpRun run{std::vector<int>(threads, -1), ""};
  run.error =
      errorOf(module->launch("k", {{1}, {threads}}, {buffer(run.y, "y")}));
  return run;
}

TEST(Collective, ShuffleButterfly) {
  auto run = runWarp("%r = call i32 @llvm.nvvm.shfl.sync.bfly.i32(i32 -1, i32 "
                     "%t, i32 5, i32 31)");
  ASSERT_EQ(run.error, "");
  for (int i = 0; i < 32; ++i)
    EXPECT_EQ(run.y[i], i ^ 5);
}

TEST(Collective, ShuffleDownKeepsOwnValueOutOfRange) {
  auto run = runWarp(R"(
  %p = call {i32, i1} @llvm.nvvm.shfl.sync.down.i32p(i32 -1, i32 %t, i32 3, i32 31)
  %v = extractvalue {i32, i1} %p, 0
  %ok = extractvalue {i32, i1} %p, 1
  %m = sub i32 0, %v
  %r = select i1 %ok, i32 %v, i32 %m)");
  ASSERT_EQ(run.error, "");
  for (int i = 0; i < 32; ++i)
    EXPECT_EQ(run.y[i], i + 3 < 32 ? i + 3 : -i);
}

TEST(Collective, ShuffleUpInSegmentsOfEight) {
  // PTX packs the segment mask 0b11000 into bits 8-12.
  auto run = runWarp("%r = call i32 @llvm.nvvm.shfl.sync.up.i32(i32 -1, i32 "
                     "%t, i32 1, i32 6144)");
  ASSERT_EQ(run.error, "");
  for (int i = 0; i < 32; ++i)
    EXPECT_EQ(run.y[i], i % 8 ? i - 1 : i);
}

TEST(Collective, ShuffleIndexed) {
  auto run = runWarp("%s = sub i32 31, %t\n %r = call i32 "
                     "@llvm.nvvm.shfl.sync.idx.i32(i32 -1, i32 %t, i32 %s, "
                     "i32 31)");
  ASSERT_EQ(run.error, "");
  for (int i = 0; i < 32; ++i)
    EXPECT_EQ(run.y[i], 31 - i);
}

TEST(Collective, VotesMatchesAndReductions) {
  auto run = runWarp(R"(
  %odd = trunc i32 %t to i1
  %r = call i32 @llvm.nvvm.vote.ballot.sync(i32 -1, i1 %odd))");
  ASSERT_EQ(run.error, "");
  EXPECT_EQ(uint32_t(run.y[7]), 0xaaaaaaaau);

  run = runWarp(R"(
  %odd = trunc i32 %t to i1
  %all = call i1 @llvm.nvvm.vote.all.sync(i32 -1, i1 %odd)
  %any = call i1 @llvm.nvvm.vote.any.sync(i32 -1, i1 %odd)
  %a = zext i1 %all to i32
  %b = zext i1 %any to i32
  %b2 = shl i32 %b, 1
  %r = or i32 %a, %b2)");
  ASSERT_EQ(run.error, "");
  EXPECT_EQ(run.y[0], 2);

  run = runWarp(R"(
  %c = and i32 %t, 7
  %r = call i32 @llvm.nvvm.match.any.sync.i32(i32 -1, i32 %c))");
  ASSERT_EQ(run.error, "");
  for (int i = 0; i < 32; ++i)
    EXPECT_EQ(uint32_t(run.y[i]), 0x01010101u << (i % 8));

  run = runWarp(R"(
  %c = sub i32 %t, 40
  %s = call i32 @llvm.nvvm.redux.sync.add(i32 %c, i32 -1)
  %m = call i32 @llvm.nvvm.redux.sync.max(i32 %c, i32 -1)
  %m1 = mul i32 %m, 1000
  %r = add i32 %s, %m1)");
  ASSERT_EQ(run.error, "");
  EXPECT_EQ(run.y[13], (31 * 32 / 2 - 40 * 32) + 1000 * (31 - 40));

  run = runWarp(R"(
  %e = call {i32, i1} @llvm.nvvm.elect.sync(i32 -1)
  %is = extractvalue {i32, i1} %e, 1
  %r = zext i1 %is to i32)");
  ASSERT_EQ(run.error, "");
  EXPECT_EQ(run.y[0], 1);
  EXPECT_EQ(run.y[1], 0);
}

// Half-warps with their own masks work at the same time.
TEST(Collective, DisjointMasks) {
  auto run = runWarp(R"(
  %low = icmp slt i32 %t, 16
  %mask = select i1 %low, i32 65535, i32 -65536
  %r = call i32 @llvm.nvvm.shfl.sync.bfly.i32(i32 %mask, i32 %t, i32 8, i32 31))");
  ASSERT_EQ(run.error, "");
  for (int i = 0; i < 32; ++i)
    EXPECT_EQ(run.y[i], i ^ 8);
}

TEST(Collective, LaneOutsideItsMask) {
  auto run = runWarp("%r = call i32 @llvm.nvvm.shfl.sync.bfly.i32(i32 65535, "
                     "i32 %t, i32 1, i32 31)");
  EXPECT_TRUE(contains(run.error, "lane 16 is not in its own member mask"));
  EXPECT_TRUE(contains(run.error, "thread (16,0,0)"));
}

TEST(Collective, SourceLaneOutsideTheMask) {
  auto run = runWarp(R"(
  %low = icmp slt i32 %t, 16
  %mask = select i1 %low, i32 65535, i32 -65536
  %r = call i32 @llvm.nvvm.shfl.sync.bfly.i32(i32 %mask, i32 %t, i32 16, i32 31))");
  EXPECT_TRUE(contains(run.error, "which is not in the member mask"));
}

TEST(Collective, PartialWarpReadsNoLaneThatIsNotThere) {
  auto run = runWarp("%r = call i32 @llvm.nvvm.shfl.sync.bfly.i32(i32 -1, i32 "
                     "%t, i32 8, i32 31)",
                     20);
  EXPECT_TRUE(contains(run.error, "does not exist"));
}

TEST(Collective, MasksThatDiffer) {
  auto run = runWarp(R"(
  %low = icmp slt i32 %t, 16
  %mask = select i1 %low, i32 -1, i32 -65536
  %r = call i32 @llvm.nvvm.shfl.sync.bfly.i32(i32 %mask, i32 %t, i32 1, i32 31))");
  EXPECT_TRUE(contains(run.error, "differs from the mask"));
}

TEST(Collective, DivergentInstructions) {
  auto run = runWarp(R"(
  %low = icmp slt i32 %t, 16
  br i1 %low, label %a, label %b
a:
  %ra = call i32 @llvm.nvvm.shfl.sync.bfly.i32(i32 -1, i32 %t, i32 1, i32 31)
  br label %join
b:
  %rb = call i32 @llvm.nvvm.shfl.sync.bfly.i32(i32 -1, i32 %t, i32 2, i32 31)
  br label %join
join:
  %r = phi i32 [ %ra, %a ], [ %rb, %b ])");
  EXPECT_TRUE(contains(run.error, "divergent collective"));
}

TEST(Collective, MissingLanesAreADeadlock) {
  auto run = runWarp(R"(
  %low = icmp slt i32 %t, 30
  br i1 %low, label %a, label %join
a:
  %ra = call i32 @llvm.nvvm.shfl.sync.bfly.i32(i32 -1, i32 %t, i32 1, i32 31)
  br label %join
join:
  %r = phi i32 [ %ra, %a ], [ 0, %0 ])");
  EXPECT_TRUE(contains(run.error, "deadlock, 30 of 32 threads wait for ever"));
  EXPECT_TRUE(contains(run.error, "2 threads finished"));
  EXPECT_TRUE(contains(run.error, "waiting for the other lanes of mask"));
}
