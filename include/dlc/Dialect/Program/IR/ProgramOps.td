// The program dialect: what the host does to run a model. Tensors have become
// buffers of bytes, kernels have become phases of a compiled function, and the
// order of operations is the order of execution.
#ifndef DLC_PROGRAM_OPS_TD
#define DLC_PROGRAM_OPS_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Program_Dialect : Dialect {
  let name = "program";
  let cppNamespace = "::dlc::program";
  let summary = "buffers, calls of compiled kernels, and copies, in order of execution";
  let description = [{
    Sizes are in bytes, written as affine maps without dims whose symbols are
    the model's: `affine_map<()[s0] -> (s0 * 512)>`. Semi-affine forms are
    allowed.
  }];
  let useDefaultTypePrinterParser = 1;
}

def Program_BufferType : TypeDef<Program_Dialect, "Buffer"> {
  let mnemonic = "buffer";
  let summary = "a range of bytes; what lies in it is the kernels' business";
}

class Program_Op<string mnemonic, list<Trait> traits = []> : Op<Program_Dialect, mnemonic, traits>;
defvar InModel = ParentOneOf<["ModelOp", "IfOp", "LoopOp"]>;

def Program_ModelOp : Program_Op<"model", [Symbol, IsolatedFromAbove, NoTerminator, SingleBlock, NoRegionArguments]> {
  let summary = "a model: its buffers and the steps of one run";
  let description = [{
    `symbols` names the dim symbols s0, s1, ...; `ranges` holds a triple
    (smallest, largest, typical value) for each. `arena_bytes` is the size of
    the memory plan, set by `program-plan-memory`.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrArrayAttr:$symbols, OptionalAttr<ArrayAttr>:$ranges,
                       OptionalAttr<AffineMapAttr>:$arena_bytes);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name `symbols` $symbols attr-dict-with-keyword $body";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    unsigned getNumSymbols() { return getSymbols().size(); }
    ::mlir::Block *getBlock() { return &getBody().front(); }
    /// The operations of one kind, in order, also those in regions.
    template <typename OpT> ::llvm::SmallVector<OpT> getAll() {
      ::llvm::SmallVector<OpT> all;
      getBody().walk<::mlir::WalkOrder::PreOrder>([&](OpT op) { all.push_back(op); });
      return all;
    }
    /// Smallest, largest and typical value of symbol `i`.
    ::std::array<int64_t, 3> getRange(unsigned i);
  }];
}

def Program_KernelOp : Program_Op<"kernel", [Symbol, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "a compiled kernel: functions of the object, called one after the other";
  let description = [{
    Before code generation `phases` is empty. `tasks[i]` says how often phase i
    is called and `scratch` how many private bytes a worker needs, both over
    the kernel's own symbols. A kernel that `can_fail` stores an error code
    when a value in the data is invalid.

    On a device a phase is a launch, its tasks are blocks of `threads[i]`
    threads with `shared[i]` bytes of dynamic shared memory (without it none) in
    the device's own code, and `buffers` lists the sizes of the scratch buffers that all
    launches are given.

    Where `size`, over the kernel's symbols, is at most `limits[i]` (and no
    smaller limit holds), a call runs kernel `variants[i]` instead: it computes
    the same, faster at such sizes.

    `in_place` lists pairs of an operand and a result that may be one buffer: the
    kernel, and each of its variants, then reads no element of the operand after
    it was overwritten.

    `pitches` has two numbers for each operand and then each result: the bytes
    of a run of its last axis, and those from one run to the next; 0 and 0 where
    they follow each other.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, I64Attr:$num_args, I64Attr:$num_outs, I64Attr:$num_symbols,
                       DefaultValuedAttr<StrArrayAttr, "{}">:$phases, OptionalAttr<AffineMapAttr>:$tasks,
                       OptionalAttr<AffineMapAttr>:$scratch, OptionalAttr<StrAttr>:$nest, UnitAttr:$can_fail,
                       OptionalAttr<AffineMapAttr>:$size, OptionalAttr<DenseI64ArrayAttr>:$limits,
                       OptionalAttr<FlatSymbolRefArrayAttr>:$variants,
                       OptionalAttr<DenseI64ArrayAttr>:$threads, OptionalAttr<DenseI64ArrayAttr>:$shared,
                       OptionalAttr<AffineMapAttr>:$buffers,
                       OptionalAttr<DenseI64ArrayAttr>:$in_place, OptionalAttr<DenseI64ArrayAttr>:$pitches);
  let assemblyFormat = "$sym_name attr-dict";
  let hasVerifier = 1;
}

def Program_InputOp : Program_Op<"input", [Pure, InModel]> {
  let summary = "the caller's buffer of an input";
  let arguments = (ins I64Attr:$index, StrAttr:$name, TypeAttr:$type);
  let results = (outs Program_BufferType:$buffer);
  let assemblyFormat = "$index $name `:` $type attr-dict";
}

