// Plans with parts of buffers: right ones, and each kind of wrong one.
// RUN: dlc-opt %s -split-input-file -verify-diagnostics -pass-pipeline='builtin.module(program.model(program-check-memory))'

program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
program.kernel @p {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, pitches = array<i64: 0, 0, 64, 128>}
program.kernel @over {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, in_place = array<i64: 0, 0>}
// Runs side by side; a result in the place of the whole.
program.model @right symbols [] {
  %x = program.input 0 "x" : tensor<32xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %w = program.alloc affine_map<() -> (256)> offset 0
  %a = program.slice %w at 0 run 64 pitch 128 count 2
  program.call @p(%x) -> (%a)
  %b = program.slice %w at 64 run 64 pitch 128 count 2
  program.call @p(%x) -> (%b)
  %s = program.alloc affine_map<() -> (256)> offset 0
  program.call @over(%w) -> (%s)
  program.call @k(%s) -> (%y)
}
// One behind the other; of an output.
program.model @output symbols [] {
  %x = program.input 0 "x" : tensor<32xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %a = program.slice %y at 0 run 64 pitch 256 count 1
  program.call @k(%x) -> (%a)
  %b = program.slice %y at 64 run 192 pitch 256 count 1
  program.call @k(%x) -> (%b)
}

// -----

program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
program.model @overlapping symbols [] {
  %x = program.input 0 "x" : tensor<32xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %w = program.alloc affine_map<() -> (256)> offset 0
  %a = program.slice %w at 0 run 128 pitch 256 count 1
  program.call @k(%x) -> (%a)
  // expected-error @below {{shares bytes with another part}}
  %b = program.slice %w at 64 run 128 pitch 256 count 1
  program.call @k(%x) -> (%b)
  program.call @k(%w) -> (%y)
}

// -----

program.kernel @p {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, pitches = array<i64: 0, 0, 64, 128>}
program.model @interleaved symbols [] {
  %x = program.input 0 "x" : tensor<32xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %w = program.alloc affine_map<() -> (256)> offset 0
  %a = program.slice %w at 0 run 64 pitch 128 count 2
  program.call @p(%x) -> (%a)
  // expected-error @below {{shares bytes with another part}}
  %b = program.slice %w at 32 run 64 pitch 128 count 2
  program.call @p(%x) -> (%b)
}

// -----

program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
program.model @gap symbols [] {
  %x = program.input 0 "x" : tensor<32xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  // expected-error @below {{has parts of 192 bytes, and is 256 bytes}}
  %w = program.alloc affine_map<() -> (256)> offset 0
  %a = program.slice %w at 0 run 128 pitch 256 count 1
  program.call @k(%x) -> (%a)
  %b = program.slice %w at 128 run 64 pitch 256 count 1
  program.call @k(%x) -> (%b)
  program.call @k(%w) -> (%y)
}

// -----

program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
program.model @unwritten symbols [] {
  %x = program.input 0 "x" : tensor<32xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %w = program.alloc affine_map<() -> (256)> offset 0
  %a = program.slice %w at 0 run 128 pitch 256 count 1
  program.call @k(%x) -> (%a)
  %b = program.slice %w at 128 run 128 pitch 256 count 1
  // expected-error @below {{reads a buffer of which no step has written a part}}
  program.call @k(%w) -> (%y)
  program.call @k(%x) -> (%b)
}

// -----

// Another buffer lies over one part.
program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
program.model @spoiled symbols [] {
  %x = program.input 0 "x" : tensor<32xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %w = program.alloc affine_map<() -> (256)> offset 0
  %a = program.slice %w at 0 run 128 pitch 256 count 1
  program.call @k(%x) -> (%a)
  %b = program.slice %w at 128 run 128 pitch 256 count 1
  program.call @k(%x) -> (%b)
  %t = program.alloc affine_map<() -> (128)> offset 128
  // expected-note @below {{by this one}}
  program.call @k(%x) -> (%t)
  // expected-error @below {{reads a buffer that another step has overwritten}}
  program.call @k(%w) -> (%y)
}

