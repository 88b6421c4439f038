// RUN: split-file %s %t
// RUN: dlc-opt %t/model.mlir -graph-make-state="pairs=auto" | FileCheck %s
// RUN: dlc-opt %t/model.mlir -graph-make-state="pairs=past_k:present_k,past_v:present_v" | FileCheck %s
// RUN: dlc-opt %t/model.mlir -graph-make-state="pairs=past_k:present_k" | FileCheck %s --check-prefix=ONE
// RUN: dlc-opt %t/model.mlir -graph-make-state="pairs=auto bits=8" | FileCheck %s --check-prefix=INT8
// RUN: dlc-opt %t/placed.mlir -graph-make-state="pairs=auto" | FileCheck %s --check-prefix=PLACED
// RUN: dlc-opt %t/placed.mlir -graph-make-state="pairs=auto bits=8" | FileCheck %s --check-prefix=ROUNDED
// RUN: not dlc-opt %t/model.mlir -graph-make-state="pairs=past_k:present_v" 2>&1 | FileCheck %s --check-prefix=OTHER
// RUN: not dlc-opt %t/model.mlir -graph-make-state="pairs=past_x:present_k" 2>&1 | FileCheck %s --check-prefix=NAME
// RUN: not dlc-opt %t/model.mlir -graph-make-state="pairs=past_k:present_k,past_k:present_k" 2>&1 | FileCheck %s --check-prefix=TWICE
// RUN: not dlc-opt %t/read.mlir -graph-make-state="pairs=auto" 2>&1 | FileCheck %s --check-prefix=AUTO
// RUN: not dlc-opt %t/read.mlir -graph-make-state="pairs=past:present" 2>&1 | FileCheck %s --check-prefix=READ
// RUN: not dlc-opt %t/static.mlir -graph-make-state="pairs=past:present" 2>&1 | FileCheck %s --check-prefix=STATIC
// RUN: not dlc-opt %t/unknown.mlir -graph-make-state="pairs=past:present" 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: not dlc-opt %t/last.mlir -graph-make-state="pairs=past:present bits=8" 2>&1 | FileCheck %s --check-prefix=LAST

// OTHER: -state=past_k:present_v: the output does not append to the input or replace rows of it: it is not Concat of the input and new rows
// NAME: -state=past_x:present_k: the model has no such input and output
// TWICE: -state=past_k:present_k: is given twice
// AUTO: -state=auto: no output is Concat of an input and new rows along a symbolic axis
// READ: -state=past:present: the output does not append to the input or replace rows of it: something else reads the input too
// STATIC: the input's dim 1 is not a symbol alone
// UNKNOWN: dim 0 of 'past' ('batch') is neither a number nor a dim of another input
// LAST: -kv: 'past': the last axis, along which scales are shared, must be another one, of constant size

// Both caches get one length: past2 is past, also in what the model requires.
// CHECK-LABEL: func.func @main
// CHECK-SAME: %[[X:[a-z0-9]+]]: tensor<?x?x4xf32, #graph.dims<s0, s1, 4>> {graph.name = "x"}
// CHECK-SAME: %[[K:[a-z0-9]+]]: tensor<?x?x4xf32, #graph.dims<s0, s4, 4>> {graph.name = "past_k", graph.state = {axis = 1 : i64, capacity = 4 : i64, length = 2 : i64, output = "present_k", rows = #graph.dims<s1>}}
// CHECK-SAME: %[[V:[a-z0-9]+]]: tensor<?x?x4xf32, #graph.dims<s0, s4, 4>> {graph.name = "past_v", graph.state = {
// CHECK-SAME: -> (tensor<?x?x4xf32, #graph.dims<s0, s1 + s2, 4>> {graph.name = "y"})
// CHECK-SAME: graph.ranges = [{{.*}}, array<i64: 0, 9, 7>]
// CHECK-SAME: graph.symbols = ["batch", "seq", "past", "past2", "past.capacity"]
// CHECK: %[[KA:.*]] = graph.append %[[K]], %[[X]] {at = #graph.dims<s2>, axis = 1 : i64}
// CHECK: %[[KS:.*]] = graph.slice %[[KA]] {{.*}} -> tensor<?x?x4xf32, #graph.dims<s0, s1 + s2, 4>>
// CHECK: %[[VA:.*]] = graph.append %[[V]], %[[X]] {at = #graph.dims<s2>, axis = 1 : i64}
// CHECK: %[[VS:.*]] = graph.slice %[[VA]]
// CHECK: %[[VR:.*]] = graph.reshape %[[VS]] {graph.same_sizes}
// CHECK: %[[Y:.*]] = graph.add %[[KS]], %[[VR]]
// CHECK: return %[[Y]] :

// ONE: func.func @main({{.*}} {graph.name = "past_v"}, {{.*}} {graph.name = "past_k", graph.state =
// ONE-SAME: -> ({{.*}} {graph.name = "y"}, {{.*}} {graph.name = "present_v"})

