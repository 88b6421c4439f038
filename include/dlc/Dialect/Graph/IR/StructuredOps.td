// Operators whose meaning is an index map or a fold: injective, reduce,
// window and contraction rows. Their kernels are in lib/Dialect/Graph/IR.
#ifndef DLC_GRAPH_STRUCTURED_OPS_TD
#define DLC_GRAPH_STRUCTURED_OPS_TD

include "dlc/Dialect/Graph/IR/GraphBase.td"

class Graph_OneResult<string mnemonic, string opClass, dag args, list<Trait> traits = []>
    : Graph_TensorOp<mnemonic, opClass, traits> {
  let arguments = args;
  let results = (outs AnyRankedTensor:$result);
  let hasVerifier = 1;
}
// The result type follows from operands and attributes (`inferReturnTypes`).
class Graph_Inferred<string mnemonic, string opClass, dag args, list<Trait> traits = []>
    : Graph_OneResult<mnemonic, opClass, args, !listconcat([InferTypeOpAdaptor], traits)>;

//===----------------------------------------------------------------------===//
// Constants and injective operators
//===----------------------------------------------------------------------===//

def Graph_ConstantOp : Graph_Op<"constant", [Pure, ConstantLike, AllTypesMatch<["value", "result"]>]> {
  let summary = "a constant tensor: dense elements, or a dense resource over the mapped model file";
  let arguments = (ins ElementsAttr:$value);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "attr-dict $value";
  let hasFolder = 1;
}

def Graph_IotaOp : Graph_OneResult<"iota", "injective", (ins F64Attr:$start, F64Attr:$step)> {
  let summary = "rank-1 start + i * step, computed in the element type";
}

def Graph_SizeOp : Graph_OneResult<"size", "injective", (ins Graph_DimsAttr:$size)> {
  let summary = "a tensor of rank 0: an expression of dim symbols, in the element type";
}

def Graph_TransposeOp : Graph_Inferred<"transpose", "injective", (ins AnyRankedTensor:$x, DenseI64ArrayAttr:$perm)> {
  let summary = "result dim i is operand dim perm[i]";
  let hasFolder = 1;
}

def Graph_ReshapeOp : Graph_OneResult<"reshape", "injective", (ins AnyRankedTensor:$x)> {
  let summary = "same elements in row-major order under the result's dims";
  let hasFolder = 1;
}

def Graph_BroadcastOp : Graph_OneResult<"broadcast", "broadcast", (ins AnyRankedTensor:$x)> {
  let summary = "numpy broadcast of x to the result's dims";
  let hasFolder = 1;
}

def Graph_SliceOp : Graph_OneResult<"slice", "injective", (ins AnyRankedTensor:$x, Graph_DimsAttr:$starts, DenseI64ArrayAttr:$steps)> {
  let summary = "y[i] = x[starts + i * steps] on every axis; steps may be negative";
  let hasFolder = 1;
}

def Graph_PadOp : Graph_OneResult<"pad", "injective",
    (ins AnyRankedTensor:$x, Optional<AnyRankedTensor>:$value, DenseI64ArrayAttr:$low, DenseI64ArrayAttr:$high, Graph_PadModeAttr:$mode)> {
  let summary = "ONNX Pad; `value` is a tensor of one element; negative amounts crop";
  let extraClassDeclaration = classDeclaration # [{
    /// Does each coordinate outside of this axis need one reflection or wrap only?
    bool foldsOnce(unsigned axis);
  }];
}

def Graph_ConcatOp : Graph_Inferred<"concat", "injective", (ins Variadic<AnyRankedTensor>:$inputs, I64Attr:$axis)>;

def Graph_GatherOp : Graph_Inferred<"gather", "injective",
    (ins AnyRankedTensor:$x, AnyRankedTensor:$indices, I64Attr:$axis)> {
  let summary = "ONNX Gather: indices (any rank, i32 or i64, negative from the end) replace `axis`";
}

