// Kernels of symbolic sizes as tasks: schedules are right at every size that is
// tried, one that is right where it is measured alone is found out, and keys
// tell sizes and ranges apart.
#include "KernelHarness.h"
#include "KernelText.h"
#include "dlc/Codegen/CPU/KernelVariants.h"
#include "dlc/Tuner/KernelTask.h"

#include <gtest/gtest.h>

using namespace dlc;
using namespace dlc::tuner;
using namespace dlc::test;

namespace {
const KernelSizes kSizes{{{40}}, {{81}, {21}}};

RunLimits oneSample() {
  RunLimits limits;
  limits.samples = 1;
  limits.sampleSeconds = 0;
  return limits;
}

std::string product(const std::string &rows) {
  return einsum("mk,kn->mn", {{'m', rows}, {'n', "70"}, {'k', "45"}});
}

std::string unary(const std::string &op, std::vector<std::string> from,
                  std::vector<std::string> to) {
  std::string a = tensorType(from, "f32"), b = tensorType(to, "f32");
  return "func.func @main(%a: " + a + ") -> " + b + " {\n%0 = graph." + op +
         " : (" + a + ") -> " + b + "\nreturn %0 : " + b + "\n}";
}

llvm::Expected<std::unique_ptr<KernelTask>>
makeTask(const std::string &text, const KernelSizes &sizes,
         std::optional<SizeRange> range = {}, bool isConstant = false,
         Timing timing = Timing::Measured) {
  mlir::MLIRContext context;
  setUp(context);
  mlir::OwningOpRef<mlir::ModuleOp> module;
  graph::KernelOp kernel = kernelOf(context, module, text);
  if (!kernel)
    return llvm::createStringError("no kernel");
  if (range)
    setVariantRange(kernel, *range);
  CpuCodegenOptions options;
  options.constantOperands = {false, isConstant};
  return KernelTask::create(
      kernel, llvm::cantFail(parseCpuTarget("host:threads=1")), options,
      /*seed=*/1, /*mostWork=*/6e10, timing, sizes);
}
} // namespace

TEST(SymbolicTask, SampledSchedulesAreRightAtAllSizes) {
  std::map<char, std::string> batch{
      {'b', "s0"}, {'m', "9"}, {'n', "70"}, {'k', "45"}};
  std::map<char, std::string> columns{{'m', "21"}, {'n', "s0"}, {'k', "45"}};
  std::map<char, std::string> depth{{'m', "21"}, {'n', "70"}, {'k', "s0"}};
  struct {
    std::string name, text;
    std::optional<SizeRange> range;
    bool isConstant = false;
  } cases[] = {
      {"rows", product("s0"), SizeRange{17, SizeRange().high, 128}, true},
      {"rows, no constants", product("s0"), {}},
      {"few rows", product("s0"), SizeRange{1, 100, 8}, true},
      {"batch", einsum("bmk,bkn->bmn", batch), {}},
      {"columns", einsum("mk,kn->mn", columns), {}},
      {"depth", einsum("mk,kn->mn", depth), {}},
      {"map", unary("exp %a", {"s0", "29"}, {"s0", "29"}), {}},
      {"transpose",
       unary("transpose %a {perm = array<i64: 1, 0>}", {"s0", "37"},
             {"37", "s0"}),
       {}},
      {"long rows",
       unary("reduce %a {axes = array<i64: 1>, kind = #graph<fold add>}",
             {"19", "s0"}, {"19", "1"}),
       {}},
      {"many rows",
       unary("reduce %a {axes = array<i64: 1>, kind = #graph<fold max>}",
             {"s0", "300"}, {"s0", "1"}),
       {}},
      {"columns folded",
       unary("reduce %a {axes = array<i64: 0>, kind = #graph<fold add>}",
             {"300", "s0"}, {"1", "s0"}),
       {}},
      {"pool",
       unary("pool %a {dilations = array<i64: 1, 1>, kernel = array<i64: 3, "
             "3>, kind = #graph<pool max>, pads_high = array<i64: 1, 1>, "
             "pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>}",
             {"s0", "2", "9", "17"}, {"s0", "2", "9", "17"}),
       {}},
  };
  for (const auto &c : cases) {
    auto made = makeTask(c.text, kSizes, c.range, c.isConstant);
    ASSERT_TRUE(bool(made))
        << c.name << ": " << llvm::toString(made.takeError());
    const Task &task = (*made)->get();
    EXPECT_NE(task.workload.find("\"symbolic\":[[40]]"), std::string::npos);
    EXPECT_NE(task.scorer.name.find("symbolic"), std::string::npos);
    auto reference = task.build(task.space.defaults);
    ASSERT_TRUE(bool(reference))
        << c.name << ": " << llvm::toString(reference.takeError());
    ASSERT_EQ(reference->launches.size(), 3u);
    ScheduleSpace::Random random(7);
    for (int i = 0; i < 6; ++i) {
      auto point = task.space.sample(random);
      ASSERT_TRUE(point) << c.name;
      std::string text = c.name + " " + scheduleJson(task.space.nest, *point);
      auto built = task.build(*point);
      ASSERT_TRUE(bool(built)) << text << llvm::toString(built.takeError());
      Measurement m = measure(*built, *reference, task.problem, oneSample());
      EXPECT_EQ(toString(m.status), "ok") << text << ": " << m.reason;
      EXPECT_EQ(m.elsewhere.size(), 2u);
      // Variants share the packed constant.
      EXPECT_TRUE(built->packed == reference->packed) << text;
    }
  }
}

