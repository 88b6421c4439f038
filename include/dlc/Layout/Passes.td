// The layout passes.
#ifndef DLC_LAYOUT_PASSES_TD
#define DLC_LAYOUT_PASSES_TD

include "mlir/Pass/PassBase.td"

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
