// A concatenation whose operands are stored in its place is no call; its
// operands are parts of its buffer.
// RUN: dlc-opt %s -split-input-file -pass-pipeline='builtin.module(convert-graph-to-program,program.model(program-plan-memory,program-check-memory))' -mlir-print-local-scope | FileCheck %s

// Parts that lie one behind the other.
// CHECK-LABEL: program.model @main
// CHECK: [[X:%.*]] = program.input 0
// CHECK: [[W:%.*]] = program.alloc affine_map<() -> (96)> offset 0
// CHECK: [[A:%.*]] = program.slice [[W]] at 0 run 32 pitch 96 count 1
// CHECK: program.call @f([[X]]) -> ([[A]])
// CHECK: [[B:%.*]] = program.slice [[W]] at 32 run 64 pitch 96 count 1
// CHECK: program.call @g([[X]]) -> ([[B]])
// CHECK-NOT: @join
// CHECK: program.call @h([[W]])
// CHECK-NOT: program.kernel @join
func.func @main(%x: tensor<2x4xf32>) -> tensor<6x4xf32> attributes {graph.symbols = []} {
  %a = graph.call @f(%x) : (tensor<2x4xf32>) -> tensor<2x4xf32>
  %b = graph.call @g(%x) : (tensor<2x4xf32>) -> tensor<4x4xf32>
  %w = graph.call @join(%a, %b) {graph.placed = {axis = 0, offsets = array<i64: 0, 2>}} : (tensor<2x4xf32>, tensor<4x4xf32>) -> tensor<6x4xf32>
  %y = graph.call @h(%w) : (tensor<6x4xf32>) -> tensor<6x4xf32>
  return %y : tensor<6x4xf32>
}
graph.kernel @f(%x: tensor<2x4xf32>) -> tensor<2x4xf32> attributes {origin = [], symbols = []} {
  %r = graph.stage domain <2, 4> : tensor<2x4xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<2x4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<2x4xf32>
}
graph.kernel @g(%x: tensor<2x4xf32>) -> tensor<4x4xf32> attributes {origin = [], symbols = []} {
  %r = graph.stage domain <4, 4> : tensor<4x4xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (0, d1)>](%i, %j) : tensor<2x4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<4x4xf32>
}
graph.kernel @join(%a: tensor<2x4xf32>, %b: tensor<4x4xf32>) -> tensor<6x4xf32> attributes {origin = [], symbols = []} {
  %r = graph.stage domain <6, 4> : tensor<6x4xf32> {
  ^bb0(%i: index, %j: index):
    %z = graph.literal 0.0 : f32 : f32
    %u = graph.load %a[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) guard affine_set<(d0, d1) : (-d0 + 1 >= 0)> else %z : f32 : tensor<2x4xf32> -> f32
    %v = graph.load %b[affine_map<(d0, d1) -> (d0 - 2, d1)>](%i, %j) guard affine_set<(d0, d1) : (d0 - 2 >= 0)> else %u : f32 : tensor<4x4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<6x4xf32>
}
graph.kernel @h(%x: tensor<6x4xf32>) -> tensor<6x4xf32> attributes {origin = [], symbols = []} {
  %r = graph.stage domain <6, 4> : tensor<6x4xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<6x4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<6x4xf32>
}

// -----

// Parts whose rows lie apart; the whole is the caller's.
// CHECK-LABEL: program.model @main
// CHECK: [[Y:%.*]] = program.output 0
// CHECK: [[A:%.*]] = program.slice [[Y]] at 0 run 16 pitch 32 count 2
// CHECK: program.call @f_placed(%{{.*}}) -> ([[A]])
// CHECK: [[B:%.*]] = program.slice [[Y]] at 16 run 16 pitch 32 count 2
// CHECK: program.call @f_placed(%{{.*}}) -> ([[B]])
// CHECK: program.kernel @f_placed {{.*}}pitches = array<i64: 0, 0, 16, 32>
func.func @main(%x: tensor<2x4xf32>) -> tensor<2x8xf32> attributes {graph.symbols = []} {
  %a = graph.call @f_placed(%x) : (tensor<2x4xf32>) -> tensor<2x4xf32>
  %b = graph.call @f_placed(%x) : (tensor<2x4xf32>) -> tensor<2x4xf32>
  %y = graph.call @join(%a, %b) {graph.placed = {axis = 1, offsets = array<i64: 0, 4>}} : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x8xf32>
  return %y : tensor<2x8xf32>
}
graph.kernel @f_placed(%x: tensor<2x4xf32>) -> tensor<2x4xf32> attributes {graph.pitches = array<i64: 0, 8>, origin = [], symbols = []} {
  %r = graph.stage domain <2, 4> : tensor<2x4xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<2x4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<2x4xf32>
}
graph.kernel @join(%a: tensor<2x4xf32>, %b: tensor<2x4xf32>) -> tensor<2x8xf32> attributes {origin = [], symbols = []} {
  %r = graph.stage domain <2, 8> : tensor<2x8xf32> {
  ^bb0(%i: index, %j: index):
    %z = graph.literal 0.0 : f32 : f32
    %u = graph.load %a[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) guard affine_set<(d0, d1) : (-d1 + 3 >= 0)> else %z : f32 : tensor<2x4xf32> -> f32
    %v = graph.load %b[affine_map<(d0, d1) -> (d0, d1 - 4)>](%i, %j) guard affine_set<(d0, d1) : (d1 - 4 >= 0)> else %u : f32 : tensor<2x4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<2x8xf32>
}
