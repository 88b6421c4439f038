// Which constants of bytes have four bits is found once, where kernels are
// formed: the tuner, variants and code generation see the same. What a file says
// of a kernel does not count.
// RUN: dlc %s -name=m -target=x86:cpu=x86-64-v4 -fuse=off -emit=kernels -o - -q | FileCheck %s
// RUN: dlc %s -name=m -target=host -tune=lookup -fuse=off -emit=kernels -o - -q | FileCheck %s

// CHECK: graph.kernel @few
// CHECK-SAME: graph.constant_bits = array<i8: 8, 4>
// CHECK: graph.kernel @many
// CHECK-NOT: graph.constant_bits
module {
  func.func @main(%x: tensor<4xi8> {graph.name = "x"}) -> (tensor<4xi8> {graph.name = "y"}, tensor<4xi8> {graph.name = "z"}) attributes {graph.symbols = []} {
    %a = graph.constant dense<[1, 7, 3, -8]> : tensor<4xi8>
    %b = graph.constant dense<[1, 8, 3, -8]> : tensor<4xi8>
    %0 = graph.call @few(%x, %a) : (tensor<4xi8>, tensor<4xi8>) -> tensor<4xi8>
    %1 = graph.call @many(%x, %b) : (tensor<4xi8>, tensor<4xi8>) -> tensor<4xi8>
    return %0, %1 : tensor<4xi8>, tensor<4xi8>
  }
  graph.kernel @few(%x: tensor<4xi8>, %w: tensor<4xi8>) -> tensor<4xi8> attributes {symbols = []} {
    %0 = graph.stage domain <4> : tensor<4xi8> {
    ^bb0(%i: index):
      %a = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<4xi8> -> i8
      %b = graph.load %w[affine_map<(d0) -> (d0)>](%i) : tensor<4xi8> -> i8
      %p = graph.apply mul(%a, %b) : (i8, i8) -> i8
      graph.yield %p : i8
    }
    graph.return %0 : tensor<4xi8>
  }
  graph.kernel @many(%x: tensor<4xi8>, %w: tensor<4xi8>) -> tensor<4xi8> attributes {symbols = [], graph.constant_bits = array<i8: 8, 4>} {
    %0 = graph.stage domain <4> : tensor<4xi8> {
    ^bb0(%i: index):
      %a = graph.load %x[affine_map<(d0) -> (d0)>](%i) : tensor<4xi8> -> i8
      %b = graph.load %w[affine_map<(d0) -> (d0)>](%i) : tensor<4xi8> -> i8
      %p = graph.apply mul(%a, %b) : (i8, i8) -> i8
      graph.yield %p : i8
    }
    graph.return %0 : tensor<4xi8>
  }
}
