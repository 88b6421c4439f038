// The kernel level: what fusion forms, Check proves and code generation reads.
#ifndef DLC_GRAPH_KERNEL_OPS_TD
#define DLC_GRAPH_KERNEL_OPS_TD

include "dlc/Dialect/Graph/IR/GraphBase.td"

def Graph_KernelOp : Graph_Op<"kernel", [FunctionOpInterface, IsolatedFromAbove]> {
  let summary = "an ordered list of stages, each one scalar expression over loads";
  let description = [{
    Arguments are the operand tensors; `graph.return` names the stages that are
    results, in order, the others are row buffers. `symbols` names the kernel's
    dim symbols s0, s1, ...; `origin` lists the model nodes it computes;
    `schedule` is the nest and its knobs. `rows` is how many leading domain axes
    all stages share: one row is computed at a time (C-ROW), row buffers live no
    longer. Absent: the whole kernel is one row.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<FunctionType>:$function_type,
                       OptionalAttr<DictArrayAttr>:$arg_attrs, OptionalAttr<DictArrayAttr>:$res_attrs,
                       OptionalAttr<StrArrayAttr>:$symbols, OptionalAttr<StrArrayAttr>:$origin,
                       OptionalAttr<DictionaryAttr>:$schedule, OptionalAttr<I64Attr>:$rows);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let hasRegionVerifier = 1;
  let extraClassDeclaration = [{
    ::llvm::ArrayRef<::mlir::Type> getArgumentTypes() { return getFunctionType().getInputs(); }
    ::llvm::ArrayRef<::mlir::Type> getResultTypes() { return getFunctionType().getResults(); }
    ::mlir::Region *getCallableRegion() { return &getBody(); }
    unsigned getNumSymbols() { return getSymbols() ? getSymbols()->size() : 0; }
    /// The stages in order.
    ::std::vector<::dlc::graph::StageOp> getStages();
    /// The operator that is the whole body, when it is one of class opaque; else null.
    ::dlc::graph::GraphOp getOpaque();
    /// The stage results that are the kernel's results, in order.
    ::mlir::OperandRange getResultValues();
  }];
}

def Graph_StageOp : Graph_Op<"stage", [Pure, SingleBlock, HasParent<"KernelOp">]> {
  let summary = "one tensor of a kernel: a scalar expression at every domain point, optionally folded";
  let description = [{
    `%t[p] = fold_{k in reduce} body(p, k)`, a left fold in row-major order of
    the reduce axes from `init` (default: the fold's identity; -inf / lowest for
    max). Without a fold, `reduce` is absent and `%t[p] = body(p)`.
  }];
  let arguments = (ins Graph_DimsAttr:$domain, OptionalAttr<Graph_DimsAttr>:$reduce,
                       OptionalAttr<Graph_FoldKindAttr>:$fold, OptionalAttr<TypedAttrInterface>:$init);
  let results = (outs AnyRankedTensor:$result);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `domain` $domain (`reduce` $reduce^)? (`fold` $fold^)? (`init` $init^)? attr-dict `:` type($result) $body
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    unsigned getDomainRank() { return getDomain().getDims().size(); }
    unsigned getReduceRank() { return getReduce() ? getReduce()->getDims().size() : 0; }
    ::dlc::graph::FoldKind getFoldKind() { return getFold() ? *getFold() : ::dlc::graph::FoldKind::none; }
    ::llvm::ArrayRef<::mlir::AffineExpr> getDomainDims() { return getDomain().getDims(); }
    ::llvm::ArrayRef<::mlir::AffineExpr> getReduceDims() {
      return getReduce() ? getReduce()->getDims() : ::llvm::ArrayRef<::mlir::AffineExpr>();
    }
    ::mlir::Block *getBlock() { return &getBody().front(); }
    /// The scalar the body yields at one point.
    ::mlir::Value getYielded() { return getBlock()->getTerminator()->getOperand(0); }
    ::mlir::Type getElementType() { return getResult().getType().getElementType(); }
  }];
}

