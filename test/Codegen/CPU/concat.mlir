// Guards of a concatenation are decided for ranges: no test and no mask is left
// between the operands, only the end of each range has one.
// RUN: dlc %s -name=m -target=x86:cpu=x86-64-v2 -emit=llvm -o - -q | FileCheck %s

// CHECK-LABEL: define internal void @m_concat_0.impl(
// CHECK: load <4 x float>
// CHECK-NOT: masked
// CHECK-NOT: select <
// CHECK: ret void
func.func @main(%x: tensor<4x40xf32> {graph.name = "x"}, %y: tensor<4x24xf32> {graph.name = "y"})
    -> (tensor<4x64xf32> {graph.name = "z"}) attributes {graph.symbols = []} {
  %0 = graph.concat %x, %y {axis = 1 : i64} : (tensor<4x40xf32>, tensor<4x24xf32>) -> tensor<4x64xf32>
  return %0 : tensor<4x64xf32>
}
