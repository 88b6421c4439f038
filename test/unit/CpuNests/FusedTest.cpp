// Kernels as fusion makes them: several stages, several results, views and
// padding with work under them. Lengths lie around every vector width.
#include "NestTest.h"

using namespace dlc;
using namespace dlc::test;

namespace {
class FusedTest : public NestTest {};

const int lengths[] = {1, 3, 8, 15, 17, 33, 70};

/// Replaces every `$name`, longest names first.
std::string with(std::string text,
                 std::vector<std::pair<std::string, std::string>> names) {
  for (auto &[name, value] : names)
    for (size_t at; (at = text.find("$" + name)) != std::string::npos;)
      text.replace(at, name.size() + 1, value);
  return text;
}

std::string str(int64_t n) { return std::to_string(n); }

// Mean, centred values, variance, quotient; the reduced axes are kept as ones.
const char *layerNorm = R"(
graph.kernel @norm(%x: tensor<$mx$nx$E>) -> tensor<$mx$nx$E> attributes {symbols = []} {
  %s = graph.stage domain<$m, 1> reduce<$n> fold add : tensor<$mx1x$E> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<$mx$nx$E> -> $E
    graph.yield %v : $E
  }
  %d = graph.stage domain<$m, $n> : tensor<$mx$nx$E> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : tensor<$mx$nx$E> -> $E
    %t = graph.load %s[affine_map<(d0, d1) -> (d0, 0)>](%i, %k) : tensor<$mx1x$E> -> $E
    %n = graph.literal $n.0 : $E : $E
    %a = graph.apply div(%t, %n) : ($E, $E) -> $E
    %r = graph.apply sub(%v, %a) : ($E, $E) -> $E
    graph.yield %r : $E
  }
  %q = graph.stage domain<$m, 1> reduce<$n> fold add : tensor<$mx1x$E> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %d[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<$mx$nx$E> -> $E
    %r = graph.apply mul(%v, %v) : ($E, $E) -> $E
    graph.yield %r : $E
  }
  %y = graph.stage domain<$m, $n> : tensor<$mx$nx$E> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %d[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : tensor<$mx$nx$E> -> $E
    %w = graph.load %q[affine_map<(d0, d1) -> (d0, 0)>](%i, %k) : tensor<$mx1x$E> -> $E
    %c = graph.literal 1.0 : $E : $E
    %z = graph.apply add(%w, %c) : ($E, $E) -> $E
    %t = graph.apply sqrt(%z) : ($E) -> $E
    %r = graph.apply div(%v, %t) : ($E, $E) -> $E
    graph.yield %r : $E
  }
  graph.return %y : tensor<$mx$nx$E>
}
)";

TEST_F(FusedTest, LayerNorm) {
  for (int n : lengths)
    checkText(with(layerNorm, {{"m", "5"}, {"n", str(n)}, {"E", "f32"}}),
              {{5, n}});
  for (const char *e : {"f64", "f16", "bf16"})
    checkText(with(layerNorm, {{"m", "3"}, {"n", "37"}, {"E", e}}), {{3, 37}});
  // One long row: a phase a stage, kept tensors shared by all tasks.
  checkText(with(layerNorm, {{"m", "1"}, {"n", "70001"}, {"E", "f64"}}),
            {{1, 70001}});
}

// e is stored by the loop of its sum; the division reads it again.
TEST_F(FusedTest, Softmax) {
  exactWhenStrict = false;
  const char *text = R"(
graph.kernel @softmax(%x: tensor<4x$nxf32>) -> tensor<4x$nxf32> attributes {symbols = []} {
  %m = graph.stage domain<4, 1> reduce<$n> fold max : tensor<4x1xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<4x$nxf32> -> f32
    graph.yield %v : f32
  }
  %e = graph.stage domain<4, $n> : tensor<4x$nxf32> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : tensor<4x$nxf32> -> f32
    %t = graph.load %m[affine_map<(d0, d1) -> (d0, 0)>](%i, %k) : tensor<4x1xf32> -> f32
    %d = graph.apply sub(%v, %t) : (f32, f32) -> f32
    %r = graph.apply exp(%d) : (f32) -> f32
    graph.yield %r : f32
  }
  %s = graph.stage domain<4, 1> reduce<$n> fold add : tensor<4x1xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %e[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<4x$nxf32> -> f32
    graph.yield %v : f32
  }
  %y = graph.stage domain<4, $n> : tensor<4x$nxf32> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %e[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : tensor<4x$nxf32> -> f32
    %w = graph.load %s[affine_map<(d0, d1) -> (d0, 0)>](%i, %k) : tensor<4x1xf32> -> f32
    %r = graph.apply div(%v, %w) : (f32, f32) -> f32
    graph.yield %r : f32
  }
  graph.return %y : tensor<4x$nxf32>
}
)";
  for (int n : lengths)
    checkText(with(text, {{"n", str(n)}}), {{4, n}});
}

