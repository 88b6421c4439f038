// RUN: dlc-opt %s -split-input-file -graph-form-kernels -graph-relay-tensors -mlir-print-local-scope | FileCheck %s

// A convolution by itself: its image and its result are the caller's, but two
// copies are little beside it.
// CHECK-LABEL: func.func @main(%arg0: tensor<1x64x8x8xf32>) -> tensor<1x64x8x8xf32>
// CHECK: [[A:%.*]] = graph.call @copy_last(%arg0) {{.*}}(tensor<1x64x8x8xf32>) -> tensor<1x8x8x64xf32>
// CHECK: [[B:%.*]] = graph.call @conv_0_last([[A]], %{{.*}}) {{.*}} -> tensor<1x8x8x64xf32>
// CHECK: [[C:%.*]] = graph.call @copy_0_last([[B]]) {{.*}}(tensor<1x8x8x64xf32>) -> tensor<1x64x8x8xf32>
// CHECK: return [[C]]
// CHECK: graph.kernel @copy_last
// CHECK: graph.load %arg0[affine_map<(d0, d1, d2, d3) -> (d0, d3, d1, d2)>]
func.func @main(%x: tensor<1x64x8x8xf32>) -> tensor<1x64x8x8xf32> {
  %w = graph.constant dense<0.5> : tensor<64x64x3x3xf32>
  %a = graph.conv %x, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>} : (tensor<1x64x8x8xf32>, tensor<64x64x3x3xf32>) -> tensor<1x64x8x8xf32>
  return %a : tensor<1x64x8x8xf32>
}

// -----

// Of one tap, the image is read as it came: only the result is copied.
// CHECK-LABEL: func.func @main(%arg0: tensor<1x256x8x8xf32>) -> tensor<1x128x8x8xf32>
// CHECK: [[B:%.*]] = graph.call @conv_0_last(%arg0, %{{.*}}) {{.*}} -> tensor<1x8x8x128xf32>
// CHECK: [[C:%.*]] = graph.call @copy_last([[B]]) {{.*}}(tensor<1x8x8x128xf32>) -> tensor<1x128x8x8xf32>
// CHECK: return [[C]]
func.func @main(%x: tensor<1x256x8x8xf32>) -> tensor<1x128x8x8xf32> {
  %w = graph.constant dense<0.5> : tensor<128x256x1x1xf32>
  %a = graph.conv %x, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x256x8x8xf32>, tensor<128x256x1x1xf32>) -> tensor<1x128x8x8xf32>
  return %a : tensor<1x128x8x8xf32>
}

// -----

// With a step of two it is copied: its pixels are no columns of a matrix.
// CHECK-LABEL: func.func @main(%arg0: tensor<1x256x8x8xf32>) -> tensor<1x2048x4x4xf32>
// CHECK: graph.call @copy_last(%arg0)
func.func @main(%x: tensor<1x256x8x8xf32>) -> tensor<1x2048x4x4xf32> {
  %w = graph.constant dense<0.5> : tensor<2048x256x1x1xf32>
  %a = graph.conv %x, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 2, 2>} : (tensor<1x256x8x8xf32>, tensor<2048x256x1x1xf32>) -> tensor<1x2048x4x4xf32>
  return %a : tensor<1x2048x4x4xf32>
}

// -----

// Too little work for two copies; and the image of too few channels.
// CHECK-LABEL: func.func @main(%arg0: tensor<1x16x8x8xf32>)
// CHECK-NOT: copy
func.func @main(%x: tensor<1x16x8x8xf32>) -> tensor<1x16x8x8xf32> {
  %w = graph.constant dense<0.5> : tensor<16x16x3x3xf32>
  %a = graph.conv %x, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>} : (tensor<1x16x8x8xf32>, tensor<16x16x3x3xf32>) -> tensor<1x16x8x8xf32>
  return %a : tensor<1x16x8x8xf32>
}

// -----

// The last pooling of a region: its result, which the caller gets, is copied
// once, instead of windows that are read one way and written the other.
// CHECK-LABEL: func.func @main(%arg0: tensor<1x64x8x8xf32>) -> tensor<1x64x4x4xf32>
// CHECK: [[A:%.*]] = graph.call @copy_last(%arg0)
// CHECK: [[B:%.*]] = graph.call @conv_0_last([[A]], %{{.*}}) {{.*}} -> tensor<1x8x8x64xf32>
// CHECK: [[C:%.*]] = graph.call @pool_1_last([[B]]) {{.*}}(tensor<1x8x8x64xf32>) -> tensor<1x4x4x64xf32>
// CHECK: [[D:%.*]] = graph.call @copy_0_last([[C]]) {{.*}}(tensor<1x4x4x64xf32>) -> tensor<1x64x4x4xf32>
// CHECK: return [[D]]
func.func @main(%x: tensor<1x64x8x8xf32>) -> tensor<1x64x4x4xf32> {
  %w = graph.constant dense<0.5> : tensor<64x64x3x3xf32>
  %a = graph.conv %x, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>} : (tensor<1x64x8x8xf32>, tensor<64x64x3x3xf32>) -> tensor<1x64x8x8xf32>
  %b = graph.pool %a {dilations = array<i64: 1, 1>, kernel = array<i64: 2, 2>, kind = #graph<pool max>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 2, 2>} : (tensor<1x64x8x8xf32>) -> tensor<1x64x4x4xf32>
  return %b : tensor<1x64x4x4xf32>
}

