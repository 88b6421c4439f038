// Contractions and convolutions against C++ in the same order of summation:
// the fast path and the general one must give equal bits.
#include "RowTestUtils.h"

using namespace dlc;
using namespace dlc::interp;

namespace {
class ContractionRows : public RowTest {
protected:
  struct Conv {
    int64_t n, c, h, w, m, kh, kw, stride, dilation, pad, group;
  };
  static std::string type(llvm::ArrayRef<int64_t> shape,
                          const std::string &element = "f32") {
    std::string text = "tensor<";
    for (int64_t d : shape)
      text += std::to_string(d) + "x";
    return text + element + ">";
  }
  static std::string twice(int64_t v) {
    return "array<i64: " + std::to_string(v) + ", " + std::to_string(v) + ">";
  }
  void checkConv(const Conv &v);
  void checkConvTranspose(const Conv &v);
};
} // namespace

TEST_F(ContractionRows, MatMul) {
  for (auto [m, n, k] : {std::array<int64_t, 3>{1, 1, 1},
                         {5, 7, 3},
                         {70, 300, 257},
                         {3, 400, 600},
                         {33, 9, 1000}}) {
    SCOPED_TRACE(std::to_string(m) + "x" + std::to_string(n) + "x" +
                 std::to_string(k));
    Tensor a = random({m, k}), b = random({k, n});
    Tensor result =
        runOp("contract",
              "lhs_map = affine_map<(d0, d1, d2) -> (d0, d2)>, rhs_map = "
              "affine_map<(d0, d1, d2) -> (d2, "
              "d1)>, result_map = affine_map<(d0, d1, d2) -> (d0, d1)>",
              {type({m, k}), type({k, n})}, type({m, n}), {a, b});
    std::vector<float> expected(m * n, 0);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j)
        for (int64_t l = 0; l < k; ++l)
          expected[i * n + j] +=
              a.getData<float>()[i * k + l] * b.getData<float>()[l * n + j];
    expectNear(result, {m, n}, expected, 0);
  }
}

TEST_F(ContractionRows, BatchedTransposedSymbolic) {
  Tensor a = random({3, 6, 8}), b = random({3, 5, 8});
  Tensor result =
      runOp("contract",
            "lhs_map = affine_map<(d0, d1, d2, d3) -> (d0, d1, d3)>, rhs_map = "
            "affine_map<(d0, d1, d2, d3) -> (d0, d2, d3)>, "
            "result_map = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2)>",
            {"tensor<?x?x8xf32, #graph.dims<s0, s1, 8>>",
             "tensor<?x5x8xf32, #graph.dims<s0, 5, 8>>"},
            "tensor<?x?x5xf32, #graph.dims<s0, s1, 5>>", {a, b}, 2);
  std::vector<float> expected;
  forEachPoint({3, 6, 5}, [&](auto p) {
    float sum = 0;
    for (int64_t k = 0; k < 8; ++k)
      sum += a.getData<float>()[flatten({3, 6, 8}, {p[0], p[1], k})] *
             b.getData<float>()[flatten({3, 5, 8}, {p[0], p[2], k})];
    expected.push_back(sum);
  });
  expectNear(result, {3, 6, 5}, expected, 0);
}

TEST_F(ContractionRows, OuterProductAndBroadcastAxis) {
  Tensor a = random({4}), b = random({5});
  Tensor outer =
      runOp("contract",
            "lhs_map = affine_map<(d0, d1) -> (d0)>, rhs_map = affine_map<(d0, "
            "d1) -> (d1)>, result_map = "
            "affine_map<(d0, d1) -> (d0, d1)>",
            {"tensor<4xf32>", "tensor<5xf32>"}, "tensor<4x5xf32>", {a, b});
  std::vector<float> expected;
  forEachPoint({4, 5}, [&](auto p) {
    expected.push_back(a.getData<float>()[p[0]] * b.getData<float>()[p[1]]);
  });
  expectNear(outer, {4, 5}, expected, 0);
  // The batch of the right operand is 1 and read at 0.
  Tensor x = random({3, 2, 4}), y = random({1, 4, 6});
  Tensor result =
      runOp("contract",
            "lhs_map = affine_map<(d0, d1, d2, d3) -> (d0, d1, d3)>, rhs_map = "
            "affine_map<(d0, d1, d2, d3) -> (0, d3, d2)>, "
            "result_map = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2)>",
            {type({3, 2, 4}), type({1, 4, 6})}, type({3, 2, 6}), {x, y});
  expected.clear();
  forEachPoint({3, 2, 6}, [&](auto p) {
    float sum = 0;
    for (int64_t k = 0; k < 4; ++k)
      sum += x.getData<float>()[flatten({3, 2, 4}, {p[0], p[1], k})] *
             y.getData<float>()[k * 6 + p[2]];
    expected.push_back(sum);
  });
  expectNear(result, {3, 2, 6}, expected, 0);
}

