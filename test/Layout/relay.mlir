// Which tensors get their channels last, and what their kernels look like then.
// RUN: dlc-opt %s -split-input-file -graph-form-kernels -graph-relay-tensors -mlir-print-local-scope | FileCheck %s
// RUN: dlc-opt %s -split-input-file -graph-form-kernels -graph-relay-tensors=lanes=16 | FileCheck %s --check-prefix=NARROW
// NARROW-NOT: _last

// A chain: what convolutions read and write in it is relaid; the input and the
// output are not. Sums run over channels last where the image has them last.
// CHECK-LABEL: func.func @main(%arg0: tensor<1x3x16x16xf32>) -> tensor<1x8x8x8xf32>
// CHECK: [[A:%.*]] = graph.call @conv_0_last(%arg0, %{{.*}}) {{.*}} -> tensor<1x16x16x8xf32>
// CHECK: [[B:%.*]] = graph.call @relu_1_last([[A]]) {{.*}} -> tensor<1x16x16x8xf32>
// CHECK: [[C:%.*]] = graph.call @conv_2_last([[B]], %{{.*}}) {{.*}} -> tensor<1x8x8x8xf32>
// CHECK: graph.call @conv_3_last([[C]], %{{.*}}) {{.*}} -> tensor<1x8x8x8xf32>
// CHECK: graph.kernel @conv_0_last({{.*}}graph.relayout = {{.*}}of = "conv_0"
// CHECK-SAME: reduces = [array<i64>]
// CHECK: graph.stage domain <1, 16, 16, 8> reduce <3, 3, 3>
// CHECK: graph.load %arg0[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d4, d1 + d5 - 1, d2 + d6 - 1)>]
// CHECK-SAME: guard affine_set<(d0, d1, d2, d3, d4, d5, d6) : (d1 + d5 - 1 >= 0,
// CHECK: graph.load %arg1[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d3, d4, d5, d6)>]
// CHECK: graph.kernel @conv_2_last({{.*}}graph.relayout = {domains = [array<i64: 0, 2, 3, 1>], laws = ["reorder(add)"], of = "conv_2", operands = [array<i64: 0, 2, 3, 1>, array<i64>], reduces = [array<i64: 1, 2, 0>], results = [array<i64: 0, 2, 3, 1>]}
// CHECK: graph.stage domain <1, 8, 8, 8> reduce <3, 3, 8>
// CHECK: graph.load %arg0[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1 * 2 + d4 - 1, d2 * 2 + d5 - 1, d6)>]
// CHECK: graph.load %arg1[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d3, d6, d4, d5)>]
// CHECK: graph.kernel @conv_3_last({{.*}}domains = [array<i64>]
// CHECK-SAME: results = [array<i64>]
func.func @main(%x: tensor<1x3x16x16xf32>) -> tensor<1x8x8x8xf32> {
  %w0 = graph.constant dense<0.5> : tensor<8x3x3x3xf32>
  %w1 = graph.constant dense<0.5> : tensor<8x8x3x3xf32>
  %w2 = graph.constant dense<0.5> : tensor<8x8x1x1xf32>
  %a = graph.conv %x, %w0 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>} : (tensor<1x3x16x16xf32>, tensor<8x3x3x3xf32>) -> tensor<1x8x16x16xf32>
  %b = graph.relu %a : (tensor<1x8x16x16xf32>) -> tensor<1x8x16x16xf32>
  %c = graph.conv %b, %w1 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 2, 2>} : (tensor<1x8x16x16xf32>, tensor<8x8x3x3xf32>) -> tensor<1x8x8x8xf32>
  %d = graph.conv %c, %w2 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x8x8x8xf32>, tensor<8x8x1x1xf32>) -> tensor<1x8x8x8xf32>
  return %d : tensor<1x8x8x8xf32>
}

// -----