// INT8: func.func @main
// INT8-SAME: tensor<?x?x4xi8, #graph.dims<s0, s4, 4>> {graph.name = "past_k.codes", graph.state =
// INT8-SAME: tensor<?x?x1xf16, #graph.dims<s0, s4, 1>> {graph.name = "past_k.scales", graph.state =
// INT8-COUNT-2: graph.append
// INT8: graph.convert {{.*}} -> tensor<?x?x1x4xf32

// Rows of a pool are replaced, whose number of pages nobody else tells.
// PLACED: func.func @main(%[[I:[a-z0-9]+]]: {{.*}}, %[[X:[a-z0-9]+]]: {{.*}}, %[[P:[a-z0-9]+]]: tensor<?x4x8xf32, #graph.dims<s1, 4, 8>>
// PLACED-SAME: graph.state = {axis = 0 : i64, capacity = 1 : i64, length = -1 : i64, output = "after", rows = #graph.dims<0>}
// PLACED-SAME: -> (tensor<?x4x8xf32, #graph.dims<s1, 4, 8>> {graph.name = "y"})
// PLACED: %[[V:.*]] = graph.reshape %[[P]]
// PLACED: %[[A:.*]] = graph.update %[[V]], %[[I]], %[[X]]
// PLACED: %[[B:.*]] = graph.update %[[A]], %[[I]], %[[X]]
// PLACED: %[[R:.*]] = graph.reshape %[[B]]
// PLACED: graph.neg %[[R]]
// ROUNDED: tensor<?x4x8xi8, #graph.dims<s1, 4, 8>> {graph.name = "pool.codes"
// ROUNDED-SAME: tensor<?x4x1xf16, #graph.dims<s1, 4, 1>> {graph.name = "pool.scales"
// ROUNDED-COUNT-4: graph.update
// ROUNDED: graph.neg

