// Opaque operators and data-dependent views survive printing and parsing; a
// kernel of an opaque operator holds the operator itself.
// RUN: dlc-opt %s | dlc-opt -mlir-print-local-scope | FileCheck %s
// RUN: dlc-opt %s -graph-form-kernels -mlir-print-local-scope | FileCheck %s --check-prefix=FORM

// CHECK-LABEL: func.func @main(
// FORM-LABEL: func.func @main(
func.func @main(%x: tensor<2x9x1xf32>, %mask: tensor<?xi1, #graph.dims<s0>>, %table: tensor<4x3xf32>, %at: tensor<2xi64>, %u: tensor<2x3xf32>,
                %boxes: tensor<1x9x4xf32>, %scores: tensor<1x2x9xf32>, %n: tensor<1xi64>, %t: tensor<1xf32>)
    -> (tensor<?xi64, #graph.dims<s1>>, tensor<2x4xf64>, tensor<4x3xi32>, tensor<1x2x9xi64>) attributes {graph.symbols = ["n", "kept"]} {
  // CHECK: graph.argsort %arg0 {descending} : (tensor<2x9x1xf32>) -> tensor<2x4xi64>
  // FORM: graph.call @argsort_0(%arg0) : (tensor<2x9x1xf32>) -> tensor<2x4xi64>
  %order = graph.argsort %x {descending} : (tensor<2x9x1xf32>) -> tensor<2x4xi64>
  // CHECK: graph.bitcast %{{.*}} : (tensor<2x4xi64>) -> tensor<2x4xf64>
  // FORM: graph.bitcast
  %bits = graph.bitcast %order : (tensor<2x4xi64>) -> tensor<2x4xf64>
  // CHECK: graph.compact %arg1 : (tensor<?xi1, #graph.dims<s0>>) -> tensor<?xi64, #graph.dims<s0>>
  // FORM: graph.call @compact_1(%arg1) symbols <s0>
  %all = graph.compact %mask : (tensor<?xi1, #graph.dims<s0>>) -> tensor<?xi64, #graph.dims<s0>>
  // CHECK: graph.prefix %{{.*}}, %arg7 : (tensor<?xi64, #graph.dims<s0>>, tensor<1xi64>) -> tensor<?xi64, #graph.dims<s1>>
  // FORM: graph.prefix
  %kept = graph.prefix %all, %n : (tensor<?xi64, #graph.dims<s0>>, tensor<1xi64>) -> tensor<?xi64, #graph.dims<s1>>
  // CHECK: graph.scatter %arg2, %arg3, %arg4 {kind = #graph<fold add>} : (tensor<4x3xf32>, tensor<2xi64>, tensor<2x3xf32>) -> tensor<4x3xf32>
  // FORM: graph.call @scatter_2
  %s = graph.scatter %table, %at, %u {kind = #graph<fold add>} : (tensor<4x3xf32>, tensor<2xi64>, tensor<2x3xf32>) -> tensor<4x3xf32>
  %sbits = graph.bitcast %s : (tensor<4x3xf32>) -> tensor<4x3xi32>
  %scored = graph.argsort %x : (tensor<2x9x1xf32>) -> tensor<2x9xi64>
  // CHECK: graph.nms {{.*}} {center}
  // FORM: graph.call @nms_
  %boxed = graph.nms %boxes, %scores, %scored, %n, %t, %t {center}
    : (tensor<1x9x4xf32>, tensor<1x2x9xf32>, tensor<2x9xi64>, tensor<1xi64>, tensor<1xf32>, tensor<1xf32>) -> tensor<1x2x9xi64>
  return %kept, %bits, %sbits, %boxed : tensor<?xi64, #graph.dims<s1>>, tensor<2x4xf64>, tensor<4x3xi32>, tensor<1x2x9xi64>
}
// FORM: graph.kernel @argsort_0(%arg0: tensor<2x9x1xf32>) -> tensor<2x4xi64>
// FORM-NEXT: [[R:%.*]] = graph.argsort %arg0 {descending}
// FORM-NEXT: graph.return [[R]]
