// Products of dequantised bytes as products of the bytes.
// RUN: dlc-opt %s -split-input-file -graph-integer-products | FileCheck %s

// A scale and a zero point for each output channel: both go behind the sum.
// CHECK-LABEL: func.func @main
// CHECK-DAG: %[[P:.*]] = graph.reshape %arg2 : (tensor<1xui8>) -> tensor<ui8>
// CHECK-DAG: %[[Q:.*]] = graph.reshape %{{.*}} : (tensor<16x1x1x1xi8>) -> tensor<16xi8>
// CHECK: %[[S:.*]] = graph.conv %arg0, %{{.*}}, %[[P]], %[[Q]] {{.*}} : (tensor<1x16x8x8xui8>, tensor<16x16x3x3xi8>, tensor<ui8>, tensor<16xi8>) -> tensor<1x16x6x6xi32>
// CHECK: %[[F:.*]] = graph.convert %[[S]] {to = f32}
// CHECK: %[[A:.*]] = graph.reshape %arg1 : (tensor<1xf32>) -> tensor<1x1x1x1xf32>
// CHECK: %[[B:.*]] = graph.reshape %{{.*}} : (tensor<16x1x1x1xf32>) -> tensor<1x16x1x1xf32>
// CHECK: %[[C:.*]] = graph.mul %[[A]], %[[B]]
// CHECK: graph.mul %[[F]], %[[C]] : (tensor<1x16x6x6xf32>, tensor<1x16x1x1xf32>) -> tensor<1x16x6x6xf32>
// CHECK-NOT: graph.dequantize
func.func @main(%x: tensor<1x16x8x8xui8>, %s: tensor<1xf32>, %p: tensor<1xui8>) -> tensor<1x16x6x6xf32> {
  %b = graph.constant dense<7> : tensor<16x16x3x3xi8>
  %t = graph.constant dense<0.5> : tensor<16x1x1x1xf32>
  %q = graph.constant dense<1> : tensor<16x1x1x1xi8>
  %d = graph.dequantize %x, %s, %p : (tensor<1x16x8x8xui8>, tensor<1xf32>, tensor<1xui8>) -> tensor<1x16x8x8xf32>
  %w = graph.dequantize %b, %t, %q : (tensor<16x16x3x3xi8>, tensor<16x1x1x1xf32>, tensor<16x1x1x1xi8>) -> tensor<16x16x3x3xf32>
  %y = graph.conv %d, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x16x8x8xf32>, tensor<16x16x3x3xf32>) -> tensor<1x16x6x6xf32>
  return %y : tensor<1x16x6x6xf32>
}

// -----

// Scales that are constants are one constant.
// CHECK-LABEL: func.func @main
// CHECK: %[[S:.*]] = graph.constant dense<{{.*}}1.500000e+00, 3.000000e+00{{.*}}> : tensor<1x2xf32>
// CHECK-NOT: graph.mul %{{.*}} : (tensor<1x1xf32>
// CHECK: graph.mul %{{.*}}, %[[S]] : (tensor<4x2xf32>, tensor<1x2xf32>) -> tensor<4x2xf32>
func.func @main(%x: tensor<4x8xi8>) -> tensor<4x2xf32> {
  %s = graph.constant dense<3.0> : tensor<f32>
  %p = graph.constant dense<0> : tensor<i8>
  %b = graph.constant dense<7> : tensor<8x2xi8>
  %t = graph.constant dense<[0.5, 1.0]> : tensor<2xf32>
  %d = graph.dequantize %x, %s, %p : (tensor<4x8xi8>, tensor<f32>, tensor<i8>) -> tensor<4x8xf32>
  %w = graph.dequantize %b, %t, %p : (tensor<8x2xi8>, tensor<2xf32>, tensor<i8>) -> tensor<8x2xf32>
  %y = graph.contract %d, %w {lhs_map = affine_map<(m, n, k) -> (m, k)>, rhs_map = affine_map<(m, n, k) -> (k, n)>, result_map = affine_map<(m, n, k) -> (m, n)>} : (tensor<4x8xf32>, tensor<8x2xf32>) -> tensor<4x2xf32>
  return %y : tensor<4x2xf32>
}

// -----

