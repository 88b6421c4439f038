// Reductions, scans and pooling against C++.
#include "RowTestUtils.h"

#include <cmath>
#include <limits>

using namespace dlc;
using namespace dlc::interp;

namespace {
class FoldRows : public RowTest {};

struct Window {
  llvm::SmallVector<int64_t, 3> kernel, strides, dilations, low, high;
};
std::string list(llvm::ArrayRef<int64_t> values) {
  std::string text = "array<i64";
  for (auto [i, v] : llvm::enumerate(values))
    text += (i ? ", " : ": ") + std::to_string(v);
  return text + ">";
}
} // namespace

TEST_F(FoldRows, ReduceKinds) {
  // Both ways of folding: few long rows and many short ones.
  for (auto shape : {llvm::SmallVector<int64_t>{2, 700, 3},
                     llvm::SmallVector<int64_t>{40, 5, 30}}) {
    Tensor x = random(shape);
    std::string type = "tensor<" + std::to_string(shape[0]) + "x" +
                       std::to_string(shape[1]) + "x" +
                       std::to_string(shape[2]) + "xf32>";
    std::string to = "tensor<" + std::to_string(shape[0]) + "x1x" +
                     std::to_string(shape[2]) + "xf32>";
    auto check = [&](const std::string &kind, float init,
                     float (*step)(float, float), float tolerance) {
      SCOPED_TRACE(kind);
      Tensor result = runOp(
          "reduce", "kind = #graph<fold " + kind + ">, axes = array<i64: 1>",
          {type}, to, {x});
      std::vector<float> expected;
      forEachPoint({shape[0], 1, shape[2]}, [&](auto p) {
        float sum = init;
        for (int64_t k = 0; k < shape[1]; ++k)
          sum = step(sum, x.getData<float>()[flatten(shape, {p[0], k, p[2]})]);
        expected.push_back(sum);
      });
      expectNear(result, {shape[0], 1, shape[2]}, expected, tolerance);
    };
    // The same order of the same operations: equal bits.
    check("add", 0, [](float a, float b) { return a + b; }, 0);
    check("mul", 1, [](float a, float b) { return a * b; }, 0);
    check("max", -INFINITY, [](float a, float b) { return std::max(a, b); }, 0);
    check("min", INFINITY, [](float a, float b) { return std::min(a, b); }, 0);
  }
}

TEST_F(FoldRows, ReduceSeveralAxesAndEmpty) {
  Tensor x = random({3, 4, 5});
  Tensor result =
      runOp("reduce", "kind = #graph<fold add>, axes = array<i64: 0, 2>",
            {"tensor<3x4x5xf32>"}, "tensor<1x4x1xf32>", {x});
  std::vector<float> expected(4, 0);
  for (int64_t j = 0; j < 4; ++j)
    for (int64_t i = 0; i < 3; ++i)
      for (int64_t k = 0; k < 5; ++k)
        expected[j] += x.getData<float>()[flatten({3, 4, 5}, {i, j, k})];
  expectNear(result, {1, 4, 1}, expected, 0);
  Tensor none = runOp("reduce", "kind = #graph<fold max>, axes = array<i64: 0>",
                      {"tensor<?x2xf32, #graph.dims<s0, 2>>"},
                      "tensor<1x2xf32>", {random({0, 2})}, 1);
  expectNear(none, {1, 2}, {-INFINITY, -INFINITY}, 0);
}

TEST_F(FoldRows, ReduceNaN) {
  float nan = std::numeric_limits<float>::quiet_NaN();
  Tensor x = tensor<float>("f32", {2, 3}, {1, nan, 5, 4, 3, 2});
  std::string type = "tensor<2x3xf32>";
  expectNear(runOp("reduce", "kind = #graph<fold max>, axes = array<i64: 1>",
                   {type}, "tensor<2x1xf32>", {x}),
             {2, 1}, {nan, 4});
  expectEqual<int64_t>(runOp("reduce",
                             "kind = #graph<fold argmin>, axes = array<i64: 1>",
                             {type}, "tensor<2x1xi64>", {x}),
                       {2, 1}, {1, 2});
}

TEST_F(FoldRows, ArgFoldsAndTies) {
  for (int64_t rows : {2, 900}) { // along the row, and across rows
    std::vector<int32_t> data;
    for (int64_t r = 0; r < rows; ++r)
      data.insert(data.end(), {1, 5, 5, 1});
    Tensor x = tensor<int32_t>("i32", {rows, 4}, data);
    std::string type = "tensor<" + std::to_string(rows) + "x4xi32>",
                to = "tensor<" + std::to_string(rows) + "x1xi64>";
    auto check = [&](const std::string &kind, int64_t expected) {
      Tensor result = runOp(
          "reduce", "kind = #graph<fold " + kind + ">, axes = array<i64: 1>",
          {type}, to, {x});
      expectEqual<int64_t>(result, {rows, 1},
                           std::vector<int64_t>(rows, expected));
    };
    check("argmax", 1);
    check("argmax_last", 2);
    check("argmin", 0);
    check("argmin_last", 3);
  }
}

