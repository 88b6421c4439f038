// Every operation and attribute form survives printing and parsing.
// RUN: dlc-opt %s | dlc-opt -mlir-print-local-scope | FileCheck %s

// CHECK-LABEL: program.model @mlp symbols ["batch"]
// CHECK-SAME: arena_bytes = affine_map<()[s0] -> (s0 * 512)>
// CHECK-SAME: ranges = [array<i64: 1, 64, 8>]
program.model @mlp symbols ["batch"] attributes {arena_bytes = affine_map<()[s0] -> (s0 * 512)>, ranges = [array<i64: 1, 64, 8>]} {
  // CHECK: [[X:%.*]] = program.input 0 "x" : tensor<?x64xf32, #{{.*}}>
  %x = program.input 0 "x" : tensor<?x64xf32, #graph.dims<s0, 64>>
  // CHECK: [[Y:%.*]] = program.output 0 "y" : tensor<?x64xf32, #{{.*}}>
  %y = program.output 0 "y" : tensor<?x64xf32, #graph.dims<s0, 64>>
  // CHECK: [[Z:%.*]] = program.output 1 "z"
  %z = program.output 1 "z" : tensor<?x64xf32, #graph.dims<s0, 64>>
  // CHECK: [[C:%.*]] = program.constant dense<1.000000e+00> : tensor<64xf32>
  %c = program.constant dense<1.0> : tensor<64xf32>
  // CHECK: program.constant layout "panel32" bytes 512 offset 64 dense<2.000000e+00> : tensor<64xf32>
  %p = program.constant layout "panel32" bytes 512 offset 64 dense<2.0> : tensor<64xf32>
  // CHECK: [[T:%.*]] = program.alloc affine_map<()[s0] -> (s0 * 256)> offset 128
  %t = program.alloc affine_map<()[s0] -> (s0 * 256)> offset 128
  // CHECK: program.alloc affine_map<()[s0] -> (s0 * 256)> slot 1
  %u = program.alloc affine_map<()[s0] -> (s0 * 256)> slot 1
  // CHECK: program.call @k([[X]], [[C]]) -> ([[T]]) symbols affine_map<()[s0] -> (s0)> {origin = ["Add_0"]}
  program.call @k(%x, %c) -> (%t) symbols affine_map<()[s0] -> (s0)> {origin = ["Add_0"]}
  // CHECK: program.copy [[X]] to [[Z]] size affine_map<()[s0] -> (s0 * 256)>
  program.copy %x to %z size affine_map<()[s0] -> (s0 * 256)>
}

// CHECK: program.kernel @k
// CHECK-SAME: can_fail
// CHECK-SAME: phases = ["mlp_k"]
// CHECK-SAME: scratch = affine_map<()[s0] -> (0)>
// CHECK-SAME: tasks = affine_map<()[s0] -> (s0 ceildiv 4)>
program.kernel @k {can_fail, num_args = 2 : i64, num_outs = 1 : i64, num_symbols = 1 : i64, nest = "map", phases = ["mlp_k"],
                   scratch = affine_map<()[s0] -> (0)>, tasks = affine_map<()[s0] -> (s0 ceildiv 4)>}