// A residual block with a concatenation, a depthwise convolution and a global
// pool: all in one region. The depthwise weights follow, constants of sums that
// are packed do not.
// CHECK-LABEL: func.func @main(%arg0: tensor<1x4x6x6xf32>) -> (tensor<1x8x1x1xf32>
// CHECK: graph.constant {graph.relayout = array<i64: 1, 2, 3, 0>} {{.*}} : tensor<1x1x2x4xf32>
// CHECK: [[A:%.*]] = graph.call @conv_0_last(%arg0, %{{.*}}) {{.*}} -> tensor<1x6x6x4xf32>
// CHECK: [[B:%.*]] = graph.call @conv_0_last_0([[A]], %{{.*}}) {{.*}}, tensor<4x4x1x1xf32>) -> tensor<1x6x6x4xf32>
// CHECK: [[C:%.*]] = graph.call @conv_1_last([[B]], %{{.*}}) {{.*}}, tensor<1x1x2x4xf32>) -> tensor<1x6x5x4xf32>
// CHECK: [[D:%.*]] = graph.call @add_2_last([[A]], [[B]]) {{.*}} -> tensor<1x6x6x4xf32>
// CHECK: [[E:%.*]] = graph.call @concat_3_last([[B]], [[D]]) {{.*}} -> tensor<1x6x6x8xf32>
// CHECK: [[F:%.*]] = graph.call @reduce_4_last([[E]]) {{.*}}(tensor<1x6x6x8xf32>) -> tensor<1x8x1x1xf32>
// CHECK: graph.call @reduce_5_last([[C]]) {{.*}}(tensor<1x6x5x4xf32>) -> tensor<1x4x1x1xf32>
// CHECK: graph.kernel @conv_1_last
// CHECK: graph.load %arg1[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d4, d5, d6, d3)>]
// CHECK: graph.kernel @concat_3_last
// CHECK: graph.load %arg1[affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3 - 4)>] ({{.*}}) guard affine_set<(d0, d1, d2, d3) : (d3 - 4 >= 0
// CHECK: graph.kernel @reduce_4_last
// CHECK: graph.stage domain <1, 8, 1, 1> reduce <6, 6>
// CHECK: graph.load %arg0[affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, d4, d5, d1)>]
func.func @main(%x: tensor<1x4x6x6xf32>) -> (tensor<1x8x1x1xf32>, tensor<1x4x1x1xf32>) {
  %w0 = graph.constant dense<0.5> : tensor<4x4x1x1xf32>
  %w1 = graph.constant dense<[[[[1.0, 2.0]]], [[[3.0, 4.0]]], [[[5.0, 6.0]]], [[[7.0, 8.0]]]]> : tensor<4x1x1x2xf32>
  %a = graph.conv %x, %w0 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x1x1xf32>) -> tensor<1x4x6x6xf32>
  %b = graph.conv %a, %w0 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x1x1xf32>) -> tensor<1x4x6x6xf32>
  %c = graph.conv %b, %w1 {dilations = array<i64: 1, 1>, group = 4 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x1x1x2xf32>) -> tensor<1x4x6x5xf32>
  %d = graph.add %a, %b : (tensor<1x4x6x6xf32>, tensor<1x4x6x6xf32>) -> tensor<1x4x6x6xf32>
  %e = graph.concat %b, %d {axis = 1 : i64} : (tensor<1x4x6x6xf32>, tensor<1x4x6x6xf32>) -> tensor<1x8x6x6xf32>
  %f = graph.reduce %e {axes = array<i64: 2, 3>, kind = #graph<fold add>} : (tensor<1x8x6x6xf32>) -> tensor<1x8x1x1xf32>
  %g = graph.reduce %c {axes = array<i64: 2, 3>, kind = #graph<fold add>} : (tensor<1x4x6x5xf32>) -> tensor<1x4x1x1xf32>
  return %f, %g : tensor<1x8x1x1xf32>, tensor<1x4x1x1xf32>
}

// -----

// Groups of four channels are parts of a vector: a loop nest takes them, and
// their weights follow. Groups of three are matrices, which are packed.
// CHECK-LABEL: func.func @main(%arg0: tensor<1x12x6x6xf32>)
// CHECK: graph.constant {graph.relayout = array<i64: 1, 2, 3, 0>} {{.*}} : tensor<4x1x1x12xf32>
// CHECK: graph.constant dense<{{.*}}> : tensor<12x3x1x1xf32>
// CHECK: graph.call @conv_1_last({{.*}}tensor<4x1x1x12xf32>) -> tensor<1x6x6x12xf32>
// CHECK: graph.call @conv_2_last({{.*}}tensor<12x3x1x1xf32>) -> tensor<1x6x6x12xf32>
// CHECK: graph.kernel @conv_1_last
// CHECK: graph.load %arg0[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1 + d4, d2 + d5, d6 + (d3 floordiv 4) * 4)>]
// CHECK: graph.load %arg1[affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d6, d4, d5, d3)>]
func.func @main(%x: tensor<1x12x6x6xf32>) -> tensor<1x12x6x6xf32> {
  %w0 = graph.constant dense<0.5> : tensor<12x12x1x1xf32>
  %w1 = graph.constant dense<"0x000000000000803F0000004000004040000080400000A0400000C0400000E0400000004100001041000020410000304100004041000050410000604100007041000080410000884100009041000098410000A0410000A8410000B0410000B8410000C0410000C8410000D0410000D8410000E0410000E8410000F0410000F84100000042000004420000084200000C4200001042000014420000184200001C4200002042000024420000284200002C4200003042000034420000384200003C42"> : tensor<12x4x1x1xf32>
  %w2 = graph.constant dense<"0x000000000000803F0000004000004040000080400000A0400000C0400000E0400000004100001041000020410000304100004041000050410000604100007041000080410000884100009041000098410000A0410000A8410000B0410000B8410000C0410000C8410000D0410000D8410000E0410000E8410000F0410000F84100000042000004420000084200000C42"> : tensor<12x3x1x1xf32>
  %a = graph.conv %x, %w0 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x12x6x6xf32>, tensor<12x12x1x1xf32>) -> tensor<1x12x6x6xf32>
  %b = graph.conv %a, %w1 {dilations = array<i64: 1, 1>, group = 3 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x12x6x6xf32>, tensor<12x4x1x1xf32>) -> tensor<1x12x6x6xf32>
  %c = graph.conv %b, %w2 {dilations = array<i64: 1, 1>, group = 4 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x12x6x6xf32>, tensor<12x3x1x1xf32>) -> tensor<1x12x6x6xf32>
  %d = graph.conv %c, %w0 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x12x6x6xf32>, tensor<12x12x1x1xf32>) -> tensor<1x12x6x6xf32>
  return %d : tensor<1x12x6x6xf32>
}

