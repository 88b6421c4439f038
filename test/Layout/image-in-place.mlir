// RUN: dlc-opt %s -split-input-file -graph-form-kernels -graph-relay-tensors=lanes=16 -mlir-print-local-scope | FileCheck %s
// RUN: dlc-opt %s -split-input-file -graph-form-kernels -graph-relay-tensors=lanes=8 -mlir-print-local-scope | FileCheck %s --check-prefix=SHORT

// With vectors of 16 numbers the image of a convolution of several taps is
// read as the caller gave it, where tiles divide its rows; with shorter ones it
// is copied.
// SHORT-COUNT-2: graph.call @copy_last(%arg0)

// Rows of 28 pixels hold whole tiles: the image is read as it came.
// CHECK-LABEL: func.func @main(%arg0: tensor<1x64x4x28xf32>) -> tensor<1x64x4x28xf32>
// CHECK: [[B:%.*]] = graph.call @conv_0_last(%arg0, %{{.*}}) {{.*}} -> tensor<1x4x28x64xf32>
// CHECK: [[C:%.*]] = graph.call @copy_last([[B]])
// CHECK: return [[C]]
func.func @main(%x: tensor<1x64x4x28xf32>) -> tensor<1x64x4x28xf32> {
  %w = graph.constant dense<0.5> : tensor<64x64x3x3xf32>
  %a = graph.conv %x, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>} : (tensor<1x64x4x28xf32>, tensor<64x64x3x3xf32>) -> tensor<1x64x4x28xf32>
  return %a : tensor<1x64x4x28xf32>
}

// -----

// Rows of 29 do not.
// CHECK-LABEL: func.func @main(%arg0: tensor<1x64x4x29xf32>) -> tensor<1x64x4x29xf32>
// CHECK: graph.call @copy_last(%arg0)
func.func @main(%x: tensor<1x64x4x29xf32>) -> tensor<1x64x4x29xf32> {
  %w = graph.constant dense<0.5> : tensor<64x64x3x3xf32>
  %a = graph.conv %x, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>} : (tensor<1x64x4x29xf32>, tensor<64x64x3x3xf32>) -> tensor<1x64x4x29xf32>
  return %a : tensor<1x64x4x29xf32>
}