TEST_F(ContractionRows, IntegerMatMulWraps) {
  Tensor a = randomInts<int32_t>("i32", {6, 50}, INT32_MIN, INT32_MAX);
  Tensor b = randomInts<int32_t>("i32", {50, 7}, INT32_MIN, INT32_MAX);
  Tensor result =
      runOp("contract",
            "lhs_map = affine_map<(d0, d1, d2) -> (d0, d2)>, rhs_map = "
            "affine_map<(d0, d1, d2) -> (d2, "
            "d1)>, result_map = affine_map<(d0, d1, d2) -> (d0, d1)>",
            {type({6, 50}, "i32"), type({50, 7}, "i32")}, type({6, 7}, "i32"),
            {a, b});
  std::vector<int32_t> expected;
  forEachPoint({6, 7}, [&](auto p) {
    uint32_t sum = 0;
    for (int64_t k = 0; k < 50; ++k)
      sum += static_cast<uint32_t>(a.getData<int32_t>()[p[0] * 50 + k]) *
             static_cast<uint32_t>(b.getData<int32_t>()[k * 7 + p[1]]);
    expected.push_back(static_cast<int32_t>(sum));
  });
  expectEqual<int32_t>(result, {6, 7}, expected);
}

void ContractionRows::checkConv(const Conv &v) {
  SCOPED_TRACE("c" + std::to_string(v.c) + " m" + std::to_string(v.m) + " k" +
               std::to_string(v.kh) + "x" + std::to_string(v.kw) + " s" +
               std::to_string(v.stride) + " d" + std::to_string(v.dilation) +
               " p" + std::to_string(v.pad) + " g" + std::to_string(v.group));
  int64_t oh = (v.h + 2 * v.pad - (v.kh - 1) * v.dilation - 1) / v.stride + 1;
  int64_t ow = (v.w + 2 * v.pad - (v.kw - 1) * v.dilation - 1) / v.stride + 1,
          cg = v.c / v.group, mg = v.m / v.group;
  llvm::SmallVector<int64_t> xs{v.n, v.c, v.h, v.w}, ws{v.m, cg, v.kh, v.kw},
      out{v.n, v.m, oh, ow};
  Tensor x = random(xs), w = random(ws);
  Tensor result = runOp(
      "conv",
      "strides = " + twice(v.stride) + ", dilations = " + twice(v.dilation) +
          ", pads_low = " + twice(v.pad) + ", pads_high = " + twice(v.pad) +
          ", group = " + std::to_string(v.group) +
          " : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>",
      {type(xs), type(ws)}, type(out), {x, w});
  std::vector<float> expected;
  forEachPoint(out, [&](auto p) {
    float sum = 0;
    for (int64_t c = 0; c < cg; ++c)
      for (int64_t r = 0; r < v.kh; ++r)
        for (int64_t s = 0; s < v.kw; ++s) {
          int64_t i = p[2] * v.stride + r * v.dilation - v.pad,
                  j = p[3] * v.stride + s * v.dilation - v.pad;
          if (i >= 0 && i < v.h && j >= 0 && j < v.w)
            sum += x.getData<float>()[flatten(
                       xs, {p[0], p[1] / mg * cg + c, i, j})] *
                   w.getData<float>()[flatten(ws, {p[1], c, r, s})];
        }
    expected.push_back(sum);
  });
  expectNear(result, out, expected, 0);
}

TEST_F(ContractionRows, Conv) {
  checkConv({1, 3, 8, 9, 5, 3, 3, 1, 1, 1, 1});
  checkConv({2, 4, 7, 7, 6, 3, 2, 2, 1, 1, 2});
  checkConv({1, 6, 9, 6, 6, 3, 3, 1, 2, 2, 6}); // depthwise
  checkConv({2, 5, 6, 6, 8, 1, 1, 1, 1, 0, 1}); // pointwise
  checkConv(
      {1, 2, 5, 5, 4, 5, 5, 3, 1, 4, 1}); // windows that lie in the padding
  checkConv({1, 20, 20, 20, 70, 3, 3, 1, 1, 1, 1});
}

