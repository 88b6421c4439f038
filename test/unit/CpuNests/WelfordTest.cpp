// A sum and the sum of squares about its mean in one pass (law hom(welford)):
// beside the interpreter around vectors and blocks, and beside float64 where a
// raw sum of squares loses the variance.
#include "NestTest.h"

#include "mlir/IR/AsmState.h"

#include <cmath>

using namespace mlir;
using namespace dlc;
using namespace dlc::test;
using interp::Tensor;

namespace {
/// What a test changes of a kernel over rows of one or two folded axes.
struct Rows {
  int64_t rows = 3;
  std::vector<int64_t> folded{100};
  bool isSymbolic = false; ///< the folded extents and the count
  bool isNorm = false;     ///< also (x - mean) * rsqrt(squares / n + eps)
  bool readsTwo = false;   ///< the row is of x * y
  std::string element = "f32";

  int64_t length() const {
    int64_t n = 1;
    for (int64_t f : folded)
      n *= f;
    return n;
  }
};

std::string replaceAll(std::string text,
                       std::vector<std::pair<std::string, std::string>> by) {
  for (auto &[from, to] : by)
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos;
         at += to.size())
      text.replace(at, from.size(), to);
  return text;
}

std::string kernel(const Rows &r) {
  std::string sizes, axes, dims, maps, extents = "[" + std::to_string(r.rows);
  for (size_t i = 0; i < r.folded.size(); ++i) {
    std::string comma = i ? ", " : "";
    std::string size =
        r.isSymbolic ? "s" + std::to_string(i) : std::to_string(r.folded[i]);
    sizes += r.isSymbolic ? "x?" : "x" + size;
    axes += comma + size;
    dims += ", %k" + std::to_string(i);
    maps += ", d" + std::to_string(i + 1);
  }
  std::string rows = std::to_string(r.rows);
  std::string big =
      "tensor<" + rows + sizes + "xE" +
      (r.isSymbolic ? ", #graph.dims<" + rows + ", " + axes + ">" : "") + ">";
  std::string symbols, brackets;
  if (r.isSymbolic) {
    symbols = r.folded.size() == 1 ? "\"a\"" : "\"a\", \"b\"";
    brackets = r.folded.size() == 1 ? "[s0]" : "[s0, s1]";
  }
  std::string args, point = "%i" + dims;
  for (size_t i = 0; i < r.folded.size(); ++i)
    args += ", %k" + std::to_string(i) + ": index";
  std::string map = "(d0" + maps + ")" + brackets + " -> ";
  std::string row = "tensor<" + rows + "xE>";
  std::string element =
      "%v = graph.load %x[affine_map<" + map + "(d0" + maps + ")>](" + point +
      ") : BIG -> E\n" +
      (r.readsTwo ? "%w = graph.load %y[affine_map<" + map + "(d0" + maps +
                        ")>](" + point +
                        ") : BIG -> E\n%e = graph.apply mul(%v, %w) : (E, E) "
                        "-> E\n"
                  : "%l1 = graph.literal 1.0 : E : E\n%e = graph.apply mul(%v, "
                    "%l1) : (E, E) -> E\n");
  std::string count =
      r.isSymbolic
          ? "%n = graph.load %ones[affine_map<" + map + "(0)>](" + point +
                ") : tensor<1xE> -> E\n"
          : "%n = graph.literal " + std::to_string(r.length()) + ".0 : E : E\n";
  std::string mean = "%s0 = graph.load %s[affine_map<" + map + "(d0)>](" +
                     point + ") : ROW -> E\n" + count +
                     "%u = graph.apply div(%s0, %n) : (E, E) -> E\n"
                     "%c = graph.apply sub(%e, %u) : (E, E) -> E\n";
  std::string text = "graph.kernel @moments(%x: BIG, %y: BIG) -> (" +
                     std::string(r.isNorm ? "BIG" : "ROW, ROW") +
                     ") attributes {symbols = [" + symbols + "]} {\n";
  if (r.isSymbolic)
    text += "%ones = graph.stage domain<1> reduce<" +
            (r.folded.size() == 1 ? std::string("s0") : "s0 * s1") +
            "> fold add : tensor<1xE> {\n^bb0(%i: index, %k: index):\n%l = "
            "graph.literal 1.0 : E : E\ngraph.yield %l : E\n}\n";
  text += "%s = graph.stage domain<" + rows + "> reduce<" + axes +
          "> fold add : ROW {\n^bb0(%i: index" + args + "):\n" + element +
          "graph.yield %e : E\n}\n";
  text += "%q = graph.stage domain<" + rows + "> reduce<" + axes +
          "> fold add : ROW {\n^bb0(%i: index" + args + "):\n" + element +
          mean +
          "%r = graph.apply mul(%c, %c) : (E, E) -> E\ngraph.yield %r : "
          "E\n}\n";
  if (r.isNorm) {
    text += "%o = graph.stage domain<" + rows + ", " + axes +
            "> : BIG {\n^bb0(%i: index" + args + "):\n" + element + mean +
            "%q0 = graph.load %q[affine_map<" + map + "(d0)>](" + point +
            ") : ROW -> E\n%m = graph.apply div(%q0, %n) : (E, E) -> E\n"
            "%eps = graph.literal 1.0e-5 : E : E\n"
            "%a = graph.apply add(%m, %eps) : (E, E) -> E\n"
            "%z = graph.apply rsqrt(%a) : (E) -> E\n"
            "%r = graph.apply mul(%c, %z) : (E, E) -> E\ngraph.yield %r : "
            "E\n}\ngraph.return %o : BIG\n}\n";
  } else {
    text += "graph.return %s, %q : ROW, ROW\n}\n";
  }
  return replaceAll(text, {{"BIG", big}, {"ROW", row}, {"E", r.element}});
}

