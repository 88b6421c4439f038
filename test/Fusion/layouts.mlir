// What fuses because its result will have its channels last: pixels that are
// repeated and then mirrored at the edges, where a convolution reads them.
// RUN: dlc-opt %s -split-input-file -graph-form-kernels -graph-fuse-kernels="explain layouts" -o /dev/null 2>&1 | FileCheck %s
// RUN: dlc-opt %s -split-input-file -graph-form-kernels -graph-fuse-kernels=explain -o /dev/null 2>&1 | FileCheck %s --check-prefix=ASIS

// CHECK: fused fused_0: relu_0 + broadcast_1 + broadcast_2 + pad_3
// ASIS: not fused: {{.*}}broadcast_2 | pad_3: C-LAYOUT
func.func @main(%x: tensor<1x16x8x8xf32>) -> tensor<1x16x16x16xf32> {
  %w = graph.constant dense<0.5> : tensor<16x16x3x3xf32>
  %zero = graph.constant dense<0.0> : tensor<1xf32>
  %a = graph.relu %x : (tensor<1x16x8x8xf32>) -> tensor<1x16x8x8xf32>
  %b = graph.reshape %a : (tensor<1x16x8x8xf32>) -> tensor<1x16x8x1x8xf32>
  %c = graph.broadcast %b : (tensor<1x16x8x1x8xf32>) -> tensor<1x16x8x2x8xf32>
  %d = graph.reshape %c : (tensor<1x16x8x2x8xf32>) -> tensor<1x16x16x8x1xf32>
  %e = graph.broadcast %d : (tensor<1x16x16x8x1xf32>) -> tensor<1x16x16x8x2xf32>
  %f = graph.reshape %e : (tensor<1x16x16x8x2xf32>) -> tensor<1x16x16x16xf32>
  %p = graph.pad %f, %zero {high = array<i64: 0, 0, 1, 1>, low = array<i64: 0, 0, 1, 1>, mode = #graph<pad reflect>} : (tensor<1x16x16x16xf32>, tensor<1xf32>) -> tensor<1x16x18x18xf32>
  %y = graph.conv %p, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x16x18x18xf32>, tensor<16x16x3x3xf32>) -> tensor<1x16x16x16xf32>
  return %y : tensor<1x16x16x16xf32>
}

// -----

// Of few channels, vectors along them would be part empty.
// CHECK: not fused: {{.*}}broadcast_2 | pad_3: C-LAYOUT
func.func @main(%x: tensor<1x8x8x8xf32>) -> tensor<1x16x16x16xf32> {
  %w = graph.constant dense<0.5> : tensor<16x8x3x3xf32>
  %zero = graph.constant dense<0.0> : tensor<1xf32>
  %a = graph.relu %x : (tensor<1x8x8x8xf32>) -> tensor<1x8x8x8xf32>
  %b = graph.reshape %a : (tensor<1x8x8x8xf32>) -> tensor<1x8x8x1x8xf32>
  %c = graph.broadcast %b : (tensor<1x8x8x1x8xf32>) -> tensor<1x8x8x2x8xf32>
  %d = graph.reshape %c : (tensor<1x8x8x2x8xf32>) -> tensor<1x8x16x8x1xf32>
  %e = graph.broadcast %d : (tensor<1x8x16x8x1xf32>) -> tensor<1x8x16x8x2xf32>
  %f = graph.reshape %e : (tensor<1x8x16x8x2xf32>) -> tensor<1x8x16x16xf32>
  %p = graph.pad %f, %zero {high = array<i64: 0, 0, 1, 1>, low = array<i64: 0, 0, 1, 1>, mode = #graph<pad reflect>} : (tensor<1x8x16x16xf32>, tensor<1xf32>) -> tensor<1x8x18x18xf32>
  %y = graph.conv %p, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x8x18x18xf32>, tensor<16x8x3x3xf32>) -> tensor<1x16x16x16xf32>
  return %y : tensor<1x16x16x16xf32>
}

// -----

// An output of the model keeps its layout.
// CHECK: not fused: {{.*}}broadcast_2 | pad_3: C-LAYOUT
func.func @main(%x: tensor<1x16x8x8xf32>) -> tensor<1x16x18x18xf32> {
  %zero = graph.constant dense<0.0> : tensor<1xf32>
  %a = graph.relu %x : (tensor<1x16x8x8xf32>) -> tensor<1x16x8x8xf32>
  %b = graph.reshape %a : (tensor<1x16x8x8xf32>) -> tensor<1x16x8x1x8xf32>
  %c = graph.broadcast %b : (tensor<1x16x8x1x8xf32>) -> tensor<1x16x8x2x8xf32>
  %d = graph.reshape %c : (tensor<1x16x8x2x8xf32>) -> tensor<1x16x16x8x1xf32>
  %e = graph.broadcast %d : (tensor<1x16x16x8x1xf32>) -> tensor<1x16x16x8x2xf32>
  %f = graph.reshape %e : (tensor<1x16x16x8x2xf32>) -> tensor<1x16x16x16xf32>
  %p = graph.pad %f, %zero {high = array<i64: 0, 0, 1, 1>, low = array<i64: 0, 0, 1, 1>, mode = #graph<pad reflect>} : (tensor<1x16x16x16xf32>, tensor<1xf32>) -> tensor<1x16x18x18xf32>
  return %p : tensor<1x16x18x18xf32>
}
