// Relaid kernels: the right one is shown, and every planted lie is refused.
#include "dlc/Check/Layout.h"

#include "Fixtures.h"

#include "gtest/gtest.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::test;
using graph::NumericsMode;

namespace {
// A padded convolution with what follows it, and a gather along the width.
const char *before = R"mlir(
graph.kernel @conv(%x: tensor<?x4x6x8xf32, #graph.dims<s0, 4, 6, 8>>, %w: tensor<5x4x3x3xf32>, %p: tensor<8xi64>)
    -> tensor<?x5x6x8xf32, #graph.dims<s0, 5, 6, 8>> attributes {rows = 2 : i64, symbols = ["n"]} {
  %sum = graph.stage domain <s0, 5, 6, 8> reduce <4, 3, 3> fold add : tensor<?x5x6x8xf32, #graph.dims<s0, 5, 6, 8>> {
  ^bb0(%n: index, %c: index, %h: index, %v: index, %k: index, %i: index, %j: index):
    %z = graph.literal 0.0 : f32 : f32
    %a = graph.load %x[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d4, d2 + d5 - 1, d3 + d6 - 1)>](%n, %c, %h, %v, %k, %i, %j) guard affine_set<(d0, d1, d2, d3, d4, d5, d6) : (d2 + d5 - 1 >= 0, -d2 - d5 + 6 >= 0, d3 + d6 - 1 >= 0, -d3 - d6 + 8 >= 0)> else %z : f32 : tensor<?x4x6x8xf32, #graph.dims<s0, 4, 6, 8>> -> f32
    %b = graph.load %w[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d1, d4, d5, d6)>](%n, %c, %h, %v, %k, %i, %j) : tensor<5x4x3x3xf32> -> f32
    %m = graph.apply mul(%a, %b) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  %y = graph.stage domain <s0, 5, 6, 8> : tensor<?x5x6x8xf32, #graph.dims<s0, 5, 6, 8>> {
  ^bb0(%n: index, %c: index, %h: index, %v: index):
    %q = graph.load %p[affine_map<(d0, d1, d2, d3) -> (d3)>](%n, %c, %h, %v) : tensor<8xi64> -> i64
    %at = graph.to_index %q in <8>
    %s = graph.load %sum[affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d4)>](%n, %c, %h, %v, %at) : tensor<?x5x6x8xf32, #graph.dims<s0, 5, 6, 8>> -> f32
    %g = graph.coord[affine_map<(d0, d1, d2, d3) -> (d1 + d2)>](%n, %c, %h, %v)
    %f = graph.scalar_cast %g : i64 -> f32
    %in = graph.inside[affine_set<(d0, d1, d2, d3) : (d2 - 1 >= 0)>](%n, %c, %h, %v)
    %t = graph.apply select(%in, %s, %f) : (i1, f32, f32) -> f32
    %u = graph.apply sub(%t, %f) : (f32, f32) -> f32
    graph.yield %u : f32
  }
  graph.return %y : tensor<?x5x6x8xf32, #graph.dims<s0, 5, 6, 8>>
}
)mlir";

const char *after = R"mlir(
graph.kernel @conv_last(%x: tensor<?x6x8x4xf32, #graph.dims<s0, 6, 8, 4>>, %w: tensor<5x4x3x3xf32>, %p: tensor<8xi64>)
    -> tensor<?x6x8x5xf32, #graph.dims<s0, 6, 8, 5>> attributes {rows = 1 : i64, symbols = ["n"], graph.relayout = {
      of = "conv", operands = [array<i64: 0, 2, 3, 1>, array<i64>, array<i64>], results = [array<i64: 0, 2, 3, 1>],
      domains = [array<i64: 0, 2, 3, 1>, array<i64: 0, 2, 3, 1>], reduces = [array<i64: 1, 2, 0>, array<i64>], laws = ["reorder(add)"]}} {
  %sum = graph.stage domain <s0, 6, 8, 5> reduce <3, 3, 4> fold add : tensor<?x6x8x5xf32, #graph.dims<s0, 6, 8, 5>> {
  ^bb0(%n: index, %h: index, %v: index, %c: index, %i: index, %j: index, %k: index):
    %z = graph.literal 0.0 : f32 : f32
    %a = graph.load %x[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1 + d4 - 1, d2 + d5 - 1, d6)>](%n, %h, %v, %c, %i, %j, %k) guard affine_set<(d0, d1, d2, d3, d4, d5, d6) : (d1 + d4 - 1 >= 0, -d1 - d4 + 6 >= 0, d2 + d5 - 1 >= 0, -d2 - d5 + 8 >= 0)> else %z : f32 : tensor<?x6x8x4xf32, #graph.dims<s0, 6, 8, 4>> -> f32
    %b = graph.load %w[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d3, d6, d4, d5)>](%n, %h, %v, %c, %i, %j, %k) : tensor<5x4x3x3xf32> -> f32
    %m = graph.apply mul(%a, %b) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  %y = graph.stage domain <s0, 6, 8, 5> : tensor<?x6x8x5xf32, #graph.dims<s0, 6, 8, 5>> {
  ^bb0(%n: index, %h: index, %v: index, %c: index):
    %q = graph.load %p[affine_map<(d0, d1, d2, d3) -> (d2)>](%n, %h, %v, %c) : tensor<8xi64> -> i64
    %at = graph.to_index %q in <8>
    %s = graph.load %sum[affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d4, d3)>](%n, %h, %v, %c, %at) : tensor<?x6x8x5xf32, #graph.dims<s0, 6, 8, 5>> -> f32
    %g = graph.coord[affine_map<(d0, d1, d2, d3) -> (d1 + d3)>](%n, %h, %v, %c)
    %f = graph.scalar_cast %g : i64 -> f32
    %in = graph.inside[affine_set<(d0, d1, d2, d3) : (d1 - 1 >= 0)>](%n, %h, %v, %c)
    %t = graph.apply select(%in, %s, %f) : (i1, f32, f32) -> f32
    %u = graph.apply sub(%t, %f) : (f32, f32) -> f32
    graph.yield %u : f32
  }
  graph.return %y : tensor<?x6x8x5xf32, #graph.dims<s0, 6, 8, 5>>
}
)mlir";

