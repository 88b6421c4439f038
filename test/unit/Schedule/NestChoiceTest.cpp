// Which nest takes a kernel, what is kept, what a row is.
#include "dlc/Schedule/NestChoice.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace dlc;

namespace {
struct NestChoiceTest : ::testing::Test {
  NestChoiceTest() { context.loadDialect<graph::GraphDialect>(); }

  NestChoice choose(std::string text) {
    module = parseSourceString<ModuleOp>(text, &context);
    EXPECT_TRUE(module) << text;
    return bestNest(*module->getOps<graph::KernelOp>().begin());
  }

  MLIRContext context;
  OwningOpRef<ModuleOp> module;
};

/// A product, then `after` (stages that read %s), then the results.
std::string product(const std::string &after, const std::string &results,
                    const std::string &types) {
  return R"(graph.kernel @k(%a: tensor<20x30xf32>, %b: tensor<30x40xf32>, %i: tensor<40xi64>) -> ()" +
         types + R"() attributes {symbols = []} {
  %s = graph.stage domain<20, 40> reduce<30> fold add : tensor<20x40xf32> {
  ^bb0(%i0: index, %j: index, %l: index):
    %x = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i0, %j, %l) : tensor<20x30xf32> -> f32
    %w = graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%i0, %j, %l) : tensor<30x40xf32> -> f32
    %p = graph.apply mul(%x, %w) : (f32, f32) -> f32
    graph.yield %p : f32
  }
)" + after +
         "  graph.return " + results + " : " + types + "\n}\n";
}

std::string map(const std::string &name, const std::string &from) {
  return "  %" + name + R"( = graph.stage domain<20, 40> : tensor<20x40xf32> {
  ^bb0(%i0: index, %j: index):
    %x = graph.load %)" +
         from +
         R"([affine_map<(d0, d1) -> (d0, d1)>](%i0, %j) : tensor<20x40xf32> -> f32
    %y = graph.apply exp(%x) : (f32) -> f32
    graph.yield %y : f32
  }
)";
}

TEST_F(NestChoiceTest, ContractionTakesEpilogues) {
  const std::string t = "tensor<20x40xf32>";
  EXPECT_EQ(choose(product("", "%s", t)).nest, "contraction");
  EXPECT_EQ(choose(product(map("t", "s") + map("u", "t"), "%u", t)).nest,
            "contraction");
  EXPECT_EQ(choose(product(map("t", "s"), "%t, %s", t + ", " + t)).nest,
            "contraction");
}

// A fold after the sum: it would run in a loop nest, and the choice says so.
TEST_F(NestChoiceTest, FoldAfterTheSumLosesIt) {
  NestChoice choice = choose(product(R"(
  %t = graph.stage domain<20> reduce<40> fold max : tensor<20xf32> {
  ^bb0(%i0: index, %j: index):
    %x = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%i0, %j) : tensor<20x40xf32> -> f32
    graph.yield %x : f32
  }
)",
                                     "%t", "tensor<20xf32>"));
  EXPECT_EQ(choice.nest, "row");
  EXPECT_TRUE(choice.losesContraction);
  EXPECT_EQ(choice.reason, "more than one fold");
  EXPECT_EQ(choice.plan.kept.size(), 1u);
  EXPECT_EQ(choice.plan.rowRank, 1u);
}

TEST_F(NestChoiceTest, IndexFromDataAfterTheSum) {
  NestChoice choice = choose(product(R"(
  %t = graph.stage domain<20, 40> : tensor<20x40xf32> {
  ^bb0(%i0: index, %j: index):
    %n = graph.load %i[affine_map<(d0, d1) -> (d1)>](%i0, %j) : tensor<40xi64> -> i64
    %k = graph.to_index %n in <40>
    %x = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%i0, %k) : tensor<20x40xf32> -> f32
    graph.yield %x : f32
  }
)",
                                     "%t", "tensor<20x40xf32>"));
  EXPECT_EQ(choice.nest, "row");
  EXPECT_TRUE(choice.losesContraction);
}

