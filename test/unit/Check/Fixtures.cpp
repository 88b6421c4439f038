#include "Fixtures.h"

using namespace dlc;
using namespace dlc::test;

// softmax over 8 rows of 16: reductions kept in row buffers, one row at a time.
static const Fixture softmax = {"softmax", R"(
graph.kernel @rmax(%x: tensor<8x16xf32>) -> tensor<8x1xf32> attributes {symbols = []} {
  %r = graph.stage domain <8, 1> reduce <16> fold max : tensor<8x1xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<8x16xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<8x1xf32>
}
graph.kernel @sub(%x: tensor<8x16xf32>, %y: tensor<8x1xf32>) -> tensor<8x16xf32> attributes {symbols = []} {
  %r = graph.stage domain <8, 16> : tensor<8x16xf32> {
  ^bb0(%i: index, %j: index):
    %a = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<8x16xf32> -> f32
    %b = graph.load %y[affine_map<(d0, d1) -> (d0, 0)>](%i, %j) : tensor<8x1xf32> -> f32
    %c = graph.apply sub(%a, %b) : (f32, f32) -> f32
    graph.yield %c : f32
  }
  graph.return %r : tensor<8x16xf32>
}
graph.kernel @exp(%x: tensor<8x16xf32>) -> tensor<8x16xf32> attributes {symbols = []} {
  %r = graph.stage domain <8, 16> : tensor<8x16xf32> {
  ^bb0(%i: index, %j: index):
    %a = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<8x16xf32> -> f32
    %c = graph.apply exp(%a) : (f32) -> f32
    graph.yield %c : f32
  }
  graph.return %r : tensor<8x16xf32>
}
graph.kernel @rsum(%x: tensor<8x16xf32>) -> tensor<8x1xf32> attributes {symbols = []} {
  %r = graph.stage domain <8, 1> reduce <16> fold add : tensor<8x1xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<8x16xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<8x1xf32>
}
graph.kernel @div(%x: tensor<8x16xf32>, %y: tensor<8x1xf32>) -> tensor<8x16xf32> attributes {symbols = []} {
  %r = graph.stage domain <8, 16> : tensor<8x16xf32> {
  ^bb0(%i: index, %j: index):
    %a = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<8x16xf32> -> f32
    %b = graph.load %y[affine_map<(d0, d1) -> (d0, 0)>](%i, %j) : tensor<8x1xf32> -> f32
    %c = graph.apply div(%a, %b) : (f32, f32) -> f32
    graph.yield %c : f32
  }
  graph.return %r : tensor<8x16xf32>
}
)",
                                R"(
func.func @main(%x: tensor<8x16xf32>) -> (tensor<8x16xf32>, tensor<8x1xf32>) {
  %m = graph.call @rmax(%x) : (tensor<8x16xf32>) -> tensor<8x1xf32>
  %d = graph.call @sub(%x, %m) : (tensor<8x16xf32>, tensor<8x1xf32>) -> tensor<8x16xf32>
  %e = graph.call @exp(%d) : (tensor<8x16xf32>) -> tensor<8x16xf32>
  %s = graph.call @rsum(%e) : (tensor<8x16xf32>) -> tensor<8x1xf32>
  %y = graph.call @div(%e, %s) : (tensor<8x16xf32>, tensor<8x1xf32>) -> tensor<8x16xf32>
  return %y, %s : tensor<8x16xf32>, tensor<8x1xf32>
}
)",
                                R"(
graph.kernel @fused(%x: tensor<8x16xf32>) -> (tensor<8x16xf32>, tensor<8x1xf32>) attributes {symbols = [], rows = 1} {
  %m = graph.stage domain <8, 1> reduce <16> fold max : tensor<8x1xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<8x16xf32> -> f32
    graph.yield %v : f32
  }
  %e = graph.stage domain <8, 16> : tensor<8x16xf32> {
  ^bb0(%i: index, %j: index):
    %a = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<8x16xf32> -> f32
    %b = graph.load %m[affine_map<(d0, d1) -> (d0, 0)>](%i, %j) : tensor<8x1xf32> -> f32
    %c = graph.apply sub(%a, %b) : (f32, f32) -> f32
    %d = graph.apply exp(%c) : (f32) -> f32
    graph.yield %d : f32
  }
  %s = graph.stage domain <8, 1> reduce <16> fold add : tensor<8x1xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %e[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<8x16xf32> -> f32
    graph.yield %v : f32
  }
  %y = graph.stage domain <8, 16> : tensor<8x16xf32> {
  ^bb0(%i: index, %j: index):
    %a = graph.load %e[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<8x16xf32> -> f32
    %b = graph.load %s[affine_map<(d0, d1) -> (d0, 0)>](%i, %j) : tensor<8x1xf32> -> f32
    %c = graph.apply div(%a, %b) : (f32, f32) -> f32
    graph.yield %c : f32
  }
  graph.return %y, %s : tensor<8x16xf32>, tensor<8x1xf32>
}
graph.certificate @c for @fused rows(1) laws [] obligation "exact" {
^bb0(%x: tensor<8x16xf32>):
  %m = graph.call @rmax(%x) : (tensor<8x16xf32>) -> tensor<8x1xf32>
  %d = graph.call @sub(%x, %m) : (tensor<8x16xf32>, tensor<8x1xf32>) -> tensor<8x16xf32>
  %e = graph.call @exp(%d) : (tensor<8x16xf32>) -> tensor<8x16xf32>
  %s = graph.call @rsum(%e) : (tensor<8x16xf32>) -> tensor<8x1xf32>
  %y = graph.call @div(%e, %s) : (tensor<8x16xf32>, tensor<8x1xf32>) -> tensor<8x16xf32>
  graph.return %y, %s : tensor<8x16xf32>, tensor<8x1xf32>
}
func.func @main(%x: tensor<8x16xf32>) -> (tensor<8x16xf32>, tensor<8x1xf32>) {
  %y, %s = graph.call @fused(%x) : (tensor<8x16xf32>) -> (tensor<8x16xf32>, tensor<8x1xf32>)
  return %y, %s : tensor<8x16xf32>, tensor<8x1xf32>
}
)"};