struct Lie {
  const char *find, *replace;
  const char *reason; // what the refusal says
};

const Lie lies[] = {
    // Maps.
    {"(d0, d1 + d4 - 1, d2 + d5 - 1, d6)", "(d0, d2 + d5 - 1, d1 + d4 - 1, d6)",
     "index 1 of a load differs"},
    {"(d0, d1 + d4 - 1, d2 + d5 - 1, d6)", "(d0, d6, d1 + d4 - 1, d2 + d5 - 1)",
     "index 1 of a load differs"},
    {"(d0, d1 + d4 - 1, d2 + d5 - 1, d6)", "(d0, d1 + d4, d2 + d5 - 1, d6)",
     "index 1 of a load differs"},
    {"-> (d3, d6, d4, d5)>", "-> (d3, d6, d5, d4)>", "index 2 of a load"},
    {"-> (d3, d6, d4, d5)>", "-> (d3, d4, d5, d6)>", "index 1 of a load"},
    {"-> (d0, d1, d4, d3)>", "-> (d0, d1, d2, d3)>", "index 2 of a load"},
    {"-> (d2)>](%n, %h, %v, %c)", "-> (d3)>](%n, %h, %v, %c)",
     "index 0 of a load"},
    {"-> (d2)>](%n, %h, %v, %c)", "-> (d2)>](%n, %v, %h, %c)",
     "index 0 of a load"},
    {"-> (d1 + d3)>", "-> (d1 + d2)>", "another coordinate as a number"},
    // Guards and sets.
    {" guard affine_set<(d0, d1, d2, d3, d4, d5, d6) : (d1 + d4 - 1 >= 0, -d1 "
     "- d4 + 6 >= 0, d2 + d5 - 1 >= 0, -d2 - d5 + 8 >= 0)> else %z : f32",
     "", "another attribute"},
    {"(d1 + d4 - 1 >= 0, -d1 - d4 + 6 >= 0, ", "(d1 + d4 - 1 >= 0, ",
     "another number of constraints"},
    {"-d1 - d4 + 6 >= 0", "-d1 - d4 + 8 >= 0", "constraint 1 differs"},
    {"(d1 + d4 - 1 >= 0, -d1", "(d1 + d4 - 1 == 0, -d1",
     "constraint 0 differs"},
    {"(d0, d1, d2, d3) : (d1 - 1 >= 0)", "(d0, d1, d2, d3) : (d2 - 1 >= 0)",
     "a set: constraint 0 differs"},
    {"graph.literal 0.0", "graph.literal 1.0", "another attribute"},
    // Functions and operands.
    {"graph.apply mul(%a, %b)", "graph.apply add(%a, %b)", "another attribute"},
    {"sub(%t, %f)", "sub(%f, %t)", "another operand"},
    {"select(%in, %s, %f)", "select(%in, %f, %s)", "another operand"},
    {"graph.yield %u", "graph.yield %t", "another operand"},
    {"graph.to_index %q in <8>", "graph.to_index %q in <7>",
     "another attribute"},
    // Folds.
    {"fold add", "fold max", "another fold"},
    {"fold add", "fold add init 1.0 : f32", "another fold"},
    {"reduce <3, 3, 4>", "reduce <3, 4, 3>", "the fold of stage 0: sizes"},
    {"reduce <3, 3, 4>", "reduce <3, 3, 3>", "the fold of stage 0: sizes"},
    {"laws = [\"reorder(add)\"]", "laws = []", "without the law reorder(add)"},
    {"reduces = [array<i64: 1, 2, 0>, array", "reduces = [array<i64>, array",
     "the fold of stage 0: sizes"},
    {"reduces = [array<i64: 1, 2, 0>, array",
     "reduces = [array<i64: 2, 1, 0>, array", "index 1 of a load differs"},
    // Domains, results and the claim.
    {"graph.stage domain <s0, 6, 8, 5> :", "graph.stage domain <s0, 8, 6, 5> :",
     "the domain of stage 1: sizes"},
    {"-> tensor<?x6x8x5xf32, #graph.dims<s0, 6, 8, 5>> attributes",
     "-> tensor<?x5x6x8xf32, #graph.dims<s0, 5, 6, 8>> attributes",
     "the kernel's type is not"},
    {"results = [array<i64: 0, 2, 3, 1>]", "results = [array<i64>]",
     "result 0 is permuted by"},
    {"results = [array<i64: 0, 2, 3, 1>]", "results = [array<i64: 0, 3, 2, 1>]",
     "result 0 is permuted by"},
    {"operands = [array<i64: 0, 2, 3, 1>", "operands = [array<i64>",
     "operand 0: sizes"},
    {"operands = [array<i64: 0, 2, 3, 1>", "operands = [array<i64: 0, 2, 2, 1>",
     "none that can be read"},
    {"domains = [array<i64: 0, 2, 3, 1>, array<i64: 0, 2, 3, 1>]",
     "domains = [array<i64: 0, 2, 3, 1>]", "another number of stages"},
    {"of = \"conv\"", "of = \"other\"", "the claim is about kernel"},
    {"rows = 1", "rows = 2", "a row axis is permuted"},
    {"rows = 1", "rows = 3", "more row axes than before"},
    {"symbols = [\"n\"]", "symbols = [\"m\"]", "other symbols"},
    {"graph.return %y", "graph.return %sum", "result 0 is another stage"},
};

