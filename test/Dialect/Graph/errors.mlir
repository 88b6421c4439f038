// What the verifiers say of broken kernels, stages, loads and calls.
// RUN: dlc-opt %s -split-input-file -verify-diagnostics

graph.kernel @wrong_type(%x: tensor<4xf32>) -> tensor<8xf32> attributes {symbols = []} {
  %r = graph.stage domain <4> : tensor<4xf32> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  // expected-error@+1 {{returns types other than the kernel's results}}
  graph.return %r : tensor<4xf32>
}

// -----

graph.kernel @returns_operand(%x: tensor<4xf32>) -> tensor<4xf32> attributes {symbols = []} {
  // expected-error@+1 {{a kernel returns stages only}}
  graph.return %x : tensor<4xf32>
}

// -----

graph.kernel @foreign(%x: tensor<4xf32>) -> () attributes {symbols = []} {
  // expected-error@+1 {{only stages may stand in a kernel}}
  %y = graph.exp %x : (tensor<4xf32>) -> tensor<4xf32>
  graph.return
}

// -----

graph.kernel @fold_without_axes(%x: tensor<4xf32>) -> tensor<4xf32> attributes {symbols = []} {
  // expected-error@+1 {{has a fold exactly when it has reduce axes}}
  %r = graph.stage domain <4> fold add : tensor<4xf32> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<4xf32>
}

// -----

graph.kernel @rank(%x: tensor<4xf32>) -> tensor<4xf32> attributes {symbols = []} {
  // expected-error@+1 {{result rank 1 is not the domain's 2}}
  %r = graph.stage domain <4, 1> : tensor<4xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0)>](%i, %j) : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<4xf32>
}

// -----

graph.kernel @dims(%x: tensor<4xf32>) -> tensor<4xf32> attributes {symbols = []} {
  // expected-error@+1 {{result dims differ from the domain}}
  %r = graph.stage domain <5> : tensor<4xf32> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<4xf32>
}

// -----

graph.kernel @coordinates(%x: tensor<4xf32>) -> tensor<4xf32> attributes {symbols = []} {
  // expected-error@+1 {{body takes one coordinate for each domain and reduce axis, expected 1, got 2}}
  %r = graph.stage domain <4> : tensor<4xf32> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<4xf32>
}

// -----

graph.kernel @yield(%x: tensor<4xf32>) -> tensor<4xi32> attributes {symbols = []} {
  // expected-error@+1 {{yields 'f32' for elements of type 'i32'}}
  %r = graph.stage domain <4> : tensor<4xi32> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<4xi32>
}

// -----

graph.kernel @init(%x: tensor<4xf32>) -> tensor<f32> attributes {symbols = []} {
  // expected-error@+1 {{init must have the element type of a fold that has one}}
  %r = graph.stage domain <> reduce <4> fold add init 0 : i32 : tensor<f32> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<f32>
}

// -----

graph.kernel @map_rank(%x: tensor<4xf32>) -> tensor<4xf32> attributes {symbols = []} {
  %r = graph.stage domain <4> : tensor<4xf32> {
  ^bb0(%i: index):
    // expected-error@+1 {{map has 2 results for a tensor of rank 1}}
    %v = graph.load %x[affine_map<(d0) -> (d0, d0)>](%i) : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<4xf32>
}

// -----

graph.kernel @map_dims(%x: tensor<4xf32>) -> tensor<4xf32> attributes {symbols = []} {
  %r = graph.stage domain <4> : tensor<4xf32> {
  ^bb0(%i: index):
    // expected-error@+1 {{map takes 2 coordinates, got 1}}
    %v = graph.load %x[affine_map<(d0, d1) -> (d0)>](%i) : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<4xf32>
}

// -----

graph.kernel @else_type(%x: tensor<4xf32>) -> tensor<4xf32> attributes {symbols = []} {
  %r = graph.stage domain <4> : tensor<4xf32> {
  ^bb0(%i: index):
    %zero = graph.literal 0 : i32 : i32
    // expected-error@+1 {{else value must have the result's type}}
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) guard affine_set<(d0) : (d0 >= 0)> else %zero : i32 : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<4xf32>
}

// -----

graph.kernel @arity(%x: tensor<4xf32>) -> tensor<4xf32> attributes {symbols = []} {
  %r = graph.stage domain <4> : tensor<4xf32> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<4xf32> -> f32
    // expected-error@+1 {{add takes 2 operands, got 1}}
    %s = graph.apply add(%v) : (f32) -> f32
    graph.yield %s : f32
  }
  graph.return %r : tensor<4xf32>
}

// -----

graph.kernel @compare(%x: tensor<4xf32>) -> tensor<4xf32> attributes {symbols = []} {
  %r = graph.stage domain <4> : tensor<4xf32> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<4xf32> -> f32
    // expected-error@+1 {{result type must be 'i1'}}
    %s = graph.apply lt(%v, %v) : (f32, f32) -> f32
    graph.yield %s : f32
  }
  graph.return %r : tensor<4xf32>
}

