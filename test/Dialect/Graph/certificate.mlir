// A fused kernel with rows, its certificate and graph.inside survive printing
// and parsing.
// RUN: dlc-opt %s | dlc-opt -mlir-print-local-scope | FileCheck %s

graph.kernel @exp(%x: tensor<?x4xf32, #graph.dims<s0, 4>>) -> tensor<?x4xf32, #graph.dims<s0, 4>> attributes {symbols = ["s0"]} {
  %y = graph.stage domain <s0, 4> : tensor<?x4xf32, #graph.dims<s0, 4>> {
  ^bb0(%i: index, %j: index):
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) : tensor<?x4xf32, #graph.dims<s0, 4>> -> f32
    %e = graph.apply exp(%v) : (f32) -> f32
    graph.yield %e : f32
  }
  graph.return %y : tensor<?x4xf32, #graph.dims<s0, 4>>
}

// CHECK: graph.kernel @fused{{.*}} attributes {rows = 1 : i64, symbols = ["s0"]}
graph.kernel @fused(%x: tensor<?x4xf32, #graph.dims<s0, 4>>) -> tensor<?x4xf32, #graph.dims<s0, 4>> attributes {symbols = ["s0"], rows = 1} {
  %y = graph.stage domain <s0, 4> : tensor<?x4xf32, #graph.dims<s0, 4>> {
  ^bb0(%i: index, %j: index):
    // CHECK: %[[IN:.*]] = graph.inside[affine_set<(d0, d1) : (d1 - 1 >= 0)>] (%{{.*}}, %{{.*}})
    %in = graph.inside[affine_set<(d0, d1) : (d1 - 1 >= 0)>](%i, %j)
    %zero = graph.literal 0.0 : f32 : f32
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %j) guard affine_set<(d0, d1) : (d1 - 1 >= 0)> else %zero : f32 : tensor<?x4xf32, #graph.dims<s0, 4>> -> f32
    %e = graph.apply exp(%v) : (f32) -> f32
    // CHECK: graph.apply {{ *}}select(%[[IN]],
    %r = graph.apply select(%in, %e, %zero) : (i1, f32, f32) -> f32
    graph.yield %r : f32
  }
  graph.return %y : tensor<?x4xf32, #graph.dims<s0, 4>>
}

// CHECK: graph.certificate @fused_certificate for @fused rows(1) laws ["reorder(max)"] obligation "exact" {
// CHECK-NEXT: ^bb0(%{{.*}}: tensor<?x4xf32, #graph.dims<s0, 4>>):
// CHECK-NEXT: graph.call @exp(%{{.*}}) symbols <s0>
// CHECK-NEXT: graph.return
graph.certificate @fused_certificate for @fused rows(1) laws ["reorder(max)"] obligation "exact" {
^bb0(%x: tensor<?x4xf32, #graph.dims<s0, 4>>):
  %y = graph.call @exp(%x) symbols <s0> : (tensor<?x4xf32, #graph.dims<s0, 4>>) -> tensor<?x4xf32, #graph.dims<s0, 4>>
  graph.return %y : tensor<?x4xf32, #graph.dims<s0, 4>>
}