def Graph_LoadOp : Graph_Op<"load", [Pure, AttrSizedOperandSegments]> {
  let summary = "reads a tensor at map(coords)";
  let description = [{
    The map's dims are `coords`, its symbols the kernel's. Where `guard` is
    false the result is `other` and memory is not touched. A coordinate that
    comes from `graph.to_index` makes this a gather.
  }];
  let arguments = (ins AnyRankedTensor:$tensor, Variadic<Index>:$coords, AffineMapAttr:$map,
                       OptionalAttr<IntegerSetAttr>:$guard, Optional<AnyType>:$other);
  let results = (outs AnyType:$result);
  let assemblyFormat = [{
    $tensor `[` $map `]` `(` $coords `)` (`guard` $guard^ `else` $other `:` type($other))? attr-dict
    `:` type($tensor) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Graph_ApplyOp : Graph_Op<"apply", [Pure]> {
  let summary = "a scalar function";
  let arguments = (ins Graph_ScalarFnAttr:$fn, Variadic<AnyType>:$args);
  let results = (outs AnyType:$result);
  let assemblyFormat = "$fn `(` $args `)` attr-dict `:` functional-type($args, $result)";
  let hasVerifier = 1;
}

def Graph_CastOp : Graph_Op<"scalar_cast", [Pure]> {
  let summary = "converts a scalar to another element type";
  let description = [{
    ONNX Cast: float to integer truncates towards zero and, with `saturate`,
    clamps to the target's range (NaN gives 0); without it, out-of-range values
    wrap as the C conversion through i64 does. To i1: value != 0. Between floats:
    round to nearest even.
  }];
  let arguments = (ins AnyType:$value, UnitAttr:$saturate);
  let results = (outs AnyType:$result);
  let assemblyFormat = "$value (`saturate` $saturate^)? attr-dict `:` type($value) `->` type($result)";
}

def Graph_LiteralOp : Graph_Op<"literal", [Pure]> {
  let summary = "a scalar constant";
  let arguments = (ins TypedAttrInterface:$value);
  let results = (outs AnyType:$result);
  let assemblyFormat = "$value attr-dict `:` type($result)";
}

def Graph_CoordOp : Graph_Op<"coord", [Pure]> {
  let summary = "a semi-affine expression of coordinates and sizes, as an i64 scalar";
  let arguments = (ins Variadic<Index>:$coords, AffineMapAttr:$map);
  let results = (outs I64:$result);
  let assemblyFormat = "`[` $map `]` `(` $coords `)` attr-dict";
}

def Graph_InsideOp : Graph_Op<"inside", [Pure]> {
  let summary = "the truth of an integer set at coordinates";
  let description = [{
    True where every constraint of the set holds; operands as a load's guard has
    them. What a guarded load does for a tensor, `select(inside, value, other)`
    does for an expression, whose own loads carry the set in their guards.
  }];
  let arguments = (ins Variadic<Index>:$coords, IntegerSetAttr:$set);
  let results = (outs I1:$result);
  let assemblyFormat = "`[` $set `]` `(` $coords `)` attr-dict";
  let hasVerifier = 1;
}

def Graph_ToIndexOp : Graph_Op<"to_index", [Pure]> {
  let summary = "an i64 scalar as a load coordinate, checked against [0, size)";
  let description = [{
    A negative value counts from the end (ONNX Gather). Out of range is a
    run-time data error; the coordinate read instead is clamped.
  }];
  let arguments = (ins I64:$value, Graph_DimsAttr:$size);
  let results = (outs Index:$result);
  let assemblyFormat = "$value `in` $size attr-dict";
}

def Graph_YieldOp : Graph_Op<"yield", [Pure, Terminator, HasParent<"StageOp">]> {
  let arguments = (ins AnyType:$value);
  let assemblyFormat = "$value attr-dict `:` type($value)";
}

def Graph_ReturnOp : Graph_Op<"return", [Pure, Terminator, ParentOneOf<["KernelOp", "CertificateOp"]>]> {
  let arguments = (ins Variadic<AnyRankedTensor>:$values);
  let assemblyFormat = "attr-dict ($values^ `:` type($values))?";
}

def Graph_CallOp : Graph_Op<"call", [Pure, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "runs a kernel";
  let description = [{
    `symbols` gives the kernel's dim symbols as expressions of the function's.
  }];
  let arguments = (ins FlatSymbolRefAttr:$callee, Variadic<AnyRankedTensor>:$args, OptionalAttr<Graph_DimsAttr>:$symbols);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = "$callee `(` $args `)` (`symbols` $symbols^)? attr-dict `:` functional-type($args, $results)";
}

def Graph_CertificateOp : Graph_Op<"certificate", [Symbol, IsolatedFromAbove, SingleBlock,
                                                   DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "what a fused kernel claims to compute";
  let description = [{
    The region's arguments are the kernel's operands; its body is the members as
    they were in the function, in order: `graph.call`s of the one-operator
    kernels, `graph.reshape` and `graph.constant`; `graph.return` gives the kept
    values in the order of the kernel's results. Symbols are the kernel's.
    `rows` repeats the kernel's; `laws` are the algebraic licences used beyond
    inlining; `obligation` is what has to be shown: `exact` (bit for bit),
    `reassociation` or `precision`.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, FlatSymbolRefAttr:$kernel, I64Attr:$rows, StrArrayAttr:$laws,
                       StrAttr:$obligation);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $sym_name `for` $kernel `rows` `(` $rows `)` `laws` $laws `obligation` $obligation attr-dict-with-keyword $body
  }];
  let hasRegionVerifier = 1;
}

#endif // DLC_GRAPH_KERNEL_OPS_TD
