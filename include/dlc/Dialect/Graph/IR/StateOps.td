// What a model keeps between runs. Apart, because few files know it.
#ifndef DLC_GRAPH_STATE_OPS_TD
#define DLC_GRAPH_STATE_OPS_TD

include "dlc/Dialect/Graph/IR/GraphBase.td"

def Graph_AppendOp : Graph_Op<"append", [MemoryEffects<[MemWrite]>]> {
  let summary = "rows [at, at + rows of x) of `state` along `axis` become x, in place; the result is the state";
  let description = [{
    `state` is an argument of `@main` that nothing else reads, with room for
    more rows than are used: whoever runs the function sees to it that they fit.
    Stays in `@main`: it is the memory of its operand, and no kernel.
  }];
  let arguments = (ins AnyRankedTensor:$state, AnyRankedTensor:$x, I64Attr:$axis, Graph_DimsAttr:$at);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Graph_UpdateOp : Graph_Op<"update", [MemoryEffects<[MemWrite]>]> {
  let summary = "graph.scatter in place: row positions[i] (i64 (m)) of `state` (r, c) becomes updates[i] (m, c); the result is the state";
  let description = [{
    `state` is a view of an argument of `@main` that nothing else reads. Updates
    apply in order; negative positions count from the end, and one outside
    [-r, r) is a run-time data error that writes nothing here. Stays in `@main`.
  }];
  let arguments = (ins AnyRankedTensor:$state, AnyRankedTensor:$positions, AnyRankedTensor:$updates);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

#endif // DLC_GRAPH_STATE_OPS_TD
