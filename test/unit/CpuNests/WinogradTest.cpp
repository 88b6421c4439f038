// Winograd's filtering against the interpreter: seeded sizes around tiles and
// vectors, pads, images, both tiles, operands that end or begin at a forbidden
// page, results between guard bytes. The gate is the bound that the report
// states, and the claim is what is emitted: with a wrong one results differ.
#include "NestTest.h"

#include "dlc/Check/InPlace.h"
#include "dlc/Codegen/CPU/ContractionNest.h"
#include "dlc/Schedule/Winograd.h"

#include "mlir/Parser/Parser.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::test;
using interp::Tensor;

namespace {
struct Conv {
  int64_t images, rows, columns, channels, filters, pad[2], tile;
  bool hasResidual = false; ///< what is added is an image, else a row

  int64_t outputs(int axis) const {
    return (axis ? columns : rows) + 2 * pad[axis] - 2;
  }
  std::string text() const;
};

class WinogradTest : public NestTest {
protected:
  uint64_t below(uint64_t bound) { return generator() % bound; }
  int64_t pick(std::initializer_list<int64_t> list) {
    return list.begin()[below(list.size())];
  }
  Conv randomConv();
  /// The largest error in units of the bound; negative: it was not computed.
  double run(const Conv &conv, const WinogradClaim *claim,
             const std::string &target);
};

std::string Conv::text() const {
  std::string result = R"(
graph.kernel @conv(%x: tensor<$nx$hx$wx$cxf32>, %g: tensor<$kx$cx3x3xf32>, %b: $B) -> tensor<$nx$Hx$Wx$kxf32> attributes {symbols = []} {
  %s = graph.stage domain<$n, $H, $W, $k> reduce<3, 3, $c> fold add : tensor<$nx$Hx$Wx$kxf32> {
  ^bb0(%n: index, %p: index, %q: index, %k: index, %i: index, %j: index, %c: index):
    %z = graph.literal 0.0 : f32 : f32
    %a = graph.load %x[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1 + d4 - $p, d2 + d5 - $q, d6)>](%n, %p, %q, %k, %i, %j, %c) $G : tensor<$nx$hx$wx$cxf32> -> f32
    %w = graph.load %g[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d3, d6, d4, d5)>](%n, %p, %q, %k, %i, %j, %c) : tensor<$kx$cx3x3xf32> -> f32
    %m = graph.apply mul(%a, %w) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  %y = graph.stage domain<$n, $H, $W, $k> : tensor<$nx$Hx$Wx$kxf32> {
  ^bb0(%n: index, %p: index, %q: index, %k: index):
    %z = graph.literal 0.0 : f32 : f32
    %v = graph.load %s[affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>](%n, %p, %q, %k) : tensor<$nx$Hx$Wx$kxf32> -> f32
    %u = graph.load %b[affine_map<(d0, d1, d2, d3) -> ($M)>](%n, %p, %q, %k) : $B -> f32
    %t = graph.apply add(%v, %u) : (f32, f32) -> f32
    %r = graph.apply max(%t, %z) : (f32, f32) -> f32
    graph.yield %r : f32
  }
  graph.return %y : tensor<$nx$Hx$Wx$kxf32>
}
)";
  std::string guards;
  for (int axis : {0, 1}) {
    if (!pad[axis])
      continue;
    std::string at = axis ? "d2 + d5" : "d1 + d4";
    guards += (guards.empty() ? "" : ", ") + at + " - " +
              std::to_string(pad[axis]) + " >= 0, " +
              std::to_string((axis ? columns : rows) - 1 + pad[axis]) + " - (" +
              at + ") >= 0";
  }
  if (!guards.empty())
    guards = "guard affine_set<(d0, d1, d2, d3, d4, d5, d6) : (" + guards +
             ")> else %z : f32";
  for (auto &[name, value] : std::vector<std::pair<std::string, std::string>>{
           {"$G", guards},
           {"$B", hasResidual ? "tensor<$nx$Hx$Wx$kxf32>" : "tensor<$kxf32>"},
           {"$M", hasResidual ? "d0, d1, d2, d3" : "d3"},
           {"$n", std::to_string(images)},
           {"$h", std::to_string(rows)},
           {"$w", std::to_string(columns)},
           {"$H", std::to_string(outputs(0))},
           {"$W", std::to_string(outputs(1))},
           {"$c", std::to_string(channels)},
           {"$k", std::to_string(filters)},
           {"$p", std::to_string(pad[0])},
           {"$q", std::to_string(pad[1])}})
    for (size_t i; (i = result.find(name)) != std::string::npos;)
      result.replace(i, name.size(), value);
  return result;
}