// Four folds over the same points and a kept elementwise result, of rows and of
// columns: one loop.
TEST_F(FusedTest, Siblings) {
  const char *text = R"(
graph.kernel @siblings(%x: tensor<$mx$nx$E>) -> (tensor<$rx$E>, tensor<$rx$E>, tensor<$rx$E>, tensor<$rxi64>, tensor<$mx$nx$E>) attributes {symbols = []} {
  %y = graph.stage domain<$m, $n> : tensor<$mx$nx$E> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : tensor<$mx$nx$E> -> $E
    %r = graph.apply add(%v, %v) : ($E, $E) -> $E
    graph.yield %r : $E
  }
  %s = graph.stage domain<$r> reduce<$k> fold add : tensor<$rx$E> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %y[affine_map<(d0, d1) -> ($p)>](%i, %k) : tensor<$mx$nx$E> -> $E
    graph.yield %v : $E
  }
  %q = graph.stage domain<$r> reduce<$k> fold add : tensor<$rx$E> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> ($p)>](%i, %k) : tensor<$mx$nx$E> -> $E
    %r = graph.apply mul(%v, %v) : ($E, $E) -> $E
    graph.yield %r : $E
  }
  %b = graph.stage domain<$r> reduce<$k> fold max : tensor<$rx$E> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> ($p)>](%i, %k) : tensor<$mx$nx$E> -> $E
    graph.yield %v : $E
  }
  %a = graph.stage domain<$r> reduce<$k> fold argmax : tensor<$rxi64> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> ($p)>](%i, %k) : tensor<$mx$nx$E> -> $E
    graph.yield %v : $E
  }
  graph.return %s, %q, %b, %a, %y : tensor<$rx$E>, tensor<$rx$E>, tensor<$rx$E>, tensor<$rxi64>, tensor<$mx$nx$E>
}
)";
  auto check = [&](int m, int n, bool rows, const char *e) {
    checkText(with(text, {{"m", str(m)},
                          {"n", str(n)},
                          {"E", e},
                          {"r", str(rows ? m : n)},
                          {"k", str(rows ? n : m)},
                          {"p", rows ? "d0, d1" : "d1, d0"}}),
              {{m, n}});
  };
  for (int n : lengths)
    check(4, n, true, "f32");
  for (int n : {7, 16, 33})
    check(9, n, false, "f32");
  for (const char *e : {"f64", "i32", "ui8", "i64"}) {
    check(3, 37, true, e);
    check(5, 18, false, e);
  }
}

// Both results, one read by the other, in one loop over merged axes.
TEST_F(FusedTest, SeveralMaps) {
  const char *text = R"(
graph.kernel @maps(%x: tensor<3x$nx$E>, %w: tensor<$nx$E>) -> (tensor<3x$nx$E>, tensor<3x$nxi1>, tensor<3x$nx$E>) attributes {symbols = []} {
  %a = graph.stage domain<3, $n> : tensor<3x$nx$E> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : tensor<3x$nx$E> -> $E
    %u = graph.load %w[affine_map<(d0, d1) -> (d1)>](%i, %k) : tensor<$nx$E> -> $E
    %r = graph.apply sub(%v, %u) : ($E, $E) -> $E
    graph.yield %r : $E
  }
  %b = graph.stage domain<3, $n> : tensor<3x$nxi1> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %a[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : tensor<3x$nx$E> -> $E
    %u = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : tensor<3x$nx$E> -> $E
    %r = graph.apply lt(%v, %u) : ($E, $E) -> i1
    graph.yield %r : i1
  }
  %c = graph.stage domain<3, $n> : tensor<3x$nx$E> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %a[affine_map<(d0, d1) -> (2 - d0, d1)>](%i, %k) : tensor<3x$nx$E> -> $E
    graph.yield %v : $E
  }
  graph.return %a, %b, %c : tensor<3x$nx$E>, tensor<3x$nxi1>, tensor<3x$nx$E>
}
)";
  for (int n : lengths)
    checkText(with(text, {{"n", str(n)}, {"E", "f32"}}), {{3, n}, {n}});
  for (const char *e : {"f16", "i8", "ui32", "f64"})
    checkText(with(text, {{"n", "21"}, {"E", e}}), {{3, 21}, {21}});
}

