// Contractions with stages around the sum: the contraction nest takes them, and
// computes what the interpreter does, bit for bit in strict mode.
#include "NestTest.h"

using namespace dlc;
using namespace dlc::test;

namespace {
class FusedContractionTest : public NestTest {};

std::string with(std::string text,
                 std::vector<std::pair<std::string, std::string>> names) {
  for (auto &[name, value] : names)
    for (size_t at; (at = text.find("$" + name)) != std::string::npos;)
      text.replace(at, name.size() + 1, value);
  return text;
}

std::string str(int64_t n) { return std::to_string(n); }

// relu(a) x b: the sum, then bias along columns, residual and relu; the sum,
// the biased value and the last one are kept.
const char *gemm = R"(
graph.kernel @gemm(%a: tensor<$mx$kx$E>, %b: tensor<$kx$nx$E>, %c: tensor<$nx$E>, %d: tensor<$mx$nx$E>, %r: tensor<$mx1x$E>) -> ($results) attributes {symbols = []} {
  %s = graph.stage domain<$m, $n> reduce<$k> fold add : tensor<$mx$nx$E> {
  ^bb0(%i: index, %j: index, %l: index):
    %z = graph.literal $0 : $E : $E
    %x = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %l) : tensor<$mx$kx$E> -> $E
    %y = graph.apply max(%x, %z) : ($E, $E) -> $E
    %w = graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, %l) : tensor<$kx$nx$E> -> $E
    %p = graph.apply mul(%y, %w) : ($E, $E) -> $E
    graph.yield %p : $E
  }
  %t = graph.stage domain<$m, $n> : tensor<$mx$nx$E> {
  ^bb0(%i: index, %j: index):
    %x = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<$mx$nx$E> -> $E
    %y = graph.load %c[affine_map<(d0, d1) -> (d1)>](%i, %j) : tensor<$nx$E> -> $E
    %p = graph.apply add(%x, %y) : ($E, $E) -> $E
    graph.yield %p : $E
  }
  %u = graph.stage domain<$m, $n> : tensor<$mx$nx$E> {
  ^bb0(%i: index, %j: index):
    %z = graph.literal $0 : $E : $E
    %x = graph.load %t[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<$mx$nx$E> -> $E
    %o = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<$mx$nx$E> -> $E
    %y = graph.load %d[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<$mx$nx$E> -> $E
    %w = graph.load %r[affine_map<(d0, d1) -> (d0, 0)>](%i, %j) : tensor<$mx1x$E> -> $E
    %p = graph.apply add(%x, %y) : ($E, $E) -> $E
    %q = graph.apply sub(%p, %w) : ($E, $E) -> $E
    %e = graph.apply max(%q, %z) : ($E, $E) -> $E
    %f = graph.apply sub(%e, %o) : ($E, $E) -> $E
    graph.yield %f : $E
  }
  graph.return $values : $results
}
)";

TEST_F(FusedContractionTest, SeveralResults) {
  auto check = [&](int m, int n, int k, std::string e,
                   const std::string &values) {
    std::string type = "tensor<" + str(m) + "x" + str(n) + "x" + e + ">",
                results;
    for (size_t i = 0; i < values.size(); i += 4)
      results += (i ? ", " : "") + type;
    bool isFloat = e[0] == 'f';
    checkText(with(gemm, {{"results", results},
                          {"values", values},
                          {"m", str(m)},
                          {"n", str(n)},
                          {"k", str(k)},
                          {"E", e},
                          {"0", isFloat ? "0.0" : "0"}}),
              {{m, k}, {k, n}, {n}, {m, n}, {m, 1}}, {}, "contraction");
  };
  check(5, 7, 3, "f32", "%u");
  check(29, 33, 40, "f32", "%u, %s");
  check(30, 64, 17, "f32", "%s, %t, %u");
  check(1, 50, 16, "f32", "%t, %u");
  check(61, 20, 9, "f64", "%t, %s");
  check(16, 37, 5, "i32", "%u, %t");
}