//--- model.mlir
func.func @main(%x: tensor<?x?x4xf32, #graph.dims<s0, s1, 4>> {graph.name = "x"},
    %k: tensor<?x?x4xf32, #graph.dims<s0, s2, 4>> {graph.name = "past_k"},
    %v: tensor<?x?x4xf32, #graph.dims<s0, s3, 4>> {graph.name = "past_v"})
    -> (tensor<?x?x4xf32, #graph.dims<s0, s2 + s1, 4>> {graph.name = "y"},
        tensor<?x?x4xf32, #graph.dims<s0, s2 + s1, 4>> {graph.name = "present_k"},
        tensor<?x?x4xf32, #graph.dims<s0, s3 + s1, 4>> {graph.name = "present_v"})
    attributes {graph.symbols = ["batch", "seq", "past", "past2"],
                graph.ranges = [array<i64: 1, 2, 1>, array<i64: 1, 5, 3>, array<i64: 0, 9, 7>, array<i64: 0, 9, 7>]} {
  %a = graph.concat %k, %x {axis = 1 : i64} : (tensor<?x?x4xf32, #graph.dims<s0, s2, 4>>, tensor<?x?x4xf32, #graph.dims<s0, s1, 4>>) -> tensor<?x?x4xf32, #graph.dims<s0, s2 + s1, 4>>
  %b = graph.concat %v, %x {axis = 1 : i64} : (tensor<?x?x4xf32, #graph.dims<s0, s3, 4>>, tensor<?x?x4xf32, #graph.dims<s0, s1, 4>>) -> tensor<?x?x4xf32, #graph.dims<s0, s3 + s1, 4>>
  %c = graph.reshape %b {graph.same_sizes} : (tensor<?x?x4xf32, #graph.dims<s0, s3 + s1, 4>>) -> tensor<?x?x4xf32, #graph.dims<s0, s2 + s1, 4>>
  %y = graph.add %a, %c : (tensor<?x?x4xf32, #graph.dims<s0, s2 + s1, 4>>, tensor<?x?x4xf32, #graph.dims<s0, s2 + s1, 4>>) -> tensor<?x?x4xf32, #graph.dims<s0, s2 + s1, 4>>
  return %y, %a, %b : tensor<?x?x4xf32, #graph.dims<s0, s2 + s1, 4>>, tensor<?x?x4xf32, #graph.dims<s0, s2 + s1, 4>>, tensor<?x?x4xf32, #graph.dims<s0, s3 + s1, 4>>
}

//--- read.mlir
func.func @main(%x: tensor<2x4xf32> {graph.name = "x"}, %p: tensor<2x?xf32, #graph.dims<2, s0>> {graph.name = "past"})
    -> (tensor<2x?xf32, #graph.dims<2, s0 + 4>> {graph.name = "present"}, tensor<2x?xf32, #graph.dims<2, s0>> {graph.name = "y"})
    attributes {graph.symbols = ["past"]} {
  %a = graph.concat %p, %x {axis = 1 : i64} : (tensor<2x?xf32, #graph.dims<2, s0>>, tensor<2x4xf32>) -> tensor<2x?xf32, #graph.dims<2, s0 + 4>>
  %y = graph.neg %p : (tensor<2x?xf32, #graph.dims<2, s0>>) -> tensor<2x?xf32, #graph.dims<2, s0>>
  return %a, %y : tensor<2x?xf32, #graph.dims<2, s0 + 4>>, tensor<2x?xf32, #graph.dims<2, s0>>
}

//--- static.mlir
func.func @main(%x: tensor<2x4xf32> {graph.name = "x"}, %p: tensor<2x3xf32> {graph.name = "past"}) -> (tensor<2x7xf32> {graph.name = "present"}) {
  %a = graph.concat %p, %x {axis = 1 : i64} : (tensor<2x3xf32>, tensor<2x4xf32>) -> tensor<2x7xf32>
  return %a : tensor<2x7xf32>
}

//--- unknown.mlir
func.func @main(%x: tensor<1x4xf32> {graph.name = "x"}, %p: tensor<?x?x4xf32, #graph.dims<s0, s1, 4>> {graph.name = "past"})
    -> (tensor<?x?x4xf32, #graph.dims<s0, s1 + 1, 4>> {graph.name = "present"}) attributes {graph.symbols = ["batch", "past"]} {
  %w = graph.broadcast %x : (tensor<1x4xf32>) -> tensor<?x1x4xf32, #graph.dims<s0, 1, 4>>
  %a = graph.concat %p, %w {axis = 1 : i64} : (tensor<?x?x4xf32, #graph.dims<s0, s1, 4>>, tensor<?x1x4xf32, #graph.dims<s0, 1, 4>>) -> tensor<?x?x4xf32, #graph.dims<s0, s1 + 1, 4>>
  return %a : tensor<?x?x4xf32, #graph.dims<s0, s1 + 1, 4>>
}

//--- last.mlir
func.func @main(%x: tensor<2x4xf32> {graph.name = "x"}, %p: tensor<2x?xf32, #graph.dims<2, s0>> {graph.name = "past"})
    -> (tensor<2x?xf32, #graph.dims<2, s0 + 4>> {graph.name = "present"}, tensor<2x?xf32, #graph.dims<2, s0 + 4>> {graph.name = "y"})
    attributes {graph.symbols = ["past"]} {
  %a = graph.concat %p, %x {axis = 1 : i64} : (tensor<2x?xf32, #graph.dims<2, s0>>, tensor<2x4xf32>) -> tensor<2x?xf32, #graph.dims<2, s0 + 4>>
  %y = graph.neg %a : (tensor<2x?xf32, #graph.dims<2, s0 + 4>>) -> tensor<2x?xf32, #graph.dims<2, s0 + 4>>
  return %a, %y : tensor<2x?xf32, #graph.dims<2, s0 + 4>>, tensor<2x?xf32, #graph.dims<2, s0 + 4>>
}

//--- placed.mlir
func.func @main(%i: tensor<?xi64, #graph.dims<s0>> {graph.name = "i"}, %x: tensor<?x8xf32, #graph.dims<s0, 8>> {graph.name = "x"},
    %p: tensor<?x4x8xf32, #graph.dims<s1, 4, 8>> {graph.name = "pool"})
    -> (tensor<?x4x8xf32, #graph.dims<s1, 4, 8>> {graph.name = "y"}, tensor<?x4x8xf32, #graph.dims<s1, 4, 8>> {graph.name = "after"})
    attributes {graph.symbols = ["new", "pages"]} {
  %v = graph.reshape %p : (tensor<?x4x8xf32, #graph.dims<s1, 4, 8>>) -> tensor<?x8xf32, #graph.dims<s1 * 4, 8>>
  %a = graph.scatter %v, %i, %x : (tensor<?x8xf32, #graph.dims<s1 * 4, 8>>, tensor<?xi64, #graph.dims<s0>>, tensor<?x8xf32, #graph.dims<s0, 8>>) -> tensor<?x8xf32, #graph.dims<s1 * 4, 8>>
  %b = graph.scatter %a, %i, %x : (tensor<?x8xf32, #graph.dims<s1 * 4, 8>>, tensor<?xi64, #graph.dims<s0>>, tensor<?x8xf32, #graph.dims<s0, 8>>) -> tensor<?x8xf32, #graph.dims<s1 * 4, 8>>
  %r = graph.reshape %b : (tensor<?x8xf32, #graph.dims<s1 * 4, 8>>) -> tensor<?x4x8xf32, #graph.dims<s1, 4, 8>>
  %y = graph.neg %r : (tensor<?x4x8xf32, #graph.dims<s1, 4, 8>>) -> tensor<?x4x8xf32, #graph.dims<s1, 4, 8>>
  return %y, %r : tensor<?x4x8xf32, #graph.dims<s1, 4, 8>>, tensor<?x4x8xf32, #graph.dims<s1, 4, 8>>
}