// concat(relu(a), pad(b * b)): work under sets, decided by ranges.
TEST_F(FusedTest, WorkUnderSets) {
  const char *text = R"(
graph.kernel @concat(%a: tensor<2x$nx$E>, %b: tensor<2x5x$E>) -> tensor<2x$tx$E> attributes {symbols = []} {
  %y = graph.stage domain<2, $t> : tensor<2x$tx$E> {
  ^bb0(%i: index, %k: index):
    %z = graph.literal $0 : $E : $E
    %in = graph.inside[affine_set<(d0, d1) : ($n - 1 - d1 >= 0)>](%i, %k)
    %v = graph.load %a[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) guard affine_set<(d0, d1) : ($n - 1 - d1 >= 0)> else %z : $E : tensor<2x$nx$E> -> $E
    %r = graph.apply max(%v, %z) : ($E, $E) -> $E
    %one = graph.literal $1 : $E : $E
    %r1 = graph.apply add(%r, %one) : ($E, $E) -> $E
    %pad = graph.inside[affine_set<(d0, d1) : (d1 - $n - 2 >= 0, $n + 6 - d1 >= 0)>](%i, %k)
    %w = graph.load %b[affine_map<(d0, d1) -> (d0, d1 - $n - 2)>](%i, %k) guard affine_set<(d0, d1) : (d1 - $n - 2 >= 0, $n + 6 - d1 >= 0)> else %z : $E : tensor<2x5x$E> -> $E
    %s = graph.apply mul(%w, %w) : ($E, $E) -> $E
    %s1 = graph.apply add(%s, %one) : ($E, $E) -> $E
    %p = graph.apply select(%pad, %s1, %z) : (i1, $E, $E) -> $E
    %o = graph.apply select(%in, %r1, %p) : (i1, $E, $E) -> $E
    graph.yield %o : $E
  }
  graph.return %y : tensor<2x$tx$E>
}
)";
  auto check = [&](int n, std::string e) {
    bool isFloat = e[0] != 'i' && e[0] != 'u';
    checkText(with(text, {{"n", str(n)},
                          {"t", str(n + 9)},
                          {"E", e},
                          {"0", isFloat ? "0.0" : "0"},
                          {"1", isFloat ? "1.0" : "1"}}),
              {{2, n}, {2, 5}});
  };
  for (int n : lengths)
    check(n, "f32");
  for (const char *e : {"f16", "i8", "i64"})
    check(19, e);
}

// A window of max over padded work: the set clips the fold.
TEST_F(FusedTest, WindowOverWork) {
  const char *text = R"(
graph.kernel @pool(%x: tensor<2x$nxf32>) -> tensor<2x$nxf32> attributes {symbols = []} {
  %y = graph.stage domain<2, $n> reduce<3> fold $f : tensor<2x$nxf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %z = graph.literal 0.0 : f32 : f32
    %n = graph.literal $o : f32 : f32
    %in = graph.inside[affine_set<(d0, d1, d2) : (d1 + d2 - 1 >= 0, $n - d1 - d2 >= 0)>](%i, %j, %k)
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d1 + d2 - 1)>](%i, %j, %k) guard affine_set<(d0, d1, d2) : (d1 + d2 - 1 >= 0, $n - d1 - d2 >= 0)> else %z : f32 : tensor<2x$nxf32> -> f32
    %r = graph.apply sub(%v, %v) : (f32, f32) -> f32
    %t = graph.apply sub(%r, %v) : (f32, f32) -> f32
    %o = graph.apply select(%in, %t, %n) : (i1, f32, f32) -> f32
    graph.yield %o : f32
  }
  graph.return %y : tensor<2x$nxf32>
}
)";
  for (int n : lengths) {
    checkText(with(text, {{"n", str(n)}, {"f", "max"}, {"o", "0xFF800000"}}),
              {{2, n}});
    checkText(with(text, {{"n", str(n)}, {"f", "add"}, {"o", "0.0"}}),
              {{2, n}});
  }
}

// A chain in which each value is used twice: linear, not exponential.
TEST_F(FusedTest, LongChain) {
  std::string body = R"(
graph.kernel @chain(%x: tensor<130xf32>) -> tensor<130xf32> attributes {symbols = []} {
  %y = graph.stage domain<130> : tensor<130xf32> {
  ^bb0(%i: index):
    %h = graph.literal 0.5 : f32 : f32
    %v0 = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<130xf32> -> f32
)";
  for (int i = 0; i < 64; ++i) {
    std::string v = "%v" + str(i), n = str(i + 1);
    body += "    %a" + n + " = graph.apply mul(" + v +
            ", %h) : (f32, f32) -> f32\n    %b" + n + " = graph.apply min(" +
            v + ", %h) : (f32, f32) -> f32\n    %v" + n +
            " = graph.apply add(%a" + n + ", %b" + n +
            ") : (f32, f32) -> f32\n";
  }
  body += "    graph.yield %v64 : f32\n  }\n  graph.return %y : "
          "tensor<130xf32>\n}\n";
  checkText(body, {{130}});
}
} // namespace
