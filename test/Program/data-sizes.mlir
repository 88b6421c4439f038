// A size that the data tell: the count is bound to its symbol, buffers are
// planned for the largest size, and an output of that size is a copy.
// RUN: dlc-opt %s -convert-graph-to-program=name=m -mlir-print-local-scope | FileCheck %s

graph.kernel @compact(%x: tensor<?xi1, #graph.dims<s0>>) -> tensor<?xi64, #graph.dims<s0>> attributes {symbols = ["s0"]} {
  %r = graph.compact %x : (tensor<?xi1, #graph.dims<s0>>) -> tensor<?xi64, #graph.dims<s0>>
  graph.return %r : tensor<?xi64, #graph.dims<s0>>
}
graph.kernel @neg(%x: tensor<?xi64, #graph.dims<s0>>) -> tensor<?xi64, #graph.dims<s0>> attributes {symbols = ["s0"]} {
  %r = graph.stage domain <s0> : tensor<?xi64, #graph.dims<s0>> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<?xi64, #graph.dims<s0>> -> i64
    %e = graph.apply neg(%v) : (i64) -> i64
    graph.yield %e : i64
  }
  graph.return %r : tensor<?xi64, #graph.dims<s0>>
}
// CHECK-LABEL: program.model @m symbols ["n", "kept"]
// CHECK: [[MASK:%.*]] = program.input 0
// CHECK: [[COUNT:%.*]] = program.input 1
// CHECK: [[OUT:%.*]] = program.output 0
// CHECK: [[ALL:%.*]] = program.alloc affine_map<()[s0, s1] -> (s0 * 8)>
// CHECK: program.call @compact([[MASK]]) -> ([[ALL]])
// CHECK: program.bind 1 to [[COUNT]] bound affine_map<()[s0, s1] -> (s0)>
// CHECK: [[NEG:%.*]] = program.alloc affine_map<()[s0, s1] -> (s0 * 8)>
// CHECK: program.call @neg([[ALL]]) -> ([[NEG]]) symbols affine_map<()[s0, s1] -> (s1)>
// CHECK: program.copy [[NEG]] to [[OUT]] size affine_map<()[s0, s1] -> (s1 * 8)>
func.func @main(%mask: tensor<?xi1, #graph.dims<s0>>, %count: tensor<1xi64>) -> tensor<?xi64, #graph.dims<s1>> attributes {graph.symbols = ["n", "kept"]} {
  %0 = graph.call @compact(%mask) symbols <s0> : (tensor<?xi1, #graph.dims<s0>>) -> tensor<?xi64, #graph.dims<s0>>
  %1 = graph.prefix %0, %count : (tensor<?xi64, #graph.dims<s0>>, tensor<1xi64>) -> tensor<?xi64, #graph.dims<s1>>
  %2 = graph.call @neg(%1) symbols <s1> : (tensor<?xi64, #graph.dims<s1>>) -> tensor<?xi64, #graph.dims<s1>>
  return %2 : tensor<?xi64, #graph.dims<s1>>
}