// No zero points where they are known to be zero, one for all or one for each
// channel: symmetric weights, what ReLU leaves.
// CHECK-LABEL: func.func @main
// CHECK: graph.conv %arg0, %{{[^,]*}} {{.*}}operandSegmentSizes = array<i32: 1, 1, 0, 0>{{.*}} : (tensor<1x16x8x8xui8>, tensor<16x16x3x3xi8>) -> tensor<1x16x6x6xi32>
func.func @main(%x: tensor<1x16x8x8xui8>, %s: tensor<f32>) -> tensor<1x16x6x6xf32> {
  %b = graph.constant dense<7> : tensor<16x16x3x3xi8>
  %t = graph.constant dense<0.5> : tensor<16x1x1x1xf32>
  %p = graph.constant dense<0> : tensor<ui8>
  %v = graph.constant dense<0> : tensor<16xi8>
  %q = graph.reshape %v : (tensor<16xi8>) -> tensor<16x1x1x1xi8>
  %d = graph.dequantize %x, %s, %p : (tensor<1x16x8x8xui8>, tensor<f32>, tensor<ui8>) -> tensor<1x16x8x8xf32>
  %w = graph.dequantize %b, %t, %q : (tensor<16x16x3x3xi8>, tensor<16x1x1x1xf32>, tensor<16x1x1x1xi8>) -> tensor<16x16x3x3xf32>
  %y = graph.conv %d, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x16x8x8xf32>, tensor<16x16x3x3xf32>) -> tensor<1x16x6x6xf32>
  return %y : tensor<1x16x6x6xf32>
}

// -----

// A scale for each column, another for each row; what others read stays.
// CHECK-LABEL: func.func @main
// CHECK: %[[D:.*]] = graph.dequantize %arg0
// CHECK: %[[S:.*]] = graph.contract %{{.*}}, %{{.*}} : (tensor<4x8xi32>, tensor<8x6xi32>) -> tensor<4x6xi32>
// CHECK: graph.convert %[[S]] {to = f32}
// CHECK: graph.reshape %arg1 : (tensor<4x1xf32>) -> tensor<4x1xf32>
// CHECK: graph.reshape %{{.*}} : (tensor<6xf32>) -> tensor<1x6xf32>
// CHECK: graph.mul {{.*}} -> tensor<4x6xf32>
// CHECK: graph.mul {{.*}} -> tensor<4x6xf32>
// CHECK: return %{{.*}}, %[[D]]
func.func @main(%x: tensor<4x8xi8>, %s: tensor<4x1xf32>) -> (tensor<4x6xf32>, tensor<4x8xf32>) {
  %p = graph.constant dense<0> : tensor<i8>
  %b = graph.constant dense<7> : tensor<8x6xi8>
  %t = graph.constant dense<0.5> : tensor<6xf32>
  %d = graph.dequantize %x, %s, %p : (tensor<4x8xi8>, tensor<4x1xf32>, tensor<i8>) -> tensor<4x8xf32>
  %w = graph.dequantize %b, %t, %p : (tensor<8x6xi8>, tensor<6xf32>, tensor<i8>) -> tensor<8x6xf32>
  %y = graph.contract %d, %w {lhs_map = affine_map<(m, n, k) -> (m, k)>, rhs_map = affine_map<(m, n, k) -> (k, n)>, result_map = affine_map<(m, n, k) -> (m, n)>} : (tensor<4x8xf32>, tensor<8x6xf32>) -> tensor<4x6xf32>
  return %y, %d : tensor<4x6xf32>, tensor<4x8xf32>
}

// -----

