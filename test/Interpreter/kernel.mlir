// A module of kernels and calls, as the compiler writes it after forming
// kernels, runs in the interpreter: a softmax in two row buffers, over a batch
// whose size is known from the input.
// RUN: %python -c "import numpy; numpy.save('%t.npy', numpy.array([[0, 0, 0, 0], [1, 2, 3, 4], [-5, 700, -5, 0]], 'float32'))"
// RUN: dlc-run %s -target=interp -inputs=%t.npy -outputs=%t.out
// RUN: %python -c "import numpy; print(numpy.load('%t.out/output_0.npy').round(3))" | FileCheck %s

// CHECK: {{\[}}[0.25  0.25  0.25  0.25 ]
// CHECK:  [0.032 0.087 0.237 0.644]
// CHECK:  [0.    1.    0.    0.   ]{{\]}}

#at = affine_map<(d0, d1) -> (d0, d1)>
#row = affine_map<(d0, d1) -> (d0)>

graph.kernel @softmax(%x: tensor<?x4xf32, #graph.dims<s0, 4>>) -> tensor<?x4xf32, #graph.dims<s0, 4>> attributes {symbols = ["s0"]} {
  %max = graph.stage domain <s0> reduce <4> fold max : tensor<?xf32, #graph.dims<s0>> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[#at](%i, %k) : tensor<?x4xf32, #graph.dims<s0, 4>> -> f32
    graph.yield %v : f32
  }
  %sum = graph.stage domain <s0> reduce <4> fold add : tensor<?xf32, #graph.dims<s0>> {
  ^bb0(%i: index, %k: index):
    %v = graph.load %x[#at](%i, %k) : tensor<?x4xf32, #graph.dims<s0, 4>> -> f32
    %m = graph.load %max[#row](%i, %k) : tensor<?xf32, #graph.dims<s0>> -> f32
    %d = graph.apply sub(%v, %m) : (f32, f32) -> f32
    %e = graph.apply exp(%d) : (f32) -> f32
    graph.yield %e : f32
  }
  %y = graph.stage domain <s0, 4> : tensor<?x4xf32, #graph.dims<s0, 4>> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[#at](%i, %j) : tensor<?x4xf32, #graph.dims<s0, 4>> -> f32
    %m = graph.load %max[#row](%i, %j) : tensor<?xf32, #graph.dims<s0>> -> f32
    %s = graph.load %sum[#row](%i, %j) : tensor<?xf32, #graph.dims<s0>> -> f32
    %d = graph.apply sub(%v, %m) : (f32, f32) -> f32
    %e = graph.apply exp(%d) : (f32) -> f32
    %r = graph.apply div(%e, %s) : (f32, f32) -> f32
    graph.yield %r : f32
  }
  graph.return %y : tensor<?x4xf32, #graph.dims<s0, 4>>
}

func.func @main(%x: tensor<?x4xf32, #graph.dims<s0, 4>> {graph.name = "x"}) -> (tensor<?x4xf32, #graph.dims<s0, 4>> {graph.name = "y"}) attributes {graph.symbols = ["batch"]} {
  %y = graph.call @softmax(%x) symbols <s0> : (tensor<?x4xf32, #graph.dims<s0, 4>>) -> tensor<?x4xf32, #graph.dims<s0, 4>>
  return %y : tensor<?x4xf32, #graph.dims<s0, 4>>
}
