// Tensors become buffers: outputs in place, reshapes as the same buffer, copies
// where an output is an input, a constant or another output.
// RUN: dlc-opt %s -split-input-file -convert-graph-to-program=name=m -mlir-print-local-scope | FileCheck %s

graph.kernel @exp(%x: tensor<4x2xf32>) -> tensor<4x2xf32> attributes {symbols = []} {
  %r = graph.stage domain <4, 2> : tensor<4x2xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<4x2xf32> -> f32
    %e = graph.apply exp(%v) : (f32) -> f32
    graph.yield %e : f32
  }
  graph.return %r : tensor<4x2xf32>
}
// CHECK: program.kernel @exp {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
// CHECK-LABEL: program.model @m symbols []
// CHECK: [[X:%.*]] = program.input 0 "x" : tensor<4x2xf32>
// CHECK: [[Y:%.*]] = program.output 0 "y" : tensor<8xf32>
// CHECK: [[AGAIN:%.*]] = program.output 1 "again" : tensor<4x2xf32>
// CHECK: [[SAME:%.*]] = program.output 2 "same" : tensor<4x2xf32>
// CHECK: [[FIXED:%.*]] = program.output 3 "fixed" : tensor<2xi64>
// CHECK: [[C:%.*]] = program.constant dense<[1, 2]> : tensor<2xi64>
// CHECK: [[T:%.*]] = program.alloc affine_map<() -> (32)>
// CHECK: program.call @exp([[X]]) -> ([[T]])
// The reshape is no step, and the last kernel writes the output itself.
// CHECK: program.call @exp([[T]]) -> ([[Y]])
// CHECK: program.copy [[Y]] to [[AGAIN]] size affine_map<() -> (32)>
// CHECK: program.copy [[X]] to [[SAME]] size affine_map<() -> (32)>
// CHECK: program.copy [[C]] to [[FIXED]] size affine_map<() -> (16)>
// CHECK-NOT: program.{{call|copy|alloc}}
// CHECK: }
func.func @main(%x: tensor<4x2xf32> {graph.name = "x"})
    -> (tensor<8xf32> {graph.name = "y"}, tensor<4x2xf32> {graph.name = "again"}, tensor<4x2xf32> {graph.name = "same"},
        tensor<2xi64> {graph.name = "fixed"}) attributes {graph.symbols = []} {
  %c = graph.constant dense<[1, 2]> : tensor<2xi64>
  %0 = graph.call @exp(%x) : (tensor<4x2xf32>) -> tensor<4x2xf32>
  %1 = graph.call @exp(%0) : (tensor<4x2xf32>) -> tensor<4x2xf32>
  %2 = graph.reshape %1 : (tensor<4x2xf32>) -> tensor<8xf32>
  return %2, %1, %x, %c : tensor<8xf32>, tensor<4x2xf32>, tensor<4x2xf32>, tensor<2xi64>
}

// -----

// A kernel that indexes by data can fail; sizes follow the symbols.
graph.kernel @gather(%x: tensor<10xf32>, %n: tensor<?xi64, #graph.dims<s0>>) -> tensor<?xf32, #graph.dims<s0>> attributes {symbols = ["s0"]} {
  %r = graph.stage domain <s0> : tensor<?xf32, #graph.dims<s0>> {
  ^bb0(%i: index):
    %v = graph.load %n[affine_map<(d0) -> (d0)>](%i) : tensor<?xi64, #graph.dims<s0>> -> i64
    %at = graph.to_index %v in <10>
    %e = graph.load %x[affine_map<(d0, d1) -> (d1)>](%i, %at) : tensor<10xf32> -> f32
    graph.yield %e : f32
  }
  graph.return %r : tensor<?xf32, #graph.dims<s0>>
}
// CHECK: program.kernel @gather {can_fail,
// CHECK-LABEL: program.model @m symbols ["n"]
// CHECK-SAME: ranges = [array<i64: 0, 9, 3>]
// CHECK: program.alloc affine_map<()[s0] -> (s0 * 8)>
// CHECK: program.call @gather({{.*}}) -> ({{.*}}) symbols affine_map<()[s0] -> (s0 * 2)> {origin = ["g"]}
func.func @main(%x: tensor<10xf32>, %n: tensor<?xi64, #graph.dims<s0 * 2>>) -> tensor<?xf32, #graph.dims<s0 * 2>>
    attributes {graph.symbols = ["n"], graph.ranges = [array<i64: 0, 9, 3>]} {
  %dead = graph.call @gather(%x, %n) symbols <s0 * 2> {origin = ["d"]} : (tensor<10xf32>, tensor<?xi64, #graph.dims<s0 * 2>>) -> tensor<?xf32, #graph.dims<s0 * 2>>
  %0 = graph.call @gather(%x, %n) symbols <s0 * 2> {origin = ["g"]} : (tensor<10xf32>, tensor<?xi64, #graph.dims<s0 * 2>>) -> tensor<?xf32, #graph.dims<s0 * 2>>
  return %0 : tensor<?xf32, #graph.dims<s0 * 2>>
}
