// An output whose kernel moves more than twice what the last-level cache holds,
// and more than 64 MiB, is stored past the caches, from the first whole cache
// line on, and a fence makes that visible before the task ends. What another
// operator reads is not.
// RUN: dlc %s -name=m -target=x86:cpu=x86-64-v4 -fuse=off -emit=llvm -o - -q | FileCheck %s
// RUN: dlc %s -name=m -target=arm -fuse=off -emit=llvm -o - -q | FileCheck %s --check-prefix=NEON

// CHECK-LABEL: define internal void @m_add_0.impl(
// CHECK-NOT: !nontemporal
// CHECK: ret void
// CHECK-LABEL: define internal void @m_sub_1.impl(
// CHECK: ptrtoint ptr
// CHECK: store <16 x float> {{.*}}, align 64, !nontemporal
// CHECK: call void @llvm.x86.sse.sfence()
// CHECK-NEXT: ret void

// NEON-NOT: nontemporal
func.func @main(%x: tensor<2048x3072xf32> {graph.name = "x"}, %y: tensor<2048x3072xf32> {graph.name = "y"})
    -> (tensor<2048x3072xf32> {graph.name = "z"}) attributes {graph.symbols = []} {
  %0 = graph.add %x, %y : (tensor<2048x3072xf32>, tensor<2048x3072xf32>) -> tensor<2048x3072xf32>
  %1 = graph.sub %0, %y : (tensor<2048x3072xf32>, tensor<2048x3072xf32>) -> tensor<2048x3072xf32>
  return %1 : tensor<2048x3072xf32>
}
