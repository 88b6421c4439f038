// Planted lies: each changes one thing of a rightly fused program. Check must
// refuse every one of them, by the name of the condition that is broken.
#include "Fixtures.h"

#include "gtest/gtest.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::test;

namespace {
struct Lie {
  const char *name;
  const char *fixture;
  const char *find; // its first occurrence after `after` (if given)
  const char *replace;
  Condition condition;
  const char *after = nullptr;
};

const Lie lies[] = {
    // Index maps.
    {"swapped permutation", "views", "(d2, d0 * 2 + 1)>", "(d0 * 2 + 1, d2)>",
     Condition::Bounds},
    {"off-by-one slice", "views", "d0 * 2 + 1)", "d0 * 2)", Condition::Compose},
    {"another stride", "views", "d0 * 2 + 1)", "d0 + 1)", Condition::Compose},
    {"lost index", "views", "(d2, d0 * 2 + 1)", "(0, d0 * 2 + 1)",
     Condition::Compose},
    {"reversed fold axis", "views", "(d2, d0 * 2 + 1)", "(5 - d2, d0 * 2 + 1)",
     Condition::Compose},
    {"digits the other way round", "views", "(d2, d0 * 2 + 1)",
     "((d2 mod 2) * 3 + d2 floordiv 2, d0 * 2 + 1)", Condition::Compose},
    {"a read past the end", "views", "d0 * 2 + 1)", "d0 * 2 + 2)",
     Condition::Bounds},
    {"symbolic radix swapped", "symbols", "d1 * s1 + d0", "d0 * s0 + d1",
     Condition::Compose},
    {"symbolic stride wrong", "symbols", "d1 * s1 + d0", "d1 * s0 + d0",
     Condition::Bounds},
    {"bias along the wrong axis", "symbols",
     "%c[affine_map<(d0, d1, d2)[s0, s1] -> (d2)>]",
     "%c[affine_map<(d0, d1, d2)[s0, s1] -> (7 - d2)>]", Condition::Compose},
    {"gathered coordinate dropped", "groups", "-> (d2, d1)>](%i, %j, %at)",
     "-> (d0, d1)>](%i, %j, %at)", Condition::Compose},
    {"indices read elsewhere", "groups", "%p[affine_map<(d0, d1) -> (d0)>]",
     "%p[affine_map<(d0, d1) -> (2 - d0)>]", Condition::Compose},
    {"indices bound to another size", "groups", "in <7>", "in <5>",
     Condition::Compose},
    {"broadcast row lost", "softmax", "%s[affine_map<(d0, d1) -> (d0, 0)>]",
     "%s[affine_map<(d0, d1) -> (0, 0)>]", Condition::Row},
    // Guards.
    {"dropped guard", "guards",
     "guard affine_set<(d0, d1) : (d0 + d1 - 1 >= 0, -d0 - d1 + 4 >= 0)> else "
     "%z : f32 ",
     "", Condition::Bounds},
    {"one side of the guard dropped", "guards",
     "(d0 + d1 - 1 >= 0, -d0 - d1 + 4 >= 0)", "(d0 + d1 - 1 >= 0)",
     Condition::Bounds},
    {"guard too narrow", "guards", "-d0 - d1 + 4 >= 0", "-d0 - d1 + 3 >= 0",
     Condition::Compose},
    {"boundary select dropped", "boundary", "graph.yield %s", "graph.yield %e",
     Condition::SameNodes},
    {"select the other way round", "boundary", "select(%in, %e, %z)",
     "select(%in, %z, %e)", Condition::SameNodes},
    {"select of another set", "boundary", "graph.inside[#in]",
     "graph.inside[affine_set<(d0) : (d0 - 2 >= 0, 4 - d0 >= 0)>]",
     Condition::Compose},
    {"inside of another set", "guards",
     "graph.inside[affine_set<(d0) : (4 - d0 >= 0)>]",
     "graph.inside[affine_set<(d0) : (3 - d0 >= 0)>]", Condition::SameNodes},
    {"guard moved by one", "guards", "guard affine_set<(d0) : (d0 - 5 >= 0)>",
     "guard affine_set<(d0) : (d0 - 6 >= 0)>", Condition::Compose},
    {"another padding value", "guards", "%z = graph.literal 0.0",
     "%z = graph.literal 1.0", Condition::SameNodes},
    // Folds.
    {"wrong start value", "softmax", "reduce <16> fold max : tensor<8x1xf32>",
     "reduce <16> fold max init 0.0 : f32 : tensor<8x1xf32>", Condition::Order},
    {"start value -0", "softmax", "reduce <16> fold add : tensor<8x1xf32>",
     "reduce <16> fold add init -0.0 : f32 : tensor<8x1xf32>",
     Condition::Order},
    {"another fold", "softmax", "fold max", "fold min", Condition::Order},
    {"fold domain too short", "softmax", "reduce <16> fold add",
     "reduce <15> fold add", Condition::Order},
    {"fold in another order", "softmax",
     "%e[affine_map<(d0, d1, d2) -> (d0, d2)>]",
     "%e[affine_map<(d0, d1, d2) -> (d0, 15 - d2)>]", Condition::Compose},
    {"division moved into the window", "guards", "graph.yield %v : f32",
     "%h = graph.literal 2.0 : f32 : f32\n %g = graph.apply div(%v, %h) : "
     "(f32, "
     "f32) -> f32\n graph.yield %g : f32",
     Condition::SameNodes},
    {"padding folded into the average", "guards",
     "%n = graph.literal 2.0 : f32 : f32",
     "%all = graph.inside[affine_set<(d0) : (d0 - 1 >= 0, 3 - d0 >= 0)>](%i)\n"
     "%two = graph.literal 2.0 : f32 : f32\n"
     "%one = graph.literal 1.0 : f32 : f32\n"
     "%n = graph.apply select(%all, %two, %one) : (i1, f32, f32) -> f32",
     Condition::SameNodes},
    // Casts.
    {"dropped casts", "views", "graph.yield %d", "graph.yield %v",
     Condition::Round},
    {"cast through another type", "views",
     "%c = graph.scalar_cast %v : f32 -> bf16\n    %d = graph.scalar_cast %c : "
     "bf16 -> f32",
     "%c = graph.scalar_cast %v : f32 -> f16\n    %d = graph.scalar_cast %c : "
     "f16 -> f32",
     Condition::Round},
    {"saturating cast", "views", "graph.scalar_cast %v :",
     "graph.scalar_cast %v saturate :", Condition::Round},
    // Functions, operands, constants.
    {"another function", "softmax", "exp(%c)", "log(%c)", Condition::SameNodes},
    {"swapped operands", "softmax", "sub(%a, %b)", "sub(%b, %a)",
     Condition::SameNodes},
    {"one operand twice", "softmax", "div(%a, %b)", "div(%a, %a)",
     Condition::SameNodes},
    {"another constant", "symbols", "graph.literal 0.0", "graph.literal 6.0",
     Condition::SameNodes},
    {"constant of the other sign", "symbols", "graph.literal 0.0",
     "graph.literal -0.0", Condition::SameNodes},
    {"another divisor", "guards", "graph.literal 2.0", "graph.literal 3.0",
     Condition::SameNodes},
    {"a member left out of the body", "groups", "graph.yield %d : f32",
     "graph.yield %c : f32", Condition::SameNodes, "@fused1"},
    {"call operands swapped", "groups", "@fused1(%g, %y)", "@fused1(%y, %g)",
     Condition::SameNodes},
    {"kernel operands swapped", "groups",
     "%x[affine_map<(d0, d1) -> (d0, d1)>]",
     "%y[affine_map<(d0, d1) -> (d0, d1)>]", Condition::Compose, "@fused1"},
    // Results and keeps.
    {"results swapped in the return", "groups", "return %g, %a, %c, %f",
     "return %a, %g, %c, %f", Condition::Live, "func.func @main"},
    {"an output of another call", "groups", "return %g, %a, %c, %f",
     "return %g, %a, %c, %a", Condition::Live, "func.func @main"},
    {"another tensor kept", "softmax", "return %y, %s", "return %y, %m",
     Condition::Order},
    {"certificate keeps another value", "softmax", "graph.return %y, %s",
     "graph.return %d, %s", Condition::Live, "graph.certificate"},
    {"certificate keeps the maximum", "softmax", "graph.return %y, %s",
     "graph.return %y, %m", Condition::Live, "graph.certificate"},
    // Members.
    {"a member is another", "groups", "@abs(%d)", "@neg(%d)",
     Condition::SameNodes, "@c1"},
    {"member operands swapped", "groups", "@sub(%x, %y)", "@sub(%y, %x)",
     Condition::SameNodes, "@c1"},
    {"a member is left out", "softmax", "graph.call @rsum(%e)",
     "graph.call @rsum(%d)", Condition::SameNodes, "graph.certificate"},
    {"an opaque member", "groups",
     "%q = graph.call @inc(%p) : (tensor<3xi64>) -> tensor<3xi64>",
     "%q = graph.call @inc(%p) : (tensor<3xi64>) -> tensor<3xi64>\n"
     "%mask = graph.constant dense<true> : tensor<4xi1>\n"
     "%o = graph.call @compact(%mask) : (tensor<4xi1>) -> tensor<4xi64>",
     Condition::SameNodes, "@c0"},
    {"a view as a member that is none", "groups",
     "%q = graph.call @inc(%p) : (tensor<3xi64>) -> tensor<3xi64>",
     "%q = graph.bitcast %p : (tensor<3xi64>) -> tensor<3xi64>",
     Condition::Pure, "@c0"},
    {"two certificates", "groups", "graph.certificate @c1 for @fused1",
     "graph.certificate @c1 for @fused0", Condition::SameNodes},
    {"no certificate", "softmax", "graph.certificate @c for @fused",
     "graph.certificate @c for @exp", Condition::SameNodes},
    // Members that several groups compute.
    {"a copy is another function", "clones", "@floor(%x)", "@ceil(%x)",
     Condition::SameNodes, "@c1"},
    {"a copy in the body alone is another", "clones", "floor(%a)", "ceil(%a)",
     Condition::SameNodes, "@rootOf"},
    {"a copy reads another tensor", "clones", "@rootOf(%x)", "@rootOf(%z)",
     Condition::SameNodes, "func.func @main"},
    {"a copy is left out", "clones", "@root(%t)", "@root(%x)",
     Condition::SameNodes, "@c1"},
    // Symbols.
    {"symbols swapped in the call", "symbols", "symbols <s0, s1> : (tensor<?x4",
     "symbols <s1, s0> : (tensor<?x4", Condition::SameNodes, "func.func @main"},
    {"symbols swapped at a member", "symbols", "@swap(%3) symbols <s0, s1>",
     "@swap(%3) symbols <s1, s0>", Condition::SameNodes, "graph.certificate"},
    {"another size at a member", "symbols", "@bias(%0, %c) symbols <s0 * s1>",
     "@bias(%0, %c) symbols <s0 + s1>", Condition::SameNodes,
     "graph.certificate"},
    {"the other dims are named", "symbols", "[\"b\", \"n\"]", "[\"n\", \"b\"]",
     Condition::SameNodes, "func.func @main"},
    // Order of the program.
    {"groups swapped", "groups",
     "%g = graph.call @fused0(%x, %p) : (tensor<7x5xf32>, tensor<3xi64>) -> "
     "tensor<3x5xf32>\n  %a = graph.call @fused1(%g, %y) : (tensor<3x5xf32>, "
     "tensor<3x5xf32>) -> tensor<3x5xf32>",
     "%a = graph.call @fused1(%g, %y) : (tensor<3x5xf32>, tensor<3x5xf32>) -> "
     "tensor<3x5xf32>\n  %g = graph.call @fused0(%x, %p) : (tensor<7x5xf32>, "
     "tensor<3xi64>) -> tensor<3x5xf32>",
     Condition::Convex},
    {"members swapped", "groups",
     "%d = graph.call @sub(%x, %y) : (tensor<3x5xf32>, tensor<3x5xf32>) -> "
     "tensor<3x5xf32>\n  %a = graph.call @abs(%d) : (tensor<3x5xf32>) -> "
     "tensor<3x5xf32>",
     "%a = graph.call @abs(%d) : (tensor<3x5xf32>) -> tensor<3x5xf32>\n  %d = "
     "graph.call @sub(%x, %y) : (tensor<3x5xf32>, tensor<3x5xf32>) -> "
     "tensor<3x5xf32>",
     Condition::Ssa, "@c1"},
    {"a call left out", "groups", "%f = graph.call @fused1(%y, %a)",
     "%f = graph.call @fused1(%a, %y)", Condition::SameNodes},
    // Rows.
    {"row axis too wide", "softmax", "rows = 1}", "rows = 2}", Condition::Row},
    {"rows of kernel and certificate differ", "softmax", "rows(1)", "rows(0)",
     Condition::Row},
    {"another row is read", "softmax", "%m[affine_map<(d0, d1) -> (d0, 0)>]",
     "%m[affine_map<(d0, d1) -> (7 - d0, 0)>]", Condition::Row},
    {"a row buffer is read past its end", "guards",
     "%s[affine_map<(d0) -> (d0)>](%i) guard affine_set<(d0) : (4 - d0 >= 0)> "
     "else %z : f32 ",
     "%s[affine_map<(d0) -> (d0)>](%i) ", Condition::Bounds},
    // Laws.
    {"a law without its fold", "views", "laws []", "laws [\"split(max)\"]",
     Condition::Split},
    {"a law that does not keep bits", "views", "laws []",
     "laws [\"reorder(add)\"]", Condition::Reorder},
    {"a law without a theorem", "views", "laws []", "laws [\"magic(add)\"]",
     Condition::Hom},
    {"precision given up", "views", "obligation \"exact\"",
     "obligation \"precision\"", Condition::Round},
};

struct MutationTest : testing::TestWithParam<Lie> {
  MutationTest() { loadDialects(context); }
  MLIRContext context;
};
} // namespace

