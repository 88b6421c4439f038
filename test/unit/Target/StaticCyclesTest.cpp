// Estimated cycles of loops whose times follow from the CPU's tables.
#include "dlc/Target/Common/StaticCycles.h"
#include "dlc/Target/Targets.h"

#include "llvm/AsmParser/Parser.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/SourceMgr.h"

#include <gtest/gtest.h>

using namespace dlc;

namespace {

const char *const kNeoverse = "arm:cpu=neoverse-v2";

double cyclesOf(llvm::StringRef text, llvm::StringRef target,
                int64_t tasks = 1) {
  llvm::LLVMContext context;
  llvm::SMDiagnostic diagnostic;
  auto module = llvm::parseAssemblyString(text, diagnostic, context);
  EXPECT_TRUE(module) << diagnostic.getMessage().str();
  auto machine = parseCpuTarget(target);
  EXPECT_TRUE(bool(machine));
  auto cycles = estimateCycles(*machine, *module, "task", tasks);
  EXPECT_TRUE(bool(cycles)) << llvm::toString(cycles.takeError());
  return cycles ? *cycles : 0;
}

/// `steps` iterations of multiply-adds into so many sums.
std::string makeSums(unsigned sums, const std::string &steps,
                     const std::string &before = "") {
  std::string phis, body, ends;
  for (unsigned i = 0; i < sums; ++i) {
    std::string n = std::to_string(i);
    phis += "%s" + n + " = phi <4 x float> [ zeroinitializer, %entry ], [ %t" +
            n + ", %loop ]\n";
    body += "%t" + n +
            " = call <4 x float> @llvm.fma.v4f32(<4 x float> %x, "
            "<4 x float> %x, <4 x float> %s" +
            n + ")\n";
    ends += "%p" + n + " = getelementptr <4 x float>, ptr %0, i64 " + n +
            "\nstore <4 x float> %t" + n + ", ptr %p" + n + "\n";
  }
  return "declare <4 x float> @llvm.fma.v4f32(<4 x float>, <4 x float>, "
         "<4 x float>)\ndeclare i64 @llvm.smin.i64(i64, i64)\n"
         "define void @task(ptr %0, i64 %task, i64 %worker) {\nentry:\n"
         "%x = load <4 x float>, ptr %0\n" +
         before +
         "br label %loop\nloop:\n"
         "%i = phi i64 [ 0, %entry ], [ %next, %loop ]\n" +
         phis + body + "%next = add i64 %i, 1\n%more = icmp slt i64 %next, " +
         steps + "\nbr i1 %more, label %loop, label %end\nend:\n" + ends +
         "ret void\n}\n";
}

// Four multiply-adds a cycle, where none waits for another: 16 sums and more.
TEST(StaticCycles, UnitsAndLatency) {
  double sixteen = cyclesOf(makeSums(16, "1000"), kNeoverse);
  EXPECT_NEAR(sixteen, 4000, 300);
  EXPECT_NEAR(cyclesOf(makeSums(16, "4000"), kNeoverse), 16000, 500);
  // One sum takes the latency of its addition an iteration.
  double one = cyclesOf(makeSums(1, "1000"), kNeoverse);
  EXPECT_GE(one, 1900);
  EXPECT_LE(one, 4300);
  // An older core has half of the units.
  EXPECT_NEAR(cyclesOf(makeSums(16, "1000"), "arm:cpu=neoverse-n1"), 8000, 600);
}

// 40 sums do not fit 32 registers: more than 40 / 16 of the time.
TEST(StaticCycles, Spills) {
  double sixteen = cyclesOf(makeSums(16, "1000"), kNeoverse);
  EXPECT_GT(cyclesOf(makeSums(40, "1000"), kNeoverse), 1.15 * 2.5 * sixteen);
}

// The trip count is what integers say, also of tasks that differ: 3 whole ones
// of 512 steps and a last one of 64.
TEST(StaticCycles, TripCountsOfTasks) {
  std::string before = "%first = mul i64 %task, 512\n"
                       "%left = sub i64 1600, %first\n"
                       "%steps = call i64 @llvm.smin.i64(i64 %left, i64 512)\n";
  double mean = cyclesOf(makeSums(16, "%steps", before), kNeoverse, 4);
  EXPECT_NEAR(mean, 4 * 400, 150);
}

TEST(StaticCycles, OtherArchitectures) {
  for (const char *target : {"x86:cpu=x86-64-v3", "x86:cpu=sapphirerapids",
                             "x86:cpu=znver4", "arm:cpu=cortex-a76"}) {
    double cycles = cyclesOf(makeSums(8, "1000"), target);
    EXPECT_GE(cycles, 2000) << target;
    EXPECT_LE(cycles, 9000) << target;
  }
}

TEST(StaticCycles, NoTask) {
  llvm::LLVMContext context;
  llvm::Module module("m", context);
  auto target = parseCpuTarget(kNeoverse);
  auto cycles = estimateCycles(*target, module, "task", 1);
  EXPECT_EQ(llvm::toString(cycles.takeError()), "there is no task 'task'");
}

} // namespace
