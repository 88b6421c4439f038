// mbarrier: a pipe of two barriers between two warps, and every way to get it
// wrong.
#include "EmulatorTestUtils.h"

using namespace dlc;
using namespace dlc::test;

namespace {

const char *const kDeclarations = R"(
declare void @llvm.nvvm.mbarrier.init.shared(ptr addrspace(3), i32)
declare void @llvm.nvvm.mbarrier.inval.shared(ptr addrspace(3))
declare i64 @llvm.nvvm.mbarrier.arrive.shared(ptr addrspace(3))
declare i64 @llvm.nvvm.mbarrier.arrive.scope.cta.space.cta(ptr addrspace(3), i32)
declare i1 @llvm.nvvm.mbarrier.test.wait.shared(ptr addrspace(3), i64)
declare i1 @llvm.nvvm.mbarrier.try.wait.parity.scope.cta.space.cta(ptr addrspace(3), i32)
declare i1 @llvm.nvvm.mbarrier.try.wait.parity.scope.cluster.space.cta(ptr addrspace(3), i32)
declare void @llvm.nvvm.mbarrier.expect.tx.scope.cta.space.cta(ptr addrspace(3), i32)
declare void @llvm.nvvm.mbarrier.complete.tx.scope.cta.space.cta(ptr addrspace(3), i32)
declare i64 @llvm.nvvm.mbarrier.arrive.expect.tx.scope.cta.space.cta(ptr addrspace(3), i32)
@full = internal addrspace(3) global i64 undef, align 8
@free = internal addrspace(3) global i64 undef, align 8
@tile = internal addrspace(3) global [32 x i32] undef, align 16
)";

// Warp 0 fills the tile three times, warp 1 reads it turned round and stores
// it. `full` has all of warp 0's arrivals, `free` all of warp 1's; the first
// filling waits for parity 1, the phase before the first.
const char *const kPipe = R"(
define ptx_kernel void @k(ptr addrspace(1) %y) {
entry:
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %lane = and i32 %t, 31
  %isFirst = icmp eq i32 %t, 0
  br i1 %isFirst, label %init, label %start
init:
  call void @llvm.nvvm.mbarrier.init.shared(ptr addrspace(3) @full, i32 32)
  call void @llvm.nvvm.mbarrier.init.shared(ptr addrspace(3) @free, i32 32)
  br label %start
start:
  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)
  %fills = icmp ult i32 %t, 32
  br label %loop
loop:
  %i = phi i32 [0, %start], [%next, %end]
  %parity = and i32 %i, 1
  br i1 %fills, label %fill, label %read
fill:
  %other = xor i32 %parity, 1
  br label %fillWait
fillWait:
  %w = call i1 @llvm.nvvm.mbarrier.try.wait.parity.scope.cta.space.cta(ptr addrspace(3) @free, i32 %other)
  br i1 %w, label %fillTile, label %fillWait
fillTile:
  %p = getelementptr i32, ptr addrspace(3) @tile, i32 %lane
  %i100 = mul i32 %i, 100
  %v = add i32 %i100, %lane
  store i32 %v, ptr addrspace(3) %p
  %s = call i64 @llvm.nvvm.mbarrier.arrive.shared(ptr addrspace(3) @full)
  br label %end
read:
  %g = call i1 @llvm.nvvm.mbarrier.try.wait.parity.scope.cta.space.cta(ptr addrspace(3) @full, i32 %parity)
  br i1 %g, label %readTile, label %read
readTile:
  %back = sub i32 31, %lane
  %q = getelementptr i32, ptr addrspace(3) @tile, i32 %back
  %u = load i32, ptr addrspace(3) %q
  %i32 = mul i32 %i, 32
  %at = add i32 %i32, %lane
  %o = getelementptr i32, ptr addrspace(1) %y, i32 %at
  store i32 %u, ptr addrspace(1) %o
  %r = call i64 @llvm.nvvm.mbarrier.arrive.scope.cta.space.cta(ptr addrspace(3) @free, i32 1)
  br label %end
end:
  %next = add i32 %i, 1
  %more = icmp ult i32 %next, 3
  br i1 %more, label %loop, label %done
done:
  ret void
}
)";

