// A depthwise convolution whose image has its channels last: what five rows of
// all channels and the weights take is more than the first-level cache has. All
// rows of 96 channels come before the next ones: ten blocks, as many for each
// of two threads. Four threads have twelve blocks of 80.
// RUN: dlc %s -name=m -target=x86:cpu=znver5:threads=2 -emit=llvm -o - -q | FileCheck %s -DLANES=96
// RUN: dlc %s -name=m -target=x86:cpu=znver5:threads=4 -emit=llvm -o - -q | FileCheck %s -DLANES=80
// Rows that are shorter are computed one after the other.
// RUN: sed s/960/96/g %s > %t.mlir
// RUN: dlc %t.mlir -name=m -target=x86:cpu=znver5:threads=2 -emit=llvm -o - -q | FileCheck %s --check-prefix=SHORT

// Fewer blocks than rows: a task has a thread's part of the rows and one of the
// six blocks of 192 channels. Sixteen threads have two rows each.
// RUN: sed "s/960/192/g; s/7x7/28x28/g; s/<1, 7, 7/<1, 28, 28/; s/d1 + 8/d1 + 29/; s/d2 + 8/d2 + 29/" %s > %t28.mlir
// RUN: dlc %t28.mlir -name=m -target=x86:cpu=znver5:threads=1 -emit=program -o - -q | FileCheck %s --check-prefix=TASKS -DTASKS=6
// RUN: dlc %t28.mlir -name=m -target=x86:cpu=znver5:threads=2 -emit=program -o - -q | FileCheck %s --check-prefix=TASKS -DTASKS=12
// RUN: dlc %t28.mlir -name=m -target=x86:cpu=znver5:threads=16 -emit=program -o - -q | FileCheck %s --check-prefix=TASKS -DTASKS=84

// TASKS: tasks = affine_map<() -> ([[TASKS]])>
// CHECK: define internal void @m_window.impl(
// CHECK: add {{.*}}i64 %{{.*}}, [[LANES]]{{$}}
// CHECK: {{^}}}
// SHORT: define internal void @m_window.impl(
// SHORT-NOT: add {{.*}}i64 %{{.*}}, {{32|48|64|80}}{{$}}
// SHORT: {{^}}}
module {
  func.func @main(%x: tensor<1x7x7x960xf32> {graph.name = "x"}, %w: tensor<5x5x960xf32> {graph.name = "w"})
      -> (tensor<1x7x7x960xf32> {graph.name = "y"}) attributes {graph.symbols = []} {
    %0 = graph.call @window(%x, %w) : (tensor<1x7x7x960xf32>, tensor<5x5x960xf32>) -> tensor<1x7x7x960xf32>
    return %0 : tensor<1x7x7x960xf32>
  }
  graph.kernel @window(%x: tensor<1x7x7x960xf32>, %w: tensor<5x5x960xf32>) -> tensor<1x7x7x960xf32> attributes {symbols = []} {
    %0 = graph.stage domain <1, 7, 7, 960> reduce <5, 5> fold add : tensor<1x7x7x960xf32> {
    ^bb0(%n: index, %h: index, %v: index, %c: index, %i: index, %j: index):
      %zero = graph.literal 0.0 : f32 : f32
      %a = graph.load %x[affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, d1 + d4 - 2, d2 + d5 - 2, d3)>] (%n, %h, %v, %c, %i, %j)
          guard affine_set<(d0, d1, d2, d3, d4, d5) : (d1 + d4 - 2 >= 0, -d4 - d1 + 8 >= 0, d2 + d5 - 2 >= 0, -d5 - d2 + 8 >= 0)> else %zero : f32
          : tensor<1x7x7x960xf32> -> f32
      %b = graph.load %w[affine_map<(d0, d1, d2, d3, d4, d5) -> (d4, d5, d3)>] (%n, %h, %v, %c, %i, %j) : tensor<5x5x960xf32> -> f32
      %p = graph.apply mul(%a, %b) : (f32, f32) -> f32
      graph.yield %p : f32
    }
    graph.return %0 : tensor<1x7x7x960xf32>
  }
}