def Program_OutputOp : Program_Op<"output", [InModel]> {
  let summary = "the caller's buffer of an output; kernels write it in place";
  let arguments = (ins I64Attr:$index, StrAttr:$name, TypeAttr:$type);
  let results = (outs Program_BufferType:$buffer);
  let assemblyFormat = "$index $name `:` $type attr-dict";
}

def Program_ConstantOp : Program_Op<"constant", [Pure, InModel]> {
  let summary = "bytes of the weights";
  let description = [{
    The elements of `value`, row-major, or with `layout` the form in which a
    kernel asked for them (`bytes` long). `offset` is the place in the weights.
  }];
  let arguments = (ins ElementsAttr:$value, OptionalAttr<StrAttr>:$layout, OptionalAttr<I64Attr>:$bytes,
                       OptionalAttr<I64Attr>:$offset);
  let results = (outs Program_BufferType:$buffer);
  let assemblyFormat = "(`layout` $layout^)? (`bytes` $bytes^)? (`offset` $offset^)? $value attr-dict";
}

def Program_AllocOp : Program_Op<"alloc", [InModel]> {
  let summary = "an intermediate buffer in the arena";
  let description = [{
    The plan gives it a constant `offset`, or a `slot`: then the offset is the
    sum of the sizes of the slots before it, and a slot is as large as the
    largest of its buffers.
  }];
  let arguments = (ins AffineMapAttr:$size, OptionalAttr<I64Attr>:$offset, OptionalAttr<I64Attr>:$slot);
  let results = (outs Program_BufferType:$buffer);
  let assemblyFormat = "$size (`offset` $offset^)? (`slot` $slot^)? attr-dict";
  let hasVerifier = 1;
}

def Program_SliceOp : Program_Op<"slice", [InModel]> {
  let summary = "a part of a buffer, with its rows apart";
  let description = [{
    `count` runs of `run` bytes, the first at `offset`, each `pitch` bytes behind
    the one before. Kernels write parts, and the whole is read when all of its
    parts are written. A part of several runs is written by kernels that keep
    such a distance (`pitches`).
  }];
  let arguments = (ins Program_BufferType:$whole, I64Attr:$offset, I64Attr:$run, I64Attr:$pitch, I64Attr:$count);
  let results = (outs Program_BufferType:$buffer);
  let assemblyFormat = "$whole `at` $offset `run` $run `pitch` $pitch `count` $count attr-dict";
  let hasVerifier = 1;
}

def Program_CallOp : Program_Op<"call", [InModel, AttrSizedOperandSegments, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "runs a kernel: reads operands, writes results";
  let description = [{
    `actual` gives the kernel's symbols as expressions of the model's; `origin`
    names the model nodes this call computes.
  }];
  let arguments = (ins FlatSymbolRefAttr:$callee, Variadic<Program_BufferType>:$args, Variadic<Program_BufferType>:$outs,
                       OptionalAttr<AffineMapAttr>:$actual, OptionalAttr<StrArrayAttr>:$origin);
  let assemblyFormat = "$callee `(` $args `)` `->` `(` $outs `)` (`symbols` $actual^)? attr-dict";
  let hasVerifier = 1;
}

def Program_BindOp : Program_Op<"bind", [InModel]> {
  let summary = "gives a symbol the value that a buffer holds, one i64";
  let description = [{
    Sizes after this operation may name the symbol. `bound` is its largest
    value, over symbols that the inputs bind: buffers are planned for it. A value
    outside [0, bound] stops the run with a data error.
  }];
  let arguments = (ins Program_BufferType:$count, I64Attr:$symbol, AffineMapAttr:$bound, OptionalAttr<StrArrayAttr>:$origin);
  let assemblyFormat = "$symbol `to` $count `bound` $bound attr-dict";
  let hasVerifier = 1;
}

def Program_SetOp : Program_Op<"set", [InModel]> {
  let summary = "gives symbols the values of expressions, all at once";
  let description = [{
    `bounds` holds their largest values, as for `program.bind`; a value outside
    stops the run with a data error.
  }];
  let arguments = (ins DenseI64ArrayAttr:$symbols, AffineMapAttr:$values, AffineMapAttr:$bounds, OptionalAttr<StrArrayAttr>:$origin);
  let assemblyFormat = "$symbols `to` $values `bounds` $bounds attr-dict";
  let hasVerifier = 1;
}

def Program_ExpectOp : Program_Op<"expect", [InModel]> {
  let summary = "stops the run with a data error unless the buffer's bool is true";
  let arguments = (ins Program_BufferType:$condition, OptionalAttr<StrArrayAttr>:$origin);
  let assemblyFormat = "$condition attr-dict";
}

