// cp.async: what arrives, and what must be reported: reading too early, filling
// again what is still read, waiting for too little.
#include "EmulatorTestUtils.h"

using namespace dlc;
using namespace dlc::test;

static const char *const kCommit =
    "  call void @llvm.nvvm.cp.async.commit.group()\n";
static const char *const kBarrier =
    "  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)\n";

static std::string wait(int left) {
  return "  call void @llvm.nvvm.cp.async.wait.group(i32 " +
         std::to_string(left) + ")\n";
}

/// Copies 16 bytes of x, from element 4 t + `first`, to the thread's place in
/// tile `name`.
static std::string copy(const std::string &name, int first = 0,
                        const std::string &size = "") {
  std::string n = name + std::to_string(first);
  return "  %e" + n + " = add i32 %t4, " + std::to_string(first) + "\n  %f" +
         n + " = getelementptr i32, ptr addrspace(1) %x, i32 %e" + n +
         "\n  %d" + n + " = getelementptr i32, ptr addrspace(3) @" + name +
         ", i32 %t4\n  call void @llvm.nvvm.cp.async.cg.shared.global.16" +
         (size.empty() ? "" : ".s") + "(ptr addrspace(3) %d" + n +
         ", ptr addrspace(1) %f" + n + (size.empty() ? "" : ", i32 " + size) +
         ")\n";
}

/// Thread t reads what thread t + 1 (of 64) had copied into tile `name`.
static std::string read(const std::string &name) {
  return "  %n" + name + " = add i32 %t4, 4\n  %m" + name + " = and i32 %n" +
         name + ", 255\n  %s" + name +
         " = getelementptr i32, ptr addrspace(3) @" + name + ", i32 %m" + name +
         "\n  %v" + name + " = load i32, ptr addrspace(3) %s" + name +
         "\n  %o" + name +
         " = getelementptr i32, ptr addrspace(1) %y, i32 %t"
         "\n  store i32 %v" +
         name + ", ptr addrspace(1) %o" + name + "\n";
}

static std::string run(const std::string &body, std::vector<int> &y,
                       EmulatorCheck check = EmulatorCheck::Races) {
  EmulatorOptions options;
  options.check = check;
  auto module = loadOrFail(
      "@a = internal addrspace(3) global [256 x i32] undef, align 16\n"
      "@b = internal addrspace(3) global [256 x i32] undef, align 16\n"
      "define ptx_kernel void @k(ptr addrspace(1) %x, ptr addrspace(1) %y) {\n"
      "  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()\n"
      "  %t4 = mul i32 %t, 4\n" +
          body + "  ret void\n}",
      options);
  std::vector<int> x(512);
  for (unsigned i = 0; i < x.size(); ++i)
    x[i] = static_cast<int>(i);
  y.assign(64, -1);
  return errorOf(module->launch("k", {{1}, {64}},
                                {buffer(x, "x", false), buffer(y, "y")}));
}

TEST(AsyncCopy, ArrivesWhenWaitedFor) {
  std::vector<int> y;
  ASSERT_EQ(run(copy("a") + kCommit + wait(0) + kBarrier + read("a"), y), "");
  for (int t = 0; t < 64; ++t)
    EXPECT_EQ(y[t], (4 * t + 4) % 256);
  // The older of two groups; the other one arrives at the end of the thread.
  ASSERT_EQ(run(copy("a", 8) + kCommit + copy("b") + kCommit + wait(1) +
                    kBarrier + read("a"),
                y),
            "");
  EXPECT_EQ(y[0], 12);
  ASSERT_EQ(run(copy("a") + "  call void @llvm.nvvm.cp.async.wait.all()\n" +
                    kBarrier + read("a"),
                y),
            "");
  EXPECT_EQ(y[0], 4);
}

TEST(AsyncCopy, FillsUpWithZeros) {
  std::vector<int> y;
  ASSERT_EQ(
      run(copy("a", 1000, "0") + kCommit + wait(0) + kBarrier + read("a"), y),
      "");
  EXPECT_EQ(y[5], 0);
}

TEST(AsyncCopy, ReadingTooEarlyIsReported) {
  std::vector<int> y;
  std::string early = "while an asynchronous copy that nobody has waited for";
  EXPECT_TRUE(
      contains(run(copy("a") + kCommit + kBarrier + read("a"), y), early));
  // Off by one: the group that is read is the one still under way.
  EXPECT_TRUE(contains(run(copy("b") + kCommit + copy("a") + kCommit + wait(1) +
                               kBarrier + read("a"),
                           y),
                       early));
  // Waiting for groups does not wait for what is in none.
  EXPECT_TRUE(
      contains(run(copy("a") + wait(0) + kBarrier + read("a"), y), early));
  // On level 0 the number is wrong: all ones, as at the start of a block.
  ASSERT_EQ(run(copy("a") + kCommit + kBarrier + read("a"), y,
                EmulatorCheck::Execution),
            "");
  EXPECT_EQ(y[0], -1);
}

TEST(AsyncCopy, WaitingOrdersOnlyTheThreadItself) {
  std::vector<int> y;
  std::string report = run(copy("a") + kCommit + wait(0) + read("a"), y);
  EXPECT_NE(report, "");
}

TEST(AsyncCopy, FillingWhatIsStillReadIsARace) {
  std::vector<int> y;
  std::string first = copy("a") + kCommit + wait(0) + kBarrier + read("a");
  std::string again = copy("a", 4) + kCommit + wait(0);
  EXPECT_EQ(run(first + kBarrier + again, y), "");
  EXPECT_TRUE(contains(run(first + again, y), "race at byte"));
}

TEST(AsyncCopy, BoundsAndAlignment) {
  std::vector<int> y;
  EXPECT_TRUE(contains(run(copy("a", 260) + kCommit + wait(0), y),
                       "out-of-bounds read of 16 bytes at byte 2048 of 'x'"));
  EXPECT_TRUE(contains(run(copy("a", 1) + kCommit + wait(0), y),
                       "misaligned cp.async of 16 bytes"));
  EXPECT_TRUE(contains(run(copy("a", 0, "32") + kCommit + wait(0), y),
                       "cp.async of 32 bytes into 16"));
}
