// Groups are put back into their members, symbols and reshapes included: what
// the driver does with a group that Check refuses.
// RUN: dlc-opt %s -graph-form-kernels -graph-fuse-kernels | FileCheck %s --check-prefix=FUSED
// RUN: dlc-opt %s -graph-form-kernels -graph-fuse-kernels -graph-split-fused -graph-drop-certificates -mlir-print-local-scope | FileCheck %s

// FUSED: graph.call @fused_0
// FUSED: graph.certificate @fused_0_certificate
// CHECK: %[[A:.*]] = graph.call @mul_0(%arg0, %arg0) symbols <s1>
// CHECK: %[[B:.*]] = graph.reshape %[[A]] : (tensor<?x64xf32, #graph.dims<s1, 64>>) -> tensor<?xf32, #graph.dims<s1 * 64>>
// CHECK: %[[C:.*]] = graph.call @neg_1(%[[B]]) symbols <
// CHECK: return %[[C]]
// CHECK-NOT: fused
// CHECK-NOT: graph.certificate
func.func @main(%x: tensor<?x64xf32, #graph.dims<s1, 64>>) -> tensor<?xf32, #graph.dims<s1 * 64>> attributes {graph.symbols = ["unused", "rows"]} {
  %a = graph.mul %x, %x : (tensor<?x64xf32, #graph.dims<s1, 64>>, tensor<?x64xf32, #graph.dims<s1, 64>>) -> tensor<?x64xf32, #graph.dims<s1, 64>>
  %b = graph.reshape %a : (tensor<?x64xf32, #graph.dims<s1, 64>>) -> tensor<?xf32, #graph.dims<s1 * 64>>
  %c = graph.neg %b : (tensor<?xf32, #graph.dims<s1 * 64>>) -> tensor<?xf32, #graph.dims<s1 * 64>>
  return %c : tensor<?xf32, #graph.dims<s1 * 64>>
}
