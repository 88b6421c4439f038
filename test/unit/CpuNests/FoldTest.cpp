// Folds of every kind along every axis, windows and contractions.
#include "NestTest.h"

using namespace dlc::test;

namespace {
std::string fold(const std::string &kind, const std::string &axes) {
  return "kind = #graph<fold " + kind + ">, axes = array<i64: " + axes + ">";
}

TEST_F(NestTest, LastAxis) {
  for (const char *kind : {"add", "max", "min", "mul"})
    for (int64_t n : {1, 2, 5, 15, 16, 17, 64, 65, 200}) {
      std::string x = "tensor<7x" + std::to_string(n) + "xf32>";
      OpCase c{"reduce", fold(kind, "1"), {x}, "tensor<7x1xf32>", {{7, n}}, {}};
      c.tolerance = 1e-5;
      check(c);
    }
}

TEST_F(NestTest, OtherAxes) {
  for (const char *kind : {"add", "max"}) {
    OpCase c{"reduce",           fold(kind, "0"), {"tensor<19x37xf32>"},
             "tensor<1x37xf32>", {{19, 37}},      {}};
    c.tolerance = 1e-5;
    check(c);
    c = {"reduce",
         fold(kind, "1"),
         {"tensor<3x19x37xf32>"},
         "tensor<3x1x37xf32>",
         {{3, 19, 37}},
         {}};
    c.tolerance = 1e-5;
    check(c);
    c = {"reduce",
         fold(kind, "0, 2"),
         {"tensor<3x19x37xf32>"},
         "tensor<1x19x1xf32>",
         {{3, 19, 37}},
         {}};
    c.tolerance = 1e-5;
    check(c);
    c = {"reduce",
         fold(kind, "0, 1, 2"),
         {"tensor<3x19x37xf32>"},
         "tensor<1x1x1xf32>",
         {{3, 19, 37}},
         {}};
    c.tolerance = 1e-5;
    check(c);
  }
}

TEST_F(NestTest, FoldDtypes) {
  for (const char *e :
       {"f64", "f16", "bf16", "i8", "ui8", "i32", "ui32", "i64"})
    for (const char *kind : {"add", "max", "min"})
      for (const char *axes : {"0", "1"}) {
        std::string type = std::string("x") + e + ">";
        OpCase c{"reduce",
                 fold(kind, axes),
                 {"tensor<21x35" + type},
                 axes[0] == '0' ? "tensor<1x35" + type : "tensor<21x1" + type,
                 {{21, 35}},
                 {}};
        c.tolerance = 1e-5;
        c.specials = kind[0] == 'm';
        c.low = -100, c.high = 100;
        check(c);
      }
  for (const char *kind : {"bit_and", "bit_or"}) {
    check({"reduce",
           fold(kind, "1"),
           {"tensor<5x40xi1>"},
           "tensor<5x1xi1>",
           {{5, 40}},
           {}});
    check({"reduce",
           fold(kind, "0"),
           {"tensor<5x40xui8>"},
           "tensor<1x40xui8>",
           {{5, 40}},
           {}});
  }
}

TEST_F(NestTest, ArgFolds) {
  for (const char *kind : {"argmax", "argmin", "argmax_last", "argmin_last"})
    for (const char *e : {"f32", "i8", "f16", "i64"})
      for (const char *axes : {"0", "1"})
        for (int64_t n : {3, 17, 90}) {
          std::string size = std::to_string(n);
          OpCase c{"reduce",
                   fold(kind, axes),
                   {"tensor<9x" + size + "x" + e + ">"},
                   axes[0] == '0' ? "tensor<1x" + size + "xi64>"
                                  : "tensor<9x1xi64>",
                   {{9, n}},
                   {}};
          c.low = -2, c.high = 2; // ties
          c.specials = e[0] == 'f' && n == 17;
          check(c);
        }
}

TEST_F(NestTest, SymbolicFolds) {
  std::string x = "tensor<?x?xf32, #graph.dims<s0, s1>>";
  for (auto [m, n] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {5, 40}, {40, 5}, {3, 0}}) {
    OpCase c{"reduce", fold("add", "1"),
             {x},      "tensor<?x1xf32, #graph.dims<s0, 1>>",
             {{m, n}}, {m, n}};
    c.tolerance = 1e-5;
    check(c);
    c = {"reduce", fold("max", "0"),
         {x},      "tensor<1x?xf32, #graph.dims<1, s0>>",
         {{m, n}}, {m, n}};
    c.result = "tensor<1x?xf32, #graph.dims<1, s1>>";
    check(c);
  }
}