struct CheckLayout : testing::Test {
  CheckLayout() {
    loadDialects(context);
    context.allowUnregisteredDialects();
  }
  Admission check(const std::string &a, const std::string &b,
                  NumericsMode mode = NumericsMode::reassoc) {
    ScopedDiagnosticHandler quiet(&context, [](Diagnostic &) {});
    auto x = parse(context, a), y = parse(context, b);
    if (!x || !y)
      return {false, "no text"};
    return checkRelayout(*x->getOps<graph::KernelOp>().begin(),
                         *y->getOps<graph::KernelOp>().begin(), mode);
  }
  void expectRefused(const std::string &before, const std::string &after,
                     ArrayRef<Lie> lies);
  LayoutVerdict checkPrograms(const std::string &before,
                              const std::string &after, ArrayRef<Lie> lies);
  MLIRContext context;
};

std::string replace(std::string text, const std::string &find,
                    const std::string &with) {
  size_t at = text.find(find);
  EXPECT_NE(at, std::string::npos) << find;
  return at == std::string::npos ? text : text.replace(at, find.size(), with);
}

/// Each of `lies` makes of `after` what is not `before`, for its reason.
void CheckLayout::expectRefused(const std::string &before,
                                const std::string &after, ArrayRef<Lie> lies) {
  for (const Lie &lie : lies) {
    Admission refused = check(before, replace(after, lie.find, lie.replace));
    EXPECT_FALSE(refused) << lie.find << " -> " << lie.replace;
    EXPECT_NE(refused.reason.find(lie.reason), std::string::npos)
        << lie.find << " -> " << lie.replace << ": " << refused.reason;
  }
}

/// The same of programs, of which `after` itself is admitted. Returns what is
/// said of that.
LayoutVerdict CheckLayout::checkPrograms(const std::string &before,
                                         const std::string &after,
                                         ArrayRef<Lie> lies) {
  ScopedDiagnosticHandler quiet(&context, [](Diagnostic &) {});
  auto original = parse(context, before), relaid = parse(context, after);
  EXPECT_TRUE(original && relaid);
  if (!original || !relaid)
    return {};
  LayoutVerdict verdict =
      checkLayouts(*original, *relaid, NumericsMode::strict);
  EXPECT_TRUE(verdict.accepted())
      << verdict.graph
      << (verdict.kernels.empty() ? "" : verdict.kernels[0].reason);
  for (const Lie &lie : lies) {
    auto wrong = parse(context, replace(after, lie.find, lie.replace));
    EXPECT_TRUE(wrong) << lie.find;
    if (!wrong)
      continue;
    LayoutVerdict refused =
        checkLayouts(*original, *wrong, NumericsMode::reassoc);
    EXPECT_FALSE(refused.accepted()) << lie.find << " -> " << lie.replace;
    std::string reason = refused.graph;
    for (auto &kernel : refused.kernels)
      reason += kernel.reason;
    EXPECT_NE(reason.find(lie.reason), std::string::npos)
        << lie.find << " -> " << lie.replace << ": " << reason;
  }
  return verdict;
}

