// Weights of four bits whose scales stand outside of the sums that share them,
// against naive loops.
#include "ContractionFixture.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::test;

namespace {
constexpr const char *kLaw = ", schedule = {laws = [\"distribute(add)\"]}";

class ScaledContraction : public Contraction {
protected:
  /// Numbers of four bits, other operands about as large as one.
  static double number(unsigned operand, int64_t i) {
    double random = double(uint32_t(i * 2654435761u + operand) >> 16);
    return operand == 1 ? std::fmod(random, 16) : random / 65536 - 0.25;
  }
  Options options(const char *target) {
    Options result;
    result.constants = {false, true, true};
    result.target = target;
    result.value = number;
    return result;
  }
  const char *targets[3] = {"host:threads=1", "x86:cpu=x86-64-v3:threads=1",
                            "x86:cpu=x86-64-v2:threads=1"};
};
} // namespace

// Runs of one turn of the loop and of several, one and more sums of a column,
// last columns, and rows that the registers have room for or not.
TEST_F(ScaledContraction, ScalesMultiplySums) {
  for (const char *target : targets)
    for (int64_t block : {8, 32, 128})
      for (int64_t m : {1, 6, 7})
        for (int64_t n : {137}) {
          auto cpu = llvm::cantFail(parseCpuTarget(target));
          bool fits = m == 1 || (m < 7 && cpu.desc().vectorRegisters >= 32);
          std::string text =
              fourBits(m, n, 3 * block, "ui8", "8.000000e+00", block, kLaw);
          Options o = options(target);
          o.adjust = [=](ContractionSchedule &s) {
            EXPECT_EQ(s.scalesSums, fits) << s.str();
          };
          check(text, o, target);
          // Rows that are copied in blocks of 16 k.
          if (fits && block > 8) {
            o.adjust = [](ContractionSchedule &s) {
              s.lhs = FactorSource::Filled;
              s.tileRows = s.panelRows = std::min(s.tileRows, 6u);
            };
            check(text, o, target);
          }
        }
  // The loops can tell: numbers are taken to have four bits.
  Options o = options(targets[0]);
  o.value = [](unsigned operand, int64_t i) {
    return number(operand, i) + (operand == 1 ? 16 : 0);
  };
  EXPECT_GT(run(fourBits(1, 33, 96, "ui8", "8.000000e+00", 32, kLaw), o).gate,
            1);
}

// Not without the law, in strict mode, or for sums that a scale does not fit.
TEST_F(ScaledContraction, Conditions) {
  CpuTarget target = llvm::cantFail(parseCpuTarget("x86:cpu=x86-64-v4"));
  CpuCodegenOptions options;
  options.constantOperands = {false, true, true};
  auto scheduleOf = [&](const std::string &text) {
    OwningOpRef<ModuleOp> module;
    std::string reason;
    auto spec = classifyContraction(kernelOf(context, module, text), reason);
    EXPECT_TRUE(succeeded(spec)) << reason;
    ContractionSchedule schedule = defaultSchedule(*spec, target, options);
    EXPECT_TRUE(isLegal(schedule, *spec, target, reason)) << reason;
    bool scales = schedule.scalesSums;
    schedule.scalesSums = true;
    EXPECT_EQ(isLegal(schedule, *spec, target, reason), scales)
        << schedule.str();
    return scales;
  };
  const std::string zero = "8.000000e+00";
  EXPECT_TRUE(scheduleOf(fourBits(1, 64, 256, "ui8", zero, 32, kLaw)));
  EXPECT_FALSE(scheduleOf(fourBits(1, 64, 256, "ui8", zero, 32)));
  EXPECT_FALSE(scheduleOf(
      fourBits(1, 64, 256, "ui8", zero, 32,
               ", schedule = {laws = [\"reorder(add)\", \"split(add)\"]}")));
  // Two steps are no turn of the loop.
  EXPECT_FALSE(scheduleOf(fourBits(1, 64, 256, "ui8", zero, 2, kLaw)));
  // Sixteen rows compute panels.
  EXPECT_FALSE(scheduleOf(fourBits(16, 64, 256, "ui8", zero, 32, kLaw)));
  // Memory decides for bytes.
  std::string bytes = fourBits(1, 64, 256, "ui8", zero, 32, kLaw),
              four = "8, 4";
  bytes.replace(bytes.find(four), four.size(), "8, 8");
  EXPECT_FALSE(scheduleOf(bytes));
  options.strict = true;
  EXPECT_FALSE(scheduleOf(fourBits(1, 64, 256, "ui8", zero, 32, kLaw)));
}
