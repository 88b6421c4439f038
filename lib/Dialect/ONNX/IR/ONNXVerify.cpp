//===- ONNXVerify.cpp - operations against onnx's schemas -----------------===//
//
// The dialect knows no operation by name. A module that carries `onnx.opsets`
// is verified as a whole: every operation inside is compared with the OpSchema
// that onnx's registry holds for its domain, type and opset.
//
//===----------------------------------------------------------------------===//

#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

#include "mlir/IR/BuiltinOps.h"
#include "onnx/defs/schema.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;
using namespace dlc::onnxd;

static DictionaryAttr getOpsets(Operation *op) {
  for (; op; op = op->getParentOp())
    if (auto opsets = op->getAttrOfType<DictionaryAttr>(kOpsetsAttr))
      return opsets;
  return nullptr;
}

const onnx::OpSchema *dlc::onnxd::getSchema(Operation *op) {
  auto [domain, type] = getOpName(op);
  int64_t version = domain.empty() ? kOpset : 1;
  if (DictionaryAttr opsets = getOpsets(op))
    if (auto entry =
            opsets.getAs<IntegerAttr>(domain.empty() ? "ai.onnx" : domain))
      version = entry.getInt();
  return onnx::OpSchemaRegistry::Schema(type.str(), static_cast<int>(version),
                                        domain.str());
}

/// Whether an MLIR attribute is how this dialect spells an ONNX attribute type.
static bool hasAttributeType(Attribute value,
                             onnx::AttributeProto::AttributeType type) {
  auto isArrayOf = [&](auto predicate) {
    auto array = dyn_cast<ArrayAttr>(value);
    return array && llvm::all_of(array, predicate);
  };
  switch (type) {
  case onnx::AttributeProto::INT: {
    auto integer = dyn_cast<IntegerAttr>(value);
    return integer && integer.getType().isSignlessInteger(64);
  }
  case onnx::AttributeProto::INTS:
    return isa<DenseI64ArrayAttr>(value);
  case onnx::AttributeProto::FLOAT: {
    auto number = dyn_cast<FloatAttr>(value);
    return number && number.getType().isF32();
  }
  case onnx::AttributeProto::FLOATS:
    return isa<DenseF32ArrayAttr>(value);
  case onnx::AttributeProto::STRING:
    return isa<StringAttr>(value);
  case onnx::AttributeProto::STRINGS:
    return isArrayOf([](Attribute entry) { return isa<StringAttr>(entry); });
  case onnx::AttributeProto::TENSOR:
    return isa<ElementsAttr>(value);
  case onnx::AttributeProto::TENSORS:
    return isArrayOf([](Attribute entry) { return isa<ElementsAttr>(entry); });
  case onnx::AttributeProto::TYPE_PROTO:
    return isa<TypeAttr>(value);
  default:
    return false;
  }
}

/// Attribute names, types and presence, graph attributes included.
static LogicalResult verifyAttributes(Operation *op,
                                      const onnx::OpSchema &schema) {
  const auto &declared = schema.attributes();
  for (NamedAttribute attribute : op->getAttrs()) {
    StringRef name = attribute.getName().strref();
    if (name.starts_with("onnx."))
      continue;
    auto found = declared.find(name.str());
    if (found == declared.end())
      return op->emitOpError("has no attribute '") << name << "' in its schema";
    if (!hasAttributeType(attribute.getValue(), found->second.type))
      return op->emitOpError("attribute '")
             << name << "' is not of ONNX type "
             << onnx::AttributeProto::AttributeType_Name(found->second.type);
  }
  auto graphs = op->getAttrOfType<ArrayAttr>(kGraphsAttr);
  if ((graphs ? graphs.size() : 0) != op->getNumRegions())
    return op->emitOpError("has ")
           << op->getNumRegions() << " regions, but '" << kGraphsAttr
           << "' names " << (graphs ? graphs.size() : 0);
  auto hasGraph = [&](StringRef name) {
    return graphs && llvm::any_of(graphs, [&](Attribute entry) {
             auto text = dyn_cast<StringAttr>(entry);
             return text && text.getValue() == name;
           });
  };
  for (const auto &[name, attribute] : declared) {
    if (!attribute.required)
      continue;
    bool present = attribute.type == onnx::AttributeProto::GRAPH
                       ? hasGraph(name)
                       : op->hasAttr(name);
    if (!present)
      return op->emitOpError("lacks the required attribute '") << name << "'";
  }
  return success();
}

