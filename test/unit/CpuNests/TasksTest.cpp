// How many tasks a phase is, how many sums run side by side, and which vectors
// of a row have a mask.
#include "NestTest.h"

#include "dlc/Codegen/CPU/LoopOutline.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::test;

namespace {
class TasksTest : public NestTest {
protected:
  static OpCase exp(int64_t rows, int64_t columns) {
    std::string type = "tensor<" + std::to_string(rows) + "x" +
                       std::to_string(columns) + "xf32>";
    return {"exp", "", {type}, type, {{rows, columns}}, {}};
  }
  /// Of each row its sum, for one thread or more.
  LoopOutline sumsOf(int64_t rows, int threads) {
    std::string type = "tensor<" + std::to_string(rows) + "x1024xf32>";
    OpCase c{"reduce",       "axes = array<i64: 1>, kind = #graph<fold add>",
             {type},         "tensor<" + std::to_string(rows) + "x1xf32>",
             {{rows, 1024}}, {}};
    CpuTarget target = llvm::cantFail(
        parseCpuTarget("x86:cpu=x86-64-v4:threads=" + std::to_string(threads)));
    KernelOutline loops =
        outlineLoops(build(c), target, /*strict=*/false, LoopSchedule());
    EXPECT_EQ(loops.size(), 1u);
    return loops.front();
  }
};

// Little work is one task; long phases have a few tasks a thread, each short
// enough that a thread which is kept from its part costs little.
TEST_F(TasksTest, AsManyAsThreadsNeed) {
  EXPECT_EQ(sumsOf(8, 2).tasks(), 1);
  for (int threads : {1, 2, 8}) {
    SCOPED_TRACE(threads);
    LoopOutline large = sumsOf(1 << 13, threads);
    EXPECT_GE(large.tasks(), 4 * threads);
    EXPECT_LE(large.tasks(), 9 * threads);
    LoopOutline huge = sumsOf(1 << 17, threads);
    EXPECT_GT(huge.tasks(), large.tasks());
    EXPECT_LE(huge.rowsPerTask * huge.rowCost, 1 << 22);
  }
}

// Sums wait for each other, so that rows of short vectors have eight of them;
// sums of columns read as much of each row as registers allow.
TEST_F(TasksTest, SumsSideBySide) {
  auto groupsOf = [&](int64_t extent, const char *axis, const char *cpu) {
    std::string n = std::to_string(extent);
    bool isRow = *axis == '1';
    OpCase c{"reduce",
             std::string("axes = array<i64: ") + axis +
                 ">, kind = #graph<fold add>",
             {"tensor<64x" + n + "xf32>"},
             isRow ? "tensor<64x1xf32>" : "tensor<1x" + n + "xf32>",
             {{64, extent}},
             {}};
    CpuTarget target =
        llvm::cantFail(parseCpuTarget(std::string("x86:cpu=") + cpu));
    return outlineLoops(build(c), target, /*strict=*/false, LoopSchedule())
        .front()
        .groups;
  };
  EXPECT_EQ(groupsOf(768, "1", "x86-64-v2"), 8);
  EXPECT_EQ(groupsOf(49, "1", "x86-64-v2"), 4);
  EXPECT_EQ(groupsOf(768, "1", "x86-64-v3"), 4);
  EXPECT_EQ(groupsOf(768, "1", "x86-64-v4"), 4);
  EXPECT_EQ(groupsOf(768, "0", "x86-64-v3"), 8);
  EXPECT_EQ(groupsOf(768, "0", "x86-64-v4"), 16);
}

// What is stored by a mask waits longer to be read: of rows of 49 one vector
// has one, and the three before it are two at a time and one.
TEST_F(TasksTest, WholeVectorsHaveNoMask) {
  exactWhenStrict = false; // the interpreter has the C library's exp
  CpuTarget target = llvm::cantFail(parseCpuTarget("x86:cpu=x86-64-v4"));
  auto plainStores = [&](int64_t columns) {
    CpuCodegenOptions options;
    options.symbol = "k";
    LoopSchedule two;
    two.groups = 2;
    auto code = emitLoopNest(build(exp(3, columns)), target, options, two);
    EXPECT_TRUE(succeeded(code));
    unsigned count = 0;
    code->module->walk([&](vector::StoreOp) { ++count; });
    return count;
  };
  EXPECT_EQ(plainStores(33), 2u);
  EXPECT_EQ(plainStores(49), 3u);
  check(exp(3, 49));
  check(exp(5, 33));
}
} // namespace
