// What onnx's schemas forbid is refused by the dialect, every operation of it.
// RUN: dlc-opt %s -split-input-file -verify-diagnostics

module attributes {onnx.opsets = {ai.onnx = 28 : i64}} {
  func.func @unknown(%x: tensor<3xf32>) {
    // expected-error@+1 {{is not an operator of the module's opsets}}
    %0 = "onnx.Frobnicate"(%x) : (tensor<3xf32>) -> tensor<3xf32>
    // Both are reported, not only the first.
    // expected-error@+1 {{has 3 operands; its schema wants 2 to 2}}
    %1 = "onnx.Add"(%x, %x, %x) : (tensor<3xf32>, tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    return
  }
}

// -----

// An operator is known by the version its domain has in the module.
module attributes {onnx.opsets = {ai.onnx = 10 : i64}} {
  func.func @version(%x: tensor<3xf32>) {
    // expected-error@+1 {{is not an operator of the module's opsets}}
    %0 = "onnx.Mish"(%x) : (tensor<3xf32>) -> tensor<3xf32>
    return
  }
}

// -----

module attributes {onnx.opsets = {ai.onnx = 28 : i64}} {
  func.func @operands(%x: tensor<3xf32>, %i: tensor<3xi32>, %s: tensor<3x!onnx.string>) {
    // expected-error@+1 {{operand 'B' is tensor(int32) but type variable T is tensor(float)}}
    %0 = "onnx.Add"(%x, %i) : (tensor<3xf32>, tensor<3xi32>) -> tensor<3xf32>
    // expected-error@+1 {{operand 'X' may not be tensor(string)}}
    %1 = "onnx.Relu"(%s) : (tensor<3x!onnx.string>) -> tensor<3x!onnx.string>
    %none = "onnx.none"() : () -> none
    // expected-error@+1 {{operand 'A' is required}}
    %2 = "onnx.Add"(%none, %x) : (none, tensor<3xf32>) -> tensor<3xf32>
    return
  }
}

// -----

module attributes {onnx.opsets = {ai.onnx = 28 : i64}} {
  func.func @attributes(%x: tensor<3xf32>) {
    // expected-error@+1 {{has no attribute 'speed' in its schema}}
    %0 = "onnx.Relu"(%x) {speed = 9 : i64} : (tensor<3xf32>) -> tensor<3xf32>
    // expected-error@+1 {{attribute 'axis' is not of ONNX type INT}}
    %1 = "onnx.Softmax"(%x) {axis = "last"} : (tensor<3xf32>) -> tensor<3xf32>
    // expected-error@+1 {{lacks the required attribute 'axis'}}
    %2 = "onnx.Concat"(%x) : (tensor<3xf32>) -> tensor<3xf32>
    return
  }
}

// -----

module attributes {onnx.opsets = {ai.onnx = 28 : i64}} {
  func.func @graphs(%c: tensor<i1>, %x: tensor<3xf32>) {
    // expected-error@+1 {{has 1 regions, but 'onnx.graphs' names 0}}
    %0 = "onnx.If"(%c) ({
      "onnx.Return"(%x) : (tensor<3xf32>) -> ()
    }) : (tensor<i1>) -> tensor<3xf32>
    // expected-error@+1 {{lacks the required attribute}}
    %1 = "onnx.If"(%c) ({
      "onnx.Return"(%x) : (tensor<3xf32>) -> ()
    }) {onnx.graphs = ["then_branch"]} : (tensor<i1>) -> tensor<3xf32>
    return
  }
}

// -----

// expected-error@+1 {{'onnx.opsets' must be a dictionary of integers}}
module attributes {onnx.opsets = "28"} {
}
