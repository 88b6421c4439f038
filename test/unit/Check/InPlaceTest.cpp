// Results in the place of operands: admitted where no element is read after it
// was overwritten, refused for everything that is nearly that.
#include "dlc/Check/InPlace.h"

#include "Fixtures.h"
#include "mlir/IR/BuiltinOps.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace dlc;
using graph::ComputeOrder;
using graph::ComputeStep;

namespace {
struct CheckInPlaceTest : testing::Test {
  CheckInPlaceTest() { test::loadDialects(context); }

  /// Why it is refused; "" when it is admitted.
  std::string ask(const std::string &text, const ComputeOrder &order,
                  graph::InPlacePair pair = {0, 0}) {
    auto module = test::parse(context, text);
    EXPECT_TRUE(module) << text;
    return check::admitInPlace(*module->getOps<graph::KernelOp>().begin(),
                               order, pair)
        .reason;
  }
  void expectRefused(const std::string &text, const ComputeOrder &order,
                     const std::string &why, graph::InPlacePair pair = {0, 0}) {
    std::string reason = ask(text, order, pair);
    EXPECT_NE(reason.find(why), std::string::npos)
        << "expected '" << why << "', got '" << reason << "'\n"
        << text;
  }
  MLIRContext context;
};

ComputeStep step(std::initializer_list<unsigned> stages,
                 bool isPointwise = true) {
  return {SmallVector<unsigned, 2>(stages), isPointwise};
}
ComputeOrder phases(std::initializer_list<ComputeStep> steps) {
  return {false, 0, SmallVector<ComputeStep, 2>(steps)};
}
ComputeOrder rows(std::initializer_list<ComputeStep> steps, unsigned rank = 1) {
  return {true, rank, SmallVector<ComputeStep, 2>(steps)};
}

std::string replaced(std::string text,
                     std::vector<std::pair<std::string, std::string>> parts) {
  for (auto &[name, value] : parts)
    for (size_t at = 0; (at = text.find(name, at)) != std::string::npos;
         at += value.size())
      text.replace(at, name.size(), value);
  return text;
}

/// y[d0, d1] = -x[AT], of 4 x 6.
std::string element(const std::string &at, const std::string &x = "4x6xf32",
                    const std::string &guard = "") {
  return replaced(
      R"(
graph.kernel @k(%x: tensor<XTYPE>) -> tensor<4x6xf32> attributes {symbols = []} {
  %y = graph.stage domain<4, 6> : tensor<4x6xf32> {
  ^bb0(%i: index, %j: index):
    %z = graph.literal ZERO : ELEMENT : ELEMENT
    %v = graph.load %x[affine_map<(d0, d1) -> (AT)>](%i, %j) GUARD : tensor<XTYPE> -> ELEMENT
    %c = graph.scalar_cast %v : ELEMENT -> f32
    %n = graph.apply neg(%c) : (f32) -> f32
    graph.yield %n : f32
  }
  graph.return %y : tensor<4x6xf32>
})",
      {{"GUARD", guard.empty() ? ""
                               : "guard affine_set<(d0, d1) : (" + guard +
                                     ")> else %z : ELEMENT"},
       {"AT", at},
       {"XTYPE", x},
       {"ZERO", x.ends_with("i32") ? "0" : "0.0"},
       {"ELEMENT", x.substr(x.rfind('x') + 1)}});
}

TEST_F(CheckInPlaceTest, Elements) {
  ComputeOrder order = phases({step({0})});
  EXPECT_EQ(ask(element("d0, d1"), order), "");
  EXPECT_EQ(ask(element("d0, d1", "4x6xi32"), order), "");
  // A reshape: the same element at other coordinates.
  EXPECT_EQ(ask(element("d0 * 6 + d1", "24xf32"), order), "");
  EXPECT_EQ(
      ask(element("d0 floordiv 2, (d0 mod 2) * 6 + d1", "2x12xf32"), order),
      "");
  EXPECT_EQ(ask(element("d0, d1", "4x6xf32", "d1 - 2 >= 0"), order), "");

  expectRefused(element("d0, 5 - d1"), order, "is read at");
  expectRefused(element("d0, d1 - 1", "4x6xf32", "d1 - 1 >= 0"), order,
                "is read at");
  expectRefused(element("d1, d0", "6x4xf32"), order, "is read at");
  expectRefused(element("d0, 0"), order, "is read at");
  expectRefused(element("d1", "6xf32"), order, "not of one size");
  expectRefused(element("d0, d1", "4x7xf32"), order, "not of one size");
  expectRefused(element("d0, d1", "4x6xf16"), order, "not of one size");
  expectRefused(element("d0, d1"), order, "no such operand", {1, 0});
  expectRefused(element("d0, d1"), order, "no such operand", {0, 1});
}

TEST_F(CheckInPlaceTest, OrdersThatDoNotSayEnough) {
  std::string text = element("d0, d1");
  expectRefused(text, {}, "no step stores");
  expectRefused(text, phases({step({0}, false)}), "not pointwise");
  expectRefused(text, phases({step({0}), step({0})}), "stored twice");
  expectRefused(text, phases({step({1})}), "a stage that there is not");
}

