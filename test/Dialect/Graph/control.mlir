// Control flow survives printing and parsing; a constant condition is inlined.
// RUN: dlc-opt %s | dlc-opt -mlir-print-local-scope | FileCheck %s
// RUN: dlc-opt %s -canonicalize -mlir-print-local-scope | FileCheck %s --check-prefix=CANON

// CHECK-LABEL: func.func @branch
// CHECK: graph.if %arg0 attributes {binds = array<i64: 1>, bounds = #graph.dims<s0 * 2>}
// CHECK-SAME: (tensor<i1>) -> tensor<?xf32, #graph.dims<s1>>
// CHECK: graph.leave %arg1 : tensor<?xf32, #graph.dims<s0>>
// CHECK: } else {
func.func @branch(%c: tensor<i1>, %x: tensor<?xf32, #graph.dims<s0>>) -> tensor<?xf32, #graph.dims<s1>> attributes {graph.symbols = ["n", "m"]} {
  %r = graph.if %c attributes {binds = array<i64: 1>, bounds = #graph.dims<s0 * 2>} : (tensor<i1>) -> tensor<?xf32, #graph.dims<s1>> {
    graph.leave %x : tensor<?xf32, #graph.dims<s0>>
  } else {
    %d = graph.concat %x, %x {axis = 0 : i64} : (tensor<?xf32, #graph.dims<s0>>, tensor<?xf32, #graph.dims<s0>>) -> tensor<?xf32, #graph.dims<s0 * 2>>
    graph.leave %d : tensor<?xf32, #graph.dims<s0 * 2>>
  }
  return %r : tensor<?xf32, #graph.dims<s1>>
}

// CHECK-LABEL: func.func @loop
// CHECK: graph.loop limit %arg0 : tensor<i64> if %arg1 : tensor<i1> from(%arg2)
// CHECK-SAME: conditional, count = 1 : i64, guard = #graph.dims<100>
func.func @loop(%m: tensor<i64>, %c: tensor<i1>, %x: tensor<?xf32, #graph.dims<s0>>) -> tensor<?x?xf32, #graph.dims<s1, s0>> attributes {graph.symbols = ["n", "t"]} {
  %r:2 = graph.loop limit %m : tensor<i64> if %c : tensor<i1> from (%x)
      attributes {binds = array<i64: 1>, bounds = #graph.dims<100>, conditional, count = 1 : i64, guard = #graph.dims<100>}
      : (tensor<?xf32, #graph.dims<s0>>) -> (tensor<?xf32, #graph.dims<s0>>, tensor<?x?xf32, #graph.dims<s1, s0>>) {
  ^bb0(%i: tensor<i64>, %u: tensor<?xf32, #graph.dims<s0>>):
    %v = graph.neg %u : (tensor<?xf32, #graph.dims<s0>>) -> tensor<?xf32, #graph.dims<s0>>
    graph.leave %c, %v, %u : tensor<i1>, tensor<?xf32, #graph.dims<s0>>, tensor<?xf32, #graph.dims<s0>>
  }
  return %r#1 : tensor<?x?xf32, #graph.dims<s1, s0>>
}

// CANON-LABEL: func.func @constant
// CANON-NOT: graph.if
// CANON: %[[R:.*]] = graph.neg %arg0
// CANON: return %[[R]]
func.func @constant(%x: tensor<4xf32>) -> tensor<4xf32> {
  %c = graph.constant dense<true> : tensor<i1>
  %r = graph.if %c : (tensor<i1>) -> tensor<4xf32> {
    %v = graph.neg %x : (tensor<4xf32>) -> tensor<4xf32>
    graph.leave %v : tensor<4xf32>
  } else {
    graph.leave %x : tensor<4xf32>
  }
  return %r : tensor<4xf32>
}

// An unused loop goes away; one that binds a symbol, or a check in a branch, stays.
// CANON-LABEL: func.func @effects
// CANON-NOT: array<i64: 7>
// CANON: graph.loop
// CANON: graph.if
// CANON: graph.expect
func.func @effects(%c: tensor<i1>, %x: tensor<4xf32>) attributes {graph.symbols = ["t"]} {
  %0 = graph.loop from (%x) attributes {test.mark = array<i64: 7>, trips = #graph.dims<3>} : (tensor<4xf32>) -> tensor<4xf32> {
  ^bb0(%i: tensor<i64>, %u: tensor<4xf32>):
    graph.leave %u : tensor<4xf32>
  }
  %1 = graph.loop from () attributes {binds = array<i64: 0>, bounds = #graph.dims<9>, conditional, count = 0 : i64, guard = #graph.dims<9>} : () -> tensor<?x4xf32, #graph.dims<s0, 4>> {
  ^bb0(%i: tensor<i64>):
    graph.leave %c, %x : tensor<i1>, tensor<4xf32>
  }
  graph.if %c : (tensor<i1>) -> () {
    graph.expect %c : tensor<i1>
    graph.leave
  } else {
    graph.leave
  }
  return
}