// -----

// Pooling over all pixels has one layout; pooling of the caller's image keeps
// it.
// CHECK-LABEL: func.func @main(%arg0: tensor<1x64x8x8xf32>)
// CHECK-NOT: copy
func.func @main(%x: tensor<1x64x8x8xf32>) -> tensor<1x64x4x4xf32> {
  %b = graph.pool %x {dilations = array<i64: 1, 1>, kernel = array<i64: 2, 2>, kind = #graph<pool max>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 2, 2>} : (tensor<1x64x8x8xf32>) -> tensor<1x64x4x4xf32>
  return %b : tensor<1x64x4x4xf32>
}

// -----

// An image of bytes whose pixels are whole groups of four channels is read in
// place as others are.
// CHECK-LABEL: func.func @main(%arg0: tensor<1x64x8x8xf32>) -> tensor<1x64x8x8xi32>
// CHECK: graph.call @conv_{{.*}}_last({{.*}} -> tensor<1x8x8x64xf32>
// CHECK: graph.call @conv_{{.*}}_last({{.*}} : (tensor<1x8x8x64xui8>, {{.*}} -> tensor<1x{{.*}}xi32>
func.func @main(%x: tensor<1x64x8x8xf32>) -> tensor<1x64x8x8xi32> {
  %w = graph.constant dense<0.5> : tensor<64x64x3x3xf32>
  %v = graph.constant dense<7> : tensor<64x64x3x3xi8>
  %p = graph.constant dense<3> : tensor<ui8>
  %q = graph.constant dense<0> : tensor<i8>
  %a = graph.conv %x, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>} : (tensor<1x64x8x8xf32>, tensor<64x64x3x3xf32>) -> tensor<1x64x8x8xf32>
  %b = graph.convert %a {saturate, to = ui8} : (tensor<1x64x8x8xf32>) -> tensor<1x64x8x8xui8>
  %c = graph.conv %b, %v, %p, %q {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>} : (tensor<1x64x8x8xui8>, tensor<64x64x3x3xi8>, tensor<ui8>, tensor<i8>) -> tensor<1x64x8x8xi32>
  %d = graph.abs %c : (tensor<1x64x8x8xi32>) -> tensor<1x64x8x8xi32>
  return %d : tensor<1x64x8x8xi32>
}

// -----

// One of others keeps its layout, whatever the rest of its region wants: it is
// copied into groups. What is computed from it need not.
// CHECK-LABEL: func.func @main(%arg0: tensor<1x62x8x8xf32>)
// CHECK: graph.call @conv_{{.*}} : (tensor<1x62x8x8xui8>, {{.*}} -> tensor<1x8x8x64xi32>
// CHECK: graph.call @conv_{{.*}}_last({{.*}} : (tensor<1x8x8x64xui8>,
func.func @main(%x: tensor<1x62x8x8xf32>) -> tensor<1x64x8x8xi32> {
  %w = graph.constant dense<0.5> : tensor<62x62x3x3xf32>
  %v = graph.constant dense<7> : tensor<64x62x3x3xi8>
  %u = graph.constant dense<7> : tensor<64x64x3x3xi8>
  %a = graph.conv %x, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>} : (tensor<1x62x8x8xf32>, tensor<62x62x3x3xf32>) -> tensor<1x62x8x8xf32>
  %b = graph.convert %a {saturate, to = ui8} : (tensor<1x62x8x8xf32>) -> tensor<1x62x8x8xui8>
  %c = graph.conv %b, %v {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>} : (tensor<1x62x8x8xui8>, tensor<64x62x3x3xi8>) -> tensor<1x64x8x8xi32>
  %d = graph.convert %c {saturate, to = ui8} : (tensor<1x64x8x8xi32>) -> tensor<1x64x8x8xui8>
  %e = graph.conv %d, %u {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>} : (tensor<1x64x8x8xui8>, tensor<64x64x3x3xi8>) -> tensor<1x64x8x8xi32>
  %f = graph.abs %e : (tensor<1x64x8x8xi32>) -> tensor<1x64x8x8xi32>
  return %f : tensor<1x64x8x8xi32>
}

// -----

// An image that no convolution writes, resized on its way, follows the one that
// reads it.
// CHECK-LABEL: func.func @main(%arg0: tensor<1x64x8x8xf32>, %arg1: tensor<16xi64>)
// CHECK: [[A:%.*]] = graph.call @gather_0_last(%arg0, %arg1) {{.*}} -> tensor<1x16x8x64xf32>
// CHECK: graph.call @conv_1_last([[A]], %{{.*}}) {{.*}} -> tensor<1x16x8x64xf32>
func.func @main(%x: tensor<1x64x8x8xf32>, %at: tensor<16xi64>) -> tensor<1x64x16x8xf32> {
  %w = graph.constant dense<0.5> : tensor<64x64x3x3xf32>
  %g = graph.gather %x, %at {axis = 2 : i64} : (tensor<1x64x8x8xf32>, tensor<16xi64>) -> tensor<1x64x16x8xf32>
  %a = graph.conv %g, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>} : (tensor<1x64x16x8xf32>, tensor<64x64x3x3xf32>) -> tensor<1x64x16x8xf32>
  return %a : tensor<1x64x16x8xf32>
}