/// Rows of `n`: a maximum, then the differences.
std::string rows(int m, int n) {
  std::string ms = std::to_string(m), ns = std::to_string(n),
              x = "tensor<" + ms + "x" + ns + "xf32>",
              r = "tensor<" + ms + "xf32>";
  return "graph.kernel @k(%x: " + x + ") -> " + x +
         " attributes {symbols = []} {\n  %m = graph.stage domain<" + ms +
         "> reduce<" + ns + "> fold max : " + r + R"( {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : )" +
         x + R"( -> f32
    graph.yield %v : f32
  }
  %y = graph.stage domain<)" +
         ms + ", " + ns + "> : " + x + R"( {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : )" +
         x + R"( -> f32
    %w = graph.load %m[affine_map<(d0, d1) -> (d0)>](%i, %k) : )" +
         r + R"( -> f32
    %d = graph.apply sub(%v, %w) : (f32, f32) -> f32
    graph.yield %d : f32
  }
  graph.return %y : )" +
         x + "\n}\n";
}

TEST_F(NestChoiceTest, Rows) {
  NestChoice many = choose(rows(100, 64));
  EXPECT_EQ(many.nest, "row");
  EXPECT_FALSE(many.losesContraction);
  EXPECT_EQ(many.stridedLoads, 0u);
  EXPECT_EQ(many.plan.mode, RowPlan::Rows);
  EXPECT_EQ(many.plan.rowRank, 1u);
  EXPECT_EQ(graph::constantValue(many.plan.rows), 100);
  EXPECT_EQ(graph::constantValue(many.plan.rowBytes), 64);
  // Two long rows would keep two cores busy at most: a phase a stage.
  EXPECT_EQ(choose(rows(2, 100000)).plan.mode, RowPlan::Phases);
  EXPECT_EQ(choose(rows(2, 100)).plan.mode, RowPlan::Rows);
}

// Rows shorter than a vector are computed many at a time.
TEST_F(NestChoiceTest, ShortRows) {
  EXPECT_EQ(choose(rows(560, 3)).plan.rowRank, 0u);
  EXPECT_EQ(choose(rows(560, 12)).plan.rowRank, 0u);
  EXPECT_EQ(choose(rows(560, 16)).plan.rowRank, 1u);
  // All of them would leave the cache: worth it where most lanes are idle.
  EXPECT_EQ(choose(rows(100000, 12)).plan.rowRank, 1u);
  EXPECT_EQ(choose(rows(100000, 3)).plan.mode, RowPlan::Phases);
}

/// Two folds over `steps`, the second of what the first says of its point; the
/// operand is dense along the points, or along the folds.
std::string folds(int points, int steps, bool denseAlongFold) {
  std::string ps = std::to_string(points), ss = std::to_string(steps);
  std::string x =
      "tensor<" + (denseAlongFold ? ps + "x" + ss : ss + "x" + ps) + "xf32>";
  std::string load = "graph.load %x[affine_map<(d0, d1) -> " +
                     std::string(denseAlongFold ? "(d0, d1)" : "(d1, d0)") +
                     ">](%i, %k) : " + x + " -> f32\n";
  std::string r = "tensor<" + ps + "xf32>";
  std::string head =
      " = graph.stage domain<" + ps + "> reduce<" + ss + "> fold ";
  return "graph.kernel @k(%x: " + x + ") -> " + r +
         " attributes {symbols = []} {\n  %m" + head + "max : " + r +
         " {\n  ^bb0(%i: index, %k: index):\n    %v = " + load +
         "    graph.yield %v : f32\n  }\n  %s" + head + "add : " + r +
         " {\n  ^bb0(%i: index, %k: index):\n    %v = " + load +
         "    %w = graph.load %m[affine_map<(d0, d1) -> (d0)>](%i, %k) : " + r +
         R"( -> f32
    %d = graph.apply sub(%v, %w) : (f32, f32) -> f32
    graph.yield %d : f32
  }
  graph.return %s : )" +
         r + "\n}\n";
}

// A row of one point has its lanes along the fold, unless they are better along
// the points.
TEST_F(NestChoiceTest, LanesAcrossFolds) {
  EXPECT_EQ(choose(folds(100, 64, true)).plan.rowRank, 1u);
  EXPECT_EQ(choose(folds(100, 64, false)).plan.rowRank, 0u);
  EXPECT_EQ(choose(folds(100, 2, true)).plan.rowRank, 0u);
}

