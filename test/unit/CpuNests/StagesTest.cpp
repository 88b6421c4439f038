// Kernels of several stages: intermediate stages that are computed in place,
// kept a row at a time, or kept whole.
#include "NestTest.h"

using namespace dlc;
using namespace dlc::test;

namespace {
class StagesTest : public NestTest {
protected:
  StagesTest() { exactWhenStrict = false; }
};

// max, exp(x - max), sum, quotient; `exp` is used twice and kept.
std::string softmax(const std::string &m, const std::string &n,
                    const std::string &x, const std::string &row,
                    const std::string &symbols) {
  return "graph.kernel @softmax(%x: " + x + ") -> " + x +
         " attributes {symbols = [" + symbols + R"(]} {
  %m = graph.stage domain<)" +
         m + "> reduce<" + n + "> fold max : " + row +
         R"( {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : )" +
         x +
         R"( -> f32
    graph.yield %v : f32
  }
  %e = graph.stage domain<)" +
         m + ", " + n + "> : " + x + R"( {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : )" +
         x +
         R"( -> f32
    %w = graph.load %m[affine_map<(d0, d1) -> (d0)>](%i, %k) : )" +
         row +
         R"( -> f32
    %s = graph.apply sub(%v, %w) : (f32, f32) -> f32
    %r = graph.apply exp(%s) : (f32) -> f32
    graph.yield %r : f32
  }
  %s = graph.stage domain<)" +
         m + "> reduce<" + n + "> fold add : " + row +
         R"( {
  ^bb0(%i: index, %k: index):
    %v = graph.load %e[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : )" +
         x +
         R"( -> f32
    graph.yield %v : f32
  }
  %y = graph.stage domain<)" +
         m + ", " + n + "> : " + x + R"( {
  ^bb0(%i: index, %k: index):
    %v = graph.load %e[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : )" +
         x +
         R"( -> f32
    %w = graph.load %s[affine_map<(d0, d1) -> (d0)>](%i, %k) : )" +
         row +
         R"( -> f32
    %r = graph.apply div(%v, %w) : (f32, f32) -> f32
    graph.yield %r : f32
  }
  graph.return %y : )" +
         x + "\n}\n";
}

TEST_F(StagesTest, Softmax) {
  checkText(softmax("9", "77", "tensor<9x77xf32>", "tensor<9xf32>", ""),
            {{9, 77}});
  checkText(softmax("s0", "s1", "tensor<?x?xf32, #graph.dims<s0, s1>>",
                    "tensor<?xf32, #graph.dims<s0>>", "\"m\", \"n\""),
            {{300, 40}}, {300, 40});
}

// A column fold between two maps shares no axis with them: one task.
TEST_F(StagesTest, NoSharedAxis) {
  checkText(R"(
graph.kernel @columns(%x: tensor<13x37xf32>) -> tensor<13x37xf32> attributes {symbols = []} {
  %s = graph.stage domain<37> reduce<13> fold add : tensor<37xf32> {
  ^bb0(%j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d1, d0)>](%j, %k) : tensor<13x37xf32> -> f32
    graph.yield %v : f32
  }
  %y = graph.stage domain<13, 37> : tensor<13x37xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<13x37xf32> -> f32
    %w = graph.load %s[affine_map<(d0, d1) -> (d1)>](%i, %j) : tensor<37xf32> -> f32
    %r = graph.apply sub(%v, %w) : (f32, f32) -> f32
    graph.yield %r : f32
  }
  graph.return %y : tensor<13x37xf32>
}
)",
            {{13, 37}});
}

// An axis that is split for its quotient is written out by its remainder: the
// copies are no points of a register tile, though they share the scale's load.
TEST_F(StagesTest, SplitAxisOfAFold) {
  checkText(R"(
graph.kernel @groups(%x: tensor<3x7x2x40xf32>, %scale: tensor<3x7xf32>, %gain: tensor<14xf32>) -> tensor<14x40xf32> attributes {symbols = []} {
  %y = graph.stage domain<14, 40> reduce<3> fold max : tensor<14x40xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d2, d0 floordiv 2, d0 mod 2, d1)>](%i, %j, %k) : tensor<3x7x2x40xf32> -> f32
    %w = graph.load %scale[affine_map<(d0, d1, d2) -> (d2, d0 floordiv 2)>](%i, %j, %k) : tensor<3x7xf32> -> f32
    %g = graph.load %gain[affine_map<(d0, d1, d2) -> (d0)>](%i, %j, %k) : tensor<14xf32> -> f32
    %s = graph.apply mul(%v, %w) : (f32, f32) -> f32
    %r = graph.apply mul(%s, %g) : (f32, f32) -> f32
    graph.yield %r : f32
  }
  graph.return %y : tensor<14x40xf32>
}
)",
            {{3, 7, 2, 40}, {3, 7}, {14}});
}

// One result is read by the stage of another; a third stage is inlined.
TEST_F(StagesTest, SeveralResults) {
  checkText(R"(
graph.kernel @results(%x: tensor<5x8x19xf32>) -> (tensor<5x8xf32>, tensor<5x8x19xf32>) attributes {symbols = []} {
  %a = graph.stage domain<5, 8, 19> : tensor<5x8x19xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d1, d2)>](%i, %j, %k) : tensor<5x8x19xf32> -> f32
    %r = graph.apply mul(%v, %v) : (f32, f32) -> f32
    graph.yield %r : f32
  }
  %s = graph.stage domain<5, 8> reduce<19> fold add : tensor<5x8xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d1, d2)>](%i, %j, %k) : tensor<5x8x19xf32> -> f32
    graph.yield %v : f32
  }
  %y = graph.stage domain<5, 8, 19> : tensor<5x8x19xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d1, d2)>](%i, %j, %k) : tensor<5x8x19xf32> -> f32
    %w = graph.load %s[affine_map<(d0, d1, d2) -> (d0, d1)>](%i, %j, %k) : tensor<5x8xf32> -> f32
    %r = graph.apply sub(%v, %w) : (f32, f32) -> f32
    graph.yield %r : f32
  }
  graph.return %s, %y : tensor<5x8xf32>, tensor<5x8x19xf32>
}
)",
            {{5, 8, 19}});
}

// A kept stage of each element size, loaded under a guard and shifted.
TEST_F(StagesTest, ShiftedUse) {
  for (std::string e : {"f32", "f16", "i8"}) {
    std::string text = R"(
graph.kernel @shift(%x: tensor<6x40xE>) -> tensor<6x40xE> attributes {symbols = []} {
  %a = graph.stage domain<6, 40> : tensor<6x40xE> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<6x40xE> -> E
    %r = graph.apply add(%v, %v) : (E, E) -> E
    graph.yield %r : E
  }
  %y = graph.stage domain<6, 40> : tensor<6x40xE> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %a[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<6x40xE> -> E
    %w = graph.load %a[affine_map<(d0, d1) -> (d0, d1 - 3)>](%i, %j) guard affine_set<(d0, d1) : (d1 - 3 >= 0)> else %v : E : tensor<6x40xE> -> E
    %r = graph.apply sub(%v, %w) : (E, E) -> E
    graph.yield %r : E
  }
  graph.return %y : tensor<6x40xE>
}
)";
    for (size_t at; (at = text.find('E')) != std::string::npos;)
      text.replace(at, 1, e);
    checkText(text, {{6, 40}});
  }
}
} // namespace
