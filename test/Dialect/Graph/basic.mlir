// Every operator, kernel operation and attribute form survives printing and parsing.
// RUN: dlc-opt %s | dlc-opt -mlir-print-local-scope | FileCheck %s

// CHECK-LABEL: func.func @unary(
func.func @unary(%x: tensor<2x3xf32>, %i: tensor<2x3xi32>) {
  // CHECK: graph.abs %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r0 = graph.abs %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.neg %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r1 = graph.neg %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.sign %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r2 = graph.sign %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.ceil %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r3 = graph.ceil %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.floor %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r4 = graph.floor %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.round %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r5 = graph.round %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.trunc %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r6 = graph.trunc %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.sqrt %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r7 = graph.sqrt %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.rsqrt %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r8 = graph.rsqrt %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.exp %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r9 = graph.exp %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.log %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r10 = graph.log %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.sin %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r11 = graph.sin %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.cos %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r12 = graph.cos %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.tan %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r13 = graph.tan %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.asin %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r14 = graph.asin %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.acos %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r15 = graph.acos %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.atan %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r16 = graph.atan %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.sinh %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r17 = graph.sinh %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.cosh %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r18 = graph.cosh %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.tanh %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r19 = graph.tanh %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.asinh %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r20 = graph.asinh %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.acosh %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r21 = graph.acosh %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.atanh %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r22 = graph.atanh %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.erf %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r23 = graph.erf %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.relu %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r24 = graph.relu %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.sigmoid %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r25 = graph.sigmoid %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.softplus %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r26 = graph.softplus %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.softsign %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r27 = graph.softsign %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.reciprocal %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r28 = graph.reciprocal %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.hard_swish %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r29 = graph.hard_swish %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.mish %arg0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r30 = graph.mish %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.bit_not %arg1 : (tensor<2x3xi32>) -> tensor<2x3xi32>
  %ra = graph.bit_not %i : (tensor<2x3xi32>) -> tensor<2x3xi32>
  return
}

// CHECK-LABEL: func.func @attributes(
func.func @attributes(%x: tensor<2x3xf32>) {
  // CHECK: graph.leaky_relu %arg0 {alpha = 1.000000e-02 : f64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r0 = graph.leaky_relu %x {alpha = 1.000000e-02 : f64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.elu %arg0 {alpha = 1.000000e+00 : f64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r1 = graph.elu %x {alpha = 1.000000e+00 : f64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.selu %arg0 {alpha = 1.600000e+00 : f64, gamma = 1.050000e+00 : f64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r2 = graph.selu %x {alpha = 1.600000e+00 : f64, gamma = 1.050000e+00 : f64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.celu %arg0 {alpha = 1.000000e+00 : f64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r3 = graph.celu %x {alpha = 1.000000e+00 : f64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.thresholded_relu %arg0 {alpha = 1.000000e+00 : f64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r4 = graph.thresholded_relu %x {alpha = 1.000000e+00 : f64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.hard_sigmoid %arg0 {alpha = 2.000000e-01 : f64, beta = 5.000000e-01 : f64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r5 = graph.hard_sigmoid %x {alpha = 2.000000e-01 : f64, beta = 5.000000e-01 : f64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.swish %arg0 {alpha = 1.000000e+00 : f64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r6 = graph.swish %x {alpha = 1.000000e+00 : f64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.gelu %arg0 {tanh_form} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r7 = graph.gelu %x {tanh_form} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.shrink %arg0 {bias = 0.000000e+00 : f64, lambd = 5.000000e-01 : f64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r8 = graph.shrink %x {bias = 0.000000e+00 : f64, lambd = 5.000000e-01 : f64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.isinf %arg0 {detect_positive = false} : (tensor<2x3xf32>) -> tensor<2x3xi1>
  %rp = graph.isinf %x {detect_positive = false} : (tensor<2x3xf32>) -> tensor<2x3xi1>
  // CHECK: graph.isnan %arg0 : (tensor<2x3xf32>) -> tensor<2x3xi1>
  %rn = graph.isnan %x : (tensor<2x3xf32>) -> tensor<2x3xi1>
  // CHECK: graph.convert %arg0 {saturate, to = i32} : (tensor<2x3xf32>) -> tensor<2x3xi32>
  %rc = graph.convert %x {saturate, to = i32} : (tensor<2x3xf32>) -> tensor<2x3xi32>
  return
}