/// Softmax of rows without the division: max, exp with its sum, quotient. %m is
/// at MAT in its stage, x at EAT for the exponent and at YAT for the result.
std::string softmax(const std::string &maxAt = "d0, d2",
                    const std::string &resultAt = "",
                    const std::string &n = "5", const std::string &dims = "") {
  return replaced(
      R"(
graph.kernel @k(%x: X) -> X attributes {rows = 1 : i64, symbols = [SYMBOLS]} {
  %m = graph.stage domain<N, 1> reduce<7> fold max : R {
  ^bb0(%p: index, %q: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2)SYM -> (MAXAT)>](%p, %q, %k) : X -> f32
    graph.yield %v : f32
  }
  %s = graph.stage domain<N, 1> reduce<7> fold add : R {
  ^bb0(%p: index, %q: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2)SYM -> (d0, d2)>](%p, %q, %k) : X -> f32
    graph.yield %v : f32
  }
  %y = graph.stage domain<N, 7> : X {
  ^bb0(%p: index, %q: index):
    %v = graph.load %x[affine_map<(d0, d1)SYM -> (RESULTAT)>](%p, %q) : X -> f32
    %u = graph.load %m[affine_map<(d0, d1)SYM -> (d0, 0)>](%p, %q) : R -> f32
    %w = graph.load %s[affine_map<(d0, d1)SYM -> (d0, 0)>](%p, %q) : R -> f32
    %t = graph.apply sub(%v, %u) : (f32, f32) -> f32
    %r = graph.apply div(%t, %w) : (f32, f32) -> f32
    graph.yield %r : f32
  }
  graph.return %y : X
})",
      {{"RESULTAT", resultAt.empty() ? "d0, d1" : resultAt},
       {"MAXAT", maxAt},
       {"SYMBOLS", dims.empty() ? "" : "\"n\""},
       {"SYM", dims.empty() ? "" : "[s0]"},
       {"X", dims.empty() ? "tensor<5x7xf32>"
                          : "tensor<?x7xf32, #graph.dims<s0, 7>>"},
       {"R", dims.empty() ? "tensor<5x1xf32>"
                          : "tensor<?x1xf32, #graph.dims<s0, 1>>"},
       {"domain<N", "domain<" + n}});
}

TEST_F(CheckInPlaceTest, Rows) {
  ComputeOrder order = rows({step({0}), step({1}), step({2})});
  EXPECT_EQ(ask(softmax(), order), "");
  EXPECT_EQ(ask(softmax("d0, d2", "", "s0", "symbolic"), order), "");
  EXPECT_EQ(ask(softmax(), rows({step({0, 1}), step({2})})), "");
  // An earlier step need not be pointwise, and sees its row as it pleases.
  EXPECT_EQ(ask(softmax("d0, 6 - d2"),
                rows({step({0}, false), step({1}), step({2})})),
            "");
  // Another row may have been overwritten.
  expectRefused(softmax("0, d2"), order, "not shown to be in the row");
  expectRefused(softmax("4 - d0, d2"), order, "not shown to be in the row");
  expectRefused(softmax("0, d2", "", "s0", "symbolic"), order,
                "not shown to be in the row");
  // One row and the next: the address says so, not the coordinate.
  expectRefused(softmax("d0, d2 + 1"), order, "not shown to be in the row");
  // The result reads elsewhere in its own row.
  expectRefused(softmax("d0, d2", "d0, 6 - d1"), order, "is read at");
  // Phases: all rows were read before.
  EXPECT_EQ(ask(softmax("0, d2"), phases({step({0}), step({1}), step({2})})),
            "");
}

TEST_F(CheckInPlaceTest, OrderMatters) {
  // The result is stored before the sum is made.
  expectRefused(softmax(), rows({step({0}), step({2}), step({1})}),
                "after the result is stored");
  expectRefused(softmax(), phases({step({0}), step({2}), step({1})}),
                "after the result is stored");
  // A sum that is not stored is made again where it is read.
  expectRefused(softmax(), rows({step({0}), step({2})}), "is read at");
  expectRefused(softmax(), phases({step({2})}), "is read at");
  // The sum is made in the step that stores.
  expectRefused(softmax(), phases({step({0}), step({1, 2})}),
                "in the step that stores");
  // Rows of two axes, of which a stage has one in another size.
  expectRefused(softmax(), rows({step({0}), step({1}), step({2})}, 2),
                "other rows");
}

// Two results of one operand: whichever is stored over it spoils the other's
// read, unless that came in a step before.
TEST_F(CheckInPlaceTest, TwoResults) {
  std::string text = R"(
graph.kernel @k(%x: tensor<8xf32>, %z: tensor<8xf32>) -> (tensor<8xf32>, tensor<8xf32>) attributes {symbols = []} {
  %y = graph.stage domain<8> : tensor<8xf32> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<8xf32> -> f32
    %n = graph.apply neg(%v) : (f32) -> f32
    graph.yield %n : f32
  }
  %w = graph.stage domain<8> : tensor<8xf32> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<8xf32> -> f32
    %u = graph.load %z[affine_map<(d0) -> (d0)>](%i) : tensor<8xf32> -> f32
    %n = graph.apply add(%v, %u) : (f32, f32) -> f32
    graph.yield %n : f32
  }
  graph.return %y, %w : tensor<8xf32>, tensor<8xf32>
})";
  ComputeOrder together = phases({step({0, 1})}),
               apart = phases({step({0}), step({1})});
  expectRefused(text, together, "in the step that stores", {0, 0});
  expectRefused(text, together, "in the step that stores", {0, 1});
  EXPECT_EQ(ask(text, together, {1, 1}), "");
  // Read for the other one, which may come after.
  expectRefused(text, together, "in the step that stores", {1, 0});
  expectRefused(text, apart, "after the result is stored", {0, 0});
  EXPECT_EQ(ask(text, apart, {0, 1}), "");
}
} // namespace