def Program_IfOp : Program_Op<"if", [InModel, NoTerminator, NoRegionArguments, SingleBlock]> {
  let summary = "runs one of two lists of steps, by the bool in a buffer";
  let arguments = (ins Program_BufferType:$condition);
  let regions = (region SizedRegion<1>:$thenRegion, SizedRegion<1>:$elseRegion);
  let assemblyFormat = "$condition attr-dict-with-keyword $thenRegion `else` $elseRegion";
}

def Program_LoopOp : Program_Op<"loop", [InModel, NoTerminator, SingleBlock, AttrSizedOperandSegments]> {
  let summary = "repeats a list of steps";
  let description = [{
    Carried tensors have two buffers each, that change places after every
    iteration: the body's arguments are the `current` ones, which it reads, then
    the `next` ones, which it writes; results are the current ones after the last
    iteration. Then an argument for each of `stacked`: the place of this
    iteration's value, which is `strides` bytes long.

    It goes on while the bool of `program.again` in the body (before the first
    iteration: of `condition`) is true and fewer iterations ran than `trips` and
    the i64 in `limit`. More than `guard` are a data error. The number of the
    iteration is stored to `iteration`, and their count to symbol `count` at the
    end, at most `count_bound`.
  }];
  let arguments = (ins Optional<Program_BufferType>:$limit, Optional<Program_BufferType>:$condition,
                       Optional<Program_BufferType>:$iteration, Variadic<Program_BufferType>:$current,
                       Variadic<Program_BufferType>:$next, Variadic<Program_BufferType>:$stacked,
                       OptionalAttr<AffineMapAttr>:$strides, OptionalAttr<AffineMapAttr>:$trips,
                       OptionalAttr<AffineMapAttr>:$guard, OptionalAttr<I64Attr>:$count,
                       OptionalAttr<AffineMapAttr>:$count_bound, OptionalAttr<StrArrayAttr>:$origin);
  let results = (outs Variadic<Program_BufferType>:$results);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    (`limit` $limit^)? (`if` $condition^)? (`iteration` $iteration^)? `current` `(` $current `)` `next` `(` $next `)`
    `stacked` `(` $stacked `)` attr-dict-with-keyword `:` type($results) $body
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    unsigned getNumCarried() { return getCurrent().size(); }
    /// The body's arguments for carried tensor and stack `i`.
    ::mlir::Value getCurrentArgument(unsigned i) { return getBody().getArgument(i); }
    ::mlir::Value getNextArgument(unsigned i) { return getBody().getArgument(getNumCarried() + i); }
    ::mlir::Value getSliceArgument(unsigned i) { return getBody().getArgument(2 * getNumCarried() + i); }
  }];
}

def Program_AgainOp : Program_Op<"again", [HasParent<"LoopOp">]> {
  let summary = "whether the loop goes on after this iteration, by the bool in a buffer";
  let arguments = (ins Program_BufferType:$condition);
  let assemblyFormat = "$condition attr-dict";
}

def Program_RequireOp : Program_Op<"require", [InModel]> {
  let summary = "stops the run with a shape error unless two sizes are equal, or one is at least the other";
  let description = [{
    Sizes after this operation may take equal ones for each other. `site` says in
    words which sizes of which node must be equal.
  }];
  let arguments = (ins AffineMapAttr:$left, AffineMapAttr:$right, StrAttr:$site, UnitAttr:$at_least);
  let assemblyFormat = "$left `is` (`at_least` $at_least^)? $right `at` $site attr-dict";
  let hasVerifier = 1;
}

def Program_CopyOp : Program_Op<"copy", [InModel]> {
  let summary = "copies bytes; an output that is an input or a constant is made so";
  let arguments = (ins Program_BufferType:$source, Program_BufferType:$target, AffineMapAttr:$size);
  let assemblyFormat = "$source `to` $target `size` $size attr-dict";
  let hasVerifier = 1;
}

def Program_AppendOp : Program_Op<"append", [InModel]> {
  let summary = "copies new rows into state";
  let description = [{
    `sizes` has four results, in bytes but for the first: how many runs of rows
    there are (the extents before the axis), the new rows of one run, where they
    go in it, and the room of one run.
  }];
  let arguments = (ins Program_BufferType:$source, Program_BufferType:$state, AffineMapAttr:$sizes);
  let assemblyFormat = "$source `to` $state `sizes` $sizes attr-dict";
  let hasVerifier = 1;
}

def Program_UpdateOp : Program_Op<"update", [InModel]> {
  let summary = "copies rows to the places in state that numbers (i64) tell";
  let description = [{
    `sizes` has three results: how many rows are copied, how many the state has,
    and the bytes of one. A number that is no row's stops the run before any is
    copied.
  }];
  let arguments = (ins Program_BufferType:$source, Program_BufferType:$positions, Program_BufferType:$state, AffineMapAttr:$sizes,
                       OptionalAttr<StrArrayAttr>:$origin);
  let assemblyFormat = "$source `at` $positions `to` $state `sizes` $sizes attr-dict";
  let hasVerifier = 1;
}

#endif // DLC_PROGRAM_OPS_TD