class WelfordTest : public NestTest {
protected:
  WelfordTest() { exactWhenStrict = false; }

  graph::KernelOp parse(const std::string &text) {
    module = parseSourceString<ModuleOp>(text, &context);
    EXPECT_TRUE(module) << text;
    return module ? *module->getOps<graph::KernelOp>().begin()
                  : graph::KernelOp();
  }
  static LoopSchedule merging() {
    LoopSchedule schedule;
    schedule.mergesMoments = true;
    return schedule;
  }
  /// Whether blocks are merged, which is the one thing done in float64 here.
  bool merges(graph::KernelOp op, LoopSchedule schedule, bool strict = false) {
    auto target = parseCpuTarget(runnableTargets().back());
    CpuCodegenOptions options;
    options.symbol = "k";
    options.strict = strict;
    auto code = emitLoopNest(op, *target, options, schedule);
    EXPECT_TRUE(succeeded(code));
    std::string text;
    llvm::raw_string_ostream os(text);
    (*code->module)->print(os);
    return text.find(": f64") != std::string::npos;
  }
  /// Beside the interpreter; `fill` changes what is random.
  void compare(const Rows &r,
               llvm::function_ref<void(float *, int64_t)> fill = nullptr,
               double tolerance = 1e-4) {
    graph::KernelOp op = parse(kernel(r));
    ASSERT_TRUE(op);
    SCOPED_TRACE(kernel(r));
    // Folds of a few steps have their lanes across the rows.
    if (r.element == "f32" && (r.isSymbolic || r.length() > 4))
      EXPECT_TRUE(merges(op, merging()));
    OpCase c;
    c.op = "moments";
    c.tolerance = tolerance;
    if (r.isSymbolic)
      c.symbols = r.folded;
    SmallVector<int64_t> shape{r.rows};
    llvm::append_range(shape, r.folded);
    SmallVector<Tensor> inputs;
    for (Type type : op.getArgumentTypes())
      inputs.push_back(
          random(cast<RankedTensorType>(type).getElementType(), shape, c));
    // Sums that do not cancel: the interpreter adds from left to right.
    if (r.element == "f32")
      for (Tensor &input : inputs)
        for (int64_t i = 0; i < input.getNumElements(); ++i)
          reinterpret_cast<float *>(input.getMutableBytes())[i] += 3;
    if (fill)
      fill(reinterpret_cast<float *>(inputs[0].getMutableBytes()), r.length());
    auto expected = interp::Interpreter().runKernel(op, inputs, c.symbols);
    ASSERT_TRUE(succeeded(expected));
    auto targets = runnableTargets();
    for (auto [i, target] : llvm::enumerate(targets))
      if (i + 1 == targets.size() || getenv("DLC_TEST_FULL") ||
          i == turn % targets.size())
        checkVariant(op, c, inputs, *expected, {target, merging(), false, ""});
    ++turn;
  }
  /// Sums and squares of `rows` rows of x, by the nest.
  std::vector<float> run(const Rows &r, ArrayRef<float> x) {
    graph::KernelOp op = parse(kernel(r));
    auto target = parseCpuTarget(runnableTargets().back());
    CpuCodegenOptions options;
    options.symbol = "k";
    auto code = emitLoopNest(op, *target, options, merging());
    std::string error;
    auto loaded = LoadedKernel::load(*code, *target, error);
    EXPECT_TRUE(loaded) << error;
    std::vector<float> input(x.begin(), x.end()), result(2 * r.rows);
    SmallVector<void *> pointers{input.data(), input.data(), result.data(),
                                 result.data() + r.rows};
    EXPECT_EQ(loaded->run(pointers, {}), 0);
    return result;
  }
  size_t turn = 0;
};

