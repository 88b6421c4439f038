// Operators that no expression over loads can declare: sorting, writing to
// places that the data choose, walks whose next step depends on the last one.
// Their kernel is the operator itself; each has an implementation in the
// interpreter (lib/Interpreter/Opaque*.cpp) and a builder of loops for CPUs
// (lib/Codegen/CPU/Opaque*.cpp). The forms are canonical, so that transposes
// and reshapes around them cover the ONNX operators.
//
// Only graph.prefix gives a tensor a size that the data tell.
#ifndef DLC_GRAPH_OPAQUE_OPS_TD
#define DLC_GRAPH_OPAQUE_OPS_TD

include "dlc/Dialect/Graph/IR/GraphBase.td"

class Graph_OpaqueOp<string mnemonic, dag args> : Graph_TensorOp<mnemonic, "opaque"> {
  let arguments = args;
  let results = (outs AnyRankedTensor:$result);
  let hasVerifier = 1;
}

def Graph_ArgsortOp : Graph_OpaqueOp<"argsort", (ins AnyRankedTensor:$x, UnitAttr:$descending)> {
  let summary = "the first k row numbers in sorted order: x (b, n, m) -> i64 (b, k), k <= n";
  let description = [{
    Orders the n rows of each batch lexicographically by their m elements. Equal
    rows keep their order, also when descending. NaN is equal to itself and
    greater than every number; -0 equals 0.
  }];
}

def Graph_CompactOp : Graph_OpaqueOp<"compact", (ins AnyRankedTensor:$mask)> {
  let summary = "the positions where an i1 mask (n) is true, in order, then zeros: i64 (n)";
}

def Graph_ScatterOp : Graph_OpaqueOp<"scatter",
    (ins AnyRankedTensor:$x, AnyRankedTensor:$positions, AnyRankedTensor:$updates,
         DefaultValuedAttr<Graph_FoldKindAttr, "::dlc::graph::FoldKind::none">:$kind)> {
  let summary = "x (r, c) with row positions[i] (i64 (m)) replaced by, or folded with, updates[i] (m, c)";
  let description = [{
    Updates apply in order. Negative positions count from the end; one outside
    [-r, r) is a run-time data error. `kind` is none (replace), add, mul, max or
    min, computed in the element type.
  }];
}

def Graph_NmsOp : Graph_OpaqueOp<"nms",
    (ins AnyRankedTensor:$boxes, AnyRankedTensor:$scores, AnyRankedTensor:$order, AnyRankedTensor:$limit,
         AnyRankedTensor:$iou_threshold, AnyRankedTensor:$score_threshold, UnitAttr:$center)> {
  let summary = "ONNX NonMaxSuppression: the boxes selected for each batch and class, i64 (b, c, k), then -1";
  let description = [{
    `boxes` is f32 (b, n, 4), `scores` f32 (b, c, n), `order` i64 (b * c, n) the
    box numbers of each class by falling score. At most min(limit, k) boxes are
    selected; `limit` (i64), `iou_threshold` and `score_threshold` (f32) hold
    one element. With `center` a box is (x, y, width, height), else two opposite
    corners (y, x, y, x).
  }];
}

def Graph_PrefixOp : Graph_Op<"prefix", [MemoryEffects<[MemWrite]>]> {
  let summary = "the first `count` rows of x, as a view; binds a dim symbol";
  let description = [{
    `count` is an i64 tensor of one element in [0, rows of x]; another value is
    a run-time data error. The result's leading dim is a symbol of the function
    alone, which has that value from here on; the other dims are x's. Not pure:
    sizes elsewhere may name the symbol.
  }];
  let arguments = (ins AnyRankedTensor:$x, AnyRankedTensor:$count);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The number of the symbol that is bound.
    unsigned getSymbol();
  }];
}

def Graph_BitcastOp : Graph_Op<"bitcast", [Pure]> {
  let summary = "the same bytes under another element type of the same width, as a view";
  let arguments = (ins AnyRankedTensor:$x);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

#endif // DLC_GRAPH_OPAQUE_OPS_TD
