// Maps that read along another axis than they write, and folds that several
// blocks share.
#include "CudaTestUtils.h"

#include "llvm/IR/Instructions.h"

using namespace dlc;
using namespace dlc::test;

namespace {

/// y[i, j] = (x[j, i] + b[j]) * 2, and z = y - w, of TYPE.
std::string turned(const std::string &type) {
  std::string text = R"(
graph.kernel @k(%x: tensor<?x?xTYPE, #graph.dims<s1, s0>>, %b: tensor<?xTYPE, #graph.dims<s1>>, %w: tensor<?x?xTYPE, #graph.dims<s0, s1>>)
    -> (tensor<?x?xTYPE, #graph.dims<s0, s1>>, tensor<?x?xTYPE, #graph.dims<s0, s1>>) attributes {symbols = ["m", "n"]} {
  %s = graph.stage domain<s0, s1> : tensor<?x?xTYPE, #graph.dims<s0, s1>> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d1, d0)>](%i, %j) : tensor<?x?xTYPE, #graph.dims<s1, s0>> -> TYPE
    %c = graph.load %b[affine_map<(d0, d1) -> (d1)>](%i, %j) : tensor<?xTYPE, #graph.dims<s1>> -> TYPE
    %t = graph.apply add(%v, %c) : (TYPE, TYPE) -> TYPE
    %u = graph.apply add(%t, %t) : (TYPE, TYPE) -> TYPE
    graph.yield %u : TYPE
  }
  %r = graph.stage domain<s0, s1> : tensor<?x?xTYPE, #graph.dims<s0, s1>> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<?x?xTYPE, #graph.dims<s0, s1>> -> TYPE
    %c = graph.load %w[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<?x?xTYPE, #graph.dims<s0, s1>> -> TYPE
    %t = graph.apply sub(%v, %c) : (TYPE, TYPE) -> TYPE
    graph.yield %t : TYPE
  }
  graph.return %s, %r : tensor<?x?xTYPE, #graph.dims<s0, s1>>, tensor<?x?xTYPE, #graph.dims<s0, s1>>
})";
  for (size_t at; (at = text.find("TYPE")) != std::string::npos;)
    text.replace(at, 4, type);
  return text;
}

/// Empty when there is no report and every number is right.
template <typename T>
std::string check(CompiledKernel &kernel, int64_t m, int64_t n) {
  std::vector<T> x(m * n), b(n), w(m * n), y(m * n, 77), z(m * n, 77);
  for (int64_t i = 0; i < m * n; ++i)
    x[i] = static_cast<T>(i % 29), w[i] = static_cast<T>(i % 7);
  for (int64_t j = 0; j < n; ++j)
    b[j] = static_cast<T>(j % 5);
  std::string report = kernel.run(
      {in(x, "x"), in(b, "b"), in(w, "w"), out(y, "y"), out(z, "z")}, {m, n});
  if (!report.empty())
    return report;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      T wanted = static_cast<T>((x[j * m + i] + b[j]) * 2);
      if (y[i * n + j] != wanted ||
          z[i * n + j] != static_cast<T>(wanted - w[i * n + j]))
        return "wrong number at " + std::to_string(i) + " " + std::to_string(j);
    }
  return {};
}

template <typename T>
void checkSizes(const std::string &type) {
  CompiledKernel kernel(turned(type));
  ASSERT_EQ(kernel.error, "");
  EXPECT_EQ(kernel.numLaunches, 1u);
  EXPECT_NE(kernel.ptx.find(".shared"), std::string::npos);
  struct {
    int64_t m, n;
  } sizes[] = {{1, 1}, {32, 32}, {33, 31}, {70, 100}, {0, 5}};
  for (auto [m, n] : sizes)
    EXPECT_EQ(check<T>(kernel, m, n), "") << type << " " << m << "x" << n;
}