// The result is [head, row, column of head]: a transposed view of the sum. And
// back: heads are put side by side.
TEST_F(FusedContractionTest, Views) {
  const char *split = R"(
graph.kernel @split(%a: tensor<$mx20xf32>, %b: tensor<20x$cxf32>, %c: tensor<$cxf32>) -> tensor<3x$mx$hxf32> attributes {symbols = []} {
  %s = graph.stage domain<$m, $c> reduce<20> fold add : tensor<$mx$cxf32> {
  ^bb0(%i: index, %j: index, %l: index):
    %x = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %l) : tensor<$mx20xf32> -> f32
    %w = graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, %l) : tensor<20x$cxf32> -> f32
    %p = graph.apply mul(%x, %w) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  %t = graph.stage domain<$m, $c> : tensor<$mx$cxf32> {
  ^bb0(%i: index, %j: index):
    %x = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<$mx$cxf32> -> f32
    %y = graph.load %c[affine_map<(d0, d1) -> (d1)>](%i, %j) : tensor<$cxf32> -> f32
    %p = graph.apply add(%x, %y) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  %v = graph.stage domain<3, $m, $h> : tensor<3x$mx$hxf32> {
  ^bb0(%h: index, %i: index, %j: index):
    %x = graph.load %t[affine_map<(d0, d1, d2) -> (d1, d0 * $h + d2)>](%h, %i, %j) : tensor<$mx$cxf32> -> f32
    graph.yield %x : f32
  }
  graph.return %v : tensor<3x$mx$hxf32>
}
)";
  for (int h : {5, 16, 33})
    checkText(with(split, {{"m", "18"}, {"c", str(3 * h)}, {"h", str(h)}}),
              {{18, 20}, {20, 3 * h}, {3 * h}}, {}, "contraction");
  const char *merge = R"(
graph.kernel @merge(%a: tensor<3x18x20xf32>, %b: tensor<3x20x$hxf32>) -> tensor<18x$cxf32> attributes {symbols = []} {
  %s = graph.stage domain<3, 18, $h> reduce<20> fold add : tensor<3x18x$hxf32> {
  ^bb0(%e: index, %i: index, %j: index, %l: index):
    %x = graph.load %a[affine_map<(d0, d1, d2, d3) -> (d0, d1, d3)>](%e, %i, %j, %l) : tensor<3x18x20xf32> -> f32
    %w = graph.load %b[affine_map<(d0, d1, d2, d3) -> (d0, d3, d2)>](%e, %i, %j, %l) : tensor<3x20x$hxf32> -> f32
    %p = graph.apply mul(%x, %w) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  %v = graph.stage domain<18, $c> : tensor<18x$cxf32> {
  ^bb0(%i: index, %j: index):
    %x = graph.load %s[affine_map<(d0, d1) -> (d1 floordiv $h, d0, d1 mod $h)>](%i, %j) : tensor<3x18x$hxf32> -> f32
    %r = graph.apply neg(%x) : (f32) -> f32
    graph.yield %r : f32
  }
  graph.return %v : tensor<18x$cxf32>
}
)";
  for (int h : {7, 16, 35})
    checkText(with(merge, {{"c", str(3 * h)}, {"h", str(h)}}),
              {{3, 18, 20}, {3, 20, h}}, {}, "contraction");
}

