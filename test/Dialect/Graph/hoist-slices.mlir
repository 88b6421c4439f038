// Only the window that is read is computed.
// RUN: dlc-opt %s -split-input-file -graph-hoist-slices -cse | FileCheck %s

// The last token: through a norm's sums, a product, heads, and an activation,
// up to an argument, which is sliced.
// CHECK-LABEL: func.func @last_row
// CHECK: %[[X:.*]] = graph.slice %arg0 {starts = #graph.dims<0, s0 - 1, 0>, steps = array<i64: 1, 1, 1>} : (tensor<2x?x8xf32, #graph.dims<2, s0, 8>>) -> tensor<2x1x8xf32>
// CHECK: %[[M:.*]] = graph.mul %[[X]], %[[X]] : (tensor<2x1x8xf32>, tensor<2x1x8xf32>) -> tensor<2x1x8xf32>
// CHECK: %[[S:.*]] = graph.reduce %[[M]] {{.*}} -> tensor<2x1x1xf32>
// CHECK: %[[R:.*]] = graph.rsqrt %[[S]]
// CHECK: %[[N:.*]] = graph.mul %[[X]], %[[R]]
// CHECK: %[[P:.*]] = graph.contract %[[N]], %arg1 {{.*}} -> tensor<2x1x6xf32>
// CHECK: %[[H:.*]] = graph.reshape %[[P]] : (tensor<2x1x6xf32>) -> tensor<2x1x3x2xf32>
// CHECK: %[[T:.*]] = graph.transpose %[[H]] {perm = array<i64: 0, 2, 1, 3>} : (tensor<2x1x3x2xf32>) -> tensor<2x3x1x2xf32>
// CHECK: %[[E:.*]] = graph.tanh %[[T]]
// CHECK: return %[[E]]
func.func @last_row(%x: tensor<2x?x8xf32, #graph.dims<2, s0, 8>>, %w: tensor<8x6xf32>) -> tensor<2x3x1x2xf32> attributes {graph.symbols = ["n"]} {
  %m = graph.mul %x, %x : (tensor<2x?x8xf32, #graph.dims<2, s0, 8>>, tensor<2x?x8xf32, #graph.dims<2, s0, 8>>) -> tensor<2x?x8xf32, #graph.dims<2, s0, 8>>
  %s = graph.reduce %m {axes = array<i64: 2>, kind = #graph<fold add>} : (tensor<2x?x8xf32, #graph.dims<2, s0, 8>>) -> tensor<2x?x1xf32, #graph.dims<2, s0, 1>>
  %r = graph.rsqrt %s : (tensor<2x?x1xf32, #graph.dims<2, s0, 1>>) -> tensor<2x?x1xf32, #graph.dims<2, s0, 1>>
  %n = graph.mul %x, %r : (tensor<2x?x8xf32, #graph.dims<2, s0, 8>>, tensor<2x?x1xf32, #graph.dims<2, s0, 1>>) -> tensor<2x?x8xf32, #graph.dims<2, s0, 8>>
  %p = graph.contract %n, %w {lhs_map = affine_map<(d0, d1, d2, d3) -> (d0, d1, d3)>, result_map = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2)>, rhs_map = affine_map<(d0, d1, d2, d3) -> (d3, d2)>} : (tensor<2x?x8xf32, #graph.dims<2, s0, 8>>, tensor<8x6xf32>) -> tensor<2x?x6xf32, #graph.dims<2, s0, 6>>
  %h = graph.reshape %p : (tensor<2x?x6xf32, #graph.dims<2, s0, 6>>) -> tensor<2x?x3x2xf32, #graph.dims<2, s0, 3, 2>>
  %t = graph.transpose %h {perm = array<i64: 0, 2, 1, 3>} : (tensor<2x?x3x2xf32, #graph.dims<2, s0, 3, 2>>) -> tensor<2x3x?x2xf32, #graph.dims<2, 3, s0, 2>>
  %e = graph.tanh %t : (tensor<2x3x?x2xf32, #graph.dims<2, 3, s0, 2>>) -> tensor<2x3x?x2xf32, #graph.dims<2, 3, s0, 2>>
  %l = graph.slice %e {starts = #graph.dims<0, 0, s0 - 1, 0>, steps = array<i64: 1, 1, 1, 1>} : (tensor<2x3x?x2xf32, #graph.dims<2, 3, s0, 2>>) -> tensor<2x3x1x2xf32>
  return %l : tensor<2x3x1x2xf32>
}

// -----

// Two readers that agree on the rows, not on the columns.
// CHECK-LABEL: func.func @halves
// CHECK: %[[X:.*]] = graph.slice %arg0 {starts = #graph.dims<7, 0>, steps = array<i64: 1, 1>} : (tensor<8x4xf32>) -> tensor<1x4xf32>
// CHECK: %[[E:.*]] = graph.exp %[[X]] : (tensor<1x4xf32>)
// CHECK: graph.slice %[[E]] {starts = #graph.dims<0, 0>, steps = array<i64: 1, 1>} : (tensor<1x4xf32>) -> tensor<1x2xf32>
// CHECK: graph.slice %[[E]] {starts = #graph.dims<0, 2>, steps = array<i64: 1, 1>} : (tensor<1x4xf32>) -> tensor<1x2xf32>
func.func @halves(%x: tensor<8x4xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>) {
  %e = graph.exp %x : (tensor<8x4xf32>) -> tensor<8x4xf32>
  %a = graph.slice %e {starts = #graph.dims<7, 0>, steps = array<i64: 1, 1>} : (tensor<8x4xf32>) -> tensor<1x2xf32>
  %b = graph.slice %e {starts = #graph.dims<7, 2>, steps = array<i64: 1, 1>} : (tensor<8x4xf32>) -> tensor<1x2xf32>
  return %a, %b : tensor<1x2xf32>, tensor<1x2xf32>
}

// -----

// Positions stay positions; a slice of a slice is one; an axis of one element
// is read as it is.
// CHECK-LABEL: func.func @positions
// CHECK: %[[I:.*]] = graph.iota {start = 5.000000e+00 : f64, step = -2.000000e+00 : f64} : () -> tensor<2xi64>
// CHECK: %[[R:.*]] = graph.reshape %[[I]] : (tensor<2xi64>) -> tensor<2x1xi64>
// CHECK: %[[X:.*]] = graph.slice %arg0 {starts = #graph.dims<6, 0>, steps = array<i64: -2, 1>} : (tensor<9x3xi64>) -> tensor<2x3xi64>
// CHECK: %[[A:.*]] = graph.add %[[X]], %[[R]] : (tensor<2x3xi64>, tensor<2x1xi64>)
// CHECK: graph.mul %[[A]], %arg1 : (tensor<2x3xi64>, tensor<1x3xi64>)
func.func @positions(%x: tensor<9x3xi64>, %y: tensor<1x3xi64>) -> tensor<2x3xi64> {
  %i = graph.iota {start = 0.0 : f64, step = 1.0 : f64} : () -> tensor<8xi64>
  %r = graph.reshape %i : (tensor<8xi64>) -> tensor<8x1xi64>
  %c = graph.slice %x {starts = #graph.dims<1, 0>, steps = array<i64: 1, 1>} : (tensor<9x3xi64>) -> tensor<8x3xi64>
  %a = graph.add %c, %r : (tensor<8x3xi64>, tensor<8x1xi64>) -> tensor<8x3xi64>
  %s = graph.mul %a, %y : (tensor<8x3xi64>, tensor<1x3xi64>) -> tensor<8x3xi64>
  %l = graph.slice %s {starts = #graph.dims<5, 0>, steps = array<i64: -2, 1>} : (tensor<8x3xi64>) -> tensor<2x3xi64>
  return %l : tensor<2x3xi64>
}

// -----

// Not: more than half is read; another reader wants all; weights would be cut;
// rows that a sum goes over.
// CHECK-LABEL: func.func @no
// CHECK: graph.exp %arg0
// CHECK: graph.contract %arg0
// CHECK-SAME: -> tensor<8x4xf32>
// CHECK: graph.tanh %arg0
// CHECK: graph.cumsum %arg0
func.func @no(%x: tensor<8x4xf32>) -> (tensor<5x4xf32>, tensor<8x1xf32>, tensor<1x4xf32>, tensor<8x4xf32>, tensor<1x4xf32>) {
  %w = graph.constant dense<2.0> : tensor<4x4xf32>
  %e = graph.exp %x : (tensor<8x4xf32>) -> tensor<8x4xf32>
  %a = graph.slice %e {starts = #graph.dims<0, 0>, steps = array<i64: 1, 1>} : (tensor<8x4xf32>) -> tensor<5x4xf32>
  %p = graph.contract %x, %w {lhs_map = affine_map<(d0, d1, d2) -> (d0, d2)>, result_map = affine_map<(d0, d1, d2) -> (d0, d1)>, rhs_map = affine_map<(d0, d1, d2) -> (d2, d1)>} : (tensor<8x4xf32>, tensor<4x4xf32>) -> tensor<8x4xf32>
  %b = graph.slice %p {starts = #graph.dims<0, 1>, steps = array<i64: 1, 1>} : (tensor<8x4xf32>) -> tensor<8x1xf32>
  %t = graph.tanh %x : (tensor<8x4xf32>) -> tensor<8x4xf32>
  %c = graph.slice %t {starts = #graph.dims<0, 0>, steps = array<i64: 1, 1>} : (tensor<8x4xf32>) -> tensor<1x4xf32>
  %s = graph.cumsum %x {axis = 0 : i64} : (tensor<8x4xf32>) -> tensor<8x4xf32>
  %d = graph.slice %s {starts = #graph.dims<7, 0>, steps = array<i64: 1, 1>} : (tensor<8x4xf32>) -> tensor<1x4xf32>
  return %a, %b, %c, %t, %d : tensor<5x4xf32>, tensor<8x1xf32>, tensor<1x4xf32>, tensor<8x4xf32>, tensor<1x4xf32>
}
