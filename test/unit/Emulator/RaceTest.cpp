// Races: programs whose numbers are right when threads take turns, and wrong to
// rely on. Each has a twin in which a barrier (or an atomic) makes it correct.
#include "EmulatorTestUtils.h"

using namespace dlc;
using namespace dlc::test;

/// Runs `body` (of %t, the thread, and %x, %y: 128 ints) on blocks of 64.
static std::string raceIn(const std::string &body, unsigned blocks = 1) {
  EmulatorOptions options;
  options.check = EmulatorCheck::Races;
  auto module = loadOrFail(
      "@tile = internal addrspace(3) global [64 x i32] undef, align 16\n"
      "@bytes = internal addrspace(3) global [64 x i8] undef, align 16\n"
      "define ptx_kernel void @k(ptr %x, ptr %y) {\n"
      "  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()\n" +
          body + "\n  ret void\n}",
      options);
  std::vector<int> x(128, 1), y(128, 2);
  return errorOf(module->launch("k", {{blocks}, {64}},
                                {buffer(x, "x", false), buffer(y, "y")}));
}

static const char *const kBarrier =
    "call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)\n";

// Thread t reads what thread t - 1 wrote, which with threads in turn is there.
static std::string neighbour(const std::string &between) {
  return R"(
  %p = getelementptr i32, ptr addrspace(3) @tile, i32 %t
  store i32 %t, ptr addrspace(3) %p
  )" + between +
         R"(
  %before = sub i32 %t, 1
  %i = and i32 %before, 63
  %q = getelementptr i32, ptr addrspace(3) @tile, i32 %i
  %v = load i32, ptr addrspace(3) %q
  %o = getelementptr i32, ptr %y, i32 %t
  store i32 %v, ptr %o)";
}

TEST(Race, ReadOfAnotherThreadsWrite) {
  EXPECT_EQ(raceIn(neighbour(kBarrier)), "");
  std::string report = raceIn(neighbour(""));
  EXPECT_TRUE(
      contains(report, "race at byte 0 of 'shared tile': read here at"));
  EXPECT_TRUE(contains(report, "written by thread (0,0,0) at 'store i32 %t"));
  EXPECT_TRUE(contains(report, "with no barrier between"));
}

// A warp's own barrier orders its lanes, and only those.
TEST(Race, WarpBarrierOrdersOneWarp) {
  std::string warp = "call void @llvm.nvvm.bar.warp.sync(i32 -1)\n";
  std::string report = raceIn(neighbour(warp));
  // Lane 0 of warp 0 reads from warp 1: its write comes later in any order.
  EXPECT_TRUE(contains(report, "race at byte"));
  std::string inWarp = R"(
  %p = getelementptr i32, ptr addrspace(3) @tile, i32 %t
  store i32 %t, ptr addrspace(3) %p
  )" + warp + R"(
  %i = xor i32 %t, 1
  %q = getelementptr i32, ptr addrspace(3) @tile, i32 %i
  %v = load i32, ptr addrspace(3) %q
  %o = getelementptr i32, ptr %y, i32 %t
  store i32 %v, ptr %o)";
  EXPECT_EQ(raceIn(inWarp), "");
}

// Writing again what others may still be reading: thread 0 reads cell 1, and
// then thread 1 writes it.
TEST(Race, WriteAfterRead) {
  auto body = [&](const std::string &between) {
    std::string text = neighbour(kBarrier);
    text.replace(text.find("sub i32"), 3, "add");
    return text + "\n" + between + "store i32 0, ptr addrspace(3) %p";
  };
  EXPECT_EQ(raceIn(body(kBarrier)), "");
  EXPECT_TRUE(contains(raceIn(body("")), "and read by thread (0,0,0)"));
}

TEST(Race, ArrivingReleasesButDoesNotAcquire) {
  auto body =
      [](const std::string &first, const std::string &second) {
        return R"(
  %c = icmp slt i32 %t, 32
  %p = getelementptr i32, ptr addrspace(3) @tile, i32 0
  br i1 %c, label %a, label %b
a:
  %isFirst = icmp eq i32 %t, 0
  br i1 %isFirst, label %write, label %arrive
write:
  store i32 7, ptr addrspace(3) %p
  br label %arrive
arrive:
  )" + first + R"(
  br label %end
b:
  )" + second + R"(
  %v = load i32, ptr addrspace(3) %p
  %o = getelementptr i32, ptr %y, i32 %t
  store i32 %v, ptr %o
  br label %end
end:)";
      };
  const std::string arrive = "call void "
                             "@llvm.nvvm.barrier.cta.arrive.aligned.count(i32 "
                             "1, i32 64)";
  const std::string wait = "call void "
                           "@llvm.nvvm.barrier.cta.sync.aligned.count(i32 1, "
                           "i32 64)";
  EXPECT_EQ(raceIn(body(arrive, wait)), "");
  EXPECT_TRUE(contains(raceIn(body("", "")), "race at byte 0"));
}

TEST(Race, BlocksAreNeverOrdered) {
  std::string body = R"(
  %o = getelementptr i32, ptr %y, i32 %t
  store i32 1, ptr %o)";
  EXPECT_EQ(raceIn(body, 1), "");
  EXPECT_TRUE(contains(raceIn(body, 2), "written by another block"));
}

TEST(Race, AtomicsDoNotRaceWithEachOther) {
  EXPECT_EQ(raceIn("%old = atomicrmw add ptr %y, i32 1 monotonic", 2), "");
  EXPECT_TRUE(contains(raceIn("%old = atomicrmw add ptr %y, i32 1 monotonic\n"
                              "  store i32 1, ptr %y"),
                       "race at byte 0 of 'y'"));
}

// Neighbouring bytes are not one another.
TEST(Race, BytesAreToldApart) {
  EXPECT_EQ(raceIn(R"(
  %p = getelementptr i8, ptr addrspace(3) @bytes, i32 %t
  %v = trunc i32 %t to i8
  store i8 %v, ptr addrspace(3) %p
  %q = getelementptr i8, ptr %y, i32 %t
  store i8 %v, ptr %q)"),
            "");
}
