// What goes wrong at run time is said with the operation and the values.
// RUN: %python -c "import numpy; numpy.save('%t.x.npy', numpy.zeros(3, 'float32')); numpy.save('%t.i.npy', numpy.array([0, -4]))"
// RUN: not dlc-run %s -target=interp -inputs=%t.x.npy,%t.i.npy 2>&1 | FileCheck %s --check-prefix=INDEX
// RUN: %python -c "import numpy; numpy.save('%t.i.npy', numpy.array([0, 1, 2]))"
// RUN: not dlc-run %s -target=interp -inputs=%t.x.npy,%t.i.npy 2>&1 | FileCheck %s --check-prefix=SHAPE
// RUN: not dlc-run %s -target=interp -inputs=%t.x.npy 2>&1 | FileCheck %s --check-prefix=COUNT
// RUN: not dlc-run %s -target=interp -random=1 -math=fast 2>&1 | FileCheck %s --check-prefix=MATH

// INDEX: index -4 is out of range for a dim of size 3
// SHAPE: input 1 is 3xi64, expected 2xi64
// COUNT: takes 2 inputs, got 1
// MATH: -math=fast: the modes are libm, dlc and dlc:<target>

func.func @main(%x: tensor<3xf32> {graph.name = "x"}, %i: tensor<2xi64> {graph.name = "i"}) -> (tensor<2xf32> {graph.name = "y"}) {
  %y = graph.gather %x, %i {axis = 0 : i64} : (tensor<3xf32>, tensor<2xi64>) -> tensor<2xf32>
  return %y : tensor<2xf32>
}
