// What the verifiers say of broken rows, certificates and graph.inside.
// RUN: dlc-opt %s -split-input-file -verify-diagnostics

graph.kernel @inside(%x: tensor<4xf32>) -> tensor<4xi1> attributes {symbols = []} {
  %r = graph.stage domain <4> : tensor<4xi1> {
  ^bb0(%i: index):
    // expected-error@+1 {{set takes 2 coordinates, got 1}}
    %v = graph.inside[affine_set<(d0, d1) : (d0 - d1 >= 0)>](%i)
    graph.yield %v : i1
  }
  graph.return %r : tensor<4xi1>
}

// -----

graph.kernel @too_many_rows(%x: tensor<4xf32>) -> tensor<4xf32> attributes {symbols = [], rows = 2} {
  // expected-error@+1 {{has 1 domain axes, rows are 2}}
  %r = graph.stage domain <4> : tensor<4xf32> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<4xf32>
}

// -----

graph.kernel @unequal_rows(%x: tensor<4xf32>) -> tensor<2xf32> attributes {symbols = [], rows = 1} {
  %r = graph.stage domain <4> : tensor<4xf32> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  // expected-error@+1 {{has row axes of other sizes than the first}}
  %s = graph.stage domain <2> : tensor<2xf32> {
  ^bb0(%i: index):
    %v = graph.load %r[affine_map<(d0) -> (d0)>](%i) : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %s : tensor<2xf32>
}

// -----

// expected-error@+1 {{no kernel 'nowhere'}}
graph.certificate @c for @nowhere rows(0) laws [] obligation "exact" {
^bb0(%x: tensor<4xf32>):
  graph.return %x : tensor<4xf32>
}

// -----

// expected-error@+1 {{obligation is exact, reassociation or precision, not soon}}
graph.certificate @c for @nowhere rows(0) laws [] obligation "soon" {
^bb0(%x: tensor<4xf32>):
  graph.return %x : tensor<4xf32>
}

// -----

// expected-error@+1 {{no law "magic(add)"}}
graph.certificate @c for @nowhere rows(0) laws ["magic(add)"] obligation "exact" {
^bb0(%x: tensor<4xf32>):
  graph.return %x : tensor<4xf32>
}

// -----

graph.certificate @c for @nowhere rows(0) laws [] obligation "exact" {
^bb0(%x: tensor<4xf32>):
  // expected-error@+1 {{is not a member a certificate may have}}
  %y = graph.exp %x : (tensor<4xf32>) -> tensor<4xf32>
  graph.return %y : tensor<4xf32>
}

// -----

graph.kernel @k(%x: tensor<4xf32>) -> tensor<4xf32> attributes {symbols = []} {
  %r = graph.stage domain <4> : tensor<4xf32> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<4xf32>
}
// expected-error@+1 {{takes operands other than the kernel's}}
graph.certificate @operands for @k rows(0) laws [] obligation "exact" {
^bb0(%x: tensor<5xf32>):
  graph.return %x : tensor<5xf32>
}

// -----

graph.kernel @k(%x: tensor<4xf32>) -> tensor<4xf32> attributes {symbols = []} {
  %r = graph.stage domain <4> : tensor<4xf32> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<4xf32>
}
// expected-error@+1 {{returns types other than the kernel's results}}
graph.certificate @results for @k rows(0) laws [] obligation "exact" {
^bb0(%x: tensor<4xf32>):
  graph.return
}

// -----

graph.kernel @k(%x: tensor<4xf32>) -> tensor<4xf32> attributes {symbols = []} {
  %r = graph.stage domain <4> : tensor<4xf32> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<4xf32>
}
// expected-error@+1 {{rows are 1, the kernel's 0}}
graph.certificate @rows for @k rows(1) laws [] obligation "exact" {
^bb0(%x: tensor<4xf32>):
  %y = graph.call @k(%x) : (tensor<4xf32>) -> tensor<4xf32>
  graph.return %y : tensor<4xf32>
}