std::string runKernel(const std::string &kernel, std::vector<int> &y,
                      uint64_t seed = 0) {
  EmulatorOptions options;
  options.check = EmulatorCheck::Races;
  options.scheduleSeed = seed;
  auto module = loadOrFail(kDeclarations + kernel, options);
  y.assign(96, -1);
  return errorOf(module->launch("k", {{1}, {64}}, {buffer(y, "y")}, {}));
}

std::string runPipe(const std::string &from, const std::string &to,
                    std::vector<int> &y, uint64_t seed = 0) {
  std::string text = kPipe;
  if (!from.empty()) {
    size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
  }
  return runKernel(text, y, seed);
}

std::string runPipe(const std::string &from, const std::string &to) {
  std::vector<int> y;
  return runPipe(from, to, y);
}

/// `body` with %t, after thread 0 initialised @full for `count` arrivals.
std::string runBody(const std::string &body, int count = 64) {
  std::vector<int> y;
  return runKernel("define ptx_kernel void @k(ptr addrspace(1) %y) {\n"
                   "  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()\n"
                   "  %z = icmp eq i32 %t, 0\n"
                   "  br i1 %z, label %init, label %start\n"
                   "init:\n  call void @llvm.nvvm.mbarrier.init.shared(ptr "
                   "addrspace(3) @full, i32 " +
                       std::to_string(count) +
                       ")\n  br label %start\nstart:\n"
                       "  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32"
                       " 0)\n" +
                       body + "  ret void\n}",
                   y);
}

const char *const kArrive = " = call i64 @llvm.nvvm.mbarrier.arrive.shared(ptr "
                            "addrspace(3) @full)\n";

} // namespace

TEST(Mbarrier, PipeOfTwoWarps) {
  for (uint64_t seed : {0, 1, 2, 3}) {
    std::vector<int> y;
    ASSERT_EQ(runPipe("", "", y, seed), "");
    for (int i = 0; i < 3; ++i)
      for (int lane = 0; lane < 32; ++lane)
        ASSERT_EQ(y[i * 32 + lane], i * 100 + 31 - lane) << i << " " << lane;
  }
}

TEST(Mbarrier, MissingWaitsAreRaces) {
  EXPECT_TRUE(contains(
      runPipe("%g = call i1 @llvm.nvvm.mbarrier.try.wait.parity.scope.cta.space"
              ".cta(ptr addrspace(3) @full, i32 %parity)",
              "%g = icmp eq i32 0, 0"),
      "race at byte"));
  EXPECT_TRUE(contains(
      runPipe("%w = call i1 @llvm.nvvm.mbarrier.try.wait.parity.scope.cta.space"
              ".cta(ptr addrspace(3) @free, i32 %other)",
              "%w = icmp eq i32 0, 0"),
      "nobody has waited for the phase before"));
}

TEST(Mbarrier, WrongPhases) {
  // Waits for the phase that is still to come, or takes the one before.
  EXPECT_TRUE(
      contains(runPipe("@free, i32 %other", "@free, i32 %parity"), "deadlock"));
  std::string report = runPipe("@full, i32 %parity", "@full, i32 0");
  EXPECT_NE(report, "");
}

TEST(Mbarrier, MissingArrivalsAreDeadlocks) {
  std::string report =
      runPipe("mbarrier.init.shared(ptr addrspace(3) @full, i32 32)",
              "mbarrier.init.shared(ptr addrspace(3) @full, i32 33)");
  EXPECT_TRUE(contains(report, "deadlock"));
  EXPECT_TRUE(contains(report, "waiting at the mbarrier at shared byte"));
  EXPECT_TRUE(contains(report, "(32 of 33 arrived)"));
}

TEST(Mbarrier, TooManyArrivals) {
  EXPECT_TRUE(
      contains(runBody("  %s = call i64 @llvm.nvvm.mbarrier.arrive.scope.cta."
                       "space.cta(ptr addrspace(3) @full, i32 3)\n",
                       64),
               "3 arrivals at an mbarrier whose phase waits for 1 of 64"));
}

TEST(Mbarrier, StatesOfPhases) {
  std::string wait =
      "  br label %poll\npoll:\n  %w = call i1 @llvm.nvvm.mbarrier.test.wait."
      "shared(ptr addrspace(3) @full, i64 %s)\n  br i1 %w, label %over, label "
      "%poll\nover:\n";
  EXPECT_EQ(runBody(std::string("  %s") + kArrive + wait), "");
  std::string old = wait;
  old.replace(old.find("i64 %s"), 6, "i64 7");
  EXPECT_TRUE(contains(runBody(std::string("  %s") + kArrive + old),
                       "the state of a phase long over"));
}

