// Index-map rows against C++: transpose, reshape, slice, pad, concat, gathers.
#include "RowTestUtils.h"

using namespace dlc;
using namespace dlc::interp;

namespace {
class InjectiveRows : public RowTest {
protected:
  // Expects result[p] = x[index(p)] with a flat index; -1 stands for
  // `otherwise`.
  void expectGather(const Tensor &result, llvm::ArrayRef<int64_t> shape,
                    const Tensor &x,
                    llvm::function_ref<int64_t(llvm::ArrayRef<int64_t>)> index,
                    float otherwise = 0) {
    std::vector<float> expected;
    forEachPoint(shape, [&](auto p) {
      int64_t at = index(p);
      expected.push_back(at < 0 ? otherwise : x.getData<float>()[at]);
    });
    expectNear(result, shape, expected, 0);
  }
};
} // namespace

TEST_F(InjectiveRows, Transpose) {
  Tensor x = random({3, 4, 5});
  Tensor result = runOp("transpose", "perm = array<i64: 2, 0, 1>",
                        {"tensor<3x4x5xf32>"}, "tensor<5x3x4xf32>", {x});
  expectGather(result, {5, 3, 4}, x,
               [](auto p) { return flatten({3, 4, 5}, {p[1], p[2], p[0]}); });
}

TEST_F(InjectiveRows, TransposeSymbolic) {
  Tensor x = random({6, 7});
  Tensor result = runOp("transpose", "perm = array<i64: 1, 0>",
                        {"tensor<?x7xf32, #graph.dims<s0, 7>>"},
                        "tensor<7x?xf32, #graph.dims<7, s0>>", {x}, 1);
  expectGather(result, {7, 6}, x,
               [](auto p) { return flatten({6, 7}, {p[1], p[0]}); });
}

TEST_F(InjectiveRows, Reshape) {
  Tensor x = random({4, 6, 2});
  Tensor result =
      runOp("reshape", "", {"tensor<4x6x2xf32>"}, "tensor<3x8x2xf32>", {x});
  expectNear(result, {3, 8, 2}, x.getData<float>(), 0);
}

TEST_F(InjectiveRows, Broadcast) {
  Tensor x = random({3, 1});
  Tensor result =
      runOp("broadcast", "", {"tensor<3x1xf32>"}, "tensor<2x3x4xf32>", {x});
  expectGather(result, {2, 3, 4}, x, [](auto p) { return p[1]; });
}

TEST_F(InjectiveRows, Slice) {
  Tensor x = random({6, 9});
  Tensor result =
      runOp("slice", "starts = #graph.dims<1, 8>, steps = array<i64: 2, -3>",
            {"tensor<6x9xf32>"}, "tensor<2x3xf32>", {x});
  expectGather(result, {2, 3}, x, [](auto p) {
    return flatten({6, 9}, {1 + 2 * p[0], 8 - 3 * p[1]});
  });
}

TEST_F(InjectiveRows, SliceSymbolic) {
  Tensor x = random({5, 4});
  // The last element of each row, from the front of a symbolic axis.
  Tensor result = runOp(
      "slice", "starts = #graph.dims<0, s1 - 1>, steps = array<i64: 1, 1>",
      {"tensor<?x?xf32, #graph.dims<s0, s1>>"},
      "tensor<?x1xf32, #graph.dims<s0, 1>>", {x}, 2);
  expectGather(result, {5, 1}, x,
               [](auto p) { return flatten({5, 4}, {p[0], 3}); });
}

TEST_F(InjectiveRows, PadConstant) {
  Tensor x = random({3, 4}), value = tensor<float>("f32", {1}, {7.5f});
  Tensor result = runOp("pad",
                        "low = array<i64: 1, -1>, high = array<i64: 0, 2>, "
                        "mode = #graph<pad constant>",
                        {"tensor<3x4xf32>", "tensor<1xf32>"}, "tensor<4x5xf32>",
                        {x, value});
  expectGather(
      result, {4, 5}, x,
      [](auto p) {
        int64_t i = p[0] - 1, j = p[1] + 1;
        return i < 0 || j >= 4 ? -1 : flatten({3, 4}, {i, j});
      },
      7.5f);
}

TEST_F(InjectiveRows, PadModes) {
  Tensor x = random({4, 5});
  auto check = [&](const std::string &mode, int64_t (*fold)(int64_t, int64_t)) {
    SCOPED_TRACE(mode);
    Tensor result = runOp(
        "pad",
        "low = array<i64: 2, 3>, high = array<i64: 3, 1>, mode = #graph<pad " +
            mode + ">",
        {"tensor<4x5xf32>"}, "tensor<9x9xf32>", {x});
    expectGather(result, {9, 9}, x, [&](auto p) {
      return flatten({4, 5}, {fold(p[0] - 2, 4), fold(p[1] - 3, 5)});
    });
  };
  check("reflect", [](int64_t i, int64_t n) {
    return i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i;
  });
  check("edge", [](int64_t i, int64_t n) {
    return i < 0 ? 0 : i >= n ? n - 1 : i;
  });
  check("wrap", [](int64_t i, int64_t n) { return (i + n) % n; });
}

