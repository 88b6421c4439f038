// The text of an attention kernel whose parts a test may change.
#ifndef DLC_TEST_UNIT_SCHEDULE_ATTENTIONKERNELS_H
#define DLC_TEST_UNIT_SCHEDULE_ATTENTIONKERNELS_H

#include <string>

namespace dlc::test {

/// Two batches, four query heads over two key heads, five queries, seven keys,
/// head width 8, value width 6. Parts that a test changes have names.
struct Parts {
  std::string t = "graph.yield %c : f32";            // %s, %i, %j -> the score
  std::string largest = "(d0, d1, d2, d4)";          // map of max's load of %t
  std::string exponent = "sub(%x, %m) : (f32, f32)"; // of %x, %m
  std::string weight = "div(%e, %z) : (f32, f32)";   // of %e, %z
  std::string exponential = ""; // more of %e, ending in %e2
  std::string ofExp = "%e";     // what the exponential stage yields
  std::string sumRow = "(d0, d1, d2, 0)", maxRow = "(d0, d1, d2, 0)";
  std::string factor = ""; // more of the values %x, giving %xx
  std::string ofValue = "%x";
  std::string keyHead = "d1 floordiv 2", valueHead = "d1 floordiv 2";
  std::string results = "%o", types = "tensor<2x4x5x6xf32>";
  std::string after;
};

inline std::string kernel(const Parts &p) {
  const std::string four = "affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>",
                    maxRow = "affine_map<(d0, d1, d2, d3) -> " + p.maxRow + ">",
                    row = "affine_map<(d0, d1, d2, d3) -> " + p.sumRow + ">";
  return R"(graph.kernel @k(%q: tensor<2x4x5x8xf32>, %k: tensor<2x2x7x8xf32>, %v: tensor<2x2x7x6xf32>) -> ()" +
         p.types + R"() attributes {symbols = []} {
  %s = graph.stage domain<2, 4, 5, 7> reduce<8> fold add : tensor<2x4x5x7xf32> {
  ^bb0(%b: index, %h: index, %i: index, %j: index, %d: index):
    %x = graph.load %q[affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d4)>](%b, %h, %i, %j, %d) : tensor<2x4x5x8xf32> -> f32
    %y = graph.load %k[affine_map<(d0, d1, d2, d3, d4) -> (d0, )" +
         p.keyHead +
         R"(, d3, d4)>](%b, %h, %i, %j, %d) : tensor<2x2x7x8xf32> -> f32
    %p = graph.apply mul(%x, %y) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  %t = graph.stage domain<2, 4, 5, 7> : tensor<2x4x5x7xf32> {
  ^bb0(%b: index, %h: index, %i: index, %j: index):
    %x = graph.load %s[)" +
         four + R"(](%b, %h, %i, %j) : tensor<2x4x5x7xf32> -> f32
    %a = graph.literal 0.35 : f32 : f32
    %c = graph.apply mul(%x, %a) : (f32, f32) -> f32
    )" + p.t +
         R"(
  }
  %mm = graph.stage domain<2, 4, 5, 1> reduce<7> fold max : tensor<2x4x5x1xf32> {
  ^bb0(%b: index, %h: index, %i: index, %o1: index, %j: index):
    %x = graph.load %t[affine_map<(d0, d1, d2, d3, d4) -> )" +
         p.largest +
         R"(>](%b, %h, %i, %o1, %j) : tensor<2x4x5x7xf32> -> f32
    graph.yield %x : f32
  }
  %ee = graph.stage domain<2, 4, 5, 7> : tensor<2x4x5x7xf32> {
  ^bb0(%b: index, %h: index, %i: index, %j: index):
    %x = graph.load %t[)" +
         four + R"(](%b, %h, %i, %j) : tensor<2x4x5x7xf32> -> f32
    %m = graph.load %mm[)" +
         maxRow + R"(](%b, %h, %i, %j) : tensor<2x4x5x1xf32> -> f32
    %u = graph.apply )" +
         p.exponent + R"( -> f32
    %e = graph.apply exp(%u) : (f32) -> f32
    )" + p.exponential +
         R"(
    graph.yield )" +
         p.ofExp + R"( : f32
  }
  %zz = graph.stage domain<2, 4, 5, 1> reduce<7> fold add : tensor<2x4x5x1xf32> {
  ^bb0(%b: index, %h: index, %i: index, %o1: index, %j: index):
    %x = graph.load %ee[affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d4)>](%b, %h, %i, %o1, %j) : tensor<2x4x5x7xf32> -> f32
    graph.yield %x : f32
  }
  %pp = graph.stage domain<2, 4, 5, 7> : tensor<2x4x5x7xf32> {
  ^bb0(%b: index, %h: index, %i: index, %j: index):
    %e = graph.load %ee[)" +
         four + R"(](%b, %h, %i, %j) : tensor<2x4x5x7xf32> -> f32
    %z = graph.load %zz[)" +
         row + R"(](%b, %h, %i, %j) : tensor<2x4x5x1xf32> -> f32
    %w = graph.apply )" +
         p.weight + R"( -> f32
    graph.yield %w : f32
  }
  %o = graph.stage domain<2, 4, 5, 6> reduce<7> fold add : tensor<2x4x5x6xf32> {
  ^bb0(%b: index, %h: index, %i: index, %c: index, %j: index):
    %w = graph.load %pp[affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d4)>](%b, %h, %i, %c, %j) : tensor<2x4x5x7xf32> -> f32
    %x = graph.load %v[affine_map<(d0, d1, d2, d3, d4) -> (d0, )" +
         p.valueHead +
         R"(, d4, d3)>](%b, %h, %i, %c, %j) : tensor<2x2x7x6xf32> -> f32
    )" + p.factor +
         R"(
    %y = graph.apply mul(%w, )" +
         p.ofValue + R"() : (f32, f32) -> f32
    graph.yield %y : f32
  }
)" + p.after +
         "  graph.return " + p.results + " : " + p.types + "\n}\n";
}

} // namespace dlc::test

#endif // DLC_TEST_UNIT_SCHEDULE_ATTENTIONKERNELS_H
