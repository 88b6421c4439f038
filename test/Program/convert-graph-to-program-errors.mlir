// RUN: dlc-opt %s -split-input-file -convert-graph-to-program -verify-diagnostics

// Both leftovers are named.
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{'graph.exp' op is not a kernel call}}
  %0 = graph.exp %x : (tensor<4xf32>) -> tensor<4xf32>
  // expected-error@+1 {{'graph.neg' op is not a kernel call}}
  %1 = graph.neg %0 : (tensor<4xf32>) -> tensor<4xf32>
  return %1 : tensor<4xf32>
}

// -----

// expected-error@+1 {{has no function 'main'}}
module {
}
