// Which kernels are attention, and what the first condition is that fails.
#include "dlc/Schedule/AttentionSpec.h"

#include "AttentionKernels.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::test;

namespace {
struct AttentionSpecTest : ::testing::Test {
  AttentionSpecTest() { context.loadDialect<graph::GraphDialect>(); }

  FailureOr<AttentionSpec> classify(const Parts &parts) {
    module = parseSourceString<ModuleOp>(kernel(parts), &context);
    EXPECT_TRUE(module) << kernel(parts);
    return classifyAttention(*module->getOps<graph::KernelOp>().begin(),
                             reason);
  }
  std::string nameOf(const Parts &parts) {
    EXPECT_TRUE(failed(classify(parts)));
    return reason.substr(0, reason.find(':'));
  }

  MLIRContext context;
  OwningOpRef<ModuleOp> module;
  std::string reason;
};

TEST_F(AttentionSpecTest, GroupsOfHeads) {
  auto spec = classify({});
  ASSERT_TRUE(succeeded(spec)) << reason;
  EXPECT_EQ(spec->str(),
            "heads 8 group 2 rows 5 keys 7 head_dim 8 value_dim 6");
  EXPECT_TRUE(spec->query.plain && spec->key.plain && spec->value.plain);
  EXPECT_TRUE(spec->dividesWeights && spec->isPlainReference);
  // Batch and key heads; then of each group: strides in elements.
  ASSERT_EQ(spec->outer.size(), 2u);
  EXPECT_EQ(spec->key.strides[spec->outer[1]], 56);
  EXPECT_EQ(spec->key.strides[spec->keys[0]], 8);
  EXPECT_EQ(spec->value.strides[spec->columns[0]], 1);
  EXPECT_EQ(spec->query.strides[spec->group[0]], 40);
  EXPECT_EQ(spec->resultStrides[spec->rows[0]], 6);
}

// The heads merged behind the output: (2, 5, 24), coordinates that are divided.
TEST_F(AttentionSpecTest, MergedHeads) {
  Parts parts;
  parts.after = R"(
  %r = graph.stage domain<2, 5, 24> : tensor<2x5x24xf32> {
  ^bb0(%b: index, %i: index, %c: index):
    %x = graph.load %o[affine_map<(d0, d1, d2) -> (d0, d2 floordiv 6, d1, d2 mod 6)>](%b, %i, %c) : tensor<2x4x5x6xf32> -> f32
    graph.yield %x : f32
  }
)";
  parts.results = "%r", parts.types = "tensor<2x5x24xf32>";
  auto spec = classify(parts);
  ASSERT_TRUE(succeeded(spec)) << reason;
  EXPECT_EQ(spec->str(),
            "heads 8 group 2 rows 5 keys 7 head_dim 8 value_dim 6");
  EXPECT_EQ(spec->resultStrides[spec->rows[0]], 24);
  EXPECT_EQ(spec->resultStrides[spec->group[0]], 6);
}

TEST_F(AttentionSpecTest, CausalMasksAreCuts) {
  const std::string mask = R"(
    %ci = graph.coord [affine_map<(d0, d1, d2, d3) -> (d2 + 2)>](%b, %h, %i, %j)
    %cj = graph.coord [affine_map<(d0, d1, d2, d3) -> (d3)>](%b, %h, %i, %j)
    %is = graph.apply le(%cj, %ci) : (i64, i64) -> i1
    %inf = graph.literal 0xFF800000 : f32 : f32
)";
  Parts parts;
  parts.t = mask + R"(
    %r = graph.apply select(%is, %c, %inf) : (i1, f32, f32) -> f32
    graph.yield %r : f32)";
  auto spec = classify(parts);
  ASSERT_TRUE(succeeded(spec)) << reason;
  ASSERT_EQ(spec->cuts.size(), 1u);
  EXPECT_TRUE(spec->cuts[0].replaces);
  EXPECT_NE(spec->str().find("causal offset 2"), std::string::npos);

  parts.t = mask + R"(
    %zero = graph.literal 0.0 : f32 : f32
    %r = graph.apply select(%is, %zero, %inf) : (i1, f32, f32) -> f32
    %r2 = graph.apply add(%c, %r) : (f32, f32) -> f32
    graph.yield %r2 : f32)";
  spec = classify(parts);
  ASSERT_TRUE(succeeded(spec)) << reason;
  ASSERT_EQ(spec->cuts.size(), 1u);
  EXPECT_FALSE(spec->cuts[0].replaces);
}

TEST_F(AttentionSpecTest, NearMisses) {
  Parts p;
  p.largest = "(d0, d1, d2, 0)";
  EXPECT_EQ(nameOf(p), "axis");
  p = {}, p.exponent = "add(%x, %m) : (f32, f32)";
  EXPECT_EQ(nameOf(p), "exp");
  p = {}, p.exponent = "sub(%m, %x) : (f32, f32)";
  EXPECT_EQ(nameOf(p), "maximum");
  p = {}, p.exponent = "sub(%x, %x) : (f32, f32)";
  EXPECT_EQ(nameOf(p), "maximum");
  p = {}, p.weight = "sub(%e, %z) : (f32, f32)";
  EXPECT_EQ(nameOf(p), "weights");
  p = {}, p.weight = "div(%z, %e) : (f32, f32)";
  EXPECT_EQ(nameOf(p), "division");
  p = {}, p.weight = "div(%e, %e) : (f32, f32)";
  EXPECT_EQ(nameOf(p), "division");
  p = {}, p.valueHead = "d1 mod 2";
  EXPECT_EQ(nameOf(p), "groups");
  p = {}, p.results = "%o, %pp", p.types += ", tensor<2x4x5x7xf32>";
  EXPECT_EQ(nameOf(p), "results");
}
} // namespace
