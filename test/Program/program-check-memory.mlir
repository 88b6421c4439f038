// Plans that spoil what is still read are refused.
// RUN: dlc-opt %s -split-input-file -verify-diagnostics -pass-pipeline='builtin.module(program.model(program-check-memory))'

program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
program.kernel @add {num_args = 2 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, in_place = array<i64: 1, 0>}
program.model @right symbols [] {
  %x = program.input 0 "x" : tensor<64xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %r = program.alloc affine_map<() -> (256)> offset 0
  program.call @k(%x) -> (%r)
  %t = program.alloc affine_map<() -> (256)> offset 256
  program.call @k(%r) -> (%t)
  %s = program.alloc affine_map<() -> (256)> offset 0
  program.call @add(%t, %r) -> (%s)
  program.call @k(%s) -> (%y)
}
program.model @operand symbols [] {
  %x = program.input 0 "x" : tensor<64xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %r = program.alloc affine_map<() -> (256)> offset 0
  program.call @k(%x) -> (%r)
  %t = program.alloc affine_map<() -> (256)> offset 256
  program.call @k(%r) -> (%t)
  %s = program.alloc affine_map<() -> (256)> offset 256
  // expected-error @below {{stores result 0 over operand 0, which it may not}}
  program.call @add(%t, %r) -> (%s)
  program.call @k(%s) -> (%y)
}

// -----

program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, in_place = array<i64: 0, 0>}
program.model @shifted symbols [] {
  %x = program.input 0 "x" : tensor<64xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %r = program.alloc affine_map<() -> (256)> offset 0
  program.call @k(%x) -> (%r)
  %s = program.alloc affine_map<() -> (256)> offset 64
  // expected-error @below {{stores result 0 over operand 0, which it may not}}
  program.call @k(%r) -> (%s)
  program.call @k(%s) -> (%y)
}

// -----

program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, in_place = array<i64: 0, 0>}
program.model @smaller symbols [] {
  %x = program.input 0 "x" : tensor<64xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %r = program.alloc affine_map<() -> (256)> offset 0
  program.call @k(%x) -> (%r)
  %s = program.alloc affine_map<() -> (128)> offset 0
  // expected-error @below {{stores result 0 over operand 0, which it may not}}
  program.call @k(%r) -> (%s)
  program.call @k(%s) -> (%y)
}

// -----

program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, in_place = array<i64: 0, 0>}
program.model @later symbols [] {
  %x = program.input 0 "x" : tensor<64xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %z = program.output 1 "z" : tensor<64xf32>
  %r = program.alloc affine_map<() -> (256)> offset 0
  program.call @k(%x) -> (%r)
  %s = program.alloc affine_map<() -> (256)> offset 0
  // expected-note @below {{by this one}}
  program.call @k(%r) -> (%s)
  program.call @k(%s) -> (%y)
  // expected-error @below {{reads a buffer that another step has overwritten}}
  program.call @k(%r) -> (%z)
}

// -----

program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
program.model @slot symbols ["n"] {
  %x = program.input 0 "x" : tensor<64xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %r = program.alloc affine_map<()[s0] -> (s0)> slot 1
  program.call @k(%x) -> (%r)
  %s = program.alloc affine_map<()[s0] -> (s0)> slot 1
  // expected-error @below {{stores result 0 over operand 0, which it may not}}
  program.call @k(%r) -> (%s)
  program.call @k(%s) -> (%y)
}

// -----

// The second iteration sees what the first one left.
program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
program.model @loop symbols [] {
  %x = program.input 0 "x" : tensor<64xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %w = program.alloc affine_map<() -> (256)> offset 512
  program.call @k(%x) -> (%w)
  %a = program.alloc affine_map<() -> (256)> offset 0
  program.call @k(%x) -> (%a)
  %b = program.alloc affine_map<() -> (256)> offset 256
  %last = program.loop current(%a) next(%b) stacked() attributes {trips = affine_map<() -> (3)>} : !program.buffer {
  ^bb0(%cur: !program.buffer, %new: !program.buffer):
    %c = program.alloc affine_map<() -> (256)> offset 768
    // expected-error @below {{reads a buffer that another step has overwritten}}
    program.call @k(%w) -> (%c)
    %d = program.alloc affine_map<() -> (256)> offset 512
    // expected-note @below {{by this one}}
    program.call @k(%c) -> (%d)
    program.call @k(%d) -> (%new)
  }
  program.call @k(%last) -> (%y)
}