/// y[i] = 3 * (1 + sum or max of row i of x).
std::string rowFold(int64_t rows, int64_t columns, const std::string &fold) {
  std::string x = std::to_string(rows) + "x" + std::to_string(columns),
              y = std::to_string(rows);
  return "graph.kernel @k(%x: tensor<" + x + "xf32>) -> tensor<" + y +
         "xf32> {\n  %s = graph.stage domain<" + y + "> reduce<" +
         std::to_string(columns) + "> fold " + fold + " : tensor<" + y +
         R"(xf32> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : tensor<)" +
         x + R"(xf32> -> f32
    graph.yield %v : f32
  }
  %r = graph.stage domain<)" +
         y + "> : tensor<" + y + R"(xf32> {
  ^bb0(%i: index):
    %v = graph.load %s[affine_map<(d0) -> (d0)>](%i) : tensor<)" +
         y + R"(xf32> -> f32
    %c = graph.literal 3.0 : f32 : f32
    %t = graph.apply mul(%v, %c) : (f32, f32) -> f32
    graph.yield %t : f32
  }
  graph.return %r : tensor<)" +
         y + "xf32>\n}";
}

std::string checkFold(CompiledKernel &kernel, int64_t rows, int64_t columns,
                      bool isMax) {
  std::vector<float> x(rows * columns), y(rows, -7);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<float>(i * 7 % 13) - 9; // exact in any order
  std::string report = kernel.run({in(x, "x"), out(y, "y")});
  if (!report.empty())
    return report;
  for (int64_t i = 0; i < rows; ++i) {
    double fold = isMax ? -1e9 : 0;
    for (int64_t k = 0; k < columns; ++k) {
      double value = x[i * columns + k];
      fold = isMax ? std::max(fold, value) : fold + value;
    }
    if (y[i] != 3 * fold)
      return "wrong number at " + std::to_string(i);
  }
  return {};
}

} // namespace

TEST(Turned, EverySize) {
  checkSizes<float>("f32");
  checkSizes<int64_t>("i64");
  checkSizes<int8_t>("i8");
}

TEST(Turned, OnlyAcrossTheResult) {
  // Read along the result's own axis: no tile.
  std::string text = turned("f32");
  for (size_t at; (at = text.find("(d1, d0)")) != std::string::npos;)
    text.replace(at, 8, "(d0, d1)");
  for (size_t at; (at = text.find("<s1, s0>")) != std::string::npos;)
    text.replace(at, 8, "<s0, s1>");
  CompiledKernel kernel(text);
  ASSERT_EQ(kernel.error, "");
  EXPECT_EQ(kernel.ptx.find(".shared"), std::string::npos);
}

TEST(Turned, TheBarrierIsNeeded) {
  CompiledKernel kernel(turned("f32"));
  ASSERT_TRUE(kernel.dropBarrier(0));
  EXPECT_NE(check<float>(kernel, 64, 64).find("race at byte"),
            std::string::npos);
}

TEST(SharedFold, PartsOfLongRows) {
  for (bool isMax : {false, true}) {
    struct {
      int64_t rows, columns;
      size_t launches;
    } cases[] = {{1, 40001, 2}, {3, 16384, 2}, {3, 16383, 1}, {60, 20000, 1}};
    for (auto [rows, columns, launches] : cases) {
      CompiledKernel kernel(rowFold(rows, columns, isMax ? "max" : "add"));
      ASSERT_EQ(kernel.error, "");
      EXPECT_EQ(kernel.numLaunches, launches) << rows << " " << columns;
      EXPECT_EQ(checkFold(kernel, rows, columns, isMax), "")
          << rows << " " << columns;
    }
  }
}

TEST(SharedFold, StrictFoldsKeepTheirOrder) {
  CompiledKernel kernel(rowFold(1, 40001, "add"), "cuda:sm=80",
                        /*strict=*/true);
  EXPECT_EQ(kernel.numLaunches, 1u);
}

// The control: a part that is not stored is missed.
TEST(SharedFold, EveryPartCounts) {
  CompiledKernel kernel(rowFold(1, 40001, "add"));
  ASSERT_EQ(kernel.error, "");
  ASSERT_TRUE(kernel.dropStore("k__parts"));
  EXPECT_NE(checkFold(kernel, 1, 40001, false), "");
}
