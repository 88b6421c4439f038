// Each predicate on the smallest body that breaks it, and on its neighbour that
// does not; the names are those of the theorems (docs/proofs).
#include "dlc/Fusion/Compose.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/MLIRContext.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::fusion;

namespace {
class LegalityTest : public ::testing::Test {
protected:
  LegalityTest() { context.loadDialect<graph::GraphDialect>(); }
  AffineExpr d(unsigned i) { return getAffineDimExpr(i, &context); }
  AffineExpr c(int64_t v) { return getAffineConstantExpr(v, &context); }
  Type f32() { return Float32Type::get(&context); }

  Stage shape(TensorId result, ArrayRef<int64_t> domain,
              ArrayRef<int64_t> reduce = {}) {
    Stage stage;
    stage.result = result;
    for (int64_t n : domain)
      stage.domain.push_back(c(n));
    for (int64_t n : reduce)
      stage.reduce.push_back(c(n));
    stage.type = graph::makeTensorType(stage.domain, f32());
    if (!reduce.empty())
      stage.fold = graph::FoldKind::max;
    return stage;
  }
  Node load(TensorId tensor, ArrayRef<AffineExpr> index) {
    Node node;
    node.kind = Node::Load;
    node.type = f32();
    node.tensor = tensor;
    node.index.assign(index.begin(), index.end());
    return node;
  }
  Node apply(graph::ScalarFn fn, ArrayRef<unsigned> args) {
    Node node;
    node.kind = Node::Apply;
    node.type = f32();
    node.fn = static_cast<unsigned>(fn);
    node.args.assign(args.begin(), args.end());
    return node;
  }
  // One stage that loads `tensor` at `index`.
  StageRef reader(const Stage &shape, TensorId tensor,
                  ArrayRef<AffineExpr> index) {
    StageBuilder builder(&context, shape);
    return builder.finish(builder.add(load(tensor, index)));
  }
  MLIRContext context;
};

// rbr_single_kernel: what is read must lie in the row.
TEST_F(LegalityTest, RowsAreTheAxesThatReadsKeep) {
  Body body;
  body.stages = {reader(shape(1, {8, 4}, {16}), 0, {d(0), d(1), d(2)}),
                 reader(shape(2, {8, 4, 16}), 1, {d(0), d(1)})};
  unsigned rows = 9;
  EXPECT_FALSE(checkRow(body, rows));
  EXPECT_EQ(rows, 2u);
  body.stages[1] = reader(shape(2, {8, 4, 16}), 1, {d(0), c(3)});
  EXPECT_FALSE(checkRow(body, rows));
  EXPECT_EQ(rows, 1u);
  body.stages[1] = reader(shape(2, {8, 4, 16}), 1, {c(7) - d(0), d(1)});
  EXPECT_FALSE(checkRow(body, rows));
  EXPECT_EQ(rows, 0u);
}

// rbr_single_kernel, its bound on the coordinates.
TEST_F(LegalityTest, BoundsOfReads) {
  Body body;
  body.stages = {reader(shape(1, {8}), 0, {d(0)}),
                 reader(shape(2, {8}), 1, {c(7) - d(0)})};
  EXPECT_TRUE(checkBounds(body)); // not shown: a negative step
  body.stages[1] = reader(shape(2, {7}), 1, {d(0) + 1});
  EXPECT_FALSE(checkBounds(body));
  body.stages[1] = reader(shape(2, {8}), 1, {d(0) + 1});
  auto refusal = checkBounds(body);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(getName(refusal->condition), "C-BOUNDS");
}

// horizontal_reduce: folds keep their order, so they stay where they are.
TEST_F(LegalityTest, FoldsAreNotInlined) {
  StageRef fold = reader(shape(1, {8}, {16}), 0, {d(0), d(1)});
  StageRef map = reader(shape(1, {8}), 0, {d(0)});
  EXPECT_EQ(checkOrder(*fold)->condition, Condition::Order);
  EXPECT_FALSE(checkOrder(*map));
}

// inline_all_correct: the maps compose, the guards are conjoined.
TEST_F(LegalityTest, InliningComposesMapsAndGuards) {
  StageBuilder producer(&context, shape(1, {4, 6}));
  unsigned x = producer.add(load(0, {d(1), d(0)}));
  StageRef exp =
      producer.finish(producer.add(apply(graph::ScalarFn::exp, {x})));
  StageBuilder consumer(&context, shape(2, {8, 6}));
  Node zero;
  zero.type = f32();
  zero.literal = FloatAttr::get(f32(), 0.0);
  Node guarded = load(1, {d(0) - 2, d(1)});
  guarded.guard = {d(0) - 2, c(5) - d(0)};
  guarded.equal = {false, false};
  guarded.args = {consumer.add(zero)};
  StageRef pad = consumer.finish(consumer.add(guarded));
  ASSERT_FALSE(checkCompose(*exp, *pad));
  StageRef inlined = inlineProducer(*exp, *pad);
  const Node &root = inlined->nodes[inlined->root];
  ASSERT_EQ(root.kind, Node::Apply);
  EXPECT_EQ(root.fn, static_cast<unsigned>(graph::ScalarFn::select));
  EXPECT_EQ(inlined->nodes[root.args[0]].kind, Node::Inside);
  const Node *read = nullptr;
  for (const Node &node : inlined->nodes)
    if (node.kind == Node::Load)
      read = &node;
  ASSERT_TRUE(read);
  EXPECT_EQ(read->tensor, 0u);
  EXPECT_EQ(read->index[0], d(1));
  EXPECT_EQ(read->index[1], d(0) - 2);
  EXPECT_EQ(read->guard.size(), 2u);
  // A producer that only reads takes the guard over and needs no select.
  StageRef plain =
      inlineProducer(*reader(shape(1, {4, 6}), 0, {d(1), d(0)}), *pad);
  EXPECT_EQ(plain->nodes[plain->root].kind, Node::Load);
}

TEST_F(LegalityTest, EveryConditionHasAName) {
  EXPECT_EQ(getName(Condition::Convex), "C-CONVEX");
  EXPECT_EQ(getName(Condition::Size), "C-SIZE");
  EXPECT_FALSE(getTheorem(Condition::Row).empty());
}
} // namespace
