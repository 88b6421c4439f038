// hom(softmax): admitted for a softmax between two sums of products, refused
// for everything that is nearly one.
#include "dlc/Check/Laws.h"

#include "../Schedule/AttentionKernels.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::test;

namespace {
struct SoftmaxLawTest : testing::Test {
  SoftmaxLawTest() { context.loadDialect<graph::GraphDialect>(); }

  /// Why it is refused; "" when it is admitted.
  std::string ask(const Parts &parts,
                  graph::NumericsMode mode = graph::NumericsMode::reassoc,
                  graph::Law law = graph::Law::homSoftmax()) {
    return askText(kernel(parts), mode, law);
  }
  std::string askText(const std::string &text, graph::NumericsMode mode,
                      graph::Law law) {
    auto module = parseSourceString<ModuleOp>(text, &context);
    EXPECT_TRUE(module) << text;
    if (!module)
      return "?";
    auto answer = check::admitLaws(*module->getOps<graph::KernelOp>().begin(),
                                   {law}, mode);
    return answer.reason;
  }
  void expectRefused(const Parts &parts, const std::string &why) {
    std::string reason = ask(parts);
    EXPECT_NE(reason.find(why), std::string::npos)
        << (reason.empty() ? "admitted" : reason) << "\n"
        << kernel(parts);
  }

  /// What round(softmax) says where values are numbers of one type and weights
  /// are rounded to another; "": as they are.
  std::string
  askRounded(const std::string &values, const std::string &weights,
             Parts parts = {},
             graph::NumericsMode mode = graph::NumericsMode::reassoc) {
    auto rounded = [](const std::string &from, const std::string &to,
                      const std::string &type) {
      return "    %" + to + "n = graph.scalar_cast %" + from + " : f32 -> " +
             type + "\n    %" + to + " = graph.scalar_cast %" + to +
             "n : " + type + " -> f32\n";
    };
    if (!values.empty()) {
      parts.factor = rounded("x", "xx", values);
      parts.ofValue = "%xx";
    }
    if (!weights.empty())
      parts.factor += rounded("w", "ww", weights);
    std::string text = kernel(parts);
    if (!weights.empty()) {
      const std::string given = "mul(%w, ";
      text.replace(text.find(given), given.size(), "mul(%ww, ");
    }
    return askText(text, mode, graph::Law::roundSoftmax());
  }
  void expectNotRounded(const std::string &answer, const std::string &why) {
    EXPECT_NE(answer.find(why), std::string::npos)
        << (answer.empty() ? "admitted" : answer);
  }

  MLIRContext context;
};

TEST_F(SoftmaxLawTest, TheForm) {
  EXPECT_EQ(ask({}), "");
  // A product with the sum's inverse; no division; a row's own factor.
  Parts p;
  p.weight = "mul(%e, %z) : (f32, f32)";
  EXPECT_EQ(ask(p), "");
  // Heads in another order behind it, and a mask of positions before.
  p = {};
  p.t = R"(
    %ci = graph.coord [affine_map<(d0, d1, d2, d3) -> (d2)>](%b, %h, %i, %j)
    %cj = graph.coord [affine_map<(d0, d1, d2, d3) -> (d3)>](%b, %h, %i, %j)
    %is = graph.apply le(%cj, %ci) : (i64, i64) -> i1
    %inf = graph.literal 0xFF800000 : f32 : f32
    %r = graph.apply select(%is, %c, %inf) : (i1, f32, f32) -> f32
    graph.yield %r : f32)";
  EXPECT_EQ(ask(p), "");
}

TEST_F(SoftmaxLawTest, StrictKeepsTheFolds) {
  EXPECT_NE(ask({}, graph::NumericsMode::strict).find("strict"),
            std::string::npos);
}

TEST_F(SoftmaxLawTest, LiesAreRefused) {
  Parts p;
  p.exponent = "sub(%m, %x) : (f32, f32)";
  expectRefused(p, "varies along");
  p = {}, p.exponent = "add(%x, %m) : (f32, f32)";
  expectRefused(p, "exp(t - maximum)");
  p = {}, p.exponent = "sub(%x, %x) : (f32, f32)";
  expectRefused(p, "no sum reads the maximum");
  p = {}, p.maxRow = "(d0, d1, 0, 0)"; // another row's maximum
  expectRefused(p, "other places");
  p = {}, p.maxRow = "(d0, 0, d2, 0)"; // another head's
  expectRefused(p, "other places");
  p = {}, p.sumRow = "(d0, d1, 0, 0)"; // another row's sum
  expectRefused(p, "other exponentials");
  p = {}, p.largest = "(d0, d1, d2, 0)"; // the maximum of one place
  expectRefused(p, "other places");
  p = {}, p.weight = "div(%e, %e) : (f32, f32)";
  expectRefused(p, "along the folded axes");
  p = {}, p.weight = "mul(%e, %e) : (f32, f32)";
  expectRefused(p, "along the folded axes");
  p = {}, p.weight = "sub(%e, %z) : (f32, f32)";
  expectRefused(p, "exp(t - maximum)");
  p = {}, p.weight = "max(%e, %z) : (f32, f32)";
  expectRefused(p, "exp(t - maximum)");
}

