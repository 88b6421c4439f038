// The layout passes.
#ifndef DLC_LAYOUT_PASSES_TD
#define DLC_LAYOUT_PASSES_TD

include "mlir/Pass/PassBase.td"

def PlaceConcats : Pass<"graph-place-concats", "::mlir::ModuleOp"> {
  let summary = "stores the operands of concatenations in the place of the result";
  let description = [{
    A call that only joins its operands gets the attribute `graph.placed` and is
    no work any more. An operand is stored there by its own kernel: whole where
    all axes before the joined one have one element, else, where that is the
    last axis, with a pitch, as are the other kernels that read it
    (`graph.pitches`, on copies of the kernels). Inputs, constants and outputs
    are copied, at most half of the bytes. Symbolic sizes, axes joined between
    others, and kernels that no loop nest or contraction nest computes are left
    alone.
  }];
  let dependentDialects = ["::dlc::graph::GraphDialect"];
}

def RelayTensors : Pass<"graph-relay-tensors", "::mlir::ModuleOp"> {
  let summary = "stores intermediate tensors around convolutions with their channels last";
  let description = [{
    Kernels of relaid calls are copies with permuted maps, each with a claim,
    the attribute `graph.relayout`, that Check proves. Sums of convolutions are
    taken in another order, so this is not for strict numerics.
  }];
  let options = [
    Option<"lanes", "lanes", "unsigned", "1", "Elements of a vector register: images of fewer channels keep their layout">
  ];
  let dependentDialects = ["::dlc::graph::GraphDialect"];
}

#endif // DLC_LAYOUT_PASSES_TD
