// Factors of float32 products with weights as bf16 numbers.
// RUN: dlc-opt %s -split-input-file -graph-round-products | FileCheck %s
// RUN: dlc-opt %s -split-input-file -graph-round-products=probe | FileCheck %s --check-prefix=PROBE

// The constant is rounded here, to the nearest and ties to even (1.00390625 is
// half way to the next bf16 above 1), the other factor once for both products;
// the result's type stays.
// CHECK-LABEL: func.func @main
// CHECK: %[[X:.*]] = graph.convert %arg0 {to = bf16} : (tensor<2x3xf32>) -> tensor<2x3xbf16>
// CHECK: %[[W:.*]] = graph.constant dense<{{\[\[}}1.000000e+00, -2.000000e+00], [5.000000e-01, 0.000000e+00], [1.015630e+00, 3.000000e+00]]> : tensor<3x2xbf16>
// CHECK: %[[P:.*]] = graph.contract %[[X]], %[[W]] {{.*}} : (tensor<2x3xbf16>, tensor<3x2xbf16>) -> tensor<2x2xf32>
// CHECK: graph.contract %[[X]], %[[W]] {{.*}} : (tensor<2x3xbf16>, tensor<3x2xbf16>) -> tensor<2x2xf32>
// PROBE-LABEL: func.func @main
// PROBE-SAME: %arg1: tensor<2xi1> {graph.name = "precision.mask"}
// PROBE: %[[S:.*]] = graph.slice %arg1
// PROBE: %[[C:.*]] = graph.reshape %[[S]] : (tensor<1xi1>) -> tensor<i1>
// PROBE: %[[B:.*]] = graph.convert %arg0 {to = bf16}
// PROBE: %[[F:.*]] = graph.convert %[[B]] {to = f32}
// PROBE: %[[L:.*]] = graph.select %[[C]], %[[F]], %arg0 : (tensor<i1>, tensor<2x3xf32>, tensor<2x3xf32>)
// PROBE: graph.contract %[[L]], %{{.*}} : (tensor<2x3xf32>, tensor<3x2xf32>) -> tensor<2x2xf32>
// PROBE: graph.contract
func.func @main(%x: tensor<2x3xf32>) -> tensor<2x2xf32> {
  %w = graph.constant dense<[[1.00390625, -2.0], [0.5, 0.0], [1.01171875, 3.0]]> : tensor<3x2xf32>
  %p = graph.contract %x, %w {lhs_map = affine_map<(m, n, k) -> (m, k)>, rhs_map = affine_map<(m, n, k) -> (k, n)>, result_map = affine_map<(m, n, k) -> (m, n)>} : (tensor<2x3xf32>, tensor<3x2xf32>) -> tensor<2x2xf32>
  %q = graph.contract %x, %w {lhs_map = affine_map<(m, n, k) -> (m, k)>, rhs_map = affine_map<(m, n, k) -> (k, n)>, result_map = affine_map<(m, n, k) -> (m, n)>} : (tensor<2x3xf32>, tensor<3x2xf32>) -> tensor<2x2xf32>
  %s = graph.add %p, %q : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
  return %s : tensor<2x2xf32>
}

// -----

// Two computed factors, and doubles, stay.
// CHECK-LABEL: func.func @main
// CHECK-NOT: bf16
func.func @main(%x: tensor<2x3xf32>, %y: tensor<3x2xf32>, %d: tensor<2x3xf64>) -> (tensor<2x2xf32>, tensor<2x2xf64>) {
  %w = graph.constant dense<1.5> : tensor<3x2xf64>
  %p = graph.contract %x, %y {lhs_map = affine_map<(m, n, k) -> (m, k)>, rhs_map = affine_map<(m, n, k) -> (k, n)>, result_map = affine_map<(m, n, k) -> (m, n)>} : (tensor<2x3xf32>, tensor<3x2xf32>) -> tensor<2x2xf32>
  %q = graph.contract %d, %w {lhs_map = affine_map<(m, n, k) -> (m, k)>, rhs_map = affine_map<(m, n, k) -> (k, n)>, result_map = affine_map<(m, n, k) -> (m, n)>} : (tensor<2x3xf64>, tensor<3x2xf64>) -> tensor<2x2xf64>
  return %p, %q : tensor<2x2xf32>, tensor<2x2xf64>
}

// -----

// A weight that is moved is rounded before it moves; a convolution of one
// channel a group stays, a dense one does not.
// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = graph.constant dense<1.500000e+00> : tensor<2x3xbf16>
// CHECK: %[[T:.*]] = graph.transpose %[[W]] {{.*}} : (tensor<2x3xbf16>) -> tensor<3x2xbf16>
// CHECK: graph.contract %{{.*}}, %[[T]]
// CHECK: graph.conv %arg1, %{{.*}} group = 4 : i64{{.*}} : (tensor<1x4x5x5xf32>, tensor<4x1x3x3xf32>) -> tensor<1x4x3x3xf32>
// CHECK: graph.conv {{.*}} group = 1 : i64{{.*}} : (tensor<1x4x5x5xbf16>, tensor<6x4x3x3xbf16>) -> tensor<1x6x3x3xf32>
func.func @main(%x: tensor<2x3xf32>, %i: tensor<1x4x5x5xf32>) -> (tensor<2x2xf32>, tensor<1x4x3x3xf32>, tensor<1x6x3x3xf32>) {
  %w = graph.constant dense<1.5> : tensor<2x3xf32>
  %t = graph.transpose %w {perm = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  %p = graph.contract %x, %t {lhs_map = affine_map<(m, n, k) -> (m, k)>, rhs_map = affine_map<(m, n, k) -> (k, n)>, result_map = affine_map<(m, n, k) -> (m, n)>} : (tensor<2x3xf32>, tensor<3x2xf32>) -> tensor<2x2xf32>
  %d = graph.constant dense<0.5> : tensor<4x1x3x3xf32>
  %c = graph.conv %i, %d {dilations = array<i64: 1, 1>, group = 4 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x4x5x5xf32>, tensor<4x1x3x3xf32>) -> tensor<1x4x3x3xf32>
  %f = graph.constant dense<0.5> : tensor<6x4x3x3xf32>
  %e = graph.conv %i, %f {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x4x5x5xf32>, tensor<6x4x3x3xf32>) -> tensor<1x6x3x3xf32>
  return %p, %c, %e : tensor<2x2xf32>, tensor<1x4x3x3xf32>, tensor<1x6x3x3xf32>
}