TEST_F(NestTest, CumulativeSums) {
  for (const char *flags :
       {"", ", exclusive", ", reverse", ", exclusive, reverse"})
    for (const char *axis : {"0", "1"}) {
      OpCase c{"cumsum",
               std::string("axis = ") + axis + " : i64" + flags,
               {"tensor<13x37xf32>"},
               "tensor<13x37xf32>",
               {{13, 37}},
               {}};
      c.tolerance = 1e-5;
      check(c);
    }
}

std::string pool(const std::string &kind, const std::string &kernel,
                 const std::string &strides, const std::string &dilations,
                 const std::string &low, const std::string &high,
                 const std::string &more = "") {
  return "kind = #graph<pool " + kind + ">, kernel = array<i64: " + kernel +
         ">, strides = array<i64: " + strides +
         ">, dilations = array<i64: " + dilations +
         ">, pads_low = array<i64: " + low +
         ">, pads_high = array<i64: " + high + ">" + more;
}

TEST_F(NestTest, Pools) {
  for (const char *kind : {"max", "avg"}) {
    OpCase c{"pool",
             pool(kind, "3, 3", "1, 1", "1, 1", "1, 1", "1, 1"),
             {"tensor<2x3x9x37xf32>"},
             "tensor<2x3x9x37xf32>",
             {{2, 3, 9, 37}},
             {}};
    c.tolerance = 1e-5;
    check(c);
    c = {"pool",
         pool(kind, "3, 3", "2, 2", "1, 1", "1, 1", "1, 1"),
         {"tensor<1x2x15x71xf32>"},
         "tensor<1x2x8x36xf32>",
         {{1, 2, 15, 71}},
         {}};
    c.tolerance = 1e-5;
    check(c);
    c = {"pool",
         pool(kind, "2, 2", "2, 2", "1, 1", "0, 0", "0, 0"),
         {"tensor<1x2x8x66xf32>"},
         "tensor<1x2x4x33xf32>",
         {{1, 2, 8, 66}},
         {}};
    c.tolerance = 1e-5;
    check(c);
    c = {"pool",
         pool(kind, "3", "1", "2", "2", "2"),
         {"tensor<2x3x20xf32>"},
         "tensor<2x3x20xf32>",
         {{2, 3, 20}},
         {}};
    c.tolerance = 1e-5;
    check(c);
  }
  OpCase c{"pool",
           pool("avg", "3, 3", "1, 1", "1, 1", "1, 1", "1, 1",
                ", count_include_pad"),
           {"tensor<2x3x9x37xf16>"},
           "tensor<2x3x9x37xf16>",
           {{2, 3, 9, 37}},
           {}};
  check(c);
  c = {"pool",
       pool("max", "3, 3", "1, 1", "1, 1", "1, 1", "1, 1"),
       {"tensor<1x2x5x20xi8>"},
       "tensor<1x2x5x20xi8>",
       {{1, 2, 5, 20}},
       {}};
  check(c);
}

std::string conv(const std::string &strides, const std::string &dilations,
                 const std::string &low, const std::string &high, int group) {
  return "strides = array<i64: " + strides +
         ">, dilations = array<i64: " + dilations +
         ">, pads_low = array<i64: " + low +
         ">, pads_high = array<i64: " + high +
         ">, group = " + std::to_string(group) +
         " : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>";
}

TEST_F(NestTest, Convolutions) {
  auto run = [&](const std::string &attributes, std::vector<int64_t> x,
                 std::vector<int64_t> w, std::vector<int64_t> y,
                 const std::string &e = "f32") {
    auto type = [&](const std::vector<int64_t> &shape) {
      std::string text = "tensor<";
      for (int64_t n : shape)
        text += std::to_string(n) + "x";
      return text + e + ">";
    };
    OpCase c{"conv", attributes, {type(x), type(w)}, type(y), {x, w}, {}};
    c.tolerance = 2e-5;
    check(c);
  };
  // depthwise
  run(conv("1, 1", "1, 1", "1, 1", "1, 1", 6), {1, 6, 11, 56}, {6, 1, 3, 3},
      {1, 6, 11, 56});
  run(conv("1, 1", "1, 1", "1, 1", "1, 1", 6), {1, 6, 7, 7}, {6, 1, 3, 3},
      {1, 6, 7, 7});
  run(conv("2, 2", "1, 1", "1, 1", "1, 1", 4), {2, 4, 14, 70}, {4, 1, 3, 3},
      {2, 4, 7, 35});
  // dense, grouped, dilated
  run(conv("1, 1", "1, 1", "1, 1", "1, 1", 1), {2, 3, 6, 20}, {5, 3, 3, 3},
      {2, 5, 6, 20});
  run(conv("1, 1", "2, 1", "2, 0", "2, 0", 2), {1, 4, 9, 18}, {6, 2, 3, 2},
      {1, 6, 9, 17});
  run(conv("1", "1", "1", "1", 1), {2, 3, 33}, {4, 3, 3}, {2, 4, 33}, "f16");
}

