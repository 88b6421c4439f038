// What a graph.if or graph.loop may not be.
// RUN: dlc-opt %s -split-input-file -verify-diagnostics

func.func @condition(%c: tensor<2xi1>) {
  // expected-error@+1 {{condition must be one i1 element}}
  graph.if %c : (tensor<2xi1>) -> () { graph.leave } else { graph.leave }
  return
}

// -----

func.func @count(%c: tensor<i1>, %x: tensor<4xf32>) {
  // expected-error@+1 {{a branch leaves with 0 values for 1 results}}
  %0 = graph.if %c : (tensor<i1>) -> tensor<4xf32> { graph.leave %x : tensor<4xf32> } else { graph.leave }
  return
}

// -----

func.func @unbound(%c: tensor<i1>, %x: tensor<4xf32>, %y: tensor<5xf32>) {
  // expected-error@+1 {{value 0 of a branch is 'tensor<5xf32>', expected 'tensor<4xf32>'}}
  %0 = graph.if %c : (tensor<i1>) -> tensor<4xf32> { graph.leave %x : tensor<4xf32> } else { graph.leave %y : tensor<5xf32> }
  return
}

// -----

func.func @bounds(%c: tensor<i1>) attributes {graph.symbols = ["n"]} {
  // expected-error@+1 {{binds 1 symbols with 0 bounds}}
  graph.if %c attributes {binds = array<i64: 0>} : (tensor<i1>) -> () { graph.leave } else { graph.leave }
  return
}

// -----

func.func @two_values(%c: tensor<i1>, %x: tensor<4x5xf32>) attributes {graph.symbols = ["n"]} {
  // expected-error@+1 {{gives symbol 0 two values}}
  %0 = graph.if %c attributes {binds = array<i64: 0>, bounds = #graph.dims<5>} : (tensor<i1>) -> tensor<?x?xf32, #graph.dims<s0, s0>> {
    graph.leave %x : tensor<4x5xf32>
  } else {
    graph.leave %x : tensor<4x5xf32>
  }
  return
}

// -----

func.func @carried(%x: tensor<4xf32>) {
  // expected-error@+1 {{next value 0 is 'tensor<4xf64>', expected 'tensor<4xf32>'}}
  %0 = graph.loop from (%x) attributes {trips = #graph.dims<3>} : (tensor<4xf32>) -> tensor<4xf32> {
  ^bb0(%i: tensor<i64>, %u: tensor<4xf32>):
    %w = graph.convert %u : (tensor<4xf32>) -> tensor<4xf64>
    graph.leave %w : tensor<4xf64>
  }
  return
}

// -----

func.func @stack(%c: tensor<i1>, %x: tensor<4xf32>) {
  // expected-error@+1 {{stack 0 is 'tensor<2x4xf32>', expected 'tensor<3x4xf32>'}}
  %0 = graph.loop from () attributes {trips = #graph.dims<3>} : () -> tensor<2x4xf32> {
  ^bb0(%i: tensor<i64>):
    graph.leave %x : tensor<4xf32>
  }
  return
}

// -----

func.func @no_number(%c: tensor<i1>, %x: tensor<4xf32>) {
  // expected-error@+1 {{stacks values, and their number is not told}}
  %0 = graph.loop from () attributes {conditional} : () -> tensor<2x4xf32> {
  ^bb0(%i: tensor<i64>):
    graph.leave %c, %x : tensor<i1>, tensor<4xf32>
  }
  return
}
