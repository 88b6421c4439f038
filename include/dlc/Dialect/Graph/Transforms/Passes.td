// Passes over the graph dialect.
#ifndef DLC_GRAPH_PASSES_TD
#define DLC_GRAPH_PASSES_TD

include "mlir/Pass/PassBase.td"

//===----------------------------------------------------------------------===//
// Lowering (alphabetical)
//===----------------------------------------------------------------------===//

def FormKernels : Pass<"graph-form-kernels", "::mlir::ModuleOp"> {
  let summary = "turns every graph operator into a call of the kernel its row declares";
  let description = [{
    `%y = graph.exp %x` becomes `graph.kernel @exp_0` and `%y = graph.call @exp_0(%x)`.
    Kernels that differ only in the names of values and in locations are made once;
    the model nodes a call stands for are in its `origin` attribute.

    Stays as it is: `graph.constant`, `graph.reshape` (a view: no data moves) and
    operators of class opaque, which have no kernel. Expects shapes on every value.
  }];
  let statistics = [
    Statistic<"numCalls", "calls", "graph operators turned into calls">,
    Statistic<"numKernels", "kernels", "distinct kernels">
  ];
  let dependentDialects = ["::dlc::graph::GraphDialect"];
}

#endif // DLC_GRAPH_PASSES_TD