// A block has 4096 elements of float32.
TEST_F(WelfordTest, LengthsAroundVectorsAndBlocks) {
  for (int64_t n : {1, 7, 17, 64, 130, 4095, 4096, 4097, 8209}) {
    Rows r;
    r.folded = {n};
    compare(r);
  }
}

TEST_F(WelfordTest, Forms) {
  Rows r;
  r.folded = {9001};
  r.isNorm = true;
  compare(r);
  r.rows = 20; // rows in one phase
  compare(r);
  r.readsTwo = true;
  compare(r);
  r = {};
  r.folded = {3, 5000}; // walked as one axis
  compare(r);
  r = {};
  r.element = "f64";
  r.folded = {5000};
  compare(r);
}

TEST_F(WelfordTest, SymbolicLengths) {
  for (int64_t n : {0, 1, 33, 4096, 9000}) {
    Rows r;
    r.isSymbolic = true;
    r.folded = {n};
    compare(r);
    r.isNorm = true;
    compare(r);
  }
  for (auto [m, n] : {std::pair(1, 1), {3, 7}, {70, 130}}) {
    Rows r;
    r.isSymbolic = true;
    r.folded = {m, n};
    compare(r);
  }
}

TEST_F(WelfordTest, NotFinite) {
  Rows r;
  r.folded = {9001};
  for (auto [special, at] :
       {std::pair(NAN, 0), {INFINITY, 4095}, {-INFINITY, 4096}, {NAN, 9000}})
    compare(r, [&](float *x, int64_t n) { x[n + at] = special; });
  compare(r, [&](float *x, int64_t) {
    x[3] = INFINITY;
    x[5000] = -INFINITY;
  });
  // A sum beyond the range: the squares are infinite, not NaN.
  compare(r, [&](float *x, int64_t n) { std::fill(x, x + n, 1e38f); });
  // Squares beyond the range of a sum that is within it.
  compare(r, [&](float *x, int64_t n) {
    for (int64_t i = 0; i < n; ++i)
      x[i] = i % 2 ? 1e25f : 2e25f;
  });
}

TEST_F(WelfordTest, EqualElements) {
  Rows r;
  r.rows = 4;
  r.folded = {10000};
  std::vector<float> x;
  for (float value : {0.0f, 3.3f, -1e6f, 1e-30f})
    x.insert(x.end(), 10000, value);
  std::vector<float> result = run(r, x);
  for (int i = 0; i < 4; ++i) {
    double value = x[i * 10000], ulp = std::abs(value) * 0x1p-23;
    EXPECT_NEAR(result[i], value * 10000, std::abs(value) * 1e-2);
    EXPECT_LE(result[4 + i], 10000 * ulp * ulp * 100) << value;
    EXPECT_GE(result[4 + i], 0);
  }
}