/// Operand counts, and types against the schema's sets and type variables.
static LogicalResult verifyOperands(Operation *op,
                                    const onnx::OpSchema &schema) {
  int64_t count = op->getNumOperands();
  if (count < schema.min_input() || count > schema.max_input())
    return op->emitOpError("has ")
           << count << " operands; its schema wants " << schema.min_input()
           << " to " << schema.max_input();
  int64_t results = op->getNumResults();
  if (results < schema.min_output() || results > schema.max_output())
    return op->emitOpError("has ")
           << results << " results; its schema wants " << schema.min_output()
           << " to " << schema.max_output();
  llvm::StringMap<std::string> bound;
  for (auto [index, operand] : llvm::enumerate(op->getOperands())) {
    const auto &formals = schema.inputs();
    const auto &formal = formals[std::min(index, formals.size() - 1)];
    if (isa<NoneType>(operand.getType())) {
      if (formal.GetOption() == onnx::OpSchema::Single)
        return op->emitOpError("operand '")
               << formal.GetName() << "' is required";
      continue;
    }
    if (isa<AnyType>(operand.getType()))
      continue;
    std::string text = getTypeText(operand.getType());
    bool allowed =
        llvm::any_of(formal.GetTypes(),
                     [&](const std::string *type) { return *type == text; });
    if (!allowed)
      return op->emitOpError("operand '")
             << formal.GetName() << "' may not be "
             << (text.empty() ? "of a type ONNX has not" : text);
    if (!formal.GetIsHomogeneous())
      continue;
    auto [entry, isNew] = bound.try_emplace(formal.GetTypeStr(), text);
    if (!isNew && entry->second != text)
      return op->emitOpError("operand '")
             << formal.GetName() << "' is " << text << " but type variable "
             << formal.GetTypeStr() << " is " << entry->second;
  }
  return success();
}

LogicalResult dlc::onnxd::verifyOp(Operation *op) {
  StringRef name = op->getName().getStringRef();
  if (name == kReturnOp)
    return success();
  if (name == kNoneOp) {
    if (op->getNumOperands() || op->getNumResults() != 1 ||
        !isa<NoneType>(op->getResult(0).getType()))
      return op->emitOpError("takes nothing and makes one value of type none");
    return success();
  }
  const onnx::OpSchema *schema = getSchema(op);
  if (!schema)
    return op->emitOpError("is not an operator of the module's opsets");
  if (failed(verifyOperands(op, *schema)))
    return failure();
  return verifyAttributes(op, *schema);
}

LogicalResult ONNXDialect::verifyOperationAttribute(Operation *op,
                                                    NamedAttribute attribute) {
  if (attribute.getName() != kOpsetsAttr)
    return success();
  auto opsets = dyn_cast<DictionaryAttr>(attribute.getValue());
  if (!opsets || !llvm::all_of(opsets, [](NamedAttribute entry) {
        return isa<IntegerAttr>(entry.getValue());
      }))
    return op->emitOpError("'")
           << kOpsetsAttr << "' must be a dictionary of integers";
  // Every bad operation is reported, not only the first.
  bool failed = false;
  op->walk([&](Operation *inner) {
    if (inner->getName().getDialectNamespace() == getNamespace())
      failed |= mlir::failed(verifyOp(inner));
  });
  return failure(failed);
}
