// An average that counts its taps inside: where all are, it is a number, and
// lanes are as many as of the numbers that are averaged, not of the coordinates
// that tell.
// RUN: dlc %s -name=m -target=x86:cpu=x86-64-v4 -layout=asis -emit=llvm -o - -q | FileCheck %s

// CHECK: define internal void @m_pool_{{[0-9]+}}.impl(
// CHECK-NOT: <{{[0-9]+}} x i64>
// CHECK: store <16 x float>
// CHECK-NOT: <{{[0-9]+}} x i64>
// CHECK: {{^}}}
func.func @main(%x: tensor<1x8x56x56xf32> {graph.name = "x"}) -> (tensor<1x8x56x56xf32> {graph.name = "y"}) attributes {graph.symbols = []} {
  %0 = graph.pool %x {kind = #graph<pool avg>, kernel = array<i64: 3, 3>, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>,
      pads_low = array<i64: 1, 1>, pads_high = array<i64: 1, 1>} : (tensor<1x8x56x56xf32>) -> tensor<1x8x56x56xf32>
  return %0 : tensor<1x8x56x56xf32>
}