// Scales that differ along the sum; two computed factors; 16-bit numbers; sums
// of more terms than i32 holds, or of a number that is not known.
// CHECK-LABEL: func.func @main
// CHECK-NOT: i32>
// CHECK: return
func.func @main(%x: tensor<4x8xi8>, %u: tensor<8x6xi8>, %h: tensor<4x8xi16>, %l: tensor<4x33026xi8>, %v: tensor<4x?xi8, #graph.dims<4, s0>>) -> (tensor<4x6xf32>, tensor<4x6xf32>, tensor<4x6xf32>, tensor<4x6xf32>, tensor<4x4xf32>) attributes {graph.symbols = ["K"]} {
  %s = graph.constant dense<0.5> : tensor<f32>
  %p = graph.constant dense<0> : tensor<i8>
  %hp = graph.constant dense<0> : tensor<i16>
  %b = graph.constant dense<7> : tensor<8x6xi8>
  %lb = graph.constant dense<7> : tensor<33026x6xi8>
  %t = graph.constant dense<0.5> : tensor<8x1xf32>
  %d = graph.dequantize %x, %s, %p : (tensor<4x8xi8>, tensor<f32>, tensor<i8>) -> tensor<4x8xf32>
  %ud = graph.dequantize %u, %s, %p : (tensor<8x6xi8>, tensor<f32>, tensor<i8>) -> tensor<8x6xf32>
  %hd = graph.dequantize %h, %s, %hp : (tensor<4x8xi16>, tensor<f32>, tensor<i16>) -> tensor<4x8xf32>
  %ld = graph.dequantize %l, %s, %p : (tensor<4x33026xi8>, tensor<f32>, tensor<i8>) -> tensor<4x33026xf32>
  %vd = graph.dequantize %v, %s, %p : (tensor<4x?xi8, #graph.dims<4, s0>>, tensor<f32>, tensor<i8>) -> tensor<4x?xf32, #graph.dims<4, s0>>
  %along = graph.dequantize %b, %t, %p : (tensor<8x6xi8>, tensor<8x1xf32>, tensor<i8>) -> tensor<8x6xf32>
  %w = graph.dequantize %b, %s, %p : (tensor<8x6xi8>, tensor<f32>, tensor<i8>) -> tensor<8x6xf32>
  %lw = graph.dequantize %lb, %s, %p : (tensor<33026x6xi8>, tensor<f32>, tensor<i8>) -> tensor<33026x6xf32>
  %y0 = graph.contract %d, %along {lhs_map = affine_map<(m, n, k) -> (m, k)>, rhs_map = affine_map<(m, n, k) -> (k, n)>, result_map = affine_map<(m, n, k) -> (m, n)>} : (tensor<4x8xf32>, tensor<8x6xf32>) -> tensor<4x6xf32>
  %y1 = graph.contract %d, %ud {lhs_map = affine_map<(m, n, k) -> (m, k)>, rhs_map = affine_map<(m, n, k) -> (k, n)>, result_map = affine_map<(m, n, k) -> (m, n)>} : (tensor<4x8xf32>, tensor<8x6xf32>) -> tensor<4x6xf32>
  %y2 = graph.contract %hd, %w {lhs_map = affine_map<(m, n, k) -> (m, k)>, rhs_map = affine_map<(m, n, k) -> (k, n)>, result_map = affine_map<(m, n, k) -> (m, n)>} : (tensor<4x8xf32>, tensor<8x6xf32>) -> tensor<4x6xf32>
  %y3 = graph.contract %ld, %lw {lhs_map = affine_map<(m, n, k) -> (m, k)>, rhs_map = affine_map<(m, n, k) -> (k, n)>, result_map = affine_map<(m, n, k) -> (m, n)>} : (tensor<4x33026xf32>, tensor<33026x6xf32>) -> tensor<4x6xf32>
  %y4 = graph.contract %vd, %vd {lhs_map = affine_map<(m, n, k) -> (m, k)>, rhs_map = affine_map<(m, n, k) -> (n, k)>, result_map = affine_map<(m, n, k) -> (m, n)>} : (tensor<4x?xf32, #graph.dims<4, s0>>, tensor<4x?xf32, #graph.dims<4, s0>>) -> tensor<4x4xf32>
  return %y0, %y1, %y2, %y3, %y4 : tensor<4x6xf32>, tensor<4x6xf32>, tensor<4x6xf32>, tensor<4x6xf32>, tensor<4x4xf32>
}

// -----

// Few channels a group, and a zero point for each channel of the image.
// CHECK-LABEL: func.func @main
// CHECK-NOT: i32>
// CHECK: return
func.func @main(%x: tensor<1x16x8x8xui8>) -> (tensor<1x16x6x6xf32>, tensor<1x16x6x6xf32>) {
  %s = graph.constant dense<0.5> : tensor<f32>
  %p = graph.constant dense<3> : tensor<ui8>
  %each = graph.constant dense<[[[1]], [[2]], [[3]], [[4]], [[5]], [[6]], [[7]], [[8]], [[1]], [[2]], [[3]], [[4]], [[5]], [[6]], [[7]], [[8]]]> : tensor<16x1x1xui8>
  %q = graph.constant dense<0> : tensor<i8>
  %b = graph.constant dense<7> : tensor<16x16x3x3xi8>
  %g = graph.constant dense<7> : tensor<16x8x3x3xi8>
  %d = graph.dequantize %x, %s, %p : (tensor<1x16x8x8xui8>, tensor<f32>, tensor<ui8>) -> tensor<1x16x8x8xf32>
  %e = graph.dequantize %x, %s, %each : (tensor<1x16x8x8xui8>, tensor<f32>, tensor<16x1x1xui8>) -> tensor<1x16x8x8xf32>
  %w = graph.dequantize %b, %s, %q : (tensor<16x16x3x3xi8>, tensor<f32>, tensor<i8>) -> tensor<16x16x3x3xf32>
  %v = graph.dequantize %g, %s, %q : (tensor<16x8x3x3xi8>, tensor<f32>, tensor<i8>) -> tensor<16x8x3x3xf32>
  %y = graph.conv %d, %v {dilations = array<i64: 1, 1>, group = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x16x8x8xf32>, tensor<16x8x3x3xf32>) -> tensor<1x16x6x6xf32>
  %z = graph.conv %e, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x16x8x8xf32>, tensor<16x16x3x3xf32>) -> tensor<1x16x6x6xf32>
  return %y, %z : tensor<1x16x6x6xf32>, tensor<1x16x6x6xf32>
}