TEST_F(CheckLayout, ShowsTheRightOne) {
  Admission admission = check(before, after);
  EXPECT_TRUE(admission) << admission.reason;
}

TEST_F(CheckLayout, RefusesEveryLie) { expectRefused(before, after, lies); }

// Wrong wherever it is written, so that the text is well-formed.
TEST_F(CheckLayout, RefusesAnotherResultType) {
  std::string text = after;
  const std::string right = "tensor<?x6x8x5xf32, #graph.dims<s0, 6, 8, 5>>",
                    wrong = "tensor<?x6x5x8xf32, #graph.dims<s0, 6, 5, 8>>";
  for (size_t at = 0; (at = text.find(right, at)) != std::string::npos;)
    text.replace(at, right.size(), wrong);
  Admission admission = check(before, text);
  EXPECT_FALSE(admission);
  EXPECT_EQ(admission.reason,
            "stage 0: sizes are not those permuted by (0, 2, 3, 1)");
}

TEST_F(CheckLayout, KeepsTheOrderOfSumsInStrict) {
  Admission admission = check(before, after, NumericsMode::strict);
  EXPECT_FALSE(admission);
  EXPECT_NE(admission.reason.find("-fp=strict keeps the order"),
            std::string::npos)
      << admission.reason;
  // Integers and maxima have none.
  auto maximum = [](std::string text) {
    return replace(replace(text, "reorder(add)", "reorder(max)"), "fold add",
                   "fold max");
  };
  std::string old = replace(before, "fold add", "fold max");
  admission = check(old, maximum(after), NumericsMode::strict);
  EXPECT_TRUE(admission) << admission.reason;
}

// Two calls in a row; what the second reads is relaid.
const char *originalMain = R"mlir(
func.func @main(%x: tensor<2x3x4xf32>) -> tensor<2x3x4xf32> {
  %w = graph.constant dense<[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0], [9.0, 10.0, 11.0, 12.0]]> : tensor<3x4xf32>
  %a = graph.call @scale(%x, %w) : (tensor<2x3x4xf32>, tensor<3x4xf32>) -> tensor<2x3x4xf32>
  %b = graph.call @scale(%a, %w) : (tensor<2x3x4xf32>, tensor<3x4xf32>) -> tensor<2x3x4xf32>
  return %b : tensor<2x3x4xf32>
}
graph.kernel @scale(%x: tensor<2x3x4xf32>, %w: tensor<3x4xf32>) -> tensor<2x3x4xf32> attributes {symbols = []} {
  %y = graph.stage domain <2, 3, 4> : tensor<2x3x4xf32> {
  ^bb0(%n: index, %c: index, %l: index):
    %a = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d1, d2)>](%n, %c, %l) : tensor<2x3x4xf32> -> f32
    %b = graph.load %w[affine_map<(d0, d1, d2) -> (d1, d2)>](%n, %c, %l) : tensor<3x4xf32> -> f32
    %m = graph.apply mul(%a, %b) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  graph.return %y : tensor<2x3x4xf32>
}
)mlir";
const char *relaidMain = R"mlir(
func.func @main(%x: tensor<2x3x4xf32>) -> tensor<2x3x4xf32> {
  %w = graph.constant {graph.relayout = array<i64: 1, 0>} dense<[[1.0, 5.0, 9.0], [2.0, 6.0, 10.0], [3.0, 7.0, 11.0], [4.0, 8.0, 12.0]]> : tensor<4x3xf32>
  %a = graph.call @first(%x, %w) : (tensor<2x3x4xf32>, tensor<4x3xf32>) -> tensor<2x4x3xf32>
  %b = graph.call @second(%a, %w) : (tensor<2x4x3xf32>, tensor<4x3xf32>) -> tensor<2x3x4xf32>
  return %b : tensor<2x3x4xf32>
}
graph.kernel @first(%x: tensor<2x3x4xf32>, %w: tensor<4x3xf32>) -> tensor<2x4x3xf32> attributes {symbols = [], graph.relayout = {
    of = "scale", operands = [array<i64>, array<i64: 1, 0>], results = [array<i64: 0, 2, 1>], domains = [array<i64: 0, 2, 1>], reduces = [array<i64>], laws = []}} {
  %y = graph.stage domain <2, 4, 3> : tensor<2x4x3xf32> {
  ^bb0(%n: index, %l: index, %c: index):
    %a = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d2, d1)>](%n, %l, %c) : tensor<2x3x4xf32> -> f32
    %b = graph.load %w[affine_map<(d0, d1, d2) -> (d1, d2)>](%n, %l, %c) : tensor<4x3xf32> -> f32
    %m = graph.apply mul(%a, %b) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  graph.return %y : tensor<2x4x3xf32>
}
graph.kernel @second(%x: tensor<2x4x3xf32>, %w: tensor<4x3xf32>) -> tensor<2x3x4xf32> attributes {symbols = [], graph.relayout = {
    of = "scale", operands = [array<i64: 0, 2, 1>, array<i64: 1, 0>], results = [array<i64>], domains = [array<i64>], reduces = [array<i64>], laws = []}} {
  %y = graph.stage domain <2, 3, 4> : tensor<2x3x4xf32> {
  ^bb0(%n: index, %c: index, %l: index):
    %a = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d2, d1)>](%n, %c, %l) : tensor<2x4x3xf32> -> f32
    %b = graph.load %w[affine_map<(d0, d1, d2) -> (d2, d1)>](%n, %c, %l) : tensor<4x3xf32> -> f32
    %m = graph.apply mul(%a, %b) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  graph.return %y : tensor<2x3x4xf32>
}
)mlir";

