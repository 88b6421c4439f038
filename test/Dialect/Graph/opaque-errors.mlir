// What the verifiers say of opaque operators and data-dependent views.
// RUN: dlc-opt %s -split-input-file -verify-diagnostics

func.func @sort_rank(%x: tensor<4x5xf32>) {
  // expected-error@+1 {{maps (b, n, m) to i64 (b, k)}}
  %0 = graph.argsort %x : (tensor<4x5xf32>) -> tensor<4x5xi64>
  return
}

// -----

func.func @sort_more(%x: tensor<4x5x1xf32>) {
  // expected-error@+1 {{more results than rows}}
  %0 = graph.argsort %x : (tensor<4x5x1xf32>) -> tensor<4x6xi64>
  return
}

// -----

func.func @sort_batch(%x: tensor<4x5x1xf32>) {
  // expected-error@+1 {{result has another batch than the operand}}
  %0 = graph.argsort %x : (tensor<4x5x1xf32>) -> tensor<3x5xi64>
  return
}

// -----

func.func @compact_type(%x: tensor<4xi8>) {
  // expected-error@+1 {{mask must be i1 of rank 1}}
  %0 = graph.compact %x : (tensor<4xi8>) -> tensor<4xi64>
  return
}

// -----

func.func @compact_size(%x: tensor<4xi1>) {
  // expected-error@+1 {{result must be i64 with the mask's dims}}
  %0 = graph.compact %x : (tensor<4xi1>) -> tensor<3xi64>
  return
}

// -----

func.func @scatter_rows(%x: tensor<4x3xf32>, %at: tensor<2xi64>, %u: tensor<3x3xf32>) {
  // expected-error@+1 {{updates must be as many rows as positions, each of x's length}}
  %0 = graph.scatter %x, %at, %u : (tensor<4x3xf32>, tensor<2xi64>, tensor<3x3xf32>) -> tensor<4x3xf32>
  return
}

// -----

func.func @scatter_index(%x: tensor<4x3xf32>, %at: tensor<2xi32>, %u: tensor<2x3xf32>) {
  // expected-error@+1 {{positions must be i64}}
  %0 = graph.scatter %x, %at, %u : (tensor<4x3xf32>, tensor<2xi32>, tensor<2x3xf32>) -> tensor<4x3xf32>
  return
}

// -----

func.func @scatter_fold(%x: tensor<4x3xf32>, %at: tensor<2xi64>, %u: tensor<2x3xf32>) {
  // expected-error@+1 {{cannot fold with argmax}}
  %0 = graph.scatter %x, %at, %u {kind = #graph<fold argmax>} : (tensor<4x3xf32>, tensor<2xi64>, tensor<2x3xf32>) -> tensor<4x3xf32>
  return
}

// -----

func.func @nms_boxes(%boxes: tensor<1x9x3xf32>, %scores: tensor<1x2x9xf32>, %o: tensor<2x9xi64>, %n: tensor<1xi64>, %t: tensor<1xf32>) {
  // expected-error@+1 {{takes boxes (b, n, 4) and scores (b, c, n)}}
  %0 = graph.nms %boxes, %scores, %o, %n, %t, %t
    : (tensor<1x9x3xf32>, tensor<1x2x9xf32>, tensor<2x9xi64>, tensor<1xi64>, tensor<1xf32>, tensor<1xf32>) -> tensor<1x2x9xi64>
  return
}

// -----

func.func @nms_limit(%boxes: tensor<1x9x4xf32>, %scores: tensor<1x2x9xf32>, %o: tensor<2x9xi64>, %n: tensor<2xi64>, %t: tensor<1xf32>) {
  // expected-error@+1 {{limit must be one i64 element}}
  %0 = graph.nms %boxes, %scores, %o, %n, %t, %t
    : (tensor<1x9x4xf32>, tensor<1x2x9xf32>, tensor<2x9xi64>, tensor<2xi64>, tensor<1xf32>, tensor<1xf32>) -> tensor<1x2x9xi64>
  return
}

// -----

func.func @prefix_static(%x: tensor<4xf32>, %n: tensor<i64>) {
  // expected-error@+1 {{the result's leading dim must be a symbol alone}}
  %0 = graph.prefix %x, %n : (tensor<4xf32>, tensor<i64>) -> tensor<3xf32>
  return
}

// -----

func.func @prefix_rest(%x: tensor<4x2xf32>, %n: tensor<i64>) {
  // expected-error@+1 {{result must be the operand's type but for the leading dim}}
  %0 = graph.prefix %x, %n : (tensor<4x2xf32>, tensor<i64>) -> tensor<?x3xf32, #graph.dims<s0, 3>>
  return
}

// -----

func.func @bitcast_width(%x: tensor<4xf32>) {
  // expected-error@+1 {{result must have the operand's dims and elements as wide}}
  %0 = graph.bitcast %x : (tensor<4xf32>) -> tensor<4xi64>
  return
}

// -----

graph.kernel @not_alone(%x: tensor<4xi1>) -> tensor<4xi64> attributes {symbols = []} {
  // expected-error@+1 {{only an opaque operator may stand in a kernel, alone and as its result}}
  %0 = graph.compact %x : (tensor<4xi1>) -> tensor<4xi64>
  %1 = graph.compact %x : (tensor<4xi1>) -> tensor<4xi64>
  graph.return %1 : tensor<4xi64>
}