// -----

// A kernel that stores its rows one after the other.
program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
program.model @dense symbols [] {
  %x = program.input 0 "x" : tensor<32xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %a = program.slice %y at 0 run 64 pitch 128 count 2
  // expected-error @below {{tensor 1 is stored in other runs than its kernel keeps}}
  program.call @k(%x) -> (%a)
  %b = program.slice %y at 64 run 64 pitch 128 count 2
  program.call @k(%x) -> (%b)
}

// -----

// A kernel that keeps a distance where there is none.
program.kernel @p {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, pitches = array<i64: 0, 0, 64, 128>}
program.model @apart symbols [] {
  %x = program.input 0 "x" : tensor<32xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  // expected-error @below {{tensor 1 is stored in other runs than its kernel keeps}}
  program.call @p(%x) -> (%y)
}

// -----

// Over a part of what it reads.
program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, in_place = array<i64: 0, 0>}
program.model @part symbols [] {
  %x = program.input 0 "x" : tensor<32xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %w = program.alloc affine_map<() -> (256)> offset 0
  %a = program.slice %w at 0 run 128 pitch 256 count 1
  program.call @k(%x) -> (%a)
  %b = program.slice %w at 128 run 128 pitch 256 count 1
  program.call @k(%x) -> (%b)
  %t = program.alloc affine_map<() -> (128)> offset 0
  // expected-error @below {{stores result 0 over operand 0, which it may not}}
  program.call @k(%w) -> (%t)
}

// -----

program.model @behind symbols [] {
  %w = program.alloc affine_map<() -> (256)> offset 0
  // expected-error @below {{ends behind the buffer, or that has no constant size}}
  %a = program.slice %w at 192 run 128 pitch 256 count 1
}

// -----

// A part that holds two others, whose rows lie apart, and is read by a kernel
// that keeps their distance.
program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
program.kernel @p {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, pitches = array<i64: 0, 0, 32, 128>}
program.kernel @q {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, pitches = array<i64: 64, 128, 64, 128>}
program.model @nested symbols [] {
  %x = program.input 0 "x" : tensor<32xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %w = program.alloc affine_map<() -> (256)> offset 0
  %a = program.slice %w at 0 run 32 pitch 128 count 2
  program.call @p(%x) -> (%a)
  %b = program.slice %w at 32 run 32 pitch 128 count 2
  program.call @p(%x) -> (%b)
  %ab = program.slice %w at 0 run 64 pitch 128 count 2
  %c = program.slice %w at 64 run 64 pitch 128 count 2
  program.call @q(%ab) -> (%c)
  program.call @k(%w) -> (%y)
}

// -----

program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
program.kernel @p {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, pitches = array<i64: 0, 0, 64, 128>}
program.kernel @q {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, pitches = array<i64: 96, 128, 0, 0>}
program.model @cut symbols [] {
  %x = program.input 0 "x" : tensor<32xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %w = program.alloc affine_map<() -> (256)> offset 0
  %a = program.slice %w at 0 run 64 pitch 128 count 2
  program.call @p(%x) -> (%a)
  %b = program.slice %w at 64 run 64 pitch 128 count 2
  program.call @p(%x) -> (%b)
  // expected-error @below {{cuts another part}}
  %ab = program.slice %w at 0 run 96 pitch 128 count 2
  program.call @q(%ab) -> (%y)
}

// -----

program.kernel @p {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, pitches = array<i64: 0, 0, 64, 128>}
program.kernel @q {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, pitches = array<i64: 64, 128, 64, 128>}
program.model @early symbols [] {
  %x = program.input 0 "x" : tensor<32xf32>
  %y = program.output 0 "y" : tensor<64xf32>
  %a = program.slice %y at 0 run 64 pitch 128 count 2
  %b = program.slice %y at 64 run 64 pitch 128 count 2
  // expected-error @below {{reads a buffer of which no step has written a part}}
  program.call @q(%a) -> (%b)
  program.call @p(%x) -> (%a)
}