TEST_F(FoldRows, IntegersWrapAndHalvesAccumulateWide) {
  Tensor bytes = tensor<uint8_t>("ui8", {1, 3}, {200, 100, 3});
  expectEqual<uint8_t>(runOp("reduce",
                             "kind = #graph<fold add>, axes = array<i64: 1>",
                             {"tensor<1x3xui8>"}, "tensor<1x1xui8>", {bytes}),
                       {1, 1}, {47});
  // 2048 + 1 + 1 + 1 + 1: summed in f16 it would stay 2048.
  Tensor halves =
      tensor<uint16_t>("f16", {1, 5}, {0x6800, 0x3c00, 0x3c00, 0x3c00, 0x3c00});
  expectEqual<uint16_t>(runOp("reduce",
                              "kind = #graph<fold add>, axes = array<i64: 1>",
                              {"tensor<1x5xf16>"}, "tensor<1x1xf16>", {halves}),
                        {1, 1}, {0x6802});
}

TEST_F(FoldRows, CumSum) {
  Tensor x = random({2, 6});
  for (bool exclusive : {false, true})
    for (bool reverse : {false, true}) {
      std::string attributes = "axis = 1 : i64";
      attributes += exclusive ? ", exclusive" : "";
      attributes += reverse ? ", reverse" : "";
      Tensor result = runOp("cumsum", attributes, {"tensor<2x6xf32>"},
                            "tensor<2x6xf32>", {x});
      std::vector<float> expected;
      forEachPoint({2, 6}, [&](auto p) {
        float sum = 0;
        for (int64_t k = 0; k < 6; ++k)
          if (reverse ? k >= p[1] + exclusive : k <= p[1] - exclusive)
            sum += x.getData<float>()[p[0] * 6 + k];
        expected.push_back(sum);
      });
      expectNear(result, {2, 6}, expected);
    }
}

TEST_F(FoldRows, Pool) {
  for (const Window &w : {Window{{2, 3}, {1, 2}, {1, 1}, {0, 0}, {0, 0}},
                          Window{{3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 0}},
                          Window{{2, 2}, {1, 3}, {2, 3}, {1, 0}, {0, 2}}})
    for (const char *kind : {"max", "avg", "avg include", "sum", "lp"}) {
      SCOPED_TRACE(kind);
      bool include = llvm::StringRef(kind).ends_with("include");
      std::string name = llvm::StringRef(kind)
                             .take_until([](char c) { return c == ' '; })
                             .str();
      llvm::SmallVector<int64_t> in = {2, 3, 8, 9}, out = {2, 3};
      for (int i : {0, 1})
        out.push_back((in[2 + i] + w.low[i] + w.high[i] -
                       (w.kernel[i] - 1) * w.dilations[i] - 1) /
                          w.strides[i] +
                      1);
      Tensor x = random(in);
      std::string result = "tensor<2x3x" + std::to_string(out[2]) + "x" +
                           std::to_string(out[3]) + "xf32>";
      Tensor actual =
          runOp("pool",
                "kind = #graph<pool " + name + ">, kernel = " + list(w.kernel) +
                    ", strides = " + list(w.strides) + ", dilations = " +
                    list(w.dilations) + ", pads_low = " + list(w.low) +
                    ", pads_high = " + list(w.high) +
                    (include ? ", count_include_pad" : ""),
                {"tensor<2x3x8x9xf32>"}, result, {x});
      std::vector<float> expected;
      forEachPoint(out, [&](auto p) {
        float best = -INFINITY, sum = 0, squares = 0;
        int64_t taps = 0;
        for (int64_t r = 0; r < w.kernel[0]; ++r)
          for (int64_t s = 0; s < w.kernel[1]; ++s) {
            int64_t i = p[2] * w.strides[0] + r * w.dilations[0] - w.low[0];
            int64_t j = p[3] * w.strides[1] + s * w.dilations[1] - w.low[1];
            bool padded = i < in[2] + w.high[0] && j < in[3] + w.high[1];
            taps += include && padded;
            if (i < 0 || i >= in[2] || j < 0 || j >= in[3])
              continue;
            taps += !include;
            float v = x.getData<float>()[flatten(in, {p[0], p[1], i, j})];
            best = std::max(best, v), sum += v, squares += v * v;
          }
        expected.push_back(name == "max"   ? best
                           : name == "avg" ? sum / taps
                           : name == "sum" ? sum
                                           : std::sqrt(squares));
      });
      expectNear(actual, out, expected);
    }
}

TEST_F(FoldRows, PoolSymbolicBatchAndSize) {
  Tensor x = random({3, 2, 6});
  Tensor result = runOp(
      "pool",
      "kind = #graph<pool avg>, kernel = array<i64: 3>, strides = array<i64: "
      "1>, dilations = "
      "array<i64: 1>, pads_low = array<i64: 1>, pads_high = array<i64: 1>",
      {"tensor<?x2x?xf32, #graph.dims<s0, 2, s1>>"},
      "tensor<?x2x?xf32, #graph.dims<s0, 2, s1>>", {x}, 2);
  std::vector<float> expected;
  forEachPoint({3, 2, 6}, [&](auto p) {
    float sum = 0;
    int taps = 0;
    for (int64_t i = std::max<int64_t>(0, p[2] - 1);
         i <= std::min<int64_t>(5, p[2] + 1); ++i, ++taps)
      sum += x.getData<float>()[flatten({3, 2, 6}, {p[0], p[1], i})];
    expected.push_back(sum / taps);
  });
  expectNear(result, {3, 2, 6}, expected);
}
