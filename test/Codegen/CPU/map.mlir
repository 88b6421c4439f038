// Lanes along the result's last axis: whole vectors, then masks on AVX-512 and
// single elements on NEON.
// RUN: dlc %s -name=m -target=x86:cpu=x86-64-v4 -emit=llvm -o - -q | FileCheck %s --check-prefix=AVX512
// RUN: dlc %s -name=m -target=arm -emit=llvm -o - -q | FileCheck %s --check-prefix=NEON

// AVX512-LABEL: define internal void @m_add_0.impl(
// AVX512: load <16 x float>
// AVX512: fadd <16 x float>
// AVX512: store <16 x float>
// AVX512: @llvm.masked.load.v16f32
// AVX512: @llvm.masked.store.v16f32

// NEON-LABEL: define internal void @m_add_0.impl(
// NEON: load <4 x float>
// NEON: fadd <4 x float>
// NEON: store <4 x float>
// NEON-NOT: masked
// NEON: fadd float
func.func @main(%x: tensor<8x101xf32> {graph.name = "x"}, %y: tensor<101xf32> {graph.name = "y"})
    -> (tensor<8x101xf32> {graph.name = "z"}) attributes {graph.symbols = []} {
  %0 = graph.add %x, %y : (tensor<8x101xf32>, tensor<101xf32>) -> tensor<8x101xf32>
  return %0 : tensor<8x101xf32>
}
