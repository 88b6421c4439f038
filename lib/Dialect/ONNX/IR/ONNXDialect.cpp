//===- ONNXDialect.cpp - dialect, types and names -------------------------===//
//
// Registers the onnx dialect and maps between ONNX's and MLIR's spelling of
// operators and types. Operators themselves are unknown operations: what is
// legal is decided in ONNXVerify.cpp by onnx's schema registry.
//
//===----------------------------------------------------------------------===//

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

#include "ContribSchemas.h"

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

#include <string>

using namespace mlir;
using namespace dlc::onnxd;

#include "dlc/Dialect/ONNX/IR/ONNXDialect.cpp.inc"

#define GET_TYPEDEF_CLASSES
#include "dlc/Dialect/ONNX/IR/ONNXTypes.cpp.inc"

void ONNXDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "dlc/Dialect/ONNX/IR/ONNXTypes.cpp.inc"
      >();
  allowUnknownOperations();
  registerContribSchemas();
}

OpName dlc::onnxd::getOpName(Operation *op) {
  StringRef name = op->getName().getStringRef();
  name.consume_front("onnx.");
  auto [domain, type] = name.rsplit('.');
  return type.empty() ? OpName{"", domain} : OpName{domain, type};
}

std::string dlc::onnxd::makeOpName(StringRef domain, StringRef type) {
  std::string name = "onnx.";
  if (!domain.empty() && domain != "ai.onnx")
    name += (domain + ".").str();
  return name + type.str();
}

StringRef dlc::onnxd::getNodeName(Operation *op) {
  if (auto name = op->getLoc()->findInstanceOf<NameLoc>())
    return name.getName().getValue();
  return "";
}

namespace {
/// One row for each TensorProto::DataType, at the index of its number.
struct DataTypeRow {
  const char *name; // as in "tensor(name)"
  Type (*make)(MLIRContext *);
};
} // namespace

template <typename T>
static Type makeFloat(MLIRContext *context) {
  return T::get(context);
}
template <unsigned Width>
static Type makeInt(MLIRContext *context) {
  return IntegerType::get(context, Width);
}
template <unsigned Width>
static Type makeUnsigned(MLIRContext *context) {
  return IntegerType::get(context, Width, IntegerType::Unsigned);
}
template <typename T>
static Type makeComplex(MLIRContext *context) {
  return ComplexType::get(T::get(context));
}

static const DataTypeRow dataTypes[] = {
    {"undefined", nullptr},
    {"float", makeFloat<Float32Type>},
    {"uint8", makeUnsigned<8>},
    {"int8", makeInt<8>},
    {"uint16", makeUnsigned<16>},
    {"int16", makeInt<16>},
    {"int32", makeInt<32>},
    {"int64", makeInt<64>},
    {"string", makeFloat<StringType>},
    {"bool", makeInt<1>},
    {"float16", makeFloat<Float16Type>},
    {"double", makeFloat<Float64Type>},
    {"uint32", makeUnsigned<32>},
    {"uint64", makeUnsigned<64>},
    {"complex64", makeComplex<Float32Type>},
    {"complex128", makeComplex<Float64Type>},
    {"bfloat16", makeFloat<BFloat16Type>},
    {"float8e4m3fn", makeFloat<Float8E4M3FNType>},
    {"float8e4m3fnuz", makeFloat<Float8E4M3FNUZType>},
    {"float8e5m2", makeFloat<Float8E5M2Type>},
    {"float8e5m2fnuz", makeFloat<Float8E5M2FNUZType>},
    {"uint4", makeUnsigned<4>},
    {"int4", makeInt<4>},
    {"float4e2m1", makeFloat<Float4E2M1FNType>},
    {"float8e8m0", makeFloat<Float8E8M0FNUType>},
    {"uint2", makeUnsigned<2>},
    {"int2", makeInt<2>},
    {"float6e2m3", makeFloat<Float6E2M3FNType>},
    {"float6e3m2", makeFloat<Float6E3M2FNType>},
};

Type dlc::onnxd::getElementType(MLIRContext *context, int dataType) {
  if (dataType <= 0 || dataType >= static_cast<int>(std::size(dataTypes)))
    return nullptr;
  return dataTypes[dataType].make(context);
}

int dlc::onnxd::getDataType(Type elementType) {
  for (size_t i = 1; i < std::size(dataTypes); ++i)
    if (dataTypes[i].make(elementType.getContext()) == elementType)
      return static_cast<int>(i);
  return 0;
}

std::string dlc::onnxd::getTypeText(Type type) {
  return TypeSwitch<Type, std::string>(type)
      .Case<TensorType>([](TensorType tensor) {
        int dataType = getDataType(tensor.getElementType());
        return dataType
                   ? std::string("tensor(") + dataTypes[dataType].name + ")"
                   : "";
      })
      .Case<SequenceType>([](SequenceType sequence) {
        return "seq(" + getTypeText(sequence.getElementType()) + ")";
      })
      .Case<OptionalType>([](OptionalType optional) {
        return "optional(" + getTypeText(optional.getElementType()) + ")";
      })
      .Case<MapType>([](MapType map) {
        int key = getDataType(map.getKeyType());
        return std::string("map(") + (key ? dataTypes[key].name : "undefined") +
               "," + getTypeText(map.getValueType()) + ")";
      })
      .Default([](Type) { return std::string(); });
}
