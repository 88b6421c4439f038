// distribute(winograd): admitted for a convolution with the right claim in
// fast-conv alone; every planted lie is refused, by its reason.
#include "dlc/Check/Laws.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace dlc;
using graph::NumericsMode;

namespace {
const char *text = R"mlir(
graph.kernel @conv(%x: tensor<1x9x11x8xf32>, %w: tensor<5x8x3x3xf32>, %b: tensor<5xf32>) -> tensor<1x9x11x5xf32>
    attributes {symbols = [], graph.winograd = {tile = 4 : i64, pixels = array<i64: 1, 2>, taps = array<i64: 0, 1>,
      offset = array<i64: -1, -1>,
      input = array<i64: 4, 0, -5, 0, 1, 0,  0, -4, -4, 1, 1, 0,  0, 4, -4, -1, 1, 0,  0, -2, -1, 2, 1, 0,  0, 2, -1, -2, 1, 0,  0, 4, 0, -5, 0, 1>,
      filter = array<i64: 6, 0, 0,  -4, -4, -4,  -4, 4, -4,  1, 2, 4,  1, -2, 4,  0, 0, 24>, denominator = 24 : i64,
      output = array<i64: 1, 1, 1, 1, 1, 0,  0, 1, -1, 2, -2, 0,  0, 1, 1, 4, 4, 0,  0, 1, -1, 8, -8, 1>}} {
  %s = graph.stage domain<1, 9, 11, 5> reduce<3, 3, 8> fold add : tensor<1x9x11x5xf32> {
  ^bb0(%n: index, %h: index, %v: index, %k: index, %i: index, %j: index, %c: index):
    %z = graph.literal 0.0 : f32 : f32
    %a = graph.load %x[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1 + d4 - 1, d2 + d5 - 1, d6)>](%n, %h, %v, %k, %i, %j, %c) guard affine_set<(d0, d1, d2, d3, d4, d5, d6) : (d1 + d4 - 1 >= 0, -d1 - d4 + 9 >= 0, d2 + d5 - 1 >= 0, -d2 - d5 + 11 >= 0)> else %z : f32 : tensor<1x9x11x8xf32> -> f32
    %g = graph.load %w[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d3, d6, d4, d5)>](%n, %h, %v, %k, %i, %j, %c) : tensor<5x8x3x3xf32> -> f32
    %m = graph.apply mul(%a, %g) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  %y = graph.stage domain<1, 9, 11, 5> : tensor<1x9x11x5xf32> {
  ^bb0(%n: index, %h: index, %v: index, %k: index):
    %p = graph.load %s[affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>](%n, %h, %v, %k) : tensor<1x9x11x5xf32> -> f32
    %q = graph.load %b[affine_map<(d0, d1, d2, d3) -> (d3)>](%n, %h, %v, %k) : tensor<5xf32> -> f32
    %r = graph.apply add(%p, %q) : (f32, f32) -> f32
    graph.yield %r : f32
  }
  graph.return %y : tensor<1x9x11x5xf32>
}
)mlir";

struct WinogradLawTest : testing::Test {
  WinogradLawTest() { context.loadDialect<graph::GraphDialect>(); }

  /// The reason of a refusal of the text with `from` replaced by `to`; empty:
  /// admitted.
  std::string refusal(StringRef from = "", StringRef to = "",
                      NumericsMode mode = NumericsMode::fastConv) {
    std::string changed = text;
    if (!from.empty()) {
      size_t at = changed.find(from.str());
      EXPECT_NE(at, std::string::npos) << from.str();
      if (at != std::string::npos)
        changed.replace(at, from.size(), to.str());
    }
    auto module = parseSourceString<ModuleOp>(changed, &context);
    EXPECT_TRUE(module) << changed;
    if (!module)
      return "does not parse";
    auto kernel = *module->getOps<graph::KernelOp>().begin();
    auto admission = check::admitLaws(kernel, {graph::Law::winograd()}, mode);
    EXPECT_EQ(admission.admitted, admission.reason.empty());
    return admission.reason;
  }
  void refuses(StringRef from, StringRef to, StringRef reason) {
    std::string why = refusal(from, to);
    EXPECT_NE(why.find(reason.str()), std::string::npos)
        << "'" << from.str() << "' -> '" << to.str() << "': " << why;
  }

