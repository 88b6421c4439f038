// The onnx dialect round-trips: operators, subgraphs, omitted operands, names
// of dims, strings, sequences.
// RUN: dlc-opt %s | dlc-opt | FileCheck %s

module attributes {onnx.opsets = {ai.onnx = 28 : i64}} {
  // CHECK-LABEL: func.func @elementwise
  // CHECK-SAME: tensor<?x3xf32, ["batch", ""]>
  func.func @elementwise(%x: tensor<?x3xf32, ["batch", ""]>) -> tensor<?x3xf32, ["batch", ""]> {
    // CHECK: "onnx.LeakyRelu"(%{{.*}}) {alpha = 1.000000e-01 : f32}
    %0 = "onnx.LeakyRelu"(%x) {alpha = 0.1 : f32} : (tensor<?x3xf32, ["batch", ""]>) -> tensor<?x3xf32, ["batch", ""]>
    return %0 : tensor<?x3xf32, ["batch", ""]>
  }

  // CHECK-LABEL: func.func @omitted
  func.func @omitted(%x: tensor<3xf32>, %high: tensor<f32>) -> tensor<3xf32> {
    // CHECK: %[[NONE:.*]] = "onnx.none"() : () -> none
    // CHECK: "onnx.Clip"(%{{.*}}, %[[NONE]], %{{.*}})
    %none = "onnx.none"() : () -> none
    %0 = "onnx.Clip"(%x, %none, %high) : (tensor<3xf32>, none, tensor<f32>) -> tensor<3xf32>
    return %0 : tensor<3xf32>
  }

  // CHECK-LABEL: func.func @subgraph
  func.func @subgraph(%c: tensor<i1>, %x: tensor<3xf32>) -> tensor<3xf32> {
    // CHECK: "onnx.If"
    // CHECK: "onnx.Return"
    // CHECK: onnx.graphs = ["then_branch", "else_branch"]
    %0 = "onnx.If"(%c) ({
      "onnx.Return"(%x) : (tensor<3xf32>) -> ()
    }, {
      %1 = "onnx.Neg"(%x) : (tensor<3xf32>) -> tensor<3xf32>
      "onnx.Return"(%1) : (tensor<3xf32>) -> ()
    }) {onnx.graphs = ["then_branch", "else_branch"]} : (tensor<i1>) -> tensor<3xf32>
    return %0 : tensor<3xf32>
  }

  // CHECK-LABEL: func.func @types
  func.func @types(%s: tensor<2x!onnx.string>, %l: !onnx.seq<tensor<2xf32>>, %o: !onnx.optional<tensor<2xf32>>) {
    // CHECK: "onnx.SequenceLength"(%{{.*}}) : (!onnx.seq<tensor<2xf32>>) -> tensor<i64>
    %0 = "onnx.SequenceLength"(%l) : (!onnx.seq<tensor<2xf32>>) -> tensor<i64>
    %1 = "onnx.OptionalHasElement"(%o) : (!onnx.optional<tensor<2xf32>>) -> tensor<i1>
    %2 = "onnx.Identity"(%s) : (tensor<2x!onnx.string>) -> tensor<2x!onnx.string>
    return
  }

  // An operator of another domain carries it in its name.
  // CHECK-LABEL: func.func @domain
  func.func @domain(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
    // CHECK: "onnx.ai.onnx.ml.Normalizer"
    %0 = "onnx.ai.onnx.ml.Normalizer"(%x) {norm = "L2"} : (tensor<2x3xf32>) -> tensor<2x3xf32>
    return %0 : tensor<2x3xf32>
  }
}