const Lie graphLies[] = {
    {"@second(%a, %w) : (tensor<2x4x3xf32>",
     "@second(%x, %w) : (tensor<2x3x4xf32>", "another operand of graph.call"},
    {"return %b : tensor<2x3x4xf32>\n}", "return %a : tensor<2x4x3xf32>\n}",
     "another operand of func.return"},
    {"[1.0, 5.0, 9.0]", "[1.0, 9.0, 5.0]", "does not hold the elements"},
    {"graph.relayout = array<i64: 1, 0>", "graph.relayout = array<i64: 0, 1>",
     "does not hold the elements"},
    {"{graph.relayout = array<i64: 1, 0>}", "", "another constant"},
    {"array<i64: 1, 0>], results = [array<i64: 0, 2, 1>], domains",
     "array<i64: 1, 0>], results = [array<i64>], domains",
     "result 0 is permuted by (0, 2, 1)"},
    {"of = \"scale\", operands = [array<i64>",
     "of = \"scale\", operands = [array<i64: 0, 2, 1>", "operand 0: sizes"},
    {"@second(%a, %w)", "@first(%a, %w)",
     "operand 0 of a call of 'first' has another layout"},
    {"mul(%a, %b)", "add(%a, %b)", "another attribute"},
};

TEST_F(CheckLayout, ProgramsAgreeOnLayouts) {
  EXPECT_EQ(checkPrograms(originalMain, relaidMain, graphLies).shown, 2u);
}

// The first call's operand is copied into another layout, and its result back.
const char *copiedMain = R"mlir(
func.func @main(%x: tensor<2x3x4xf32>) -> tensor<2x3x4xf32> {
  %w = graph.constant dense<[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0], [9.0, 10.0, 11.0, 12.0]]> : tensor<3x4xf32>
  %c = graph.call @copy_last(%x) : (tensor<2x3x4xf32>) -> tensor<2x4x3xf32>
  %d = graph.call @scale_last(%c, %w) : (tensor<2x4x3xf32>, tensor<3x4xf32>) -> tensor<2x4x3xf32>
  %a = graph.call @back(%d) : (tensor<2x4x3xf32>) -> tensor<2x3x4xf32>
  %b = graph.call @scale(%a, %w) : (tensor<2x3x4xf32>, tensor<3x4xf32>) -> tensor<2x3x4xf32>
  return %b : tensor<2x3x4xf32>
}
graph.kernel @copy_last(%x: tensor<2x3x4xf32>) -> tensor<2x4x3xf32> attributes {symbols = []} {
  %y = graph.stage domain <2, 4, 3> : tensor<2x4x3xf32> {
  ^bb0(%n: index, %l: index, %c: index):
    %a = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d2, d1)>](%n, %l, %c) : tensor<2x3x4xf32> -> f32
    graph.yield %a : f32
  }
  graph.return %y : tensor<2x4x3xf32>
}
graph.kernel @back(%x: tensor<2x4x3xf32>) -> tensor<2x3x4xf32> attributes {symbols = []} {
  %y = graph.stage domain <2, 3, 4> : tensor<2x3x4xf32> {
  ^bb0(%n: index, %c: index, %l: index):
    %a = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d2, d1)>](%n, %c, %l) : tensor<2x4x3xf32> -> f32
    graph.yield %a : f32
  }
  graph.return %y : tensor<2x3x4xf32>
}
graph.kernel @scale_last(%x: tensor<2x4x3xf32>, %w: tensor<3x4xf32>) -> tensor<2x4x3xf32> attributes {symbols = [], graph.relayout = {
    of = "scale", operands = [array<i64: 0, 2, 1>, array<i64>], results = [array<i64: 0, 2, 1>], domains = [array<i64: 0, 2, 1>], reduces = [array<i64>], laws = []}} {
  %y = graph.stage domain <2, 4, 3> : tensor<2x4x3xf32> {
  ^bb0(%n: index, %l: index, %c: index):
    %a = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d1, d2)>](%n, %l, %c) : tensor<2x4x3xf32> -> f32
    %b = graph.load %w[affine_map<(d0, d1, d2) -> (d2, d1)>](%n, %l, %c) : tensor<3x4xf32> -> f32
    %m = graph.apply mul(%a, %b) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  graph.return %y : tensor<2x4x3xf32>
}
)mlir";
const Lie copyLies[] = {
    {"(d0, d1, d2) -> (d0, d2, d1)>](%n, %l, %c) : tensor<2x3x4xf32>",
     "(d0, d1, d2) -> (d0, d2, d1 - 1)>](%n, %l, %c) : tensor<2x3x4xf32>",
     "was added and is no copy"},
    {"(d0, d1, d2) -> (d0, d2, d1)>](%n, %l, %c) : tensor<2x3x4xf32>",
     "(d0, d1, d2) -> (d0, d2, d2)>](%n, %l, %c) : tensor<2x3x4xf32>",
     "was added and is no copy"},
    {"(d0, d1, d2) -> (d0, d2, d1)>](%n, %l, %c) : tensor<2x3x4xf32>",
     "(d0, d1, d2) -> (d0, d1, d2)>](%n, %l, %c) : tensor<2x3x4xf32>",
     "was added and is no copy"},
    {"(d0, d1, d2) -> (d0, d2, d1)>](%n, %l, %c) : tensor<2x3x4xf32>",
     "(d0, d1, d2) -> (1, d2, d1)>](%n, %l, %c) : tensor<2x3x4xf32>",
     "was added and is no copy"},
    {"graph.yield %a : f32",
     "%e = graph.apply neg(%a) : (f32) -> f32\n"
     "    graph.yield %e : f32",
     "was added and is no copy"},
    {"@scale(%a, %w)", "@scale(%x, %w)", "another operand of graph.call"},
    {"  %a = graph.call @back(%d) : (tensor<2x4x3xf32>) -> tensor<2x3x4xf32>\n",
     "  %a = graph.call @back(%c) : (tensor<2x4x3xf32>) -> tensor<2x3x4xf32>\n",
     "another operand of graph.call"},
    {"return %b : tensor<2x3x4xf32>\n}", "return %a : tensor<2x3x4xf32>\n}",
     "another operand of func.return"},
};

