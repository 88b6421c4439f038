// Tensors of one number are literals; what changes nothing is gone.
// RUN: dlc-opt %s -split-input-file -graph-fold-uniform | FileCheck %s

// A mask of zeros, its rows' maxima, and whether a row has no key: a sum in f32
// is never -0.
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[S:.*]] = graph.contract
// CHECK-NEXT: return %[[S]]
#a = affine_map<(d0, d1, d2) -> (d0, d2)>
#b = affine_map<(d0, d1, d2) -> (d2, d1)>
#y = affine_map<(d0, d1, d2) -> (d0, d1)>
func.func @main(%q: tensor<64x8xf32>, %k: tensor<8x64xf32>) -> tensor<64x64xf32> {
  %zeros = graph.constant dense<0.0> : tensor<64x64xf32>
  %zero = graph.constant dense<0.0> : tensor<1xf32>
  %least = graph.constant dense<0xFF800000> : tensor<1xf32>
  %s = graph.contract %q, %k {lhs_map = #a, rhs_map = #b, result_map = #y} : (tensor<64x8xf32>, tensor<8x64xf32>) -> tensor<64x64xf32>
  %t = graph.add %s, %zeros : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  %m = graph.reduce %zeros {axes = array<i64: 1>, kind = #graph<fold max>} : (tensor<64x64xf32>) -> tensor<64x1xf32>
  %e = graph.eq %m, %least : (tensor<64x1xf32>, tensor<1xf32>) -> tensor<64x1xi1>
  %y = graph.select %e, %zero, %t : (tensor<64x1xi1>, tensor<1xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  return %y : tensor<64x64xf32>
}

// -----

// -0 + +0 is +0: kept where a result tells, but reads one number; -0 changes
// nothing.
// CHECK-LABEL: func.func @main
// CHECK: %[[Z:.*]] = graph.constant dense<0.000000e+00> : tensor<f32>
// CHECK: %[[T:.*]] = graph.add %arg0, %[[Z]] : (tensor<64x64xf32>, tensor<f32>) -> tensor<64x64xf32>
// CHECK: return %[[T]], %arg0
func.func @main(%x: tensor<64x64xf32>) -> (tensor<64x64xf32>, tensor<64x64xf32>) {
  %zeros = graph.constant dense<0.0> : tensor<64x64xf32>
  %minus = graph.constant dense<-0.0> : tensor<64x64xf32>
  %t = graph.add %x, %zeros : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  %u = graph.add %x, %minus : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  return %t, %u : tensor<64x64xf32>, tensor<64x64xf32>
}

// -----

// Nobody tells the zeros of a softmax's scores; a quotient by them does.
// CHECK-LABEL: func.func @main
// CHECK: graph.reduce %arg0
// CHECK: %[[D:.*]] = graph.sub %arg0
// CHECK: graph.exp %[[D]]
// CHECK: %[[T:.*]] = graph.add %arg1
// CHECK: graph.div %{{.*}}, %[[T]]
func.func @main(%x: tensor<8x64xf16>, %z: tensor<8x64xf16>) -> tensor<8x64xf16> {
  %zero = graph.constant dense<0.0> : tensor<64xf16>
  %s = graph.add %x, %zero : (tensor<8x64xf16>, tensor<64xf16>) -> tensor<8x64xf16>
  %m = graph.reduce %s {axes = array<i64: 1>, kind = #graph<fold max>} : (tensor<8x64xf16>) -> tensor<8x1xf16>
  %d = graph.sub %s, %m : (tensor<8x64xf16>, tensor<8x1xf16>) -> tensor<8x64xf16>
  %e = graph.exp %d : (tensor<8x64xf16>) -> tensor<8x64xf16>
  %t = graph.add %z, %zero : (tensor<8x64xf16>, tensor<64xf16>) -> tensor<8x64xf16>
  %y = graph.div %e, %t : (tensor<8x64xf16>, tensor<8x64xf16>) -> tensor<8x64xf16>
  return %y : tensor<8x64xf16>
}

// -----

// The first key of a causal row is not masked, and is the maximum. With a
// window the key on the diagonal is.
// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.reduce
// CHECK: %[[Z:.*]] = graph.constant dense<0.000000e+00> : tensor<96x1xf32>
// CHECK-NOT: graph.reduce
// CHECK: return %[[Z]]
func.func @main() -> (tensor<96x1xf32>, tensor<96x1xf32>) {
  %zero = graph.constant dense<0.0> : tensor<f32>
  %least = graph.constant dense<0xFF800000> : tensor<f32>
  %i = graph.iota {start = 0.0 : f64, step = 1.0 : f64} : () -> tensor<96xi64>
  %c = graph.constant dense<8> : tensor<i64>
  %row = graph.reshape %i : (tensor<96xi64>) -> tensor<96x1xi64>
  %behind = graph.lt %row, %i : (tensor<96x1xi64>, tensor<96xi64>) -> tensor<96x96xi1>
  %far = graph.add %i, %c : (tensor<96xi64>, tensor<i64>) -> tensor<96xi64>
  %before = graph.le %far, %row : (tensor<96xi64>, tensor<96x1xi64>) -> tensor<96x96xi1>
  %out = graph.bit_or %behind, %before : (tensor<96x96xi1>, tensor<96x96xi1>) -> tensor<96x96xi1>
  %x = graph.select %behind, %least, %zero : (tensor<96x96xi1>, tensor<f32>, tensor<f32>) -> tensor<96x96xf32>
  %w = graph.select %out, %least, %zero : (tensor<96x96xi1>, tensor<f32>, tensor<f32>) -> tensor<96x96xf32>
  %m = graph.reduce %x {axes = array<i64: 1>, kind = #graph<fold max>} : (tensor<96x96xf32>) -> tensor<96x1xf32>
  %n = graph.reduce %w {axes = array<i64: 1>, kind = #graph<fold max>} : (tensor<96x96xf32>) -> tensor<96x1xf32>
  return %m, %n : tensor<96x1xf32>, tensor<96x1xf32>
}

// -----

// Strictly behind the diagonal the first row has no key: it is not one number.
// So may be an axis that the data tell.
// CHECK-LABEL: func.func @main
// CHECK: graph.reduce
func.func @main() -> tensor<96x1xf32> {
  %zero = graph.constant dense<0.0> : tensor<f32>
  %least = graph.constant dense<0xFF800000> : tensor<f32>
  %i = graph.iota {start = 0.0 : f64, step = 1.0 : f64} : () -> tensor<96xi64>
  %row = graph.reshape %i : (tensor<96xi64>) -> tensor<96x1xi64>
  %behind = graph.le %row, %i : (tensor<96x1xi64>, tensor<96xi64>) -> tensor<96x96xi1>
  %x = graph.select %behind, %least, %zero : (tensor<96x96xi1>, tensor<f32>, tensor<f32>) -> tensor<96x96xf32>
  %m = graph.reduce %x {axes = array<i64: 1>, kind = #graph<fold max>} : (tensor<96x96xf32>) -> tensor<96x1xf32>
  return %m : tensor<96x1xf32>
}

// -----

// An empty fold is its start; one that has an element is not.
// CHECK-LABEL: func.func @main
// CHECK: graph.reduce %{{.*}} {axes = array<i64: 0>
// CHECK: %[[T:.*]] = graph.constant dense<2.000000e+00> : tensor<1xf32>
// CHECK: return %{{.*}}, %[[T]]
func.func @main(%x: tensor<?xf32, #graph.dims<s0>>) -> (tensor<1xf32>, tensor<1xf32>) attributes {graph.symbols = ["n"]} {
  %two = graph.constant dense<2.0> : tensor<f32>
  %b = graph.broadcast %two : (tensor<f32>) -> tensor<?xf32, #graph.dims<s0>>
  %c = graph.broadcast %two : (tensor<f32>) -> tensor<?xf32, #graph.dims<s0 + 1>>
  %m = graph.reduce %b {axes = array<i64: 0>, kind = #graph<fold max>} : (tensor<?xf32, #graph.dims<s0>>) -> tensor<1xf32>
  %n = graph.reduce %c {axes = array<i64: 0>, kind = #graph<fold max>} : (tensor<?xf32, #graph.dims<s0 + 1>>) -> tensor<1xf32>
  return %m, %n : tensor<1xf32>, tensor<1xf32>
}

// -----

// A sum of equal numbers, unless it is rounded on the way: a third has all its
// bits. Along an axis that a value does not depend on its maximum is the value.
// CHECK-LABEL: func.func @main
// CHECK-DAG: %[[S:.*]] = graph.constant dense<1.500000e+03> : tensor<1xf32>
// CHECK-DAG: %[[R:.*]] = graph.reduce %{{.*}} {axes = array<i64: 0>, kind = #graph<fold add>}
// CHECK: return %[[S]], %[[R]], %arg0
func.func @main(%x: tensor<5x1xf32>) -> (tensor<1xf32>, tensor<1xf32>, tensor<5x1xf32>) {
  %half = graph.constant dense<1.5> : tensor<1000xf32>
  %third = graph.constant dense<0.333333343> : tensor<1000xf32>
  %s = graph.reduce %half {axes = array<i64: 0>, kind = #graph<fold add>} : (tensor<1000xf32>) -> tensor<1xf32>
  %r = graph.reduce %third {axes = array<i64: 0>, kind = #graph<fold add>} : (tensor<1000xf32>) -> tensor<1xf32>
  %b = graph.broadcast %x : (tensor<5x1xf32>) -> tensor<5x9xf32>
  %m = graph.reduce %b {axes = array<i64: 1>, kind = #graph<fold max>} : (tensor<5x9xf32>) -> tensor<5x1xf32>
  return %s, %r, %m : tensor<1xf32>, tensor<1xf32>, tensor<5x1xf32>
}