// A reshape, a transpose, a rounding to bf16 and back, a strided slice and a
// reduction of what is left: index maps through views into a fold.
static const Fixture views = {"views", R"(
graph.kernel @transpose(%x: tensor<2x3x4xf32>) -> tensor<4x2x3xf32> attributes {symbols = []} {
  %r = graph.stage domain <4, 2, 3> : tensor<4x2x3xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d1, d2, d0)>](%i, %j, %k) : tensor<2x3x4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<4x2x3xf32>
}
graph.kernel @round(%x: tensor<4x2x3xf32>) -> tensor<4x2x3xbf16> attributes {symbols = []} {
  %r = graph.stage domain <4, 2, 3> : tensor<4x2x3xbf16> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d1, d2)>](%i, %j, %k) : tensor<4x2x3xf32> -> f32
    %c = graph.scalar_cast %v : f32 -> bf16
    graph.yield %c : bf16
  }
  graph.return %r : tensor<4x2x3xbf16>
}
graph.kernel @back(%x: tensor<4x2x3xbf16>) -> tensor<4x2x3xf32> attributes {symbols = []} {
  %r = graph.stage domain <4, 2, 3> : tensor<4x2x3xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d1, d2)>](%i, %j, %k) : tensor<4x2x3xbf16> -> bf16
    %c = graph.scalar_cast %v : bf16 -> f32
    graph.yield %c : f32
  }
  graph.return %r : tensor<4x2x3xf32>
}
graph.kernel @slice(%x: tensor<4x6xf32>) -> tensor<2x6xf32> attributes {symbols = []} {
  %r = graph.stage domain <2, 6> : tensor<2x6xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0 * 2 + 1, d1)>](%i, %j) : tensor<4x6xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<2x6xf32>
}
graph.kernel @sum(%x: tensor<2x6xf32>) -> tensor<2x1xf32> attributes {symbols = []} {
  %r = graph.stage domain <2, 1> reduce <6> fold add : tensor<2x1xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<2x6xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<2x1xf32>
}
)",
                              R"(
func.func @main(%x: tensor<6x4xf32>) -> tensor<2x1xf32> {
  %a = graph.reshape %x : (tensor<6x4xf32>) -> tensor<2x3x4xf32>
  %b = graph.call @transpose(%a) : (tensor<2x3x4xf32>) -> tensor<4x2x3xf32>
  %c = graph.call @round(%b) : (tensor<4x2x3xf32>) -> tensor<4x2x3xbf16>
  %d = graph.call @back(%c) : (tensor<4x2x3xbf16>) -> tensor<4x2x3xf32>
  %e = graph.reshape %d : (tensor<4x2x3xf32>) -> tensor<4x6xf32>
  %f = graph.call @slice(%e) : (tensor<4x6xf32>) -> tensor<2x6xf32>
  %g = graph.call @sum(%f) : (tensor<2x6xf32>) -> tensor<2x1xf32>
  return %g : tensor<2x1xf32>
}
)",
                              R"(
graph.kernel @fused(%x: tensor<6x4xf32>) -> tensor<2x1xf32> attributes {symbols = []} {
  %r = graph.stage domain <2, 1> reduce <6> fold add : tensor<2x1xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d2, d0 * 2 + 1)>](%i, %j, %k) : tensor<6x4xf32> -> f32
    %c = graph.scalar_cast %v : f32 -> bf16
    %d = graph.scalar_cast %c : bf16 -> f32
    graph.yield %d : f32
  }
  graph.return %r : tensor<2x1xf32>
}
graph.certificate @c for @fused rows(0) laws [] obligation "exact" {
^bb0(%x: tensor<6x4xf32>):
  %a = graph.reshape %x : (tensor<6x4xf32>) -> tensor<2x3x4xf32>
  %b = graph.call @transpose(%a) : (tensor<2x3x4xf32>) -> tensor<4x2x3xf32>
  %c = graph.call @round(%b) : (tensor<4x2x3xf32>) -> tensor<4x2x3xbf16>
  %d = graph.call @back(%c) : (tensor<4x2x3xbf16>) -> tensor<4x2x3xf32>
  %e = graph.reshape %d : (tensor<4x2x3xf32>) -> tensor<4x6xf32>
  %f = graph.call @slice(%e) : (tensor<4x6xf32>) -> tensor<2x6xf32>
  %g = graph.call @sum(%f) : (tensor<2x6xf32>) -> tensor<2x1xf32>
  graph.return %g : tensor<2x1xf32>
}
func.func @main(%x: tensor<6x4xf32>) -> tensor<2x1xf32> {
  %g = graph.call @fused(%x) : (tensor<6x4xf32>) -> tensor<2x1xf32>
  return %g : tensor<2x1xf32>
}
)"};

