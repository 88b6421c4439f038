//===- NodeContext.cpp - reading a node, leaving its results --------------===//
//
// The accessors converters are written with; each refuses in words that name
// the operand or attribute.
//
//===----------------------------------------------------------------------===//

#include "Converter.h"

using namespace dlc;
using namespace mlir;

/// More elements than any computed shape has.
static constexpr int64_t kMaxKnownElements = 4096;

bool ShapeValue::isConstant() const {
  return llvm::all_of(
      values, [](AffineExpr e) { return graph::constantValue(e).has_value(); });
}

NodeContext::NodeContext(Converter &converter, Operation *op)
    : op(op), converter(converter), b(converter.builder) {}

bool NodeContext::has(unsigned i) {
  return i < op->getNumOperands() && entry(i).kind != Entry::None;
}

Entry &NodeContext::entry(unsigned i) {
  return converter.lookup(op->getOperand(i));
}

Value NodeContext::in(unsigned i) {
  if (i >= op->getNumOperands() || entry(i).kind == Entry::None)
    refuseMalformed("operand " + std::to_string(i) + " is missing");
  if (entry(i).kind != Entry::Tensor)
    refuse("operand " + std::to_string(i) + " is a sequence");
  Entry &operand = entry(i);
  NarrowUse use = operand.narrow ? getNarrowUse(op->getName().getStringRef())
                                 : NarrowUse::Moved;
  if (use == NarrowUse::Refused)
    refuse("takes no elements of type " + describeElement(operand.narrow));
  Value codes = converter.materializeCodes(operand);
  return use == NarrowUse::Moved
             ? codes
             : b.emit("graph.decode", {codes},
                      {b.attr("from", TypeAttr::get(operand.narrow))});
}

Type NodeContext::elementOf(unsigned i) {
  if (!has(i) || entry(i).kind != Entry::Tensor)
    return nullptr;
  Entry &operand = entry(i);
  return operand.narrow  ? operand.narrow
         : operand.value ? b.element(operand.value)
                         : operand.shape->element;
}

SmallVector<Value> NodeContext::inputs(unsigned first) {
  SmallVector<Value> values;
  for (unsigned i = first; i < op->getNumOperands(); ++i)
    values.push_back(in(i));
  return values;
}

std::optional<ShapeValue> NodeContext::shapeValue(unsigned i) {
  if (!has(i) || entry(i).kind != Entry::Tensor || entry(i).narrow)
    return std::nullopt;
  Entry &known = entry(i);
  if (known.shape)
    return known.shape;
  // A list of nothing is known whatever the run brings.
  if (known.value) {
    RankedTensorType type = GraphBuilder::type(known.value);
    if (type.hasStaticShape() && type.getNumElements() == 0 &&
        isa<IntegerType>(type.getElementType())) {
      known.shape = ShapeValue{
          SmallVector<int64_t>(type.getShape()), type.getElementType(), {}};
      return known.shape;
    }
  }
  DenseElementsAttr dense =
      known.value ? GraphBuilder::asConstant(known.value) : DenseElementsAttr();
  if (!dense || !isa<IntegerType>(dense.getElementType()) ||
      dense.getNumElements() > kMaxKnownElements)
    return std::nullopt;
  ShapeValue shape;
  shape.dims.assign(dense.getType().getShape().begin(),
                    dense.getType().getShape().end());
  shape.element = dense.getElementType();
  bool isSigned =
      !shape.element.isUnsignedInteger() && !shape.element.isInteger(1);
  for (const APInt &value : dense.getValues<APInt>())
    shape.values.push_back(
        b.c(isSigned ? value.getSExtValue()
                     : static_cast<int64_t>(value.getZExtValue())));
  known.shape = shape;
  return shape;
}

Dims NodeContext::symbolic(unsigned i, StringRef what) {
  std::optional<ShapeValue> shape = shapeValue(i);
  if (!shape)
    refuse(("'" + what + "' must be known when the model is compiled").str());
  return shape->values;
}

SmallVector<int64_t> NodeContext::ints(unsigned i, StringRef what) {
  SmallVector<int64_t> out;
  for (AffineExpr e : symbolic(i, what)) {
    std::optional<int64_t> value = graph::constantValue(e);
    if (!value)
      refuse(("'" + what + "' must be constant").str());
    out.push_back(*value);
  }
  return out;
}

SmallVector<double> NodeContext::floats(unsigned i, StringRef what) {
  DenseElementsAttr dense = GraphBuilder::asConstant(in(i));
  if (!dense || !isa<FloatType>(dense.getElementType()))
    refuse(("'" + what + "' must be constant").str());
  SmallVector<double> out;
  for (APFloat value : dense.getValues<APFloat>()) {
    bool loses;
    value.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &loses);
    out.push_back(value.convertToDouble());
  }
  return out;
}

int64_t NodeContext::i(StringRef name, int64_t otherwise) {
  auto value = op->getAttrOfType<IntegerAttr>(name);
  return value ? value.getInt() : otherwise;
}

double NodeContext::f(StringRef name, double otherwise) {
  auto value = op->getAttrOfType<FloatAttr>(name);
  return value ? value.getValueAsDouble() : otherwise;
}

StringRef NodeContext::s(StringRef name, StringRef otherwise) {
  auto value = op->getAttrOfType<StringAttr>(name);
  return value ? value.getValue() : otherwise;
}

SmallVector<int64_t> NodeContext::is(StringRef name,
                                     ArrayRef<int64_t> otherwise) {
  auto value = op->getAttrOfType<DenseI64ArrayAttr>(name);
  return SmallVector<int64_t>(value ? value.asArrayRef() : otherwise);
}

SmallVector<double> NodeContext::fs(StringRef name) {
  SmallVector<double> out;
  if (auto value = op->getAttrOfType<DenseF32ArrayAttr>(name))
    out.append(value.asArrayRef().begin(), value.asArrayRef().end());
  return out;
}

bool NodeContext::wants(unsigned i) {
  return i < op->getNumResults() && !isa<NoneType>(op->getResult(i).getType());
}

void NodeContext::result(unsigned i, Value value) {
  Entry entry = Entry::tensor(value);
  if (i == 0 && has(0) && this->entry(0).narrow &&
      getNarrowUse(op->getName().getStringRef()) == NarrowUse::Moved)
    entry.narrow = this->entry(0).narrow;
  resultEntry(i, std::move(entry));
}

void NodeContext::typedResult(Value value, Type element) {
  Entry entry = Entry::tensor(value);
  if (graph::isNarrow(element))
    entry.narrow = element;
  resultEntry(0, std::move(entry));
}

void NodeContext::resultEntry(unsigned i, Entry entry) {
  if (wants(i))
    converter.define(op->getResult(i), std::move(entry));
}
