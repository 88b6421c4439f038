// Seeded schedules of the loop nests: windows (depthwise convolutions, pools,
// small products) in both layouts and reductions along rows, of sizes around
// the vector widths, with strides, dilations and pads, each under a schedule
// drawn from the nest's own space; equal to the interpreter, between guard
// bytes.
#include "NestTest.h"

#include "dlc/Codegen/CPU/LoopKnobs.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/Parser/Parser.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::test;
using interp::Tensor;

namespace {
class ScheduleTest : public NestTest {
protected:
  int64_t pick(std::initializer_list<int64_t> list) {
    return list.begin()[below(list.size())];
  }
  uint64_t below(uint64_t bound) { return generator() % bound; }
  /// A size around a vector of 4, 8 or 16 elements, or a few of them.
  int64_t sizeAroundVectors() {
    return std::max<int64_t>(1, pick({1, 4, 8, 16, 32, 48}) +
                                    int64_t(below(4)) - 1);
  }
  std::string window();
  std::string rows();
  std::string groups();
  /// Emits under a sampled schedule and compares.
  void checkSampled(const std::string &text, unsigned seed);
};

std::string shape(ArrayRef<int64_t> sizes, StringRef element) {
  std::string text = "tensor<";
  for (int64_t n : sizes)
    text += std::to_string(n) + "x";
  return text + element.str() + ">";
}

struct Axis {
  int64_t image, taps, stride, dilation, pad, outputs;
};

/// A fold over a window of an image, with weights by channel or without, bias
/// and a clamp after it.
std::string ScheduleTest::window() {
  Axis axes[2];
  for (Axis &a : axes) {
    a.taps = pick({1, 2, 3, 3, 5});
    a.stride = pick({1, 1, 2, 3});
    a.dilation = pick({1, 1, 2});
    a.pad = int64_t(below(4));
    int64_t reach = (a.taps - 1) * a.dilation + 1;
    a.image = std::max<int64_t>(sizeAroundVectors(), 1);
    a.image = std::max(a.image, reach - 2 * a.pad);
    a.outputs = (a.image + 2 * a.pad - reach) / a.stride + 1;
  }
  int64_t channels = sizeAroundVectors(), images = pick({1, 1, 2});
  bool isLast = below(2), isWeighted = below(3) != 0;
  const char *fold = isWeighted ? "add" : pick({0, 1}) ? "max" : "add";
  bool isMax = fold[0] == 'm';
  std::string e = pick({0, 0, 0, 1}) ? "f64" : "f32";
  auto order = [&](int64_t c, int64_t h, int64_t w) -> SmallVector<int64_t> {
    if (isLast)
      return {images, h, w, c};
    return {images, c, h, w};
  };
  std::string x = shape(order(channels, axes[0].image, axes[1].image), e),
              y = shape(order(channels, axes[0].outputs, axes[1].outputs), e),
              k = isLast ? shape({axes[0].taps, axes[1].taps, channels}, e)
                         : shape({channels, axes[0].taps, axes[1].taps}, e),
              bias = shape({channels}, e);
  // d0 .. d3 the result, d4 and d5 the taps.
  int c = isLast ? 3 : 1, h = isLast ? 1 : 2, w = h + 1;
  auto place = [&](int d, int tap, const Axis &a) {
    return llvm::formatv("d{0} * {1} + d{2} * {3} - {4}", d, a.stride, tap,
                         a.dilation, a.pad)
        .str();
  };
  std::string at[2] = {place(h, 4, axes[0]), place(w, 5, axes[1])};
  std::string indices = isLast ? "(d0, " + at[0] + ", " + at[1] + ", d3)"
                               : "(d0, d1, " + at[0] + ", " + at[1] + ")";
  std::string guard;
  for (int i : {0, 1})
    guard += llvm::formatv("{0}{1} >= 0, {2} - ({1}) >= 0", i ? ", " : "",
                           at[i], axes[i].image - 1);
  std::string domain = y.substr(7, y.size() - 8 - e.size() - 1);
  std::replace(domain.begin(), domain.end(), 'x', ',');
  std::string text = R"(
graph.kernel @window(%x: $X, %k: $K, %b: $B) -> $Y attributes {symbols = []} {
  %s = graph.stage domain<$D> reduce<$h, $w> fold $F : $Y {
  ^bb0(%n: index, %p: index, %q: index, %r: index, %i: index, %j: index):
    %z = graph.literal $Z : $E : $E
    %v = graph.load %x[affine_map<(d0, d1, d2, d3, d4, d5) -> $I>](%n, %p, %q, %r, %i, %j) guard affine_set<(d0, d1, d2, d3, d4, d5) : ($G)> else %z : $E : $X -> $E
    $P
    graph.yield $Q : $E
  }
  %t = graph.stage domain<$D> : $Y {
  ^bb0(%n: index, %p: index, %q: index, %r: index):
    %v = graph.load %s[affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>](%n, %p, %q, %r) : $Y -> $E
    %u = graph.load %b[affine_map<(d0, d1, d2, d3) -> ($C)>](%n, %p, %q, %r) : $B -> $E
    %a = graph.apply add(%v, %u) : ($E, $E) -> $E
    %z = graph.literal 0.0 : $E : $E
    %m = graph.apply max(%a, %z) : ($E, $E) -> $E
    graph.yield %m : $E
  }
  graph.return %t : $Y
}
)";
  std::string product =
      isWeighted
          ? "%l = graph.load %k[affine_map<(d0, d1, d2, d3, d4, d5) -> " +
                std::string(isLast ? "(d4, d5, d3)" : "(d1, d4, d5)") +
                ">](%n, %p, %q, %r, %i, %j) : $K -> $E\n    %m = graph.apply "
                "mul(%v, %l) : ($E, $E) -> $E"
          : "";
  for (auto &[name, value] : std::vector<std::pair<std::string, std::string>>{
           {"$P", product},
           {"$Q", isWeighted ? "%m" : "%v"},
           {"$X", x},
           {"$Y", y},
           {"$K", k},
           {"$B", bias},
           {"$D", domain},
           {"$h", std::to_string(axes[0].taps)},
           {"$w", std::to_string(axes[1].taps)},
           {"$F", fold},
           {"$Z",
            isMax ? (e == "f32" ? "0xFF800000" : "0xFFF0000000000000") : "0.0"},
           {"$I", indices},
           {"$G", guard},
           {"$C", "d" + std::to_string(c)},
           {"$E", e}})
    for (size_t i; (i = text.find(name)) != std::string::npos;)
      text.replace(i, name.size(), value);
  return text;
}

