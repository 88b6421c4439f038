// What is fused rightly is accepted, in the forms it may take; claims that the
// normal form does not settle go to the other means.
#include "Fixtures.h"

#include "llvm/Support/JSON.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::test;

namespace {
struct FusionTest : testing::Test {
  FusionTest() { loadDialects(context); }

  FusionVerdict check(const std::string &members, const std::string &main,
                      const std::string &fused) {
    original = parse(context, members + main);
    result = parse(context, members + fused);
    EXPECT_TRUE(original && result);
    return checkFusion(*original, *result);
  }
  static std::string print(const FusionVerdict &verdict) {
    std::string text;
    llvm::raw_string_ostream os(text);
    verdict.print(os);
    return text;
  }
  // `fixture` with these replacements, one after the other.
  FusionVerdict
  checkWith(StringRef name,
            ArrayRef<std::pair<std::string, std::string>> replacements) {
    const Fixture &f = getFixture(name);
    std::string fused = f.fused;
    for (const auto &[from, to] : replacements) {
      size_t at = fused.find(from);
      EXPECT_NE(at, std::string::npos) << from;
      if (at != std::string::npos)
        fused.replace(at, from.size(), to);
    }
    return check(f.members, f.main, fused);
  }

  MLIRContext context;
  OwningOpRef<ModuleOp> original, result;
};
} // namespace

TEST_F(FusionTest, FixturesAreAccepted) {
  for (const Fixture &f : getFixtures()) {
    FusionVerdict verdict = check(f.members, f.main, f.fused);
    EXPECT_TRUE(verdict.accepted()) << f.name << "\n" << print(verdict);
    for (const KernelVerdict &k : verdict.kernels)
      EXPECT_TRUE(llvm::is_contained(k.conditions, Condition::Compose));
  }
}

// The same things as the lies of MutationTest change, changed to what is equal.
TEST_F(FusionTest, EqualFormsAreAccepted) {
  std::pair<StringRef, std::pair<std::string, std::string>> twins[] = {
      {"views",
       {"(d2, d0 * 2 + 1)", "((d2 floordiv 3) * 3 + d2 mod 3, d0 * 2 + 1)"}},
      {"views", {"(d2, d0 * 2 + 1)", "(d2, (d0 * 2 + 1) mod 4)"}},
      {"views", {"fold add :", "fold add init 0.0 : f32 :"}},
      {"views",
       {"laws [] obligation \"exact\"",
        "laws [\"reorder(add)\"] obligation \"reassociation\""}},
      {"guards",
       {"(d0 + d1 - 1 >= 0, -d0 - d1 + 4 >= 0)",
        "(-d0 - d1 + 4 >= 0, d1 * 2 + d0 * 2 - 1 >= 0)"}},
      {"guards",
       {"guard affine_set<(d0) : (d0 - 5 >= 0)>",
        "guard affine_set<(d0) : (d0 floordiv 5 - 1 == 0)>"}},
      {"guards",
       {"graph.inside[affine_set<(d0) : (4 - d0 >= 0)>]",
        "graph.inside[affine_set<(d0) : (4 - d0 >= 0, d0 >= 0)>]"}},
      {"symbols", {"max(%p, %z)", "max(%z, %p)"}},
      {"symbols", {"d1 * s1 + d0, d2", "(d1 * s1 + d0) floordiv 1, d2"}},
      {"groups", {"add(%one, %p0)", "add(%p0, %one)"}},
      {"softmax", {"rows = 1}", "rows = 0}"}},
  };
  for (const auto &[name, change] : twins) {
    SmallVector<std::pair<std::string, std::string>> changes{change};
    if (change.second == "rows = 0}")
      changes.push_back({"rows(1)", "rows(0)"});
    FusionVerdict verdict = checkWith(name, changes);
    EXPECT_TRUE(verdict.accepted())
        << name.str() << ": " << change.second << "\n"
        << print(verdict);
  }
}

// Two axes in row-major order are one: no law is needed.
TEST_F(FusionTest, FoldsOverFlattenedAxes) {
  std::pair<std::string, std::string> changes[] = {
      {"reduce <6>", "reduce <2, 3>"},
      {"^bb0(%i: index, %j: index, %k: index)",
       "^bb0(%i: index, %j: index, %k: index, %l: index)"},
      {"affine_map<(d0, d1, d2) -> (d2, d0 * 2 + 1)>](%i, %j, %k)",
       "affine_map<(d0, d1, d2, d3) -> (d2 * 3 + d3, d0 * 2 + 1)>](%i, %j, %k, "
       "%l)"}};
  FusionVerdict verdict = checkWith("views", changes);
  EXPECT_TRUE(verdict.accepted()) << print(verdict);
  // Column-major is another order.
  changes[0].second = "reduce <3, 2>";
  changes[2].second = "affine_map<(d0, d1, d2, d3) -> (d3 * 3 + d2, d0 * 2 + "
                      "1)>](%i, %j, %k, %l)";
  verdict = checkWith("views", changes);
  EXPECT_FALSE(verdict.accepted());
}

