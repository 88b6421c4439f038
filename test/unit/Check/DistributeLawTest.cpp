// distribute(add): admitted where neighbouring terms of a sum share a factor,
// refused for everything that is nearly that.
#include "dlc/Check/Laws.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace dlc;

namespace {
/// y = sum over k of x[k] * (q[n, k] * s[n, k / block]); parts that a test
/// changes have names.
struct Parts {
  std::string k = "64", symbols = "", fold = "fold add";
  std::string scaleAt = "d1, d2 floordiv 32", element = "f32";
  std::string term = R"(
    %w = graph.apply mul(%q0, %s0) : (f32, f32) -> f32
    %t = graph.apply mul(%x0, %w) : (f32, f32) -> f32)";
};

std::string text(Parts p) {
  std::string result = R"(
graph.kernel @k(%x: @X, %q: @Q, %s: tensor<70x64xf32>) -> @Y attributes {symbols = [)" +
                       p.symbols + R"(]} {
  %y = graph.stage domain <1, 70> reduce <@K> )" +
                       p.fold + R"( : @Y {
  ^bb0(%i: index, %j: index, %k: index):
    %x0 = graph.load %x[affine_map<(d0, d1, d2)@SIZES -> (d0, d2)>] (%i, %j, %k) : @X -> f32
    %q0 = graph.load %q[affine_map<(d0, d1, d2)@SIZES -> (d1, d2)>] (%i, %j, %k) : @Q -> f32
    %s0 = graph.load %s[affine_map<(d0, d1, d2)@SIZES -> ()" +
                       p.scaleAt +
                       R"()>] (%i, %j, %k) : tensor<70x64xf32> -> f32)" +
                       p.term + R"(
    graph.yield %t : f32
  }
  graph.return %y : @Y
}
)";
  auto replace = [&](const std::string &from, const std::string &to) {
    for (size_t at = 0; (at = result.find(from, at)) != std::string::npos;
         at += to.size())
      result.replace(at, from.size(), to);
  };
  std::string size = p.symbols.empty() ? p.k : "?";
  auto dims = [&](const std::string &rows) {
    return p.symbols.empty() ? "" : ", #graph.dims<" + rows + ", s0>";
  };
  replace("@X", "tensor<1x" + size + "xf32" + dims("1") + ">");
  replace("@Q", "tensor<70x" + size + "xf32" + dims("70") + ">");
  replace("@Y", "tensor<1x70xf32>");
  replace("@K", p.symbols.empty() ? p.k : "s0");
  replace("@SIZES", p.symbols.empty() ? "" : "[s0]");
  replace("f32", p.element);
  return result;
}

struct DistributeLawTest : testing::Test {
  DistributeLawTest() { context.loadDialect<graph::GraphDialect>(); }

  /// Why it is refused; "" when it is admitted.
  std::string ask(const Parts &parts,
                  graph::NumericsMode mode = graph::NumericsMode::reassoc) {
    auto module = parseSourceString<ModuleOp>(text(parts), &context);
    EXPECT_TRUE(module) << text(parts);
    if (!module)
      return "?";
    return check::admitLaws(*module->getOps<graph::KernelOp>().begin(),
                            {graph::Law::distributeAdd()}, mode)
        .reason;
  }
  bool refuses(const Parts &parts) {
    return StringRef(ask(parts)).contains("share a factor");
  }
  MLIRContext context;
};
} // namespace

TEST_F(DistributeLawTest, SharedFactors) {
  EXPECT_EQ(ask({}), "");
  Parts column; // one scale for all of k
  column.scaleAt = "d1, 0";
  EXPECT_EQ(ask(column), "");
  Parts odd; // runs of 9 of 63
  odd.k = "63";
  odd.scaleAt = "d1, d2 floordiv 9";
  EXPECT_EQ(ask(odd), "");
  Parts outside; // the scale is a factor of the term itself
  outside.term = R"(
    %w = graph.apply mul(%x0, %q0) : (f32, f32) -> f32
    %t = graph.apply mul(%s0, %w) : (f32, f32) -> f32)";
  EXPECT_EQ(ask(outside), "");
  Parts wide;
  wide.element = "f64";
  EXPECT_EQ(ask(wide), "");
  EXPECT_EQ(ask({}, graph::NumericsMode::fastConv), "");
}

TEST_F(DistributeLawTest, Refusals) {
  EXPECT_NE(ask({}, graph::NumericsMode::strict), "");
  Parts each; // a scale of each step
  each.scaleAt = "d1, d2";
  EXPECT_TRUE(refuses(each));
  Parts turns; // shared, but not by neighbours
  turns.scaleAt = "d1, d2 mod 32";
  EXPECT_TRUE(refuses(turns));
  Parts shifted; // runs do not begin at multiples of their length
  shifted.scaleAt = "d1, (d2 + 1) floordiv 32";
  EXPECT_TRUE(refuses(shifted));
  Parts crossing; // 65 steps are no runs of 32
  crossing.k = "65";
  EXPECT_TRUE(refuses(crossing));
  Parts largest;
  largest.fold = "fold max";
  EXPECT_TRUE(refuses(largest));
  Parts sum; // x * (q + s)
  sum.term = R"(
    %w = graph.apply add(%q0, %s0) : (f32, f32) -> f32
    %t = graph.apply mul(%x0, %w) : (f32, f32) -> f32)";
  EXPECT_TRUE(refuses(sum));
  Parts rounded; // the product is rounded before it is summed
  rounded.term = R"(
    %w = graph.apply mul(%q0, %s0) : (f32, f32) -> f32
    %v = graph.apply mul(%x0, %w) : (f32, f32) -> f32
    %h = graph.scalar_cast %v : f32 -> bf16
    %t = graph.scalar_cast %h : bf16 -> f32)";
  EXPECT_TRUE(refuses(rounded));
  Parts narrow;
  narrow.element = "f16";
  EXPECT_TRUE(refuses(narrow));
  Parts unknown; // how many steps there are is not known
  unknown.symbols = "\"k\"";
  EXPECT_TRUE(refuses(unknown));
}

TEST_F(DistributeLawTest, Text) {
  EXPECT_EQ(graph::Law::distributeAdd().str(), "distribute(add)");
  EXPECT_EQ(*graph::Law::parse("distribute(add)"), graph::Law::distributeAdd());
  EXPECT_FALSE(graph::Law::distributeAdd() == graph::Law::winograd());
  EXPECT_TRUE(failed(graph::Law::parse("distribute(max)")));
}
