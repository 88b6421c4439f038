// What a launch must refuse or report: barriers, memory, limits, unknown code.
#include "EmulatorTestUtils.h"

using namespace dlc;
using namespace dlc::test;

static std::string kernel(const std::string &body) {
  return "@tile = internal addrspace(3) global [16 x i32] undef\n"
         "@next = internal addrspace(3) global [16 x i32] undef\n"
         "define ptx_kernel void @k(ptr %x, ptr %y) {\n"
         "entry:\n"
         "  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()\n" +
         body + "\n}";
}

// x and y are of 64 ints each.
static std::string reportOf(const std::string &body, unsigned threads = 64,
                            EmulatorOptions options = {}) {
  auto module = loadOrFail(kernel(body), options);
  std::vector<int> x(64, 1), y(64, 2);
  return errorOf(module->launch("k", {{2}, {threads}},
                                {buffer(x, "x", false), buffer(y, "y")}));
}

//===----------------------------------------------------------------------===//
// Barriers
//===----------------------------------------------------------------------===//

TEST(Barrier, SkippedBySomeThreadsIsADeadlock) {
  std::string report = reportOf(R"(
  %c = icmp slt i32 %t, 32
  br i1 %c, label %sync, label %end
sync:
  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)
  br label %end
end:
  ret void)");
  EXPECT_TRUE(
      contains(report, "kernel 'k', block (0,0,0): deadlock, 32 of 64"));
  EXPECT_TRUE(contains(report, "barrier 0 (32 of 64 threads arrived)"));
  EXPECT_TRUE(contains(report, "32 threads finished"));
}

TEST(Barrier, TwoPlacesInOneWarp) {
  std::string body = R"(
  %c = icmp slt i32 %t, LIMIT
  br i1 %c, label %a, label %b
a:
  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)
  br label %end
b:
  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)
  br label %end
end:
  ret void)";
  auto with = [&](const char *limit) {
    std::string text = body;
    text.replace(text.find("LIMIT"), 5, limit);
    return reportOf(text);
  };
  EXPECT_TRUE(contains(with("16"), "divergent barrier"));
  // Different warps may meet at different instructions.
  EXPECT_EQ(with("32"), "");
}

TEST(Barrier, NamedBarriersWithCounts) {
  // Warp 0 waits for 64, warp 1 only arrives.
  EXPECT_EQ(reportOf(R"(
  %c = icmp slt i32 %t, 32
  br i1 %c, label %a, label %b
a:
  call void @llvm.nvvm.barrier.cta.sync.aligned.count(i32 3, i32 64)
  br label %end
b:
  call void @llvm.nvvm.barrier.cta.arrive.aligned.count(i32 3, i32 64)
  br label %end
end:
  ret void)"),
            "");
  EXPECT_TRUE(contains(reportOf("call void "
                                "@llvm.nvvm.barrier.cta.sync.aligned.count("
                                "i32 1, i32 48)\n ret void"),
                       "positive multiple of 32"));
  EXPECT_TRUE(contains(reportOf("call void "
                                "@llvm.nvvm.barrier.cta.sync.aligned.all(i32 "
                                "16)\n ret void"),
                       "barrier 16 does not exist"));
  EXPECT_TRUE(contains(reportOf(R"(
  %c = icmp slt i32 %t, 32
  %n = select i1 %c, i32 64, i32 32
  call void @llvm.nvvm.barrier.cta.sync.aligned.count(i32 1, i32 %n)
  ret void)"),
                       "awaited for 32 threads"));
}