// A record may say that a constant is read as it lies, which no search asks
// for: a kernel of one schedule may, a variant beside others that pack it may
// not.
TEST(SymbolicTask, VariantsReadOneForm) {
  std::string text =
      einsum("mk,kn->mn", {{'m', "s0"}, {'n', "40"}, {'k', "46"}});
  auto isLegal = [&](std::optional<SizeRange> range, std::string &reason) {
    mlir::MLIRContext context;
    setUp(context);
    mlir::OwningOpRef<mlir::ModuleOp> module;
    graph::KernelOp kernel = kernelOf(context, module, text);
    if (range)
      setVariantRange(kernel, *range);
    CpuCodegenOptions options;
    options.constantOperands = {false, true};
    return isLegalFor(
        kernel, {{"rhs", int64_t(FactorSource::Memory)}},
        llvm::cantFail(parseCpuTarget("x86:cpu=x86-64-v4:threads=1")), options,
        reason, kSizes);
  };
  std::string reason;
  EXPECT_TRUE(isLegal({}, reason)) << reason;
  EXPECT_FALSE(isLegal(SizeRange{17, SizeRange().high, 128}, reason));
  EXPECT_EQ(reason, "variants read a constant in one form");
}

// The planted fault: code for 40 rows alone, right where the time is taken.
TEST(SymbolicTask, RightAtOneSizeAloneIsWrong) {
  auto symbolic = llvm::cantFail(makeTask(product("s0"), kSizes)),
       fixed = llvm::cantFail(makeTask(product("40"), {}));
  BuiltKernel good =
      llvm::cantFail(symbolic->get().build(symbolic->get().space.defaults));
  BuiltKernel planted =
      llvm::cantFail(fixed->get().build(fixed->get().space.defaults));
  planted.launches.resize(3, planted.launches[0]);
  Problem problem = symbolic->get().problem;
  Measurement m = measure(planted, good, problem, oneSample());
  EXPECT_EQ(m.status, Status::Wrong);
  EXPECT_NE(m.reason.find("(sizes 81)"), std::string::npos) << m.reason;
  EXPECT_EQ(measure(good, good, problem, oneSample()).status, Status::Ok);
  // Where it is measured alone, nothing is seen of it.
  problem.others.clear();
  planted.launches.resize(1);
  EXPECT_EQ(measure(planted, good, problem, oneSample()).status, Status::Ok);
}

TEST(SymbolicTask, KeysSaySizesAndRange) {
  auto keyOf = [&](const std::string &text, const KernelSizes &sizes,
                   std::optional<SizeRange> range = {}) {
    return llvm::cantFail(makeTask(text, sizes, range))->get().workload;
  };
  SizeRange few{1, 100, 8}, many{17, SizeRange().high, 128};
  std::set<std::string> keys{keyOf(product("40"), {}),
                             keyOf(product("s0"), kSizes),
                             keyOf(product("s0"), {{{41}}, {{21}}}),
                             keyOf(product("s0"), {{{40}, {41}}, {{21}}}),
                             keyOf(product("s0"), kSizes, few),
                             keyOf(product("s0"), kSizes, many)};
  EXPECT_EQ(keys.size(), 6u);
  EXPECT_EQ(keyOf(product("s0"), kSizes, many),
            keyOf(product("s0"), kSizes, many));
  EXPECT_NE(keyOf(product("s0"), kSizes, many).find("\"range\":[17,128]"),
            std::string::npos);
  // Features are those of a static kernel of that size.
  auto fixed = llvm::cantFail(
           ContractionFacts::parseJson(keyOf(product("40"), {}))),
       open = llvm::cantFail(
           ContractionFacts::parseJson(keyOf(product("s0"), kSizes)));
  EXPECT_EQ(open.rows, 40);
  EXPECT_NE(open.kernel, fixed.kernel);
  open.kernel = fixed.kernel;
  EXPECT_EQ(open.toJson(), fixed.toJson());
}

TEST(SymbolicTask, RefusesInWords) {
  auto refusal = [](llvm::Expected<std::unique_ptr<KernelTask>> task) {
    return task ? std::string("accepted") : llvm::toString(task.takeError());
  };
  EXPECT_NE(refusal(makeTask(product("s0"), {})).find("sizes are symbolic"),
            std::string::npos);
  EXPECT_NE(refusal(makeTask(product("s0"), kSizes, {}, false, Timing::Static))
                .find("estimated of static ones alone"),
            std::string::npos);
  // Room for copies must not grow with a size that no rule lets grow.
  auto made = llvm::cantFail(makeTask(product("s0"), kSizes,
                                      SizeRange{17, SizeRange().high, 128},
                                      /*isConstant=*/true));
  const ScheduleSpace &space = made->get().space;
  KnobValues point = space.defaults;
  point["lhs"] = 2; // filled
  point["task_row_tiles"] = 0;
  point["depth_per_pass"] = 0;
  std::string reason;
  EXPECT_FALSE(space.isLegal(point, reason));
  EXPECT_NE(reason.find("grow with a symbolic size"), std::string::npos)
      << reason;
}
