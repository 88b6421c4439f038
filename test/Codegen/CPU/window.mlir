// Lanes run along the image's row, not along the three taps of a window, though
// every load of the image is of every second element. Where AVX2 can mask, the
// ends of rows are vectors too.
// RUN: dlc %s -name=m -target=x86:cpu=x86-64-v3 -layout=asis -emit=llvm -o - -q | FileCheck %s

// CHECK-LABEL: define internal void @m_conv_{{[0-9]+}}.impl(
// CHECK-NOT: vector.reduce
// CHECK: @llvm.masked.store.v8f32
// CHECK-NOT: vector.reduce
// CHECK: ret void
func.func @main(%x: tensor<1x64x28x28xf32> {graph.name = "x"}, %w: tensor<64x1x3x3xf32> {graph.name = "w"})
    -> (tensor<1x64x14x14xf32> {graph.name = "y"}) attributes {graph.symbols = []} {
  %0 = graph.conv %x, %w {dilations = array<i64: 1, 1>, group = 64 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>,
      pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 2, 2>}
      : (tensor<1x64x28x28xf32>, tensor<64x1x3x3xf32>) -> tensor<1x64x14x14xf32>
  return %0 : tensor<1x64x14x14xf32>
}
