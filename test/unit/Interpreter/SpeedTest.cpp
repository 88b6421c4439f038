// The interpreter must be fast enough to be the oracle of whole models. Prints
// what it measures on one thread; the limits are far below, for slow machines.
#include "RowTestUtils.h"

#include "mlir/Parser/Parser.h"

#include <chrono>
#include <cstdio>

using namespace mlir;
using namespace dlc;
using namespace dlc::interp;

namespace {
class Speed : public RowTest {
protected:
  void SetUp() override {
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
    GTEST_SKIP() << "times mean nothing under the sanitizers";
#endif
#endif
  }

  /// Seconds of the second of two runs of a function of one operation.
  double measure(const std::string &text, ArrayRef<Tensor> inputs) {
    OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(text, &context);
    if (!module)
      return -1;
    auto main = module->lookupSymbol<func::FuncOp>("main");
    Options options;
    options.threads = 1;
    double seconds = 0;
    for (int i = 0; i < 2; ++i) {
      auto start = std::chrono::steady_clock::now();
      if (failed(Interpreter(options).run(main, inputs)))
        return -1;
      seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() -
                                              start)
                    .count();
    }
    return seconds;
  }
  void expectRate(const char *what, double amount, double seconds,
                  const char *unit) {
    std::printf("%-28s %8.3f %s\n", what, amount / seconds * 1e-9, unit);
    EXPECT_GT(seconds, 0);
    EXPECT_GT(amount / seconds, 2e6);
  }
};
} // namespace

TEST_F(Speed, Elementwise) {
  std::string type = "tensor<1000x1000xf32>",
              body = "(" + type + ", " + type + ") -> " + type;
  double seconds =
      measure("func.func @main(%x: " + type + ", %y: " + type + ") -> " + type +
                  " {\n  %r = graph.add %x, %y : " + body +
                  "\n  return %r : " + type + "\n}\n",
              {random({1000, 1000}), random({1000, 1000})});
  expectRate("add", 1e6, seconds, "G elements/s");
  seconds =
      measure("func.func @main(%x: " + type + ") -> " + type +
                  " {\n  %r = graph.transpose %x {perm = array<i64: "
                  "1, 0>} : (" +
                  type + ") -> " + type + "\n  return %r : " + type + "\n}\n",
              {random({1000, 1000})});
  expectRate("transpose", 1e6, seconds, "G elements/s");
  seconds = measure(
      "func.func @main(%x: " + type +
          ") -> tensor<1000x1xf32> {\n  %r = graph.reduce %x {kind = "
          "#graph<fold max>, axes = array<i64: 1>} : (" +
          type +
          ") -> tensor<1000x1xf32>\n  return %r : tensor<1000x1xf32>\n}\n",
      {random({1000, 1000})});
  expectRate("reduce max", 1e6, seconds, "G elements/s");
}

TEST_F(Speed, Contraction) {
  double seconds =
      measure("func.func @main(%x: tensor<256x512xf32>, %y: "
              "tensor<512x512xf32>) -> tensor<256x512xf32> {\n"
              "  %r = graph.contract %x, %y {lhs_map = affine_map<(d0, d1, d2) "
              "-> (d0, d2)>, rhs_map = affine_map<(d0, d1, d2) "
              "-> (d2, d1)>, result_map = affine_map<(d0, d1, d2) -> (d0, "
              "d1)>} : (tensor<256x512xf32>, tensor<512x512xf32>) -> "
              "tensor<256x512xf32>\n  return %r : tensor<256x512xf32>\n}\n",
              {random({256, 512}), random({512, 512})});
  expectRate("matmul 256x512x512", 2.0 * 256 * 512 * 512, seconds, "GFLOP/s");
  auto conv = [&](int64_t channels, int64_t size, int64_t group) {
    std::string c = std::to_string(channels),
                x = "tensor<1x" + c + "x" + std::to_string(size) + "x" +
                    std::to_string(size) + "xf32>",
                w = "tensor<" + c + "x" + std::to_string(channels / group) +
                    "x3x3xf32>";
    double time = measure(
        "func.func @main(%x: " + x + ", %w: " + w + ") -> " + x +
            " {\n  %r = \"graph.conv\"(%x, %w) <{strides = array<i64: 1, 1>, "
            "dilations = array<i64: 1, 1>, "
            "pads_low = array<i64: 1, 1>, pads_high = array<i64: 1, 1>, group "
            "= " +
            std::to_string(group) +
            " : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>}> : (" + x +
            ", " + w + ") -> " + x + "\n  return %r : " + x + "\n}\n",
        {random({1, channels, size, size}),
         random({channels, channels / group, 3, 3})});
    std::string what = "conv 3x3 " + c + " at " + std::to_string(size) +
                       " group " + std::to_string(group);
    expectRate(what.c_str(),
               2.0 * channels * channels / group * size * size * 9, time,
               "GFLOP/s");
  };
  conv(64, 56, 1);
  conv(128, 14, 1);
  conv(256, 14, 256);
  conv(64, 56, 64);
}
