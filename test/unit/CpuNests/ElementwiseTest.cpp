// Elementwise kernels: every function on every dtype, broadcasting, and lengths
// around every vector width.
#include "NestTest.h"

using namespace dlc::test;

namespace {
std::string tensor(const std::string &shape, const std::string &element) {
  return "tensor<" + shape + "x" + element + ">";
}

TEST_F(NestTest, LengthsAroundVectorWidths) {
  for (int64_t n : {1, 3, 4, 5, 15, 16, 17, 31, 33, 63, 64, 65, 129}) {
    std::string type = tensor(std::to_string(n), "f32");
    check({"add", "", {type, type}, type, {{n}, {n}}, {}});
  }
}

TEST_F(NestTest, EveryDtypeAdds) {
  for (const char *e : {"f64", "f32", "f16", "bf16", "i8", "i16", "i32", "i64",
                        "ui8", "ui16", "ui32", "ui64"}) {
    std::string type = tensor("5x19", e);
    OpCase c{"add", "", {type, type}, type, {{5, 19}, {5, 19}}, {}};
    c.low = -100, c.high = 100;
    check(c);
  }
}

TEST_F(NestTest, BinaryFunctions) {
  for (const char *op :
       {"add", "sub", "mul", "div", "max", "min", "mod", "rem"})
    for (const char *e : {"f32", "f16", "i32", "ui8", "i64"}) {
      std::string type = tensor("3x37", e);
      OpCase c{op, "", {type, type}, type, {{3, 37}, {3, 37}}, {}};
      c.specials = true;
      check(c);
    }
}

TEST_F(NestTest, BitsAndShifts) {
  for (const char *op : {"bit_and", "bit_or", "bit_xor", "shl", "shr"})
    for (const char *e : {"ui8", "i16", "ui32", "i64"}) {
      std::string type = tensor("2x21", e);
      OpCase c{op, "", {type, type}, type, {{2, 21}, {2, 21}}, {}};
      c.low = -3, c.high = 70;
      check(c);
    }
  std::string type = tensor("33", "i1");
  for (const char *op : {"bit_and", "bit_or", "bit_xor"})
    check({op, "", {type, type}, type, {{33}, {33}}, {}});
  check({"bit_not", "", {type}, type, {{33}}, {}});
}

TEST_F(NestTest, Comparisons) {
  for (const char *op : {"eq", "ne", "lt", "le", "gt", "ge"})
    for (const char *e : {"f32", "f64", "bf16", "i8", "ui64", "i1"}) {
      std::string type = tensor("45", e);
      OpCase c{op, "", {type, type}, tensor("45", "i1"), {{45}, {45}}, {}};
      c.specials = true;
      check(c);
    }
}

TEST_F(NestTest, ExactUnaryFunctions) {
  for (const char *op : {"abs", "neg", "sign", "ceil", "floor", "round",
                         "trunc", "sqrt", "relu"})
    for (const char *e : {"f32", "f64", "f16", "bf16"}) {
      std::string type = tensor("4x11", e);
      OpCase c{op, "", {type}, type, {{4, 11}}, {}};
      c.specials = true;
      check(c);
    }
  for (const char *op : {"abs", "neg", "sign", "bit_not"})
    for (const char *e : {"i8", "i32", "ui16", "i64"}) {
      std::string type = tensor("35", e);
      check({op, "", {type}, type, {{35}}, {}});
    }
}

TEST_F(NestTest, ElementaryFunctions) {
  exactWhenStrict = false; // the interpreter calls libm
  for (const char *op :
       {"exp",   "log",     "sin",      "cos",  "tanh", "erf",   "tan",
        "asin",  "acos",    "atan",     "sinh", "cosh", "asinh", "acosh",
        "atanh", "sigmoid", "softplus", "mish", "gelu", "rsqrt"})
    for (const char *e : {"f32", "f64", "f16"}) {
      std::string type = tensor("3x23", e);
      std::string attributes = "";
      OpCase c{op, attributes, {type}, type, {{3, 23}}, {}};
      c.specials = true;
      check(c);
    }
}

TEST_F(NestTest, Powers) {
  exactWhenStrict = false;
  for (const char *x : {"f32", "f64", "i32", "ui8"})
    for (const char *y : {"f32", "i64", "i32"}) {
      std::string a = tensor("67", x), b = tensor("67", y);
      OpCase c{"pow", "", {a, b}, a, {{67}, {67}}, {}};
      c.specials = true;
      if (x[0] == 'i' || x[0] == 'u')
        c.low = 0, c.specials = false;
      check(c);
    }
}

TEST_F(NestTest, Casts) {
  const char *types[] = {"f64", "f32", "f16",  "bf16", "i8",   "i16", "i32",
                         "i64", "ui8", "ui16", "ui32", "ui64", "i1"};
  for (const char *from : types)
    for (const char *to : types)
      for (const char *saturate : {"", ", saturate"}) {
        bool isInteger = to[0] == 'i' || to[0] == 'u';
        if (*saturate && !isInteger)
          continue;
        std::string a = tensor("35", from), b = tensor("35", to);
        OpCase c{"convert", std::string("to = ") + to + saturate,
                 {a},       b,
                 {{35}},    {}};
        c.specials = true;
        c.low = -70000, c.high = 70000;
        exactWhenStrict = false;
        // The widest and the narrowest instruction set in turn.
        auto targets = runnableTargets();
        variants = {{numChecked % 2 ? targets.back() : targets.front(),
                     {},
                     numChecked % 3 == 0}};
        check(c);
      }
}

TEST_F(NestTest, Broadcasting) {
  check({"add",
         "",
         {"tensor<3x1x7xf32>", "tensor<5x1xf32>"},
         "tensor<3x5x7xf32>",
         {{3, 1, 7}, {5, 1}},
         {}});
  check({"mul",
         "",
         {"tensor<4x6x33xf32>", "tensor<6x1xf32>"},
         "tensor<4x6x33xf32>",
         {{4, 6, 33}, {6, 1}},
         {}});
  check({"mul",
         "",
         {"tensor<4x6x33xf32>", "tensor<f32>"},
         "tensor<4x6x33xf32>",
         {{4, 6, 33}, {}},
         {}});
  check({"select",
         "",
         {"tensor<9x1xi1>", "tensor<9x20xf32>", "tensor<20xf32>"},
         "tensor<9x20xf32>",
         {{9, 1}, {9, 20}, {20}},
         {}});
}

TEST_F(NestTest, SymbolicSizes) {
  std::string type = "tensor<?x?xf32, #graph.dims<s0, s1>>";
  for (auto [m, n] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {3, 17}, {7, 64}, {0, 5}, {5, 0}, {300, 129}}) {
    check({"add", "", {type, type}, type, {{m, n}, {m, n}}, {m, n}});
    check({"add",
           "",
           {type, "tensor<?xf32, #graph.dims<s1>>"},
           type,
           {{m, n}, {n}},
           {m, n}});
  }
}

