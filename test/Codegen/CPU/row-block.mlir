// Rows are computed several at a time (the scratch of a kept number is a cache
// line for each), but only as many as leave what is read again in half of the
// first-level cache.
// RUN: dlc %s -name=m -target=x86:cpu=znver5 -emit=program -o - -q | FileCheck %s

// CHECK-DAG: program.kernel {{.*}} scratch = affine_map<() -> (64)>, tasks = affine_map<() -> ({{[0-9]+}})>}
// CHECK-DAG: program.kernel {{.*}} scratch = affine_map<() -> (384)>
// CHECK-DAG: program.kernel {{.*}} scratch = affine_map<() -> (1024)>
func.func @main(%x: tensor<256x3136xf32> {graph.name = "x"}, %y: tensor<256x1000xf32> {graph.name = "y"},
                %z: tensor<256x64xf32> {graph.name = "z"})
    -> (tensor<256x3136xf32> {graph.name = "a"}, tensor<256x1000xf32> {graph.name = "b"},
        tensor<256x64xf32> {graph.name = "c"}) attributes {graph.symbols = []} {
  %0 = graph.reduce %x {axes = array<i64: 1>, kind = #graph<fold add>} : (tensor<256x3136xf32>) -> tensor<256x1xf32>
  %1 = graph.mul %x, %0 : (tensor<256x3136xf32>, tensor<256x1xf32>) -> tensor<256x3136xf32>
  %2 = graph.reduce %y {axes = array<i64: 1>, kind = #graph<fold add>} : (tensor<256x1000xf32>) -> tensor<256x1xf32>
  %3 = graph.mul %y, %2 : (tensor<256x1000xf32>, tensor<256x1xf32>) -> tensor<256x1000xf32>
  %4 = graph.reduce %z {axes = array<i64: 1>, kind = #graph<fold add>} : (tensor<256x64xf32>) -> tensor<256x1xf32>
  %5 = graph.mul %z, %4 : (tensor<256x64xf32>, tensor<256x1xf32>) -> tensor<256x64xf32>
  return %1, %3, %5 : tensor<256x3136xf32>, tensor<256x1000xf32>, tensor<256x64xf32>
}
