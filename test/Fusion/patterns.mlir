// Each class of fusion: what becomes one kernel, and of what form.
// RUN: dlc-opt %s -split-input-file -graph-form-kernels -graph-fuse-kernels=explain -o /dev/null 2>&1 | FileCheck %s --check-prefix=GROUP
// RUN: dlc-opt %s -split-input-file -graph-form-kernels -graph-fuse-kernels -graph-drop-certificates -mlir-print-local-scope | FileCheck %s

// Elementwise into elementwise, scalar constants as literals (ew_ew_fusion).
// GROUP: fused fused_0: mul_0 + exp_1 + add_2
// CHECK-LABEL: func.func @main(%arg0: tensor<128x256xf32>
// CHECK: graph.call @fused_0(%arg0) : (tensor<128x256xf32>) -> tensor<128x256xf32>
// CHECK: graph.kernel @fused_0(%arg0: tensor<128x256xf32>)
// CHECK: graph.literal 2.000000e+00 : f32
// CHECK: graph.apply {{ *}}mul
// CHECK: graph.apply {{ *}}exp
// CHECK: graph.apply {{ *}}add
// CHECK-NOT: graph.stage
func.func @main(%x: tensor<128x256xf32>) -> tensor<128x256xf32> {
  %two = graph.constant dense<2.0> : tensor<f32>
  %a = graph.mul %x, %two : (tensor<128x256xf32>, tensor<f32>) -> tensor<128x256xf32>
  %b = graph.exp %a : (tensor<128x256xf32>) -> tensor<128x256xf32>
  %c = graph.add %b, %x : (tensor<128x256xf32>, tensor<128x256xf32>) -> tensor<128x256xf32>
  return %c : tensor<128x256xf32>
}

// -----

// Index maps compose: a transposition and its reverse around a reshape leave
// the identity (inj_inj_fusion).
// GROUP: fused fused_0: transpose_0 + abs_1 + transpose_2 + neg_3
// CHECK-LABEL: func.func @main(%arg0: tensor<32x64xf32>
// CHECK: graph.kernel @fused_0
// CHECK: graph.load %arg0[affine_map<(d0, d1) -> (d0, d1)>]
func.func @main(%x: tensor<32x64xf32>) -> tensor<32x64xf32> {
  %a = graph.transpose %x {perm = array<i64: 1, 0>} : (tensor<32x64xf32>) -> tensor<64x32xf32>
  %b = graph.abs %a : (tensor<64x32xf32>) -> tensor<64x32xf32>
  %r = graph.reshape %b : (tensor<64x32xf32>) -> tensor<64x8x4xf32>
  %t = graph.transpose %r {perm = array<i64: 1, 2, 0>} : (tensor<64x8x4xf32>) -> tensor<8x4x64xf32>
  %s = graph.reshape %t : (tensor<8x4x64xf32>) -> tensor<32x64xf32>
  %c = graph.neg %s : (tensor<32x64xf32>) -> tensor<32x64xf32>
  return %c : tensor<32x64xf32>
}

// -----