// Padding read by an average over windows that counts the padding; then exp,
// and a concat of it with the input's first row: guards under guards.
static const Fixture guards = {"guards", R"(
graph.kernel @pad(%x: tensor<4xf32>) -> tensor<6xf32> attributes {symbols = []} {
  %r = graph.stage domain <6> : tensor<6xf32> {
  ^bb0(%i: index):
    %z = graph.literal 0.0 : f32 : f32
    %v = graph.load %x[affine_map<(d0) -> (d0 - 1)>](%i) guard affine_set<(d0) : (d0 - 1 >= 0, 4 - d0 >= 0)> else %z : f32 : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<6xf32>
}
graph.kernel @avg(%x: tensor<6xf32>) -> tensor<5xf32> attributes {symbols = []} {
  %s = graph.stage domain <5> reduce <2> fold add : tensor<5xf32> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0 + d1)>](%i, %k) : tensor<6xf32> -> f32
    graph.yield %v : f32
  }
  %r = graph.stage domain <5> : tensor<5xf32> {
  ^bb0(%i: index):
    %v = graph.load %s[affine_map<(d0) -> (d0)>](%i) : tensor<5xf32> -> f32
    %n = graph.literal 2.0 : f32 : f32
    %q = graph.apply div(%v, %n) : (f32, f32) -> f32
    graph.yield %q : f32
  }
  graph.return %r : tensor<5xf32>
}
graph.kernel @neg(%x: tensor<5xf32>) -> tensor<5xf32> attributes {symbols = []} {
  %r = graph.stage domain <5> : tensor<5xf32> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<5xf32> -> f32
    %q = graph.apply neg(%v) : (f32) -> f32
    graph.yield %q : f32
  }
  graph.return %r : tensor<5xf32>
}
graph.kernel @concat(%x: tensor<5xf32>, %y: tensor<4xf32>) -> tensor<9xf32> attributes {symbols = []} {
  %r = graph.stage domain <9> : tensor<9xf32> {
  ^bb0(%i: index):
    %z = graph.literal 0.0 : f32 : f32
    %a = graph.load %x[affine_map<(d0) -> (d0)>](%i) guard affine_set<(d0) : (4 - d0 >= 0)> else %z : f32 : tensor<5xf32> -> f32
    %b = graph.load %y[affine_map<(d0) -> (d0 - 5)>](%i) guard affine_set<(d0) : (d0 - 5 >= 0)> else %a : f32 : tensor<4xf32> -> f32
    graph.yield %b : f32
  }
  graph.return %r : tensor<9xf32>
}
)",
                               R"(
func.func @main(%x: tensor<4xf32>) -> tensor<9xf32> {
  %a = graph.call @pad(%x) : (tensor<4xf32>) -> tensor<6xf32>
  %b = graph.call @avg(%a) : (tensor<6xf32>) -> tensor<5xf32>
  %c = graph.call @neg(%b) : (tensor<5xf32>) -> tensor<5xf32>
  %d = graph.call @concat(%c, %x) : (tensor<5xf32>, tensor<4xf32>) -> tensor<9xf32>
  return %d : tensor<9xf32>
}
)",
                               R"(
