// Axes that every address walks as one are merged: a single loop without a
// division.
// RUN: dlc %s -name=m -target=x86:cpu=x86-64-v3 -emit=llvm -o - -q | FileCheck %s

// CHECK-LABEL: define internal void @m_relu_{{[0-9]+}}.impl(
// CHECK-NOT: udiv
// CHECK-NOT: urem
// CHECK: load <8 x float>
// CHECK: ret void
func.func @main(%x: tensor<6x40x8xf32> {graph.name = "x"}) -> (tensor<6x40x8xf32> {graph.name = "y"})
    attributes {graph.symbols = []} {
  %0 = graph.relu %x : (tensor<6x40x8xf32>) -> tensor<6x40x8xf32>
  return %0 : tensor<6x40x8xf32>
}
