// A result takes the buffer of an operand that dies at its call, where the
// kernel allows it.
// RUN: dlc-opt %s -split-input-file -pass-pipeline='builtin.module(program.model(program-plan-memory,program-check-memory))' -mlir-print-local-scope | FileCheck %s

program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
program.kernel @add {num_args = 2 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, in_place = array<i64: 1, 0>}
// CHECK-LABEL: program.model @residual
// CHECK-SAME: arena_bytes = affine_map<() -> (512)>
// CHECK: program.alloc affine_map<() -> (256)> offset [[R:[0-9]+]]
// CHECK: program.alloc affine_map<() -> (256)> offset [[T:[0-9]+]]
// CHECK: program.alloc affine_map<() -> (256)> offset [[R]]
program.model @residual symbols [] {
  %x = program.input 0 "x" : tensor<64xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %r = program.alloc affine_map<() -> (256)>
  program.call @k(%x) -> (%r)
  %t = program.alloc affine_map<() -> (256)>
  program.call @k(%r) -> (%t)
  %s = program.alloc affine_map<() -> (256)>
  program.call @add(%t, %r) -> (%s)
  program.call @k(%s) -> (%y)
}

// Not over: an operand that is read later, one that is an input, the one that
// the kernel does not name, one of another size, one that is both operands.
// CHECK-LABEL: program.model @kept
// CHECK-SAME: arena_bytes = affine_map<() -> (768)>
program.model @kept symbols [] {
  %x = program.input 0 "x" : tensor<64xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %z = program.output 1 "z" : tensor<64xf32>
  %r = program.alloc affine_map<() -> (256)>
  program.call @k(%x) -> (%r)
  %t = program.alloc affine_map<() -> (256)>
  program.call @k(%x) -> (%t)
  %s = program.alloc affine_map<() -> (256)>
  program.call @add(%t, %r) -> (%s)
  program.call @add(%s, %r) -> (%y)
  program.call @k(%r) -> (%z)
}
// CHECK-LABEL: program.model @input
// CHECK-SAME: arena_bytes = affine_map<() -> (512)>
program.model @input symbols [] {
  %x = program.input 0 "x" : tensor<64xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %t = program.alloc affine_map<() -> (256)>
  program.call @k(%x) -> (%t)
  %s = program.alloc affine_map<() -> (256)>
  program.call @add(%t, %x) -> (%s)
  program.call @k(%s) -> (%y)
}
// CHECK-LABEL: program.model @sizes
// CHECK-SAME: arena_bytes = affine_map<() -> (448)>
program.model @sizes symbols [] {
  %x = program.input 0 "x" : tensor<64xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %t = program.alloc affine_map<() -> (256)>
  program.call @k(%x) -> (%t)
  %s = program.alloc affine_map<() -> (192)>
  program.call @add(%x, %t) -> (%s)
  program.call @k(%s) -> (%y)
}
// CHECK-LABEL: program.model @twice
// CHECK-SAME: arena_bytes = affine_map<() -> (512)>
program.model @twice symbols [] {
  %x = program.input 0 "x" : tensor<64xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %t = program.alloc affine_map<() -> (256)>
  program.call @k(%x) -> (%t)
  %s = program.alloc affine_map<() -> (256)>
  program.call @add(%t, %t) -> (%s)
  program.call @k(%s) -> (%y)
}

// -----

// Variants must allow it too.
program.kernel @v {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
program.kernel @v2 {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, in_place = array<i64: 0, 0>}
program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, in_place = array<i64: 0, 0>, size = affine_map<() -> (1)>, limits = array<i64: 4>, variants = [@v]}
program.kernel @k2 {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, in_place = array<i64: 0, 0>, size = affine_map<() -> (1)>, limits = array<i64: 4>, variants = [@v2]}
// CHECK-LABEL: program.model @variants
// CHECK-SAME: arena_bytes = affine_map<() -> (512)>
program.model @variants symbols [] {
  %x = program.input 0 "x" : tensor<64xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %t = program.alloc affine_map<() -> (256)>
  program.call @k(%x) -> (%t)
  %s = program.alloc affine_map<() -> (256)>
  program.call @k(%t) -> (%s)
  program.call @k(%s) -> (%y)
}
// CHECK-LABEL: program.model @variants2
// CHECK-SAME: arena_bytes = affine_map<() -> (256)>
program.model @variants2 symbols [] {
  %x = program.input 0 "x" : tensor<64xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %t = program.alloc affine_map<() -> (256)>
  program.call @k2(%x) -> (%t)
  %s = program.alloc affine_map<() -> (256)>
  program.call @k2(%t) -> (%s)
  program.call @k2(%s) -> (%y)
}

// -----

// Symbolic sizes: one slot. In a loop: buffers of the body itself, not what it
// carries.
program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, in_place = array<i64: 0, 0>}
// CHECK-LABEL: program.model @slots
// CHECK: program.alloc affine_map<()[s0] -> (s0 * 4)> slot 0
// CHECK: program.alloc affine_map<()[s0] -> (s0 * 4)> slot 0
// CHECK: program.alloc affine_map<()[s0] -> (s0 * 8)> slot 1
program.model @slots symbols ["n"] {
  %x = program.input 0 "x" : tensor<4xf32>
  %y = program.output 0 "y" : tensor<4xf32>
  %a = program.alloc affine_map<()[s0] -> (s0 * 4)>
  program.call @k(%x) -> (%a)
  %b = program.alloc affine_map<()[s0] -> (s0 * 4)>
  program.call @k(%a) -> (%b)
  %c = program.alloc affine_map<()[s0] -> (s0 * 8)>
  program.call @k(%b) -> (%c)
  program.call @k(%c) -> (%y)
}

// CHECK-LABEL: program.model @loop
// CHECK: program.alloc affine_map<() -> (256)> offset [[A:[0-9]+]]
// CHECK: program.alloc affine_map<() -> (256)> offset [[B:[0-9]+]]
// CHECK: program.loop
// CHECK: program.alloc affine_map<() -> (256)> offset [[C:[0-9]+]]
// CHECK: program.alloc affine_map<() -> (256)> offset [[C]]
program.model @loop symbols [] {
  %x = program.input 0 "x" : tensor<64xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %a = program.alloc affine_map<() -> (256)>
  program.call @k(%x) -> (%a)
  %b = program.alloc affine_map<() -> (256)>
  %last = program.loop current(%a) next(%b) stacked() attributes {trips = affine_map<() -> (3)>} : !program.buffer {
  ^bb0(%cur: !program.buffer, %new: !program.buffer):
    %c = program.alloc affine_map<() -> (256)>
    program.call @k(%cur) -> (%c)
    %d = program.alloc affine_map<() -> (256)>
    program.call @k(%c) -> (%d)
    program.call @k(%d) -> (%new)
  }
  program.call @k(%last) -> (%y)
}