// A convolution of padded work (a factor under a set), bias along rows, a
// residual and a conversion; symbolic sizes.
TEST_F(FusedContractionTest, Convolution) {
  const char *conv = R"(
graph.kernel @conv(%x: tensor<4x?x$wxf32, #graph.dims<4, s0, $w>>, %k: tensor<6x4x3x3xf32>, %b: tensor<6xf32>, %d: tensor<6x?x$wxf32, #graph.dims<6, s0, $w>>) -> tensor<6x?x$wxf64, #graph.dims<6, s0, $w>> attributes {symbols = ["h"]} {
  %s = graph.stage domain<6, s0, $w> reduce<4, 3, 3> fold add : tensor<6x?x$wxf32, #graph.dims<6, s0, $w>> {
  ^bb0(%o: index, %i: index, %j: index, %c: index, %p: index, %q: index):
    %z = graph.literal 0.0 : f32 : f32
    %one = graph.literal 1.0 : f32 : f32
    %f = graph.load %k[affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, d3, d4, d5)>](%o, %i, %j, %c, %p, %q) : tensor<6x4x3x3xf32> -> f32
    %in = graph.inside[affine_set<(d0, d1, d2, d3, d4, d5)[s0] : (d1 + d4 - 1 >= 0, s0 - d1 - d4 >= 0, d2 + d5 - 1 >= 0, $w - d2 - d5 >= 0)>](%o, %i, %j, %c, %p, %q)
    %v = graph.load %x[affine_map<(d0, d1, d2, d3, d4, d5) -> (d3, d1 + d4 - 1, d2 + d5 - 1)>](%o, %i, %j, %c, %p, %q) guard affine_set<(d0, d1, d2, d3, d4, d5)[s0] : (d1 + d4 - 1 >= 0, s0 - d1 - d4 >= 0, d2 + d5 - 1 >= 0, $w - d2 - d5 >= 0)> else %z : f32 : tensor<4x?x$wxf32, #graph.dims<4, s0, $w>> -> f32
    %v1 = graph.apply add(%v, %one) : (f32, f32) -> f32
    %g = graph.apply select(%in, %v1, %z) : (i1, f32, f32) -> f32
    %r = graph.apply mul(%g, %f) : (f32, f32) -> f32
    graph.yield %r : f32
  }
  %y = graph.stage domain<6, s0, $w> : tensor<6x?x$wxf64, #graph.dims<6, s0, $w>> {
  ^bb0(%o: index, %i: index, %j: index):
    %v = graph.load %s[affine_map<(d0, d1, d2) -> (d0, d1, d2)>](%o, %i, %j) : tensor<6x?x$wxf32, #graph.dims<6, s0, $w>> -> f32
    %b0 = graph.load %b[affine_map<(d0, d1, d2) -> (d0)>](%o, %i, %j) : tensor<6xf32> -> f32
    %d0 = graph.load %d[affine_map<(d0, d1, d2) -> (d0, d1, d2)>](%o, %i, %j) : tensor<6x?x$wxf32, #graph.dims<6, s0, $w>> -> f32
    %c0 = graph.coord[affine_map<(d0, d1, d2) -> (d2)>](%o, %i, %j)
    %c1 = graph.scalar_cast %c0 : i64 -> f32
    %t = graph.apply add(%v, %b0) : (f32, f32) -> f32
    %u = graph.apply add(%t, %d0) : (f32, f32) -> f32
    %w = graph.apply add(%u, %c1) : (f32, f32) -> f32
    %r = graph.scalar_cast %w : f32 -> f64
    graph.yield %r : f64
  }
  graph.return %y : tensor<6x?x$wxf64, #graph.dims<6, s0, $w>>
}
)";
  for (int w : {5, 16, 19})
    checkText(with(conv, {{"w", str(w)}}),
              {{4, 9, w}, {6, 4, 3, 3}, {6}, {6, 9, w}}, {9}, "contraction");
}

// What the nest must leave to the loop nests: a second fold, an index from
// data, sums that are wanted more than once.
TEST_F(FusedContractionTest, Declines) {
  const char *text = R"(
graph.kernel @rows(%a: tensor<20x30xf32>, %b: tensor<30x40xf32>) -> tensor<20xf32> attributes {symbols = []} {
  %s = graph.stage domain<20, 40> reduce<30> fold add : tensor<20x40xf32> {
  ^bb0(%i: index, %j: index, %l: index):
    %x = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %l) : tensor<20x30xf32> -> f32
    %w = graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, %l) : tensor<30x40xf32> -> f32
    %p = graph.apply mul(%x, %w) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  %t = graph.stage domain<20> reduce<40> fold max : tensor<20xf32> {
  ^bb0(%i: index, %j: index):
    %x = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<20x40xf32> -> f32
    graph.yield %x : f32
  }
  graph.return %t : tensor<20xf32>
}
)";
  checkText(text, {{20, 30}, {30, 40}}, {}, "row");
  const char *repeated = R"(
graph.kernel @repeated(%a: tensor<20x30xf32>, %b: tensor<30x40xf32>) -> tensor<2x20x40xf32> attributes {symbols = []} {
  %s = graph.stage domain<20, 40> reduce<30> fold add : tensor<20x40xf32> {
  ^bb0(%i: index, %j: index, %l: index):
    %x = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %l) : tensor<20x30xf32> -> f32
    %w = graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, %l) : tensor<30x40xf32> -> f32
    %p = graph.apply mul(%x, %w) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  %t = graph.stage domain<2, 20, 40> : tensor<2x20x40xf32> {
  ^bb0(%h: index, %i: index, %j: index):
    %x = graph.load %s[affine_map<(d0, d1, d2) -> (d1, d2)>](%h, %i, %j) : tensor<20x40xf32> -> f32
    graph.yield %x : f32
  }
  graph.return %t : tensor<2x20x40xf32>
}
)";
  checkText(repeated, {{20, 30}, {30, 40}}, {}, "row");
}
} // namespace