TEST(Mbarrier, WaitsThatAreNotRepeated) {
  std::string text = kPipe;
  const std::string from = "  br i1 %g, label %readTile, label %read\n";
  text.replace(text.find(from), from.size(), "  br label %readTile\n");
  EXPECT_TRUE(contains(load(kDeclarations + text).error,
                       "nothing looks at the result of"));
}

TEST(Mbarrier, ObjectsThatAreNotThere) {
  std::vector<int> y;
  EXPECT_TRUE(contains(
      runKernel(std::string("define ptx_kernel void @k(ptr addrspace(1) %y) {"
                            "\n  %s") +
                    kArrive + "  ret void\n}",
                y),
      "mbarrier that was not initialised"));
  EXPECT_TRUE(contains(
      runBody("  %i = icmp eq i32 %t, 9\n  br i1 %i, label %a, label %b\na:\n"
              "  call void @llvm.nvvm.mbarrier.init.shared(ptr addrspace(3) "
              "@full, i32 2)\n  br label %b\nb:\n"),
      "is initialised again"));
  // Others may not know yet that it is there.
  EXPECT_TRUE(contains(
      runPipe("  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)\n",
              ""),
      "race: mbarrier that thread 0 initialises"));
}

// Two arrivals and 16 bytes end a phase; the bytes may come first.
TEST(Mbarrier, Transactions) {
  const char *const expect = "  call void @llvm.nvvm.mbarrier.expect.tx.scope."
                             "cta.space.cta(ptr addrspace(3) @full, i32 16)\n";
  const char *const complete =
      "  call void @llvm.nvvm.mbarrier.complete.tx.scope.cta.space.cta(ptr "
      "addrspace(3) @full, i32 16)\n";
  const std::string wait =
      "  %w = call i1 @llvm.nvvm.mbarrier.try.wait.parity.scope.cluster.space."
      "cta(ptr addrspace(3) @full, i32 0)\n  br i1 %w, label %over, label "
      "%c\nover:\n";
  auto run = [&](const std::string &first, const std::string &second) {
    return runBody("  br i1 %z, label %a, label %b\na:\n" + first +
                       "  br label %c\nb:\n  %l = icmp eq i32 %t, 63\n  br i1 "
                       "%l, label %d, label %c\nd:\n" +
                       second + "  br label %c\nc:\n" + wait,
                   1);
  };
  std::string arrive = std::string("  %s") + kArrive;
  EXPECT_EQ(run(expect + arrive, complete), "");
  EXPECT_EQ(run(complete, expect + arrive), "");
  EXPECT_EQ(run("  %s = call i64 @llvm.nvvm.mbarrier.arrive.expect.tx.scope."
                "cta.space.cta(ptr addrspace(3) @full, i32 16)\n",
                complete),
            "");
  std::string report = run(expect + arrive, "");
  EXPECT_TRUE(contains(report, "deadlock"));
  EXPECT_TRUE(contains(report, "(1 of 1 arrived, 16 bytes to come)"));
  report = run(complete, arrive);
  EXPECT_TRUE(contains(report, "(1 of 1 arrived, -16 bytes to come)"));
  // All have arrived, but bytes are to come.
  std::string again = arrive;
  again.replace(again.find("%s"), 2, "%u");
  EXPECT_TRUE(contains(run(expect + arrive, again),
                       "1 arrivals at an mbarrier whose phase waits for 0"));
  std::string most = expect;
  most.replace(most.find("i32 16"), 6, "i32 1048576");
  EXPECT_TRUE(contains(run(most, ""), "the transaction count of an mbarrier "
                                      "becomes 1048576"));
}

TEST(Mbarrier, WhatIsNotKnownIsNamed) {
  auto loaded = load(
      "declare i64 @llvm.nvvm.mbarrier.arrive.drop.scope.cta.space.cta("
      "ptr addrspace(3), i32)\n@full = internal addrspace(3) global i64 undef, "
      "align 8\ndefine ptx_kernel void @k() {\n  %s = call i64 "
      "@llvm.nvvm.mbarrier.arrive.drop.scope.cta.space.cta(ptr "
      "addrspace(3) @full, i32 8)\n  ret void\n}");
  EXPECT_TRUE(contains(loaded.error, "mbarrier.arrive.drop"));
}
