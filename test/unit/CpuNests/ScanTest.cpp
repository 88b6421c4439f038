// Folds over prefixes: one pass over their axis, whatever has the lanes, in the
// order of the fold where that is asked for (strict results are the
// interpreter's bit by bit).
#include "NestTest.h"

#include "dlc/Codegen/CPU/LoopOutline.h"

using namespace dlc;
using namespace dlc::test;

namespace {
const char *const allFlags[] = {"", ", exclusive", ", reverse",
                                ", exclusive, reverse"};

OpCase scan(const std::string &shape, std::vector<int64_t> sizes, int axis,
            const std::string &flags, const std::string &element = "f32") {
  std::string type = "tensor<" + shape + "x" + element + ">";
  OpCase c{"cumsum", "axis = " + std::to_string(axis) + " : i64" + flags,
           {type},   type,
           {sizes},  {}};
  c.tolerance = 1e-5;
  return c;
}

class ScanTest : public NestTest {
protected:
  /// The cost of an element where the kernel is one loop.
  int64_t elementCost(graph::KernelOp kernel, bool strict,
                      llvm::ArrayRef<int64_t> symbols = {}) {
    auto target = llvm::cantFail(parseCpuTarget("x86:cpu=x86-64-v3"));
    KernelOutline outline = outlineLoops(kernel, target, strict, {}, symbols);
    EXPECT_EQ(outline.size(), 1u);
    return outline[0].elementCost;
  }
};

TEST_F(ScanTest, LastAxis) {
  for (const char *flags : allFlags)
    for (int64_t n : {1, 2, 3, 7, 8, 15, 16, 17, 33, 200})
      check(scan("3x" + std::to_string(n), {3, n}, 1, flags));
}

TEST_F(ScanTest, OtherAxes) {
  for (const char *flags : allFlags)
    for (int64_t m : {1, 2, 16, 37, 130}) {
      std::string size = std::to_string(m);
      check(scan("9x" + size, {9, m}, 0, flags));
      check(scan("2x5x" + size, {2, 5, m}, 1, flags));
    }
}

TEST_F(ScanTest, Types) {
  for (const char *e : {"f64", "f16", "bf16", "i32", "ui32", "i64", "ui64"})
    for (const char *flags : allFlags)
      for (int axis : {0, 1}) {
        OpCase c = scan("5x37", {5, 37}, axis, flags, e);
        c.low = -(1 << 30), c.high = 1 << 30; // wraps around
        check(c);
      }
}

TEST_F(ScanTest, Specials) {
  for (const char *flags : allFlags)
    for (int axis : {0, 1}) {
      OpCase c = scan("6x70", {6, 70}, axis, flags);
      c.specials = true;
      check(c);
    }
}

TEST_F(ScanTest, SymbolicSizes) {
  std::string type = "tensor<?x?xf32, #graph.dims<s0, s1>>";
  for (auto [m, n] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {4, 40}, {40, 5}, {3, 0}, {2, 16}})
    for (const char *flags : allFlags)
      for (const char *axis : {"0", "1"}) {
        OpCase c{"cumsum", std::string("axis = ") + axis + " : i64" + flags,
                 {type},   type,
                 {{m, n}}, {m, n}};
        c.tolerance = 1e-5;
        check(c);
      }
}

// An element costs the same however long the axis is.
TEST_F(ScanTest, IsOnePass) {
  for (bool strict : {false, true})
    for (const char *flags : allFlags) {
      OpCase c = scan("2x65536", {2, 65536}, 1, flags);
      EXPECT_LT(elementCost(build(c), strict), 32) << flags;
      c = scan("65536x24", {65536, 24}, 0, flags);
      EXPECT_LT(elementCost(build(c), strict), 32) << flags;
    }
}

// What is read at other coordinates than the fold's own is no scan: the sum of
// x times the factor at the result's coordinate.
const char *const scaled = R"(
graph.kernel @k(%x: tensor<4x50xf32>, %f: tensor<50xf32>) -> tensor<4x50xf32> attributes {symbols = []} {
  %r = graph.stage domain<4, 50> reduce<50> fold add : tensor<4x50xf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %z = graph.literal 0.0 : f32 : f32
    %v = graph.load %x[affine_map<(d0, d1, d2) -> (d0, d2)>](%i, %j, %k) guard affine_set<(d0, d1, d2) : ($guard >= 0)> else %z : f32 : tensor<4x50xf32> -> f32
    %w = graph.load %f[affine_map<(d0, d1, d2) -> ($at)>](%i, %j, %k) : tensor<50xf32> -> f32
    %p = graph.apply mul(%v, %w) : (f32, f32) -> f32
    graph.yield %p : f32
  }
  graph.return %r : tensor<4x50xf32>
}
)";

std::string replaced(std::string text, const std::string &name,
                     const std::string &value) {
  for (size_t at; (at = text.find(name)) != std::string::npos;)
    text.replace(at, name.size(), value);
  return text;
}

TEST_F(ScanTest, Products) {
  for (const char *guard : {"d1 - d2", "d1 - d2 - 1", "49 - d1 - d2",
                            "48 - d1 - d2", "d1 - d2 + 1", "d2 - d1"})
    for (const char *at : {"d2", "d1", "d0"})
      checkText(replaced(replaced(scaled, "$guard", guard), "$at", at),
                {{4, 50}, {50}});
}

// A scan in a kernel of several stages: what is scanned is computed first, the
// result is read by another fold.
const char *const between = R"(
graph.kernel @k(%x: tensor<$mx$nxf32>) -> (tensor<$mx$nxf32>, tensor<$mxf32>) attributes {symbols = []} {
  %e = graph.stage domain<$m, $n> : tensor<$mx$nxf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<$mx$nxf32> -> f32
    %t = graph.apply abs(%v) : (f32) -> f32
    graph.yield %t : f32
  }
  %s = graph.stage domain<$m, $n> reduce<$r> fold add : tensor<$mx$nxf32> {
  ^bb0(%i: index, %j: index, %k: index):
    %z = graph.literal 0.0 : f32 : f32
    %v = graph.load %e[affine_map<(d0, d1, d2) -> ($from)>](%i, %j, %k) guard affine_set<(d0, d1, d2) : ($at - d2 >= 0)> else %z : f32 : tensor<$mx$nxf32> -> f32
    graph.yield %v : f32
  }
  %q = graph.stage domain<$m, $n> : tensor<$mx$nxf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<$mx$nxf32> -> f32
    %w = graph.load %e[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<$mx$nxf32> -> f32
    %t = graph.apply div(%w, %v) : (f32, f32) -> f32
    graph.yield %t : f32
  }
  %l = graph.stage domain<$m> reduce<$n> fold max : tensor<$mxf32> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %s[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : tensor<$mx$nxf32> -> f32
    graph.yield %v : f32
  }
  graph.return %q, %l : tensor<$mx$nxf32>, tensor<$mxf32>
}
)";

TEST_F(ScanTest, AmongStages) {
  for (int64_t m : {1, 3, 20})
    for (int64_t n : {5, 32, 71})
      for (bool first : {false, true}) {
        std::string text = replaced(between, "$m", std::to_string(m));
        text = replaced(text, "$n", std::to_string(n));
        text = replaced(text, "$r", std::to_string(first ? m : n));
        text = replaced(text, "$from", first ? "d2, d1" : "d0, d2");
        checkText(replaced(text, "$at", first ? "d0" : "d1"), {{m, n}});
      }
}

} // namespace
