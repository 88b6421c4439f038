//===- ConvertCast.cpp - from one element type to another -----------------===//
//
// Cast, CastLike and BitCast. Values of narrow types (f8, f6, f4, i4, i2) are
// tensors of codes here; see NarrowTypes.h. Strings and complex numbers are
// refused by the builder, which names them.
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

#include "mlir/IR/DialectResourceBlobManager.h"
#include "llvm/ADT/StringSwitch.h"

using namespace dlc;
using namespace mlir;

NarrowUse dlc::getNarrowUse(StringRef op) {
  op.consume_front("onnx.");
  return llvm::StringSwitch<NarrowUse>(op)
      // Those that ask for the type themselves, or never look at elements.
      .Cases({"BitCast", "Cast", "CastLike", "Constant", "ConstantOfShape",
              "DequantizeLinear", "Identity", "If", "Loop", "QuantizeLinear",
              "Shape", "Size"},
             NarrowUse::Moved)
      .Cases({"Flatten", "Pad", "Reshape", "Squeeze", "TensorScatter",
              "Transpose", "Unsqueeze"},
             NarrowUse::Moved)
      .Cases({"IsInf", "IsNaN"}, NarrowUse::Decoded)
      .Default(NarrowUse::Refused); // ONNX allows few others
}

Type dlc::readElementType(NodeContext &node, StringRef attribute) {
  int64_t number = node.i(attribute, 0);
  Type type = onnxd::getElementType(node.b.context(), static_cast<int>(number));
  if (!type)
    refuseMalformed(("'" + attribute + "' is ").str() + std::to_string(number) +
                    ", which is no data type");
  return type;
}

Type dlc::getCastTarget(NodeContext &node) {
  return onnxd::getElementType(node.b.context(),
                               static_cast<int>(node.i("to", 0)));
}

/// Attribute bytes of a narrow type as ui8.
static ElementsAttr getCodes(ElementsAttr value) {
  auto type = RankedTensorType::get(
      value.getShapedType().getShape(),
      IntegerType::get(value.getContext(), 8, IntegerType::Unsigned));
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(value))
    return DenseResourceElementsAttr::get(type, resource.getRawHandle());
  auto dense = cast<DenseElementsAttr>(value);
  if (type.getNumElements() == 0)
    return DenseElementsAttr::get(type, ArrayRef<Attribute>());
  return DenseElementsAttr::getFromRawBuffer(type, dense.getRawData());
}

Value dlc::makeConstant(GraphBuilder &b, ElementsAttr value) {
  bool isNarrow = graph::isNarrow(value.getElementType());
  return b.constant(isNarrow ? getCodes(value) : value);
}

Value dlc::encode(GraphBuilder &b, Value x, Type narrow,
                  const CastRules &rules) {
  SmallVector<NamedAttribute> attributes{
      b.attr("to", TypeAttr::get(narrow)),
      b.attr("rounding", b.builder.getI64IntegerAttr(
                             static_cast<int64_t>(rules.rounding)))};
  if (rules.saturate)
    attributes.push_back(b.attr("saturate", b.builder.getUnitAttr()));
  return b.emit("graph.encode", {x}, attributes);
}

Value dlc::castOperand(NodeContext &node, unsigned i, Type to,
                       const CastRules &rules) {
  GraphBuilder &b = node.b;
  Value x = node.in(i);
  Type narrow = node.entry(i).narrow;
  if (narrow == to)
    return x;
  if (narrow)
    x = b.emit("graph.decode", {x}, {b.attr("from", TypeAttr::get(narrow))});
  // Other integers wrap, as numpy casts them; `saturate` is for floats.
  return graph::isNarrow(to) ? encode(b, x, to, rules) : b.convert(x, to);
}

static CastRules readRules(NodeContext &node) {
  StringRef mode = node.s("round_mode", "up");
  auto rounding = llvm::StringSwitch<std::optional<graph::PowerRounding>>(mode)
                      .Case("up", graph::PowerRounding::Up)
                      .Case("down", graph::PowerRounding::Down)
                      .Case("nearest", graph::PowerRounding::Nearest)
                      .Default(std::nullopt);
  if (!rounding)
    refuseMalformed("round_mode '" + mode.str() +
                    "' is none of up, down and nearest");
  return {node.i("saturate", 1) != 0, *rounding};
}

static void convertCast(NodeContext &node) {
  Type to = readElementType(node, "to");
  node.typedResult(castOperand(node, 0, to, readRules(node)), to);
}

static void convertCastLike(NodeContext &node) {
  Type to = node.elementOf(1);
  if (!to)
    refuse("the type of a sequence");
  node.typedResult(castOperand(node, 0, to, readRules(node)), to);
}

/// Codes are the bits themselves, so between narrow types, and from and to
/// bytes, there is nothing to do but for the sign of a byte.
static void convertBitCast(NodeContext &node) {
  GraphBuilder &b = node.b;
  Value x = node.in(0);
  Type to = readElementType(node, "to"), from = node.elementOf(0);
  auto bitsOf = [](Type type) {
    return type.isInteger(1)     ? 8u
           : type.isIntOrFloat() ? type.getIntOrFloatBitWidth()
                                 : 0u;
  };
  if (bitsOf(from) != bitsOf(to))
    refuseMalformed(describeElement(from) + " and " + describeElement(to) +
                    " have different widths");
  Type stored = graph::isNarrow(to)
                    ? IntegerType::get(b.context(), 8, IntegerType::Unsigned)
                    : to;
  if (stored != b.element(x))
    x = b.emit("graph.bitcast", {x}, {},
               graph::makeTensorType(b.dims(x), stored));
  node.typedResult(x, to);
}

void dlc::addCasts(ConverterTable &table) {
  table["Cast"] = convertCast;
  table["CastLike"] = convertCastLike;
  table["BitCast"] = convertBitCast;
}