graph.kernel @fused(%x: tensor<4xf32>) -> tensor<9xf32> attributes {symbols = []} {
  %s = graph.stage domain <5> reduce <2> fold add : tensor<5xf32> {
  ^bb0(%i: index, %k: index):
    %z = graph.literal 0.0 : f32 : f32
    %v = graph.load %x[affine_map<(d0, d1) -> (d0 + d1 - 1)>](%i, %k) guard affine_set<(d0, d1) : (d0 + d1 - 1 >= 0, -d0 - d1 + 4 >= 0)> else %z : f32 : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  %r = graph.stage domain <9> : tensor<9xf32> {
  ^bb0(%i: index):
    %in = graph.inside[affine_set<(d0) : (4 - d0 >= 0)>](%i)
    %z = graph.literal 0.0 : f32 : f32
    %v = graph.load %s[affine_map<(d0) -> (d0)>](%i) guard affine_set<(d0) : (4 - d0 >= 0)> else %z : f32 : tensor<5xf32> -> f32
    %n = graph.literal 2.0 : f32 : f32
    %q = graph.apply div(%v, %n) : (f32, f32) -> f32
    %m = graph.apply neg(%q) : (f32) -> f32
    %a = graph.apply select(%in, %m, %z) : (i1, f32, f32) -> f32
    %b = graph.load %x[affine_map<(d0) -> (d0 - 5)>](%i) guard affine_set<(d0) : (d0 - 5 >= 0)> else %a : f32 : tensor<4xf32> -> f32
    graph.yield %b : f32
  }
  graph.return %r : tensor<9xf32>
}
graph.certificate @c for @fused rows(0) laws [] obligation "exact" {
^bb0(%x: tensor<4xf32>):
  %a = graph.call @pad(%x) : (tensor<4xf32>) -> tensor<6xf32>
  %b = graph.call @avg(%a) : (tensor<6xf32>) -> tensor<5xf32>
  %c = graph.call @neg(%b) : (tensor<5xf32>) -> tensor<5xf32>
  %d = graph.call @concat(%c, %x) : (tensor<5xf32>, tensor<4xf32>) -> tensor<9xf32>
  graph.return %d : tensor<9xf32>
}
func.func @main(%x: tensor<4xf32>) -> tensor<9xf32> {
  %d = graph.call @fused(%x) : (tensor<4xf32>) -> tensor<9xf32>
  return %d : tensor<9xf32>
}
)"};

// A product with symbolic sizes, a bias and relu, called with two different
// sizes; a reshape between whose radix is a symbol.
static const Fixture symbols = {"symbols", R"(
graph.kernel @matmul(%a: tensor<?x4xf32, #graph.dims<s0, 4>>, %b: tensor<4x8xf32>) -> tensor<?x8xf32, #graph.dims<s0, 8>> attributes {symbols = ["s0"]} {
  %r = graph.stage domain <s0, 8> reduce <4> fold add : tensor<?x8xf32, #graph.dims<s0, 8>> {
  ^bb0(%i: index, %j: index, %k: index):
    %x = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<?x4xf32, #graph.dims<s0, 4>> -> f32
    %y = graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, %k) : tensor<4x8xf32> -> f32
    %p = graph.apply mul(%x, %y) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  graph.return %r : tensor<?x8xf32, #graph.dims<s0, 8>>
}
graph.kernel @bias(%a: tensor<?x8xf32, #graph.dims<s0, 8>>, %b: tensor<8xf32>) -> tensor<?x8xf32, #graph.dims<s0, 8>> attributes {symbols = ["s0"]} {
  %r = graph.stage domain <s0, 8> : tensor<?x8xf32, #graph.dims<s0, 8>> {
  ^bb0(%i: index, %j: index):
    %x = graph.load %a[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<?x8xf32, #graph.dims<s0, 8>> -> f32
    %y = graph.load %b[affine_map<(d0, d1) -> (d1)>](%i, %j) : tensor<8xf32> -> f32
    %p = graph.apply add(%x, %y) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  graph.return %r : tensor<?x8xf32, #graph.dims<s0, 8>>
}
graph.kernel @clip(%a: tensor<?x8xf32, #graph.dims<s0, 8>>, %b: tensor<f32>) -> tensor<?x8xf32, #graph.dims<s0, 8>> attributes {symbols = ["s0"]} {
  %r = graph.stage domain <s0, 8> : tensor<?x8xf32, #graph.dims<s0, 8>> {
  ^bb0(%i: index, %j: index):
    %x = graph.load %a[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<?x8xf32, #graph.dims<s0, 8>> -> f32
    %y = graph.load %b[affine_map<(d0, d1) -> ()>](%i, %j) : tensor<f32> -> f32
    %p = graph.apply max(%x, %y) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  graph.return %r : tensor<?x8xf32, #graph.dims<s0, 8>>
}
graph.kernel @swap(%a: tensor<?x?x8xf32, #graph.dims<s0, s1, 8>>) -> tensor<?x?x8xf32, #graph.dims<s1, s0, 8>> attributes {symbols = ["s0", "s1"]} {
  %r = graph.stage domain <s1, s0, 8> : tensor<?x?x8xf32, #graph.dims<s1, s0, 8>> {
  ^bb0(%i: index, %j: index, %k: index):
    %x = graph.load %a[affine_map<(d0, d1, d2) -> (d1, d0, d2)>](%i, %j, %k) : tensor<?x?x8xf32, #graph.dims<s0, s1, 8>> -> f32
    graph.yield %x : f32
  }
  graph.return %r : tensor<?x?x8xf32, #graph.dims<s1, s0, 8>>
}
)",
                                R"(