  MLIRContext context;
};

TEST_F(WinogradLawTest, TheClaimIsAdmittedInFastConvAlone) {
  EXPECT_EQ(refusal(), "");
  EXPECT_NE(refusal("", "", NumericsMode::reassoc), "");
  EXPECT_NE(refusal("", "", NumericsMode::strict), "");
  // Factors in the other order, no padding.
  EXPECT_EQ(refusal("mul(%a, %g)", "mul(%g, %a)"), "");
  EXPECT_EQ(graph::Law::parse("distribute(winograd)").value(),
            graph::Law::winograd());
  EXPECT_EQ(graph::Law::winograd().str(), "distribute(winograd)");
}

TEST_F(WinogradLawTest, WrongMatrices) {
  refuses("input = array<i64: 4, 0, -5", "input = array<i64: 4, 0, 5",
          "the matrices give");
  refuses("1, 2, 4,  1, -2, 4,", "1, 2, 4,  1, 2, 4,", "the matrices give");
  refuses("0, 1, -1, 8, -8, 1>", "0, 1, -1, 8, -8, 0>", "the matrices give");
  refuses("denominator = 24", "denominator = 12", "the matrices give");
  refuses("0, 0, 24>", "0, 0, 1099511627776>", "too large");
  refuses("tile = 4", "tile = 2", "is not");
  refuses("tile = 4", "tile = 0", "no matrices");
  refuses("graph.winograd", "graph.claim", "no claim");
}

TEST_F(WinogradLawTest, WrongTiles) {
  refuses("offset = array<i64: -1, -1>", "offset = array<i64: 0, -1>",
          "begin at offset");
  refuses("offset = array<i64: -1, -1>", "offset = array<i64: -1, -2>",
          "begin at offset");
  refuses("pixels = array<i64: 1, 2>", "pixels = array<i64: 2, 1>",
          "not read at pixel + tap");
  refuses("pixels = array<i64: 1, 2>", "pixels = array<i64: 1, 3>", "");
  refuses("pixels = array<i64: 1, 2>", "pixels = array<i64: 1, 4>",
          "no such coordinates");
  refuses("taps = array<i64: 0, 1>", "taps = array<i64: 0, 0>", "");
  refuses("taps = array<i64: 0, 1>", "taps = array<i64: 0, 2>", "three taps");
}

TEST_F(WinogradLawTest, OtherSums) {
  // A stride, a dilation, a mirrored tap.
  refuses("d1 + d4 - 1, d2 + d5 - 1, d6", "2 * d1 + d4 - 1, d2 + d5 - 1, d6",
          "pixel + tap");
  refuses("d1 + d4 - 1, d2 + d5 - 1, d6", "d1 + 2 * d4 - 1, d2 + d5 - 1, d6",
          "pixel + tap");
  refuses("d1 + d4 - 1, d2 + d5 - 1, d6", "d1 - d4 - 1, d2 + d5 - 1, d6",
          "pixel + tap");
  // A guard that leaves a tap out, padding with ones.
  refuses("d1 + d4 - 1 >= 0,", "d4 - 1 >= 0,", "apart");
  refuses("literal 0.0", "literal 1.0", "other numbers than zero");
  // Weights by pixel, another function, another fold.
  refuses("(d3, d6, d4, d5)", "(d1, d6, d4, d5)", "");
  refuses("apply mul", "apply add", "no sum of products");
  refuses("fold add", "fold max", "");
  refuses("reduce<3, 3, 8>", "reduce<2, 3, 8>", "three taps");
}
} // namespace
