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

// Too little work for two copies; and the image of too few channels.
// CHECK-LABEL: func.func @main(%arg0: tensor<1x16x8x8xf32>)
// CHECK-NOT: copy
func.func @main(%x: tensor<1x16x8x8xf32>) -> tensor<1x16x8x8xf32> {
  %w = graph.constant dense<0.5> : tensor<16x16x3x3xf32>
  %a = graph.conv %x, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>} : (tensor<1x16x8x8xf32>, tensor<16x16x3x3xf32>) -> tensor<1x16x8x8xf32>
  return %a : tensor<1x16x8x8xf32>
}
