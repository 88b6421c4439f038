// Products of few rows: folds that a block's threads share, with weights stored
// along the fold or across it.
#include "AttentionText.h"
#include "CudaTestUtils.h"

#include <cmath>

using namespace dlc;
using namespace dlc::test;

namespace {

/// y[m, n] = sum over k of a[m, k] * w[k, n] (or w[n, k]) + c[n].
struct FewRows {
  int64_t m, n, k;
  std::string type = "f32";
  bool isAlong = false;
  bool isDoubled = false; ///< a stage before makes 2 a of a (f32)

  std::string text() const {
    auto number = [](int64_t value) { return std::to_string(value); };
    std::string a = "tensor<" + number(m) + "x" + number(k) + "x" + type + ">",
                w = "tensor<" + number(isAlong ? n : k) + "x" +
                    number(isAlong ? k : n) + "x" + type + ">",
                c = "tensor<" + number(n) + "xf32>",
                y = "tensor<" + number(m) + "x" + number(n) + "xf32>",
                domain = "domain<" + number(m) + ", " + number(n) + ">";
    bool narrow = type != "f32";
    std::string text =
        "graph.kernel @k(%a: " + a + ", %w: " + w + ", %c: " + c + ") -> " + y +
        " {\n" + (isDoubled ? doubling(a) : "") + "  %s = graph.stage " +
        domain + " reduce<" + number(k) + "> fold add : " + y +
        R"( {
  ^bb0(%i: index, %j: index, %q: index):
    %x = graph.load )" +
        (isDoubled ? "%t" : "%a") +
        "[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %q) : " + a + " -> " +
        type + "\n    %z = graph.load %w[affine_map<(d0, d1, d2) -> " +
        (isAlong ? "(d1, d2)" : "(d2, d1)") + ">](%i, %j, %q) : " + w + " -> " +
        type + "\n";
    if (narrow)
      text += "    %u = graph.scalar_cast %x : " + type +
              " -> f32\n    %v = graph.scalar_cast %z : " + type + " -> f32\n";
    text += std::string("    %p = graph.apply mul(") +
            (narrow ? "%u, %v" : "%x, %z") + R"() : (f32, f32) -> f32
    graph.yield %p : f32
  }
  %r = graph.stage )" +
            domain + " : " + y + R"( {
  ^bb0(%i: index, %j: index):
    %x = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : )" +
            y + R"( -> f32
    %z = graph.load %c[affine_map<(d0, d1) -> (d1)>](%i, %j) : )" +
            c + R"( -> f32
    %p = graph.apply add(%x, %z) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  graph.return %r : )" +
            y + "\n}";
    return text;
  }

  std::string doubling(const std::string &a) const {
    return "  %t = graph.stage domain<" + std::to_string(m) + ", " +
           std::to_string(k) + "> : " + a + R"( {
  ^bb0(%i: index, %q: index):
    %x = graph.load %a[affine_map<(d0, d1) -> (d0, d1)>](%i, %q) : )" +
           a + R"( -> f32
    %z = graph.apply add(%x, %x) : (f32, f32) -> f32
    graph.yield %z : f32
  }
)";
  }

  std::string check(CompiledKernel &kernel) const {
    auto a = eighths(size_t(m * k), 1), w = eighths(size_t(k * n), 2),
         c = eighths(size_t(n), 3);
    std::vector<float> y(size_t(m * n), -7);
    std::string report;
    if (type == "f32") {
      report = kernel.run({in(a, "a"), in(w, "w"), in(c, "c"), out(y, "y")});
    } else {
      auto x = toBits(a, type == "bf16"), z = toBits(w, type == "bf16");
      report = kernel.run({in(x, "a"), in(z, "w"), in(c, "c"), out(y, "y")});
    }
    if (!report.empty())
      return report;
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double sum = c[size_t(j)]; // exact: sixty-fourths
        for (int64_t q = 0; q < k; ++q)
          sum += (isDoubled ? 2 : 1) * double(a[size_t(i * k + q)]) *
                 w[size_t(isAlong ? j * k + q : q * n + j)];
        if (y[size_t(i * n + j)] != float(sum))
          return "wrong number at " + std::to_string(i) + " " +
                 std::to_string(j);
      }
    return {};
  }
};

} // namespace

TEST(FewRows, AreRight) {
  for (const char *type : {"f32", "f16", "bf16"})
    for (bool isAlong : {false, true})
      for (auto [m, n, k] : {std::tuple(1, 72, 256),
                             {2, 70, 264},
                             {3, 7, 300},
                             {8, 64, 192},
                             {12, 24, 130},
                             {11, 40, 131},
                             {1, 1, 128}}) {
        FewRows rows{m, n, k, type, isAlong};
        CompiledKernel kernel(rows.text());
        ASSERT_EQ(kernel.error, "");
        EXPECT_EQ(kernel.numLaunches, 1u);
        EXPECT_EQ(rows.check(kernel), "")
            << type << " " << isAlong << " " << m << " " << n << " " << k;
      }
}

// A row with a product in it is no block's: its elements are spread out.
TEST(FewRows, AProductIsNoRow) {
  for (auto [n, launches] : {std::pair(40, 1), {520, 2}}) {
    FewRows rows{1, n, 512};
    rows.isAlong = rows.isDoubled = true;
    CompiledKernel kernel(rows.text());
    ASSERT_EQ(kernel.error, "");
    EXPECT_EQ(kernel.numLaunches, size_t(launches));
    EXPECT_EQ(rows.check(kernel), "") << n;
  }
}

// Weights in accesses of 16 bytes, read once for all rows.
TEST(FewRows, WeightsAreReadOnce) {
  auto count = [](const std::string &text, const char *what) {
    size_t found = 0;
    for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; ++at)
      ++found;
    return found;
  };
  for (int64_t m : {1, 4}) {
    CompiledKernel across(FewRows{m, 64, 1024}.text());
    // Eight steps of four columns; eight steps of each row's factors.
    EXPECT_EQ(count(across.ptx, "ld.global.v4"), size_t(8 + 2 * m));
    CompiledKernel half(FewRows{m, 64, 1024, "f16"}.text());
    EXPECT_EQ(count(half.ptx, "ld.global.v4"), size_t(8 + m));
    CompiledKernel along(FewRows{m, 64, 1024, "f32", true}.text());
    // One row alone is a row that keeps nothing: two pieces of both.
    EXPECT_EQ(count(along.ptx, "ld.global.v4"), m == 1 ? 4 : size_t(1 + m));
  }
}

// The control: a store that is missing.
TEST(FewRows, AWrongResultIsSeen) {
  FewRows rows{2, 64, 256};
  CompiledKernel kernel(rows.text());
  ASSERT_EQ(kernel.error, "");
  ASSERT_TRUE(kernel.dropStore("k"));
  EXPECT_NE(rows.check(kernel), "");
}
