// Opaque operators: the emitted loops against the interpreter, at lengths
// around powers of two (runs of a merge sort), with equal elements, NaN and
// signed zeros, all element types, and symbolic sizes.
#include "NestTest.h"

#include "dlc/Codegen/CPU/OpaqueNest.h"

using namespace dlc::test;

namespace {
class OpaqueTest : public NestTest {
protected:
  OpaqueTest() {
    // One instruction set: the code has no vectors of its own.
    variants = {{runnableTargets().back(), {}, false}};
  }

  static std::string tensor(std::vector<int64_t> dims, const std::string &e) {
    std::string text = "tensor<";
    for (int64_t d : dims)
      text += std::to_string(d) + "x";
    return text + e + ">";
  }

  void sort(int64_t b, int64_t n, int64_t m, int64_t k, const std::string &e,
            bool descending) {
    OpCase c;
    c.op = "argsort";
    c.attributes = descending ? "descending" : "";
    c.types = {tensor({b, n, m}, e)};
    c.result = tensor({b, k}, "i64");
    c.shapes = {{b, n, m}};
    c.specials = true;
    check(c);
  }
};

TEST_F(OpaqueTest, SortsAllOfABatch) {
  for (int64_t n : {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 33, 100})
    for (bool descending : {false, true})
      sort(3, n, 1, n, "f32", descending);
}

TEST_F(OpaqueTest, KeepsTheFirst) {
  for (int64_t k : {1, 2, 3, 5, 8, 13, 32, 63, 64})
    for (bool descending : {false, true})
      sort(2, 64, 1, k, "f32", descending);
  sort(1, 1000, 1, 10, "f64", true);
}

TEST_F(OpaqueTest, ListsAFewOfMany) {
  for (const char *e : {"f32", "f16", "i8", "ui8", "i64"})
    for (int64_t k : {1, 2, 17})
      for (bool descending : {false, true})
        sort(2, 8 * k + 3, 1, k, e, descending);
  sort(1, 2000, 1, 128, "f32", true);
  // Any number of rows, fewer than results too: those say that there is no row.
  OpCase c;
  c.op = "argsort";
  c.types = {"tensor<?x?x1xf32, #graph.dims<s0, s1, 1>>"};
  c.result = "tensor<?x5xi64, #graph.dims<s0, 5>>";
  for (std::vector<int64_t> sizes :
       {std::vector<int64_t>{3, 5}, {1, 100}, {2, 6}, {2, 3}, {1, 0}}) {
    c.shapes = {{sizes[0], sizes[1], 1}};
    c.symbols = sizes;
    check(c);
  }
}

TEST_F(OpaqueTest, SortsEveryElementType) {
  for (const char *e : {"f64", "f16", "bf16", "i8", "i16", "i32", "i64", "ui8",
                        "ui16", "ui32", "ui64", "i1"})
    for (bool descending : {false, true})
      sort(2, 37, 1, 20, e, descending);
}

TEST_F(OpaqueTest, SortsRowsLexicographically) {
  for (int64_t m : {2, 3, 5})
    for (const char *e : {"i8", "f32", "i1"})
      sort(2, 23, m, 23, e, false);
}

TEST_F(OpaqueTest, SortsSymbolicSizes) {
  OpCase c;
  c.op = "argsort";
  c.types = {"tensor<?x?x?xi8, #graph.dims<s0, s1, s2>>"};
  c.result = "tensor<?x?xi64, #graph.dims<s0, s1>>";
  for (std::vector<int64_t> sizes :
       {std::vector<int64_t>{2, 9, 1}, {1, 30, 3}, {0, 4, 1}, {3, 0, 2}}) {
    c.shapes = {sizes};
    c.symbols = sizes;
    check(c);
  }
}

TEST_F(OpaqueTest, CompactsMasks) {
  for (int64_t n : {1, 2, 7, 64, 1000}) {
    std::string t = std::to_string(n);
    check({"compact",
           "",
           {"tensor<" + t + "xi1>"},
           "tensor<" + t + "xi64>",
           {{n}},
           {}});
  }
  check({"compact",
         "",
         {"tensor<?xi1, #graph.dims<s0>>"},
         "tensor<?xi64, #graph.dims<s0>>",
         {{77}},
         {77}});
}

TEST_F(OpaqueTest, ScattersWithEveryFold) {
  for (const char *kind : {"none", "add", "mul", "max", "min"})
    for (const char *e : {"f32", "f16", "i32", "ui8"})
      for (int64_t columns : {1, 7, 33}) {
        OpCase c;
        c.op = "scatter";
        c.attributes = std::string("kind = #graph<fold ") + kind + ">";
        c.types = {tensor({5, columns}, e), tensor({11}, "i64"),
                   tensor({11, columns}, e)};
        c.result = c.types[0];
        c.shapes = {{5, columns}, {11}, {11, columns}};
        // Positions may be negative and repeat: updates apply in order.
        c.low = -4, c.high = 4;
        check(c);
      }
}

TEST_F(OpaqueTest, ScattersInManyTasks) {
  OpCase c;
  c.op = "scatter";
  c.types = {"tensor<?x?xf32, #graph.dims<s0, s1>>",
             "tensor<?xi64, #graph.dims<s2>>",
             "tensor<?x?xf32, #graph.dims<s2, s1>>"};
  c.result = c.types[0];
  for (int64_t columns : {1, 15, 16, 17, 4096, 5001}) {
    c.shapes = {{9, columns}, {4}, {4, columns}};
    c.symbols = {9, columns, 4};
    check(c);
  }
}

TEST_F(OpaqueTest, SelectsBoxes) {
  for (const char *center : {"", "center"})
    for (int64_t k : {1, 3, 4}) {
      OpCase c;
      c.op = "nms";
      c.attributes = center;
      c.types = {tensor({2, 20, 4}, "f32"), tensor({2, 3, 20}, "f32"),
                 tensor({6, 20}, "i64"),    tensor({1}, "i64"),
                 tensor({1}, "f32"),        tensor({1}, "f32")};
      c.result = tensor({2, 3, k}, "i64");
      c.shapes = {{2, 20, 4}, {2, 3, 20}, {6, 20}, {1}, {1}, {1}};
      c.low = 0, c.high = 19;
      check(c);
    }
}

TEST_F(OpaqueTest, ReportsAnIndexOutOfRange) {
  OpCase c;
  c.op = "scatter";
  c.types = {tensor({5, 3}, "f32"), tensor({2}, "i64"), tensor({2, 3}, "f32")};
  c.result = c.types[0];
  dlc::graph::KernelOp kernel = build(c);
  ASSERT_TRUE(kernel);
  auto target = dlc::parseCpuTarget(runnableTargets().front());
  ASSERT_TRUE(static_cast<bool>(target));
  dlc::CpuCodegenOptions options;
  options.symbol = "k";
  auto code = dlc::emitOpaque(kernel, *target, options);
  ASSERT_TRUE(succeeded(code));
  std::string error;
  auto loaded = LoadedKernel::load(*code, *target, error);
  ASSERT_TRUE(loaded) << error;
  for (auto [position, isWrong] : {std::pair<int64_t, bool>{4, false},
                                   {-5, false},
                                   {5, true},
                                   {-6, true}}) {
    GuardedBuffer x(60), positions(16), updates(24), result(60);
    std::memset(x.data(), 0, 60);
    std::memset(updates.data(), 0, 24);
    positions.as<int64_t>()[0] = 0;
    positions.as<int64_t>()[1] = position;
    int status = loaded->run(
        {x.data(), positions.data(), updates.data(), result.data()}, {});
    EXPECT_EQ(status != 0, isWrong) << position;
    EXPECT_TRUE(result.intact());
  }
}
} // namespace
