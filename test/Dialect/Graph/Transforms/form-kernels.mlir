// Every operator becomes a call of the kernel its row declares; equal kernels
// are made once, whatever their symbols are called; views and constants stay.
// RUN: dlc-opt %s -graph-form-kernels -mlir-print-local-scope | FileCheck %s

// Two calls of one kernel, each with the model nodes it stands for.
// CHECK-LABEL: func.func @main(
func.func @main(%x: tensor<4x8xf32>, %y: tensor<2x8xf32>, %n: tensor<?x8xf32, #graph.dims<s0, 8>>, %m: tensor<?x8xf32, #graph.dims<s1, 8>>)
    -> (tensor<32xf32>, tensor<2x8xf32>, tensor<?x8xf32, #graph.dims<s0, 8>>, tensor<?x8xf32, #graph.dims<s1, 8>>)
    attributes {graph.symbols = ["batch", "seq"]} {
  // CHECK: [[A:%.*]] = graph.call @[[EXP:exp[_0-9]*]](%arg0) {{.*}}"first"
  %a = graph.exp %x : (tensor<4x8xf32>) -> tensor<4x8xf32> loc("first")
  // CHECK: [[B:%.*]] = graph.call @[[EXP]]([[A]]) {{.*}}"second"
  %b = graph.exp %a : (tensor<4x8xf32>) -> tensor<4x8xf32> loc("second")
  // Another shape is another kernel.
  // CHECK-NOT: graph.call @[[EXP]](
  // CHECK: graph.call @[[OTHER:exp[_0-9]*]](%arg1)
  %c = graph.exp %y : (tensor<2x8xf32>) -> tensor<2x8xf32>
  // A view moves no data: no kernel.
  // CHECK: graph.reshape [[B]]
  %d = graph.reshape %b : (tensor<4x8xf32>) -> tensor<32xf32>
  // The same operator over two symbols is one kernel with a symbol of its own.
  // CHECK: graph.call @[[DYN:exp[_0-9]*]](%arg2) symbols <s0>
  // CHECK: graph.call @[[DYN]](%arg3) symbols <s1>
  %e = graph.exp %n : (tensor<?x8xf32, #graph.dims<s0, 8>>) -> tensor<?x8xf32, #graph.dims<s0, 8>>
  %f = graph.exp %m : (tensor<?x8xf32, #graph.dims<s1, 8>>) -> tensor<?x8xf32, #graph.dims<s1, 8>>
  return %d, %c, %e, %f : tensor<32xf32>, tensor<2x8xf32>, tensor<?x8xf32, #graph.dims<s0, 8>>, tensor<?x8xf32, #graph.dims<s1, 8>>
}

// CHECK: graph.kernel @[[EXP]](%arg0: tensor<4x8xf32>) -> tensor<4x8xf32>
// CHECK: graph.stage domain <4, 8>
// CHECK: graph.apply{{ +}}exp
// CHECK-COUNT-2: graph.kernel @
// CHECK-NOT: graph.kernel @
