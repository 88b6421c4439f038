// hom(welford): admitted for a sum and the sum of squares about its mean,
// refused for everything that is nearly that.
#include "dlc/Check/Laws.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace dlc;

namespace {
/// Three rows of 4x5 elements; parts that a test changes have names.
struct Parts {
  std::string symbols = "", shape = "3x4x5", dims = "";
  std::string row = "3", reduce = "4, 5", reduce2 = "4, 5";
  std::string fold = "fold add", fold2 = "fold add";
  std::string ofSum = "%v";   // of the element %v, and what %more gives
  std::string more = "";      // of %v, in the sum
  std::string sumAt = "(d0)"; // the row whose sum is read
  std::string count = "%n = graph.literal 20.0 : f32 : f32";
  std::string mean = "%u = graph.apply div(%s0, %n) : (f32, f32) -> f32";
  std::string x = "%v"; // what the mean is subtracted from
  std::string square = "%r = graph.apply mul(%c, %c) : (f32, f32) -> f32";
  std::string element = "f32";
  std::string at2 = "(d0, d1, d2)"; // where x is read for the squares
};

std::string text(Parts p) {
  const std::string x = "tensor<" + p.shape + "xf32" + p.dims + ">";
  std::string result = R"(
graph.kernel @k(%x: X, %y: X) -> tensor<3xf32> attributes {symbols = [)" +
                       p.symbols + R"(]} {
  %s = graph.stage domain <ROW> reduce <)" +
                       p.reduce + "> " + p.fold + R"( : tensor<3xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2)SYM -> (d0, d1, d2)>] (%i, %j, %k) : X -> f32
    )" + p.more + R"(
    graph.yield )" + p.ofSum +
                       R"( : f32
  }
  %q = graph.stage domain <ROW> reduce <)" +
                       p.reduce2 + "> " + p.fold2 + R"( : tensor<3xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2)SYM -> )" +
                       p.at2 + R"(>] (%i, %j, %k) : X -> f32
    %w = graph.load %y[affine_map<(d0, d1, d2)SYM -> (d0, d1, d2)>] (%i, %j, %k) : X -> f32
    %s0 = graph.load %s[affine_map<(d0, d1, d2)SYM -> )" +
                       p.sumAt + R"(>] (%i, %j, %k) : tensor<3xf32> -> f32
    )" + p.count + "\n    " +
                       p.mean + R"(
    %c = graph.apply sub()" +
                       p.x + R"(, %u) : (f32, f32) -> f32
    )" + p.square + R"(
    graph.yield %r : f32
  }
  graph.return %q : tensor<3xf32>
}
)";
  auto replace = [&](const std::string &from, const std::string &to) {
    for (size_t at = 0; (at = result.find(from, at)) != std::string::npos;
         at += to.size())
      result.replace(at, from.size(), to);
  };
  replace("X", x);
  replace("ROW", p.row);
  replace("SYM", p.symbols.empty() ? "" : "[s0, s1]");
  replace("f32", p.element);
  return result;
}

struct WelfordLawTest : testing::Test {
  WelfordLawTest() { context.loadDialect<graph::GraphDialect>(); }

  /// Why it is refused; "" when it is admitted.
  std::string askText(const std::string &text,
                      graph::NumericsMode mode = graph::NumericsMode::reassoc) {
    auto module = parseSourceString<ModuleOp>(text, &context);
    EXPECT_TRUE(module) << text;
    if (!module)
      return "?";
    return check::admitLaws(*module->getOps<graph::KernelOp>().begin(),
                            {graph::Law::homWelford()}, mode)
        .reason;
  }
  std::string ask(const Parts &parts,
                  graph::NumericsMode mode = graph::NumericsMode::reassoc) {
    return askText(text(parts), mode);
  }
  void expectRefused(const Parts &parts, const std::string &why) {
    std::string reason = ask(parts);
    EXPECT_NE(reason.find(why), std::string::npos)
        << (reason.empty() ? "admitted" : reason) << "\n"
        << text(parts);
  }

  MLIRContext context;
};

TEST_F(WelfordLawTest, TheForm) {
  EXPECT_EQ(ask({}), "");
  Parts p;
  p.square = R"(%two = graph.literal 2.0 : f32 : f32
    %r = graph.apply pow(%c, %two) : (f32, f32) -> f32)";
  EXPECT_EQ(ask(p), "");
  p = {}, p.element = "f64";
  EXPECT_EQ(ask(p), "");
  // Of an expression of the elements, the same one on both sides.
  p = {};
  p.more = "%e = graph.apply mul(%v, %v) : (f32, f32) -> f32";
  p.ofSum = "%e";
  p.count += "\n    %e = graph.apply mul(%v, %v) : (f32, f32) -> f32";
  p.x = "%e";
  EXPECT_EQ(ask(p), "");
}

