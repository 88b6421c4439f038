// Images of bf16: read in pairs where they lie, on machines whose dot products
// of pairs are faster than multiply-adds; else stored as float32; with matrix
// tiles they keep their layout. The model's input, of few channels, has no
// pairs and is copied to float32.
// RUN: dlc %s -target=x86:cpu=znver5 -emit=kernels -o - -q | FileCheck %s --check-prefix=PAIRS
// RUN: dlc %s -target=x86:cpu=x86-64-v3 -emit=kernels -o - -q | FileCheck %s --check-prefix=WIDE
// RUN: dlc %s -target=x86:cpu=sapphirerapids -emit=kernels -o - -q | FileCheck %s --check-prefix=KEPT
// PAIRS: graph.kernel @copy_last(%arg0: tensor<1x3x8x8xbf16>) -> tensor<1x3x8x8xf32>
// PAIRS: graph.kernel {{.*}}(%arg0: tensor<1x3x8x8xf32>, {{.*}} -> tensor<1x8x8x16xbf16>
// PAIRS: graph.kernel {{.*}}(%arg0: tensor<1x8x8x16xbf16>, {{.*}} -> tensor<1x8x8x16xbf16>
// WIDE: graph.kernel {{.*}}(%arg0: tensor<1x3x8x8xf32>, {{.*}} -> tensor<1x8x8x16xf32>
// WIDE: graph.kernel {{.*}}(%arg0: tensor<1x8x8x16xf32>, {{.*}} -> tensor<1x8x8x16xf32>
// KEPT: graph.kernel {{.*}}(%arg0: tensor<1x3x8x8xbf16>, {{.*}} -> tensor<1x16x8x8xbf16>
// KEPT: graph.kernel {{.*}}(%arg0: tensor<1x16x8x8xbf16>, {{.*}} -> tensor<1x16x8x8xbf16>
func.func @main(%x: tensor<1x3x8x8xbf16> {graph.name = "x"}) -> (tensor<1x16x8x8xbf16> {graph.name = "y"}) attributes {graph.symbols = []} {
  %v = graph.constant dense<0.5> : tensor<16x3x3x3xbf16>
  %w = graph.constant dense<0.5> : tensor<16x16x1x1xbf16>
  %a = graph.conv %x, %v {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 1, 1>, pads_low = array<i64: 1, 1>, strides = array<i64: 1, 1>} : (tensor<1x3x8x8xbf16>, tensor<16x3x3x3xbf16>) -> tensor<1x16x8x8xbf16>
  %b = graph.conv %a, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x16x8x8xbf16>, tensor<16x16x1x1xbf16>) -> tensor<1x16x8x8xbf16>
  %c = graph.conv %b, %w {dilations = array<i64: 1, 1>, group = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0>, pads_high = array<i64: 0, 0>, pads_low = array<i64: 0, 0>, strides = array<i64: 1, 1>} : (tensor<1x16x8x8xbf16>, tensor<16x16x1x1xbf16>) -> tensor<1x16x8x8xbf16>
  return %c : tensor<1x16x8x8xbf16>
}
