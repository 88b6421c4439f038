// Sizes that are required to be equal are written in one way; arguments and
// results keep their types, the requirement stays.
// RUN: dlc-opt %s -split-input-file -graph-unify-sizes -mlir-print-local-scope | FileCheck %s

// CHECK-LABEL: func.func @main(%arg0: tensor<?xf32, #graph.dims<s0>>, %arg1: tensor<?xf32, #graph.dims<s1>>) -> tensor<?xf32, #graph.dims<s0>>
// CHECK-SAME: graph.requires
// CHECK: %[[Y:.*]] = graph.reshape %arg0 {graph.same_sizes} : {{.*}} -> tensor<?xf32, #graph.dims<s1 + 1>>
// CHECK-NEXT: %[[E:.*]] = graph.exp %[[Y]]
// CHECK-SAME: tensor<?xf32, #graph.dims<s1 + 1>>
// CHECK-NEXT: %[[P:.*]] = graph.concat %arg1, %arg1
// CHECK-NEXT: %[[S:.*]] = graph.slice %[[P]]
// CHECK-NEXT: %[[A:.*]] = graph.add %[[E]], %[[S]]
// CHECK-NEXT: %[[R:.*]] = graph.reshape %[[A]] {graph.same_sizes} : {{.*}} -> tensor<?xf32, #graph.dims<s0>>
// CHECK-NEXT: return %[[R]]
func.func @main(%x: tensor<?xf32, #graph.dims<s0>>, %y: tensor<?xf32, #graph.dims<s1>>) -> tensor<?xf32, #graph.dims<s0>> attributes {
    graph.symbols = ["total", "past"], graph.requires = [[affine_map<()[s0, s1] -> (s1 + 1, s0)>, "node"]]} {
  %e = graph.exp %x : (tensor<?xf32, #graph.dims<s0>>) -> tensor<?xf32, #graph.dims<s0>>
  %c = graph.concat %y, %y {axis = 0 : i64} : (tensor<?xf32, #graph.dims<s1>>, tensor<?xf32, #graph.dims<s1>>) -> tensor<?xf32, #graph.dims<s1 * 2>>
  %s = graph.slice %c {starts = #graph.dims<0>, steps = array<i64: 1>} : (tensor<?xf32, #graph.dims<s1 * 2>>) -> tensor<?xf32, #graph.dims<s1 + 1>>
  %v = graph.reshape %s {graph.same_sizes} : (tensor<?xf32, #graph.dims<s1 + 1>>) -> tensor<?xf32, #graph.dims<s0>>
  %a = graph.add %e, %v : (tensor<?xf32, #graph.dims<s0>>, tensor<?xf32, #graph.dims<s0>>) -> tensor<?xf32, #graph.dims<s0>>
  return %a : tensor<?xf32, #graph.dims<s0>>
}

// -----

// An expression that holds the symbol, or a number, takes no symbol's place.
// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.reshape
// CHECK: graph.exp %arg0 : (tensor<?xf32, #graph.dims<s0>>)
func.func @main(%x: tensor<?xf32, #graph.dims<s0>>) -> tensor<?xf32, #graph.dims<s0>> attributes {
    graph.symbols = ["h"], graph.requires = [[affine_map<()[s0] -> (((s0 - 1) floordiv 2) * 2, s0)>, "node"], [affine_map<()[s0] -> (s0, 8)>, "node"]]} {
  %e = graph.exp %x : (tensor<?xf32, #graph.dims<s0>>) -> tensor<?xf32, #graph.dims<s0>>
  return %e : tensor<?xf32, #graph.dims<s0>>
}