// CHECK-LABEL: func.func @binary(
func.func @binary(%x: tensor<2x3xf32>, %y: tensor<2x3xf32>, %i: tensor<2x3xi32>) {
  // CHECK: graph.add %arg0, %arg1 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %r0 = graph.add %x, %y : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.sub %arg0, %arg1 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %r1 = graph.sub %x, %y : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.mul %arg0, %arg1 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %r2 = graph.mul %x, %y : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.div %arg0, %arg1 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %r3 = graph.div %x, %y : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.mod %arg0, %arg1 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %r4 = graph.mod %x, %y : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.rem %arg0, %arg1 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %r5 = graph.rem %x, %y : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.max %arg0, %arg1 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %r6 = graph.max %x, %y : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.min %arg0, %arg1 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %r7 = graph.min %x, %y : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.prelu %arg0, %arg1 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %r8 = graph.prelu %x, %y : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.bit_and %arg2, %arg2 : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi32>
  %rb0 = graph.bit_and %i, %i : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi32>
  // CHECK: graph.bit_or %arg2, %arg2 : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi32>
  %rb1 = graph.bit_or %i, %i : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi32>
  // CHECK: graph.bit_xor %arg2, %arg2 : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi32>
  %rb2 = graph.bit_xor %i, %i : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi32>
  // CHECK: graph.shl %arg2, %arg2 : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi32>
  %rb3 = graph.shl %i, %i : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi32>
  // CHECK: graph.shr %arg2, %arg2 : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi32>
  %rb4 = graph.shr %i, %i : (tensor<2x3xi32>, tensor<2x3xi32>) -> tensor<2x3xi32>
  // CHECK: graph.eq %arg0, %arg1 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>
  %rc0 = graph.eq %x, %y : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>
  // CHECK: graph.ne %arg0, %arg1 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>
  %rc1 = graph.ne %x, %y : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>
  // CHECK: graph.lt %arg0, %arg1 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>
  %rc2 = graph.lt %x, %y : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>
  // CHECK: graph.le %arg0, %arg1 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>
  %rc3 = graph.le %x, %y : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>
  // CHECK: graph.gt %arg0, %arg1 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>
  %rc4 = graph.gt %x, %y : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>
  // CHECK: graph.ge %arg0, %arg1 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>
  %rc5 = graph.ge %x, %y : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>
  // CHECK: graph.pow %arg0, %arg2 : (tensor<2x3xf32>, tensor<2x3xi32>) -> tensor<2x3xf32>
  %rp = graph.pow %x, %i : (tensor<2x3xf32>, tensor<2x3xi32>) -> tensor<2x3xf32>
  return
}

// CHECK-LABEL: func.func @more(
func.func @more(%x: tensor<2x3xf32>, %c: tensor<2x3xi1>, %s: tensor<f32>, %z: tensor<ui8>, %q: tensor<2x3xui8>) {
  // CHECK: graph.select %arg1, %arg0, %arg2 : (tensor<2x3xi1>, tensor<2x3xf32>, tensor<f32>) -> tensor<2x3xf32>
  %r0 = graph.select %c, %x, %s : (tensor<2x3xi1>, tensor<2x3xf32>, tensor<f32>) -> tensor<2x3xf32>
  // CHECK: graph.clip %arg0, %arg2, %arg2 : (tensor<2x3xf32>, tensor<f32>, tensor<f32>) -> tensor<2x3xf32>
  %r1 = graph.clip %x, %s, %s : (tensor<2x3xf32>, tensor<f32>, tensor<f32>) -> tensor<2x3xf32>
  // CHECK: graph.quantize %arg0, %arg2, %arg3 : (tensor<2x3xf32>, tensor<f32>, tensor<ui8>) -> tensor<2x3xui8>
  %r2 = graph.quantize %x, %s, %z : (tensor<2x3xf32>, tensor<f32>, tensor<ui8>) -> tensor<2x3xui8>
  // CHECK: graph.dequantize %arg4, %arg2, %arg3 : (tensor<2x3xui8>, tensor<f32>, tensor<ui8>) -> tensor<2x3xf32>
  %r3 = graph.dequantize %q, %s, %z : (tensor<2x3xui8>, tensor<f32>, tensor<ui8>) -> tensor<2x3xf32>
  return
}