TEST_F(CheckLayout, CopiesAreAllThatMayBeAdded) {
  ScopedDiagnosticHandler quiet(&context, [](Diagnostic &) {});
  std::string scale = originalMain;
  scale = scale.substr(scale.find("graph.kernel @scale"));
  auto original = parse(context, originalMain),
       copied = parse(context, copiedMain + scale);
  ASSERT_TRUE(original && copied);
  LayoutVerdict verdict =
      checkLayouts(*original, *copied, NumericsMode::strict);
  EXPECT_TRUE(verdict.accepted())
      << verdict.graph
      << (verdict.kernels.empty() ? "" : verdict.kernels[0].reason);
  for (const Lie &lie : copyLies) {
    std::string text = replace(copiedMain, lie.find, lie.replace);
    auto wrong = parse(context, text + scale);
    ASSERT_TRUE(wrong) << lie.find;
    LayoutVerdict refused =
        checkLayouts(*original, *wrong, NumericsMode::reassoc);
    EXPECT_FALSE(refused.accepted()) << lie.find << " -> " << lie.replace;
    EXPECT_NE(refused.graph.find(lie.reason), std::string::npos)
        << lie.find << " -> " << lie.replace << ": " << refused.graph;
  }
}

// A product of f16 numbers and a residual, whose image, residual and result are
// stored as float32.
const char *narrowKernel = R"mlir(
graph.kernel @half(%x: tensor<4x6xf16>, %w: tensor<5x4xf16>, %r: tensor<5x6xf16>) -> tensor<5x6xf16> attributes {symbols = []} {
  %sum = graph.stage domain <5, 6> reduce <4> fold add : tensor<5x6xf32> {
  ^bb0(%c: index, %v: index, %k: index):
    %z = graph.literal 0.0 : f16 : f16
    %a = graph.load %x[affine_map<(d0, d1, d2) -> (d2, d1 - 1)>](%c, %v, %k) guard affine_set<(d0, d1, d2) : (d1 - 1 >= 0)> else %z : f16 : tensor<4x6xf16> -> f16
    %b = graph.load %w[affine_map<(d0, d1, d2) -> (d0, d2)>](%c, %v, %k) : tensor<5x4xf16> -> f16
    %p = graph.scalar_cast %a : f16 -> f32
    %q = graph.scalar_cast %b : f16 -> f32
    %m = graph.apply mul(%p, %q) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  %y = graph.stage domain <5, 6> : tensor<5x6xf16> {
  ^bb0(%c: index, %v: index):
    %s = graph.load %sum[affine_map<(d0, d1) -> (d0, d1)>](%c, %v) : tensor<5x6xf32> -> f32
    %t = graph.scalar_cast %s : f32 -> f16
    %u = graph.load %r[affine_map<(d0, d1) -> (d0, d1)>](%c, %v) : tensor<5x6xf16> -> f16
    %a = graph.apply add(%t, %u) : (f16, f16) -> f16
    graph.yield %a : f16
  }
  graph.return %y : tensor<5x6xf16>
}
)mlir";
const char *wideKernel = R"mlir(
graph.kernel @wide(%x: tensor<4x6xf32>, %w: tensor<5x4xf16>, %r: tensor<5x6xf32>) -> tensor<5x6xf32> attributes {symbols = [], graph.relayout = {
    of = "half", operands = [array<i64>, array<i64>, array<i64>], results = [array<i64>], domains = [array<i64>, array<i64>],
    reduces = [array<i64>, array<i64>], laws = [], wideOperands = array<i64: 0, 2>, wideResults = array<i64: 0>}} {
  %sum = graph.stage domain <5, 6> reduce <4> fold add : tensor<5x6xf32> {
  ^bb0(%c: index, %v: index, %k: index):
    %z = graph.literal 0.0 : f16 : f16
    %zero = graph.literal 0.0 : f32 {graph.relayout} : f32
    %a = graph.load %x[affine_map<(d0, d1, d2) -> (d2, d1 - 1)>](%c, %v, %k) guard affine_set<(d0, d1, d2) : (d1 - 1 >= 0)> else %zero : f32 : tensor<4x6xf32> -> f32
    %b = graph.load %w[affine_map<(d0, d1, d2) -> (d0, d2)>](%c, %v, %k) : tensor<5x4xf16> -> f16
    %q = graph.scalar_cast %b : f16 -> f32
    %m = graph.apply mul(%a, %q) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  %y = graph.stage domain <5, 6> : tensor<5x6xf32> {
  ^bb0(%c: index, %v: index):
    %s = graph.load %sum[affine_map<(d0, d1) -> (d0, d1)>](%c, %v) : tensor<5x6xf32> -> f32
    %t = graph.scalar_cast %s : f32 -> f16
    %u = graph.load %r[affine_map<(d0, d1) -> (d0, d1)>](%c, %v) : tensor<5x6xf32> -> f32
    %n = graph.scalar_cast %u {graph.relayout} : f32 -> f16
    %a = graph.apply add(%t, %n) : (f16, f16) -> f16
    %e = graph.scalar_cast %a {graph.relayout} : f16 -> f32
    graph.yield %e : f32
  }
  graph.return %y : tensor<5x6xf32>
}
)mlir";

