// What the verifiers say of broken programs.
// RUN: dlc-opt %s -split-input-file -verify-diagnostics

// expected-error@+1 {{has 1 symbols and 0 ranges}}
program.model @ranges symbols ["n"] attributes {ranges = []} {
}

// -----

// expected-error@+1 {{ranges are triples 0 <= smallest <= typical <= largest}}
program.model @triple symbols ["n"] attributes {ranges = [array<i64: 4, 2, 3>]} {
}

// -----

program.model @order symbols [] {
  // expected-error@+1 {{is input 1, expected 0}}
  %x = program.input 1 "x" : tensor<4xf32>
}

// -----

program.model @foreign symbols [] {
  // expected-error@+1 {{may not stand in a program.model}}
  %c = graph.constant dense<1.0> : tensor<4xf32>
}

// -----

program.model @size symbols [] {
  // expected-error@+1 {{size uses 1 symbols, the model has 0}}
  %t = program.alloc affine_map<()[s0] -> (s0)>
}

// -----

program.model @alignment symbols [] {
  // expected-error@+1 {{offset 100 is not a multiple of 64}}
  %t = program.alloc affine_map<() -> (4)> offset 100
}

// -----

program.model @both symbols [] {
  // expected-error@+1 {{has an offset or a slot, not both}}
  %t = program.alloc affine_map<() -> (4)> offset 64 slot 0
}

// -----

program.model @input_is_read_only symbols [] {
  %x = program.input 0 "x" : tensor<4xf32>
  // expected-error@+1 {{writes the buffer of a program.input}}
  program.copy %x to %x size affine_map<() -> (16)>
}

// -----

program.model @callee symbols [] {
  %t = program.alloc affine_map<() -> (4)>
  // expected-error@+1 {{no kernel 'k'}}
  program.call @k() -> (%t)
}

// -----

program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64}
program.model @counts symbols [] {
  %t = program.alloc affine_map<() -> (4)>
  // expected-error@+1 {{has 0 operands, 1 results and 0 symbols, the kernel 1, 1 and 0}}
  program.call @k() -> (%t)
}

// -----

// expected-error@+1 {{has 1 phases and 0 task counts}}
program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, phases = ["k"]}

// -----

// expected-error@+1 {{has 1 variants, 2 limits and a size that chooses}}
program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 1 : i64, size = affine_map<()[s0] -> (s0)>, limits = array<i64: 1, 2>, variants = [@v]}

// -----

// expected-error@+1 {{chooses by one size, between ascending limits}}
program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 1 : i64, size = affine_map<()[s0] -> (s0)>, limits = array<i64: 2, 2>, variants = [@v, @v]}

// -----

// expected-error@+1 {{no kernel 'v'}}
program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 1 : i64, size = affine_map<()[s0] -> (s0)>, limits = array<i64: 2>, variants = [@v]}

// -----

program.kernel @v {num_args = 2 : i64, num_outs = 1 : i64, num_symbols = 1 : i64}
// expected-error@+1 {{variant 'v' is called in another way}}
program.kernel @k {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 1 : i64, size = affine_map<()[s0] -> (s0)>, limits = array<i64: 2>, variants = [@v]}

// -----

// expected-error @below {{in_place names operand 1 and result 0, which it has not}}
program.kernel @in_place {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, in_place = array<i64: 1, 0>}

// -----

// expected-error @below {{in_place is no list of pairs}}
program.kernel @in_place {num_args = 1 : i64, num_outs = 1 : i64, num_symbols = 0 : i64, in_place = array<i64: 0>}