TEST_P(MutationTest, IsRefused) {
  const Lie &lie = GetParam();
  const Fixture &f = getFixture(lie.fixture);
  std::string members = f.members, fused = f.fused;
  size_t from = lie.after ? fused.find(lie.after) : 0;
  ASSERT_NE(from, std::string::npos) << lie.after;
  size_t at = fused.find(lie.find, from);
  ASSERT_NE(at, std::string::npos) << "the text to be changed is not there";
  fused.replace(at, StringRef(lie.find).size(), lie.replace);
  // Kernels that only lies name.
  std::string extra = R"(
graph.kernel @neg(%x: tensor<3x5xf32>) -> tensor<3x5xf32> attributes {symbols = []} {
  %r = graph.stage domain <3, 5> : tensor<3x5xf32> {
  ^bb0(%i: index, %j: index):
    %a = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<3x5xf32> -> f32
    %c = graph.apply neg(%a) : (f32) -> f32
    graph.yield %c : f32
  }
  graph.return %r : tensor<3x5xf32>
}
)";
  if (StringRef(lie.fixture) == "groups")
    members += extra;
  OwningOpRef<ModuleOp> a = parse(context, members + f.main),
                        b = parse(context, members + fused);
  ASSERT_TRUE(a && b) << "the lie does not parse";
  FusionVerdict verdict = checkFusion(*a, *b);
  std::string text;
  llvm::raw_string_ostream os(text);
  verdict.print(os);
  EXPECT_FALSE(verdict.accepted()) << text;
  bool isNamed = verdict.graph && verdict.graph->condition == lie.condition;
  for (const KernelVerdict &k : verdict.kernels)
    isNamed |= k.refusal && k.refusal->condition == lie.condition;
  EXPECT_TRUE(isNamed) << "expected " << stringifyCondition(lie.condition).str()
                       << ", got\n"
                       << text;
  // What is said is enough to find the place.
  for (const KernelVerdict &k : verdict.kernels)
    if (k.refusal)
      EXPECT_FALSE(k.refusal->reason.empty());
}

INSTANTIATE_TEST_SUITE_P(Lies, MutationTest, testing::ValuesIn(lies),
                         [](const testing::TestParamInfo<Lie> &info) {
                           std::string name = info.param.name;
                           for (char &c : name)
                             if (!isalnum(c))
                               c = '_';
                           return std::to_string(info.index) + "_" + name;
                         });