// Weights with a scale of ten steps or of a column; not with one of each step.
TEST_F(NestChoiceTest, ScalesThatStepsShare) {
  auto shares = [&](const std::string &at) {
    return choose(
               R"(graph.kernel @k(%a: tensor<20x30xf32>, %b: tensor<30x40xi8>, %c: tensor<30x40xf32>) -> tensor<20x40xf32> attributes {symbols = []} {
  %s = graph.stage domain<20, 40> reduce<30> fold add : tensor<20x40xf32> {
  ^bb0(%i: index, %j: index, %l: index):
    %x = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %l) : tensor<20x30xf32> -> f32
    %w = graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, %l) : tensor<30x40xi8> -> i8
    %f = graph.scalar_cast %w : i8 -> f32
    %t = graph.load %c[affine_map<(d0, d1, d2) -> ()" +
               at + R"(, d1)>](%i, %j, %l) : tensor<30x40xf32> -> f32
    %d = graph.apply mul(%t, %f) : (f32, f32) -> f32
    %p = graph.apply mul(%x, %d) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  graph.return %s : tensor<20x40xf32>
})")
        .sharesScales;
  };
  EXPECT_TRUE(shares("d2 floordiv 10"));
  EXPECT_TRUE(shares("0"));
  EXPECT_FALSE(shares("d2"));
}

/// Sums and squares about the mean of rows; `results` of %s, %c (the elements
/// less the mean) and %q.
std::string moments(const std::string &squares, const std::string &results,
                    const std::string &types) {
  return R"(graph.kernel @k(%x: X) -> ()" + types +
         R"() attributes {symbols = []} {
  %s = graph.stage domain<20> reduce<N> fold add : tensor<20xf32> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : X -> f32
    graph.yield %v : f32
  }
  %c = graph.stage domain<20, N> : X {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : X -> f32
    %w = graph.load %s[affine_map<(d0, d1) -> (d0)>](%i, %k) : tensor<20xf32> -> f32
    %n = graph.literal 5.0 : f32 : f32
    %m = graph.apply div(%w, %n) : (f32, f32) -> f32
    %d = graph.apply sub(%v, %m) : (f32, f32) -> f32
    graph.yield %d : f32
  }
  %q = graph.stage domain<20> reduce<N> fold add : tensor<20xf32> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %c[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : X -> f32
    %w = graph.load %s[affine_map<(d0, d1) -> (d0)>](%i, %k) : tensor<20xf32> -> f32
    %r = graph.apply )" +
         squares + R"( : (f32, f32) -> f32
    graph.yield %r : f32
  }
  graph.return )" +
         results + " : " + types + "\n}\n";
}

// One pass over a row where it does not stay in the cache, and nothing that the
// second pass stores anyway is in the way.
TEST_F(NestChoiceTest, MomentsOfLongRows) {
  auto merges = [&](const std::string &steps, const std::string &squares,
                    const std::string &results, const std::string &types) {
    std::string text = moments(squares, results, types);
    for (auto [from, to] :
         {std::pair<std::string, std::string>{"X", "tensor<20xNxf32>"},
          {"N", steps}})
      for (size_t at; (at = text.find(from)) != std::string::npos;)
        text.replace(at, from.size(), to);
    return choose(text).mergesMoments;
  };
  const std::string row = "tensor<20xf32>", square = "mul(%v, %v)";
  EXPECT_TRUE(merges("131073", square, "%q", row));
  EXPECT_TRUE(merges("1000000", square, "%s, %q", row + ", " + row));
  EXPECT_FALSE(merges("131072", square, "%q", row));
  EXPECT_FALSE(merges("1000", square, "%s, %q", row + ", " + row));
  // The elements less the mean are a result: the second pass stores them.
  EXPECT_FALSE(merges("1000000", square, "%c, %q", "X, " + row));
  // The second fold wants the sum itself.
  EXPECT_FALSE(merges("1000000", "mul(%v, %w)", "%q", row));
}
} // namespace
