// Control flow that only the run decides. The regions are not isolated: their
// operators read values of the function around them.
//
// Both operators may bind dim symbols, as graph.prefix does: where the branches
// or the iterations disagree about a size, the size is a symbol of the function
// that gets its value on the way.
#ifndef DLC_GRAPH_CONTROL_OPS_TD
#define DLC_GRAPH_CONTROL_OPS_TD

include "dlc/Dialect/Graph/IR/GraphBase.td"

class Graph_ControlOp<string mnemonic, list<Trait> traits>
    : Graph_Op<mnemonic, !listconcat([SingleBlock, DeclareOpInterfaceMethods<MemoryEffectsOpInterface>], traits)> {
  let hasVerifier = 1;
  code bindsDeclaration = [{
    /// The numbers of the symbols that are bound.
    ::llvm::ArrayRef<int64_t> getBoundSymbols() {
      return getBinds() ? *getBinds() : ::llvm::ArrayRef<int64_t>();
    }
    bool bindsSymbol(::mlir::AffineExpr dim);
    /// The largest value of the i-th of them.
    ::mlir::AffineExpr getLargest(unsigned i) { return getBounds()->getDims()[i]; }
  }];
}

def Graph_IfOp : Graph_ControlOp<"if", [NoRegionArguments]> {
  let summary = "one of two branches, by an i1 tensor of one element";
  let description = [{
    A dim of a result is the branches' dim, or one of the symbols that `binds`
    lists: it gets the value of the dim of the branch that ran. `bounds` holds
    the largest value of each, over symbols known before.
  }];
  let arguments = (ins AnyRankedTensor:$condition, OptionalAttr<DenseI64ArrayAttr>:$binds, OptionalAttr<Graph_DimsAttr>:$bounds);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let regions = (region SizedRegion<1>:$thenRegion, SizedRegion<1>:$elseRegion);
  let assemblyFormat = "$condition attr-dict-with-keyword `:` functional-type($condition, $results) $thenRegion `else` $elseRegion";
  let hasCanonicalizer = 1;
  let extraClassDeclaration = bindsDeclaration;
}

def Graph_LoopOp : Graph_ControlOp<"loop", [AttrSizedOperandSegments]> {
  let summary = "iterations over carried tensors; further values are stacked";
  let description = [{
    The body's arguments are the number of the iteration (i64, one element) and
    the carried tensors, which begin as `inits`; it leaves with the condition to
    go on (with `conditional` only), the next carried tensors, and values that
    are stacked along a new leading dim. Results are the last carried tensors,
    then the stacks.

    It goes on while the condition holds (`condition` is the first; true if
    absent) and fewer iterations than `trips` (an expression) and `limit` (an
    i64 tensor of one element) have run. With `guard`, an expression, more
    iterations than that are a run-time data error.

    A dim of a carried tensor that changes is a symbol that `binds` lists, with
    the largest value in `bounds`: it has the value of the tensor's dim in each
    iteration and after the last. `count` is the symbol among them that counts
    the iterations, the leading dim of stacks when `trips` does not tell it.
  }];
  let arguments = (ins Optional<AnyRankedTensor>:$limit, Optional<AnyRankedTensor>:$condition,
                       Variadic<AnyRankedTensor>:$inits, UnitAttr:$conditional, OptionalAttr<Graph_DimsAttr>:$trips,
                       OptionalAttr<Graph_DimsAttr>:$guard, OptionalAttr<I64Attr>:$count,
                       OptionalAttr<DenseI64ArrayAttr>:$binds, OptionalAttr<Graph_DimsAttr>:$bounds);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    (`limit` $limit^ `:` type($limit))? (`if` $condition^ `:` type($condition))? `from` `(` $inits `)`
    attr-dict-with-keyword `:` functional-type($inits, $results) $body
  }];
  let extraClassDeclaration = bindsDeclaration # [{
    unsigned getNumCarried() { return getInits().size(); }
    ::mlir::BlockArgument getIteration() { return getBody().getArgument(0); }
    ::mlir::Block::BlockArgListType getCarriedArguments() { return getBody().getArguments().drop_front(); }
    ::mlir::Operation *getLeave() { return getBody().front().getTerminator(); }
    /// What decides whether to go on, of the body; null without `conditional`.
    ::mlir::Value getAgain() { return getConditional() ? getLeave()->getOperand(0) : ::mlir::Value(); }
    /// The next carried tensors.
    ::mlir::ValueRange getNext() {
      return ::mlir::ValueRange(getLeave()->getOperands()).slice(getConditional(), getNumCarried());
    }
    /// What is stacked.
    ::mlir::ValueRange getStacked() {
      return ::mlir::ValueRange(getLeave()->getOperands()).drop_front(getConditional() + getNumCarried());
    }
    ::mlir::ResultRange getCarriedResults() { return getResults().take_front(getNumCarried()); }
    ::mlir::ResultRange getStacks() { return getResults().drop_front(getNumCarried()); }
  }];
}

def Graph_LeaveOp : Graph_Op<"leave", [Pure, Terminator, ParentOneOf<["IfOp", "LoopOp"]>]> {
  let summary = "ends a branch or an iteration with its values";
  let arguments = (ins Variadic<AnyRankedTensor>:$values);
  let assemblyFormat = "attr-dict ($values^ `:` type($values))?";
}

def Graph_ExpectOp : Graph_Op<"expect", [MemoryEffects<[MemWrite]>]> {
  let summary = "a run-time data error unless the i1 tensor of one element is true";
  let description = [{
    What the compiler took for granted about sizes in the data, checked when they
    are there.
  }];
  let arguments = (ins AnyRankedTensor:$condition);
  let assemblyFormat = "$condition attr-dict `:` type($condition)";
  let hasVerifier = 1;
}

#endif // DLC_GRAPH_CONTROL_OPS_TD
