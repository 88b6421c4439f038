// The nearest negative of each condition that a pair of groups can break.
// RUN: dlc-opt %s -split-input-file -graph-form-kernels -graph-fuse-kernels="explain cores=4" -o /dev/null 2>&1 | FileCheck %s

// C-PURE: an opaque operator has no expression.
// CHECK: not fused: neg_0 | argsort_1: C-PURE: 'argsort_1' is an opaque operator
func.func @main(%x: tensor<4x64xf32>) -> tensor<4x8xi64> {
  %a = graph.neg %x : (tensor<4x64xf32>) -> tensor<4x64xf32>
  %r = graph.reshape %a : (tensor<4x64xf32>) -> tensor<4x64x1xf32>
  %o = graph.argsort %r {count = #graph.dims<8>} : (tensor<4x64x1xf32>) -> tensor<4x8xi64>
  return %o : tensor<4x8xi64>
}

// -----

// C-CONVEX: between the two lies an operator that cannot come along.
// CHECK: not fused: neg_0 | {{.*}}: C-CONVEX: a path leaves and comes back through argsort_1
func.func @main(%x: tensor<1x64x1xi64>) -> tensor<1x64xi64> {
  %a = graph.neg %x : (tensor<1x64x1xi64>) -> tensor<1x64x1xi64>
  %o = graph.argsort %a {count = #graph.dims<64>} : (tensor<1x64x1xi64>) -> tensor<1x64xi64>
  %r = graph.reshape %a : (tensor<1x64x1xi64>) -> tensor<1x64xi64>
  %y = graph.add %r, %o : (tensor<1x64xi64>, tensor<1x64xi64>) -> tensor<1x64xi64>
  return %y : tensor<1x64xi64>
}

// -----

// C-COMPOSE: a gather does not move under a guard.
// CHECK: not fused: gather_0 | pad_1: C-COMPOSE: a gather's index is unknown where the guard is false
func.func @main(%x: tensor<16x64xf32>, %i: tensor<8xi64>) -> tensor<9x64xf32> {
  %zero = graph.constant dense<0.0> : tensor<f32>
  %a = graph.gather %x, %i {axis = 0 : i64} : (tensor<16x64xf32>, tensor<8xi64>) -> tensor<8x64xf32>
  %b = graph.pad %a, %zero {high = array<i64: 1, 0>, low = array<i64: 0, 0>, mode = #graph<pad constant>} : (tensor<8x64xf32>, tensor<f32>) -> tensor<9x64xf32>
  return %b : tensor<9x64xf32>
}

// -----

// C-ROW: a gather reads another row than the one that is computed.
// CHECK: not fused: reduce_0 | gather_1: C-ROW: a gather reads a tensor that is computed in the same kernel
func.func @main(%x: tensor<64x64xf32>, %i: tensor<32xi64>) -> tensor<32x1xf32> {
  %a = graph.reduce %x {axes = array<i64: 1>, kind = #graph<fold max>} : (tensor<64x64xf32>) -> tensor<64x1xf32>
  %b = graph.gather %a, %i {axis = 0 : i64} : (tensor<64x1xf32>, tensor<32xi64>) -> tensor<32x1xf32>
  return %b : tensor<32x1xf32>
}

// -----

// C-SIZE: one contraction a kernel.
// CHECK: not fused: contract_0 | contract_0: C-SIZE: two contractions
func.func @main(%x: tensor<64x64xf32>, %y: tensor<64x64xf32>) -> tensor<64x64xf32> {
  %c = graph.contract %x, %y {lhs_map = affine_map<(d0, d1, d2) -> (d0, d2)>, result_map = affine_map<(d0, d1, d2) -> (d0, d1)>, rhs_map = affine_map<(d0, d1, d2) -> (d2, d1)>} : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  %d = graph.contract %c, %y {lhs_map = affine_map<(d0, d1, d2) -> (d0, d2)>, result_map = affine_map<(d0, d1, d2) -> (d0, d1)>, rhs_map = affine_map<(d0, d1, d2) -> (d2, d1)>} : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  return %d : tensor<64x64xf32>
}

// -----

// C-PAR: twelve rows do not keep four cores busy.
// CHECK: not fused: reduce_0 | sub_1: C-PAR: 12 rows are too few to run in parallel
func.func @main(%x: tensor<12x16384xf32>) -> tensor<12x16384xf32> {
  %m = graph.reduce %x {axes = array<i64: 1>, kind = #graph<fold max>} : (tensor<12x16384xf32>) -> tensor<12x1xf32>
  %d = graph.sub %x, %m : (tensor<12x16384xf32>, tensor<12x1xf32>) -> tensor<12x16384xf32>
  return %d : tensor<12x16384xf32>
}

// -----

// C-CAPACITY: a row of exponentials is larger than the cache.
// CHECK: not fused: {{.*}}exp_2 | {{.*}}C-CAPACITY: the row buffers take
func.func @main(%x: tensor<64x1048576xf32>) -> tensor<64x1048576xf32> {
  %m = graph.reduce %x {axes = array<i64: 1>, kind = #graph<fold max>} : (tensor<64x1048576xf32>) -> tensor<64x1xf32>
  %d = graph.sub %x, %m : (tensor<64x1048576xf32>, tensor<64x1xf32>) -> tensor<64x1048576xf32>
  %e = graph.exp %d : (tensor<64x1048576xf32>) -> tensor<64x1048576xf32>
  %s = graph.reduce %e {axes = array<i64: 1>, kind = #graph<fold add>} : (tensor<64x1048576xf32>) -> tensor<64x1xf32>
  %y = graph.div %e, %s : (tensor<64x1048576xf32>, tensor<64x1xf32>) -> tensor<64x1048576xf32>
  return %y : tensor<64x1048576xf32>
}

// -----

// C-LAYOUT: rows of a transposed tensor would be read by strides.
// CHECK: not fused: transpose_0 | {{.*}}C-LAYOUT: {{[0-9]+}} loads would be strided that were contiguous
func.func @main(%x: tensor<64x512xf32>) -> tensor<512x64xf32> {
  %t = graph.transpose %x {perm = array<i64: 1, 0>} : (tensor<64x512xf32>) -> tensor<512x64xf32>
  %m = graph.reduce %t {axes = array<i64: 1>, kind = #graph<fold max>} : (tensor<512x64xf32>) -> tensor<512x1xf32>
  %d = graph.sub %t, %m : (tensor<512x64xf32>, tensor<512x1xf32>) -> tensor<512x64xf32>
  return %d : tensor<512x64xf32>
}

// -----

// C-TRAFFIC: two results that read one tensor and not each other, over other
// domains.
// CHECK: not fused: {{.*}}: C-TRAFFIC: results that do not read each other share no loop
func.func @main(%x: tensor<512x512xf32>) -> (tensor<512x1xf32>, tensor<512x512xf32>) {
  %a = graph.reduce %x {axes = array<i64: 1>, kind = #graph<fold max>} : (tensor<512x512xf32>) -> tensor<512x1xf32>
  %b = graph.neg %x : (tensor<512x512xf32>) -> tensor<512x512xf32>
  return %a, %b : tensor<512x1xf32>, tensor<512x512xf32>
}

// -----

// C-SIZE: the contraction nest is asked and declines: its results would repeat
// the sums.
// CHECK: not fused: contract_0 | broadcast_1: C-SIZE: the contraction nest does not take it: the results repeat the sums
func.func @main(%x: tensor<64x32xf32>, %w: tensor<32x128xf32>) -> tensor<3x64x128xf32> {
  %a = graph.contract %x, %w {lhs_map = affine_map<(d0, d1, d2) -> (d0, d2)>, result_map = affine_map<(d0, d1, d2) -> (d0, d1)>, rhs_map = affine_map<(d0, d1, d2) -> (d2, d1)>} : (tensor<64x32xf32>, tensor<32x128xf32>) -> tensor<64x128xf32>
  %b = graph.broadcast %a : (tensor<64x128xf32>) -> tensor<3x64x128xf32>
  return %b : tensor<3x64x128xf32>
}
