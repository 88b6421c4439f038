// Convolutions of small groups with their channels last: vectors hold several
// groups, whose channels are read in runs.
#include "NestTest.h"

#include "dlc/Schedule/NestChoice.h"

using namespace dlc;
using namespace dlc::test;

namespace {
/// 3x3 taps, padding 1; `s` channels a group, $c of all.
const char *const conv = R"(
graph.kernel @k(%x: tensor<2x$hx$wx$cxf32>, %f: tensor<$sx3x3x$cxf32>, %b: tensor<$cxf32>) -> tensor<2x$ox$px$cxf32> attributes {symbols = []} {
  %r = graph.stage domain<2, $o, $p, $c> reduce<3, 3, $s> fold add : tensor<2x$ox$px$cxf32> {
  ^bb0(%n: index, %i: index, %j: index, %o: index, %p: index, %q: index, %k: index):
    %z = graph.literal 0.0 : f32 : f32
    %v = graph.load %x[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1 * $t + d4 - 1, d2 * $t + d5 - 1, (d3 floordiv $s) * $s + d6)>](%n, %i, %j, %o, %p, %q, %k)
      guard affine_set<(d0, d1, d2, d3, d4, d5, d6) : (d1 * $t + d4 - 1 >= 0, $h - d1 * $t - d4 >= 0, d2 * $t + d5 - 1 >= 0, $w - d2 * $t - d5 >= 0)> else %z : f32 : tensor<2x$hx$wx$cxf32> -> f32
    %u = graph.load %f[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d6, d4, d5, d3)>](%n, %i, %j, %o, %p, %q, %k) : tensor<$sx3x3x$cxf32> -> f32
    %m = graph.apply mul(%v, %u) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  %y = graph.stage domain<2, $o, $p, $c> : tensor<2x$ox$px$cxf32> {
  ^bb0(%n: index, %i: index, %j: index, %o: index):
    %v = graph.load %r[affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>](%n, %i, %j, %o) : tensor<2x$ox$px$cxf32> -> f32
    %u = graph.load %b[affine_map<(d0, d1, d2, d3) -> (d3)>](%n, %i, %j, %o) : tensor<$cxf32> -> f32
    %m = graph.apply add(%v, %u) : (f32, f32) -> f32
    graph.yield %m : f32
  }
  graph.return %y : tensor<2x$ox$px$cxf32>
}
)";

std::string with(std::string text,
                 std::vector<std::pair<std::string, int64_t>> values) {
  for (auto &[name, value] : values)
    for (size_t at; (at = text.find(name)) != std::string::npos;)
      text.replace(at, name.size(), std::to_string(value));
  return text;
}

class RunsTest : public NestTest {
protected:
  void checkConv(int64_t size, int64_t channels, int64_t h, int64_t w,
                 int64_t step, const std::string &nest) {
    int64_t o = (h - 1) / step + 1, p = (w - 1) / step + 1;
    std::string text = with(conv, {{"$h", h},
                                   {"$w", w},
                                   {"$o", o},
                                   {"$p", p},
                                   {"$c", channels},
                                   {"$s", size},
                                   {"$t", step}});
    checkText(text, {{2, h, w, channels}, {size, 3, 3, channels}, {channels}},
              {}, nest);
  }
};

TEST_F(RunsTest, SmallGroups) {
  for (int64_t size : {2, 4, 8})
    for (int64_t groups : {2, 3, 8, 9})
      for (int64_t step : {1, 2}) {
        checkConv(size, groups * size, 5, 19, step, "row");
        checkConv(size, groups * size, 3, 7, step, "row");
      }
}

// Groups of other sizes are matrices each.
TEST_F(RunsTest, OtherGroups) {
  for (int64_t size : {3, 5, 16, 32})
    checkConv(size, 2 * size, 5, 9, 1, "contraction");
}

} // namespace
