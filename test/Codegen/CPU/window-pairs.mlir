// A depthwise convolution of stride 2, whose row of 14 results is one vector. It
// is not cut where padding begins but masked, and its three taps share two loads.
// RUN: dlc %s -name=m -target=x86:cpu=x86-64-v4 -layout=asis -emit=asm -o %t.s -q
// RUN: FileCheck %s < %t.s
// RUN: grep -cE "vmovups.*, %%zmm[0-9]+ .*[{]z[}]" %t.s | FileCheck %s --check-prefix=LOADS
// RUN: grep -cE "vperm[ti]2ps" %t.s | FileCheck %s --check-prefix=TAPS

// Elements are used up one after the other: no vector is spilled.
// CHECK: m_conv_{{[0-9]+}}.impl:
// CHECK-NOT: %zmm{{[0-9]+}}, {{.*}}(%rsp)
// CHECK: retq

// 28 rows, each read once.
// LOADS: {{^}}56{{$}}
// TAPS: {{^}}84{{$}}
func.func @main(%x: tensor<1x64x28x28xf32> {graph.name = "x"}, %w: tensor<64x1x3x3xf32> {graph.name = "w"})
    -> (tensor<1x64x14x14xf32> {graph.name = "y"}) attributes {graph.symbols = []} {
  %0 = graph.conv %x, %w {dilations = array<i64: 1, 1>, group = 64 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>,
      pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 2, 2>}
      : (tensor<1x64x28x28xf32>, tensor<64x1x3x3xf32>) -> tensor<1x64x14x14xf32>
  return %0 : tensor<1x64x14x14xf32>
}