// -----

graph.kernel @symbols(%x: tensor<4xf32>) -> tensor<4xf32> attributes {symbols = []} {
  %r = graph.stage domain <4> : tensor<4xf32> {
  ^bb0(%i: index):
    // expected-error@+1 {{uses 1 symbols, the kernel has 0}}
    %v = graph.load %x[affine_map<(d0)[s0] -> (d0 + s0)>](%i) : tensor<4xf32> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<4xf32>
}

// -----

func.func @main(%x: tensor<4xf32>) {
  // expected-error@+1 {{no kernel 'nowhere'}}
  %r = graph.call @nowhere(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

graph.kernel @k(%x: tensor<?xf32, #graph.dims<s0>>) -> tensor<?xf32, #graph.dims<s0>> attributes {symbols = ["s0"]} {
  %r = graph.stage domain <s0> : tensor<?xf32, #graph.dims<s0>> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<?xf32, #graph.dims<s0>> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<?xf32, #graph.dims<s0>>
}

func.func @count(%x: tensor<4xf32>) {
  // expected-error@+1 {{gives 0 symbols, the kernel has 1}}
  %r = graph.call @k(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

graph.kernel @k(%x: tensor<?xf32, #graph.dims<s0>>) -> tensor<?xf32, #graph.dims<s0>> attributes {symbols = ["s0"]} {
  %r = graph.stage domain <s0> : tensor<?xf32, #graph.dims<s0>> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<?xf32, #graph.dims<s0>> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<?xf32, #graph.dims<s0>>
}

func.func @binds(%x: tensor<4xf32>) -> tensor<4xf32> {
  %r = graph.call @k(%x) symbols <4> : (tensor<4xf32>) -> tensor<4xf32>
  return %r : tensor<4xf32>
}

// -----

graph.kernel @k(%x: tensor<?xf32, #graph.dims<s0>>) -> tensor<?xf32, #graph.dims<s0>> attributes {symbols = ["s0"]} {
  %r = graph.stage domain <s0> : tensor<?xf32, #graph.dims<s0>> {
  ^bb0(%i: index):
    %v = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<?xf32, #graph.dims<s0>> -> f32
    graph.yield %v : f32
  }
  graph.return %r : tensor<?xf32, #graph.dims<s0>>
}

func.func @type(%x: tensor<4xf32>) {
  // expected-error@+1 {{operand type 'tensor<4xf32>' is not the kernel's}}
  %r = graph.call @k(%x) symbols <5> : (tensor<4xf32>) -> tensor<5xf32>
  return
}

// -----

func.func @same_sizes_of_other_rank(%x: tensor<?xf32, #graph.dims<s0>>) {
  // expected-error@+1 {{'graph.same_sizes' wants equal ranks}}
  %0 = graph.reshape %x {graph.same_sizes} : (tensor<?xf32, #graph.dims<s0>>) -> tensor<1x?xf32, #graph.dims<1, s1>>
  return
}