Conv WinogradTest::randomConv() {
  Conv conv;
  conv.images = pick({1, 1, 1, 2, 3});
  conv.channels =
      std::max<int64_t>(2, pick({4, 8, 16, 32, 48}) + int64_t(below(4)) - 1);
  conv.filters = std::max<int64_t>(2, pick({4, 8, 16, 32, 64, 80}) +
                                          int64_t(below(4)) - 1);
  for (int axis : {0, 1})
    conv.pad[axis] = pick({0, 1, 1, 1, 2});
  conv.hasResidual = below(2);
  conv.rows = 4 + int64_t(below(17));
  conv.columns = 4 + int64_t(below(17));
  conv.tile = pick({2, 4});
  return conv;
}

double WinogradTest::run(const Conv &conv, const WinogradClaim *lie,
                         const std::string &targetText) {
  auto parsed = parseSourceString<ModuleOp>(conv.text(), &context);
  EXPECT_TRUE(parsed) << conv.text();
  if (!parsed)
    return -1;
  auto kernel = *(*parsed).getOps<graph::KernelOp>().begin();
  std::string reason;
  auto form = classifyWinograd(kernel, reason);
  EXPECT_TRUE(succeeded(form)) << reason;
  if (failed(form))
    return -1;
  WinogradClaim claim = lie ? *lie : WinogradClaim::get(conv.tile);
  std::copy(form->pixels, form->pixels + 2, claim.pixels);
  std::copy(form->taps, form->taps + 2, claim.taps);
  if (!lie)
    std::copy(form->offset, form->offset + 2, claim.offset);
  EXPECT_EQ(form->offset[0], -conv.pad[0]);
  EXPECT_EQ(form->offset[1], -conv.pad[1]);
  kernel->setAttr(WinogradClaim::kAttr, claim.toAttr(&context));
  OpCase c;
  SmallVector<Tensor> inputs;
  for (Type type : kernel.getArgumentTypes()) {
    auto tensor = cast<RankedTensorType>(type);
    inputs.push_back(random(tensor.getElementType(), tensor.getShape(), c));
  }
  auto expected = interp::Interpreter().runKernel(kernel, inputs, {});
  EXPECT_TRUE(succeeded(expected));
  auto target = llvm::cantFail(parseCpuTarget(targetText));
  CpuCodegenOptions options;
  options.symbol = "k";
  options.constantOperands = {false, true, false};
  options.reusableOperands = {true, false, true};
  auto code = emitWinograd(kernel, target, options, reason);
  EXPECT_TRUE(succeeded(code)) << reason;
  if (failed(code) || failed(expected))
    return -1;
  // The image is read by other tiles, the residual only where it is added.
  graph::InPlacePair pair{2, 0};
  EXPECT_EQ(llvm::is_contained(code->inPlace, pair), conv.hasResidual);
  EXPECT_EQ(code->inPlace.size(), size_t(conv.hasResidual));
  EXPECT_EQ(bool(check::admitInPlace(kernel, code->order, pair)),
            conv.hasResidual);
  EXPECT_FALSE(bool(check::admitInPlace(kernel, code->order, {0, 0})));
  EXPECT_EQ(code->packings.size(), 1u);
  std::vector<char> packed(code->packings[0].bytes);
  code->packings[0].pack(
      {inputs[1].getBytes(), size_t(inputs[1].getNumBytes())}, packed);
  std::string error;
  auto loaded = LoadedKernel::load(*code, target, error);
  EXPECT_TRUE(loaded) << error;
  if (!loaded)
    return -1;
  double worst = 0;
  for (bool atEnd : {true, false}) {
    PageBuffer x(inputs[0].getBytes(), inputs[0].getNumBytes(), atEnd),
        u(packed.data(), packed.size(), atEnd),
        b(inputs[2].getBytes(), inputs[2].getNumBytes(), atEnd);
    const Tensor &y = (*expected)[0];
    GuardedBuffer result(y.getNumBytes());
    bool inPlace = conv.hasResidual && atEnd;
    if (inPlace)
      std::memcpy(result.data(), inputs[2].getBytes(), y.getNumBytes());
    loaded->runsBackwards = inPlace;
    EXPECT_EQ(loaded->run({x.data(), u.data(),
                           inPlace ? result.data() : b.data(), result.data()},
                          {}),
              0);
    EXPECT_TRUE(result.intact()) << "wrote outside of the result";
    EXPECT_TRUE(loaded->scratchIntact()) << "wrote outside of the scratch";
    // Numbers lie in [-2, 2); the interpreter rounds too, 9 C terms.
    double unit = 0x1p-24 * double(conv.channels) * 4;
    double bound = unit * (claim.errorFactor(conv.channels) +
                           9.0 * 9.0 * double(conv.channels));
    const auto *want = reinterpret_cast<const float *>(y.getBytes());
    for (int64_t i = 0; i < y.getNumElements(); ++i) {
      double got = result.as<float>()[i];
      double distance = std::abs(got - double(want[i])) / bound;
      worst = std::max(worst, std::isnan(distance) ? 1e30 : distance);
    }
  }
  return worst;
}

