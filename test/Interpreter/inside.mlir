// graph.inside is false outside its set, also at single points of an equality,
// and guards of an inlined expression keep its loads inside the operand.
// RUN: %python -c "import numpy; numpy.save('%t.npy', numpy.array([1, 2, 3], 'float32'))"
// RUN: dlc-run %s -target=interp -inputs=%t.npy -outputs=%t.out
// RUN: %python -c "import numpy; print(numpy.load('%t.out/output_0.npy'))" | FileCheck %s

// CHECK: [ 9. -1.  9. -3.  9.]

#inner = affine_set<(d0) : (d0 - 1 >= 0, 3 - d0 >= 0)>
#odd = affine_set<(d0) : (d0 mod 2 - 1 == 0, d0 - 1 >= 0, 3 - d0 >= 0)>

graph.kernel @pad(%x: tensor<3xf32>) -> tensor<5xf32> attributes {symbols = []} {
  %r = graph.stage domain <5> : tensor<5xf32> {
  ^bb0(%i: index):
    %nine = graph.literal 9.0 : f32 : f32
    %in = graph.inside[#odd](%i)
    %v = graph.load %x[affine_map<(d0) -> (d0 - 1)>](%i) guard #inner else %nine : f32 : tensor<3xf32> -> f32
    %n = graph.apply neg(%v) : (f32) -> f32
    %s = graph.apply select(%in, %n, %nine) : (i1, f32, f32) -> f32
    graph.yield %s : f32
  }
  graph.return %r : tensor<5xf32>
}

func.func @main(%x: tensor<3xf32> {graph.name = "x"}) -> (tensor<5xf32> {graph.name = "y"}) {
  %y = graph.call @pad(%x) : (tensor<3xf32>) -> tensor<5xf32>
  return %y : tensor<5xf32>
}