const Lie wideLies[] = {
    {"graph.yield %e", "graph.yield %s", "another number is yielded"},
    {"graph.yield %e", "graph.yield %u", "another number is yielded"},
    {"mul(%a, %q)", "mul(%zero, %q)", "another operand"},
    {"mul(%a, %q)", "mul(%a, %a)", "another operand"},
    {"add(%t, %n)", "add(%n, %n)", "another operand"},
    {"graph.literal 0.0 : f32", "graph.literal 1.0 : f32",
     "another value outside a guard"},
    {"graph.literal 0.0 : f32", "graph.literal -0.0 : f32",
     "another value outside a guard"},
    {"graph.scalar_cast %a {graph.relayout} : f16 -> f32",
     "graph.apply neg(%u) {graph.relayout} : (f32) -> f32",
     "an operation that was added"},
    {"graph.scalar_cast %a {graph.relayout} : f16 -> f32",
     "graph.scalar_cast %a saturate {graph.relayout} : f16 -> f32",
     "an operation that was added"},
    {"graph.scalar_cast %a {graph.relayout} : f16 -> f32",
     "graph.scalar_cast %a : f16 -> f32", "another operation or type"},
    {"wideOperands = array<i64: 0, 2>", "wideOperands = array<i64: 0>",
     "operand 2: another element type"},
    {"wideOperands = array<i64: 0, 2>", "wideOperands = array<i64: 0, 1, 2>",
     "operand 1: another element type"},
    {"wideResults = array<i64: 0>", "wideResults = array<i64>",
     "stage 1: another element type"},
    {"wideResults = array<i64: 0>", "wideResults = 0 : i64",
     "none that can be read"},
};

TEST_F(CheckLayout, NumbersOf16BitsMayBeStoredAsFloat32) {
  Admission admission = check(narrowKernel, wideKernel, NumericsMode::strict);
  EXPECT_TRUE(admission) << admission.reason;
  expectRefused(narrowKernel, wideKernel, wideLies);
}