// The variance beside a mean 10^4 times the deviation, which a raw sum of
// squares in the same precision does not see.
TEST_F(WelfordTest, LargeOffsetSmallVariance) {
  Rows r;
  r.rows = 1;
  r.folded = {200000};
  std::normal_distribution<double> noise(1e4, 1);
  std::vector<float> x(200000);
  for (float &value : x)
    value = float(noise(generator));
  double sum = 0, squares = 0, length = double(x.size());
  for (float value : x)
    sum += value;
  for (float value : x)
    squares += (value - sum / length) * (value - sum / length);
  std::vector<float> result = run(r, x);
  EXPECT_NEAR(result[0] / sum, 1, 1e-6);
  EXPECT_NEAR(result[1] / squares, 1, 1e-3);
  // The control: partial sums as the nests have them, of x and of x^2.
  float rawSum = 0, rawSquares = 0;
  for (size_t block = 0; block < x.size(); block += 64) {
    float s = 0, q = 0;
    for (size_t i = block; i < block + 64; ++i)
      s += x[i], q += x[i] * x[i];
    rawSum += s, rawSquares += q;
  }
  float raw = rawSquares - rawSum * rawSum / float(length);
  EXPECT_GT(std::abs(raw / squares - 1), 0.5);
}

// Drifting rows: blocks whose means are far apart.
TEST_F(WelfordTest, BlocksWithOtherMeans) {
  Rows r;
  r.folded = {40000};
  compare(
      r,
      [](float *x, int64_t n) {
        for (int64_t i = 0; i < 3 * n; ++i)
          x[i] = float(i % n) / 1000 + float(i % 7);
      },
      1e-4);
}

// The law holds, but the mean is that of another point's sum: two passes.
TEST_F(WelfordTest, SumsOfOtherPoints) {
  const std::string text = R"(
graph.kernel @crossed(%x: tensor<5x5x300xf32>) -> (tensor<5x5xf32>, tensor<5x5xf32>) attributes {symbols = []} {
  %s = graph.stage domain<5, 5> reduce<300> fold add : tensor<5x5xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d1, d0, d2)>](%i, %j, %k) : tensor<5x5x300xf32> -> f32
    graph.yield %v : f32
  }
  %q = graph.stage domain<5, 5> reduce<300> fold add : tensor<5x5xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d1, d2)>](%i, %j, %k) : tensor<5x5x300xf32> -> f32
    %w = graph.load %s[affine_map<(d0, d1, d2) -> (d1, d0)>](%i, %j, %k) : tensor<5x5xf32> -> f32
    %n = graph.literal 300.0 : f32 : f32
    %u = graph.apply div(%w, %n) : (f32, f32) -> f32
    %c = graph.apply sub(%v, %u) : (f32, f32) -> f32
    %r = graph.apply mul(%c, %c) : (f32, f32) -> f32
    graph.yield %r : f32
  }
  graph.return %s, %q : tensor<5x5xf32>, tensor<5x5xf32>
}
)";
  graph::KernelOp op = parse(text);
  ASSERT_TRUE(op);
  EXPECT_FALSE(merges(op, merging()));
  OpCase c;
  c.op = "crossed";
  c.tolerance = 1e-4;
  SmallVector<Tensor> inputs{
      random(Float32Type::get(&context), {5, 5, 300}, c)};
  auto expected = interp::Interpreter().runKernel(op, inputs, {});
  ASSERT_TRUE(succeeded(expected));
  checkVariant(op, c, inputs, *expected,
               {runnableTargets().back(), merging(), false, ""});
}

TEST_F(WelfordTest, OnlyUnderTheLaw) {
  Rows r;
  graph::KernelOp op = parse(kernel(r));
  EXPECT_TRUE(merges(op, merging()));
  EXPECT_FALSE(merges(op, {}));
  EXPECT_FALSE(merges(op, merging(), /*strict=*/true));
  LoopSchedule generic = merging();
  generic.nest = "generic";
  EXPECT_FALSE(merges(op, generic));
  // As the compiler's schedules say it.
  Builder builder(&context);
  op.setScheduleAttr(builder.getDictionaryAttr(builder.getNamedAttr(
      "laws", builder.getStrArrayAttr({"split(add)", "hom(welford)"}))));
  EXPECT_TRUE(LoopSchedule::get(op).mergesMoments);
  op.setScheduleAttr(builder.getDictionaryAttr(
      builder.getNamedAttr("laws", builder.getStrArrayAttr({"split(add)"}))));
  EXPECT_FALSE(LoopSchedule::get(op).mergesMoments);
}
} // namespace
