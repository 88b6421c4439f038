//===- FunctionBody.cpp - operators by their ONNX definition --------------===//
//
// onnx's inliner cannot expand a node with an omitted operand or an attribute
// left to its default, so the schema's function is asked for here, node by
// node: the operation becomes a NodeProto with all attributes, its function's
// attribute references are filled in, and the body becomes onnx operations.
//
//===----------------------------------------------------------------------===//

#include "FunctionBody.h"
#include "ModuleBuilder.h"
#include "Prepare.h"

#include "dlc/Dialect/Graph/IR/Graph.h"
#include "dlc/Dialect/ONNX/IR/ONNXDialect.h"

#include "onnx/defs/schema.h"

using namespace dlc;
using namespace mlir;

/// The attribute as ONNX's; false for kinds no function body takes.
static bool convertAttribute(Attribute value, onnx::AttributeProto &out) {
  if (auto integer = dyn_cast<IntegerAttr>(value)) {
    out.set_type(onnx::AttributeProto::INT);
    out.set_i(integer.getInt());
  } else if (auto number = dyn_cast<FloatAttr>(value)) {
    out.set_type(onnx::AttributeProto::FLOAT);
    out.set_f(number.getValue().convertToFloat());
  } else if (auto text = dyn_cast<StringAttr>(value)) {
    out.set_type(onnx::AttributeProto::STRING);
    out.set_s(text.str());
  } else if (auto integers = dyn_cast<DenseI64ArrayAttr>(value)) {
    out.set_type(onnx::AttributeProto::INTS);
    for (int64_t entry : integers.asArrayRef())
      out.add_ints(entry);
  } else if (auto numbers = dyn_cast<DenseF32ArrayAttr>(value)) {
    out.set_type(onnx::AttributeProto::FLOATS);
    for (float entry : numbers.asArrayRef())
      out.add_floats(entry);
  } else {
    return false;
  }
  return true;
}

static onnx::TypeProto makeTypeProto(Type type) {
  onnx::TypeProto proto;
  auto tensor = dyn_cast_or_null<RankedTensorType>(type);
  if (!tensor)
    return proto;
  proto.mutable_tensor_type()->set_elem_type(
      onnxd::getDataType(tensor.getElementType()));
  auto *shape = proto.mutable_tensor_type()->mutable_shape();
  for (AffineExpr size : graph::getDims(type)) {
    auto *dim = shape->add_dim();
    if (std::optional<int64_t> value = graph::constantValue(size)) {
      dim->set_dim_value(*value);
    } else {
      std::string text;
      llvm::raw_string_ostream(text) << size;
      dim->set_dim_param(text);
    }
  }
  return proto;
}

using AttributeMap = std::map<std::string, const onnx::AttributeProto *>;

/// Replaces references to the function's attributes; drops those not given.
static void
bindAttributes(google::protobuf::RepeatedPtrField<onnx::NodeProto> &nodes,
               const AttributeMap &given) {
  for (auto &node : nodes) {
    auto &attributes = *node.mutable_attribute();
    int kept = 0;
    for (int i = 0; i < attributes.size(); ++i) {
      if (!attributes[i].ref_attr_name().empty()) {
        auto found = given.find(attributes[i].ref_attr_name());
        if (found == given.end())
          continue;
        std::string name = attributes[i].name();
        attributes[i] = *found->second;
        attributes[i].set_name(name);
      }
      if (attributes[i].has_g())
        bindAttributes(*attributes[i].mutable_g()->mutable_node(), given);
      attributes.SwapElements(kept++, i);
    }
    attributes.DeleteSubrange(kept, attributes.size() - kept);
  }
}

bool dlc::buildFunctionBody(Operation *op, ArrayRef<Type> operandTypes,
                            Block *block, SmallVectorImpl<Value> &outputs) {
  const onnx::OpSchema *schema = onnxd::getSchema(op);
  if (!schema || op->getNumRegions() ||
      (!schema->HasFunction() && !schema->HasContextDependentFunction()))
    return false;
  auto [domain, type] = onnxd::getOpName(op);
  onnx::NodeProto node;
  node.set_op_type(type.str());
  node.set_domain(domain.str());
  std::vector<onnx::TypeProto> types;
  for (auto [i, operandType] : llvm::enumerate(operandTypes)) {
    node.add_input(operandType ? "in" + std::to_string(i) : "");
    types.push_back(makeTypeProto(operandType));
  }
  for (auto [i, result] : llvm::enumerate(op->getResults()))
    node.add_output(
        isa<NoneType>(result.getType()) ? "" : "out" + std::to_string(i));
  for (NamedAttribute attribute : op->getAttrs())
    if (!convertAttribute(attribute.getValue(), *node.add_attribute()))
      return false;
    else
      node.mutable_attribute(node.attribute_size() - 1)
          ->set_name(attribute.getName().str());
  fillDefaultAttributes(node, *schema);

  onnx::FunctionProto function;
  int version = domain.empty() ? static_cast<int>(onnxd::kOpset)
                               : onnx::OpSchema::kUninitializedSinceVersion;
  try {
    if (schema->HasContextDependentFunction()) {
      onnx::FunctionBodyBuildContextImpl context(node, types);
      if (!schema->BuildContextDependentFunction(context, function, version))
        return false;
    } else if (const onnx::FunctionProto *body =
                   schema->GetFunction(version, /*validate=*/false)) {
      function = *body;
    } else {
      return false;
    }
  } catch (const std::exception &) {
    return false; // the operands' types do not suit the builder
  }

  AttributeMap given;
  for (const auto &attribute : node.attribute())
    given[attribute.name()] = &attribute;
  bindAttributes(*function.mutable_node(), given);
  for (auto &inner : *function.mutable_node())
    fillDefaultAttributesInside(inner);

  std::vector<ModelProblem> problems;
  OpBuilder noneBuilder(op->getContext()); // the block is in no region yet
  noneBuilder.setInsertionPointToEnd(block);
  llvm::StringMap<Value> inputs;
  for (int i = 0; i < function.input_size(); ++i) {
    if (i < static_cast<int>(op->getNumOperands())) {
      inputs[function.input(i)] = op->getOperand(i);
      continue;
    }
    OperationState state(op->getLoc(), onnxd::kNoneOp);
    state.addTypes(noneBuilder.getNoneType());
    inputs[function.input(i)] = noneBuilder.create(state)->getResult(0);
  }
  SmallVector<std::string> wanted;
  for (auto [i, result] : llvm::enumerate(op->getResults()))
    wanted.push_back(isa<NoneType>(result.getType()) ||
                             static_cast<int>(i) >= function.output_size()
                         ? ""
                         : function.output(i));
  ModuleBuilder builder(op->getContext(), nullptr,
                        /*maxInlineBytes=*/~uint64_t(0), problems);
  outputs =
      builder.buildNodes(function.node(), inputs, wanted, block, op->getLoc());
  // A body written for an older opset is only taken if it still means the same.
  return problems.empty() && llvm::all_of(*block, [](Operation &inner) {
           return succeeded(onnxd::verifyOp(&inner));
         });
}