TEST_F(SoftmaxLawTest, WhatStandsBetweenIsRefused) {
  // Rounding, a cut weight, another number in its place, a squared one.
  Parts p;
  p.exponential = R"(%n = graph.scalar_cast %e : f32 -> bf16
    %e2 = graph.scalar_cast %n : bf16 -> f32)";
  p.ofExp = "%e2";
  expectRefused(p, "C-ROUND");
  const std::string cut = R"(
    %cj = graph.coord [affine_map<(d0, d1, d2, d3) -> (d3)>](%b, %h, %i, %j)
    %three = graph.literal 3 : i64 : i64
    %is = graph.apply lt(%cj, %three) : (i64, i64) -> i1
)";
  p.exponential = cut + R"(%o = graph.literal 0.0 : f32 : f32
    %e2 = graph.apply select(%is, %e, %o) : (i1, f32, f32) -> f32)";
  expectRefused(p, "along the folded axes");
  p.exponential = cut + R"(%o = graph.literal 1.0 : f32 : f32
    %e2 = graph.apply select(%is, %e, %o) : (i1, f32, f32) -> f32)";
  expectRefused(p, "other than 0");
  p.exponential = "%e2 = graph.apply mul(%e, %e) : (f32, f32) -> f32";
  expectRefused(p, "along the folded axes");
  p.exponential = "%e2 = graph.apply sqrt(%e) : (f32) -> f32";
  expectRefused(p, "exp(t - maximum)");
  p.exponential = R"(%two = graph.literal 2.0 : f32 : f32
    %uu = graph.apply mul(%u, %two) : (f32, f32) -> f32
    %e2 = graph.apply exp(%uu) : (f32) -> f32)";
  expectRefused(p, "exp(t - maximum)");
  // The score of one key is another tensor than the maximum saw.
  p.exponential = cut + R"(%big = graph.literal 9.0 : f32 : f32
    %tt = graph.apply select(%is, %x, %big) : (i1, f32, f32) -> f32
    %uu = graph.apply sub(%tt, %m) : (f32, f32) -> f32
    %e2 = graph.apply exp(%uu) : (f32) -> f32)";
  expectRefused(p, "another tensor");
}

TEST_F(SoftmaxLawTest, WeightsAreRoundedOnce) {
  EXPECT_EQ(askRounded("bf16", "bf16"), "");
  EXPECT_EQ(askRounded("f16", "f16"), "");
  expectNotRounded(askRounded("bf16", "f16"), "C-ROUND");
  expectNotRounded(askRounded("f16", "bf16"), "C-ROUND");
  expectNotRounded(askRounded("", "bf16"), "16-bit");
  expectNotRounded(askRounded("", ""), "16-bit");
  // f32 results would show it.
  expectNotRounded(askRounded("bf16", ""), "neither weights nor results");
  expectNotRounded(askRounded("bf16", "bf16", {}, graph::NumericsMode::strict),
                   "strict");
  // What is summed is rounded, too.
  Parts p;
  p.exponential = R"(%n = graph.scalar_cast %e : f32 -> bf16
    %e2 = graph.scalar_cast %n : bf16 -> f32)";
  p.ofExp = "%e2";
  expectNotRounded(askRounded("bf16", "bf16", p), "C-ROUND");
  p = {}, p.maxRow = "(d0, d1, 0, 0)";
  expectNotRounded(askRounded("bf16", "bf16", p), "other places");
}

TEST_F(SoftmaxLawTest, ValuesThatAreFoldsAreRefused) {
  Parts p;
  p.factor =
      R"(%zz0 = graph.load %zz[affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, 0)>](%b, %h, %i, %c, %j) : tensor<2x4x5x1xf32> -> f32
    %xx = graph.apply mul(%x, %zz0) : (f32, f32) -> f32)";
  p.ofValue = "%xx";
  expectRefused(p, "fold of this kernel");
}
} // namespace
