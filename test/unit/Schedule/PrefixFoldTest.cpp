// Which folds are over prefixes.
#include "dlc/Schedule/PrefixFold.h"

#include "dlc/Schedule/CostQuery.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace dlc;

namespace {
struct PrefixFoldTest : ::testing::Test {
  PrefixFoldTest() { context.loadDialect<graph::GraphDialect>(); }

  graph::KernelOp parse(std::string text,
                        std::vector<std::pair<std::string, std::string>> with) {
    for (auto &[name, value] : with)
      for (size_t at; (at = text.find(name)) != std::string::npos;)
        text.replace(at, name.size(), value);
    module = parseSourceString<ModuleOp>(text, &context);
    EXPECT_TRUE(module) << text;
    return *module->getOps<graph::KernelOp>().begin();
  }

  std::optional<PrefixFold>
  find(const std::string &guard, const std::string &map = "d0, d2",
       const std::string &fold = "add", const std::string &other = "0.0",
       const std::string &body = "%v", bool strict = true) {
    graph::KernelOp kernel = parse(text, {{"$guard", guard},
                                          {"$map", map},
                                          {"$fold", fold},
                                          {"$other", other},
                                          {"$body", body}});
    return findPrefixFold(kernel.getStages()[0], strict);
  }

  const char *const text = R"(
graph.kernel @k(%x: tensor<8x8xf32>, %f: tensor<8xf32>) -> tensor<8x8xf32> attributes {symbols = []} {
  %r = graph.stage domain<8, 8> reduce<8> fold $fold : tensor<8x8xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %z = graph.literal $other : f32 : f32
    %v = graph.load %x[affine_map<(d0, d1, d2) -> ($map)>](%i, %j, %k) guard affine_set<(d0, d1, d2) : ($guard)> else %z : f32 : tensor<8x8xf32> -> f32
    %w = graph.load %f[affine_map<(d0, d1, d2) -> (d2)>](%i, %j, %k) : tensor<8xf32> -> f32
    %p = graph.apply mul(%v, %w) : (f32, f32) -> f32
    %a = graph.apply add(%v, %w) : (f32, f32) -> f32
    graph.yield $body : f32
  }
  graph.return %r : tensor<8x8xf32>
}
)";

  MLIRContext context;
  OwningOpRef<ModuleOp> module;
};

TEST_F(PrefixFoldTest, Forms) {
  auto is = [](std::optional<PrefixFold> form, unsigned axis, bool exclusive,
               bool reversed) {
    return form && form->axis == axis && form->isExclusive == exclusive &&
           form->isReversed == reversed;
  };
  EXPECT_TRUE(is(find("d1 - d2 >= 0"), 1, false, false));
  EXPECT_TRUE(is(find("d1 - d2 - 1 >= 0"), 1, true, false));
  EXPECT_TRUE(is(find("7 - d1 - d2 >= 0"), 1, false, true));
  EXPECT_TRUE(is(find("6 - d1 - d2 >= 0"), 1, true, true));
  EXPECT_TRUE(is(find("d0 - d2 >= 0", "d2, d1"), 0, false, false));
  EXPECT_TRUE(
      is(find("d1 - d2 >= 0", "d0, d2", "mul", "1.0"), 1, false, false));
  // Another guard may stand beside it.
  EXPECT_TRUE(is(find("d0 - 2 >= 0, d1 - d2 >= 0"), 1, false, false));
  EXPECT_TRUE(is(find("d1 - d2 >= 0", "d0, d2", "add", "0.0", "%p", false), 1,
                 false, false));
}

TEST_F(PrefixFoldTest, NearMisses) {
  EXPECT_FALSE(find("d1 - d2 + 1 >= 0"));          // one step more
  EXPECT_FALSE(find("d1 - d2 - 2 >= 0"));          // two less
  EXPECT_FALSE(find("d2 - d1 >= 0"));              // suffixes, in order
  EXPECT_FALSE(find("d1 - d2 == 0"));              // one element
  EXPECT_FALSE(find("d1 * 2 - d2 >= 0"));          // every second prefix
  EXPECT_FALSE(find("d1 - d2 >= 0", "d1, d2"));    // a triangle of rows
  EXPECT_FALSE(find("d1 - d2 >= 0, d1 - 3 >= 0")); // d1 decides more
  EXPECT_FALSE(find("d1 - d2 >= 0", "d0, d2", "add", "1.0"));
  EXPECT_FALSE(find("d1 - d2 >= 0", "d0, d2", "mul", "0.0"));
  EXPECT_FALSE(find("d1 - d2 >= 0", "d0, d2", "max", "0.0"));
  EXPECT_FALSE(find("d1 - d2 >= 0", "d0, d2", "add", "0.0", "%a"));
  // 0 times infinity is no zero.
  EXPECT_FALSE(find("d1 - d2 >= 0", "d0, d2", "add", "0.0", "%p", true));
}

TEST_F(PrefixFoldTest, WorkIsOnePass) {
  auto work = [&](const char *guard) {
    return countWork(parse(text, {{"$guard", guard},
                                  {"$map", "d0, d2"},
                                  {"$fold", "add"},
                                  {"$other", "0.0"},
                                  {"$body", "%v"}}),
                     {})
        .scalarOps;
  };
  EXPECT_EQ(work("d1 - d2 >= 0") * 8, work("d2 - d1 >= 0"));
}

} // namespace
