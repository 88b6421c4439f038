//===- ONNXDialect.td - the imported model -----------------*- tablegen -*-===//
//
// A model as ONNX wrote it. Operators are not listed here: the dialect allows
// unknown operations, and its verifier asks onnx's own schema registry, which
// is linked in, what "onnx.Conv" may look like.
//
//===----------------------------------------------------------------------===//

#ifndef DLC_DIALECT_ONNX_IR_ONNXDIALECT_TD
#define DLC_DIALECT_ONNX_IR_ONNXDIALECT_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/DialectBase.td"

def ONNX_Dialect : Dialect {
  let name = "onnx";
  let cppNamespace = "::dlc::onnxd";
  let summary = "An ONNX model, one operation a node";
  let description = [{
    - A node of domain D (empty: ai.onnx) and type T is the operation
      `"onnx.T"` or `"onnx.D.T"`; its location is its name.
    - Attributes keep their ONNX names: int `7 : i64`, ints `array<i64: ...>`,
      float `1.0 : f32`, floats `array<f32: ...>`, string, strings (an array of
      strings), tensor (dense elements or a dense resource), type (a type).
    - Graph attributes are regions, named in order by `onnx.graphs`; they end
      with `"onnx.Return"` and see the values around them.
    - An omitted optional operand is a value of type `none` made by
      `"onnx.none"`; an omitted output has type `none`.
    - A symbolic dim's name stands in the tensor's encoding:
      `tensor<?x3xf32, ["batch", ""]>`.
    - The module carries `onnx.opsets` (domain -> version); its presence is what
      makes the verifier check every operation inside against the schemas.
  }];
  let useDefaultTypePrinterParser = 1;
  let hasOperationAttrVerify = 1;
}

class ONNX_Type<string name, string typeMnemonic> : TypeDef<ONNX_Dialect, name> {
  let mnemonic = typeMnemonic;
}

def ONNX_StringType : ONNX_Type<"String", "string"> {
  let summary = "Element type of a tensor of strings";
}

def ONNX_SequenceType : ONNX_Type<"Sequence", "seq"> {
  let summary = "A list of values of one type, its length known at run time";
  let parameters = (ins "::mlir::Type":$elementType);
  let assemblyFormat = "`<` $elementType `>`";
}

def ONNX_OptionalType : ONNX_Type<"Optional", "optional"> {
  let summary = "A value or nothing";
  let parameters = (ins "::mlir::Type":$elementType);
  let assemblyFormat = "`<` $elementType `>`";
}

def ONNX_MapType : ONNX_Type<"Map", "map"> {
  let summary = "A map from integers or strings to values";
  let parameters = (ins "::mlir::Type":$keyType, "::mlir::Type":$valueType);
  let assemblyFormat = "`<` $keyType `,` $valueType `>`";
}

def ONNX_AnyType : ONNX_Type<"Any", "any"> {
  let summary = "The type of a value that shape inference could not tell";
}

#endif // DLC_DIALECT_ONNX_IR_ONNXDIALECT_TD
