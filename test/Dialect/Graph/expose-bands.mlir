// Constant masks along a diagonal become comparisons of positions, where they
// end in a maximum.
// RUN: dlc-opt %s -split-input-file -graph-expose-bands | FileCheck %s

// CHECK-LABEL: func.func @main
// CHECK: %[[I:.*]] = graph.iota {start = 0.000000e+00 : f64, step = 1.000000e+00 : f64} : () -> tensor<4xi64>
// CHECK: %[[J:.*]] = graph.reshape %[[I]] : (tensor<4xi64>) -> tensor<1x4xi64>
// CHECK: %[[K:.*]] = graph.iota {start = 1.000000e+00 : f64
// CHECK: %[[R:.*]] = graph.reshape %[[K]] : (tensor<4xi64>) -> tensor<4x1xi64>
// CHECK: %[[C:.*]] = graph.le %[[J]], %[[R]]
// CHECK: %[[M:.*]] = graph.select %[[C]], %{{.*}}, %{{.*}} : (tensor<4x4xi1>, tensor<f32>, tensor<f32>) -> tensor<4x4xf32>
// CHECK: graph.add %arg0, %[[M]]
func.func @main(%x: tensor<4x4xf32>) -> tensor<4x1xf32> {
  %mask = graph.constant dense<[[0.0, 0.0, -9.0, -9.0], [0.0, 0.0, 0.0, -9.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]> : tensor<4x4xf32>
  %t = graph.add %x, %mask : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %m = graph.reduce %t {axes = array<i64: 1>, kind = #graph<fold max>} : (tensor<4x4xf32>) -> tensor<4x1xf32>
  return %m : tensor<4x1xf32>
}

// -----

// A window, of two comparisons; true outside.
// CHECK-LABEL: func.func @main
// CHECK: graph.le
// CHECK: graph.ge
// CHECK: graph.bit_and
// CHECK: %[[N:.*]] = graph.bit_not
// CHECK: graph.select %[[N]]
func.func @main(%x: tensor<4x4xf32>) -> tensor<4x1xf32> {
  %mask = graph.constant dense<[[false, true, true, true], [false, false, true, true], [true, false, false, true], [true, true, false, false]]> : tensor<4x4xi1>
  %fill = graph.constant dense<-9.0> : tensor<f32>
  %t = graph.select %mask, %fill, %x : (tensor<4x4xi1>, tensor<f32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %m = graph.reduce %t {axes = array<i64: 1>, kind = #graph<fold max>} : (tensor<4x4xf32>) -> tensor<4x1xf32>
  return %m : tensor<4x1xf32>
}

// -----

// One element off the band; and a band that no maximum sees.
// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.iota
func.func @main(%x: tensor<4x4xf32>) -> (tensor<4x1xf32>, tensor<4x4xf32>) {
  %mask = graph.constant dense<[[0.0, -9.0, -9.0, -9.0], [0.0, 0.0, -9.0, -9.0], [0.0, -9.0, 0.0, -9.0], [0.0, 0.0, 0.0, 0.0]]> : tensor<4x4xf32>
  %band = graph.constant dense<[[0.0, -9.0, -9.0, -9.0], [0.0, 0.0, -9.0, -9.0], [0.0, 0.0, 0.0, -9.0], [0.0, 0.0, 0.0, 0.0]]> : tensor<4x4xf32>
  %t = graph.add %x, %mask : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %m = graph.reduce %t {axes = array<i64: 1>, kind = #graph<fold max>} : (tensor<4x4xf32>) -> tensor<4x1xf32>
  %y = graph.mul %x, %band : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  return %m, %y : tensor<4x1xf32>, tensor<4x4xf32>
}

// -----

// Positions that are compared with lengths are coordinates; so they are after
// an addition. Numbers in no such order stay, and positions that something else
// reads.
// CHECK-LABEL: func.func @main
// CHECK-DAG: graph.constant dense<[0, 1, 3]>
// CHECK-DAG: graph.constant dense<[2, 3, 4]>
// CHECK-DAG: graph.iota {start = 0.000000e+00 : f64, step = 1.000000e+00 : f64} : () -> tensor<3xi64>
// CHECK-DAG: %[[I:.*]] = graph.iota {start = 5.000000e+00 : f64, step = 2.000000e+00 : f64} : () -> tensor<3xi32>
// CHECK-DAG: graph.reshape %[[I]] : (tensor<3xi32>) -> tensor<3x1xi32>
func.func @main(%x: tensor<3x3xf32>, %n: tensor<1xi64>, %m: tensor<1xi32>) -> (tensor<3x1xf32>, tensor<3xi64>) {
  %p = graph.constant dense<[0, 1, 2]> : tensor<3xi64>
  %q = graph.constant dense<[0, 1, 3]> : tensor<3xi64>
  %r = graph.constant dense<[[5], [7], [9]]> : tensor<3x1xi32>
  %s = graph.constant dense<[2, 3, 4]> : tensor<3xi64>
  %sum = graph.add %p, %n : (tensor<3xi64>, tensor<1xi64>) -> tensor<3xi64>
  %also = graph.add %s, %n : (tensor<3xi64>, tensor<1xi64>) -> tensor<3xi64>
  %a = graph.lt %sum, %n : (tensor<3xi64>, tensor<1xi64>) -> tensor<3xi1>
  %b = graph.le %q, %n : (tensor<3xi64>, tensor<1xi64>) -> tensor<3xi1>
  %c = graph.gt %r, %m : (tensor<3x1xi32>, tensor<1xi32>) -> tensor<3x1xi1>
  %d = graph.ge %also, %n : (tensor<3xi64>, tensor<1xi64>) -> tensor<3xi1>
  %ab = graph.bit_and %a, %b : (tensor<3xi1>, tensor<3xi1>) -> tensor<3xi1>
  %cd = graph.bit_and %c, %d : (tensor<3x1xi1>, tensor<3xi1>) -> tensor<3x3xi1>
  %all = graph.bit_and %ab, %cd : (tensor<3xi1>, tensor<3x3xi1>) -> tensor<3x3xi1>
  %fill = graph.constant dense<-9.0> : tensor<f32>
  %t = graph.select %all, %x, %fill : (tensor<3x3xi1>, tensor<3x3xf32>, tensor<f32>) -> tensor<3x3xf32>
  %top = graph.reduce %t {axes = array<i64: 1>, kind = #graph<fold max>} : (tensor<3x3xf32>) -> tensor<3x1xf32>
  return %top, %also : tensor<3x1xf32>, tensor<3xi64>
}