TEST_F(WelfordLawTest, SymbolicSizes) {
  Parts p;
  p.symbols = R"("a", "b")";
  p.shape = "3x?x?";
  p.dims = ", #graph.dims<3, s0, s1>";
  p.reduce = p.reduce2 = "s0, s1";
  // A literal says nothing of a size.
  expectRefused(p, "the divisor is not the number");
  p.count =
      R"(%t = graph.coord [affine_map<(d0, d1, d2)[s0, s1] -> (s0 * s1)>] (%i, %j, %k)
    %n = graph.scalar_cast %t : i64 -> f32)";
  EXPECT_EQ(ask(p), "");
  p.count =
      R"(%t = graph.coord [affine_map<(d0, d1, d2)[s0, s1] -> (s0 * s1 + 1)>] (%i, %j, %k)
    %n = graph.scalar_cast %t : i64 -> f32)";
  expectRefused(p, "the divisor is not the number");
  p.count =
      R"(%t = graph.coord [affine_map<(d0, d1, d2)[s0, s1] -> (s0 * s0)>] (%i, %j, %k)
    %n = graph.scalar_cast %t : i64 -> f32)";
  expectRefused(p, "the divisor is not the number");
}

// Ones that are summed, as a mean over symbolic axes has them.
TEST_F(WelfordLawTest, CountsThatAreFolds) {
  auto counted = [](const std::string &steps, const std::string &one) {
    return R"(graph.kernel @k(%x: tensor<3x?xf32, #graph.dims<3, s0>>) -> tensor<3xf32> attributes {symbols = ["n"]} {
  %o = graph.stage domain <1> reduce <)" +
           steps + R"(> fold add : tensor<1xf32> {
  ^bb0(%i: index, %j: index):
    %l = graph.literal )" +
           one + R"( : f32 : f32
    graph.yield %l : f32
  }
  %s = graph.stage domain <3> reduce <s0> fold add : tensor<3xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1)[s0] -> (d0, d1)>] (%i, %j) : tensor<3x?xf32, #graph.dims<3, s0>> -> f32
    graph.yield %v : f32
  }
  %q = graph.stage domain <3> reduce <s0> fold add : tensor<3xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1)[s0] -> (d0, d1)>] (%i, %j) : tensor<3x?xf32, #graph.dims<3, s0>> -> f32
    %s0 = graph.load %s[affine_map<(d0, d1)[s0] -> (d0)>] (%i, %j) : tensor<3xf32> -> f32
    %n = graph.load %o[affine_map<(d0, d1)[s0] -> (0)>] (%i, %j) : tensor<1xf32> -> f32
    %u = graph.apply div(%s0, %n) : (f32, f32) -> f32
    %c = graph.apply sub(%v, %u) : (f32, f32) -> f32
    %r = graph.apply mul(%c, %c) : (f32, f32) -> f32
    graph.yield %r : f32
  }
  graph.return %q : tensor<3xf32>
})";
  };
  EXPECT_EQ(askText(counted("s0", "1.0")), "");
  for (auto [steps, one] :
       {std::pair("s0 + 1", "1.0"), {"s0 * 2", "1.0"}, {"s0", "2.0"}}) {
    std::string reason = askText(counted(steps, one));
    EXPECT_NE(reason.find("the divisor is not the number"), std::string::npos)
        << steps << " of " << one << ": " << reason;
  }
}

TEST_F(WelfordLawTest, StrictKeepsTheFolds) {
  EXPECT_NE(ask({}, graph::NumericsMode::strict).find("strict"),
            std::string::npos);
}