TEST_F(NestTest, ScalarsAndEmptyTensors) {
  check(
      {"add", "", {"tensor<f32>", "tensor<f32>"}, "tensor<f32>", {{}, {}}, {}});
  check(
      {"exp", "", {"tensor<1x1x1xf32>"}, "tensor<1x1x1xf32>", {{1, 1, 1}}, {}});
  check({"add",
         "",
         {"tensor<0x5xf32>", "tensor<5xf32>"},
         "tensor<0x5xf32>",
         {{0, 5}, {5}},
         {}});
  check({"reduce",
         "kind = #graph<fold max>, axes = array<i64: 1>",
         {"tensor<3x0xf32>"},
         "tensor<3x1xf32>",
         {{3, 0}},
         {}});
  check({"reduce",
         "kind = #graph<fold add>, axes = array<i64: 0>",
         {"tensor<0x7xi32>"},
         "tensor<1x7xi32>",
         {{0, 7}},
         {}});
}

TEST_F(NestTest, ManyTasks) {
  check({"add",
         "",
         {"tensor<700x900xf32>", "tensor<900xf32>"},
         "tensor<700x900xf32>",
         {{700, 900}, {900}},
         {}});
  exactWhenStrict = false;
  check({"exp",
         "",
         {"tensor<1000003xf32>"},
         "tensor<1000003xf32>",
         {{1000003}},
         {},
         1e-6});
}

/// A planted difference must be seen, or the other tests show nothing.
TEST_F(NestTest, NegativeControl) {
  OpCase c{
      "add",        "", {"tensor<33xf32>", "tensor<33xf32>"}, "tensor<33xf32>",
      {{33}, {33}}, {}};
  dlc::graph::KernelOp kernel = build(c);
  std::vector<dlc::interp::Tensor> inputs{
      random(mlir::Float32Type::get(&context), {33}, c),
      random(mlir::Float32Type::get(&context), {33}, c)};
  auto expected = dlc::interp::Interpreter().runKernel(kernel, inputs, {});
  ASSERT_TRUE(mlir::succeeded(expected));
  dlc::interp::Tensor wrong = dlc::interp::Tensor::copy(
      (*expected)[0].getElementType(), {33}, (*expected)[0].getBytes());
  reinterpret_cast<float *>(const_cast<char *>(wrong.getBytes()))[32] += 1e-4f;
  EXPECT_NE(difference(wrong, (*expected)[0].getBytes(), 2e-6, false), "");
  EXPECT_EQ(difference((*expected)[0], (*expected)[0].getBytes(), 0, true), "");
}
} // namespace