// A maximum is one of the numbers it is of; the steps of a sum are rounded.
TEST_F(CheckLayout, SumsOf16BitsAreNotWidened) {
  auto fold = [](std::string kind, bool isWide) {
    std::string type = isWide ? "f32" : "f16", claim;
    if (isWide)
      claim = ", graph.relayout = {of = \"fold\", operands = [array<i64>], "
              "results = [array<i64>], domains = [array<i64>], reduces = "
              "[array<i64>], laws = [], wideOperands = array<i64: 0>, "
              "wideResults = array<i64: 0>}";
    return "graph.kernel @fold(%x: tensor<4x6x" + type + ">) -> tensor<4x" +
           type + "> attributes {symbols = []" + claim + "} {\n" +
           "%y = graph.stage domain <4> reduce <6> fold " + kind +
           " : tensor<4x" + type + "> {\n^bb0(%c: index, %k: index):\n" +
           "%a = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%c, %k) : "
           "tensor<4x6x" +
           type + "> -> " + type + "\ngraph.yield %a : " + type +
           "\n}\ngraph.return %y : tensor<4x" + type + ">\n}\n";
  };
  Admission maximum = check(fold("max", false), fold("max", true));
  EXPECT_TRUE(maximum) << maximum.reason;
  Admission sum = check(fold("add", false), fold("add", true));
  EXPECT_FALSE(sum);
  EXPECT_NE(sum.reason.find("a fold that is widened"), std::string::npos)
      << sum.reason;
}

// Copies at boundaries widen on the way in and narrow on the way out; between
// them only kernels that claim to read float32 may read it.
const char *narrowMain = R"mlir(
func.func @main(%x: tensor<2x3xf16>) -> tensor<2x3xf16> {
  %a = graph.call @twice(%x) : (tensor<2x3xf16>) -> tensor<2x3xf16>
  return %a : tensor<2x3xf16>
}
graph.kernel @twice(%x: tensor<2x3xf16>) -> tensor<2x3xf16> attributes {symbols = []} {
  %y = graph.stage domain <2, 3> : tensor<2x3xf16> {
  ^bb0(%n: index, %c: index):
    %a = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%n, %c) : tensor<2x3xf16> -> f16
    %b = graph.apply add(%a, %a) : (f16, f16) -> f16
    graph.yield %b : f16
  }
  graph.return %y : tensor<2x3xf16>
}
)mlir";
const char *wideMain = R"mlir(
func.func @main(%x: tensor<2x3xf16>) -> tensor<2x3xf16> {
  %c = graph.call @in(%x) : (tensor<2x3xf16>) -> tensor<2x3xf32>
  %d = graph.call @wide(%c) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %a = graph.call @out(%d) : (tensor<2x3xf32>) -> tensor<2x3xf16>
  return %a : tensor<2x3xf16>
}
graph.kernel @in(%x: tensor<2x3xf16>) -> tensor<2x3xf32> attributes {symbols = []} {
  %y = graph.stage domain <2, 3> : tensor<2x3xf32> {
  ^bb0(%n: index, %c: index):
    %a = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%n, %c) : tensor<2x3xf16> -> f16
    %b = graph.scalar_cast %a : f16 -> f32
    graph.yield %b : f32
  }
  graph.return %y : tensor<2x3xf32>
}
graph.kernel @wide(%x: tensor<2x3xf32>) -> tensor<2x3xf32> attributes {symbols = [], graph.relayout = {
    of = "twice", operands = [array<i64>], results = [array<i64>], domains = [array<i64>], reduces = [array<i64>], laws = [],
    wideOperands = array<i64: 0>, wideResults = array<i64: 0>}} {
  %y = graph.stage domain <2, 3> : tensor<2x3xf32> {
  ^bb0(%n: index, %c: index):
    %a = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%n, %c) : tensor<2x3xf32> -> f32
    %m = graph.scalar_cast %a {graph.relayout} : f32 -> f16
    %b = graph.apply add(%m, %m) : (f16, f16) -> f16
    %e = graph.scalar_cast %b {graph.relayout} : f16 -> f32
    graph.yield %e : f32
  }
  graph.return %y : tensor<2x3xf32>
}
graph.kernel @out(%x: tensor<2x3xf32>) -> tensor<2x3xf16> attributes {symbols = []} {
  %y = graph.stage domain <2, 3> : tensor<2x3xf16> {
  ^bb0(%n: index, %c: index):
    %r = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%n, %c) : tensor<2x3xf32> -> f32
    %s = graph.scalar_cast %r : f32 -> f16
    graph.yield %s : f16
  }
  graph.return %y : tensor<2x3xf16>
}
)mlir";
const Lie wideMainLies[] = {
    {"%b = graph.scalar_cast %a : f16 -> f32",
     "%q = graph.apply neg(%a) : (f16) -> f16\n"
     "%b = graph.scalar_cast %q : f16 -> f32",
     "was added and is no copy"},
    {"%s = graph.scalar_cast %r : f32 -> f16",
     "%s = graph.scalar_cast %r saturate : f32 -> f16",
     "was added and is no copy"},
    {"@out(%d)", "@out(%c)", "another operand of func.return"},
    {"wideResults = array<i64: 0>", "wideResults = array<i64>",
     "another element type"},
};

TEST_F(CheckLayout, CopiesMayWidenAndNarrow) {
  checkPrograms(narrowMain, wideMain, wideMainLies);
}
} // namespace