/// Softmax or a norm along the last axis, or a reduction of a middle one.
std::string ScheduleTest::rows() {
  int64_t outer = pick({1, 3, 9, 17}),
          inner = sizeAroundVectors() * pick({1, 5});
  std::string x = shape({outer, inner}, "f32"), r = shape({outer, 1}, "f32");
  std::string text = R"(
graph.kernel @rows(%x: $X, %g: $W) -> ($X, $R) attributes {rows = 1 : i64, symbols = []} {
  %m = graph.stage domain<$o, 1> reduce<$i> fold max : $R {
  ^bb0(%p: index, %q: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d2)>](%p, %q, %k) : $X -> f32
    graph.yield %v : f32
  }
  %e = graph.stage domain<$o, $i> : $X {
  ^bb0(%p: index, %q: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%p, %q) : $X -> f32
    %u = graph.load %m[affine_map<(d0, d1) -> (d0, 0)>](%p, %q) : $R -> f32
    %s = graph.apply sub(%v, %u) : (f32, f32) -> f32
    %t = graph.apply $f(%s) : (f32) -> f32
    graph.yield %t : f32
  }
  %s = graph.stage domain<$o, 1> reduce<$i> fold add : $R {
  ^bb0(%p: index, %q: index, %k: index):
    %v = graph.load %e[affine_map<(d0, d1, d2) -> (d0, d2)>](%p, %q, %k) : $X -> f32
    graph.yield %v : f32
  }
  %y = graph.stage domain<$o, $i> : $X {
  ^bb0(%p: index, %q: index):
    %v = graph.load %e[affine_map<(d0, d1) -> (d0, d1)>](%p, %q) : $X -> f32
    %u = graph.load %s[affine_map<(d0, d1) -> (d0, 0)>](%p, %q) : $R -> f32
    %w = graph.load %g[affine_map<(d0, d1) -> (d1)>](%p, %q) : $W -> f32
    %t = graph.apply div(%v, %u) : (f32, f32) -> f32
    %a = graph.apply mul(%t, %w) : (f32, f32) -> f32
    graph.yield %a : f32
  }
  graph.return %y, %m : $X, $R
}
)";
  for (auto &[name, value] : std::vector<std::pair<std::string, std::string>>{
           {"$X", x},
           {"$R", r},
           {"$W", shape({inner}, "f32")},
           {"$o", std::to_string(outer)},
           {"$i", std::to_string(inner)},
           {"$f", pick({0, 1}) ? "exp" : "abs"}})
    for (size_t i; (i = text.find(name)) != std::string::npos;)
      text.replace(i, name.size(), value);
  return text;
}