// -----

// Nothing to gain between one convolution and another that reads the input or
// writes the output.
// CHECK-LABEL: func.func @main(%arg0: tensor<1x3x6x6xf32>)
// CHECK-NOT: _last
func.func @main(%x: tensor<1x3x6x6xf32>) -> tensor<1x4x6x6xf32> {
  %w0 = graph.constant dense<0.5> : tensor<4x3x1x1xf32>
  %w1 = graph.constant dense<0.5> : tensor<4x4x1x1xf32>
  %a = graph.conv %x, %w0 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x3x6x6xf32>, tensor<4x3x1x1xf32>) -> tensor<1x4x6x6xf32>
  %b = graph.conv %a, %w1 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x4x6x6xf32>, tensor<4x4x1x1xf32>) -> tensor<1x4x6x6xf32>
  return %b : tensor<1x4x6x6xf32>
}

// -----

// Attention keeps its layouts: products of heads, and projections along the
// last axis, with elementwise work between.
// CHECK-LABEL: func.func @main(%arg0: tensor<2x4x8x16xf32>
// CHECK-NOT: _last
func.func @main(%q: tensor<2x4x8x16xf32>, %k: tensor<2x4x16x8xf32>, %v: tensor<2x4x8x16xf32>) -> tensor<2x4x8x16xf32> {
  %w = graph.constant dense<0.5> : tensor<16x16xf32>
  %p = graph.contract %q, %w {lhs_map = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d4)>, rhs_map = affine_map<(d0, d1, d2, d3, d4) -> (d4, d3)>, result_map = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d3)>} : (tensor<2x4x8x16xf32>, tensor<16x16xf32>) -> tensor<2x4x8x16xf32>
  %s = graph.contract %p, %k {lhs_map = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d4)>, rhs_map = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d4, d3)>, result_map = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d3)>} : (tensor<2x4x8x16xf32>, tensor<2x4x16x8xf32>) -> tensor<2x4x8x8xf32>
  %e = graph.exp %s : (tensor<2x4x8x8xf32>) -> tensor<2x4x8x8xf32>
  %o = graph.contract %e, %v {lhs_map = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d4)>, rhs_map = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d4, d3)>, result_map = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d3)>} : (tensor<2x4x8x8xf32>, tensor<2x4x8x16xf32>) -> tensor<2x4x8x16xf32>
  %r = graph.add %o, %p : (tensor<2x4x8x16xf32>, tensor<2x4x8x16xf32>) -> tensor<2x4x8x16xf32>
  return %r : tensor<2x4x8x16xf32>
}