// A kernel is its body: one that was changed under its old name is another,
// though certificate and fused kernel agree on it; a new name changes nothing.
TEST_F(FusionTest, KernelsCountByTheirBodies) {
  auto replaceAll = [](std::string text, StringRef from, StringRef to) {
    for (size_t at = text.find(from); at != std::string::npos;
         at = text.find(from, at + to.size()))
      text.replace(at, from.size(), to.str());
    return text;
  };
  const Fixture &f = getFixture("softmax");
  original = parse(context, std::string(f.members) + f.main);
  std::string members = f.members, fused = f.fused;
  result = parse(context, replaceAll(members, "apply exp", "apply tanh") +
                              replaceAll(fused, "apply exp", "apply tanh"));
  FusionVerdict verdict = checkFusion(*original, *result);
  ASSERT_TRUE(verdict.graph) << print(verdict);
  EXPECT_EQ(verdict.graph->condition, Condition::SameNodes);
  EXPECT_EQ(verdict.refused(), std::vector<std::string>{"fused"});
  EXPECT_TRUE(checkCertificates(*result).accepted());
  result = parse(context, replaceAll(members, "@exp", "@other") +
                              replaceAll(fused, "@exp", "@other"));
  verdict = checkFusion(*original, *result);
  EXPECT_TRUE(verdict.accepted()) << print(verdict);
}

TEST_F(FusionTest, NothingFusedIsAccepted) {
  for (const Fixture &f : getFixtures()) {
    FusionVerdict verdict = check(f.members, f.main, f.main);
    EXPECT_TRUE(verdict.accepted()) << print(verdict);
    EXPECT_TRUE(verdict.kernels.empty());
  }
}

// A branch or a loop is one operation: what it reads may come from a group,
// what it does is what it did.
TEST_F(FusionTest, RegionsAreCompared) {
  const Fixture &f = getFixture("groups");
  std::string main = R"(
func.func @main(%x: tensor<3x5xf32>, %y: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %d = graph.call @sub(%x, %y) : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %l = graph.loop from (%d) attributes {trips = #graph.dims<3>} : (tensor<3x5xf32>) -> tensor<3x5xf32> {
  ^bb0(%i: tensor<i64>, %u: tensor<3x5xf32>):
    %v = graph.call @sub(%u, %x) : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
    %w = graph.call @abs(%v) : (tensor<3x5xf32>) -> tensor<3x5xf32>
    graph.leave %w : tensor<3x5xf32>
  }
  %r = graph.call @abs(%l) : (tensor<3x5xf32>) -> tensor<3x5xf32>
  return %r : tensor<3x5xf32>
}
)";
  FusionVerdict same = check(f.members, main, main);
  EXPECT_TRUE(same.accepted()) << print(same);
  const std::pair<std::string, std::string> lies[] = {
      {"@sub(%u, %x)", "@sub(%x, %u)"},
      {"@sub(%u, %x)", "@sub(%u, %y)"},
      {"@sub(%u, %x)", "@sub(%u, %d)"},
      {"@abs(%v)", "@abs(%u)"},
      {"graph.leave %w", "graph.leave %v"},
      {"dims<3>", "dims<4>"},
      {"from (%d)", "from (%x)"}};
  for (auto &[from, to] : lies) {
    std::string fused = main;
    size_t at = fused.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    fused.replace(at, from.size(), to);
    FusionVerdict verdict = check(f.members, main, fused);
    EXPECT_FALSE(verdict.accepted()) << from << " -> " << to;
  }
}