def Graph_GatherElementsOp : Graph_Inferred<"gather_elements", "injective",
    (ins AnyRankedTensor:$x, AnyRankedTensor:$indices, I64Attr:$axis)> {
  let summary = "y[p] = x[p with p[axis] = indices[p]]";
}

//===----------------------------------------------------------------------===//
// Reductions and windows
//===----------------------------------------------------------------------===//

def Graph_ReduceOp : Graph_Inferred<"reduce", "reduce",
    (ins AnyRankedTensor:$x, Graph_FoldKindAttr:$kind, DenseI64ArrayAttr:$axes)> {
  let summary = "folds `axes` (sorted); their dims become 1. Arg kinds give i64 over exactly one axis";
}

def Graph_CumSumOp : Graph_Inferred<"cumsum", "scan",
    (ins AnyRankedTensor:$x, I64Attr:$axis, UnitAttr:$exclusive, UnitAttr:$reverse)>;

def Graph_PoolOp : Graph_OneResult<"pool", "reduce",
    (ins AnyRankedTensor:$x, Graph_PoolKindAttr:$kind, DenseI64ArrayAttr:$kernel, DenseI64ArrayAttr:$strides,
         DenseI64ArrayAttr:$dilations, DenseI64ArrayAttr:$pads_low, DenseI64ArrayAttr:$pads_high,
         UnitAttr:$count_include_pad, DefaultValuedAttr<F64Attr, "2.0">:$p)> {
  let summary = "window reduction of x (N, C, spatial...); avg divides by the taps inside (with count_include_pad: inside the padded input)";
}

//===----------------------------------------------------------------------===//
// Contractions
//===----------------------------------------------------------------------===//

def Graph_ContractOp : Graph_OneResult<"contract", "contraction",
    (ins AnyRankedTensor:$lhs, AnyRankedTensor:$rhs, AffineMapAttr:$lhs_map, AffineMapAttr:$rhs_map, AffineMapAttr:$result_map)> {
  let summary = "einsum: sum over the axes absent from result_map of lhs[lhs_map] * rhs[rhs_map]";
  let description = [{
    The maps are projections from the iteration axes (lhs dims, extent-1 dims
    may be the constant 0). Integers accumulate in the result's element type;
    f16 and bf16 accumulate in f32 and are rounded once.
  }];
  let extraClassDeclaration = classDeclaration # [{
    /// The extent of every iteration axis.
    ::llvm::SmallVector<::mlir::AffineExpr> getIterationDims();
  }];
}

def Graph_ConvOp : Graph_OneResult<"conv", "contraction",
    (ins AnyRankedTensor:$x, AnyRankedTensor:$w, Optional<AnyRankedTensor>:$x_zero_point, Optional<AnyRankedTensor>:$w_zero_point,
         DenseI64ArrayAttr:$strides, DenseI64ArrayAttr:$dilations, DenseI64ArrayAttr:$pads_low, DenseI64ArrayAttr:$pads_high, I64Attr:$group),
    [AttrSizedOperandSegments]> {
  let summary = "convolution: x (N, C, spatial...), w (M, C/group, kernel...) -> (N, M, spatial...)";
  let description = [{
    With zero points (ConvInteger) both are subtracted first, in i32. Padding
    contributes the zero point, that is nothing. A bias is a separate add.
  }];
}

def Graph_ConvTransposeOp : Graph_OneResult<"conv_transpose", "contraction",
    (ins AnyRankedTensor:$x, AnyRankedTensor:$w, DenseI64ArrayAttr:$strides, DenseI64ArrayAttr:$dilations,
         DenseI64ArrayAttr:$pads_low, I64Attr:$group)> {
  let summary = "transposed convolution: x (N, C, spatial...), w (C, M/group, kernel...); the result type gives the output size";
}

#endif // DLC_GRAPH_STRUCTURED_OPS_TD
