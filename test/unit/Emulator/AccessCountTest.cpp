// Bank cycles and sectors of accesses whose costs are known.
#include "EmulatorTestUtils.h"

#include <algorithm>

using namespace dlc;
using namespace dlc::test;

namespace {

/// Of a block of `threads` threads that each do `body` once, with %t.
std::vector<AccessCount> count(const std::string &body, unsigned threads = 32,
                               EmulatorCheck check = EmulatorCheck::Memory) {
  std::vector<AccessCount> counts;
  EmulatorOptions options;
  options.check = check;
  options.accessCounts = &counts;
  auto module = loadOrFail(
      "@tile = internal addrspace(3) global [4096 x i32] undef, align 128\n"
      "define ptx_kernel void @k(ptr addrspace(1) %x) {\n"
      "  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()\n" +
          body + "  ret void\n}",
      options);
  alignas(128) static int memory[8192];
  EmulatedBuffer x{memory, sizeof memory, "x", true};
  EXPECT_EQ(errorOf(module->launch("k", {{1}, {threads}}, {x})), "");
  return counts;
}

/// A store of `type` by each thread, its word `scale` t + `offset`.
std::string store(int scale, const std::string &type = "i32", int offset = 0,
                  bool isShared = true) {
  std::string space = isShared ? "ptr addrspace(3)" : "ptr addrspace(1)";
  return "  %m = mul i32 %t, " + std::to_string(scale) +
         "\n  %i = add i32 %m, " + std::to_string(offset) +
         "\n  %p = getelementptr i32, " + space +
         (isShared ? " @tile" : " %x") + ", i32 %i\n  store " + type +
         " zeroinitializer, " + space + " %p, align 4\n";
}

std::pair<uint64_t, uint64_t> costOf(const std::vector<AccessCount> &counts,
                                     bool isShared) {
  EXPECT_EQ(counts.size(), 1u);
  EXPECT_EQ(counts.front().isShared, isShared);
  return {counts.front().cost, counts.front().least};
}

using Cost = std::pair<uint64_t, uint64_t>;

} // namespace

TEST(AccessCount, BanksOfSharedMemory) {
  auto cost = [](int scale, const std::string &type = "i32") {
    return costOf(count(store(scale, type)), /*isShared=*/true);
  };
  EXPECT_EQ(cost(1), Cost(1, 1));
  EXPECT_EQ(cost(2), Cost(2, 1));
  EXPECT_EQ(cost(32), Cost(32, 1)); // a column of a tile of 32 words
  EXPECT_EQ(cost(33), Cost(1, 1));  // rows an odd number of words apart
  EXPECT_EQ(cost(0), Cost(1, 1));   // one word
  EXPECT_EQ(cost(2, "<2 x i32>"), Cost(2, 2));
  EXPECT_EQ(cost(4, "<4 x i32>"), Cost(4, 4));
  EXPECT_EQ(cost(8, "<4 x i32>"), Cost(8, 4));
  EXPECT_EQ(cost(32, "<4 x i32>"), Cost(32, 4));
}

TEST(AccessCount, SectorsOfGlobalMemory) {
  auto cost = [](int scale, const std::string &type = "i32", int offset = 0) {
    return costOf(count(store(scale, type, offset, false)), false);
  };
  EXPECT_EQ(cost(1), Cost(4, 4));
  EXPECT_EQ(cost(1, "i32", 1), Cost(5, 4)); // off by a word
  EXPECT_EQ(cost(8), Cost(32, 4));
  EXPECT_EQ(cost(0), Cost(1, 1));
  EXPECT_EQ(cost(4, "<4 x i32>"), Cost(16, 16));
}

TEST(AccessCount, WarpsLoopsAndLanes) {
  // Two warps and a half, all of them once.
  std::vector<AccessCount> counts = count(store(2), 80);
  EXPECT_EQ(counts.front().accesses, 3u);
  EXPECT_EQ(costOf(counts, true), Cost(2 + 2 + 1, 3));
  // Lanes go around a loop as often as their number says: in round i of 32
  // lanes 32 - i are left, on words 32 apart.
  counts =
      count("  br label %loop\nloop:\n  %r = phi i32 [0, %0], [%n, %loop]\n" +
            store(32) +
            "  %n = add i32 %r, 1\n  %more = icmp ule i32 %n, %t\n  br i1 "
            "%more, label %loop, label %done\ndone:\n");
  EXPECT_EQ(counts.front().accesses, 32u);
  EXPECT_EQ(costOf(counts, true), Cost(32 * 33 / 2, 32));
  EXPECT_TRUE(contains(counts.front().instruction, "store i32"));
  EXPECT_EQ(counts.front().kernel, "k");
  // On level 0 nothing is counted.
  EXPECT_TRUE(count(store(2), 32, EmulatorCheck::Execution).empty());
}

TEST(AccessCount, MatricesAndCopies) {
  // Rows of 16 bytes, 128 apart: each of the four matrices has one bank group.
  auto matrices = [](int rowWords) {
    return count("  %m = mul i32 %t, " + std::to_string(rowWords) +
                 "\n  %p = getelementptr i32, ptr addrspace(3) @tile, i32 %m\n"
                 "  %v = call {i32, i32, i32, i32} @llvm.nvvm.ldmatrix.sync."
                 "aligned.m8n8.x4.b16.p3(ptr addrspace(3) %p)\n");
  };
  EXPECT_EQ(costOf(matrices(4), true), Cost(4, 4));
  EXPECT_EQ(costOf(matrices(32), true), Cost(32, 4));
  std::vector<AccessCount> counts = count(
      "  %m = mul i32 %t, 8\n  %p = getelementptr i32, ptr addrspace(3) @tile, "
      "i32 %m\n  %g = getelementptr i32, ptr addrspace(1) %x, i32 %m\n"
      "  call void @llvm.nvvm.cp.async.cg.shared.global.16(ptr addrspace(3) "
      "%p, ptr addrspace(1) %g)\n  call void @llvm.nvvm.cp.async.wait.all()\n");
  ASSERT_EQ(counts.size(), 2u);
  std::sort(counts.begin(), counts.end(),
            [](const AccessCount &a, const AccessCount &b) {
              return a.isShared < b.isShared;
            });
  EXPECT_EQ(Cost(counts[0].cost, counts[0].least), Cost(32, 16));
  EXPECT_EQ(Cost(counts[1].cost, counts[1].least), Cost(8, 4));
}