/// A fold over the first axis, of channels in groups that share a scale: an
/// axis that is read whole, by its quotient and by its remainder.
std::string ScheduleTest::groups() {
  int64_t outer = pick({1, 2, 3, 17}), count = pick({2, 3, 7}),
          size = pick({2, 3, 4, 5}), inner = sizeAroundVectors();
  std::string text = R"(
graph.kernel @groups(%x: $X, %s: $S, %g: $G) -> $Y attributes {symbols = []} {
  %y = graph.stage domain<$c, $i> reduce<$o> fold $f : $Y {
  ^bb0(%p: index, %q: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d2, d0 floordiv $n, d0 mod $n, d1)>](%p, %q, %k) : $X -> f32
    %w = graph.load %s[affine_map<(d0, d1, d2) -> (d2, d0 floordiv $n)>](%p, %q, %k) : $S -> f32
    %u = graph.load %g[affine_map<(d0, d1, d2) -> (d0)>](%p, %q, %k) : $G -> f32
    %a = graph.apply mul(%v, %w) : (f32, f32) -> f32
    %b = graph.apply mul(%a, %u) : (f32, f32) -> f32
    graph.yield %b : f32
  }
  graph.return %y : $Y
}
)";
  for (auto &[name, value] : std::vector<std::pair<std::string, std::string>>{
           {"$X", shape({outer, count, size, inner}, "f32")},
           {"$S", shape({outer, count}, "f32")},
           {"$G", shape({count * size}, "f32")},
           {"$Y", shape({count * size, inner}, "f32")},
           {"$c", std::to_string(count * size)},
           {"$i", std::to_string(inner)},
           {"$o", std::to_string(outer)},
           {"$n", std::to_string(size)},
           {"$f", pick({0, 1}) ? "add" : "max"}})
    for (size_t i; (i = text.find(name)) != std::string::npos;)
      text.replace(i, name.size(), value);
  return text;
}

void ScheduleTest::checkSampled(const std::string &text, unsigned seed) {
  auto parsed = parseSourceString<ModuleOp>(text, &context);
  ASSERT_TRUE(parsed) << text;
  auto kernel = *(*parsed).getOps<graph::KernelOp>().begin();
  OpCase c;
  c.op = kernel.getSymName().str();
  c.tolerance = 1e-5;
  SmallVector<Tensor> inputs;
  for (Type type : kernel.getArgumentTypes()) {
    auto tensor = cast<RankedTensorType>(type);
    inputs.push_back(random(tensor.getElementType(), tensor.getShape(), c));
  }
  auto expected = interp::Interpreter().runKernel(kernel, inputs, {});
  ASSERT_TRUE(succeeded(expected)) << text;
  std::vector<std::string> targets = runnableTargets();
  // The widest vectors half of the time.
  NestVariant variant;
  variant.target = below(2) ? targets.back() : targets[below(targets.size())];
  variant.strict = below(4) == 0;
  // The interpreter has the C library's exp here.
  exactWhenStrict = text.find(" exp(") == std::string::npos;
  ScheduleSpace space =
      loopSpace(kernel, llvm::cantFail(parseCpuTarget(variant.target)));
  ScheduleSpace::Random random(seed);
  KnobValues point = space.defaults;
  if (seed % 5) // every fifth: what the compiler does by itself
    point = space.sample(random).value_or(space.defaults);
  std::string knobs;
  for (auto &[name, value] : point)
    knobs += (knobs.empty() ? "" : ", ") + name + " = " +
             std::to_string(value) + " : i64";
  kernel.setScheduleAttr(
      cast<DictionaryAttr>(parseAttribute("{" + knobs + "}", &context)));
  variant.schedule = LoopSchedule::get(kernel);
  SCOPED_TRACE("seed " + std::to_string(seed) + " {" + knobs + "}\n" + text);
  checkVariant(kernel, c, inputs, *expected, variant);
}

// 30 of each; DLC_TEST_FIRST and DLC_TEST_COUNT choose others.
TEST_F(ScheduleTest, SeededSchedules) {
  Seeds seeds(30);
  for (unsigned seed = seeds.first; seed < seeds.end && !HasFailure(); ++seed) {
    generator.seed(7000 + seed);
    checkSampled(window(), seed);
    checkSampled(rows(), seed);
    checkSampled(groups(), seed);
  }
  EXPECT_GT(numInPlace, seeds.count / 4);
}
} // namespace
