// The graph dialect: tensor-SSA operators, and the kernels they are lowered to.
// Each operator's row here is its single declaration; the interpreter, fusion,
// Check and code generation read the kernel that the row builds.
#ifndef DLC_GRAPH_BASE_TD
#define DLC_GRAPH_BASE_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/CallInterfaces.td"
include "mlir/Interfaces/FunctionInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Graph_Dialect : Dialect {
  let name = "graph";
  let cppNamespace = "::dlc::graph";
  let summary = "tensor operators and the kernels they become";
  let description = [{
    Tensors are `tensor<...>`; a tensor with symbolic dims carries the encoding
    `#graph.dims<...>`, one semi-affine expression a dim. Signed integers are
    signless (`i8`), unsigned ones are `ui8`, booleans are `i1` (one byte in memory).
  }];
  let useDefaultAttributePrinterParser = 1;
  let hasConstantMaterializer = 0;
}

//===----------------------------------------------------------------------===//
// Attributes and enums
//===----------------------------------------------------------------------===//

def Graph_DimsAttr : AttrDef<Graph_Dialect, "Dims"> {
  let mnemonic = "dims";
  let summary = "a list of sizes, each a semi-affine expression of dim symbols";
  let parameters = (ins ArrayRefParameter<"::mlir::AffineExpr">:$dims);
  let hasCustomAssemblyFormat = 1;
}

class Graph_Enum<string name, string summary, list<I32EnumAttrCase> cases>
    : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::dlc::graph";
  let genSpecializedAttr = 0;
}

class Graph_EnumAttr<EnumAttrInfo info, string mnemonic>
    : EnumAttr<Graph_Dialect, info, mnemonic>;

class Case<string name, int value> : I32EnumAttrCase<name, value>;

// The scalar functions kernels are made of. A function's arity and result type
// are in `getScalarFnInfo`; its meaning on each dtype is the interpreter's.
def Graph_ScalarFn : Graph_Enum<"ScalarFn", "scalar function", [
  // unary, float
  Case<"ceil", 0>, Case<"floor", 1>, Case<"round_even", 2>, Case<"sqrt", 3>,
  Case<"exp", 4>, Case<"log", 5>, Case<"sin", 6>, Case<"cos", 7>, Case<"tan", 8>,
  Case<"asin", 9>, Case<"acos", 10>, Case<"atan", 11>, Case<"sinh", 12>,
  Case<"cosh", 13>, Case<"tanh", 14>, Case<"asinh", 15>, Case<"acosh", 16>,
  Case<"atanh", 17>, Case<"erf", 18>, Case<"isnan", 19>, Case<"isinf", 20>,
  Case<"rsqrt", 21>, Case<"trunc", 22>, Case<"log1p", 23>, Case<"expm1", 24>,
  // unary, any number
  Case<"abs", 30>, Case<"neg", 31>, Case<"sign", 32>,
  // unary, integer or bool: bitwise complement (logical not on i1)
  Case<"bit_not", 33>,
  // binary, numbers; integer division truncates; `mod` has the divisor's sign,
  // `rem` the dividend's; min and max propagate NaN
  Case<"add", 40>, Case<"sub", 41>, Case<"mul", 42>, Case<"div", 43>,
  Case<"mod", 44>, Case<"rem", 45>, Case<"pow", 46>, Case<"max", 47>, Case<"min", 48>,
  // binary, integer or bool
  Case<"bit_and", 49>, Case<"bit_or", 50>, Case<"bit_xor", 51>, Case<"shl", 52>, Case<"shr", 53>,
  // comparisons: result i1
  Case<"eq", 60>, Case<"ne", 61>, Case<"lt", 62>, Case<"le", 63>, Case<"gt", 64>, Case<"ge", 65>,
  // select(c : i1, a, b)
  Case<"select", 70>
]>;
def Graph_ScalarFnAttr : Graph_EnumAttr<Graph_ScalarFn, "fn"> {
  let assemblyFormat = "$value";
}

// How a stage folds over its reduce axes. The arg folds yield the i64 row-major
// coordinate of the winner; ties go to the first (or last) one, NaN wins.
def Graph_FoldKind : Graph_Enum<"FoldKind", "fold over reduce axes", [
  Case<"none", 0>, Case<"add", 1>, Case<"mul", 2>, Case<"max", 3>, Case<"min", 4>,
  Case<"bit_and", 5>, Case<"bit_or", 6>,
  Case<"argmax", 7>, Case<"argmin", 8>, Case<"argmax_last", 9>, Case<"argmin_last", 10>
]>;
def Graph_FoldKindAttr : Graph_EnumAttr<Graph_FoldKind, "fold"> {
  let assemblyFormat = "$value";
}

def Graph_OpClass : Graph_Enum<"OpClass", "fusion class of an operator (docs/architecture.md)", [
  Case<"elementwise", 0>, Case<"broadcast", 1>, Case<"injective", 2>, Case<"reduce", 3>,
  Case<"contraction", 4>, Case<"scan", 5>, Case<"opaque", 6>
]>;

def Graph_PoolKind : Graph_Enum<"PoolKind", "pooling", [Case<"max", 0>, Case<"avg", 1>, Case<"sum", 2>, Case<"lp", 3>]>;
def Graph_PoolKindAttr : Graph_EnumAttr<Graph_PoolKind, "pool"> { let assemblyFormat = "$value"; }

def Graph_PadMode : Graph_Enum<"PadMode", "padding", [Case<"constant", 0>, Case<"reflect", 1>, Case<"edge", 2>, Case<"wrap", 3>]>;
def Graph_PadModeAttr : Graph_EnumAttr<Graph_PadMode, "pad"> { let assemblyFormat = "$value"; }

//===----------------------------------------------------------------------===//
// The interface every operator implements
//===----------------------------------------------------------------------===//

def Graph_OpInterface : OpInterface<"GraphOp"> {
  let cppNamespace = "::dlc::graph";
  let description = [{
    A tensor operator with a declared meaning: `buildKernel` adds the stages
    that define it to the builder, whose operands and results have the
    operator's types. The kernel of an operator of class `opaque` holds the
    operator itself and no stage.
  }];
  let methods = [
    InterfaceMethod<"fusion class", "::dlc::graph::OpClass", "getOpClass", (ins), "",
      [{ return ::dlc::graph::OpClass::opaque; }]>,
    InterfaceMethod<"adds the stages that define this operator",
      "::llvm::LogicalResult", "buildKernel", (ins "::dlc::graph::KernelBuilder &":$kernel)>
  ];
}

class Graph_Op<string mnemonic, list<Trait> traits = []> : Op<Graph_Dialect, mnemonic, traits>;

// A tensor operator: pure, result types inferred.
class Graph_TensorOp<string mnemonic, string opClass, list<Trait> traits = []>
    : Graph_Op<mnemonic, !listconcat([Pure, DeclareOpInterfaceMethods<Graph_OpInterface, ["buildKernel"]>], traits)> {
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  code classDeclaration = [{
    ::dlc::graph::OpClass getOpClass() { return ::dlc::graph::OpClass::}] # opClass # [{; }
  }];
  let extraClassDeclaration = classDeclaration;
}

#endif // DLC_GRAPH_BASE_TD
