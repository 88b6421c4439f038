// Which (kernel, laws, mode) triples are admitted: each condition with the case
// nearest to it that must be refused.
#include "dlc/Check/Laws.h"

#include "dlc/Dialect/Graph/IR/KernelBuilder.h"
#include "mlir/IR/Builders.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/FormatVariadic.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::graph;

namespace {
struct LawsTest : testing::Test {
  LawsTest() { context.loadDialect<GraphDialect>(); }

  KernelOp reduction(Type element, FoldKind kind) {
    module = ModuleOp::create(UnknownLoc::get(&context));
    auto type = [&](ArrayRef<int64_t> shape, Type t) {
      return makeTensorType(constantDims(&context, shape), t);
    };
    Type result = kind >= FoldKind::argmax
                      ? Type(IntegerType::get(&context, 64))
                      : element;
    KernelBuilder builder(*module, UnknownLoc::get(&context), "k",
                          {type({4, 9}, element)}, {type({4}, result)});
    builder.finish(
        builder.fold(builder.resultType(0), constantDims(&context, {9}), kind,
                     [&](ExprBuilder &b) {
                       return b.load(builder.operand(0), {b.d(0), b.r(0)});
                     }));
    return builder.getKernel();
  }
  bool admits(Type element, FoldKind kind, Law law, NumericsMode mode) {
    return static_cast<bool>(
        check::admitLaws(reduction(element, kind), {law}, mode));
  }

  MLIRContext context;
  OwningOpRef<ModuleOp> module;
  Type f32 = Float32Type::get(&context), i32 = IntegerType::get(&context, 32);
};

TEST_F(LawsTest, FloatSumsMayBeSplitOnlyInReassoc) {
  for (LawKind kind : {LawKind::split, LawKind::reorder}) {
    EXPECT_TRUE(admits(f32, FoldKind::add, {kind, FoldKind::add},
                       NumericsMode::reassoc));
    EXPECT_FALSE(admits(f32, FoldKind::add, {kind, FoldKind::add},
                        NumericsMode::strict));
    EXPECT_FALSE(admits(f32, FoldKind::mul, {kind, FoldKind::mul},
                        NumericsMode::strict));
  }
}

TEST_F(LawsTest, ExactMonoidsAreFreeInStrict) {
  EXPECT_TRUE(admits(i32, FoldKind::add, {LawKind::reorder, FoldKind::add},
                     NumericsMode::strict));
  EXPECT_TRUE(admits(f32, FoldKind::max, {LawKind::reorder, FoldKind::max},
                     NumericsMode::strict));
  EXPECT_TRUE(admits(f32, FoldKind::argmin, {LawKind::split, FoldKind::argmin},
                     NumericsMode::strict));
}

TEST_F(LawsTest, ALawNeedsItsFold) {
  EXPECT_FALSE(admits(f32, FoldKind::max, {LawKind::split, FoldKind::add},
                      NumericsMode::reassoc));
  auto answer = check::admitLaws(reduction(f32, FoldKind::add),
                                 {{LawKind::split, FoldKind::max}},
                                 NumericsMode::reassoc);
  EXPECT_NE(answer.reason.find("no such fold"), std::string::npos)
      << answer.reason;
}

TEST_F(LawsTest, FlushIsAboutProductsOfBf16InReassoc) {
  Law flush{LawKind::flush, FoldKind::add};
  auto product = [&](StringRef element) {
    std::string text =
        llvm::formatv("graph.kernel @k(%a: tensor<4x8x{0}>, %b: tensor<8x5x{0}>"
                      ") -> tensor<4x5xf32> attributes {{symbols = []} {{\n"
                      "%s = graph.stage domain <4, 5> reduce <8> fold add : "
                      "tensor<4x5xf32> {{\n^bb0(%i: index, %j: index, %k: "
                      "index):\n%x = graph.load %a[affine_map<(d0, d1, d2) -> "
                      "(d0, d2)>](%i, %j, %k) : tensor<4x8x{0}> -> {0}\n%y = "
                      "graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, "
                      "%j, %k) : tensor<8x5x{0}> -> {0}\n%v = "
                      "graph.scalar_cast %x : {0} -> f32\n%w = "
                      "graph.scalar_cast %y : {0} -> f32\n%m = graph.apply "
                      "mul(%v, %w) : (f32, f32) -> f32\ngraph.yield %m : "
                      "f32\n}\ngraph.return %s : tensor<4x5xf32>\n}",
                      element)
            .str();
    module = parseSourceString<ModuleOp>(text, &context);
    EXPECT_TRUE(module) << text;
    return *module->getOps<KernelOp>().begin();
  };
  EXPECT_TRUE(
      bool(check::admitLaws(product("bf16"), {flush}, NumericsMode::reassoc)));
  EXPECT_FALSE(
      bool(check::admitLaws(product("bf16"), {flush}, NumericsMode::strict)));
  EXPECT_FALSE(
      bool(check::admitLaws(product("f16"), {flush}, NumericsMode::reassoc)));
  EXPECT_FALSE(admits(f32, FoldKind::add, flush, NumericsMode::reassoc));
  EXPECT_EQ(flush.str(), "flush(add)");
  EXPECT_EQ(*Law::parse("flush(add)"), flush);
}

TEST_F(LawsTest, TextRoundTrips) {
  Law law{LawKind::reorder, FoldKind::argmax_last};
  EXPECT_EQ(law.str(), "reorder(argmax_last)");
  EXPECT_EQ(*Law::parse(law.str()), law);
  for (StringRef bad :
       {"reorder", "reorder()", "split(none)", "split(add", "hom(mean)"})
    EXPECT_TRUE(failed(Law::parse(bad))) << bad.str();
  EXPECT_EQ(*Law::parse("hom(softmax)"), Law::homSoftmax());
  EXPECT_EQ(*Law::parse("round(softmax)"), Law::roundSoftmax());
  EXPECT_EQ(Law::roundSoftmax().str(), "round(softmax)");
  EXPECT_EQ(Law::homSoftmax().str(), "hom(softmax)");
  EXPECT_EQ(*Law::parse("hom(welford)"), Law::homWelford());
  EXPECT_EQ(Law::homWelford().str(), "hom(welford)");
  EXPECT_FALSE(Law::homWelford() == Law::homSoftmax());
}
} // namespace
