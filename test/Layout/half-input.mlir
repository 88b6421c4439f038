// An image of fewer channels than a vector has elements keeps its layout; where
// a convolution reads it, it is copied to float32.
// RUN: dlc-opt %s -graph-form-kernels -graph-relay-tensors=lanes=4 -mlir-print-local-scope | FileCheck %s

// CHECK-LABEL: func.func @main(%arg0: tensor<1x3x6x6xf16>) -> tensor<1x4x6x6xf16>
// CHECK: [[X:%.*]] = graph.call @copy_last(%arg0) {{.*}} -> tensor<1x3x6x6xf32>
// CHECK: [[A:%.*]] = graph.call @conv_0_last([[X]], %{{.*}}) {{.*}} -> tensor<1x6x6x4xf32>
// CHECK: graph.call @conv_1_last([[A]], %{{.*}}) {{.*}} -> tensor<1x6x6x4xf32>
// CHECK: graph.kernel @conv_0_last(%arg0: tensor<1x3x6x6xf32>
// CHECK-SAME: wideOperands = array<i64: 0>
// CHECK: graph.kernel @copy_last(%arg0: tensor<1x3x6x6xf16>) -> tensor<1x3x6x6xf32>
// CHECK-SAME: wideResults = array<i64: 0>
func.func @main(%x: tensor<1x3x6x6xf16>) -> tensor<1x4x6x6xf16> {
  %w0 = graph.constant dense<0.5> : tensor<4x3x3x3xf16>
  %w1 = graph.constant dense<0.5> : tensor<4x4x1x1xf16>
  %a = graph.conv %x, %w0 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>} : (tensor<1x3x6x6xf16>, tensor<4x3x3x3xf16>) -> tensor<1x4x6x6xf16>
  %b = graph.conv %a, %w1 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x4x6x6xf16>, tensor<4x4x1x1xf16>) -> tensor<1x4x6x6xf16>
  %c = graph.conv %b, %w1 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x4x6x6xf16>, tensor<4x4x1x1xf16>) -> tensor<1x4x6x6xf16>
  return %c : tensor<1x4x6x6xf16>
}
