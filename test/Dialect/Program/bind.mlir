// A symbol whose value a buffer holds, and sizes that must be equal: printing, parsing, and what is wrong.
// RUN: split-file %s %t
// RUN: dlc-opt %t/good.mlir | dlc-opt -mlir-print-local-scope | FileCheck %s
// RUN: dlc-opt %t/bad.mlir -split-input-file -verify-diagnostics

//--- good.mlir
// CHECK: program.bind 1 to %{{.*}} bound affine_map<()[s0, s1] -> (s0)> {origin = ["find"]}
program.model @m symbols ["n", "kept"] {
  %x = program.input 0 "count" : tensor<1xi64>
  program.bind 1 to %x bound affine_map<()[s0, s1] -> (s0)> {origin = ["find"]}
  // CHECK: program.require affine_map<()[s0, s1] -> (s0)> is affine_map<()[s0, s1] -> (s1 + 1)> at "add: dim 0"
  program.require affine_map<()[s0, s1] -> (s0)> is affine_map<()[s0, s1] -> (s1 + 1)> at "add: dim 0"
}

//--- bad.mlir
program.model @no_symbol symbols ["n"] {
  %x = program.input 0 "count" : tensor<1xi64>
  // expected-error@+1 {{binds symbol 1, the model has 1}}
  program.bind 1 to %x bound affine_map<()[s0] -> (s0)>
}

// -----

program.model @foreign_bound symbols ["n"] {
  %x = program.input 0 "count" : tensor<1xi64>
  // expected-error@+1 {{size uses 2 symbols, the model has 1}}
  program.bind 0 to %x bound affine_map<()[s0, s1] -> (s1)>
}

// -----

program.model @foreign_size symbols ["n"] {
  // expected-error@+1 {{size uses 2 symbols, the model has 1}}
  program.require affine_map<()[s0] -> (s0)> is affine_map<()[s0, s1] -> (s1)> at "add"
}