// Pads longer than the operand fold several times, and what a symbolic size
// will be is not known: both go another way than short pads do.
TEST_F(InjectiveRows, LongAndSymbolicPads) {
  auto check = [&](const std::string &mode, int64_t n, bool symbolic,
                   int64_t (*fold)(int64_t, int64_t)) {
    SCOPED_TRACE(mode + " of " + std::to_string(n));
    Tensor x = random({2, n});
    std::string from = symbolic ? "tensor<2x?xf32, #graph.dims<2, s0>>"
                                : "tensor<2x" + std::to_string(n) + "xf32>";
    std::string to = symbolic ? "tensor<3x?xf32, #graph.dims<3, s0 + 9>>"
                              : "tensor<3x" + std::to_string(n + 9) + "xf32>";
    Tensor result = runOp("pad",
                          "low = array<i64: 0, 5>, high = array<i64: 1, 4>, "
                          "mode = #graph<pad " +
                              mode + ">",
                          {from}, to, {x}, symbolic);
    expectGather(result, {3, n + 9}, x, [&](auto p) {
      return flatten({2, n}, {fold(p[0], 2), fold(p[1] - 5, n)});
    });
  };
  for (int64_t n : {1, 2, 3, 7})
    for (bool symbolic : {false, true}) {
      check("edge", n, symbolic, [](int64_t i, int64_t size) {
        return std::clamp<int64_t>(i, 0, size - 1);
      });
      check("wrap", n, symbolic,
            [](int64_t i, int64_t size) { return (i % size + size) % size; });
      check("reflect", n, symbolic, [](int64_t i, int64_t size) {
        while (size > 1 && (i < 0 || i >= size))
          i = i < 0 ? -i : 2 * (size - 1) - i;
        return size == 1 ? 0 : i;
      });
    }
}

TEST_F(InjectiveRows, Concat) {
  Tensor a = random({2, 3}), b = random({2, 1}), c = random({2, 4});
  Tensor result =
      runOp("concat", "axis = 1 : i64",
            {"tensor<2x3xf32>", "tensor<2x1xf32>", "tensor<2x4xf32>"},
            "tensor<2x8xf32>", {a, b, c});
  std::vector<float> expected;
  forEachPoint({2, 8}, [&](auto p) {
    expected.push_back(p[1] < 3   ? a.getData<float>()[p[0] * 3 + p[1]]
                       : p[1] < 4 ? b.getData<float>()[p[0]]
                                  : c.getData<float>()[p[0] * 4 + p[1] - 4]);
  });
  expectNear(result, {2, 8}, expected, 0);
}

TEST_F(InjectiveRows, ConcatSymbolic) {
  Tensor a = random({3, 2}), b = random({5, 2});
  Tensor result = runOp("concat", "axis = 0 : i64",
                        {"tensor<?x2xf32, #graph.dims<s0, 2>>",
                         "tensor<?x2xf32, #graph.dims<s1, 2>>"},
                        "tensor<?x2xf32, #graph.dims<s0 + s1, 2>>", {a, b}, 2);
  std::vector<float> expected(a.getData<float>().begin(),
                              a.getData<float>().end());
  expected.insert(expected.end(), b.getData<float>().begin(),
                  b.getData<float>().end());
  expectNear(result, {8, 2}, expected, 0);
}

TEST_F(InjectiveRows, Gather) {
  Tensor x = random({3, 6, 2}),
         indices = randomInts<int64_t>("i64", {4, 2}, -6, 5);
  Tensor result = runOp("gather", "axis = 1 : i64",
                        {"tensor<3x6x2xf32>", "tensor<4x2xi64>"},
                        "tensor<3x4x2x2xf32>", {x, indices});
  expectGather(result, {3, 4, 2, 2}, x, [&](auto p) {
    int64_t at = indices.getData<int64_t>()[p[1] * 2 + p[2]];
    return flatten({3, 6, 2}, {p[0], at < 0 ? at + 6 : at, p[3]});
  });
}

TEST_F(InjectiveRows, GatherOutOfRangeIsAnError) {
  Tensor x = random({3}), indices = tensor<int32_t>("i32", {2}, {1, 3});
  auto result = runText("func.func @main(%x: tensor<3xf32>, %i: tensor<2xi32>) "
                        "-> tensor<2xf32> {\n"
                        "  %r = graph.gather %x, %i {axis = 0 : i64} : "
                        "(tensor<3xf32>, tensor<2xi32>) -> tensor<2xf32>\n"
                        "  return %r : tensor<2xf32>\n}\n",
                        {x, indices});
  EXPECT_TRUE(failed(result));
  EXPECT_NE(error.find("index 3 is out of range for a dim of size 3"),
            std::string::npos)
      << error;
}

TEST_F(InjectiveRows, GatherElements) {
  Tensor x = random({3, 6}),
         indices = randomInts<int32_t>("i32", {2, 6}, -3, 2);
  Tensor result = runOp("gather_elements", "axis = 0 : i64",
                        {"tensor<3x6xf32>", "tensor<2x6xi32>"},
                        "tensor<2x6xf32>", {x, indices});
  expectGather(result, {2, 6}, x, [&](auto p) {
    int64_t at = indices.getData<int32_t>()[p[0] * 6 + p[1]];
    return flatten({3, 6}, {at < 0 ? at + 3 : at, p[1]});
  });
}

TEST_F(InjectiveRows, Iota) {
  Tensor result = runOp("iota", "start = 2.0 : f64, step = -0.5 : f64", {},
                        "tensor<5xf32>", {});
  expectNear(result, {5}, {2, 1.5f, 1, 0.5f, 0}, 0);
}