TEST_F(NestTest, TransposedConvolutions) {
  OpCase c{"conv_transpose",
           "strides = array<i64: 2, 2>, dilations = array<i64: 1, 1>, pads_low "
           "= array<i64: 1, 1>, group = 1 : i64",
           {"tensor<1x3x5x9xf32>", "tensor<3x4x3x3xf32>"},
           "tensor<1x4x9x17xf32>",
           {{1, 3, 5, 9}, {3, 4, 3, 3}},
           {}};
  c.tolerance = 2e-5;
  check(c);
}

// Output sizes that the stride divides are computed a phase at a time.
TEST_F(NestTest, TransposedConvolutionPhases) {
  auto run = [&](const std::string &stride, const std::string &pad,
                 std::vector<std::string> types, const std::string &result,
                 std::vector<std::vector<int64_t>> shapes, int group = 1) {
    std::string two = stride + ", " + stride;
    OpCase c{"conv_transpose",
             "strides = array<i64: " + two +
                 ">, dilations = array<i64: 1, 1>, pads_low = array<i64: " +
                 pad + ">, group = " + std::to_string(group) + " : i64",
             types,
             result,
             shapes,
             {}};
    c.tolerance = 2e-5;
    check(c);
  };
  run("2", "0, 0", {"tensor<1x3x5x19xf32>", "tensor<3x4x2x2xf32>"},
      "tensor<1x4x10x38xf32>", {{1, 3, 5, 19}, {3, 4, 2, 2}});
  run("2", "1, 1", {"tensor<1x3x5x19xf32>", "tensor<3x2x3x3xf32>"},
      "tensor<1x2x10x38xf32>", {{1, 3, 5, 19}, {3, 2, 3, 3}});
  run("2", "1, 1", {"tensor<2x2x4x17xf16>", "tensor<2x1x4x4xf16>"},
      "tensor<2x2x8x34xf16>", {{2, 2, 4, 17}, {2, 1, 4, 4}}, 2);
  run("3", "1, 0", {"tensor<1x2x4x11xf32>", "tensor<2x2x5x5xf32>"},
      "tensor<1x2x12x33xf32>", {{1, 2, 4, 11}, {2, 2, 5, 5}});
}

TEST_F(NestTest, SymbolicWindows) {
  std::string x = "tensor<?x4x?x?xf32, #graph.dims<s0, 4, s1, s2>>";
  for (std::vector<int64_t> size :
       {std::vector<int64_t>{1, 5, 33}, {2, 1, 1}, {1, 3, 16}, {0, 4, 4}}) {
    std::vector<int64_t> shape{size[0], 4, size[1], size[2]};
    OpCase c{"conv",
             conv("1, 1", "1, 1", "1, 1", "1, 1", 4),
             {x, "tensor<4x1x3x3xf32>"},
             x,
             {shape, {4, 1, 3, 3}},
             size};
    c.tolerance = 1e-5;
    check(c);
    for (const char *kind : {"max", "avg"}) {
      c = {"pool",  pool(kind, "3, 3", "1, 1", "1, 1", "1, 1", "1, 1"),
           {x},     x,
           {shape}, size};
      c.tolerance = 1e-5;
      check(c);
    }
  }
}

std::string contract(const std::string &l, const std::string &r,
                     const std::string &o) {
  return "lhs_map = affine_map<" + l + ">, rhs_map = affine_map<" + r +
         ">, result_map = affine_map<" + o + ">";
}

TEST_F(NestTest, Contractions) {
  std::string mk = "(m, n, k) -> (m, k)", kn = "(m, n, k) -> (k, n)",
              nk = "(m, n, k) -> (n, k)", mn = "(m, n, k) -> (m, n)";
  for (const char *e : {"f32", "f64", "f16", "i32"}) {
    std::string t = std::string("x") + e + ">";
    OpCase c{"contract",
             contract(mk, kn, mn),
             {"tensor<9x13" + t, "tensor<13x35" + t},
             "tensor<9x35" + t,
             {{9, 13}, {13, 35}},
             {}};
    c.tolerance = 2e-5;
    check(c);
    c = {"contract",
         contract(mk, nk, mn),
         {"tensor<9x77" + t, "tensor<35x77" + t},
         "tensor<9x35" + t,
         {{9, 77}, {35, 77}},
         {}};
    c.tolerance = 2e-5;
    check(c);
  }
}
} // namespace