// Fused calls in a region count as their members; so does the order of what
// does not depend on each other, and what nobody reads does not count.
TEST_F(FusionTest, RegionsAreFused) {
  const Fixture &f = getFixture("groups");
  const std::string t = "tensor<3x5xf32>",
                    two = "(" + t + ", " + t + ") -> " + t;
  auto program = [&](const std::string &body) {
    return "func.func @main(%x: " + t + ", %y: " + t + ") -> " + t +
           " {\n %l = graph.loop from (%x) attributes {trips = "
           "#graph.dims<3>} : (" +
           t + ") -> " + t + " {\n ^bb0(%i: tensor<i64>, %u: " + t + "):\n" +
           body + " }\n return %l : " + t + "\n}\n";
  };
  std::string main = program(" %v = graph.call @sub(%u, %y) : " + two +
                             "\n %w = graph.call @abs(%v) : (" + t + ") -> " +
                             t + "\n %z = graph.call @sub(%w, %x) : " + two +
                             "\n %dead = graph.call @abs(%y) : (" + t +
                             ") -> " + t + "\n graph.leave %z : " + t + "\n");
  const std::string kernel = R"(
graph.kernel @fused(%a: tensor<3x5xf32>, %b: tensor<3x5xf32>) -> tensor<3x5xf32> attributes {symbols = []} {
  %r = graph.stage domain <3, 5> : tensor<3x5xf32> {
  ^bb0(%i: index, %j: index):
    %p = graph.load %a[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<3x5xf32> -> f32
    %q = graph.load %b[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<3x5xf32> -> f32
    %s = graph.apply sub(%p, %q) : (f32, f32) -> f32
    %t = graph.apply abs(%s) : (f32) -> f32
    graph.yield %t : f32
  }
  graph.return %r : tensor<3x5xf32>
}
graph.certificate @c for @fused rows(0) laws [] obligation "exact" {
^bb0(%a: tensor<3x5xf32>, %b: tensor<3x5xf32>):
  %v = graph.call @sub(%a, %b) : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %w = graph.call @abs(%v) : (tensor<3x5xf32>) -> tensor<3x5xf32>
  graph.return %w : tensor<3x5xf32>
}
)";
  std::string fused = program(" %w = graph.call @fused(%u, %y) : " + two +
                              "\n %z = graph.call @sub(%w, %x) : " + two +
                              "\n graph.leave %z : " + t + "\n");
  FusionVerdict right = check(f.members, main, fused + kernel);
  EXPECT_TRUE(right.accepted()) << print(right);
  const std::pair<std::string, std::string> lies[] = {
      {"@fused(%u, %y)", "@fused(%y, %u)"},
      {"@fused(%u, %y)", "@fused(%x, %y)"},
      {"@fused(%u, %y)", "@fused(%u, %u)"},
      {"@sub(%w, %x)", "@sub(%x, %w)"},
      {"@sub(%w, %x)", "@sub(%w, %u)"},
      {"graph.leave %z", "graph.leave %w"},
      {"dims<3>", "dims<2>"},
      {"from (%x)", "from (%y)"},
      {"@sub(%a, %b)", "@sub(%b, %a)"},
      {"apply sub(%p", "apply add(%p"}};
  for (auto &[from, to] : lies) {
    std::string lie = fused + kernel;
    size_t at = lie.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    lie.replace(at, from.size(), to);
    FusionVerdict verdict = check(f.members, main, lie);
    EXPECT_FALSE(verdict.accepted()) << from << " -> " << to;
  }
}

TEST_F(FusionTest, StrictModeRefusesReassociation) {
  const Fixture &f = getFixture("views");
  std::string fused = f.fused;
  StringRef from = "laws [] obligation \"exact\"";
  fused.replace(fused.find(from), from.size(),
                "laws [\"reorder(add)\"] obligation \"reassociation\"");
  check(f.members, f.main, fused);
  EXPECT_TRUE(checkFusion(*original, *result).accepted());
  FusionVerdict strict =
      checkFusion(*original, *result, graph::NumericsMode::strict);
  ASSERT_FALSE(strict.accepted());
  EXPECT_EQ(strict.kernels[0].refusal->condition, Condition::Reorder);
}

// A refusal names a point at which the two sides differ.
TEST_F(FusionTest, WitnessIsGiven) {
  FusionVerdict verdict = checkWith("views", {{"d0 * 2 + 1)", "d0 * 2)"}});
  ASSERT_FALSE(verdict.accepted());
  EXPECT_NE(verdict.kernels[0].refusal->reason.find("index map"),
            std::string::npos);
  verdict = checkWith("guards", {{"-d0 - d1 + 4 >= 0", "-d0 - d1 + 3 >= 0"}});
  ASSERT_FALSE(verdict.accepted());
  EXPECT_NE(verdict.kernels[0].refusal->witness.find("k1.0 = "),
            std::string::npos)
      << print(verdict);
  verdict = checkWith("symbols", {{"d1 * s1 + d0", "d0 * s0 + d1"}});
  ASSERT_FALSE(verdict.accepted());
  EXPECT_NE(verdict.kernels[0].refusal->witness.find("s0 = "),
            std::string::npos)
      << print(verdict);
}

TEST_F(FusionTest, VerdictsAsJson) {
  FusionVerdict verdict = checkWith("views", {{"d0 * 2 + 1)", "d0 * 2)"}});
  std::string text;
  llvm::raw_string_ostream(text) << verdict.toJSON();
  EXPECT_NE(text.find("\"condition\":\"C-COMPOSE\""), std::string::npos)
      << text;
}

TEST_F(FusionTest, DumpHasEveryNode) {
  const Fixture &f = getFixture("groups");
  check(f.members, f.main, f.fused);
  std::string text = dumpGroups(*original, *result);
  StringRef ref(text);
  EXPECT_EQ(ref.count("\nnode "), 6u) << text;
  EXPECT_EQ(ref.count("\nopaque "), 1u) << text;
  EXPECT_EQ(ref.count("\ngroup "), 4u) << text;
  EXPECT_EQ(ref.count("\nmember "), 7u) << text;
  EXPECT_TRUE(ref.ends_with("end\n"));
}
