// Lanes along the fold where the sum may be reordered; in strict mode the sum of
// each row keeps its order, and the lanes are rows.
// RUN: dlc %s -name=m -target=x86:cpu=x86-64-v4 -emit=llvm -o - -q | FileCheck %s
// RUN: dlc %s -name=m -target=x86:cpu=x86-64-v4 -fp=strict -emit=llvm -o - -q | FileCheck %s --check-prefix=STRICT

// CHECK-LABEL: define internal void @m_reduce_0.impl(
// CHECK: load <16 x float>
// CHECK: fadd <16 x float>
// CHECK: shufflevector <16 x float> {{.*}}, <8 x i32> <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
// CHECK: fadd <8 x float>
// CHECK: fadd <2 x float>

// STRICT-LABEL: define internal void @m_reduce_0.impl(
// STRICT-NOT: load <16 x float>
// STRICT: fadd <8 x float>
// STRICT-NOT: shufflevector
// STRICT: ret void
func.func @main(%x: tensor<8x100xf32> {graph.name = "x"}) -> (tensor<8x1xf32> {graph.name = "y"})
    attributes {graph.symbols = []} {
  %0 = graph.reduce %x {kind = #graph<fold add>, axes = array<i64: 1>} : (tensor<8x100xf32>) -> tensor<8x1xf32>
  return %0 : tensor<8x1xf32>
}