func.func @main(%a: tensor<?x4xf32, #graph.dims<s0 * s1, 4>>, %b: tensor<4x8xf32>, %c: tensor<8xf32>, %n: tensor<?xf32, #graph.dims<s0>>, %o: tensor<?xf32, #graph.dims<s1>>)
    -> tensor<?x?x8xf32, #graph.dims<s1, s0, 8>> attributes {graph.symbols = ["b", "n"]} {
  %zero = graph.constant dense<0.0> : tensor<f32>
  %0 = graph.call @matmul(%a, %b) symbols <s0 * s1> : (tensor<?x4xf32, #graph.dims<s0 * s1, 4>>, tensor<4x8xf32>) -> tensor<?x8xf32, #graph.dims<s0 * s1, 8>>
  %1 = graph.call @bias(%0, %c) symbols <s0 * s1> : (tensor<?x8xf32, #graph.dims<s0 * s1, 8>>, tensor<8xf32>) -> tensor<?x8xf32, #graph.dims<s0 * s1, 8>>
  %2 = graph.call @clip(%1, %zero) symbols <s0 * s1> : (tensor<?x8xf32, #graph.dims<s0 * s1, 8>>, tensor<f32>) -> tensor<?x8xf32, #graph.dims<s0 * s1, 8>>
  %3 = graph.reshape %2 : (tensor<?x8xf32, #graph.dims<s0 * s1, 8>>) -> tensor<?x?x8xf32, #graph.dims<s0, s1, 8>>
  %4 = graph.call @swap(%3) symbols <s0, s1> : (tensor<?x?x8xf32, #graph.dims<s0, s1, 8>>) -> tensor<?x?x8xf32, #graph.dims<s1, s0, 8>>
  return %4 : tensor<?x?x8xf32, #graph.dims<s1, s0, 8>>
}
)",
                                R"(
graph.kernel @fused(%a: tensor<?x4xf32, #graph.dims<s0 * s1, 4>>, %b: tensor<4x8xf32>, %c: tensor<8xf32>) -> tensor<?x?x8xf32, #graph.dims<s1, s0, 8>> attributes {symbols = ["s0", "s1"]} {
  %m = graph.stage domain <s0 * s1, 8> reduce <4> fold add : tensor<?x8xf32, #graph.dims<s0 * s1, 8>> {
  ^bb0(%i: index, %j: index, %k: index):
    %x = graph.load %a[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) : tensor<?x4xf32, #graph.dims<s0 * s1, 4>> -> f32
    %y = graph.load %b[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, %k) : tensor<4x8xf32> -> f32
    %p = graph.apply mul(%x, %y) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  %r = graph.stage domain <s1, s0, 8> : tensor<?x?x8xf32, #graph.dims<s1, s0, 8>> {
  ^bb0(%i: index, %j: index, %k: index):
    %x = graph.load %m[affine_map<(d0, d1, d2)[s0, s1] -> (d1 * s1 + d0, d2)>](%i, %j, %k) : tensor<?x8xf32, #graph.dims<s0 * s1, 8>> -> f32
    %y = graph.load %c[affine_map<(d0, d1, d2)[s0, s1] -> (d2)>](%i, %j, %k) : tensor<8xf32> -> f32
    %p = graph.apply add(%x, %y) : (f32, f32) -> f32
    %z = graph.literal 0.0 : f32 : f32
    %q = graph.apply max(%p, %z) : (f32, f32) -> f32
    graph.yield %q : f32
  }
  graph.return %r : tensor<?x?x8xf32, #graph.dims<s1, s0, 8>>
}
graph.certificate @c for @fused rows(0) laws [] obligation "exact" {
^bb0(%a: tensor<?x4xf32, #graph.dims<s0 * s1, 4>>, %b: tensor<4x8xf32>, %c: tensor<8xf32>):
  %zero = graph.constant dense<0.0> : tensor<f32>
  %0 = graph.call @matmul(%a, %b) symbols <s0 * s1> : (tensor<?x4xf32, #graph.dims<s0 * s1, 4>>, tensor<4x8xf32>) -> tensor<?x8xf32, #graph.dims<s0 * s1, 8>>
  %1 = graph.call @bias(%0, %c) symbols <s0 * s1> : (tensor<?x8xf32, #graph.dims<s0 * s1, 8>>, tensor<8xf32>) -> tensor<?x8xf32, #graph.dims<s0 * s1, 8>>
  %2 = graph.call @clip(%1, %zero) symbols <s0 * s1> : (tensor<?x8xf32, #graph.dims<s0 * s1, 8>>, tensor<f32>) -> tensor<?x8xf32, #graph.dims<s0 * s1, 8>>
  %3 = graph.reshape %2 : (tensor<?x8xf32, #graph.dims<s0 * s1, 8>>) -> tensor<?x?x8xf32, #graph.dims<s0, s1, 8>>
  %4 = graph.call @swap(%3) symbols <s0, s1> : (tensor<?x?x8xf32, #graph.dims<s0, s1, 8>>) -> tensor<?x?x8xf32, #graph.dims<s1, s0, 8>>
  graph.return %4 : tensor<?x?x8xf32, #graph.dims<s1, s0, 8>>
}
func.func @main(%a: tensor<?x4xf32, #graph.dims<s0 * s1, 4>>, %b: tensor<4x8xf32>, %c: tensor<8xf32>, %n: tensor<?xf32, #graph.dims<s0>>, %o: tensor<?xf32, #graph.dims<s1>>)
    -> tensor<?x?x8xf32, #graph.dims<s1, s0, 8>> attributes {graph.symbols = ["b", "n"]} {
  %4 = graph.call @fused(%a, %b, %c) symbols <s0, s1> : (tensor<?x4xf32, #graph.dims<s0 * s1, 4>>, tensor<4x8xf32>, tensor<8xf32>) -> tensor<?x?x8xf32, #graph.dims<s1, s0, 8>>
  return %4 : tensor<?x?x8xf32, #graph.dims<s1, s0, 8>>
}
)"};

// A gather whose indices are computed, two results, one group around a call
// that stays, and one kernel called twice.
static const Fixture groups = {"groups", R"(
graph.kernel @inc(%x: tensor<3xi64>) -> tensor<3xi64> attributes {symbols = []} {
  %r = graph.stage domain <3> : tensor<3xi64> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<3xi64> -> i64
    %one = graph.literal 1 : i64 : i64
    %s = graph.apply add(%v, %one) : (i64, i64) -> i64
    graph.yield %s : i64
  }
  graph.return %r : tensor<3xi64>
}
graph.kernel @gather(%x: tensor<7x5xf32>, %p: tensor<3xi64>) -> tensor<3x5xf32> attributes {symbols = []} {
  %r = graph.stage domain <3, 5> : tensor<3x5xf32> {
  ^bb0(%i: index, %j: index):
    %p0 = graph.load %p[affine_map<(d0, d1) -> (d0)>](%i, %j) : tensor<3xi64> -> i64
    %at = graph.to_index %p0 in <7>
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, %at) : tensor<7x5xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<3x5xf32>
}
graph.kernel @sub(%x: tensor<3x5xf32>, %y: tensor<3x5xf32>) -> tensor<3x5xf32> attributes {symbols = []} {
  %r = graph.stage domain <3, 5> : tensor<3x5xf32> {
  ^bb0(%i: index, %j: index):
    %a = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<3x5xf32> -> f32
    %b = graph.load %y[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<3x5xf32> -> f32
    %c = graph.apply sub(%a, %b) : (f32, f32) -> f32
    graph.yield %c : f32
  }
  graph.return %r : tensor<3x5xf32>
}
graph.kernel @abs(%x: tensor<3x5xf32>) -> tensor<3x5xf32> attributes {symbols = []} {
  %r = graph.stage domain <3, 5> : tensor<3x5xf32> {
  ^bb0(%i: index, %j: index):
    %a = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<3x5xf32> -> f32
    %c = graph.apply abs(%a) : (f32) -> f32
    graph.yield %c : f32
  }
  graph.return %r : tensor<3x5xf32>
}
graph.kernel @compact(%m: tensor<4xi1>) -> tensor<4xi64> attributes {symbols = []} {
  %r = graph.compact %m : (tensor<4xi1>) -> tensor<4xi64>
  graph.return %r : tensor<4xi64>
}
)",
                               R"(
func.func @main(%x: tensor<7x5xf32>, %p: tensor<3xi64>, %y: tensor<3x5xf32>, %m: tensor<4xi1>) -> (tensor<3x5xf32>, tensor<3x5xf32>, tensor<4xi64>, tensor<3x5xf32>) {
  %q = graph.call @inc(%p) : (tensor<3xi64>) -> tensor<3xi64>
  %g = graph.call @gather(%x, %q) : (tensor<7x5xf32>, tensor<3xi64>) -> tensor<3x5xf32>
  %d = graph.call @sub(%g, %y) : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %c = graph.call @compact(%m) : (tensor<4xi1>) -> tensor<4xi64>
  %a = graph.call @abs(%d) : (tensor<3x5xf32>) -> tensor<3x5xf32>
  %e = graph.call @sub(%y, %a) : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %f = graph.call @abs(%e) : (tensor<3x5xf32>) -> tensor<3x5xf32>
  return %g, %a, %c, %f : tensor<3x5xf32>, tensor<3x5xf32>, tensor<4xi64>, tensor<3x5xf32>
}
)",
                               R"(
graph.kernel @fused0(%x: tensor<7x5xf32>, %p: tensor<3xi64>) -> tensor<3x5xf32> attributes {symbols = []} {
  %r = graph.stage domain <3, 5> : tensor<3x5xf32> {
  ^bb0(%i: index, %j: index):
    %p0 = graph.load %p[affine_map<(d0, d1) -> (d0)>](%i, %j) : tensor<3xi64> -> i64
    %one = graph.literal 1 : i64 : i64
    %s = graph.apply add(%one, %p0) : (i64, i64) -> i64
    %at = graph.to_index %s in <7>
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d2, d1)>](%i, %j, %at) : tensor<7x5xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<3x5xf32>
}
graph.certificate @c0 for @fused0 rows(0) laws [] obligation "exact" {
^bb0(%x: tensor<7x5xf32>, %p: tensor<3xi64>):
  %q = graph.call @inc(%p) : (tensor<3xi64>) -> tensor<3xi64>
  %g = graph.call @gather(%x, %q) : (tensor<7x5xf32>, tensor<3xi64>) -> tensor<3x5xf32>
  graph.return %g : tensor<3x5xf32>
}
graph.kernel @fused1(%x: tensor<3x5xf32>, %y: tensor<3x5xf32>) -> tensor<3x5xf32> attributes {symbols = []} {
  %r = graph.stage domain <3, 5> : tensor<3x5xf32> {
  ^bb0(%i: index, %j: index):
    %a = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<3x5xf32> -> f32
    %b = graph.load %y[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<3x5xf32> -> f32
    %c = graph.apply sub(%a, %b) : (f32, f32) -> f32
    %d = graph.apply abs(%c) : (f32) -> f32
    graph.yield %d : f32
  }
  graph.return %r : tensor<3x5xf32>
}
graph.certificate @c1 for @fused1 rows(0) laws [] obligation "exact" {
^bb0(%x: tensor<3x5xf32>, %y: tensor<3x5xf32>):
  %d = graph.call @sub(%x, %y) : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %a = graph.call @abs(%d) : (tensor<3x5xf32>) -> tensor<3x5xf32>
  graph.return %a : tensor<3x5xf32>
}
func.func @main(%x: tensor<7x5xf32>, %p: tensor<3xi64>, %y: tensor<3x5xf32>, %m: tensor<4xi1>) -> (tensor<3x5xf32>, tensor<3x5xf32>, tensor<4xi64>, tensor<3x5xf32>) {
  %c = graph.call @compact(%m) : (tensor<4xi1>) -> tensor<4xi64>
  %g = graph.call @fused0(%x, %p) : (tensor<7x5xf32>, tensor<3xi64>) -> tensor<3x5xf32>
  %a = graph.call @fused1(%g, %y) : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  %f = graph.call @fused1(%y, %a) : (tensor<3x5xf32>, tensor<3x5xf32>) -> tensor<3x5xf32>
  return %g, %a, %c, %f : tensor<3x5xf32>, tensor<3x5xf32>, tensor<4xi64>, tensor<3x5xf32>
}
)"};

// exp, then padding with zeros: the padding is not exp of anything.
static const Fixture boundary = {"boundary", R"(
graph.kernel @exp(%x: tensor<4xf32>) -> tensor<4xf32> attributes {symbols = []} {
  %r = graph.stage domain <4> : tensor<4xf32> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<4xf32> -> f32
    %e = graph.apply exp(%v) : (f32) -> f32
    graph.yield %e : f32
  }
  graph.return %r : tensor<4xf32>
}
graph.kernel @pad(%x: tensor<4xf32>) -> tensor<6xf32> attributes {symbols = []} {
  %r = graph.stage domain <6> : tensor<6xf32> {
  ^bb0(%i: index):
    %z = graph.literal 0.0 : f32 : f32
    %v = graph.load %x[affine_map<(d0) -> (d0 - 1)>](%i) guard affine_set<(d0) : (d0 - 1 >= 0, 4 - d0 >= 0)> else %z : f32 : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<6xf32>
}
)",
                                 R"(
func.func @main(%x: tensor<4xf32>) -> tensor<6xf32> {
  %a = graph.call @exp(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %b = graph.call @pad(%a) : (tensor<4xf32>) -> tensor<6xf32>
  return %b : tensor<6xf32>
}
)",
                                 R"(
#in = affine_set<(d0) : (d0 - 1 >= 0, 4 - d0 >= 0)>
graph.kernel @fused(%x: tensor<4xf32>) -> tensor<6xf32> attributes {symbols = []} {
  %r = graph.stage domain <6> : tensor<6xf32> {
  ^bb0(%i: index):
    %z = graph.literal 0.0 : f32 : f32
    %in = graph.inside[#in](%i)
    %v = graph.load %x[affine_map<(d0) -> (d0 - 1)>](%i) guard #in else %z : f32 : tensor<4xf32> -> f32
    %e = graph.apply exp(%v) : (f32) -> f32
    %s = graph.apply select(%in, %e, %z) : (i1, f32, f32) -> f32
    graph.yield %s : f32
  }
  graph.return %r : tensor<6xf32>
}
graph.certificate @c for @fused rows(0) laws [] obligation "exact" {
^bb0(%x: tensor<4xf32>):
  %a = graph.call @exp(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %b = graph.call @pad(%a) : (tensor<4xf32>) -> tensor<6xf32>
  graph.return %b : tensor<6xf32>
}
func.func @main(%x: tensor<4xf32>) -> tensor<6xf32> {
  %b = graph.call @fused(%x) : (tensor<4xf32>) -> tensor<6xf32>
  return %b : tensor<6xf32>
}
)"};

// What two groups read is computed in both: a member that occurs twice.
static const Fixture clones = {"clones", R"(
graph.kernel @floor(%x: tensor<4x6xf32>) -> tensor<4x6xf32> attributes {symbols = []} {
  %r = graph.stage domain <4, 6> : tensor<4x6xf32> {
  ^bb0(%i: index, %j: index):
    %a = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<4x6xf32> -> f32
    %b = graph.apply floor(%a) : (f32) -> f32
    graph.yield %b : f32
  }
  graph.return %r : tensor<4x6xf32>
}
graph.kernel @ceil(%x: tensor<4x6xf32>) -> tensor<4x6xf32> attributes {symbols = []} {
  %r = graph.stage domain <4, 6> : tensor<4x6xf32> {
  ^bb0(%i: index, %j: index):
    %a = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<4x6xf32> -> f32
    %b = graph.apply ceil(%a) : (f32) -> f32
    graph.yield %b : f32
  }
  graph.return %r : tensor<4x6xf32>
}
graph.kernel @cosine(%x: tensor<4x6xf32>) -> tensor<4x6xf32> attributes {symbols = []} {
  %r = graph.stage domain <4, 6> : tensor<4x6xf32> {
  ^bb0(%i: index, %j: index):
    %a = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<4x6xf32> -> f32
    %b = graph.apply cos(%a) : (f32) -> f32
    graph.yield %b : f32
  }
  graph.return %r : tensor<4x6xf32>
}
graph.kernel @root(%x: tensor<4x6xf32>) -> tensor<4x6xf32> attributes {symbols = []} {
  %r = graph.stage domain <4, 6> : tensor<4x6xf32> {
  ^bb0(%i: index, %j: index):
    %a = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<4x6xf32> -> f32
    %b = graph.apply sqrt(%a) : (f32) -> f32
    graph.yield %b : f32
  }
  graph.return %r : tensor<4x6xf32>
}
)",
                               R"(
func.func @main(%x: tensor<4x6xf32>, %z: tensor<4x6xf32>) -> (tensor<4x6xf32>, tensor<4x6xf32>) {
  %t = graph.call @floor(%x) : (tensor<4x6xf32>) -> tensor<4x6xf32>
  %y = graph.call @cosine(%t) : (tensor<4x6xf32>) -> tensor<4x6xf32>
  %w = graph.call @root(%t) : (tensor<4x6xf32>) -> tensor<4x6xf32>
  return %y, %w : tensor<4x6xf32>, tensor<4x6xf32>
}
)",
                               R"(
graph.kernel @cosineOf(%x: tensor<4x6xf32>) -> tensor<4x6xf32> attributes {symbols = []} {
  %r = graph.stage domain <4, 6> : tensor<4x6xf32> {
  ^bb0(%i: index, %j: index):
    %a = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<4x6xf32> -> f32
    %b = graph.apply floor(%a) : (f32) -> f32
    %c = graph.apply cos(%b) : (f32) -> f32
    graph.yield %c : f32
  }
  graph.return %r : tensor<4x6xf32>
}
graph.kernel @rootOf(%x: tensor<4x6xf32>) -> tensor<4x6xf32> attributes {symbols = []} {
  %r = graph.stage domain <4, 6> : tensor<4x6xf32> {
  ^bb0(%i: index, %j: index):
    %a = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<4x6xf32> -> f32
    %b = graph.apply floor(%a) : (f32) -> f32
    %c = graph.apply sqrt(%b) : (f32) -> f32
    graph.yield %c : f32
  }
  graph.return %r : tensor<4x6xf32>
}
graph.certificate @c0 for @cosineOf rows(0) laws [] obligation "exact" {
^bb0(%x: tensor<4x6xf32>):
  %t = graph.call @floor(%x) : (tensor<4x6xf32>) -> tensor<4x6xf32>
  %y = graph.call @cosine(%t) : (tensor<4x6xf32>) -> tensor<4x6xf32>
  graph.return %y : tensor<4x6xf32>
}
graph.certificate @c1 for @rootOf rows(0) laws [] obligation "exact" {
^bb0(%x: tensor<4x6xf32>):
  %t = graph.call @floor(%x) : (tensor<4x6xf32>) -> tensor<4x6xf32>
  %y = graph.call @root(%t) : (tensor<4x6xf32>) -> tensor<4x6xf32>
  graph.return %y : tensor<4x6xf32>
}
func.func @main(%x: tensor<4x6xf32>, %z: tensor<4x6xf32>) -> (tensor<4x6xf32>, tensor<4x6xf32>) {
  %y = graph.call @cosineOf(%x) : (tensor<4x6xf32>) -> tensor<4x6xf32>
  %w = graph.call @rootOf(%x) : (tensor<4x6xf32>) -> tensor<4x6xf32>
  return %y, %w : tensor<4x6xf32>, tensor<4x6xf32>
}
)"};

static const Fixture fixtures[] = {softmax, views,    guards, symbols,
                                   groups,  boundary, clones};

llvm::ArrayRef<Fixture> test::getFixtures() { return fixtures; }

const Fixture &test::getFixture(llvm::StringRef name) {
  for (const Fixture &f : fixtures)
    if (name == f.name)
      return f;
  llvm_unreachable("no such fixture");
}