TEST_F(ContractionRows, ConvSymbolic) {
  Tensor x = random({2, 3, 7}), w = random({4, 3, 3});
  Tensor result =
      runOp("conv",
            "strides = array<i64: 2>, dilations = array<i64: 1>, pads_low = "
            "array<i64: 1>, pads_high = "
            "array<i64: 1>, group = 1 : i64, operandSegmentSizes = array<i32: "
            "1, 1, 0, 0>",
            {"tensor<?x3x?xf32, #graph.dims<s0, 3, s1>>", type({4, 3, 3})},
            "tensor<?x4x?xf32, #graph.dims<s0, 4, (s1 - 1) floordiv 2 + 1>>",
            {x, w}, 2);
  std::vector<float> expected;
  forEachPoint({2, 4, 4}, [&](auto p) {
    float sum = 0;
    for (int64_t c = 0; c < 3; ++c)
      for (int64_t r = 0; r < 3; ++r)
        if (int64_t i = p[2] * 2 + r - 1; i >= 0 && i < 7)
          sum += x.getData<float>()[flatten({2, 3, 7}, {p[0], c, i})] *
                 w.getData<float>()[flatten({4, 3, 3}, {p[1], c, r})];
    expected.push_back(sum);
  });
  expectNear(result, {2, 4, 4}, expected, 0);
}

TEST_F(ContractionRows, ConvInteger) {
  Tensor x = randomInts<uint8_t>("ui8", {1, 2, 6}, 0, 255),
         w = randomInts<int8_t>("i8", {3, 2, 3}, -128, 127);
  Tensor xz = tensor<uint8_t>("ui8", {}, {131}),
         wz = tensor<int8_t>("i8", {3}, {1, -2, 3});
  Tensor result = runOp(
      "conv",
      "strides = array<i64: 1>, dilations = array<i64: 1>, pads_low = "
      "array<i64: 1>, pads_high = "
      "array<i64: 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, "
      "1, 1>",
      {"tensor<1x2x6xui8>", "tensor<3x2x3xi8>", "tensor<ui8>", "tensor<3xi8>"},
      "tensor<1x3x6xi32>", {x, w, xz, wz});
  std::vector<int32_t> expected;
  forEachPoint({1, 3, 6}, [&](auto p) {
    int32_t sum = 0;
    for (int64_t c = 0; c < 2; ++c)
      for (int64_t r = 0; r < 3; ++r)
        if (int64_t i = p[2] + r - 1; i >= 0 && i < 6)
          sum += (x.getData<uint8_t>()[c * 6 + i] - 131) *
                 (w.getData<int8_t>()[(p[1] * 2 + c) * 3 + r] -
                  wz.getData<int8_t>()[p[1]]);
    expected.push_back(sum);
  });
  expectEqual<int32_t>(result, {1, 3, 6}, expected);
}

void ContractionRows::checkConvTranspose(const Conv &v) {
  int64_t oh = (v.h - 1) * v.stride + (v.kh - 1) * v.dilation + 1 - 2 * v.pad;
  int64_t ow = (v.w - 1) * v.stride + (v.kw - 1) * v.dilation + 1 - 2 * v.pad,
          cg = v.c / v.group, mg = v.m / v.group;
  llvm::SmallVector<int64_t> xs{v.n, v.c, v.h, v.w}, ws{v.c, mg, v.kh, v.kw},
      out{v.n, v.m, oh, ow};
  Tensor x = random(xs), w = random(ws);
  Tensor result = runOp("conv_transpose",
                        "strides = " + twice(v.stride) + ", dilations = " +
                            twice(v.dilation) + ", pads_low = " + twice(v.pad) +
                            ", group = " + std::to_string(v.group) + " : i64",
                        {type(xs), type(ws)}, type(out), {x, w});
  // Scatter, the other way round than the row.
  std::vector<float> expected(countElements(out), 0);
  forEachPoint(xs, [&](auto p) {
    int64_t group = p[1] / cg;
    for (int64_t m = 0; m < mg; ++m)
      for (int64_t r = 0; r < v.kh; ++r)
        for (int64_t s = 0; s < v.kw; ++s) {
          int64_t i = p[2] * v.stride + r * v.dilation - v.pad,
                  j = p[3] * v.stride + s * v.dilation - v.pad;
          if (i >= 0 && i < oh && j >= 0 && j < ow)
            expected[flatten(out, {p[0], group * mg + m, i, j})] +=
                x.getData<float>()[flatten(xs, p)] *
                w.getData<float>()[flatten(ws, {p[1], m, r, s})];
        }
  });
  expectNear(result, out, expected, 1e-5f);
}

TEST_F(ContractionRows, ConvTranspose) {
  checkConvTranspose({1, 3, 4, 5, 2, 3, 3, 1, 1, 0, 1});
  checkConvTranspose({2, 4, 5, 4, 6, 3, 3, 2, 1, 1, 2});
  checkConvTranspose({1, 2, 4, 4, 2, 2, 3, 3, 2, 1, 1});
}
