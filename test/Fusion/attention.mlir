// Attentions are formed at once, views and repeated heads inside.
// RUN: dlc-opt %s -split-input-file -graph-form-kernels -graph-fuse-kernels="explain attention" -o /dev/null 2>&1 | FileCheck %s --check-prefix=GROUP
// RUN: dlc-opt %s -split-input-file -graph-form-kernels -graph-fuse-kernels=attention -graph-drop-certificates -mlir-print-local-scope | FileCheck %s
// A group that is refused is its members again, clones too.
// RUN: dlc-opt %s -split-input-file -graph-form-kernels -graph-fuse-kernels=attention -graph-split-fused -graph-drop-certificates | FileCheck %s --check-prefix=SPLIT

// SPLIT-LABEL: func.func @main
// SPLIT-DAG: graph.call @iota
// SPLIT-DAG: graph.call @le
// SPLIT: graph.call @contract
// SPLIT: graph.call @exp
// SPLIT: graph.call @contract
// SPLIT: return
// SPLIT-NOT: @fused

// A causal mask of positions, two query heads a key head, heads merged after.
// GROUP: attention: heads 4 group 2 rows 16 keys 16 head_dim 8 value_dim 8 causal
// CHECK-LABEL: func.func @main
// CHECK: graph.call @fused_0(%arg0, %{{.*}}, %{{.*}})
// CHECK-NOT: graph.call
// CHECK: return
// CHECK: graph.kernel @fused_0
// CHECK: graph.stage domain <4, 16, 16> reduce <8> fold {{ *}}add
// CHECK: graph.load %arg1[affine_map<(d0, d1, d2, d3) -> (d0 floordiv 2, 0, d2, d3)>]
// CHECK: graph.stage {{.*}} reduce <16> fold {{ *}}max
// CHECK: graph.stage {{.*}} reduce <16> fold {{ *}}add
// CHECK: graph.stage {{.*}} reduce <16> fold {{ *}}add
func.func @main(%q: tensor<4x16x8xf32>, %k: tensor<2x16x8xf32>, %v: tensor<2x16x8xf32>) -> tensor<16x32xf32> {
  %scale = graph.constant dense<0.35> : tensor<f32>
  %zero = graph.constant dense<0.0> : tensor<f32>
  %inf = graph.constant dense<0xFF800000> : tensor<f32>
  %i = graph.iota {start = 0.0 : f64, step = 1.0 : f64} : () -> tensor<16xi64>
  %row = graph.reshape %i : (tensor<16xi64>) -> tensor<16x1xi64>
  %column = graph.reshape %i : (tensor<16xi64>) -> tensor<1x16xi64>
  %is = graph.le %column, %row : (tensor<1x16xi64>, tensor<16x1xi64>) -> tensor<16x16xi1>
  %mask = graph.select %is, %zero, %inf : (tensor<16x16xi1>, tensor<f32>, tensor<f32>) -> tensor<16x16xf32>
  %k4 = graph.reshape %k : (tensor<2x16x8xf32>) -> tensor<2x1x16x8xf32>
  %kb = graph.broadcast %k4 : (tensor<2x1x16x8xf32>) -> tensor<2x2x16x8xf32>
  %kr = graph.reshape %kb : (tensor<2x2x16x8xf32>) -> tensor<4x16x8xf32>
  %v4 = graph.reshape %v : (tensor<2x16x8xf32>) -> tensor<2x1x16x8xf32>
  %vb = graph.broadcast %v4 : (tensor<2x1x16x8xf32>) -> tensor<2x2x16x8xf32>
  %vr = graph.reshape %vb : (tensor<2x2x16x8xf32>) -> tensor<4x16x8xf32>
  %s = graph.contract %q, %kr {lhs_map = affine_map<(h, i, j, d) -> (h, i, d)>, rhs_map = affine_map<(h, i, j, d) -> (h, j, d)>, result_map = affine_map<(h, i, j, d) -> (h, i, j)>} : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x16xf32>
  %c = graph.mul %s, %scale : (tensor<4x16x16xf32>, tensor<f32>) -> tensor<4x16x16xf32>
  %t = graph.add %c, %mask : (tensor<4x16x16xf32>, tensor<16x16xf32>) -> tensor<4x16x16xf32>
  %m = graph.reduce %t {axes = array<i64: 2>, kind = #graph<fold max>} : (tensor<4x16x16xf32>) -> tensor<4x16x1xf32>
  %d = graph.sub %t, %m : (tensor<4x16x16xf32>, tensor<4x16x1xf32>) -> tensor<4x16x16xf32>
  %e = graph.exp %d : (tensor<4x16x16xf32>) -> tensor<4x16x16xf32>
  %z = graph.reduce %e {axes = array<i64: 2>, kind = #graph<fold add>} : (tensor<4x16x16xf32>) -> tensor<4x16x1xf32>
  %p = graph.div %e, %z : (tensor<4x16x16xf32>, tensor<4x16x1xf32>) -> tensor<4x16x16xf32>
  %o = graph.contract %p, %vr {lhs_map = affine_map<(h, i, c, j) -> (h, i, j)>, rhs_map = affine_map<(h, i, c, j) -> (h, j, c)>, result_map = affine_map<(h, i, c, j) -> (h, i, c)>} : (tensor<4x16x16xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  %ot = graph.transpose %o {perm = array<i64: 1, 0, 2>} : (tensor<4x16x8xf32>) -> tensor<16x4x8xf32>
  %y = graph.reshape %ot : (tensor<16x4x8xf32>) -> tensor<16x32xf32>
  return %y : tensor<16x32xf32>
}

// -----

// The weights are a result too: no kernel of this form returns them.
// GROUP: no attention: results: something besides the output is a result
func.func @main(%q: tensor<4x16x8xf32>, %k: tensor<4x16x8xf32>, %v: tensor<4x16x8xf32>) -> (tensor<4x16x8xf32>, tensor<4x16x16xf32>) {
  %s = graph.contract %q, %k {lhs_map = affine_map<(h, i, j, d) -> (h, i, d)>, rhs_map = affine_map<(h, i, j, d) -> (h, j, d)>, result_map = affine_map<(h, i, j, d) -> (h, i, j)>} : (tensor<4x16x8xf32>, tensor<4x16x8xf32>) -> tensor<4x16x16xf32>
  %m = graph.reduce %s {axes = array<i64: 2>, kind = #graph<fold max>} : (tensor<4x16x16xf32>) -> tensor<4x16x1xf32>
  %d = graph.sub %s, %m : (tensor<4x16x16xf32>, tensor<4x16x1xf32>) -> tensor<4x16x16xf32>
  %e = graph.exp %d : (tensor<4x16x16xf32>) -> tensor<4x16x16xf32>
  %z = graph.reduce %e {axes = array<i64: 2>, kind = #graph<fold add>} : (tensor<4x16x16xf32>) -> tensor<4x16x1xf32>
  %p = graph.div %e, %z : (tensor<4x16x16xf32>, tensor<4x16x1xf32>) -> tensor<4x16x16xf32>
  %o = graph.contract %p, %v {lhs_map = affine_map<(h, i, c, j) -> (h, i, j)>, rhs_map = affine_map<(h, i, c, j) -> (h, j, c)>, result_map = affine_map<(h, i, c, j) -> (h, i, c)>} : (tensor<4x16x16xf32>, tensor<4x16x8xf32>) -> tensor<4x16x8xf32>
  return %o, %p : tensor<4x16x8xf32>, tensor<4x16x16xf32>
}