// A prologue in a fold and an epilogue after it (ew_into_reduce,
// reduce_epilogue).
// GROUP: fused fused_0: mul_0 + reduce_1 + sqrt_2
// CHECK-LABEL: func.func @main(
// CHECK: graph.kernel @fused_0
// CHECK: graph.stage domain <256, 1> reduce <128> fold {{ *}}add
// CHECK: graph.apply {{ *}}mul
// CHECK: graph.stage domain <256, 1>
// CHECK: graph.apply {{ *}}sqrt
func.func @main(%x: tensor<256x128xf32>) -> tensor<256x1xf32> {
  %a = graph.mul %x, %x : (tensor<256x128xf32>, tensor<256x128xf32>) -> tensor<256x128xf32>
  %b = graph.reduce %a {axes = array<i64: 1>, kind = #graph<fold add>} : (tensor<256x128xf32>) -> tensor<256x1xf32>
  %c = graph.sqrt %b : (tensor<256x1xf32>) -> tensor<256x1xf32>
  return %c : tensor<256x1xf32>
}

// -----

// Softmax: exp is wanted twice and costs, so it stays in a row buffer; rows are
// the first axis (rbr_single_kernel).
// GROUP: fused fused_0: reduce_0 + sub_1 + exp_2 + reduce_3 + div_4
// CHECK-LABEL: func.func @main(
// CHECK: graph.kernel @fused_0({{.*}} attributes {rows = 1 : i64
// CHECK: graph.stage domain <512, 1> reduce <64> fold {{ *}}max
// CHECK: graph.stage domain <512, 64>
// CHECK: graph.apply {{ *}}exp
// CHECK: graph.stage domain <512, 1> reduce <64> fold {{ *}}add
// CHECK: graph.stage domain <512, 64>
// CHECK: graph.apply {{ *}}div
func.func @main(%x: tensor<512x64xf32>) -> tensor<512x64xf32> {
  %m = graph.reduce %x {axes = array<i64: 1>, kind = #graph<fold max>} : (tensor<512x64xf32>) -> tensor<512x1xf32>
  %d = graph.sub %x, %m : (tensor<512x64xf32>, tensor<512x1xf32>) -> tensor<512x64xf32>
  %e = graph.exp %d : (tensor<512x64xf32>) -> tensor<512x64xf32>
  %s = graph.reduce %e {axes = array<i64: 1>, kind = #graph<fold add>} : (tensor<512x64xf32>) -> tensor<512x1xf32>
  %y = graph.div %e, %s : (tensor<512x64xf32>, tensor<512x1xf32>) -> tensor<512x64xf32>
  return %y : tensor<512x64xf32>
}

// -----

// A value that is read by the row and returned too (ew_reduce_one_loop).
// GROUP: fused fused_0: add_0 + reduce_1
// CHECK-LABEL: func.func @main(
// CHECK: graph.kernel @fused_0({{.*}}) -> (tensor<512x64xf32>, tensor<512x1xf32>)
// CHECK: graph.load %0[
func.func @main(%x: tensor<512x64xf32>, %y: tensor<512x64xf32>) -> (tensor<512x64xf32>, tensor<512x1xf32>) {
  %a = graph.add %x, %y : (tensor<512x64xf32>, tensor<512x64xf32>) -> tensor<512x64xf32>
  %m = graph.reduce %a {axes = array<i64: 1>, kind = #graph<fold max>} : (tensor<512x64xf32>) -> tensor<512x1xf32>
  return %a, %m : tensor<512x64xf32>, tensor<512x1xf32>
}

// -----

// A contraction takes bias, activation and residual, and the transposition of a
// factor (matmul_prologue_epilogue).
// GROUP: fused fused_0: transpose_0 + contract_1 + add_2 + relu_3 + add_4
// CHECK-LABEL: func.func @main(
// CHECK: graph.kernel @fused_0
// CHECK: graph.stage domain <64, 128> reduce <32> fold {{ *}}add
// CHECK: graph.load %arg0[affine_map<(d0, d1, d2) -> (d2, d0)>]
// CHECK: graph.stage domain <64, 128>
// CHECK-NOT: graph.stage
func.func @main(%x: tensor<32x64xf32>, %w: tensor<32x128xf32>, %b: tensor<128xf32>, %r: tensor<64x128xf32>) -> tensor<64x128xf32> {
  %t = graph.transpose %x {perm = array<i64: 1, 0>} : (tensor<32x64xf32>) -> tensor<64x32xf32>
  %c = graph.contract %t, %w {lhs_map = affine_map<(d0, d1, d2) -> (d0, d2)>, result_map = affine_map<(d0, d1, d2) -> (d0, d1)>, rhs_map = affine_map<(d0, d1, d2) -> (d2, d1)>} : (tensor<64x32xf32>, tensor<32x128xf32>) -> tensor<64x128xf32>
  %d = graph.add %c, %b : (tensor<64x128xf32>, tensor<128xf32>) -> tensor<64x128xf32>
  %e = graph.relu %d : (tensor<64x128xf32>) -> tensor<64x128xf32>
  %f = graph.add %e, %r : (tensor<64x128xf32>, tensor<64x128xf32>) -> tensor<64x128xf32>
  return %f : tensor<64x128xf32>
}

// -----

// The nest is asked: several stages after the sum and the sum itself are
// results; a scaled factor is computed as it is filled.
// GROUP: fused fused_0: mul_0 + contract_1 + add_2 + relu_3 + tanh_4
// CHECK-LABEL: func.func @main(
// CHECK: graph.kernel @fused_0({{.*}}) -> (tensor<64x4096xf32>, tensor<64x4096xf32>, tensor<64x4096xf32>)
// CHECK: graph.stage domain <64, 4096> reduce <256> fold {{ *}}add
func.func @main(%x: tensor<64x256xf32>, %s: tensor<256x1xf32>, %w: tensor<256x4096xf32>, %b: tensor<4096xf32>) -> (tensor<64x4096xf32>, tensor<64x4096xf32>, tensor<64x4096xf32>) {
  %m = graph.mul %w, %s : (tensor<256x4096xf32>, tensor<256x1xf32>) -> tensor<256x4096xf32>
  %c = graph.contract %x, %m {lhs_map = affine_map<(d0, d1, d2) -> (d0, d2)>, result_map = affine_map<(d0, d1, d2) -> (d0, d1)>, rhs_map = affine_map<(d0, d1, d2) -> (d2, d1)>} : (tensor<64x256xf32>, tensor<256x4096xf32>) -> tensor<64x4096xf32>
  %d = graph.add %c, %b : (tensor<64x4096xf32>, tensor<4096xf32>) -> tensor<64x4096xf32>
  %e = graph.relu %d : (tensor<64x4096xf32>) -> tensor<64x4096xf32>
  %f = graph.tanh %d : (tensor<64x4096xf32>) -> tensor<64x4096xf32>
  return %c, %e, %f : tensor<64x4096xf32>, tensor<64x4096xf32>, tensor<64x4096xf32>
}

// -----

// A cheap operator that two groups read is computed in both, and nowhere
// written: between the two lies an opaque operator.
// GROUP: fused fused_0: broadcast_0 + add_1
// GROUP: fused fused_1: {{.*}}mul_{{[0-9]+}} + copy of broadcast_0
// CHECK-LABEL: func.func @main(
// CHECK: graph.call @fused_0(%arg0, %arg1) : (tensor<2048x512x1xi64>, tensor<512x1xi64>) -> tensor<2048x512x1xi64>
// CHECK-NOT: graph.call @broadcast
// CHECK: graph.call @fused_1({{.*}}) : (tensor<2048x512xi64>, tensor<512x1xi64>) -> tensor<2048x512xi64>
func.func @main(%x: tensor<2048x512x1xi64>, %s: tensor<512x1xi64>) -> tensor<2048x512xi64> {
  %b = graph.broadcast %s : (tensor<512x1xi64>) -> tensor<2048x512x1xi64>
  %y = graph.add %x, %b : (tensor<2048x512x1xi64>, tensor<2048x512x1xi64>) -> tensor<2048x512x1xi64>
  %o = graph.argsort %y {count = #graph.dims<512>} : (tensor<2048x512x1xi64>) -> tensor<2048x512xi64>
  %r = graph.reshape %b : (tensor<2048x512x1xi64>) -> tensor<2048x512xi64>
  %z = graph.mul %o, %r : (tensor<2048x512xi64>, tensor<2048x512xi64>) -> tensor<2048x512xi64>
  return %z : tensor<2048x512xi64>
}

// -----

// Siblings: results over one domain that read the same run in one loop.
// GROUP: fused fused_0: exp_0 + neg_1
// CHECK-LABEL: func.func @main(
// CHECK: graph.kernel @fused_0(%arg0: tensor<512x512xf32>) -> (tensor<512x512xf32>, tensor<512x512xf32>)
func.func @main(%x: tensor<512x512xf32>) -> (tensor<512x512xf32>, tensor<512x512xf32>) {
  %a = graph.exp %x : (tensor<512x512xf32>) -> tensor<512x512xf32>
  %b = graph.neg %x : (tensor<512x512xf32>) -> tensor<512x512xf32>
  return %a, %b : tensor<512x512xf32>, tensor<512x512xf32>
}

// -----

// A slice and a padded read keep their guard (C-COMPOSE).
// GROUP: fused fused_0: slice_0 + pad_1 + exp_2
// CHECK-LABEL: func.func @main(
// CHECK: graph.kernel @fused_0
// CHECK: graph.load %arg0[affine_map<(d0, d1) -> (d0, d1 + 7)>] {{.*}} guard affine_set<(d0, d1) : (d1 - 1 >= 0)>
func.func @main(%x: tensor<64x128xf32>) -> tensor<64x33xf32> {
  %zero = graph.constant dense<0.0> : tensor<f32>
  %a = graph.slice %x {starts = #graph.dims<0, 8>, steps = array<i64: 1, 1>} : (tensor<64x128xf32>) -> tensor<64x32xf32>
  %b = graph.pad %a, %zero {high = array<i64: 0, 0>, low = array<i64: 0, 1>, mode = #graph<pad constant>} : (tensor<64x32xf32>, tensor<f32>) -> tensor<64x33xf32>
  %c = graph.exp %b : (tensor<64x33xf32>) -> tensor<64x33xf32>
  return %c : tensor<64x33xf32>
}

// -----

// The same groups form where sizes are symbols, and reshapes of symbolic sizes
// compose.
// GROUP: fused fused_0: reduce_0 + sub_1 + exp_2 + reduce_3 + div_4 + neg_5
// CHECK-LABEL: func.func @main(
// CHECK: graph.call @fused_0(%arg0) symbols <s0, s1>
// CHECK: graph.kernel @fused_0{{.*}}rows = 2 : i64, symbols = ["s0", "s1"]
func.func @main(%x: tensor<?x?x64xf32, #graph.dims<s0, s1, 64>>) -> tensor<?x64xf32, #graph.dims<s0 * s1, 64>> attributes {graph.symbols = ["batch", "seq"]} {
  %m = graph.reduce %x {axes = array<i64: 2>, kind = #graph<fold max>} : (tensor<?x?x64xf32, #graph.dims<s0, s1, 64>>) -> tensor<?x?x1xf32, #graph.dims<s0, s1, 1>>
  %d = graph.sub %x, %m : (tensor<?x?x64xf32, #graph.dims<s0, s1, 64>>, tensor<?x?x1xf32, #graph.dims<s0, s1, 1>>) -> tensor<?x?x64xf32, #graph.dims<s0, s1, 64>>
  %e = graph.exp %d : (tensor<?x?x64xf32, #graph.dims<s0, s1, 64>>) -> tensor<?x?x64xf32, #graph.dims<s0, s1, 64>>
  %s = graph.reduce %e {axes = array<i64: 2>, kind = #graph<fold add>} : (tensor<?x?x64xf32, #graph.dims<s0, s1, 64>>) -> tensor<?x?x1xf32, #graph.dims<s0, s1, 1>>
  %y = graph.div %e, %s : (tensor<?x?x64xf32, #graph.dims<s0, s1, 64>>, tensor<?x?x1xf32, #graph.dims<s0, s1, 1>>) -> tensor<?x?x64xf32, #graph.dims<s0, s1, 64>>
  %n = graph.neg %y : (tensor<?x?x64xf32, #graph.dims<s0, s1, 64>>) -> tensor<?x?x64xf32, #graph.dims<s0, s1, 64>>
  %r = graph.reshape %n : (tensor<?x?x64xf32, #graph.dims<s0, s1, 64>>) -> tensor<?x64xf32, #graph.dims<s0 * s1, 64>>
  return %r : tensor<?x64xf32, #graph.dims<s0 * s1, 64>>
}