// CHECK-LABEL: func.func @injective(
func.func @injective(%x: tensor<2x3xf32>, %k: tensor<4xi64>, %v: tensor<1xf32>, %i: tensor<2x1xi64>) {
  // CHECK: graph.constant dense<[1, 2]> : tensor<2xi64>
  %r0 = graph.constant dense<[1, 2]> : tensor<2xi64>
  // CHECK: graph.iota {start = 0.000000e+00 : f64, step = 2.000000e+00 : f64} : () -> tensor<5xf32>
  %r1 = graph.iota {start = 0.000000e+00 : f64, step = 2.000000e+00 : f64} : () -> tensor<5xf32>
  // CHECK: graph.transpose %arg0 {perm = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  %r2 = graph.transpose %x {perm = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  // CHECK: graph.reshape %arg0 : (tensor<2x3xf32>) -> tensor<6xf32>
  %r3 = graph.reshape %x : (tensor<2x3xf32>) -> tensor<6xf32>
  // CHECK: graph.broadcast %arg0 : (tensor<2x3xf32>) -> tensor<4x2x3xf32>
  %r4 = graph.broadcast %x : (tensor<2x3xf32>) -> tensor<4x2x3xf32>
  // CHECK: graph.slice %arg0 {starts = #graph.dims<1, 2>, steps = array<i64: 1, -1>} : (tensor<2x3xf32>) -> tensor<1x3xf32>
  %r5 = graph.slice %x {starts = #graph.dims<1, 2>, steps = array<i64: 1, -1>} : (tensor<2x3xf32>) -> tensor<1x3xf32>
  // CHECK: graph.pad %arg0, %arg2 {high = array<i64: 0, 1>, low = array<i64: 1, 0>, mode = #graph<pad constant>} : (tensor<2x3xf32>, tensor<1xf32>) -> tensor<3x4xf32>
  %r6 = graph.pad %x, %v {high = array<i64: 0, 1>, low = array<i64: 1, 0>, mode = #graph<pad constant>} : (tensor<2x3xf32>, tensor<1xf32>) -> tensor<3x4xf32>
  // CHECK: graph.concat %arg0, %arg0 {axis = 1 : i64} : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x6xf32>
  %r7 = graph.concat %x, %x {axis = 1 : i64} : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x6xf32>
  // CHECK: graph.gather %arg0, %arg1 {axis = 1 : i64} : (tensor<2x3xf32>, tensor<4xi64>) -> tensor<2x4xf32>
  %r8 = graph.gather %x, %k {axis = 1 : i64} : (tensor<2x3xf32>, tensor<4xi64>) -> tensor<2x4xf32>
  // CHECK: graph.gather_elements %arg0, %arg3 {axis = 1 : i64} : (tensor<2x3xf32>, tensor<2x1xi64>) -> tensor<2x1xf32>
  %r9 = graph.gather_elements %x, %i {axis = 1 : i64} : (tensor<2x3xf32>, tensor<2x1xi64>) -> tensor<2x1xf32>
  return
}

// CHECK-LABEL: func.func @reductions(
func.func @reductions(%x: tensor<2x3xf32>, %w: tensor<1x2x8x8xf32>) {
  // CHECK: graph.reduce %arg0 {axes = array<i64: 1>, kind = #graph<fold add>} : (tensor<2x3xf32>) -> tensor<2x1xf32>
  %r0 = graph.reduce %x {axes = array<i64: 1>, kind = #graph<fold add>} : (tensor<2x3xf32>) -> tensor<2x1xf32>
  // CHECK: graph.reduce %arg0 {axes = array<i64: 1>, kind = #graph<fold argmax>} : (tensor<2x3xf32>) -> tensor<2x1xi64>
  %r1 = graph.reduce %x {axes = array<i64: 1>, kind = #graph<fold argmax>} : (tensor<2x3xf32>) -> tensor<2x1xi64>
  // CHECK: graph.cumsum %arg0 {axis = 1 : i64, exclusive} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %r2 = graph.cumsum %x {axis = 1 : i64, exclusive} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.pool %arg1 {count_include_pad, dilations = array<i64: 1, 1>, kernel = array<i64: 3, 3>, kind = #graph<pool avg>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 2, 2>} : (tensor<1x2x8x8xf32>) -> tensor<1x2x4x4xf32>
  %r3 = graph.pool %w {count_include_pad, dilations = array<i64: 1, 1>, kernel = array<i64: 3, 3>, kind = #graph<pool avg>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 2, 2>} : (tensor<1x2x8x8xf32>) -> tensor<1x2x4x4xf32>
  return
}

// CHECK-LABEL: func.func @contractions(
func.func @contractions(%x: tensor<2x3xf32>, %y: tensor<3x4xf32>, %i: tensor<1x2x8x8xf32>, %w: tensor<4x2x3x3xf32>, %u: tensor<2x4x3x3xf32>) {
  // CHECK: graph.contract %arg0, %arg1 {lhs_map = affine_map<(d0, d1, d2) -> (d0, d2)>, result_map = affine_map<(d0, d1, d2) -> (d0, d1)>, rhs_map = affine_map<(d0, d1, d2) -> (d2, d1)>} : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>
  %r0 = graph.contract %x, %y {lhs_map = affine_map<(d0, d1, d2) -> (d0, d2)>, result_map = affine_map<(d0, d1, d2) -> (d0, d1)>, rhs_map = affine_map<(d0, d1, d2) -> (d2, d1)>} : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>
  // CHECK: graph.conv %arg2, %arg3 {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x2x8x8xf32>, tensor<4x2x3x3xf32>) -> tensor<1x4x6x6xf32>
  %r1 = graph.conv %i, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x2x8x8xf32>, tensor<4x2x3x3xf32>) -> tensor<1x4x6x6xf32>
  // CHECK: graph.conv_transpose %arg2, %arg4 {dilations = array<i64: 1, 1>, group = 1 : i64, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x2x8x8xf32>, tensor<2x4x3x3xf32>) -> tensor<1x4x10x10xf32>
  %r2 = graph.conv_transpose %i, %u {dilations = array<i64: 1, 1>, group = 1 : i64, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x2x8x8xf32>, tensor<2x4x3x3xf32>) -> tensor<1x4x10x10xf32>
  return
}

// CHECK-LABEL: graph.kernel @row_max(
// CHECK-SAME: tensor<?x128xf32, #graph.dims<s0, 128>>) -> tensor<?xf32, #graph.dims<s0>>
// CHECK-SAME: origin = ["Softmax_12"]
// CHECK-SAME: symbols = ["s0"]
graph.kernel @row_max(%x: tensor<?x128xf32, #graph.dims<s0, 128>>) -> tensor<?xf32, #graph.dims<s0>> attributes {symbols = ["s0"], origin = ["Softmax_12"]} {
  // CHECK: graph.stage domain <s0> reduce <128> fold max init 0.000000e+00 : f32 : tensor<?xf32, #graph.dims<s0>>
  %m = graph.stage domain <s0> reduce <128> fold max init 0.0 : f32 : tensor<?xf32, #graph.dims<s0>> {
  ^bb0(%i: index, %k: index):
    // CHECK: [[V:%.*]] = graph.load %{{.*}}[affine_map<{{.*}}>] (%{{.*}}, %{{.*}}) : tensor<?x128xf32, #graph.dims<s0, 128>> -> f32
    %v = graph.load %x[affine_map<(d0, d1) -> (d0, d1)>](%i, %k) : tensor<?x128xf32, #graph.dims<s0, 128>> -> f32
    // CHECK: graph.yield [[V]] : f32
    graph.yield %v : f32
  }
  graph.return %m : tensor<?xf32, #graph.dims<s0>>
}

// CHECK-LABEL: graph.kernel @gather(
graph.kernel @gather(%x: tensor<10x4xf32>, %n: tensor<3xi64>) -> tensor<3x4xi32> attributes {symbols = []} {
  // CHECK: graph.stage domain <3, 4> : tensor<3x4xi32>
  %r = graph.stage domain <3, 4> : tensor<3x4xi32> {
  ^bb0(%i: index, %j: index):
    // CHECK: [[N:%.*]] = graph.load
    %v = graph.load %n[affine_map<(d0, d1) -> (d0)>](%i, %j) : tensor<3xi64> -> i64
    // CHECK: [[AT:%.*]] = graph.to_index [[N]] in <10>
    %at = graph.to_index %v in <10>
    // CHECK: [[ZERO:%.*]] = graph.literal 0.000000e+00 : f32 : f32
    %zero = graph.literal 0.0 : f32 : f32
    // CHECK: [[E:%.*]] = graph.load %{{.*}}[affine_map<{{.*}}>] (%{{.*}}, %{{.*}}, [[AT]]) guard affine_set<{{.*}}> else [[ZERO]] : f32 : tensor<10x4xf32> -> f32
    %e = graph.load %x[affine_map<(d0, d1, d2) -> (d2, d1 - 1)>](%i, %j, %at) guard affine_set<(d0, d1, d2) : (d1 - 1 >= 0)> else %zero : f32 : tensor<10x4xf32> -> f32
    // CHECK: graph.coord[affine_map<{{.*}}>] (%{{.*}}, %{{.*}})
    %c = graph.coord[affine_map<(d0, d1) -> (d0 * 4 + d1)>](%i, %j)
    // CHECK: graph.scalar_cast %{{.*}} : i64 -> f32
    %f = graph.scalar_cast %c : i64 -> f32
    // CHECK: [[S:%.*]] = graph.apply add([[E]], %{{.*}}) : (f32, f32) -> f32
    %s = graph.apply add(%e, %f) : (f32, f32) -> f32
    // CHECK: graph.scalar_cast [[S]] saturate : f32 -> i32
    %t = graph.scalar_cast %s saturate : f32 -> i32
    graph.yield %t : i32
  }
  graph.return %r : tensor<3x4xi32>
}

// CHECK-LABEL: func.func @main(
// CHECK-SAME: {graph.name = "x"}
// CHECK-SAME: {graph.name = "y"}
// CHECK-SAME: graph.symbols = ["batch"]
func.func @main(%a: tensor<?x128xf32, #graph.dims<s0, 128>> {graph.name = "x"}) -> (tensor<?xf32, #graph.dims<s0>> {graph.name = "y"}) attributes {graph.symbols = ["batch"]} {
  // CHECK: graph.call @row_max(%{{.*}}) symbols <s0> : (tensor<?x128xf32, #graph.dims<s0, 128>>) -> tensor<?xf32, #graph.dims<s0>>
  %r = graph.call @row_max(%a) symbols <s0> : (tensor<?x128xf32, #graph.dims<s0, 128>>) -> tensor<?xf32, #graph.dims<s0>>
  return %r : tensor<?xf32, #graph.dims<s0>>
}

// Semi-affine sizes: products and quotients of symbols.
// CHECK-LABEL: func.func @semi_affine(
// CHECK-SAME: #graph.dims<s0 * s1, s0 floordiv (s1 * 2) + 1>
func.func @semi_affine(%a: tensor<?x?xf32, #graph.dims<s0 * s1, s0 floordiv (s1 * 2) + 1>>) {
  return
}
