// Folds of the graph dialect: each with the nearest case that must stay.
// RUN: dlc-opt %s -canonicalize -mlir-print-local-scope | FileCheck %s

// CHECK-LABEL: func.func @transpose_identity(
// CHECK-NEXT: return %arg0
func.func @transpose_identity(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = graph.transpose %x {perm = array<i64: 0, 1>} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return %0 : tensor<2x3xf32>
}

// CHECK-LABEL: func.func @transpose_stays(
// CHECK-NEXT: graph.transpose
func.func @transpose_stays(%x: tensor<3x3xf32>) -> tensor<3x3xf32> {
  %0 = graph.transpose %x {perm = array<i64: 1, 0>} : (tensor<3x3xf32>) -> tensor<3x3xf32>
  return %0 : tensor<3x3xf32>
}

// CHECK-LABEL: func.func @reshape_identity(
// CHECK-NEXT: return %arg0
func.func @reshape_identity(%x: tensor<?x3xf32, #graph.dims<s0, 3>>) -> tensor<?x3xf32, #graph.dims<s0, 3>> {
  %0 = graph.reshape %x : (tensor<?x3xf32, #graph.dims<s0, 3>>) -> tensor<?x3xf32, #graph.dims<s0, 3>>
  return %0 : tensor<?x3xf32, #graph.dims<s0, 3>>
}

// CHECK-LABEL: func.func @reshape_stays(
// CHECK-NEXT: graph.reshape
func.func @reshape_stays(%x: tensor<2x3xf32>) -> tensor<3x2xf32> {
  %0 = graph.reshape %x : (tensor<2x3xf32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}

// CHECK-LABEL: func.func @broadcast_identity(
// CHECK-NEXT: return %arg0
func.func @broadcast_identity(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = graph.broadcast %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return %0 : tensor<2x3xf32>
}

// CHECK-LABEL: func.func @slice_identity(
// CHECK-NEXT: return %arg0
func.func @slice_identity(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = graph.slice %x {starts = #graph.dims<0, 0>, steps = array<i64: 1, 1>} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return %0 : tensor<2x3xf32>
}

// Same type, but reversed.
// CHECK-LABEL: func.func @slice_stays(
// CHECK-NEXT: graph.slice
func.func @slice_stays(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = graph.slice %x {starts = #graph.dims<0, 2>, steps = array<i64: 1, -1>} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return %0 : tensor<2x3xf32>
}

// CHECK-LABEL: func.func @dead(
// CHECK-NEXT: return %arg0
func.func @dead(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = graph.exp %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %1 = graph.constant dense<1.0> : tensor<2x3xf32>
  return %x : tensor<2x3xf32>
}

// A reshape that keeps sizes is not merged into one that does not.
// CHECK-LABEL: func.func @same_sizes_stay(
// CHECK-NEXT: graph.reshape %arg0 : (tensor<?xf32, #graph.dims<s0>>)
// CHECK-NEXT: graph.reshape {{.*}} {graph.same_sizes}
func.func @same_sizes_stay(%x: tensor<?xf32, #graph.dims<s0>>) -> tensor<1x?xf32, #graph.dims<1, s1>> {
  %0 = graph.reshape %x : (tensor<?xf32, #graph.dims<s0>>) -> tensor<1x?xf32, #graph.dims<1, s0>>
  %1 = graph.reshape %0 {graph.same_sizes} : (tensor<1x?xf32, #graph.dims<1, s0>>) -> tensor<1x?xf32, #graph.dims<1, s1>>
  return %1 : tensor<1x?xf32, #graph.dims<1, s1>>
}
