// Buffers that do not live together share memory.
// RUN: dlc-opt %s -split-input-file -pass-pipeline='builtin.module(program.model(program-plan-memory))' -mlir-print-local-scope | FileCheck %s

program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
// A chain needs the two largest neighbours only; the third buffer takes the first one's place.
// CHECK-LABEL: program.model @chain
// CHECK-SAME: arena_bytes = affine_map<() -> (320)>
// CHECK: program.alloc affine_map<() -> (256)> offset 0
// CHECK: program.alloc affine_map<() -> (64)> offset 256
// CHECK: program.alloc affine_map<() -> (200)> offset 0
program.model @chain symbols [] {
  %x = program.input 0 "x" : tensor<4xf32>
  %y = program.output 0 "y" : tensor<4xf32>
  %a = program.alloc affine_map<() -> (256)>
  program.call @k(%x) -> (%a)
  %b = program.alloc affine_map<() -> (64)>
  program.call @k(%a) -> (%b)
  %c = program.alloc affine_map<() -> (200)>
  program.call @k(%b) -> (%c)
  program.call @k(%c) -> (%y)
}

// The skip keeps @a alive over the whole chain: nothing may take its place.
// CHECK-LABEL: program.model @skip
// CHECK-SAME: arena_bytes = affine_map<() -> (384)>
// CHECK: program.alloc affine_map<() -> (256)> offset 0
// CHECK: program.alloc affine_map<() -> (64)> offset 256
// CHECK: program.alloc affine_map<() -> (64)> offset 320
program.model @skip symbols [] {
  %x = program.input 0 "x" : tensor<4xf32>
  %y = program.output 0 "y" : tensor<4xf32>
  %z = program.output 1 "z" : tensor<4xf32>
  %a = program.alloc affine_map<() -> (256)>
  program.call @k(%x) -> (%a)
  %b = program.alloc affine_map<() -> (64)>
  program.call @k(%a) -> (%b)
  %c = program.alloc affine_map<() -> (64)>
  program.call @k(%b) -> (%c)
  program.call @k(%c) -> (%y)
  program.call @k(%a) -> (%z)
}

// An empty buffer has a place of its own all the same.
// CHECK-LABEL: program.model @empty
// CHECK-SAME: arena_bytes = affine_map<() -> (64)>
// CHECK: program.alloc affine_map<() -> (0)> offset 0
program.model @empty symbols [] {
  %x = program.input 0 "x" : tensor<0xf32>
  %y = program.output 0 "y" : tensor<0xf32>
  %a = program.alloc affine_map<() -> (0)>
  program.call @k(%x) -> (%a)
  program.call @k(%a) -> (%y)
}

// -----

program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
// Symbolic sizes share slots; the constant one joins the slot that is free.
// CHECK-LABEL: program.model @slots
// CHECK-NOT: arena_bytes
// CHECK: program.alloc affine_map<()[s0] -> (s0 * 4)> slot 0
// CHECK: program.alloc affine_map<()[s0] -> (s0 * 8)> slot 1
// CHECK: program.alloc affine_map<() -> (64)> slot 0
program.model @slots symbols ["n"] {
  %x = program.input 0 "x" : tensor<4xf32>
  %y = program.output 0 "y" : tensor<4xf32>
  %a = program.alloc affine_map<()[s0] -> (s0 * 4)>
  program.call @k(%x) -> (%a)
  %b = program.alloc affine_map<()[s0] -> (s0 * 8)>
  program.call @k(%a) -> (%b)
  %c = program.alloc affine_map<() -> (64)>
  program.call @k(%b) -> (%c)
  program.call @k(%c) -> (%y)
}
