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
defvar InModel = HasParent<"ModelOp">;

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
    /// The operations of one kind, in order.
    template <typename OpT> ::llvm::SmallVector<OpT> getAll() {
      auto range = getBlock()->getOps<OpT>();
      return ::llvm::SmallVector<OpT>(range.begin(), range.end());
    }
    /// Smallest, largest and typical value of symbol `i`.
    ::std::array<int64_t, 3> getRange(unsigned i);
  }];
}

def Program_KernelOp : Program_Op<"kernel", [Symbol]> {
  let summary = "a compiled kernel: functions of the object, called one after the other";
  let description = [{
    Before code generation `phases` is empty. `tasks[i]` says how often phase i
    is called and `scratch` how many private bytes a worker needs, both over
    the kernel's own symbols. A kernel that `can_fail` stores an error code
    when a value in the data is invalid.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, I64Attr:$num_args, I64Attr:$num_outs, I64Attr:$num_symbols,
                       DefaultValuedAttr<StrArrayAttr, "{}">:$phases, OptionalAttr<AffineMapAttr>:$tasks,
                       OptionalAttr<AffineMapAttr>:$scratch, OptionalAttr<StrAttr>:$nest, UnitAttr:$can_fail);
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

def Program_CopyOp : Program_Op<"copy", [InModel]> {
  let summary = "copies bytes; an output that is an input or a constant is made so";
  let arguments = (ins Program_BufferType:$source, Program_BufferType:$target, AffineMapAttr:$size);
  let assemblyFormat = "$source `to` $target `size` $size attr-dict";
  let hasVerifier = 1;
}

#endif // DLC_PROGRAM_OPS_TD