TEST(Barrier, Reduction) {
  auto module = loadOrFail(kernel(R"(
  %c = icmp slt i32 %t, 40
  %n = call i32 @llvm.nvvm.barrier.cta.red.popc.aligned.all(i32 0, i1 %c)
  %p = getelementptr i32, ptr %y, i32 %t
  store i32 %n, ptr %p
  ret void)"));
  std::vector<int> x(64), y(64);
  ASSERT_EQ(errorOf(module->launch("k", {{1}, {64}},
                                   {buffer(x, "x"), buffer(y, "y")})),
            "");
  EXPECT_EQ(y, std::vector<int>(64, 40));
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

static const char *const kShiftedStore = R"(
  %i = add i32 %t, 1
  %p = getelementptr i32, ptr %y, i32 %i
  store i32 %t, ptr %p
  ret void)";

TEST(Memory, OutOfBoundsWriteNamesBufferAndThread) {
  std::string report = reportOf(kShiftedStore);
  EXPECT_TRUE(contains(report, "out-of-bounds write of 4 bytes at byte 256 of "
                               "'y', which has 256 bytes"));
  EXPECT_TRUE(contains(report, "block (0,0,0), thread (63,0,0)"));
  EXPECT_TRUE(contains(report, "store i32 %t"));
}

TEST(Memory, NotLookedAtOnTheFirstLevel) {
  EmulatorOptions options;
  options.check = EmulatorCheck::Execution;
  auto module = loadOrFail(kernel(kShiftedStore), options);
  std::vector<int> x(64), y(65);
  EmulatedBuffer shortened = buffer(y, "y");
  shortened.bytes -= sizeof(int);
  EXPECT_EQ(
      errorOf(module->launch("k", {{1}, {64}}, {buffer(x, "x"), shortened})),
      "");
  EXPECT_EQ(y[64], 63);
}

TEST(Memory, ReadBeforeABuffer) {
  EXPECT_TRUE(contains(reportOf(R"(
  %p = getelementptr i32, ptr %x, i32 -1
  %v = load i32, ptr %p
  store i32 %v, ptr %y
  ret void)"),
                       "out-of-bounds read of 4 bytes at byte -4 of 'x'"));
}

TEST(Memory, NullPointer) {
  EXPECT_TRUE(contains(reportOf("%v = load volatile i32, ptr null\n ret void"),
                       "far from every buffer"));
}

TEST(Memory, WriteToReadOnly) {
  EXPECT_TRUE(contains(reportOf("store i32 1, ptr %x\n ret void"),
                       "read-only 'x' at byte 0"));
}

TEST(Memory, Misaligned) {
  EXPECT_TRUE(contains(reportOf(R"(
  %p = getelementptr i8, ptr %y, i32 4
  store <4 x i32> zeroinitializer, ptr %p, align 16
  ret void)"),
                       "misaligned write of 16 bytes"));
}

TEST(Memory, OverTheEndOfASharedVariable) {
  EXPECT_TRUE(contains(reportOf(R"(
  %p = getelementptr [16 x i32], ptr addrspace(3) @tile, i32 0, i32 %t
  store i32 %t, ptr addrspace(3) %p
  %q = getelementptr [16 x i32], ptr addrspace(3) @next, i32 0, i32 0
  store i32 %t, ptr addrspace(3) %q
  ret void)"),
                       "at byte 64 of 'shared tile', which has 64 bytes"));
}

TEST(Memory, Trap) {
  EXPECT_TRUE(contains(
      reportOf("call void @llvm.trap()\n unreachable\n}\n"
               "declare void @llvm.trap()\ndefine void @unused() {\n ret void"),
      "executed a trap"));
}

//===----------------------------------------------------------------------===//
// Launches and modules
//===----------------------------------------------------------------------===//

TEST(Launch, Limits) {
  EmulatorOptions options;
  options.maxSharedBytes = 4096;
  auto module = loadOrFail(kernel("ret void"), options);
  std::vector<int> x(64), y(64);
  auto buffers = {buffer(x, "x"), buffer(y, "y")};
  auto report = [&](LaunchShape shape) {
    return errorOf(module->launch("k", shape, buffers));
  };
  EXPECT_EQ(report({{1}, {1024}}), "");
  EXPECT_TRUE(contains(report({{1}, {1025}}), "a block of 1025 x 1 x 1"));
  EXPECT_TRUE(contains(report({{0}, {32}}), "a grid of 0 x 1 x 1"));
  EXPECT_TRUE(contains(report({{1, 65536}, {32}}), "a grid of 1 x 65536"));
  EXPECT_TRUE(
      contains(report({{1}, {32}, 4097}),
               "4097 bytes of shared memory, but a block may use 4096"));
  EXPECT_TRUE(contains(errorOf(module->launch("k", {}, {})),
                       "takes 2 buffers and 0 symbols, 0 and 0 given"));
  EXPECT_TRUE(contains(errorOf(module->launch("q", {}, {})),
                       "no kernel 'q'; the module has: k"));
}

TEST(Launch, BlockLargerThanCompiledFor) {
  auto module = loadOrFail(
      "define ptx_kernel void @k() \"nvvm.maxntid\"=\"64,2,1\" { ret void }");
  EXPECT_EQ(errorOf(module->launch("k", {{1}, {128}}, {})), "");
  EXPECT_TRUE(contains(errorOf(module->launch("k", {{1}, {129}}, {})),
                       "compiled for at most 128"));
}

TEST(Module, UnknownCodeIsNamed) {
  EXPECT_TRUE(contains(
      load("declare i32 @llvm.nvvm.read.ptx.sreg.smid()\n" +
           kernel("%s = call i32 @llvm.nvvm.read.ptx.sreg.smid()\n ret void"))
          .error,
      "does not know the intrinsic 'llvm.nvvm.read.ptx.sreg.smid'"));
  EXPECT_TRUE(contains(
      load(kernel("call void asm sideeffect \"mov.b32 %r0, 1;\", \"\"()\n"
                  " ret void"))
          .error,
      "does not know the inline assembly 'mov.b32"));
  EXPECT_TRUE(contains(load("declare void @vprintf()\n" +
                            kernel("call void @vprintf()\n ret void"))
                           .error,
                       "does not know the external function 'vprintf'"));
  EXPECT_TRUE(
      contains(load("define void @f() { ret void }").error, "holds no kernel"));
}
