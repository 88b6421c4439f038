// Images of f16 that convolutions with channels read by addresses are stored as
// float32; what only a depthwise convolution or elementwise work reads is not.
// RUN: dlc-opt %s -split-input-file -graph-form-kernels -graph-relay-tensors -mlir-print-local-scope | FileCheck %s

// CHECK-LABEL: func.func @main(%arg0: tensor<1x4x6x6xf16>) -> tensor<1x4x6x6xf16>
// CHECK: [[A:%.*]] = graph.call @conv_0_last(%arg0, %{{.*}}) {{.*}} -> tensor<1x6x6x4xf32>
// CHECK: [[B:%.*]] = graph.call @conv_1_last([[A]], %{{.*}}) {{.*}} -> tensor<1x6x6x4xf16>
// CHECK: [[C:%.*]] = graph.call @conv_2_last([[B]], %{{.*}}) {{.*}} -> tensor<1x6x6x4xf32>
// CHECK: [[E:%.*]] = graph.call @conv_0_last_0([[C]], %{{.*}}) {{.*}} -> tensor<1x6x6x4xf16>
// CHECK: [[D:%.*]] = graph.call @add_3_last([[A]], [[E]]) {{.*}} -> tensor<1x6x6x4xf32>
// CHECK: graph.call {{.*}}([[D]], %{{.*}}) {{.*}} -> tensor<1x4x6x6xf16>
//
// What is stored is rounded as before.
// CHECK: graph.kernel @conv_0_last(
// CHECK-SAME: wideResults = array<i64: 0>
// CHECK: graph.stage domain <1, 6, 6, 4> : tensor<1x6x6x4xf32>
// CHECK: [[N:%.*]] = graph.scalar_cast {{.*}} : f32 -> f16
// CHECK: [[W:%.*]] = graph.scalar_cast [[N]] {graph.relayout} : f16 -> f32
// CHECK: graph.yield [[W]] : f32
//
// The sum reads float32; zeros beside the image are float32, too.
// CHECK: graph.kernel @conv_1_last
// CHECK-SAME: wideOperands = array<i64: 0>
// CHECK: [[Z:%.*]] = graph.literal 0.000000e+00 : f32 {graph.relayout} : f32
// CHECK: [[X:%.*]] = graph.load %arg0{{.*}} else [[Z]] : f32 : tensor<1x6x6x4xf32> -> f32
// CHECK-NOT: graph.scalar_cast [[X]]
// CHECK: graph.apply mul([[X]],
//
// CHECK: graph.kernel @add_3_last
// CHECK: [[P:%.*]] = graph.load %arg0{{.*}} -> f32
// CHECK: [[P16:%.*]] = graph.scalar_cast [[P]] {graph.relayout} : f32 -> f16
// CHECK: graph.apply add([[P16]], %{{.*}}) : (f16, f16) -> f16
func.func @main(%x: tensor<1x4x6x6xf16>) -> tensor<1x4x6x6xf16> {
  %w0 = graph.constant dense<0.5> : tensor<4x4x1x1xf16>
  %w1 = graph.constant dense<0.5> : tensor<4x4x3x3xf16>
  %w2 = graph.constant dense<0.5> : tensor<4x1x3x3xf16>
  %a = graph.conv %x, %w0 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x4x6x6xf16>, tensor<4x4x1x1xf16>) -> tensor<1x4x6x6xf16>
  %b = graph.conv %a, %w1 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>} : (tensor<1x4x6x6xf16>, tensor<4x4x3x3xf16>) -> tensor<1x4x6x6xf16>
  %c = graph.conv %b, %w2 {dilations = array<i64: 1, 1>, group = 4 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>} : (tensor<1x4x6x6xf16>, tensor<4x1x3x3xf16>) -> tensor<1x4x6x6xf16>
  %d = graph.conv %c, %w0 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x4x6x6xf16>, tensor<4x4x1x1xf16>) -> tensor<1x4x6x6xf16>
  %e = graph.add %a, %d : (tensor<1x4x6x6xf16>, tensor<1x4x6x6xf16>) -> tensor<1x4x6x6xf16>
  %f = graph.conv %e, %w0 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x4x6x6xf16>, tensor<4x4x1x1xf16>) -> tensor<1x4x6x6xf16>
  return %f : tensor<1x4x6x6xf16>
}

// -----

// A concatenation only moves numbers: its operands are stored as it is.
// CHECK-LABEL: func.func @main(%arg0: tensor<1x4x6x6xf16>)
// CHECK: [[A:%.*]] = graph.call @conv_0_last(%arg0, %{{.*}}) {{.*}} -> tensor<1x6x6x4xf32>
// CHECK: [[B:%.*]] = graph.call @relu_1_last([[A]]) {{.*}} -> tensor<1x6x6x4xf32>
// CHECK: [[C:%.*]] = graph.call @concat_2_last([[A]], [[B]]) {{.*}} -> tensor<1x6x6x8xf32>
// CHECK: graph.kernel @concat_2_last
// CHECK-NOT: graph.scalar_cast
// CHECK: graph.return
func.func @main(%x: tensor<1x4x6x6xf16>) -> tensor<1x4x6x6xf16> {
  %w0 = graph.constant dense<0.5> : tensor<4x4x1x1xf16>
  %w1 = graph.constant dense<0.5> : tensor<4x8x1x1xf16>
  %a = graph.conv %x, %w0 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x4x6x6xf16>, tensor<4x4x1x1xf16>) -> tensor<1x4x6x6xf16>
  %b = graph.relu %a : (tensor<1x4x6x6xf16>) -> tensor<1x4x6x6xf16>
  %c = graph.concat %a, %b {axis = 1 : i64} : (tensor<1x4x6x6xf16>, tensor<1x4x6x6xf16>) -> tensor<1x8x6x6xf16>
  %d = graph.conv %c, %w1 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x8x6x6xf16>, tensor<4x8x1x1xf16>) -> tensor<1x4x6x6xf16>
  %e = graph.conv %d, %w0 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x4x6x6xf16>, tensor<4x4x1x1xf16>) -> tensor<1x4x6x6xf16>
  return %e : tensor<1x4x6x6xf16>
}
