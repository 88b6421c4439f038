// Moving elements: transposes, reshapes, slices, pads, concatenations, gathers.
#include "NestTest.h"

using namespace dlc::test;

namespace {
TEST_F(NestTest, Transposes) {
  for (const char *e : {"f32", "i8", "f64", "f16"}) {
    std::string t = std::string("x") + e + ">";
    check({"transpose",
           "perm = array<i64: 1, 0>",
           {"tensor<37x53" + t},
           "tensor<53x37" + t,
           {{37, 53}},
           {}});
    check({"transpose",
           "perm = array<i64: 0, 2, 1, 3>",
           {"tensor<2x5x7x20" + t},
           "tensor<2x7x5x20" + t,
           {{2, 5, 7, 20}},
           {}});
    check({"transpose",
           "perm = array<i64: 0, 3, 1, 2>",
           {"tensor<2x6x9x33" + t},
           "tensor<2x33x6x9" + t,
           {{2, 6, 9, 33}},
           {}});
    check({"transpose",
           "perm = array<i64: 2, 0, 1>",
           {"tensor<32x4x16" + t},
           "tensor<16x32x4" + t,
           {{32, 4, 16}},
           {}});
  }
  // Cut into tasks along the lanes' axis, and along the tiles' other one.
  for (auto [n, m] : {std::pair<int64_t, int64_t>{4137, 70}, {70, 4137}}) {
    auto shape = [](int64_t a, int64_t b) {
      return "tensor<" + std::to_string(a) + "x" + std::to_string(b) + "xf32>";
    };
    check({"transpose",
           "perm = array<i64: 1, 0>",
           {shape(n, m)},
           shape(m, n),
           {{n, m}},
           {}});
  }
  check({"transpose",
         "perm = array<i64: 1, 0>",
         {"tensor<?x?xf32, #graph.dims<s0, s1>>"},
         "tensor<?x?xf32, #graph.dims<s1, s0>>",
         {{70, 33}},
         {70, 33}});
}

TEST_F(NestTest, Reshapes) {
  check({"reshape",
         "",
         {"tensor<4x6x10xf32>"},
         "tensor<8x30xf32>",
         {{4, 6, 10}},
         {}});
  check({"reshape",
         "",
         {"tensor<24x10xf32>"},
         "tensor<2x3x4x10xf32>",
         {{24, 10}},
         {}});
  check({"reshape",
         "",
         {"tensor<?x12x64xf32, #graph.dims<s0, 12, 64>>"},
         "tensor<?x768xf32, #graph.dims<s0, 768>>",
         {{5, 12, 64}},
         {5}});
  check({"reshape",
         "",
         {"tensor<?x?xf32, #graph.dims<s0, s1>>"},
         "tensor<?xf32, #graph.dims<s0 * s1>>",
         {{5, 12}},
         {5, 12}});
}

TEST_F(NestTest, Slices) {
  check({"slice",
         "starts = #graph.dims<2, 3>, steps = array<i64: 1, 1>",
         {"tensor<10x50xf32>"},
         "tensor<5x40xf32>",
         {{10, 50}},
         {}});
  check({"slice",
         "starts = #graph.dims<9, 49>, steps = array<i64: -2, -1>",
         {"tensor<10x50xf32>"},
         "tensor<5x50xf32>",
         {{10, 50}},
         {}});
  check({"slice",
         "starts = #graph.dims<0, 1>, steps = array<i64: 1, 2>",
         {"tensor<10x52xf32>"},
         "tensor<10x25xf32>",
         {{10, 52}},
         {}});
  check({"slice",
         "starts = #graph.dims<0, 1>, steps = array<i64: 1, 3>",
         {"tensor<10x52xi16>"},
         "tensor<10x17xi16>",
         {{10, 52}},
         {}});
}

TEST_F(NestTest, Pads) {
  auto pad = [](const std::string &low, const std::string &high,
                const std::string &mode) {
    return "low = array<i64: " + low + ">, high = array<i64: " + high +
           ">, mode = #graph<pad " + mode + ">";
  };
  check({"pad",
         pad("1, 2", "0, 3", "constant"),
         {"tensor<5x40xf32>", "tensor<f32>"},
         "tensor<6x45xf32>",
         {{5, 40}, {}},
         {}});
  check({"pad",
         pad("-1, 2", "1, -3", "constant"),
         {"tensor<5x40xi8>", "tensor<i8>"},
         "tensor<5x39xi8>",
         {{5, 40}, {}},
         {}});
  for (const char *mode : {"reflect", "edge", "wrap"})
    check({"pad",
           pad("1, 2", "2, 3", mode),
           {"tensor<5x40xf32>"},
           "tensor<8x45xf32>",
           {{5, 40}},
           {}});
}

TEST_F(NestTest, Concatenations) {
  for (const char *e : {"f32", "i8", "i1", "f16"}) {
    std::string t = std::string("x") + e + ">";
    check({"concat",
           "axis = 1 : i64",
           {"tensor<3x7" + t, "tensor<3x40" + t, "tensor<3x1" + t},
           "tensor<3x48" + t,
           {{3, 7}, {3, 40}, {3, 1}},
           {}});
    check({"concat",
           "axis = 1 : i64",
           {"tensor<2x3x19" + t, "tensor<2x5x19" + t},
           "tensor<2x8x19" + t,
           {{2, 3, 19}, {2, 5, 19}},
           {}});
    check({"concat",
           "axis = 0 : i64",
           {"tensor<3x19" + t, "tensor<5x19" + t},
           "tensor<8x19" + t,
           {{3, 19}, {5, 19}},
           {}});
  }
  OpCase many{"concat", "axis = 1 : i64", {}, "tensor<2x90xf32>", {}, {}};
  for (int i = 0; i < 9; ++i) {
    many.types.push_back("tensor<2x10xf32>");
    many.shapes.push_back({2, 10});
  }
  check(many);
  many.attributes = "axis = 0 : i64";
  many.result = "tensor<18x10xf32>";
  check(many);
  check({"concat",
         "axis = 0 : i64",
         {"tensor<?xf32, #graph.dims<s0>>", "tensor<?xf32, #graph.dims<s1>>"},
         "tensor<?xf32, #graph.dims<s0 + s1>>",
         {{21}, {0}},
         {21, 0}});
}

TEST_F(NestTest, Gathers) {
  OpCase c{"gather",
           "axis = 0 : i64",
           {"tensor<9x40xf32>", "tensor<6xi64>"},
           "tensor<6x40xf32>",
           {{9, 40}, {6}},
           {}};
  c.low = -9, c.high = 8;
  check(c);
  c = {"gather",
       "axis = 1 : i64",
       {"tensor<5x9xf32>", "tensor<3x17xi32>"},
       "tensor<5x3x17xf32>",
       {{5, 9}, {3, 17}},
       {}};
  c.low = -9, c.high = 8;
  check(c);
  c = {"gather_elements",
       "axis = 1 : i64",
       {"tensor<5x9xi16>", "tensor<5x37xi64>"},
       "tensor<5x37xi16>",
       {{5, 9}, {5, 37}},
       {}};
  c.low = -9, c.high = 8;
  check(c);
}

TEST_F(NestTest, Iota) {
  for (const char *e : {"f32", "i64", "f16", "i32"}) {
    std::string t = std::string("tensor<77x") + e + ">";
    check({"iota", "start = 3.0 : f64, step = 2.0 : f64", {}, t, {}, {}});
  }
}

// An index out of range is reported, and nothing outside is read.
TEST_F(NestTest, IndexOutOfRange) {
  OpCase c{"gather",
           "axis = 0 : i64",
           {"tensor<9x40xf32>", "tensor<2xi64>"},
           "tensor<2x40xf32>",
           {{9, 40}, {2}},
           {}};
  dlc::graph::KernelOp kernel = build(c);
  for (const std::string &name : runnableTargets()) {
    auto target = llvm::cantFail(dlc::parseCpuTarget(name));
    dlc::CpuCodegenOptions options;
    options.symbol = "k";
    auto code = dlc::emitLoopNest(kernel, target, options);
    ASSERT_TRUE(mlir::succeeded(code));
    std::string error;
    auto loaded = LoadedKernel::load(*code, target, error);
    ASSERT_TRUE(loaded) << error;
    GuardedBuffer x(9 * 40 * 4), indices(16), y(2 * 40 * 4);
    for (int i = 0; i < 360; ++i)
      x.as<float>()[i] = i;
    for (int64_t bad : {int64_t(9), int64_t(-10), INT64_MAX, INT64_MIN}) {
      indices.as<int64_t>()[0] = bad;
      indices.as<int64_t>()[1] = -1;
      EXPECT_NE(loaded->run({x.data(), indices.data(), y.data()}, {}), 0);
      EXPECT_EQ(y.as<float>()[40], 320);
      EXPECT_TRUE(y.intact());
    }
    indices.as<int64_t>()[0] = 0;
    EXPECT_EQ(loaded->run({x.data(), indices.data(), y.data()}, {}), 0);
  }
}
} // namespace
