// Kernels as tasks: sampled schedules of all kinds of contractions are right,
// keys tell kernels apart by what they compute, and what cannot be tuned says
// why.
#include "dlc/Tuner/KernelTask.h"

#include "AttentionText.h"
#include "KernelHarness.h"
#include "KernelText.h"
#include "PixelText.h"
#include "dlc/Codegen/CPU/AttentionKnobs.h"
#include "dlc/Codegen/CPU/ContractionKnobs.h"
#include "dlc/Codegen/CPU/LoopKnobs.h"
#include "dlc/Tuner/KernelCost.h"

#include <gtest/gtest.h>
#include <set>

using namespace dlc;
using namespace dlc::tuner;
using namespace dlc::test;

namespace {
struct Case {
  std::string name, text;
  llvm::SmallVector<bool> constants;
};

/// Kernels of the loop nests: elementwise, moved, folded, gathered in rows.
std::vector<Case> makeLoopCases() {
  auto function = [](const std::string &op, const std::string &from,
                     const std::string &to) {
    return "func.func @main(%a: tensor<" + from + ">) -> tensor<" + to +
           "> {\n%0 = graph." + op + " : (tensor<" + from + ">) -> tensor<" +
           to + ">\nreturn %0 : tensor<" + to + ">\n}";
  };
  return {
      {"relu", function("relu %a", "37x29xf32", "37x29xf32"), {}},
      {"exp", function("exp %a", "700xf32", "700xf32"), {}},
      {"exp of halves", function("exp %a", "9x70xf16", "9x70xf16"), {}},
      {"transpose",
       function("transpose %a {perm = array<i64: 1, 0>}", "43x37xf32",
                "37x43xf32"),
       {}},
      {"sum of rows",
       function("reduce %a {axes = array<i64: 1>, kind = #graph<fold add>}",
                "19x300xf32", "19x1xf32"),
       {}},
      {"sum of columns",
       function("reduce %a {axes = array<i64: 0>, kind = #graph<fold add>}",
                "300x19xf32", "1x19xf32"),
       {}},
  };
}

std::vector<Case> makeWindowCases() {
  return {
      {"depthwise",
       conv({1, 5, 19, 23}, {5, 1, 3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 5),
       {false, true}},
      {"depthwise, every other",
       conv({1, 6, 18, 17}, {6, 1, 5, 5}, {2, 2}, {1, 1}, {2, 2}, {2, 2}, 6),
       {false, true}},
      {"pool",
       "func.func @main(%a: tensor<2x5x21x37xf32>) -> tensor<2x5x21x37xf32> {\n"
       "%0 = graph.pool %a {dilations = array<i64: 1, 1>, kernel = array<i64: "
       "3, 3>, kind = #graph<pool max>, pads_high = array<i64: 1, 1>, pads_low "
       "= array<i64: 1, 1>, strides = array<i64: 1, 1>} : "
       "(tensor<2x5x21x37xf32>) -> tensor<2x5x21x37xf32>\n"
       "return %0 : tensor<2x5x21x37xf32>\n}",
       {}},
  };
}

std::vector<Case> makeAttentionCases() {
  AttentionCase heads;
  heads.heads = 3;
  heads.queries = 40;
  heads.keys = 77;
  heads.inner = heads.columns = 24;
  AttentionCase causal = heads;
  causal.causal = AttentionCase::TopLeft;
  causal.queries = causal.keys = 61;
  causal.headsLast = true;
  AttentionCase decode = heads;
  decode.queries = 1;
  decode.group = 2;
  decode.keys = 400;
  return {{"attention", heads.text(), {}},
          {"causal attention", causal.text(), {}},
          {"attention of one query", decode.text(), {}}};
}

std::vector<Case> makeCases() {
  std::map<char, std::string> sizes{
      {'b', "3"}, {'m', "21"}, {'n', "70"}, {'k', "45"}};
  return {
      {"constant weights", einsum("mk,kn->mn", sizes), {false, true}},
      {"no constants", einsum("mk,kn->mn", sizes), {}},
      {"constant rows", einsum("mk,kn->mn", sizes), {true, false}},
      {"transposed factors", einsum("km,nk->mn", sizes), {}},
      {"batch", einsum("bmk,bnk->bmn", sizes), {}},
      {"doubles", einsum("mk,kn->mn", sizes, "f64"), {}},
      {"bf16", einsum("mk,kn->mn", sizes, "bf16"), {}},
      {"bf16, constant weights",
       einsum("mk,kn->mn", sizes, "bf16"),
       {false, true}},
      {"image, channels first",
       conv({1, 5, 9, 11}, {7, 5, 3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}),
       {false, true}},
      {"image, channels last",
       convChannelsLast({1, 7, 9, 32}, {24, 32, 3, 3}, 1, 1, 1),
       {false, true}},
      {"image of bytes, channels last", Pixels().text(), {false, true}},
  };
}

std::vector<Case> allCases() {
  std::vector<Case> cases = makeCases();
  for (const auto &more :
       {makeLoopCases(), makeWindowCases(), makeAttentionCases()})
    cases.insert(cases.end(), more.begin(), more.end());
  return cases;
}

llvm::Expected<std::unique_ptr<KernelTask>> makeTask(const Case &c,
                                                     bool strict = false) {
  mlir::MLIRContext context;
  setUp(context);
  mlir::OwningOpRef<mlir::ModuleOp> module;
  graph::KernelOp kernel = kernelOf(context, module, c.text);
  if (!kernel)
    return llvm::createStringError("no kernel");
  CpuCodegenOptions options;
  options.constantOperands = c.constants;
  options.strict = strict;
  return KernelTask::create(
      kernel, llvm::cantFail(parseCpuTarget("host:threads=1")), options);
}
} // namespace

TEST(KernelTask, SampledSchedulesAreRight) {
  unsigned samples = std::getenv("DLC_TEST_FULL") ? 300 : 6;
  RunLimits limits;
  limits.samples = 1;
  limits.sampleSeconds = 0;
  for (bool strict : {false, true})
    for (const Case &c : allCases()) {
      if (strict && c.name != "batch" && c.name != "constant weights")
        continue;
      auto made = makeTask(c, strict);
      ASSERT_TRUE(bool(made))
          << c.name << ": " << llvm::toString(made.takeError());
      const Task &task = (*made)->get();
      std::vector<KnobValues> points{task.space.defaults};
      ScheduleSpace::Random random(7);
      for (unsigned i = 0; i < samples; ++i) {
        auto point = task.space.sample(random);
        ASSERT_TRUE(point) << c.name;
        points.push_back(*point);
      }
      auto reference = task.build(task.space.defaults);
      ASSERT_TRUE(bool(reference))
          << c.name << ": " << llvm::toString(reference.takeError());
      for (const KnobValues &point : points) {
        std::string text = c.name + " " + scheduleJson(task.space.nest, point);
        auto built = task.build(point);
        ASSERT_TRUE(bool(built))
            << text << ": " << llvm::toString(built.takeError());
        Measurement m = measure(*built, *reference, task.problem, limits);
        EXPECT_EQ(toString(m.status), "ok") << text << ": " << m.reason;
      }
    }
}

// Points that one stands for are its code, byte for byte; the points that are
// sampled differ in code.
TEST(KernelTask, PointsOfOneOutlineAreOneCode) {
  std::vector<Case> cases = makeLoopCases();
  for (const Case &c : makeWindowCases())
    cases.push_back(c);
  for (const Case &c : cases) {
    auto task = llvm::cantFail(makeTask(c));
    const ScheduleSpace &space = task->get().space;
    auto objectOf = [&](const KnobValues &point) {
      return llvm::cantFail(task->get().build(point)).object;
    };
    const std::vector<KnobValues> &points = space.distinct();
    ASSERT_FALSE(points.empty()) << c.name;
    EXPECT_EQ(points[0], space.defaults) << c.name;
    EXPECT_LT(double(points.size()), space.size()) << c.name;
    ScheduleSpace::Random random(3);
    std::set<std::string> seen;
    for (unsigned i = 0; i < 8; ++i) {
      KnobValues point = space.defaults;
      for (const auto &knob : space.knobs)
        point[knob.name] = knob.values[random() % knob.values.size()];
      const KnobValues &stands = space.represent(point);
      EXPECT_EQ(space.represent(stands), stands);
      EXPECT_TRUE(objectOf(point) == objectOf(stands))
          << c.name << " " << scheduleJson(space.nest, point);
      const KnobValues &other = points[i * points.size() / 8];
      std::string object = objectOf(other);
      EXPECT_TRUE(i * points.size() / 8 == (i + 1) * points.size() / 8 ||
                  seen.insert(object).second)
          << c.name << " " << scheduleJson(space.nest, other);
    }
  }
}

// Weights of four bits are built as the compiler builds them, half as long as
// bytes, tried on numbers of four bits, and are another kernel than bytes.
TEST(KernelTask, ConstantsOfFourBits) {
  for (bool isSigned : {false, true}) {
    Case four{"",
              fourBits(4, 64, 256, isSigned ? "i8" : "ui8", "8.000000e+00"),
              {false, true, true}},
        eight = four;
    llvm::StringRef bits = ", graph.constant_bits = array<i8: 8, 4, 8>";
    eight.text.erase(eight.text.find(bits), bits.size());
    auto few = llvm::cantFail(makeTask(four)),
         all = llvm::cantFail(makeTask(eight));
    EXPECT_NE(few->get().workload, all->get().workload);
    auto build = [](KernelTask &task) {
      return llvm::cantFail(task.get().build(task.get().space.defaults));
    };
    BuiltKernel half = build(*few), whole = build(*all);
    ASSERT_TRUE(half.packed.count(1) && whole.packed.count(1));
    EXPECT_EQ(half.packed[1].size() * 2, whole.packed[1].size());
    for (char byte : few->get().problem.operands[1]) {
      int number = isSigned ? static_cast<signed char>(byte)
                            : static_cast<unsigned char>(byte);
      EXPECT_TRUE(isSigned ? number >= -8 && number < 8 : number < 16);
    }
    RunLimits limits;
    limits.samples = 1;
    Measurement m = measure(half, half, few->get().problem, limits);
    EXPECT_EQ(toString(m.status), "ok") << m.reason;
    // Bytes that are not of four bits are not what it was built for.
    EXPECT_EQ(measure(half, half, all->get().problem, limits).status,
              Status::Wrong);
  }
}

// The judge of the test above can tell: the last of k is dropped.
TEST(KernelTask, ADroppedTermIsWrong) {
  std::map<char, std::string> sizes{{'m', "21"}, {'n', "70"}, {'k', "45"}};
  Case c{"", einsum("mk,kn->mn", sizes), {}};
  auto whole = llvm::cantFail(makeTask(c));
  Problem problem = whole->get().problem;
  // A row of zeros in rhs is a term that is not there.
  std::string &rhs = problem.operands[1];
  std::fill(rhs.end() - 70 * 4, rhs.end(), '\0');
  auto kernel = llvm::cantFail(whole->get().build(whole->get().space.defaults));
  RunLimits limits;
  limits.samples = 1;
  EXPECT_EQ(measure(kernel, kernel, whole->get().problem, limits).status,
            Status::Ok);
  EXPECT_EQ(measure(kernel, kernel, problem, limits).status, Status::Wrong);
}

TEST(KernelTask, KeysAreWhatIsComputed) {
  std::vector<Case> cases = allCases();
  std::set<std::string> keys;
  for (const Case &c : cases) {
    auto task = llvm::cantFail(makeTask(c));
    keys.insert(task->get().workload);
    // Again: the same.
    EXPECT_EQ(llvm::cantFail(makeTask(c))->get().workload,
              task->get().workload);
  }
  EXPECT_EQ(keys.size(), cases.size());
  EXPECT_NE(llvm::cantFail(makeTask(cases[0], true))->get().workload,
            llvm::cantFail(makeTask(cases[0]))->get().workload);
}

// Each family of nests has a space of its own, and what sorts a kernel in.
TEST(KernelTask, FamiliesOfNests) {
  std::map<std::string, std::set<std::string>> knobsOf;
  for (const Case &c : allCases()) {
    auto task = llvm::cantFail(makeTask(c));
    for (const auto &knob : task->get().space.knobs)
      knobsOf[task->get().scorer.kind].insert(knob.name);
  }
  auto has = [&](const char *kind, const char *knob) {
    return knobsOf[kind].count(knob) != 0;
  };
  EXPECT_TRUE(has("contraction", "tile_rows"));
  EXPECT_TRUE(has("convolution", "lhs"));
  EXPECT_TRUE(has("attention", "key_tile"));
  EXPECT_TRUE(has("attention", "row_tile")); // of one query
  EXPECT_TRUE(has("window", "across"));
  EXPECT_TRUE(has("map", "groups"));
  EXPECT_TRUE(has("row", "width"));
  // What shares nothing has nothing to tile for it.
  EXPECT_FALSE(has("map", "across"));
  EXPECT_FALSE(has("row", "across"));
  EXPECT_EQ(knobsOf.size(), 6u);
}

TEST(KernelTask, AttentionKnobsRoundTrip) {
  mlir::MLIRContext context;
  setUp(context);
  mlir::OwningOpRef<mlir::ModuleOp> module;
  CpuTarget target = llvm::cantFail(parseCpuTarget("x86:cpu=x86-64-v4"));
  for (const Case &c : makeAttentionCases()) {
    graph::KernelOp kernel = kernelOf(context, module, c.text);
    std::string reason;
    auto spec = classifyAttention(kernel, reason);
    ASSERT_TRUE(mlir::succeeded(spec)) << reason;
    AttentionSchedule base = defaultSchedule(*spec, target);
    EXPECT_EQ(withKnobs(base, toKnobs(base)).str(), base.str());
    EXPECT_EQ(withKnobs(base, KnobValues()).str(), base.str());
    ScheduleSpace space = attentionSpace(*spec, target);
    EXPECT_TRUE(space.isLegal(space.defaults, reason)) << reason;
    // Nearest negatives of the predicate.
    auto refuses = [&](const char *knob, int64_t value) {
      KnobValues point = space.defaults;
      point[knob] = value;
      return !space.isLegal(point, reason);
    };
    EXPECT_TRUE(refuses("few", !base.few));
    EXPECT_TRUE(refuses("block_n", 1 << 20));
    EXPECT_TRUE(refuses(base.few ? "row_tile" : "key_tile", 40));
    ScheduleSpace::Random random(1);
    for (int i = 0; i < 20; ++i) {
      KnobValues point = *space.sample(random);
      EXPECT_EQ(toKnobs(withKnobs(base, point)), point);
    }
  }
}

// Learned times where there is a model for the kernel's nest, the roofline
// elsewhere.
TEST(KernelTask, CostQueryByTheModel) {
  mlir::MLIRContext context;
  setUp(context);
  CpuTarget target = llvm::cantFail(parseCpuTarget("x86:cpu=x86-64-v4"));
  mlir::OwningOpRef<mlir::ModuleOp> module, other;
  graph::KernelOp product =
      kernelOf(context, module,
               einsum("mk,kn->mn", {{'m', "64"}, {'n', "96"}, {'k', "128"}}));
  graph::KernelOp relu = kernelOf(context, other, makeLoopCases()[0].text);
  RooflineCost roofline;
  KernelCost none(target, {});
  EXPECT_EQ(none.getSeconds(product, {}, target.desc()),
            roofline.getSeconds(product, {}, target.desc()));
  // A machine that takes three times what the analytic model says.
  std::string reason;
  CpuTarget oneThread(target.desc(), 1);
  auto key = makeKernelKey(product, oneThread, {}, reason);
  ASSERT_TRUE(mlir::succeeded(key)) << reason;
  auto scorer = llvm::cantFail(Scorer::create(key->workload, key->target));
  std::vector<Record> records;
  for (int64_t rows = 1; rows <= 16; ++rows) {
    Record record;
    record.workload = key->workload;
    record.target = key->target;
    record.codegen = codegenVersionOf(record.workload, record.target);
    KnobValues knobs{{"tile_rows", rows}};
    record.schedule = scheduleJson("contraction", knobs);
    record.samples = record.reference = {3e9 * scorer.seconds(knobs)};
    records.push_back(record);
  }
  std::vector<CostModel> models;
  models.push_back(llvm::cantFail(
      CostModel::train(records, "contraction", CostModel::Label::Time)));
  KernelCost cost(target, std::move(models));
  double seconds = cost.getSeconds(product, {}, target.desc());
  EXPECT_NEAR(seconds / (3 * scorer.seconds({})), 1, 0.1);
  EXPECT_NE(seconds, roofline.getSeconds(product, {}, target.desc()));
  EXPECT_EQ(cost.getSeconds(relu, {}, target.desc()),
            roofline.getSeconds(relu, {}, target.desc()));
  // Of another machine it knows nothing.
  CpuTarget old = llvm::cantFail(parseCpuTarget("x86:cpu=haswell"));
  EXPECT_EQ(cost.getSeconds(product, {}, old.desc()),
            roofline.getSeconds(product, {}, old.desc()));
}

TEST(KernelTask, KnobsRoundTrip) {
  mlir::MLIRContext context;
  setUp(context);
  mlir::OwningOpRef<mlir::ModuleOp> module;
  CpuTarget target = llvm::cantFail(parseCpuTarget("host:threads=1"));
  for (const Case &c : makeCases()) {
    graph::KernelOp kernel = kernelOf(context, module, c.text);
    std::string reason;
    auto spec = classifyContraction(kernel, reason);
    ASSERT_TRUE(mlir::succeeded(spec)) << reason;
    CpuCodegenOptions options;
    options.constantOperands = c.constants;
    ContractionSchedule base = defaultSchedule(*spec, target, options);
    // The default's knobs mean the default, no knobs do too.
    EXPECT_EQ(withKnobs(base, toKnobs(base), *spec, target).str(), base.str());
    EXPECT_EQ(withKnobs(base, {}, *spec, target).str(), base.str());
    ScheduleSpace space = contractionSpace(*spec, target, options);
    ScheduleSpace::Random random(1);
    for (int i = 0; i < 20; ++i) {
      KnobValues point = *space.sample(random);
      EXPECT_EQ(toKnobs(withKnobs(base, point, *spec, target)), point);
    }
  }
}

TEST(KernelTask, RefusesInWords) {
  auto refusal = [](const std::string &text) {
    auto task = makeTask({"", text, {}});
    return task ? std::string("accepted") : llvm::toString(task.takeError());
  };
  EXPECT_NE(refusal(einsum("mk,kn->mn", {{'m', "s0"}, {'n', "8"}, {'k', "8"}}))
                .find("its sizes are symbolic"),
            std::string::npos);
  EXPECT_NE(
      refusal("func.func @main(%a: tensor<8xf32>, %i: tensor<3xi64>) -> "
              "tensor<3xf32> {\n%0 = graph.gather %a, %i {axis = 0 : i64} "
              ": (tensor<8xf32>, tensor<3xi64>) -> tensor<3xf32>\n"
              "return %0 : tensor<3xf32>\n}")
          .find("its indices come from data"),
      std::string::npos);
}