// 30; DLC_TEST_FIRST and DLC_TEST_COUNT choose others.
TEST_F(WinogradTest, SeededConvolutions) {
  Seeds seeds(30);
  std::vector<std::string> targets = runnableTargets();
  for (unsigned seed = seeds.first; seed < seeds.end && !HasFailure(); ++seed) {
    generator.seed(9000 + seed);
    Conv conv = randomConv();
    std::string target =
        below(2) ? targets.back() : targets[below(targets.size())];
    SCOPED_TRACE("seed " + std::to_string(seed) + " on " + target + ", tile " +
                 std::to_string(conv.tile) + conv.text());
    double error = run(conv, nullptr, target);
    EXPECT_GE(error, 0);
    EXPECT_LE(error, 1) << "beyond the bound";
  }
}

// Rounding as it comes out is far below the bound; a wrong entry is far above.
TEST_F(WinogradTest, TheClaimIsWhatIsEmitted) {
  Conv conv{1, 14, 13, 32, 32, {1, 1}, 4};
  std::string target = runnableTargets().back();
  EXPECT_LE(run(conv, nullptr, target), 0.01);
  WinogradClaim lie = WinogradClaim::get(4);
  lie.offset[0] = lie.offset[1] = -1;
  EXPECT_LE(run(conv, &lie, target), 0.01);
  lie.offset[0] = 0;
  EXPECT_GT(run(conv, &lie, target), 1);
  lie.offset[0] = -1;
  lie.output[23] = 0;
  EXPECT_GT(run(conv, &lie, target), 1);
}

TEST_F(WinogradTest, Declines) {
  auto reasonOf = [&](const std::string &from, const std::string &to) {
    std::string text = Conv{1, 8, 8, 16, 16, {1, 1}, 4}.text();
    size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    auto parsed = parseSourceString<ModuleOp>(text, &context);
    EXPECT_TRUE(parsed) << text;
    std::string reason;
    if (parsed)
      EXPECT_TRUE(failed(classifyWinograd(
          *(*parsed).getOps<graph::KernelOp>().begin(), reason)));
    return reason;
  };
  EXPECT_NE(reasonOf("d1 + d4 - 1, d2", "d1 + 2 * d4 - 1, d2"), "");
  EXPECT_NE(reasonOf("8 - (d1", "7 - (d1"), "");
}
} // namespace
