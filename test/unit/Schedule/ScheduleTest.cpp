// Both forms of schedules, default laws, and counted work.
#include "dlc/Schedule/Schedule.h"
#include "dlc/Schedule/CostQuery.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace dlc;

namespace {

struct ScheduleTest : ::testing::Test {
  ScheduleTest() { context.loadDialect<graph::GraphDialect>(); }

  graph::KernelOp parse(StringRef text) {
    module = parseSourceString<ModuleOp>(text, &context);
    return *module->getOps<graph::KernelOp>().begin();
  }

  MLIRContext context;
  OwningOpRef<ModuleOp> module;
};

constexpr StringLiteral kRowSum = R"mlir(
graph.kernel @sum(%x: tensor<?x128xf32, #graph.dims<s0, 128>>) -> tensor<?xf32, #graph.dims<s0>>
    attributes {symbols = ["s0"], schedule = {nest = "row", width = 16 : i64, laws = ["split(add)"]}} {
  %m = graph.stage domain <s0> reduce <128> fold add : tensor<?xf32, #graph.dims<s0>> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : tensor<?x128xf32, #graph.dims<s0, 128>> -> f32
    %e = graph.apply exp(%v) : (f32) -> f32
    graph.yield %e : f32
  }
  graph.return %m : tensor<?xf32, #graph.dims<s0>>
})mlir";

std::string errorOf(llvm::Expected<Schedule> schedule) {
  return schedule ? "" : llvm::toString(schedule.takeError());
}

TEST_F(ScheduleTest, ReadsTheAttribute) {
  llvm::Expected<Schedule> schedule = getSchedule(parse(kRowSum));
  ASSERT_TRUE(static_cast<bool>(schedule));
  EXPECT_EQ(schedule->nest, "row");
  EXPECT_EQ(schedule->knobs.at("width"), 16);
  ASSERT_EQ(schedule->laws.size(), 1u);
  EXPECT_EQ(schedule->laws[0].str(), "split(add)");
}

TEST_F(ScheduleTest, FormsRoundTrip) {
  Schedule schedule;
  schedule.nest = "contraction";
  schedule.knobs = {{"tile_rows", 14}, {"lanes", 16}};
  schedule.laws = {{graph::LawKind::split, graph::FoldKind::add},
                   {graph::LawKind::reorder, graph::FoldKind::max}};
  EXPECT_EQ(
      schedule.toJson(),
      R"json({"nest":"contraction","lanes":16,"tile_rows":14,"laws":["split(add)","reorder(max)"]})json");
  llvm::Expected<Schedule> parsed = Schedule::parseJson(schedule.toJson());
  ASSERT_TRUE(static_cast<bool>(parsed));
  EXPECT_EQ(*parsed, schedule);
  llvm::Expected<Schedule> read = Schedule::fromAttr(schedule.toAttr(&context));
  ASSERT_TRUE(static_cast<bool>(read));
  EXPECT_EQ(*read, schedule);
}

TEST_F(ScheduleTest, NamesWhatIsWrong) {
  auto expectError = [](StringRef json, StringRef part) {
    std::string error = errorOf(Schedule::parseJson(json));
    EXPECT_TRUE(StringRef(error).contains(part)) << error;
  };
  expectError(R"json({"laws":["split(none)"]})json", "'split(none)' is no law");
  expectError(R"json({"width":"wide"})json", "'width'");
  expectError(R"json({"nest":3})json", "'nest'");
  expectError("[]", "object");
}

TEST_F(ScheduleTest, StrictModeKeepsTheOrderOfFloatSums) {
  graph::KernelOp kernel = parse(kRowSum);
  EXPECT_TRUE(defaultLaws(kernel, graph::NumericsMode::strict).empty());
  auto laws = defaultLaws(kernel, graph::NumericsMode::reassoc);
  ASSERT_EQ(laws.size(), 2u);
  EXPECT_EQ(laws[0].str(), "split(add)");
  EXPECT_EQ(laws[1].str(), "reorder(add)");
}

TEST_F(ScheduleTest, CountsWork) {
  graph::KernelOp kernel = parse(kRowSum);
  KernelWork work = countWork(kernel, {10});
  EXPECT_EQ(work.scalarOps, 10 * 128 * 2); // exp and the fold
  EXPECT_EQ(work.bytes, 4 * (10 * 128 + 10));
  EXPECT_EQ(countWork(kernel, {0}).bytes, 0);

  TargetDesc target;
  target.readGBs = 10;
  RooflineCost cost;
  double small = cost.getSeconds(kernel, {10}, target);
  EXPECT_DOUBLE_EQ(small, work.bytes / 10e9); // bound by memory
  target.f32FlopsPerCycle = 0.01;
  EXPECT_GT(cost.getSeconds(kernel, {10}, target), small); // now by arithmetic
}

} // namespace
