// Branches and loops as steps over buffers: results are written in place, a
// carried tensor has two buffers, a stack gives each iteration its slice.
// RUN: dlc-opt %s -convert-graph-to-program=name=m -mlir-print-local-scope | FileCheck %s
// RUN: dlc-opt %s -pass-pipeline='builtin.module(convert-graph-to-program{name=m},program.model(program-plan-memory))' -mlir-print-local-scope | FileCheck %s --check-prefix=PLAN

graph.kernel @neg(%x: tensor<8xf32>) -> tensor<8xf32> {
  %r = graph.stage domain <8> : tensor<8xf32> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<8xf32> -> f32
    %e = graph.apply neg(%v) : (f32) -> f32
    graph.yield %e : f32
  }
  graph.return %r : tensor<8xf32>
}
// CHECK-LABEL: program.model @m symbols ["t"]
// CHECK: [[C:%.*]] = program.input 0 "c"
// CHECK: [[X:%.*]] = program.input 1 "x"
// CHECK: [[Y:%.*]] = program.output 0
// CHECK: [[ALL:%.*]] = program.output 1
// CHECK: [[A:%.*]] = program.alloc affine_map<()[s0] -> (32)>
// CHECK: program.call @neg([[X]]) -> ([[A]])
// CHECK: [[B:%.*]] = program.alloc affine_map<()[s0] -> (32)>
// CHECK: [[STACK:%.*]] = program.alloc affine_map<()[s0] -> (288)>
// CHECK: [[LAST:%.*]] = program.loop if [[C]] current([[A]]) next([[B]]) stacked([[STACK]])
// CHECK-SAME: count = 0 : i64, count_bound = affine_map<()[s0] -> (9)>
// CHECK-SAME: guard = affine_map<()[s0] -> (9)>, strides = affine_map<()[s0] -> (32)>
// CHECK: ^bb0([[CUR:%.*]]: !program.buffer, [[NEXT:%.*]]: !program.buffer, [[SLICE:%.*]]: !program.buffer):
// CHECK: program.call @neg([[CUR]]) -> ([[NEXT]])
// CHECK: program.copy [[CUR]] to [[SLICE]] size affine_map<()[s0] -> (32)>
// CHECK: program.again [[C]]
// CHECK: program.if [[C]] {
// CHECK: program.call @neg([[LAST]]) -> ([[Y]])
// CHECK: } else {
// CHECK: program.copy [[LAST]] to [[Y]]
// CHECK: program.copy [[STACK]] to [[ALL]] size affine_map<()[s0] -> (s0 * 32)>

// All three are alive in the loop, though the second one is named there only.
// PLAN-DAG: program.alloc affine_map<()[s0] -> (288)> offset 0
// PLAN-DAG: program.alloc affine_map<()[s0] -> (32)> offset 320
// PLAN-DAG: program.alloc affine_map<()[s0] -> (32)> offset 384
func.func @main(%c: tensor<i1> {graph.name = "c"}, %x: tensor<8xf32> {graph.name = "x"}) -> (tensor<8xf32>, tensor<?x8xf32, #graph.dims<s0, 8>>) attributes {graph.symbols = ["t"]} {
  %0 = graph.call @neg(%x) : (tensor<8xf32>) -> tensor<8xf32>
  %1:2 = graph.loop if %c : tensor<i1> from (%0) attributes {binds = array<i64: 0>, bounds = #graph.dims<9>, conditional, count = 0 : i64, guard = #graph.dims<9>}
      : (tensor<8xf32>) -> (tensor<8xf32>, tensor<?x8xf32, #graph.dims<s0, 8>>) {
  ^bb0(%i: tensor<i64>, %u: tensor<8xf32>):
    %v = graph.call @neg(%u) : (tensor<8xf32>) -> tensor<8xf32>
    graph.leave %c, %v, %u : tensor<i1>, tensor<8xf32>, tensor<8xf32>
  }
  %2 = graph.if %c : (tensor<i1>) -> tensor<8xf32> {
    %n = graph.call @neg(%1#0) : (tensor<8xf32>) -> tensor<8xf32>
    graph.leave %n : tensor<8xf32>
  } else {
    graph.leave %1#0 : tensor<8xf32>
  }
  return %2, %1#1 : tensor<8xf32>, tensor<?x8xf32, #graph.dims<s0, 8>>
}
