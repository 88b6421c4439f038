// A concatenation is admitted where it joins its operands and does nothing
// else, refused for everything that is nearly that.
#include "dlc/Check/Concat.h"

#include "Fixtures.h"
#include "mlir/IR/BuiltinOps.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace dlc;
using graph::ConcatForm;

namespace {
struct CheckConcatTest : testing::Test {
  CheckConcatTest() { test::loadDialects(context); }

  /// Why it is refused; "" when it is admitted.
  std::string ask(const std::string &text, const ConcatForm &form) {
    auto module = test::parse(context, text);
    EXPECT_TRUE(module) << text;
    return check::admitConcat(*module->getOps<graph::KernelOp>().begin(), form)
        .reason;
  }
  void expectRefused(const std::string &text, const ConcatForm &form,
                     const std::string &why) {
    std::string reason = ask(text, form);
    EXPECT_NE(reason.find(why), std::string::npos)
        << "expected '" << why << "', got '" << reason << "'\n"
        << text;
  }
  MLIRContext context;
};

struct Parts {
  std::string first = "(d0, d1)", second = "(d0, d1 - 2)";
  std::string insideFirst = "1 - d1 >= 0", insideSecond = "d1 - 2 >= 0";
  std::string yields = "%v";
};

/// 5 x 2 and 5 x 4, joined along the second axis.
std::string joined(const Parts &p) {
  return "graph.kernel @k(%a: tensor<5x2xf32>, %b: tensor<5x4xf32>) -> "
         "tensor<5x6xf32> attributes {origin = [], symbols = []} {\n"
         "  %r = graph.stage domain <5, 6> : tensor<5x6xf32> {\n"
         "  ^bb0(%i: index, %j: index):\n"
         "    %z = graph.literal 0.0 : f32 : f32\n"
         "    %u = graph.load %a[affine_map<(d0, d1) -> " +
         p.first + ">](%i, %j) guard affine_set<(d0, d1) : (" + p.insideFirst +
         ")> else %z : f32 : tensor<5x2xf32> -> f32\n"
         "    %v = graph.load %b[affine_map<(d0, d1) -> " +
         p.second + ">](%i, %j) guard affine_set<(d0, d1) : (" +
         p.insideSecond +
         ")> else %u : f32 : tensor<5x4xf32> -> f32\n"
         "    %w = graph.apply neg(%v) : (f32) -> f32\n"
         "    graph.yield " +
         p.yields +
         " : f32\n"
         "  }\n"
         "  graph.return %r : tensor<5x6xf32>\n"
         "}";
}
} // namespace

TEST_F(CheckConcatTest, OneAfterTheOther) {
  EXPECT_EQ(ask(joined({}), {1, {0, 2}}), "");
}

TEST_F(CheckConcatTest, WrongForms) {
  expectRefused(joined({}), {1, {0, 3}}, "parts overlap or leave a gap at 2");
  expectRefused(joined({}), {1, {0, 0}}, "two operands begin at one place");
  expectRefused(joined({}), {0, {0, 2}}, "an operand has another size");
  expectRefused(joined({}), {2, {0, 2}}, "there is no such axis");
  expectRefused(joined({}), {1, {4, 0}}, "another operand than 0");
}

TEST_F(CheckConcatTest, WrongKernels) {
  ConcatForm form{1, {0, 2}};
  expectRefused(joined({.second = "(d0, d1 - 1)"}), form, "not element 0");
  expectRefused(joined({.second = "(4 - d0, d1 - 2)"}), form, "not element 0");
  expectRefused(joined({.insideSecond = "d1 - 3 >= 0"}), form,
                "at 2 it computes something");
  expectRefused(
      joined({.insideFirst = "2 - d1 >= 0", .insideSecond = "d1 - 3 >= 0"}),
      form, "at 2 it is another operand than 1");
  expectRefused(joined({.insideSecond = "d0 + d1 - 2 >= 0"}), form,
                "a guard is not the axis' alone");
  expectRefused(joined({.yields = "%w"}), form, "it computes something");
}
