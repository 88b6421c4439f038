// What is computed from the sums of a product, in the tiles' registers and in a
// loop over stored tiles: seeded sizes around tiles and vectors, biases along
// either axis, residuals, clamps, scales, several results and element types,
// passes over k, special numbers; both equal to the interpreter (in strict mode
// bit by bit), between guard bytes and in the place of a residual.
#include "NestTest.h"

#include "dlc/Codegen/CPU/ContractionNest.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/Parser/Parser.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::test;
using interp::Tensor;

namespace {
class EpilogueTest : public NestTest {
protected:
  uint64_t below(uint64_t bound) { return generator() % bound; }
  template <typename T>
  T pick(std::initializer_list<T> list) {
    return list.begin()[below(list.size())];
  }
  graph::KernelOp parse(const std::string &text) {
    module = parseSourceString<ModuleOp>(text, &context);
    EXPECT_TRUE(module) << text;
    return *module->getOps<graph::KernelOp>().begin();
  }
  void setSchedule(graph::KernelOp kernel, const std::string &knobs) {
    kernel.setScheduleAttr(
        cast<DictionaryAttr>(parseAttribute("{" + knobs + "}", &context)));
  }
  /// Whether the kernel's code has a loop over stored tiles.
  bool hasLoop(graph::KernelOp kernel) {
    CpuCodegenOptions options;
    options.symbol = "k";
    auto target = llvm::cantFail(parseCpuTarget("x86:cpu=x86-64-v4"));
    std::string reason;
    auto code = emitContraction(kernel, target, options, reason);
    EXPECT_TRUE(succeeded(code)) << reason;
    return succeeded(code) && code->module->lookupSymbol("k.epilogue");
  }
  void checkSampled(unsigned seed);
  size_t numInTiles = 0;
};

std::string shape(ArrayRef<int64_t> sizes, StringRef element) {
  std::string text = "tensor<";
  for (int64_t n : sizes)
    text += std::to_string(n) + "x";
  return text + element.str() + ">";
}

/// A product of [m, k] and [k, n], and `steps` on its elements: b (bias of
/// columns), c (of rows), r (residual), m (maximum with zero), n (minimum with
/// a number), s (scale), t (tanh). The sum is a result
/// too where `keepsSum`.
std::string product(int64_t m, int64_t n, int64_t k, const std::string &steps,
                    const std::string &type, bool keepsSum,
                    const std::string &stored = "f32") {
  std::string arguments, body;
  int number = 0;
  for (char step : steps) {
    std::string x = number ? "%v" + std::to_string(number - 1) : "%x",
                y = "%y" + std::to_string(number),
                v = "%v" + std::to_string(number), fn;
    std::string from = "%o" + std::to_string(number);
    auto load = [&](const std::string &tensor, const std::string &map,
                    const std::string &element) {
      arguments += ", " + from + ": " + tensor;
      std::string loaded = element == "f32" ? y : y + "s";
      body += "    " + loaded + " = graph.load " + from + "[affine_map<" + map +
              ">](%i, %j) : " + tensor + " -> " + element + "\n";
      if (element != "f32")
        body += "    " + y + " = graph.scalar_cast " + loaded + " : " +
                element + " -> f32\n";
    };
    auto literal = [&](const std::string &value) {
      body += "    " + y + " = graph.literal " + value + " : f32 : f32\n";
    };
    switch (step) {
    case 'b':
      load(shape({n}, "f32"), "(d0, d1) -> (d1)", "f32");
      fn = "add";
      break;
    case 'c':
      load(shape({m, 1}, "f32"), "(d0, d1) -> (d0, 0)", "f32");
      fn = "mul";
      break;
    case 'r':
      load(shape({m, n}, type), "(d0, d1) -> (d0, d1)", type);
      fn = "add";
      break;
    case 'm':
      literal("0.0");
      fn = "max";
      break;
    case 'n':
      literal("0.75");
      fn = "min";
      break;
    case 's':
      literal("-1.5");
      fn = "mul";
      break;
    case 't':
      body += "    " + v + " = graph.apply tanh(" + x + ") : (f32) -> f32\n";
      break;
    }
    if (!fn.empty())
      body += "    " + v + " = graph.apply " + fn + "(" + x + ", " + y +
              ") : (f32, f32) -> f32\n";
    ++number;
  }
  std::string last = "%v" + std::to_string(number - 1);
  if (stored != "f32") {
    body += "    %z = graph.scalar_cast " + last + " : f32 -> " + stored + "\n";
    last = "%z";
  }
  std::string S = shape({m, n}, "f32"), R = shape({m, n}, stored);
  return "graph.kernel @k(%a: " + shape({m, k}, "f32") +
         ", %w: " + shape({k, n}, "f32") + arguments + ") -> (" + R +
         (keepsSum ? ", " + S : "") +
         ") attributes {symbols = []} {\n"
         "  %s = graph.stage domain<" +
         std::to_string(m) + ", " + std::to_string(n) + "> reduce<" +
         std::to_string(k) + "> fold add : " + S +
         " {\n"
         "  ^bb0(%i: index, %j: index, %l: index):\n"
         "    %x = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, "
         "%l) : " +
         shape({m, k}, "f32") +
         " -> f32\n"
         "    %y = graph.load %w[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, "
         "%l) : " +
         shape({k, n}, "f32") +
         " -> f32\n"
         "    %p = graph.apply mul(%x, %y) : (f32, f32) -> f32\n"
         "    graph.yield %p : f32\n  }\n"
         "  %t = graph.stage domain<" +
         std::to_string(m) + ", " + std::to_string(n) + "> : " + R +
         " {\n"
         "  ^bb0(%i: index, %j: index):\n"
         "    %x = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : " +
         S + " -> f32\n" + body + "    graph.yield " + last + " : " + stored +
         "\n  }\n  graph.return %t" + (keepsSum ? ", %s" : "") + " : " + R +
         (keepsSum ? ", " + S : "") + "\n}\n";
}

// Short ones are computed in registers, long ones in a loop.
TEST_F(EpilogueTest, WhereItIsComputed) {
  auto isInLoop = [&](const std::string &steps, const std::string &knobs = "") {
    graph::KernelOp kernel =
        parse(product(30, 70, 40, steps, "f32", /*keepsSum=*/false));
    setSchedule(kernel, knobs);
    return hasLoop(kernel);
  };
  for (const char *steps : {"b", "m", "br", "bm", "brm", "smn", "c"})
    EXPECT_FALSE(isInLoop(steps)) << steps;
  for (const char *steps : {"t", "bt", "bsrmn"})
    EXPECT_TRUE(isInLoop(steps)) << steps;
  EXPECT_TRUE(isInLoop("b", "epilogue_in_tiles = 0 : i64"));
  EXPECT_FALSE(isInLoop("b", "depth_per_pass = 16 : i64"));
  // One that is too long is refused in words.
  graph::KernelOp kernel =
      parse(product(30, 70, 40, "t", "f32", /*keepsSum=*/false));
  setSchedule(kernel, "epilogue_in_tiles = 1 : i64");
  CpuCodegenOptions options;
  options.symbol = "k";
  std::string reason;
  EXPECT_TRUE(failed(emitContraction(
      kernel, llvm::cantFail(parseCpuTarget("x86:cpu=x86-64-v4")), options,
      reason)));
  EXPECT_EQ(reason, "what comes after the sum is not computed in registers");
}

void EpilogueTest::checkSampled(unsigned seed) {
  auto around = [&](std::initializer_list<int64_t> sizes) {
    return std::max<int64_t>(1, pick(sizes) + int64_t(below(5)) - 2);
  };
  int64_t m = around({1, 6, 14, 29, 60}), n = around({16, 32, 48, 100}),
          k = around({1, 16, 33, 70});
  std::string steps;
  for (uint64_t i = 0, many = 1 + below(3); i < many; ++i)
    steps += pick({'b', 'c', 'r', 'm', 'n', 's'});
  std::string type = pick({"f32", "f32", "bf16", "f16"});
  std::string text = product(m, n, k, steps, type, below(4) == 0,
                             pick({"f32", "f32", "f32", "bf16"}));
  graph::KernelOp kernel = parse(text);
  OpCase c;
  c.op = "k";
  c.tolerance = 1e-5;
  SmallVector<Tensor> inputs;
  for (auto [i, operand] : llvm::enumerate(kernel.getArgumentTypes())) {
    auto tensor = cast<RankedTensorType>(operand);
    // Sums of NaN and infinities are free in their order.
    c.specials = i >= 2 && seed % 2;
    inputs.push_back(random(tensor.getElementType(), tensor.getShape(), c));
  }
  auto expected = interp::Interpreter().runKernel(kernel, inputs, {});
  ASSERT_TRUE(succeeded(expected)) << text;
  std::vector<std::string> targets = runnableTargets();
  NestVariant variant;
  variant.target = below(2) ? targets.back() : targets[below(targets.size())];
  variant.strict = below(3) == 0;
  variant.nest = "contraction";
  std::string knobs = below(2) ? "depth_per_pass = 16 : i64, " : "";
  std::string reason;
  auto spec = classifyContraction(kernel, reason);
  ASSERT_TRUE(succeeded(spec)) << reason;
  for (int inTiles = 0; inTiles <= isShortEpilogue(*spec); ++inTiles) {
    numInTiles += inTiles;
    setSchedule(kernel, knobs + "epilogue_in_tiles = " +
                            std::to_string(inTiles) + " : i64");
    SCOPED_TRACE("seed " + std::to_string(seed) + " " + knobs +
                 std::to_string(inTiles) + "\n" + text);
    checkVariant(kernel, c, inputs, *expected, variant);
  }
}

// 40 of them; DLC_TEST_FIRST and DLC_TEST_COUNT choose others.
TEST_F(EpilogueTest, Seeded) {
  Seeds seeds(40);
  for (unsigned seed = seeds.first; seed < seeds.end && !HasFailure(); ++seed) {
    generator.seed(11000 + seed);
    checkSampled(seed);
  }
  EXPECT_GT(numInPlace, seeds.count / 8);
  EXPECT_GT(numInTiles, seeds.count / 2);
}
} // namespace