TEST_F(WelfordLawTest, LiesAreRefused) {
  Parts p;
  p.x = "%w"; // another tensor
  expectRefused(p, "another tensor");
  p = {}, p.at2 = "(d0, d1, 0)"; // other places of it
  expectRefused(p, "other places");
  p = {}, p.sumAt = "(0)"; // another row's sum
  expectRefused(p, "other places");
  p = {}, p.sumAt = "(d1)"; // a row that moves with the axes
  expectRefused(p, "varies");
  p = {}, p.reduce2 = "4, 4"; // fewer steps
  expectRefused(p, "other axes");
  p = {}, p.reduce2 = "5, 4", p.at2 = "(d0, d2, d1)"; // axes swapped
  expectRefused(p, "other axes");
  for (const char *count : {"19.0", "21.0", "20.000002", "3.0", "-20.0"}) {
    p = {},
    p.count = std::string("%n = graph.literal ") + count + " : f32 : f32";
    expectRefused(p, "the divisor is not the number");
  }
  p = {}, p.count = "%n = graph.apply abs(%w) : (f32) -> f32";
  expectRefused(p, "the divisor is not the number");
  p = {}, p.mean = "%u = graph.apply mul(%s0, %n) : (f32, f32) -> f32";
  expectRefused(p, "not a sum divided by a count");
  p = {}, p.mean = "%u = graph.apply div(%n, %s0) : (f32, f32) -> f32";
  expectRefused(p, "what is divided is not a sum");
  // The sum of scaled elements; the mean scaled; the deviation scaled.
  p = {}, p.more = "%e = graph.apply add(%v, %v) : (f32, f32) -> f32";
  p.ofSum = "%e";
  expectRefused(p, "another tensor");
  p = {}, p.mean = R"(%m = graph.apply div(%s0, %n) : (f32, f32) -> f32
    %u = graph.apply add(%m, %m) : (f32, f32) -> f32)";
  expectRefused(p, "not a sum divided by a count");
  p = {}, p.square = R"(%d = graph.apply add(%c, %c) : (f32, f32) -> f32
    %r = graph.apply mul(%d, %d) : (f32, f32) -> f32)";
  expectRefused(p, "not x - mean");
  // Not squares.
  for (const char *square :
       {"%r = graph.apply mul(%c, %v) : (f32, f32) -> f32",
        "%r = graph.apply abs(%c) : (f32) -> f32",
        "%three = graph.literal 3.0 : f32 : f32\n"
        "%r = graph.apply pow(%c, %three) : (f32, f32) -> f32"}) {
    p = {}, p.square = square;
    expectRefused(p, "not of squares");
  }
  // Other folds, and sums that start from a number of their own.
  p = {}, p.fold2 = "fold max";
  expectRefused(p, "no sum of float32 or float64");
  p = {}, p.fold = "fold max";
  expectRefused(p, "no sum of the squares' type");
  p = {}, p.fold = "fold add init 1.0 : f32";
  expectRefused(p, "no sum of the squares' type");
  p = {}, p.fold2 = "fold add init 1.0 : f32";
  expectRefused(p, "no sum of float32 or float64");
  p = {}, p.element = "f16", p.count = "%n = graph.literal 20.0 : f16 : f16";
  expectRefused(p, "no sum of float32 or float64");
  // The elements less the sum are no elements.
  p = {}, p.count += "\n    %e = graph.apply sub(%v, %s0) : (f32, f32) -> f32";
  p.x = "%e";
  expectRefused(p, "reads a fold");
  // Nothing that the law is about.
  p = {}, p.mean = "%u = graph.apply div(%w, %n) : (f32, f32) -> f32";
  expectRefused(p, "no fold reads another");
}

TEST_F(WelfordLawTest, WhatRoundsBetweenIsRefused) {
  auto rounded = [](const std::string &from, const std::string &to) {
    return "%b" + to + " = graph.scalar_cast %" + from +
           " : f32 -> bf16\n    %" + to + " = graph.scalar_cast %b" + to +
           " : bf16 -> f32";
  };
  Parts p;
  p.mean = "%m = graph.apply div(%s0, %n) : (f32, f32) -> f32\n    " +
           rounded("m", "u");
  expectRefused(p, "the mean is rounded");
  p = {}, p.mean = rounded("s0", "t") +
                   "\n    %u = graph.apply div(%t, %n) : (f32, f32) -> f32";
  expectRefused(p, "the sum is rounded");
  p = {}, p.square = rounded("c", "d") +
                     "\n    %r = graph.apply mul(%d, %d) : (f32, f32) -> f32";
  expectRefused(p, "x - mean is rounded");
  p = {}, p.square = "%d = graph.apply mul(%c, %c) : (f32, f32) -> f32\n    " +
                     rounded("d", "r");
  expectRefused(p, "the squares are rounded");
  // The elements themselves: another tensor than was summed.
  p = {}, p.count += "\n    " + rounded("v", "e");
  p.x = "%e";
  expectRefused(p, "another tensor");
}
} // namespace
